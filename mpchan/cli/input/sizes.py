"""Sizes in bytes on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

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
