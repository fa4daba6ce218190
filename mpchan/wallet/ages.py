"""Which channel of a wallet began first: by the time of the first line of its journal.

Within one second the file of names tells, in which a channel's name stands before those of all that began later.
"""

from __future__ import annotations

import os
import re

from mpchan.durability import AnyPath, done_reading
from mpchan.errors import StorageError
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.journal import continues_another
from mpchan.wallet.names import Names
from mpchan.wallet.past import closed_files

_TIME = re.compile(rb'"time":([0-9]{1,12})\}\}\n\Z')
_TIME_BYTES = 40
_FIRST_READ = 4096


def oldest_first(files: ChannelFiles) -> list[str]:
    """The names of all channels, in the order in which they began. A channel without a legible journal comes first."""
    names = files.names()
    places = {name: at for at, name in enumerate(Names(files.directory, lambda: names).in_order())}
    return sorted(names, key=lambda name: (_begun_at(files, name), places.get(name, 0), name))


def _begun_at(files: ChannelFiles, name: str) -> int:
    """Seconds since 1970 by this machine's clock; 0 where that cannot be told."""
    try:
        journal = files.journal_path(name)
        line = _first_line(journal)
        if continues_another(line):
            line = next((_first_line(path) for path in closed_files(journal)), line)
    except (OSError, StorageError):
        return 0
    time = _TIME.search(line[-_TIME_BYTES:])
    return 0 if time is None else int(time[1])


def _first_line(path: AnyPath) -> bytes:
    """The first line of a file; short files are read at once, for there may be very many."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, _FIRST_READ)
        while b"\n" not in data and (more := os.read(descriptor, 1 << 16)):
            data += more
    finally:
        done_reading(descriptor)
    return data[: data.find(b"\n") + 1]
