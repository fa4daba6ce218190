"""The middleware: what is answered to each request, and what it costs (draft-httpauth-payment; the guide's table)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.party import SHORT, Pair
from support.web.house import FIRST, ORIGIN, PRICE, House, told
from support.web.raw import challenges_of, receipt_of

from mpchan.http.server import exchange
from mpchan.http.server.prices import Price
from mpchan.http.server.serving import Paying
from mpchan.http.wire.session import SessionRequest
from mpchan.units import Amount
from mpchan.wallet.account import Account


def snapshot_of(response: Any) -> Any:
    """Where the server says that the channel stands; None where it says nothing."""
    return SessionRequest.decode(challenges_of(response)[0].request).snapshot


# who has not paid ---------------------------------------------------------------------------------


@told
async def test_who_has_not_paid_is_told_what_it_costs(house: House) -> None:
    response = await house.web.get("/")
    assert response.status_code == 402
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["slug"] == "payment-required"
    [challenge] = challenges_of(response)
    assert (challenge.realm, challenge.method, challenge.intent) == ("shop", "bitcoin", "session")
    assert challenge.expires is not None
    assert house.service.served == []


@told
async def test_every_challenge_has_an_offer_of_its_own_and_nothing_is_kept_of_it(house: House) -> None:
    await house.web.get("/")
    before = house.pair.files()
    offers = set()
    for _ in range(20):
        [challenge] = challenges_of(await house.web.get("/"))
        offers.add(SessionRequest.decode(challenge.request).offer.offer_id)
    assert len(offers) == 20
    assert house.pair.files() == before


def test_a_free_request_gets_no_challenge_and_no_price(pair: Pair, chain_directory: Path) -> None:
    house = House(pair, chain_directory, lambda asked: None if asked.path == "/free" else PRICE)

    async def story() -> None:
        response = await house.web.get("/free")
        assert (response.status_code, response.text) == (200, "hello ")
        assert "payment-receipt" not in response.headers
        assert house.service.served[-1][3] is None
        assert (await house.web.get("/")).status_code == 402

    asyncio.run(story())
    house.close()


def test_both_constructions_make_two_challenges(pair: Pair, chain_directory: Path) -> None:
    house = House(pair, chain_directory, schemes=("taproot", "decrementing"))

    async def story() -> None:
        found = challenges_of(await house.web.get("/"))
        schemes = [SessionRequest.decode(each.request).scheme for each in found]
        assert schemes == ["taproot", "decrementing"]

    asyncio.run(story())
    house.close()


# who pays -----------------------------------------------------------------------------------------


@told
async def test_requests_are_paid_one_by_one(house: House) -> None:
    payer = await house.opened()
    for count in range(1, 4):
        headers = payer.headers(payer.voucher(FIRST + PRICE * count))
        response = await house.web.post("/x", content=b"you", headers=headers)
        assert (response.status_code, response.text) == (200, "hello you")
        assert response.headers["cache-control"] == "private"
        receipt = receipt_of(response)
        assert (receipt.accepted, receipt.spent) == (FIRST + PRICE * count, PRICE * count)
        assert receipt.challenge_id == payer.challenge.id
    assert len(house.service.served) == 3
    channel, key = payer.channel, None
    assert house.service.served[-1][3] == Paying(channel, PRICE, FIRST + 30, 20, key)
    assert await house.account(payer) == Account(30, (), FIRST + 30)


@told
async def test_an_opening_pays_for_its_request(house: House) -> None:
    payer, headers = await house.opening()
    house.pair.chain.mine(1)
    response = await house.web.get("/", headers={**headers, "idempotency-key": "one"})
    assert (response.status_code, receipt_of(response).spent) == (200, PRICE)
    again = await house.web.get("/", headers={**headers, "idempotency-key": "one"})
    assert (again.status_code, receipt_of(again).spent) == (200, PRICE)
    assert len(house.service.served) == 1
    assert (await house.account(payer)).spent == PRICE


@told
async def test_a_bare_voucher_brings_money_and_nothing_else(house: House) -> None:
    payer = await house.opened()
    response = await house.web.head("/", headers=payer.headers(payer.voucher(FIRST + 50)))
    assert (response.status_code, receipt_of(response).accepted, receipt_of(response).spent) == (
        200,
        FIRST + 50,
        0,
    )
    again = await house.web.head("/", headers=payer.headers(payer.voucher(FIRST + 50)))
    assert again.status_code == 200
    assert house.service.served == []


@told
async def test_what_is_left_pays_with_a_key_and_not_without(house: House) -> None:
    payer = await house.opened()
    same = payer.voucher(FIRST + PRICE)
    await house.web.head("/", headers=payer.headers(same))
    refused = await house.web.get("/", headers=payer.headers(same))
    assert (refused.status_code, refused.json()["slug"]) == (402, "balance-low")
    served = await house.web.get("/", headers=payer.headers(same, "new"))
    assert (served.status_code, receipt_of(served).spent) == (200, PRICE)


@told
async def test_a_lower_total_is_shown_where_the_channel_stands(house: House) -> None:
    """The snapshot holds the payer's own signature; repeated with the accepted total the request is paid for."""
    payer = await house.opened()
    early, late = payer.voucher(FIRST + PRICE), payer.voucher(FIRST + 2 * PRICE)
    assert (await house.web.get("/", headers=payer.headers(late, "late"))).status_code == 200
    low = await house.web.get("/", headers=payer.headers(early, "early"))
    assert (low.status_code, low.json()["slug"]) == (402, "voucher-low")
    assert low.json()["requiredCumulative"] == str(FIRST + 2 * PRICE)
    snapshot = snapshot_of(low)
    assert (snapshot.channel, snapshot.accepted, snapshot.spent) == (payer.channel, FIRST + 20, PRICE)
    assert snapshot.signature == late.signed.signature
    again = await house.web.get("/", headers=payer.headers(late, "early"))
    assert (again.status_code, receipt_of(again).spent) == (200, 2 * PRICE)


