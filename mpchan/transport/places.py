"""Who gets one of a seller's places for connections, and who has to leave for that.

One source never gets more than half of them. Where there is none left for a newcomer, the source that holds most gives
one up, and whoever has paid for nothing and does nothing goes first. So a newcomer from elsewhere always gets in while
one source exhausts its share, and among many sources those lose their places that only sit there. Whoever has paid and
is being served is never sent away; of the others, a buyer who is sent away comes again.
"""

from __future__ import annotations

import ipaddress
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


# where a connection comes from --------------------------------------------------------------------
#
# Of IPv6 one subscriber has at least a /64 (RFC 6177, section 2) and may take any address in it, so that is one source;
# of IPv4 it is the single address. Somebody with many sources is as many buyers: what holds for each of them is
# bounded, and so is what holds for all together.


def source_of(host: str) -> str:
    """The source that an address belongs to.

    Args:
        host: an IPv4 or IPv6 address in text, as the system names a peer; the zone of a link-local one may stand
            behind a ``%``. An IPv4 address written as IPv6 (``::ffff:192.0.2.1``: RFC 4291, section 2.5.5.2) is IPv4.

    Returns:
        ``192.0.2.1``, or ``2001:db8:0:1::/64``.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((address.packed, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
