"""Numbers, amounts, rates, sizes and times on the command line, in ASCII digits; and how things are counted.

Python's own conversions also take digits of other scripts, ``1_000``, ``nan`` and ``inf``: a number that was mistyped
or pasted from elsewhere must not pass for another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import click

from mpchan.errors import ParseError, mistyped
from mpchan.units import Amount, ChainTip, FeeRate, parse_duration

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


class Tip(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """``HEIGHT`` or ``HEIGHT:MEDIAN_TIME``."""

    name = "tip"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ChainTip:
        """Parse; exit 2 where malformed."""
        if isinstance(value, ChainTip):
            return value
        match = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r:.80} is not HEIGHT or HEIGHT:MEDIAN_TIME", param, ctx)
        try:
            return ChainTip(int(match[1]), int(match[2] or "0"))
        except ParseError as error:
            self.fail(error.message, param, ctx)


V = TypeVar("V")


class Parsed(click.ParamType, Generic[V]):  # type: ignore[type-arg]  # generic only in the newest click
    """A value of the package's own, by its own parser and with its own slug."""

    def __init__(self, name: str, kind: type[V], parse: Callable[[str], V]) -> None:
        self.name = name
        self._kind = kind
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> V:
        """Parse; exit 2 where malformed."""
        if isinstance(value, self._kind):
            return value
        try:
            return self._parse(str(value))
        except ParseError as error:
            raise mistyped(error) from None


TIP = Tip()
AMOUNT = Parsed("amount", Amount, Amount.parse)
"""``1500``, ``1500sat`` or ``0.000015btc``."""
FEE_RATE = Parsed("sat/vB", FeeRate, FeeRate.parse_sat_per_vb)
"""Satoshi per virtual byte: ``2`` or ``1.5``."""


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
