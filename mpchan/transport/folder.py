"""The files of a mailbox: their names, their modes, and how one reads what somebody else has put there.

Under the mailbox's directory are two folders, and each has one party that writes into it:

    to-payee/SESSION-NUMBER-KIND.hex      a request; only the buyer writes and deletes here
    to-payer/SESSION-NUMBER-message.hex   an answer, or SESSION-NUMBER-refusal.hex, or SESSION-NUMBER-piece.data;
                                          only the seller writes and deletes here

Beside them lies an empty ``.seller.lock``, which one seller of a machine holds at a time.

SESSION is 32 hex digits, NUMBER six decimal ones, and all letters are small. A ``.hex`` file is one line of hex that
ends with a line feed: without it the file is still being written, say by a shell that redirects a command's output, or
by a program that carries the mailbox and copies in place. So it is where zero bytes stand in the place of what has not
come yet. Of a piece the buyer knows the length and the digest.
mpchan itself writes under another name, which begins with a dot, and renames. Nothing is synced to the disk: what a
crash of the machine takes is asked for again.

Whoever may write into ``to-payee`` may ask in the name of any session that can be seen there: what is asked has to be
signed where that matters, and buyers who do not trust each other have a mailbox each.

A name is never taken from the folder. It is read into its parts by one pattern, and the path that is opened is made of
these parts anew; what does not fit the pattern is not seen. That leaves the programs that carry the folders from one
machine to another their own files.

What the system does not let be done with the folder is ``StorageError``: ``mailbox-unusable``, exit 7.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from mpchan import durability
from mpchan.errors import NotPossible, StorageError, system_reason
from mpchan.transport.base import KINDS
from mpchan.units import MAX_MESSAGE_BYTES
from mpchan.values import frozen_ordered

REQUESTS, ANSWERS = "to-payee", "to-payer"
MESSAGE, REFUSAL, PIECE = "message.hex", "refusal.hex", "piece.data"

LOCK = ".seller.lock"
"""Beside the two folders while a seller is there; always empty."""

HIGHEST_NUMBER = 999_999
MAX_HEX_BYTES = 2 * MAX_MESSAGE_BYTES + 1
_HEX_DIGITS = b"0123456789abcdef"

_KINDS = {
    REQUESTS: "|".join(rf"{kind}\.hex" for kind in KINDS),
    ANSWERS: "|".join(re.escape(kind) for kind in (MESSAGE, REFUSAL, PIECE)),
}
_ENDINGS = (".hex", "data")
_AT_ONCE = 4096
_NAME = r"([0-9a-f]{32})-([0-9]{6})-"

_FOLDER_MODE, _FILE_MODE = 0o755, 0o644
"""The other party may be another user of the same machine."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NOT_THERE = (errno.ENOENT, errno.ESTALE)
_NOT_A_FILE = (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP, errno.EISDIR)
"""What opening says of a symbolic link, a socket, a device without a driver, and a folder."""


Stamp = tuple[int, int, int, int]
"""Of a file or folder: its inode, its size in bytes, when it was written to and when it was changed, in ns."""


