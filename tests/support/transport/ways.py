"""Both ways between a buyer and a seller, made for tests, and a seller who answers what it is told to."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from mpchan.errors import MpchanError
from mpchan.http.certificates import Certificate, own_certificate
from mpchan.transport.base import Answer, Arrival, Inbox, Line, Message, Piece, Request
from mpchan.transport.mailbox import MailboxInbox, MailboxLine
from mpchan.transport.tcp import TcpInbox, TcpLine

PATIENCE = 20.0
SHORT = 0.05
LIMIT_SECONDS = 20.0
SESSION, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2


class Way(Protocol):
    """A way between the two; both ends can be made again and again."""

    def inbox(self) -> Inbox: ...

    def line(self, session: str = SESSION) -> Line: ...


class MailboxWay:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "mailbox"
        self.wake = threading.Event()

    def inbox(self) -> MailboxInbox:
        return MailboxInbox(self.directory, self.wake)

    def line(self, session: str = SESSION) -> MailboxLine:
        return MailboxLine(self.directory, session)


class TcpWay:
    """A port of this machine, which stays the same one."""

    def __init__(self, folder: Path) -> None:
        self.certificate: Certificate = own_certificate(folder / "seller")
        self.address = ("127.0.0.1", 0)
        self.wake = threading.Event()
        self.options: dict[str, Any] = {}
        with closing(self.inbox()):
            pass  # finds a free port

    def inbox(self) -> TcpInbox:
        inbox = TcpInbox(self.address, self.certificate, self.wake, **self.options)
        self.address = inbox.address
        return inbox

    def line(self, session: str = SESSION) -> TcpLine:
        return TcpLine(self.address, self.certificate.fingerprint, session)


WAYS = {"mailbox": MailboxWay, "tcp": TcpWay}

Answering = Callable[[Request], Answer]


def echo(request: Request) -> Answer:
    """The request itself."""
    return Message(request.kind.encode() + b" " + request.body)


class Seller:
    """What a running seller has been asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.failures: list[BaseException] = []


@contextmanager
def selling(inbox: Inbox, answering: Answering = echo) -> Iterator[Seller]:
    """A seller in a thread of its own, and its end; what it stumbles over fails the test."""
    seller, stop = Seller(), threading.Event()

    def serve() -> None:
        try:
            while not stop.is_set():
                for request in inbox.waiting():
                    seller.asked.append(request)
                    inbox.answer(request, answering(request))
                stop.wait(0.001)
        except BaseException as error:  # noqa: BLE001 (told below)
            seller.failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield seller
    finally:
        stop.set()
        thread.join()
        inbox.close()
    assert seller.failures == []


def awaited(look: Callable[[], Any], what: str = "it") -> Any:
    """What ``look`` finds, as soon as it finds something."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not (found := look()):
        assert time.monotonic() < limit, f"{what} does not come"
        time.sleep(0.001)
    return found


def one_request(inbox: Inbox) -> Request:
    """The next request of an inbox."""
    [request] = awaited(inbox.waiting, "a request")
    assert isinstance(request, Request)
    return request


@contextmanager
def asking(
    line: Line, kind: str = "offer", body: bytes = b"body", patience: float = PATIENCE
) -> Iterator[list[tuple[str, bytes]]]:
    """Ask in a thread of its own; the answer, or the slug of an error, stands in the list when the block has ended."""
    found: list[tuple[str, bytes]] = []

    def ask() -> None:
        try:
            found.append(asked(line, kind, body, patience))
        except MpchanError as error:
            found.append((error.slug, b""))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        thread.join()


def asked(
    line: Line, kind: str = "offer", body: bytes = b"body", patience: float = PATIENCE
) -> tuple[str, bytes]:
    """The whole answer, and its kind."""
    with line.ask(kind, body, patience) as arrival:
        return arrival.kind, whole(arrival)


def whole(arrival: Arrival, size: int = 1 << 20) -> bytes:
    """All of an answer."""
    if arrival.kind != "piece":
        return arrival.body
    data = b"".join(bytes(chunk) for chunk in arrival.chunks(size))
    assert len(data) <= arrival.length
    return data


def refused(answer: tuple[str, bytes]) -> tuple[str, int]:
    """The slug and the exit code of a refusal."""
    kind, body = answer
    assert kind == "refusal"
    told = json.loads(body)
    assert list(told) == ["error", "message", "hint", "exit_code"]
    return told["error"], told["exit_code"]


def some_bytes(count: int) -> bytes:
    """The same ones each time, of no pattern."""
    return random.Random(count).randbytes(count)


def piece_of(path: Path, data: bytes, offset: int = 0, length: int | None = None) -> Piece:
    """A file with ``data`` in it, and a part of it."""
    path.write_bytes(data)
    return Piece(path, offset, len(data) - offset if length is None else length)
