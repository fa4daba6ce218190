"""What a watcher does about openings: those whose fundings have come become channels, and old ones are forgotten.

Forgotten is only an opening whose offer expired a day ago, by our clock and by the chain's median time, and whose
funding no backend shows, asked in two rounds. The high-water mark goes to the disk with the deletion, so that nothing
is ever signed a second time under an offer of which it is not known any more whether anything was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from mpchan.chain.base import Chain, OutputStatus
from mpchan.errors import StorageError
from mpchan.party.opening.notes import is_shown, make_channel, record_of
from mpchan.units import ChainTip, LockTime, MedianTime, OutPoint
from mpchan.wallet.wallet import Wallet

DAY_SECONDS = 24 * 3600

_NOT_BEFORE_SECONDS = 3 * DAY_SECONDS
"""So long before an offer's expiry nothing was signed under it: it holds for a day, and the chain's time lags."""

ASKED_AT_ONCE = 1_000
_TIDY_ROUNDS = 100
"""In every so many rounds the openings are left out that have become channels."""


class OpeningRound:
    """The openings of one wallet, round by round. All that it remembers can be lost.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, wallet: Wallet, chain: Chain, clock: Callable[[], float]) -> None:
        self._wallet = wallet
        self._chain = chain
        self._clock = clock
        self._rounds = 0
        self._become: set[OutPoint] = set()
        self._unseen: set[OutPoint] = set()  # old ones whose fundings were asked for in vain once

    def look(self, tip: ChainTip) -> None:
        """One round."""
        openings = self._wallet.openings
        scripts = openings.scripts()
        if not self._rounds % _TIDY_ROUNDS:
            self._become = {outpoint for outpoint in scripts if self._wallet.channels.knows(outpoint)}
            if self._become:
                with self._wallet.lock():
                    openings.leave_out(self._become)
                scripts = openings.scripts()
        self._rounds += 1
        waiting = {outpoint: script for outpoint, script in scripts.items() if outpoint not in self._become}
        if waiting:
            self._make_channels(self._chain.appeared(waiting))
            self._forget(tip)

    def _make_channels(self, found: Collection[OutPoint]) -> None:
        for outpoint in found:
            opening = self._wallet.openings.find(outpoint)
            try:
                if opening is not None and is_shown(self._chain, record_of(self._wallet, opening).terms):
                    make_channel(self._wallet, outpoint.name)
            except StorageError as error:
                if error.slug.startswith("passphrase-"):
                    return  # nothing is owed in any of them; whoever brings a payment has the keys at hand
                raise
            if self._wallet.channels.knows(outpoint):
                self._become.add(outpoint)

    def _forget(self, tip: ChainTip) -> None:
        """Leave out what is over, unless the clock or the chain may be wrong about the time."""
        now = min(int(self._clock()), tip.median_time)
        due = self._wallet.openings.expired_by(now - DAY_SECONDS)
        if tip.lag is not None or not due:
            return
        asked = sorted(due, key=lambda outpoint: outpoint not in self._unseen)[:ASKED_AT_ONCE]
        seen = self._statuses(asked, due)
        self._make_channels(seen)
        over = [outpoint for outpoint in asked if outpoint not in seen and outpoint in self._unseen]
        self._unseen = {outpoint for outpoint in asked if outpoint not in seen}.difference(over)
        if over:
            with self._wallet.lock():
                left = [outpoint for outpoint in over if not self._wallet.channels.knows(outpoint)]
                mark = max((due[outpoint] for outpoint in left), default=0)
                self._wallet.openings.leave_out(over, forgotten=mark)

    def _statuses(
        self, asked: Collection[OutPoint], due: dict[OutPoint, int]
    ) -> dict[OutPoint, OutputStatus]:
        """What the chain has of old openings, looked for wherever it could be."""
        bounds: dict[OutPoint, LockTime | None] = {}
        for outpoint in asked:
            earliest = due[outpoint] - _NOT_BEFORE_SECONDS
            bounds[outpoint] = MedianTime(earliest) if earliest >= MedianTime.lowest else None
        return self._chain.outputs(bounds)
