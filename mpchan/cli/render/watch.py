"""The table of ``mpchan watch``, printed once or kept up to date in a terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mpchan.cli.render.tables import console, status_text, text_of
from mpchan.cli.render.watch_lines import WHAT, about, blocks_words, channel_line, round_line, sent_line
from mpchan.errors import StorageError
from mpchan.party.watch.watcher import Finding, Round
from mpchan.results.watching import DeadlineSeen

_REFRESH_SECONDS = 0.25
_LINES_APART_FROM_ROWS = 5
_NEWS = 4


def round_table(done: Round, now: float) -> str:
    """One round as text, as wide as it needs to be where it is piped."""
    news = [
        Text(sent_line(finding.result(now)), style="green")
        for finding in done.findings
        if finding.sent is not None
    ]
    return text_of(Group(*_parts(done.findings, done, now, None), *news))


def _parts(
    findings: Sequence[Finding], done: Round | None, now: float, rows: int | None
) -> Iterator[RenderableType]:
    """The table, what it had no room for, and the alarms."""
    ordered = sorted(findings, key=_urgency)
    shown = ordered if rows is None else ordered[:rows]
    if shown:
        yield _table(shown, now)
    elif done is None or done.alarm is None:
        yield Text("no channels yet" if done is not None else "looking …")
    if len(shown) < len(ordered):
        yield Text(f"and {len(ordered) - len(shown)} more", style="dim")
    if done is not None:
        style = "bold red" if done.alarm is not None else "dim"
        yield Text(round_line(done.result(now)), style=style)
    for finding in shown:
        if finding.alarm is not None:
            yield Text(channel_line(finding.result(now)), style="bold red")


def _urgency(finding: Finding) -> tuple[bool, bool, int, str]:
    """Alarms first, then by the time that is left; what has ended comes last."""
    deadline, tip = finding.deadline, finding.tip
    left = 0 if deadline is None or tip is None else deadline.seconds_left(tip)
    return finding.alarm is None, deadline is None, left, finding.name


def _table(findings: Sequence[Finding], now: float) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("channel", "role", "status", "next", "in", "about"):
        table.add_column(name, overflow="fold", justify="right" if name == "in" else "left")
    for finding in findings:
        view = finding.result(now)
        table.add_row(
            Text(view.channel, style="" if finding.alarm is None else "bold red"),
            view.role or "?",
            status_text(view.status or "?"),
            *_until(view.deadline),
        )
    return table


def _until(deadline: DeadlineSeen | None) -> tuple[str, str, str]:
    """A deadline's name, its distance in blocks, and its time; nothing for a channel that has ended."""
    if deadline is None:
        return "", "", ""
    clock = datetime.strptime(deadline.at, "%Y-%m-%dT%H:%M:%SZ").strftime("%d %b %H:%M UTC")
    return WHAT[deadline.what], blocks_words(deadline), clock if deadline.seconds else ""


@contextmanager
def live(network: str) -> Iterator[LiveTable]:
    """A table in the terminal for as long as the block lasts."""
    table = LiveTable(network)
    with table.shown:
        yield table


class LiveTable:
    """Shows what a watcher sees, and the last things that it did."""

    def __init__(self, network: str) -> None:
        self.failure: StorageError | None = None
        self._network = network
        self._started = time.time()
        self._findings: dict[str, Finding] = {}
        self._news: deque[str] = deque(maxlen=_NEWS)
        self._done: Round | None = None
        self._drawn = 0.0
        self._console = console()
        self.shown = Live(self._picture(), console=self._console, auto_refresh=False, transient=False)

    def channel(self, finding: Finding) -> None:
        """After each channel."""
        self._findings[finding.name] = finding
        if finding.sent is not None:
            self._news.append(f"{_clock()}  {sent_line(finding.result(time.time()))}")
        if time.monotonic() - self._drawn > _REFRESH_SECONDS:
            self._draw()

    def round(self, done: Round) -> None:
        """After each round."""
        self._done = done
        if done.whole:
            self._findings = {finding.name: finding for finding in done.findings}
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self.shown.update(self._picture(), refresh=True)

    def _picture(self) -> Group:
        now = time.time()
        room = self._console.size.height - _LINES_APART_FROM_ROWS - 2 * len(self._news)
        alarms = sum(1 for finding in self._findings.values() if finding.alarm is not None)
        rows = max(1, room - 3 * min(alarms, room // 4))
        title = Text(f"mpchan watch on {self._network}, {_clock()}, for {about(int(now - self._started))}")
        title.stylize("bold", 0, len("mpchan watch"))
        parts = list(_parts(list(self._findings.values()), self._done, now, rows))
        return Group(title, *parts, *(Text(line, style="green") for line in self._news))


def _clock() -> str:
    return datetime.now(timezone.utc).strftime("%H:%M:%S UTC")
