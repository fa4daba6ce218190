"""A seller that cheats: whatever it answers, one piece's price is all that it can get for nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.market.cheats import always, cheated, data, from_the, goes_on, held_pieces, refusing, resigned
from support.market.market import PIECE, PRICE, Bend, Market, each_scheme
from support.party import balance_sat

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer
from mpchan.channel.construction.registry import own_terms_of
from mpchan.channel.offer import Offer
from mpchan.channel.terms import refund_fee
from mpchan.errors import NotPossible, TooEarly
from mpchan.market.asking import MOST_BREAKS
from mpchan.party import payee
from mpchan.party.offers.selling import make_out  # type: ignore[attr-defined]
from mpchan.sale.manifest import tree_hash
from mpchan.transport.base import Answer, Message, Refusal, Request
from mpchan.values import replace

# the third piece ----------------------------------------------------------------------------------

BadPiece = Callable[[Market, Request, Answer], Answer]


def other_bytes(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, b"x" * PIECE)


def one_bit(market: Market, request: Request, good: Answer) -> Answer:
    right = market.file.read_bytes()[2 * PIECE : 3 * PIECE]
    return data(market, right[:-1] + bytes([right[-1] ^ 1]))


def the_piece_before(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, market.file.read_bytes()[PIECE : 2 * PIECE])


def the_next_piece(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, market.file.read_bytes()[3 * PIECE : 4 * PIECE])


def shorter(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, market.file.read_bytes()[2 * PIECE : 3 * PIECE - 1])


def longer(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, market.file.read_bytes()[2 * PIECE : 3 * PIECE + 1])


def the_whole_file(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, market.file.read_bytes())


def less_than_announced(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, market.file.read_bytes()[2 * PIECE : 3 * PIECE - 1], announced=PIECE)


def nothing_but_the_announcement(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, b"", announced=PIECE)


def announced_as_endless(market: Market, request: Request, good: Answer) -> Answer:
    return data(market, market.file.read_bytes()[2 * PIECE : 3 * PIECE], announced=1 << 62)


def a_message(market: Market, request: Request, good: Answer) -> Answer:
    return Message(market.file.read_bytes()[2 * PIECE : 3 * PIECE])


def an_empty_message(market: Market, request: Request, good: Answer) -> Answer:
    return Message(b"")


BAD_PIECES: list[BadPiece] = [
    other_bytes, one_bit, the_piece_before, the_next_piece, shorter, longer, the_whole_file, less_than_announced,
    nothing_but_the_announcement, announced_as_endless, a_message, an_empty_message,
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_PIECES)
def test_no_good_piece(market: Market, bad: BadPiece) -> None:
    error = cheated(
        market,
        from_the(3, "update", lambda request, good: bad(market, request, good)),
        "wrong-piece",
        4,
        paid=3,
        held=2,
    )
    assert "piece 3 is not the piece on sale" in error.message
    assert "1000 sat are lost at most, the price of one piece; the close pays the other 2000 sat" in str(
        error.hint
    )
    assert [step.number for step in market.steps if step.kind == "wrong-piece"][-1] == 3
    goes_on(market)


def gone(request: Request, good: Answer) -> Answer:
    raise TooEarly("peer-silent", "no answer")


@each_scheme
def test_no_piece_at_all(market: Market) -> None:
    """What breaks off is asked for again some times, since a line may break."""
    market.patience = 5.0
    cheated(market, from_the(3, "update", gone), "peer-silent", 6, paid=3, held=2)
    bodies = [request.body for request in market.asked("update")]
    assert bodies[2:] == [bodies[2]] * (MOST_BREAKS + 1)
    goes_on(market)


def test_the_first_piece(market: Market) -> None:
    bend = from_the(1, "update", lambda request, good: data(market, b"x" * PIECE))
    cheated(market, bend, "wrong-piece", 4, paid=1, held=0)
    goes_on(market)


def test_the_last_piece(market: Market) -> None:
    """All that was locked is paid: closing would bring nothing back, and the seller may still deliver."""
    bend = from_the(5, "update", lambda request, good: data(market, b"x" * (PIECE - 1)))
    error = cheated(market, bend, "wrong-piece", 4, paid=5, held=4)
    assert "come back" not in str(error.hint)
    assert market.asked("settlement") == []
    goes_on(market)


@pytest.mark.parametrize("bad", [other_bytes, one_bit, shorter, an_empty_message])
def test_a_good_piece_after_two_bad_ones(market: Market, bad: BadPiece) -> None:
    """It is the same payment that asks again, and the purchase goes on."""
    market.patience = 5.0
    answers: dict[bytes, int] = {}

    def bend(request: Request, good: Answer) -> Answer:
        if request.kind != "update":
            return good
        answers[request.body] = answers.get(request.body, 0) + 1
        return good if answers[request.body] == 3 else bad(market, request, good)

    market.bend = bend
    market.buy()
    assert market.is_whole()
    assert list(answers.values()) == [3] * 5
    assert (market.paid, market.received) == (5 * PRICE, 5 * PRICE)


@each_scheme
def test_good_and_bad_pieces_in_turn(market: Market) -> None:
    """Every piece is bad at first, and then the seller is gone; the buyer begins again each time."""

    market.patience = 5.0

    def bad_and_gone(request: Request, good: Answer) -> Answer:
        asked = [other.body for other in market.lines[-1].asked]
        return gone(request, good) if asked.count(request.body) > 1 else data(market, b"x" * PIECE)

    for number in range(1, 6):
        bend = from_the(min(number, 2), "update", bad_and_gone)
        cheated(market, bend, "peer-silent", 6, paid=number, held=number - 1)
        market.restart()
    goes_on(market)


# refusals -----------------------------------------------------------------------------------------

REFUSALS: dict[str, Refusal] = {
    "plain": refusing(),
    "asks for more": refusing("price-raised", "pay 2000 sat for the next piece", 5),
    "control characters": refusing(
        "\x1b[2J", "\x1b]0;owned\x07\r\n\x08\0\x9b31m\N{RIGHT-TO-LEFT OVERRIDE}", 5
    ),
    "line breaks": refusing("no", "never\nmpchan: error: all is well\n", 5),
    "long": refusing("x" * 100_000, "y" * 200_000, 5),
    "no JSON": Refusal(b"\xff\xfe{"),
    "empty": Refusal(b""),
    "no object": Refusal(b"[1, 2]"),
    "a number": Refusal(b"7"),
    "null": Refusal(b"null"),
    "no keys": Refusal(b"{}"),
    "keys of other types": refusing({"a": [1]}, ["b", None], {"exit": 6}),
    "a code that is a text": refusing(code="6"),
    "a code that is true": refusing(code=True),
    "no number": Refusal(b'{"error": NaN, "message": Infinity, "exit_code": 1e999}'),
    "a long number": Refusal(b'{"error": ' + b"9" * 100_000 + b', "message": 1, "exit_code": 1}'),
    "half a surrogate": refusing("no", "\ud800", 5),
    "bottomless": Refusal(
        b'{"error": ' + b"[" * 190_000 + b"]" * 190_000 + b', "message": 1, "exit_code": 5}'
    ),
    **{
        f"{depth} deep": Refusal(
            b'{"error": 1, "message": ' + b"[" * depth + b"]" * depth + b', "exit_code": 5}'
        )
        for depth in (500, 900, 940, 960, 980, 990)
    },
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_that_stay(market: Market, name: str) -> None:
    """They end the purchase at once, in a short line of harmless words."""
    error = cheated(
        market, from_the(3, "update", always(REFUSALS[name])), "seller-refused", 5, paid=3, held=2
    )
    assert len(error.message) < 300
    assert [request.kind for request in market.lines[-1].asked].count("update") == 3
    goes_on(market)


@each_scheme
@pytest.mark.parametrize("code", [6, 7, 8])
def test_refusals_that_might_pass(market: Market, code: int) -> None:
    """They are waited for while the patience lasts, with the same payment; then they end the purchase."""
    market.patience = 0.5
    bend = from_the(3, "update", always(refusing("later", "\x1b[1mtry again", code)))
    error = cheated(market, bend, "seller-refused", 5, paid=3, held=2)
    assert "try again" in error.message
    bodies = [request.body for request in market.asked("update")]
    assert bodies.count(bodies[-1]) > 2
    goes_on(market)


@pytest.mark.parametrize("kind", ["offer", "refund", "funding", "settlement"])
@pytest.mark.parametrize("bad", ["refusal", "piece"])
def test_refusals_of_everything_else(market: Market, kind: str, bad: str) -> None:
    answer = refusing() if bad == "refusal" else data(market, b"x")
    slug, code = ("seller-refused", 5) if bad == "refusal" else ("malformed-answer", 4)
    done = 5 if kind == "settlement" else 0
    locked = kind in ("funding", "settlement")
    cheated(market, from_the(1, kind, always(answer)), slug, code, paid=done, held=done, channel=locked)
    goes_on(market)


# offers -------------------------------------------------------------------------------------------


def offer_of(answer: Answer) -> Offer:
    assert isinstance(answer, Message)
    return Offer.from_toml(answer.body.decode())


def text_of(offer: Offer) -> Message:
    return Message(offer.to_toml().encode())


def dear(market: Market, good: Offer) -> Message:
    """Twice the price, in an offer that fits together."""
    price = {"price_sat": 2 * PRICE, "min_increment_sat": 2 * PRICE}
    return text_of(resigned(market, good, **price, min_capacity_sat=10 * PRICE, max_capacity_sat=10 * PRICE))


def other_certificate(market: Market, good: Offer) -> Message:
    way = {"kind": "tcp", "address": "198.51.100.7:7420", "certificate": "ab" * 32}
    return text_of(resigned(market, good, ways=[way]))


def other_session(market: Market, good: Offer) -> Message:
    return text_of(make_out(market.pair.payee, market.own, "ff" * 16, (1, 2, 3, 4, 5)))


def fewer_pieces(market: Market, good: Offer) -> Message:
    return text_of(resigned(market, good, sold="1-4", min_capacity_sat=4 * PRICE, max_capacity_sat=4 * PRICE))


def other_hashes(market: Market, good: Offer) -> Message:
    hashes = market.sale.hashes[::-1]
    pieces, root = [digest.hex() for digest in hashes], tree_hash(hashes).hex()
    return text_of(resigned(market, good, pieces=pieces, merkle_root=root))


def short_window(market: Market, good: Offer) -> Message:
    return text_of(resigned(market, good, settle_window=5))


OFFERS: dict[str, tuple[Callable[[Market, Offer], Message], str, int]] = {
    "a higher price": (dear, "offer-differs", 4),
    "somebody else's certificate": (other_certificate, "offer-differs", 4),
    "another session's": (other_session, "offer-differs", 4),
    "fewer pieces": (fewer_pieces, "offer-differs", 4),
    "another file": (other_hashes, "offer-differs", 4),
    "another id": (lambda m, good: text_of(resigned(m, good, offer_id="ab" * 16)), "offer-differs", 4),
    "less time": (short_window, "offer-differs", 4),
    "the published one": (lambda market, good: text_of(market.published), "offer-differs", 4),
    "no sale": (lambda market, good: Message(market.pair.offer().encode()), "nothing-sold", 5),
    "another fee rate": (
        lambda m, good: text_of(resigned(m, good, fee_rate_sat_per_kvb=9000)),
        "offer-differs",
        4,
    ),
    "no TOML": (lambda market, good: Message(b"offer = \x1b[2J"), "malformed-toml", 3),
    "no text": (lambda market, good: Message(b"\xff" * 400_000), "not-utf8", 3),
    "nothing": (lambda market, good: Message(b""), "malformed-offer", 3),
    "a bottomless table": (lambda market, good: Message(b"a=" + b"[" * 300_000), "malformed-toml", 3),
}


@pytest.mark.parametrize("name", OFFERS)
def test_offers_that_are_not_the_published_one(market: Market, name: str) -> None:
    bad, slug, code = OFFERS[name]
    cheated(
        market,
        from_the(1, "offer", lambda request, good: bad(market, offer_of(good))),
        slug,
        code,
        paid=0,
        held=0,
        channel=False,
    )
    assert [request.kind for request in market.lines[-1].asked] == ["offer"]
    assert market.pair.payer.channels.names() == []
    goes_on(market)


MOMENTS = {"earlier": -1, "later": 1, "in a year": 50_000}


@pytest.mark.parametrize("scheme", ["taproot"], indirect=True)
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_offer_of_another_moment(market: Market, moment: str) -> None:
    """Where the chain stood when it was made stands in it: with another the payer's words would not find the money."""

    def bend(request: Request, good: Answer) -> Answer:
        offer = offer_of(good)
        made_at = {"made_at": offer.own_terms["made_at"] + MOMENTS[moment]}
        return text_of(resigned(market, replace(offer, own_terms=made_at)))

    cheated(market, from_the(1, "offer", bend), "offer-differs", 4, paid=0, held=0, channel=False)
    assert market.pair.payer.channels.names() == []
    goes_on(market)


