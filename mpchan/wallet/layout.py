"""The names of a wallet's files, in one place: what has another name is none of them.

Programs that sync, save or copy leave files beside those of a wallet, under names like ``X (conflicted copy).json``,
``X 2.json`` or ``X~``. None of them is a channel, an offer or anything else: every store asks here which names are its
own, a backup holds these and no others, and ``mpchan fsck`` names the rest.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from mpchan.durability import TEMPORARY_NAME
from mpchan.errors import storage_error

_HASH = "[0-9a-f]{64}"
_CHANNEL = rf"{_HASH}-[0-9]{{1,10}}"

_KEPT = {
    "": r"wallet\.toml|keys\.toml|listening\.pem",
    "offers": r"[0-9a-f]{16}\.(?:toml|json)|[0-9a-f]{32}\.toml",
    "channels": rf"{_CHANNEL}\.(?:json|journal)",
    "plans": rf"{_HASH}\.json",
    "openings": r"notes|[0-9a-f]{32}\.json",
    "sent": rf"{_HASH}\.json",
    "purchases": r"[0-9a-f]{32}\.json",
    "spending": r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.json",
    "certificates": r"[A-Za-z0-9_][A-Za-z0-9._-]{0,250}\.pem",
}
"""What a backup holds, by folder; the wallet's directory itself is the one without a name."""

_BESIDE = {
    "": r"generation|wallet\.lock|register\.lock",
    "channels": rf"names|{_CHANNEL}\.(?:lock|queue|journal\.[0-9]{{10,}})"
    rf"|{_CHANNEL}\.[a-z0-9.]+\.damaged-[0-9]{{8}}T[0-9]{{6}}Z-[0-9a-f]{{4}}",
    "openings": r"notes\.damaged-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}",
    "purchases": r"[0-9a-f]{32}\.lock",
    "spending": "lock",
    "hashes": rf"{_HASH}\.json",
    "seen": r".*",
}
"""What is a wallet's too, and in no backup."""

_LIKE_OURS = re.compile("keys|wallet|generation|listening", re.IGNORECASE)
"""In the wallet's own directory people may have files of their own; those that look like its files are named."""


@cache
def kept(folder: str) -> re.Pattern[str]:
    """The names in one of a wallet's folders that a backup holds."""
    return re.compile(_KEPT[folder])


@cache
def own(folder: str) -> re.Pattern[str]:
    """The names in one of a wallet's folders that are a wallet's."""
    return re.compile("|".join(table[folder] for table in (_KEPT, _BESIDE) if folder in table))


def kept_folders() -> list[str]:
    """The folders of which a backup holds something, without the wallet's directory itself."""
    return [folder for folder in _KEPT if folder]


def is_kept(name: str) -> bool:
    """Whether a backup may hold a file of this name, as ``channels/….json``; a hostile one holds others."""
    folder, _, file = name.rpartition("/")
    return folder in _KEPT and kept(folder).fullmatch(file) is not None


def own_names() -> frozenset[str]:
    """What a wallet's directory itself holds, files and folders, in small letters."""
    files = "wallet.toml", "keys.toml", "listening.pem", "generation", "wallet.lock", "register.lock"
    return frozenset([*files, *_KEPT, *_BESIDE]) - {""}


def stored(home: Path, folder: str, suffix: str) -> list[str]:
    """The names in one of a wallet's folders that are its own and end so, sorted; none where the folder is missing."""
    return [name for name in _names(home / folder) if name.endswith(suffix) and kept(folder).fullmatch(name)]


def foreign(home: Path) -> list[str]:
    """Files that lie among a wallet's and are none of them, by their names in the wallet's directory, sorted."""
    found = [
        name
        for name in _names(home)
        if _LIKE_OURS.search(name) and not own("").fullmatch(name) and not (home / name).is_dir()
    ]
    for folder in sorted({*_KEPT, *_BESIDE} - {""}):
        pattern = own(folder)
        names = _names(home / folder) if (home / folder).is_dir() else []
        found += [f"{folder}/{name}" for name in names if not pattern.fullmatch(name)]
    return sorted(name for name in found if not re.fullmatch(TEMPORARY_NAME, os.path.basename(name)))


def left_over(home: Path) -> list[Path]:
    """Files whose writing was broken off, sorted, or that are being written at this moment."""
    folders = [home / folder for folder in sorted({*_KEPT, *_BESIDE})]
    return [
        folder / name
        for folder in folders
        if folder.is_dir()
        for name in _names(folder)
        if re.fullmatch(TEMPORARY_NAME, name)
    ]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error("read-failed", directory, error) from error
