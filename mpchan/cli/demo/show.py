"""The demo's transcript: plain sentences, the commands as they are typed, and what they answered.

Lines are broken here between words, never inside a txid; rich only colours them, and only in a terminal.
"""

from __future__ import annotations

import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mpchan.cli.files import print_output
from mpchan.errors import StorageError

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 80
_WIDEST = 100  # longer lines are tiring to read
_INDENT = "   "
_LONG_HEX = re.compile(r"\b[0-9a-f]{64,}\b")
_ASCII = str.maketrans({"…": "...", "✓": "=>"})


def shorten(text: str) -> str:
    """``text`` with every txid or key cut to its first 16 hex digits, as a channel's id is."""
    return _LONG_HEX.sub(lambda match: match[0][:16] + "…", text)


def typed(words: Sequence[str], width: int) -> list[str]:
    """A command as it is typed, one line or several that end in a backslash, broken before its options."""
    import shlex

    lines = ["$"]
    for number, word in enumerate(words):
        shown = shlex.quote(word)
        option = word.startswith("-") and number + 1 < len(words)
        needed = 1 + len(shown) + (1 + len(shlex.quote(words[number + 1])) if option else 0)
        if option and len(lines[-1]) + needed > width - len(" \\"):
            lines[-1] += " \\"
            lines.append("     " + shown)
        else:
            lines[-1] += " " + shown
    return lines


class Transcript:
    """What the demo tells on stdout. A silent one says nothing at all.

    Every method may raise StorageError (``not-emitted``) when stdout is gone.
    """

    def __init__(self, *, silent: bool) -> None:
        self._console: Console | None = None
        if silent:
            return
        if sys.stdout is None:
            raise StorageError("not-emitted", "there is no standard output for the transcript")
        from mpchan.cli.render import tables as render

        self._buffer = io.StringIO()
        self._console = render.console(self._buffer)
        terminal = sys.stdout.isatty()
        self._width = max(40, min(self._console.width, _WIDEST)) if terminal else _PIPED_WIDTH
        try:
            "…✓".encode(sys.stdout.encoding or "utf-8")
            self._ascii = False
        except (UnicodeEncodeError, LookupError):
            self._ascii = True

    def title(self, text: str) -> None:
        """The first line."""
        self._write([text], "bold")

    def scene(self, text: str) -> None:
        """A heading, after an empty line."""
        self._write(["", *self._wrapped(text, "")], "bold cyan")

    def say(self, text: str) -> None:
        """A sentence for people."""
        self._write(self._wrapped(text, _INDENT))

    def command(self, words: Sequence[str]) -> None:
        """A command as it is typed."""
        if self._console is not None:
            self._write([_INDENT + line for line in typed(words, self._width - len(_INDENT))], "bold")

    def answer(self, text: str) -> None:
        """What a command printed, line by line, long hex cut."""
        lines = shorten(text).splitlines()
        inner = _INDENT + "  "
        self._write([row for line in lines for row in self._wrapped(line, inner, inner + "  ")], "dim")

    def fact(self, text: str) -> None:
        """Something that the demo has just checked."""
        self._write(self._wrapped(shorten(text), f"{_INDENT}✓ ", _INDENT + "  "), "green")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns of text; those whose cells are numbers stand to the right."""
        cells = [list(map(shorten, row)) for row in (header, *rows)]
        columns = list(zip(*cells, strict=True))
        widths = [max(map(len, column)) for column in columns]
        right = [all(re.fullmatch(r"[-+]?[0-9,]+", cell) for cell in column[1:]) for column in columns]
        lines = []
        for row in cells:
            places = zip(row, widths, right, strict=True)
            line = "  ".join(cell.rjust(width) if last else cell.ljust(width) for cell, width, last in places)
            lines.append(f"{_INDENT}{line}".rstrip())
        self._write(lines[:1], "bold")
        self._write(lines[1:])

    @contextmanager
    def progress(self, what: str, done: int, total: int) -> Iterator[Callable[[], None]]:
        """A bar on stderr while a person waits; yields what moves it one step on. Nothing may be told meanwhile."""
        if self._console is None or sys.stderr is None or not sys.stderr.isatty():
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        # commands redirect sys.stderr while they run: the bar keeps the stream that it found
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = Progress(
            *columns,
            console=Console(file=sys.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with bar:
            task = bar.add_task(what, completed=done, total=total)
            yield lambda: bar.advance(task)

    def _wrapped(self, text: str, indent: str, further: str | None = None) -> list[str]:
        if self._console is None:
            return []
        return textwrap.wrap(
            text,
            self._width,
            initial_indent=indent,
            subsequent_indent=indent if further is None else further,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _write(self, lines: Sequence[str], style: str = "") -> None:
        if self._console is None:
            return
        from rich.text import Text

        for line in lines:
            shown = line.translate(_ASCII) if self._ascii else line
            self._console.print(Text(shown, style), soft_wrap=True)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        try:
            print_output(text.removesuffix("\n"))
        except StorageError as error:
            raise StorageError(
                "not-emitted", "the transcript could not be written to standard output, so the demo stops"
            ) from error
