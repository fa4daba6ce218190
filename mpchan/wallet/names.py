"""The names of all channels in one file, so that the beginning of an id leads to its channel without a look at each.

    channels/names    one name on each line

A name is written here, durably, before the channel's first line is, so every channel stands in it; a name whose channel
never came to be means nothing. It is made from the folder where it is missing, when the next channel begins. What is
not found here is looked for in the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from mpchan.durability import AnyPath, done_reading, reading
from mpchan.errors import StorageError
from mpchan.wallet.channel_folder import ChannelFolder
from mpchan.wallet.journal import continues_another
from mpchan.wallet.past import closed_files
from mpchan.wallet.storage import append_durably, locked

FILE = "names"


class Names:
    """The file ``names`` of a folder of channels.

    Args:
        listed: reads the names of all channels from the folder.
    """

    def __init__(self, directory: Path, listed: Callable[[], list[str]]) -> None:
        self._path = directory / FILE
        self._listed = listed

    def add(self, name: str) -> None:
        """Write down that a channel of this name is about to be; durable on return."""
        with locked(self._path):
            data = self._data()
            if b"\n" not in data:
                lines = "".join(f"{each}\n" for each in sorted({*self._listed(), name}))
                append_durably(self._path, lines.encode(), at=0)
            elif name not in self.beginning_with(name):
                end = data.rfind(b"\n") + 1  # what was never finished is cut off
                append_durably(self._path, f"{name}\n".encode(), at=end)

    def beginning_with(self, prefix: str) -> list[str]:
        """The names that begin so, as far as they stand here."""
        data, wanted = self._data(), prefix.encode("utf-8", "replace")
        found = set()
        at = 0 if data.startswith(wanted) else data.find(b"\n" + wanted) + 1
        while data.startswith(wanted, at):
            end = data.find(b"\n", at)
            if end < 0:
                break  # a line that was never finished
            found.add(data[at:end].decode("ascii", "replace"))
            at = data.find(b"\n" + wanted, end) + 1
            if not at:
                break
        return sorted(found)

    def in_order(self) -> list[str]:
        """All names, each behind those that were there when it was added."""
        return self._data().decode("ascii", "replace").split("\n")[:-1]

    def _data(self) -> bytes:
        """The whole file; nothing where it is not there or cannot be read: it can always be made again."""
        try:
            with reading(self._path) as file:
                return file.read()
        except OSError:
            return b""


# which channel began first ------------------------------------------------------------------------
#
# By the time of the first line of its journal. Within one second the file of names tells, in which a channel's name
# stands before those of all that began later.


_TIME = re.compile(rb'"time":([0-9]{1,12})\}\}\n\Z')
_TIME_BYTES = 40
_FIRST_READ = 4096


def oldest_first(files: ChannelFolder) -> list[str]:
    """The names of all channels, in the order in which they began. A channel without a legible journal comes first."""
    names = files.names()
    places = {name: at for at, name in enumerate(Names(files.directory, lambda: names).in_order())}
    return sorted(names, key=lambda name: (_begun_at(files, name), places.get(name, 0), name))


def _begun_at(files: ChannelFolder, name: str) -> int:
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
