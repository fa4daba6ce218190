"""Where a passphrase comes from: an inherited descriptor, a file, or a person at the terminal; never an argument.

Arguments and variables of the environment stand in lists of processes, arguments in a shell's history too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from mpchan.errors import MpchanError, StorageError, system_reason
from mpchan.wallet.sealing import MAX_PASSPHRASE_BYTES, passphrase_bytes

CURRENT, NEW = "MPCHAN_PASSPHRASE", "MPCHAN_NEW_PASSPHRASE"
"""Beginnings of the variables: ``…_FD`` holds a descriptor's number, ``…_FILE`` a file's name."""

_GIVE = "set {source}_FILE to the name of a file that holds it, or {source}_FD to a descriptor"
_TRIES = 3
_AGAIN = ("passphrase-wrong", "passphrase-unusable")


def unlock(attempt: Callable[[str], None]) -> None:
    """Find the wallet's passphrase and try it; a person has three tries.

    Raises:
        StorageError: ``passphrase-needed``, ``passphrase-unreadable``, ``passphrase-permissions``,
            ``passphrase-unusable``, ``passphrase-wrong``.
    """
    given = _given(CURRENT)
    if given is not None:
        attempt(given)
        return
    for left in reversed(range(_TRIES)):
        try:
            attempt(_typed("passphrase (not shown): ", CURRENT))
            return
        except MpchanError as error:
            if error.slug not in _AGAIN or not left:
                raise
            _tell(f"{error.message}, try again")


def passphrase_is_given() -> bool:
    """Whether the environment names where the wallet's passphrase is."""
    return bool(os.environ.get(f"{CURRENT}_FD") or os.environ.get(f"{CURRENT}_FILE"))


def unlock_unasked(attempt: Callable[[str], None]) -> None:
    """The same where nobody is asked, even at a terminal.

    Raises:
        StorageError: as ``unlock``.
    """
    given = _given(CURRENT)
    if given is None:
        raise StorageError("passphrase-needed", "the keys are encrypted", hint=_GIVE.format(source=CURRENT))
    attempt(given)


def new_passphrase(source: str) -> str:
    """A passphrase to set; a person types it twice.

    Raises:
        StorageError: as ``unlock``, but ``passphrase-wrong``.
    """
    given = _given(source)
    if given is not None:
        passphrase_bytes(given)
        return given
    for left in reversed(range(_TRIES)):
        try:
            first = _typed("new passphrase (not shown): ", source)
            passphrase_bytes(first)
            if _typed("the same again (not shown): ", source) == first:
                return first
            raise StorageError("passphrase-unusable", "the two passphrases differ")
        except StorageError as error:
            if error.slug not in _AGAIN or not left:
                raise
            _tell(f"{error.message}, try again")
    raise TypeError("the last try returns or raises")


# programs -----------------------------------------------------------------------------------------


def _given(source: str) -> str | None:
    """What a descriptor or a file holds; None where neither is named."""
    number, name = os.environ.get(f"{source}_FD"), os.environ.get(f"{source}_FILE")
    if number:
        return _line(_from_descriptor(number, f"{source}_FD"))
    return _line(_from_file(name)) if name else None


def _from_descriptor(number: str, variable: str) -> bytes:
    """The first line, and nothing behind it: the new passphrase may follow on the same descriptor."""
    if not (number.isascii() and number.isdigit() and len(number) < 8):
        raise StorageError("passphrase-unreadable", f"what {variable} says is no number of a descriptor")
    data = b""
    try:
        while len(data) <= MAX_PASSPHRASE_BYTES and (byte := os.read(int(number), 1)):
            data += byte
            if byte == b"\n":
                break
    except OSError as error:
        raise _unreadable(f"descriptor {number}", error) from None
    return data


def _from_file(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise StorageError(
                    "passphrase-permissions",
                    f"the passphrase in {name!s:.200} is readable by others (mode {mode:04o})",
                    hint=f"chmod 600 {name}",
                )
            return file.read(MAX_PASSPHRASE_BYTES + 2)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None


def _unreadable(what: str, error: OSError | ValueError) -> StorageError:
    return StorageError("passphrase-unreadable", f"the passphrase in {what!s:.200}: {system_reason(error)}")


def _line(data: bytes) -> str:
    """One line of text, without its end. What no keyboard can type in a line would lock a person out."""
    try:
        text = data.removesuffix(b"\n").decode()
    except UnicodeDecodeError:
        raise StorageError("passphrase-unusable", "the passphrase is not UTF-8 text") from None
    if any(mark < " " or "\x7f" <= mark <= "\x9f" for mark in text):
        raise StorageError("passphrase-unusable", "the passphrase is not one line of text")
    return text


# people -------------------------------------------------------------------------------------------


def _typed(question: str, source: str) -> str:
    """What somebody types unseen. The terminal itself is asked: standard input may be a message."""
    import warnings
    from getpass import GetPassWarning, getpass

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", GetPassWarning)  # it would go on and read standard input
            return _line(getpass(question).encode())
    except (GetPassWarning, OSError, EOFError):
        raise StorageError(
            "passphrase-needed",
            "a passphrase is needed, and there is no terminal to ask for it",
            hint=_GIVE.format(source=source),
        ) from None
    except ValueError:
        raise StorageError("passphrase-unusable", "the passphrase is not UTF-8 text") from None


def _tell(text: str) -> None:
    from mpchan.cli.files import print_error

    print_error(f"mpchan: {text}")