@told
async def test_who_is_not_the_payer_is_shown_nothing(house: House) -> None:
    """A channel's name is public: its standing is shown to who signs for it alone."""
    payer = await house.opened()
    voucher = payer.voucher(FIRST + PRICE)
    other = payer.voucher(FIRST + 2 * PRICE)
    forged = type(voucher)(
        voucher.channel, type(voucher.signed)(FIRST, other.signed.number, other.signed.signature)
    )
    response = await house.web.get("/", headers=payer.headers(forged))
    assert (response.status_code, response.json()["slug"]) == (402, "bad-signature")
    assert snapshot_of(response) is None
    assert response.json()["type"].endswith("session/invalid-signature")


# keys ---------------------------------------------------------------------------------------------


@told
async def test_a_request_that_comes_again_is_answered_again_and_charged_once(house: House) -> None:
    payer = await house.opened()
    headers = payer.headers(payer.voucher(FIRST + PRICE), "one")
    first = await house.web.post("/", content=b"a", headers=headers)
    second = await house.web.post("/", content=b"a", headers=headers)
    assert (first.text, second.text, len(house.service.served)) == ("hello a", "hello a", 1)
    assert receipt_of(second).spent == PRICE
    third = payer.headers(payer.voucher(FIRST + 2 * PRICE), "one")
    assert (await house.web.post("/", content=b"a", headers=third)).text == "hello a"
    assert (await house.account(payer)).spent == PRICE


@told
async def test_a_key_is_for_one_request(house: House) -> None:
    payer = await house.opened()
    headers = payer.headers(payer.voucher(FIRST + PRICE), "one")
    assert (await house.web.post("/", content=b"a", headers=headers)).status_code == 200
    for method, path, body in (("POST", "/", b"b"), ("POST", "/?x", b"a"), ("PUT", "/", b"a")):
        other = await house.web.request(method, path, content=body, headers=headers)
        assert (other.status_code, other.json()["slug"]) == (422, "key-reused")
    assert (await house.account(payer)).spent == PRICE


