"""Buyers and sellers who send something else, or nothing, or too slowly, over a connection."""

from __future__ import annotations

import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support.transport.tcp import (
    HEADER,
    HELLO,
    MESSAGE,
    OFFER,
    PIECE,
    REFUSAL,
    Harm,
    ended,
    fake_seller,
    frame,
    plain,
    read_frame,
    says,
    secured,
    stop_sending,
    waits,
)
from support.transport.ways import (
    PATIENCE,
    SESSION,
    SHORT,
    TcpWay,
    asked,
    asking,
    awaited,
    piece_of,
    selling,
    some_bytes,
)

from mpchan.errors import Refused, TooEarly
from mpchan.http.certificates import own_certificate
from mpchan.transport.base import CHUNK_BYTES
from mpchan.transport.tcp import TcpLine
from mpchan.units import MAX_MESSAGE_BYTES

# buyers -------------------------------------------------------------------------------------------


def test_a_request_cut_at_every_length(tcp: TcpWay) -> None:
    """Nothing is handed out, and no thread stays."""
    whole = HELLO + frame(OFFER, b"body")
    inbox = tcp.inbox()
    with selling(inbox) as seller:
        before = threading.active_count()
        for length in range(len(whole)):
            with secured(tcp) as wire:
                wire.sendall(whole[:length])
                stop_sending(wire)
                assert ended(wire)
        awaited(lambda: threading.active_count() == before, "the end of the threads")
        with secured(tcp) as wire:
            wire.sendall(whole)
            assert read_frame(wire) == (MESSAGE, b"offer body")
    assert len(seller.asked) == 1


NO_HELLO = {
    "another kind": frame(OFFER, HELLO[9:]),
    "an answer": frame(MESSAGE, HELLO[9:]),
    "no magic": frame(0x01, b"mpchaN" + HELLO[15:]),
    "too short": frame(0x01, HELLO[9:-1]),
    "too long": frame(0x01, HELLO[9:] + b"\0"),
    "empty": frame(0x01, b""),
    "magic alone": frame(0x01, b"mpchan\0"),
    "longer than any": frame(0x01, HELLO[9:] + bytes(100)),
    "huge": HEADER.pack(0x01, 2**64 - 1) + HELLO[9:],
    "http": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "zeros": bytes(1000),
    "noise": some_bytes(1000),
}


@pytest.mark.parametrize("name", NO_HELLO)
def test_what_is_no_hello_gets_no_word(tcp: TcpWay, name: str) -> None:
    with selling(tcp.inbox()) as seller, secured(tcp) as wire:
        wire.sendall(NO_HELLO[name])
        assert ended(wire)
    assert seller.asked == []


@pytest.mark.parametrize("version", [0, 2, 256, 65535])
@pytest.mark.parametrize("rest", [b"", bytes(16), bytes(40)])
def test_another_version_is_told_which_one_is_spoken(tcp: TcpWay, version: int, rest: bytes) -> None:
    """Whatever its hello holds besides, and though a request comes right behind it."""
    hello = frame(0x01, b"mpchan" + version.to_bytes(2, "big") + rest)
    with selling(tcp.inbox()) as seller, secured(tcp) as wire:
        wire.sendall(hello + frame(OFFER, bytes(300_000)))
        assert told(wire) == ("malformed-request", f"this seller speaks version 1, not {version}")
        assert ended(wire)
    assert seller.asked == []


def told(wire: socket.socket) -> tuple[str, str]:
    """The slug and the words of a refusal that comes next."""
    answer = read_frame(wire)
    assert answer is not None
    assert answer[0] == REFUSAL
    refusal = json.loads(answer[1])
    return refusal["error"], refusal["message"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (frame(0x01, HELLO[9:]), "no kind of request: 0x01"),
        (frame(0x0F, b""), "no kind of request: 0x0f"),
        (frame(0x16, b"x"), "no kind of request: 0x16"),
        (frame(MESSAGE, b"x"), "no kind of request: 0x20"),
        (frame(PIECE, b"x"), "no kind of request: 0x22"),
        (HEADER.pack(0xFF, 2**64 - 1), "no kind of request: 0xff"),
        (HEADER.pack(OFFER, MAX_MESSAGE_BYTES + 1), "400001 bytes are more than 400000"),
        (HEADER.pack(OFFER, 2**63), "9223372036854775808 bytes are more than 400000"),
        (HEADER.pack(0x15, 2**64 - 1) + bytes(100_000), "18446744073709551615 bytes are more than 400000"),
    ],
)
def test_a_frame_that_is_no_request_is_refused(tcp: TcpWay, data: bytes, words: str) -> None:
    """At once, before anything is waited for or kept; and the connection ends."""
    with selling(tcp.inbox()) as seller, secured(tcp) as wire:
        wire.sendall(HELLO + data)
        assert told(wire) == ("malformed-request", words)
        assert ended(wire)
        with closing(tcp.line()) as line:
            assert asked(line)[0] == "message", "others are served"
    assert len(seller.asked) == 1


