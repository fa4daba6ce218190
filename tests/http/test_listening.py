"""The hardened server: what strangers may take time, memory and places for, with real sockets over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mpchan.http.certificates import Certificate, own_certificate
from mpchan.http.listening import protocol, server
from mpchan.http.listening.door import MOST_CONNECTIONS, Door
from mpchan.http.listening.server import Listening

STRANGER = "127.0.0.2"
REQUEST = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, and says who asks."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not hello.stop.is_set():  # type: ignore[attr-defined]
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            await asyncio.sleep(0)  # who has gone is told nothing, and that takes no time
        return
    body = f"{scope['client'][0]} {scope['scheme']} {length}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Place:
    """A server, and who connects to it."""

    def __init__(self, listening: Listening, certificate: Certificate | None) -> None:
        self.listening = listening
        self._certificate = certificate

    def plain(self, source: str = "127.0.0.1") -> socket.socket:
        """A connection without TLS."""
        return socket.create_connection(("127.0.0.1", self.listening.port), 20, (source, 0))

    def secured(self, source: str = "127.0.0.1") -> socket.socket:
        """A connection after its handshake."""
        connection = self.plain(source)
        if self._certificate is None:
            return connection
        context = ssl.create_default_context(cafile=str(self._certificate.path))
        context.check_hostname = False
        return context.wrap_socket(connection)

    def ask(self, data: bytes = REQUEST, source: str = "127.0.0.1") -> bytes:
        """All that is answered to some bytes until the connection ends, or the answer is whole."""
        with self.secured(source) as connection:
            connection.sendall(data)
            return answer(connection)


def answer(connection: socket.socket) -> bytes:
    """One answer, with a Content-Length or to the end."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if lengths and len(body) >= int(lengths[0].partition(b":")[2]):
                return data
        try:
            more = connection.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            return data
        if not more:
            return data
        data += more


def ends(connection: socket.socket) -> bool:
    """Whether the other side ends the connection, without an answer."""
    try:
        return connection.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Place]]:
    """Makes a server; what a client may take time for is short."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.3)
    hello.stop = threading.Event()  # type: ignore[attr-defined]
    with ExitStack() as stack:

        def make(*, tls: bool = True, **options: Any) -> Place:
            certificate = own_certificate(tmp_path) if tls else None
            listening = Listening(hello, "127.0.0.1", 0, certificate, **options)
            return Place(stack.enter_context(listening), certificate)

        yield make
        hello.stop.set()  # type: ignore[attr-defined]


def test_requests_are_served_one_after_the_other(place: Callable[..., Place]) -> None:
    here = place()
    with here.secured() as connection:
        for _ in range(3):
            connection.sendall(REQUEST)
            assert answer(connection).endswith(b"127.0.0.1 https 0")


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: shop\r\nX: " + b"y" * 100],
    ids=["nothing", "half a line", "no header", "half a header"],
)
def test_a_head_that_does_not_come_to_its_end(place: Callable[..., Place], data: bytes) -> None:
    with place().secured() as connection:
        if data:
            connection.sendall(data)
        assert ends(connection)


def test_a_second_head_that_does_not_come_to_its_end(place: Callable[..., Place]) -> None:
    with place().secured() as connection:
        connection.sendall(REQUEST)
        answer(connection)
        connection.sendall(REQUEST[:10])
        assert ends(connection)


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01", REQUEST])
def test_a_handshake_that_does_not_come_to_its_end(place: Callable[..., Place], data: bytes) -> None:
    with place().plain() as connection:
        if data:
            connection.sendall(data)
        assert ends(connection)


def test_a_body_that_stops(place: Callable[..., Place]) -> None:
    with place().secured() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100\r\n\r\nhalf")
        assert ends(connection)


def test_an_answer_that_is_never_taken_away(place: Callable[..., Place]) -> None:
    """The server ends it, and goes on with others."""
    here = place()
    with here.secured() as connection:
        connection.sendall(REQUEST.replace(b"/ ", b"/endless "))
        waiting = threading.Event()
        while not waiting.wait(0.05):
            if not [guest for guest in here.listening._server._door._guests if guest.busy]:
                break
    assert here.ask().endswith(b"https 0")


def test_91_a_head_of_64_kb_and_one_that_is_longer(place: Callable[..., Place]) -> None:
    here = place()
    fits = b"GET / HTTP/1.1\r\nHost: shop\r\nX: %s\r\n\r\n" % (b"y" * 60_000)
    assert here.ask(fits).startswith(b"HTTP/1.1 200 ")
    long = b"GET / HTTP/1.1\r\nHost: shop\r\nX: %s\r\n\r\n" % (b"y" * 70_000)
    endless = b"GET / HTTP/1.1\r\nHost: shop\r\n" + b"X: y\r\n" * 20_000
    for data in (long, endless):
        said = here.ask(data)  # the answer is lost where the client is still sending
        assert said == b"" or said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: shop\r\nHost: other\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length : 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: shop\r\n X: folded\r\n\r\n",
        b"GET / HTTP/1.1\nHost: shop\n\n",
        b"GET / HTTP/1.1\r\nHost: shop\r\nX: \x00\r\n\r\n",
    ],
    ids=["no host", "two hosts", "lengths", "both", "encoding", "blank", "folded", "bare", "nul"],
)
def test_91_what_two_programs_may_read_in_two_ways(place: Callable[..., Place], data: bytes) -> None:
    """A request that a proxy and this server could cut at different places is none."""
    assert place().ask(data).startswith(b"HTTP/1.1 400 ")


def test_91_a_proxy_is_believed_where_it_is_named(place: Callable[..., Place]) -> None:
    forwarded = REQUEST[:-2] + b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    assert place(tls=False).ask(forwarded).endswith(b"127.0.0.1 http 0")
    assert place(tls=False, trusted=["127.0.0.1"]).ask(forwarded).endswith(b"192.0.2.7 https 0")


@pytest.mark.parametrize(
    "data", [None, b"", REQUEST], ids=["half-open", "after the handshake", "after a request"]
)
def test_76_connections_that_do_nothing(place: Callable[..., Place], data: bytes | None) -> None:
    """From one source they get half of the places, and leave for a newcomer from anywhere."""
    here = place(most=20)
    with ExitStack() as stack:
        for _ in range(60):
            try:
                idle = stack.enter_context(here.plain(STRANGER) if data is None else here.secured(STRANGER))
                if data:
                    idle.sendall(data)
                    answer(idle)
            except OSError:
                continue
        for source in ("127.0.0.1", STRANGER, "127.0.0.3"):
            assert here.ask(source=source).endswith(b"https 0")
        assert len(here.listening._server._door._guests) <= 36


def test_76_a_thousand_connections_from_many_sources(place: Callable[..., Place]) -> None:
    here = place(tls=False)
    with ExitStack() as stack:
        for number in range(MOST_CONNECTIONS + 100):
            source = f"127.0.{1 + number // 200}.{1 + number % 200}"
            stack.enter_context(here.plain(source))
        assert here.ask().endswith(b"http 0")


def test_who_has_paid_and_is_served_keeps_its_place() -> None:
    door, left = Door(2), []
    paying = door.enter("a", lambda: left.append("paying"))
    assert paying is not None
    paying.paid = True
    paying.note(busy=True)
    assert door.enter("b", lambda: left.append("idle")) is not None
    assert door.enter("c", lambda: left.append("new")) is not None
    assert left == ["idle"]
