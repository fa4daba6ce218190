"""What the watcher tells, line by line."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class DeadlineSeen(Result):
    """The next deadline of a channel. Blocks are turned into time, and time into blocks, by 600 s a block.

    Attributes:
        what: update, last-update or refund
        lock_time: of the transaction that becomes valid then
        unit: of that, blocks or seconds
        blocks: how many are left
        seconds: how many are left
        at: when it comes, in UTC (RFC 3339)
    """

    what: str
    lock_time: int
    unit: str
    blocks: int
    seconds: int
    at: str


@frozen
class ChannelSeen(Result):
    """A channel, in the first round and whenever something has changed.

    Attributes:
        event: channel
        outpoint: TXID:VOUT of the funding
        role: payer or payee; null where the channel's file cannot be read
        status: as in ``show``; null where the chain has not told enough for one
        confirmations: of the funding; null where the chain does not show it
        paid_sat: the total that counts now, in satoshi; null where the channel's file cannot be read
        pending_sat: what a late settlement adds once it is confirmed, in satoshi; null where the channel's file cannot
            be read
        action: wait, or what was sent: funding, settlement, update, refund or bump
        txid: of what was sent; null where nothing was
        deadline: the next one; null where there is none
        reason: why this was done or not, in words
        alarm: slug of what needs a person; null where nothing does
        message: the alarm in words; null where there is none
    """

    time: str
    event: str
    channel: str
    outpoint: str
    role: str | None
    status: str | None
    confirmations: int | None
    paid_sat: int | None
    pending_sat: int | None
    action: str
    txid: str | None
    deadline: DeadlineSeen | None
    reason: str
    alarm: str | None
    message: str | None
    hint: str | None


@frozen
class RoundDone(Result):
    """The end of a round, whenever something has changed.

    Attributes:
        event: round
        height: of the tip; null where the chain is out of reach
        median_time: of the tip, in seconds since 1970; null where the chain is out of reach
        channels: how many were looked at
        going: how many of them have not ended
        alarms: how many need a person
        alarm: slug of what is wrong with the round as a whole; null where nothing is
        message: the same in words; null where nothing is wrong
        exit_code: the highest of all alarms, 0 where there are none
    """

    time: str
    event: str
    height: int | None
    median_time: int | None
    channels: int
    going: int
    alarms: int
    alarm: str | None
    message: str | None
    hint: str | None
    exit_code: int
