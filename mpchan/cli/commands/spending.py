"""``mpchan payer spending``: what was spent, where and when."""

from __future__ import annotations

import csv
import io
import re

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import print_output
from mpchan.errors import UsageError
from mpchan.party.spending.report import spending as report
from mpchan.results.spending import Spending

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


@options.command(
    "mpchan payer spending",
    "mpchan payer spending --since 2026-11-01 --csv > november.csv",
)
@click.option("--since", metavar="DATE", help="From this day on, YYYY-MM-DD in UTC.")
@click.option("--until", metavar="DATE", help="Up to this day.")
@click.option("--origin", metavar="URL", help="Of this server alone, such as https://api.example.")
@click.option("--csv", "as_csv", is_flag=True, help="A table for spreadsheets (RFC 4180).")
def spending(app: App, since: str | None, until: str | None, origin: str | None, as_csv: bool) -> None:
    """What was spent, by day and channel, and at which server.

    Signed is what this wallet has signed away, charged what the server says to have charged of it; the difference pays
    for the next requests, and comes back when the channel closes.
    """
    if as_csv and app.json:
        raise UsageError("usage", "give --csv or --json, not both")
    for date in (since, until):
        if date is not None and not _is_day(date):
            raise UsageError("usage", f"not a day: {date!r:.40}", hint="write it as 2026-11-30")
    wallet = app.wallet()
    found = report(wallet, since=since or "", until=until or "9999", origin=_origin(origin))
    if as_csv:
        print_output(_csv(found).rstrip("\n"))
    else:
        app.answer(found, _table)
    app.warn(found.warnings)


def _is_day(text: str) -> bool:
    from datetime import date

    try:
        return _DATE.fullmatch(text) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _origin(url: str | None) -> str | None:
    if url is None:
        return None
    from mpchan.http.client.demands import origin_of

    return origin_of(url)


def _csv(found: Spending) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["date", "origin", "what", "channel", "signed_sat", "charged_sat"])
    for line in found.lines:
        texts = [_harmless(text or "") for text in (line.origin, line.what)]
        writer.writerow([line.date, *texts, line.channel, line.signed_sat, line.charged_sat])
    return out.getvalue()


def _harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _table(found: Spending) -> str:
    if not found.lines:
        return "nothing was spent"
    rows = [("day", "server", "channel", "signed", "charged")]
    for line in found.lines:
        where = "by hand" if line.origin is None else line.origin + (f" {line.what}" if line.what else "")
        rows.append((line.date, where, line.channel, f"{line.signed_sat:,}", f"{line.charged_sat:,}"))
    rows.append(("", "", "in all", f"{found.signed_sat:,}", f"{found.charged_sat:,}"))
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    lines = [
        "  ".join(
            text.rjust(width) if at > 2 else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if found.budget_sat is not None:
        lines.append(f"today {found.taken_sat:,} of {found.budget_sat:,} sat are taken")
    return "\n".join(lines)
