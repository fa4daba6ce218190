"""Programs that ask a server with one payer's wallet, and what comes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpchan.chain.embedded import EmbeddedChain
from mpchan.http.client.blocking import Client, Response
from mpchan.http.client.purse import Purse
from mpchan.http.server.paid import Paid
from mpchan.http.server.prices import Asked, Price
from mpchan.values import replace
from support.party import SHORT, Pair
from support.web.served import served


class Service:
    """Says hello; what it was asked is kept."""

    def __init__(self) -> None:
        self.served: list[Any] = []
        self.status = 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        message = await receive()
        self.served.append(scope.get("mpchan"))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"hello " + message["body"]})


Given = tuple[int, list[tuple[str, str]], bytes]
"""An answer: status, headers by lower-case name, body."""

Change = Callable[[Any, Given], Given]
"""What a server says in the place of an honest one: of the request's scope and the honest answer."""


class Between:
    """An application whose answers are changed on their way.

    Attributes:
        change: None for honest answers.
        asked: the headers of every request, by lower-case name.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.change: Change | None = None
        self.asked: list[dict[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.asked.append({name.decode(): value.decode() for name, value in scope["headers"]})
        status, headers, body = 0, [], b""

        async def take(message: Any) -> None:
            nonlocal status, headers, body
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(name.decode().lower(), value.decode()) for name, value in message["headers"]]
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, take)
        if self.change is not None:
            status, headers, body = self.change(scope, (status, headers, body))
        sent = [(name.encode(), value.encode()) for name, value in headers if name != "content-length"]
        if scope["method"] != "HEAD":
            sent.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class Both:
    """A server, and programs that ask it with one wallet.

    Attributes:
        url: of the server, with its pin.
        chain_directory: of the embedded chain.
        between: what comes between the server and its clients.
    """

    def __init__(
        self, pair: Pair, chain_directory: Path, url: str, service: Service, between: Between
    ) -> None:
        self.pair = pair
        self.url = url
        self.service = service
        self.between = between
        self.chain_directory = chain_directory
        self._chain = lambda wallet: EmbeddedChain(chain_directory)
        self.waits = 0

    def purse(self, **options: Any) -> Purse:
        options = {"deposit": 50_000, **options}
        return Purse(self.pair.payer.directory, chain=self._chain, **options)

    def client(self, purse: Purse) -> Client:
        return Client(purse, wait=self.wait)

    def wait(self, seconds: float) -> None:
        """Blocks come while a client waits."""
        self.waits += 1
        self.pair.chain.mine(1)

    def record(self) -> Any:
        """The payer's only channel."""
        [record] = self.records()
        return record

    def records(self) -> list[Any]:
        return list(self.pair.payer.channels.readable())


@contextmanager
def buying(
    directory: Path, chain_directory: Path, scheme: str, price: int | Price | Callable[[Asked], int | None]
) -> Iterator[Both]:
    """A service that is paid in channels of one construction, and a payer's wallet."""

    def price_of(asked: Asked) -> Price | None:
        found = price(asked) if callable(price) else price
        if found is None:
            return None
        return Price(found, terms=SHORT) if isinstance(found, int) else replace(found, terms=SHORT)

    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(directory, chain, scheme=scheme)
        service = Service()
        between = Between(
            Paid(
                service,
                pair.payee.directory,
                price_of,
                schemes=(scheme,),
                chain=lambda wallet: EmbeddedChain(chain_directory),
            )
        )
        with served(between, directory / "payee") as url:
            yield Both(pair, chain_directory, url, service, between)


def text(response: Response) -> str:
    found = response.raw.read().decode()
    response.release()
    return found