@pytest.mark.parametrize("scheme", ["taproot"], indirect=True)
def test_a_seller_that_vanishes_once_the_money_is_locked(market: Market) -> None:
    """Nothing is lost but time: what it never heard of comes back whole, and nobody else is needed for it."""
    before = balance_sat(market.pair.payer, market.chain)
    cheated(market, from_the(1, "update", gone), "peer-silent", 6, paid=1, held=0)
    terms = market.pair.payer_record(market.name).terms
    market.pair.mine_to(terms.refund_lock_time.value)
    market.pair.refund(market.name)
    market.chain.mine(1)
    lost = before - balance_sat(market.pair.payer, market.chain)
    assert lost == market.quote().funding_fee.sat + refund_fee(terms.offer, terms.payer_script).sat
    assert market.buy().paid_sat == 5 * PRICE


@each_scheme
def test_an_offer_that_nobody_vouches_for(market: Market) -> None:
    """Somebody in between puts in a key of its own."""

    def bend(request: Request, good: Answer) -> Answer:
        table = offer_of(good).to_dict()
        stranger = market.pair.payer.keys.channel_key(7).public_key.sec.hex()
        return text_of(Offer.from_dict({**table, "payee_pubkey": stranger}))

    cheated(market, from_the(1, "offer", bend), "not-vouched", 4, paid=0, held=0, channel=False)
    goes_on(market)


