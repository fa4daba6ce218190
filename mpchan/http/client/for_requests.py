"""Payments for programs that use ``requests``: an adapter that a session sends through.

session.mount("https://", PaymentAdapter(purse))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException
from requests.models import PreparedRequest, Response
from requests.utils import rewind_body

from mpchan.durability import step
from mpchan.errors import NotPossible
from mpchan.http.client.blocking import answer_of
from mpchan.http.client.dialogue import Again, Dialogue, Done
from mpchan.http.client.purse import Purse
from mpchan.values import frozen


@frozen
class _Way:
    """How the session wants its requests sent; as ``HTTPAdapter.send`` has it."""

    stream: bool
    timeout: Any
    verify: Any
    cert: Any
    proxies: Any


class PaymentAdapter(HTTPAdapter):
    """Sends requests, and pays where that is asked for; any number of threads may use it.

    Each answer has the attribute ``payment``, a ``Done``. What is not paid for raises an ``MpchanError``, as
    ``Dialogue.answered`` says. A request that has to be paid for once, whatever is tried again, has an
    ``Idempotency-Key`` of the program's own.

    Args:
        purse: who pays.
        pin: SHA-256 of the certificate that every server has to have, 64 hex digits, in the place of what the session
            says of certificates; None for that.
        ahead: satoshi that are authorised on top of each price.
        wait: sleeps for so many seconds.
        settings: as ``HTTPAdapter`` has them.
    """

    def __init__(
        self,
        purse: Purse,
        *,
        pin: str | None = None,
        ahead: int = 0,
        wait: Callable[[float], None] = time.sleep,
        **settings: Any,
    ) -> None:
        self._purse = purse
        self._pin = pin
        self._ahead = ahead
        self._wait = wait
        super().__init__(**settings)

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        """As ``HTTPAdapter`` has it, with the pin."""
        if self._pin is not None:
            settings.update(assert_fingerprint=self._pin, assert_hostname=False)
        super().init_poolmanager(*args, **settings)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """Send it, as often as it takes.

        Raises:
            MpchanError: it is not served.
            requests.RequestException: the server is not reached.
        """
        way = _Way(stream, timeout, verify if self._pin is None else False, cert, proxies)
        url = (request.url or "").partition("#")[0]
        key = request.headers.get("Idempotency-Key")
        key = key.decode("latin-1") if isinstance(key, bytes) else key
        dialogue = Dialogue(self._purse, url, key=key, ahead=self._ahead)
        extra = dialogue.begin()
        while True:
            try:
                response = self._try(request, extra, way, dialogue)
            except BaseException:
                dialogue.gave_up()
                raise
            try:
                if response.status_code == 402:
                    _make_ready(request)
                found = dialogue.answered(answer_of(response.raw))
            except BaseException:
                dialogue.gave_up()
                response.close()
                raise
            if isinstance(found, Done):
                vars(response)["payment"] = found
                return response
            self._pause(response, found)
            extra = found.headers

    def _try(
        self, request: PreparedRequest, extra: Mapping[str, str], way: _Way, dialogue: Dialogue
    ) -> Response:
        """One try; the session's own request never holds a credential, which a redirect would carry on."""
        copy = request.copy()
        copy.headers.update(extra)
        if copy.method == "HEAD" and dialogue.needs_body:
            copy.method = "GET"
        return step("emit", super().send, copy, way.stream, way.timeout, way.verify, way.cert, way.proxies)

    def _pause(self, response: Response, again: Again) -> None:
        response.raw.release_conn()
        if again.after:
            self._wait(again.after)


def _make_ready(request: PreparedRequest) -> None:
    """A body that is a file is read from its beginning again.

    Raises:
        NotPossible: ``body-not-repeatable``; nothing is signed for such a request.
    """
    body = request.body
    if body is None or isinstance(body, (str, bytes)):
        return
    try:
        rewind_body(request)
    except RequestException as error:
        raise NotPossible(
            "body-not-repeatable",
            f"the request's body cannot be sent again, which a payment needs: {error!s:.100}",
            hint="give it as bytes, or as a file",
        ) from None
