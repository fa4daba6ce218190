"""What buyers ask in a mailbox, found at a price that junk hardly raises.

Anybody who may write into the folder can put 100,000 files there, and nobody deletes what another has written. So a
look into the folder is one ``stat`` as long as nothing has come or gone, and the more is in it, the rarer it is read.
A name that is none of a request costs one comparison, and nothing is remembered of it. A file that is still being
written is looked at more and more rarely while it stays as it is. Each look opens so many files at most; what is left
waits, and sessions that have paid for something come first.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator

from mpchan.transport.folder import Folder, Name, Stamp
from mpchan.values import frozen

_OPENED_AT_ONCE = 256
"""So many files one look opens or asks about."""

_SURE_SECONDS, _COARSE_SURE_SECONDS = 0.1, 2.5
"""A folder whose time of change stands still is read again for so long: another change may come within one tick of the
file system's clock. Most count in milliseconds at least, some in steps of two seconds."""

_PAUSE_PER_JUNK, _PAUSE_PER_REQUEST = 1.5e-6, 6e-6
"""Seconds between two readings of the folder for each name in it, several times what reading it takes."""

_FEW = 1_000
"""Names that cost nothing worth a pause."""

_LONGEST_UNREAD_SECONDS, _UNREAD_PER_NAME = 1.0, 30e-6
"""A folder that does not tell of changes is read all the same after so long, and so much for each name."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 30.0
"""Before a file that is still being written is looked at again; a quarter of the time for which it has stood still."""


def _sure_seconds(stamp: Stamp | None) -> float:
    """How long a folder may change without its stamp saying so; a time with a fraction shows a fine clock."""
    return _SURE_SECONDS if stamp is not None and stamp[2] % 1_000_000 else _COARSE_SURE_SECONDS


@frozen
class _Growing:
    """A request that is not whole yet.

    Attributes:
        stamp: of the file when it was read.
        since: when that was.
        again: whether it is to be read again though it has not changed.
    """

    name: Name
    stamp: object
    since: float
    again: bool


class Requests:
    """The newest request of each session in a folder, and which of them are to be read now.

    Args:
        clock: seconds, as ``time.monotonic`` counts.

    Attributes:
        newest: by session, as of the last reading of the folder.
    """

    def __init__(self, folder: Folder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self.newest: dict[str, Name] = {}
        self._known: dict[str, Name] = {}  # by the file's name
        self._stamp: Stamp | None = None
        self._stamped = self._read_at = self._next = float("-inf")
        self._unread = 0.0  # seconds for which a folder that seems unchanged is not read
        self._tells = True
        self._first: dict[str, Name] = {}  # to be read, of sessions that have paid
        self._rest: dict[str, Name] = {}
        self._growing: dict[str, _Growing] = {}
        self._looks: list[tuple[float, str]] = []  # at what is growing: a heap of times and sessions

    # the folder -----------------------------------------------------------------------------------

    def read_folder(self) -> bool:
        """Read the folder where that is due; whether it was."""
        now = self._clock()
        if now < self._next:
            return False
        stamp = self._folder.folder_stamp()
        if stamp != self._stamp:
            self._stamp, self._stamped = stamp, now
        # it was read when a change within the tick of its stamp could not come any more, and has that stamp still
        seems_same = self._tells and self._read_at - self._stamped >= _sure_seconds(stamp)
        if seems_same and now - self._read_at < self._unread:
            return False
        changed, others = self._take_in()
        if seems_same and changed:
            self._tells = False  # a file system that does not say when something comes
        count = others + len(self._known)
        pause = _PAUSE_PER_JUNK * others + _PAUSE_PER_REQUEST * len(self._known)
        self._read_at = now
        self._next = now + (pause if count > _FEW else 0.0)
        self._unread = _LONGEST_UNREAD_SECONDS + _UNREAD_PER_NAME * count
        return True

    def _take_in(self) -> tuple[bool, int]:
        """Whether requests have come or gone, and how many other names there are."""
        known: dict[str, Name] = {}
        newest: dict[str, Name] = {}
        texts, others = self._folder.scan()
        for text in texts:
            name = self._known.get(text) or self._folder.parsed(text)
            if name is None:
                others += 1
                continue
            known[text] = name
            best = newest.get(name.session)
            if best is None or (name.number, name.kind) > (best.number, best.kind):
                newest[name.session] = name
        changed = known.keys() != self._known.keys()
        self._known, self.newest = known, newest
        return changed, others

    def await_reading(self, done: Callable[[str], int], paid: Callable[[str], bool]) -> None:
        """Of what was found, that is to be read which nobody has answered.

        Args:
            done: the highest number of a session that was answered.
            paid: whether a session has paid for something.
        """
        for waiting in (self._first, self._rest):
            for session in [each for each, name in waiting.items() if self.newest.get(each) != name]:
                del waiting[session]
        for session in [each for each, one in self._growing.items() if self.newest.get(each) != one.name]:
            del self._growing[session]
        for session, name in self.newest.items():
            known = session in self._first or session in self._rest or session in self._growing
            if not known and name.number > done(session):
                (self._first if paid(session) else self._rest)[session] = name

    # files ----------------------------------------------------------------------------------------

    def due(self) -> Iterator[tuple[Name, object, float]]:
        """The requests to be read now, each with its file's stamp and the seconds for which that has been the same."""
        budget = _OPENED_AT_ONCE
        for waiting in (self._first, self._rest):
            while waiting and budget:
                budget -= 1
                name = waiting.pop(next(iter(waiting)))
                stamp = self._folder.stamp(name)
                if stamp is not None:
                    yield name, stamp, 0.0
        now = self._clock()
        while budget and self._looks and self._looks[0][0] <= now:
            budget -= 1
            _, session = heapq.heappop(self._looks)
            one = self._growing.get(session)
            if one is None:
                continue
            stamp, still = self._folder.stamp(one.name), now - one.since
            if stamp == one.stamp and not one.again:
                self._look_later(session, still)
                continue
            del self._growing[session]
            if stamp is not None:
                yield one.name, stamp, still if stamp == one.stamp else 0.0

    def wait_for(self, name: Name, stamp: object, still: float, *, again: bool = False) -> None:
        """A request that ``due`` gave is not whole yet, or could not be read.

        Args:
            again: read it again though it does not change.
        """
        self._growing[name.session] = _Growing(name, stamp, self._clock() - still, again)
        self._look_later(name.session, still)

    def _look_later(self, session: str, still: float) -> None:
        pause = min(max(_FIRST_PAUSE_SECONDS, still / 4), _LONGEST_PAUSE_SECONDS)
        heapq.heappush(self._looks, (self._clock() + pause, session))

    @property
    def has_more(self) -> bool:
        """Whether something is left that the last look had no time for."""
        return bool(self._first or self._rest)
