"""A server between the backend and a real Electrum server that alters answers, or harms the connection."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.chain.faulty import break_off

from mpchan.bitcoin.network import REGTEST
from mpchan.chain.electrum import ElectrumChain
from mpchan.chain.electrum.address import Server

Lie = Callable[[list[Any], Any], Any]
"""Gets the parameters of a request and the true result; gives the result that the client is told."""

Harm = Callable[[socket.socket, bytes], None]
"""Gets the client's connection and the true line; sends what it likes."""


class Silence(Exception):
    """Raised by a lie: the request is never answered."""


class Refuse(Exception):
    """Raised by a lie: the request is answered with this error."""


class Liar:
    """Passes requests on to a real server, whose answers it alters.

    Attributes:
        lies: by method, what becomes of its results.
        harms: by method, what is done in place of sending its answer.
        swallowed: by method, what its requests are answered with, which the real server never sees.
        asked: how often each method was asked.
    """

    def __init__(self, port: int) -> None:
        self._upstream_port = port
        self.lies: dict[str, Lie] = {}
        self.harms: dict[str, Harm] = {}
        self.swallowed: dict[str, Callable[[list[Any]], Any]] = {}
        self.asked: Counter[str] = Counter()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    @property
    def name(self) -> str:
        """As in wallet.toml."""
        return f"127.0.0.1:{self.port}"

    def chain(self, *others: str, **options: Any) -> ElectrumChain:
        """The backend that asks it first, then these."""
        servers = [Server.parse(name) for name in (self.name, *others)]
        return ElectrumChain(REGTEST, servers, **options)

    def hang_up(self) -> None:
        """Break off all connections; new ones are taken."""
        break_off(*self._open)

    def close(self) -> None:
        """End everything."""
        break_off(self._server, *self._open)
        self._server.close()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(("127.0.0.1", self._upstream_port))
            except OSError:
                client.close()
                continue
            self._open += [client, upstream]
            requests: dict[int, tuple[str, list[Any]]] = {}
            for work in (self._forward, self._answer):
                thread = threading.Thread(target=work, args=(client, upstream, requests))
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket, upstream: socket.socket, requests: dict[int, Any]) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                requests[request["id"]] = (request["method"], request["params"])
                self.asked[request["method"]] += 1
                swallow = self.swallowed.get(request["method"])
                if swallow is None:
                    upstream.sendall(line)
                else:
                    client.sendall(_answer(request["id"], lambda: swallow(request["params"])))  # noqa: B023
        with contextlib.suppress(OSError):
            upstream.shutdown(socket.SHUT_RDWR)

    def _answer(self, client: socket.socket, upstream: socket.socket, requests: dict[int, Any]) -> None:
        with client, upstream, contextlib.suppress(OSError), upstream.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                method, parameters = requests.get(message.get("id"), (None, []))
                harm = self.harms.get(method) if method else None
                if harm is not None:
                    harm(client, line)
                    continue
                with contextlib.suppress(Silence):
                    client.sendall(self._altered(message, line, method, parameters))

    def _altered(
        self, message: dict[str, Any], line: bytes, method: str | None, parameters: list[Any]
    ) -> bytes:
        lie = self.lies.get(method) if method else None
        if lie is None or message.get("error") is not None:
            return line
        return _answer(message["id"], lambda: lie(parameters, message["result"]))


def _answer(number: int, tell: Callable[[], Any]) -> bytes:
    """A line with what is told, or with the error that it raises."""
    try:
        told = {"result": tell()}
    except Refuse as refusal:
        told = {"error": {"code": 1, "message": str(refusal)}}
    return json.dumps({"jsonrpc": "2.0", "id": number, **told}).encode() + b"\n"


@contextmanager
def lying(port: int) -> Iterator[Liar]:
    """The server, and its end."""
    server = Liar(port)
    try:
        yield server
    finally:
        server.close()
