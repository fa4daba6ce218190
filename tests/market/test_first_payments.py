"""A sale without an exchange: what comes before a channel, and the first payment that brings it; by whoever cheats."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from support.market.cheats import Forger, body_of
from support.market.market import PRICE, Market, honest, unheard
from support.market.strangers import Stranger
from support.party import balance_sat, new_wallet, psbt
from support.protocol import make_offer, make_terms, scheme_of, unsigned_message

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.carried import with_offer
from mpchan.channel.construction.base import REFUND
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError, NotPossible, TooEarly
from mpchan.market.asking import Step
from mpchan.party import payee
from mpchan.party.backup import backup, restore
from mpchan.party.check.fsck import fsck
from mpchan.transport.base import Message, Refusal
from mpchan.units import Amount, Height
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

CACHE = type(lru_cache(len))
ANN, BOB = "aa" * 16, "bb" * 16


@pytest.fixture
def scheme() -> str:
    return "taproot"


@pytest.fixture
def ann(market: Market) -> Forger:
    """A buyer whose funding is in a block, and who has paid nothing."""
    buyer = Forger(market, ANN)
    buyer.open()
    return buyer


def kept(market: Market) -> list[str]:
    """The channels and openings that the seller has."""
    wallet = market.pair.payee
    return [*wallet.channels.names(), *(["openings"] if len(wallet.openings) else [])]


# strangers ----------------------------------------------------------------------------------------


def test_strangers_leave_nothing(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a wish nor a payment without money is remembered, on the disk or in memory."""
    monkeypatch.setattr("mpchan.wallet.keys.MOST_CHANNEL_KEYS", 16)
    before = market.pair.files()
    _objects_after(market, range(20))  # what is read once only
    few, more = (_objects_after(market, range(start, start + 20)) for start in (20, 40))
    assert market.pair.files() == before
    assert kept(market) == []
    assert sum((more - few).values()) < 20


def _objects_after(market: Market, numbers: range) -> Counter[type]:
    """What the process holds once these strangers have come and gone; but for caches, which have a bound."""
    for number in numbers:
        one = Stranger(number)
        answer = one.ask(market, "update", one.payment(market))
        assert isinstance(answer, Refusal)
        assert b'"funding-unseen"' in answer.body
    market.events.clear()
    for cache in [each for each in gc.get_objects() if isinstance(each, CACHE)]:
        cache.cache_clear()
    gc.collect()
    return Counter(map(type, gc.get_objects()))


def test_a_buyer_that_never_pays_leaves_nothing(market: Market, ann: Forger) -> None:
    """Its funding is in the chain all the same, and comes back without the seller."""
    before = market.pair.files()
    market.restart()
    ann.refused("piece", body_of(1), "unknown-session")
    funding = market.pair.payer_record(ann.name).funding
    assert funding is not None
    ann.refused("funding", funding.to_hex(), "unknown-session")
    assert kept(market) == []
    assert market.pair.files() == before
    market.pair.mine_to(ann.terms.refund_lock_time.value)
    assert market.pair.refund(ann.name).broadcast
    market.chain.mine(1)
    assert market.pair.payer_record(ann.name).status(None).value == "refunding"
    assert balance_sat(market.pair.payee, market.chain) == 0


@pytest.mark.parametrize("kind", ["update", "settlement"])
def test_a_settlement_of_nothing(market: Market, kind: str) -> None:
    """While its funding can be taken away it leaves nothing; then it closes the channel, and the money comes back."""
    ann = Forger(market, ANN)
    ann.open(blocks=0)
    slug = "funding-unconfirmed" if kind == "settlement" else "uneven-payment"
    ann.refused(kind, ann.settlement(0), slug)
    market.chain.mine(1)
    if kind == "update":
        ann.refused(kind, ann.settlement(0), "uneven-payment")
        assert kept(market) == []
        return
    before = balance_sat(market.pair.payer, market.chain)
    assert isinstance(ann.ask(kind, ann.settlement(0)), Message)
    market.chain.mine(1)
    assert market.pair.status(ann.name) == ("closed", "closed")
    assert balance_sat(market.pair.payer, market.chain) - before == 5 * PRICE


