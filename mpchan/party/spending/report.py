"""What was spent where, as the journals of a payer's channels tell it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from mpchan.errors import MpchanError, StorageError
from mpchan.results.spending import Spending, SpentLine
from mpchan.wallet.past import history
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.spending import Days
from mpchan.wallet.wallet import Wallet


def day_of(unix: float) -> str:
    """The day of a time, ``YYYY-MM-DD`` in UTC."""
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%d")


def spending(
    wallet: Wallet,
    *,
    since: str = "",
    until: str = "9999",
    origin: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Spending:
    """``payer spending``: by day and channel.

    What a channel has no line of any more, because its closed files were moved away, counts for the day of its first
    line that is left.

    Args:
        since, until: days, both included.
        origin: of the server; None for all, and for what was paid by hand.
    """
    problems: list[str] = []

    def unreadable(name: str, error: MpchanError) -> None:
        problems.append(error.message)

    found = [
        line
        for record in wallet.channels.readable(unreadable)
        if isinstance(record, PayerRecord) and (origin is None or _origin(record) == origin)
        for line in _lines(record, _changes(wallet, record))
        if since <= line.date <= until
    ]
    last = None
    try:
        last = Days(wallet.directory).last()
    except StorageError as error:
        problems.append(error.message)
    return Spending(
        lines=tuple(sorted(found, key=lambda line: (line.date, line.origin or "", line.channel))),
        signed_sat=sum(line.signed_sat for line in found),
        charged_sat=sum(line.charged_sat for line in found),
        budget_sat=wallet.config.spending.per_day_sat,
        taken_sat=last.taken if last is not None and last.date >= day_of(clock()) else 0,
        warnings=tuple(problems),
    )


def _origin(record: PayerRecord) -> str | None:
    return None if record.purpose is None else record.purpose.origin


def _changes(wallet: Wallet, record: PayerRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each day on which something changed, with the new values."""
    journal = wallet.channels.journal_path(record.terms.name)
    for entry, _ in history(journal, record.terms.name):
        yield day_of(entry.time), entry.changes


def _lines(record: PayerRecord, changes: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[SpentLine]:
    """The days on which something was signed away or charged in a channel."""
    purpose = record.purpose
    days: dict[str, list[int]] = {}
    signed = charged = 0
    for date, values in changes:
        update, settled = values.get("update"), values.get("settlement_sat")
        now = max(signed, update["paid_sat"] if update else 0, settled or 0)
        day = days.setdefault(date, [0, 0])
        day[0] += now - signed
        spent = max(charged, values.get("spent_sat", 0)) if purpose is not None else now
        day[1] += spent - charged
        signed, charged = now, spent
    for date, (rise, cost) in days.items():
        if rise or cost:
            origin, what = (None, None) if purpose is None else (purpose.origin, purpose.what)
            yield SpentLine(date, origin, what, record.terms.channel_id, rise, cost)
