"""A mailbox: a folder that the buyer and the seller both see, on one machine or carried between two.

Its files and their names are described in ``folder``. The buyer deletes a request when its answer has been taken. The
seller deletes an answer when its request is gone, or when a later one of the same session is there. So nobody deletes
what another has written, and what has been taken goes.

Neither side remembers anything beyond its process. A buyer's next number stands above all that is in either folder, so
that an answer which was there before is never taken for the answer to a new request. A seller who starts again finds
the answers that it gave, and answers the rest.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpchan import durability
from mpchan.errors import ParseError, Refused, StorageError, TooEarly
from mpchan.transport.answers import Answers
from mpchan.transport.base import Answer, Arrival, Piece, Request, refusal
from mpchan.transport.folder import (
    ANSWERS,
    MESSAGE,
    PIECE,
    REFUSAL,
    REQUESTS,
    Folder,
    Name,
    Stamp,
    hold_for_seller,
    let_go,
    next_number,
    stamp_of,
    unusable,
)
from mpchan.transport.requests import Requests

_REQUESTS_AT_ONCE = 64
"""What one look into the folder brings at most: their bodies are in memory."""

_MOST_REMEMBERED = 10_000
"""Sessions that have paid, and are served before strangers."""

_UNREADABLE_SECONDS = 2.0
"""So long a request may not be readable: some carriers set a file's mode last."""

