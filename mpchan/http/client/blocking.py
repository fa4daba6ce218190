"""Requests that wait for their answers, over urllib3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import HTTPError, SSLError

from mpchan.durability import step
from mpchan.errors import NotPossible, ParseError, Refused
from mpchan.http.certificates import split_pin
from mpchan.http.client.demands import origin_of
from mpchan.http.client.dialogue import Again, Answer, Closing, Dialogue
from mpchan.http.client.errand import Charged, Closed, key_after
from mpchan.http.client.purse import Purse
from mpchan.http.wire.problems import MAX_PROBLEM_BYTES
from mpchan.http.wire.receipt import Receipt
from mpchan.values import frozen

_CONNECT_SECONDS, _READ_SECONDS = 15.0, 300.0
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_POOLS = 16
_FOR_ONE_ORIGIN = ("Authorization", "Cookie", "Proxy-Authorization")
"""What no other server than the one that it was meant for learns."""
_OF_A_BODY = ("Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Content-Location")


@frozen
class Response:
    """An answer.

    Attributes:
        url: that has given it, after redirects.
        raw: urllib3's answer, whose body is not read yet; ``release`` it.
        receipt: None where nothing was charged.
        paid: what it has cost, by that.
    """

    url: str
    raw: urllib3.BaseHTTPResponse
    receipt: Receipt | None
    paid: Charged | None = None

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self.raw.status

    def parts(self, most: int) -> Iterator[bytes]:
        """The body as it comes, in parts of at most so many bytes.

        Raises:
            NotPossible: ``server-unreachable``, it breaks off.
        """
        try:
            yield from self.raw.stream(most)
        except (HTTPError, OSError) as error:
            raise NotPossible(
                "server-unreachable", f"{self.url:.100}: the answer breaks off: {error!s:.200}"
            ) from None
        finally:
            self.raw.release_conn()

    def release(self) -> None:
        """What is left of the body is not wanted; the connection serves again where that is little."""
        _let_go(self.raw)


class Client:
    """A client that pays. It serves any number of threads.

    Args:
        purse: who pays.
        pin: SHA-256 of the certificate that every server has to have; 64 hex digits. A pin in a URL's fragment counts
            for that URL. None for what the usual authorities vouch for.
        authorities: a file of certificates (PEM) of authorities to believe instead of the system's.
        wait: sleeps for so many seconds.
        tell: is told why something is waited for.
    """

    def __init__(
        self,
        purse: Purse,
        *,
        pin: str | None = None,
        authorities: str | None = None,
        wait: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._purse = purse
        self._pin = pin
        self._authorities = authorities
        self._wait = wait
        self._tell = tell
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; urllib3 leaves them to whenever nothing knows the pool any more."""
        for manager in self._pools.values():
            keys = manager.pools.keys()
            for key in keys:
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
            manager.clear()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        key: str | None = None,
        ahead: int = 0,
        what: str | None = None,
    ) -> Response:
        """Ask, and pay where that is asked for.

        Args:
            headers: of the request; ``Authorization`` is set where it is paid.
            key: its ``Idempotency-Key``: a request that was paid for is not paid for again under it. None for that in
                ``headers``, or else a new one.
            ahead: satoshi that are authorised on top of the price.
            what: the one thing that the channel is for; None for whatever this server sells.

        Raises:
            MpchanError: it is not served; nothing but what ``Dialogue.answered`` says was signed for it.
        """
        asked, pin = split_pin(url)
        sent = HTTPHeaderDict(headers)
        key = sent.get("Idempotency-Key") if key is None else key
        for _ in range(_MOST_REDIRECTS + 1):
            dialogue = Dialogue(self._purse, asked, key=key, ahead=ahead, what=what)
            response = self._talk(dialogue, method, asked, pin or self._pin, sent, body)
            target = response.raw.headers.get("location")
            if response.status not in _REDIRECTS or target is None:
                return response
            response.release()
            before, asked = asked, _led_to(asked, target)
            key = key_after(key, asked)
            sent.discard("Idempotency-Key")
            if origin_of(asked) != origin_of(before):
                pin, key = None, None
                for name in _FOR_ONE_ORIGIN:
                    sent.discard(name)
            if response.status == 303 or (response.status in (301, 302) and method == "POST"):
                method, body = method if method == "HEAD" else "GET", None
                for name in _OF_A_BODY:
                    sent.discard(name)
        raise NotPossible(
            "too-many-redirects", f"{_MOST_REDIRECTS} redirects led from {url:.100} to {asked:.100}"
        )

    def close_channel(self, url: str) -> Closed:
        """Let a server close the channel with it at what was charged.

        Raises:
            MpchanError: there is none, or the server does not.
        """
        asked, pin = split_pin(url)
        closing = Closing(self._purse, asked)
        headers: Mapping[str, str] = {}
        while True:
            raw = self._send("HEAD", asked, pin or self._pin, HTTPHeaderDict(headers), None)
            answer = answer_of(raw)
            raw.drain_conn()
            found = closing.answered(answer)
            if isinstance(found, Closed):
                return found
            if found.after:
                self._wait(found.after)
            headers = found.headers

    def _talk(
        self,
        dialogue: Dialogue,
        method: str,
        url: str,
        pin: str | None,
        headers: HTTPHeaderDict,
        body: bytes | None,
    ) -> Response:
        extra = dialogue.begin()
        while True:
            try:
                asked = "GET" if method == "HEAD" and dialogue.needs_body else method
                raw = self._send(asked, url, pin, _with(headers, extra), body)
                answer = answer_of(raw)
            except BaseException:
                dialogue.gave_up()
                raise
            try:
                found = dialogue.answered(answer)
            except BaseException:
                raw.close()
                raise
            if not isinstance(found, Again):
                return Response(url, raw, found.receipt, found.charged)
            raw.release_conn()
            if found.after:
                self._tell(f"the server asks to wait for {found.after:g} s")
                self._wait(found.after)
            extra = found.headers

    def _send(
        self, method: str, url: str, pin: str | None, headers: HTTPHeaderDict, body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        try:
            return step(
                "emit",
                self._pool(pin).request,
                method,
                url,
                headers=headers,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=True,
            )
        except SSLError as error:
            raise Refused(
                "wrong-certificate",
                f"{origin_of(url)} does not have the certificate that it should: {error!s:.200}",
                hint="an own certificate is known by its pin: the address as the payee shows it, or --pin",
            ) from None
        except (HTTPError, OSError) as error:
            raise NotPossible("server-unreachable", f"{origin_of(url)}: {error!s:.200}") from None
        except ValueError as error:
            raise ParseError("malformed-request", f"{error!s:.200}") from None

    def _pool(self, pin: str | None) -> urllib3.PoolManager:
        pool = self._pools.get(pin)
        if pool is None:
            trust: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED", "ca_certs": self._authorities}
            if pin is not None:
                trust = {"cert_reqs": "CERT_NONE", "assert_fingerprint": pin, "assert_hostname": False}
            timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
            pool = urllib3.PoolManager(_POOLS, maxsize=_POOLS, timeout=timeout, **trust)
            self._pools[pin] = pool
        return pool


def _let_go(raw: urllib3.BaseHTTPResponse) -> None:
    """End an answer whose body nobody wants: a long one is not waited for."""
    try:
        if raw.read(MAX_PROBLEM_BYTES) and raw.read(1):
            raw.close()
    except (HTTPError, OSError):
        raw.close()
    raw.release_conn()


def _led_to(url: str, target: str) -> str:
    """Where a redirect leads. What its fragment says of a certificate is the server's word, and does not count.

    Raises:
        Refused: ``redirected-to-plain``.
    """
    found = urljoin(url, target).partition("#")[0]
    if origin_of(url).startswith("https:") and not origin_of(found).startswith("https:"):
        raise Refused("redirected-to-plain", f"{url:.100} leads to {found:.100}, which is not encrypted")
    return found


def _with(headers: HTTPHeaderDict, extra: Mapping[str, str]) -> HTTPHeaderDict:
    """Headers with others, each in the place of one of its name, in whatever case that is written."""
    found = headers.copy()
    for name, value in extra.items():
        found[name] = value
    return found


def answer_of(raw: urllib3.BaseHTTPResponse) -> Answer:
    """What of an answer concerns its payment; of a 402 the body, which is read, and is small."""
    body = b""
    if raw.status == 402:
        body = raw.read(MAX_PROBLEM_BYTES + 1, decode_content=True)
        if len(body) > MAX_PROBLEM_BYTES:
            raw.close()
        else:
            raw.drain_conn()
    return Answer(
        raw.status,
        raw.headers.getlist("www-authenticate"),
        raw.headers.get("payment-receipt"),
        raw.headers.get("retry-after"),
        body,
    )
