"""The names of all channels in one file, so that the beginning of an id leads to its channel without a look at each.

    channels/names    one name on each line

A name is written here, durably, before the channel's first line is, so every channel stands in it; a name whose channel
never came to be means nothing. It is made from the folder where it is missing, when the next channel begins. What is
not found here is looked for in the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mpchan.errors import ParseError, StorageError
from mpchan.wallet.storage import append_durably, locked, read_text

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
        """Write down that a channel of this name is about to be; durable on return.

        Raises:
            StorageError: ``write-failed``, ``read-failed``, ``locked``.
        """
        with locked(self._path):
            text = self._text()
            if not text:
                lines = "".join(f"{each}\n" for each in sorted({*self._listed(), name}))
                append_durably(self._path, lines.encode(), at=0)
            elif f"\n{name}\n" not in f"\n{text}":
                end = text.rfind("\n") + 1  # what was never finished is cut off
                append_durably(self._path, f"{name}\n".encode(), at=len(text[:end].encode()))

    def beginning_with(self, prefix: str) -> list[str]:
        """The names that begin so, as far as they stand here."""
        text = f"\n{self._text() or ''}"
        found = []
        at = text.find(f"\n{prefix}")
        while at >= 0:
            end = text.find("\n", at + 1)
            if end < 0:
                break  # a line that was never finished
            found.append(text[at + 1 : end])
            at = text.find(f"\n{prefix}", end)
        return sorted(set(found))

    def _text(self) -> str | None:
        try:
            if not os.path.exists(self._path):
                return None
            return read_text(self._path)
        except (ParseError, StorageError):
            return None  # it can always be made again
