"""What an offer's version and expiry mean for whoever is about to begin a channel under it.

A channel that has begun, because its refund is signed, goes on to its end whatever the version, and nothing expires it.
"""

from __future__ import annotations

from mpchan.channel.offer import OFFER_VERSIONS, Offer
from mpchan.channel.rules import Check, Rule
from mpchan.errors import NotPossible, ParseError
from mpchan.units import OutPoint

LEAST_SECONDS_LEFT = 6 * 3600
"""A payer locks money only under an offer that holds so long yet: its funding has to be seen before it expires."""


def is_current(offer: Offer) -> bool:
    """Whether a channel may still begin under an offer of this version; else money comes back, and nothing more."""
    return offer.version == OFFER_VERSIONS[-1]


def version_rules(offer: Offer, paid: OutPoint | str | None = None) -> Check[None]:
    """Nothing new is begun under an offer of an older version: its transactions could be held up in the mempool.

    Args:
        paid: the output that lies on its channel's address, or what such a one is called; None where there is none.
    """
    hint = "ask for a new offer; the payee makes one with the same terms by `mpchan payee offer --like`"
    if paid is not None:
        hint += f"; what was paid comes back by `mpchan payer open --again {paid}`, once a block holds it"
    yield Rule(
        "offer-version",
        is_current(offer),
        f"version of offer {offer.offer_id}",
        OFFER_VERSIONS[-1],
        offer.version,
        error=ParseError,
        hint=hint,
    )


def has_expired(offer: Offer, now: int) -> bool:
    """Whether the payee signs nothing new under its offer any more.

    Args:
        now: Unix time.
    """
    return bool(offer.expires) and now >= offer.expires


def expired_rules(offer: Offer, now: int) -> Check[None]:
    """The payee still signs under its offer.

    Args:
        now: Unix time.
    """
    yield Rule(
        "offer-expired",
        not has_expired(offer, now),
        f"offer {offer.offer_id} expired at Unix time {offer.expires}, it is {now}",
        hint=f"make another with `mpchan payee offer --like {offer.offer_id}`",
    )


def lasting_rules(offer: Offer, now: int) -> Check[None]:
    """An offer holds long enough for a payer to lock money under it.

    Args:
        now: Unix time.
    """
    left = offer.expires - now
    yield Rule(
        "offer-expired",
        not offer.expires or left >= LEAST_SECONDS_LEFT,
        f"seconds until offer {offer.offer_id} expires",
        f"at least {LEAST_SECONDS_LEFT}",
        max(left, 0),
        error=NotPossible,
        hint="ask the payee for a new offer; an opening under this one is given up with `mpchan payer abandon`",
    )
