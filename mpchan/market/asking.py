"""What a buyer asks of a seller, until an answer is good or its patience ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from mpchan.errors import Refused, SellerRefused, TooEarly
from mpchan.transport.base import Arrival, Line
from mpchan.values import frozen

LONGEST_PAUSE = 30.0
"""Seconds before a request is repeated; the seller, or its chain, may need some time."""

MOST_BREAKS = 10
"""So often a line may break in the middle of one piece before that counts as no answer."""


@frozen
class Step:
    """What a buyer has just come to.

    Attributes:
        kind: ``offer``, ``opened``, ``funded``, ``confirming``, ``paid``, ``bytes``, ``piece``, ``wrong-piece``,
            ``refused``, ``verifying``, ``verified`` or ``settled``.
        number: of a piece; of bytes that have come.
        text: more about it, for people.
    """

    kind: str
    number: int = 0
    text: str = ""


class Asking:
    """A line to a seller, and the patience with which it is asked.

    Args:
        tell: is told of every step, refusals among them.

    Attributes:
        patience: seconds in which the seller must answer well.
        pause: seconds before a refused request is repeated for the first time.
    """

    def __init__(self, line: Line, tell: Callable[[Step], None], *, patience: float, pause: float) -> None:
        self._line = line
        self.tell = tell
        self.pause = pause
        self.patience = patience

    def message(self, kind: str, body: bytes) -> bytes:
        """The seller's message; a refusal that may pass is waited for, as long as the patience lasts."""
        answers: list[bytes] = []

        def take(arrival: Arrival) -> bool:
            if arrival.kind != "message":
                raise Refused("malformed-answer", f"the seller answers {kind} with a {arrival.kind}")
            answers.append(arrival.body)
            return True

        self.until_good(kind, body, take)
        return answers[0]

    def until_good(
        self, kind: str, body: bytes, take: Callable[[Arrival], bool], length: int | None = None
    ) -> bool:
        """Ask until an answer is taken; False where all that came until the patience was over was no good.

        Args:
            length: of the piece that is expected, in bytes; None where none is.

        Raises:
            TooEarly: ``peer-silent``.
            NotPossible: ``seller-refused``.
        """
        limit, breaks, pause = time.monotonic() + self.patience, 0, self.pause
        while True:
            refusal: Refusal | None = None
            try:
                patience = max(self.pause, limit - time.monotonic())
                with self._line.ask(kind, body, patience, length) as arrival:
                    if arrival.kind == "refusal":
                        refusal = read_refusal(arrival.body)
                    elif take(arrival):
                        return True
                    while refusal is None and arrival.renewed():
                        if take(arrival):
                            return True
            except (
                TooEarly
            ):  # nothing came, or a piece broke off: then the seller is there, and has some time more
                breaks += 1
                if time.monotonic() >= limit or breaks > MOST_BREAKS:
                    raise
                limit = time.monotonic() + self.patience
                continue
            left = limit - time.monotonic()
            if refusal is not None and (left <= 0 or not refusal.passes):
                raise refusal.error
            if left <= 0:
                return False
            self.tell(Step("refused", text="" if refusal is None else refusal.error.message))
            time.sleep(min(pause, left))
            pause = min(2 * pause, max(self.pause, LONGEST_PAUSE))


# what a seller says instead of an answer ----------------------------------------------------------


_PASSING = (6, 7, 8)
"""Exit codes of refusals that may pass by themselves: too early, a lock that is held, a chain out of reach."""


ANOTHER_OFFER = (
    "offer-expired",
    "offer-used",
    "offer-version",
    "offer-void",
    "unknown-offer",
    "unknown-session",
)
"""Why a seller signs no refund under an offer that it made out, where it would under another."""


NEWER_OFFER = ("offer-expired", "offer-version", "offer-void", "other-sale")
"""Why a seller makes out no offer under the published one that a buyer has, where it would under its present one."""

_MENDABLE = ("file-changed",)
"""Why a seller cannot deliver now, where it may be put right: the file is not the one that was put on sale."""


@frozen
class Refusal:
    """A refusal as the buyer takes it.

    Attributes:
        passes: whether the same request may get another answer later, by itself or because the seller puts it right.
    """

    error: SellerRefused
    passes: bool


def read_refusal(body: bytes) -> Refusal:
    """What the seller says; its words are cut and made harmless, since it could do anything to a terminal with them."""
    try:
        table: Any = json.loads(body)
        slug, message, code = table["error"], table["message"], table["exit_code"]
        said, reason = f"({slug!s:.40}): {message!s:.200}", str(slug)
    except (ValueError, TypeError, KeyError, RecursionError):
        said, reason, code = "(unreadable): no reason that can be read", "", 0
    shown = "".join(mark if mark.isprintable() else "?" for mark in said)
    error = SellerRefused("seller-refused", f"the seller refuses {shown}", reason=reason)
    return Refusal(error, passes=code in _PASSING or reason in _MENDABLE)