def test_requests_that_do_not_wait_for_their_answers(tcp: TcpWay) -> None:
    """One after the other, each with its answer; at most one of them is on the desk."""
    with selling(tcp.inbox()) as seller, secured(tcp) as wire:
        wire.sendall(HELLO + b"".join(frame(OFFER, str(number).encode()) for number in range(20)))
        for number in range(20):
            assert read_frame(wire) == (MESSAGE, b"offer " + str(number).encode())
    assert len(seller.asked) == 20


def test_a_plain_connection(tcp: TcpWay) -> None:
    """Somebody who speaks no TLS, or leaves, or says nothing, is in nobody's way."""
    tcp.options["greeting"] = 0.3
    with selling(tcp.inbox()) as seller:
        before = threading.active_count()
        for data in (HELLO + frame(OFFER, b""), b"\x16\x03\x01", b"\0", b"\n" * 100_000):
            with plain(tcp) as wire:
                with suppress(ConnectionError):
                    wire.sendall(data)
                assert drained(wire)
        for _ in range(20):
            plain(tcp).close()
        with plain(tcp) as wire:
            assert ended(wire), "it is not waited for"
        with closing(tcp.line()) as line:
            assert asked(line)[0] == "message"
        awaited(lambda: threading.active_count() <= before, "the end of the threads")
    assert len(seller.asked) == 1


def drained(wire: socket.socket) -> bool:
    """Whether the other side ends the connection, whatever it says before."""
    with suppress(ConnectionError):
        while wire.recv(10_000):
            pass
    return True


def dripping(wire: socket.socket, data: bytes, pause: float) -> bool:
    """Send byte by byte; whether the other side had enough before the end."""
    try:
        for index in range(len(data)):
            wire.sendall(data[index : index + 1])
            time.sleep(pause)
    except OSError:
        return True
    return False


def test_whoever_drips_a_frame_is_dropped(tcp: TcpWay) -> None:
    """Each byte is in time, and the whole is not: in the handshake, in the hello, in a header, in a body."""
    tcp.options.update(stall=0.2, greeting=0.2)
    with selling(tcp.inbox()) as seller:
        with plain(tcp) as wire:
            assert dripping(wire, b"\x16\x03\x01\x02\x00" + bytes(1000), 0.01)
        with secured(tcp) as wire:
            assert dripping(wire, HELLO + bytes(1000), 0.05)
        with secured(tcp) as wire:
            wire.sendall(HELLO)
            assert dripping(wire, frame(OFFER, bytes(1000)), 0.05)
        with secured(tcp) as wire:
            wire.sendall(HELLO + HEADER.pack(OFFER, 1000))
            assert dripping(wire, bytes(1000), 0.01)
    assert seller.asked == []


def test_a_buyer_who_does_not_take_its_piece_is_dropped(tcp: TcpWay, tmp_path: Path) -> None:
    tcp.options["stall"] = 0.2
    piece = piece_of(tmp_path / "file", some_bytes(30 * CHUNK_BYTES))
    inbox = tcp.inbox()
    with selling(inbox, lambda _: piece) as seller, secured(tcp) as wire:
        before = threading.active_count()
        wire.sendall(HELLO + frame(OFFER, b""))
        awaited(lambda: seller.asked, "the request")
        awaited(lambda: not inbox.busy() and threading.active_count() < before, "the end of the connection")


def test_a_file_that_becomes_shorter_while_it_is_sent(tcp: TcpWay, tmp_path: Path) -> None:
    """The connection breaks off; who asks again hears why."""
    data = some_bytes(30 * CHUNK_BYTES)
    piece = piece_of(tmp_path / "file", data)
    with selling(tcp.inbox(), lambda _: piece), closing(tcp.line()) as line:
        with line.ask("piece", b"", PATIENCE) as arrival:
            chunks = arrival.chunks()
            found = bytes(next(chunks))
            with piece.path.open("r+b") as file:
                file.truncate(20 * CHUNK_BYTES)
            found += until_it_breaks(chunks)
        assert found == data[: len(found)]
        assert len(found) <= 20 * CHUNK_BYTES
        assert asked(line, "piece")[0] == "refusal"


