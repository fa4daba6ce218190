"""What of a story's folder lasts: all that the next command can find there, apart from channels and chain."""

from __future__ import annotations

import hashlib
from pathlib import Path


def lasting(folder: Path) -> bytes:
    """A digest of the names and contents of the wallets' files and of the messages.

    Channels and the chain are left out, whose files tell the time too, and so are the commands' answers, notes of what
    was done, locks, and the names of what was never put in its place.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        passing = name.endswith((".tmp", ".part", ".lock")) or name in ("signatures", "emitted")
        answer = path.parent == folder and path.suffix == ".json"
        apart = name.startswith("chain/") or "/channels/" in name
        if path.is_file() and not passing and not answer and not apart:
            digest.update(f"{name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.digest()
