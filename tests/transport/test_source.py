"""Where requests come from: by the address alone, and at the seller's end of both ways."""

from __future__ import annotations

from contextlib import closing

import pytest
from support.transport.ways import MailboxWay, TcpWay, asked, selling

from mpchan.transport.places import source_of


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("2001:db8:0:1::", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("2001:0db8:0000:0002:0000:0000:0000:0001", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_addresses(host: str, source: str) -> None:
    assert source_of(host) == source


@pytest.mark.parametrize("host", ["", "localhost", "192.0.2", "192.0.2.256", "2001:db8::/64", "%eth0"])
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(ValueError, match="address"):
        source_of(host)


def test_a_connection_has_a_source(tcp: TcpWay) -> None:
    with selling(tcp.inbox()) as seller, closing(tcp.line()) as line:
        asked(line)
    assert [request.source for request in seller.asked] == ["127.0.0.1"]


def test_an_ipv4_peer_of_a_socket_for_both(tcp: TcpWay) -> None:
    """The system names it as IPv6; it is the same source all the same."""
    tcp.address = ("::", tcp.address[1])
    inbox = tcp.inbox()
    tcp.address = ("127.0.0.1", inbox.address[1])
    with selling(inbox) as seller, closing(tcp.line()) as line:
        asked(line)
    assert [request.source for request in seller.asked] == ["127.0.0.1"]


def test_a_mailbox_has_none(mailbox: MailboxWay) -> None:
    with selling(mailbox.inbox()) as seller, closing(mailbox.line()) as line:
        asked(line)
    assert [request.source for request in seller.asked] == [None]
