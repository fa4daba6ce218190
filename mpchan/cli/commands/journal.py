"""``mpchan history`` and ``mpchan fsck``: what happened, and whether all of it is still there."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import print_pieces, visible
from mpchan.results.channels import History, HistoryEvent
from mpchan.results.checks import FilesChecked

_COLUMNS = f"{'time (UTC)':19}  {'event':13}  {'amount':>12}  {'total':>12}  {'lock time':>10}"
_TXID = 64
"""Its hex digits."""
_AT_ONCE = 500
"""Events that are printed with one write."""


@options.command("mpchan history 0123abcd", "mpchan history 0123abcd --json")
@options.named_channel
def history(app: App, channel: str | None) -> None:
    """All that happened in a channel.

    The oldest event comes first; CHANNEL is any unique beginning of its id. Amounts are in satoshi, and the total is
    what the payee has. With --json each event has, as hex, the message that left or arrived with it.
    """
    from mpchan.party.history import history as party

    result = party(app.wallet(), channel)
    print_pieces(_as_json(result) if app.json else _as_table(result))


def _as_json(result: History) -> Iterator[str]:
    """One object on one line, however long."""
    yield f'{{"channel": "{result.channel}", "events": ['
    separator = ""
    for some in _groups(result.events):
        yield separator + ", ".join(event.to_json() for event in some)
        separator = ", "
    yield "]}\n"


def _as_table(result: History) -> Iterator[str]:
    """One event on a line; the txid below it where a terminal has no room for both."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    room = shutil.get_terminal_size().columns if terminal else None
    before_txid = "\n  " if room is not None and room < len(_COLUMNS) + 2 + _TXID else "  "
    yield f"{_COLUMNS}{before_txid}txid\n"
    for some in _groups(result.events):
        yield "".join(_row(event, before_txid) + "\n" for event in some)


def _groups(events: Iterable[HistoryEvent]) -> Iterator[list[HistoryEvent]]:
    waiting = iter(events)
    while some := list(islice(waiting, _AT_ONCE)):
        yield some


def _row(event: HistoryEvent, before_txid: str) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.time))
    amount = f"{event.amount_sat:,}" if event.amount_sat else ""
    lock_time = "" if event.lock_time is None else str(event.lock_time)
    row = f"{moment:19}  {visible(event.event):13}  {amount:>12}  {event.paid_sat:>12,}  {lock_time:>10}"
    return row.rstrip() if event.txid is None else f"{row}{before_txid}{event.txid}"


@options.command("mpchan fsck", "mpchan fsck --repair")
@options.named_channel
@click.option("--repair", is_flag=True, help="Mend what can be mended; damaged files are kept beside.")
def fsck(app: App, channel: str | None, repair: bool) -> int:
    """Check that the wallet's files are whole.

    With CHANNEL only those of one channel. Checksums, the journal's chain, the state file against the journal, the
    stored transactions against the terms, and every signature against its key. The chain is not asked. The exit code is
    0 when all is well or was mended, else 7; what is wrong stands on stdout then too.

    --repair rebuilds a channel's state file from its journal and cuts off what was never finished. Where the journal
    itself is damaged, a new one begins with what the state file holds, and it says whether payments may be missing.
    """
    from mpchan.party.check.fsck import fsck as party

    result = party(app.wallet(), channel, repair=repair)
    app.answer(result, lambda view: "\n".join(_findings(view)))
    app.warn(result.warnings)
    return result.exit_code


def _findings(view: FilesChecked) -> Iterable[str]:
    """A line for each thing that was looked at, and one for each that is wrong with it."""
    for subject in view.subjects:
        what = f"{subject.kind} {visible(subject.name)}"
        yield f"{what}: {'mended' if subject.repaired and subject.ok else 'ok' if subject.ok else 'WRONG'}"
        yield from (f"  {line}" for line in subject.repaired)
        for rule in subject.rules:
            if not rule.ok:
                yield f"  {rule.rule}: {visible(rule.message or '')}"
    yield f"{view.checked} checked, {view.wrong} wrong"
