"""What stands in a mailbox, who writes and deletes it, and what a new beginning finds there."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.transport.ways import (
    OTHER,
    PATIENCE,
    SESSION,
    SHORT,
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

from mpchan import durability
from mpchan.errors import NotPossible, StorageError, TooEarly
from mpchan.transport import answers as transport_answers
from mpchan.transport.base import KINDS, Answer, Message, Piece, Request
from mpchan.transport.folder import hold_for_seller, let_go
from mpchan.transport.mailbox import MailboxInbox, MailboxLine


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(way: MailboxWay) -> tuple[set[str], set[str]]:
    """What is in the two folders; without the session, where it is the usual one."""
    folders = (way.directory / "to-payee", way.directory / "to-payer")
    requests, answers = ({name.removeprefix(SESSION) for name in os.listdir(folder)} for folder in folders)
    return requests, answers


def put(way: MailboxWay, name: str, data: bytes) -> Path:
    """A file that somebody else puts there at once."""
    path = way.directory / name.replace("SESSION", SESSION)
    hidden = path.with_name(".hidden")
    hidden.write_bytes(data)
    hidden.replace(path)
    return path


# files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_a_line_of_hex_for_other_commands(mailbox: MailboxWay, kind: str) -> None:
    with closing(mailbox.inbox()) as inbox, asking(mailbox.line(), kind, b"\xab\x01") as found:
        request = one_request(inbox)
        assert names(mailbox) == ({f"-000001-{kind}.hex"}, set())
        path = mailbox.directory / "to-payee" / f"{SESSION}-000001-{kind}.hex"
        assert path.read_bytes() == b"ab01\n"
        inbox.answer(request, Message(b"\xef"))
        path = mailbox.directory / "to-payer" / f"{SESSION}-000001-message.hex"
        assert path.read_bytes() == b"ef\n"
    assert found == [("message", b"\xef")]


def test_a_piece_is_the_bytes_themselves(mailbox: MailboxWay, tmp_path: Path) -> None:
    piece = piece_of(tmp_path / "file", some_bytes(1000), 10, 20)
    with selling(mailbox.inbox(), lambda _: piece), mailbox.line().ask("piece", b"", PATIENCE):
        path = mailbox.directory / "to-payer" / f"{SESSION}-000001-piece.data"
        assert path.read_bytes() == some_bytes(1000)[10:30]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_the_other_party_may_be_another_user(mailbox: MailboxWay, tmp_path: Path, mask: int) -> None:
    """It can read all, and write into nothing that is ours, whatever the umask."""
    piece = piece_of(tmp_path / "file", some_bytes(10))

    def answering(request: Request) -> Answer:
        return piece if request.kind == "piece" else Message(b"")

    with umask(mask), selling(mailbox.inbox(), answering), closing(mailbox.line()) as line:
        for kind in ("piece", "offer"):
            with line.ask(kind, b"", PATIENCE):
                [request] = (mailbox.directory / "to-payee").iterdir()
                answers = list((mailbox.directory / "to-payer").iterdir())
                assert {mode_of(path) for path in [request, *answers]} == {0o644}
    for folder in ("", "to-payee", "to-payer"):
        assert mode_of(mailbox.directory / folder) == 0o755


@pytest.mark.parametrize("mode", [0o1777, 0o2770, 0o755])
@pytest.mark.parametrize(("make", "own"), [(MailboxWay.inbox, "to-payer"), (MailboxWay.line, "to-payee")])
def test_the_others_folder_is_for_whoever_may_write_into_the_mailbox(
    mailbox: MailboxWay, mode: int, make: Callable[[MailboxWay], Any], own: str
) -> None:
    mailbox.directory.mkdir()
    mailbox.directory.chmod(mode)
    make(mailbox).close()
    [other] = {"to-payer", "to-payee"} - {own}
    assert mode_of(mailbox.directory / own) & 0o777 == 0o755
    assert mode_of(mailbox.directory / other) == mode


def test_folders_that_are_there_stay_as_they_are(mailbox: MailboxWay) -> None:
    mailbox.directory.mkdir()
    for name in ("to-payee", "to-payer"):
        (mailbox.directory / name).mkdir()
        (mailbox.directory / name).chmod(0o711)
    mailbox.inbox().close()
    mailbox.line().close()
    assert mode_of(mailbox.directory / "to-payee") == mode_of(mailbox.directory / "to-payer") == 0o711


def test_what_is_written_is_whole_when_it_has_its_name(
    mailbox: MailboxWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of the protocol come into the folders by renaming alone, behind the last byte; nothing is synced."""
    piece = piece_of(tmp_path / "file", some_bytes(3000))
    real, seen = durability.step, []

    def step(kind: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        seen.append((kind, Path(arguments[0]).name if isinstance(arguments[0], str | Path) else ""))
        return real(kind, act, *arguments, **named)

    with closing(mailbox.line()) as line, selling(mailbox.inbox(), lambda _: piece):
        monkeypatch.setattr(durability, "step", step)
        asked(line, "piece")
        monkeypatch.undo()
    temporary = {kind: name for kind, name in seen if name.endswith(".tmp")}
    assert set(temporary) == {"create", "replace"}
    made = sorted(name for kind, name in seen if kind == "create")
    assert [re.sub(r"\.[0-9a-f]{16}\.tmp$", "", name) for name in made] == [
        f".{SESSION}-000001-piece.data",
        f".{SESSION}-000001-piece.hex",
    ]
    assert {kind for kind, _ in seen} == {"create", "write", "close", "replace", "unlink"}


# who deletes what ---------------------------------------------------------------------------------


def test_the_buyer_deletes_a_request_when_its_answer_has_been_taken(mailbox: MailboxWay) -> None:
    with closing(mailbox.inbox()) as inbox, closing(mailbox.line()) as line:
        with asking(line):
            inbox.answer(one_request(inbox), Message(b""))
        assert names(mailbox) == (set(), {"-000001-message.hex"})
        assert inbox.waiting() == []
        assert names(mailbox) == (set(), set()), "and then the seller the answer"


def test_the_seller_deletes_an_answer_when_a_later_request_is_there(mailbox: MailboxWay) -> None:
    with closing(mailbox.inbox()) as inbox:
        put_request(mailbox, 1)
        inbox.answer(one_request(inbox), Message(b""))
        assert inbox.waiting() == []
        put_request(mailbox, 2)
        one_request(inbox)
        assert names(mailbox) == ({"-000001-offer.hex", "-000002-offer.hex"}, set())


def put_request(way: MailboxWay, number: int, data: bytes = b"00\n", kind: str = "offer") -> None:
    put(way, f"to-payee/SESSION-{number:06d}-{kind}.hex", data)


def test_the_seller_deletes_nobodys_files_but_its_own(mailbox: MailboxWay) -> None:
    with closing(mailbox.inbox()) as inbox:
        for number in (1, 2, 3):
            put_request(mailbox, number, b"zz\n" if number == 2 else b"00\n")
            inbox.waiting()
        inbox.forget(SESSION)
        inbox.waiting()
    assert names(mailbox)[0] == {f"-{number:06d}-offer.hex" for number in (1, 2, 3)}


def test_the_buyer_deletes_nobodys_files_but_its_own(mailbox: MailboxWay) -> None:
    with closing(mailbox.inbox()):
        for name in ("SESSION-000001-message.hex", f"{OTHER}-000001-message.hex"):
            put(mailbox, f"to-payer/{name}", b"00\n")
        put(mailbox, f"to-payee/{OTHER}-000009-offer.hex", b"00\n")
    with closing(mailbox.line()) as line, pytest.raises(TooEarly):
        asked(line, patience=SHORT)
    assert names(mailbox) == (
        {"-000002-offer.hex", f"{OTHER}-000009-offer.hex"},
        {"-000001-message.hex", f"{OTHER}-000001-message.hex"},
    )


def test_a_request_without_an_answer_stays_until_the_next(mailbox: MailboxWay) -> None:
    for _ in range(2):
        with closing(mailbox.line()) as line, pytest.raises(TooEarly):
            asked(line, patience=SHORT)
    assert names(mailbox) == ({"-000002-offer.hex"}, set())
    with closing(mailbox.inbox()) as inbox:
        assert one_request(inbox).number == 2


def test_what_a_killed_process_left_goes(mailbox: MailboxWay) -> None:
    """Of the party that starts, and of no other."""
    mailbox.inbox().close()
    seller = f".{SESSION}-000007-piece.data.0123456789abcdef.tmp"
    buyer, others = (f".{session}-000007-offer.hex.4711.tmp" for session in (SESSION, OTHER))
    foreign = f".{SESSION}-000007-piece.data.x.tmp"
    for name in (f"to-payer/{seller}", f"to-payer/{foreign}", f"to-payee/{buyer}", f"to-payee/{others}"):
        (mailbox.directory / name).write_bytes(b"half")
    mailbox.inbox().close()
    assert set(os.listdir(mailbox.directory / "to-payer")) == {foreign}
    assert set(os.listdir(mailbox.directory / "to-payee")) == {buyer, others}
    mailbox.line().close()
    assert set(os.listdir(mailbox.directory / "to-payee")) == {others}


# numbers and new beginnings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "there",
    [
        "to-payee/SESSION-000041-update.hex",
        "to-payer/SESSION-000041-message.hex",
        "to-payer/SESSION-000041-refusal.hex",
        "to-payer/SESSION-000041-piece.data",
    ],
)
def test_a_number_stands_above_all_that_is_there(mailbox: MailboxWay, there: str) -> None:
    """An answer that lay there before is no answer to what is asked now."""
    mailbox.inbox().close()
    put(mailbox, there, b"00\n")
    put(mailbox, f"to-payer/{OTHER}-000099-message.hex", b"00\n")
    with closing(mailbox.line()) as line:
        for number in (42, 43):
            with pytest.raises(TooEarly, match=f"{SESSION}-{number:06d}-offer.hex"):
                asked(line, patience=SHORT)