def stamp_of(status: os.stat_result) -> Stamp:
    """What tells a file from what it was, or will be."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@frozen_ordered
class Name:
    """The name of a request or an answer, in the order of their numbers within a session.

    Attributes:
        kind: of a request, ``KIND.hex``; of an answer one of ``MESSAGE``, ``REFUSAL``, ``PIECE``.
    """

    session: str
    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.session}-{self.number:06d}-{self.kind}"


class Folder:
    """One of the two folders.

    Args:
        mailbox: the directory above it.
        which: ``REQUESTS`` or ``ANSWERS``.
    """

    def __init__(self, mailbox: Path, which: str) -> None:
        self.path = mailbox / which
        self._name = re.compile(_NAME + f"({_KINDS[which]})", re.ASCII)
        self._left_over = re.compile(rf"\.{_NAME}({_KINDS[which]})\.[0-9a-f]{{1,16}}\.tmp", re.ASCII)

    def prepare(self, *, own: bool) -> None:
        """Make the folder where it is missing, and see that it can be used.

        The folder that we write into belongs to us, and others may read in it. The other one is for whoever may write
        into the mailbox.
        """
        try:
            _make_folder(self.path.parent, _FOLDER_MODE)
            mode = _FOLDER_MODE if own else stat.S_IMODE(os.stat(self.path.parent).st_mode)
            _make_folder(self.path, mode)
            if own and not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with os.scandir(self.path):
                pass  # it can be looked into
        except OSError as error:
            raise unusable(self.path, error) from error

    # looking --------------------------------------------------------------------------------------

    def names(self, session: str | None = None) -> list[Name]:
        """The names in the folder, all or those of one session."""
        texts, _ = self.scan()
        found = [name for text in texts if (name := self.parsed(text)) is not None]
        return found if session is None else [name for name in found if name.session == session]

    def scan(self) -> tuple[list[str], int]:
        """What is in the folder and may be called as a name is, and how much else there is.

        Often that is very much, so it takes as little as can be for each, and no memory.
        """
        found: list[str] = []
        total = 0
        try:
            with os.scandir(self.path) as entries:
                while part := list(islice(entries, _AT_ONCE)):
                    total += len(part)
                    found += [text for entry in part if (text := entry.name)[-4:] in _ENDINGS]
        except OSError as error:
            raise unusable(self.path, error) from error
        return found, total - len(found)

    def parsed(self, entry: str) -> Name | None:
        """The name that a file has; None where it is none."""
        match = self._name.fullmatch(entry)
        if match is None or not int(match[2]):
            return None
        return Name(match[1], int(match[2]), match[3])

    def discard_leftovers(self, session: str | None = None) -> None:
        """Delete what killed processes have left: files that never got their name."""
        for entry in self._entries():
            match = self._left_over.fullmatch(entry)
            if match is not None and session in (None, match[1]):
                durability.discard(self.path / match[0])

    def _entries(self) -> Iterator[str]:
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    yield entry.name
        except OSError as error:
            raise unusable(self.path, error) from error

    def stamp(self, name: Name) -> Stamp | None:
        """Something that differs once a file has been written to; None where there is none of this name."""
        try:
            return stamp_of(os.lstat(self.path / str(name)))
        except OSError:
            return None

    def has(self, name: Name) -> bool:
        """Whether there is something of this name."""
        return os.path.lexists(self.path / str(name))

    def folder_stamp(self) -> Stamp | None:
        """Something that differs once a file has come or gone, as far as the file system tells."""
        try:
            return stamp_of(os.stat(self.path))
        except OSError:
            return None

    # reading --------------------------------------------------------------------------------------

    def open(self, name: Name) -> int | None:
        """A descriptor of a regular file, and of nothing else; None where there is none of this name.

        Raises:
            ValueError: it is no regular file, with the words for it.
            OSError: the system does not let us.
        """
        try:
            descriptor = os.open(self.path / str(name), _READ)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            if error.errno in _NOT_A_FILE:
                raise ValueError(f"{name} is no regular file") from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(f"{name} is no regular file")
        except BaseException:
            durability.done_reading(descriptor)
            raise
        return descriptor

    def read(self, name: Name) -> bytes | None:
        """The bytes that a ``.hex`` file stands for; None where there is no such file, or not the whole of it yet.

        Raises:
            ValueError: it is no such file, with the words for it.
            OSError: the system does not let us.
        """
        descriptor = self.open(name)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if os.fstat(descriptor).st_size > MAX_HEX_BYTES:
                raise ValueError(f"{name} is larger than the {MAX_HEX_BYTES} bytes of a message")
            data = b""
            while len(data) <= MAX_HEX_BYTES and (part := file.read(MAX_HEX_BYTES + 1 - len(data))):
                data += part
        return _from_hex(data, name)

    # writing --------------------------------------------------------------------------------------

    def write(self, name: Name, body: bytes) -> None:
        """Put a ``.hex`` file into the folder: whoever looks sees it whole."""
        try:
            with self.staged(name) as descriptor:
                durability.write(descriptor, body.hex().encode() + b"\n")
        except OSError as error:
            raise unusable(self.path / str(name), error) from error

    @contextmanager
    def staged(self, name: Name) -> Iterator[int]:
        """A file to write to, which gets its name when the block ends well, and is gone otherwise."""
        temporary = durability.temporary_path(self.path / str(name))
        descriptor = durability.create(temporary, _FILE_MODE)
        try:
            try:
                if stat.S_IMODE(os.fstat(descriptor).st_mode) != _FILE_MODE:
                    durability.change_mode(descriptor, _FILE_MODE)
                yield descriptor
            except BaseException:
                durability.give_up(descriptor)
                raise
            durability.close(descriptor)
            durability.replace(temporary, self.path / str(name))
        except BaseException:
            durability.discard(temporary)
            raise

    def discard(self, name: Name) -> None:
        """Delete a file of one's own, as far as that is possible."""
        durability.discard(self.path / str(name))


