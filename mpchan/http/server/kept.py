"""Answers that are kept for a while, so that a request that comes again gets the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from mpchan.values import frozen

MOST_BYTES_EACH = 65_536
MOST_BYTES = 16 * 1024 * 1024
"""Of one answer's body, and of all together."""

_OF_HEADERS = 1_024

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case and values, as ASGI has them."""


@frozen
class Kept:
    """An answer, whole.

    Attributes:
        headers: as the application gave them.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.body) + _OF_HEADERS


class KeptAnswers:
    """The latest answers, by channel and key; in memory alone."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._size = 0

    def keep(self, channel: str, key: str, answer: Kept) -> None:
        """Keep an answer; the oldest ones go for it."""
        if len(answer.body) > MOST_BYTES_EACH:
            return
        before = self._kept.pop((channel, key), None)
        self._size += answer.size - (0 if before is None else before.size)
        self._kept[channel, key] = answer
        while self._size > MOST_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.size

    def find(self, channel: str, key: str) -> Kept | None:
        """The answer to a request, if it is still there."""
        return self._kept.get((channel, key))
