"""A buyer that cheats: whatever it asks, it gets no piece that it has not paid for, and stops no sale."""

from __future__ import annotations

import builtins
import hmac
import io
import os
from pathlib import Path
from typing import Any

import pytest
from support.market.cheats import Forger, body_of
from support.market.market import PRICE, Market, each_scheme
from support.protocol import STRANGER_SECRET, bent, message, scheme_of, unsigned_message

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.carried import with_offer
from mpchan.channel.payer import refund_request
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible
from mpchan.party.common import read_psbt
from mpchan.party.offers.selling import offer_for
from mpchan.party.payee import sign_refund
from mpchan.transport.base import Message
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.wallet import Wallet

ANN, BOB = "aa" * 16, "bb" * 16


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is opened."""
    names: list[str] = []

    def noting(real: Any) -> Any:
        return lambda path, *more, **named: (names.append(str(path)), real(path, *more, **named))[1]

    for module in (os, io, builtins):
        monkeypatch.setattr(module, "open", noting(module.open))
    return names


@pytest.fixture
def ann(market: Market) -> Forger:
    """A buyer with a channel for all five pieces."""
    buyer = Forger(market, ANN)
    buyer.open()
    return buyer


# payments -----------------------------------------------------------------------------------------


@each_scheme
def test_half_a_piece_and_a_half(market: Market, ann: Forger) -> None:
    for paid in (294, 500, 999, 1_001, 1_500, 2_999):
        ann.refused("update", ann.update(1, paid), "uneven-payment")
    assert ann.pay(1) == 1
    for paid in (*((1_000,) if market.exchanges else ()), 1_294, 1_999, 2_500):
        ann.refused("update", ann.update(2, paid), "uneven-payment", "below-increment")
    for paid in (0, 293):
        ann.refused("update", ann.update(2, paid), "uneven-payment", "payee-script")
    assert ann.received == PRICE


@each_scheme
def test_several_pieces_at_once(market: Market, ann: Forger) -> None:
    """The last one comes by itself, and the others when they are asked for."""
    assert ann.pay(3) == 3
    assert [ann.piece(number) for number in (1, 2, 3)] == [1, 2, 3]
    ann.refused("piece", body_of(4), "piece-unpaid")
    assert ann.received == 3 * PRICE


@each_scheme
def test_more_than_there_is(market: Market, ann: Forger) -> None:
    terms = ann.terms
    assert terms.capacity.sat == 5 * PRICE
    assert ann.pay(5) == 5
    update = ann.update(6, 5 * PRICE)
    if market.exchanges:
        ann.refused("update", update, "below-increment")
    else:  # without a number it is the one before
        assert ann.number_of(ann.ask("update", update)) == 5
    assert ann.received == 5 * PRICE


@each_scheme
def test_updates_again_and_older_ones(market: Market, ann: Forger) -> None:
    """The same one again delivers again and brings nothing; one that is older is no payment."""
    updates = [ann.update(number, number * PRICE) for number in range(1, 5)]
    for update in updates[:3]:
        ann.ask("update", update)
    before = market.pair.files()
    for _ in range(3):
        assert ann.number_of(ann.ask("update", updates[2])) == 3
        assert market.events[-1].received.sat == 0
    assert market.pair.files() == before
    for old in updates[:2]:
        ann.refused("update", old, "update-number", "paid-lower")
    ann.refused("update", ann.update(4, 2 * PRICE), "paid-lower")
    if market.exchanges:
        ann.refused("update", ann.update(4, 3 * PRICE), "below-increment")
    assert ann.received == 3 * PRICE
    assert ann.number_of(ann.ask("update", updates[3])) == 4


@each_scheme
def test_an_update_that_the_buyer_did_not_sign(market: Market, ann: Forger) -> None:
    """The seller's own keys are no help either."""
    meant = ann.terms.schedule.update(1, Amount(PRICE))
    ann.refused("update", ann.terms.lock.message(ann.terms.schedule.build(meant)), "missing-signature")
    payee = market.pair.payee.keys.key_of_offer(OwnOffer(ann.terms.offer))
    theirs = ann.signed(meant, payee._private_key)
    ann.refused("update", theirs, "wrong-signer", "missing-signature", "extra-signature")
    ann.refused("update", ann.signed(meant, STRANGER_SECRET), "missing-signature")
    if market.exchanges:
        ann.refused("settlement", ann.update(1, PRICE), "not-a-settlement")


# pieces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [0, -1, 6, 50, 10**9, 10**30, "3", "", True, False, None, 1.5, 3.0, [3], {"piece": 3}, "\x1b[2J" * 999],
)
def test_pieces_that_there_are_not(market: Market, number: object) -> None:
    ann = Forger(market, ANN)
    ann.refused("piece", body_of(number), "malformed-request")


