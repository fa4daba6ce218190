"""``--stream``: one request on each line of standard input, one answer on each line of standard output.

Whatever lines have arrived are one batch: it is made durable by one fsync, then its answers are written, then the next
lines are read. While nobody reads the answers nothing is read either, so a slow side holds the other one up. The first
Ctrl-C lets a batch that has begun come to its end, answers included; a second one does not wait.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Generic, TypeVar, Union

from mpchan.cli.app import App
from mpchan.cli.files import print_error, print_output, silence
from mpchan.durability import done_reading
from mpchan.errors import MpchanError, ParseError, StorageError, system_reason
from mpchan.results.base import Result
from mpchan.results.failures import RefusedLine
from mpchan.units import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from mpchan.results.payments import Accepted, Superseded

_PIPE_BYTES = 1 << 20
"""What a pipe holds where the system lets us choose, so that the other side need not wait for each fsync of ours."""

Line = Union[bytes, MpchanError]
"""A line without its end, or why it cannot be used."""


class Interruptions:
    """SIGINT while a batch is at work waits for its end; while nothing is, or the second time, it ends the command.

    Attributes:
        woken: descriptors that become readable when a signal comes: one that comes just before the process falls asleep
            would not wake it.
    """

    def __init__(self) -> None:
        self._waiting = self._noted = False
        self.woken: list[int] = []

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler.

        Raises:
            KeyboardInterrupt: nothing is at work, or this is the second time.
        """
        if self._waiting or self._noted:
            raise KeyboardInterrupt
        self._noted = True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Nothing is at work here.

        Raises:
            KeyboardInterrupt: it came before.
        """
        self._waiting = True
        try:
            if self._noted:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False


@contextmanager
def interruptions() -> Iterator[Interruptions]:
    """Take SIGINT over; a background job that ignores it goes on to do so."""
    noted = Interruptions()
    before = signal.getsignal(signal.SIGINT)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    before_waker = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    noted.woken.append(woken)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, noted.note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
        signal.set_wakeup_fd(before_waker)
        noted.woken.clear()
        done_reading(woken)
        done_reading(waker)


class Lines:
    """The lines of standard input, as they arrive. An empty line is none.

    Args:
        whole: a last line without its line feed may have been cut off, and is refused.
        interruptions: may end the waiting.
    """

    def __init__(self, interruptions: Interruptions, *, whole: bool) -> None:
        if sys.stdin is None:
            raise ParseError("unreadable-file", "standard input is closed")
        self._descriptor = sys.stdin.fileno()
        self._interruptions = interruptions
        self._whole = whole
        self._rest = b""
        self._skips = False  # the rest of a line that is too long
        self._ended = False
        self._number = 0
        self._queue: deque[tuple[int, Line]] = deque()
        widen(self._descriptor)

    def some(self, most: int) -> list[tuple[int, Line]]:
        """The lines that are there, each with its number from 1; waits for the first. None at the end.

        Raises:
            KeyboardInterrupt: it came while the last batch was at work.
            ParseError: ``unreadable-file``.
        """
        with self._interruptions.waiting():
            pass
        while not self._ended and len(self._queue) < most:
            if self._queue and not select.select([self._descriptor], [], [], 0)[0]:
                break
            self._read()
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def _read(self) -> None:
        try:
            with self._interruptions.waiting():
                while (
                    self._descriptor
                    not in select.select([self._descriptor, *self._interruptions.woken], [], [])[0]
                ):
                    pass  # a signal has come; if it ends the command, its handler does so here
                data = os.read(self._descriptor, _PIPE_BYTES)
        except OSError as error:
            reason = system_reason(error)
            raise ParseError("unreadable-file", f"standard input: {reason}") from None
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > MAX_TEXT_BYTES:
            if not self._skips:
                self._refuse_long()
            self._skips, self._rest = True, b""
        if not data:
            self._ended = True
            self._take_unfinished()

    def _take(self, line: bytes) -> None:
        if self._skips:
            self._skips = False
            return
        if len(line) > MAX_TEXT_BYTES:
            self._refuse_long()
            return
        self._number += 1
        if line.strip():
            self._queue.append((self._number, line))

    def _refuse_long(self) -> None:
        self._number += 1
        self._queue.append(
            (self._number, ParseError("too-large", f"line has more than {MAX_TEXT_BYTES} bytes"))
        )

    def _take_unfinished(self) -> None:
        rest, self._rest = self._rest, b""
        if self._skips or not rest.strip():
            return
        self._number += 1
        error = ParseError(
            "unfinished-line",
            f"the last line has no line feed, so it may have been cut off: {rest[:80].decode('ascii', 'replace')!r}",
        )
        self._queue.append((self._number, error if self._whole else rest))


def widen(descriptor: int) -> None:
    """Let a pipe hold more, where it is one and the system can do that."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            return


