"""The scheme's SDK, which we did not write, drives our method through its own plug-in points: both sides of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support.party import SHORT, Pair
from support.web.served import served

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import MpchanError, NotPossible
from mpchan.http.certificates import own_certificate
from mpchan.http.client.blocking import Client
from mpchan.http.client.plug_in import PlugIn
from mpchan.http.client.purse import Purse
from mpchan.http.server.paid import Paid
from mpchan.http.server.prices import Asked, Price
from mpchan.http.wire import credential as wire
from mpchan.http.wire.challenge import challenges_in
from mpchan.http.wire.encoding import object_in, to_text
from mpchan.http.wire.receipt import Receipt
from mpchan.party.register.asks import Ask, Reserved, Signed
from mpchan.units import Amount, OutPoint

mpp: Any = pytest.importorskip("mpp", reason="the SDK needs CPython 3.11")
for part in ("errors", "methods", "runtime", "client.transport", "server", "server.http", "server.method"):
    import_module(f"mpp.{part}")

import httpx  # noqa: E402  # the SDK's own
import pydantic  # noqa: E402

PRICE = 1_000
SCHEMES = ("decrementing", "taproot")


class Anything(pydantic.BaseModel):
    """Our module reads it, not the SDK's."""

    model_config = pydantic.ConfigDict(extra="allow")


METHOD = mpp.methods.Method(name="bitcoin", intent="session", request_model=Anything, payload_model=Anything)


@pytest.fixture(params=SCHEMES)
def pair(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme=request.param)


class Shop:
    """Our server over TLS, and the wallets of both."""

    def __init__(
        self, pair: Pair, chain_directory: Path, url: str, certificate: Path, asked: list[Any]
    ) -> None:
        self.pair = pair
        self.url = url.partition("#")[0]
        self.pinned = url
        self.asked = asked
        self._chain_directory = chain_directory
        self._certificate = certificate

    def purse(self) -> Purse:
        return Purse(
            self.pair.payer.directory,
            chain=lambda wallet: EmbeddedChain(self._chain_directory),
            deposit=50_000,
        )

    def transport(self) -> httpx.AsyncHTTPTransport:
        """Theirs, which trusts our certificate."""
        context = ssl.create_default_context(cafile=str(self._certificate))
        context.check_hostname = False
        return httpx.AsyncHTTPTransport(verify=context)

    def open_with(self, purse: Purse) -> None:
        """Open a channel by our own client, and pay one request in it."""

        def wait(seconds: float) -> None:
            self.pair.chain.mine(1)

        with Client(purse, wait=wait) as client:
            response = client.request("GET", self.pinned)
            assert response.status == 200
            response.release()

    @property
    def record(self) -> Any:
        [record] = self.pair.payer.channels.readable()
        return record


