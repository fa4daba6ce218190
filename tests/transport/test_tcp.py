"""Connections: who listens where, what goes over the wire, and how many there may be."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.transport.tcp import (
    HELLO,
    MESSAGE,
    OFFER,
    REFUSAL,
    ended,
    fake_seller,
    frame,
    plain,
    read_frame,
    secured,
)
from support.transport.ways import (
    OTHER,
    PATIENCE,
    SESSION,
    SHORT,
    TcpWay,
    asked,
    asking,
    awaited,
    one_request,
    piece_of,
    selling,
    some_bytes,
)

from mpchan.errors import NotPossible, TooEarly, UsageError
from mpchan.transport.base import CHUNK_BYTES, Message, new_session
from mpchan.transport.tcp import TcpInbox, TcpLine, parse_address, shown_address

# addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("seller.example.org:1", ("seller.example.org", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:9000", ("::1", 9000)),
        ("[2001:DB8::7]:9000", ("2001:DB8::7", 9000)),
        ("0.0.0.0:9000", ("0.0.0.0", 9000)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert shown_address(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "host", "host:", ":9000", "host:0", "host:65536", "host:-1", "host:9000 ", "host:٣"),
        *("::1:9000", "[::1]", "[::1]9000", "[]:9000", "[host]:9000", "a b:9000", "host:9000\n", "-x:9000"),
        *("host:000009000", "tcp://host:9000", "user@host:9000", "x" * 300 + ":9000", "host/:9000"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert (caught.value.slug, caught.value.exit_code) == ("usage", 2)
    assert len(caught.value.message) < 120


def test_a_port_that_is_taken(tcp: TcpWay) -> None:
    with closing(tcp.inbox()), pytest.raises(NotPossible) as caught:
        tcp.inbox()
    assert (caught.value.slug, caught.value.exit_code) == ("cannot-listen", 5)
    assert f"127.0.0.1:{tcp.address[1]}: address already in use" in caught.value.message


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid", "a..b", "x" * 250])
def test_an_address_of_another_machine(tcp: TcpWay, host: str) -> None:
    """192.0.2.0/24 is nobody's (RFC 5737); nothing is asked of it, since it is to be listened at."""
    with pytest.raises(NotPossible) as caught:
        TcpInbox((host, 9000), tcp.certificate, tcp.wake)
    assert caught.value.slug == "cannot-listen"


def test_over_ipv6(tcp: TcpWay) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        tcp.address = ("127.0.0.1", 0)
    else:
        tcp.address = ("::1", 0)
    with selling(tcp.inbox()), closing(tcp.line()) as line:
        assert asked(line) == ("message", b"offer body")


def test_a_name_that_stands_for_several_addresses(tcp: TcpWay) -> None:
    """Those at which nobody listens are passed over."""
    with selling(tcp.inbox()):
        line = TcpLine(("localhost", tcp.address[1]), tcp.certificate.fingerprint, SESSION)
        with closing(line):
            assert asked(line) == ("message", b"offer body")


# the wire -----------------------------------------------------------------------------------------


def test_what_a_buyer_sends(tcp: TcpWay) -> None:
    seen: list[object] = []

    def note(connection: ssl.SSLSocket) -> None:
        seen.extend([connection.version(), read_frame(connection), read_frame(connection)])
        connection.sendall(frame(MESSAGE, b"one"))
        seen.append(read_frame(connection))
        connection.sendall(frame(REFUSAL, b"two"))

    with fake_seller(tcp, note) as seller, closing(seller.line()) as line:
        assert asked(line, "offer", b"first") == ("message", b"one")
        assert asked(line, "settlement", b"") == ("refusal", b"two")
    hello = b"mpchan\x00\x01" + bytes.fromhex(SESSION)
    assert seen == ["TLSv1.3", (0x01, hello), (0x10, b"first"), (0x15, b"")]
    assert seller.connections in (1, 2), "the second is the one that ends the listening"


