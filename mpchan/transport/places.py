"""Who gets one of a seller's places for connections, and who has to leave for that.

One source never gets more than half of them. Where there is none left for a newcomer, the source that holds most gives
one up, and whoever has paid for nothing and does nothing goes first. So a newcomer from elsewhere always gets in while
one source exhausts its share, and among many sources those lose their places that only sit there. Whoever has paid and
is being served is never sent away; of the others, a buyer who is sent away comes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeVar

_FEW_OF = 25
"""Sources that hold up to a 25th of the places each (a household's) count as holding equally many."""


class Guest(Protocol):
    """A connection that has a place.

    Attributes:
        source: where it comes from, as ``source_of`` has it.
        paid: whether its session has paid for something.
        busy: whether it waits for an answer, or is being sent one. It is not before its first request.
        since: when it came, or was last busy (``time.monotonic()``).
    """

    source: str
    paid: bool
    busy: bool
    since: float


G = TypeVar("G", bound=Guest)


def place_for(source: str, guests: Iterable[G], most: int) -> tuple[bool, G | None]:
    """Whether a newcomer gets a place, and who leaves for it.

    Args:
        source: of the newcomer.
        guests: all that have a place now.
        most: how many places there are.
    """
    guests = list(guests)
    held = Counter(guest.source for guest in guests)
    has_its_share = held[source] >= max(1, most // 2)
    if len(guests) < most and not has_its_share:
        return True, None
    few = most // _FEW_OF
    may_go = [
        guest
        for guest in guests
        if not (guest.paid and guest.busy) and (guest.source == source or not has_its_share)
    ]
    if not may_go:
        return False, None
    return True, min(
        may_go,
        key=lambda guest: (-max(0, held[guest.source] - few), guest.paid, guest.busy, guest.since),
    )
