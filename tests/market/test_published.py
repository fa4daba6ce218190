"""The offer that tells everybody of a sale: for how long it holds, what it costs to have it renewed, and where to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from support.market.cheats import Forger
from support.market.market import PRICE, Market
from support.party import SHORT

from mpchan.channel.offer import Offer
from mpchan.errors import ChainError, NotPossible
from mpchan.market.serving import serve
from mpchan.party import views
from mpchan.party.common import read_psbt
from mpchan.party.offers.selling import OFFER_SECONDS, RENEWAL_SECONDS, offer_for, published_offer
from mpchan.party.payee import abandon, sign_refund
from mpchan.party.watch.watcher import Round, Watcher
from mpchan.transport.base import Message
from mpchan.units import FeeRate
from mpchan.wallet.offers import OwnOffer

ANN, BOB = "aa" * 16, "bb" * 16
HOUR = 3600


def published(market: Market, hours: float, **changes: object) -> tuple[OwnOffer, list[str]]:
    """What the seller publishes so many hours from now; its rate is the chain's."""
    terms = {key: value for key, value in SHORT.items() if key != "fee_rate_sat_per_kvb"}
    return published_offer(
        market.pair.payee, market.chain, {**terms, **changes}, market.sale, now=time.time() + hours * HOUR
    )