def test_a_settlement_can_bring_its_channel(market: Market, ann: Forger) -> None:
    """The first payment was never heard of, and the buyer gives up: what it signed is paid, the rest comes back."""
    ann.update(1, PRICE)
    ann.refused("settlement", ann.settlement(PRICE + 1), "uneven-payment")
    assert kept(market) == []
    assert isinstance(ann.ask("settlement", ann.settlement(PRICE)), Message)
    ann.refused("piece", body_of(1), "settlement-unconfirmed")
    market.chain.mine(1)
    assert ann.piece(1) == 1
    assert ann.received == PRICE


# offers that the seller did not make -----------------------------------------------------------------


def forged(market: Market, ann: Forger, offer: Offer) -> Psbt:
    """A first payment in Ann's channel with another offer in it, signed for what the seller would build of it."""
    terms = replace(ann.terms, offer=offer)
    transaction = terms.schedule.build(terms.schedule.update(1, Amount(PRICE)))
    signature = terms.lock.sign_checked(market.pair.payer_secret(ann.name), transaction)
    return terms.lock.message(transaction, terms.payer_key, signature)


STRANGE_ADDRESS = script_to_address(key_to_p2wpkh_script(b"\x02" * 33), REGTEST)
ALTERED: dict[str, Any] = {
    "offer_id": "ab" * 16,
    "generation": "cd" * 8,
    "payee_address": STRANGE_ADDRESS,
    "fee_rate_sat_per_kvb": 1000,
    "max_refund_delay": 4000,
    "settle_window": 1,
    "min_increment_sat": 1,
    "min_capacity_sat": 1,
    "max_capacity_sat": 10**9,
    "expires": 2_000_000_000,
    "memo": "cheap",
    "made_at": 1,
    "price_sat": 1,
    "sold": "1-4",
    "name": "other",
    "free_pieces": 4,
    "piece_length": 999,
}


@pytest.mark.parametrize("key", ALTERED)
def test_an_offer_that_was_altered(market: Market, ann: Forger, key: str) -> None:
    """Nothing is kept, whatever is altered; the very offer is taken after that."""
    offer = ann.terms.offer
    table = offer.to_dict()
    place = next(each for each in (table, table["sale"], table["taproot"]) if key in each)
    assert place[key] != ALTERED[key]
    place[key] = ALTERED[key]
    try:
        altered = Offer.from_dict(table)
    except MpchanError:  # such an offer there is not
        return
    ann.refused("update", forged(market, ann, altered), "unknown-offer", "malformed-sale", "wish-changed")
    assert kept(market) == []
    assert ann.pay(1) == 1


def test_offers_that_are_not_this_sessions(market: Market, ann: Forger) -> None:
    """The published one, another buyer's, one without a sale, and one of another wallet with the same words."""
    others = [
        market.published,
        Forger(market, BOB).offer(),
        Offer.from_toml(market.pair.offer(min_refund_delay=25)),
    ]
    for offer in others:
        ann.refused("update", forged(market, ann, offer), "other-session")
    stranger = market.pair.payer.keys.offer_token(ann.terms.offer)
    ann.refused("update", forged(market, ann, replace(ann.terms.offer, token=stranger)), "unknown-offer")
    assert kept(market) == []
    assert ann.pay(1) == 1


def test_a_voucher_is_nobodys_second_channel(market: Market, ann: Forger) -> None:
    """It stands outside of the token, so that another one makes no other offer: an offer serves one outpoint."""
    offer = ann.terms.offer
    other = replace(offer, sale={**(offer.sale or {}), "voucher": "00" * 70})
    assert ann.pay(1) == 1
    own, market.pair.payer = market.pair.payer, new_wallet(market.directory / "eve")
    market.pair.coin()
    eve = Forger(market, ANN)
    eve.name = market.pair.open_under(offer.to_toml(), 5 * PRICE)
    for bent in (offer, other):
        eve.refused("update", forged(market, eve, bent), "offer-used")
    market.pair.payer = own
    assert (ann.pay(2), kept(market)) == (2, [ann.name])


