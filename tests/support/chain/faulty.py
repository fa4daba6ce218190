"""A small HTTP server between the backend and a node, or in its place, that does harm."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.chain.node import Node, free_port

from mpchan.bitcoin.network import REGTEST
from mpchan.chain.bitcoind import BitcoindChain
from mpchan.chain.bitcoind.endpoint import Credentials, Endpoint

Harm = Callable[[socket.socket, bytes], None]
"""Gets the client's connection and the node's whole answer, head and body; sends what it likes."""


class Faulty:
    """Passes requests on to a node, and does ``harm`` to the answer of the ``nth`` (from 1 on; 0 to every one).

    With ``onwards``, to all that come after it too: what is asked once more finds no better answer then.

    Args:
        node: who is asked; None where ``harm`` makes up the answers itself.
    """

    def __init__(self, node: Node | None) -> None:
        self.node = node
        self.harm: Harm | None = None
        self.nth = 0
        self.onwards = False
        self.asked = 0
        self.port = free_port()
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def set(self, harm: Harm | None, nth: int = 0, *, onwards: bool = False) -> None:
        """From here on do this; the requests are counted anew."""
        self.harm, self.nth, self.asked, self.onwards = harm, nth, 0, onwards

    def close(self) -> None:
        """End everything."""
        break_off(self._server, *self._clients)
        self._server.close()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._clients.append(client)
            thread = threading.Thread(target=self._talk, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while True:
                request = _message(client)
                if request is None:
                    return
                self.asked += 1
                struck = self.asked >= self.nth if self.onwards else self.nth in (0, self.asked)
                hurt = self.harm is not None and struck
                answer = b"" if self.node is None else self._pass_on(request)
                if hurt and self.harm is not None:
                    self.harm(client, answer)
                    return  # the connection ends with the harm
                client.sendall(answer)

    def _pass_on(self, request: bytes) -> bytes:
        assert self.node is not None
        with socket.create_connection(("127.0.0.1", self.node.port)) as connection:
            connection.sendall(request)
            return _message(connection) or b""


def break_off(*sockets: socket.socket) -> None:
    """End connections, and listening: a blocked accept() ends by this, not by close()."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _message(connection: socket.socket) -> bytes | None:
    """One HTTP message with its body; None at the end of the stream."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            return None
        body += part
    return head + b"\r\n\r\n" + body


@contextmanager
def faulty(node: Node | None) -> Iterator[Faulty]:
    """The server, and its end."""
    server = Faulty(node)
    try:
        yield server
    finally:
        server.close()


def through(server: Faulty, credentials: Credentials, *, seconds: float = 30.0) -> BitcoindChain:
    """The backend that asks through it."""
    return BitcoindChain(REGTEST, Endpoint("127.0.0.1", server.port), credentials, seconds=seconds)


def sent(data: bytes) -> Harm:
    """Something else."""
    return lambda client, _: client.sendall(data)


def cut(share: float) -> Harm:
    """The beginning of the answer, and the end of the connection."""
    return lambda client, whole: client.sendall(whole[: int(len(whole) * share)])


def reset(client: socket.socket, _: bytes) -> None:
    """The connection ends as when a machine goes away."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent(client: socket.socket, _: bytes) -> None:
    """Nothing, until the other side gives up."""
    client.recv(1)


def body(change: Callable[[bytes], bytes]) -> Harm:
    """The same answer with another body, of a length that fits."""
    return lambda client, whole: client.sendall(answer(change(whole.partition(b"\r\n\r\n")[2])))


def answer(body: bytes, status: str = "200 OK", *, head: bytes = b"") -> bytes:
    """An HTTP message as a node would send it."""
    start = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return start.encode() + head + b"\r\n" + body
