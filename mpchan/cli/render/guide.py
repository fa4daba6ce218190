"""Pages of the guide for people: Markdown as a terminal shows it, by rich."""

from __future__ import annotations

import io
import re

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from mpchan.cli.render.tables import console

_MOST_COLUMNS = 100
"""Longer lines of prose are hard to read."""

_LINK = re.compile(r"\[([^\]]+)\]\(([a-z-]+)\.md(?:#[a-z0-9-]+)?\)")


def rendered(page: str, columns: int | None = None) -> str:
    """A page of the guide for a terminal.

    Args:
        page: its Markdown.
        columns: of the terminal; None asks it.
    """
    text = _LINK.sub(r"\1 (`mpchan guide \2`)", page)
    return _written(Markdown(text, hyperlinks=False, code_theme="ansi_dark"), columns)


def topic_table(topics: dict[str, str]) -> str:
    """The topics with a line each, for a terminal or a pipe."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, about in topics.items():
        table.add_row(name, about)
    return _written(table, None)


def _written(renderable: Markdown | Table, columns: int | None) -> str:
    buffer = io.StringIO()
    screen: Console = console(buffer)
    width = columns or screen.width
    screen.print(renderable, width=min(width, _MOST_COLUMNS))
    return "\n".join(line.rstrip() for line in buffer.getvalue().strip("\n").split("\n"))
