"""The two ends of a way between a buyer and a seller, and what passes between them.

The buyer asks one thing at a time: a numbered request of one *session*, which gets one answer. Whatever is lost on the
way is asked for again, so requests must be such that the same one again gets the same answer.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Union

from mpchan.errors import MpchanError, NotPossible
from mpchan.units import MAX_MESSAGE_BYTES
from mpchan.values import frozen

KINDS = ("offer", "refund", "funding", "update", "piece", "settlement")

CHUNK_BYTES = 1 << 20
_SESSION_BYTES = 16
_SESSION = re.compile(rf"[0-9a-f]{{{2 * _SESSION_BYTES}}}")


def new_session() -> str:
    """A name that nobody else has: 128 random bits as 32 lower-case hex digits."""
    return secrets.token_hex(_SESSION_BYTES)


@frozen
class Request:
    """What a buyer asks.

    Attributes:
        session: 32 lower-case hex digits.
        number: from 1 on; it tells the requests of a session apart, and means nothing beyond that.
        kind: one of ``KINDS``.
        source: where it came from, as ``source_of`` has it; None where there is none: in a mailbox, and at the buyer.

    Raises:
        ValueError: for anything else: such a request is never read, and never sent.
    """

    session: str
    number: int
    kind: str
    body: bytes
    source: str | None = None

    def __post_init__(self) -> None:
        if _SESSION.fullmatch(self.session) is None:
            raise ValueError(f"not a session: {self.session!r:.80}")
        if self.kind not in KINDS:
            raise ValueError(f"no kind of request: {self.kind!r:.80}")
        if self.number < 1:
            raise ValueError(f"not the number of a request: {self.number}")
        _check_size(self.body)


@frozen
class Message:
    """An answer in a few bytes."""

    body: bytes

    def __post_init__(self) -> None:
        _check_size(self.body)


@frozen
class Refusal:
    """Why there is no answer: JSON, as ``refusal`` makes it."""

    body: bytes

    def __post_init__(self) -> None:
        _check_size(self.body)


@frozen
class Piece:
    """An answer that is a part of one of the seller's files.

    Attributes:
        offset, length: in bytes; ``length`` is at least 1.
        free: whether nobody has paid for it. Then it may have to make room for others.
    """

    path: Path
    offset: int
    length: int
    free: bool = False

    def __post_init__(self) -> None:
        if self.offset < 0 or self.length < 1:
            raise ValueError(f"no part of a file: {self.length} bytes from byte {self.offset} on")


Answer = Union[Message, Refusal, Piece]


def refusal(error: MpchanError) -> Refusal:
    """An error as the answer to a request: UTF-8 JSON with its slug, words and exit code."""
    told = {
        "error": error.slug,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
    return Refusal(json.dumps(told, ensure_ascii=False).encode(errors="replace"))


def file_changed(piece: Piece, error: OSError | None = None) -> NotPossible:
    """The seller's file is not what it was when it was offered. The buyer need not learn where it lies."""
    what = "has become too short" if error is None else f"cannot be read: {(error.strerror or '').lower()}"
    end = piece.offset + piece.length
    return NotPossible("file-changed", f"the seller's file {what}; bytes {piece.offset} to {end} are missing")


def _check_size(body: bytes) -> None:
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(body)} bytes are more than the {MAX_MESSAGE_BYTES} of a message")


