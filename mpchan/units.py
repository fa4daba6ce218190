"""Quantities that must not be mixed up: amounts, fee rates, lock times, transaction ids.

All are immutable, checked when they are made, and refuse ``bool`` and ``float``. Sums that leave the
range raise, so an amount in hand is always a valid amount. Two kinds of lock time exist (a block
height and a median time past) and they never compare with each other.
"""

from __future__ import annotations

import re
from typing import ClassVar, Union

from mpchan.errors import ParseError
from mpchan.values import frozen, frozen_ordered

SATOSHI_PER_BITCOIN = 100_000_000
MAX_MONEY_SAT = 21_000_000 * SATOSHI_PER_BITCOIN
"""No amount may exceed this, as in Bitcoin Core's consensus rule of the same name."""

MAX_MESSAGE_BYTES = 400_000
"""Of anything that one party hands the other, a piece of a file apart: by file, standard input, stream, mailbox or
connection, and counted before it is written in hex or base64. No transaction that nodes relay is longer."""

MAX_TEXT_BYTES = 2 * MAX_MESSAGE_BYTES + 100
"""So much is read of a text that stands for a message: its hex, and a little space around it."""

LOCK_TIME_THRESHOLD = 500_000_000
"""nLockTime below this is a block height, from this on a time in seconds (BIP-0113)."""

MAX_LOCK_TIME = 0xFFFF_FFFF

SECONDS_PER_BLOCK = 600
"""What a block is taken for where blocks and seconds have to be compared."""

DAY_BLOCKS = 144
"""So many blocks are found in a day, more or less."""

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_AMOUNT = r"([0-9]{1,16})(sat)?|([0-9]{1,8})(?:\.([0-9]{1,8}))?btc"
_SAT_PER_VB = r"([0-9]{1,9})(?:\.([0-9]{1,3}))?"


def is_hex(text: str) -> bool:
    """Whether a text is hex digits alone, in either case, two for each byte."""
    return len(text) % 2 == 0 and _HEX_DIGITS.issuperset(text)


_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> int:
    """Read a duration such as ``90s``, ``30m``, ``12h`` or ``2d``, or ``0``: seconds.

    Raises:
        ParseError: ``malformed-duration``.
    """
    match = re.fullmatch(r"([0-9]{1,10})([smhd])", text, re.ASCII)
    if match is None and text != "0":
        raise ParseError(
            "malformed-duration", f"not a duration: {text!r:.80}", hint="write it as 90s, 30m, 12h or 2d"
        )
    return 0 if match is None else int(match[1]) * _DURATION_UNITS[match[2]]


def checked_int(value: object, low: int, high: int, what: str) -> int:
    """Return ``value`` when it is a true int within ``low``..``high``.

    Raises:
        ParseError: ``malformed-number`` for a bool, float, string or a value out of range.
    """
    if type(value) is not int:
        raise ParseError("malformed-number", f"{what} must be an integer, not {value!r:.80}")
    if not low <= value <= high:
        shown = str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"
        raise ParseError("malformed-number", f"{what} must be {low} to {high}, not {shown}")
    return value


def checked_key_index(value: object) -> int:
    """The number of a hardened key (BIP-0032, before 2**31 is added) from one of the wallet's files.

    Raises:
        ParseError: ``malformed-number``.
    """
    return checked_int(value, 0, (1 << 31) - 1, "key index")


def key_index_or_none(value: object) -> int | None:
    """As ``checked_key_index``; None where the key is not counted but follows from the terms of its channel.

    Raises:
        ParseError: ``malformed-number``.
    """
    return None if value is None else checked_key_index(value)


