"""The seller's day: requests as they come, and a watcher beside them that looks after all channels of the wallet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from mpchan.errors import MpchanError, StorageError
from mpchan.market.seller import Seller
from mpchan.party.common import ENDED
from mpchan.party.watch.beside import MakeWatcher, WatcherBeside
from mpchan.party.watch.watcher import Finding, Round
from mpchan.transport.base import Inbox, Request
from mpchan.units import ChainTip
from mpchan.values import replace
from mpchan.wallet.offers import OwnOffer

_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.1
"""Seconds between two looks into a mailbox; nothing tells that a file has come."""


def serve(
    seller: Seller,
    inboxes: Sequence[Inbox],
    watcher: MakeWatcher,
    *,
    interval: float,
    wake: threading.Event,
    stop: Callable[[], bool],
    tell_channel: Callable[[Finding], None],
    tell_round: Callable[[Round], None],
    renew: Callable[[], OwnOffer] | None = None,
) -> None:
    """Answer buyers until it is enough, beside a watcher that has a thread of its own.

    All else happens in the thread that calls this. What ends the watcher ends the serving, and is raised here. A
    mailbox that cannot be used is an alarm of the next round, and no end: the channels need their watcher, and the
    other buyers their pieces.

    Args:
        watcher: makes the watcher, in its own thread and with objects of its own.
        interval: seconds between two rounds of the watcher.
        wake: set by an inbox in which something has come, and by the watcher.
        stop: asked again and again; True ends the serving.
        tell_channel: is told of each channel in a round.
        tell_round: is told of the end of a round.
        renew: publishes another offer; asked for it where that is due. Where that fails, it is an alarm of the next
            round, and the offer before holds on.
    """
    serving = _Serving(seller, inboxes, tell_channel, tell_round)
    pause, next_renewal = _SHORTEST_PAUSE, 0.0
    with WatcherBeside(watcher, interval=interval, wake=wake) as beside:
        while not stop():
            serving.hear(beside)
            if renew is not None and time.monotonic() >= next_renewal:
                serving.renew(renew)
                next_renewal = time.monotonic() + interval
            pause = _SHORTEST_PAUSE if serving.answer() else min(pause * 1.2, _LONGEST_PAUSE)
            wake.wait(pause)
            wake.clear()
        beside.end()
        serving.hear(beside)


class _Serving:
    """What ``serve`` does again and again. What fails on the way is told with the next round."""

    def __init__(
        self,
        seller: Seller,
        inboxes: Sequence[Inbox],
        tell_channel: Callable[[Finding], None],
        tell_round: Callable[[Round], None],
    ) -> None:
        self._seller = seller
        self._inboxes = inboxes
        self._tell_channel = tell_channel
        self._tell_round = tell_round
        self._trouble: MpchanError | None = None
        self._tip: ChainTip | None = None

    def answer(self) -> int:
        """Answer all requests that wait; how many they were."""
        answered = 0
        for inbox in self._inboxes:
            for request in self._requests_of(inbox):
                try:
                    inbox.answer(request, self._seller.answer(request))
                except StorageError as error:  # the buyer will ask again
                    self._trouble = error
                answered += 1
        return answered

    def _requests_of(self, inbox: Inbox) -> Sequence[Request]:
        try:
            return inbox.waiting()
        except StorageError as error:
            self._trouble = error
            return []

    def renew(self, renew: Callable[[], OwnOffer]) -> None:
        """Publish another offer, if that is due."""
        if self._tip is None or not self._seller.is_renewal_due(self._tip):
            return
        try:
            self._seller.publish(renew())
        except MpchanError as error:
            self._trouble = error

    def hear(self, beside: WatcherBeside) -> None:
        """Take and tell what the watcher has seen."""
        for seen in beside.seen():
            if isinstance(seen, Finding):
                self._note(seen)
                self._tell_channel(seen)
                continue
            self._tip = seen.tip
            told = self._trouble is not None and seen.alarm is None
            self._tell_round(replace(seen, alarm=self._trouble) if told else seen)
            self._trouble = None

    def _note(self, finding: Finding) -> None:
        session = self._seller.session_of(finding.name)
        if session is None:
            return
        if finding.sent is not None:
            self._seller.note_close()
        if finding.status in ENDED:
            for inbox in self._inboxes:
                inbox.forget(session)
