"""A seller that publishes another offer, or whose wallet is restored, in the middle of a sale: one channel ends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.market.cheats import Forger, body_of, refusing
from support.market.market import PRICE, Market, honest, killed, unheard

from mpchan.channel import payer
from mpchan.channel.construction.registry import CONSTRUCTIONS, construction
from mpchan.channel.offer import Offer
from mpchan.errors import NotPossible, Refused, TooEarly
from mpchan.market.own_channel import OwnChannel
from mpchan.party import payee as payee_commands
from mpchan.party.backup import backup, restore
from mpchan.party.common import read_psbt
from mpchan.party.offers.selling import offer_for
from mpchan.transport.base import Message, Refusal
from mpchan.wallet.purchases import Purchases
from mpchan.wallet.wallet import Wallet

ANN = "aa" * 16

STOPS = ("offer", "refund", "funding", "update", "settlement")
EACH_STOP = [
    (name, kind)
    for name in CONSTRUCTIONS
    for kind in STOPS
    if construction(name).has_exchange or kind not in ("refund", "funding")
]


def stopped(market: Market, kind: str, count: int = 1) -> None:
    """The buyer ends at the ``count``-th answer of a kind: the seller has done its part, and is not heard."""

    market.bend = unheard(lambda request: request.kind == kind and len(market.asked(kind)) >= count)
    with pytest.raises(TooEarly):
        market.buy()
    market.bend = honest


def renewed(market: Market) -> None:
    """The seller starts again with another fee rate: another published offer."""
    before = market.own
    market.own = market.publish(fee_rate_sat_per_kvb=3000)
    assert market.own.offer.offer_id != before.offer.offer_id
    market.restart()


def restored(market: Market, copy: Path | None = None) -> None:
    """The seller's wallet is a restored one, in its old place; what was published before is void."""
    place = market.pair.payee.directory
    if copy is None:
        copy = market.directory / "copy"
        backup(market.pair.payee, copy)
    place.rename(place.with_name(f"lost-{copy.name}"))
    restore(copy.read_bytes(), place)
    market.pair.payee = Wallet.open(place)
    market.own = market.publish()
    market.restart()


def restored_and_renewed(market: Market) -> None:
    restored(market)
    renewed(market)


EVENTS = pytest.mark.parametrize("happens", [renewed, restored_and_renewed])


def check_one_channel(market: Market) -> None:
    """The file is whole and paid once; one channel was ever funded."""
    assert market.is_whole()
    records = [market.pair.payer_record(name) for name in market.pair.payer.channels.names()]
    going = [record for record in records if not isinstance(record.state, payer.Abandoned)]
    assert [record.paid.sat for record in going] == [5 * PRICE]
    assert all(record.state.funded is None for record in records if isinstance(record.state, payer.Abandoned))
    assert market.pair.payee_record(going[0].terms.name).paid.sat == 5 * PRICE
    market.chain.mine(1)
    assert market.pair.status(going[0].terms.name) == ("closed", "closed")
    purchases = Purchases(market.pair.payer.directory)
    assert all(purchases.load(path).done for path in purchases.files())


@pytest.mark.parametrize("happens", [renewed, restored, restored_and_renewed])
@pytest.mark.parametrize(("scheme", "kind"), EACH_STOP, indirect=["scheme"])
def test_the_same_command_ends_in_one_channel(
    market: Market, kind: str, happens: Callable[[Market], None]
) -> None:
    stopped(market, kind, 2 if kind == "update" else 1)
    happens(market)
    market.buy()
    assert len({request.session for line in market.lines for request in line.asked}) == 1
    check_one_channel(market)


@EVENTS
@pytest.mark.parametrize(
    ("scheme", "kind"),
    [each for each in EACH_STOP if each[1] not in ("offer", "refund")],
    indirect=["scheme"],
)
def test_so_it_does_with_the_offer_that_the_buyer_has(
    market: Market, kind: str, happens: Callable[[Market], None]
) -> None:
    """Its own copy, from before: once money is locked it does not matter what is published."""
    stopped(market, kind, 2 if kind == "update" else 1)
    before = market.own
    happens(market)
    seller = market.seller
    market.own = before
    assert market.quote().goes_on
    market.buy()
    assert market.seller is seller
    check_one_channel(market)


