"""What a wallet tells of its channels."""

from __future__ import annotations

from collections.abc import Iterable

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class ChannelLine(Result):
    """A channel in short."""

    channel: str
    role: str
    status: str
    capacity_sat: int
    paid_sat: int
    pending_sat: int
    remaining_sat: int
    updates: int
    refund_lock_time: int


@frozen
class AwaitedLine(Result):
    """An opening that another wallet is to fund, in short.

    Attributes:
        address: where that wallet pays
        amount_sat: what it is to pay, in satoshi; null where no amount was named
        pay_before: a block must hold the payment before this, a block height or seconds since 1970
    """

    offer_id: str
    address: str
    amount_sat: int | None
    refund_lock_time: int
    pay_before: int


@frozen
class ChannelList(Result):
    """All channels, the oldest first.

    Attributes:
        channels: all of them
        openings: how many refunds were signed for buyers whose fundings have not come
        awaited: the openings that other wallets are to fund by paying an address, and have not yet
    """

    channels: tuple[ChannelLine, ...]
    openings: int = 0
    awaited: tuple[AwaitedLine, ...] = ()
    warnings: tuple[str, ...] = ()


@frozen
class FundingOutput(Result):
    """The output that holds a channel's money.

    Attributes:
        vout: number of the output
        value_sat: what it holds, in satoshi
        confirmations: of the funding; null where the chain does not show it, or was not asked
    """

    txid: str
    vout: int
    value_sat: int
    confirmations: int | None


@frozen
class Channel(Result):
    """A channel whole.

    Attributes:
        scheme: the construction, as the offer names it
        funding: the output that holds the money
        latest_lock_time: nLockTime of the payment that counts now, 0 for a settlement; null before any
        origin: of the server that it was opened for, over HTTP; null where it was opened otherwise, and at the payee
        charged_sat: what was charged for requests of what is paid, in satoshi; null where none are paid in it
        reserved_sat: what requests that are being served may still cost, in satoshi; null there too, and at the payer
    """

    channel: str
    role: str
    status: str
    scheme: str
    network: str
    capacity_sat: int
    paid_sat: int
    pending_sat: int
    remaining_sat: int
    updates: int
    funding: FundingOutput
    refund_lock_time: int
    latest_lock_time: int | None
    payer_pubkey: str
    payee_pubkey: str
    payer_address: str | None
    payee_address: str
    origin: str | None = None
    charged_sat: int | None = None
    reserved_sat: int | None = None
    warnings: tuple[str, ...] = ()


@frozen
class Descriptor(Result):
    """One request of Bitcoin Core's ``importdescriptors``.

    Attributes:
        desc: the descriptor (BIP-0380), with its checksum
        timestamp: where to look from, in seconds since 1970
        label: for the address
        active, internal: always false
    """

    desc: str
    timestamp: int
    label: str
    active: bool
    internal: bool


@frozen
class Descriptors(Result):
    """What Bitcoin Core's ``importdescriptors`` takes to watch a channel's output.

    Attributes:
        descriptors: the requests
    """

    descriptors: tuple[Descriptor, ...]


@frozen
class HistoryEvent(Result):
    """One line of a channel's journal.

    Attributes:
        sequence: number of the line, from 0
        time: when it was written, in seconds since 1970
        event: what happened, such as opened, funded, paid, accepted or closed
        amount_sat: what it added to the total, in satoshi
        update: number of the latest update after it, 0 before any
        lock_time: nLockTime of its transaction; null where it has none
        txid: of its transaction, as block explorers show it; null where it has none
        hex: the message that left or arrived with it; null where none did
    """

    sequence: int
    time: int
    event: str
    amount_sat: int
    paid_sat: int
    pending_sat: int
    update: int
    lock_time: int | None
    txid: str | None
    hex: str | None


@frozen
class History(Result):
    """All that happened in a channel, the oldest first.

    Attributes:
        events: one for each line of the journal
    """

    channel: str
    events: Iterable[HistoryEvent]
