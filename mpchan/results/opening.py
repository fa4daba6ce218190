"""Opening a channel: offer, request, refund, funding."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class Offered(Result):
    """An offer for one channel.

    Attributes:
        toml: the offer for the payer, a TOML text
    """

    offer_id: str
    payee_pubkey: str
    payee_address: str
    toml: str
    warnings: tuple[str, ...] = ()


@frozen
class Opened(Result):
    """A channel that was begun: nothing is signed or sent yet.

    Attributes:
        funding_txid: of the funding, as block explorers show it
        funding_vout: the output of the funding that is the channel's
        funding_sat: what that output holds, in satoshi: the capacity and the fee of the close
        hex: the request for the payee's signature on the refund, a PSBT in hex
    """

    channel: str
    capacity_sat: int
    funding_txid: str
    funding_vout: int
    funding_sat: int
    refund_lock_time: int
    hex: str
    warnings: tuple[str, ...] = ()


@frozen
class OpenedAtOnce(Opened):
    """A channel that nothing was exchanged for: its refund is stored and its funding signed.

    Attributes:
        funding_vout: the output of the funding that is the channel's
        funding_sat: what that output holds, in satoshi: the capacity and the fee of the close
        hex: the signed funding
    """

    broadcast: bool = False


@frozen
class Planned(Result):
    """Where another wallet pays the channel's money to, and exactly how much.

    Attributes:
        address: of the channel
        amount_sat: what has to be paid there, in satoshi
        amount_btc: the same in bitcoin, a decimal number as text
        descriptor: of the channel's output (BIP-0380), with its checksum
        uri: for the other wallet (BIP-0021)
    """

    offer_id: str
    capacity_sat: int
    address: str
    amount_sat: int
    amount_btc: str
    descriptor: str
    uri: str
    payer_pubkey: str
    payee_pubkey: str
    payer_address: str | None
    warnings: tuple[str, ...] = ()


@frozen
class Arrival(Result):
    """A payment that has come to the address of an opening.

    Attributes:
        channel: of the record that keeps its refund; null where there is none, since it is worth none
        outpoint: TXID:VOUT of the payment
        value_sat: what it pays, in satoshi
        refund_sat: what its refund gives back, in satoshi
        confirmations: of the payment; null while neither chain nor mempool show it, 0 in the mempool
        what: channel; or what can only be taken back: second, too-little, too-much or given-up; or dust, which nobody
            gets back; or replaced, what another payment has taken the place of
    """

    channel: str | None
    outpoint: str
    value_sat: int
    refund_sat: int
    refund_lock_time: int
    confirmations: int | None
    what: str


@frozen
class Payable(Result):
    """An opening that any wallet funds by paying an address.

    Attributes:
        address: of the channel
        uri: for the other wallet (BIP-0021)
        descriptor: of the channel's output (BIP-0380), with its checksum
        amount_sat: what is to be paid there, in satoshi; null where no amount was named
        least_sat: the smallest payment that makes a channel, in satoshi
        most_sat: the largest one, in satoshi
        pay_before: a block must hold the payment before this, a block height or seconds since 1970
        arrived: what has come, the channel's funding first
    """

    offer_id: str
    address: str
    uri: str
    descriptor: str
    amount_sat: int | None
    least_sat: int
    most_sat: int
    refund_lock_time: int
    pay_before: int
    payer_address: str | None
    arrived: tuple[Arrival, ...]
    warnings: tuple[str, ...] = ()


@frozen
class Recovered(Result):
    """What lies at the addresses that an opening under an offer can have had.

    Attributes:
        looked_for: how many addresses were looked for
        arrived: what was found there, and is kept with its refund
    """

    offer_id: str
    looked_for: int
    arrived: tuple[Arrival, ...]
    warnings: tuple[str, ...] = ()


@frozen
class RefundSigned(Result):
    """The payee's signature on a refund.

    Attributes:
        hex: the signed refund for the payer, a PSBT in hex
    """

    channel: str
    capacity_sat: int
    refund_lock_time: int
    hex: str
    warnings: tuple[str, ...] = ()


@frozen
class Funded(Result):
    """The refund is stored and the funding signed.

    Attributes:
        hex: the signed funding; null where a block held the funding before this wallet heard of it
    """

    channel: str
    funding_txid: str
    broadcast: bool
    hex: str | None
    warnings: tuple[str, ...] = ()


@frozen
class FundingTaken(Result):
    """The funding that the payee has by file; it counts as no confirmation."""

    channel: str
    funding_txid: str


@frozen
class Standing(Result):
    """What has become of a channel."""

    channel: str
    status: str
