"""Closing a channel, and what comes back in between."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class SettlementSigned(Result):
    """The final balance, signed by the payer.

    Attributes:
        lock_time: always 0: it is valid at once
        hex: the settlement for the payee, a PSBT in hex
    """

    channel: str
    paid_sat: int
    lock_time: int
    hex: str
    warnings: tuple[str, ...] = ()


@frozen
class Closed(Result):
    """The transaction by which the payee closes the channel.

    Attributes:
        kind: settlement or update
        hex: the complete transaction
    """

    channel: str
    txid: str
    kind: str
    paid_sat: int
    pending_sat: int
    broadcast: bool
    hex: str
    warnings: tuple[str, ...] = ()


@frozen
class Refunded(Result):
    """The payer's refund, which is done once it is confirmed.

    Attributes:
        kind: refund
        hex: the complete transaction
    """

    channel: str
    txid: str
    kind: str
    broadcast: bool
    hex: str
    warnings: tuple[str, ...] = ()


@frozen
class SentAgain(Result):
    """A funding that the watcher has sent again."""

    channel: str
    txid: str


@frozen
class Bumped(Result):
    """A child that pays for a transaction of a channel which is stuck.

    Attributes:
        txid: of the stuck transaction
        kind: funding, settlement, update or refund
        child_txid: of the child
        fee_sat: what the child pays, in satoshi
        fee_rate_sat_per_kvb: what both pay together, in satoshi per 1000 virtual bytes
        hex: the complete child
        parent_hex: the complete stuck transaction
    """

    channel: str
    txid: str
    kind: str
    child_txid: str
    fee_sat: int
    fee_rate_sat_per_kvb: int
    broadcast: bool
    hex: str
    parent_hex: str


@frozen
class Exported(Result):
    """What the payer has signed last, given back to it.

    Attributes:
        kind: update or settlement
        update: number of the latest update, 0 before any
        lock_time: nLockTime of what is given back, 0 for a settlement
        hex: the message as the payer once sent it, a PSBT in hex
    """

    channel: str
    kind: str
    update: int
    paid_sat: int
    lock_time: int
    hex: str


@frozen
class Synced(Result):
    """What this wallet knows of its own payments in a channel now.

    Attributes:
        kind: update or settlement, whichever is the latest
        update: number of the latest update, 0 before any
        remaining_sat: the payer's share of the channel, in satoshi
        changed: whether that is news to this wallet
    """

    channel: str
    kind: str
    update: int
    paid_sat: int
    remaining_sat: int
    changed: bool
    warnings: tuple[str, ...] = ()
