"""The middleware: what is answered to each request, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.party import SHORT, Pair
from support.web.raw import RawPayer, challenges_of, receipt_of

from mpchan.chain.embedded import EmbeddedChain
from mpchan.http.server.paid import Paid
from mpchan.http.server.prices import Price

ORIGIN = "https://shop.example"
FIRST = 1_000


async def service(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked, and how it was paid; a path says what it answers."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    service.served.append((scope["method"], scope["path"], body, scope.get("mpchan")))  # type: ignore[attr-defined]
    headers = [(b"content-type", b"text/plain")]
    for name, value in scope["headers"]:
        if name.startswith(b"x-answer-"):
            headers.append((name.removeprefix(b"x-answer-"), value))
    status = int(scope["path"].removeprefix("/status/")) if scope["path"].startswith("/status/") else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello " + body})


class House:
    """The middleware in front of that service, and who asks it."""

    def __init__(self, pair: Pair, chain_directory: Path, **options: Any) -> None:
        self.pair = pair
        service.served = []  # type: ignore[attr-defined]
        self.app = Paid(
            service,
            pair.payee,
            options.pop("price", Price(10, terms=SHORT)),
            realm="shop",
            schemes=(pair.scheme["scheme"],),
            chain=lambda wallet: EmbeddedChain(chain_directory),
            **options,
        )
        self.web = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url=ORIGIN)

    @property
    def served(self) -> list[Any]:
        return service.served  # type: ignore[attr-defined,no-any-return]

    async def payer(self, path: str = "/") -> RawPayer:
        """A payer that was asked to pay."""
        response = await self.web.get(path)
        assert response.status_code == 402
        [challenge] = challenges_of(response)
        return RawPayer(self.pair, challenge)

    async def opened(self, path: str = "/") -> RawPayer:
        """A payer with a channel, whose first total is all left."""
        payer = await self.payer(path)
        asked = payer.prepare(100_000)
        if asked is not None:
            response = await self.web.get(path, headers=payer.headers(asked))
            assert response.status_code == 402, response.text
            payer.fund(response.json())
        opening = payer.headers(payer.opening(FIRST))
        response = await self.web.head(path, headers=opening)
        assert (response.status_code, response.headers["retry-after"]) == (402, "2")
        self.pair.chain.mine(1)
        while "retry-after" in response.headers:  # what the chain has said is believed for a moment
            response = await self.web.head(path, headers=opening)
        assert response.status_code == 200
        assert (receipt_of(response).accepted, receipt_of(response).spent) == (FIRST, 0)
        return payer

    def close(self) -> None:
        self.app.cashier.close()


@pytest.fixture(params=("decrementing", "taproot"))
def pair(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme=request.param)


@pytest.fixture
def house(pair: Pair, chain_directory: Path) -> Iterator[House]:
    found = House(pair, chain_directory)
    yield found
    found.close()


def test_who_has_not_paid_is_told_what_it_costs(house: House) -> None:
    async def story() -> None:
        response = await house.web.get("/")
        assert response.status_code == 402
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["slug"] == "payment-required"
        [challenge] = challenges_of(response)
        assert (challenge.realm, challenge.method, challenge.intent) == ("shop", "bitcoin", "session")
        assert challenge.expires is not None
        assert house.served == []

    asyncio.run(story())


def test_requests_are_paid_one_by_one_and_the_channel_is_closed_at_what_was_spent(house: House) -> None:
    async def story() -> None:
        payer = await house.opened()
        for count in range(1, 4):
            headers = payer.headers(payer.voucher(FIRST + 10 * count))
            response = await house.web.post("/x", content=b"you", headers=headers)
            assert (response.status_code, response.text) == (200, "hello you")
            assert response.headers["cache-control"] == "private"
            receipt = receipt_of(response)
            assert (receipt.accepted, receipt.spent) == (FIRST + 10 * count, 10 * count)
        assert len(house.served) == 3
        paying = house.served[-1][3]
        assert (paying.channel, paying.amount, paying.spent) == (payer.channel, 10, 20)

    asyncio.run(story())
