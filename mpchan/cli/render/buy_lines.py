"""What ``mpchan payer buy`` tells people where there is no terminal to draw a bar in: a line for each thing of note."""

from __future__ import annotations

from collections.abc import Callable

from mpchan.market.asking import Step
from mpchan.market.quote import Quote

_TENTHS = 10


def step_line(step: Step) -> str | None:
    """A step in words; None for one that is only progress."""
    texts: dict[str, str | None] = {
        "offer": f"the seller has made out offer {step.text}",
        "opened": f"channel {step.text}: asking for the refund",
        "funded": f"channel {step.text} is funded",
        "confirming": f"waiting for confirmations: {step.text}",
        "wrong-piece": f"piece {step.number} does not match, it is refused; asking again, without another payment",
        "refused": f"not yet: {step.text}" if step.text else None,
        "verifying": f"verifying all {step.number:,} pieces",
        "verified": f"all pieces are right (Merkle root {step.text[:16]}…)",
        "settled": f"settled by {step.text}",
    }
    return texts.get(step.kind)


class News:
    """The lines of steps; one that says the same as the one before is not said again."""

    def __init__(self) -> None:
        self._last: str | None = None

    def line(self, step: Step) -> str | None:
        """What is to be said of a step."""
        line = step_line(step)
        if line is None or line == self._last:
            return None
        self._last = line
        return line


class BuyLines:
    """Steps as lines; every tenth of the pieces has one."""

    def __init__(self, say: Callable[[str], None], found: Quote) -> None:
        self._say = say
        self._news = News()
        self._all = len(found.purchase.wanted)
        self._there = len(found.held)
        self._told = self._there * _TENTHS // self._all

    def step(self, step: Step) -> None:
        """After each step."""
        line = self._news.line(step)
        if line is not None:
            self._say(line)
        if step.kind != "piece":
            return
        self._there += 1
        tenth = self._there * _TENTHS // self._all
        if tenth > self._told:
            self._told = tenth
            self._say(f"{self._there:,} of {self._all:,} pieces are there")
