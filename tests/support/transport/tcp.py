"""The two ends of a connection without any of mpchan's code but its TLS, for tests that do harm."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.transport.ways import SESSION, TcpWay

from mpchan.transport.tcp import TcpLine

HEADER = struct.Struct(">BQ")
HELLO = HEADER.pack(0x01, 24) + b"mpchan" + b"\x00\x01" + bytes.fromhex(SESSION)
OFFER, MESSAGE, REFUSAL, PIECE = 0x10, 0x20, 0x21, 0x22


def frame(code: int, body: bytes) -> bytes:
    return HEADER.pack(code, len(body)) + body


def plain(way: TcpWay, source: str = "127.0.0.1") -> socket.socket:
    """A connection to the seller, without TLS, from an address of the loopback network."""
    return socket.create_connection(way.address, 20, source_address=(source, 0))


def secured(way: TcpWay, source: str = "127.0.0.1") -> ssl.SSLSocket:
    """A connection to the seller, with TLS, over which nothing has been said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain(way, source))


def read_frame(connection: socket.socket) -> tuple[int, bytes] | None:
    """One whole frame; None where the connection ends before."""
    head = read_exactly(connection, HEADER.size)
    if head is None:
        return None
    code, length = HEADER.unpack(head)
    body = read_exactly(connection, length)
    return None if body is None else (code, body)


def read_exactly(connection: socket.socket, count: int) -> bytes | None:
    """So many bytes; None where the connection ends before."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while len(data) < count:
            part = connection.recv(count - len(data))
            if not part:
                return None
            data += part
    return data


def stop_sending(connection: socket.socket) -> None:
    """Say no more, and go on reading; the TLS socket's own method would end the TLS too."""
    socket.socket.shutdown(connection, socket.SHUT_WR)


def ended(connection: socket.socket) -> bool:
    """Whether the other side ends the connection, and says nothing before."""
    try:
        return connection.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


Harm = Callable[[ssl.SSLSocket], None]
"""Gets a buyer's connection, and does what it likes with it; then it ends."""


class FakeSeller:
    """Who listens in the seller's place, with its certificate or another."""

    def __init__(self, way: TcpWay, harm: Harm) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(way.certificate.path)
        self._harm = harm
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._way = way
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def line(self, fingerprint: str | None = None) -> TcpLine:
        """The buyer's end."""
        address = self._listener.getsockname()
        return TcpLine(address, fingerprint or self._way.certificate.fingerprint, SESSION)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError), socket.create_connection(self._listener.getsockname(), 1):
            pass  # where a shutdown wakes nobody
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                with self._context.wrap_socket(connection, server_side=True) as wrapped:
                    self._harm(wrapped)


@contextmanager
def fake_seller(way: TcpWay, harm: Harm) -> Iterator[FakeSeller]:
    """The fake, and its end."""
    seller = FakeSeller(way, harm)
    try:
        yield seller
    finally:
        seller.close()


def says(data: bytes, then: Harm | None = None) -> Harm:
    """Takes one request and sends this."""

    def harm(connection: ssl.SSLSocket) -> None:
        read_frame(connection)
        read_frame(connection)
        connection.sendall(data)
        if then is not None:
            then(connection)

    return harm


def waits(connection: ssl.SSLSocket) -> None:
    """Until the buyer gives up."""
    while connection.recv(1000):
        pass