def test_an_answer_that_lies_there_for_later_is_never_taken(mailbox: MailboxWay) -> None:
    """A seller who guesses the next number has to guess again."""
    with selling(mailbox.inbox()) as seller, closing(mailbox.line()) as line:
        asked(line)
        put(mailbox, "to-payer/SESSION-000002-message.hex", b"00\n")
        assert asked(line, "offer", b"2") == ("message", b"offer 2")
    assert [request.number for request in seller.asked] == [1, 3]


def test_a_number_is_used_once_though_everything_has_gone(mailbox: MailboxWay) -> None:
    with selling(mailbox.inbox()) as seller, closing(mailbox.line()) as line:
        for _ in range(3):
            asked(line)
            awaited(lambda: names(mailbox) == (set(), set()), "an empty mailbox")
    assert [request.number for request in seller.asked] == [1, 2, 3]


def test_the_last_number(mailbox: MailboxWay) -> None:
    mailbox.inbox().close()
    put(mailbox, "to-payer/SESSION-999998-message.hex", b"00\n")
    with closing(mailbox.line()) as line:
        with pytest.raises(TooEarly, match="999999"):
            asked(line, patience=SHORT)
        with pytest.raises(NotPossible) as caught:
            asked(line, patience=SHORT)
    assert (caught.value.slug, caught.value.exit_code) == ("session-used-up", 5)


