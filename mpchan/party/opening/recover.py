"""``payer recover``: the money of an opening of which the seed words and the offer are all that is left.

The payer's key follows from both, and the address from that key and L_refund, of which the offer leaves some hundreds.
What lies at one of these addresses becomes a channel with its refund signed. Nobody here knows whether it was paid in,
so nothing new is signed in it until it is synced.
"""

from __future__ import annotations

from mpchan.chain.base import Chain, Coin
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.offer import Offer
from mpchan.channel.opening import offer_rules
from mpchan.channel.rules import enforce
from mpchan.errors import NotPossible
from mpchan.party.common import current_tip
from mpchan.party.opening.arrivals import arrival_of, dust_arrival, least_refunded, take
from mpchan.results.opening import Arrival, Recovered
from mpchan.units import ChainTip, FeeRate, Height, LockTime, MedianTime, lock_time_from_int
from mpchan.values import replace
from mpchan.wallet.awaited import AwaitedFunding
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

MOST_ADDRESSES = 5_000
"""So many an offer leaves only where it held for years, or where somebody has altered it."""


def recover(wallet: Wallet, chain: Chain, offer_text: str) -> Recovered:
    """``payer recover``: find what lies at the addresses that this wallet's seed can have had under an offer.

    The same call again finds the same, and what has come since.

    Raises:
        Refused: ``wrong-network``, ``fee-rate-high``: the refunds would pay more than this wallet's limit.
        NotPossible: ``needs-refund``, the offer's construction needs the payee's signature for a refund.
        ChainError: out of reach, ``node-behind``, ``no-backend``.
    """
    offer = Offer.from_toml(offer_text).without_pieces()
    construction = construction_of(offer)
    if construction.has_exchange:
        raise NotPossible(
            "needs-refund",
            f"words and offer bring no channel with the scheme {offer.scheme} back, its signed refund does",
            hint="`mpchan payer refund FILE` takes the refund, or what `mpchan payee sign-refund` has written",
        )
    limits = replace(wallet.config.limits, min_fee_rate=FeeRate(0))
    enforce(offer_rules(offer, wallet.network.name, limits, FeeRate(0)))
    latest = _latest(chain, offer, current_tip(chain, offer.lock_time_unit))
    times = construction.refund_times(offer, latest)
    payer_key = wallet.keys.payer_key(offer.payee_key).public_key
    scripts: dict[bytes, LockTime] = {}
    for time in times[-MOST_ADDRESSES:]:
        refund_at = lock_time_from_int(time)
        scripts[construction.funding_script(offer, payer_key, refund_at)] = refund_at
    coins = chain.coins(scripts)
    arrived = _kept(wallet, chain, offer, scripts, coins) if coins else []
    warnings = []
    if len(times) > len(scripts):
        warnings.append(
            f"the offer leaves {len(times)} addresses, and only those of the latest {len(scripts)} refunds were looked "
            "for: is it the offer as the payee has made it?"
        )
    return Recovered(offer.offer_id, len(scripts), tuple(arrived), tuple(warnings))


def _latest(chain: Chain, offer: Offer, tip: ChainTip) -> LockTime:
    """Where the chain stood at the latest when the offer still held, in its unit."""
    if offer.lock_time_unit == MedianTime.unit:
        return MedianTime(min(tip.median_time, offer.expires or tip.median_time))
    low, high = 1, max(tip.height, 1)
    if not offer.expires or offer.expires > tip.median_time:
        return Height(high)
    while low < high:  # the last block whose median time lies before the expiry; median times never fall
        middle = (low + high + 1) // 2
        time = chain.median_time_at(middle)
        if time is None:
            return Height(max(tip.height, 1))
        low, high = (middle, high) if time < offer.expires else (low, middle - 1)
    return Height(low)


def _kept(
    wallet: Wallet, chain: Chain, offer: Offer, scripts: dict[bytes, LockTime], coins: list[Coin]
) -> list[Arrival]:
    """Each coin with a record of its own, where there is none yet, and what it is."""
    arrived: list[Arrival] = []
    with wallet.lock():
        first = _opening(wallet, chain, offer, scripts[coins[0].output.script_pubkey])
        for script in dict.fromkeys(coin.output.script_pubkey for coin in coins):
            opening = replace(first, refund_at=scripts[script])
            at = [coin for coin in coins if coin.output.script_pubkey == script]
            least = least_refunded(opening)
            take(
                wallet, chain, opening, [(c.outpoint, c.output.value) for c in at if c.output.value >= least]
            )
            arrived += [_arrival(wallet, chain, opening, coin) for coin in at]
    return sorted(arrived, key=lambda arrival: (arrival.what != "channel", arrival.what == "dust"))


def _opening(wallet: Wallet, chain: Chain, offer: Offer, refund_at: LockTime) -> AwaitedFunding:
    """The opening as it is known again; on disk when this returns, so that no refund is signed to a second address."""
    keys = wallet.fresh_keys()
    opening = wallet.awaited.find(offer.offer_id)
    script = keys.script("receive", keys.next_index("receive"))
    if opening is None:
        payer_key = keys.payer_key(offer.payee_key).public_key
        height = chain.tip().height
        opening = AwaitedFunding(offer, None, refund_at, payer_key, script, None, None, height, restored=True)
        wallet.awaited.save(opening)
    if opening.payer_script == script:  # now, or by a call that was broken off here
        keys.allocate("receive")
    return opening


def _arrival(wallet: Wallet, chain: Chain, opening: AwaitedFunding, coin: Coin) -> Arrival:
    record = wallet.channels.load(coin.outpoint.name) if wallet.channels.knows(coin.outpoint) else None
    if not isinstance(record, PayerRecord):
        return dust_arrival(opening, coin)
    return arrival_of(chain, opening, record)
