"""When a node or a server is behind its network, so that what it says of a channel may be long out of date.

A node knows headers before blocks, and says how many. Where blocks come by the clock, on every network but regtest, a
last block of long ago tells as well: that the node stands still, or that a server holds back what is new.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone

from mpchan.bitcoin.network import REGTEST, Network
from mpchan.errors import ChainError
from mpchan.units import LOCK_TIME_THRESHOLD, MAX_LOCK_TIME, SECONDS_PER_BLOCK, ChainTip, Lag

MOST_HEADERS_AHEAD = 3
"""A node that has just heard of new blocks is behind by so many for a moment."""

MAX_AGE_SECONDS = 6 * 60 * 60
"""Of the last block; no six hours go by without one by chance."""

_MEDIAN_LAGS_SECONDS = 60 * 60
"""The median time past is that of the sixth last block."""


def by_headers(who: str, tip: ChainTip, ahead: ChainTip) -> Lag | None:
    """The lag of a node whose headers are ahead of its blocks.

    Args:
        who: the node, for the message.
        tip: its last block.
        ahead: its last header.
    """
    if ahead.height - tip.height <= MOST_HEADERS_AHEAD:
        return None
    why = f"{who} is behind its network: it has block {tip.height}, and headers up to {ahead.height}"
    return Lag(why, ahead.height, ahead.median_time)


def by_clock(who: str, network: Network, tip: ChainTip, block_time: int) -> Lag | None:
    """The lag of a node or a server whose last block is long ago; None on regtest, where no clock counts.

    Args:
        who: the node or server, for the message.
        block_time: of the last block, in seconds since 1970.
    """
    now = int(time.time())
    age = now - block_time
    if network == REGTEST or age <= MAX_AGE_SECONDS:
        return None
    why = (
        f"{who} stands still: its last block, {tip.height}, is of {_clock(block_time)}, more than "
        f"{MAX_AGE_SECONDS // 3600} h before {_clock(now)}, which this machine's clock says"
    )
    height = min(tip.height + age // SECONDS_PER_BLOCK, LOCK_TIME_THRESHOLD - 1)
    median_time = min(max(tip.median_time, now - _MEDIAN_LAGS_SECONDS), MAX_LOCK_TIME)
    return Lag(
        why, height, median_time, "it may have lost its connections; or is the clock of this machine wrong?"
    )


def refuse(lag: Lag | None) -> None:
    """Stop where an answer that is out of date would be worse than none.

    Raises:
        ChainError: ``node-behind``.
    """
    if lag is not None:
        raise ChainError("node-behind", lag.why, hint=lag.hint)


def _clock(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