def test_what_was_answered_is_not_asked_of_the_next_seller(mailbox: MailboxWay) -> None:
    put_first(mailbox)
    with closing(mailbox.inbox()) as inbox:
        inbox.answer(one_request(inbox), Message(b""))
    with closing(mailbox.inbox()) as inbox:
        assert inbox.waiting() == []
        assert names(mailbox) == ({"-000001-offer.hex"}, {"-000001-message.hex"})


def put_first(way: MailboxWay) -> None:
    way.line().close()
    put_request(way, 1)


def test_an_answer_that_was_taken_meanwhile_goes_at_the_start(mailbox: MailboxWay) -> None:
    put_first(mailbox)
    with closing(mailbox.inbox()) as inbox:
        inbox.answer(one_request(inbox), Message(b""))
    (mailbox.directory / "to-payee" / f"{SESSION}-000001-offer.hex").unlink()
    with closing(mailbox.inbox()) as inbox:
        assert inbox.waiting() == []
        assert names(mailbox) == (set(), set())
        put_request(mailbox, 1, b"01\n")
        assert one_request(inbox).body == b"\x01", "a session may begin anew where nothing of it is left"


def test_the_newest_request_of_a_session_alone_is_handed_out(mailbox: MailboxWay) -> None:
    mailbox.line().close()
    for number in (9, 10, 2):
        put_request(mailbox, number, f"{number:02d}\n".encode())
    with closing(mailbox.inbox()) as inbox:
        request = one_request(inbox)
        assert (request.number, request.body) == (10, b"\x10")
        inbox.answer(request, Message(b""))
        assert inbox.waiting() == []
        put_request(mailbox, 8)
        assert inbox.waiting() == []
        put_request(mailbox, 11)
        inbox.answer(one_request(inbox), Message(b""))
        for number in (11, 10):
            (mailbox.directory / "to-payee" / f"{SESSION}-{number:06d}-offer.hex").unlink()
        assert inbox.waiting() == [], "what a crash has left is older than what was answered"


