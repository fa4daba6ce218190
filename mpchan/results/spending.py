"""What a payer has spent, where and when."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class SpentLine(Result):
    """What was spent in one channel on one day.

    Attributes:
        date: YYYY-MM-DD, in UTC
        origin: of the server; null for a channel that was opened by hand
        what: the file that is bought; null for a service, and by hand
        signed_sat: what was signed away, in satoshi
        charged_sat: what the server has charged by its receipts, in satoshi; by hand what was signed away
    """

    date: str
    origin: str | None
    what: str | None
    channel: str
    signed_sat: int
    charged_sat: int


@frozen
class Spending(Result):
    """What was spent, by day and channel, the oldest first.

    Attributes:
        lines: a day in a channel each
        signed_sat: all that was signed away, in satoshi
        charged_sat: all that was charged, in satoshi
        budget_sat: what programs may spend a day without asking, in satoshi; null without a limit
        taken_sat: what was taken of today's budget, in satoshi
    """

    lines: tuple[SpentLine, ...]
    signed_sat: int
    charged_sat: int
    budget_sat: int | None
    taken_sat: int
    warnings: tuple[str, ...] = ()
