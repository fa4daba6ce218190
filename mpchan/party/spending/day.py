"""The budget of a day, in UTC, taken in slices: what a slice holds is paid without a word to the disk.

A slice is on the disk before anything of it is signed away. So whatever ends the process, never more is spent in a day
than its budget, and what was left in a slice is lost for that day. A clock that is set back begins no day again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone

from mpchan.errors import NotPossible, StorageError
from mpchan.wallet.spending import Day, Days
from mpchan.wallet.wallet import Wallet

SLICES = 50
"""A budget is taken in as many parts at the most."""


class DaysBudget:
    """What one process may spend in a day.

    Args:
        most: satoshi a day; None for no limit.
        clock: seconds since 1970.
    """

    def __init__(self, wallet: Wallet, most: int | None, clock: Callable[[], float]) -> None:
        self._days = Days(wallet.directory)
        self._most = most
        self._clock = clock
        self._date, self._left = "", 0

    def take(self, sat: int) -> None:
        """Take so much of today's budget; what may be spent is on the disk on return.

        Raises:
            NotPossible: ``limit-needed``, there is not so much left of it.
            StorageError: the wallet fails.
        """
        if self._most is None or not sat:
            return
        today = datetime.fromtimestamp(self._clock(), timezone.utc).strftime("%Y-%m-%d")
        if max(today, self._date) == self._date and sat <= self._left:
            self._left -= sat
            return
        with self._days.lock():
            last = self._days.last()
            date = today if last is None else max(today, last.date)
            taken = last.taken if last is not None and last.date == date else 0
            have = self._left if self._date == date else 0
            slice_ = min(self._most - taken, max(sat - have, -(-self._most // SLICES)))
            if have + slice_ < sat:
                raise NotPossible(
                    "limit-needed",
                    f"{sat} sat are more than the {max(0, have + slice_)} that are left of per_day_sat, {self._most}, "
                    f"for {date}",
                    hint="wait for the next day (UTC), or raise per_day_sat in [spending] of wallet.toml",
                )
            self._days.set(Day(date, taken + slice_))
        self._date, self._left = date, have + slice_ - sat

    def give_back(self) -> None:
        """What is left of the slice serves others again. Nothing depends on it."""
        if not self._left:
            return
        with suppress(StorageError), self._days.lock():
            last = self._days.last()
            if last is not None and last.date == self._date:
                self._days.set(Day(last.date, max(0, last.taken - self._left)))
        self._left = 0
