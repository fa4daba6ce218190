"""base64url without padding (RFC 4648, section 5) and JSON (RFC 8259, RFC 8785), read strictly."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

from mpchan.units import MAX_MONEY_SAT

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_AMOUNT = re.compile(r"[1-9][0-9]*", re.ASCII)


def to_base64url(data: bytes) -> str:
    """The text of some bytes, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes of a text.

    Raises:
        ValueError: other characters, padding, or bits behind the last byte that are not zero.
    """
    if _BASE64URL.fullmatch(text) is None:
        raise ValueError("not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url without padding") from None
    if to_base64url(data) != text:
        raise ValueError("not the canonical base64url")
    return data


def to_canonical(value: Any) -> bytes:
    """The canonical JSON of a value (RFC 8785)."""
    import rfc8785

    return rfc8785.dumps(value)


def to_text(value: Any) -> str:
    """Canonical JSON as base64url."""
    return to_base64url(to_canonical(value))


def object_in(text: str) -> dict[str, Any]:
    """The JSON object in a base64url text.

    Raises:
        ValueError: anything else; a name that stands twice, a number that is no integer, nesting without end.
    """
    return read_object(from_base64url(text))


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object in some bytes; errors as ``object_in``."""
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_float=_refuse,
            parse_constant=_refuse,
            parse_int=_integer,
        )
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if b"\\u" in data:
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text: a ValueError
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"not an integer: {text:.20}")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= 1 << 53:
        raise ValueError(f"an integer beyond 2^53: {text:.20}")
    return int(text)


def text_of(table: dict[str, Any], name: str) -> str:
    """A member that is a string.

    Raises:
        ValueError: it is missing, or anything else.
    """
    value = table.get(name)
    if type(value) is not str:
        raise ValueError(f"{name} is no string")
    return value


def amount_of(table: dict[str, Any], name: str, *, zero: bool = False) -> int:
    """A member that is an amount: decimal digits in a string, satoshi.

    Args:
        zero: whether ``"0"`` is one too.

    Raises:
        ValueError: anything else, or more than there can be.
    """
    text = text_of(table, name)
    if zero and text == "0":
        return 0
    if len(text) > 16 or _AMOUNT.fullmatch(text) is None or int(text) > MAX_MONEY_SAT:
        raise ValueError(f"{name} is no amount: {text!r:.40}")
    return int(text)


def bytes_of(table: dict[str, Any], name: str, most: int) -> bytes:
    """A member that is lower-case hex.

    Raises:
        ValueError: anything else, no byte, or more bytes than that.
    """
    text = text_of(table, name)
    if not 0 < len(text) <= 2 * most or _HEX.fullmatch(text) is None:
        raise ValueError(f"{name} is no lower-case hex of 1 to {most} bytes")
    return bytes.fromhex(text)
