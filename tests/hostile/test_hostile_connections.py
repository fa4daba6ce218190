"""Hostile inputs 76: connections that say nothing, or too little, or too slowly, in numbers; and 75 over connections.

The seller's end is the real one. What connects are bare sockets, each from an address of the loopback network that the
case chooses (127.0.0.0/8 is all of this machine, on Linux). The honest buyer comes from 127.0.0.1.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.transport.tcp import HELLO, frame, plain, read_frame, secured
from support.transport.ways import PATIENCE, TcpWay, asked, awaited, piece_of, selling, some_bytes

from mpchan.transport.base import CHUNK_BYTES, Answer, Message, Piece, Request, new_session
from mpchan.transport.tcp import MOST_CONNECTIONS

OFFER, UPDATE, PIECE = 0x10, 0x13, 0x14
STRANGER = "127.0.0.2"


@pytest.fixture
def tcp(tmp_path: Path) -> TcpWay:
    return TcpWay(tmp_path)


def hello() -> bytes:
    """Of a session of its own."""
    return HELLO[:-16] + bytes.fromhex(new_session())


def silent(way: TcpWay, source: str) -> socket.socket:
    return plain(way, source)


def half_open(way: TcpWay, source: str) -> socket.socket:
    """The beginning of a handshake, and no more."""
    wire = plain(way, source)
    wire.sendall(b"\x16\x03\x01\x02\x00\x01")
    return wire


def without_a_word(way: TcpWay, source: str) -> socket.socket:
    """The handshake, and half a hello."""
    wire = secured(way, source)
    wire.sendall(hello()[:20])
    return wire


def half_a_request(way: TcpWay, source: str) -> socket.socket:
    wire = secured(way, source)
    wire.sendall(hello() + frame(OFFER, bytes(100))[:-1])
    return wire


def idle(way: TcpWay, source: str) -> socket.socket:
    """One request, its answer, and nothing more."""
    wire = secured(way, source)
    wire.sendall(hello() + frame(OFFER, b"body"))
    assert read_frame(wire) is not None
    return wire


def slow(way: TcpWay, source: str) -> socket.socket:
    """A free piece is asked for and not read."""
    wire = secured(way, source)
    wire.sendall(hello() + frame(PIECE, b"free"))
    return wire


CROWDS = {
    "76 silent": silent,
    "76 half a handshake": half_open,
    "76 half a hello": without_a_word,
    "76 half a request": half_a_request,
    "76 idle": idle,
    "75 slow at a free piece": slow,
}

Crowd = Callable[[TcpWay, str], socket.socket]


@pytest.fixture
def pieces(tmp_path: Path) -> dict[bytes, Piece]:
    """A large piece that is free, and a small one that was paid for."""
    large = piece_of(tmp_path / "large", some_bytes(30 * CHUNK_BYTES))
    return {
        b"free": Piece(large.path, 0, large.length, free=True),
        b"paid": piece_of(tmp_path / "small", some_bytes(1000)),
    }


def answering(pieces: dict[bytes, Piece]) -> Callable[[Request], Answer]:
    """The piece that a request names, or a few words."""
    return lambda request: pieces.get(request.body) or Message(b"words")


@pytest.mark.parametrize("name", CROWDS)
def test_one_source(tcp: TcpWay, pieces: dict[bytes, Piece], name: str) -> None:
    """As many connections as there are places, and more: others are served all the same, and so is the one after."""
    tcp.options["most"] = 20
    crowd = CROWDS[name]
    with (
        selling(tcp.inbox(), answering(pieces)),
        ExitStack() as stack,
    ):
        before = threading.active_count()
        for number in range(25):
            stack.enter_context(crowd(tcp, STRANGER))
            if number % 5 == 4:
                with closing(tcp.line(new_session())) as line:
                    assert asked(line, "piece", b"paid") == ("piece", some_bytes(1000))
        awaited(lambda: threading.active_count() <= before + 10, "the end of the connections above the half")


def test_76_two_hundred_and_sixteen_connections(tcp: TcpWay) -> None:
    """What one client could open, with as many places as a seller has."""
    with selling(tcp.inbox()) as seller, ExitStack() as stack:
        before = threading.active_count()
        for _ in range(216):
            stack.enter_context(plain(tcp, STRANGER))
        with closing(tcp.line()) as line:
            assert asked(line) == ("message", b"offer body")
        assert threading.active_count() <= before + MOST_CONNECTIONS // 2 + 1
    assert [request.source for request in seller.asked] == ["127.0.0.1"]


def addresses() -> Iterator[str]:
    for number in range(256 * 256):
        yield f"127.1.{number // 256}.{number % 256}"


@pytest.mark.parametrize("name", CROWDS)
def test_many_sources(tcp: TcpWay, pieces: dict[bytes, Piece], name: str) -> None:
    """Each with one connection, more than there are places: a newcomer gets in, and one who has paid comes again."""
    tcp.options["most"] = 20
    crowd, strangers = CROWDS[name], addresses()
    with (
        selling(tcp.inbox(), answering(pieces)),
        ExitStack() as stack,
        closing(tcp.line(new_session())) as paying,
    ):
        for _ in range(3):
            assert asked(paying, "update", b"paid") == ("piece", some_bytes(1000))
            for _ in range(12):
                stack.enter_context(crowd(tcp, next(strangers)))
            with closing(tcp.line(new_session())) as line:
                assert asked(line, "offer", b"paid") == ("piece", some_bytes(1000))


def test_76_whoever_has_paid_keeps_its_connection(tcp: TcpWay, pieces: dict[bytes, Piece]) -> None:
    """And is known by its session when it comes on another one."""
    tcp.options["most"] = 20
    strangers = addresses()
    with (
        selling(tcp.inbox(), answering(pieces)),
        ExitStack() as stack,
    ):
        session = new_session()
        with closing(tcp.line(session)) as line:
            asked(line, "update", b"paid")
        with closing(tcp.line(session)) as line:
            asked(line, "offer", b"paid")
            stream = line._stream
            for _ in range(40):
                stack.enter_context(idle(tcp, next(strangers)))
            asked(line, "offer", b"paid")
            assert line._stream is stream


def test_76_requests_of_one_source_wait_for_each_other(tcp: TcpWay) -> None:
    """Another's request is among the next that the seller takes, however many of them there are."""
    with closing(tcp.inbox()) as inbox, ExitStack() as stack:
        for _ in range(30):
            wire = stack.enter_context(secured(tcp, STRANGER))
            wire.sendall(hello() + frame(OFFER, b"strange"))
        awaited(lambda: len(inbox._queue._waiting) == 30, "the requests")
        honest = stack.enter_context(secured(tcp))
        honest.sendall(hello() + frame(OFFER, b"honest"))
        awaited(lambda: len(inbox._queue._waiting) == 31, "the honest one")
        tcp.wake.clear()
        assert {request.body for request in inbox.waiting()} == {b"strange", b"honest"}
        assert tcp.wake.is_set(), "there is more"
        left = [inbox.waiting() for _ in range(30)]
        assert [len(found) for found in left] == [1] * 29 + [0]


def test_75_a_piece_that_is_never_taken(tcp: TcpWay, pieces: dict[bytes, Piece]) -> None:
    """It stays the seller's file's: nothing is kept for it, and the connection ends."""
    tcp.options["stall"] = 0.2
    inbox = tcp.inbox()
    with selling(inbox, lambda request: pieces[request.body]) as seller:
        before = threading.active_count()
        with slow(tcp, STRANGER):
            awaited(lambda: seller.asked, "the request")
            assert not inbox.busy(), "nobody waits for it"
            awaited(lambda: threading.active_count() == before, "the end of the connection")
        with closing(tcp.line()) as line:
            assert asked(line, "piece", b"paid", PATIENCE) == ("piece", some_bytes(1000))
