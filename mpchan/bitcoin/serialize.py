"""Reading and writing the integers and byte strings of the Bitcoin wire format.

All integers are little endian. Lengths and counts are *compact sizes* (one, three, five or nine bytes);
as in Bitcoin Core only the shortest form of each number is read.
"""

from __future__ import annotations

from mpchan.errors import ParseError
from mpchan.units import checked_int

MAX_SIZE = 0x0200_0000
"""Bitcoin Core's bound on any length or count: 32 MiB."""

MAX_UINT32 = 0xFFFF_FFFF
MAX_UINT64 = 0xFFFF_FFFF_FFFF_FFFF

_WIDTHS = {0xFD: (2, 0xFD), 0xFE: (4, 0x1_0000), 0xFF: (8, 0x1_0000_0000)}
"""First byte of a long compact size: how many bytes follow, and the least number that needs them."""


class Reader:
    """Takes values from the front of a byte string.

    Every method that reads raises ``ParseError`` with slug ``truncated`` when too few bytes are left.
    """

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._offset

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes.

        Raises:
            ParseError: ``truncated``.
        """
        start, end = self._offset, self._offset + length
        if not start <= end <= len(self._data):
            raise ParseError(
                "truncated", f"{length} bytes expected at offset {start}, but only {self.remaining} left"
            )
        self._offset = end
        return self._data[start:end]

    def uint8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """Four bytes, little endian."""
        return int.from_bytes(self.take(4), "little")

    def uint64(self) -> int:
        """Eight bytes, little endian."""
        return int.from_bytes(self.take(8), "little")

    def compact_size(self, limit: int = MAX_SIZE) -> int:
        """A compact size of at most ``limit``.

        Raises:
            ParseError: ``malformed-compact-size`` when a shorter form exists, or above ``limit``.
        """
        first = self.uint8()
        value = first
        if first in _WIDTHS:
            width, least = _WIDTHS[first]
            value = int.from_bytes(self.take(width), "little")
            if value < least:
                raise ParseError("malformed-compact-size", f"compact size {value} has a shorter form")
        if value > limit:
            raise ParseError("malformed-compact-size", f"compact size must be at most {limit}, not {value}")
        return value

    def count(self, item_size: int) -> int:
        """A compact size that counts items of at least ``item_size`` bytes each, all still to come.

        So a few hostile bytes cannot announce more work than the bytes after them hold.

        Raises:
            ParseError: ``truncated`` when so many items cannot follow; ``malformed-compact-size``.
        """
        value = self.compact_size()
        if value * item_size > self.remaining:
            raise ParseError(
                "truncated",
                f"{value} items of {item_size} bytes or more announced, but only {self.remaining} bytes left",
            )
        return value

    def var_bytes(self) -> bytes:
        """A byte string after its length."""
        return self.take(self.compact_size())

    def end(self) -> None:
        """Require that nothing is left.

        Raises:
            ParseError: ``trailing-bytes``.
        """
        if self.remaining:
            raise ParseError("trailing-bytes", f"{self.remaining} bytes too many at the end")


def compact_size(number: int) -> bytes:
    """The shortest compact size of ``number`` (0 to 2**64 - 1).

    Raises:
        ParseError: ``malformed-number``.
    """
    checked_int(number, 0, MAX_UINT64, "compact size")
    if number < 0xFD:
        return number.to_bytes(1, "little")
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    if number <= MAX_UINT32:
        return b"\xfe" + number.to_bytes(4, "little")
    return b"\xff" + number.to_bytes(8, "little")


def var_bytes(data: bytes) -> bytes:
    """``data`` after its length as a compact size."""
    return compact_size(len(data)) + data


def uint32(number: int) -> bytes:
    """Four bytes, little endian."""
    return checked_int(number, 0, MAX_UINT32, "32-bit number").to_bytes(4, "little")
