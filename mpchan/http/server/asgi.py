"""What ASGI hands over, and what of it concerns a price."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mpchan.http.server.prices import Asked

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OURS = (b"x-mpchan-", b"x_mpchan_", b"x-mpchan_", b"x_mpchan-")
"""How headers begin that only this server sets; WSGI makes one name of blanks, dashes and underscores."""


def asked_of(scope: Scope) -> Asked:
    """A request as prices see it."""
    method = scope.get("method", "GET")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Asked(
        "GET" if method == "HEAD" else method,
        scope["path"],
        (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        scope.get("query_string", b"").decode("latin-1"),
        headers,
    )


def without_ours(scope: Scope) -> Scope:
    """The scope without headers by which a client would speak for this server."""
    headers = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(_OURS)]
    return {**scope, "headers": headers}


def values_of(scope: Scope, name: bytes) -> list[str]:
    """The values of a header, each as it came."""
    return [value.decode("latin-1") for found, value in scope["headers"] if found.lower() == name]


def target_of(scope: Scope) -> bytes:
    """Path and query of a request, as it came."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    return path + b"?" + query if query else bytes(path)
