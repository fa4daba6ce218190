"""What both parties agreed on: the offer, and the five free variables that the payer fills in.

Those are funding outpoint and value, payer key, payer script, and the lock time of the refund. How the funding output
is spent and which transactions there are follows from them by the offer's construction.
"""

from __future__ import annotations

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import TxOut
from mpchan.channel.construction.base import Lock, Schedule
from mpchan.channel.construction.registry import construction, construction_of
from mpchan.channel.offer import Offer
from mpchan.channel.rules import Check, Rule
from mpchan.units import Amount, FeeRate, LockTime, OutPoint
from mpchan.values import field, frozen


def close_reserve(offer: Offer, payer_script: bytes) -> Amount:
    """What the payer adds to the capacity: the fee of the close with both outputs."""
    return close_fee(offer.scheme, offer.fee_rate, payer_script, offer.payee_script)


def close_fee(scheme: str, rate: FeeRate, payer_script: bytes, payee_script: bytes) -> Amount:
    """The same by what decides it; ``Construction.close_vsize`` knows the size."""
    return rate.fee(construction(scheme).close_vsize(payer_script, payee_script))


def refund_fee(offer: Offer, payer_script: bytes) -> Amount:
    """The fee of the refund, which has one output."""
    return offer.fee_rate.fee(construction_of(offer).refund_vsize(payer_script))


def smallest_capacity(offer: Offer, payer_script: bytes) -> Amount:
    """No channel is smaller: each party must be able to collect the whole of it, and one payment be possible."""
    collectable = max(dust_limit(payer_script), dust_limit(offer.payee_script))
    return max(offer.min_capacity, offer.min_increment, collectable)


def funding_output(
    offer: Offer,
    capacity: Amount,
    payer_key: PublicKey,
    payer_script: bytes,
    refund_at: LockTime | None = None,
) -> TxOut:
    """The output that opens the channel: ``capacity`` plus the reserve, to the script of both keys.

    Args:
        refund_at: as in ``Construction.funding_script``.
    """
    value = capacity + close_reserve(offer, payer_script)
    return TxOut(value, construction_of(offer).funding_script(offer, payer_key, refund_at))


@frozen
class Terms:
    """One channel's terms; two parties with equal terms build equal transactions.

    Attributes:
        outpoint: the funding output.
        funding_value: F, its value.
        payer_script: scriptPubKey that gets the payer's share.
        refund_lock_time: L_refund.
        lock: how the funding output is spent.
        capacity: C, what the payer can spend in this channel: F less the reserve; 0 where F does not even cover that.
    """

    offer: Offer
    outpoint: OutPoint
    funding_value: Amount
    payer_key: PublicKey
    payer_script: bytes
    refund_lock_time: LockTime
    lock: Lock = field(init=False, repr=False)
    capacity: Amount = field(init=False, repr=False)

    def __post_init__(self) -> None:
        reserve = close_reserve(self.offer, self.payer_script)
        object.__setattr__(self, "lock", construction_of(self.offer).lock(self))
        object.__setattr__(self, "capacity", Amount(max(0, self.funding_value.sat - reserve.sat)))

    @property
    def schedule(self) -> Schedule:
        """The transactions that the channel has."""
        return construction_of(self.offer).schedule(self)

    @property
    def funding_txout(self) -> TxOut:
        """The funding output as it must stand on the chain."""
        return TxOut(self.funding_value, self.lock.script_pubkey)

    @property
    def reserve(self) -> Amount:
        """What stands on top of the capacity: the fee of the close with both outputs."""
        return self.funding_value - self.capacity

    @property
    def refund_fee(self) -> Amount:
        """The fee of the refund, which has one output."""
        return refund_fee(self.offer, self.payer_script)

    @property
    def payee_dust(self) -> Amount:
        """The least total that the payee can collect."""
        return dust_limit(self.offer.payee_script)

    @property
    def channel_id(self) -> str:
        """The id shown to people: the first 16 hex digits of the funding txid, display order."""
        return str(self.outpoint.txid)[:16]

    @property
    def name(self) -> str:
        """The unique name: full funding txid and output index."""
        return self.outpoint.name


def value_rules(terms: Terms) -> Check[None]:
    """The funding's value makes a channel that the offer allows."""
    offer, value = terms.offer, terms.funding_value
    reserve = close_reserve(offer, terms.payer_script)
    yield Rule("capacity", value >= reserve, "funding value", f"at least {reserve}", value)
    least, capacity = smallest_capacity(offer, terms.payer_script), terms.capacity
    yield Rule("capacity", capacity >= least, "capacity", f"at least {least}", capacity)
    most = offer.max_capacity
    yield Rule("capacity", capacity <= most, "capacity", f"at most {most}", capacity)


def is_within_limits(terms: Terms) -> bool:
    """Whether the funding's value makes a channel that the offer allows."""
    return all(rule.ok for rule in value_rules(terms))
