"""A mailbox in which the other party puts what it likes, under what names it likes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

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
    whole,
)

from mpchan.errors import Refused, TooEarly
from mpchan.transport.base import Message
from mpchan.units import MAX_MESSAGE_BYTES

REQUEST, MESSAGE = f"{SESSION}-000001-offer.hex", f"{SESSION}-000001-message.hex"
REFUSAL, PIECE = f"{SESSION}-000001-refusal.hex", f"{SESSION}-000001-piece.data"

# names --------------------------------------------------------------------------------------------

FOREIGN = [
    f"{SESSION}-000009-offer.hex.tmp",
    f".{SESSION}-000009-offer.hex",
    f".syncthing.{SESSION}-000009-offer.hex.tmp",
    f".{SESSION}-000009-offer.hex.Xy3fQz",
    f"{SESSION}-000009-offer.sync-conflict-20250101-120000-ABCDEFG.hex",
    f"{SESSION}-000009-offer.hex ",
    f"{SESSION}-000009-offer.hex\n",
    f" {SESSION}-000009-offer.hex",
    f"{SESSION.upper()}-000009-offer.hex",
    f"{SESSION[:-1]}-000009-offer.hex",
    f"{SESSION}0-000009-offer.hex",
    f"{SESSION}-000000-offer.hex",
    f"{SESSION}-9-offer.hex",
    f"{SESSION}-0000009-offer.hex",
    f"{SESSION}-+00009-offer.hex",
    f"{SESSION}-00000\u0661-offer.hex",
    f"{SESSION}-000009-offer",
    f"{SESSION}-000009-offerahex",
    f"{SESSION}-000009-offer.HEX",
    f"{SESSION}-000009-message.hex",
    f"{SESSION}-000009-piece.data",
    f"{SESSION}-000009-.hex",
    f"{SESSION}-000009-offer.hex\\..\\x",
    ".DS_Store",
    "Thumbs.db",
    ".stfolder",
    "-rf",
    "*",
    "x" * 255,
]


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_not_seen(mailbox: MailboxWay, name: str) -> None:
    """They neither ask nor answer, count for no number, hide no request, and stay."""
    for folder in ("to-payee", "to-payer"):
        (mailbox.directory / folder).mkdir(parents=True)
        (mailbox.directory / folder / name).write_bytes(b"00\n")
    if name in (f"{SESSION}-000009-message.hex", f"{SESSION}-000009-piece.data"):
        (mailbox.directory / "to-payer" / name).unlink()  # there it would be no foreign one
    with closing(mailbox.inbox()) as inbox:
        assert inbox.waiting() == []
        with closing(mailbox.line()) as line, asking(line) as found:
            request = one_request(inbox)
            assert request.number == 1
            inbox.answer(request, Message(b"yes"))
        assert inbox.waiting() == []
    assert found == [("message", b"yes")]
    assert os.listdir(mailbox.directory / "to-payee") == [name]
    assert os.listdir(mailbox.directory / "to-payer") in ([name], [])


def test_a_name_that_is_no_text(mailbox: MailboxWay) -> None:
    with closing(mailbox.inbox()) as inbox:
        path = os.fsencode(mailbox.directory / "to-payee") + b"/\xff" + REQUEST.encode()
        with suppress(OSError):  # some file systems do not take it
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        assert inbox.waiting() == []


@pytest.mark.parametrize("name", [REQUEST, f"{SESSION}-000001-data.hex", f"{SESSION}-000001-piece.hex", "x"])
def test_what_is_no_answer_is_waited_past(mailbox: MailboxWay, name: str) -> None:
    mailbox.inbox().close()
    with closing(mailbox.line()) as line, asking(line, patience=4 * SHORT) as found:
        awaited(lambda: os.listdir(mailbox.directory / "to-payee"), "the request")
        (mailbox.directory / "to-payer" / name).write_bytes(b"00\n")
    assert found == [("peer-silent", b"")]


# what is no regular file --------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def symlink(path: Path) -> None:
    """To a file that would be a good message."""
    secret = path.parent.parent / "secret"
    secret.write_bytes(b"5ec7e7\n")
    path.symlink_to(secret)


def endless_symlink(path: Path) -> None:
    path.symlink_to(path.name)


def dangling_symlink(path: Path) -> None:
    path.symlink_to("nowhere")


def symlink_to_fifo(path: Path) -> None:
    os.mkfifo(path.parent.parent / "pipe")
    path.symlink_to("../pipe")


def symlink_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.mkdir()
    (path / "file").write_bytes(b"00\n")


def unix_socket(path: Path) -> None:
    """Its name may be longer than a socket's may be."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path.parent.parent / "s"))
    (path.parent.parent / "s").rename(path)


