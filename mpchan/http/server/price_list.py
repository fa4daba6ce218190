"""Prices of a service, from a TOML file: tables of which the first one that fits a request says what it costs.

[[price]]
path = "/status"          # * stands for any characters, slashes too
amount = 0                # free

[[price]]
method = "POST"           # or a list of them; any method where there is none
path = "/images/*"
amount = 25               # satoshi
per = "request"

[[price]]
path = "*"                # the last one fits everything
amount = 2
per = "kib"               # or "mib": of the answer, a part of one counting as one
most = 2000               # for one request
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from typing import Any

from mpchan.errors import ParseError, Refused
from mpchan.http.server.prices import Asked, Price
from mpchan.units import MAX_MONEY_SAT
from mpchan.values import frozen

_KEYS = ("path", "method", "amount", "per", "most", "once", "deposit", "description")
_BYTES = {"request": None, "kib": 1 << 10, "mib": 1 << 20}
_MOST_TABLES = 1_000
_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
_AMBIGUOUS = re.compile(r"//|\\|[\x00-\x1f\x7f]|/\.{1,2}(?:/|$)")


@frozen
class _Row:
    """One table; ``methods`` is empty for any."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    price: Price | None


class PriceList:
    """What each request of a service costs.

    Args:
        text: TOML.

    Raises:
        ParseError: ``malformed-prices``, naming the table.
    """

    def __init__(self, text: str) -> None:
        import tomli

        try:
            table = tomli.loads(text)
        except (tomli.TOMLDecodeError, RecursionError, ValueError) as error:
            raise _malformed(f"not valid TOML: {error!s:.200}") from None
        rows = table.get("price")
        if set(table) != {"price"} or type(rows) is not list or not 0 < len(rows) <= _MOST_TABLES:
            raise _malformed("not a list of tables [[price]], and nothing else")
        self._rows = [_row(row, number) for number, row in enumerate(rows, 1)]
        last = rows[-1]
        if last.get("path") != "*" or "method" in last:
            raise _malformed('the last table has path = "*" and no method, so that every request has a price')

    def __call__(self, asked: Asked) -> Price | None:
        """The price of a request; None for a free one.

        Raises:
            Refused: ``ambiguous-path``, the service might read the path as another one.
        """
        require_plain(asked)
        for row in self._rows:
            if (not row.methods or asked.method in row.methods) and row.path.match(asked.path):
                return row.price
        raise TypeError("the last row fits everything")


def require_plain(asked: Asked) -> None:
    """Refuse a path that could be read in two ways, one of them cheaper.

    Raises:
        Refused: ``ambiguous-path``.
    """
    raw = asked.raw_path.lower()
    if _AMBIGUOUS.search(asked.path) or "%2f" in raw or "%5c" in raw or not asked.path.startswith("/"):
        raise Refused("ambiguous-path", f"a path with empty, dotted or hidden parts: {asked.path!r:.100}")


def _row(row: Any, number: int) -> _Row:
    if not isinstance(row, Mapping):
        raise _malformed(f"table {number} is none")
    try:
        unknown = [key for key in row if key not in _KEYS]
        if unknown:
            raise ValueError(f"has an unknown key {unknown[0]!r:.40}")
        path = row.get("path", "*")
        if type(path) is not str or not (path == "*" or path.startswith("/")):
            raise ValueError("has a path that does not begin with a slash")
        pattern = "*".join(re.sub(r"([\[?])", r"[\1]", part) for part in path.split("*"))
        return _Row(_methods(row), re.compile(translate(pattern)), _price(row))
    except ValueError as error:
        raise _malformed(f"table {number} {error!s:.200}") from None


def _methods(row: Mapping[str, Any]) -> tuple[str, ...]:
    given = row.get("method", [])
    methods: Sequence[Any] = [given] if type(given) is str else given
    if type(methods) is not list or not all(
        type(each) is str and _METHOD.fullmatch(each) for each in methods
    ):
        raise ValueError("has a method that is none")
    if "method" in row and not methods:
        raise ValueError("has an empty list of methods")
    return tuple("GET" if each == "HEAD" else each for each in methods)


def _price(row: Mapping[str, Any]) -> Price | None:
    amount = _number(row, "amount", 0)
    per = row.get("per", "request")
    if type(per) is not str or per not in _BYTES:
        raise ValueError(f"has per = {per!r:.40}, which is none of {', '.join(_BYTES)}")
    once = row.get("once", False)
    description = row.get("description")
    if type(once) is not bool or (
        description is not None
        and (type(description) is not str or not description.isascii() or not description.isprintable())
    ):
        raise ValueError("has once or description of the wrong kind (description is a line of ASCII)")
    if amount == 0:
        if set(row) - {"path", "method", "amount", "description"}:
            raise ValueError("is free, and says how it is paid")
        return None
    most = _number(row, "most", 1) if "most" in row else None
    deposit = _number(row, "deposit", 1) if "deposit" in row else None
    if (most is None) != (_BYTES[per] is None):
        raise ValueError("has most if and only if it has per = kib or mib")
    return Price(amount, per, _BYTES[per], most, once, deposit, description=description)


def _number(row: Mapping[str, Any], key: str, least: int) -> int:
    value = row.get(key)
    if type(value) is not int or not least <= value <= MAX_MONEY_SAT:
        raise ValueError(f"has no {key}, a whole number of satoshi from {least} on")
    return value


def _malformed(what: str) -> ParseError:
    return ParseError("malformed-prices", f"prices: {what}")
