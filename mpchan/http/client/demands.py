"""What a 402 asks for, as far as this wallet can pay it."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from mpchan.bitcoin.network import Network
from mpchan.errors import MpchanError, NotPossible, ParseError, Refused
from mpchan.http.wire.challenge import INTENT, METHOD, Challenge, challenges_in
from mpchan.http.wire.session import SessionRequest
from mpchan.values import frozen

_MOST_DEMANDS = 8
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@frozen
class Demand:
    """One challenge, read.

    Attributes:
        request: what it asks for.
    """

    challenge: Challenge
    request: SessionRequest


def demands_in(values: Iterable[str], network: Network) -> list[Demand]:
    """What can be paid of what the values of ``WWW-Authenticate`` ask for, in the server's order.

    What this program cannot read, and other methods, intents and networks, are passed over.

    Raises:
        NotPossible: ``nothing-payable``: nothing is left, saying why of the last one.
    """
    found: list[Demand] = []
    why = "it names no way to pay"
    for value in values:
        try:
            challenges = challenges_in([value])
        except ParseError as error:
            why = error.message
            continue
        for challenge in challenges[:_MOST_DEMANDS]:
            try:
                found.append(_read(challenge, network))
            except MpchanError as error:
                why = error.message
    if not found:
        raise NotPossible("nothing-payable", f"the server asks to be paid, but {why:.300}")
    return found[:_MOST_DEMANDS]


def _read(challenge: Challenge, network: Network) -> Demand:
    if (challenge.method, challenge.intent) != (METHOD, INTENT):
        raise ParseError(
            "malformed-challenge",
            f"method {challenge.method!r:.40} with intent {challenge.intent!r:.40} is not one of this wallet",
        )
    request = SessionRequest.decode(challenge.request)
    if request.network != network:
        raise ParseError(
            "wrong-network", f"it is paid on {request.network.name}, and this wallet is one of {network.name}"
        )
    return Demand(challenge, request)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, in one form (RFC 6454, section 6.1): ``https://shop.example:8402``.

    Raises:
        ParseError: ``malformed-url``: no http or https URL.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError:
        scheme = host = ""
        port = None
    if scheme not in _PORTS or not host or not host.isascii() or not host.isprintable():
        raise ParseError("malformed-url", f"not a URL of http or https: {url!r:.100}")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if port in (None, _PORTS[scheme]) else f"{scheme}://{shown}:{port}"


def space_of(url: str) -> str:
    """Below what path the same challenge is likely to be asked for (RFC 7617, section 2.2): up to the last slash."""
    path = urlsplit(url).path or "/"
    return path[: path.rfind("/") + 1]


def require_encrypted(url: str) -> None:
    """Money is not paid in clear, but to this machine itself.

    Raises:
        Refused: ``plain-http``.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() == "http" and parts.hostname not in _LOOPBACK:
        raise Refused(
            "plain-http",
            f"{url:.100} is not encrypted: anybody on the way could take the place of the server",
        )