def test_what_a_seller_sends(tcp: TcpWay, tmp_path: Path) -> None:
    piece = piece_of(tmp_path / "file", some_bytes(500_000), 1, 400_000)
    with selling(tcp.inbox(), lambda request: piece if request.body else Message(b"m")), secured(tcp) as wire:
        wire.sendall(HELLO + frame(OFFER, b""))
        assert read_frame(wire) == (0x20, b"m")
        wire.sendall(frame(OFFER, b"x"))
        assert read_frame(wire) == (0x22, some_bytes(500_000)[1:400_001])
        assert wire.session is None or not wire.session.has_ticket, "nothing to be resumed"


def test_small_packets_go_at_once(tcp: TcpWay) -> None:
    with selling(tcp.inbox()), closing(tcp.line()) as line:
        asked(line)
        assert line._stream is not None
        assert line._stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_older_tls_is_not_spoken(tcp: TcpWay) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with closing(tcp.inbox()), plain(tcp) as wire, pytest.raises(ssl.SSLError, match=r"(?i)alert protocol"):
        context.wrap_socket(wire)


# how many -----------------------------------------------------------------------------------------


def test_sixty_connections_at_once(tcp: TcpWay) -> None:
    """Each has its thread, and all threads end with the inbox."""
    before = threading.active_count()
    with ExitStack() as stack:
        with selling(tcp.inbox()) as seller:
            lines = [stack.enter_context(closing(tcp.line(new_session()))) for _ in range(60)]
            for step in range(2):
                for number, line in enumerate(lines):
                    body = f"{number} {step}".encode()
                    assert asked(line, "offer", body) == ("message", b"offer " + body)
            assert threading.active_count() >= before + 60
        assert threading.active_count() == before
    assert len(seller.asked) == 120


def test_threads_end_with_their_connections(tcp: TcpWay) -> None:
    with selling(tcp.inbox()):
        before = threading.active_count()
        for _ in range(10):
            with closing(tcp.line(new_session())) as line:
                asked(line)
        awaited(lambda: threading.active_count() == before, "the end of the threads")


def test_a_session_that_comes_again_has_its_place(tcp: TcpWay) -> None:
    """Its older connection may be one that died without a word."""
    tcp.options["most"] = 1
    with selling(tcp.inbox()), closing(tcp.line()) as old, closing(tcp.line()) as new:
        for line in (old, new, old, new):
            assert asked(line)[0] == "message"


def test_half_of_the_places_for_one_source(tcp: TcpWay) -> None:
    """The oldest of its connections that does nothing leaves for another one, and comes again when it has a word."""
    tcp.options["most"] = 4
    with selling(tcp.inbox()), ExitStack() as stack:
        before = threading.active_count()
        lines = [stack.enter_context(closing(tcp.line(new_session()))) for _ in range(3)]
        for _ in range(3):
            for line in lines:
                assert asked(line)[0] == "message"
        awaited(lambda: threading.active_count() == before + 2, "the end of the others")


def test_places_that_have_been_paid_for(tcp: TcpWay, tmp_path: Path) -> None:
    """Whoever is being sent what was paid for is not sent away, and the newcomer has to wait."""
    tcp.options["most"] = 2
    data = some_bytes(30 * CHUNK_BYTES)
    piece = piece_of(tmp_path / "file", data)
    with selling(tcp.inbox(), lambda _: piece), closing(tcp.line()) as line:
        with line.ask("piece", b"", PATIENCE) as arrival:
            chunks = arrival.chunks()
            found = bytes(next(chunks))
            with closing(tcp.line(OTHER)) as other, pytest.raises(TooEarly, match=r"closed|reset"):
                asked(other, patience=SHORT)
            found += b"".join(bytes(chunk) for chunk in chunks)
        assert found == data
        with closing(tcp.line(OTHER)) as other:
            assert asked(other) == ("piece", data)