def hold_for_seller(mailbox: Path) -> int | None:
    """Keep other sellers of this machine out of a mailbox, until ``let_go``. None where nothing locks.

    Raises:
        StorageError: ``locked``, another seller is there.
    """
    path = mailbox / LOCK
    while True:
        descriptor = None
        try:
            descriptor = durability.open_lock_file(path)
            durability.lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except FileNotFoundError:
            pass  # the seller before has taken it away with itself
        except BlockingIOError:
            if descriptor is not None:
                durability.done_reading(descriptor)
            raise StorageError(
                "locked",
                f"{mailbox}: another `payee sell` serves this mailbox",
                hint="a mailbox for each sale: give another --mailbox, or end that one",
            ) from None
        except OSError:  # a file system without locks, or another user's file
            if descriptor is not None:
                durability.done_reading(descriptor)
            return None
        if descriptor is None:
            return None  # the mailbox itself is gone
        durability.unlock(descriptor)


def let_go(mailbox: Path, descriptor: int) -> None:
    """Let other sellers come, and leave no lock's file behind: whoever has opened it meanwhile sees that it is gone."""
    durability.discard(mailbox / LOCK)
    durability.unlock(descriptor)


def next_number(names: Iterable[Name], used: int) -> int:
    """The first number of a session that stands above everything in both folders, and above ``used``."""
    number = 1 + max([used, *[name.number for name in names]])
    if number > HIGHEST_NUMBER:
        raise NotPossible(
            "session-used-up",
            f"the mailbox holds a request or an answer with the last number, {HIGHEST_NUMBER}",
        )
    return number


def unusable(path: Path, error: OSError) -> StorageError:
    """A mailbox that the system does not let us use."""
    reason = system_reason(error)
    return StorageError(
        "mailbox-unusable",
        f"{path}: {reason}",
        hint="is it the right directory, and may this user read and write in it?",
    )


def _make_folder(path: Path, mode: int) -> None:
    """Make a directory with just this mode, unless something is there."""
    if os.path.lexists(path):
        return
    with suppress(FileExistsError):
        durability.step("mkdir", os.mkdir, path, mode)
        durability.change_mode(path, mode)


def _from_hex(data: bytes, name: Name) -> bytes | None:
    if b"\0" in data and not data.strip(_HEX_DIGITS + b"\n\0"):
        return None  # whoever copies it has taken room for it, and not filled it yet
    line, end, rest = data.partition(b"\n")
    if line.strip(_HEX_DIGITS):
        raise ValueError(f"{name} is not lower-case hex")
    if rest:
        raise ValueError(f"{name} has more than one line")
    if len(data) > MAX_HEX_BYTES:
        raise ValueError(f"{name} is larger than the {MAX_HEX_BYTES} bytes of a message")
    if not end:
        return None
    if len(line) % 2:
        raise ValueError(f"{name} has an odd number of hex digits")
    return bytes.fromhex(line.decode())
