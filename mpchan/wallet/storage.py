"""Files that survive a crash, and locks between processes.

"Durable" means: written to a temporary file, fsynced, renamed over the target, and the directory
fsynced. A reader sees the old file or the new one, never a part. A file that only grows is written in place and
fsynced; whoever reads it can tell an unfinished end.

The locks are advisory ``flock`` locks on files that are never deleted. The standard library has all that
is needed on Linux and macOS; a lock library would add as much start-up time as click itself.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from mpchan import durability
from mpchan.durability import AnyPath
from mpchan.errors import AsStorageError, ParseError, StorageError, storage_error

LOCK_TIMEOUT_SECONDS = 60.0
MAX_FILE_BYTES = 16_000_000
"""No file of a wallet comes near this; a larger one is damaged."""


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data``, all or nothing, and durable on return.

    Raises:
        StorageError: ``write-failed``, the old file is untouched; ``write-unsure``, the new file stands, but a crash
            of the whole machine could still undo it.
    """
    with AsStorageError("write-failed", path):
        durability.rewrite(path, data, mode=mode)
    sync_name(path)


def sync_name(path: Path) -> None:
    """Make durable that ``path`` was renamed or removed.

    Raises:
        StorageError: ``write-unsure``, it is done, but a crash of the whole machine could still undo it.
    """
    try:
        durability.sync_directory(path.parent)
    except OSError as error:
        said = storage_error("write-unsure", path, error).message
        raise StorageError(
            "write-unsure", f"{said}; it is done, and only a crash of the machine could undo it"
        ) from error


def remove_durably(path: Path) -> None:
    """Remove a file; durable on return.

    Raises:
        StorageError: ``write-failed``, it is still there; ``write-unsure``.
    """
    with AsStorageError("write-failed", path):
        durability.unlink(path)
    sync_name(path)


def append_durably(path: Path, data: bytes, *, at: int) -> None:
    """Write ``data`` at the end of a file that only grows, durable on return; made if missing, with mode 0600.

    Args:
        at: where the last whole entry ends; what an append that was cut short left behind it is cut off.

    Raises:
        StorageError: ``write-failed``, nothing was added; ``write-unsure``, the system can tell neither.
    """
    with AsStorageError("write-failed", path):
        descriptor = durability.open_to_append(path)
    try:
        _append(descriptor, path, data, at)
    except OSError as error:
        _take_back(path, at, error)


def _append(descriptor: int, path: Path, data: bytes, at: int) -> None:
    try:
        size = os.fstat(descriptor).st_size
        if size < at:
            raise StorageError("write-failed", f"{path}: ends at byte {size}, not at {at}")
        if size > at:
            durability.cut(descriptor, at)
        os.lseek(descriptor, at, os.SEEK_SET)
        durability.write(descriptor, data)
        durability.sync(descriptor)
        if at == 0:
            durability.sync_directory(path.parent)
    except BaseException:
        durability.give_up(descriptor)
        raise
    durability.close(descriptor)


def _take_back(path: Path, at: int, failure: OSError) -> NoReturn:
    """Cut off what a failed append may have left: neither a reader nor a crash may find it later."""
    try:
        descriptor = durability.open_to_append(path)
        try:
            durability.cut(descriptor, at)
            if at:
                durability.sync(descriptor)
            else:
                durability.unlink(path)
                durability.sync_directory(path.parent)
        except BaseException:
            durability.give_up(descriptor)
            raise
        durability.close(descriptor)
    except OSError:
        raise storage_error("write-unsure", path, failure) from failure
    raise storage_error("write-failed", path, failure) from failure


def sync_file(path: Path) -> None:
    """Make durable what another process has written to a file."""
    with AsStorageError("write-failed", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            durability.sync(descriptor)
        finally:
            durability.done_reading(descriptor)


def discard_leftovers(path: Path) -> None:
    """Delete what killed processes have left beside ``path``. Whoever calls this is the only one who may write it.

    Raises:
        StorageError: ``write-failed``.
    """
    with AsStorageError("write-failed", path):
        for name in os.listdir(path.parent):
            match = re.fullmatch(durability.TEMPORARY_NAME, name)
            if match is not None and match["target"] == path.name:
                durability.unlink(path.parent / name)


def make_directory(path: Path) -> None:
    """Make a directory (and its parents) that only its owner can enter; durable on return.

    Raises:
        StorageError: ``write-failed``.
    """
    with AsStorageError("write-failed", path):
        durability.make_directory(path, parents=True)
        durability.sync_directory(path.parent)


def close_to_others(path: Path) -> None:
    """Let nobody but us enter a directory; one that holds something already is not ours to close, and is refused.

    Raises:
        StorageError: ``directory-permissions``, ``write-failed``.
    """
    with AsStorageError("write-failed", path):
        status = os.stat(path)
        open_to_others = bool(stat.S_IMODE(status.st_mode) & 0o077)
        if status.st_uid == os.geteuid() and open_to_others and not os.listdir(path):
            durability.change_mode(path, 0o700)
            if not os.stat(path).st_mode & 0o077:
                return
            raise StorageError(
                "directory-permissions",
                f"{path} stays open to others: its file system knows no permissions",
                hint="name a directory on another one, or mount it with umask=077",
            )
    if status.st_uid != os.geteuid():
        raise StorageError("directory-permissions", f"{path} belongs to another user")
    if open_to_others:
        raise StorageError(
            "directory-permissions",
            f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}) and not empty",
            hint=f"chmod 700 {path}, or name a new directory",
        )


