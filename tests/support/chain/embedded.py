"""Shared by the tests of the embedded chain: play transactions, and the engine's own account of a chain."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount, OutPoint

pbk = pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")

OPEN_WITNESS_SCRIPT = b"\x52"  # OP_2: true for everybody, and not the miner's script
OPEN_SCRIPT = b"\x00\x20" + hashlib.sha256(OPEN_WITNESS_SCRIPT).digest()
LOCKABLE = 0xFFFF_FFFD
FINAL = 0xFFFF_FFFF

BITCOIN = 100_000_000
FEE = 1_000


def spend(
    outpoints: OutPoint | Sequence[OutPoint],
    *amounts: int,
    lock_time: int = 0,
    sequence: int = LOCKABLE,
    version: int = 2,
    witness_script: bytes = OPEN_WITNESS_SCRIPT,
    script: bytes = OPEN_SCRIPT,
) -> Transaction:
    """Spend outputs of ``OPEN_SCRIPT`` to outputs of the same, or of another ``script``."""
    listed = [outpoints] if isinstance(outpoints, OutPoint) else outpoints
    inputs = tuple([TxIn(outpoint, sequence, b"", (witness_script,)) for outpoint in listed])
    outputs = tuple([TxOut(Amount(amount), script) for amount in amounts])
    return Transaction(version, inputs, outputs, lock_time)


def fund(chain: EmbeddedChain, *amounts: int, script: bytes = OPEN_SCRIPT) -> list[OutPoint]:
    """Confirmed outputs of ``script``, in one block."""
    outpoints = [OutPoint(chain.faucet(script, Amount(amount)), 0) for amount in amounts]
    chain.mine(1)
    return outpoints


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new interpreter; its tracebacks, if any, are seen in a failing test."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def assert_index_is_engine(directory: Path) -> None:
    """Blocks and coins of the index are those that the engine has; coins by the engine's own undo data."""
    blocks, coins, spent = _engine_account(directory / "kernel")
    database = sqlite3.connect(directory / "index.sqlite3")
    try:
        recorded = database.execute("SELECT height, hash, raw FROM blocks ORDER BY height").fetchall()
        assert recorded == blocks
        in_chain = """SELECT o.txid, o.vout, o.value, o.script, t.height, t.position = 0, s.height
            FROM outputs o JOIN transactions t ON t.txid = o.txid
            LEFT JOIN transactions s ON s.txid = o.spender
            WHERE t.height IS NOT NULL"""
        rows = database.execute(in_chain).fetchall()
    finally:
        database.close()
    spendable = [row for row in rows if not row[3].startswith(b"\x6a")]
    assert {row[:2]: row[2:6] for row in spendable if row[6] is None} == coins
    assert {row[:2]: row[2:] for row in spendable if row[6] is not None} == spent


def _engine_account(directory: Path) -> tuple[list[Any], dict[Any, Any], dict[Any, Any]]:
    manager = pbk.load_chainman(directory, pbk.ChainType.REGTEST)
    entries = manager.get_active_chain().block_tree_entries
    blocks: list[Any] = []
    coins: dict[Any, Any] = {}
    spent: dict[Any, Any] = {}
    for entry in entries:
        block = manager.blocks[entry]
        blocks.append((entry.height, bytes(entry.block_hash), bytes(block)))
        if entry.height == 0:
            continue
        undo = manager.block_spent_outputs[entry].transactions
        for position, transaction in enumerate(block.transactions):
            if position:
                for txin, coin in zip(transaction.inputs, undo[position - 1].coins, strict=True):
                    key = (bytes(txin.out_point.txid), txin.out_point.index)
                    known = _coin(coin.output, coin.confirmation_height, coin.is_coinbase)
                    assert coins.pop(key) == known
                    spent[key] = (*known, entry.height)
            for vout, output in enumerate(transaction.outputs):
                if not bytes(output.script_pubkey).startswith(b"\x6a"):
                    key = (bytes(transaction.txid), vout)
                    coins[key] = _coin(output, entry.height, position == 0)
    del entries
    manager.__exit__(None, None, None)
    return blocks, coins, spent


def _coin(output: Any, height: int, coinbase: bool) -> tuple[int, bytes, int, bool]:
    return (output.amount, bytes(output.script_pubkey), height, coinbase)
