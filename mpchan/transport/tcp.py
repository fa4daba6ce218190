"""A connection between a buyer and a seller, with TLS.

What is said on it is described in ``frames``, and how the buyer knows the seller in ``tls``.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mpchan.errors import NotPossible, Refused, TooEarly, UsageError
from mpchan.http.certificates import Certificate, server_context
from mpchan.transport import frames
from mpchan.transport.base import Answer, Arrival, Request
from mpchan.transport.frames import ANSWER_KINDS, REQUEST_CODES, Stream
from mpchan.transport.places import place_for, source_of
from mpchan.transport.serving import Conversation, RequestQueue
from mpchan.transport.tls import dial, seller_side
from mpchan.units import MAX_MESSAGE_BYTES

MOST_CONNECTIONS = 200
IDLE_SECONDS = 300.0
STALL_SECONDS = 30.0
GREETING_SECONDS = 15.0

_LEAVING = 16
"""So many connections may be on their way out beside those that have a place."""

_BACKLOG = 128
_BREATH_SECONDS = 0.1
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0

_ADDRESS = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})", re.ASCII)


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT`` or ``[IPV6]:PORT``; the host comes without its brackets.

    Raises:
        UsageError: ``usage``.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise UsageError(
            "usage", f"not an address: {text!r:.80}", hint="write HOST:PORT, or [ADDRESS]:PORT for IPv6"
        )
    return match[1].strip("[]"), int(match[2])


def shown_address(address: tuple[str, int]) -> str:
    """The reverse of ``parse_address``."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class TcpInbox:
    """The seller's end: ``Inbox``.

    Args:
        address: where to listen; port 0 takes any that is free.
        wake: set when a request has come, and when an answer has gone.
        most: so many connections there are at the same time, those included that have said nothing yet. Half of them
            at most come from one source; ``place_for`` says who leaves for a newcomer.
        greeting: seconds that a buyer may take for the handshake and its hello together.
        idle: seconds without a request, or without its answer, after which a connection ends.
        stall: seconds that a buyer may take for a frame, and for each part of a piece.

    Attributes:
        address: where it listens.

    Raises:
        NotPossible: ``cannot-listen``.
    """

    def __init__(
        self,
        address: tuple[str, int],
        certificate: Certificate,
        wake: threading.Event,
        *,
        most: int = MOST_CONNECTIONS,
        greeting: float = GREETING_SECONDS,
        idle: float = IDLE_SECONDS,
        stall: float = STALL_SECONDS,
    ) -> None:
        self._context = server_context(certificate)
        self._most, self._greeting, self._idle, self._stall = most, greeting, idle, stall
        self._queue = RequestQueue(wake)
        self._lock = threading.Lock()
        self._threads: dict[Conversation, threading.Thread] = {}
        self._listener = _listening(address)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._stopped, self._stop = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="tcp-accept", daemon=True)
        self._acceptor.start()

    def waiting(self) -> list[Request]:
        """The requests that have come, as ``Inbox`` says."""
        return self._queue.take()

    def answer(self, request: Request, answer: Answer) -> None:
        """Let the answer be sent by the thread of its connection, as ``Inbox`` says."""
        self._queue.answer(request, answer)

    def forget(self, session: str) -> None:
        """Nothing is kept here, and the buyer ends the connection."""

    def busy(self) -> bool:
        """Whether an answer is still being sent, other than a free piece."""
        return self._queue.busy()

    def close(self) -> None:
        """Listen no longer, and end all connections."""
        self._stop.close()
        self._acceptor.join()
        self._stopped.close()
        self._listener.close()
        with self._lock:
            talking = list(self._threads.items())
        for conversation, _ in talking:
            conversation.end()
        for _, thread in talking:
            thread.join()

    # connections ----------------------------------------------------------------------------------

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (self._listener, self._stopped):
                selector.register(each, selectors.EVENT_READ)
            while not any(key.fileobj is self._stopped for key, _ in selector.select()):
                try:
                    plain, peer = self._listener.accept()
                except (BlockingIOError, ConnectionError):
                    continue  # it has gone again
                except OSError:
                    time.sleep(_BREATH_SECONDS)  # too many files are open
                    continue
                self._take(plain, source_of(peer[0]))

    def _take(self, plain: socket.socket, source: str) -> None:
        if not self._makes_room(source):
            plain.close()
            return
        try:
            plain.settimeout(self._stall)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = seller_side(plain, self._context)
        except OSError:  # it has gone again
            plain.close()
            return
        conversation = Conversation(
            connection, self._queue, source, greeting=self._greeting, idle=self._idle, stall=self._stall
        )
        thread = threading.Thread(target=self._run, args=(conversation,), name="tcp", daemon=True)
        with self._lock:
            self._threads[conversation] = thread
        try:
            thread.start()
        except RuntimeError:  # the system gives no more
            conversation.close()
            with self._lock:
                del self._threads[conversation]

    def _makes_room(self, source: str) -> bool:
        """Whether there is a place for a newcomer; whoever has to leave for it has been told so."""
        with self._lock:
            guests = [guest for guest in self._threads if not guest.has_to_go]
            admitted, leaving = place_for(source, guests, self._most)
            if not admitted or len(self._threads) >= self._most + _LEAVING:
                return False
            if leaving is None:
                return True
            thread = self._threads[leaving]
        leaving.end()
        thread.join(_BREATH_SECONDS)
        return True

    def _run(self, conversation: Conversation) -> None:
        try:
            conversation.run()
        finally:
            with self._lock:
                del self._threads[conversation]


