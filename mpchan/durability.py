"""The switchboard: whatever mpchan writes to a disk, and whatever it lets out, is one call of ``step``.

A process can be killed before any step and behind any step, and a disk can refuse any of them. All the care that
mpchan takes (state first, message later; the old file or the new one) is about the order of these calls, so they stand
in one place: who wants to see the order, or to break it off somewhere, puts a function of its own in the place of
``step``. The program itself has no switch for that.

Every function lets the system's OSError through; its callers know what it means to the user.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

AnyPath = str | Path
AnyBytes = bytes | memoryview

TEMPORARY_NAME = r"\.(?P<target>.+)\.[0-9a-f]{1,16}\.tmp"
"""Of a file that is still being written, or whose writer was killed. (Older ones end with a process id.)"""

_LONG_NAME = 220
"""In bytes; file systems take 255, and something is added."""

_UNKNOWN_TO_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems say that have nothing to sync in a folder: those of networks, and virtual ones."""

_UNKNOWN_MODES = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that know no permissions."""

_UNKNOWN_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that give a file one name only, FAT for one."""


def step(kind: str, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do one thing that others may see, or that outlives the process.

    Args:
        kind: ``create``, ``write``, ``cut``, ``sync``, ``close``, ``sync-directory``, ``replace``, ``link``,
            ``unlink``, ``mkdir``, ``rmdir``, ``chmod`` for files; ``lock-file``, ``lock``, ``unlock`` for locks;
            ``commit`` for a database; ``engine`` for the consensus engine's own data; ``emit`` for what leaves:
            standard output, a result in a pipe, a broadcast.
    """
    return act(*args, **kwargs)


# files --------------------------------------------------------------------------------------------


def rewrite(path: AnyPath, data: bytes, *, mode: int = 0o600, synced: bool = True) -> None:
    """Put ``data`` in the place of ``path``: whoever looks sees the old file or the new one, whole.

    The new name is durable after ``sync_directory`` only.

    Args:
        mode: of the new file.
        synced: whether the data are on disk before they take the name. Without it a crash of the machine may leave
            anything, so it is for what can be lost.
    """
    temporary = temporary_path(path)
    try:
        write_new(temporary, data, mode=mode, synced=synced)
        replace(temporary, path)
    except BaseException:
        discard(temporary)
        raise


def temporary_path(path: AnyPath) -> str:
    """Where a file is written before it takes its name: beside it, by a name that nobody else takes.

    A process id would be none: in two containers there are two processes of one id.
    """
    folder, name = os.path.split(path)
    name = os.fsdecode(os.fsencode(name)[:_LONG_NAME])
    return os.path.join(folder, f".{name}.{os.urandom(8).hex()}.tmp")


def write_new(path: AnyPath, data: bytes, *, mode: int = 0o600, synced: bool = True) -> None:
    """Write a file that nobody looks for under this name yet."""
    descriptor = create(path, mode)
    try:
        write(descriptor, data)
        if synced:
            sync(descriptor)
    except BaseException:
        give_up(descriptor)
        raise
    close(descriptor)


def create(path: AnyPath, mode: int) -> int:
    """A new file, and no other: whatever stands there already is somebody else's (FileExistsError)."""
    return step("create", os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def open_lock_file(path: AnyPath) -> int:
    """An empty file that is made where it is missing, for locks."""
    return step("lock-file", os.open, path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def open_lock_file_to_read(path: AnyPath) -> int:
    """A lock file that is there, on a disk that takes no writing: it can be locked all the same."""
    return step("lock-file", os.open, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def lock(descriptor: int) -> None:
    """Take an exclusive ``flock`` lock, at once or not at all (BlockingIOError)."""
    step("lock", fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(descriptor: int) -> None:
    """Close a lock's file, by which it is free. Nothing was written to it, so a failure says nothing about anything."""
    with suppress(OSError):
        step("unlock", fcntl.flock, descriptor, fcntl.LOCK_UN)  # free even where the close is refused
    done_reading(descriptor)


def open_to_append(path: AnyPath) -> int:
    """A file that only grows, made where it is missing; what is written lands where the descriptor is set to."""
    return step("create", os.open, path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def open_to_fill(path: AnyPath) -> int:
    """A file of the user's that is filled in any order, and read too; made where it is missing."""
    return step("create", os.open, path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def write_at(descriptor: int, data: AnyBytes, offset: int) -> None:
    """Write all of it at a place of its own, in as many pieces as the system wants."""
    view = memoryview(data)
    while view:
        written = step("write", os.pwrite, descriptor, view, offset)
        view, offset = view[written:], offset + written


def cut(descriptor: int, length: int) -> None:
    """Cut off what stands behind ``length`` bytes; what is shorter is filled up with a hole."""
    step("cut", os.ftruncate, descriptor, length)


def write(descriptor: int, data: bytes) -> None:
    """Write all of it, in as many pieces as the system wants."""
    view = memoryview(data)
    while view:
        view = view[step("write", os.write, descriptor, view) :]


def sync(descriptor: int) -> None:
    """What was written is on disk when this returns."""
    step("sync", os.fsync, descriptor)


def close(descriptor: int) -> None:
    """Close a file that was written to. A disk on a network may say only now that it has not taken what was written."""
    step("close", os.close, descriptor)


def give_up(descriptor: int) -> None:
    """Close a file whose writing has failed already: that failure is the one to tell of."""
    with suppress(OSError):
        close(descriptor)


def done_reading(descriptor: int) -> None:
    """Close a file that was only read: what was read is read, whatever the system says of the close."""
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def reading(path: AnyPath) -> Iterator[BinaryIO]:
    """A file to read from, closed as ``done_reading`` does."""
    file = open(path, "rb")  # noqa: SIM115  # its own close would raise
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def sync_directory(path: AnyPath) -> None:
    """Make renames, creations and removals inside ``path`` durable, as far as its file system can do that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        step("sync-directory", os.fsync, descriptor)
    except OSError as error:
        if error.errno not in _UNKNOWN_TO_FOLDERS:
            raise
    finally:
        done_reading(descriptor)


def change_mode(target: AnyPath | int, mode: int) -> None:
    """Change the permissions of a file, or of a descriptor's, as far as its file system knows any."""
    try:
        step("chmod", os.chmod, target, mode)
    except OSError as error:
        if error.errno not in _UNKNOWN_MODES:
            raise


def replace(source: AnyPath, target: AnyPath) -> None:
    """Give a file the name of another, which goes."""
    step("replace", os.replace, source, target)


def link(source: AnyPath, target: AnyPath) -> None:
    """Give a file a second name, which nobody has yet."""
    step("link", os.link, source, target)


def keep_as(source: AnyPath, target: AnyPath) -> None:
    """Keep a file under a second name, for it is going to be replaced; as a copy where no file has two names."""
    try:
        link(source, target)
    except OSError as error:
        if error.errno not in _UNKNOWN_LINKS:
            raise
        with reading(source) as file:
            write_new(target, file.read())


def claim(source: AnyPath, target: AnyPath) -> None:
    """Give a file a name that nobody has yet, beside its own or in its place: of two processes the first one gets it.

    Where no file has two names, two that come in the same moment may both get it, and the last one's file stays.

    Raises:
        FileExistsError: somebody has it.
    """
    try:
        link(source, target)
    except OSError as error:
        if error.errno not in _UNKNOWN_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        replace(source, target)


def write_once(path: AnyPath, data: bytes) -> None:
    """Write a file unless it is there: of two processes the first one decides. It is durable as in ``rewrite``."""
    temporary = temporary_path(path)
    try:
        write_new(temporary, data)
        with suppress(FileExistsError):
            claim(temporary, path)
    finally:
        discard(temporary)


def unlink(path: AnyPath) -> None:
    """Remove a file."""
    step("unlink", os.unlink, path)


def discard(path: AnyPath) -> None:
    """Remove what is of no use any more, as far as that is possible: something else has failed already."""
    with suppress(OSError):
        unlink(path)


def make_directory(path: AnyPath, *, parents: bool = False) -> None:
    """Make a directory that only its owner can enter, unless it is there."""
    step("mkdir", Path(path).mkdir, mode=0o700, parents=parents, exist_ok=True)


def remove_directory(path: AnyPath) -> None:
    """Remove an empty directory."""
    step("rmdir", os.rmdir, path)