def test_an_answer_nobody_waits_for_is_not_written(mailbox: MailboxWay, tmp_path: Path) -> None:
    piece = piece_of(tmp_path / "file", some_bytes(10))
    with closing(mailbox.inbox()) as inbox:
        put_request(mailbox, 1)
        first = one_request(inbox)
        put_request(mailbox, 2)
        second = one_request(inbox)
        inbox.answer(first, piece)
        inbox.answer(first, Message(b""))
        assert not inbox.busy()
        assert names(mailbox)[1] == set()
        inbox.answer(second, piece)
        awaited(lambda: not inbox.busy())
        assert names(mailbox)[1] == {"-000002-piece.data"}


def test_a_crowd_is_served_by_and_by(mailbox: MailboxWay) -> None:
    """What one look brings is bounded, since it is all in memory."""
    with closing(mailbox.inbox()) as inbox:
        for number in range(150):
            put(mailbox, f"to-payee/{number:032x}-000001-offer.hex", b"00\n")
        seen: set[str] = set()
        counts = []
        for _ in range(4):
            found = inbox.waiting()
            counts.append(len(found))
            seen |= {request.session for request in found}
            for request in found:
                inbox.answer(request, Message(b""))
    assert counts == [64, 64, 22, 0]
    assert len(seen) == 150


@pytest.mark.parametrize("beginning", [b"", b"0", b"00", b"0123abcdef"])
def test_a_file_without_its_line_feed_is_still_being_written(mailbox: MailboxWay, beginning: bytes) -> None:
    """As by a shell that redirects a command's output into the mailbox."""
    with closing(mailbox.inbox()) as inbox:
        path = mailbox.directory / "to-payee" / f"{SESSION}-000001-offer.hex"
        with path.open("wb") as file:
            for part in (beginning, b"" if len(beginning) % 2 == 0 else b"0", b"77"):
                file.write(part)
                file.flush()
                assert inbox.waiting() == []
                assert inbox.waiting() == []
            file.write(b"\n")
        assert one_request(inbox).body[-1:] == b"\x77"


def test_an_answer_without_its_line_feed_is_waited_for(mailbox: MailboxWay) -> None:
    mailbox.inbox().close()
    with closing(mailbox.line()) as line, asking(line) as found:
        awaited(lambda: names(mailbox)[0], "the request")
        path = mailbox.directory / "to-payer" / f"{SESSION}-000001-message.hex"
        with path.open("wb") as file:
            for part in (b"7", b"77", b"7"):
                file.write(part)
                file.flush()
                time.sleep(SHORT / 5)
                assert found == []
            file.write(b"\n")
    assert found == [("message", b"\x77\x77")]


# pieces in the background -------------------------------------------------------------------------


