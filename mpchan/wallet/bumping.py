"""A child that pays for its parent: of which coins it is made. How much it pays is for ``channel.bidding`` to say."""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import MAX_REPLACEABLE, TRUC_VERSION, Transaction, TxIn, TxOut
from mpchan.chain.base import Coin
from mpchan.channel.watch.bidding import LEAST_STEP, MAX_CHILD_VSIZE, NOBODY, Paying, Rivals, child_fee
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate
from mpchan.wallet.coins import P2WPKH_INPUT_VSIZE, OwnSpend, spend_vsize


def automatic_child(parent: Transaction, own: Coin, fee: Amount) -> OwnSpend:
    """A child that spends the parent's output alone and pays the rest to the same script: it needs no new index.

    Args:
        fee: that leaves its output above dust.
    """
    return _child(parent, [own], own.output.value - fee, own.output.script_pubkey)


def build_child(
    rate: FeeRate,
    parent: Transaction,
    paying: Paying,
    own: Coin,
    more: Sequence[Coin],
    change_script: bytes,
    rivals: Sequence[Rivals] = (),
    step: FeeRate = LEAST_STEP,
) -> OwnSpend:
    """A child that spends the parent's output ``own``, and as few more coins as leave it an output above dust.

    Args:
        paying: the parent's size and fee.
        more: confirmed P2WPKH coins of the wallet; the largest are taken first. A child of a parent of version 3 has
            room for a dozen.
        rivals: what the child has to outbid, such as an earlier child.
        step: what it pays besides to replace them, for its own size.

    Raises:
        NotPossible: ``not-enough-funds``.
    """
    chosen = [own]
    waiting = sorted(more, key=lambda coin: (coin.output.value, coin.outpoint))
    while True:
        held = sum(coin.output.value.sat for coin in chosen)
        vsize = spend_vsize(len(chosen), [change_script])
        fee = max(child_fee(rate, paying, vsize, each, step) for each in (*rivals, NOBODY))
        left = held - fee.sat
        if left >= dust_limit(change_script).sat:
            return _child(parent, chosen, Amount(left), change_script)
        full = parent.version == TRUC_VERSION and vsize + P2WPKH_INPUT_VSIZE + 1 > MAX_CHILD_VSIZE
        if full or not waiting or waiting[-1].output.value <= rate.fee(P2WPKH_INPUT_VSIZE):
            raise NotPossible(
                "not-enough-funds",
                f"the child would have to pay {fee}, and what it can spend is {Amount(held)}",
                hint=f"{'a child of this size has no room for more coins; ' if full else ''}a lower rate costs less; "
                "or send coins to the address that `mpchan address` prints",
            )
        chosen.append(waiting.pop())


def _child(parent: Transaction, chosen: Sequence[Coin], left: Amount, script: bytes) -> OwnSpend:
    # what can be replaced: a later child may pay more
    version = TRUC_VERSION if parent.version == TRUC_VERSION else 2
    inputs = tuple(TxIn(coin.outpoint, MAX_REPLACEABLE) for coin in chosen)
    transaction = Transaction(version, inputs, (TxOut(left, script),), 0)
    return OwnSpend(transaction, tuple(coin.output for coin in chosen), 0)
