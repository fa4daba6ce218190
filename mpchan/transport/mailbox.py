"""A mailbox: a folder that the buyer and the seller both see, on one machine or carried between two.

Its files and their names are described in ``folder``. The buyer deletes a request when its answer has been taken. The
seller deletes an answer when its request is gone, or when a later one of the same session is there. So nobody deletes
what another has written, and what has been taken goes.

Neither side remembers anything beyond its process. A buyer's next number stands above all that is in either folder, so
that an answer which was there before is never taken for the answer to a new request. A seller who starts again finds
the answers that it gave, and answers the rest.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan import durability
from mpchan.errors import MpchanError, ParseError, Refused, StorageError, TooEarly
from mpchan.transport.base import Answer, Arrival, Message, Piece, Request, file_changed, refusal
from mpchan.transport.copying import copy_part
from mpchan.transport.folder import (
    ANSWERS,
    MESSAGE,
    PIECE,
    REFUSAL,
    REQUESTS,
    Folder,
    Name,
    next_number,
    unusable,
)

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_COPIES_AT_ONCE = 4
_REQUESTS_AT_ONCE = 64
"""What one look into the folder brings at most: their bodies are in memory."""

_FORGOTTEN_SECONDS = 600.0
"""A piece for a session that has ended waits so long: its buyer may be about to read it."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.25
_PAUSE_GROWS = 1.2


