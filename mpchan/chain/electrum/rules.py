"""What a block header must be, by the rules of its network (Bitcoin Core: ``pow.cpp``, ``ContextualCheckBlockHeader``).

These are all the rules on headers that hold from a network's checkpoint on. Whether the block behind a header is valid
cannot be seen from headers: that is what the proof of work stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mpchan.bitcoin.block import Header, bits_from_target, target_from_bits
from mpchan.bitcoin.network import MAINNET, REGTEST, SIGNET, TESTNET4
from mpchan.errors import ParseError
from mpchan.values import frozen

PERIOD = 2016
"""Blocks between two adjustments of the difficulty."""

MEDIAN_BLOCKS = 11
"""A block's time must be above the median of so many before it (BIP-0113)."""

_TIMESPAN = 14 * 24 * 60 * 60
_EASY_AFTER_SECONDS = 20 * 60
_MAX_TIMEWARP_SECONDS = 600
_MAX_AHEAD_SECONDS = 2 * 60 * 60
_LOWEST_VERSION = 4  # BIP-0034, BIP-0065 and BIP-0066 are in force from every checkpoint on


class Ancestors(Protocol):
    """The chain that a header would continue."""

    @property
    def height(self) -> int:
        """Of the last block."""

    def header(self, height: int) -> Header:
        """A block of it."""

    def median_time(self) -> int:
        """Of the last block."""

    def hard_bits(self, easiest: int) -> int:
        """The target of the period's last block that has another one than ``easiest``, else of the period's first."""


@frozen
class Rules:
    """The rules of one network.

    Attributes:
        checkpoint: height and hash (display hex) of a block that every chain must contain.
        limit: the easiest target.
        retargets: whether the difficulty adjusts at all.
        easy_blocks: whether a block may have the easiest target when it comes 20 minutes after the one before it.
        bip94: whether BIP-0094 holds: adjustments start from a period's first block, and no time warp between periods.
        ahead: whether a time far ahead of this machine's clock is refused; a regtest node may be given a clock of its
            own.
    """

    checkpoint: tuple[int, str]
    limit: int
    retargets: bool = True
    easy_blocks: bool = False
    bip94: bool = False
    ahead: bool = True

    def check(self, chain: Ancestors, header: Header, now: float) -> None:
        """Whether ``header`` may follow on ``chain``, all of which is checked already.

        Args:
            now: seconds since 1970.

        Raises:
            ParseError: ``malformed-header``, saying which rule it breaks.
        """
        last = chain.header(chain.height)
        if header.parent != last.hash:
            raise _broken("it does not follow on the block before")
        wanted = self.next_bits(chain, header.time)
        if header.bits != wanted:
            raise _broken(f"its target is {header.bits:08x}, not {wanted:08x}")
        if int.from_bytes(header.hash, "little") > min(target_from_bits(header.bits), self.limit):
            raise _broken("its hash is above its target: there is no work in it")
        if header.time <= chain.median_time():
            raise _broken("its time is not above the median of the blocks before")
        warped = header.time < last.time - _MAX_TIMEWARP_SECONDS
        if self.bip94 and (chain.height + 1) % PERIOD == 0 and warped:
            raise _broken("its time is far below the last one of the period before")
        if self.ahead and header.time > now + _MAX_AHEAD_SECONDS:
            raise _broken("its time is more than two hours ahead of this machine's clock")
        if header.version < _LOWEST_VERSION:
            raise _broken(f"its version is {header.version}, which ended long ago")

    def next_bits(self, chain: Ancestors, time: int) -> int:
        """The target, in compact form, of a block of that time after ``chain`` (``GetNextWorkRequired``)."""
        last = chain.header(chain.height)
        if not self.retargets:
            return last.bits
        if (chain.height + 1) % PERIOD == 0:
            first = chain.header(chain.height - PERIOD + 1)
            return self.adjusted(first.bits if self.bip94 else last.bits, last.time - first.time)
        if not self.easy_blocks:
            return last.bits
        easiest = bits_from_target(self.limit)
        if time > last.time + _EASY_AFTER_SECONDS:
            return easiest
        return chain.hard_bits(easiest)

    def adjusted(self, bits: int, seconds: int) -> int:
        """The target of the next period where this one took so long (``CalculateNextWorkRequired``)."""
        seconds = min(max(seconds, _TIMESPAN // 4), _TIMESPAN * 4)
        target = target_from_bits(bits) * seconds // _TIMESPAN
        return bits_from_target(min(target, self.limit))


def _broken(reason: str) -> ParseError:
    return ParseError("malformed-header", reason)


_LIMIT = (1 << 224) - 1

# Blocks that Bitcoin Core itself publishes in chainparams.cpp: of mainnet and testnet4 those of assumeutxo (version
# 31), of signet the one of assumevalid (version 30). None of them is within 11 blocks of a period's first, so that the
# chain that begins there knows every median time.
RULES: Mapping[str, Rules] = {
    MAINNET.name: Rules(
        (935_000, "0000000000000000000147034958af1652b2b91bba607beacc5e72a56f0fb5ee"), _LIMIT
    ),
    TESTNET4.name: Rules(
        (120_000, "000000000bd2317e51b3c5794981c35ba894ce27d3e772d5c39ecd9cbce01dc8"),
        _LIMIT,
        easy_blocks=True,
        bip94=True,
    ),
    SIGNET.name: Rules(
        (267_665, "000000128586e26813922680309f04e1de713c7542fee86ed908f56368aefe2e"), 0x0377AE << 216
    ),
    REGTEST.name: Rules((0, REGTEST.genesis_hash), (1 << 255) - 1, retargets=False, ahead=False),
}
"""By the network's name."""