@each_scheme
def test_pieces_that_are_not_paid_for(market: Market) -> None:
    """Nor those that this offer does not sell, whatever else is paid for."""
    ann = Forger(market, ANN)
    ann.open("2-3,5")
    for number in range(1, 6):
        ann.refused("piece", body_of(number), "piece-unpaid", "unknown-session")
    assert ann.pay(1) == 2
    assert ann.pay(2) == 3
    assert [ann.piece(number) for number in (2, 3)] == [2, 3]
    for number in (1, 4, 5):
        ann.refused("piece", body_of(number), "piece-unpaid")
    assert ann.pay(3) == 5
    for number in (1, 4):
        ann.refused("piece", body_of(number), "piece-unpaid")


def test_a_sample_is_for_everybody(quick_path: Path, chain: EmbeddedChain) -> None:
    market = Market(quick_path, chain, free=2)
    stranger = Forger(market, "cc" * 16)
    assert [stranger.piece(number) for number in (1, 2)] == [1, 2]
    stranger.refused("piece", body_of(3), "unknown-session")
    for pieces in ("1", "2-3", "1-5"):
        stranger.refused("offer", stranger.wish(pieces), "malformed-sale")


# wishes -------------------------------------------------------------------------------------------


def test_wishes_for_something_else(market: Market) -> None:
    ann = Forger(market, ANN)
    plain = market.pair.offer().split('offer_id = "')[1][:32]
    for offer_id in ("0" * 16, "0" * 32, plain):
        ann.refused("offer", ann.wish("1-5", offer_id=offer_id), "other-sale")
    for offer_id in ("", "x", "../" * 5 + "x", "a" * 300, market.own.offer.offer_id.upper() + "\0"):
        ann.refused("offer", ann.wish("1-5", offer_id=offer_id or "-"), "malformed-request")
    for pieces in (
        "",
        "0",
        "0-5",
        "6",
        "1-6",
        "5-1",
        "1,1",
        " 1",
        "1-5 ",
        "01",
        "all",
        "9" * 9999,
        "\x1b[2J",
    ):
        ann.refused("offer", ann.wish(pieces), "malformed-pieces")
    ann.refused("offer", ann.wish("1-5", session=BOB), "other-session")
    assert len(market.pair.payee.offers.ids()) == 2


@each_scheme
def test_a_wish_leaves_nothing(market: Market) -> None:
    """The same one has the same offer, in any spelling and after a restart; another one has another."""
    ann = Forger(market, ANN)
    before = market.pair.files()
    offer = ann.offer("1-3,5")
    for spelling in ("1-3,5", "1,2,3,5", "1-2,3-3,5"):
        assert ann.offer(spelling) == offer
    assert len({ann.offer(pieces).offer_id for pieces in ("1-3,5", "1-5", "1-4", "1")}) == 4
    assert Forger(market, BOB).offer("1-3,5").offer_id != offer.offer_id
    market.restart()
    assert ann.offer("1-3,5") == offer
    assert market.pair.files() == before


def test_the_id_of_an_offer_can_be_computed(market: Market) -> None:
    """HMAC of the published one's id over the session and the pieces."""
    ann = Forger(market, ANN)
    digest = hmac.new(bytes.fromhex(market.own.offer.offer_id), bytes.fromhex(ANN) + b"1-3,5", "sha256")
    assert ann.offer("1,2,3,5").offer_id == digest.hexdigest()[:32]


@each_scheme
def test_one_session_has_one_wish(market: Market) -> None:
    """From the signed refund on; another wish takes another session, also after a restart."""
    market.pair.coin()
    ann, twin = Forger(market, ANN), Forger(market, ANN)
    asked = twin.opening("1-4").hex
    ann.open("1-3,5")
    begins = ("refund", asked) if market.exchanges else ("update", twin.update(1, PRICE))
    if not market.exchanges:
        ann.pay(1)
    for _ in range(2):
        for pieces in ("1-5", "1-4", "1"):
            ann.refused("offer", ann.wish(pieces), "wish-changed")
        ann.refused(*begins, "wish-changed")
        if market.exchanges:
            ann.offer("1-3,5")
        else:
            ann.refused("offer", ann.wish("1-3,5"), "offer-used")
        market.restart()


def test_an_offer_that_is_made_out_makes_out_none(market: Market) -> None:
    """By hand one could be asked for under it, were it kept."""
    ann = Forger(market, ANN)
    made_out = ann.offer("2")
    wish = ann.wish("1-5", session=BOB, offer_id=made_out.offer_id)
    with pytest.raises(NotPossible) as caught:
        offer_for(market.pair.payee, wish)
    assert caught.value.slug == "unknown-offer"
    market.pair.payee.offers.save(made_out)
    with pytest.raises(NotPossible) as caught:
        offer_for(market.pair.payee, wish)
    assert caught.value.slug == "made-out"


