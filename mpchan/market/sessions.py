"""The sessions of a sale: which stored channels, and which openings, serve which buyer.

A channel's own offer names its buyer, what it sells and for how much, so nothing else is needed to go on with a buyer:
neither the offers that were made out, nor the published one of that time. A seller whose wallet was restored, or that
asks for another rate today, serves the channels that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mpchan.errors import NotPossible, StorageError
from mpchan.party.offers.selling import sold_in
from mpchan.party.opening.terms import published_for
from mpchan.sale.manifest import Sale
from mpchan.units import OutPoint
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet


class Sessions:
    """The channels in which buyers of one file pay, as the wallet has them.

    Args:
        sale: as it is published now. A channel's own may differ in price and in what is free.
    """

    def __init__(self, wallet: Wallet, sale: Sale) -> None:
        self._wallet = wallet
        self._sale = sale
        self._seen: set[str] = set()
        self._serial = b""
        self._channels: dict[str, dict[str, Sale]] = {}  # by session and name of the channel
        self._unreadable: StorageError | None = None
        self._look()

    def channels(self, session: str) -> dict[str, Sale]:
        """The channels of a session that are known, and its openings, by name, each with what it sells."""
        if self._serial != self._wallet.openings.serial:  # what was left out may have become a channel
            self._look()
        try:
            openings = self._wallet.openings.of_session(session)
        except StorageError:  # whoever has a channel is served all the same
            if session not in self._channels:
                raise
            openings = []
        if any(self._wallet.channels.knows(opening.outpoint) for opening in openings):
            self._look()
        known = dict(self._channels.get(session, {}))
        for opening in openings:
            _, general = published_for(self._wallet, opening)
            if opening.name not in known and general.root == self._sale.root:
                known[opening.name] = replace(general, buyer=session, sold=opening.sold)
        return known

    def readable(self, session: str) -> dict[str, Sale]:
        """The same as far as it can be read."""
        try:
            return self.channels(session)
        except StorageError:
            return self._channels.get(session, {})

    def find(self, session: str, fits: Callable[[str], bool] = lambda name: True) -> dict[str, Sale]:
        """Those of a session's channels whose names fit, if it has any.

        Raises:
            NotPossible: ``unknown-session``, it has none.
            StorageError: as ``ChannelFiles.load``, where it has none, but one that cannot be read may be it.
        """
        found = self.channels(session)
        if not any(map(fits, found)):
            self._look()
            found = self.channels(session)
        if not found and self._unreadable is not None:
            raise self._unreadable
        if not found:
            raise NotPossible("unknown-session", f"session {session} has no channel here")
        return {name: sale for name, sale in found.items() if fits(name)}

    def take_in(self, session: str, name: str) -> None:
        """A session has this channel, which may have come just now."""
        if name not in self._channels.get(session, {}):
            self._look()

    def all(self) -> Iterator[tuple[str, str]]:
        """Every session that has a channel, with the name of each of its channels."""
        for session, channels in self._channels.items():
            for name in channels:
                yield session, name

    def session_of(self, name: str) -> str | None:
        """The session that a channel serves; None for a channel of something else."""
        return next((session for session, known in self.all() if known == name), None)

    def is_anybodys(self, name: str) -> bool:
        """Whether a session's channel, or its opening, has this name."""
        known = self.session_of(name) is not None
        return known or self._wallet.openings.find(OutPoint.parse(name)) is not None

    def _look(self) -> None:
        """Take in the channels that have come since, by this process or by a command beside it."""
        self._unreadable, self._serial = None, self._wallet.openings.serial
        for name in self._wallet.channels.names():
            if name in self._seen:
                continue
            try:
                record = self._wallet.channels.load(name)
            except StorageError as error:
                self._unreadable = error
                continue
            self._seen.add(name)
            sale = sold_in(record, self._sale)
            if sale is not None and sale.buyer is not None:
                # of the pieces' hashes one copy serves all channels
                self._channels.setdefault(sale.buyer, {})[name] = replace(sale, hashes=self._sale.hashes)
