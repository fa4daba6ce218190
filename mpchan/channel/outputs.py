"""What the transactions of a channel pay, in every construction with one payer: the change, and the payee's total."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import MAX_REPLACEABLE, Transaction, TxIn, TxOut
from mpchan.units import Amount

if TYPE_CHECKING:
    from mpchan.channel.terms import Terms


BASE_SIZE = (
    4  # version
    + 1  # number of inputs
    + 36  # outpoint
    + 1  # length of the empty scriptSig
    + 4  # nSequence
    + 1  # number of outputs
    + 4  # nLockTime
)
"""Bytes of a spend of the funding output, without its outputs and its witness."""


def spend(terms: Terms, outputs: tuple[TxOut, ...], lock_time: int) -> Transaction:
    """A spend of the funding output alone, unsigned, with nSequence 0xfffffffd and the offer's transaction version."""
    source = TxIn(terms.outpoint, MAX_REPLACEABLE)
    return Transaction(terms.offer.transaction_version, (source,), outputs, lock_time)


def refund_outputs(terms: Terms) -> tuple[TxOut, ...]:
    """One output: F less the refund's fee, to the payer."""
    return (TxOut(terms.funding_value - terms.refund_fee, terms.payer_script),)


def close_outputs(terms: Terms, paid: Amount) -> tuple[TxOut, ...]:
    """Payer first, then payee; a zero output and the payer's dust are left out and go to the fee."""
    outputs = []
    change = terms.capacity - paid
    if change and change >= dust_limit(terms.payer_script):
        outputs.append(TxOut(change, terms.payer_script))
    if paid:
        outputs.append(TxOut(paid, terms.offer.payee_script))
    return tuple(outputs)


def paid_in(transaction: Transaction, terms: Terms) -> Amount | None:
    """What the transaction pays to the payee's script, or None where no output does."""
    for output in reversed(transaction.outputs):
        if output.script_pubkey == terms.offer.payee_script:
            return output.value
    return None
