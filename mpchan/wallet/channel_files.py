"""The two files of each channel: its journal, which is the truth, and its state file, a snapshot that saves reading.

Each event costs one append to the journal, fsynced; that is the durable write that everything waits for. The state
file says at which line of the journal it was taken, and is written anew when more changes than the payments' total, and
after ``SNAPSHOT_EVERY`` lines at the latest. To load a channel is to read the state file and to fold the few lines
behind it: it costs the same after a million payments as after ten.

Who reads without the lock sees the channel after one line or after the next, whenever a writer or its death
comes between.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

from mpchan.errors import MpchanError, NotPossible, ParseError, StorageError, UsageError, storage_error
from mpchan.values import frozen, replace
from mpchan.wallet.batch import Batch
from mpchan.wallet.channel_folder import ChannelFolder
from mpchan.wallet.journal import Body, Position, beginning, ends_with, entries, fold
from mpchan.wallet.layout import kept
from mpchan.wallet.records import dump, load, record_of
from mpchan.wallet.storage import (
    LOCK_TIMEOUT_SECONDS,
    append_durably,
    locked,
    read_text,
    sync_file,
    write_durably,
)

if TYPE_CHECKING:
    from mpchan.bitcoin.network import Network
    from mpchan.units import OutPoint
    from mpchan.wallet.records import Record

SNAPSHOT_EVERY = 64
"""Lines of the journal that a state file may lie behind."""

SNAPSHOT_SELDOM = 2048
"""The same while a meter runs; a process that is killed then leaves the next one some milliseconds of reading."""

CLOSE_BYTES = 32 << 20
"""A journal that is longer goes on in a new file, so that no file of a channel grows without end."""

REPAIR = "`mpchan fsck --repair` rebuilds what can be rebuilt, and says what it finds"


@frozen
class Stand:
    """A channel as it was last read or written by this process.

    Attributes:
        text: of the state file; None where there is none.
        taken_at: number of the line that the state file includes.
        position: of the last line that is folded in.
        durable: whether that line is known to be on the disk; another process may have died before its fsync.
    """

    text: str | None
    taken_at: int
    body: Body
    position: Position
    record: Record | None
    durable: bool


class ChannelFiles(ChannelFolder):
    """What the folder ``channels`` of a wallet holds.

    Args:
        network: of the wallet.

    Attributes:
        patience: seconds to wait for a channel that another process holds.
    """

    def __init__(self, directory: Path, network: Network) -> None:
        super().__init__(directory)
        self._network = network
        self.patience = LOCK_TIMEOUT_SECONDS
        self._place = f"{directory}{os.sep}"
        self._stands: dict[str, Stand] = {}
        self._held: dict[str, int] = {}  # which thread holds a channel's lock
        self._current: set[str] = set()  # what has been read since then: nobody else can have changed it
        self._stopped: dict[str, StorageError] = {}  # what went out without a note, and why

    @contextmanager
    def lock(self, name: str, *, in_turn: bool = False, sure: bool = True) -> Iterator[None]:
        """Hold one channel. What was read meanwhile, and can leave afterwards, is durable at the end.

        Args:
            in_turn: stand behind those that wait, as whoever comes again and again has to.
            sure: False for who calls ``make_sure`` itself.
        """
        queue = self.directory / f"{name}.queue"
        with locked(self.directory / f"{name}.lock", timeout=self.patience, queue=queue, in_turn=in_turn):
            self._held[name] = get_ident()
            self._current.discard(name)
            try:
                yield
                if sure:
                    self.make_sure(name)
            finally:
                self._held.pop(name, None)

    def make_sure(self, name: str | None = None) -> None:
        """Make durable what a process that died may have written without an fsync, before anything built on it leaves.

        Args:
            name: of a channel; None for all that are held.
        """
        for each in self._own() if name is None else [name]:
            stand = self._stands.get(each)
            if stand is not None and not stand.durable:
                sync_file(self.journal_path(each))
                self._stands[each] = replace(stand, durable=True)

    def _own(self) -> list[str]:
        """The channels that this thread holds."""
        return [name for name, thread in list(self._held.items()) if thread == get_ident()]

    def read_before(self, name: str) -> Record | None:
        """A channel as this process has read it once, without a look at its files; None where it has not.

        Only what never changes may be taken from it: the party's role and the terms. A state file held them, which
        is written after the channel's first line is durable, so they are what they will always be.
        """
        stand = self._stands.get(name)
        return None if stand is None or stand.text is None else stand.record

    def changed_at(self, name: str) -> int:
        """When the channel changed last: nanoseconds since 1970, by the file system."""
        return max(mark[0] for mark in self.marks(name))

    def marks(self, name: str) -> tuple[tuple[int, int, int, int], ...]:
        """What the file system says of the channel's files: another value after every change.

        Times alone would not do, which stand still for some milliseconds; but what is appended to grows, and what is
        replaced is another file.
        """
        found = []
        for path in (self.journal_path(name), self.state_path(name)):
            try:
                status = os.stat(path)
            except FileNotFoundError as error:
                missing = error
            except OSError as error:
                raise storage_error("read-failed", path, error) from error
            else:
                found.append((status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size))
        if not found:
            raise storage_error("file-missing", self.state_path(name), missing) from missing
        return tuple(found)

    def body(self, name: str) -> Body:
        """A channel's values as they stand; errors as ``load``. They are not kept, for there may be very many."""
        known = name in self._stands
        body = self._stand(name).body
        if not known:
            del self._stands[name]
        return body

    # reading --------------------------------------------------------------------------------------

    def load(self, name: str) -> Record:
        """A channel as it stands. The files are read every time; what was read before is not parsed again.

        Raises:
            StorageError: ``channel-damaged``, ``channel-schema``, ``malformed-file``, ``file-missing``,
                ``read-failed``; the files stay as they are.
        """
        return self._named(self._stand(name), name)

    def _named(self, stand: Stand, name: str) -> Record:
        if stand.record is not None:
            return stand.record
        try:
            record = record_of(stand.body)
        except ParseError as error:
            raise StorageError(error.slug, f"{self.state_path(name)}: {error.message}", hint=REPAIR) from None
        if record.terms.name != name:
            raise StorageError(
                "channel-damaged", f"{self.state_path(name)}: holds another channel", hint=REPAIR
            )
        if record.terms.offer.network != self._network:
            raise StorageError(
                "channel-damaged", f"{self.state_path(name)}: holds a channel of another network"
            )
        self._stands[name] = replace(stand, record=record)
        return record

    def _stand(self, name: str) -> Stand:
        """The channel's values as of the journal's last whole line; once it is held they are read once."""
        held = name in self._own()
        known = self._stands.get(name) if held and name in self._current else None
        if known is not None:
            return known
        stand = self._read(name)
        if held:
            self._current.add(name)
        return stand

    def _read(self, name: str) -> Stand:
        text = self._state_text(name)
        known = self._stands.get(name)
        if known is not None and known.text == text:
            try:
                return self._caught_up(name, known)
            except ParseError:
                pass  # what this process has read is no longer there: an append that failed was taken back
        while True:
            try:
                return self._caught_up(name, self._first_stand(name, text))
            except ParseError as error:
                before, text = text, self._state_text(name)
                if text != before:  # a long journal was closed between the two looks
                    continue
                hint = REPAIR if error.slug == "channel-damaged" else None
                raise StorageError(
                    error.slug, f"{self.state_path(name)}: {error.message}", hint=hint
                ) from None

    def _state_text(self, name: str) -> str | None:
        path = f"{self._place}{name}.json"  # a plain text: a list of very many channels would feel a Path
        try:
            return read_text(path)
        except ParseError as error:
            raise StorageError(error.slug, f"{path}: {error.message}", hint=REPAIR) from None
        except StorageError as error:
            if error.slug != "file-missing" or not self._has_begun(name):
                raise
            return None

    def _first_stand(self, name: str, text: str | None) -> Stand:
        if text is None:
            return Stand(None, 0, {}, beginning(name), None, durable=False)
        body, position = load(text)
        return Stand(text, position.sequence, body, position, None, durable=True)

    def _caught_up(self, name: str, stand: Stand) -> Stand:
        """Fold in what the journal holds behind a stand."""
        body, position = stand.body, stand.position
        path = f"{self._place}{name}.journal"
        if ends_with(path, position):
            self._stands[name] = stand
            return stand
        try:
            for entry, behind in entries(path, position):
                body, position = fold(body, entry), behind
        except StorageError as error:
            if error.slug != "file-missing":
                raise
            raise ParseError("channel-damaged", "its journal is missing") from None
        if position != stand.position:
            stand = replace(stand, body=body, position=position, record=None, durable=False)
        self._stands[name] = stand
        return stand

    # which of them is meant -----------------------------------------------------------------------

    def readable(self, damaged: Callable[[str, MpchanError], None] | None = None) -> Iterator[Record]:
        """All readable channels; each unreadable one is told to ``damaged`` and left alone."""
        for name in self.names():
            try:
                yield self.load(name)
            except StorageError as error:
                if damaged is not None:
                    damaged(name, error)

    def find(
        self,
        prefix: str | None,
        suitable: Callable[[Record], bool],
        what: str,
        prefer: Callable[[Record], bool] | None = None,
    ) -> str:
        """The name of the channel with a unique ``prefix``, or of the only suitable one where it is None.

        The id of its offer, of 32 hex digits, names a channel too.

        Args:
            suitable: which channels are candidates when none is named.
            what: what such a channel is, for the message.
            prefer: decides where several are suitable; it may ask the chain.

        Raises:
            UsageError: ``ambiguous-channel``.
            NotPossible: ``unknown-channel``, ``no-channel``.
            StorageError: as ``load``, where none is suitable but one is unreadable: it may be the one.
        """
        if prefix is None:
            unreadable: list[MpchanError] = []
            readable = self.readable(lambda _, error: unreadable.append(error))
            fitting = [record for record in readable if suitable(record)]
            if prefer is not None and len(fitting) > 1:
                fitting = [record for record in fitting if prefer(record)] or fitting
            names = [record.terms.name for record in fitting]
            if not names and unreadable:
                raise unreadable[0]
            if not names:
                raise NotPossible(
                    "no-channel", f"this wallet has no channel that is {what}", hint="see `mpchan list`"
                )
        else:
            wanted = prefix.lower().replace(":", "-")
            names = (self.beginning_with(wanted) or self._under(wanted)) if wanted else []
            if not names:
                raise NotPossible(
                    "unknown-channel", f"no channel begins with {prefix!r:.80}", hint="see `mpchan list`"
                )
        if len(names) > 1:
            shown = ", ".join(name[:16] for name in names[:4]) + (", …" if len(names) > 4 else "")
            raise UsageError(
                "ambiguous-channel",
                f"{len(names)} channels fit: {shown}",
                hint="name one with --channel and more digits",
            )
        return names[0]

    def _under(self, offer_id: str) -> list[str]:
        """The names of the channels under an offer: those in which payments may flow, else all."""
        if not kept("openings").fullmatch(f"{offer_id}.json"):
            return []
        under = [record for record in self.readable() if record.terms.offer.offer_id == offer_id]
        going = [record for record in under if record.is_going]
        return [record.terms.name for record in going or under]

    def reserved_outpoints(self) -> set[OutPoint]:
        """Coins that a funding of this wallet spends or is about to spend.

        An unreadable channel reserves nothing: should its funding not have left, a conflict only ends that opening.
        """
        reserved: set[OutPoint] = set()
        for record in self.readable():
            if record.funding is not None:
                reserved.update(source.outpoint for source in record.funding.inputs)
        return reserved

    # writing --------------------------------------------------------------------------------------

    def stop(self, name: str, failure: StorageError) -> None:
        """Take nothing more in a channel, until this process ends: something of it went out that is noted nowhere."""
        self._stopped[name] = failure

    def save(self, record: Record, event: str, message: str | None = None, *, sent: bool = False) -> None:
        """Write down that a channel has changed; durable on return.

        Args:
            event: what happened, in kebab-case, for its history.
            message: what leaves for the other party after this, or came from it, in hex. Never a complete update.
            sent: it is the note of what goes out whether it is noted or not.

        Raises:
            StorageError: ``write-failed``, nothing has changed; ``write-unsure``; as ``load``; as ``batch``.
        """
        name = record.terms.name
        with nullcontext() if name in self._own() else self.lock(name):
            batch = self.batch(name, sent=sent)
            batch.add(record, event, message)
            self.commit(name, batch, record)

    def batch(self, name: str, *, sent: bool = False) -> Batch:
        """Lines that are to become durable together, behind the channel as it stands; its lock is held.

        Args:
            sent: as ``save``.

        Raises:
            StorageError: ``write-failed``, a channel that was stopped.
        """
        if name in self._stopped and not sent:
            raise StorageError(
                "write-failed",
                f"{self._stopped[name].message}, when the channel's transaction was sent: this process takes nothing "
                "more in the channel",
                hint="start the program again once the disk can be written to",
            )
        stand = self._stand(name) if self.has(name) else self._first_stand(name, None)
        return Batch(stand.body, stand.position)

    def commit(
        self, name: str, batch: Batch, record: Record, *, snapshot_every: int = SNAPSHOT_EVERY
    ) -> None:
        """Append the lines of a batch with one fsync; all of them are durable on return, or none was added.

        Args:
            record: the channel after the last line.
            snapshot_every: lines that the state file may lie behind after this.
        """
        if not batch.lines:
            return
        before = self._stands.get(name) or self._first_stand(name, None)
        if not batch.start.sequence:
            from mpchan.wallet.names import Names

            Names(self.directory, self.names).add(name)
        self._current.discard(name)  # an append that fails may leave more, or less, than was there
        append_durably(self.journal_path(name), b"".join(batch.lines), at=batch.start.end)
        after = Stand(before.text, before.taken_at, batch.body, batch.position, record, durable=True)
        self._stands[name] = after
        behind = batch.position.sequence - before.taken_at
        long = batch.position.end >= CLOSE_BYTES
        if before.text is None or batch.changes_more or behind >= snapshot_every or long:
            self._take_snapshot(name, after)
        if long:
            self._close_journal(name)

    def _close_journal(self, name: str) -> None:
        """Go on in a new file. Where that fails, a later event tries again."""
        from mpchan.wallet.past import close

        stand = self._stands[name]
        if stand.taken_at != stand.position.sequence:
            return  # without its state file nothing is closed
        try:
            position = close(self.journal_path(name), stand.position, stand.body)
        except OSError:
            self._stands.pop(name)  # whichever file grows now is to be seen
            return
        self._stands[name] = replace(stand, position=position)
        self._take_snapshot(name, self._stands[name])

    def catch_up(self, name: str) -> None:
        """Write the state file anew where a long row of payments has left it far behind; the lock is held."""
        stand = self._stand(name)
        if stand.position.sequence - stand.taken_at >= SNAPSHOT_EVERY:
            self._take_snapshot(name, stand)

    def _take_snapshot(self, name: str, stand: Stand) -> None:
        """Write the state file. Where that fails, a later event tries again: the journal holds it all already."""
        text = dump(stand.body, stand.position)
        try:
            write_durably(self.state_path(name), text.encode())
        except StorageError:
            return
        self._stands[name] = replace(stand, text=text, taken_at=stand.position.sequence)
