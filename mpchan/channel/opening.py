"""What the payer checks before it opens a channel: the offer, the refund's distance, the capacity."""

from __future__ import annotations

from mpchan.channel.construction.registry import construction_of, own_terms_of
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import Offer
from mpchan.channel.rules import Check, Rule, enforce
from mpchan.channel.terms import smallest_capacity
from mpchan.errors import NotPossible
from mpchan.units import Amount, ChainTip, FeeRate, Height, LockTime, MedianTime


def offer_rules(offer: Offer, network: str, limits: PayerLimits, relay: FeeRate) -> Check[None]:
    """Whether this payer takes such an offer at all."""
    name = offer.network.name
    yield Rule("wrong-network", name == network, "network of the offer", network, name)
    least = max(limits.min_fee_rate, relay)
    rate = offer.fee_rate
    yield Rule("fee-rate-low", rate >= least, "fee rate of the offer", f"at least {least}", rate)
    most = limits.max_fee_rate
    yield Rule(
        "fee-rate-high",
        rate <= most,
        "fee rate of the offer",
        f"at most {most}",
        rate,
        hint="max_fee_rate in wallet.toml",
    )


def refund_lock_time(offer: Offer, tip: ChainTip, delay: int | None, limits: PayerLimits) -> LockTime:
    """L_refund: the tip plus ``delay``, or plus the offer's default where it is None.

    Raises:
        Refused: ``refund-delay`` where the offer's default is above the payer's own limit; ``made-ahead``.
        NotPossible: ``refund-delay`` where ``delay`` is outside the offer's or the payer's limits.
    """
    chosen = enforce(
        default_delay_rules(offer, limits) if delay is None else _delay_rules(offer, delay, limits)
    )
    found = lock_time_after(offer, tip, chosen)
    now = found.now(tip)
    if found.value > now + chosen:
        enforce(_delay_rules(offer, found.value - now, limits))
    enforce(_stated_rules(offer, found))
    return found


def lock_time_after(offer: Offer, tip: ChainTip, delay: int) -> LockTime:
    """The first lock time that a refund can have so long after the tip, whatever anybody's limits are."""
    kind_of_lock = Height if offer.lock_time_unit == Height.unit else MedianTime
    return construction_of(offer).refund_at(kind_of_lock(kind_of_lock.now(tip) + delay))


def _stated_rules(offer: Offer, refund_at: LockTime) -> Check[None]:
    """A payer that has nothing but its words looks for L_refund from there on where, by the offer, that was made.

    One that says more than the chain has reached would hide the channel from its own payer.
    """
    for term in own_terms_of(offer.scheme):
        if term.of_tip:
            least = offer.own_terms[term.name] + offer.min_refund_delay
            text = f"lock time of the refund, by the offer's own {term.name}"
            hint = "where your chain is not behind, the payee's is ahead of it: ask for another offer"
            fits = refund_at.value >= least
            yield Rule("made-ahead", fits, text, f"at least {least}", refund_at.value, hint=hint)


def default_delay_rules(offer: Offer, limits: PayerLimits) -> Check[int]:
    """The refund is not too far away for this payer. Establishes the delay that it asks for by default."""
    unit, chosen = offer.lock_time_unit, offer.default_refund_delay
    most = limits.max_refund_delay(unit)
    hint = f"max_refund_delay_{unit} in wallet.toml"
    yield Rule(
        "refund-delay", chosen <= most, f"{unit} until the refund", f"at most {most}", chosen, hint=hint
    )
    return chosen


def _delay_rules(offer: Offer, chosen: int, limits: PayerLimits) -> Check[int]:
    """A delay that the user chose, within the wallet's own limit and the offer's."""
    unit = offer.lock_time_unit
    most = limits.max_refund_delay(unit)
    yield Rule(
        "refund-delay",
        chosen <= most,
        f"{unit} until the refund",
        f"at most {most}",
        chosen,
        error=NotPossible,
        hint=f"max_refund_delay_{unit} in wallet.toml",
    )
    yield Rule(
        "refund-delay",
        offer.min_refund_delay <= chosen <= offer.max_refund_delay,
        f"{unit} until the refund, by the offer",
        f"{offer.min_refund_delay} to {offer.max_refund_delay}",
        chosen,
        error=NotPossible,
    )
    return chosen


def capacity_rules(offer: Offer, capacity: Amount, payer_script: bytes) -> Check[None]:
    """Whether the offer allows a channel of this capacity."""
    least = smallest_capacity(offer, payer_script)
    yield Rule("capacity", capacity >= least, "capacity", f"at least {least}", capacity, error=NotPossible)
    most = offer.max_capacity
    yield Rule("capacity", capacity <= most, "capacity", f"at most {most}", capacity, error=NotPossible)
    fault = construction_of(offer).payer_script_fault(payer_script)
    yield Rule(
        "payer-script",
        fault is None,
        fault or "the payer can be paid to this script",
        found=payer_script[:100].hex(),
        error=NotPossible,
    )
    other = payer_script != offer.payee_script
    yield Rule("same-payout", other, "payer and payee would be paid to the same address", error=NotPossible)
