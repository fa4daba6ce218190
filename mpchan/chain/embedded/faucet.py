"""Play money: a transaction that pays out what the chain's miner has earned."""

from __future__ import annotations

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import MAX_REPLACEABLE, Transaction, TxIn, TxOut
from mpchan.chain.base import Coin
from mpchan.chain.embedded.blocks import MINER_SCRIPT, MINER_WITNESS_SCRIPT
from mpchan.chain.embedded.index import Index
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate

_FEE_RATE = FeeRate(2000)

_INPUT_VSIZE = 42
"""Of one of the miner's inputs: 41 bytes, and a quarter of a witness of 3 bytes (count, length, OP_1)."""


def payment(index: Index, script_pubkey: bytes, amount: Amount) -> Transaction:
    """A transaction of the miner's coins with ``amount`` to ``script_pubkey``; the change goes back.

    Raises:
        NotPossible: ``faucet-empty``.
    """
    coins = sorted(filter(_is_worth_spending, index.coins([MINER_SCRIPT])), key=_preference)
    empty = _transaction([], TxOut(amount, script_pubkey), dust_limit(MINER_SCRIPT))
    # two bytes of marker and flag, and the longer counts of many inputs
    overhead = empty.vsize + 3
    chosen: list[Coin] = []
    total = 0
    for coin in coins:
        chosen.append(coin)
        total += coin.output.value.sat
        change = total - amount.sat - _FEE_RATE.fee(overhead + len(chosen) * _INPUT_VSIZE).sat
        if change >= 0:
            return _transaction(chosen, TxOut(amount, script_pubkey), Amount(change))
    raise NotPossible(
        "faucet-empty",
        f"the faucet cannot pay {amount}: it holds {total} sat in {len(coins)} coins",
        hint="mine more blocks",
    )


def _is_worth_spending(coin: Coin) -> bool:
    return coin.mature and coin.output.value >= dust_limit(MINER_SCRIPT)


def _preference(coin: Coin) -> tuple[bool, int]:
    """Confirmed ones first, then the larger."""
    return coin.confirmations == 0, -coin.output.value.sat


def _transaction(coins: list[Coin], output: TxOut, change: Amount) -> Transaction:
    inputs = tuple([TxIn(coin.outpoint, MAX_REPLACEABLE, b"", (MINER_WITNESS_SCRIPT,)) for coin in coins])
    # change that would be dust is left to the fee
    back = (TxOut(change, MINER_SCRIPT),) if change >= dust_limit(MINER_SCRIPT) else ()
    return Transaction(2, inputs, (output, *back), 0)
