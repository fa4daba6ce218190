"""Hostile inputs 75 and 82 in a mailbox: what is never taken away, and what is still being carried.

Both ends are the real ones, and between them stands what carries the mailbox: a program that copies in place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.market.processes import Shop, make_film, opened
from support.transport.ways import (
    PATIENCE,
    SESSION,
    MailboxWay,
    asked,
    asking,
    awaited,
    one_request,
    piece_of,
    refused,
    selling,
    some_bytes,
)

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import TooEarly
from mpchan.market.asking import Asking
from mpchan.transport import answers as transport_answers
from mpchan.transport.base import Answer, Arrival, Message, Piece, Request, new_session
from mpchan.transport.mailbox import MailboxInbox, MailboxLine

DATA = some_bytes(200_000)


@pytest.fixture
def mailbox(tmp_path: Path) -> MailboxWay:
    return MailboxWay(tmp_path)


def put(way: MailboxWay, session: str, kind: str, number: int = 1) -> None:
    path = way.directory / "to-payee" / f"{session}-{number:06d}-{kind}.hex"
    hidden = path.with_name(".hidden")
    hidden.write_bytes(b"00\n")
    hidden.replace(path)


def laid(way: MailboxWay) -> int:
    """Bytes of the answers that lie there, and of what is going to be one."""
    sizes = []
    for entry in os.scandir(way.directory / "to-payer"):
        try:
            sizes.append(entry.stat().st_size)
        except FileNotFoundError:  # it went meanwhile
            continue
    return sum(sizes)


# 75: what is never taken --------------------------------------------------------------------------


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> int:
    """Room for five free pieces."""
    monkeypatch.setattr(transport_answers, "MOST_UNPAID_BYTES", 1_000_000)
    monkeypatch.setattr(transport_answers, "_STAY_SECONDS", 0.05)
    return 1_000_000


@pytest.fixture
def answering(tmp_path: Path) -> Callable[[Request], Answer]:
    """A piece is free, an update pays for one, and an offer is long."""
    piece = piece_of(tmp_path / "file", DATA)
    answers: dict[str, Answer] = {
        "piece": Piece(piece.path, 0, piece.length, free=True),
        "update": piece,
        "offer": Message(bytes(40_000)),
    }
    return lambda request: answers[request.kind]


REFUSALS = b"answer-not-taken"


def refusals(way: MailboxWay) -> set[str]:
    """The sessions that were told to ask again."""
    found = set()
    for path in (way.directory / "to-payer").glob("*-refusal.hex"):
        with suppress(FileNotFoundError):  # the seller has taken it away meanwhile
            assert REFUSALS in bytes.fromhex(path.read_text())
            found.add(path.name[:32])
    return found


@pytest.mark.parametrize("kind", ["75 piece", "75 offer"])
def test_a_hundred_answers_that_nobody_takes(
    mailbox: MailboxWay, room: int, answering: Callable[[Request], Answer], kind: str
) -> None:
    """They have a bound for all together; what was paid for stays, and who waits for a piece gets it meanwhile."""
    inbox, most = mailbox.inbox(), [0]
    crowd = [f"{number:032x}" for number in range(1, 101)]
    put(mailbox, SESSION, "update")

    def measured(request: Request) -> Answer:
        most[0] = max(most[0], laid(mailbox))
        return answering(request)

    with selling(inbox, measured), closing(mailbox.line(new_session())) as line:
        paid = mailbox.directory / "to-payer" / f"{SESSION}-000001-piece.data"
        awaited(paid.exists, "the piece that was paid for")
        for number, session in enumerate(crowd):
            put(mailbox, session, kind[3:])
            if number % 20 == 10:
                asker = Asking(line, lambda step: None, patience=PATIENCE, pause=0.01)
                assert asker.until_good("piece", b"", lambda arrival: taken(arrival), len(DATA))
        awaited(
            lambda: len(refusals(mailbox) & set(crowd)) >= 95 - 8 * (kind == "75 offer"),
            "the others' refusals",
        )
        assert paid.read_bytes() == DATA
        small = 100 * 1_000
        assert most[0] <= room + len(DATA) + small
        assert laid(mailbox) <= room + len(DATA) + small


def taken(arrival: Arrival) -> bool:
    return b"".join(bytes(chunk) for chunk in arrival.chunks()) == DATA


def test_75_one_free_piece_may_be_larger_than_the_room(
    mailbox: MailboxWay, answering: Callable[[Request], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is alone then."""
    monkeypatch.setattr(transport_answers, "MOST_UNPAID_BYTES", 10)
    monkeypatch.setattr(transport_answers, "_STAY_SECONDS", 0.05)
    with selling(mailbox.inbox(), answering), closing(mailbox.line()) as line:
        put(mailbox, new_session(), "piece")
        assert asked(line, "piece") == ("piece", DATA)
        awaited(lambda: laid(mailbox) < 1000, "the end of both")


