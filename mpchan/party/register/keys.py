"""Which requests of a channel were charged, by their keys, as its journal tells it.

The journal holds the account whenever it changes: a request that appears among those in flight has come, one that
disappears has ended, and what was spent in that line is what it has cost. So nothing is kept beside the journal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from mpchan.values import frozen
from mpchan.wallet.account import Account
from mpchan.wallet.journal import Entry

KEY_SECONDS = 24 * 3600
"""So long a key is known, at least."""

LASTING = "piece/"
"""Keys that begin so are known as long as the channel."""


@frozen
class Ended:
    """A request that was charged.

    Attributes:
        time: when, in seconds since 1970.
    """

    digest: str
    charged: int
    time: int


class Keys:
    """The requests of one channel that have ended, by key.

    Args:
        entries: of the channel's journal, the oldest first.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        # in the order in which they ended; the first one of a plain dict is found ever slower as they leave
        self._ended: OrderedDict[str, Ended] = OrderedDict()
        self._lasting: dict[str, Ended] = {}  # apart: nobody looks through them for old ones
        self._now = 0
        before = Account()
        for entry in entries:
            if "account" in entry.changes:
                after = Account.from_table(entry.changes["account"])
                self._note(before, after, entry.time)
                before = after

    def _note(self, before: Account, after: Account, time: int) -> None:
        left = {each.key for each in after.reserved}
        otherwise = (
            after.accepted - before.accepted
        )  # with a request that ends no total comes, so it was paid by hand
        for each in before.reserved:
            if each.key not in left:
                self.add(each.key, each.digest, after.spent - before.spent - otherwise, time)

    def add(self, key: str, digest: str, charged: int, time: int) -> None:
        """A request has ended. One that has cost nothing may come again."""
        self._now = max(self._now, time)  # a clock that is set back makes nobody pay twice
        if charged:
            ended = self._lasting if key.startswith(LASTING) else self._ended
            ended.pop(key, None)
            ended[key] = Ended(digest, charged, self._now)
        self._forget()

    def _forget(self) -> None:
        """Leave out the keys that nobody need know any more."""
        while self._ended and next(iter(self._ended.values())).time < self._now - KEY_SECONDS:
            self._ended.popitem(last=False)

    def find(self, key: str) -> Ended | None:
        """What is known of a request; None for a new one."""
        return self._lasting.get(key) or self._ended.get(key)
