"""The application at work on a request that is paid for: what its answer costs, and what it brings."""

from __future__ import annotations

import time
from typing import Union

from mpchan.http.server.asgi import App, Message, Receive, Scope, Send
from mpchan.http.server.cashier import Cashier
from mpchan.http.server.kept import MOST_BYTES_EACH, Headers, Kept, KeptAnswers
from mpchan.http.server.prices import Price
from mpchan.http.wire.challenge import Challenge, timestamp_text
from mpchan.http.wire.receipt import Receipt
from mpchan.party.register.asks import Repeated, Reserved, Standing
from mpchan.values import frozen

_CHARGE = b"x-mpchan-charge"
RECEIPT = b"payment-receipt"
PRIVATE = (b"cache-control", b"private")
"""Of every answer that was paid for."""


_PAST_THE_METER = ("http.response.pathsend", "http.response.zerocopysend")
"""Extensions of ASGI by which a body reaches the server without coming by here, where its bytes are counted."""


@frozen
class Paying:
    """What an application learns of the payment for a request.

    Attributes:
        channel: ``txid:vout``.
        amount: satoshi; the most that the request costs. 0 where it was paid for before, and is served again.
        accepted, spent: satoshi, in all, before this request is charged.
        key: by which the same request is known again.
    """

    channel: str
    amount: int
    accepted: int
    spent: int
    key: str | None


class Counter:
    """What all requests share.

    Attributes:
        address: of the server, as clients need it; None for what they say themselves.
    """

    def __init__(self, cashier: Cashier, kept: KeptAnswers) -> None:
        self.cashier = cashier
        self.kept = kept
        self.address: str | None = None

    def spent(self, standing: Standing) -> int:
        """What is spent in a channel, as far as it is known by now; satoshi."""
        return max(standing.spent, self.cashier.spent(standing.channel))


def receipt_of(challenge: Challenge, standing: Standing, spent: int) -> bytes:
    """The receipt of a request.

    Args:
        spent: satoshi, with what this request has cost.
    """
    accepted = max(standing.accepted, spent)
    return Receipt(challenge.id, wire_name(standing.channel), accepted, spent, now()).header().encode()


def wire_name(channel: str) -> str:
    """The name of a channel on the wire, of that of its files."""
    return channel.replace("-", ":")


def now() -> str:
    """RFC 3339."""
    return timestamp_text(time.time())


class Serving:
    """The application at work on a request that is paid for.

    Args:
        granted: what is reserved, or what was charged before where the request is served again.
        key: by which the request is known again; None without one.
        kept_as: by what its answer is kept.
        bare: whether it is a HEAD.
    """

    def __init__(
        self,
        counter: Counter,
        price: Price,
        challenge: Challenge,
        granted: Union[Reserved, Repeated],
        key: str | None,
        kept_as: str,
        *,
        bare: bool,
    ) -> None:
        self._counter = counter
        self._price = price
        self._challenge = challenge
        self._kept_as = kept_as
        self._is_bare = bare
        self._standing = granted.standing
        self._reserved = granted if isinstance(granted, Reserved) else None
        self._key = key
        self._ended = self._reserved is None
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._most = 0
        self._length = 0
        self._body: list[bytes] | None = [] if key is not None else None

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer; whatever happens, the reservation ends."""
        standing = self._standing
        paying = Paying(
            wire_name(standing.channel),
            0 if self._reserved is None else self._reserved.amount,
            standing.accepted,
            standing.spent,
            self._key,
        )
        scope = {**scope, "mpchan": paying}
        extensions = scope.get("extensions") or {}
        scope["extensions"] = {name: each for name, each in extensions.items() if name not in _PAST_THE_METER}

        async def metered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = self._begin(message)
            elif message["type"] == "http.response.body":
                self._note(message)
            await send(message)

        try:
            await app(scope, receive, metered)
        finally:
            self._end(0 if self._head is None else self._by_length())

    def _begin(self, message: Message) -> Message:
        """The head of the answer: what the request costs is known now, unless its length decides."""
        status, headers = message["status"], [(name.lower(), value) for name, value in message["headers"]]
        self._head = status, [each for each in headers if each[0] not in (_CHARGE, RECEIPT)]
        if status >= 400:
            self._end(0)
            return {**message, "headers": self._head[1]}
        if self._reserved is None:
            spent = self._counter.spent(self._standing)
        else:
            self._most = _most(headers, self._reserved.amount)
            length = _length_of(headers)
            price = self._price
            if price.per_bytes is None:
                self._end(self._most)
            elif length is not None and not self._is_bare:
                self._end(min(self._most, price.of_length(length)))
            spent = self._counter.cashier.spent(self._standing.channel)
        receipt = receipt_of(self._challenge, self._standing, spent)
        return {**message, "headers": with_receipt(self._head[1], receipt)}

    def _note(self, message: Message) -> None:
        data = message.get("body", b"")
        self._length += len(data)
        if self._body is not None:
            self._body.append(data)
            if self._length > MOST_BYTES_EACH:
                self._body = None
        if not message.get("more_body", False):
            self._end(self._by_length())
            self._keep()

    def _keep(self) -> None:
        if self._body is None or self._head is None or self._key is None or self._head[0] >= 400:
            return
        kept = Kept(*self._head, b"".join(self._body))
        self._counter.kept.keep(self._standing.channel, self._kept_as, kept)

    def _by_length(self) -> int:
        return min(self._most, self._price.of_length(self._length))

    def _end(self, charged: int) -> None:
        """Say what the request has cost, once."""
        if not self._ended and self._reserved is not None:
            self._ended = True
            self._counter.cashier.end(self._standing.channel, self._reserved.key, charged)


def with_receipt(headers: Headers, receipt: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a paid answer, which no cache may give to another."""
    others = [each for each in headers if each[0] != b"cache-control"]
    return [*others, (RECEIPT, receipt), PRIVATE]


def _most(headers: list[tuple[bytes, bytes]], reserved: int) -> int:
    """What the application charges at the most: less than was reserved, never more."""
    found = [value for name, value in headers if name == _CHARGE]
    if len(found) == 1 and found[0].isdigit() and len(found[0]) < 17:
        return min(reserved, int(found[0]))
    return reserved


def _length_of(headers: list[tuple[bytes, bytes]]) -> int | None:
    found = [value for name, value in headers if name == b"content-length"]
    return int(found[0]) if len(found) == 1 and found[0].isdigit() and len(found[0]) < 17 else None
