"""What is answered to a request that is not served: why, and what would be paid for it."""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.errors import ChainError, MpchanError, StorageError, TooEarly
from mpchan.http.server.asgi import Send
from mpchan.http.server.kept import Headers
from mpchan.http.server.page import HEADERS as PAGE_HEADERS
from mpchan.http.wire.challenge import Challenge
from mpchan.http.wire.problems import MEDIA_TYPE, Problem
from mpchan.values import frozen

_STATUS = {
    "credential-twice": 400,
    "malformed-key": 400,
    "body-too-large": 413,
    "key-reused": 422,
    "request-in-flight": 409,
    "response-gone": 409,
    "too-many-requests": 429,
}
"""Of what is nobody's missing payment; all else is 402."""

_RETRY_SECONDS = {"request-in-flight": 1, "too-many-requests": 1, "too-many-offers": 60}
_EARLY_SECONDS = 2
_TROUBLE_SECONDS = 5


@frozen
class Answer:
    """An answer that does not come from the application."""

    status: int
    headers: Headers
    body: bytes = b""


def problem_of(error: MpchanError) -> tuple[Problem, int | None]:
    """What a client learns of an error, and after how many seconds the same request may do.

    Of our disk, our chain and our mistakes it learns that there is one, and no more.
    """
    if isinstance(error, (StorageError, ChainError)):
        return Problem(
            "seller-busy", "the server cannot do it now, for reasons of its own", 503
        ), _TROUBLE_SECONDS
    early = _EARLY_SECONDS if isinstance(error, TooEarly) else None
    problem = Problem(error.slug, error.message, _STATUS.get(error.slug, 402), error.hint)
    return problem, _RETRY_SECONDS.get(error.slug, early)


def refused(
    problem: Problem,
    challenges: Sequence[Challenge] = (),
    retry_after: int | None = None,
    page: bytes | None = None,
) -> Answer:
    """A problem with what would be paid.

    Args:
        page: the same for a browser.
    """
    body = problem.body() if page is None else page
    kind = ((b"content-type", MEDIA_TYPE.encode()),) if page is None else PAGE_HEADERS
    headers = [
        *kind,
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *((b"www-authenticate", each.header().encode()) for each in challenges),
    ]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    return Answer(problem.status, headers, body)


async def send_answer(answer: Answer, send: Send, *, bare: bool = False) -> None:
    """Send it, as ASGI has it.

    Args:
        bare: without its body, to a HEAD.
    """
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": b"" if bare else answer.body, "more_body": False})
