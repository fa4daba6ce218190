"""What a seller says instead of an answer."""

from __future__ import annotations

import json
from typing import Any

from mpchan.errors import SellerRefused
from mpchan.values import frozen

_PASSING = (6, 7, 8)
"""Exit codes of refusals that may pass by themselves: too early, a lock that is held, a chain out of reach."""


ANOTHER_OFFER = (
    "offer-expired",
    "offer-used",
    "offer-version",
    "offer-void",
    "unknown-offer",
    "unknown-session",
)
"""Why a seller signs no refund under an offer that it made out, where it would under another."""


NEWER_OFFER = ("offer-expired", "offer-version", "offer-void", "other-sale")
"""Why a seller makes out no offer under the published one that a buyer has, where it would under its present one."""

_MENDABLE = ("file-changed",)
"""Why a seller cannot deliver now, where it may be put right: the file is not the one that was put on sale."""


@frozen
class Refusal:
    """A refusal as the buyer takes it.

    Attributes:
        passes: whether the same request may get another answer later, by itself or because the seller puts it right.
    """

    error: SellerRefused
    passes: bool


def read_refusal(body: bytes) -> Refusal:
    """What the seller says; its words are cut and made harmless, since it could do anything to a terminal with them."""
    try:
        table: Any = json.loads(body)
        slug, message, code = table["error"], table["message"], table["exit_code"]
        said, reason = f"({slug!s:.40}): {message!s:.200}", str(slug)
    except (ValueError, TypeError, KeyError, RecursionError):
        said, reason, code = "(unreadable): no reason that can be read", "", 0
    shown = "".join(mark if mark.isprintable() else "?" for mark in said)
    error = SellerRefused("seller-refused", f"the seller refuses {shown}", reason=reason)
    return Refusal(error, passes=code in _PASSING or reason in _MENDABLE)
