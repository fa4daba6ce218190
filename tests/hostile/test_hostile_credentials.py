"""Hostile inputs 88, 89, 90 and 92: what a client sends to a service that is paid by the request, and what it shows."""

from __future__ import annotations

import asyncio
import html.parser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import SHORT, Pair
from support.web.house import FIRST, PRICE, House, told
from support.web.raw import RawPayer, challenges_of, receipt_of

from mpchan.chain.embedded import EmbeddedChain
from mpchan.http.server.prices import Price
from mpchan.http.wire.challenge import Challenge, named
from mpchan.http.wire.credential import Close, Credential, Voucher
from mpchan.http.wire.credential import Signed as Wire
from mpchan.http.wire.encoding import to_text
from mpchan.http.wire.session import SessionRequest
from mpchan.party.register.asks import Signed
from mpchan.units import Amount
from mpchan.values import replace


@pytest.fixture(params=("decrementing", "taproot"))
def pair(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme=request.param)


@pytest.fixture
def house(pair: Pair, chain_directory: Path) -> Iterator[House]:
    found = House(pair, chain_directory, Price(PRICE, once=True, terms=SHORT))
    yield found
    found.close()


async def unchanged(
    house: House, payer: RawPayer, headers: dict[str, str], slug: str, path: str = "/"
) -> Any:
    """A request that is refused: nothing is served, charged or written."""
    account, files = await house.account(payer), house.pair.files()
    response = await house.web.get(path, headers=headers)
    assert (response.status_code, response.json()["slug"]) == (402, slug), response.text
    assert challenges_of(response)
    assert await house.account(payer) == account
    assert house.pair.files() == files
    assert house.service.served == []
    return response


def credential(challenge: Challenge, payload: Any) -> dict[str, str]:
    return {"authorization": Credential(challenge.echo(), payload).header()}


@told
async def test_88_a_challenge_that_was_changed_or_made_elsewhere(house: House) -> None:
    """Whatever is altered in it: its id does not fit any more; and one with an id by another secret is another's."""
    payer = await house.opened()
    voucher, own = payer.voucher(FIRST + PRICE), payer.challenge
    request = SessionRequest.decode(own.request)
    cheaper = replace(request, amount=1).encode()
    changed = [
        replace(own, request=cheaper),
        replace(own, realm="other"),
        replace(own, expires="2099-01-01T00:00:00Z"),
        replace(own, expires=None),
        replace(own, opaque=None),
        replace(own, digest="sha-256=:AAAA:"),
        replace(own, id="x"),
        named(b"another secret", own),
    ]
    for challenge in changed:
        await unchanged(house, payer, credential(challenge, voucher), "challenge-foreign")


@told
async def test_88_a_challenge_that_is_for_one_use(house: House) -> None:
    payer = await house.opened()
    await unchanged(
        house, payer, payer.headers(payer.voucher(FIRST + PRICE)), "challenge-elsewhere", "/other"
    )
    opaque = to_text({"method": "GET", "path": "/other"})
    altered = replace(payer.challenge, opaque=opaque)
    headers = credential(altered, payer.voucher(FIRST + PRICE))
    await unchanged(house, payer, headers, "challenge-foreign", "/other")


@told
async def test_88_a_challenge_whose_hour_is_over(house: House) -> None:
    payer = await house.opened()
    challenges = house.app.cashier.challenges
    now = challenges._clock
    challenges._clock = lambda: now() + 3_601
    headers = payer.headers(payer.voucher(FIRST + PRICE))
    response = await unchanged(house, payer, headers, "challenge-expired")
    assert response.json()["type"].endswith("/payment-expired")
    payer.challenge = challenges_of(response)[0]
    served = await house.web.get("/", headers=payer.headers(payer.voucher(FIRST + PRICE)))
    assert served.status_code == 200


@told
async def test_88_the_same_one_twice_at_once(house: House) -> None:
    """With a key it is served once; without one the second finds nothing left."""
    payer = await house.opened()
    plain = payer.headers(payer.voucher(FIRST + PRICE))
    answers = await asyncio.gather(*(house.web.get("/", headers=plain) for _ in range(5)))
    assert sorted(each.status_code for each in answers) == [200, 402, 402, 402, 402]
    keyed = payer.headers(payer.voucher(FIRST + 2 * PRICE), "one")
    answers = await asyncio.gather(*(house.web.get("/", headers=keyed) for _ in range(5)))
    assert {each.status_code for each in answers} <= {200, 409}
    assert len(house.service.served) == 2
    assert (await house.account(payer)).spent == 2 * PRICE


@told
async def test_88_two_credentials_in_one_request(house: House) -> None:
    payer = await house.opened()
    value = payer.headers(payer.voucher(FIRST + PRICE))["authorization"]
    response = await house.web.get("/", headers=[("authorization", value), ("authorization", value)])
    assert (response.status_code, response.json()["slug"]) == (400, "credential-twice")
    assert house.service.served == []


@told
async def test_89_a_voucher_that_does_not_do(house: House) -> None:
    payer = await house.opened()
    good = payer.voucher(FIRST + PRICE)
    stranger = Voucher(f"{'ab' * 32}:0", good.signed)
    too_much = payer.voucher(payer.terms.capacity.sat + 1)
    for voucher, slug in (
        (stranger, "unknown-channel"),
        (replace(good, signed=replace(good.signed, total=FIRST + PRICE + 1)), "bad-signature"),
        (too_much, "over-capacity"),
        (
            payer.voucher(FIRST - 1),
            "bad-signature" if payer.terms.offer.scheme != "taproot" else "voucher-low",
        ),
    ):
        headers = payer.headers(voucher)
        response = await house.web.get("/", headers=headers)
        assert response.status_code == 402
        assert response.json()["slug"] in (slug, "voucher-low", "update-number"), (slug, response.text)
    assert house.service.served == []
    assert (await house.account(payer)).spent == 0


