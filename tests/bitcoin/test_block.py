"""Blocks: the genesis block, which is known to all, and blocks of the embedded chain's own making."""

from __future__ import annotations

import pytest

from mpchan.bitcoin.block import block_hash, block_transactions, parent_hash
from mpchan.bitcoin.network import MAINNET, REGTEST
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded.blocks import build_block
from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint, Txid

COINBASE = (
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054"
    "696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420"
    "666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61"
    "deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)
ROOT = "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"


def genesis(time: int, bits: str, nonce: int) -> bytes:
    header = "01000000" + "00" * 32 + ROOT + time.to_bytes(4, "little").hex() + bits
    return bytes.fromhex(header + nonce.to_bytes(4, "little").hex() + "01" + COINBASE)


GENESIS = genesis(1231006505, "ffff001d", 2083236893)


def test_the_genesis_block() -> None:
    assert block_hash(GENESIS) == MAINNET.genesis_hash
    assert block_hash(genesis(1296688602, "ffff7f20", 2)) == REGTEST.genesis_hash
    assert parent_hash(GENESIS) == "00" * 32
    [coinbase] = block_transactions(GENESIS)
    assert coinbase.txid.wire.hex() == ROOT
    assert coinbase.to_hex() == COINBASE


def test_blocks_in_a_row_with_witnesses() -> None:
    sources = [TxIn(OutPoint(Txid(bytes([n]) * 32), n), n, b"", (b"\x51", bytes(n))) for n in range(1, 4)]
    transactions = [Transaction(2, (source,), (TxOut(Amount(7), b"\x51"),), 0) for source in sources]
    first = build_block(bytes(32), 1, 1_300_000_000, transactions, fees=Amount(0))
    second = build_block(first.hash, 2, 1_300_000_600, [], fees=Amount(0))
    assert tuple(block_transactions(first.raw)) == first.transactions
    assert block_hash(first.raw) == parent_hash(second.raw) == first.hash[::-1].hex()


def test_every_prefix_is_refused() -> None:
    for size in range(len(GENESIS)):
        with pytest.raises(ParseError):
            list(block_transactions(GENESIS[:size]))
    for size in range(80):
        with pytest.raises(ParseError):
            block_hash(GENESIS[:size])
    with pytest.raises(ParseError) as caught:
        list(block_transactions(GENESIS + b"\x00"))
    assert caught.value.slug == "trailing-bytes"


def test_transactions_are_read_one_at_a_time() -> None:
    """A search that has found what it looks for need not read on."""
    half = GENESIS[:80] + b"\x02" + GENESIS[81:] + b"\x02"
    reading = block_transactions(half)
    assert next(reading).to_hex() == COINBASE
    with pytest.raises(ParseError):
        next(reading)