@frozen_ordered
class Amount:
    """An amount of money: integer satoshi, 0 to 21e14.

    Raises:
        ParseError: ``malformed-number`` when made from anything but an int in range; the same
            when a sum or difference leaves the range.
    """

    sat: int

    def __post_init__(self) -> None:
        if type(self.sat) is not int or not 0 <= self.sat <= MAX_MONEY_SAT:
            checked_int(self.sat, 0, MAX_MONEY_SAT, "amount in satoshi")

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read ``1500``, ``1500sat`` or ``0.000015btc``.

        Raises:
            ParseError: ``malformed-amount`` for any other form or more than 8 decimals;
                ``malformed-number`` out of range.
        """
        match = re.fullmatch(_AMOUNT, text, re.ASCII)
        if match is None:
            raise ParseError(
                "malformed-amount",
                f"not an amount: {text!r:.80}",
                hint="write satoshi as 1500 or 1500sat, bitcoin as 0.000015btc",
            )
        sat, _, whole, decimals = match.groups()
        if sat is not None:
            return cls(int(sat))
        return cls(int(whole) * SATOSHI_PER_BITCOIN + int((decimals or "").ljust(8, "0")))

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.sat + other.sat)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.sat - other.sat)

    def __bool__(self) -> bool:
        return self.sat != 0

    def __str__(self) -> str:
        return f"{self.sat} sat"


@frozen_ordered
class FeeRate:
    """A fee rate in satoshi per 1000 virtual bytes (BIP-0141), as Bitcoin Core counts it."""

    sat_per_kvb: int

    def __post_init__(self) -> None:
        checked_int(self.sat_per_kvb, 0, MAX_MONEY_SAT, "fee rate in sat/kvB")

    @classmethod
    def parse_sat_per_vb(cls, text: str) -> FeeRate:
        """Read ``2`` or ``1.5`` (satoshi per virtual byte, at most three decimals).

        Raises:
            ParseError: ``malformed-fee-rate``.
        """
        match = re.fullmatch(_SAT_PER_VB, text, re.ASCII)
        if match is None:
            raise ParseError(
                "malformed-fee-rate",
                f"not a fee rate: {text!r:.80}",
                hint="write satoshi per virtual byte, such as 2 or 1.5",
            )
        return cls(int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0")))

    def fee(self, vsize: int) -> Amount:
        """Fee for ``vsize`` virtual bytes: ``ceil(rate * vsize / 1000)``."""
        return Amount(-(-self.sat_per_kvb * vsize // 1000))

    def __str__(self) -> str:
        whole, rest = divmod(self.sat_per_kvb, 1000)
        return f"{whole}{f'.{rest:03}'.rstrip('0') if rest else ''} sat/vB"


@frozen
class Lag:
    """How the source of a tip is behind its network.

    Attributes:
        why: in words, lower case, no period.
        height, median_time: where the network is by now at the least, as far as that can be told.
        hint: what to do about it.
    """

    why: str
    height: int
    median_time: int
    hint: str = "try again once it has caught up"


@frozen
class ChainTip:
    """Where a chain stands: the height of its last block and that block's median time past.

    Attributes:
        height: blocks above genesis.
        median_time: median of the last 11 block times in seconds since 1970 (BIP-0113).
        lag: set where the network is known to be ahead of this tip. What is here was so once, and nothing new is
            taken on the strength of it.
    """

    height: int
    median_time: int
    lag: Lag | None = None

    def __post_init__(self) -> None:
        checked_int(self.height, 0, LOCK_TIME_THRESHOLD - 1, "tip height")
        checked_int(self.median_time, 0, MAX_LOCK_TIME, "median time")

    @property
    def of_network(self) -> ChainTip:
        """Where the network is: this tip, or what is known to be ahead of it. Whoever must not be late goes by it."""
        lag = self.lag
        if lag is None:
            return self
        return ChainTip(max(self.height, lag.height), max(self.median_time, lag.median_time))


@frozen_ordered
class Height:
    """An nLockTime that counts blocks: 1 to 499,999,999."""

    value: int
    unit: ClassVar[str] = "blocks"
    lowest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        checked_int(self.value, self.lowest, LOCK_TIME_THRESHOLD - 1, "lock height")

    @staticmethod
    def now(tip: ChainTip) -> int:
        """The tip in this unit."""
        return tip.height

    def reached(self, tip: ChainTip) -> bool:
        """Whether the tip has this height; from then on the next block may hold the transaction."""
        return tip.height >= self.value

    def is_final(self, tip: ChainTip) -> bool:
        """Whether a transaction with this nLockTime can stand in the block after ``tip``."""
        return tip.height >= self.value

    def __str__(self) -> str:
        return f"block {self.value}"


@frozen_ordered
class MedianTime:
    """An nLockTime that counts seconds since 1970: 500,000,000 to 4,294,967,295 (BIP-0113)."""

    value: int
    unit: ClassVar[str] = "seconds"
    lowest: ClassVar[int] = LOCK_TIME_THRESHOLD

    def __post_init__(self) -> None:
        checked_int(self.value, self.lowest, MAX_LOCK_TIME, "lock time in seconds")

    @staticmethod
    def now(tip: ChainTip) -> int:
        """The tip in this unit."""
        return tip.median_time

    def reached(self, tip: ChainTip) -> bool:
        """Whether the chain's median time has come to this time."""
        return tip.median_time >= self.value

    def is_final(self, tip: ChainTip) -> bool:
        """Whether a transaction with this nLockTime can stand in the block after ``tip``.

        BIP-0113: strictly less than the median time past of the tip.
        """
        return tip.median_time > self.value

    def __str__(self) -> str:
        return f"median time {self.value}"


