"""What the seller has laid into a mailbox, and for how long it stays.

What was paid for stays until it has been taken. What nobody has paid for, free pieces and offers, has a bound for all
together, since a mailbox does not say who asks: the oldest of it makes room, and whoever still waits for it is told to
ask again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mpchan import durability
from mpchan.errors import MpchanError, StorageError, TooEarly, system_reason
from mpchan.transport.base import Message, Piece, Refusal, Request, file_changed, refusal
from mpchan.transport.folder import MESSAGE, PIECE, REFUSAL, Folder, Name

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

MOST_UNPAID_BYTES = 64_000_000
"""Of the answers that nobody has paid for, unless a single one is larger."""

_STAY_SECONDS = 2.0
"""So long a free piece stays at least: a buyer who waits for it looks several times a second."""

_FORGOTTEN_SECONDS = 600.0
"""A piece for a session that has ended waits so long: its buyer may be about to read it."""

_COPIES_AT_ONCE = 4


class Answers:
    """The answers of one seller.

    Args:
        folder: only this object writes there.
        wake: set when a piece has been copied.
    """

    def __init__(self, folder: Folder, wake: threading.Event) -> None:
        self._folder = folder
        self._wake = wake
        self._lock = threading.Lock()
        now = time.monotonic()
        self._held: dict[Name, float] = dict.fromkeys(folder.names(), now)  # since when
        self._unpaid: dict[Name, int] = {}  # bytes of those that nobody has paid for, the oldest first
        self._unpaid_bytes = 0  # of them, and of those that are on their way
        self._forgotten: set[str] = set()
        self._copies: dict[str, _Copy] = {}
        self._pools: dict[bool, ThreadPoolExecutor] = {}  # by whether the pieces are free

    def names(self) -> list[Name]:
        """Those that lie there."""
        with self._lock:
            return list(self._held)

    def put(self, request: Request, answer: Message | Refusal) -> None:
        """Lay a short answer into the folder."""
        kind = MESSAGE if isinstance(answer, Message) else REFUSAL
        unpaid = len(answer.body) * 2 + 1 if request.kind == "offer" and kind == MESSAGE else 0
        if unpaid:
            self._make_room(unpaid)
        try:
            self._folder.write(Name(request.session, request.number, kind), answer.body)
        except StorageError:
            self._give_back(unpaid)
            raise
        self._hold(Name(request.session, request.number, kind), unpaid)

    def begin(self, request: Request, piece: Piece) -> None:
        """Let a piece be copied. Free ones are copied one after the other, so that those that were paid do not wait."""
        pool = self._pools.get(piece.free)
        if pool is None:
            from concurrent.futures import ThreadPoolExecutor

            pool = ThreadPoolExecutor(1 if piece.free else _COPIES_AT_ONCE, thread_name_prefix="mailbox")
            self._pools[piece.free] = pool
        broken_off = threading.Event()
        future = pool.submit(self._copy, request, piece, broken_off)
        self._copies[request.session] = _Copy(request.number, piece.free, broken_off, future)

    def is_copying(self) -> bool:
        """Whether a piece that was paid for is still being copied."""
        return any(not copy.free and not copy.future.done() for copy in self._copies.values())

    def forget(self, session: str) -> None:
        """A piece that nobody takes goes after a while; a short answer stays until it has been taken."""
        self._forgotten.add(session)

    def remember(self, session: str) -> None:
        """The session asks again."""
        self._forgotten.discard(session)

    def close(self) -> None:
        """Break off what is being copied; nothing of it stays."""
        for copy in self._copies.values():
            copy.broken_off.set()
        for pool in self._pools.values():
            pool.shutdown(wait=True)

    # what goes ------------------------------------------------------------------------------------

    def tidy(self, newest: Mapping[str, Name]) -> None:
        """Delete the answers to other requests than these, and pieces that nobody seems to take."""
        limit = time.monotonic() - _FORGOTTEN_SECONDS

        def is_past(name: Name, since: float) -> bool:
            request = newest.get(name.session)
            if request is None or request.number != name.number:
                return True
            return name.kind == PIECE and name.session in self._forgotten and since <= limit

        with self._lock:
            past = [name for name, since in self._held.items() if is_past(name, since)]
            for name in past:
                self._let_go(name)
        for name in past:
            self._folder.discard(name)
        self._forgotten &= newest.keys()
        for session, copy in list(self._copies.items()):
            request = newest.get(session)
            if request is None or request.number != copy.number:
                copy.broken_off.set()
            if copy.future.done():
                copy.future.result()
                del self._copies[session]

    def discard(self, name: Name) -> None:
        """Delete one, which is going to be made again."""
        with self._lock:
            self._let_go(name)
        self._folder.discard(name)

    def _let_go(self, name: Name) -> None:
        del self._held[name]
        self._unpaid_bytes -= self._unpaid.pop(name, 0)

    def _hold(self, name: Name, unpaid: int) -> None:
        with self._lock:
            self._held[name] = time.monotonic()
            if unpaid:
                self._unpaid[name] = unpaid

    def _give_back(self, unpaid: int) -> None:
        with self._lock:
            self._unpaid_bytes -= unpaid

    def _make_room(self, length: int, goes_on: Callable[[float], bool] | None = None) -> None:
        """Count an answer that nobody has paid for, in the place of older ones where it would be too much.

        Args:
            goes_on: waits so many seconds, and says whether to go on. Where it is given, the oldest piece is waited for
                until it has been there for a while.
        """
        while True:
            with self._lock:
                oldest = next(iter(self._unpaid), None)
                if oldest is None or self._unpaid_bytes + length <= MOST_UNPAID_BYTES:
                    self._unpaid_bytes += length
                    return
                left = 0.0 if goes_on is None else self._held[oldest] + _STAY_SECONDS - time.monotonic()
                if left <= 0:
                    self._let_go(oldest)
            if left <= 0:
                self._drop(oldest)
            elif goes_on is not None and not goes_on(min(left, 0.1)):
                raise _BrokenOff

    def _drop(self, name: Name) -> None:
        self._folder.discard(name)
        told = refusal(
            TooEarly(
                "answer-not-taken",
                "nobody took the answer, and others wait for theirs",
                hint="it is safe to ask again",
            )
        )
        with suppress(StorageError):  # then there is no way to tell
            self._folder.write(Name(name.session, name.number, REFUSAL), told.body)
            self._hold(Name(name.session, name.number, REFUSAL), 0)

    # pieces ---------------------------------------------------------------------------------------

    def _copy(self, request: Request, piece: Piece, broken_off: threading.Event) -> None:
        """Put a piece into the folder, or the reason why it cannot be had; in a thread of its own."""
        name = Name(request.session, request.number, PIECE)
        unpaid = 0
        try:
            if piece.free:
                self._make_room(piece.length, lambda seconds: not broken_off.wait(seconds))
                unpaid = piece.length
            self._fill(name, piece, broken_off)
            self._hold(name, unpaid)
        except _BrokenOff:
            self._give_back(unpaid)
        except MpchanError as error:
            self._give_back(unpaid)
            with suppress(StorageError):  # then there is no way to tell
                self.put(request, refusal(error))
        finally:
            self._wake.set()

    def _fill(self, name: Name, piece: Piece, broken_off: threading.Event) -> None:
        if broken_off.is_set():
            raise _BrokenOff
        try:
            source = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise file_changed(piece, error) from error
        try:
            with self._folder.staged(name) as target:
                done = copy_part(source, piece.offset, piece.length, target, lambda: not broken_off.is_set())
                if broken_off.is_set():
                    raise _BrokenOff
                if done < piece.length:
                    raise file_changed(piece)
        except OSError as error:
            reason = system_reason(error)
            raise TooEarly("piece-not-copied", f"the seller could not copy the piece: {reason}") from error
        finally:
            durability.done_reading(source)


class _BrokenOff(Exception):
    """Nobody wants the piece any more."""


class _Copy:
    """A piece on its way into the folder."""

    __slots__ = ("broken_off", "free", "future", "number")

    def __init__(self, number: int, free: bool, broken_off: threading.Event, future: Future[None]) -> None:
        self.number = number
        self.free = free
        self.broken_off = broken_off
        self.future = future


# copying a part of a file -------------------------------------------------------------------------
#
# ``copy_file_range`` moves the data inside the kernel, or only notes that two files share them (Btrfs, XFS). Where it
# does not exist or does not like the files, Linux's ``sendfile`` still spares the way through this process. The plain
# way comes last and everywhere. A fault is the last one's to tell: the one before it may only have had its own opinion.


_KERNEL_BYTES = 1 << 26
_PLAIN_BYTES = 1 << 20

Way = Callable[[int, int, int, int], int]
"""Copies some bytes of a source (descriptor, offset, count) to where a target stands, and says how many."""


def copy_part(source: int, offset: int, length: int, target: int, goes_on: Callable[[], bool]) -> int:
    """Copy ``length`` bytes from ``offset`` of one descriptor to where another stands; how many there were.

    Args:
        goes_on: asked now and then; False breaks the copying off.
    """
    ways = [_within_kernel, _sent, _plainly]
    done = 0
    while done < length and goes_on():
        last = len(ways) == 1
        try:
            count = ways[0](source, offset + done, length - done, target)
        except OSError:
            if last:
                raise
            count = 0
        if not count:
            if last:
                break  # the end of the source
            del ways[0]
        done += count
    return done


def _within_kernel(source: int, offset: int, count: int, target: int) -> int:
    copy = getattr(os, "copy_file_range", None)
    if copy is None:
        return 0
    copied: int = durability.step("write", copy, source, target, min(count, _KERNEL_BYTES), offset)
    return copied


def _sent(source: int, offset: int, count: int, target: int) -> int:
    """On Linux; elsewhere the target must be a socket."""
    return durability.step("write", os.sendfile, target, source, offset, min(count, _KERNEL_BYTES))


def _plainly(source: int, offset: int, count: int, target: int) -> int:
    data = os.pread(source, min(count, _PLAIN_BYTES), offset)
    durability.write(target, data)
    return len(data)
