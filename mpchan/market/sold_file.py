"""The file on sale, while it is sold: is it still the one whose hashes are in the offer?

A buyer pays for a piece before it comes, and refuses a wrong one: whatever is paid for it is lost. So the seller takes
no payment for what it cannot deliver. Length, times and inode tell at once that a file was written to or replaced. That
nothing but the ctime has changed may mean another name or mode, and may mean that somebody has written and set the time
back: then each piece is read before it is paid for, once.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mpchan.errors import NotPossible
from mpchan.market.hashing import FileHashes, Looks, looks_of, sample, wrong_pieces


class SoldFile:
    """A file, and what was found out about it since it was hashed.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, hashes: FileHashes) -> None:
        self.path = path
        self._hashes = hashes
        self._touched: Looks | None = None
        self._right: set[int] = set()
        self._is_wrong = False  # nothing more is read then

    def require(self, numbers: Collection[int] = ()) -> None:
        """It is the one that was put on sale, as far as these pieces go.

        Args:
            numbers: of pieces, from 1; none where it is all about the file.

        Raises:
            NotPossible: ``file-changed``.
            ParseError: ``unreadable-file``.
        """
        looks = looks_of(self.path)
        if looks == self._hashes.looks:
            return
        if looks is None or not looks.is_touched(self._hashes.looks):
            raise self._changed()
        if looks != self._touched:
            self._touched, self._right, self._is_wrong = looks, set(), False
        asked = {number - 1 for number in numbers} - self._right
        if not numbers and not self._right:
            asked = set(sample(self._hashes))
        self._is_wrong = self._is_wrong or bool(wrong_pieces(self.path, self._hashes, asked))
        if self._is_wrong:
            raise self._changed()
        self._right |= asked

    def _changed(self) -> NotPossible:
        return NotPossible(
            "file-changed",
            f"{self.path.name} is not the file any more that was put on sale",
            hint="put it back, or start the sale again",
        )
