"""Who may change a chain directory: one process at a time, for as short as it can.

The engine's data can be open in one process only. A session holds the lock beside it, and the engine from its
first need to the session's end. Sessions of one process on one directory are the same session, so that two
wallets in one process do not wait for each other; of two of its threads the index lets one write at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpchan import durability
from mpchan.chain.embedded.kernel import Kernel
from mpchan.errors import ChainError

KERNEL_DIRECTORY = "kernel"
_POLL_SECONDS = 0.005

_sessions: dict[tuple[int, str], Session] = {}
_entrance = threading.RLock()
"""Who comes to a session, leaves it, or opens its engine."""


class Session:
    """The right to change a directory, and its engine."""

    def __init__(self, directory: Path, lock: int) -> None:
        self._directory = directory / KERNEL_DIRECTORY
        self._lock = lock
        self._kernel: Kernel | None = None
        self.users = 0

    def kernel(self) -> Kernel:
        """The engine, opened at the first call.

        Data that it cannot open are put aside where it can open others: the index holds every block, and gives them
        back. Where it cannot, it is no fault of the data (memory, disk, open files), and nothing is touched.
        """
        with _entrance:
            if self._kernel is None:
                self._kernel = self._opened()
            return self._kernel

    def _opened(self) -> Kernel:
        try:
            return Kernel(self._directory)
        except ChainError as error:
            if error.slug != "engine-failed" or not self._directory.exists():
                raise
            self._begin_anew(error)
            return Kernel(self._directory)

    def _begin_anew(self, error: ChainError) -> None:
        """Put data in place of those that cannot be opened, which stay beside them."""
        fresh, damaged = (
            self._directory.with_name(f"{KERNEL_DIRECTORY}.{word}") for word in ("new", "damaged")
        )
        _remove(fresh)
        try:
            Kernel(fresh).close()
        except ChainError:
            with suppress(ChainError):
                _remove(fresh)
            raise error from None
        _remove(damaged)
        try:
            durability.step("engine", os.rename, self._directory, damaged)
            durability.step("engine", os.rename, fresh, self._directory)
        except OSError as failure:
            raise ChainError(
                "chain-directory", f"cannot rename {self._directory}: {failure.strerror}"
            ) from failure

    def close(self) -> None:
        """Let the engine write what it has, and let others in."""
        try:
            if self._kernel is not None:
                self._kernel.close()
        finally:
            durability.unlock(self._lock)


@contextmanager
def session(directory: Path, timeout: float) -> Iterator[Session]:
    """Hold ``directory``, which must exist, for the length of the block.

    Args:
        timeout: seconds to wait for other processes.
    """
    # a forked child has no part in its parent's session
    key = (os.getpid(), os.path.realpath(directory))
    with _entrance:
        current = _sessions.get(key)
        if current is None:
            current = _sessions[key] = Session(directory, _acquire(directory, timeout))
        current.users += 1
    try:
        yield current
    finally:
        with _entrance:
            current.users -= 1
            if not current.users:
                del _sessions[key]
                current.close()


def _acquire(directory: Path, timeout: float) -> int:
    """The descriptor that holds the lock.

    Who waits for the lock holds the queue. So a process that lets go and comes back at once stands behind those
    that wait, and a busy one cannot starve the others.
    """
    deadline = time.monotonic() + timeout
    queue = _flock(directory, "queue", deadline, timeout)
    try:
        return _flock(directory, "lock", deadline, timeout)
    finally:
        durability.unlock(queue)


def _flock(directory: Path, name: str, deadline: float, timeout: float) -> int:
    try:
        descriptor = durability.open_lock_file(directory / name)
    except OSError as error:
        raise ChainError("chain-directory", f"cannot use {directory}: {error.strerror}") from error
    try:
        while True:
            try:
                durability.lock(descriptor)
                return descriptor
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ChainError(
                        "chain-locked",
                        f"another process has held {directory} for {timeout:g} s",
                        hint="let it finish, or end it, then try again",
                    ) from None
            time.sleep(_POLL_SECONDS)
    except OSError as error:
        durability.done_reading(descriptor)
        raise ChainError("chain-directory", f"cannot lock {directory / name}: {error.strerror}") from error
    except BaseException:
        durability.done_reading(descriptor)
        raise


def _remove(directory: Path) -> None:
    if not os.path.lexists(directory):
        return
    import shutil  # only a damaged engine needs it

    try:
        durability.step("engine", shutil.rmtree, directory)
    except OSError as error:
        raise ChainError("chain-directory", f"cannot remove {directory}: {error.strerror}") from error
