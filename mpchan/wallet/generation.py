"""``generation``: what tells this wallet's offers from those of a copy of it that is older.

It is a file of its own, 16 hex digits drawn by chance, in no backup and not made from the words: a wallet that was
restored draws another one before its first offer. So what the lost wallet may have signed under its offers since the
backup is signed a second time by nobody.
"""

from __future__ import annotations

import os
from pathlib import Path

from mpchan.errors import ParseError, StorageError
from mpchan.units import is_hex
from mpchan.wallet.storage import read_text, write_durably

FILE = "generation"
_BYTES = 8


def read_generation(directory: Path) -> str | None:
    """The wallet's generation, 16 lower-case hex digits; None before its first offer.

    Raises:
        StorageError: ``generation-damaged``, ``read-failed``.
    """
    path = directory / FILE
    try:
        text = read_text(path).strip()
    except StorageError as error:
        if error.slug != "file-missing":
            raise
        return None
    except ParseError:
        text = ""
    if len(text) != 2 * _BYTES or not is_hex(text) or text != text.lower():
        raise StorageError(
            "generation-damaged",
            f"{path}: not {2 * _BYTES} lower-case hex digits",
            hint="move the file away: another one is made, and the offers that are out and unused become void",
        )
    return text


def draw_generation(directory: Path) -> str:
    """The wallet's generation; where there is none, one that is drawn now, durable on return. The wallet is held.

    Raises:
        StorageError: as ``read_generation``; ``write-failed``.
    """
    known = read_generation(directory)
    if known is not None:
        return known
    drawn = os.urandom(_BYTES).hex()
    write_durably(directory / FILE, f"{drawn}\n".encode(), mode=0o600)
    return drawn
