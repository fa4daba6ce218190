"""The buyer of one file: opens a channel, pays for a piece, takes it, checks it, and only then pays for the next.

Whatever ends it, the same command goes on: the session stands in the purchase, what was paid in the channel, what has
arrived in the file. Nothing is paid twice, because payment k is the running total of k prices; and never more than one
piece is paid for that is not there.
"""

from __future__ import annotations

import json
from pathlib import Path

from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.errors import (
    MpchanError,
    Refused,
    SellerRefused,
    StorageError,
)
from mpchan.market.asking import ANOTHER_OFFER, Asking, Step
from mpchan.market.output import Output
from mpchan.market.own_channel import OwnChannel
from mpchan.market.standing import is_begun, stake_text
from mpchan.sale.manifest import Sale, pieces_text, sale_of
from mpchan.transport.base import Arrival
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchase
from mpchan.wallet.wallet import Wallet

LAST_PATIENCE = 30.0
"""Seconds, at most, in which a seller that cannot deliver must answer the settlement."""


class Buyer:
    """One purchase, from where it stands to its end.

    Args:
        purchase: saved already.
        asking: asks the seller; its pause is also that between two looks at the chain.
        output: open, with the pieces that it holds already in ``held``.
        refund_out: also write the complete refund there, before the funding can leave.
    """

    def __init__(
        self,
        wallet: Wallet,
        chain: Chain,
        purchase: Purchase,
        asking: Asking,
        output: Output,
        held: set[int],
        refund_out: Path | None = None,
    ) -> None:
        self._purchase = purchase
        self._asking = asking
        self._tell = asking.tell
        self._output = output
        self._held = held
        self._sale: Sale = sale_of(purchase.published)
        self._channel = OwnChannel(wallet, chain, purchase, asking, refund_out)

    def run(self) -> tuple[PayerRecord | None, str | None]:
        """Buy what is missing; the channel and the txid of its close, None where nothing had to be paid.

        Raises:
            MpchanError: whatever ends it; the hint says what is at stake, and what to do.
        """
        try:
            return self._run()
        except MpchanError as error:
            error.hint = self.stake(error, closed=self._closes_after(error))
            raise

    def _closes_after(self, error: MpchanError) -> bool:
        """Whether the seller has closed the channel after it could not deliver: then the rest comes back at once.

        A seller that does not answer cannot be asked to; what is paid in full locks nothing of the buyer's.
        """
        try:
            record = self._channel.record()
            if record is None or not is_begun(record) or record.paid == record.terms.capacity:
                return False
            if not (_cannot_deliver(error) or error.slug == "channel-settling"):
                return False
            self._asking.patience = min(self._asking.patience, LAST_PATIENCE)
            self._channel.settle()
        except MpchanError:
            return False
        return True

    def stake(self, error: MpchanError | None = None, *, closed: bool = False) -> str:
        """What may be lost at most, and how the rest comes back, with the hint of an error before it.

        Args:
            closed: whether the seller has the settlement, or has closed the channel by itself.
        """
        closed = closed or (error is not None and error.slug in ("channel-settling", "channel-closed"))
        hint = None if error is None else error.hint
        try:
            record = self._channel.record()
        except MpchanError:  # the channel's file cannot be read, which is what the error says
            return hint or "see `mpchan list` and `mpchan fsck`"
        return stake_text(hint, record, self._sale.price, len(self._held_of_bought()), closed=closed)

    def _run(self) -> tuple[PayerRecord | None, str | None]:
        self._output.require_room(set(self._purchase.wanted) - self._held)
        for number in self._purchase.wanted:
            if self._sale.is_free(number) and number not in self._held:
                self._fetch(number, "piece", _piece_body(number))
        if self._purchase.bought:
            self._pay_for_all()
        lost = self._finish_file()
        settlement = self._channel.settle()
        self._channel.end()
        if lost:
            gone = pieces_text(sorted(lost))
            raise StorageError(
                "output-changed",
                f"{self._purchase.output}: pieces {gone:.80} were there before, and are not any more",
                hint="the same command buys them in another channel",
            )
        return self._channel.record(), settlement

    # paying ---------------------------------------------------------------------------------------

    def _pay_for_all(self) -> None:
        record = self._channel.open()
        if self._held_of_bought() != self._purchase.bought:
            self._channel.wait_for_confirmation(record)
        for count, number in enumerate(self._purchase.bought, start=1):
            if number in self._held:
                continue
            total = self._sale.price_of(count)
            record = self._channel.require_record()
            if record.paid > total or (record.paid == total and isinstance(record.state, payer.Settling)):
                # of a channel that is closing the seller may have the settlement alone, which pays for it as well; and
                # where even that got lost, it has what paid for the pieces before, and no more
                if record.paid == total:
                    self._channel.settle()
                self._fetch(number, "piece", _piece_body(number))
                continue
            paid = self._channel.pay_up_to(record, total)
            self._tell(Step("paid", count, str(total)))
            self._fetch(number, "update", bytes.fromhex(paid.hex))

    def _held_of_bought(self) -> tuple[int, ...]:
        return tuple(number for number in self._purchase.bought if number in self._held)

    def _fetch(self, number: int, kind: str, body: bytes) -> None:
        """A piece; one that does not match is refused, and asked for again without another payment."""

        def take(arrival: Arrival) -> bool:
            if self._takes(number, arrival):
                return True
            self._tell(Step("wrong-piece", number))
            return False

        if not self._asking.until_good(kind, body, take, self._sale.length_of(number)):
            raise Refused(
                "wrong-piece",
                f"what the seller delivers as piece {number} is not the piece on sale, whose SHA-256 is "
                f"{self._sale.hashes[number - 1].hex()}",
            )
        self._held.add(number)
        self._tell(Step("piece", number))

    def _takes(self, number: int, arrival: Arrival) -> bool:
        if arrival.kind != "piece" or arrival.length != self._sale.length_of(number):
            return False
        return self._output.take(number, arrival.chunks(), lambda done: self._tell(Step("bytes", done)))

    # the end --------------------------------------------------------------------------------------

    def _finish_file(self) -> set[int]:
        """All that was wanted is read back from the file before the channel closes: what is wrong can still be had.

        Returns:
            The pieces that were there before this purchase began, and are not any more: nothing in it pays for them.
        """
        wanted = set(self._purchase.wanted)
        again: set[int] = set()
        lost: set[int] = set()
        while True:
            self._tell(Step("verifying", len(wanted)))
            missing = wanted - self._output.held(wanted)
            self._held -= missing
            lost |= {number for number in missing if not self._is_due(number)}
            if missing <= lost:
                break
            if missing & again:
                raise StorageError(
                    "output-failed",
                    f"{self._purchase.output}: what was written to it is not what is read back",
                )
            again |= missing - lost
            for number in sorted(missing - lost):
                self._fetch(number, "piece", _piece_body(number))
        if not lost:
            self._output.finish()
            self._tell(Step("verified", len(wanted), self._sale.root.hex()))
        return lost

    def _is_due(self, number: int) -> bool:
        """Whether the seller owes a piece: it is free, or is among those that this purchase pays for."""
        return self._sale.is_free(number) or number in self._purchase.bought


def _cannot_deliver(error: MpchanError) -> bool:
    """Whether a seller that is there delivers nothing more in this channel.

    One that knows no such channel, or has closed it, cannot close it either.
    """
    if isinstance(error, SellerRefused):
        return error.reason not in ANOTHER_OFFER
    return error.slug in ("wrong-piece", "near-deadline")


def _piece_body(number: int) -> bytes:
    return json.dumps({"piece": number}).encode()
