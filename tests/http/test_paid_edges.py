"""The middleware where two things meet: keys and kept answers, openings and other challenges, HEAD and bodies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.party import SHORT, Pair
from support.web.house import FIRST, PRICE, House
from support.web.raw import RawPayer, challenges_of, receipt_of

from mpchan.errors import ChainError, MpchanError, StorageError
from mpchan.http.server.answers import problem_of
from mpchan.http.server.challenges import CHALLENGE_SECONDS, OFFER_SECONDS
from mpchan.http.server.kept import MOST_BYTES, MOST_BYTES_EACH, Kept, KeptAnswers
from mpchan.http.server.prices import Asked, Price
from mpchan.party.register.asks import Ask, Signed
from mpchan.wallet.wallet import Wallet


def test_a_key_of_the_clients_is_none_that_lasts(pair: Pair, chain_directory: Path) -> None:
    """Neither what was paid under it nor the answer that is kept."""

    def price(asked: Asked) -> Price:
        return Price(PRICE, terms=SHORT, lasting="piece-0" if asked.path == "/piece" else None)

    house = House(pair, chain_directory, price)

    async def story() -> None:
        payer = await house.opened()
        house.service.body = b"the piece"
        piece = payer.headers(payer.voucher(FIRST + PRICE))
        assert (await house.web.get("/piece", headers=piece)).text == "the piece"
        house.service.body = b"another"
        other = payer.headers(payer.voucher(FIRST + 2 * PRICE), "piece-0")
        response = await house.web.get("/", headers=other)
        assert (response.status_code, response.text) == (200, "another")
        total = payer.headers(payer.voucher(FIRST + 2 * PRICE))
        again = await house.web.get("/piece", headers=total)
        assert (again.text, receipt_of(again).spent, len(house.service.served)) == ("the piece", 2 * PRICE, 2)

    asyncio.run(story())
    house.close()


def test_a_request_that_comes_again_while_it_is_served(house: House) -> None:
    async def story() -> None:
        payer = await house.opened()
        began, go = house.holding()
        headers = payer.headers(payer.voucher(FIRST + PRICE), "one")
        asking = asyncio.create_task(house.web.get("/", headers=headers))
        await began.wait()
        early = await house.web.get("/", headers=headers)
        assert (early.status_code, early.json()["slug"]) == (409, "request-in-flight")
        assert early.headers["retry-after"] == "1"
        go.set()
        assert (await asking).status_code == 200
        late = await house.web.get("/", headers=headers)
        assert (late.status_code, receipt_of(late).spent, len(house.service.served)) == (200, PRICE, 1)

    asyncio.run(story())


def test_two_keys_are_none_and_quotes_are_no_part_of_one(house: House) -> None:
    async def story() -> None:
        payer = await house.opened()
        headers = payer.headers(payer.voucher(FIRST + PRICE))
        two = [*headers.items(), ("idempotency-key", "a"), ("idempotency-key", "b")]
        response = await house.web.get("/", headers=two)
        assert (response.status_code, response.json()["slug"]) == (400, "malformed-key")
        for key in ('"a"', "a"):
            response = await house.web.get("/", headers={**headers, "idempotency-key": key})
            assert response.status_code == 200
        assert len(house.service.served) == 1

    asyncio.run(story())


def test_receipt_and_caching_are_the_servers(house: House) -> None:
    """What the application says of either is dropped."""

    async def story() -> None:
        payer = await house.opened()
        headers = payer.headers(payer.voucher(FIRST + PRICE))
        said = {"x-answer-payment-receipt": "forged", "x-answer-cache-control": "public, max-age=60"}
        response = await house.web.get("/", headers={**headers, **said})
        assert response.headers.get_list("payment-receipt") == [response.headers["payment-receipt"]]
        assert receipt_of(response).spent == PRICE
        assert response.headers.get_list("cache-control") == ["private"]
        house.service.status = 500
        headers = payer.headers(payer.voucher(FIRST + 2 * PRICE))
        failed = await house.web.get("/", headers={**headers, **said})
        assert (failed.status_code, "payment-receipt" in failed.headers) == (500, False)

    asyncio.run(story())


def test_an_opening_goes_on_as_long_as_its_offer(house: House) -> None:
    """A funding may take longer than the hour of a challenge."""

    async def story() -> None:
        _, headers = await house.opening()
        challenges = house.app.cashier.challenges
        clock = challenges._clock
        house.pair.chain.mine(1)
        for after, slug in ((OFFER_SECONDS + 60, "challenge-expired"), (CHALLENGE_SECONDS + 60, None)):
            challenges._clock = lambda after=after: clock() + after  # type: ignore[misc]
            response = await house.web.head("/", headers=headers)
            while slug is None and "retry-after" in response.headers:
                response = await house.web.head("/", headers=headers)
            assert response.status_code == (200 if slug is None else 402)
            if slug is not None:
                assert (await house.web.get("/", headers=headers)).json()["slug"] == slug

    asyncio.run(story())


def test_a_channel_is_opened_under_the_offer_of_its_challenge(house: House) -> None:
    async def story() -> None:
        payer = await house.payer()
        other = RawPayer(house.pair, challenges_of(await house.web.get("/"))[0])
        asked = payer.prepare(100_000)
        if asked is not None:
            response = await house.web.get("/", headers=other.headers(asked))
            assert (response.status_code, response.json()["slug"]) == (402, "other-offer")
            assert "psbt" not in response.json()
            before = house.pair.files()
            bare = await house.web.head("/", headers=payer.headers(asked))
            assert bare.status_code == 402
            assert house.pair.files() == before
            payer.fund((await house.web.get("/", headers=payer.headers(asked))).json())
        opening = payer.opening(FIRST)
        house.pair.chain.mine(1)
        response = await house.web.get("/", headers=other.headers(opening))
        assert (response.status_code, response.json()["slug"]) == (402, "other-offer")

    asyncio.run(story())


def test_refunds_for_one_source_have_a_bound(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each makes a channel, whose terms are kept nowhere else; one that is opened makes room for the next one."""
    monkeypatch.setattr("mpchan.http.server.desk.MOST_OF_ONE", 1)

    async def story() -> None:
        first, second = await house.payer(), await house.payer()
        asked = first.prepare(100_000)
        if asked is None:
            return
        signed = await house.web.get("/", headers=first.headers(asked))
        assert signed.json()["slug"] == "refund-signed"
        again = await house.web.get("/", headers=first.headers(asked))
        assert again.json()["psbt"] == signed.json()["psbt"]
        first.fund(signed.json())
        house.pair.chain.mine(1)
        next_asked = second.prepare(100_000)
        assert next_asked is not None
        before = house.pair.files()
        refused = await house.web.get("/", headers=second.headers(next_asked))
        assert (refused.status_code, refused.json()["slug"]) == (402, "too-many-offers")
        assert refused.headers["retry-after"] == "60"
        assert house.pair.files() == before
        opening = first.headers(first.opening(FIRST))
        assert (await house.web.head("/", headers=opening)).status_code == 200
        admitted = await house.web.get("/", headers=second.headers(next_asked))
        assert admitted.json()["slug"] == "refund-signed"

    asyncio.run(story())


