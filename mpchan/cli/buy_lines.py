"""What ``mpchan payer buy`` tells people where there is no terminal to draw a bar in: a line for each thing of note."""

from __future__ import annotations

from collections.abc import Callable

from mpchan.market.buyer import Step
from mpchan.market.quote import Quote

_TENTHS = 10


def step_line(step: Step) -> str | None:
    """A step in words; None for one that is only progress."""
    texts = {
        "offer": f"the seller has made out offer {step.text}",
        "opened": f"channel {step.text}: asking for the refund",
        "funded": f"channel {step.text} is funded",
        "confirming": f"waiting for confirmations: {step.text}",
        "wrong-piece": f"piece {step.number} does not match, it is refused; asking again, without another payment",
        "refused": f"not yet: {step.text}" if step.text else "asking again",
        "verifying": f"verifying all {step.number:,} pieces",
        "verified": f"all pieces are right (Merkle root {step.text[:16]}…)",
        "settled": f"settled by {step.text}",
    }
    return texts.get(step.kind)


class BuyLines:
    """Steps as lines; every tenth of the pieces has one.

    Args:
        say: tells people a line.
    """

    def __init__(self, say: Callable[[str], None], found: Quote) -> None:
        self._say = say
        self._all = len(found.purchase.wanted)
        self._there = len(found.held)
        self._told = self._there * _TENTHS // self._all

    def step(self, step: Step) -> None:
        """After each step."""
        line = step_line(step)
        if line is not None:
            self._say(line)
        if step.kind != "piece":
            return
        self._there += 1
        tenth = self._there * _TENTHS // self._all
        if tenth > self._told:
            self._told = tenth
            self._say(f"{self._there:,} of {self._all:,} pieces are there")
