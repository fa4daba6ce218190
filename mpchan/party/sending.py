"""Handing a channel's transactions to the chain."""

from __future__ import annotations

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.chain.reasons import TOO_CHEAP
from mpchan.durability import step
from mpchan.errors import ChainError
from mpchan.wallet.wallet import Wallet


def hand_over(wallet: Wallet | None, chain: Chain, transaction: Transaction) -> None:
    """Send a funding, settlement, update or refund, with the child that pays for it where ``mpchan bump`` made one.

    A damaged record of a send may hide that child, and holds up nothing.

    Args:
        wallet: which may hold that child; None for a bare file, with which none came.

    Raises:
        TooEarly: ``non-final``.
        ChainError: out of reach; ``rejected``.
    """
    if wallet is not None:
        wallet.make_sure()
    for child in () if wallet is None else wallet.sent.readable_children_of(transaction.txid)[:1]:
        try:
            step("emit", chain.broadcast_package, [transaction, child.transaction])
        except ChainError:
            pass  # whatever is wrong with the child, the transaction's own verdict counts
        else:
            return
    try:
        step("emit", chain.broadcast, transaction)
    except ChainError as error:
        if error.slug != "rejected" or TOO_CHEAP not in error.message:
            raise
        hint = "`mpchan bump CHANNEL --fee-rate R` pays for it with a child"
        raise ChainError(error.slug, error.message, hint=hint) from None