def test_whoever_pays_first_has_the_offer(market: Market, ann: Forger) -> None:
    """Somebody who reads the mailbox opens a channel under Ann's offer: she is told, and her refund needs nobody."""
    own, market.pair.payer = market.pair.payer, new_wallet(market.directory / "eve")
    market.pair.coin()
    eve = Forger(market, ANN)
    eve.name = market.pair.open_under(own_offer(own, ann).to_toml(), 5 * PRICE)
    assert eve.pay(1) == 1
    market.pair.payer = own
    ann.refused("update", ann.update(1, PRICE), "offer-used")
    market.pair.mine_to(ann.terms.refund_lock_time.value)
    assert market.pair.refund(ann.name).broadcast


def own_offer(wallet: Wallet, buyer: Forger) -> Offer:
    """The offer of a buyer's channel, as its wallet has it."""
    return wallet.channels.load(buyer.name).terms.offer


# money that is another's ----------------------------------------------------------------------------


def test_an_outpoint_that_is_anothers(market: Market, ann: Forger) -> None:
    """Eve brings a channel of her own on Ann's funding, be it before Ann has paid or after."""
    eve = Stranger(7)
    terms = replace(eve.terms(market), outpoint=ann.terms.outpoint)

    def brought() -> bytes:
        transaction = terms.schedule.build(terms.schedule.update(1, Amount(PRICE)))
        signature = terms.lock.sign_checked(eve._key, transaction)
        return bytes.fromhex(terms.lock.message(transaction, terms.payer_key, signature).to_hex())

    answer = eve.ask(market, "update", brought())
    assert isinstance(answer, Refusal)
    assert b'"funding-script"' in answer.body
    assert kept(market) == []
    assert ann.pay(1) == 1
    answer = eve.ask(market, "update", brought())
    assert isinstance(answer, Refusal)
    assert b'"unknown-session"' in answer.body
    assert ann.pay(2) == 2


def test_a_funding_of_another_value(market: Market, ann: Forger) -> None:
    """The capacity is what the output holds, whatever a message says; it is one of those that the offer allows."""
    for value in (ann.terms.funding_value.sat - 1, ann.terms.funding_value.sat + 1, 2_000):
        terms = replace(ann.terms, funding_value=Amount(value))
        ann.refused("update", _paid_in(market, ann, terms), "capacity", "funding-value", "over-capacity")
    assert kept(market) == []


def _paid_in(market: Market, ann: Forger, terms: Terms) -> Psbt:
    transaction = terms.schedule.build(terms.schedule.update(1, Amount(PRICE)))
    signature = terms.lock.sign_checked(market.pair.payer_secret(ann.name), transaction)
    return terms.lock.message(transaction, terms.payer_key, signature)