@pytest.mark.parametrize("scheme", ["taproot"], indirect=True)
@pytest.mark.parametrize("happens", [renewed, restored, restored_and_renewed])
def test_money_that_the_seller_has_not_heard_of(market: Market, happens: Callable[[Market], None]) -> None:
    """Whatever is published when the first payment comes, and whichever copy of its wallet the seller has."""
    market.stop_funded()
    assert market.pair.payee.channels.names() == []
    happens(market)
    assert market.quote().goes_on
    market.buy()
    assert len(market.asked("offer")) == 1
    check_one_channel(market)


@pytest.mark.parametrize("scheme", ["taproot"], indirect=True)
def test_an_offer_that_the_seller_does_not_make_any_more(market: Market) -> None:
    """It is asked for again before money is locked under it: the seller's wallet was restored, or it sells no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OwnChannel, "_open_channel", killed)
        with pytest.raises(TooEarly):
            market.buy()
    market.restart()
    [path] = Purchases(market.pair.payer.directory).files()
    before = market.own
    assert Purchases(market.pair.payer.directory).load(path).own is not None
    market.bend = unheard(lambda request: request.kind == "offer")
    with pytest.raises(TooEarly) as caught:
        market.buy()
    assert "nothing is paid and nothing is locked" in str(caught.value.hint)
    market.bend = honest
    restored(market)
    new, market.own = market.own, before
    with pytest.raises(NotPossible) as refused:
        market.buy()
    assert "(offer-void)" in refused.value.message
    assert market.pair.payer.channels.names() == []
    assert Purchases(market.pair.payer.directory).files() == [path]
    market.own = new
    market.buy()
    check_one_channel(market)


def test_what_was_agreed_to_holds_where_money_is_locked(market: Market) -> None:
    """A dearer file, and other samples, are for those who come later; before that it is asked about again."""
    stopped(market, "update", 2)
    session = market.quote().purchase.session
    market.sale = market.sale.__class__.from_table(
        {**market.sale.to_table(), "price_sat": 2 * PRICE, "free_pieces": 2}
    )
    market.own = market.publish()
    market.restart()
    found = market.quote()
    assert (found.sale.price.sat, found.goes_on, found.purchase.session) == (PRICE, True, session)
    market.buy()
    check_one_channel(market)


def test_a_dearer_file_is_another_price_before_money_is_locked(market: Market) -> None:
    stopped(market, "refund")
    market.sale = market.sale.__class__.from_table({**market.sale.to_table(), "price_sat": 2 * PRICE})
    market.own = market.publish()
    market.restart()
    found = market.quote()
    assert (found.capacity.sat, found.goes_on, found.purchase.own) == (10 * PRICE, False, None)
    assert market.buy().paid_sat == 10 * PRICE
    assert market.is_whole()


def test_an_offer_of_a_lost_wallet_is_asked_for_again(market: Market) -> None:
    """The wallet is restored from before the offer was made out, and the buyer hears of nothing but a refusal."""
    backup(market.pair.payee, market.directory / "early")
    stopped(market, "refund")
    before = market.own
    restored(market, market.directory / "early")
    # what is published is another text, but this buyer has no other than its own: the seller says so
    new, market.own = market.own, before
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert (caught.value.slug, "(offer-void)" in caught.value.message) == ("seller-refused", True)
    assert "the seller publishes another offer now" in str(caught.value.hint)
    market.own = new
    market.buy()
    check_one_channel(market)


def test_a_seller_that_never_has_it_enough_is_asked_once_more(market: Market) -> None:
    """What it refuses is not waited for, nor asked for in a circle."""
    market.bend = lambda request, answer: refusing("offer-void") if request.kind == "refund" else answer
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert "nothing is paid and nothing is locked" in str(caught.value.hint)
    assert (len(market.asked("offer")), len(market.asked("refund"))) == (2, 1)
    market.bend = honest
    market.buy()
    check_one_channel(market)


def test_nothing_is_given_up_once_money_is_locked(market: Market) -> None:
    for kind in ("funding", "update"):
        market.bend = lambda request, answer, kind=kind: (  # type: ignore[misc]
            refusing("unknown-session") if request.kind == kind else answer
        )
        with pytest.raises(NotPossible) as caught:
            market.buy()
        assert "come back from block" in str(caught.value.hint)
        assert len(market.asked("offer")) == 1
    market.bend = honest
    market.buy()
    check_one_channel(market)


def test_of_two_purchases_that_were_begun_the_one_with_a_channel_goes_on(market: Market) -> None:
    """Versions before this one began another under every published offer."""
    stopped(market, "update", 2)
    purchases = Purchases(market.pair.payer.directory)
    [path] = purchases.files()
    going = purchases.load(path)
    for session in ("0" * 32, "f" * 32):
        purchases.save(going.__class__(session, going.published, going.output, going.wanted, going.bought))
    assert market.quote().purchase == going


# by hand ------------------------------------------------------------------------------------------


def by_hand(market: Market, wish: bytes) -> Offer:
    """``payee offer --for``."""
    return Offer.from_toml(offer_for(market.pair.payee, wish).toml)


@EVENTS
def test_a_seller_by_hand(market: Market, happens: Callable[[Market], None]) -> None:
    """Its commands know the channel by its own offer; a wish under what is published now gets an offer of that."""
    ann = Forger(market, ANN)
    offer = by_hand(market, ann.wish("1-5"))
    assert by_hand(market, ann.wish("1-5")) == offer
    pair = market.pair
    request = pair.request(5 * PRICE, offer.to_toml())
    name = f"{request.funding_txid}-{request.funding_vout}"
    pair.fund(pair.sign_refund(request.hex))
    market.chain.mine(1)
    pair.accept(pair.pay(name, PRICE))
    happens(market)
    assert pair.sign_refund(request.hex) == pair.sign_refund(request.hex)
    assert pair.accept(pair.pay(name, PRICE)).paid_sat == 2 * PRICE
    with pytest.raises(Refused) as caught:
        by_hand(market, ann.wish("1-4"))
    assert caught.value.slug == "wish-changed"
    # the seller's program knows it as well, and has it end
    ann.name = name
    assert (ann.pay(3), ann.piece(1)) == (3, 1)
    assert isinstance(ann.ask("settlement", ann.settlement(3 * PRICE)), Message)


@EVENTS
def test_a_buyer_by_hand_that_is_not_funded(market: Market, happens: Callable[[Market], None]) -> None:
    """It asks for another offer under the published one, in the same session; the void one signs nothing."""
    ann = Forger(market, ANN)
    first = by_hand(market, ann.wish("1-5"))
    happens(market)
    second = by_hand(market, ann.wish("1-5"))
    assert second.offer_id != first.offer_id
    assert by_hand(market, ann.wish("1-5")) == second
    request = market.pair.request(5 * PRICE, second.to_toml())
    payee_commands.sign_refund(market.pair.payee, market.chain, read_psbt(request.hex.encode()))
    assert by_hand(market, ann.wish("1-5")) == second


def test_a_channel_that_is_opened_by_hand_while_the_program_runs(market: Market) -> None:
    """The offer was made by ``payee offer --for`` and the refund by ``payee sign-refund``, beside ``sell``."""
    ann = Forger(market, ANN)
    offer = by_hand(market, ann.wish("1-5"))
    ann.refused("piece", json.dumps({"piece": 1}).encode(), "unknown-session")
    pair = market.pair
    request = pair.request(5 * PRICE, offer.to_toml())
    ann.name = f"{request.funding_txid}-{request.funding_vout}"
    pair.fund(pair.sign_refund(request.hex))
    market.chain.mine(1)
    assert (ann.pay(1), ann.pay(2)) == (1, 2)


def test_a_damaged_channel_is_no_unknown_session(market: Market) -> None:
    """The buyer is told that it may pass, and who asks for an offer gets one."""
    ann = Forger(market, ANN)
    ann.open()
    update = ann.update(1, PRICE)
    [path] = (market.pair.payee.directory / "channels").glob("*.json")
    whole = path.read_bytes()
    path.write_bytes(b"{}")
    market.restart()
    answer = market.seller.answer(ann.request("update", update))
    assert isinstance(answer, Refusal)
    told = json.loads(answer.body)
    assert (told["error"], told["exit_code"]) == ("channel-damaged", 7)
    bob = Forger(market, "bb" * 16)
    assert isinstance(market.seller.answer(bob.request("offer", bob.wish("1-5"))), Message)
    stranger = bob.request("piece", body_of(1))
    answer = market.seller.answer(stranger)
    assert isinstance(answer, Refusal)
    assert json.loads(answer.body)["error"] == "channel-damaged"
    path.write_bytes(whole)
    answer = market.seller.answer(stranger)
    assert isinstance(answer, Refusal)
    assert json.loads(answer.body)["error"] == "unknown-session"
    assert ann.pay(1) == 1