LockTime = Union[Height, MedianTime]
"""A lock time above 0. The nLockTime 0 of a settlement is no lock time."""


def lock_time_from_int(value: int) -> LockTime:
    """Read an nLockTime above 0 as height or time by the threshold 500,000,000.

    Raises:
        ParseError: ``malformed-number`` for 0, negative, or more than 32 bits.
    """
    return Height(value) if value < LOCK_TIME_THRESHOLD else MedianTime(value)


@frozen_ordered
class Txid:
    """A transaction id: holds the 32 bytes in wire order, shows the reversed (display) hex.

    Every user interface of the field prints the double SHA-256 byte-reversed; transactions carry it
    as it is. ``Txid(...)`` takes wire bytes, ``Txid.from_hex`` and ``str()`` speak display hex.
    """

    wire: bytes

    def __post_init__(self) -> None:
        if type(self.wire) is not bytes or len(self.wire) != 32:
            raise ParseError("malformed-txid", "a transaction id has 32 bytes")

    @classmethod
    def from_hex(cls, text: str) -> Txid:
        """Read 64 lower- or upper-case hex digits in display order.

        Raises:
            ParseError: ``malformed-txid``.
        """
        if not isinstance(text, str) or len(text) != 64 or not is_hex(text):
            raise ParseError("malformed-txid", f"not a transaction id: {text!r:.80}")
        return cls(bytes.fromhex(text)[::-1])

    def __str__(self) -> str:
        return self.wire[::-1].hex()


@frozen_ordered
class OutPoint:
    """One output of one transaction: txid and index (32 bits, unsigned)."""

    txid: Txid
    vout: int

    def __post_init__(self) -> None:
        checked_int(self.vout, 0, MAX_LOCK_TIME, "output index")

    @classmethod
    def parse(cls, text: str) -> OutPoint:
        """Read ``<txid>:<vout>`` or ``<txid>-<vout>`` (display order, decimal index).

        Raises:
            ParseError: ``malformed-outpoint`` or ``malformed-txid``.
        """
        if not isinstance(text, str):
            raise ParseError("malformed-outpoint", f"not an outpoint: {text!r:.100}")
        txid, separator, vout = text[:64], text[64:65], text[65:]
        plain = vout.isascii() and vout.isdecimal() and len(vout) <= 10 and str(int(vout)) == vout
        if not is_hex(txid) or separator not in (":", "-") or not plain:
            raise ParseError("malformed-outpoint", f"not an outpoint: {text!r:.100}")
        return cls(Txid.from_hex(txid), int(vout))

    @property
    def name(self) -> str:
        """``<txid>-<vout>``: what belongs to a channel's funding has its files named so."""
        return f"{self.txid}-{self.vout}"

    def __str__(self) -> str:
        return f"{self.txid}:{self.vout}"
