"""The record of the embedded chain: every block, transaction and output, and the mempool, in one SQLite file.

Questions are answered from here without the engine, and without waiting for whoever holds it. What is committed
here counts: the engine's own data can always be made again from the blocks in this file.

Txids and hashes are stored as wire bytes. A transaction without a height is in the mempool. An output names its
spender, in a block or in the mempool, so one output cannot have two.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from mpchan.bitcoin.script import is_unspendable
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import COINBASE_MATURITY, Coin, OutputStatus, Spend
from mpchan.chain.embedded.blocks import Block, made_by
from mpchan.durability import step
from mpchan.errors import ChainError
from mpchan.units import Amount, ChainTip, OutPoint, Txid
from mpchan.values import frozen

SCHEMA_VERSION = 1

_BUSY_SECONDS = 60.0
_KEYS_AT_ONCE = 500  # older SQLite takes 999 variables

_read = lru_cache(maxsize=8)(Transaction.from_bytes)
"""Who asks for each of a thousand coins that one transaction spends reads it once."""

_SCHEMA = (
    """CREATE TABLE blocks (
        height INTEGER PRIMARY KEY,
        hash BLOB NOT NULL,
        time INTEGER NOT NULL,
        median_time INTEGER NOT NULL,
        raw BLOB NOT NULL
    )""",
    # the id gives the order of arrival, in which parents come before their children
    """CREATE TABLE transactions (
        id INTEGER PRIMARY KEY,
        txid BLOB NOT NULL UNIQUE,
        height INTEGER,
        position INTEGER,
        raw BLOB NOT NULL
    )""",
    "CREATE INDEX transactions_by_height ON transactions (height, position)",
    """CREATE TABLE outputs (
        txid BLOB NOT NULL,
        vout INTEGER NOT NULL,
        value INTEGER NOT NULL,
        script BLOB NOT NULL,
        spender BLOB,
        PRIMARY KEY (txid, vout)
    ) WITHOUT ROWID""",
    "CREATE INDEX unspent_by_script ON outputs (script) WHERE spender IS NULL",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


@frozen
class BlockRecord:
    """What is kept of a block beside its bytes; hash in wire order, times in seconds since 1970."""

    height: int
    hash: bytes
    time: int
    median_time: int

    @property
    def tip(self) -> ChainTip:
        """The chain as it stands when this block is its last."""
        return ChainTip(self.height, self.median_time)


@frozen
class OutputRecord:
    """What is kept of an output.

    Attributes:
        height: of the block that made it; None in the mempool.
        coinbase: whether the block's reward is paid here.
        spender: the transaction that spends it, and its height; None while unspent.
    """

    output: TxOut
    height: int | None
    coinbase: bool
    spender: Transaction | None
    spender_height: int | None


class Index:
    """One connection to the file. Those that write hold the directory's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # autocommit: transactions are begun and ended here, not by the module
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            # a commit that has returned outlives a loss of power
            self._run("PRAGMA synchronous = FULL")
            [(self._version,)] = self._run("PRAGMA user_version")
        except ChainError:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Index | None:
        """The index at ``path``; None where no chain has been made yet.

        Raises:
            ChainError: ``chain-index`` for a file that is none, or of another version.
        """
        if not os.path.exists(path):  # unlike Path.exists it says no where it may not look
            return None
        index = cls(path)
        if index._version == SCHEMA_VERSION:
            return index
        index.close()
        if index._version:
            raise ChainError("chain-index", f"{path} has version {index._version}, not {SCHEMA_VERSION}")
        return None

    @classmethod
    def create(cls, path: Path) -> Index:
        """An index that is still empty; the first ``writing`` that calls ``set_up`` makes the chain visible."""
        index = cls(path)
        # readers go on while somebody writes
        step("commit", index._run, "PRAGMA journal_mode = WAL")
        return index

    def set_up(self, genesis: bytes, genesis_hash: bytes, genesis_time: int) -> None:
        """Make the tables and enter the genesis block, whose coinbase is no coin by consensus."""
        for statement in _SCHEMA:
            self._run(statement)
        self._run(
            "INSERT INTO blocks VALUES (0, ?, ?, ?, ?)", genesis_hash, genesis_time, genesis_time, genesis
        )

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        self._connection.close()

    def let_go(self) -> None:
        """Close the file when nobody can use the object any more, in whatever thread that is found out.

        SQLite's module closes a connection in the thread that opened it alone; else it is closed when it is collected.
        """
        with suppress(sqlite3.ProgrammingError):
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All that is written in this block, or nothing of it."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            step("commit", self._run, "COMMIT")
        except BaseException:
            self._connection.rollback()
            raise

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Within ``writing``: what an error ends leaves no trace, and the rest counts all the same."""
        self._run("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK TO attempt")
            raise
        finally:
            self._run("RELEASE attempt")

    # --- questions --------------------------------------------------------------------------------

    def last_block(self) -> BlockRecord:
        """The best block."""
        rows = self._run("SELECT height, hash, time, median_time FROM blocks ORDER BY height DESC LIMIT 1")
        return BlockRecord(*rows[0])

    def block(self, height: int) -> BlockRecord:
        """The block at ``height``, which must exist."""
        rows = self._run("SELECT height, hash, time, median_time FROM blocks WHERE height = ?", height)
        return BlockRecord(*rows[0])

    def raw_block(self, height: int) -> bytes:
        """The bytes of the block at ``height``, which must exist."""
        return bytes(self._run("SELECT raw FROM blocks WHERE height = ?", height)[0][0])

    def output(self, outpoint: OutPoint) -> OutputRecord | None:
        """The output, spent or not; None when there never was one."""
        rows = self._run(
            """SELECT o.value, o.script, t.height, t.position, s.raw, s.height
            FROM outputs o JOIN transactions t ON t.txid = o.txid
            LEFT JOIN transactions s ON s.txid = o.spender
            WHERE o.txid = ? AND o.vout = ?""",
            outpoint.txid.wire,
            outpoint.vout,
        )
        if not rows:
            return None
        value, script, height, position, spender, spender_height = rows[0]
        made = TxOut(Amount(value), script)
        spent_by = None if spender is None else _read(spender)
        return OutputRecord(made, height, position == 0, spent_by, spender_height)

    def output_statuses(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, OutputStatus]:
        """Those of these outputs that there are, all as of one moment."""
        with self._snapshot():
            tip_height = self.last_block().height
            records = {outpoint: self.output(outpoint) for outpoint in outpoints}
        return {
            outpoint: _status(record, tip_height)
            for outpoint, record in records.items()
            if record is not None
        }

    def appeared(self, outpoints: Collection[OutPoint]) -> set[OutPoint]:
        """Those of these outputs that there are."""
        by_key = {(outpoint.txid.wire, outpoint.vout): outpoint for outpoint in outpoints}
        with self._snapshot():
            rows = self._rows(
                "SELECT txid, vout FROM outputs WHERE txid IN ({keys})", [key[0] for key in by_key]
            )
        return {by_key[row] for row in rows if row in by_key}

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """The unspent outputs of these scripts, in outpoint order."""
        with self._snapshot():
            tip_height = self.last_block().height
            rows = self._rows(
                """SELECT o.txid, o.vout, o.value, o.script, t.height, t.position
                FROM outputs o JOIN transactions t ON t.txid = o.txid
                WHERE o.spender IS NULL AND o.script IN ({keys})""",
                [script for script in scripts if not is_unspendable(script)],
            )
        return [_coin(row, tip_height) for row in sorted(rows, key=lambda row: row[:2])]

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        """Those of these scripts that any output pays to, spent or not. It reads the whole table of outputs."""
        with self._snapshot():
            rows = self._rows("SELECT DISTINCT script FROM outputs WHERE script IN ({keys})", scripts)
        return {script for (script,) in rows}

    def transaction(self, txid: Txid) -> tuple[Transaction, int] | None:
        """The transaction and its confirmations, 0 in the mempool; None when it is in neither."""
        with self._snapshot():
            rows = self._run("SELECT raw, height FROM transactions WHERE txid = ?", txid.wire)
            tip_height = self.last_block().height
        if not rows:
            return None
        raw, height = rows[0]
        return Transaction.from_bytes(raw), _confirmations(height, tip_height)

    def mempool(self) -> list[Txid]:
        """In order of arrival."""
        rows = self._run("SELECT txid FROM transactions WHERE height IS NULL ORDER BY id")
        return [Txid(txid) for (txid,) in rows]

    def mempool_transactions(self) -> list[Transaction]:
        """In order of arrival, so parents before their children."""
        rows = self._run("SELECT raw FROM transactions WHERE height IS NULL ORDER BY id")
        return [Transaction.from_bytes(raw) for (raw,) in rows]

    def with_descendants(self, transaction: Transaction) -> list[Transaction]:
        """A transaction of the mempool and all that spend from it, some perhaps twice."""
        found = [transaction]
        for child in self.children(transaction):
            found += self.with_descendants(child)
        return found

    def parents(self, transaction: Transaction) -> list[Transaction]:
        """The transactions of the mempool that one spends from, each once."""
        found = []
        for txid in dict.fromkeys(txin.outpoint.txid for txin in transaction.inputs):
            rows = self._run("SELECT raw FROM transactions WHERE txid = ? AND height IS NULL", txid.wire)
            found += [Transaction.from_bytes(raw) for (raw,) in rows]
        return found

    def children(self, transaction: Transaction) -> list[Transaction]:
        """The transactions of the mempool that spend from one, each once."""
        rows = self._run(
            """SELECT DISTINCT s.raw FROM outputs o JOIN transactions s ON s.txid = o.spender
            WHERE o.txid = ? AND s.height IS NULL""",
            transaction.txid.wire,
        )
        return [Transaction.from_bytes(raw) for (raw,) in rows]

    # --- changes, all within ``writing`` ----------------------------------------------------------

    def connect(self, block: Block) -> None:
        """Put ``block``, which the engine has accepted, on top; mempool transactions in conflict with it go."""
        times = self._run("SELECT time FROM blocks ORDER BY height DESC LIMIT 10")
        last_times = sorted([block.time, *(time for (time,) in times)])
        median_time = last_times[len(last_times) // 2]
        self._run(
            "INSERT INTO blocks VALUES (?, ?, ?, ?, ?)",
            block.height,
            block.hash,
            block.time,
            median_time,
            block.raw,
        )
        for position, transaction in enumerate(block.transactions):
            self._enter(transaction, block.height, position)

    def disconnect(self) -> tuple[Transaction, ...]:
        """Take the last block off; the mempool must be empty. Its transactions without the coinbase, in order."""
        height = self.last_block().height
        rows = self._run("SELECT raw FROM transactions WHERE height = ? ORDER BY position", height)
        transactions = [Transaction.from_bytes(raw) for (raw,) in rows]
        for transaction in reversed(transactions):
            self._remove(transaction)
        self._run("DELETE FROM blocks WHERE height = ?", height)
        return tuple(transactions[1:])

    def add(self, transaction: Transaction) -> None:
        """Put a transaction, which spends nothing that is spent, in the mempool."""
        self._enter(transaction, None, None)

    def evict(self, txid: Txid) -> None:
        """Take a transaction and all that spend from it out of the mempool."""
        rows = self._run("SELECT raw FROM transactions WHERE txid = ? AND height IS NULL", txid.wire)
        if not rows:
            return
        transaction = Transaction.from_bytes(rows[0][0])
        spenders = self._run("SELECT spender FROM outputs WHERE txid = ? AND spender IS NOT NULL", txid.wire)
        for (spender,) in spenders:
            self.evict(Txid(spender))
        self._remove(transaction)

    def _enter(self, transaction: Transaction, height: int | None, position: int | None) -> None:
        txid = transaction.txid.wire
        if position != 0:
            for txin in transaction.inputs:
                self._spend(txin.outpoint, txid)
        self._run(
            """INSERT INTO transactions (txid, height, position, raw) VALUES (?, ?, ?, ?)
            ON CONFLICT (txid) DO UPDATE
            SET height = excluded.height, position = excluded.position, raw = excluded.raw""",
            txid,
            height,
            position,
            transaction.to_bytes(),
        )
        for vout, output in enumerate(transaction.outputs):
            # there already when the transaction comes out of the mempool, perhaps with a spender
            self._run(
                "INSERT OR IGNORE INTO outputs VALUES (?, ?, ?, ?, NULL)",
                txid,
                vout,
                output.value.sat,
                output.script_pubkey,
            )

    def _spend(self, outpoint: OutPoint, spender: bytes) -> None:
        key = (outpoint.txid.wire, outpoint.vout)
        rows = self._run("SELECT spender FROM outputs WHERE txid = ? AND vout = ?", *key)
        if rows and rows[0][0] not in (None, spender):
            self.evict(Txid(rows[0][0]))
        self._run("UPDATE outputs SET spender = ? WHERE txid = ? AND vout = ?", spender, *key)

    def _remove(self, transaction: Transaction) -> None:
        txid = transaction.txid.wire
        for txin in transaction.inputs:
            self._run(
                "UPDATE outputs SET spender = NULL WHERE txid = ? AND vout = ? AND spender = ?",
                txin.outpoint.txid.wire,
                txin.outpoint.vout,
                txid,
            )
        self._run("DELETE FROM outputs WHERE txid = ?", txid)
        self._run("DELETE FROM transactions WHERE txid = ?", txid)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several questions to one state, whatever another process commits in between."""
        if self._connection.in_transaction:
            yield
            return
        self._run("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()

    # --- the file ---------------------------------------------------------------------------------

    def _rows(self, statement: str, keys: Collection[bytes]) -> list[tuple[Any, ...]]:
        """The rows of all these keys, of which ``{keys}`` stands for some at a time."""
        wanted = sorted(set(keys))
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            chunk = wanted[start : start + _KEYS_AT_ONCE]
            rows += self._run(statement.replace("{keys}", ", ".join("?" * len(chunk))), *chunk)
        return rows

    def _run(self, statement: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> ChainError:
        if isinstance(error, sqlite3.OperationalError):  # locked, or the disk: the file itself is sound
            hint = "is there space on the disk, and may it be written? nothing is lost: then try again"
        else:
            hint = (
                f"move {self._path}* elsewhere: `{made_by(self._path.parent)}` makes it again "
                "from the engine's own blocks; only what waits in the mempool is lost"
            )
        return ChainError("chain-index", f"cannot use {self._path}: {error}", hint=hint)


def _confirmations(height: int | None, tip_height: int) -> int:
    return 0 if height is None else tip_height - height + 1


def _status(record: OutputRecord, tip_height: int) -> OutputStatus:
    """An output as the interface of all backends tells it."""
    spend = None
    if record.spender is not None:
        confirmations = _confirmations(record.spender_height, tip_height)
        spend = Spend(record.spender.txid, confirmations, record.spender)
    confirmations = _confirmations(record.height, tip_height)
    mature = not record.coinbase or spend is not None or confirmations > COINBASE_MATURITY
    return OutputStatus(record.output, confirmations, spend, mature)


def _coin(row: tuple[Any, ...], tip_height: int) -> Coin:
    txid, vout, value, script, height, position = row
    confirmations = _confirmations(height, tip_height)
    mature = position != 0 or confirmations > COINBASE_MATURITY
    return Coin(OutPoint(Txid(txid), vout), TxOut(Amount(value), script), confirmations, mature)
