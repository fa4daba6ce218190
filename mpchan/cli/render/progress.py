"""Bars on standard error, for what takes its time in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mpchan.cli.render.buy_lines import News
from mpchan.market.asking import Step
from mpchan.market.quote import Quote


def _console() -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


@contextmanager
def bar(title: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar over so many bytes; what is yielded takes how many more are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(), transient=True) as progress:
        task = progress.add_task(title, total=length)
        yield lambda done: progress.advance(task, done)


class _Purchase:
    """The bar of one purchase."""

    def __init__(self, progress: Progress, found: Quote) -> None:
        sale, purchase = found.sale, found.purchase
        self._progress = progress
        self._news = News()
        self._count = len(purchase.wanted)
        self._there = len(found.held)
        self._price = sale.price.sat
        self._paid = 0
        done = sum(sale.length_of(number) for number in found.held)
        whole = sum(sale.length_of(number) for number in purchase.wanted)
        self._piece = 0
        self._task: TaskID = progress.add_task("", total=whole, completed=done, said=self._said())

    def _said(self) -> str:
        return f"{self._there:,}/{self._count:,} pieces, {self._paid:,} sat"

    def step(self, step: Step) -> None:
        """After each step."""
        line = self._news.line(step)
        if line is not None:
            self._progress.console.print(line, soft_wrap=True)
        if step.kind == "bytes":
            self._piece += step.number
            self._progress.advance(self._task, step.number)
        elif step.kind == "wrong-piece":  # what came of it does not count
            self._progress.advance(self._task, -self._piece)
            self._piece = 0
        elif step.kind in ("paid", "piece"):
            self._paid = self._price * step.number if step.kind == "paid" else self._paid
            self._there += step.kind == "piece"
            self._piece = 0
            self._progress.update(self._task, said=self._said())


@contextmanager
def purchase_bar(found: Quote) -> Iterator[Callable[[Step], None]]:
    """Pieces, sum paid, bytes per second and time left; what is yielded takes each step."""
    columns = (
        TextColumn("{task.fields[said]}"),
        BarColumn(bar_width=None),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console()) as progress:
        yield _Purchase(progress, found).step
