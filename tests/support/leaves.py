"""Shared by the tests of taproot channels: spends of the funding by either leaf, bent at will."""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import segwit_v0_sighash, taproot_script_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.taproot import TapLeaf
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.channel.construction.two_leaves import Tree, TwoLeaves
from mpchan.channel.terms import Terms
from mpchan.units import OutPoint
from support.protocol import STRANGER_SECRET

STRANGERS_SCRIPT = key_to_p2wpkh_script(STRANGER_SECRET.public_key.sec)


def tree_of(terms: Terms) -> Tree:
    """Both leaves of a channel."""
    assert isinstance(terms.lock, TwoLeaves)
    return terms.lock.tree


def by_leaf(
    terms: Terms,
    leaf: TapLeaf,
    transaction: Transaction,
    signers: Sequence[PrivateKey],
    spent: Sequence[TxOut] = (),
) -> Transaction:
    """A transaction whose first input spends the funding by a leaf.

    Args:
        signers: the one whose key the script checks first comes first.
        spent: what the other inputs spend.
    """
    digest = taproot_script_sighash(transaction, 0, [terms.funding_txout, *spent], leaf.hash)
    signatures = [key.sign_schnorr(digest) for key in reversed(signers)]
    shown = (leaf.script, tree_of(terms).control_block(leaf))
    return transaction.with_witness(0, (*signatures, *shown))


def taken_back(
    terms: Terms,
    payer: PrivateKey,
    *outputs: TxOut,
    lock_time: int | None = None,
    beside: Sequence[tuple[OutPoint, TxOut]] = (),
) -> Transaction:
    """A spend by leaf R that the payer makes without its stored refund.

    Args:
        lock_time: L_refund where it is None.
        beside: coins of ``STRANGERS_SCRIPT`` that it spends too.
    """
    inputs = [TxIn(outpoint, 0xFFFF_FFFD) for outpoint in (terms.outpoint, *(each for each, _ in beside))]
    at = terms.refund_lock_time.value if lock_time is None else lock_time
    transaction = Transaction(3, tuple(inputs), outputs, at)
    spent = [output for _, output in beside]
    signed = by_leaf(terms, tree_of(terms).refund, transaction, [payer], spent)
    for index, output in enumerate(spent, 1):
        digest = segwit_v0_sighash(transaction, index, p2wpkh_script_code(output.script_pubkey), output.value)
        witness = (STRANGER_SECRET.sign(digest) + b"\x01", STRANGER_SECRET.public_key.sec)
        signed = signed.with_witness(index, witness)
    return signed
