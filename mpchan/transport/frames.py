"""What is said on a connection, byte by byte. All of it goes through TLS.

Both sides send frames:

    1 byte      kind
    8 bytes     length of the body, big-endian
    …           body

    0x01        hello: the letters "mpchan", the version of the protocol (2 bytes, big-endian; 1), the session (16
                bytes). The buyer begins with it, and may send a request behind it at once. Nothing answers it, except
                a refusal by a seller who speaks no such version.
    0x10-0x15   a request: offer, refund, funding, update, piece, settlement
    0x20        an answer: a message
    0x21        an answer: a refusal
    0x22        an answer: a piece; the only body that may be longer than MAX_MESSAGE_BYTES

Each request gets one answer, and the next request comes behind it. Whoever gets something else ends the connection. A
connection that ends takes the open request with it; the buyer asks again on the next.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

from mpchan import durability
from mpchan.transport.base import KINDS
from mpchan.units import MAX_MESSAGE_BYTES

VERSION = 1

HELLO, MESSAGE, REFUSAL, PIECE = 0x01, 0x20, 0x21, 0x22
REQUEST_CODES = {kind: 0x10 + index for index, kind in enumerate(KINDS)}
REQUEST_KINDS = {code: kind for kind, code in REQUEST_CODES.items()}
ANSWER_KINDS = {MESSAGE: "message", REFUSAL: "refusal", PIECE: "piece"}

HEADER = struct.Struct(">BQ")
_MAGIC = b"mpchan"
_HELLO = struct.Struct(">6sH16s")
MAX_HELLO_BYTES = 64
"""Of any version."""

_PART_BYTES = 1 << 16
_SLACK_SECONDS = 0.02
_LAST_SECONDS, _LAST_BYTES = 2.0, 2 * MAX_MESSAGE_BYTES


def frame(code: int, body: bytes) -> bytes:
    """A whole frame."""
    return HEADER.pack(code, len(body)) + body


def hello(session: str) -> bytes:
    """The frame that a buyer begins with."""
    return frame(HELLO, _HELLO.pack(_MAGIC, VERSION, bytes.fromhex(session)))


def read_hello(body: bytes) -> tuple[int, str]:
    """The version and the session of a hello's body; the session is empty where the version is not ours.

    Raises:
        ConnectionError: this is no hello of any version.
    """
    if len(body) < len(_MAGIC) + 2 or not body.startswith(_MAGIC):
        raise ConnectionError("no hello")
    version = int.from_bytes(body[len(_MAGIC) : len(_MAGIC) + 2], "big")
    if version != VERSION:
        return version, ""
    if len(body) != _HELLO.size:
        raise ConnectionError("a hello of another length")
    return version, body[-16:].hex()


class Stream:
    """A connection that frames are read from and written to, by one thread.

    Every method that waits takes a *deadline* (``time.monotonic()``) and raises OSError: TimeoutError when it has
    passed, ConnectionError at the end of the stream, or whatever the system or TLS says. Nothing can be read or written
    after that.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._seconds = -1.0
        self._closing = threading.Lock()

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            self._limit(deadline)
            view = view[durability.step("emit", self._socket.send, view) :]

    def header(self, deadline: float, seconds: float) -> tuple[int, int]:
        """The kind and the length of the next frame.

        Args:
            deadline: for its first byte.
            seconds: for the rest, from then on.
        """
        data = bytearray(HEADER.size)
        view = memoryview(data)
        first = self.receive_into(view, deadline)
        self._fill(view[first:], time.monotonic() + seconds)
        code, length = HEADER.unpack(data)
        return code, length

    def body(self, length: int, deadline: float) -> bytes:
        """So many bytes, which the caller has found few enough. Memory is taken for what has come."""
        data = bytearray()
        while len(data) < length:
            part = bytearray(min(_PART_BYTES, length - len(data)))
            count = self.receive_into(memoryview(part), deadline)
            data += part[:count]
        return bytes(data)

    def receive_into(self, view: memoryview, deadline: float) -> int:
        """Put what comes next into a buffer; how many bytes, at least one."""
        self._limit(deadline)
        count = self._socket.recv_into(view)
        if not count:
            raise ConnectionError("the connection was closed")
        return count

    def _limit(self, deadline: float) -> None:
        """Let the next operation take until then, or hardly longer: each change is a call of the system."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no progress in time")
        if not left <= self._seconds <= left + _SLACK_SECONDS:
            self._socket.settimeout(left)
            self._seconds = left

    def _fill(self, view: memoryview, deadline: float) -> None:
        while view:
            view = view[self.receive_into(view, deadline) :]

    def dismiss(self, data: bytes) -> None:
        """Send something last, and read on a little: what is not read would take with it what was sent."""
        deadline = time.monotonic() + _LAST_SECONDS
        with suppress(OSError):
            self.send(data, deadline)
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            waste = memoryview(bytearray(_PART_BYTES))
            left = _LAST_BYTES
            while left > 0:
                left -= self.receive_into(waste, deadline)

    def interrupt(self) -> None:
        """End the connection from another thread: whoever waits for it gets an OSError, and closes it."""
        with self._closing, suppress(OSError):
            # not by the method of the TLS socket, which would let the other thread read on without TLS
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with self._closing:  # its number may be another file's afterwards
            self._socket.close()
