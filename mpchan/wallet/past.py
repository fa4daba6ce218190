"""The closed files of a long journal: they keep the history, and nothing that counts depends on them.

    channels/<name>.journal                the file that grows
    channels/<name>.journal.0000001234     a closed one, whose last line has this number

To close one is to give it a second name, and then to put a file that begins with the channel whole in its place. Who is
killed in between has left two names for one file, which is still the one that grows; the next one to close it gives it
a third, and the second, whose number is that of no last line, means nothing. (Where the file system knows no second
names, a copy does as well.) Closed files may be moved away; the
history then begins later.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from mpchan import durability
from mpchan.errors import AsStorageError, ParseError
from mpchan.wallet.journal import Body, Entry, Position, beginning, continuation, continues, entries

_CLOSED = re.compile(r"\.([0-9]{10,})")


def closed_files(journal: Path) -> list[Path]:
    """The closed files of a journal, the oldest first; a second name of the one that grows is none."""
    with AsStorageError("read-failed", journal.parent):
        names = os.listdir(journal.parent)
    found = []
    for name in names:
        match = _CLOSED.fullmatch(name[len(journal.name) :]) if name.startswith(journal.name) else None
        if match is not None and not _same(journal, journal.with_name(name)):
            found.append((int(match[1]), journal.with_name(name)))
    return [path for _, path in sorted(found)]


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _last_line(path: Path) -> int:
    """Number of the last line of a closed file, by its name."""
    return int(path.name.rpartition(".")[2])


def close(journal: Path, end: Position, body: Body) -> Position:
    """Let a journal go on in a new file; the channel is held, and its state file is of the journal's last line.

    Args:
        end: of the last line.
        body: the channel's values after it.

    Returns:
        Where the first line of the new file ends.

    Raises:
        OSError: the old file is still the one that grows; or the new one is, but a crash of the machine may undo that.
    """
    data, position = continuation(end, body, int(time.time()))
    name = journal.with_name(f"{journal.name}.{end.sequence:010d}")
    durability.keep_as(journal, name)
    durability.sync_directory(journal.parent)
    durability.rewrite(journal, data)
    durability.sync_directory(journal.parent)
    return position


def history(journal: Path, name: str) -> Iterator[tuple[Entry, Position]]:
    """All lines that are there, from the oldest closed file on; the chain is checked from file to file.

    Where the oldest ones are not there any more, it begins with the first one that is.

    Args:
        name: of the channel.
    """
    start = continues(journal)
    if start is None:
        yield from entries(journal, beginning(name))
        return
    chain = [journal]
    for path in reversed(closed_files(journal)):
        if start is None:
            break
        if _last_line(path) == start.sequence:  # else it is a second name, or what was before is not there
            chain.append(path)
            start = continues(path)
    after = beginning(name)
    for path in reversed(chain):
        before = continues(path)
        if after.sequence and before is not None and before.digest != after.digest:
            raise ParseError(
                "channel-damaged", f"line {after.sequence + 1} of the journal goes on from another line"
            )
        for entry, position in entries(path, beginning(name)):
            after = position
            yield entry, position
        if path is not journal and _last_line(path) != after.sequence:
            raise ParseError("channel-damaged", f"{path.name} ends with line {after.sequence}")