def test_75_free_pieces_are_copied_one_after_the_other(
    mailbox: MailboxWay, answering: Callable[[Request], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else several that are larger than the room would be there at once."""
    real, at_once, most = transport_answers.copy_part, [0], [0]

    def copied(*arguments: Any) -> int:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        done = real(*arguments)
        at_once[0] -= 1
        return done

    monkeypatch.setattr(transport_answers, "copy_part", copied)
    with selling(mailbox.inbox(), answering):
        for _ in range(4):
            put(mailbox, new_session(), "piece")
        awaited(lambda: laid(mailbox) == 4 * len(DATA), "the pieces")
    assert most == [1]


def test_75_a_restart_in_a_full_mailbox(
    mailbox: MailboxWay, room: int, answering: Callable[[Request], Answer]
) -> None:
    """Free pieces are laid there anew, within the same bound; what was paid for was never touched."""
    mailbox.inbox().close()
    put(mailbox, SESSION, "update")
    for _ in range(3):
        put(mailbox, new_session(), "piece")
    paid = mailbox.directory / "to-payer" / f"{SESSION}-000001-piece.data"
    asked_for: list[str] = []

    def noted(request: Request) -> Answer:
        asked_for.append(request.kind)
        return answering(request)

    for start in range(3):
        with selling(mailbox.inbox(), noted):
            awaited(lambda: laid(mailbox) == 4 * len(DATA), "the pieces")
            before = os.stat(paid)
        assert sorted(asked_for) == ["piece"] * 3 * (start + 1) + ["update"]
        assert os.stat(paid) == before
    for _ in range(10):
        put(mailbox, new_session(), "piece")
    with selling(mailbox.inbox(), answering):
        awaited(lambda: len(refusals(mailbox)) == 8, "the refusals")
        assert os.stat(paid) == before
        assert laid(mailbox) <= room + len(DATA) + 20_000


def test_75_paid_pieces_do_not_wait_for_free_ones(
    mailbox: MailboxWay, answering: Callable[[Request], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are copied one after the other, and may have to wait for room."""
    monkeypatch.setattr(transport_answers, "MOST_UNPAID_BYTES", len(DATA))
    monkeypatch.setattr(transport_answers, "_STAY_SECONDS", 3600.0)
    inbox = mailbox.inbox()
    with selling(inbox, answering), closing(mailbox.line()) as line:
        for _ in range(10):
            put(mailbox, new_session(), "piece")
        awaited(lambda: laid(mailbox) == len(DATA), "the first")
        assert asked(line, "update") == ("piece", DATA)
        awaited(lambda: not inbox.busy(), "an end: nobody waits for free pieces")


# 82: what is still being carried ------------------------------------------------------------------


class Judge:
    """Takes a piece when it is the right one, as a buyer does."""

    def __init__(self) -> None:
        self.wrong = 0

    def __call__(self, arrival: Arrival) -> bool:
        digest = hashlib.sha256()
        for chunk in arrival.chunks():
            digest.update(chunk)
        right = arrival.kind == "piece" and digest.digest() == hashlib.sha256(DATA).digest()
        self.wrong += not right
        return right


def wanting(line: MailboxLine, judge: Judge, patience: float = PATIENCE) -> bool:
    """Whether the right piece comes, as ``buy`` waits for it."""
    asking = Asking(line, lambda step: None, patience=patience, pause=0.05)
    return asking.until_good("update", b"payment", judge, len(DATA))


def in_order(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(DATA), 20_000):
            file.write(DATA[start : start + 20_000])
            time.sleep(0.02)


def with_room_taken_before(path: Path) -> None:
    """As over a network share: the whole length at once, and zeros until the data come."""
    with path.open("wb", buffering=0) as file:
        os.truncate(file.fileno(), len(DATA))
        for start in range(0, len(DATA), 20_000):
            time.sleep(0.02)
            file.write(DATA[start : start + 20_000])


def backwards(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for start in reversed(range(0, len(DATA), 20_000)):
            file.seek(start)
            file.write(DATA[start : start + 20_000])
            time.sleep(0.02)


def twice(path: Path) -> None:
    """The carrier begins again from nothing, in place."""
    path.write_bytes(DATA[:150_000])
    time.sleep(0.05)
    in_order(path)


def longer_before(path: Path) -> None:
    """Something else of this name lay there, and was longer."""
    path.write_bytes(bytes(len(DATA) + 1000))
    time.sleep(0.05)
    with path.open("r+b", buffering=0) as file:
        for start in range(0, len(DATA), 20_000):
            file.write(DATA[start : start + 20_000])
            time.sleep(0.02)
        file.truncate(len(DATA))


def replaced(path: Path) -> None:
    """Half of it first, and then another file in its place."""
    path.write_bytes(DATA[:100_000])
    time.sleep(0.05)
    other = path.with_name(".other")
    other.write_bytes(DATA)
    other.replace(path)


CARRIERS = {
    "82 in order": in_order,
    "82 with room taken before": with_room_taken_before,
    "82 backwards": backwards,
    "82 twice": twice,
    "82 longer before": longer_before,
    "82 replaced": replaced,
}


@pytest.mark.parametrize("name", CARRIERS)
def test_a_piece_that_comes_in_place(mailbox: MailboxWay, name: str) -> None:
    """It is asked for once, and taken when it is whole."""
    mailbox.inbox().close()
    target = mailbox.directory / "to-payer" / f"{SESSION}-000001-piece.data"
    carrier = threading.Timer(0.05, CARRIERS[name], [target])
    carrier.start()
    with closing(mailbox.line()) as line:
        assert wanting(line, Judge())
        assert line._used == 1
    carrier.join()


def test_82_a_piece_that_stops_coming(mailbox: MailboxWay) -> None:
    """The wait ends with a hint that is true: the same command again goes on with the same request, and gets it."""
    mailbox.inbox().close()
    target = mailbox.directory / "to-payer" / f"{SESSION}-000001-piece.data"
    judge = Judge()
    with closing(mailbox.line()) as line:
        carrier = threading.Timer(0.05, target.write_bytes, [DATA[:150_000]])
        carrier.start()
        with pytest.raises(TooEarly) as caught:
            wanting(line, judge, 0.3)
        carrier.join()
    assert (caught.value.slug, caught.value.exit_code) == ("peer-silent", 6)
    assert "150000 of the 200000 bytes of the piece are in the mailbox" in caught.value.message
    assert caught.value.hint is not None
    assert "the same command again waits for the rest" in caught.value.hint
    assert os.listdir(mailbox.directory / "to-payee") == [f"{SESSION}-000001-update.hex"]
    with closing(mailbox.line()) as line:
        carrier = threading.Timer(0.05, in_order, [target])
        carrier.start()
        assert wanting(line, judge)
        carrier.join()
    assert judge.wrong == 0
    assert os.listdir(mailbox.directory / "to-payee") == []


def test_82_a_piece_that_shrinks_and_stops(mailbox: MailboxWay) -> None:
    """The carrier begins anew, and then no more comes: the request stays for the rest."""
    mailbox.inbox().close()
    target = mailbox.directory / "to-payer" / f"{SESSION}-000001-piece.data"

    def take(arrival: Arrival) -> bool:
        whole = b"".join(bytes(chunk) for chunk in arrival.chunks())
        os.truncate(target, 1000)
        return whole == DATA

    carrier = threading.Timer(0.05, target.write_bytes, [bytes(len(DATA))])
    carrier.start()
    with closing(mailbox.line()) as line, pytest.raises(TooEarly, match="1000 of the 200000 bytes"):
        Asking(line, lambda step: None, patience=0.3, pause=0.05).until_good(
            "update", b"payment", take, len(DATA)
        )
    carrier.join()
    assert os.listdir(mailbox.directory / "to-payee") == [f"{SESSION}-000001-update.hex"]
    target.write_bytes(DATA)
    with closing(mailbox.line()) as line:
        assert wanting(line, Judge())
        assert line._used == 1


def test_82_a_wrong_piece_that_stays_is_asked_for_again(
    mailbox: MailboxWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole, and no patience makes it the right one."""
    monkeypatch.setattr("mpchan.transport.mailbox._STILL_SECONDS", 0.1)
    mailbox.inbox().close()
    judge = Judge()

    def answer() -> None:
        for number, data in enumerate([bytes(len(DATA)), DATA + b"0", DATA], start=1):
            name = f"{SESSION}-{number:06d}"
            awaited((mailbox.directory / "to-payee" / f"{name}-update.hex").exists, "the request")
            (mailbox.directory / "to-payer" / f"{name}-piece.data").write_bytes(data)

    answering = threading.Thread(target=answer)
    answering.start()
    with closing(mailbox.line()) as line:
        assert wanting(line, judge)
    answering.join()
    assert judge.wrong == 2
    assert line._used == 3


def carried_in_place(source: Path, target: Path, text: bytes) -> None:
    """A short file, byte by byte, over zeros that are there at once."""
    with target.open("wb", buffering=0) as file:
        os.truncate(file.fileno(), len(text))
        for index in range(len(text)):
            file.write(text[index : index + 1])
            time.sleep(0.002)


def test_82_requests_and_messages_that_come_in_place(mailbox: MailboxWay, tmp_path: Path) -> None:
    """Neither side takes a part of one for the whole, or for a malformed one."""
    name = f"{SESSION}-000001-refund.hex"
    with closing(mailbox.inbox()) as inbox:
        carrier = threading.Thread(
            target=carried_in_place, args=(tmp_path, mailbox.directory / "to-payee" / name, b"0123456789ab\n")
        )
        carrier.start()
        assert one_request(inbox).body == bytes.fromhex("0123456789ab")
        carrier.join()
    assert os.listdir(mailbox.directory / "to-payer") == []
    os.unlink(mailbox.directory / "to-payee" / name)
    for number, kind in ((1, "message"), (2, "refusal")):
        answer = mailbox.directory / "to-payer" / f"{SESSION}-{number:06d}-{kind}.hex"
        carrier = threading.Timer(0.05, carried_in_place, [tmp_path, answer, b"0123456789ab\n"])
        with closing(mailbox.line()) as line, asking(line) as found:
            carrier.start()
        carrier.join()
        assert found == [(kind, bytes.fromhex("0123456789ab"))]


def test_82_a_request_whose_mode_comes_last(mailbox: MailboxWay, monkeypatch: pytest.MonkeyPatch) -> None:
    """rsync makes a file that nobody else may read, and sets the mode when it is through."""
    with closing(mailbox.inbox()) as inbox:
        put(mailbox, SESSION, "offer")
        real = inbox._folder.read
        with monkeypatch.context() as patch:

            def read(name: object) -> bytes | None:
                raise PermissionError(13, "Permission denied")

            patch.setattr(inbox._folder, "read", read)
            for _ in range(3):
                assert inbox.waiting() == []
                time.sleep(0.01)
        assert inbox._folder.read == real
        assert one_request(inbox).body == b"\0"


# with the real carrier ----------------------------------------------------------------------------


def by_hand(source: Path, target: Path) -> None:
    """Where there is no rsync: everything new in place, slowly."""
    for path in source.iterdir():
        copy = target / path.name
        if not path.name.startswith(".") and (
            not copy.exists() or copy.stat().st_size != path.stat().st_size
        ):
            data = path.read_bytes()
            with copy.open("wb", buffering=0) as file:
                for start in range(0, len(data), 20_000):
                    file.write(data[start : start + 20_000])
                    time.sleep(0.02)
    for path in target.iterdir():
        if not (source / path.name).exists():
            path.unlink()


def by_rsync(source: Path, target: Path) -> None:
    """rsync as people run it over a slow line: in place, and what has gone goes on the other side too."""
    words = ["rsync", "-a", "--inplace", "--whole-file", "--delete", "--exclude=.*", "--bwlimit=400"]
    done = subprocess.run([*words, f"{source}/", f"{target}/"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 24), done.stderr  # 24: a file went meanwhile


@contextmanager
def carried(seller: Path, buyer: Path) -> Iterator[None]:
    """Two mailboxes, and a program that carries from each to the other without end."""
    carry = by_rsync if shutil.which("rsync") else by_hand
    stop, failures = threading.Event(), list[BaseException]()

    def run(source: Path, target: Path) -> None:
        try:
            while not stop.wait(0.02):
                carry(source, target)
        except BaseException as error:  # noqa: BLE001 (told below)
            failures.append(error)

    ways = [(buyer / "to-payee", seller / "to-payee"), (seller / "to-payer", buyer / "to-payer")]
    threads = [threading.Thread(target=run, args=way) for way in ways]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_82_rsync_in_place(tmp_path: Path) -> None:
    """Each piece takes the carrier half a second, and the buyer looks meanwhile: it asks for each once."""
    seller, buyer = tmp_path / "seller", tmp_path / "buyer"
    piece = piece_of(tmp_path / "file", DATA)
    inbox, line = MailboxInbox(seller, threading.Event()), MailboxLine(buyer, SESSION)
    judge = Judge()
    with selling(inbox, lambda request: piece) as selling_, carried(seller, buyer), closing(line):
        for _ in range(3):
            assert wanting(line, judge)
    assert [request.number for request in selling_.asked] == [1, 2, 3]
    assert judge.wrong == 0


def test_82_a_refusal_through_rsync(tmp_path: Path) -> None:
    seller, buyer = tmp_path / "seller", tmp_path / "buyer"
    inbox, line = MailboxInbox(seller, threading.Event()), MailboxLine(buyer, SESSION)
    missing = Piece(tmp_path / "missing", 0, 1)
    with selling(inbox, lambda request: missing), carried(seller, buyer), closing(line):
        assert refused(asked(line, "update")) == ("file-changed", 5)


def test_82_a_whole_sale_over_rsync(tmp_path: Path) -> None:
    """With the real commands: nothing is taken for wrong, nothing is paid twice, and nothing stays locked."""
    with EmbeddedChain(tmp_path / "bare") as chain:
        chain.tip()
    film = make_film(tmp_path / "film", 300_000)
    with opened(Shop(tmp_path, tmp_path / "bare", "mailbox", film, 2)) as shop, shop.mining():
        seller = shop.sell()
        there = tmp_path / "carried"
        for part in ("to-payee", "to-payer"):
            (there / part).mkdir(parents=True)
        with carried(shop.mailbox, there):
            words = ["payer", "buy", str(shop.offer), "--output", str(shop.output()), "--mailbox", str(there)]
            buyer = shop.start("buyer", *words, "--yes")
            buyer.ends_well()
        assert shop.is_whole()
        assert "wrong" not in buyer.err
        shop.check_end()
        assert [len(seller.events(kind)) for kind in ("offer", "refund", "funding", "update")] == [1, 1, 1, 2]
