"""The chain of block headers that this machine has checked itself, and the file in which it keeps them.

The chain begins at the first block of the difficulty period that holds the network's checkpoint (regtest: at
genesis). Up to the checkpoint a header is right because the hashes lead to the one that is known; from there on
because it keeps the network's rules, proof of work included (``Rules``). A header from before comes in by its hash
alone, when it is needed.

A server can lie about all that headers do not say, and can withhold the newest ones. What it cannot do is to make up
headers: each costs the work of a real block, and of two chains the one with more work counts.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from mpchan.bitcoin.block import HEADER_SIZE, Header, work_of_bits
from mpchan.bitcoin.script import double_sha256
from mpchan.chain.electrum.rules import MEDIAN_BLOCKS, PERIOD, Rules
from mpchan.durability import make_directory, rewrite
from mpchan.errors import ParseError

_MAGIC = b"mpchan headers 1\n"
_DIGEST_SIZE = 32
_TIME = slice(68, 72)
_BITS = slice(72, 76)


class HeaderChain:
    """Headers from the height ``base`` on, each checked. Make it with ``begin`` or ``load``."""

    def __init__(self, rules: Rules, base: int, raw: bytes) -> None:
        self.rules = rules
        self.base = base
        self._raw = bytearray(raw)
        self._tip = self.header(self.height)
        self._hard_bits: int | None = None

    @staticmethod
    def first_height(rules: Rules) -> int:
        """Where the chain of a network begins unless older headers are needed: at a period's first block."""
        height = rules.checkpoint[0]
        return height - height % PERIOD

    @classmethod
    def begin(cls, rules: Rules, raw: bytes) -> HeaderChain:
        """The chain up to the checkpoint.

        Args:
            raw: the headers from ``first_height`` to the checkpoint.

        Raises:
            ParseError: ``malformed-header``: they do not lead to the checkpoint.
        """
        base, (height, known) = cls.first_height(rules), rules.checkpoint
        if len(raw) != (height - base + 1) * HEADER_SIZE:
            raise ParseError(
                "malformed-header", f"{len(raw)} bytes are not the headers of {base} to {height}"
            )
        check_links(raw, bytes.fromhex(known)[::-1])
        return cls(rules, base, raw)

    @property
    def height(self) -> int:
        """Of the last block."""
        return self.base + len(self._raw) // HEADER_SIZE - 1

    @property
    def checkpoint(self) -> int:
        """The height of the block that is known."""
        return self.rules.checkpoint[0]

    @property
    def tip(self) -> Header:
        """The last block."""
        return self._tip

    def raw(self, height: int) -> bytes:
        """The 80 bytes of a header at ``base`` to ``height``."""
        start = (height - self.base) * HEADER_SIZE
        if start < 0 or start >= len(self._raw):
            raise IndexError(f"no header {height} in {self.base} to {self.height}")
        return bytes(self._raw[start : start + HEADER_SIZE])

    def header(self, height: int) -> Header:
        """A header at ``base`` to ``height``."""
        return Header.from_bytes(self.raw(height))

    def median_time(self) -> int:
        """The median of the last eleven blocks' times (BIP-0113), of fewer near genesis."""
        return self._median(max(self.base, self.height - MEDIAN_BLOCKS + 1), self.height)

    def median_time_at(self, height: int) -> int | None:
        """The same as the block at a height has it; None where not all of those headers are here."""
        first = max(0, height - MEDIAN_BLOCKS + 1)
        return self._median(first, height) if self.base <= first and height <= self.height else None

    def _median(self, first: int, last: int) -> int:
        times = sorted(self._number(height, _TIME) for height in range(first, last + 1))
        return times[len(times) // 2]

    def hard_bits(self, easiest: int) -> int:
        """See ``Ancestors``; remembered from block to block."""
        if self._hard_bits is None:
            height = self.height
            while height % PERIOD and self._number(height, _BITS) == easiest:
                height -= 1
            self._hard_bits = self._number(height, _BITS)
        return self._hard_bits

    def _number(self, height: int, field: slice) -> int:
        start = (height - self.base) * HEADER_SIZE
        return int.from_bytes(self._raw[start + field.start : start + field.stop], "little")

    # growing --------------------------------------------------------------------------------------

    def append(self, raw: bytes, now: float | None = None) -> None:
        """Check headers and add them; those before the first bad one stay.

        Args:
            raw: 80 bytes each.
            now: seconds since 1970; None for this machine's clock.

        Raises:
            ParseError: ``malformed-header``, naming the height and the broken rule.
        """
        clock = time.time() if now is None else now
        for start in range(0, len(raw), HEADER_SIZE):
            data = raw[start : start + HEADER_SIZE]
            header = Header.from_bytes(data)
            try:
                self.rules.check(self, header, clock)
            except ParseError as error:
                raise ParseError(
                    error.slug, f"block {self.height + 1} ({header}) is refused: {error.message}"
                ) from None
            if header.bits != self._tip.bits or (self.height + 1) % PERIOD == 0:
                self._hard_bits = None
            self._raw += data
            self._tip = header

    def prepend(self, raw: bytes) -> None:
        """Add the headers that stand before ``base``."""
        check_links(raw, self.header(self.base).parent)
        self._raw[:0] = raw
        self.base -= len(raw) // HEADER_SIZE

    def until(self, height: int) -> HeaderChain:
        """A copy that ends with that height."""
        return HeaderChain(self.rules, self.base, bytes(self._raw[: (height - self.base + 1) * HEADER_SIZE]))

    def work_after(self, height: int) -> int:
        """The work in all blocks above that height."""
        total, work, bits_before = 0, 0, -1
        for above in range(height + 1, self.height + 1):
            bits = self._number(above, _BITS)
            if bits != bits_before:
                work, bits_before = work_of_bits(bits), bits
            total += work
        return total

    # the file -------------------------------------------------------------------------------------

    @classmethod
    def load(cls, rules: Rules, path: Path) -> HeaderChain | None:
        """The chain as it was saved; None where there is none, or it is damaged.

        A damaged file costs the time to fetch the headers again. It lies in the wallet's own directory, so its digest
            and
        the checkpoint in it are enough: the rules were checked before it was saved.
        """
        try:
            data = path.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_SIZE
        body = data[start:]
        if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
            return None
        base, raw = int.from_bytes(body[:4], "little"), body[4:]
        height, known = rules.checkpoint
        if len(raw) % HEADER_SIZE or not base <= height < base + len(raw) // HEADER_SIZE:
            return None
        chain = cls(rules, base, raw)
        return chain if str(chain.header(height)) == known else None

    def save(self, path: Path) -> None:
        """Keep the chain; what cannot be written is as if it were not kept."""
        body = self.base.to_bytes(4, "little") + self._raw
        # not durable, on purpose: after a crash the old file, or none, does as well
        with suppress(OSError):
            make_directory(path.parent)
            rewrite(path, _MAGIC + hashlib.sha256(body).digest() + body, synced=False)


def check_links(raw: bytes, last: bytes) -> None:
    """Whether each header names the one before it, and the last one has that hash (wire order)."""
    for start in range(len(raw) - HEADER_SIZE, -1, -HEADER_SIZE):
        data = bytes(raw[start : start + HEADER_SIZE])
        if double_sha256(data) != last:
            raise ParseError("malformed-header", f"a header does not lead to block {last[::-1].hex()}")
        last = Header.from_bytes(data).parent
