"""Whole numbers and seconds on the command line, written in ASCII digits as amounts are; and how things are counted.

Python's own conversions also take digits of other scripts, ``1_000``, ``nan`` and ``inf``: a number that was mistyped
or pasted from elsewhere must not pass for another one.
"""

from __future__ import annotations

import re
from typing import Any

import click

from mpchan.errors import ParseError
from mpchan.units import parse_duration

_WHOLE = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)


def counted(number: int, what: str) -> str:
    """So many of a thing, in words for people: ``1 channel``, ``1,000 channels``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


class WholeNumber(click.IntRange):
    """A whole number between two bounds, both included."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse; exit 2 where it is none, or out of bounds."""
        if isinstance(value, str) and not _WHOLE.fullmatch(value):
            self.fail(f"{value!r:.80} is not a whole number", param, ctx)
        return super().convert(value, param, ctx)


class Duration(click.ParamType[int]):
    """A duration such as 90s, 30m, 12h or 2d; 0 for none."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse into seconds; exit 2 where it is none."""
        try:
            return parse_duration(value) if isinstance(value, str) else value
        except ParseError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


class Seconds(click.FloatRange):
    """A number of seconds, decimals allowed, between two bounds, both included."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse; exit 2 where it is none, or out of bounds."""
        if isinstance(value, str) and not _DECIMAL.fullmatch(value):
            self.fail(f"{value!r:.80} is not a number of seconds", param, ctx)
        return super().convert(value, param, ctx)


# sizes --------------------------------------------------------------------------------------------


_SIZE = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?([KMGTP](?:i?B)?|B)?", re.ASCII)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """``1000``, ``1G`` or ``1GiB`` (2**30), ``1GB`` (10**9), with decimals where the result is whole."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; exit 2 where malformed."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r:.80} is no size such as 1000, 64M, 1GiB or 1GB", param, ctx)
        whole, decimals, unit = match[1], match[2] or "", match[3] or "B"
        base = 1000 if unit.endswith("B") and not unit.endswith("iB") else 1024
        factor: int = base ** _POWERS.get(unit[0], 0)
        scale: int = 10 ** len(decimals)
        size, rest = divmod(int(whole + decimals) * factor, scale)
        if rest or not 1 <= size <= 1 << 60:
            self.fail(f"{value!r:.80} is no whole number of bytes from 1 to 2**60", param, ctx)
        return size


SIZE = SizeType()