@pytest.fixture
def shop(pair: Pair, tmp_path: Path, chain_directory: Path) -> Iterator[Shop]:
    asked: list[Any] = []

    async def service(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        asked.append(scope["mpchan"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    app = Paid(
        service,
        pair.payee.directory,
        Price(PRICE, terms=SHORT),
        schemes=(pair.scheme["scheme"],),
        chain=lambda wallet: EmbeddedChain(chain_directory),
    )
    with served(app, tmp_path / "payee") as url:
        yield Shop(pair, chain_directory, url, own_certificate(tmp_path / "payee").path, asked)


class Watched(httpx.AsyncBaseTransport):
    """What goes over the wire, noted."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.sent: list[str | None] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request.headers.get("authorization"))
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def their_client(plug: PlugIn, wire: Watched) -> httpx.AsyncClient:
    """The SDK's client with our method in it."""

    async def create(params: Any) -> str:
        header = params.challenge.to_www_authenticate(params.challenge.realm)
        return await asyncio.to_thread(plug.credential, header)

    def ended(payload: Any) -> None:
        plug.ended(payload["challenge"].id, payload["response"].headers.get("payment-receipt"))

    method = mpp.runtime.ClientMethod(
        method=METHOD,
        create_credential=create,
        can_handle_challenge=lambda challenge: plug.can_pay(challenge.to_www_authenticate(challenge.realm)),
    )
    transport = mpp.client.transport.PaymentTransport(methods=[method], inner=wire)
    transport.on_payment_response(ended)
    return httpx.AsyncClient(transport=transport)


def test_their_client_pays_our_server(shop: Shop) -> None:
    """From 402 to receipt. The opening takes a block, which the SDK does not wait for: it asks three times at once."""
    with shop.purse() as purse:
        plug = PlugIn(purse, shop.url)
        opens = shop.pair.scheme["scheme"] == "taproot"
        if not opens:
            shop.open_with(purse)
        before = len(shop.asked)

        async def story() -> None:
            watched = Watched(shop.transport())
            async with their_client(plug, watched) as web:
                if opens:
                    response = await web.get(shop.url, headers={"idempotency-key": "first"})
                    assert response.status_code == 402
                    none, *credentials = watched.sent
                    assert none is None
                    assert len(credentials) == 3
                    assert (
                        len({str(wire.Credential.from_header(each or "").payload) for each in credentials})
                        == 1
                    )
                    assert shop.record.updates == 1
                    shop.pair.chain.mine(1)
                    while response.status_code == 402:  # what the chain has said is believed for a moment
                        response = await web.get(shop.url, headers={"idempotency-key": "first"})
                    assert response.text == "hello"
                for count in range(4):
                    headers = {"idempotency-key": f"request {count}"}
                    response = await web.post(shop.url, content=b"x", headers=headers)
                    assert (response.status_code, response.text) == (200, "hello")
                    receipt = Receipt.from_header(response.headers["payment-receipt"])
                    assert receipt.spent == PRICE * (count + 2)

        asyncio.run(story())
    assert len(shop.asked) - before == (5 if opens else 4)
    assert shop.record.spent == Amount(5 * PRICE)
    assert shop.record.paid.sat == max(5 * PRICE, shop.record.terms.payee_dust.sat)


async def their_challenge(shop: Shop) -> str:
    async with httpx.AsyncClient(transport=shop.transport()) as web:
        return str((await web.get(shop.url)).headers["www-authenticate"])


def test_asked_three_times_for_one_challenge_it_signs_once(shop: Shop) -> None:
    """Another challenge is another request, and another total."""
    with shop.purse() as purse:
        shop.open_with(purse)
        plug = PlugIn(purse, shop.url)
        for count in range(2, 4):
            header = asyncio.run(their_challenge(shop))
            [text] = {plug.credential(header) for _ in range(3)}
            payload = wire.Credential.from_header(text).payload
            assert isinstance(payload, wire.Voucher)
            assert payload.signed.total == shop.record.paid.sat == count * PRICE


def test_a_request_without_an_end_is_asked_for_again(shop: Shop) -> None:
    """What was signed for it is not signed a second time."""
    with shop.purse() as purse:
        shop.open_with(purse)
        plug = PlugIn(purse, shop.url)
        [first] = challenges_in([asyncio.run(their_challenge(shop))])
        plug.credential(first.header())
        assert plug.ended(first.id, None) is None
        assert plug.ended(first.id, None) is None
        plug.credential(asyncio.run(their_challenge(shop)))
        assert shop.record.paid.sat == 2 * PRICE
        assert not plug.can_pay('Payment id="x", realm="a", method="other", intent="session", request="e30"')


def test_a_total_that_was_overtaken_is_raised_to_the_one_before(shop: Shop) -> None:
    """The server shows what it has; nothing more is signed than the two requests cost."""
    with shop.purse() as purse:
        shop.open_with(purse)
        plug = PlugIn(purse, shop.url)

        async def story() -> None:
            async with httpx.AsyncClient(transport=shop.transport()) as web:

                async def send(header: str, key: str) -> httpx.Response:
                    credential = await asyncio.to_thread(plug.credential, header)
                    headers = {"authorization": credential, "idempotency-key": key}
                    return await web.get(shop.url, headers=headers)

                slow, fast = [await their_challenge(shop) for _ in range(2)]
                await asyncio.to_thread(plug.credential, slow)
                response = await send(fast, "fast")
                assert response.status_code == 200
                plug.ended(challenges_in([fast])[0].id, response.headers["payment-receipt"])
                response = await send(slow, "slow")
                assert response.status_code == 402
                response = await send(response.headers["www-authenticate"], "slow")
                assert response.status_code == 200
                assert Receipt.from_header(response.headers["payment-receipt"]).spent == 3 * PRICE

        asyncio.run(story())
        assert shop.record.paid.sat == 3 * PRICE


def test_a_channel_that_takes_an_exchange_is_opened_elsewhere(shop: Shop) -> None:
    """One that takes none is opened by the plug-in."""
    with shop.purse() as purse:
        plug = PlugIn(purse, shop.url)
        header = asyncio.run(their_challenge(shop))
        if shop.pair.scheme["scheme"] == "taproot":
            assert isinstance(wire.Credential.from_header(plug.credential(header)).payload, wire.Open)
            return
        with pytest.raises(NotPossible) as error:
            plug.credential(header)
        assert error.value.slug == "exchange-needed"
        shop.open_with(purse)  # goes on with what was begun
        assert plug.credential(asyncio.run(their_challenge(shop)))
    assert len(shop.asked) == 1


# their server -------------------------------------------------------------------------------------


class TheirShop:
    """The SDK's server, which takes our method: what it verifies is judged by our cashier."""

    def __init__(self, cashier: Any, request: dict[str, Any]) -> None:
        self._cashier = cashier
        method = mpp.server.method.ServerMethod(method=METHOD, verify=self._verify)
        self._engine = mpp.server.Mpp(methods=method, realm="theirs", secret_key="s" * 32)
        self._handler = self._engine["bitcoin/session"](**request)

    async def _verify(self, context: Any) -> Any:
        text = to_text({"challenge": _NO_CHALLENGE, "payload": context.credential.payload.model_dump()})
        payload = wire.Credential.from_header(f"Payment {text}").payload
        assert isinstance(payload, wire.Voucher)
        signed = Signed(payload.signed.total, payload.signed.number, payload.signed.signature)
        name = OutPoint.parse(payload.channel).name
        verdict = await self._cashier.ask(Ask(name, signed, PRICE, context.challenge.id))
        if not isinstance(verdict, Reserved):
            raise mpp.errors.VerificationFailedError(
                verdict.slug if isinstance(verdict, MpchanError) else type(verdict).__name__
            )
        spent = self._cashier.end(name, context.challenge.id, PRICE)
        standing = verdict.standing
        receipt = Receipt(
            *(context.challenge.id, payload.channel, standing.accepted, max(spent, standing.spent)),
            datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        ).to_table()
        known = {name: receipt.pop(name) for name in ("status", "reference", "method")}
        del receipt["timestamp"]
        return mpp.Receipt(timestamp=datetime.now(timezone.utc), extensions=receipt, **known)

    async def __call__(self, authorization: str | None) -> Any:
        headers = {} if authorization is None else {"authorization": authorization}
        request = mpp.server.http.Request("GET", "https://theirs.example/", headers)
        result = await self._handler(request)
        if result.status != 200:
            return result.challenge
        return result.with_receipt(mpp.server.http.Response.json({"hello": "you"}))


_NO_CHALLENGE = {
    "id": "x",
    "realm": "theirs",
    "method": "bitcoin",
    "intent": "session",
    "request": to_text({}),
}


def test_their_server_is_paid_by_our_client(pair: Pair, chain_directory: Path) -> None:
    """The channel was opened with our own server, under whose offer it stands."""
    from test_paid import FIRST, House

    house = House(pair, chain_directory)

    async def story() -> None:
        payer = await house.opened()
        price = Price(PRICE, terms=SHORT)
        [ours] = await house.app.cashier.do(lambda desk: desk.challenges.make(Asked("GET", "/"), price))
        theirs = TheirShop(house.app.cashier, object_in(ours.request))
        response = await theirs(None)
        assert response.status == 402
        [challenge] = challenges_in([response.headers["www-authenticate"]])
        assert (challenge.realm, challenge.method, challenge.intent) == ("theirs", "bitcoin", "session")
        payer.challenge = challenge
        spent = 0
        for count in range(1, 4):
            response = await theirs(payer.headers(payer.voucher(FIRST + PRICE * count))["authorization"])
            assert response.status == 200, response.body
            receipt = Receipt.from_header(response.headers["payment-receipt"])
            assert receipt.accepted == FIRST + PRICE * count
            assert receipt.spent > spent
            spent = receipt.spent
            [challenge] = challenges_in([(await theirs(None)).headers["www-authenticate"]])
            payer.challenge = challenge
        response = await theirs(payer.headers(payer.voucher(FIRST + PRICE))["authorization"])
        assert response.status == 402  # a total that was signed before
        assert "payment-receipt" not in response.headers
        forged = payer.voucher(FIRST + PRICE * 9)
        stranger = wire.Voucher(
            forged.channel, wire.Signed(FIRST + 999, forged.signed.number, forged.signed.signature)
        )
        assert (await theirs(payer.headers(stranger)["authorization"])).status == 402

    try:
        asyncio.run(story())
    finally:
        house.close()
