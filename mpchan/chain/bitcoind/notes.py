"""Notes on outputs: up to which block nothing spends them, and who does.

They save looking through blocks twice. A note names the block that it speaks of, so a reorganisation shows; the node is
asked whether that block still counts before the note does. One small file for each output that is spent, and one for
all others, of a bounded size: a missing or damaged one costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.durability import discard, make_directory, rewrite
from mpchan.errors import ParseError
from mpchan.units import LOCK_TIME_THRESHOLD, Amount, OutPoint, checked_int, is_hex
from mpchan.values import frozen, replace

MOST = 20_000
"""Of so many outputs at most, those that were looked for last, it is noted that nothing spends them."""

_TABLE = "unspent.json"
_UNREADABLE = (OSError, ParseError, ValueError, TypeError, KeyError, RecursionError)


@frozen
class Block:
    """One block.

    Attributes:
        hash: display hex.
    """

    height: int
    hash: str

    def __post_init__(self) -> None:
        checked_int(self.height, 0, LOCK_TIME_THRESHOLD - 1, "block height")
        if not isinstance(self.hash, str) or len(self.hash) != 64 or not is_hex(self.hash):
            raise ParseError("malformed-hex", f"not a block hash: {self.hash!r:.80}")


@frozen
class ConfirmedSpend:
    """A transaction in a block that spends an output.

    Attributes:
        block: where it stands.
        output: what it spends.
        output_height: of the block that made that output.
    """

    block: Block
    transaction: Transaction
    output: TxOut
    output_height: int


@frozen
class Note:
    """What is known of one output.

    Attributes:
        clear: no block up to this one spends it; None where nothing is known.
        spend: who does.
    """

    clear: Block | None = None
    spend: ConfirmedSpend | None = None


class Notes:
    """The notes of one wallet. What cannot be read or written is as if it were not there.

    Args:
        directory: made when it is needed; None keeps notes in memory alone.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._known: dict[OutPoint, Note] = {}
        self._clear: dict[OutPoint, Block] | None = None

    def get(self, outpoint: OutPoint) -> Note:
        """The note on an output, empty where there is none."""
        if outpoint not in self._known:
            note = self._load(outpoint)
            clear = self._table().get(outpoint)
            self._known[outpoint] = note if clear is None else replace(note, clear=clear)
        return self._known[outpoint]

    def put_spend(self, outpoint: OutPoint, note: Note) -> None:
        """Keep a note that says who spends an output, in place of the one before."""
        if note == self.get(outpoint):
            return
        self._known[outpoint] = note
        if self._directory is None:
            return
        body = _canonical({"outpoint": str(outpoint), **_to_json(note)})
        self._write(f"{outpoint.name}.json", f'{{"checksum":"{_checksum(body)}","note":{body}}}\n')

    def put_clear(self, outpoints: Iterable[OutPoint], block: Block) -> None:
        """Note that no block up to this one spends these outputs; what was noted of a spend counts no more.

        One file holds it for all of them. Another process may have written it since: what that one knows of others
        stays.
        """
        notes = dict.fromkeys(outpoints, Note(block))
        changed = [outpoint for outpoint, note in notes.items() if note != self.get(outpoint)]
        if not changed:
            return
        gone = [outpoint for outpoint in changed if self._known[outpoint].spend is not None]
        self._known.update({outpoint: notes[outpoint] for outpoint in changed})
        if self._directory is None:
            return
        table = self._read_table()
        for outpoint, note in self._known.items():
            table.pop(outpoint, None)
            if note.clear is not None and note.spend is None:
                table[outpoint] = note.clear
        self._clear = _newest(table)
        body = _canonical(_table_to_json(self._clear))
        self._write(_TABLE, f'{{"checksum":"{_checksum(body)}","clear":{body}}}\n')
        for outpoint in gone:
            with suppress(OSError):
                discard(self._path(self._directory, outpoint))

    # files ----------------------------------------------------------------------------------------

    def _write(self, name: str, text: str) -> None:
        assert self._directory is not None
        # not durable, on purpose: after a crash the old note, or none, does as well
        with suppress(OSError):
            make_directory(self._directory)
            rewrite(self._directory / name, text.encode(), synced=False)

    def _table(self) -> dict[OutPoint, Block]:
        if self._clear is None:
            self._clear = self._read_table()
        return self._clear

    def _read_table(self) -> dict[OutPoint, Block]:
        if self._directory is None:
            return {}
        try:
            envelope = json.loads((self._directory / _TABLE).read_bytes())
            if envelope["checksum"] != _checksum(_canonical(envelope["clear"])):
                return {}
            return {
                OutPoint.parse(outpoint): block
                for height, digest, outpoints in envelope["clear"]
                for block in (Block(height, digest),)
                for outpoint in outpoints
            }
        except _UNREADABLE:
            return {}

    def _load(self, outpoint: OutPoint) -> Note:
        if self._directory is None:
            return Note()
        try:
            envelope = json.loads(self._path(self._directory, outpoint).read_bytes())
            note = envelope["note"]
            if envelope["checksum"] != _checksum(_canonical(note)) or note["outpoint"] != str(outpoint):
                return Note()
            return _from_json(note)
        except _UNREADABLE:
            return Note()

    @staticmethod
    def _path(directory: Path, outpoint: OutPoint) -> Path:
        return directory / f"{outpoint.name}.json"


def _newest(clear: dict[OutPoint, Block]) -> dict[OutPoint, Block]:
    """At most ``MOST`` of them: those that were looked for last."""
    if len(clear) <= MOST:
        return clear
    return dict(sorted(clear.items(), key=lambda item: item[1].height)[-MOST:])


def _table_to_json(clear: dict[OutPoint, Block]) -> list[Any]:
    """A list of blocks, each with the outputs that it and no block before it spends."""
    by_block: dict[Block, list[str]] = {}
    for outpoint, block in clear.items():
        by_block.setdefault(block, []).append(str(outpoint))
    return [[block.height, block.hash, sorted(outpoints)] for block, outpoints in by_block.items()]


def _canonical(body: object) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _checksum(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()


def _to_json(note: Note) -> dict[str, Any]:
    clear, spend = note.clear, note.spend
    return {
        "clear": None if clear is None else [clear.height, clear.hash],
        "spend": None
        if spend is None
        else {
            "block": [spend.block.height, spend.block.hash],
            "transaction": spend.transaction.to_hex(),
            "value_sat": spend.output.value.sat,
            "script": spend.output.script_pubkey.hex(),
            "output_height": spend.output_height,
        },
    }


def _from_json(body: dict[str, Any]) -> Note:
    clear, spend = body["clear"], body["spend"]
    return Note(
        None if clear is None else Block(*clear),
        None
        if spend is None
        else ConfirmedSpend(
            Block(*spend["block"]),
            Transaction.from_hex(spend["transaction"]),
            TxOut(Amount(spend["value_sat"]), bytes.fromhex(spend["script"])),
            checked_int(spend["output_height"], 0, LOCK_TIME_THRESHOLD - 1, "block height"),
        ),
    )
