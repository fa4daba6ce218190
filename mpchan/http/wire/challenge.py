"""What a 402 asks for: one challenge of the "Payment" scheme (draft-httpauth-payment, "Challenge")."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone

from mpchan.errors import ParseError
from mpchan.http.wire.encoding import to_base64url
from mpchan.http.wire.fields import SCHEME, payment_parameters, written
from mpchan.values import field, frozen, replace

_FRACTION = re.compile(r"(?<=:[0-9]{2})\.[0-9]+", re.ASCII)

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)

METHOD, INTENT = "bitcoin", "session"

_NEEDED = ("id", "realm", "method", "intent", "request")
_OPTIONAL = ("expires", "digest", "opaque", "description")
_NEVER_EMPTY = ("expires", "digest", "opaque")


@frozen
class Challenge:
    """A challenge as it stands in a header; ``request`` and ``opaque`` as their base64url.

    Attributes:
        id: by which the server knows its own challenge again.
        expires: RFC 3339.
        digest: of the request's body, where the challenge is for that alone (RFC 9530).
        description: for people; nothing rests on it.
        others: parameters that this page does not know, as they came.
    """

    id: str
    realm: str
    method: str
    intent: str
    request: str
    expires: str | None = None
    digest: str | None = None
    opaque: str | None = None
    description: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> dict[str, str]:
        """All parameters by name, without those that are not there."""
        known = {name: getattr(self, name) for name in (*_NEEDED, *_OPTIONAL)}
        return {**{name: value for name, value in known.items() if value is not None}, **self.others}

    def header(self) -> str:
        """The value of ``WWW-Authenticate``."""
        return written(SCHEME, self.parameters())

    def echo(self) -> dict[str, str]:
        """What a credential repeats of it: everything as it came."""
        return self.parameters()

    def is_named(self, secret: bytes) -> bool:
        """Whether a server that has this secret made it, and nothing in it was changed."""
        return hmac.compare_digest(self.id.encode(), challenge_id(secret, self).encode())

    def expires_at(self) -> float | None:
        """Unix time from which on it is no more answered; None for one that never ends.

        Raises:
            ParseError: ``malformed-challenge``.
        """
        return None if self.expires is None else timestamp(self.expires)


def challenge_of(parameters: Mapping[str, str]) -> Challenge:
    """A challenge from its parameters, as a header or a credential's echo has them.

    Raises:
        ParseError: ``malformed-challenge``: one is missing; the id is empty, or another one that counts as absent to
            its HMAC where it is empty, so that it could be added.
    """
    for name in _NEEDED:
        if name not in parameters or (name == "id" and not parameters[name]):
            raise ParseError("malformed-challenge", f"a challenge without {name}")
    for name in _NEVER_EMPTY:
        if parameters.get(name) == "":
            raise ParseError("malformed-challenge", f"a challenge with an empty {name}")
    known = {name: parameters.get(name) for name in (*_NEEDED, *_OPTIONAL)}
    others = {name: value for name, value in parameters.items() if name not in known}
    return Challenge(**known, others=others)  # type: ignore[arg-type]


def challenges_in(values: Iterable[str]) -> list[Challenge]:
    """Every challenge of the scheme in the values of ``WWW-Authenticate``, in their order.

    Raises:
        ParseError: ``malformed-challenge``: there is one that is wrong, and none that is right.
    """
    found: list[Challenge] = []
    wrong: ParseError | None = None
    for parameters in payment_parameters(values):
        try:
            found.append(challenge_of(parameters))
        except ParseError as error:
            wrong = wrong or error
    if wrong is not None and not found:
        raise wrong
    return found


def challenge_id(secret: bytes, challenge: Challenge) -> str:
    """The id that binds all other parameters: HMAC-SHA256 over seven slots ("Recommended: HMAC-SHA256 Binding").

    Args:
        secret: the server's.
        challenge: whatever its id is now.
    """
    slots = (
        *(challenge.realm, challenge.method, challenge.intent, challenge.request),
        *(challenge.expires or "", challenge.digest or "", challenge.opaque or ""),
    )
    return to_base64url(hmac.digest(secret, "|".join(slots).encode(), "sha256"))


def named(secret: bytes, challenge: Challenge) -> Challenge:
    """The challenge with its id."""
    return replace(challenge, id=challenge_id(secret, challenge))


def timestamp(text: str) -> float:
    """Unix time of an RFC 3339 text.

    Raises:
        ParseError: ``malformed-challenge``.
    """
    try:
        if _RFC3339.fullmatch(text) is None:
            raise ValueError
        whole = _FRACTION.sub("", text)  # CPython 3.10 reads no other fractions than of 3 or 6 digits
        moment = datetime.fromisoformat(whole[:-1] + "+00:00" if whole[-1:] in "Zz" else whole)
        if moment.tzinfo is None:
            raise ValueError
    except (ValueError, OverflowError):
        raise ParseError("malformed-challenge", f"not an RFC 3339 time: {text!r:.50}") from None
    return moment.timestamp()


def timestamp_text(unix: float) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(unix), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
