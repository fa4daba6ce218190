"""What is passed on to the service behind, and what of its answers; against a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from mpchan.errors import UsageError
from mpchan.http.server.serving import Paying
from mpchan.http.server.upstream import Upstream

PAYING = Paying("ab" * 32 + ":1", 10, 500, 20, "key")


@contextmanager
def service(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes one connection for each answer, and what it was sent there."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for each in answers:
            with listener.accept()[0] as connection:
                data = b""
                while b"\r\n\r\n" not in data or (b"chunked" in data and b"\r\n0\r\n\r\n" not in data):
                    data += connection.recv(65_536)
                seen.append(data)
                connection.sendall(each)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        thread.join()
        listener.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


def asked(
    url: str, method: str = "GET", path: str = "/x?a=%20b", paying: Paying | None = None, **options: Any
) -> Any:
    """The answer that a client of this server gets."""
    upstream = Upstream(url)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await upstream({**scope, "mpchan": paying} if paying else scope, receive, send)

    async def ask() -> Any:
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="https://shop.example"
        ) as web:
            return await web.request(method, path, **options)

    return asyncio.run(ask())


def test_a_request_goes_on_as_it_came_with_what_was_paid() -> None:
    with service(OK) as (url, seen):
        headers = {
            "x-own": "1",
            "connection": "x-hop",
            "x-hop": "2",
            "authorization": "Bearer t",
            "te": "trailers",
        }
        response = asked(f"{url}/base", paying=PAYING, headers=headers)
    assert (response.status_code, response.text) == (200, "hi")
    head = seen[0].lower()
    assert head.startswith(b"get /base/x?a=%20b http/1.1\r\n")
    for line in (
        b"host: shop.example",
        b"x-own: 1",
        b"authorization: bearer t",
        b"x-forwarded-proto: https",
        b"x-mpchan-channel: " + PAYING.channel.encode(),
        b"x-mpchan-amount: 10",
        b"x-mpchan-spent: 20",
        b"x-mpchan-key: key",
    ):
        assert b"\r\n" + line + b"\r\n" in head, line
    assert b"x-hop" not in head
    assert b"\r\nte:" not in head


def test_who_asks_is_for_this_server_to_say() -> None:
    """What a client says of itself in headers that proxies set does not reach the service."""
    said = {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "http", "forwarded": "for=192.0.2.1"}
    with service(OK) as (url, seen):
        asked(url, headers=said)
    head = seen[0].lower()
    assert b"192.0.2.1" not in head
    assert head.count(b"x-forwarded-for:") == head.count(b"x-forwarded-proto:") == 1


def test_the_credential_stays_here() -> None:
    with service(OK) as (url, seen):
        asked(url, headers={"authorization": "Payment abc", "idempotency-key": "k"})
    assert b"authorization" not in seen[0].lower()
    assert b"idempotency-key" not in seen[0].lower()


def test_a_body_is_passed_on_as_it_comes() -> None:
    async def parts() -> Any:
        for part in (b"one", b"two"):
            yield part

    with service(OK) as (url, seen):
        assert asked(url, "POST", content=parts()).status_code == 200
    assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" in seen[0]


def test_what_of_an_answer_concerns_one_connection_stays_there() -> None:
    answer = (
        b"HTTP/1.1 203 Fine\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Own: 2\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nPayment-Receipt: forged\r\nX-Mpchan-Charge: 3\r\n\r\nhi"
    )
    with service(answer) as (url, _):
        response = asked(url)
    assert response.status_code == 203
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers["x-mpchan-charge"] == "3"
    assert not {"x-hop", "connection", "payment-receipt"} & set(response.headers)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n"], ids=["nothing", "half a line", "no HTTP"]
)
def test_90_a_service_that_does_not_answer(answer: bytes) -> None:
    with service(answer) as (url, _):
        response = asked(url)
    assert (response.status_code, response.json()["slug"]) == (502, "upstream-unreachable")


def test_90_a_service_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    response = asked(f"http://127.0.0.1:{port}")
    assert (response.status_code, response.json()["slug"]) == (502, "upstream-unreachable")


def test_90_an_answer_that_breaks_off() -> None:
    """Its client learns that it is not whole."""
    with (
        service(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as (url, _),
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        asked(url)


@pytest.mark.parametrize("url", ["shop", "ftp://x", "http://", "http://x/?a", "http://x/#a"])
def test_what_is_no_service(url: str) -> None:
    with pytest.raises(UsageError):
        Upstream(url)
