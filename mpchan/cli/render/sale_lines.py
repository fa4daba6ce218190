"""What ``mpchan payee sell`` tells, line by line: JSON, or words for people."""

from __future__ import annotations

import time

from mpchan.channel.offer import Offer
from mpchan.cli.app import App
from mpchan.cli.input.numbers import counted
from mpchan.cli.render.watch_lines import Lines
from mpchan.market.seller import Event
from mpchan.party.watch.watcher import clock
from mpchan.results.base import Result
from mpchan.results.sales import OfferPublished
from mpchan.sale.manifest import Sale

_SHOWN_DIGITS = 8


class SaleLines(Lines):
    """A watcher's lines, and those of the sale."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._settled: set[str] = set()

    @property
    def settled(self) -> int:
        """How many buyers have paid and settled since the start."""
        return len(self._settled)

    def event(self, event: Event) -> None:
        """After each request."""
        if event.kind == "settlement" and event.error is None and event.paid:
            self._settled.add(event.session)
        now = clock(time.time())
        self._tell(f"{now}  {event_line(event)}", event.result(now))

    def published(self, words: str, event: str, offer: Offer) -> None:
        """After an offer for everybody is in its places."""
        now = clock(time.time())
        self._tell(f"{now}  {words}", OfferPublished(now, event, offer.offer_id))

    def _tell(self, line: str, result: Result) -> None:
        """A line of the sale; where nobody reads any more, that is noted, and the sale ends."""
        if self._app.json:
            self._print(result.to_json())
        elif not self._app.quiet:
            self._print(line)


def selling_line(sale: Sale, offer_id: str) -> str:
    """What is on sale."""
    free = f", {sale.free_pieces} of them free" if sale.free_pieces else ""
    return (
        f"on sale: {sale.name!r}, {sale.length:,} bytes in {counted(sale.count, 'piece')}{free}, "
        f"{sale.price.sat:,} sat each; offer {offer_id}"
    )


def renewed_line(offer: Offer) -> str:
    """What is published from now on."""
    return f"another offer is published, {offer.offer_id}, at {offer.fee_rate}"


def event_line(event: Event) -> str:
    """What happened with one request."""
    who = f"buyer {event.session[:_SHOWN_DIGITS]}"
    if event.error is not None:
        return f"{who}: {event.kind} refused: {event.error.message}"
    total = "" if event.paid is None else f"{event.paid.sat:,}"
    pending = f", {event.pending.sat:,} more once it is confirmed" if event.pending else ""
    texts = {
        "offer": "asks for an offer, and gets one",
        "refund": f"opens channel {event.channel}, the refund is signed",
        "funding": f"channel {event.channel} has its funding",
        "update": f"piece {event.piece} for {event.received.sat:,} sat, {total} in all",
        "piece": f"piece {event.piece} {'again' if event.channel else 'for free'}",
        "settlement": f"settles channel {event.channel}, {total} sat{pending}",
    }
    return f"{who}: {texts[event.kind]}"
