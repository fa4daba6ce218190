"""The web service behind ``payee serve``: requests that are paid for are passed on, answers as they come.

Nothing is buffered on the way. What the service learns of the payment stands in headers of its own:

    X-Mpchan-Channel   txid:vout
    X-Mpchan-Amount    satoshi; the most that the request costs
    X-Mpchan-Spent     satoshi that were charged in the channel before it
    X-Mpchan-Key       by which the same request is known again, where it has such a key

and it may charge less by ``X-Mpchan-Charge`` in its answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

import httpx2

from mpchan.errors import UsageError
from mpchan.http.server.asgi import Message, Receive, Scope, Send, target_of
from mpchan.http.server.serving import Paying
from mpchan.http.wire.credential import is_payment
from mpchan.http.wire.problems import MEDIA_TYPE, Problem

_HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"),
    *(b"proxy-authenticate", b"proxy-authorization", b"trailer"),
}
"""What concerns one connection alone (RFC 9110, section 7.6.1)."""

_OURS = {b"idempotency-key", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"}
"""What is for this server, or for it to say."""

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 300.0


class Upstream:
    """An ASGI application that asks another server.

    Args:
        url: where it is: scheme, host and port, and perhaps the beginning of its paths.

    Raises:
        UsageError: ``usage``, that is no URL of a server.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise UsageError("usage", f"not the URL of a web service: {url!r:.100}")
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path.rstrip("/")
        self._transport: httpx2.AsyncHTTPTransport | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the server hands over, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._pass_on(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "only requests are passed on"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._transport is not None:
                    await self._transport.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._transport is None:
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
            self._transport = httpx2.AsyncHTTPTransport(limits=limits)
        target = self._path + target_of(scope).decode("latin-1")
        request = httpx2.Request(
            scope["method"],
            self._base + target,
            headers=_asked(scope),
            content=_body(scope, receive),
            extensions={
                "timeout": {
                    "connect": _CONNECT_SECONDS,
                    "read": _READ_SECONDS,
                    "write": _READ_SECONDS,
                    "pool": None,
                }
            },
        )
        try:
            answer = await self._transport.handle_async_request(request)
        except httpx2.TimeoutException:
            await _failed(
                send, 504, "upstream-slow", "the service behind this server does not answer in time"
            )
            return
        except (httpx2.TransportError, OSError):
            await _failed(send, 502, "upstream-unreachable", "the service behind this server is out of reach")
            return
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status_code,
                    "headers": list(_answered(answer.headers.raw)),
                }
            )
            async for part in answer.stream:  # type: ignore[union-attr]
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await answer.aclose()


async def _body(scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
    """What the client sends, as it comes."""
    more = True
    while more:
        message: Message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("the client has gone")
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)


def _named_in_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    return {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }


def _asked(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers of the request to the service."""
    headers = [(name.lower(), value) for name, value in scope["headers"]]
    left_out = _HOP_BY_HOP | _OURS | _named_in_connection(headers)
    passed = [each for each in headers if each[0] not in left_out and not _is_credential(*each)]
    client = scope.get("client")
    passed += [
        (b"x-forwarded-proto", scope.get("scheme", "https").encode()),
        *(() if client is None else ((b"x-forwarded-for", str(client[0]).encode()),)),
    ]
    paying: Paying | None = scope.get("mpchan")
    if paying is not None:
        passed += [
            (b"x-mpchan-channel", paying.channel.encode()),
            (b"x-mpchan-amount", str(paying.amount).encode()),
            (b"x-mpchan-spent", str(paying.spent).encode()),
            *(() if paying.key is None else ((b"x-mpchan-key", paying.key.encode()),)),
        ]
    has_length = any(name == b"content-length" for name, _ in passed)
    is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
    if is_chunked and not has_length:
        passed.append((b"transfer-encoding", b"chunked"))
    return passed


def _is_credential(name: bytes, value: bytes) -> bool:
    return name == b"authorization" and is_payment(value.decode("latin-1"))


def _answered(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """The headers of the service's answer; what only this server says of payments is not the service's to say."""
    headers = [(name.lower(), value) for name, value in headers]
    left_out = _HOP_BY_HOP | _named_in_connection(headers) | {b"payment-receipt"}
    return [(name, value) for name, value in headers if name not in left_out]


async def _failed(send: Send, status: int, slug: str, text: str) -> None:
    body = Problem(slug, text, status).body()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