def until_it_breaks(chunks: Iterator[memoryview]) -> bytes:
    """What comes before the error."""
    found: list[bytes] = []
    with pytest.raises(TooEarly) as caught:
        found.extend(bytes(chunk) for chunk in chunks)
    assert caught.value.slug == "peer-silent"
    return b"".join(found)


def test_noise(tcp: TcpWay) -> None:
    """Whatever comes: the seller lives, and hands out nothing but requests."""
    dice = random.Random(5)
    tcp.options["stall"] = 0.5
    with selling(tcp.inbox()) as seller:
        for _ in range(60):
            data = bytearray(HELLO + frame(OFFER, b"body") + frame(0x12, b"more"))
            for _ in range(dice.randint(1, 3)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            with secured(tcp) as wire:
                wire.sendall(data[: dice.randint(1, len(data))])
                stop_sending(wire)
                with suppress(ssl.SSLError):
                    drained(wire)
        with closing(tcp.line()) as line:
            assert asked(line)[0] == "message"
    assert all(request.kind and len(request.session) == 32 for request in seller.asked)


# sellers ------------------------------------------------------------------------------------------


def test_another_certificate_hears_nothing(tcp: TcpWay, tmp_path: Path) -> None:
    heard: list[bytes] = []

    def listen(connection: ssl.SSLSocket) -> None:
        try:
            heard.append(connection.recv(1000))
        except OSError:  # it was cut off, which is as good
            heard.append(b"")

    other = own_certificate(tmp_path / "other").fingerprint
    with fake_seller(tcp, listen) as seller, closing(seller.line(other)) as line:
        with pytest.raises(Refused) as caught:
            asked(line)
        assert (caught.value.slug, caught.value.exit_code) == ("certificate-differs", 4)
        assert other in caught.value.message
        assert tcp.certificate.fingerprint in caught.value.message
        awaited(lambda: heard, "the end of the connection")
    assert heard == [b""]


def test_the_certificate_is_compared_at_each_connection(tcp: TcpWay, tmp_path: Path) -> None:
    with closing(tcp.line()) as line:
        with selling(tcp.inbox()):
            assert asked(line)[0] == "message"
        tcp.certificate = own_certificate(tmp_path / "other")
        with selling(tcp.inbox()) as seller, pytest.raises(Refused, match="another certificate"):
            asked(line)
        assert seller.asked == []


@pytest.mark.parametrize(
    "data",
    [
        frame(0x00, b""),
        frame(0x01, HELLO[9:]),
        frame(OFFER, b"x"),
        frame(0x23, b"x"),
        frame(0xFF, b"x"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        HEADER.pack(MESSAGE, MAX_MESSAGE_BYTES + 1),
        HEADER.pack(REFUSAL, MAX_MESSAGE_BYTES + 1),
        HEADER.pack(MESSAGE, 2**64 - 1) + bytes(1000),
        HEADER.pack(0x7F, 2**64 - 1),
    ],
)
def test_a_frame_that_is_no_answer(tcp: TcpWay, data: bytes) -> None:
    """Refused at once: no seller of this protocol sends it, and no patience mends it."""
    with fake_seller(tcp, says(data, waits)) as seller, closing(seller.line()) as line:
        with pytest.raises(Refused) as caught:
            asked(line)
        assert (caught.value.slug, caught.value.exit_code) == ("malformed-answer", 4)


def test_a_server_without_tls(tcp: TcpWay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = TcpLine(listener.getsockname(), tcp.certificate.fingerprint, SESSION)

        def answer() -> None:
            with listener.accept()[0] as wire:
                wire.recv(10)
                wire.sendall(b"220 ready\r\n" * 10)
                drained(wire)

        thread = threading.Thread(target=answer)
        thread.start()
        with closing(line), pytest.raises(Refused, match="does not speak TLS") as caught:
            asked(line)
        thread.join()
    assert caught.value.slug == "malformed-answer"


def test_a_server_that_says_nothing(tcp: TcpWay) -> None:
    """Not even in the handshake; it does not hold the buyer longer than its patience."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = TcpLine(listener.getsockname(), tcp.certificate.fingerprint, SESSION)
        with closing(line), pytest.raises(TooEarly) as caught:
            asked(line, patience=SHORT)
    assert caught.value.slug == "peer-silent"


def test_a_server_whose_queue_is_full(tcp: TcpWay) -> None:
    """The system does not even connect; that has its limit too."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        for _ in range(4):
            wire = stack.enter_context(socket.socket())
            wire.setblocking(False)
            wire.connect_ex(listener.getsockname())
        line = TcpLine(listener.getsockname(), tcp.certificate.fingerprint, SESSION)
        with closing(line), pytest.raises(TooEarly) as caught:
            asked(line, patience=SHORT)
    assert caught.value.slug == "peer-silent"


class SamePort(socket.socket):
    """What the system may choose by itself when it looks for a free port."""

    def connect(self, where: Any) -> None:
        self.bind(where)
        super().connect(where)


def test_a_connection_to_itself_is_none(tcp: TcpWay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens a connection can meet its own other end, and would hear what it says."""
    monkeypatch.setattr(socket, "socket", SamePort)
    with closing(tcp.line()) as line, pytest.raises(TooEarly, match=r"nobody listens|in use"):
        asked(line, patience=SHORT)


def drips(connection: ssl.SSLSocket) -> None:
    with suppress(OSError):
        for _ in range(10_000):
            connection.sendall(b"\0")
            time.sleep(0.01)


@pytest.mark.parametrize(
    "harm",
    [
        waits,
        says(b"", waits),
        says(frame(MESSAGE, b"body")[:5], waits),
        says(frame(MESSAGE, b"body")[:-1], waits),
        says(HEADER.pack(MESSAGE, 400_000), drips),
        lambda _: None,
        says(b""),
    ],
)
def test_an_answer_that_does_not_come_whole(tcp: TcpWay, harm: Harm) -> None:
    """Silence, half an answer, one that drips, a connection that ends each time: the patience is the limit."""
    with fake_seller(tcp, harm) as seller, closing(seller.line()) as line:
        with pytest.raises(TooEarly) as caught:
            asked(line, patience=4 * SHORT)
        assert (caught.value.slug, caught.value.exit_code) == ("peer-silent", 6)


@pytest.mark.parametrize("code", [MESSAGE, REFUSAL])
def test_an_answer_cut_at_every_length_is_asked_for_again(tcp: TcpWay, code: int) -> None:
    """On new connections, with the same request, until it comes whole."""
    whole = frame(code, b"body")
    lengths = iter(range(len(whole) + 1))
    seen: list[object] = []

    def harm(connection: ssl.SSLSocket) -> None:
        seen.append((read_frame(connection), read_frame(connection)))
        connection.sendall(whole[: next(lengths)])

    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("mpchan.transport.tcp._LONGEST_PAUSE_SECONDS", 0.001)
        seller = stack.enter_context(fake_seller(tcp, harm))
        line = stack.enter_context(closing(seller.line()))
        assert asked(line)[1] == b"body"
    assert len(seen) == len(whole) + 1
    assert set(seen) == {((0x01, HELLO[9:]), (OFFER, b"body"))}


@pytest.mark.parametrize("sent", [0, 1, 999, 1000, 1001])
@pytest.mark.parametrize("ending", [waits, lambda _: None])
def test_a_piece_that_breaks_off(tcp: TcpWay, sent: int, ending: Harm) -> None:
    """By the end of the connection, or by silence. What came is given; the rest is asked for again."""
    data = HEADER.pack(PIECE, 2000) + some_bytes(sent)
    with fake_seller(tcp, says(data, ending)) as seller, closing(seller.line()) as line:
        with line.ask("piece", b"", 4 * SHORT) as arrival:
            assert arrival.length == 2000
            found = until_it_breaks(arrival.chunks(500))
        assert found == some_bytes(sent)[: sent // 500 * 500]


def test_a_piece_announced_as_endless(tcp: TcpWay) -> None:
    """No memory is taken for it, and the buyer can leave it."""
    data = HEADER.pack(PIECE, 2**64 - 1) + bytes(5000)
    with fake_seller(tcp, says(data, waits)) as seller, closing(seller.line()) as line:
        for _ in range(2):
            with line.ask("piece", b"", PATIENCE) as arrival:
                assert arrival.length == 2**64 - 1
                assert next(arrival.chunks(1000)) == bytes(1000)


def test_what_comes_behind_an_answer_is_no_answer(tcp: TcpWay) -> None:
    """A seller who sends two answers to one request: the second stands where the next one is expected, and is judged
    like any answer; behind a piece nothing of it gets into the piece."""
    data = HEADER.pack(PIECE, 5) + b"piece" + b"\xee" * 100
    with fake_seller(tcp, says(data, waits)) as seller, closing(seller.line()) as line:
        assert asked(line, "piece") == ("piece", b"piece")
        with pytest.raises(Refused, match="0xee"):
            asked(line)


def test_a_line_that_refused_what_came_connects_anew(tcp: TcpWay) -> None:
    """What else the seller says there is of no interest."""
    with fake_seller(tcp, says(frame(0x55, b""), waits)) as seller, closing(seller.line()) as line:
        for _ in range(3):
            with asking(line, patience=5) as found:
                pass
            assert found == [("malformed-answer", b"")]
        assert seller.connections == 3
