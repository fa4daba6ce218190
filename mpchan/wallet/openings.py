"""``openings/notes``: the refunds that were signed for buyers whose fundings no chain has shown yet.

Nearly all that strangers ask for never come. So each leaves one line here, and becomes a channel when the chain first
shows its funding:

    {"mpchan_openings": 1, "serial": "<16 hex digits>", "forgotten": 0, "checksum": "…"}
    <an opening, see ``opening``>
    …

Lines are appended. What is to go is left out of a new file that takes the place of the old one; its ``serial`` is drawn
anew, so that other processes see it. ``forgotten`` is the high-water mark: the largest expiry among the offers whose
openings were deleted, in the same file that they are missing in. Where an opening and a channel stand on one outpoint,
the channel counts.

Whoever writes, or signs by what it has read here, holds the wallet's lock.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import BinaryIO

from mpchan.durability import reading
from mpchan.errors import AsStorageError, ParseError, StorageError, storage_error
from mpchan.units import MAX_LOCK_TIME, OutPoint, Txid, checked_int
from mpchan.wallet.opening import PREFIX_BYTES, Opening, checked_data, key_fields
from mpchan.wallet.storage import append_durably, make_directory, sync_file, write_durably
from mpchan.wallet.store import canonical, checksum

MOST_OPENINGS = 100_000

FOLDER, FILE = "openings", "notes"
_FORMAT = 1
_MAX_HEAD = 1_000
_SERIAL_BYTES = 8

LOST = (
    "`mpchan fsck --repair` goes on without it, and makes all offers void that are out and unused, so that nothing is "
    "signed twice; or put the wallet back from a backup"
)


class Openings:
    """The openings of one wallet, and an index of them in memory that every question brings up to date.

    Args:
        directory: of the wallet.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FOLDER / FILE
        self._guard = RLock()  # a watcher's round and a seller's answer may ask at once
        self._forget_all()

    def _forget_all(self) -> None:
        self._head = b""
        self._mark = 0
        self._end = self._durable = 0
        self._last = b""
        self._lines = 0
        self._fault: StorageError | None = None
        self._places: dict[OutPoint, int] = {}
        self._scripts: dict[OutPoint, bytes] = {}
        self._offers: dict[bytes, OutPoint] = {}
        self._payers: dict[bytes, OutPoint] = {}
        self._sessions: dict[bytes, tuple[OutPoint, ...]] = {}
        self._published: Counter[bytes] = Counter()
        self._expiring: dict[int, list[OutPoint]] = {}

    # reading --------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Of the file, which may not be there."""
        return self._path

    def __len__(self) -> int:
        with self._fresh():
            return len(self._places)

    @property
    def mark(self) -> int:
        """The high-water mark: nothing is signed for the first time under an offer that expired by then; 0 for none.

        Raises:
            StorageError: ``openings-damaged``: what was signed already cannot be told.
        """
        with self._fresh(whole=True):
            return self._mark

    def find(self, outpoint: OutPoint) -> Opening | None:
        """The opening on an outpoint."""
        with self._fresh():
            return self._read(outpoint)

    def under(self, offer_id: str) -> Opening | None:
        """The opening under an offer; errors as ``find``."""
        with self._fresh():
            outpoint = self._offers.get(bytes.fromhex(offer_id))
            return None if outpoint is None else self._read(outpoint)

    def of_funding(self, txid: Txid) -> list[OutPoint]:
        """Where openings wait for outputs of one transaction; errors as ``find``."""
        with self._fresh():
            return [outpoint for outpoint in self._places if outpoint.txid == txid]

    def of_payer(self, key: bytes) -> OutPoint | None:
        """Where a compressed key is that of the payer; errors as ``find``."""
        with self._fresh():
            return self._payers.get(key)

    def of_session(self, session: str) -> list[Opening]:
        """The openings of a buyer; errors as ``find``."""
        with self._fresh():
            found = [self._read(outpoint) for outpoint in self._sessions.get(bytes.fromhex(session), ())]
            return [opening for opening in found if opening is not None]

    def names_published(self, offer_id: str) -> bool:
        """Whether an opening may need the published offer of this id; errors as ``find``."""
        with self._fresh():
            return bool(self._published[bytes.fromhex(offer_id)[:PREFIX_BYTES]])

    def scripts(self) -> dict[OutPoint, bytes]:
        """Every outpoint with the scriptPubKey that its funding has; errors as ``find``."""
        with self._fresh():
            return dict(self._scripts)

    def expired_by(self, now: int) -> dict[OutPoint, int]:
        """The openings whose offers had expired by a Unix time, with that of each one's expiry; errors as ``find``."""
        with self._fresh():
            return {
                outpoint: expires
                for expires in sorted(self._expiring)
                if 0 < expires <= now
                for outpoint in self._expiring[expires]
            }

    @property
    def serial(self) -> bytes:
        """Another one after each time that openings were left out; empty where the file is damaged."""
        with self._guard:
            self._catch_up()
            return self._head

    def all(self) -> Iterator[Opening]:
        """Every opening, in the order in which they were signed; errors as ``find``."""
        for outpoint in self.scripts():
            found = self.find(outpoint)
            if found is not None:
                yield found

    def _read(self, outpoint: OutPoint) -> Opening | None:
        """The line of an opening. Another process, or a watcher's thread, may put a new file in place at any moment."""
        try:
            while outpoint in self._places:
                with reading(self._path) as file:
                    if file.readline(_MAX_HEAD) == self._head:
                        file.seek(self._places[outpoint])
                        return Opening.from_line(file.readline())
                self._catch_up()
                if self._fault is not None and not self._head:
                    raise self._fault
        except OSError as error:
            raise storage_error("read-failed", self._path, error) from error
        except ParseError as error:
            raise StorageError(error.slug, f"{self._path}: {error.message}", hint=LOST) from None
        return None

    @contextmanager
    def _fresh(self, *, whole: bool = False) -> Iterator[None]:
        """The index as the file stands; nobody else changes it meanwhile.

        Args:
            whole: refuse a file of which any line cannot be read.
        """
        with self._guard:
            self._catch_up()
            if self._fault is not None and (whole or not self._head):
                raise self._fault
            yield

    def _catch_up(self) -> None:
        """Take in what other processes, or this one, have appended since; or the whole of another file."""
        try:
            with reading(self._path) as file:
                head = file.readline(_MAX_HEAD)
                if head != self._head or not self._goes_on(file):
                    self._forget_all()
                    self._end = len(head)
                    self._take_head(head)
                else:
                    file.seek(self._end)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # never finished: nothing left by it
                    self._take(line)
        except FileNotFoundError:
            self._forget_all()
        except OSError as error:
            raise storage_error("read-failed", self._path, error) from error

    def _goes_on(self, file: BinaryIO) -> bool:
        """Whether the last line that was taken in is there: a failed append may have been taken back since."""
        file.seek(self._end - len(self._last))
        return file.read(len(self._last)) == self._last

    def _take_head(self, head: bytes) -> None:
        try:
            table = json.loads(head)
            total = table.pop("checksum")
            if table["mpchan_openings"] != _FORMAT or total != checksum(canonical(table)):
                raise ValueError("checksum or version does not fit")
            self._mark = checked_int(table["forgotten"], 0, MAX_LOCK_TIME, "forgotten")
        except (ParseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._fault = StorageError("openings-damaged", f"{self._path}: line 1: {error!s:.200}", hint=LOST)
        else:
            self._head = head

    def _take(self, line: bytes) -> None:
        place, self._end = self._end, self._end + len(line)
        self._last = line
        self._lines += 1
        try:
            data = checked_data(line)
        except ParseError as error:
            text = f"{self._path}: line {self._lines + 1}: {error.message}"
            self._fault = self._fault or StorageError(error.slug, text, hint=LOST)
            return
        where, offer_id, published, session, payer_key, script, expires = key_fields(data)
        outpoint = OutPoint(Txid(where[:32]), int.from_bytes(where[32:], "little"))
        if outpoint in self._places:
            return
        self._places[outpoint] = place
        self._scripts[outpoint] = script
        self._offers[offer_id] = self._payers[payer_key] = outpoint
        self._sessions[session] = (*self._sessions.get(session, ()), outpoint)
        self._published[published] += 1
        self._expiring.setdefault(expires, []).append(outpoint)

    # writing --------------------------------------------------------------------------------------

    def add(self, opening: Opening) -> None:
        """Write an opening down; durable on return.

        Raises:
            StorageError: ``write-failed``, nothing was added; ``write-unsure``; ``openings-damaged``.
            ValueError: it is too long, see ``Opening.to_line``.
        """
        line = opening.to_line()
        if line is None:
            raise ValueError(f"an opening that is too long for a note: {opening.name}")
        with self._fresh(whole=True):
            if not self._head:
                make_directory(self._path.parent)
                write_durably(self._path, _head(0))
                self._catch_up()
            append_durably(self._path, line, at=self._end)
            self._catch_up()
            self._durable = self._end

    def make_sure(self) -> None:
        """Make durable what another process, which may have died before its fsync, has appended."""
        with self._fresh():
            if self._durable < self._end:
                sync_file(self._path)
                self._durable = self._end

    def mend(self) -> tuple[int, int]:
        """Write the file anew without what is damaged; how many openings were kept, and how many lines were not."""
        with self._guard:
            self._catch_up()
            with AsStorageError("read-failed", self._path), reading(self._path) as file:
                first, *lines = [line for line in file if line.endswith(b"\n")] or [b""]
            lines = lines if self._head else [first, *lines]
            kept = [line for line in lines if _is_whole(line)]
            write_durably(self._path, _head(self._mark) + b"".join(kept))
            self._catch_up()
            self._durable = self._end
            return len(kept), len(lines) - len(kept)

    def leave_out(self, outpoints: Collection[OutPoint], *, forgotten: int = 0) -> None:
        """Write the file anew without some openings; durable on return.

        Args:
            forgotten: where the high-water mark has to stand at least from now on.
        """
        with self._fresh(whole=True):
            if not self._head:
                return
            gone = {self._places[outpoint] for outpoint in outpoints if outpoint in self._places}
            kept, place = [], len(self._head)
            with AsStorageError("read-failed", self._path), reading(self._path) as file:
                file.seek(place)
                for line in file:
                    if line.endswith(b"\n") and place not in gone:
                        kept.append(line)
                    place += len(line)
            write_durably(self._path, _head(max(self._mark, forgotten)) + b"".join(kept))
            self._catch_up()
            self._durable = self._end


def _is_whole(line: bytes) -> bool:
    try:
        Opening.from_line(line)
    except ParseError:
        return False
    return True


def _head(mark: int) -> bytes:
    table = {"mpchan_openings": _FORMAT, "serial": os.urandom(_SERIAL_BYTES).hex(), "forgotten": mark}
    return json.dumps({**table, "checksum": checksum(canonical(table))}).encode() + b"\n"