class MailboxInbox:
    """The seller's end: ``Inbox``. One mailbox has one seller at a time.

    Args:
        directory: the mailbox; made where it is missing, and its folders too.
        wake: set when a piece has been copied. A folder does not say when something comes; it has to be looked into.

    Raises:
        StorageError: ``mailbox-unusable``.
    """

    def __init__(self, directory: Path, wake: threading.Event) -> None:
        self._wake = wake
        self._requests, self._answers = Folder(directory, REQUESTS), Folder(directory, ANSWERS)
        self._requests.prepare(own=False)
        self._answers.prepare(own=True)
        self._answers.discard_leftovers()
        self._lock = threading.Lock()
        now = time.monotonic()
        self._held: dict[Name, float] = dict.fromkeys(self._answers.names(), now)
        self._done: dict[str, int] = {}
        for name in self._held:
            self._done[name.session] = max(name.number, self._done.get(name.session, 0))
        self._forgotten: set[str] = set()
        self._unfinished: dict[Name, object] = {}
        self._copies: dict[str, _Copy] = {}
        self._pool: ThreadPoolExecutor | None = None

    def waiting(self) -> list[Request]:
        """The newest request of each session, where it has not been handed out or answered; as ``Inbox`` says."""
        newest: dict[str, Name] = {}
        for name in self._requests.names():
            newest[name.session] = max(name, newest.get(name.session, name))
        self._tidy(newest)
        found: list[Request] = []
        for name in newest.values():
            if len(found) == _REQUESTS_AT_ONCE:
                break
            if name.number > self._done.get(name.session, 0):
                found += self._read(name)
        return found

    def answer(self, request: Request, answer: Answer) -> None:
        """Hand over the answer to a request that ``waiting`` has given; as ``Inbox`` says."""
        if self._done.get(request.session) != request.number:
            return  # nobody waits for it any more
        if isinstance(answer, Piece):
            self._begin(request, answer)
        else:
            kind = MESSAGE if isinstance(answer, Message) else REFUSAL
            self._put(Name(request.session, request.number, kind), answer.body)

    def forget(self, session: str) -> None:
        """A piece that nobody takes goes after a while; a short answer stays until it has been taken."""
        self._forgotten.add(session)

    def busy(self) -> bool:
        """Whether a piece is still being copied."""
        return any(not copy.future.done() for copy in self._copies.values())

    def close(self) -> None:
        """Break off what is being copied; nothing of it stays."""
        for copy in self._copies.values():
            copy.broken_off.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    # requests -------------------------------------------------------------------------------------

    def _read(self, name: Name) -> list[Request]:
        """The request of this name; none where it cannot be had (yet)."""
        stamp = self._requests.stamp(name)
        if stamp is None or self._unfinished.get(name) == stamp:
            return []
        try:
            body = self._requests.read(name)
        except ValueError as error:
            return self._refuse(name, str(error))
        except PermissionError:
            return self._refuse(name, f"{name} may not be read by the seller")
        except OSError:
            return []  # of this machine; there is another time
        if body is None:
            self._unfinished[name] = stamp
            return []
        self._done[name.session] = name.number
        self._forgotten.discard(name.session)
        return [Request(name.session, name.number, name.kind.removesuffix(".hex"), body)]

    def _refuse(self, name: Name, reason: str) -> list[Request]:
        self._done[name.session] = name.number
        answer = refusal(ParseError("malformed-request", reason))
        with suppress(StorageError):  # whoever sends such things may also have filled the disk
            self._put(Name(name.session, name.number, REFUSAL), answer.body)
        return []

    def _tidy(self, newest: dict[str, Name]) -> None:
        """Let go of what no request asks for any more."""
        numbers = {session: name.number for session, name in newest.items()}
        self._drop(numbers)
        for session, copy in list(self._copies.items()):
            if numbers.get(session) != copy.number:
                copy.broken_off.set()
            if copy.future.done():
                copy.future.result()
                del self._copies[session]
        for session in self._done.keys() - numbers.keys():
            del self._done[session]
        for name in [name for name in self._unfinished if newest.get(name.session) != name]:
            del self._unfinished[name]

    # answers --------------------------------------------------------------------------------------

    def _put(self, name: Name, body: bytes) -> None:
        self._answers.write(name, body)
        self._hold(name)

    def _hold(self, name: Name) -> None:
        with self._lock:
            self._held[name] = time.monotonic()

    def _drop(self, numbers: dict[str, int]) -> None:
        """Delete the answers to other requests than these, and pieces that nobody seems to take."""
        limit = time.monotonic() - _FORGOTTEN_SECONDS
        with self._lock:
            past = [
                name
                for name, since in self._held.items()
                if numbers.get(name.session) != name.number
                or (name.kind == PIECE and name.session in self._forgotten and since <= limit)
            ]
            for name in past:
                del self._held[name]
        for name in past:
            self._answers.discard(name)
        self._forgotten &= numbers.keys()

    def _begin(self, request: Request, piece: Piece) -> None:
        """Let a piece be copied."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(_COPIES_AT_ONCE, thread_name_prefix="mailbox")
        broken_off = threading.Event()
        future = self._pool.submit(self._copy, request.session, request.number, piece, broken_off)
        self._copies[request.session] = _Copy(request.number, broken_off, future)

    def _copy(self, session: str, number: int, piece: Piece, broken_off: threading.Event) -> None:
        """Put a piece into the folder, or the reason why it cannot be had; in a thread of its own."""
        name = Name(session, number, PIECE)
        try:
            self._fill(name, piece, broken_off)
            self._hold(name)
        except _BrokenOff:
            return
        except MpchanError as error:
            with suppress(StorageError):  # then there is no way to tell
                self._put(Name(session, number, REFUSAL), refusal(error).body)
        finally:
            self._wake.set()

    def _fill(self, name: Name, piece: Piece, broken_off: threading.Event) -> None:
        try:
            source = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise file_changed(piece, error) from error
        try:
            with self._answers.staged(name) as target:
                done = copy_part(source, piece.offset, piece.length, target, lambda: not broken_off.is_set())
                if broken_off.is_set():
                    raise _BrokenOff
                if done < piece.length:
                    raise file_changed(piece)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise TooEarly("piece-not-copied", f"the seller could not copy the piece: {reason}") from error
        finally:
            durability.done_reading(source)


class _BrokenOff(Exception):
    """Nobody wants the piece any more."""


class _Copy:
    """A piece on its way into the folder."""

    __slots__ = ("broken_off", "future", "number")

    def __init__(self, number: int, broken_off: threading.Event, future: Future[None]) -> None:
        self.number = number
        self.broken_off = broken_off
        self.future = future


class MailboxLine:
    """The buyer's end: ``Line``.

    Args:
        directory: the mailbox; made where it is missing, and its folders too.
        session: as ``new_session`` makes it; no other object may use it at the same time.

    Raises:
        StorageError: ``mailbox-unusable``.
    """

    def __init__(self, directory: Path, session: str) -> None:
        self._session = session
        self._requests, self._answers = Folder(directory, REQUESTS), Folder(directory, ANSWERS)
        self._requests.prepare(own=True)
        self._answers.prepare(own=False)
        self._requests.discard_leftovers(session)
        self._used = 0

    @contextmanager
    def ask(self, kind: str, body: bytes, patience: float) -> Iterator[Arrival]:
        """Send a request and wait for its answer; as ``Line`` says.

        A request without an answer stays, so that a seller who comes later finds it.
        """
        deadline = time.monotonic() + patience
        request = self._send(kind, body)
        try:
            arrival, descriptor = self._await(request, deadline, patience)
        except Refused:
            self._requests.discard(request)
            raise
        try:
            yield arrival
        finally:
            arrival.end()
            if descriptor is not None:
                durability.done_reading(descriptor)
            self._requests.discard(request)

    def close(self) -> None:
        """Nothing is open between two requests."""

    def _send(self, kind: str, body: bytes) -> Name:
        """Put a request into the folder, and take away those before it, which nobody waits for."""
        past = self._requests.names(self._session)
        number = next_number(past + self._answers.names(self._session), self._used)
        request = Request(self._session, number, kind, body)
        name = Name(self._session, number, f"{kind}.hex")
        self._requests.write(name, request.body)
        self._used = number
        for old in past:
            self._requests.discard(old)
        return name

    def _await(self, request: Name, deadline: float, patience: float) -> tuple[Arrival, int | None]:
        """The answer, and the descriptor that must be closed behind it."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            for kind in (MESSAGE, REFUSAL, PIECE):
                found = self._look(Name(self._session, request.number, kind))
                if found is not None:
                    return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise TooEarly(
                    "peer-silent",
                    f"no answer to {request} within {patience:g} s",
                    hint="does the seller look into the same mailbox? it is safe to try again",
                )
            time.sleep(min(pause, left))
            pause = min(pause * _PAUSE_GROWS, _LONGEST_PAUSE_SECONDS)

    def _look(self, name: Name) -> tuple[Arrival, int | None] | None:
        kind = name.kind.partition(".")[0]
        try:
            if name.kind != PIECE:
                body = self._answers.read(name)
                return None if body is None else (Arrival(kind, body), None)
            descriptor = self._answers.open(name)
            if descriptor is None:
                return None
            length = os.fstat(descriptor).st_size
            return Arrival(kind, length=length, read=partial(self._read, name, descriptor)), descriptor
        except ValueError as error:
            raise Refused("malformed-answer", str(error)) from None
        except OSError as error:
            raise unusable(self._answers.path / str(name), error) from error

    def _read(self, name: Name, descriptor: int, buffer: memoryview) -> int:
        try:
            return os.readv(descriptor, [buffer])
        except OSError as error:
            raise unusable(self._answers.path / str(name), error) from error