@told
async def test_89_a_close_while_a_request_is_being_served(house: House) -> None:
    """It waits; what is being served is paid for."""
    payer = await house.opened()
    began, go = house.holding()
    asking = asyncio.create_task(house.web.get("/", headers=payer.headers(payer.voucher(FIRST + PRICE))))
    await began.wait()
    total = payer.terms.payee_dust.sat
    closing = payer.headers(payer.close(FIRST + PRICE) if total > FIRST else payer.close_at(total))
    early = await house.web.head("/", headers=closing)
    assert (early.status_code, early.headers["retry-after"]) == (402, "1")
    go.set()
    assert (await asking).status_code == 200
    assert (await house.web.head("/", headers=closing)).status_code == 204


@pytest.mark.parametrize(
    ("breaks", "charged"), [("before", 0), ("within", PRICE)], ids=["90 before its answer", "90 within it"]
)
def test_90_an_upstream_that_fails(house: House, breaks: str, charged: int) -> None:
    """What never began costs nothing; what broke off had begun."""

    async def story() -> None:
        payer = await house.opened()
        house.service.breaks = breaks
        headers = payer.headers(payer.voucher(FIRST + PRICE), "one")
        response = await house.web.get("/", headers=headers)
        assert response.status_code == (500 if breaks == "before" else 200)
        account = await house.account(payer)
        assert (account.spent, account.reserved) == (charged, ())
        house.service.breaks = ""
        again = await house.web.get("/", headers=headers)
        assert (again.status_code, receipt_of(again).spent) == (200, PRICE)

    asyncio.run(story())


def test_90_a_server_that_is_killed_while_it_serves(house: House) -> None:
    """What it was serving counts as served, and the same request gets it without paying again."""

    async def story() -> None:
        payer = await house.opened()
        signed = payer.signed(FIRST + PRICE)

        def granted(desk: Any) -> Any:
            from mpchan.party.register.asks import Ask

            ask = Ask(
                payer.name, Signed(signed.total, signed.number, signed.signature), PRICE, "one", "0" * 64
            )
            return desk.register.take_many([ask])[0]

        await house.app.cashier.do(granted)
        house.close()
        house.start()
        await house.web.get("/")
        account = await house.account(payer)
        assert (account.spent, account.reserved) == (PRICE, ())

    asyncio.run(story())


class Seen(html.parser.HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


BAD = "signature"
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


def test_92_a_page_holds_no_markup_that_others_chose(pair: Pair, chain_directory: Path) -> None:
    price = Price(PRICE, unit="request", description=NASTY, terms=SHORT)
    house = House(pair, chain_directory, price, realm=NASTY.replace('"', ""))

    async def story() -> None:
        path = "/" + NASTY.replace(" ", "%20").replace("<", "%3C")
        for target in (path, f"/?{path}"):
            response = await house.web.get(target, headers={"accept": "text/html", "host": "<b>x"})
            assert response.status_code == 402
            assert response.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in response.headers["content-security-policy"]
            seen = Seen(response.text)
            assert not seen.tags & {"script", "img", "b", "iframe", "object", "link"}
            assert not [name for name in seen.attributes if name.startswith("on")]
            assert NASTY in seen.text
            assert challenges_of(response)

    asyncio.run(story())
    house.close()


@told
async def test_92_an_address_that_no_page_can_show_whole(house: House) -> None:
    """Longer than a QR code holds, or with a host that is none."""
    for path, host in (("/?" + "a" * 8_000, "shop.example"), ("/", "["), ("/", "[::1"), ("/", "")):
        response = await house.web.get(path, headers={"accept": "text/html", "host": host})
        assert (response.status_code, response.headers["content-type"]) == (402, "text/html; charset=utf-8")
        assert ("figure" in Seen(response.text).tags) == (len(path) < 100)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json, TEXT/HTML;q=0.1", "text/html; charset=utf-8"),
        ("text/html;q=0", "application/problem+json"),
        ("text/html-like", "application/problem+json"),
        ("*/*", "application/problem+json"),
        ("", "application/problem+json"),
    ],
)
def test_who_gets_a_page(house: House, accept: str, kind: str) -> None:
    async def story() -> None:
        response = await house.web.get("/", headers={"accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (402, kind)

    asyncio.run(story())


@told
async def test_what_answers_a_credential_is_no_page(house: House) -> None:
    """Else the signed refund of a program that also reads HTML would be lost."""
    house.web.headers["accept"] = "text/html"
    payer = await house.opened()
    low = await house.web.get("/", headers=payer.headers(payer.voucher(FIRST)))
    assert (low.status_code, low.json()["slug"]) == (402, "balance-low")


@told
async def test_88_a_close_of_a_stranger_learns_nothing(house: House) -> None:
    """A channel's name is public; the payer's signature in a snapshot pays for what is left over."""
    payer = await house.opened()
    assert (await house.web.head("/", headers=payer.headers(payer.voucher(FIRST + 500)))).status_code == 200
    other = payer.key.sign_settlement(payer.terms, Amount(FIRST + 1))
    for total, slug in ((FIRST, BAD), (PRICE, BAD), (payer.terms.capacity.sat + 1, "over-capacity")):
        stranger = Close(payer.channel, Wire(total, None, other))
        response = await unchanged(house, payer, payer.headers(stranger), slug)
        assert SessionRequest.decode(challenges_of(response)[0].request).snapshot is None
        assert "acceptedCumulative" not in response.json()
