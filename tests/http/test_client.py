"""A client that pays, against a server that is paid: requests over TLS, whatever comes between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import SHORT, Pair
from support.web.served import served

from mpchan.chain.embedded import EmbeddedChain
from mpchan.http.client.blocking import Client, Response
from mpchan.http.client.purse import Purse
from mpchan.http.server.paid import Paid
from mpchan.http.server.prices import Price
from mpchan.units import Amount

PRICE = 10


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


class Both:
    """A server, and programs that ask it with one wallet."""

    def __init__(self, pair: Pair, chain_directory: Path, url: str, service: Service) -> None:
        self.pair = pair
        self.url = url
        self.service = service
        self._chain = lambda wallet: EmbeddedChain(chain_directory)
        self.waits = 0

    def purse(self, **options: Any) -> Purse:
        options = {"deposit": 50_000, **options}
        return Purse(self.pair.payer.directory, chain=self._chain, **options)

    def client(self, purse: Purse) -> Client:
        return Client(purse, wait=self._wait)

    def _wait(self, seconds: float) -> None:
        """Blocks come while a client waits."""
        self.waits += 1
        self.pair.chain.mine(1)

    def records(self) -> list[Any]:
        return list(self.pair.payer.channels.readable())


@pytest.fixture(params=("decrementing", "taproot"))
def both(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Both]:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, scheme=request.param)
        service = Service()
        app = Paid(
            service,
            pair.payee.directory,
            Price(PRICE, terms=SHORT),
            schemes=(request.param,),
            chain=lambda wallet: EmbeddedChain(chain_directory),
        )
        with served(app, tmp_path / "payee") as url:
            yield Both(pair, chain_directory, url, service)


def text(response: Response) -> str:
    found = response.raw.read().decode()
    response.release()
    return found


def test_a_first_request_opens_a_channel_and_the_next_ones_pay_in_it(both: Both) -> None:
    with both.purse() as purse, both.client(purse) as client:
        for count in range(1, 6):
            response = client.request("POST", both.url, body=b"%d" % count)
            assert (response.status, text(response)) == (200, f"hello {count}")
            assert response.receipt is not None
            assert response.receipt.spent == PRICE * count
    assert both.waits >= 1
    [record] = both.records()
    assert record.spent == Amount(5 * PRICE)
    assert [each.amount for each in both.service.served] == [PRICE] * 5


def test_another_process_goes_on_with_the_channel(both: Both) -> None:
    for _ in range(3):
        with both.purse() as purse, both.client(purse) as client:
            assert text(client.request("GET", both.url)) == "hello "
    [record] = both.records()
    assert record.spent == Amount(3 * PRICE)
    assert record.paid.sat <= max(3 * PRICE, record.terms.payee_dust.sat)


def test_a_channel_is_closed_at_what_was_charged(both: Both) -> None:
    """What was signed in advance and never used comes back; and the wallets' files fit."""
    with both.purse() as purse, both.client(purse) as client:
        for _ in range(3):
            text(client.request("GET", both.url))
        closed = client.close_channel(both.url)
    [record] = both.records()
    dust = record.terms.payee_dust.sat
    assert (closed.spent, closed.returned) == (dust, record.terms.capacity.sat - dust)
    assert closed.channel == record.terms.channel_id
    both.pair.chain.mine(1)
    [coin] = both.pair.chain.coins([record.terms.offer.payee_script])
    assert (str(coin.outpoint.txid), coin.output.value) == (closed.txid, Amount(dust))
