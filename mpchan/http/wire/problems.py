"""What is wrong with a request, as problem+json (RFC 9457), by the types that the specifications list.

Our own slug stands beside the type, as the member ``slug``: it says more, and is what commands answer with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpchan.errors import ParseError
from mpchan.http.wire.encoding import read_object
from mpchan.values import field, frozen

if TYPE_CHECKING:
    from typing import TypeGuard

_BASE = "https://paymentauth.org/problems/"
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){0,9}", re.ASCII)
MEDIA_TYPE = "application/problem+json"
MAX_PROBLEM_BYTES = 65_536
_KNOWN = ("type", "title", "status", "detail", "slug", "hint")

TYPES: Mapping[str, tuple[str, int]] = {
    "payment-required": ("Payment Required", 402),
    "payment-insufficient": ("Payment Insufficient", 402),
    "payment-expired": ("Payment Expired", 402),
    "verification-failed": ("Verification Failed", 402),
    "malformed-credential": ("Malformed Credential", 402),
    "invalid-challenge": ("Invalid Challenge", 402),
    "method-unsupported": ("Method Unsupported", 400),
    "session/invalid-signature": ("Invalid Signature", 402),
    "session/signer-mismatch": ("Signer Mismatch", 402),
    "session/amount-exceeds-deposit": ("Amount Exceeds Deposit", 402),
    "session/delta-too-small": ("Delta Too Small", 402),
    "session/channel-not-found": ("Channel Not Found", 402),
    "session/channel-finalized": ("Channel Finalized", 402),
    "session/challenge-not-found": ("Challenge Not Found", 402),
    "session/insufficient-balance": ("Insufficient Balance", 402),
    "about:blank": ("", 0),
}
"""Title and usual status of each type; ``about:blank`` is whatever the status says.

On the resource that is paid for a channel's types come with 402 too, and with a fresh challenge (draft-tempo-session,
"Rejection and Error Responses"), though their registry has 410 beside some."""

READ_ALONE = ("session/signer-mismatch", "session/challenge-not-found")
"""Types that are read and never sent: the signer is the key in the funding output, so that every other signature is
invalid; and of an unknown challenge the core specification asks for ``invalid-challenge``."""

BY_SLUG: Mapping[str, str] = {
    "payment-required": "payment-required",
    "below-dust": "payment-insufficient",
    "challenge-expired": "payment-expired",
    "challenge-foreign": "invalid-challenge",
    "challenge-elsewhere": "invalid-challenge",
    "price-changed": "invalid-challenge",
    "malformed-credential": "malformed-credential",
    "credential-twice": "malformed-credential",
    "action-unsupported": "malformed-credential",
    "method-unsupported": "method-unsupported",
    "bad-signature": "session/invalid-signature",
    "signature": "session/invalid-signature",
    "signature-der": "session/invalid-signature",
    "signature-high-s": "session/invalid-signature",
    "sighash-type": "session/invalid-signature",
    "over-capacity": "session/amount-exceeds-deposit",
    "delta-too-small": "session/delta-too-small",
    "below-increment": "session/delta-too-small",
    "unknown-channel": "session/channel-not-found",
    "paid-lower": "session/insufficient-balance",
    "voucher-low": "session/insufficient-balance",
    "balance-low": "session/insufficient-balance",
    "key-reused": "about:blank",
    "response-gone": "about:blank",
    "seller-busy": "about:blank",
}
"""The type of each slug that is named on the wire; of all others it is ``verification-failed``, of a channel that takes
nothing any more ``session/channel-finalized``."""


@frozen
class Problem:
    """Why a request was not served.

    Attributes:
        slug: our name of the broken rule.
        detail: in words.
        status: of the answer.
        hint: what to do next.
        members: what else the answer says, by the names of the wire; never in the place of one of the above.
    """

    slug: str
    detail: str
    status: int = 402
    hint: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The type's name, without the base of its URI."""
        if self.slug.startswith("channel-"):
            return "session/channel-finalized"
        return BY_SLUG.get(self.slug, "verification-failed")

    def body(self) -> bytes:
        """The JSON object, in UTF-8."""
        name = self.type
        table: dict[str, Any] = {
            "type": name if name == "about:blank" else _BASE + name,
            "title": TYPES[name][0] or self.slug,
            "status": self.status,
            "detail": self.detail,
            "slug": self.slug,
            **({} if self.hint is None else {"hint": self.hint}),
            **{name: value for name, value in self.members.items() if name not in _KNOWN},
        }
        return json.dumps(table, ensure_ascii=False).encode(errors="replace")

    @classmethod
    def from_body(cls, data: bytes, status: int) -> Problem:
        """Read what a server says; every word of it is the server's, and nothing may rest on it but what is asked next.

        Raises:
            ParseError: ``malformed-answer``.
        """
        try:
            if len(data) > MAX_PROBLEM_BYTES:
                raise ValueError(f"{len(data)} bytes are more than {MAX_PROBLEM_BYTES}")
            table = read_object(data)
        except ValueError as error:
            raise ParseError("malformed-answer", f"not a problem in JSON: {error!s:.200}") from None
        slug, detail, hint = (table.get(name) for name in ("slug", "detail", "hint"))
        if not _is_slug(slug):
            name = table.get("type")
            slug = name.rpartition("/")[2] if type(name) is str and name.startswith(_BASE) else None
        if not _is_slug(slug):
            slug = "payment-required"
        members = {name: value for name, value in table.items() if name not in _KNOWN}
        return cls(slug, _line(detail) or "", status, _line(hint), members)


def _is_slug(value: Any) -> TypeGuard[str]:
    return type(value) is str and _SLUG.fullmatch(value) is not None


def _line(value: Any) -> str | None:
    """What a server says, as one line that a terminal shows as it stands."""
    if type(value) is not str:
        return None
    return "".join(character if character.isprintable() else "?" for character in value)[:500]


def table() -> str:
    """The types and slugs, for the guide."""
    rows = ["| type | status | slugs |", "| --- | --- | --- |"]
    for name, (_, status) in TYPES.items():
        slugs = ", ".join(f"`{slug}`" for slug, known in BY_SLUG.items() if known == name)
        if name == "session/channel-finalized":
            slugs = "`channel-…`"
        elif name == "verification-failed":
            slugs = "all others"
        elif name in READ_ALONE:
            slugs = "read, never sent"
        rows.append(f"| `{name}` | {status or 'as it stands'} | {slugs} |")
    return "\n".join(rows) + "\n"