# refunds and settlements --------------------------------------------------------------------------


def message_of(answer: Answer) -> bytes:
    assert isinstance(answer, Message)
    return answer.body


def with_another_signature(request: Request, good: Answer) -> Answer:
    body = bytearray(message_of(good))
    at = bytes(body).index(b"\x30\x44\x02\x20") + 10
    body[at] ^= 1
    return Message(bytes(body))


REFUNDS: dict[str, tuple[Bend, str, int]] = {
    "unsigned": (lambda request, good: Message(request.body), "missing-signature", 4),
    "badly signed": (with_another_signature, "signature", 4),
    "nothing": (always(Message(b"")), "empty", 3),
    "garbage": (always(Message(b"psbt\xff" + b"\0" * 1000)), "malformed-psbt", 3),
    "text": (always(Message(b"\x1b[2J")), "malformed-transaction", 3),
    "not even hex": (always(Message(b"here you are")), "malformed-hex", 3),
}


@pytest.mark.parametrize("name", REFUNDS)
def test_refunds_that_are_none(market: Market, name: str) -> None:
    """The funding does not leave."""
    bend, slug, code = REFUNDS[name]
    cheated(market, from_the(1, "refund", bend), slug, code, paid=0, held=0, channel=False)
    goes_on(market)


def test_a_good_refund_of_another_channel(market: Market) -> None:
    """What its owner has not agreed to fund yet stays unfunded."""
    market.pair.coin()
    other = market.pair.request(200_000)
    signed = bytes.fromhex(market.pair.sign_refund(other.hex))
    name = f"{other.funding_txid}-{other.funding_vout}"
    bend = from_the(1, "refund", always(Message(signed)))
    cheated(market, bend, "other-channel", 4, paid=0, held=0, channel=False)
    market.buy()
    assert market.is_whole()
    assert isinstance(market.pair.payer_record(name).state, payer.Opening)


