"""The seller's day: requests as they come, and between them a watcher's round over all channels of the wallet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from mpchan.market.seller import Seller
from mpchan.party.common import ENDED
from mpchan.party.watch import Round, Sight, Watcher
from mpchan.transport.base import Inbox

_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.1
"""Seconds between two looks into a mailbox; nothing tells that a file has come."""


def serve(
    seller: Seller,
    inboxes: Sequence[Inbox],
    watcher: Watcher,
    *,
    interval: float,
    wake: threading.Event,
    stop: Callable[[], bool],
    tell_channel: Callable[[Sight], None],
    tell_round: Callable[[Round], None],
) -> None:
    """Answer buyers until it is enough. All of it happens in the thread that calls this.

    Args:
        interval: seconds between two rounds of the watcher.
        wake: set by an inbox in which something has come.
        stop: asked again and again; True ends the serving.
        tell_channel: is told of each channel in a round.
        tell_round: is told of the end of a round.
    """

    def look_after(sight: Sight) -> None:
        session = seller.session_of(sight.name)
        if session is not None and sight.status in ENDED:
            for inbox in inboxes:
                inbox.forget(session)
        tell_channel(sight)

    pause, next_round = _SHORTEST_PAUSE, 0.0
    while not stop():
        if time.monotonic() >= next_round:
            tell_round(watcher.round(look_after))
            next_round = time.monotonic() + interval
        answered = 0
        for inbox in inboxes:
            for request in inbox.waiting():
                inbox.answer(request, seller.answer(request))
                answered += 1
        pause = _SHORTEST_PAUSE if answered else min(pause * 1.2, _LONGEST_PAUSE)
        wake.wait(min(pause, max(0.0, next_round - time.monotonic())))
        wake.clear()
