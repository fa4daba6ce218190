"""Where a connection comes from, as far as bounds are counted.

Of IPv6 one subscriber has at least a /64 (RFC 6177, section 2) and may take any address in it, so that is one source;
of IPv4 it is the single address. Somebody with many sources is as many buyers: what holds for each of them is bounded,
and so is what holds for all together.
"""

from __future__ import annotations

import ipaddress


def source_of(host: str) -> str:
    """The source that an address belongs to.

    Args:
        host: an IPv4 or IPv6 address in text, as the system names a peer; the zone of a link-local one may stand
            behind a ``%``. An IPv4 address written as IPv6 (``::ffff:192.0.2.1``: RFC 4291, section 2.5.5.2) is IPv4.

    Returns:
        ``192.0.2.1``, or ``2001:db8:0:1::/64``.

    Raises:
        ValueError: it is no address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((address.packed, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