@pytest.mark.parametrize(
    ("bend", "slug"),
    [
        (lambda tip, good: good + 1, "refund-grid"),
        (lambda tip, good: tip // 36 * 36, "near-deadline"),
        (lambda tip, good: good + 360, "refund-late"),
    ],
)
def test_lock_times_that_no_channel_has(market: Market, bend: Callable[[int, int], int], slug: str) -> None:
    """They are refused before the chain is asked for the funding: what is locked so is the payer's own matter."""
    ann = Forger(market, ANN)
    terms = Stranger(9).terms(market)
    good = terms.refund_lock_time.value
    at = bend(market.chain.tip().height, good)
    ann.open()
    refused = replace(ann.terms, refund_lock_time=Height(at))
    ann.refused("update", _paid_in(market, ann, refused), slug)
    assert kept(market) == []


# the exchange that there is not ---------------------------------------------------------------------


def test_no_refund_is_signed(market: Market, ann: Forger) -> None:
    """Whatever is asked for under such an offer: nobody's key signs what the leaves already allow."""
    refund = ann.terms.schedule.build(REFUND)
    decoy = replace(make_offer(version=2), own_terms={"step": 1})
    decoyed = make_terms(replace(decoy, payee_key=ann.terms.offer.payee_key))
    old = with_offer(unsigned_message(decoyed, scheme_of(decoyed).refund()), ann.terms.offer)
    for asked in (ann.terms.lock.message(refund), ann.update(1, PRICE), old):
        ann.refused("refund", asked, "no-opening-exchange")
    assert kept(market) == []
    assert ann.pay(1) == 1
    for asked in (ann.terms.lock.message(refund), ann.update(1, PRICE), old):
        ann.refused("refund", asked)


# a seller that was restored, and a buyer that was -----------------------------------------------------


def restored(market: Market) -> None:
    """The seller's wallet is one from a backup, of another generation."""
    copy, place = market.directory / "copy", market.pair.payee.directory
    backup(market.pair.payee, copy)
    place.rename(place.with_name("lost"))
    restore(copy.read_bytes(), place)
    market.pair.payee = Wallet.open(place)
    market.own = market.publish()
    market.restart()


def test_a_buyer_of_an_older_generation(market: Market, ann: Forger) -> None:
    """A seller's signature cannot hurt it here, so whoever has locked money under the lost wallet's offer is served."""
    generation = market.own.offer.generation
    restored(market)
    assert market.own.offer.generation != generation
    assert (ann.pay(1), ann.pay(3), ann.piece(2)) == (1, 3, 2)
    assert fsck(market.pair.payee).exit_code == 0
    Forger(market, BOB).offer()


def test_a_restored_buyer_locks_no_second_money(market: Market) -> None:
    """Its copy is older than its channel: the seller, which has that channel, makes no offer out to it again."""
    early, place = market.directory / "early", market.pair.payer.directory
    market.pair.coin()
    _bought_partly(market, early)
    place.rename(place.with_name("lost-buyer"))
    restore(early.read_bytes(), place)
    market.pair.payer = Wallet.open(place)
    market.restart()
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert "(offer-used)" in caught.value.message
    assert market.pair.payer.channels.names() == []


def _bought_partly(market: Market, early: Path) -> None:
    """The buyer's first payment is the last that it does; a backup was made when it had its offer and no channel."""

    class Steps(list[Step]):
        def append(self, step: Step) -> None:
            super().append(step)
            if step.kind == "offer":
                backup(market.pair.payer, early)

    market.steps = Steps()
    market.bend = unheard(lambda request: request.kind == "update")
    with pytest.raises(TooEarly):
        market.buy()
    market.bend = honest


# late buyers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_first_payment_after_the_offer_has_expired(
    market: Market, monkeypatch: pytest.MonkeyPatch, confirmed: bool
) -> None:
    """A funding that a block took in before is honoured; one that waits is not, and comes back by the refund."""
    ann = Forger(market, ANN)
    ann.open(blocks=1 if confirmed else 0)
    later = float(market.own.offer.expires + 1)
    monkeypatch.setattr("mpchan.party.common.time.time", lambda: later)
    if confirmed:
        assert ann.pay(1) == 1
    else:
        ann.refused("update", ann.update(1, PRICE), "offer-expired")
        assert kept(market) == []
    ann.refused("offer", ann.wish("1-5"), "offer-expired")


# by hand --------------------------------------------------------------------------------------------


def test_what_was_taken_by_hand_is_the_sessions(market: Market, ann: Forger) -> None:
    """``payee accept`` beside the sale: the seller goes on with that channel."""
    beside = Wallet.open(market.pair.payee.directory)
    assert market.seller.session_of(ann.name) is None
    update = ann.update(1, PRICE)
    assert payee.accept(beside, market.chain, psbt(update.to_hex())).paid_sat == PRICE
    assert (ann.piece(1), ann.pay(2)) == (1, 2)


def test_many_buyers_in_turn(quick_path: Path, chain: EmbeddedChain) -> None:
    """Each has its channel and its pieces, whoever comes between."""
    market = Market(quick_path, chain, scheme="taproot")
    buyers = [Forger(market, f"{number:032x}") for number in range(8)]
    for buyer in buyers:
        market.pair.coin()
        buyer.open(blocks=0)
    market.chain.mine(1)
    assert buyers[0].pay(1) == 1
    assert market.seller.session_of(buyers[0].name) == buyers[0].session  # for the watcher, which tells of it
    for pieces in (1, 2, 3):
        assert [buyer.pay(pieces) for buyer in buyers] == [pieces] * len(buyers)
    for buyer in buyers:
        assert isinstance(buyer.ask("settlement", buyer.settlement(3 * PRICE)), Message)
    market.chain.mine(1)
    assert balance_sat(market.pair.payee, chain) == 3 * PRICE * len(buyers)
    assert len(kept(market)) == len(buyers)
