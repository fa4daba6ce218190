"""Which connections there are, and who has to leave for a newcomer."""

from __future__ import annotations

import time
from collections.abc import Callable

from mpchan.transport.places import place_for

MOST_CONNECTIONS = 1_000
_LEAVING = 16
"""So many connections may be on their way out beside those that have a place."""


class Guest:
    """A connection, from before its handshake on; ``places.Guest``.

    Attributes:
        source: where it comes from.
        paid: whether something was paid on it.
        busy: whether a request of it is being served.
        since: when it came, or was last busy (``time.monotonic()``).
        has_to_go: whether it was sent away.
    """

    def __init__(self, source: str, leave: Callable[[], None]) -> None:
        self.source = source
        self.paid = False
        self.has_to_go = False
        self.leave = leave
        self.note(busy=False)

    def note(self, *, busy: bool) -> None:
        """What it does from now on."""
        self.busy = busy
        self.since = time.monotonic()

    def end(self) -> None:
        """Send it away."""
        self.has_to_go = True
        self.leave()


class Door:
    """The connections of one server; for one event loop.

    Args:
        most: so many there are at the same time, those included that have said nothing yet.
    """

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        self._most = most
        self._guests: set[Guest] = set()

    def enter(self, source: str, leave: Callable[[], None]) -> Guest | None:
        """A newcomer; another one may have to leave for it. None where there is no place.

        Args:
            leave: ends the newcomer's connection.
        """
        staying = [guest for guest in self._guests if not guest.has_to_go]
        admitted, leaving = place_for(source, staying, self._most)
        if not admitted or len(self._guests) >= self._most + _LEAVING:
            return None
        if leaving is not None:
            leaving.end()
        guest = Guest(source, leave)
        self._guests.add(guest)
        return guest

    def left(self, guest: Guest) -> None:
        """A connection has ended."""
        self._guests.discard(guest)

    def close(self, *, all_of_them: bool = False) -> int:
        """End the connections on which nothing is served, or all; how many there were."""
        ending = [guest for guest in self._guests if all_of_them or not guest.busy]
        for guest in ending:
            guest.end()
        return len(ending)
