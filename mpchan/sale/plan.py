"""What follows from selling a file in a channel, before anything is made: sums alone.

The terms are those of an offer that is made of what the seller would say, with a key and an address that nobody has.
All amounts are for P2WPKH addresses on both sides, as the wallets of this program are paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import Network
from mpchan.bitcoin.script import dust_limit, key_to_p2wpkh_script, script_to_p2wsh_script
from mpchan.channel.construction.registry import construction_of, own_terms_of
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import Offer
from mpchan.channel.terms import close_reserve, refund_fee
from mpchan.results.sales import SalePlanned
from mpchan.sale.manifest import MAX_LENGTH, MAX_PIECES
from mpchan.units import SECONDS_PER_BLOCK, Amount, ChainTip, Height, LockTime, MedianTime, checked_int
from mpchan.values import frozen

DEFAULT_PIECES = 100
"""So many pieces a file is cut into unless told otherwise."""

DEAR_PERCENT = 10
"""From this share of the price on, the fees are worth a warning."""

EARLIEST_TIME = 1_231_006_505
"""Of the first block of all, mainnet's: no chain's median time is before it, whatever the network."""

ANYBODYS_SCRIPT = key_to_p2wpkh_script(b"\x02" + bytes(32))
"""A P2WPKH script; of a payout's script nothing but its kind matters here."""

ANYBODYS_FUNDING = script_to_p2wsh_script(b"")
"""The script of a funding output; P2WSH and P2TR have one length."""

ANYBODYS_KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"  # the curve's generator


