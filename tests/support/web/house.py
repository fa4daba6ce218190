"""A service behind the middleware, in this process, and who asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2

from mpchan.chain.embedded import EmbeddedChain
from mpchan.http.server.paid import Paid
from mpchan.http.server.prices import Price
from mpchan.wallet.account import Account
from support.party import SHORT, Pair
from support.web.raw import RawPayer, challenges_of, receipt_of

ORIGIN = "https://shop.example"
PRICE = 10
FIRST = 1_000


class Service:
    """Says hello. Headers ``x-answer-NAME`` of a request are headers of its answer.

    Attributes:
        served: of each request method, path, body and how it was paid.
        status: of the answers.
        breaks: where an answer breaks off: ``before`` its head, ``within`` its body, or nowhere.
    """

    def __init__(self) -> None:
        self.served: list[Any] = []
        self.status = 200
        self.breaks = ""
        self.body = b"hello "
        self.seen_headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.served.append((scope["method"], scope["path"], body, scope.get("mpchan")))
        self.seen_headers = scope["headers"]
        if self.breaks == "before":
            raise ConnectionError("before the head")
        headers = [
            (name.removeprefix(b"x-answer-"), value)
            for name, value in scope["headers"]
            if name.startswith(b"x-answer-")
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if self.breaks == "within":
            raise ConnectionError("within the body")
        await send({"type": "http.response.body", "body": body, "more_body": False})


class House:
    """The middleware in front of that service.

    Attributes:
        web: who asks.
    """

    def __init__(self, pair: Pair, chain_directory: Path, price: Any = None, **options: Any) -> None:
        self.pair = pair
        self.service = Service()
        self._chain_directory = chain_directory
        self._price = Price(PRICE, terms=SHORT) if price is None else price
        self._options = {"realm": "shop", "schemes": (pair.scheme["scheme"],), **options}
        self.start()

    def start(self) -> None:
        """A process that serves."""
        self.app = Paid(
            self.service,
            self.pair.payee.directory,
            self._price,
            chain=lambda wallet: EmbeddedChain(self._chain_directory),
            **self._options,
        )
        self.web = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app, raise_app_exceptions=False), base_url=ORIGIN
        )

    def close(self) -> None:
        """It ends."""
        self.app.cashier.close()

    def holding(self) -> tuple[asyncio.Event, asyncio.Event]:
        """The service waits from now on: the first is set when it has been asked, the second lets it answer."""
        asked, go = asyncio.Event(), asyncio.Event()

        async def held(scope: Any, receive: Any, send: Any) -> None:
            asked.set()
            await go.wait()
            await self.service(scope, receive, send)

        self.app._app = held
        return asked, go

    async def payer(self, path: str = "/") -> RawPayer:
        """A payer that was asked to pay."""
        response = await self.web.get(path)
        assert response.status_code == 402
        return RawPayer(self.pair, challenges_of(response)[0])

    async def opening(self, path: str = "/") -> tuple[RawPayer, dict[str, str]]:
        """A payer whose funding waits for a block, and what opens its channel."""
        payer = await self.payer(path)
        asked = payer.prepare(100_000)
        if asked is not None:
            response = await self.web.get(path, headers=payer.headers(asked))
            assert (response.status_code, response.json()["slug"]) == (402, "refund-signed")
            payer.fund(response.json())
        return payer, payer.headers(payer.opening(FIRST))

    async def opened(self, path: str = "/") -> RawPayer:
        """A payer with a channel, whose first total is all left."""
        payer, headers = await self.opening(path)
        response = await self.web.head(path, headers=headers)
        assert (response.status_code, response.headers["retry-after"]) == (402, "2")
        self.pair.chain.mine(1)
        while "retry-after" in response.headers:  # what the chain has said is believed for a moment
            response = await self.web.head(path, headers=headers)
        assert response.status_code == 200
        assert (receipt_of(response).accepted, receipt_of(response).spent) == (FIRST, 0)
        return payer

    async def account(self, payer: RawPayer) -> Account:
        """What the payee's books say on the disk, after all that has ended."""
        await self.app.cashier.do(lambda desk: desk.register.flush())
        account = self.pair.payee_record(payer.name).account
        assert account is not None
        return account


def told(story: Callable[[House], Awaitable[None]]) -> Callable[[House], None]:
    """A test that is a story of an event loop."""

    def test(house: House) -> None:
        asyncio.run(story(house))  # type: ignore[arg-type]

    test.__doc__, test.__name__ = story.__doc__, getattr(story, "__name__", "test")
    return test
