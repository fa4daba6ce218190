"""PSBTs with fields that the package reads and never writes: other wallets do."""

from __future__ import annotations

from collections.abc import Mapping

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.values import replace


def with_pairs(psbt: Psbt, index: int, changes: Mapping[bytes, bytes]) -> Psbt:
    """A copy in which the map of an input has these pairs."""
    inputs = list(psbt.inputs)
    inputs[index] = inputs[index].with_pairs(changes)
    return replace(psbt, inputs=tuple(inputs))


def with_whole_utxo(psbt: Psbt, index: int, previous: Transaction) -> Psbt:
    """A copy in which an input tells of what it spends by the whole transaction."""
    return with_pairs(psbt, index, {b"\x00": previous.to_bytes()})
