"""Selling and buying a file piece by piece."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class SalePlanned(Result):
    """What follows from selling a file. Lengths are in bytes, times in ``lock_time_unit``.

    Attributes:
        length: of the file
        pieces: how many
        piece_length: of each, but for the last one
        last_piece_length: of the last one
        price_per_piece_sat: what a piece costs, in satoshi
        free_pieces: how many are samples
        price_sat: of all pieces that are paid for, in satoshi
        fee_rate_sat_per_kvb: of all transactions, in satoshi per 1000 virtual bytes
        funding_fee_sat: what the funding pays, in satoshi
        close_fee_sat: what the close pays, in satoshi
        refund_fee_sat: what the refund pays, in satoshi
        locked_sat: what stands in the funding output: the capacity and the fee of the close, in satoshi
        lock_time_unit: blocks or seconds
        step: between the lock times of two updates; null where they have none
        settle_window: the payee's time to close before the refund
        refund_delay: what a payer asks for by default, from the opening on; the least where the tip is not known
        refund_lock_time: of a channel that is opened now; null where the tip is not known
        deadline: the lock time from which on no payment counts; null where the tip is not known
        time_for_payments: from a confirmed funding to the deadline
        seconds_for_payments: the same in seconds
        least_bytes_per_second: how fast the file must go over in that time
        payer_risk_sat: what the payer loses at worst, in satoshi
        payee_risk_sat: what the payee loses at worst, in satoshi
        payer_locked_at_most: how long the payer waits for its refund, where the payee is gone
        payee_waits_at_most: how long the payee waits for its money, where the payer is gone
        updates: how many are needed
        updates_possible: how many the lock times leave room for; null where there is no limit, and in blocks where the
            tip is not known
    """

    length: int
    pieces: int
    piece_length: int
    last_piece_length: int
    price_per_piece_sat: int
    free_pieces: int
    price_sat: int
    capacity_sat: int
    fee_rate_sat_per_kvb: int
    funding_fee_sat: int
    close_fee_sat: int
    refund_fee_sat: int
    locked_sat: int
    lock_time_unit: str
    step: int | None
    settle_window: int
    refund_delay: int
    refund_lock_time: int | None
    deadline: int | None
    time_for_payments: int
    seconds_for_payments: int
    least_bytes_per_second: int
    payer_risk_sat: int
    payee_risk_sat: int
    payer_locked_at_most: int
    payee_waits_at_most: int
    updates: int
    updates_possible: int | None
    warnings: tuple[str, ...]


@frozen
class Quoted(Result):
    """What a purchase comes to.

    Attributes:
        name: of the file, as the seller calls it
        wanted: numbers of the pieces that are wanted, such as 3-7,12
        bought: numbers of those that cost something
        price_sat: of a piece, in satoshi
        reserve_sat: what the close may cost, in satoshi
        funding_fee_sat: about what the funding costs, in satoshi; 0 where it is paid already
    """

    name: str
    wanted: str
    bought: str
    price_sat: int
    capacity_sat: int
    reserve_sat: int
    funding_fee_sat: int


@frozen
class Bought(Quoted):
    """A file that is whole.

    Attributes:
        output: its path
        pieces: how many were wanted
        bytes: of these
        merkle_root: of the file, in hex; every piece was verified against it
        channel: the short id of the channel; null where nothing had to be paid
        settlement_txid: of the close; null where nothing had to be paid
    """

    output: str
    pieces: int
    bytes: int
    merkle_root: str
    channel: str | None
    paid_sat: int
    settlement_txid: str | None


@frozen
class PurchaseCancelled(Result):
    """A purchase that was ended where it stood.

    Attributes:
        output: the path of the file
        channel: the short id of the channel; null where nothing was locked
        returned_sat: what comes back with the close, in satoshi
        settlement_txid: of the close; null where there is none
    """

    output: str
    channel: str | None
    paid_sat: int
    returned_sat: int
    settlement_txid: str | None


@frozen
class OfferPublished(Result):
    """An offer for everybody lies in its places.

    Attributes:
        event: selling at the start, renewed later
    """

    time: str
    event: str
    offer_id: str


@frozen
class RequestServed(Result):
    """What happened with one request of a buyer.

    Attributes:
        event: offer, refund, funding, update, piece or settlement, by the request; refused where it was
        session: of the buyer, in hex
        channel: the short id of its channel; null where it has none yet
        piece: number of the piece that is delivered; null where none is
        received_sat: what the request brought, in satoshi
        paid_sat: the total of the channel after it, in satoshi; null where there is none
        error: slug of why it was refused; null where it was not
        message: the same in words; null where it was not refused
    """

    time: str
    event: str
    session: str
    channel: str | None
    piece: int | None
    received_sat: int
    paid_sat: int | None
    pending_sat: int
    error: str | None
    message: str | None