def even_piece_length(length: int, pieces: int = DEFAULT_PIECES) -> int:
    """The shortest piece by which a file has at most so many pieces, in bytes: 1 where it has fewer bytes than that."""
    return -(-length // pieces)


def share_of_price(total: Amount, pieces: int) -> Amount:
    """What a piece costs where so many together cost ``total``; rounded up, so that the whole is not below it."""
    return Amount(-(-total.sat // pieces))


@frozen
class Cut:
    """A file, cut into pieces.

    Attributes:
        length: of the file, in bytes.
        piece_length: of every piece but the last, in bytes.
        free_pieces: so many from the first one on are samples.

    Raises:
        ParseError: ``malformed-number``.
    """

    length: int
    piece_length: int
    free_pieces: int = 0

    def __post_init__(self) -> None:
        checked_int(self.length, 1, MAX_LENGTH, "length of the file")
        checked_int(self.piece_length, 1, self.length, "piece_length")
        checked_int(self.free_pieces, 0, self.pieces - 1, "free_pieces")

    @property
    def pieces(self) -> int:
        """How many there are."""
        return -(-self.length // self.piece_length)

    @property
    def last_piece_length(self) -> int:
        """What is left for the last one, in bytes."""
        return (
            self.length  # all
            - (self.pieces - 1) * self.piece_length  # that stand before it
        )

    @property
    def paid_pieces(self) -> int:
        """Those that are paid for."""
        return self.pieces - self.free_pieces


def planned_offer(terms: Mapping[str, Any], network: Network, cut: Cut, price: Amount) -> Offer:
    """The offer that such a sale would have, but for what is its own.

    Args:
        terms: keys of an offer's TOML text, as ``offer_defaults`` gives them, with a fee rate.
        price: of one piece.
    """
    return Offer.from_terms(
        {
            **{term.name: term.default for term in own_terms_of(terms["scheme"])},
            **terms,
            "version": 2,
            "offer_id": "0" * 32,
            "generation": "0" * 16,
            "token": "0" * 64,
            "expires": 0,
            "network": network.name,
            "payee_pubkey": ANYBODYS_KEY,
            "payee_address": script_to_address(ANYBODYS_SCRIPT, network),
            "min_capacity_sat": price.sat,
            "max_capacity_sat": price.sat * cut.paid_pieces,
            "min_increment_sat": price.sat,
        }
    )


@frozen
class SalePlan:
    """One sale of the whole file to one buyer.

    Attributes:
        price: of one piece.
        offer: from ``planned_offer``.
        funding_vsize: virtual size of the funding, in vbytes (BIP-0141). It is taken to pay the offer's fee rate.
        tip: where the chain stands when the channel is opened, or None.

    Raises:
        ParseError: ``malformed-number`` where a sum leaves its range.
    """

    cut: Cut
    price: Amount
    offer: Offer
    funding_vsize: int
    tip: ChainTip | None = None

    # money ----------------------------------------------------------------------------------------

    @property
    def capacity(self) -> Amount:
        """C: what the whole file costs, and so what the channel must be able to pay."""
        return Amount(self.price.sat * self.cut.paid_pieces)

    @property
    def funding_fee(self) -> Amount:
        """Of the transaction that opens the channel; the payer pays it on top."""
        return self.offer.fee_rate.fee(self.funding_vsize)

    @property
    def close_fee(self) -> Amount:
        """The reserve: the fee of the close with both outputs. The payer sets it aside when the channel is opened."""
        return close_reserve(self.offer, ANYBODYS_SCRIPT)

    @property
    def refund_fee(self) -> Amount:
        """Of the refund, which stands in the close's place."""
        return refund_fee(self.offer, ANYBODYS_SCRIPT)

    @property
    def locked(self) -> Amount:
        """F, the value of the funding output."""
        return (
            self.capacity  # what can be paid
            + self.close_fee  # the reserve
        )

    @property
    def fees(self) -> Amount:
        """What a sale costs that goes well."""
        return self.funding_fee + self.close_fee

    @property
    def payer_risk(self) -> Amount:
        """What a payer loses at worst: the payee takes a payment, delivers nothing for it, and closes.

        Where the payee vanishes before any payment it is less: the funding's fee and the refund's.
        """
        return (
            self.price  # the one piece that is paid for and not there
            + self.funding_fee  # of opening
            + self.close_fee  # of closing, which is more than the refund's
        )

    @property
    def payee_risk(self) -> Amount:
        """What a payee delivers unpaid at worst: nothing, since every payment comes before its piece.

        This holds while the funding stays in the chain and while the payee sees to its close: a reorganisation deeper
        than ``min_confirmations``, or a settle window that it sleeps through, can cost all that was paid.
        """
        return Amount(0)

    # time -----------------------------------------------------------------------------------------

    @property
    def unit(self) -> str:
        """Of lock times: ``blocks`` or ``seconds``."""
        return self.offer.lock_time_unit

    @property
    def refund_delay(self) -> int:
        """From opening to L_refund: what a payer asks for unless told otherwise.

        Without a tip it is the least: L_refund may have to be a multiple of something.
        """
        lock_time = self.refund_lock_time
        if lock_time is None or self.tip is None:
            return self.offer.default_refund_delay
        return lock_time.value - lock_time.now(self.tip)

    @property
    def refund_lock_time(self) -> LockTime | None:
        """L_refund, where the tip is known."""
        if self.tip is None:
            return None
        from mpchan.channel.opening import lock_time_after

        return lock_time_after(self.offer, self.tip, self.offer.default_refund_delay)

    @property
    def deadline(self) -> LockTime | None:
        """L_0, where the tip is known: from then on nothing is paid any more."""
        refund_at = self.refund_lock_time
        if refund_at is None:
            return None
        return type(refund_at)(refund_at.value - self.offer.settle_window)

    @property
    def time_for_payments(self) -> int:
        """From a funding that is confirmed as early as it can be until L_0, in the unit."""
        return (
            self.refund_delay  # from opening to L_refund
            - self.offer.settle_window  # from L_0 to L_refund
            - self.offer.confirmation_delay  # from opening to a confirmed funding
        )

    @property
    def seconds_for_payments(self) -> int:
        """The same in seconds, a block counting 600."""
        return self.time_for_payments * (SECONDS_PER_BLOCK if self.unit == Height.unit else 1)

    @property
    def least_bytes_per_second(self) -> int:
        """So fast the whole file must go over at least."""
        return -(-self.cut.length // self.seconds_for_payments)

    @property
    def payer_locked_at_most(self) -> int:
        """How long a payer waits for its money where the payee is gone: until L_refund, in the unit."""
        unknown = self.offer.refund_grid - 1 if self.tip is None else 0
        return self.refund_delay + unknown

    @property
    def payee_waits_at_most(self) -> int:
        """How long a payee waits for its money where the payer is gone: from the first payment until that is final.

        In the unit; 0 where every payment is final at once. No further payment is final later.
        """
        first = construction_of(self.offer).first_final(self.offer)
        if first is None:
            return 0
        wait = (
            self.time_for_payments  # from the earliest first payment to L_0
            - first  # from the first update's lock time to L_0
        )
        return max(0, wait)

    @property
    def updates(self) -> int:
        """How many the sale needs: one for each piece that is paid for."""
        return self.cut.paid_pieces

    @property
    def updates_possible(self) -> int | None:
        """How many the lock times leave room for; None where that is not known, or there is no limit.

        Without a tip it is not known in blocks; in seconds it is at least what it was when Bitcoin began.
        """
        refund_at = self.refund_lock_time
        if refund_at is None and self.unit == MedianTime.unit:
            refund_at = MedianTime(EARLIEST_TIME + self.refund_delay)
        return None if refund_at is None else construction_of(self.offer).most_updates(self.offer, refund_at)

    # answers --------------------------------------------------------------------------------------

    @property
    def can_be_sold(self) -> bool:
        """Whether ``payee sell`` takes such pieces, and a channel their payments."""
        return not (self._dust_warnings() or self._number_warnings())

    def warnings(self) -> list[str]:
        """What people should know before they sell so."""
        return [*self._dust_warnings(), *self._number_warnings(), *self._other_warnings()]

    def _dust_warnings(self) -> list[str]:
        least = dust_limit(self.offer.payee_script)
        if self.price >= least:
            return []
        possible = self.capacity.sat // least.sat
        advice = f"sell {possible} pieces at most for {self.capacity}" if possible else "ask for more"
        return [
            f"a piece for {self.price} is below the dust limit of {least}, which the first payment must reach: {advice}"
        ]

    def _number_warnings(self) -> list[str]:
        found = []
        if self.cut.pieces > MAX_PIECES:
            found.append(
                f"an offer has room for {MAX_PIECES} pieces, not for {self.cut.pieces}: make them "
                f"{even_piece_length(self.cut.length, MAX_PIECES)} bytes long or longer"
            )
        possible = self.updates_possible
        if possible is not None and self.updates > possible:
            seconds = "" if self.unit == MedianTime.unit else ", or count in seconds (--lock-time-unit)"
            found.append(
                f"the lock times leave room for {possible} updates, {self.updates} are needed: sell fewer pieces, "
                f"make the step smaller{seconds}"
            )
        return found

    def _other_warnings(self) -> list[str]:
        found = []
        if 100 * self.fees.sat > DEAR_PERCENT * self.capacity.sat:
            percent = 100 * self.fees.sat // self.capacity.sat
            found.append(f"opening and closing cost {self.fees}, {percent} % of the price")
        most = PayerLimits().max_refund_delay(self.unit)
        if self.payer_locked_at_most > most:
            found.append(
                f"the refund is {self.payer_locked_at_most} {self.unit} away: a payer waits {most} at most, unless its "
                f"wallet.toml says otherwise"
            )
        return found

    @property
    def result(self) -> SalePlanned:
        """As ``mpchan plan`` tells of it."""
        refund_lock_time, deadline = self.refund_lock_time, self.deadline
        return SalePlanned(
            length=self.cut.length,
            pieces=self.cut.pieces,
            piece_length=self.cut.piece_length,
            last_piece_length=self.cut.last_piece_length,
            price_per_piece_sat=self.price.sat,
            free_pieces=self.cut.free_pieces,
            price_sat=self.capacity.sat,
            capacity_sat=self.capacity.sat,
            fee_rate_sat_per_kvb=self.offer.fee_rate.sat_per_kvb,
            funding_fee_sat=self.funding_fee.sat,
            close_fee_sat=self.close_fee.sat,
            refund_fee_sat=self.refund_fee.sat,
            locked_sat=self.locked.sat,
            lock_time_unit=self.unit,
            step=self.offer.own_terms.get("step"),
            settle_window=self.offer.settle_window,
            refund_delay=self.refund_delay,
            refund_lock_time=None if refund_lock_time is None else refund_lock_time.value,
            deadline=None if deadline is None else deadline.value,
            time_for_payments=self.time_for_payments,
            seconds_for_payments=self.seconds_for_payments,
            least_bytes_per_second=self.least_bytes_per_second,
            payer_risk_sat=self.payer_risk.sat,
            payee_risk_sat=self.payee_risk.sat,
            payer_locked_at_most=self.payer_locked_at_most,
            payee_waits_at_most=self.payee_waits_at_most,
            updates=self.updates,
            updates_possible=self.updates_possible,
            warnings=tuple(self.warnings()),
        )