def read_text(path: AnyPath) -> str:
    """Read one of the wallet's own files.

    Raises:
        StorageError: ``read-failed``; FileNotFoundError is not swallowed but becomes ``file-missing``.
        ParseError: ``malformed-file`` for what is not UTF-8 or too large.
    """
    with AsStorageError("read-failed", path, missing="file-missing"):
        data = _read(path)
    if len(data) > MAX_FILE_BYTES:
        raise ParseError("malformed-file", f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ParseError("malformed-file", f"{path}: not UTF-8 text") from None


def _read(path: AnyPath) -> bytes:
    """The content, or more than the limit of it. A file object would be felt where very many channels are listed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, os.fstat(descriptor).st_size + 1)
        while more := os.read(descriptor, 1 << 16):
            data += more
            if len(data) > MAX_FILE_BYTES:
                break
        return data
    finally:
        durability.done_reading(descriptor)


@contextmanager
def locked(
    path: Path, *, timeout: float = LOCK_TIMEOUT_SECONDS, queue: Path | None = None, in_turn: bool = False
) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (made if missing); other processes and threads wait.

    Args:
        queue: a second lock file, made when somebody has to wait: who waits for the lock holds the queue.
        in_turn: stand behind those that wait already. Whoever takes the lock again and again does so, or a busy one
            would let nobody else in.

    Raises:
        StorageError: ``locked`` when it does not come free within ``timeout`` seconds.
    """
    limit = time.monotonic() + timeout
    descriptor = _open_lock(path)
    try:
        if in_turn and queue is not None and os.path.exists(queue):
            _wait_behind(queue, descriptor, path, limit, timeout)
        elif not _try(descriptor, path):
            if queue is None:
                _acquire(descriptor, path, limit, timeout, 0.05)
            else:
                _wait_behind(queue, descriptor, path, limit, timeout)
        yield
    finally:
        durability.unlock(descriptor)


@contextmanager
def held_if_possible(lock: AbstractContextManager[None]) -> Iterator[StorageError | None]:
    """Hold a lock; where the disk gives none at all, go on without it, told why: for what writes nothing new.

    Raises:
        StorageError: ``locked``, another process holds it.
    """
    failure = None
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except StorageError as error:
            if error.slug == "locked":
                raise
            failure = error
        yield failure


def _open_lock(path: Path) -> int:
    try:
        return durability.open_lock_file(path)
    except OSError as error:
        try:
            return durability.open_lock_file_to_read(path)
        except OSError:
            raise storage_error("write-failed", path, error) from error


def _wait_behind(queue: Path, descriptor: int, path: Path, limit: float, timeout: float) -> None:
    """Take the lock after all that stand in the queue."""
    try:
        place = _open_lock(queue)
    except StorageError:  # a disk that takes no new file: without a queue the lock is waited for all the same
        _acquire(descriptor, path, limit, timeout, 0.05)
        return
    try:
        _acquire(place, path, limit, timeout, 0.05)
        _acquire(descriptor, path, limit, timeout, 0.005)
    finally:
        durability.unlock(place)


def _acquire(descriptor: int, path: Path, limit: float, timeout: float, longest_pause: float) -> None:
    pause = 0.001
    while not _try(descriptor, path):
        if time.monotonic() >= limit:
            raise StorageError(
                "locked",
                f"{path.parent} is in use by another process, waited {timeout:.0f} s",
                hint="try again when the other command has ended",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, longest_pause)


def _try(descriptor: int, path: Path) -> bool:
    try:
        durability.lock(descriptor)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
            failure = storage_error("lock-failed", path, error)
            hint = "some file systems know no locks: keep the wallet on a disk of this machine"
            raise StorageError(failure.slug, failure.message, hint=hint) from error
        return False
    return True
