"""One file that holds a whole wallet.

    {"mpchan_backup": 2, "checksum": "<SHA-256 of the canonical contents>", "contents": {
        "time": 1700000000, "network": "regtest", "files": {"keys.toml": "…", "channels/….json": "…", …}}}

Where the wallet's keys are encrypted, so is all of it, with the same passphrase: instead of ``contents`` stands
``encrypted``, the canonical contents as ``sealing`` seals them, and the checksum is that of the canonical table.

``files`` holds every file of the wallet but its locks, its generation (whoever is restored makes another) and what can
be looked up or made again, byte for byte: what is not UTF-8 in a damaged one stands as lone surrogates (PEP 383). The
canonical form is JSON with sorted keys and no spaces. Version 1, which is read too, comes from a wallet without a
generation.

A name is one of those that a wallet has, letter by letter: there are no other folders, links or ways out of a folder in
it, so a hostile file can write nothing but a wallet.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mpchan.errors import AsStorageError, MpchanError, ParseError, StorageError, storage_error, system_reason
from mpchan.values import frozen
from mpchan.wallet.layout import is_kept, kept_folders, stored
from mpchan.wallet.seed_file import Unlocker, no_passphrase
from mpchan.wallet.store import canonical, checksum
from mpchan.wallet.wallet import Wallet

BACKUP_VERSION = 2
_READABLE = (1, BACKUP_VERSION)
MAX_BACKUP_BYTES = 1_000_000_000
"""A larger backup could not be read again on a small machine, so none is made."""

_BOUND = b"mpchan backup"
_LISTENING = "listening.pem"


@frozen
class Backup:
    """What a backup holds.

    Attributes:
        time: when it was made, in seconds since 1970 by the clock of the machine that made it.
        network: the name of the wallet's network.
        files: contents by names as ``offers/0123456789abcdef.toml``.
    """

    time: int
    network: str
    files: Mapping[str, bytes]


def collect(wallet: Wallet) -> tuple[Backup, list[MpchanError]]:
    """The wallet as it stands, and what is wrong with its channels; a command that is at work is waited for.

    The wallet is held all the time, each channel while its files are read: a channel's state and its journal are of
    one moment, and no offer or channel begins in between.

    Raises:
        StorageError: ``read-failed``, ``locked``, ``keys-damaged``, ``keys-permissions``.
    """
    files: dict[str, bytes] = {}
    damaged: list[MpchanError] = []
    with wallet.lock():
        wallet.fresh_keys()  # refuses what could not be used again
        for name in ("wallet.toml", "keys.toml"):
            files[name] = _content(wallet.directory / name)
        if (wallet.directory / _LISTENING).exists():
            files[_LISTENING] = _content(wallet.directory / _LISTENING)
        for folder in kept_folders():
            if folder != "channels":
                files.update(_folder(wallet.directory, folder))
        for channel in wallet.channels.names():
            with wallet.channels.lock(channel):
                files.update(_channel(wallet, channel))
                try:
                    wallet.channels.load(channel)
                except (StorageError, ParseError) as error:
                    damaged.append(error)
    return Backup(int(time.time()), wallet.network.name, files), damaged


def _folder(directory: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    for name in stored(directory, folder, ""):
        yield f"{folder}/{name}", _content(directory / folder / name)


def _channel(wallet: Wallet, channel: str) -> Iterator[tuple[str, bytes]]:
    for suffix in ("json", "journal"):
        name = f"channels/{channel}.{suffix}"
        if (wallet.directory / name).exists():
            yield name, _content(wallet.directory / name)


def _content(path: Path) -> bytes:
    with AsStorageError("read-failed", path, missing="file-missing"):
        return path.read_bytes()


def left_out(wallet: Wallet, made: Backup) -> list[str]:
    """The files of a wallet that a backup of it does not hold, by their names in the directory; locks are none."""
    names: list[str] = []

    def failed(error: OSError) -> None:
        raise storage_error("read-failed", wallet.directory, error) from error

    for folder, _, files in os.walk(wallet.directory, onerror=failed):
        for file in files:
            if not file.endswith((".lock", ".queue")):
                names.append((Path(folder) / file).relative_to(wallet.directory).as_posix())
    return sorted(set(names) - set(made.files))


# the file -----------------------------------------------------------------------------------------


def pack(backup: Backup, passphrase: str | None = None) -> bytes:
    """The file's content.

    Args:
        passphrase: where it is to be encrypted.

    Raises:
        StorageError: ``backup-too-large``, ``passphrase-unusable``, ``no-memory``.
    """
    files = {name: data.decode("utf-8", "surrogateescape") for name, data in backup.files.items()}
    text = canonical({"time": backup.time, "network": backup.network, "files": files})
    what = "contents"
    if passphrase is not None:
        from mpchan.wallet.sealing import seal

        what, text = "encrypted", canonical(seal(text.encode(), passphrase, _BOUND))
    envelope = f'{{"mpchan_backup": {BACKUP_VERSION}, "checksum": "{checksum(text)}", "{what}": {text}}}\n'
    data = envelope.encode()
    if len(data) > MAX_BACKUP_BYTES:
        raise StorageError(
            "backup-too-large", f"the wallet needs {len(data)} bytes, more than {MAX_BACKUP_BYTES}"
        )
    return data


def read_backup(path: Path) -> bytes:
    """The content of a backup's file.

    Raises:
        ParseError: ``unreadable-file``, ``too-large``.
    """
    try:
        with open(path, "rb", opener=_opened_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ParseError("unreadable-file", f"{path}: is no regular file")
            data = file.read(MAX_BACKUP_BYTES + 1)
    except OSError as error:
        raise ParseError("unreadable-file", f"{path!s:.200}: {system_reason(error)}") from None
    if len(data) > MAX_BACKUP_BYTES:
        raise ParseError("too-large", f"{path}: larger than {MAX_BACKUP_BYTES} bytes")
    return data


def _opened_at_once(path: str, flags: int) -> int:
    """A pipe that nobody writes to must not keep us waiting."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def unpack(data: bytes, unlocker: Unlocker = no_passphrase) -> Backup:
    """Read a backup's content.

    Args:
        unlocker: asked for the passphrase of an encrypted one, once nothing else is wrong with it.

    Raises:
        ParseError: ``malformed-backup``, the checksum included; ``backup-version`` for a newer one.
        StorageError: ``passphrase-wrong``, and others of whoever is asked.
    """
    try:
        envelope = json.loads(data)
        version, total = envelope["mpchan_backup"], envelope["checksum"]
        sealed = "encrypted" in envelope
        body = envelope["encrypted" if sealed else "contents"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ParseError("malformed-backup", "this is no backup of mpchan, or not the whole of it") from None
    if type(version) is not int or version not in _READABLE:
        raise ParseError("backup-version", f"written by another mpchan (version {version!r:.20})")
    if not isinstance(body, dict) or total != checksum(canonical(body)):
        raise ParseError("malformed-backup", "checksum does not fit: the file was damaged or changed")
    return _checked(_opened(body, unlocker) if sealed else body)


def _opened(table: dict[str, Any], unlocker: Unlocker) -> dict[str, Any]:
    from mpchan.wallet.sealing import check_sealed, open_sealed

    found: list[bytes] = []
    try:
        check_sealed(table)
        unlocker(lambda passphrase: found.append(open_sealed(table, passphrase, _BOUND)))
        contents = json.loads(found[0])
    except ParseError as error:
        raise ParseError("malformed-backup", error.message) from None
    except (ValueError, RecursionError):
        raise ParseError("malformed-backup", "what was encrypted is no backup") from None
    if not isinstance(contents, dict):
        raise ParseError("malformed-backup", "what was encrypted is no backup")
    return contents


def _checked(contents: dict[str, Any]) -> Backup:
    made, network, files = (contents.get(key) for key in ("time", "network", "files"))
    if type(made) is not int or not isinstance(network, str) or not isinstance(files, dict):
        raise ParseError("malformed-backup", "time, network or files are missing")
    for name, text in files.items():
        if not is_kept(name):
            raise ParseError("malformed-backup", f"a wallet has no file {name!r:.80}")
        if not isinstance(text, str):
            raise ParseError("malformed-backup", f"{name} is no text")
    for name in ("wallet.toml", "keys.toml"):
        if name not in files:
            raise ParseError("malformed-backup", f"{name} is missing")
    try:
        return Backup(
            made, network, {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}
        )
    except UnicodeEncodeError:
        raise ParseError("malformed-backup", "a file holds what no bytes decode to") from None
