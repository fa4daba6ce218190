"""The canonical form of an offer: one text for one offer, whatever its TOML looks like.

It is JSON as RFC 8785 (JSON Canonicalization Scheme) writes objects, lists, strings and integers: keys sorted, no
spaces, every character as it is but for those that JSON has to escape. Nothing else can stand in an offer of version 2:
no fractions, no booleans, no null, no integer from 2**53 on, whose digits not every reader keeps, and no key outside
printable ASCII, since others sort those by UTF-16 and Python by code points.
"""

from __future__ import annotations

import json
from typing import Any

from mpchan.errors import ParseError

_LIMIT = 1 << 53
_MAX_DEPTH = 10


def canonical_form(value: object) -> bytes:
    """The canonical form of plain values, in UTF-8."""
    check_canonical(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def from_canonical_form(data: bytes) -> dict[str, Any]:
    """Read the canonical form of an object; any other way of writing the same is refused."""
    try:
        table = json.loads(data.decode())
        same = isinstance(table, dict) and canonical_form(table) == data
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise ParseError("malformed-offer", "not the canonical form of an offer")
    return dict(table)


def check_canonical(value: object, depth: int = _MAX_DEPTH) -> None:
    """Whether plain values have a canonical form."""
    if type(value) is str:
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _unfit("half of a surrogate pair")
        return
    if type(value) is int:
        if not -_LIMIT < value < _LIMIT:
            raise _unfit("an integer of 2**53 or more")
        return
    if not isinstance(value, (list, dict)):
        raise _unfit(f"a {type(value).__name__}")
    if not depth:
        raise _unfit("tables in tables without end")
    if isinstance(value, dict):
        for key in value:
            if not (type(key) is str and key.isascii() and key.isprintable()):
                raise _unfit(f"the key {key!r:.80}")
    for item in value.values() if isinstance(value, dict) else value:
        check_canonical(item, depth - 1)


def _unfit(what: str) -> ParseError:
    return ParseError(
        "malformed-offer",
        f"offer holds {what} where text, a whole number, a list or a shallow table can stand",
    )