def another_transaction(market: Market) -> bytes:
    """A complete one of this very channel, which closes nothing."""
    funding = market.pair.payer_record(market.name).funding
    assert funding is not None
    return bytes.fromhex(funding.to_hex())


SETTLEMENTS: dict[str, tuple[Callable[[Market], bytes], str, int]] = {
    "nothing": (lambda market: b"", "empty", 3),
    "unsigned": (lambda market: bytes.fromhex(market.pair.settlement(market.name)), "not-a-transaction", 3),
    "garbage": (lambda market: b"\x02" + b"\0" * 9, "malformed-transaction", 3),
    "another transaction": (another_transaction, "other-settlement", 4),
}


@each_scheme
@pytest.mark.parametrize("name", SETTLEMENTS)
def test_settlements_that_are_none(market: Market, name: str) -> None:
    """All pieces are there and right by then, so the file has its name; nothing is lost."""
    bad, slug, code = SETTLEMENTS[name]
    bend = from_the(1, "settlement", lambda request, good: Message(bad(market)))
    error = cheated(market, bend, slug, code, paid=5, held=5)
    assert "nothing is lost" in str(error.hint)
    assert market.is_whole()
    assert len(held_pieces(market)) == 5
    goes_on(market)


# the seller closes --------------------------------------------------------------------------------


@pytest.fixture
def early(quick_path: Path, chain: EmbeddedChain, scheme: str) -> Market:
    """Updates that the seller can send to the chain at once."""
    steps = {"step": 15} if any(term.name == "step" for term in own_terms_of(scheme)) else {}
    return Market(quick_path, chain, scheme=scheme, **steps)


@each_scheme
@pytest.mark.parametrize("blocks", [0, 1])
def test_a_close_in_the_middle(early: Market, blocks: int) -> None:
    """The seller takes the third payment, delivers nothing, and closes; what is paid for is asked for all the same."""
    market = early
    cheated(market, from_the(3, "update", gone), "peer-silent", 6, paid=3, held=2)
    first = market.name
    payee.settle(market.pair.payee, market.chain, None, first)
    market.chain.mine(blocks)
    market.restart()
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert caught.value.slug in ("channel-closed", "channel-settling")  # by whether a block holds the close
    assert held_pieces(market) == {1, 2, 3}
    assert str(caught.value.hint) == (
        "nothing is lost; the close pays the other 2000 sat back; once a block holds it, the same command buys the "
        "rest in another channel"
    )
    market.chain.mine(1)
    market.restart()
    assert market.quote().purchase.bought == (4, 5)
    assert market.buy().paid_sat == 2 * PRICE
    assert market.is_whole()
    paid = [market.pair.payer_record(name).paid.sat for name in market.pair.payer.channels.names()]
    assert sorted(paid) == [2 * PRICE, 3 * PRICE]