class Arrival:
    """An answer as the buyer sees it, for as long as its ``with`` block lasts.

    Attributes:
        kind: ``message``, ``refusal`` or ``piece``.
        body: of a message or refusal; empty for a piece.
        length: of a piece in bytes, as the seller announces it, which may be anything; 0 for what is no piece.

    Args:
        read: puts the next bytes of the piece into a buffer and says how many; 0 at the end.
        renew: waits until what was read may be another, and says its length; None where it stays as it is.
    """

    __slots__ = ("_left", "_read", "_renew", "body", "kind", "length")

    def __init__(
        self,
        kind: str,
        body: bytes = b"",
        *,
        length: int = 0,
        read: Callable[[memoryview], int] | None = None,
        renew: Callable[[], int | None] | None = None,
    ) -> None:
        self.kind = kind
        self.body = body
        self.length = length
        self._left = length
        self._read = read
        self._renew = renew

    def renewed(self) -> bool:
        """Wait for another piece in this one's place, which ``chunks`` reads then; whether there is one.

        A piece that came through a mailbox may have been read before it was whole.

        Raises:
            TooEarly: ``peer-silent``: it has begun to change, and is not whole.
            StorageError: ``mailbox-unusable``.
        """
        length = None if self._renew is None else self._renew()
        if length is None:
            return False
        self.length = self._left = length
        return True

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[memoryview]:
        """The data of a piece in their order, once; together at most ``length`` bytes, and fewer where there are fewer.

        Each chunk stands in the memory of the one before the last, which is gone then: one can be worked on while the
        next one comes.

        Args:
            size: of a chunk in bytes; the last one may be shorter.

        Raises:
            TooEarly: ``peer-silent``: they stopped coming.
            StorageError: ``mailbox-unusable``.
        """
        buffer, other = (memoryview(bytearray(min(size, self._left))) for _ in range(2))
        while self._left:
            chunk = self._fill(buffer[: min(len(buffer), self._left)])
            if not chunk:
                return
            yield chunk
            buffer, other = other, buffer

    def _fill(self, buffer: memoryview) -> memoryview:
        """The beginning of the buffer, as far as there is something to put there."""
        filled = 0
        while filled < len(buffer):
            if self._read is None:
                raise ValueError("this answer is not at hand any more")
            count = self._read(buffer[filled:])
            if not count:
                break
            filled += count
            self._left -= count
        return buffer[:filled]

    @property
    def is_taken(self) -> bool:
        """Whether nothing of it is left to be read."""
        return not self._left

    def end(self) -> None:
        """From here on there is nothing to be read."""
        self._read = self._renew = None


class Line(Protocol):
    """The buyer's end. It serves one session and one thread."""

    def ask(
        self, kind: str, body: bytes, patience: float, length: int | None = None
    ) -> AbstractContextManager[Arrival]:
        """Send a request and wait for its answer, which can be read until the block ends.

        Args:
            kind: one of ``KINDS``.
            patience: seconds to wait for the answer, or for more of a piece.
            length: of the piece that is expected, in bytes. One that is shorter may still be on its way.

        Raises:
            TooEarly: ``peer-silent``: no answer came.
            Refused: ``malformed-answer``: what came is no answer of this protocol; ``certificate-differs``: somebody
                else answers there.
            StorageError: ``mailbox-unusable``.
            NotPossible: ``session-used-up``.
        """

    def close(self) -> None:
        """Let go of what is open. The next request opens it again."""


class Inbox(Protocol):
    """The seller's end. One thread calls its methods.

    What is made of it takes a ``wake``, an event that is set where a request may have come.
    """

    def waiting(self) -> list[Request]:
        """The requests that have come since the last call, one of a session at most; returns at once.

        What a buyer does wrong is answered here with a refusal (``malformed-request``), or is not seen.

        Raises:
            StorageError: ``mailbox-unusable``.
        """

    def answer(self, request: Request, answer: Answer) -> None:
        """Hand over the answer to a request; returns before a piece has gone.

        A buyer who has gone, or has asked something else meanwhile, does not get it. A piece whose file has become too
        short turns into a refusal (``file-changed``).

        Raises:
            StorageError: ``mailbox-unusable``.
        """

    def forget(self, session: str) -> None:
        """The session has ended: nothing of it need be kept, once its last message has been taken."""

    def busy(self) -> bool:
        """Whether something is still being copied or sent that is no free piece."""

    def close(self) -> None:
        """Break off what is being copied or sent, and let go of everything."""
