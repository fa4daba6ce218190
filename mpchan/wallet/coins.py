"""Choosing the coins of a funding transaction."""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.script import dust_limit, output_size
from mpchan.bitcoin.serialize import compact_size
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import Coin
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate

FUNDING_SEQUENCE = 0xFFFF_FFFE
"""Final but for nLockTime, and not signalling replacement (BIP-0125): a replaced funding voids the refund."""

_P2WPKH_INPUT_WITNESS = (
    1  # number of stack items
    + (1 + 72)  # signature
    + (1 + 33)  # public key
)


def funding_vsize(inputs: int, output_scripts: Sequence[bytes]) -> int:
    """Virtual size (BIP-0141) of a funding with this many P2WPKH inputs and signatures of 72 bytes."""
    base = (
        4  # version
        + len(compact_size(inputs))
        + inputs * (36 + 1 + 4)  # outpoint, empty scriptSig, nSequence
        + 1  # number of outputs
        + sum(output_size(script) for script in output_scripts)
        + 4  # nLockTime
    )
    witness = 2 + inputs * _P2WPKH_INPUT_WITNESS  # marker, flag
    return -(-(4 * base + witness) // 4)


def build_funding(
    coins: Sequence[Coin], channel: TxOut, change_script: bytes, rate: FeeRate
) -> tuple[Transaction, tuple[TxOut, ...]]:
    """The unsigned funding, the channel's output first, and the outputs that it spends.

    The smallest single coin that suffices is taken; where none does, the largest ones until they do. A
    change below dust goes to the fee.

    Raises:
        NotPossible: ``not-enough-funds``.
    """
    by_value = sorted(coins, key=lambda coin: (coin.output.value, coin.outpoint))
    least = rate.fee(funding_vsize(1, [channel.script_pubkey]))
    single = next((coin for coin in by_value if coin.output.value >= channel.value + least), None)
    chosen = [single] if single is not None else []
    if single is None:
        for coin in reversed(by_value):
            chosen.append(coin)
            if _total(chosen) >= channel.value + rate.fee(
                funding_vsize(len(chosen), [channel.script_pubkey])
            ):
                break
        else:
            raise NotPossible(
                "not-enough-funds",
                f"the channel needs {channel.value} and a fee, the wallet can spend {_total(by_value)}",
                hint="send coins to the address that `mpchan address` prints, and wait for a confirmation",
            )
    outputs = [channel]
    fee = rate.fee(funding_vsize(len(chosen), [channel.script_pubkey, change_script]))
    rest = _total(chosen).sat - channel.value.sat - fee.sat
    if rest >= dust_limit(change_script).sat:
        outputs.append(TxOut(Amount(rest), change_script))
    inputs = tuple(TxIn(coin.outpoint, FUNDING_SEQUENCE) for coin in chosen)
    return Transaction(2, inputs, tuple(outputs), 0), tuple(coin.output for coin in chosen)


def _total(coins: Sequence[Coin]) -> Amount:
    return Amount(sum(coin.output.value.sat for coin in coins))
