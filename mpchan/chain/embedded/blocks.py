"""Blocks of the embedded chain: coinbase, witness commitment, header, proof of work.

Nothing here judges a block; that is the engine's part.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from mpchan.bitcoin.merkle import block_merkle_root
from mpchan.bitcoin.script import (
    OP_0,
    OP_1,
    OP_RETURN,
    double_sha256,
    push_data,
    push_number,
    script_to_p2wsh_script,
)
from mpchan.bitcoin.serialize import MAX_UINT32, compact_size, uint32
from mpchan.bitcoin.tx import NULL_OUTPOINT, Transaction, TxIn, TxOut
from mpchan.units import Amount
from mpchan.values import frozen

BLOCK_INTERVAL = 600
"""Seconds from one block's time to the next one's. The wall clock has no part in it."""

HALVING_INTERVAL = 150
"""Regtest halves the subsidy every 150 blocks; the last satoshi is paid in block 4,949."""

MAX_BLOCK_WEIGHT = 4_000_000

BLOCK_VERSION = 0x2000_0000
TARGET_BITS = 0x207F_FFFF
TARGET = 0x7FFFFF << 8 * (0x20 - 3)
"""Regtest's proof of work limit: every second hash meets it."""

MINER_WITNESS_SCRIPT = bytes([OP_1])
MINER_SCRIPT = script_to_p2wsh_script(MINER_WITNESS_SCRIPT)
"""Where block rewards go: a P2WSH that anyone may spend, so that the chain needs no key of its own."""

_COMMITMENT_HEADER = bytes.fromhex("aa21a9ed")
_WITNESS_RESERVED_VALUE = bytes(32)


def made_by(directory: Path) -> str:
    """The command that makes a chain in a directory where there is none."""
    return f"MPCHAN_REGTEST={shlex.quote(str(directory))} mpchan regtest mine 1"


@frozen
class Block:
    """A whole block.

    Attributes:
        hash: of the header, in wire order.
        time: of the header, in seconds since 1970.
        transactions: the coinbase first.
        raw: the block as the network carries it.
    """

    hash: bytes
    height: int
    time: int
    transactions: tuple[Transaction, ...]
    raw: bytes


def subsidy(height: int) -> Amount:
    """What the block at ``height`` may create."""
    return Amount(50 * 100_000_000 >> height // HALVING_INTERVAL)


def build_block(
    parent: bytes,
    height: int,
    time: int,
    transactions: Sequence[Transaction],
    *,
    fees: Amount,
    extra_nonce: bytes = b"",
) -> Block:
    """A block with its proof of work.

    Args:
        parent: hash of the block before it, in wire order.
        height: of the new block, 1 or more.
        time: of the new block, in seconds since 1970.
        transactions: in block order, without the coinbase.
        fees: what the coinbase claims above the subsidy.
        extra_nonce: at most 80 bytes that tell this block from another one with the same content.
    """
    coinbase = _coinbase(height, subsidy(height) + fees, transactions, extra_nonce)
    complete = (coinbase, *transactions)
    root = block_merkle_root([transaction.txid.wire for transaction in complete])
    header = _grind(uint32(BLOCK_VERSION) + parent + root + uint32(time) + uint32(TARGET_BITS))
    body = b"".join(transaction.to_bytes() for transaction in complete)
    return Block(double_sha256(header), height, time, complete, header + compact_size(len(complete)) + body)


def _coinbase(
    height: int, value: Amount, transactions: Sequence[Transaction], extra_nonce: bytes
) -> Transaction:
    # the height as BIP-0034 demands; the empty push keeps the script at two bytes or more, where a height below 17
    # takes only one
    script_sig = push_number(height) + bytes([OP_0]) + (push_data(extra_nonce) if extra_nonce else b"")
    txin = TxIn(NULL_OUTPOINT, MAX_UINT32, script_sig, (_WITNESS_RESERVED_VALUE,))
    outputs = (TxOut(value, MINER_SCRIPT), TxOut(Amount(0), _witness_commitment(transactions)))
    return Transaction(2, (txin,), outputs, 0)


def _witness_commitment(transactions: Sequence[Transaction]) -> bytes:
    """BIP-0141, "Commitment structure": the coinbase counts as 32 zero bytes in the tree."""
    root = block_merkle_root([bytes(32), *(transaction.wtxid.wire for transaction in transactions)])
    commitment = double_sha256(root + _WITNESS_RESERVED_VALUE)
    return bytes([OP_RETURN]) + push_data(_COMMITMENT_HEADER + commitment)


def _grind(header: bytes) -> bytes:
    nonce = 0
    while True:
        candidate = header + uint32(nonce)
        if int.from_bytes(double_sha256(candidate), "little") <= TARGET:
            return candidate
        nonce += 1