_STILL_SECONDS = 10.0
"""A piece that is not the right one, and has not changed for so long, stays that."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.25
_PAUSE_GROWS = 1.2


class MailboxInbox:
    """The seller's end: ``Inbox``. One mailbox has one seller at a time, which a lock sees to on one machine.

    Args:
        directory: the mailbox; made where it is missing, and its folders too.
        wake: set when a piece has been copied. A folder does not say when something comes; it has to be looked into.

    Raises:
        StorageError: ``mailbox-unusable``; ``locked``, another seller is there.
    """

    def __init__(self, directory: Path, wake: threading.Event) -> None:
        self._wake = wake
        self._folder = Folder(directory, REQUESTS)
        answers = Folder(directory, ANSWERS)
        self._folder.prepare(own=False)
        answers.prepare(own=True)
        self._directory = directory
        self._lock = hold_for_seller(directory)
        try:
            answers.discard_leftovers()
            self._answers = Answers(answers, wake)
        except BaseException:
            self._let_go()
            raise
        self._requests = Requests(self._folder)
        self._paid: dict[str, None] = {}  # the sessions that have paid, the last one to do so last
        self._done: dict[str, int] = {}
        self._has_looked = False

    def waiting(self) -> list[Request]:
        """The newest request of each session, where it has not been handed out or answered; as ``Inbox`` says."""
        if self._requests.read_folder():
            if not self._has_looked:
                self._take_up()
            self._answers.tidy(self._requests.newest)
            for session in self._done.keys() - self._requests.newest.keys():
                del self._done[session]
            self._requests.await_reading(lambda session: self._done.get(session, 0), self._paid.__contains__)
        found: list[Request] = []
        for name, stamp, still in self._requests.due():
            found += self._read(name, stamp, still)
            if len(found) == _REQUESTS_AT_ONCE:
                break
        if self._requests.has_more:
            self._wake.set()
        return found

    def answer(self, request: Request, answer: Answer) -> None:
        """Hand over the answer to a request that ``waiting`` has given; as ``Inbox`` says."""
        if self._done.get(request.session) != request.number:
            return None  # nobody waits for it any more
        if not isinstance(answer, Piece):
            return self._answers.put(request, answer)
        if not answer.free:
            self._paid.pop(request.session, None)
            self._paid[request.session] = None
            if len(self._paid) > _MOST_REMEMBERED:
                del self._paid[next(iter(self._paid))]
        return self._answers.begin(request, answer)

    def forget(self, session: str) -> None:
        """A piece that nobody takes goes after a while; a short answer stays until it has been taken."""
        self._answers.forget(session)

    def busy(self) -> bool:
        """Whether a piece that was paid for is still being copied."""
        return self._answers.is_copying()

    def close(self) -> None:
        """Break off what is being copied; nothing of it stays. Another seller may come."""
        self._answers.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            let_go(self._directory, self._lock)
            self._lock = None

    def _take_up(self) -> None:
        """What the seller before has answered stays, but for pieces that were asked for without a payment.

        Which of those are free is not known any more: they are asked for again, and answered again.
        """
        self._has_looked = True
        for name in self._answers.names():
            request = self._requests.newest.get(name.session)
            asked = request is not None and request.number == name.number and request.kind == "piece.hex"
            if asked and name.kind == PIECE:
                self._answers.discard(name)
            else:
                self._done[name.session] = max(name.number, self._done.get(name.session, 0))

    def _read(self, name: Name, stamp: object, still: float) -> list[Request]:
        """The request of this name; none where it cannot be had (yet)."""
        try:
            body = self._folder.read(name)
        except ValueError as error:
            return self._refuse(name, str(error))
        except (
            OSError
        ) as error:  # of this machine, and there is another time; or the carrier is not through with it
            if isinstance(error, PermissionError) and still >= _UNREADABLE_SECONDS:
                return self._refuse(name, f"{name} may not be read by the seller")
            self._requests.wait_for(name, stamp, still, again=True)
            return []
        if body is None:
            self._requests.wait_for(name, stamp, still)
            return []
        self._done[name.session] = name.number
        self._answers.remember(name.session)
        return [_request(name, body)]

    def _refuse(self, name: Name, reason: str) -> list[Request]:
        self._done[name.session] = name.number
        with suppress(StorageError):  # whoever sends such things may also have filled the disk
            self._answers.put(_request(name, b""), refusal(ParseError("malformed-request", reason)))
        return []


def _request(name: Name, body: bytes) -> Request:
    return Request(name.session, name.number, name.kind.removesuffix(".hex"), body)


class MailboxLine:
    """The buyer's end: ``Line``.

    Whoever carries the mailbox may copy in place, so a file is there before it is whole. An answer is waited for while
    it has not come to its end, and a piece while it is shorter than it must be, or is still being written to.

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
        self._open: set[Name] = set()  # own requests that lie there
        self._used = 0
        self._has_looked = False

    @contextmanager
    def ask(self, kind: str, body: bytes, patience: float, length: int | None = None) -> Iterator[Arrival]:
        """Send a request and wait for its answer; as ``Line`` says.

        A request without an answer stays, so that a seller who comes later finds it. A piece whose request lies there
        already, because it came too slowly, is waited for, and not asked for anew.
        """
        request = self._send(kind, body)
        waiting = _Waiting(self._answers, request, patience, length)
        try:
            arrival = waiting.arrival()
        except Refused:
            self._discard(request)
            raise
        is_over = True
        try:
            yield arrival
        except TooEarly:  # the rest of a piece may still come
            is_over = False
            raise
        finally:
            arrival.end()
            waiting.close()
            if is_over:
                self._discard(request)

    def close(self) -> None:
        """Nothing is open between two requests."""

    def _send(self, kind: str, body: bytes) -> Name:
        """Put a request into the folder, and take away those before it, which nobody waits for."""
        if not self._has_looked:
            self._open.update(self._requests.names(self._session))
            self._used = next_number([*self._open, *self._answers.names(self._session)], 0) - 1
            self._has_looked = True
        same = self._same(kind, body)
        if same is not None:
            return same
        number = next_number((), self._used)
        while self._has_answer(number):  # it lies there for later: the answer to nothing that was asked
            number = next_number((), number)
        request = Request(self._session, number, kind, body)
        name = Name(self._session, number, f"{kind}.hex")
        self._requests.write(name, request.body)
        self._used = number
        for old in list(self._open):
            self._discard(old)
        self._open.add(name)
        return name

    def _has_answer(self, number: int, kinds: tuple[str, ...] = (MESSAGE, REFUSAL, PIECE)) -> bool:
        return any(self._answers.has(Name(self._session, number, kind)) for kind in kinds)

    def _same(self, kind: str, body: bytes) -> Name | None:
        """The same request for a piece, where it lies there and nothing but that piece has come for it."""
        name = max(self._open, default=None)
        if kind not in ("update", "piece") or name is None or name.kind != f"{kind}.hex":
            return None
        if self._has_answer(name.number, (MESSAGE, REFUSAL)):
            return None
        with suppress(OSError, ValueError):
            if self._requests.read(name) == body:
                return name
        return None

    def _discard(self, name: Name) -> None:
        self._requests.discard(name)
        self._open.discard(name)