class Gate:
    """Holds up the copying for one session until it is opened; everything else goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self._real = durability.step
        monkeypatch.setattr(durability, "step", self._step)

    def _step(self, kind: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        result = self._real(kind, act, *arguments, **named)
        if kind == "create" and Path(arguments[0]).name.startswith(f".{SESSION}-000001-piece.data"):
            self.reached.set()
            assert self.open.wait(20)
        return result


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Gate, Piece]]:
    made = Gate(monkeypatch)
    yield made, piece_of(tmp_path / "large", some_bytes(100_000))
    made.open.set()


def test_a_large_piece_holds_up_nobody_else(
    mailbox: MailboxWay, tmp_path: Path, gate: tuple[Gate, Piece]
) -> None:
    small = piece_of(tmp_path / "small", b"small")
    with closing(mailbox.inbox()) as inbox, asking(mailbox.line(), "piece") as found:
        inbox.answer(one_request(inbox), gate[1])
        assert gate[0].reached.wait(20)
        with asking(mailbox.line(OTHER), "piece") as others:
            inbox.answer(one_request(inbox), small)
        assert others == [("piece", b"small")]
        assert inbox.busy()
        assert found == []
        mailbox.wake.clear()
        gate[0].open.set()
        assert mailbox.wake.wait(20), "the seller is told that it is done"
        awaited(lambda: not inbox.busy())
    assert found == [("piece", some_bytes(100_000))]


@pytest.mark.parametrize("ending", ["a later request", "the request is gone", "closed"])
def test_a_piece_that_nobody_wants_is_not_copied_on(
    mailbox: MailboxWay, gate: tuple[Gate, Piece], ending: str
) -> None:
    with closing(mailbox.inbox()) as inbox:
        put_request(mailbox, 1, kind="piece")
        inbox.answer(one_request(inbox), gate[1])
        assert gate[0].reached.wait(20)
        if ending == "a later request":
            put_request(mailbox, 2)
            one_request(inbox)
        elif ending == "the request is gone":
            (mailbox.directory / "to-payee" / f"{SESSION}-000001-piece.hex").unlink()
            assert inbox.waiting() == []
        else:
            opener = threading.Timer(SHORT, gate[0].open.set)
            opener.start()
            inbox.close()
            opener.join()
        gate[0].open.set()
        awaited(lambda: not inbox.busy())
    assert os.listdir(mailbox.directory / "to-payer") == []


def test_a_forgotten_piece_goes_after_a_while(
    mailbox: MailboxWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buyer who never comes back leaves nothing large behind, and its request is not handed out again."""
    piece = piece_of(tmp_path / "file", some_bytes(10))
    with closing(mailbox.inbox()) as inbox:
        put_request(mailbox, 1, kind="piece")
        inbox.answer(one_request(inbox), piece)
        awaited(lambda: not inbox.busy())
        inbox.forget(SESSION)
        assert inbox.waiting() == []
        assert names(mailbox) == ({"-000001-piece.hex"}, {"-000001-piece.data"}), "it may be about to be read"
        monkeypatch.setattr(transport_answers, "_FORGOTTEN_SECONDS", 0.0)
        assert inbox.waiting() == []
        assert inbox.waiting() == []
        assert names(mailbox) == ({"-000001-piece.hex"}, set())


def test_a_session_that_was_forgotten_may_ask_again(
    mailbox: MailboxWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_answers, "_FORGOTTEN_SECONDS", 0.0)
    piece = piece_of(tmp_path / "file", some_bytes(10))
    with closing(mailbox.inbox()) as inbox:
        put_request(mailbox, 1)
        inbox.answer(one_request(inbox), Message(b""))
        inbox.forget(SESSION)
        assert inbox.waiting() == []
        assert names(mailbox)[1] == {"-000001-message.hex"}, "a short answer stays"
        put_request(mailbox, 2)
        inbox.answer(one_request(inbox), piece)
        awaited(lambda: not inbox.busy())
        assert inbox.waiting() == []
        assert names(mailbox)[1] == {"-000002-piece.data"}


