"""A child that pays for its parent: how much it pays, and of which coins.

Miners take what belongs together by its fee rate as a whole. So a transaction that pays too little, and that nobody may
change any more, is helped by one that spends an output of it and pays for both.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import Coin
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate
from mpchan.values import frozen
from mpchan.wallet.coins import P2WPKH_INPUT_VSIZE, spend_vsize

CHILD_SEQUENCE = 0xFFFF_FFFD
"""Signals replacement (BIP-0125): a later child can pay more."""

INCREMENTAL_FEE_RATE = FeeRate(1000)
"""What a replacement pays on top of what it replaces, for its own size: Bitcoin Core's default up to version 29."""


@frozen
class Paying:
    """A transaction with all its signatures, by what matters to a miner.

    Attributes:
        vsize: in virtual bytes (BIP-0141).
    """

    vsize: int
    fee: Amount


@frozen
class Child:
    """An unsigned child.

    Attributes:
        spent: the outputs that its inputs spend, in their order; the parent's comes first.
    """

    transaction: Transaction
    spent: tuple[TxOut, ...]


def rate_of(*together: Paying) -> FeeRate:
    """The fee rate of some transactions as a whole, rounded down."""
    return FeeRate(_fee(together) * 1000 // sum(paying.vsize for paying in together))


def pays(rate: FeeRate, *together: Paying) -> bool:
    """Whether transactions pay this rate as a whole."""
    return _fee(together) >= rate.fee(sum(paying.vsize for paying in together)).sat


def child_fee(rate: FeeRate, parent: Paying, vsize: int, replaced: Paying | None) -> Amount:
    """The least that a child of this size pays, for its parent and itself.

    Args:
        rate: above what the parent pays alone, so that the child alone pays more than ``rate``.
        replaced: an earlier child, which must be outbid in fee and in fee rate (BIP-0125, rules 3, 4 and Core's 6).
    """
    fee = max(rate.fee(parent.vsize + vsize).sat - parent.fee.sat, 0)
    if replaced is not None:
        above_fee = replaced.fee.sat + INCREMENTAL_FEE_RATE.fee(vsize).sat
        above_rate = replaced.fee.sat * vsize // replaced.vsize + 1
        fee = max(fee, above_fee, above_rate)
    return Amount(fee)


def build_child(
    rate: FeeRate,
    parent: Paying,
    own: Coin,
    more: Sequence[Coin],
    change_script: bytes,
    replaced: Paying | None = None,
) -> Child:
    """A child that spends the parent's output ``own``, and as few more coins as leave it an output above dust.

    Args:
        more: confirmed P2WPKH coins of the wallet; the largest are taken first.
        replaced: an earlier child.

    Raises:
        NotPossible: ``not-enough-funds``.
    """
    chosen = [own]
    waiting = sorted(more, key=lambda coin: (coin.output.value, coin.outpoint))
    while True:
        held = sum(coin.output.value.sat for coin in chosen)
        fee = child_fee(rate, parent, spend_vsize(len(chosen), [change_script]), replaced)
        left = held - fee.sat
        if left >= dust_limit(change_script).sat:
            break
        if not waiting or waiting[-1].output.value <= rate.fee(P2WPKH_INPUT_VSIZE):
            raise NotPossible(
                "not-enough-funds",
                f"the child would have to pay {fee}, and what it can spend is {Amount(held)}",
                hint="a lower rate costs less; or send coins to the address that `mpchan address` prints",
            )
        chosen.append(waiting.pop())
    inputs = tuple(TxIn(coin.outpoint, CHILD_SEQUENCE) for coin in chosen)
    outputs = (TxOut(Amount(left), change_script),)
    return Child(Transaction(2, inputs, outputs, 0), tuple(coin.output for coin in chosen))


def _fee(together: Sequence[Paying]) -> int:
    return sum(paying.fee.sat for paying in together)
