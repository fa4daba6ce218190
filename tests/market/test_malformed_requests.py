"""Bodies of requests that are nothing, or nearly something: each is refused, and changes nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.market.cheats import Forger, body_of, fair
from support.market.market import PRICE, Market

from mpchan.errors import ChainError, MpchanError, StorageError
from mpchan.market.seller import BugRefusal
from mpchan.transport.base import KINDS, Message, Refusal, Request
from mpchan.units import MAX_MESSAGE_BYTES

ANN, BOB = "aa" * 16, "bb" * 16


@pytest.fixture
def bodies(market: Market) -> dict[str, bytes]:
    """A good body of each kind for Ann's session, none of which the seller has seen."""
    market.pair.coin()
    ann = Forger(market, ANN)
    ann.open()
    funding = market.pair.payer_record(ann.name).funding
    assert funding is not None
    request = Forger(market, BOB).opening().hex
    return {
        "offer": ann.wish("1-5"),
        "refund": bytes.fromhex(request),
        "funding": bytes.fromhex(funding.to_hex()),
        "update": bytes.fromhex(ann.update(1, PRICE).to_hex()),
        "piece": body_of(1),
        "settlement": bytes.fromhex(ann.settlement(PRICE).to_hex()),
    }


def refused(market: Market, session: str, kind: str, body: bytes) -> MpchanError:
    """A short refusal, which is no bug of ours."""
    answer = market.seller.answer(Request(session, 1, kind, body))
    assert isinstance(answer, Refusal), (kind, body)
    assert len(answer.body) < 2_000
    error = market.events[-1].error
    assert error is not None
    assert not isinstance(error, BugRefusal), (kind, body, error.message)
    assert error.message.isprintable()
    assert error.exit_code in (3, 4, 5)
    assert json.loads(answer.body)["exit_code"] == error.exit_code
    market.events.clear()
    return error


@pytest.mark.parametrize("kind", KINDS)
def test_every_beginning_of_a_good_one(market: Market, bodies: dict[str, bytes], kind: str) -> None:
    """And the good one with something behind it."""
    body, session = bodies[kind], BOB if kind == "refund" else ANN
    before = market.pair.files()
    for end in range(len(body)):
        refused(market, session, kind, body[:end])
    for tail in (b"\0", b"}", body):
        refused(market, session, kind, body + tail)
    for other in KINDS:
        if other != kind and {kind, other} != {"update", "settlement"}:
            refused(market, session, kind, bodies[other])
    assert market.pair.files() == before
    if kind == "piece":
        assert refused(market, session, kind, body).slug == "piece-unpaid"
    else:
        assert not isinstance(market.seller.answer(Request(session, 1, kind, body)), Refusal)
    fair(market)


NESTED = [b"[" * depth + b"]" * depth for depth in (1, 100, 900, 940, 960, 970, 980, 990, 1_000, 190_000)]
ODD = [
    b"",
    b"\0" * MAX_MESSAGE_BYTES,
    b"\xff" * MAX_MESSAGE_BYTES,
    b"{" * MAX_MESSAGE_BYTES,
    b'"' + b"\\u001b" * 60_000 + b'"',
    b"7" * MAX_MESSAGE_BYTES,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\xef\xbb\xbf{}",
    '{"piece": 1}'.encode("utf-16")[:-1],
    b'{"piece": 1, "more": 2}',
    b'{"PIECE": 1}',
    b'{"piece": 1e0}',
    b'{"piece": NaN}',
    b'{"piece": ' + b"9" * 100_000 + b"}",
    b'{"piece": "\\ud800"}',
    b"psbt\xff" + b"\xff" * 1_000,
    b"psbt\xff\x01\x00\xfd\xff\xff",
    b"cHNidP" + b"/" * 100_000,
    b"\x02\0\0\0" + b"\xfd\xff\xff" * 100_000,
    *NESTED,
    *[b'{"piece": ' + nested + b"}" for nested in NESTED],
    *[b'{"offer_id": ' + nested + b', "buyer": "", "pieces": ""}' for nested in NESTED],
]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_bodies(market: Market, bodies: dict[str, bytes], kind: str) -> None:
    before = market.pair.files()
    for body in ODD:
        refused(market, ANN, kind, body)
        refused(market, "cc" * 16, kind, body)
    assert market.pair.files() == before


@pytest.mark.parametrize("key", ["offer_id", "buyer", "pieces"])
@pytest.mark.parametrize("value", [None, 1, True, [], {}, "", "\x1b[2J", "\ud800", "x" * 300_000])
def test_wishes_of_other_types(market: Market, key: str, value: object) -> None:
    wish = json.loads(Forger(market, ANN).wish("1-5"))
    error = refused(market, ANN, "offer", json.dumps({**wish, key: value}).encode())
    assert error.slug in ("malformed-request", "malformed-pieces")
    assert market.pair.payee.offers.ids() == [market.own.offer.offer_id]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bodies_with_other_bytes_in_them(
    market: Market, bodies: dict[str, bytes], data: st.DataObject
) -> None:
    """Whatever is answered: it is no bug, and no piece is unpaid."""
    kind = data.draw(st.sampled_from(KINDS))
    body = bytearray(bodies[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    market.seller.answer(Request(BOB if kind == "refund" else ANN, 1, kind, bytes(body)))
    error = market.events[-1].error
    assert not isinstance(error, BugRefusal), error
    assert error is None or error.message.isprintable()
    fair(market)


class Trouble(Exception):
    """Nobody has thought of this."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageError("locked", "/home/seller/.mpchan/channels is in use", hint="chmod 700 /home/seller"), 7),
        (ChainError("chain-unreachable", "http://seller:secret@10.0.0.1:8332 refuses"), 8),
        (Trouble("/home/seller/secret"), 1),
    ],
)
def test_what_is_the_sellers_own_is_not_told(
    market: Market, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    """The buyer learns the slug and the code; the seller's people learn the rest."""
    ann = Forger(market, ANN)

    def load(own: object) -> None:
        raise error

    ann.offer()
    monkeypatch.setattr(market.pair.payee.keys, "key_of_offer", load)
    answer = market.seller.answer(ann.request("offer", ann.wish("1-5")))
    assert isinstance(answer, Refusal)
    said = json.loads(answer.body)
    assert (said["exit_code"], said["hint"]) == (code, None)
    assert said["error"] == getattr(error, "slug", "bug")
    assert b"seller/" not in answer.body
    assert b"secret" not in answer.body
    told = market.events[-1].error
    assert told is not None
    assert str(error) in told.message
    monkeypatch.undo()
    assert isinstance(market.seller.answer(ann.request("offer", ann.wish("1-5"))), Message)