STRANGE = [
    fifo, symlink, endless_symlink, dangling_symlink, symlink_to_fifo, symlink_to_device, directory, unix_socket
]  # fmt: skip


@pytest.mark.parametrize("make", STRANGE)
def test_a_request_that_is_no_file(
    mailbox: MailboxWay, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(mailbox.inbox()) as inbox:
        make(mailbox.directory / "to-payee" / REQUEST)
        before = os.lstat(mailbox.directory / "to-payee" / REQUEST)
        assert inbox.waiting() == []
        assert inbox.waiting() == []
        assert refusal_in(mailbox) == ("malformed-request", 3)
        assert os.lstat(mailbox.directory / "to-payee" / REQUEST) == before
        (mailbox.directory / "to-payee" / f"{OTHER}-000001-offer.hex").write_bytes(b"00\n")
        assert one_request(inbox).session == OTHER, "others are served"


def refusal_in(way: MailboxWay, name: str = REFUSAL) -> tuple[str, int]:
    """What the seller says to the first request."""
    data = (way.directory / "to-payer" / name).read_text()
    return refused(("refusal", bytes.fromhex(data)))


@pytest.mark.parametrize("name", [MESSAGE, REFUSAL, PIECE])
@pytest.mark.parametrize("make", STRANGE)
def test_an_answer_that_is_no_file(
    mailbox: MailboxWay,
    make: Callable[[Path], None],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    mailbox.inbox().close()
    with closing(mailbox.line()) as line, asking(line) as found:
        awaited(lambda: os.listdir(mailbox.directory / "to-payee"), "the request")
        make(mailbox.directory / "to-payer" / name)
    assert found == [("malformed-answer", b"")]
    assert os.listdir(mailbox.directory / "to-payer") == [name]
    assert os.listdir(mailbox.directory / "to-payee") == [], "what was answered is over"


def test_nothing_is_written_through_a_link(mailbox: MailboxWay, tmp_path: Path) -> None:
    """Not under the name of an answer; the one that it has before nobody can guess."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"keys")
    with closing(mailbox.inbox()) as inbox:
        folder = mailbox.directory / "to-payer"
        (folder / MESSAGE).symlink_to(precious)
        (mailbox.directory / "to-payee" / REQUEST).write_bytes(b"00\n")
        inbox.answer(one_request(inbox), Message(b"\x01"))
        assert (folder / MESSAGE).read_bytes() == b"01\n"
        assert not (folder / MESSAGE).is_symlink()
    assert precious.read_bytes() == b"keys"


# what is no message -------------------------------------------------------------------------------

MALFORMED = {
    "not hex": b"zz\n",
    "capital letters": b"AB\n",
    "odd": b"abc\n",
    "odd and long": b"0" * 70_001 + b"\n",
    "0x": b"0xab\n",
    "spaces": b"ab cd\n",
    "a space before": b" abcd\n",
    "carriage return": b"abcd\r\n",
    "two lines": b"ab\ncd\n",
    "an empty line behind": b"abcd\n\n",
    "an empty line before": b"\nabcd\n",
    "behind the line": b"ab\ncd",
    "NUL among others": b"z\0\n",
    "byte order mark": b"\xef\xbb\xbfab\n",
    "other digits": "٣٣\n".encode(),
    "not text": b"\xff\xfe\n",
    "a transaction": b"\x02\0\0\0\0\x01\x01",
    "one byte too many": b"00" * (MAX_MESSAGE_BYTES + 1) + b"\n",
    "too long without an end": b"00" * (MAX_MESSAGE_BYTES + 2),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_request_that_is_no_message(mailbox: MailboxWay, name: str) -> None:
    with closing(mailbox.inbox()) as inbox:
        (mailbox.directory / "to-payee" / REQUEST).write_bytes(MALFORMED[name])
        assert inbox.waiting() == []
        assert refusal_in(mailbox) == ("malformed-request", 3)
        refusal = os.stat(mailbox.directory / "to-payer" / REFUSAL)
        assert inbox.waiting() == []
        assert os.stat(mailbox.directory / "to-payer" / REFUSAL) == refusal, "it is told once"
        (mailbox.directory / "to-payee" / f"{SESSION}-000002-offer.hex").write_bytes(b"00\n")
        assert one_request(inbox).number == 2


@pytest.mark.parametrize("kind", [MESSAGE, REFUSAL])
@pytest.mark.parametrize("name", MALFORMED)
def test_an_answer_that_is_no_message(mailbox: MailboxWay, name: str, kind: str) -> None:
    mailbox.inbox().close()
    with closing(mailbox.line()) as line, asking(line) as found:
        awaited(lambda: os.listdir(mailbox.directory / "to-payee"), "the request")
        hidden = mailbox.directory / "hidden"
        hidden.write_bytes(MALFORMED[name])
        hidden.replace(mailbox.directory / "to-payer" / kind)
    assert found == [("malformed-answer", b"")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("not hex", "is not lower-case hex"),
        ("odd", "has an odd number of hex digits"),
        ("two lines", "has more than one line"),
        ("one byte too many", "is larger than the 800001 bytes of a message"),
    ],
)
def test_the_error_names_the_file_and_what_is_wrong(mailbox: MailboxWay, name: str, words: str) -> None:
    mailbox.inbox().close()
    with closing(mailbox.line()) as line:
        answering = threading.Timer(
            SHORT, appear, [mailbox.directory / "to-payer" / MESSAGE, MALFORMED[name]]
        )
        answering.start()
        with pytest.raises(Refused, match=f"^{MESSAGE} {words}$") as caught:
            asked(line)
        answering.join()
    assert caught.value.exit_code == 4


def test_a_message_cut_at_any_length_is_no_shorter_message(mailbox: MailboxWay) -> None:
    good = b"0123456789abcdef\n"
    with closing(mailbox.inbox()) as inbox:
        for length in range(len(good)):
            (mailbox.directory / "to-payee" / REQUEST).write_bytes(good[:length])
            assert inbox.waiting() == []
        assert os.listdir(mailbox.directory / "to-payer") == []
        (mailbox.directory / "to-payee" / REQUEST).write_bytes(good)
        assert one_request(inbox).body == bytes.fromhex("0123456789abcdef")


@pytest.mark.parametrize("make", [lambda path: os.truncate(path, 1 << 40), None])
def test_what_is_huge_is_not_read(mailbox: MailboxWay, make: Callable[[Path], None] | None) -> None:
    path = mailbox.directory / "to-payee" / REQUEST
    with closing(mailbox.inbox()) as inbox:
        path.touch()
        if make is None:
            path.write_bytes(b"0" * (8 << 20))
        else:
            try:
                make(path)
            except OSError:
                os.truncate(path, 1 << 33)  # not every file system has room for a terabyte of nothing
        assert inbox.waiting() == []
        assert refusal_in(mailbox) == ("malformed-request", 3)


def test_a_thousand_unfinished_requests_are_read_once(
    mailbox: MailboxWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones would keep the seller busy at each look."""
    with closing(mailbox.inbox()) as inbox:
        for number in range(200):
            path = mailbox.directory / "to-payee" / f"{number:032x}-000001-offer.hex"
            path.write_bytes(b"00" * 1000)
        assert inbox.waiting() == []
        reads: list[object] = []
        real = inbox._folder.read
        monkeypatch.setattr(inbox._folder, "read", lambda name: reads.append(name) or real(name))
        assert inbox.waiting() == []
        assert reads == []
        with path.open("ab") as file:
            file.write(b"\n")
        assert one_request(inbox).session == f"{199:032x}"
        assert len(reads) == 1


def test_a_request_that_may_not_be_read(mailbox: MailboxWay) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with closing(mailbox.inbox()) as inbox:
        path = mailbox.directory / "to-payee" / REQUEST
        path.write_bytes(b"00\n")
        path.chmod(0)
        assert inbox.waiting() == []
        assert refusal_in(mailbox) == ("malformed-request", 3)


# what changes -------------------------------------------------------------------------------------


def test_a_request_that_is_replaced_by_another(mailbox: MailboxWay) -> None:
    """What was read once is what was asked, whatever stands there later."""
    path = mailbox.directory / "to-payee" / REQUEST
    with closing(mailbox.inbox()) as inbox:
        path.write_bytes(b"01\n")
        request = one_request(inbox)
        for data in (b"02\n", b"zz\n", b""):
            path.write_bytes(data)
            assert inbox.waiting() == []
        path.unlink()
        os.mkfifo(path)
        assert inbox.waiting() == []
        inbox.answer(request, Message(b""))
        assert request.body == b"\x01"
        assert os.listdir(mailbox.directory / "to-payer") == [MESSAGE]


def test_two_requests_of_one_number(mailbox: MailboxWay) -> None:
    """One of them counts, and there is one answer."""
    with closing(mailbox.inbox()) as inbox:
        for kind in ("update", "offer", "piece"):
            (mailbox.directory / "to-payee" / f"{SESSION}-000001-{kind}.hex").write_bytes(b"00\n")
        assert one_request(inbox).kind == "update"
        assert inbox.waiting() == []


def test_a_request_that_goes_between_two_looks(mailbox: MailboxWay, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mailbox.directory / "to-payee" / REQUEST
    with closing(mailbox.inbox()) as inbox:
        for before in ("stamp", "read"):
            path.write_bytes(b"00\n")
            real = getattr(inbox._folder, before)
            with monkeypatch.context() as patch:
                patch.setattr(inbox._folder, before, lambda name, real=real: (path.unlink(), real(name))[1])
                assert inbox.waiting() == []
        assert inbox.waiting() == []


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(1 << 20))


CHANGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "longer": (grown, 300_000),
    "shorter": (lambda path: os.truncate(path, 150_000), 150_000),
    "shorter than what was read": (lambda path: os.truncate(path, 10), 100_000),
    "gone": (Path.unlink, 300_000),
    "another file": (lambda path: appear(path, bytes(300_000)), 300_000),
}


def appear(path: Path, data: bytes) -> None:
    """Be there at once."""
    hidden = path.with_name(".hidden")
    hidden.write_bytes(data)
    hidden.replace(path)


@pytest.mark.parametrize("name", CHANGES)
def test_a_piece_that_changes_while_it_is_read(mailbox: MailboxWay, name: str) -> None:
    """It never brings more than was announced; what it brings is for the buyer to judge."""
    change, expected = CHANGES[name]
    mailbox.inbox().close()
    path, data = mailbox.directory / "to-payer" / PIECE, some_bytes(300_000)
    writing = threading.Timer(SHORT, appear, [path, data])
    with closing(mailbox.line()) as line:
        writing.start()
        with line.ask("piece", b"", PATIENCE) as arrival:
            assert arrival.length == len(data)
            chunks = arrival.chunks(100_000)
            found = bytes(next(chunks))
            change(path)
            found += b"".join(bytes(chunk) for chunk in chunks)
        writing.join()
    assert found == data[:expected]


def test_an_empty_piece_and_an_endless_one(mailbox: MailboxWay) -> None:
    """The announced length is the seller's word; nothing is taken from memory for it."""
    mailbox.inbox().close()
    path = mailbox.directory / "to-payer" / PIECE
    with closing(mailbox.line()) as line:
        writing = threading.Timer(SHORT, path.touch)
        writing.start()
        with line.ask("piece", b"", PATIENCE) as arrival:
            assert (arrival.length, whole(arrival)) == (0, b"")
        writing.join()
    hidden = mailbox.directory / "hidden"
    hidden.touch()
    os.truncate(hidden, 1 << 40)
    with closing(mailbox.line()) as line:
        path = mailbox.directory / "to-payer" / PIECE.replace("000001", "000002")
        writing = threading.Timer(SHORT, hidden.replace, [path])
        writing.start()
        with line.ask("piece", b"", PATIENCE) as arrival:
            assert arrival.length == 1 << 40
            assert next(arrival.chunks(1000)) == bytes(1000)
        writing.join()


def test_an_answer_that_is_replaced_while_the_buyer_waits(mailbox: MailboxWay) -> None:
    """Half a message, then a link, then another message."""
    mailbox.inbox().close()
    path = mailbox.directory / "to-payer" / MESSAGE
    with closing(mailbox.line()) as line, asking(line) as found:
        awaited(lambda: os.listdir(mailbox.directory / "to-payee"), "the request")
        path.write_bytes(b"00")
        time.sleep(SHORT)
        assert found == []
        path.unlink()
        path.symlink_to("elsewhere")
    assert found == [("malformed-answer", b"")]


# whoever cannot be served -------------------------------------------------------------------------


def test_an_answer_of_another_session_is_no_answer(mailbox: MailboxWay) -> None:
    mailbox.inbox().close()
    for name in (MESSAGE, REFUSAL, PIECE):
        (mailbox.directory / "to-payer" / name).write_bytes(b"00\n")
    with closing(mailbox.line(OTHER)) as line, pytest.raises(TooEarly):
        asked(line, patience=SHORT)


def test_the_seller_goes_on_after_all_of_it(mailbox: MailboxWay, tmp_path: Path) -> None:
    """Everything strange at once, and one honest buyer among it."""
    piece = piece_of(tmp_path / "file", some_bytes(1000))
    with selling(mailbox.inbox(), lambda _: piece) as seller:
        folder = mailbox.directory / "to-payee"
        for number, data in enumerate(MALFORMED.values()):
            (folder / f"{number:032x}-000001-offer.hex").write_bytes(data)
        for number, make in enumerate([fifo, endless_symlink, dangling_symlink, directory], 100):
            make(folder / f"{number:032x}-000001-offer.hex")
        with closing(mailbox.line()) as line:
            for _ in range(5):
                assert asked(line, "piece") == ("piece", some_bytes(1000))
    assert {request.session for request in seller.asked} == {SESSION}