def test_the_newer_connection_of_a_session_wins(tcp: TcpWay) -> None:
    """The answer to what the older one asked reaches nobody."""
    with closing(tcp.inbox()) as inbox, secured(tcp) as old:
        old.sendall(HELLO + frame(OFFER, b"old"))
        first = one_request(inbox)
        with closing(tcp.line()) as new, asking(new, "offer", b"new") as found:
            second = one_request(inbox)
            assert (first.body, second.body) == (b"old", b"new")
            assert ended(old)
            inbox.answer(first, Message(b"to old"))
            inbox.answer(second, Message(b"to new"))
    assert found == [("message", b"to new")]


def test_a_request_of_an_older_connection_is_not_handed_out(tcp: TcpWay) -> None:
    with closing(tcp.inbox()) as inbox, secured(tcp) as old:
        old.sendall(HELLO + frame(OFFER, b"old"))
        assert tcp.wake.wait(20)
        with secured(tcp) as new:
            new.sendall(HELLO)
            assert ended(old)
            assert inbox.waiting() == []
            new.sendall(frame(OFFER, b"new"))
            assert one_request(inbox).body == b"new"


def test_a_request_whose_buyer_has_gone_is_dropped_with_it(tcp: TcpWay) -> None:
    tcp.options["idle"] = 0.1
    with closing(tcp.inbox()) as inbox, secured(tcp) as wire:
        wire.sendall(HELLO + frame(OFFER, b"old"))
        assert ended(wire), "nobody answered in time"
        assert inbox.waiting() == []
        assert not inbox.busy()


def test_an_idle_connection_ends_and_the_buyer_comes_again(tcp: TcpWay) -> None:
    tcp.options["idle"] = 0.1
    with selling(tcp.inbox()) as seller, closing(tcp.line()) as line:
        before = threading.active_count()
        for body in (b"1", b"2"):
            assert asked(line, "offer", body) == ("message", b"offer " + body)
            awaited(lambda: threading.active_count() < before + 1, "the end of the idle connection")
    assert [request.body for request in seller.asked] == [b"1", b"2"]


def test_a_connection_is_used_again(tcp: TcpWay) -> None:
    with selling(tcp.inbox()), closing(tcp.line()) as line:
        asked(line)
        stream = line._stream
        assert stream is not None
        for _ in range(5):
            asked(line)
        assert line._stream is stream


def test_it_wakes_the_seller(tcp: TcpWay) -> None:
    with closing(tcp.inbox()) as inbox, closing(tcp.line()) as line, asking(line):
        assert tcp.wake.wait(20)
        tcp.wake.clear()
        request = one_request(inbox)
        inbox.answer(request, Message(b""))
        assert tcp.wake.wait(20), "and when the answer has gone"


def test_a_slow_buyer_holds_up_nobody_else(tcp: TcpWay, tmp_path: Path) -> None:
    data = some_bytes(30 * CHUNK_BYTES)
    piece = piece_of(tmp_path / "file", data)
    inbox = tcp.inbox()
    with selling(inbox, lambda _: piece), closing(tcp.line(SESSION)) as slow:
        with slow.ask("piece", b"", PATIENCE) as arrival:
            chunks = arrival.chunks()
            found = bytes(next(chunks))
            with closing(tcp.line(OTHER)) as quick:
                assert asked(quick, "piece") == ("piece", data)
            assert inbox.busy(), "the slow one is not through"
            found += b"".join(bytes(chunk) for chunk in chunks)
        assert found == data
        awaited(lambda: not inbox.busy())


def test_closing_does_not_wait_for_a_buyer_who_stands_still(tcp: TcpWay, tmp_path: Path) -> None:
    piece = piece_of(tmp_path / "file", some_bytes(30 * CHUNK_BYTES))
    began = time.monotonic()
    with closing(tcp.line()) as line:
        with selling(tcp.inbox(), lambda _: piece), line.ask("piece", b"", PATIENCE):
            pass
        with selling(tcp.inbox(), lambda _: piece), secured(tcp) as wire:
            wire.sendall(HELLO + frame(OFFER, b""))
            wire.recv(1)
    assert time.monotonic() - began < PATIENCE
