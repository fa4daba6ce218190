"""The seller's day: requests as they come, and a watcher beside them that looks after all channels of the wallet."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Union

from mpchan.errors import MpchanError, StorageError
from mpchan.market.seller import Seller
from mpchan.party.common import ENDED
from mpchan.party.watch.watcher import Round, Sight, Watcher
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
    tell_channel: Callable[[Sight], None],
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

    def look_after(sight: Sight) -> None:
        session = seller.session_of(sight.name)
        if session is not None and sight.sent is not None:
            seller.note_close()
        if session is not None and sight.status in ENDED:
            for inbox in inboxes:
                inbox.forget(session)
        tell_channel(sight)

    trouble: list[MpchanError] = []

    def requests_of(inbox: Inbox) -> list[Request]:
        try:
            return inbox.waiting()
        except StorageError as error:
            trouble[:] = [error]
            return []

    def answer(inbox: Inbox, request: Request) -> None:
        try:
            inbox.answer(request, seller.answer(request))
        except StorageError as error:  # the buyer will ask again
            trouble[:] = [error]

    tips: list[ChainTip | None] = [None]

    def renewed() -> None:
        tip = tips[-1]
        if renew is None or tip is None or not seller.is_renewal_due(tip):
            return
        try:
            seller.publish(renew())
        except MpchanError as error:
            trouble[:] = [error]

    def hear(beside: WatcherBeside) -> None:
        for seen in beside.seen():
            if isinstance(seen, Sight):
                look_after(seen)
            else:
                tips[:] = [seen.tip]
                tell_round(replace(seen, alarm=trouble[0]) if trouble and seen.alarm is None else seen)
                trouble.clear()

    pause, next_renewal = _SHORTEST_PAUSE, 0.0
    with WatcherBeside(watcher, interval=interval, wake=wake) as beside:
        while not stop():
            hear(beside)
            if time.monotonic() >= next_renewal:
                renewed()
                next_renewal = time.monotonic() + interval
            answered = 0
            for inbox in inboxes:
                for request in requests_of(inbox):
                    answer(inbox, request)
                    answered += 1
            pause = _SHORTEST_PAUSE if answered else min(pause * 1.2, _LONGEST_PAUSE)
            wake.wait(pause)
            wake.clear()
        beside.end()
        hear(beside)


# the watcher beside the seller --------------------------------------------------------------------
#
# In a thread of its own, so that neither buyers nor its rounds wait for each other, with its own objects for the wallet
# and the chain, as a process of its own would have. What it sees comes out of a queue, in the order in which it saw it;
# so one thread alone tells people, and keeps the seller's accounts.


Stop = Callable[[], bool]
MakeWatcher = Callable[[Stop], AbstractContextManager[Watcher]]
"""Called in the watcher's thread, with what is asked between two channels: True ends the round."""


class WatcherBeside:
    """Use it as a context manager: it watches from the beginning of the block to its end.

    Args:
        interval: seconds between two rounds.
        wake: set when something was seen.
    """

    def __init__(self, make: MakeWatcher, *, interval: float, wake: threading.Event) -> None:
        self._make = make
        self._interval = interval
        self._wake = wake
        self._ending = threading.Event()
        self._seen: queue.SimpleQueue[Union[Sight, Round, BaseException]] = queue.SimpleQueue()
        # a daemon: whoever ends the program at once, by a second Ctrl-C, waits for no round
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> WatcherBeside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let the watcher finish the channel that it is at, and wait for that."""
        self._ending.set()
        self._thread.join()

    def seen(self) -> Iterator[Union[Sight, Round]]:
        """What was seen since the last call: each channel of a round, and then the round.

        Raises:
            BaseException: what has ended the watcher.
        """
        while True:
            try:
                found = self._seen.get_nowait()
            except queue.Empty:
                return
            if isinstance(found, BaseException):
                raise found
            yield found

    def _run(self) -> None:
        try:
            with self._make(self._ending.is_set) as watcher:
                while not self._ending.is_set():
                    self._tell(watcher.round(self._tell))
                    self._ending.wait(self._interval)
        except BaseException as error:  # noqa: BLE001  # the other thread raises it
            self._tell(error)

    def _tell(self, found: Union[Sight, Round, BaseException]) -> None:
        self._seen.put(found)
        self._wake.set()
