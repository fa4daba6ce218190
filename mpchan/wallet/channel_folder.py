"""Which channels there are: the folder ``channels`` of a wallet, by the names of its files alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan.durability import reading
from mpchan.errors import storage_error
from mpchan.wallet.layout import kept

if TYPE_CHECKING:
    from mpchan.units import OutPoint

_ID_DIGITS = 16
"""Of a channel's id, as it is shown."""


class ChannelFolder:
    """The folder. A channel is there once its first line, which is its journal's, is whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def state_path(self, name: str) -> Path:
        """A channel's state file."""
        return self.directory / f"{name}.json"

    def journal_path(self, name: str) -> Path:
        """A channel's journal."""
        return self.directory / f"{name}.journal"

    def names(self) -> list[str]:
        """The names of all channels, sorted."""
        return [name for name, _ in self._listed()]

    def oldest_first(self) -> list[str]:
        """The names of all channels, in the order in which they began."""
        from mpchan.wallet.names import oldest_first

        return oldest_first(self)

    def beginning_with(self, prefix: str) -> list[str]:
        """The names that begin so, sorted; a whole name means that channel alone.

        The folder is looked through for less than an id as it is shown, and where the file of all names knows none.
        """
        if self.has(prefix):
            return [prefix]
        known: list[str] = []
        if len(prefix) >= _ID_DIGITS:
            from mpchan.wallet.names import Names

            listed = Names(self.directory, self.names).beginning_with(prefix)
            known = [name for name in listed if self.has(name)]
        return known or [name for name in self.names() if name.startswith(prefix)]

    def paths(self) -> list[Path]:
        """For each channel a file that holds its terms, sorted: its state file, before there is one its journal."""
        return [self.directory / f"{name}{suffix}" for name, suffix in self._listed()]

    def _listed(self) -> list[tuple[str, str]]:
        """The name of each channel, sorted, and the suffix of the file that holds its terms."""
        try:
            files = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error("read-failed", self.directory, error) from error
        is_own = kept("channels").fullmatch  # and no copy that a program has laid beside it
        files = [file for file in files if is_own(file)]
        names = {file[:-5] for file in files if file.endswith(".json")}
        alone = {file[:-8] for file in files if file.endswith(".journal")} - names
        begun = [(name, ".journal") for name in alone if self._has_begun(name)]
        return sorted([*((name, ".json") for name in names), *begun])

    def has(self, name: str) -> bool:
        """Whether there is a channel of this name."""
        is_name = kept("channels").fullmatch(f"{name}.json") is not None
        return is_name and (self.state_path(name).exists() or self._has_begun(name))

    def knows(self, outpoint: OutPoint) -> bool:
        """Whether there is a channel with this funding outpoint."""
        return self.has(outpoint.name)

    def _has_begun(self, name: str) -> bool:
        """Whether a journal without a state file holds a whole line."""
        try:
            with reading(self.journal_path(name)) as file:
                return file.readline()[-1:] == b"\n"
        except FileNotFoundError:
            return False
        except OSError:
            return True  # to load it says what is wrong