class _Waiting:
    """The wait for one answer.

    Args:
        length: of the piece that is expected, in bytes; None where none is.
    """

    def __init__(self, answers: Folder, request: Name, patience: float, length: int | None) -> None:
        self._answers = answers
        self._request = request
        self._patience = patience
        self._length = length
        self._deadline = time.monotonic() + patience
        self._descriptor: int | None = None
        self._stamp: Stamp | None = None  # of the piece, when it was last looked at
        self._moved = 0.0  # since when that has been so

    def arrival(self) -> Arrival:
        """The answer, as soon as it is there; what is read of it can be read until ``close``."""
        for _ in self._looks():
            for kind in (MESSAGE, REFUSAL):
                body = self._short(Name(self._request.session, self._request.number, kind))
                if body is not None:
                    return Arrival(kind.partition(".")[0], body)
            if self._opens_piece():
                return self._piece()
        raise self._silent()

    def close(self) -> None:
        """Let go of the piece."""
        if self._descriptor is not None:
            durability.done_reading(self._descriptor)
            self._descriptor = None

    def _looks(self) -> Iterator[None]:
        """Again and again, until the deadline."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            yield
            left = self._deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(pause, left))
            pause = min(pause * _PAUSE_GROWS, _LONGEST_PAUSE_SECONDS)

    def _short(self, name: Name) -> bytes | None:
        try:
            return self._answers.read(name)
        except ValueError as error:
            raise Refused("malformed-answer", str(error)) from None
        except OSError as error:
            raise unusable(self._answers.path / str(name), error) from error

    # pieces ---------------------------------------------------------------------------------------

    @property
    def _name(self) -> Name:
        return Name(self._request.session, self._request.number, PIECE)

    def _opens_piece(self) -> bool:
        """Whether the piece is there, and is not shorter than it must be; then it is open."""
        self.close()
        try:
            self._descriptor = self._answers.open(self._name)
            if self._descriptor is None:
                return False
            stamp = stamp_of(os.fstat(self._descriptor))
        except ValueError as error:
            raise Refused("malformed-answer", str(error)) from None
        except OSError as error:
            raise unusable(self._answers.path / str(self._name), error) from error
        if stamp != self._stamp:
            self._stamp, self._moved = stamp, time.monotonic()
            self._deadline = self._moved + self._patience
        if self._length is not None and _size(stamp) < self._length:
            self.close()
            return False
        return True

    def _piece(self) -> Arrival:
        length = 0 if self._stamp is None else _size(self._stamp)
        return Arrival("piece", length=length, read=self._read, renew=self._renews)

    def _renews(self) -> int | None:
        """Wait for the piece to become another than the one that was read; its length, or None where it stays so."""
        read = self._stamp
        for _ in self._looks():
            if self._opens_piece() and self._stamp is not None and self._stamp != read:
                return _size(self._stamp)
            still = time.monotonic() - self._moved
            if self._stamp == read and still >= min(_STILL_SECONDS, self._patience):
                return None
        raise self._silent()

    def _read(self, buffer: memoryview) -> int:
        if self._descriptor is None:
            return 0
        try:
            return os.readv(self._descriptor, [buffer])
        except OSError as error:
            if error.errno == errno.ESTALE:
                return 0  # somebody on another machine has replaced it
            raise unusable(self._answers.path / str(self._name), error) from error

    def _silent(self) -> TooEarly:
        if self._stamp is None or self._length is None:
            return TooEarly(
                "peer-silent",
                f"no answer to {self._request} within {self._patience:g} s",
                hint="does the seller look into the same mailbox? it is safe to try again",
            )
        return TooEarly(
            "peer-silent",
            f"{_size(self._stamp)} of the {self._length} bytes of the piece are in the mailbox, and no more has come "
            f"within {self._patience:g} s",
            hint="whoever carries the mailbox has not finished: the same command again waits for the rest",
        )


def _size(stamp: Stamp) -> int:
    return stamp[1]