def test_a_disk_that_is_full(mailbox: MailboxWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buyers can fill it by asking for pieces; the seller lives on, and those who ask hear of it."""
    piece = piece_of(tmp_path / "file", some_bytes(2000))
    real = durability.step

    def step(kind: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        sizes = [len(each) for each in arguments if isinstance(each, memoryview)]
        if kind == "write" and (not sizes or sizes[0] > 1000):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(kind, act, *arguments, **named)

    with selling(mailbox.inbox(), lambda _: piece), closing(mailbox.line()) as line:
        monkeypatch.setattr(durability, "step", step)
        answer = asked(line, "piece")
        monkeypatch.undo()
        assert refused(answer) == ("piece-not-copied", 6)
        assert b"no space left on device" in answer[1]
        assert asked(line, "piece") == ("piece", some_bytes(2000))


def test_a_disk_on_which_not_even_that_can_be_said(
    mailbox: MailboxWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the buyer asks again. A message that cannot be handed over is the seller's own matter."""
    piece = piece_of(tmp_path / "file", some_bytes(10))
    real = durability.step

    def step(kind: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if kind == "create":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(kind, act, *arguments, **named)

    with closing(mailbox.inbox()) as inbox:
        with monkeypatch.context() as patch:
            patch.setattr(durability, "step", step)
            put_request(mailbox, 4, kind="piece")
            inbox.answer(one_request(inbox), piece)
            awaited(lambda: not inbox.busy())
            put_request(mailbox, 5, b"zz\n")
            assert inbox.waiting() == []
            put_request(mailbox, 6)
            with pytest.raises(StorageError) as caught:
                inbox.answer(one_request(inbox), Message(b""))
            assert caught.value.slug == "mailbox-unusable"
        assert os.listdir(mailbox.directory / "to-payer") == []
        put_request(mailbox, 7)
        inbox.answer(one_request(inbox), Message(b""))
        assert names(mailbox)[1] == {"-000007-message.hex"}


# what cannot be used ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [MailboxInbox, lambda path, _: MailboxLine(path, SESSION)])
@pytest.mark.parametrize("broken", ["mailbox", "to-payee", "to-payer", "parent"])
def test_a_mailbox_that_is_none(tmp_path: Path, make: Callable[[Path, Any], Any], broken: str) -> None:
    path = tmp_path / "mailbox"
    if broken == "mailbox":
        path.write_bytes(b"")
    elif broken == "parent":
        path = tmp_path / "none" / "mailbox"
    else:
        path.mkdir()
        (path / broken).write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        make(path, threading.Event())
    assert (caught.value.slug, caught.value.exit_code) == ("mailbox-unusable", 7)
    assert str(path) in caught.value.message


def test_a_mailbox_that_goes_away(mailbox: MailboxWay) -> None:
    with closing(mailbox.inbox()) as inbox, closing(mailbox.line()) as line:
        for name in ("to-payee", "to-payer"):
            (mailbox.directory / name).rmdir()
        with pytest.raises(StorageError, match="to-payee: no such file"):
            inbox.waiting()
        with pytest.raises(StorageError, match="to-payee: no such file"):
            asked(line)


def test_a_folder_that_may_not_be_written_to(mailbox: MailboxWay) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    mailbox.inbox().close()
    for name in ("to-payee", "to-payer"):
        (mailbox.directory / name).chmod(0o555)
    with pytest.raises(StorageError, match="to-payer: permission denied"):
        mailbox.inbox()
    with pytest.raises(StorageError, match="to-payee: permission denied"):
        mailbox.line()


def test_another_process(mailbox: MailboxWay) -> None:
    """Nothing but the folder joins the two."""
    buyer = (
        "import sys; from pathlib import Path; from mpchan.transport.mailbox import MailboxLine\n"
        "line = MailboxLine(Path(sys.argv[1]), sys.argv[2])\n"
        "for number in range(20):\n"
        "    with line.ask('update', b'%d' % number, 20) as arrival:\n"
        "        assert arrival.body == b'update %d' % number, arrival.body\n"
    )
    with selling(mailbox.inbox()) as seller:
        done = subprocess.run([sys.executable, "-c", buyer, str(mailbox.directory), SESSION], check=False)
    assert done.returncode == 0
    assert len(seller.asked) == 20


def test_the_lock_goes_with_its_seller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened its file in the last moment holds nothing, and takes another; nothing is left in the end."""
    first = hold_for_seller(tmp_path)
    assert first is not None
    lock = durability.lock

    def in_the_last_moment(descriptor: int) -> None:
        monkeypatch.setattr(durability, "lock", lock)
        let_go(tmp_path, first)
        lock(descriptor)

    monkeypatch.setattr(durability, "lock", in_the_last_moment)
    second = hold_for_seller(tmp_path)
    assert second is not None
    with pytest.raises(StorageError) as failure:
        hold_for_seller(tmp_path)
    assert failure.value.slug == "locked"
    let_go(tmp_path, second)
    assert list(tmp_path.iterdir()) == []
