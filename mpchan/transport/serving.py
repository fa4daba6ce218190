"""Connections on the seller's side: each has a thread of its own, and all share a queue.

A thread reads a request, puts it in the queue, waits for its answer, sends it, and reads on. The seller's main thread
takes requests from the queue, answers them there, and waits for no connection.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from contextlib import suppress
from typing import Union

from mpchan import durability
from mpchan.errors import MpchanError, ParseError
from mpchan.transport import frames
from mpchan.transport.base import (
    Answer,
    Message,
    Piece,
    Refusal,
    Request,
    file_changed,
    refusal,
)
from mpchan.transport.frames import HEADER, REQUEST_KINDS, Stream
from mpchan.units import MAX_MESSAGE_BYTES

_MOST_REMEMBERED = 10_000
"""Sessions that have paid, and are known by that when they come again."""

_READ_BYTES = 1 << 18
_SEND_BYTES = 1 << 16
"""So much of a piece must leave while a peer may stand still."""


class RequestQueue:
    """The requests that wait on the connections of one inbox, and which connection each session has.

    Args:
        wake: set when a request has come, and when an answer has gone.
    """

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._paid: dict[str, None] = {}  # the sessions that have paid, the last one to do so last
        self._talking: dict[str, Conversation] = {}
        self._waiting: dict[str, Request] = {}
        self._sending: set[Conversation] = set()
        self._last_number = 0

    # the conversations' side ----------------------------------------------------------------------

    def enter(self, conversation: Conversation) -> None:
        """Take a conversation in, in the place of an older one of its session."""
        session = conversation.session
        with self._lock:
            older = self._talking.get(session)
            self._talking[session] = conversation
            self._waiting.pop(session, None)
            conversation.paid = session in self._paid
        if older is not None:
            older.end()

    def put(self, conversation: Conversation, kind: str, body: bytes) -> None:
        """Let a request wait for its answer.

        Raises:
            ConnectionError: a newer conversation of this session has come.
        """
        session = conversation.session
        with self._lock:
            if self._talking.get(session) is not conversation:
                raise ConnectionError("the session has another connection")
            self._last_number += 1
            conversation.open_request = self._last_number
            conversation.note(busy=True)
            self._waiting[session] = Request(session, self._last_number, kind, body, conversation.source)
        self._wake.set()

    def sent(self, conversation: Conversation) -> None:
        """The answer has left."""
        with self._lock:
            self._sending.discard(conversation)
            conversation.note(busy=False)
        self._wake.set()

    def leave(self, conversation: Conversation) -> None:
        """The conversation is over, whatever was open."""
        with self._lock:
            if self._talking.get(conversation.session) is conversation:
                del self._talking[conversation.session]
                self._waiting.pop(conversation.session, None)
            self._sending.discard(conversation)
        self._wake.set()

    # the seller's side ----------------------------------------------------------------------------

    def take(self) -> list[Request]:
        """The oldest request of each source; the others when those have been answered.

        So whoever asks on many connections waits for its own requests, and others wait for one of them.
        """
        found: dict[str | None, Request] = {}
        with self._lock:
            for request in self._waiting.values():
                found.setdefault(request.source, request)
            for request in found.values():
                del self._waiting[request.session]
            left = bool(self._waiting)
        if left:
            self._wake.set()
        return list(found.values())

    def answer(self, request: Request, answer: Answer) -> None:
        """Let an answer be sent, if the connection that asked for it still waits."""
        with self._lock:
            conversation = self._talking.get(request.session)
            if conversation is None or conversation.open_request != request.number:
                return
            conversation.open_request = 0
            is_free = isinstance(answer, Piece) and answer.free
            if not is_free:
                self._sending.add(conversation)
            if isinstance(answer, Piece) and not is_free:
                self._note_payment(conversation)
            conversation.answers.put(answer)

    def _note_payment(self, conversation: Conversation) -> None:
        conversation.paid = True
        self._paid.pop(conversation.session, None)
        self._paid[conversation.session] = None
        if len(self._paid) > _MOST_REMEMBERED:
            del self._paid[next(iter(self._paid))]

    def busy(self) -> bool:
        """Whether an answer is still being sent, other than a free piece: nobody waits for who takes that slowly."""
        with self._lock:
            return bool(self._sending)


class Conversation:
    """One buyer's connection.

    Args:
        greeting: seconds that the peer may take for the handshake and its hello together.
        idle: seconds without a request, or without its answer, after which the connection ends.
        stall: seconds that the peer may take for a frame, and for each part of a piece.

    Attributes:
        source, paid, busy, since: as ``Guest`` has them.
        has_to_go: whether somebody has ended it.
        session: empty before the hello.
        open_request: the number of the request that has no answer yet, 0 for none; under the queue's lock.
        answers: what the queue has for it; None for the end.
    """

    def __init__(
        self,
        connection: socket.socket,
        requests: RequestQueue,
        source: str,
        *,
        greeting: float,
        idle: float,
        stall: float,
    ) -> None:
        self._stream = Stream(connection)
        self._queue = requests
        self.source = source
        self.paid = False
        self.has_to_go = False
        self.note(busy=False)
        self._greeting = greeting
        self._idle = idle
        self._stall = stall
        self.session = ""
        self.open_request = 0
        self.answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Talk until one of the two ends it."""
        try:
            with suppress(OSError):
                self._talk()
        finally:
            self._queue.leave(self)  # first: whoever sees the end may rely on it
            self._stream.close()

    def close(self) -> None:
        """End it where it has not begun."""
        self._stream.close()

    def note(self, *, busy: bool) -> None:
        """What it does from now on."""
        self.busy = busy
        self.since = time.monotonic()

    def end(self) -> None:
        """End it from another thread."""
        self.has_to_go = True
        self.answers.put(None)
        self._stream.interrupt()

    def _talk(self) -> None:
        version, self.session = self._greeted()
        if version != frames.VERSION:
            return self._dismiss(
                ParseError("malformed-request", f"this seller speaks version {frames.VERSION}, not {version}")
            )
        self._queue.enter(self)
        while True:
            code, length = self._stream.header(time.monotonic() + self._idle, self._stall)
            kind = REQUEST_KINDS.get(code)
            if kind is None:
                return self._dismiss(ParseError("malformed-request", f"no kind of request: {code:#04x}"))
            if length > MAX_MESSAGE_BYTES:
                return self._dismiss(
                    ParseError("malformed-request", f"{length} bytes are more than {MAX_MESSAGE_BYTES}")
                )
            body = self._stream.body(length, time.monotonic() + self._stall)
            self._queue.put(self, kind, body)
            if not self._answered():
                return None

    def _greeted(self) -> tuple[int, str]:
        """The version and the session that the buyer begins with; the handshake comes before it, unseen."""
        deadline = time.monotonic() + self._greeting
        code, length = HEADER.unpack(self._stream.body(HEADER.size, deadline))
        if code != frames.HELLO or length > frames.MAX_HELLO_BYTES:
            raise ConnectionError("no hello")
        return frames.read_hello(self._stream.body(length, deadline))

    def _dismiss(self, error: MpchanError) -> None:
        self._stream.dismiss(frames.frame(frames.REFUSAL, refusal(error).body))

    # answers --------------------------------------------------------------------------------------

    def _answered(self) -> bool:
        """Send the answer when it has come; False where it is time to end."""
        try:
            answer = self.answers.get(timeout=self._idle)
        except queue.Empty:
            return False
        if answer is None:
            return False
        if isinstance(answer, Piece):
            self._send_piece(answer)
        else:
            self._send(answer)
        self._queue.sent(self)
        return True

    def _send(self, answer: Union[Message, Refusal]) -> None:
        code = frames.MESSAGE if isinstance(answer, Message) else frames.REFUSAL
        self._stream.send(frames.frame(code, answer.body), time.monotonic() + self._stall)

    def _send_piece(self, piece: Piece) -> None:
        """A piece, or why it cannot be had. One that breaks off in the middle ends the connection."""
        try:
            source = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return self._send(refusal(file_changed(piece, error)))
        try:
            if os.fstat(source).st_size < piece.offset + piece.length:
                return self._send(refusal(file_changed(piece)))
            offset, end = piece.offset, piece.offset + piece.length
            head = HEADER.pack(frames.PIECE, piece.length)
            while offset < end:
                data = os.pread(source, min(_READ_BYTES, end - offset), offset)
                if not data:
                    raise ConnectionError("the file has become too short")
                self._push(memoryview(head + data))
                head, offset = b"", offset + len(data)
        finally:
            durability.done_reading(source)
        return None

    def _push(self, data: memoryview) -> None:
        for start in range(0, len(data), _SEND_BYTES):
            self._stream.send(data[start : start + _SEND_BYTES], time.monotonic() + self._stall)