def _listening(address: tuple[str, int]) -> socket.socket:
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            (str(where[0]), port), family=family, backlog=_BACKLOG, dualstack_ipv6=both
        )
    except (OSError, UnicodeError) as error:
        raise NotPossible(
            "cannot-listen", f"cannot listen at {shown_address(address)}: {words(error)}"
        ) from None
    listener.setblocking(False)
    return listener


class TcpLine:
    """The buyer's end: ``Line``. It connects when something is asked, and again when the connection breaks.

    Args:
        fingerprint: SHA-256 of the seller's certificate, 64 lower-case hex digits.
        session: as ``new_session`` makes it.
    """

    def __init__(self, address: tuple[str, int], fingerprint: str, session: str) -> None:
        self._address = address
        self._fingerprint = fingerprint
        self._session = session
        self._stream: Stream | None = None
        self._number = 0

    @contextmanager
    def ask(self, kind: str, body: bytes, patience: float, length: int | None = None) -> Iterator[Arrival]:
        """Send a request and wait for its answer; as ``Line`` says."""
        self._number += 1
        request = Request(self._session, self._number, kind, body)
        arrival = self._arrival(request, patience)
        try:
            yield arrival
        finally:
            arrival.end()
            if not arrival.is_taken:
                self.close()  # the rest of the piece would be in the way

    def close(self) -> None:
        """End the connection; the next request opens another."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _arrival(self, request: Request, patience: float) -> Arrival:
        """The answer, over as many connections as it takes."""
        deadline = time.monotonic() + patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            fresh = self._stream is None
            try:
                return self._exchange(request, deadline, patience)
            except (OSError, UnicodeError) as error:
                self.close()
                failure = error
            except BaseException:
                self.close()
                raise
            if fresh:
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            if time.monotonic() >= deadline:
                raise self._silent(patience, words(failure)) from failure

    def _exchange(self, request: Request, deadline: float, patience: float) -> Arrival:
        data = frames.frame(REQUEST_CODES[request.kind], request.body)
        if self._stream is None:
            self._stream = Stream(dial(self._address, self._fingerprint, deadline))
            data = frames.hello(self._session) + data
        stream = self._stream
        stream.send(data, deadline)
        code, length = stream.header(deadline, max(0.0, deadline - time.monotonic()))
        kind = ANSWER_KINDS.get(code)
        if kind is None:
            raise self._malformed(f"sends a frame of kind {code:#04x}")
        if code != frames.PIECE:
            if length > MAX_MESSAGE_BYTES:
                raise self._malformed(f"sends a {kind} of {length} bytes")
            return Arrival(kind, stream.body(length, deadline))

        def read(buffer: memoryview) -> int:
            try:
                return stream.receive_into(buffer, time.monotonic() + patience)
            except OSError as error:
                raise self._silent(patience, words(error)) from error

        return Arrival(kind, length=length, read=read)

    def _malformed(self, what: str) -> Refused:
        return Refused("malformed-answer", f"the seller at {shown_address(self._address)} {what}")

    def _silent(self, patience: float, reason: str) -> TooEarly:
        return TooEarly(
            "peer-silent",
            f"the seller at {shown_address(self._address)} does not answer within {patience:g} s: {reason}",
            hint="it is safe to try again",
        )


def words(error: OSError | UnicodeError) -> str:
    """Why the system refused, in the house style."""
    reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
    return reason[:1].lower() + reason[1:]