@told
async def test_an_answer_that_is_gone_is_made_again_for_who_reads(house: House) -> None:
    """For what changes something it is not: there the receipt says that it was paid for."""
    payer = await house.opened()
    house.service.body = b"x" * 65_536
    for number, (method, status) in enumerate((("GET", 200), ("POST", 409)), 1):
        headers = payer.headers(payer.voucher(FIRST + number * PRICE), method)
        assert (await house.web.request(method, "/", content=b"a", headers=headers)).status_code == 200
        again = await house.web.request(method, "/", content=b"a", headers=headers)
        assert (again.status_code, receipt_of(again).spent) == (status, number * PRICE)
    assert again.json()["slug"] == "response-gone"
    assert [each[0] for each in house.service.served] == ["GET", "GET", "POST"]
    assert house.service.served[1][3].amount == 0
    assert (await house.account(payer)).spent == 2 * PRICE


@told
async def test_a_key_holds_after_the_server_was_gone(house: House) -> None:
    payer = await house.opened()
    headers = payer.headers(payer.voucher(FIRST + PRICE), "one")
    assert (await house.web.get("/", headers=headers)).status_code == 200
    house.close()
    house.start()
    again = await house.web.get("/", headers=headers)
    assert (again.status_code, receipt_of(again).spent) == (200, PRICE)


@told
async def test_an_answer_that_is_made_again_and_fails_has_no_receipt(house: House) -> None:
    payer = await house.opened()
    house.service.body = b"x" * 65_537
    headers = payer.headers(payer.voucher(FIRST + PRICE), "one")
    assert (await house.web.get("/", headers=headers)).status_code == 200
    house.service.status, house.service.body = 503, b"short"
    again = await house.web.get("/", headers=headers)
    assert (again.status_code, "payment-receipt" in again.headers) == (503, False)
    house.service.status = 200
    third = await house.web.get("/", headers=headers)
    assert (third.status_code, receipt_of(third).spent) == (200, PRICE)


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
def test_what_is_no_key_is_refused(house: House, key: str) -> None:
    async def story() -> None:
        payer = await house.opened()
        headers = payer.headers(payer.voucher(FIRST + PRICE))
        response = await house.web.get("/", headers={**headers, "idempotency-key": key})
        assert (response.status_code, response.json()["slug"]) == (400, "malformed-key")

    asyncio.run(story())


@told
async def test_a_body_under_a_key_has_an_end(house: House) -> None:
    payer = await house.opened()
    headers = payer.headers(payer.voucher(FIRST + PRICE), "one")
    body = b"x" * (exchange.MOST_REPEATED_BYTES + 1)
    response = await house.web.post("/", content=body, headers=headers)
    assert (response.status_code, response.json()["slug"]) == (413, "body-too-large")
    plain = payer.headers(payer.voucher(FIRST + PRICE))
    assert (await house.web.post("/", content=body, headers=plain)).status_code == 200


# what it costs ------------------------------------------------------------------------------------


@told
async def test_an_error_costs_nothing_and_has_no_receipt(house: House) -> None:
    payer = await house.opened()
    for status in (400, 404, 500, 503):
        house.service.status = status
        response = await house.web.get("/", headers=payer.headers(payer.voucher(FIRST + PRICE), "new"))
        assert response.status_code == status
        assert "payment-receipt" not in response.headers
    account = await house.account(payer)
    assert (account.spent, account.reserved) == (0, ())


@told
async def test_the_service_charges_less_and_never_more(house: House) -> None:
    payer = await house.opened()
    spent = 0
    for number, (said, charged) in enumerate(((b"3", 3), (b"0", 0), (b"11", 10), (b"-1", 10), (b"x", 10)), 1):
        headers = payer.headers(payer.voucher(FIRST + PRICE * number), "new")
        response = await house.web.get("/", headers={**headers, "x-answer-x-mpchan-charge": said.decode()})
        spent += charged
        assert (response.status_code, receipt_of(response).spent) == (200, spent)
        assert "x-mpchan-charge" not in response.headers
    assert (await house.account(payer)).spent == spent


