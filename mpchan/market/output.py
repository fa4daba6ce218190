"""The file that a buyer fills: sparse, under another name until all that was wanted is in it and right.

Whether a piece is there is never remembered but found out: its SHA-256 is that of the manifest, or it is not there. So
what a killed process, a full disk or somebody else has done to the file is seen before anything is paid for it again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Event
from types import TracebackType

from mpchan import durability
from mpchan.errors import AsStorageError, NotPossible, StorageError, UsageError, storage_error
from mpchan.market.hashing import verify_pieces
from mpchan.sale.manifest import Sale
from mpchan.wallet.storage import sync_name

SUFFIX = ".mpchan-part"

_SYNC_SECONDS = 0.1
"""So long what was written waits at most before it is brought to the disk."""

Progress = Callable[[int], None]
"""Is told how many bytes more are done."""


def _no_progress(done: int) -> None:
    return


def part_path(output: Path) -> Path:
    """Where a file stands while it is filled."""
    return output.with_name(output.name + SUFFIX)


def already_there(
    path: Path, sale: Sale, numbers: Iterable[int], progress: Progress = _no_progress
) -> set[int]:
    """Those of these pieces that a file holds already, be it one that was begun or one in the final place.

    Nothing is changed, and nothing is made.

    Raises:
        UsageError: ``output-exists``, what stands in the final place is another file.
        StorageError: ``output-failed``.
    """
    part = part_path(path)
    begun = os.path.lexists(part)
    _refuse_both(path)
    try:
        descriptor = os.open(part if begun else path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise storage_error("output-failed", path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size not in (0, sale.length):
            raise _other_file(part if begun else path, sale)
        found = _right(descriptor, sale, numbers, progress)
        if not (found or begun or status.st_size == 0):
            raise _other_file(path, sale)
        return found
    finally:
        durability.done_reading(descriptor)


def _refuse_both(path: Path) -> None:
    """What stands in the final place beside a file that was begun is not ours, and would be overwritten in the end."""
    part = part_path(path)
    if os.path.lexists(path) and os.path.lexists(part):
        raise UsageError(
            "output-exists",
            f"{path} exists beside {part.name}, which is to take its place",
            hint="move one of them away",
        )


def _other_file(path: Path, sale: Sale) -> UsageError:
    return UsageError(
        "output-exists",
        f"{path} exists, and is not the file of {sale.length} bytes that is sold",
        hint="name another file, or move it away",
    )


def _right(descriptor: int, sale: Sale, numbers: Iterable[int], progress: Progress) -> set[int]:
    wanted = set(numbers)
    expected = {number - 1: sale.hashes[number - 1] for number in wanted}
    wrong = verify_pieces(descriptor, expected, sale.piece_length, sale.length, progress)
    return wanted - {index + 1 for index in wrong}


class Output:
    """A file while it is filled; to be used in a ``with``.

    Args:
        path: absolute; where the file is to stand in the end.
    """

    def __init__(self, path: Path, sale: Sale) -> None:
        self.path = path
        self._sale = sale
        self._part = part_path(path)
        _refuse_both(path)
        self._descriptor = _opened(self._place(), sale)
        self._background = ThreadPoolExecutor(2, thread_name_prefix="mpchan-output")
        self._syncing: Future[None] | None = None
        self._sync_now = Event()

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sync_now.set()
        self._background.shutdown(wait=True)
        try:
            durability.close(self._descriptor)
        except OSError as failure:
            if kind is None:
                raise storage_error("output-failed", self.path, failure) from failure

    def _place(self) -> Path:
        """The file to fill: what was begun, what stands there already, or a new one."""
        alone = os.path.lexists(self.path) and not os.path.lexists(self._part)
        return self.path if alone else self._part

    def require_room(self, numbers: Iterable[int]) -> None:
        """The disk has room for these pieces, which are still to come.

        Raises:
            NotPossible: ``no-space``.
            StorageError: ``output-failed``.
        """
        with AsStorageError("output-failed", self._part):
            status, room = os.fstat(self._descriptor), os.fstatvfs(self._descriptor)
        missing = sum(self._sale.length_of(number) for number in numbers)
        missing = min(missing, self._sale.length - status.st_blocks * 512)
        if missing > room.f_bavail * room.f_frsize:
            raise NotPossible("no-space", f"{self.path.parent} has no room for {missing} more bytes")

    # pieces ---------------------------------------------------------------------------------------

    def held(self, numbers: Iterable[int], progress: Progress = _no_progress) -> set[int]:
        """Those of these pieces that are in the file and right; all of them are read."""
        return _right(self._descriptor, self._sale, numbers, progress)

    def take(
        self, number: int, chunks: Iterable[bytes | memoryview], progress: Progress = _no_progress
    ) -> bool:
        """Write a piece to its place while it is hashed; whether it is the right one.

        What is hashed is what is written: whoever sends it may change its mind in between.

        Args:
            chunks: the data, at most the piece's length; a buffer may be used again for the chunk after the next.

        Raises:
            StorageError: ``output-failed``.
        """
        digest, place, room = sha256(), self._sale.start_of(number), self._sale.length_of(number)
        hashing: Future[None] | None = None
        try:
            for chunk in chunks:
                if len(chunk) > room:
                    return False
                if hashing is None:
                    self._sync_now.set()
                else:
                    hashing.result()
                hashing = self._background.submit(digest.update, chunk)
                durability.write_at(self._descriptor, chunk, place)
                place, room = place + len(chunk), room - len(chunk)
                progress(len(chunk))
        except OSError as error:
            raise storage_error("output-failed", self._part, error) from error
        finally:
            if hashing is not None:
                hashing.result()
        if room or digest.digest() != self._sale.hashes[number - 1]:
            return False
        self._sync_behind()
        return True

    def _sync_behind(self) -> None:
        """Bring what was written to the disk while the next piece comes; the piece before is there by then.

        The payment in between is small and has to be on the disk first: it would have to wait for all of the piece.
        """
        self._wait_for_sync()
        self._sync_now = Event()
        self._syncing = self._background.submit(self._sync, self._sync_now)

    def _sync(self, now: Event) -> None:
        now.wait(_SYNC_SECONDS)
        durability.sync(self._descriptor)

    def _wait_for_sync(self) -> None:
        syncing, self._syncing = self._syncing, None
        self._sync_now.set()
        with AsStorageError("output-failed", self._part):
            if syncing is not None:
                syncing.result()

    # the end --------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Give a file that stands in its final place the name of one that is being filled."""
        if not os.path.lexists(self._part):
            self._rename(self.path, self._part)

    def finish(self) -> None:
        """All of it is there: durable, and under its own name on return.

        Raises:
            StorageError: ``output-failed``; ``write-unsure``, it stands there, and a crash of the machine could undo
                that.
        """
        self._wait_for_sync()
        with AsStorageError("output-failed", self._part):
            self._require_in_place()
            if os.fstat(self._descriptor).st_size != self._sale.length:
                durability.cut(self._descriptor, self._sale.length)
            durability.sync(self._descriptor)
        if os.path.lexists(self._part):
            if os.path.lexists(self.path):
                raise StorageError("output-failed", f"{self.path}: {os.strerror(errno.EEXIST).lower()}")
            self._rename(self._part, self.path)

    def _require_in_place(self) -> None:
        """What has been filled is what stands under its name: nobody has moved it away, or put another in its place."""
        try:
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(self._place())):
                return
        except FileNotFoundError:
            pass
        raise StorageError(
            "output-failed",
            f"{self._place()}: the file that was filled is not there any more",
            hint="run the command again: what is paid for comes again, and nothing is paid for twice",
        )

    def _rename(self, source: Path, target: Path) -> None:
        with AsStorageError("output-failed", target):
            durability.replace(source, target)
        sync_name(target)


def _opened(path: Path, sale: Sale) -> int:
    """The file, of its full length, mostly a hole at first."""
    with AsStorageError("output-failed", path):
        descriptor = durability.open_to_fill(path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size not in (0, sale.length):
            raise _other_file(path, sale)
        if status.st_size == 0:
            durability.cut(descriptor, sale.length)
    except OSError as error:
        durability.give_up(descriptor)
        raise storage_error("output-failed", path, error) from error
    except BaseException:
        durability.give_up(descriptor)
        raise
    return descriptor