A = TypeVar("A", bound=Result)
"""What was done for one line."""


class Answers(Generic[A]):
    """Writes a batch's answers, and remembers what was refused.

    Args:
        show: an answer for people, or None where a line of standard output is for messages alone.
        again: how to get at what was done where it could not be written.
    """

    def __init__(self, app: App, show: Callable[[A], str | None], again: str, *, marks: bool) -> None:
        self._app = app
        self._show = show
        self._again = again
        self._marks = marks
        self.exit_code = 0

    def write(self, numbers: Sequence[int], answers: Sequence[A | MpchanError]) -> None:
        """One line for each."""
        lines = []
        for number, answer in zip(numbers, answers, strict=False):
            if isinstance(answer, MpchanError):
                self.exit_code = max(self.exit_code, answer.exit_code)
                line = self._refused(number, answer)
            else:
                line = answer.to_json() if self._app.json else self._show(answer)
            if line is not None:
                lines.append(line)
        if lines:
            try:
                print_output("\n".join(lines), self._again)
            except KeyboardInterrupt:
                silence(sys.stdout)  # or what is left would be waited for at the end
                raise

    def _refused(self, number: int, error: MpchanError) -> str | None:
        if self._app.json:
            return RefusedLine(number, error.slug, error.message, error.hint, error.exit_code).to_json()
        print_error(f"mpchan: error: line {number}: {error.message}")
        if error.hint:
            print_error(f"mpchan: hint: {error.hint}")
        return f"line {number} refused: {error.slug}" if self._marks else None


def run(
    lines: Lines,
    answers: Answers[A],
    batch: Callable[[Sequence[Line]], Sequence[A | MpchanError]],
    most: int,
    *,
    stop: bool,
) -> int:
    """Read, do and answer until the input ends, or at the first refused line.

    Args:
        batch: does what the lines ask for; durable on return. Fewer answers may come back, up to a refusal.
        most: lines in one batch.

    Returns:
        The exit code: 0, or the highest of all refused lines.
    """
    gc.freeze()
    gc.enable()  # this command may run for days
    while some := lines.some(most):
        answers.write([number for number, _ in some], batch([line for _, line in some]))
        if stop and answers.exit_code:
            break
    return answers.exit_code


# the two commands ---------------------------------------------------------------------------------

KEPT = "what was answered before is kept, and so may be some more: `mpchan payer pay --last` writes the latest again"


def pay(app: App, channel: str | None, *, totals: bool, stop: bool) -> int:
    """``payer pay --stream``."""
    from mpchan.party.meter.base import AT_ONCE
    from mpchan.party.meter.payer import Payer, Request
    from mpchan.results.payments import Payment
    from mpchan.units import Amount

    def read(line: Line) -> Request:
        if isinstance(line, MpchanError):
            return line
        if line.isdigit() and len(line) < 16:
            return int(line)
        try:
            return Amount.parse(line.strip().decode("utf-8", "replace"))
        except MpchanError as error:
            return error

    def batch(lines: Sequence[Line]) -> list[Payment | MpchanError]:
        try:
            return meter.pay_many([read(line) for line in lines], totals=totals, stop=stop)
        except StorageError as error:
            raise StorageError(error.slug, error.message, hint=error.hint or KEPT) from error

    wallet = app.wallet(signs=True)
    with interruptions() as noted, Payer(wallet, channel, chain=app.chain(wallet)) as meter:
        answers: Answers[Payment] = Answers(app, lambda payment: payment.hex, KEPT, marks=False)
        return run(Lines(noted, whole=True), answers, batch, AT_ONCE, stop=stop)


def accept(
    app: App, show: Callable[[Accepted | Superseded], str], *, skip_superseded: bool, stop: bool
) -> int:
    """``payee accept --stream``."""
    from mpchan.party.meter.base import AT_ONCE
    from mpchan.party.meter.payee import QUEUED, Payee

    def batch(lines: Sequence[Line]) -> list[Accepted | Superseded | MpchanError]:
        messages = [line if isinstance(line, MpchanError) else line.rstrip(b"\r") for line in lines]
        done = meter.accept_many(messages, skip_superseded=skip_superseded, stop=stop)
        app.warn(meter.warnings())
        return done

    def words(answer: Accepted | Superseded) -> str | None:
        return None if app.quiet else show(answer)

    wallet = app.wallet(signs=True)
    with interruptions() as noted, Payee(wallet, chain=app.chain(wallet)) as meter:
        answers: Answers[Accepted | Superseded] = Answers(app, words, AGAIN, marks=not app.quiet)
        most = QUEUED if skip_superseded else AT_ONCE
        return run(Lines(noted, whole=False), answers, batch, most, stop=stop)


AGAIN = "what was accepted is kept: the same messages again are duplicates"