def test_a_price_by_length(pair: Pair, chain_directory: Path) -> None:
    price = Price(2, "kib", per_bytes=1_024, most=9, terms=SHORT)
    house = House(pair, chain_directory, price)

    async def story() -> None:
        payer = await house.opened()
        spent = 0
        for number, (length, charged) in enumerate(((1, 2), (1_024, 2), (1_025, 4), (50_000, 9)), 1):
            house.service.body = b"x" * length
            headers = payer.headers(payer.voucher(FIRST + 9 * number), "new")
            response = await house.web.get("/", headers={**headers, "x-answer-content-length": str(length)})
            spent += charged
            assert (response.status_code, receipt_of(response).spent) == (200, spent)
        headers = payer.headers(payer.voucher(FIRST + 45), "new")
        house.service.body = b"x" * 2_000
        streamed = await house.web.get("/", headers=headers)
        assert receipt_of(streamed).spent == spent
        assert (await house.account(payer)).spent == spent + 4

    asyncio.run(story())
    house.close()


@told
async def test_no_body_reaches_the_server_past_the_meter(house: House) -> None:
    """Where the server offers to send a file by itself, the application that is paid by length knows nothing of it."""
    payer = await house.opened()
    offered: list[Any] = []
    service, app = house.service, house.app

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        offered.append(scope["extensions"])
        await service(scope, receive, send)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        more: dict[str, Any] = {"http.response.pathsend": {}, "http.response.zerocopysend": {}, "other": {}}
        await app({**scope, "extensions": more}, receive, send)

    app._app = noting
    house.web = httpx2.AsyncClient(transport=httpx2.ASGITransport(server), base_url=ORIGIN)
    response = await house.web.get("/", headers=payer.headers(payer.voucher(FIRST + PRICE)))
    assert response.status_code == 200
    assert offered == [{"other": {}}]


@told
async def test_what_a_client_says_of_payments_does_not_reach_the_service(house: House) -> None:
    payer = await house.opened()
    headers = payer.headers(payer.voucher(FIRST + PRICE))
    forged = {"X-Mpchan-Channel": "x", "X_Mpchan_Amount": "0", "x-mpchan_spent": "1", "X_MPCHAN-Key": "k"}
    response = await house.web.get("/", headers={**headers, **forged})
    assert response.status_code == 200
    assert not [name for name, _ in house.service.seen_headers if b"mpchan" in name.lower()]


# closing ------------------------------------------------------------------------------------------


@told
async def test_a_channel_is_closed_at_what_was_charged_and_at_nothing_else(house: House) -> None:
    payer = await house.opened()
    for number in range(1, 41):
        headers = payer.headers(payer.voucher(FIRST + PRICE * number))
        assert (await house.web.get("/", headers=headers)).status_code == 200
    spent = 40 * PRICE
    wrong = await house.web.head("/", headers=payer.headers(payer.close_at(spent + 1)))
    assert (wrong.status_code, snapshot_of(wrong).required) == (402, spent)
    response = await house.web.head("/", headers=payer.headers(payer.close_at(spent)))
    assert response.status_code == 204
    receipt = receipt_of(response)
    assert (receipt.spent, receipt.tx_hash is None) == (spent, False)
    house.pair.chain.mine(1)
    [coin] = house.pair.chain.coins([payer.terms.offer.payee_script])
    assert coin.output.value == Amount(spent)
    gone = await house.web.get("/", headers=payer.headers(payer.voucher(FIRST + 2_000), "new"))
    assert gone.status_code == 402
    assert gone.json()["slug"].startswith("channel-")
    assert len(house.service.served) == 40
