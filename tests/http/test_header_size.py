"""The headers of a 402 are below what a proxy takes, whatever stands in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.party import SHORT, Pair
from support.protocol import make_offer

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import MAINNET
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import UsageError
from mpchan.http.server.answers import refused
from mpchan.http.server.challenges import (
    MOST_CHALLENGE_BYTES,
    MOST_DESCRIPTION_LENGTH,
    MOST_REALM_LENGTH,
    Challenges,
)
from mpchan.http.server.prices import Asked, Price
from mpchan.http.wire.challenge import Challenge, named
from mpchan.http.wire.encoding import to_text
from mpchan.http.wire.problems import Problem
from mpchan.http.wire.session import SaleLink, SessionRequest, Snapshot
from mpchan.units import MAX_MONEY_SAT, Amount, FeeRate

MOST_HEADER_BYTES = 3_500
CHANNEL = "ab" * 32 + ":4294967295"
SALE = SaleLink("/.well-known/mpchan/offers/" + "0f" * 16, b"h" * 32, 10_000_000, 100_000, b"m" * 32)
SCHEMES = ("decrementing", "taproot")
SIGNATURES = {"decrementing": 73, "taproot": 64}
OWN_TERMS: Mapping[str, Any] = {"decrementing": {"step": 9_999}, "taproot": {"made_at": 9_999_999}}
SERVER = {"server": "s" * 40, "request": "x" * 43}


def snapshot(scheme: str) -> Snapshot:
    most = MAX_MONEY_SAT
    number = 9_999 if scheme == "decrementing" else None
    return Snapshot(CHANNEL, most, most, most, most, number, b"S" * SIGNATURES[scheme])


def block(challenges: list[Challenge]) -> int:
    """Bytes of the whole answer's head, with what a server adds of its own."""
    answer = refused(Problem("payment-required", "words"), challenges, 60)
    added = [(b"date", b"Tue, 01 Dec 2026 12:00:00 GMT"), (b"server", b"uvicorn"), (b"connection", b"close")]
    lines = [*answer.headers, *added]
    return len(b"HTTP/1.1 402 Payment Required\r\n") + sum(len(a) + len(b) + 4 for a, b in lines) + 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_largest_of_one_construction(scheme: str) -> None:
    """Every number as long as it can be, on the network with the longest address; a snapshot and a sale."""
    most = Amount(MAX_MONEY_SAT)
    offer = make_offer(
        version=2,
        scheme=scheme,
        network=MAINNET,
        payee_address=script_to_address(b"\x51\x20" + bytes(32), MAINNET),
        own_terms=OWN_TERMS[scheme],
        min_capacity=most,
        max_capacity=most,
        fee_rate=FeeRate(100_000_000),
        min_confirmations=1_000,
        min_increment=most,
        min_refund_delay=300_024,
        max_refund_delay=499_968,
        settle_window=100_008,
    )
    request = SessionRequest(
        *(MAX_MONEY_SAT, "request", MAX_MONEY_SAT, offer.payee_address, offer),
        sale=SALE,
        min_voucher_delta=MAX_MONEY_SAT,
        channel=CHANNEL,
        snapshot=snapshot(scheme),
    )
    challenge = named(
        b"s" * 32,
        Challenge(
            *("", "r" * MOST_REALM_LENGTH, "bitcoin", "session", request.encode(), "2026-12-01T12:00:00Z"),
            opaque=to_text(SERVER),
            description="d" * MOST_DESCRIPTION_LENGTH,
        ),
    )
    assert SessionRequest.decode(challenge.request) == request
    assert len(challenge.header()) <= MOST_CHALLENGE_BYTES
    assert block([challenge]) < MOST_HEADER_BYTES


@pytest.fixture
def pair(tmp_path: Path, chain_directory: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain)


PRICES = {
    "plain": Price(10, terms=SHORT),
    "all": Price(
        MAX_MONEY_SAT // 1000,
        once=True,
        sale=SALE,
        description='"' * 5_000,
        terms={**SHORT, "memo": "é" * 1_000},
    ),
}


@pytest.mark.parametrize("first", SCHEMES)
@pytest.mark.parametrize("price", PRICES)
@pytest.mark.parametrize("known", [None, *SCHEMES])
def test_several_constructions(pair: Pair, first: str, price: str, known: str | None) -> None:
    """With both the block stays as small; what is left out is never that of the known channel, or of the first."""
    schemes = sorted(SCHEMES, key=lambda each: each != first)
    asked = Asked("GET", "/" + "p" * 5_000)
    realm, server = ("shop.example", None) if price == "plain" else ("r" * MOST_REALM_LENGTH, "s" * 40)
    made = Challenges(pair.payee, pair.chain, realm=realm, schemes=schemes, server=server).make(
        *(asked, PRICES[price]),
        channel=None if known is None else CHANNEL,
        scheme=known,
        snapshot=None if known is None else snapshot(known),
    )
    requests = [SessionRequest.decode(each.request) for each in made]
    assert requests[0].scheme == (known or first)
    assert [request.channel for request in requests] == [CHANNEL if known else None, None][: len(made)]
    assert block(made) < MOST_HEADER_BYTES
    if price == "plain" and known is None:
        assert len(made) == 2


def test_a_challenge_for_one_use_is_for_this_request_alone(pair: Pair) -> None:
    challenges = Challenges(pair.payee, pair.chain, realm="shop", schemes=["taproot"])
    price = Price(10, once=True, terms=SHORT)
    [made] = challenges.make(Asked("GET", "/a"), price)
    challenges.require(made, Asked("GET", "/a"), price)
    for other in (Asked("POST", "/a"), Asked("GET", "/b"), Asked("GET", "/a/")):
        with pytest.raises(Exception, match="made for another request"):
            challenges.require(made, other, price)


@pytest.mark.parametrize("realm", ["", "r" * (MOST_REALM_LENGTH + 1), "é", "a\nb"])
def test_what_is_no_realm(pair: Pair, realm: str) -> None:
    with pytest.raises(UsageError) as error:
        Challenges(pair.payee, pair.chain, realm=realm)
    assert error.value.slug == "malformed-realm"