def test_it_holds_for_a_day_and_is_renewed_after_half_of_it(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key stays, and so do the terms; id, expiry, token and rate are new. What has expired is removed."""
    first, _ = published(market, 0)
    assert abs(first.offer.expires - time.time() - OFFER_SECONDS) < 60
    monkeypatch.setattr(type(market.chain), "fee_rate", lambda self: FeeRate(7000))
    assert published(market, 11.9)[0] == first
    second, _ = published(market, 12.1)
    differing = {key for key, value in first.offer.terms().items() if second.offer.terms()[key] != value}
    assert differing == {"offer_id", "expires", "token", "fee_rate_sat_per_kvb"}
    assert second.offer.fee_rate == FeeRate(7000)
    assert first.offer.payee_key == second.offer.payee_key
    assert first.offer.offer_id in market.pair.payee.offers.ids()
    third, _ = published(market, 25)
    assert first.offer.offer_id not in market.pair.payee.offers.ids()
    assert {second.offer.offer_id, third.offer.offer_id} <= set(market.pair.payee.offers.ids())


def test_a_rate_that_is_not_relayed_any_more_is_said(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was named it stays as it is."""
    first, warnings = published(market, 0, fee_rate_sat_per_kvb=2000)
    assert warnings == []
    monkeypatch.setattr(type(market.chain), "min_fee_rate", lambda self: FeeRate(9000))
    for hours in (1, 13):
        own, warnings = published(market, hours, fee_rate_sat_per_kvb=2000)
        assert own.offer.fee_rate == first.offer.fee_rate
        assert any("relays nothing below 9 sat/vB now" in warning for warning in warnings)


def test_who_has_the_offer_of_before_can_go_on_with_it(market: Market) -> None:
    """Until it has expired; the clock set back revives none, since the chain's time counts too."""
    ann = Forger(market, ANN)
    before = market.own
    offer = ann.offer()
    market.seller.publish(market.publish(fee_rate_sat_per_kvb=3000))
    assert ann.offer() == offer
    market.seller = market.new_seller()
    market.own = market.publish(fee_rate_sat_per_kvb=3000)
    market.restart()
    wish = ann.wish("1-5", offer_id=before.offer.offer_id)
    answer = ann.ask("offer", wish)
    assert isinstance(answer, Message)
    assert Offer.from_toml(answer.body.decode()) == offer
    market.hours_later = 25
    market.restart()
    ann.refused("offer", wish, "offer-expired")


def test_by_hand_an_expired_offer_makes_out_none(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = Forger(market, ANN)
    offer_for(market.pair.payee, ann.wish("1-5"))
    later = time.time() + 25 * HOUR
    monkeypatch.setattr("mpchan.party.offers.selling.time.time", lambda: later)
    with pytest.raises(Exception, match="expired"):
        offer_for(market.pair.payee, ann.wish("1-5"))


def test_a_buyer_locks_no_money_when_its_time_is_nearly_over(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six hours must be left; then the seller's next offer is asked for, in the same purchase."""
    market.bend = lambda request, answer: answer
    later = market.own.offer.expires - 5 * HOUR
    monkeypatch.setattr("mpchan.party.common.time.time", lambda: later)
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert caught.value.slug == "offer-expired"
    assert market.chain.mempool() == []
    assert market.pair.payer.channels.names() == []
    market.own, _ = published_offer(market.pair.payee, market.chain, SHORT, market.sale, now=later)
    market.hours_later = 19
    market.restart()
    market.buy()
    assert market.is_whole()


# where it is paid to ------------------------------------------------------------------------------


def receiving(market: Market) -> int:
    """The index of the next receiving address."""
    market.pair.payee.fresh_keys()
    return market.pair.payee.keys.next_index("receive")


def test_strangers_use_up_no_address(market: Market) -> None:
    """All that ask are paid to one; so a search after a restore finds the money behind them."""
    before = receiving(market)
    offers = [Forger(market, f"{number:032x}").offer() for number in range(30)]
    assert {offer.payee_address for offer in offers} == {market.own.offer.payee_address}
    assert len({offer.payee_key for offer in offers}) == 30
    published(market, 13)
    assert receiving(market) == before


@pytest.mark.parametrize("settles", [True, False])
def test_the_address_moves_on_once_a_close_has_paid_to_it(market: Market, settles: bool) -> None:
    """Whoever closes it: the buyer's settlement, or the latest update from the watcher."""
    ann = Forger(market, ANN)
    ann.open()
    ann.pay(2)
    assert published_again(market).payee_address == market.own.offer.payee_address
    if settles:
        ann.ask("settlement", ann.settlement(2 * PRICE))
    else:
        market.pair.mine_to(ann.terms.refund_lock_time.value - 6)
        Watcher(market.pair.payee, market.chain).round(lambda finding: None)
    moved = published_again(market)
    assert moved.payee_address != market.own.offer.payee_address
    assert published_again(market) == moved
    assert views.fresh_address(market.pair.payee).address != moved.payee_address


def published_again(market: Market) -> Offer:
    """What the seller publishes when it starts again."""
    return market.publish().offer


def test_an_opening_that_was_given_up_moves_nothing(market: Market) -> None:
    ann = Forger(market, ANN)
    sign_refund(market.pair.payee, market.chain, read_psbt(bytes.fromhex(ann.opening().hex)))
    abandon(market.pair.payee, market.chain, None)
    assert published_again(market) == market.own.offer


def test_an_address_of_ones_own(market: Market) -> None:
    """It stays whatever is paid to it; of another wallet it is said that a close cannot be bumped from here."""
    outside = views.fresh_address(market.pair.payer).address
    own, warnings = published_offer(market.pair.payee, market.chain, SHORT, market.sale, address=outside)
    assert own.offer.payee_address == outside
    assert any("outside of this wallet" in warning for warning in warnings)
    again, _ = published_offer(market.pair.payee, market.chain, SHORT, market.sale, address=outside)
    assert again == own


# while it is served -------------------------------------------------------------------------------


def served(
    market: Market, renew: Callable[[], OwnOffer], rounds: int, until: Callable[[], bool] = lambda: True
) -> list[Round]:
    """Some rounds of the seller's day."""
    done: list[Round] = []
    serve(
        market.seller,
        [],
        market.watching,
        interval=0.0,
        wake=threading.Event(),
        stop=lambda: len(done) >= rounds and until(),
        tell_channel=lambda finding: None,
        tell_round=done.append,
        renew=renew,
    )
    return done


def test_a_seller_renews_its_offer_by_itself(market: Market) -> None:
    asked: list[OwnOffer] = []

    def renew() -> OwnOffer:
        asked.append(published(market, market.hours_later, fee_rate_sat_per_kvb=2000)[0])
        return asked[-1]

    served(market, renew, 3)
    assert asked == []
    market.hours_later = 13
    market.seller = market.new_seller()
    served(market, renew, 3)
    assert len(asked) == 1
    assert asked[0].offer.expires > market.own.offer.expires + RENEWAL_SECONDS - 60
    ann = Forger(market, ANN)
    answer = ann.ask("offer", ann.wish("1-5", offer_id=asked[0].offer.offer_id))
    assert isinstance(answer, Message)


def test_a_renewal_that_fails_is_an_alarm_and_no_end(market: Market) -> None:
    """The chain is out of reach: the offer before holds on, and the next round tries again."""
    tries: list[int] = []

    def renew() -> OwnOffer:
        tries.append(1)
        raise ChainError("unreachable", "the chain does not answer")

    market.hours_later = 13
    market.seller = market.new_seller()
    rounds = served(market, renew, 4, lambda: len(tries) >= 3)
    assert {error.slug for done in rounds for error in done.alarms} == {"unreachable"}
    Forger(market, ANN).offer()