def test_a_request_that_nobody_waits_for_any_more_costs_nothing(house: House) -> None:
    async def story() -> None:
        payer = await house.opened()
        signed = payer.signed(FIRST + PRICE)
        ask = Ask(payer.name, Signed(signed.total, signed.number, signed.signature), PRICE, "one")
        waiting = asyncio.create_task(house.app.cashier.ask(ask))
        await asyncio.sleep(0)  # it asks
        waiting.cancel()
        await house.account(payer)  # by then the verdict was there, and nobody took it
        account = await house.account(payer)
        assert (account.accepted, account.spent, account.reserved) == (FIRST + PRICE, 0, ())

    asyncio.run(story())


@pytest.mark.parametrize("knows", [True, False])
def test_the_end_of_the_server_lets_the_wallet_go(house: House, knows: bool) -> None:
    """Whether or not the application has anything to do then."""

    async def knowing(scope: Any, receive: Any, send: Any) -> None:
        for part in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{part}"
            await send({"type": f"lifespan.{part}.complete"})

    async def story() -> None:
        if knows:
            house.app._app = knowing
        said: list[str] = []
        heard = iter(("lifespan.startup", "lifespan.shutdown"))

        async def receive() -> Any:
            return {"type": next(heard)}

        async def send(message: Any) -> None:
            said.append(message["type"])

        await house.app({"type": "lifespan"}, receive, send)
        assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        house.start()
        assert (await house.web.get("/")).status_code == 402

    asyncio.run(story())


