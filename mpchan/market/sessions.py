"""The sessions of a sale: which stored channels serve which buyer.

A channel's own offer names its buyer, what it sells and for how much, so nothing else is needed to go on with a buyer:
neither the offers that were made out, nor the published one of that time. A seller whose wallet was restored, or that
asks for another rate today, serves the channels that it has.
"""

from __future__ import annotations

from collections.abc import Callable

from mpchan.channel.offer import Offer
from mpchan.channel.sale import Sale, sale_of
from mpchan.errors import NotPossible, ParseError, StorageError
from mpchan.values import replace
from mpchan.wallet.payee_record import PayeeRecord
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
        self._channels: dict[str, dict[str, Sale]] = {}  # by session and name of the channel
        self._unreadable: StorageError | None = None
        self._look()

    def channels(self, session: str) -> dict[str, Sale]:
        """The channels of a session that are known, by name, each with what it sells."""
        return self._channels.get(session, {})

    def find(self, session: str, fits: Callable[[str], bool] = lambda name: True) -> dict[str, Sale]:
        """Those of a session's channels whose names fit, if it has any.

        Raises:
            NotPossible: ``unknown-session``, it has none.
            StorageError: as ``Wallet.load_channel``, where it has none, but one that cannot be read may be it.
        """
        if not any(map(fits, self.channels(session))):
            self._look()
        found = self.channels(session)
        if not found and self._unreadable is not None:
            raise self._unreadable
        if not found:
            raise NotPossible("unknown-session", f"session {session} has no channel here")
        return {name: sale for name, sale in found.items() if fits(name)}

    def session_of(self, name: str) -> str | None:
        """The session that a channel serves; None for a channel of something else."""
        for session, channels in self._channels.items():
            if name in channels:
                return session
        return None

    def _look(self) -> None:
        """Take in the channels that have come since, by this process or by a command beside it."""
        self._unreadable = None
        for name in self._wallet.channel_names():
            if name in self._seen:
                continue
            try:
                record = self._wallet.load_channel(name)
            except StorageError as error:
                self._unreadable = error
                continue
            self._seen.add(name)
            sale = self._sold_in(record.terms.offer) if isinstance(record, PayeeRecord) else None
            if sale is not None and sale.buyer is not None:
                self._channels.setdefault(sale.buyer, {})[name] = sale

    def _sold_in(self, offer: Offer) -> Sale | None:
        """What an offer sells, where it is this file; of the pieces' hashes one copy serves all channels."""
        try:
            sale = sale_of(offer)
        except (NotPossible, ParseError):
            return None
        return replace(sale, hashes=self._sale.hashes) if sale.root == self._sale.root else None
