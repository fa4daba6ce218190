"""What a payer lets programs spend without asking, from wallet.toml, and what was taken of today's budget.

spending/<YYYY-MM-DD>.json   a day, in UTC: so much of its budget was taken
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, suppress
from typing import Any

from mpchan.units import MAX_MONEY_SAT, checked_int
from mpchan.values import frozen
from mpchan.wallet.storage import locked, make_directory, remove_durably
from mpchan.wallet.store import Store

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@frozen
class SpendingLimits:
    """What is paid over HTTP without asking; all in satoshi, None for no limit of that kind.

    Attributes:
        per_call_sat: for one request.
        per_deposit_sat: into one channel; None asks each time.
        per_day_sat: signed for in a day, in UTC.
        per_payee_sat: signed for in all, to one origin.
    """

    per_call_sat: int | None = None
    per_deposit_sat: int | None = None
    per_day_sat: int | None = None
    per_payee_sat: int | None = None


@frozen
class Day:
    """What was taken of a day's budget.

    Attributes:
        date: ``YYYY-MM-DD``, in UTC.
        taken: satoshi.
    """

    date: str
    taken: int


class Days(Store[Day]):
    """The days of one wallet, of which the last one counts."""

    folder, kind, slug = "spending", "day", "spending-damaged"
    hint = "move the file away: today's budget begins anew then"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the budget."""
        make_directory(self.directory)
        return locked(self.directory / "lock")

    def last(self) -> Day | None:
        """The latest day of which something was taken.

        Raises:
            StorageError: ``spending-damaged``.
        """
        files = self.files()
        return self.load(files[-1]) if files else None

    def set(self, day: Day) -> None:
        """Write a day, and forget those before it; durable on return."""
        self.save(day)
        for path in self.files():
            if path.stem < day.date:
                with suppress(FileNotFoundError):
                    remove_durably(path)

    def _name(self, value: Day) -> str:
        return value.date

    def _to_table(self, value: Day) -> dict[str, Any]:
        return {"date": value.date, "taken_sat": value.taken}

    def _from_table(self, body: Any, name: str) -> Day:
        if type(body["date"]) is not str or _DAY.fullmatch(body["date"]) is None:
            raise ValueError(f"no date: {body['date']!r:.40}")
        return Day(body["date"], checked_int(body["taken_sat"], 0, MAX_MONEY_SAT, "taken_sat"))
