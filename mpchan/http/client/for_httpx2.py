"""Payments for programs that use ``httpx2``: an authentication for its clients, blocking and of ``asyncio``.

httpx2.Client(auth=PaymentAuth(purse))
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from typing import Any

import httpx2

from mpchan.errors import ParseError
from mpchan.http.client.demands import origin_of
from mpchan.http.client.dialogue import Again, Answer, Dialogue, Next
from mpchan.http.client.errand import key_after
from mpchan.http.client.purse import Purse
from mpchan.http.wire.problems import MAX_PROBLEM_BYTES

_KEY_REUSED = 422


class PaymentAuth(httpx2.Auth):
    """Pays where that is asked for; what is not paid for raises an ``MpchanError``, as ``Dialogue.answered`` says.

    A request's body is read into memory, since it may have to be sent again. A request that has to be paid for once,
    whatever is tried again, has an ``Idempotency-Key`` of the program's own. What a paid answer has cost stands in
    ``response.extensions["mpchan"]``, a ``Done``.

    Args:
        purse: who pays.
        ahead: satoshi that are authorised on top of each price.
        wait: sleeps for so many seconds, in blocking clients.
        wait_async: the same in those of ``asyncio``.
    """

    requires_request_body = True

    def __init__(
        self,
        purse: Purse,
        *,
        ahead: int = 0,
        wait: Callable[[float], None] = time.sleep,
        wait_async: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._purse = purse
        self._ahead = ahead
        self._wait = wait
        self._wait_async = wait_async

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """As ``httpx2.Auth`` has it."""
        request.read()
        is_bare = request.method == "HEAD"
        dialogue = self._dialogue(request)
        try:
            _set(request, dialogue.begin())
            while True:
                if is_bare:
                    request.method = "GET" if dialogue.needs_body else "HEAD"
                response = yield request
                if response.status_code == 402:
                    response.stream = _Bounded(response.stream)
                    response.read()
                led, request = _led(request, response), response.request
                if led:
                    dialogue.gave_up()
                    dialogue = self._dialogue(request, led=True)
                if led and response.status_code == _KEY_REUSED:
                    found: Next = Again(dialogue.begin())
                else:
                    found = dialogue.answered(_answer(response))
                if not isinstance(found, Again):
                    response.extensions["mpchan"] = found
                    return
                if found.after:
                    self._wait(found.after)
                _set(request, found.headers)
        except BaseException:
            dialogue.gave_up()
            raise

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """As ``httpx2.Auth`` has it; the wallet is at work in another thread meanwhile."""
        await request.aread()
        is_bare = request.method == "HEAD"
        dialogue = self._dialogue(request)
        try:
            _set(request, await asyncio.to_thread(dialogue.begin))
            while True:
                if is_bare:
                    request.method = "GET" if dialogue.needs_body else "HEAD"
                response = yield request
                if response.status_code == 402:
                    response.stream = _Bounded(response.stream)
                    await response.aread()
                led, request = _led(request, response), response.request
                if led:
                    await asyncio.to_thread(dialogue.gave_up)
                    dialogue = self._dialogue(request, led=True)
                if led and response.status_code == _KEY_REUSED:
                    found: Next = Again(await asyncio.to_thread(dialogue.begin))
                else:
                    found = await asyncio.to_thread(dialogue.answered, _answer(response))
                if not isinstance(found, Again):
                    response.extensions["mpchan"] = found
                    return
                if found.after:
                    await self._wait_async(found.after)
                _set(request, found.headers)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(dialogue.gave_up))
            raise

    def _dialogue(self, request: httpx2.Request, *, led: bool = False) -> Dialogue:
        """The payment for a request; of one that redirects led to without what the first one was paid by."""
        url = str(request.url).partition("#")[0]
        key = request.headers.get("Idempotency-Key")
        if led:
            key = key_after(key, url)
            for name in ("Authorization", "Idempotency-Key"):
                request.headers.pop(name, None)
        return Dialogue(self._purse, url, key=key, ahead=self._ahead)


def _led(request: httpx2.Request, response: httpx2.Response) -> bool:
    """Whether the client has followed redirects to what has to be paid for by itself: of another server, or where the
    key was used up by what led there."""
    if response.request.url == request.url:
        return False
    elsewhere = origin_of(str(response.request.url)) != origin_of(str(request.url))
    return elsewhere or response.status_code == _KEY_REUSED


def _set(request: httpx2.Request, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        request.headers[name] = value


def _answer(response: httpx2.Response) -> Answer:
    """What of an answer concerns its payment; the body of a 402 is read."""
    return Answer(
        response.status_code,
        response.headers.get_list("www-authenticate"),
        response.headers.get("payment-receipt"),
        response.headers.get("retry-after"),
        response.content if response.status_code == 402 else b"",
    )


class _Bounded(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The body of a 402, which is small.

    Raises:
        ParseError: ``malformed-answer``, it is not.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left = MAX_PROBLEM_BYTES

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            yield self._counted(part)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield self._counted(part)

    def _counted(self, part: bytes) -> bytes:
        self._left -= len(part)
        if self._left < 0:
            raise ParseError("malformed-answer", f"a 402 with more than {MAX_PROBLEM_BYTES} bytes")
        return part

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()
