"""Pages of the guide for people: Markdown as a terminal shows it, by rich."""

from __future__ import annotations

import re

from rich.markdown import Markdown

from mpchan.cli.render.tables import pairs, text_of

_MOST_COLUMNS = 100
"""Longer lines of prose are hard to read."""

_LINK = re.compile(r"\[([^\]]+)\]\(([a-z-]+)\.md(?:#[a-z0-9-]+)?\)")


def rendered(page: str, columns: int = _MOST_COLUMNS) -> str:
    """A page of the guide for a terminal."""
    text = _LINK.sub(r"\1 (`mpchan guide \2`)", page)
    return text_of(Markdown(text, hyperlinks=False, code_theme="ansi_dark"), columns)


def topic_table(topics: dict[str, str]) -> str:
    """The topics with a line each, for a terminal or a pipe."""
    return text_of(pairs(topics.items()), _MOST_COLUMNS)
