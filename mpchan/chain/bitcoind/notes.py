"""Notes on outputs: up to which block nothing spends them, and who does.

They save looking through blocks twice. A note names the block that it speaks of, so a reorganisation shows; the node is
asked whether that block still counts before the note does. One small file for each output: a missing or damaged one
costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.durability import make_directory, rewrite
from mpchan.errors import ParseError
from mpchan.units import LOCK_TIME_THRESHOLD, Amount, OutPoint, checked_int, is_hex
from mpchan.values import frozen


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

    def get(self, outpoint: OutPoint) -> Note:
        """The note on an output, empty where there is none."""
        if outpoint not in self._known:
            self._known[outpoint] = self._load(outpoint)
        return self._known[outpoint]

    def put(self, outpoint: OutPoint, note: Note) -> None:
        """Keep a note in place of the one before."""
        if note == self.get(outpoint):
            return
        self._known[outpoint] = note
        if self._directory is None:
            return
        body = _canonical({"outpoint": str(outpoint), **_to_json(note)})
        path = self._path(self._directory, outpoint)
        # not durable, on purpose: after a crash the old note, or none, does as well
        with suppress(OSError):
            make_directory(self._directory)
            rewrite(path, f'{{"checksum":"{_checksum(body)}","note":{body}}}\n'.encode(), synced=False)

    def _load(self, outpoint: OutPoint) -> Note:
        if self._directory is None:
            return Note()
        try:
            envelope = json.loads(self._path(self._directory, outpoint).read_bytes())
            note = envelope["note"]
            if envelope["checksum"] != _checksum(_canonical(note)) or note["outpoint"] != str(outpoint):
                return Note()
            return _from_json(note)
        except (OSError, ParseError, ValueError, TypeError, KeyError, RecursionError):
            return Note()

    @staticmethod
    def _path(directory: Path, outpoint: OutPoint) -> Path:
        return directory / f"{outpoint.txid}-{outpoint.vout}.json"


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
