"""What a buyer asks of a seller, until an answer is good or its patience ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from mpchan.errors import Refused, TooEarly
from mpchan.market.refusal import Refusal, read_refusal
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
        pause: seconds before a refused request is repeated for the first time.
        tell: is told of refusals.

    Attributes:
        patience: seconds in which the seller must answer well.
    """

    def __init__(self, line: Line, tell: Callable[[Step], None], *, patience: float, pause: float) -> None:
        self._line = line
        self._tell = tell
        self._pause = pause
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
        limit, breaks, pause = time.monotonic() + self.patience, 0, self._pause
        while True:
            refusal: Refusal | None = None
            try:
                patience = max(self._pause, limit - time.monotonic())
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
            self._tell(Step("refused", text="" if refusal is None else refusal.error.message))
            time.sleep(min(pause, left))
            pause = min(2 * pause, max(self._pause, LONGEST_PAUSE))
