"""What a channel's two files say of each other, read from the first line to the last; and how to mend them.

The state file follows from the journal, so a good journal gives it back whole. The journal does not follow from the
state file: where a line in the middle of it is damaged, or all of it is gone, what the state file holds and what can
still be read behind it is the best there is, and a new journal begins with that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from mpchan import durability
from mpchan.errors import AsStorageError, ParseError, StorageError
from mpchan.values import frozen
from mpchan.wallet.channel_files import SNAPSHOT_SELDOM, ChannelFiles
from mpchan.wallet.journal import Body, Entry, Position, beginning, entries, fold, written
from mpchan.wallet.past import closed_files, history
from mpchan.wallet.records import dump, load
from mpchan.wallet.storage import append_durably, read_text, write_durably

MOST_BEHIND = SNAPSHOT_SELDOM + 512
"""So many lines may stand behind a state file whose journal is gone: a meter was killed after its last batch."""

RESTARTED = "restarted"
"""The event with which a new journal takes the place of a damaged one."""


@frozen
class Examination:
    """What was found.

    Attributes:
        state_fault: why the state file cannot be used; None where it can, or where there is none yet.
        journal_fault: the same of the journal.
        unfinished: bytes at the journal's end that belong to no whole line.
        body: the channel as it stands, as far as it can be told; None where it cannot.
        end: of the journal's last good line.
        lines: how many good lines it has.
        missing: how many payments may have been made that ``body`` does not know; 0 where it is surely whole.
    """

    state_fault: str | None
    journal_fault: str | None
    unfinished: int
    body: Body | None
    end: Position
    lines: int
    missing: int

    @property
    def sound(self) -> bool:
        """Whether there is nothing to mend."""
        return self.state_fault is None and self.journal_fault is None and not self.unfinished


def examine(
    files: ChannelFiles, name: str, seen: Callable[[Entry], None] = lambda entry: None
) -> Examination:
    """Read both files of a channel whole.

    Args:
        seen: told of every good line of the journal.
    """
    state, state_fault = _state(files.state_path(name))
    path, start = files.journal_path(name), beginning(name)
    body: Body = {}
    end, journal_fault, differs, restarted = start, None, None, False
    try:
        for entry, position in history(path, name):
            if entry.before is not None and state is not None and position.sequence == state[1].sequence + 1:
                # a journal was closed, by a process that was killed before it could write the state file anew
                differs = differs or (entry.before, dict(entry.changes)) != (state[1].digest, state[0])
            body, end = fold(body, entry), position
            seen(entry)
            restarted = restarted or entry.event == RESTARTED
            if state is not None and position.sequence == state[1].sequence:
                differs = (body, position) != state
    except ParseError as error:
        journal_fault = error.message
    except StorageError as error:
        if error.slug != "file-missing":
            raise
        journal_fault = "the journal is missing"
    if journal_fault is None and state is not None and differs is None:
        if restarted:  # a repair was killed between its two files
            differs = True
        else:
            journal_fault = (
                f"the journal ends with line {end.sequence}, the state file knows {state[1].sequence}"
            )
    if differs and state is not None and _payments(state[0]) > _payments(body):
        journal_fault = "the journal knows of fewer payments than the state file"
    if journal_fault is not None:
        return _without_journal(path, state, state_fault, journal_fault, end)
    if differs:
        state_fault = "it says something else than the journal"
    unfinished = _size(path) - end.end
    return Examination(state_fault, None, unfinished, body or None, end, end.sequence, 0)


def _without_journal(
    path: Path,
    state: tuple[Body, Position] | None,
    state_fault: str | None,
    journal_fault: str,
    end: Position,
) -> Examination:
    """The state file, with what the journal still says behind it."""
    if state is None:
        return Examination(state_fault, journal_fault, 0, None, end, end.sequence, 0)
    body, last = state
    missing = 0
    try:
        for entry, behind in entries(path, last):
            body, last = fold(body, entry), behind
    except (ParseError, StorageError):
        missing = max(MOST_BEHIND, _line_feeds(path, last.end))
    if _payments(body) < _payments(state[0]):
        body, missing = state[0], max(MOST_BEHIND, missing)
    return Examination(state_fault, journal_fault, 0, body, end, end.sequence, missing)


def _state(path: Path) -> tuple[tuple[Body, Position] | None, str | None]:
    """What a state file says, or why it cannot be used; neither where there is none."""
    try:
        return load(read_text(path)), None
    except ParseError as error:
        if error.slug == "channel-schema":
            raise StorageError(error.slug, f"{path}: {error.message}") from None
        return None, error.message
    except StorageError as error:
        if error.slug != "file-missing":
            raise
        return None, None


def _payments(body: Body) -> int:
    update = body.get("update")
    return int(update["number"]) if isinstance(update, dict) else 0


def _size(path: Path) -> int:
    with AsStorageError("read-failed", path):
        return os.stat(path).st_size


def _line_feeds(path: Path, start: int) -> int:
    """How many lines there may be behind an offset, readable or not."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


# mending ------------------------------------------------------------------------------------------


def rebuild(files: ChannelFiles, name: str, found: Examination) -> list[str]:
    """Mend a channel whose journal is good; the caller holds its lock. What was done, for people."""
    done = []
    if found.unfinished:
        append_durably(files.journal_path(name), b"", at=found.end.end)
        done.append(f"cut {found.unfinished} bytes that were never finished off the journal")
    if found.state_fault is not None and found.body is not None:
        kept = set_aside(files.state_path(name))
        write_durably(files.state_path(name), dump(found.body, found.end).encode())
        done.append(f"rebuilt the state file from the journal{kept}")
    return done


def restart(files: ChannelFiles, name: str, body: Body) -> list[str]:
    """Begin a new journal with a channel as it stands; the caller holds its lock. What was done, for people.

    Killed in between, it leaves a state file that does not fit the new journal, from which the next repair makes it.
    """
    entry = Entry(1, int(time.time()), RESTARTED, body)
    data, position = written(beginning(name), entry)
    kept = set_aside(files.journal_path(name))
    for path in closed_files(files.journal_path(name)):  # what they end with is no line of the new one
        set_aside(path)
        with AsStorageError("write-failed", path):
            durability.unlink(path)
    write_durably(files.journal_path(name), data)
    write_durably(files.state_path(name), dump(body, position).encode())
    return [f"began a new journal with what the state file holds{kept}"]


def set_aside(path: Path) -> str:
    """Keep a damaged file under a second name, for it is replaced and not overwritten; that name, for people."""
    if not path.exists():
        return ""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = path.with_name(f"{path.name}.damaged-{stamp}-{os.urandom(2).hex()}")
    with AsStorageError("write-failed", path):
        durability.keep_as(path, kept)
        durability.sync_directory(path.parent)
    return f", the damaged one is kept as {kept.name}"