@pytest.mark.parametrize(
    "error", [StorageError("disk-full", "/home/me/x"), ChainError("no-node", "10.0.0.7:8332")]
)
def test_strangers_learn_nothing_of_our_disk_and_node(error: MpchanError) -> None:
    problem, seconds = problem_of(error)
    assert (problem.slug, problem.status, seconds) == ("seller-busy", 503, 5)
    assert error.message not in problem.body().decode()


def test_kept_answers_have_bounds() -> None:
    kept, body = KeptAnswers(), b"x" * MOST_BYTES_EACH
    most = MOST_BYTES // MOST_BYTES_EACH
    for number in range(most + 10):
        kept.keep("channel", str(number), Kept(200, (), body))
    held = [number for number in range(most + 10) if kept.find("channel", str(number)) is not None]
    assert len(held) * MOST_BYTES_EACH <= MOST_BYTES
    assert held == list(range(most + 10 - len(held), most + 10))
    assert len(held) > most - 10
    kept.keep("channel", "large", Kept(200, (), body + b"x"))
    assert kept.find("channel", "large") is None
    assert kept.find("other", str(most)) is None


def test_what_has_ended_is_written_down_without_another_request(house: House) -> None:
    """Else a server that is killed an hour later would count as served what it has dropped."""

    async def story() -> None:
        payer = await house.opened()
        house.service.status = 500
        assert (
            await house.web.get("/", headers=payer.headers(payer.voucher(FIRST + PRICE)))
        ).status_code == 500
        for _ in range(200):
            account = house.pair.payee_record(payer.name).account
            assert account is not None
            if not account.reserved:
                break
            await asyncio.sleep(0.05)
        assert account is not None
        assert (account.spent, account.reserved) == (0, ())

    asyncio.run(story())


def test_a_server_that_starts_again_and_again_hands_out_one_address(house: House) -> None:
    """Addresses that nothing was paid to would end the search of a wallet that is restored from its words."""

    async def story() -> None:
        addresses = set()
        for _ in range(5):
            payer = await house.payer()
            addresses.add(payer.request.recipient)
            house.close()
            house.start()
        assert len(addresses) == 1
        before = next_receive(house)
        payer = await house.opened()
        assert payer.request.recipient in addresses
        assert next_receive(house) == before + 1
        house.close()
        house.start()
        assert (await house.payer()).request.recipient not in addresses

    asyncio.run(story())


def next_receive(house: House) -> int:
    """The next index of the payee's receiving addresses."""
    return Wallet.open(house.pair.payee.directory).keys.next_index("receive")


def test_a_cashier_that_has_failed_says_so(house: House) -> None:
    async def story() -> None:
        await house.web.get("/")
        failure = RuntimeError("broken")

        def broken(*_: object) -> None:
            raise failure

        await house.app.cashier.do(lambda desk: setattr(desk.register, "flush", broken))
        await house.app.cashier.do(lambda desk: desk.register._outcomes.setdefault("x", []))
        while house.app.cashier.failure is None:
            await asyncio.sleep(0.05)
        assert house.app.cashier.failure is failure

    asyncio.run(story())


def test_a_request_whose_connection_ends_as_it_is_granted(house: House) -> None:
    """It is not served, and what was reserved for it pays for others."""

    async def story() -> None:
        payer = await house.opened()
        cashier = house.app.cashier
        hand_over = cashier._hand_over
        headers = payer.headers(payer.voucher(FIRST + PRICE))
        asking = asyncio.create_task(house.web.get("/", headers=headers))

        def granted(judged: Any) -> None:
            hand_over(judged)
            asking.cancel()

        cashier._hand_over = granted  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await asking
        cashier._hand_over = hand_over  # type: ignore[method-assign]
        account = await house.account(payer)
        assert (account.spent, account.reserved, house.service.served) == (0, (), [])

    asyncio.run(story())
