"""How much room strangers get who ask for refunds, and how it is shared out among them.

Of nearly all of them a short note is kept (``wallet.openings``), until the chain shows a funding or the offer has
expired for a day. There is room for so many notes; as it fills, one source gets ever less of what is left, so that
another one that has nothing yet is served until the very end. Where a note cannot hold the wish, a channel is made at
once, and of such channels only so many are made in an hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from mpchan.errors import StorageError, TooEarly
from mpchan.units import OutPoint
from mpchan.wallet.opening import Opening
from mpchan.wallet.openings import MOST_OPENINGS
from mpchan.wallet.wallet import Wallet

SHARE = 20
"""One source gets a note as long as it has fewer than the 20th part of the room that is left."""

MOST_LARGE = 1_000
CROWD_SECONDS = 3600
"""So many channels that hold no payment yet are made within so much time for wishes that no note can hold."""


class Room:
    """What is left of the room for one sale.

    Args:
        clock: seconds since 1970.
        channels: the sessions that are known, each with the name of a channel.
    """

    def __init__(
        self, wallet: Wallet, clock: Callable[[], float], channels: Iterable[tuple[str, str]]
    ) -> None:
        self._wallet = wallet
        self._clock = clock
        self._unpaid: dict[str, float] = {}  # by session: since when it has a channel that holds no payment
        self._sources: dict[OutPoint, str | None] = {}  # whose note it is, as far as this process knows
        for session, name in channels:
            if not has_paid(wallet, name):
                self._unpaid[session] = wallet.channels.changed_at(name) / 1e9

    def admit(self, session: str, source: str | None, opening: Opening | None) -> None:
        """Give an opening room, or a channel where its wish is too large for a note.

        Args:
            source: where the request came from; None where that cannot be told, in a mailbox.

        Raises:
            TooEarly: ``too-many-offers``.
        """
        if opening is None:
            self._admit_large(session)
            return
        left = MOST_OPENINGS - len(self._wallet.openings)
        held = self._held_by(source)
        # whoever writes into a mailbox cannot be told apart: all of them together get half, and leave half to others
        share = left if source is None else -(-left // SHARE)
        if held >= share:
            raise TooEarly(
                "too-many-offers",
                f"{MOST_OPENINGS - left} refunds are signed whose fundings have not come, {held} of them for your "
                "address: there is no room for another one yet",
            )
        self._sources[opening.outpoint] = source

    def paid(self, session: str) -> None:
        """A buyer has paid: it is no stranger any more."""
        self._unpaid.pop(session, None)

    def _held_by(self, source: str | None) -> int:
        """How many notes of a source there are."""
        openings = self._wallet.openings
        if len(self._sources) > len(openings):  # others were left out since
            there = openings.scripts()
            self._sources = {outpoint: one for outpoint, one in self._sources.items() if outpoint in there}
        return Counter(self._sources.values())[source]

    def _admit_large(self, session: str) -> None:
        since = self._clock() - CROWD_SECONDS
        recent = sum(made > since for made in self._unpaid.values())
        if recent >= MOST_LARGE:
            raise TooEarly(
                "too-many-offers",
                f"channels for {recent} wishes of very many single pieces were made within {CROWD_SECONDS} s, and "
                "nothing is paid in them yet: wish for fewer spans of pieces, or come later",
            )
        self._unpaid.setdefault(session, self._clock())


def has_paid(wallet: Wallet, name: str) -> bool:
    """Whether a channel holds a payment; one that cannot be read is taken for such a one."""
    try:
        return bool(wallet.channels.load(name).credit(None).paid)
    except StorageError:
        return True
