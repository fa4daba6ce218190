"""What both parties agreed on, and all that follows from it by arithmetic.

Terms are the offer and the five free variables that the payer fills in: funding outpoint and value,
payer key, payer script, and the lock time of the refund.
"""

from __future__ import annotations

from mpchan.bitcoin.script import dust_limit, script_to_p2wsh_script, two_of_two_script
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import TxOut
from mpchan.channel.fees import channel_spend_vsize
from mpchan.channel.offer import Offer
from mpchan.units import Amount, LockTime, OutPoint
from mpchan.values import field, frozen


def close_reserve(offer: Offer, payer_script: bytes) -> Amount:
    """What the payer adds to the capacity: the fee of the close with both outputs."""
    return offer.fee_rate.fee(channel_spend_vsize(payer_script, offer.payee_script))


def refund_fee(offer: Offer, payer_script: bytes) -> Amount:
    """The fee of the refund, which has one output."""
    return offer.fee_rate.fee(channel_spend_vsize(payer_script))


def smallest_capacity(offer: Offer, payer_script: bytes) -> Amount:
    """No channel is smaller: each party must be able to collect the whole of it, and one payment be possible."""
    collectable = max(dust_limit(payer_script), dust_limit(offer.payee_script))
    return max(offer.min_capacity, offer.min_increment, collectable)


def funding_output(offer: Offer, capacity: Amount, payer_key: PublicKey, payer_script: bytes) -> TxOut:
    """The output that opens the channel: ``capacity`` plus the reserve, to the 2-of-2 of both keys."""
    witness_script = two_of_two_script(payer_key.sec, offer.payee_key.sec)
    return TxOut(capacity + close_reserve(offer, payer_script), script_to_p2wsh_script(witness_script))


@frozen
class Terms:
    """One channel's terms; two parties with equal terms build equal transactions.

    Attributes:
        outpoint: the funding output.
        funding_value: F, its value.
        payer_script: scriptPubKey that gets the payer's share.
        refund_lock_time: L_refund.
        witness_script: ``2 <k1> <k2> 2 OP_CHECKMULTISIG``, keys in BIP-0067 order.
        funding_txout: the funding output as it must stand on the chain.
        capacity: C, what the payer can spend in this channel: F less the reserve; 0 where F does not even cover that.
        payee_dust: the least total that the payee can collect.
    """

    offer: Offer
    outpoint: OutPoint
    funding_value: Amount
    payer_key: PublicKey
    payer_script: bytes
    refund_lock_time: LockTime
    witness_script: bytes = field(init=False, repr=False)
    funding_txout: TxOut = field(init=False, repr=False)
    capacity: Amount = field(init=False, repr=False)
    payee_dust: Amount = field(init=False, repr=False)

    def __post_init__(self) -> None:
        script = two_of_two_script(self.payer_key.sec, self.offer.payee_key.sec)
        reserve = close_reserve(self.offer, self.payer_script)
        derived = {
            "witness_script": script,
            "funding_txout": TxOut(self.funding_value, script_to_p2wsh_script(script)),
            "capacity": Amount(max(0, self.funding_value.sat - reserve.sat)),
            "payee_dust": dust_limit(self.offer.payee_script),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def reserve(self) -> Amount:
        """What stands on top of the capacity: the fee of the close with both outputs."""
        return self.funding_value - self.capacity

    @property
    def channel_id(self) -> str:
        """The id shown to people: the first 16 hex digits of the funding txid, display order."""
        return str(self.outpoint.txid)[:16]

    @property
    def name(self) -> str:
        """The unique name: full funding txid and output index."""
        return f"{self.outpoint.txid}-{self.outpoint.vout}"
