"""Named rules: each says what it expected and what it found, and what breaking it means.

A check is a generator of rules that ends with the value that it has established. Enforcing it
raises at the first broken rule; explaining it lists them all up to there. So there is one list
of rules, whoever asks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar

from mpchan.errors import MpchanError, Refused
from mpchan.values import frozen

T = TypeVar("T")


@frozen
class Rule:
    """One rule, applied.

    Attributes:
        slug: its stable name.
        ok: whether it holds.
        text: the rule in words, lower case, no period.
        expected, found: the values; formatted only when shown.
        error: what a broken rule raises; the class carries the exit code.
        hint: what to do about it, or None.
    """

    slug: str
    ok: bool
    text: str
    expected: object = ""
    found: object = ""
    error: type[MpchanError] = Refused
    hint: str | None = None

    @property
    def shown(self) -> tuple[str, str]:
        """Expected and found as text; cut: the other party chose what was found, and could fill the screen with it."""
        return f"{self.expected!s:.200}", f"{self.found!s:.200}"

    def failure(self) -> MpchanError:
        """The error that the broken rule raises."""
        expected, found = self.shown
        detail = f": expected {expected}, found {found}" if expected else f": {found}" if found else ""
        return self.error(self.slug, f"{self.text}{detail}", hint=self.hint)


BROKEN = "a broken rule ends the check"
"""What follows a rule that does not hold is never reached."""

Check = Generator[Rule, None, T]
"""A generator of rules that returns what they establish."""


def enforce(check: Check[T]) -> T:
    """Run a check to its end and return its value."""
    try:
        while True:
            rule = next(check)
            if not rule.ok:
                raise rule.failure()
    except StopIteration as end:
        value: T = end.value
        return value


def explain(check: Check[T]) -> Iterator[Rule]:
    """Run a check for people: the rules in order, up to and with the first that is broken."""
    for rule in check:
        yield rule
        if not rule.ok:
            return