def test_openings_of_strangers_make_no_other_one_slow(market: Market, touched: list[str]) -> None:
    """To sign a refund, no channel is opened that the seller has read before, however many there are."""
    crowd = [Forger(market, f"{number:032x}") for number in range(5)]
    for one in crowd[:3]:
        market.pair.coin()
        sign_refund(market.pair.payee, market.chain, read_psbt(bytes.fromhex(one.opening().hex)))
    market.restart()
    market.pair.coin()
    request = crowd[3].request("refund", crowd[3].opening().hex)
    market.seller.answer(crowd[4].request("offer", crowd[4].wish("1")))  # whatever is read once only
    touched.clear()
    assert isinstance(market.seller.answer(request), Message)
    place = str(market.pair.payee.directory / "channels")
    opened = {Path(name).stem for name in touched if name.startswith(f"{place}/")}
    assert crowd[3].name in opened
    assert not opened & {one.name for one in crowd[:3]}


def test_what_a_command_beside_the_sale_signs_is_seen(market: Market) -> None:
    """The offer is used up then, and so is the payer's key; a file that is damaged afterwards changes nothing."""
    ann, beside = Forger(market, ANN), Wallet.open(market.pair.payee.directory)
    market.pair.coin()
    asked = read_psbt(bytes.fromhex(ann.opening().hex))
    sign_refund(beside, market.chain, asked)
    other = replace(ann.terms, outpoint=OutPoint(Txid(b"\x01" * 32), 0))
    bob = replace(other, offer=Forger(market, BOB).offer())
    ann.refused("refund", asking_under(other), "offer-used")
    Forger(market, BOB).refused("refund", asking_under(bob), "payer-key-used")
    state, payee = beside.channels.state_path(ann.name), market.pair.payee
    whole = state.read_bytes()
    for content in (whole, whole.replace(b"active", b"actife")):
        state.write_bytes(content)
        for wallet in (payee, Wallet.open(payee.directory)):
            assert wallet.offers.knows_key(other.payer_key.sec)
            assert wallet.offers.served_by(other.offer) == ann.name
            assert not wallet.offers.knows_key(other.payer_key.sec, apart_from=[ann.name])
            assert wallet.offers.served_by(bob.offer) is None
    state.write_bytes(whole)
    assert isinstance(ann.ask("refund", asked), Message)


def asking_under(terms: Terms) -> Psbt:
    """A refund request for any terms."""
    return with_offer(unsigned_message(terms, scheme_of(terms).refund()), terms.offer)


# other sessions -----------------------------------------------------------------------------------


@each_scheme
def test_nothing_without_a_session(market: Market, ann: Forger) -> None:
    update, settlement = ann.update(1, PRICE), ann.settlement(0)
    stranger = Forger(market, BOB)
    funding = market.pair.payer_record(ann.name).funding
    assert funding is not None
    brings = "unknown-session" if market.exchanges else "other-session"
    for _ in range(2):
        for kind, body in (("update", update), ("settlement", settlement)):
            stranger.refused(kind, body, brings)
        stranger.refused("funding", funding.to_hex(), "unknown-session")
        stranger.refused("piece", body_of(1), "unknown-session")
        stranger.offer()


@each_scheme
def test_what_belongs_to_another_session(market: Market, ann: Forger) -> None:
    """Each with messages of the other, which are good ones in their own place."""
    market.pair.coin()
    bob = Forger(market, BOB)
    if market.exchanges:
        ann.refused("refund", bob.opening().hex, "other-session")
    bob.open()
    ann.refused("update", bob.update(1, PRICE), "other-session")
    assert (ann.pay(3), bob.pay(1)) == (3, 1)
    for one, other in ((ann, bob), (bob, ann)):
        funding = market.pair.payer_record(other.name).funding
        assert funding is not None
        one.refused("offer", other.wish("1-5"), "other-session")
        one.refused("funding", funding.to_hex(), "other-session")
        one.refused("update", other.update(4, 4 * PRICE), "other-session")
        one.refused("settlement", other.settlement(3 * PRICE), "other-session")
    bob.refused("piece", body_of(2), "piece-unpaid")
    assert (ann.received, bob.received) == (3 * PRICE, PRICE)
    assert (ann.pay(4), bob.pay(2)) == (4, 2)


def test_a_second_channel_under_one_offer(market: Market, ann: Forger) -> None:
    """The very refund that was signed comes again, the same bytes; another one never."""
    record = market.pair.payer_record(ann.name)
    request = refund_request(record.state)
    assert ann.ask("refund", request) == ann.ask("refund", request)
    moved = bent(request.tx, outpoint=OutPoint(Txid(b"\x01" * 32), 0))
    ann.refused("refund", with_offer(message(record.terms, moved), record.terms.offer), "offer-used")
    ann.refused(
        "refund",
        message(record.terms, bent(request.tx, lock_time=request.tx.lock_time + 1)),
        "outpoint-signed",
    )
