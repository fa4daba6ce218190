"""What a fuzz target is, and what every input must leave behind: an answer, or one of the program's own errors."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from random import Random
from types import FrameType

from support.fuzz.mutations import bent_bytes

from mpchan.errors import MpchanError
from mpchan.units import MAX_MESSAGE_BYTES

HANG_SECONDS = 10
"""Of processor time, so that a busy machine is no hang."""

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MAX_WORDS = 1_000

Mutator = Callable[[Random, bytes], bytes]


class Hang(BaseException):
    """An input that keeps the program busy. No handler of the program's own takes it."""


@dataclass(frozen=True)
class Target:
    """One thing that reads bytes from outside.

    Attributes:
        run: reads them, and compares what it makes of them with an oracle. Whatever it raises besides ``refuses`` is
            a finding.
        make_seeds: inputs that are right, or nearly; made when they are first needed.
        mutate: makes another input of one, by its structure.
        refuses: the classes of errors with which it may refuse.
        limit: no longer input reaches it.
    """

    name: str
    run: Callable[[bytes], object]
    make_seeds: Callable[[], list[bytes]]
    mutate: Mutator = bent_bytes
    refuses: tuple[type[MpchanError], ...] = (MpchanError,)
    limit: int = MAX_MESSAGE_BYTES

    @cached_property
    def seeds(self) -> list[bytes]:
        """See ``make_seeds``."""
        return self.make_seeds()

    def check(self, data: bytes) -> MpchanError | None:
        """Give it one input; how it was refused, None where it was taken.

        Raises:
            Exception: a finding.
        """
        try:
            self.run(data[: self.limit])
        except MpchanError as error:
            if type(error) not in self.refuses and not isinstance(error, self.refuses):
                raise
            check_words(error)
            return error
        return None

    def inputs(self, random: Random) -> Iterator[bytes]:
        """Inputs without end: the seeds as they are, then what comes of them."""
        yield from self.seeds
        while True:
            data = random.choice(self.seeds)
            for _ in range(random.choice((1, 1, 1, 2, 3))):
                data = self.mutate(random, data)
            yield data[: self.limit]


def check_words(error: MpchanError) -> None:
    """A refusal is one short line that every terminal can take, under a stable name."""
    assert _SLUG.fullmatch(error.slug), error.slug
    assert 0 < len(error.message) < _MAX_WORDS, (error.slug, len(error.message))
    for text in (error.message, error.hint or ""):
        text.encode()
        assert "Traceback" not in text


@contextmanager
def watched(seconds: int = HANG_SECONDS) -> Iterator[None]:
    """Break off what takes longer.

    Raises:
        Hang: from wherever the program is then.
    """

    def break_off(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, break_off)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
