"""The buyer of one file: opens a channel, pays for a piece, takes it, checks it, and only then pays for the next.

Whatever ends it, the same command goes on: the session stands in the purchase, what was paid in the channel, what has
arrived in the file. Nothing is paid twice, because payment k is the running total of k prices; and never more than one
piece is paid for that is not there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.facts import Status
from mpchan.channel.messages import single_input_rules
from mpchan.channel.offer import Offer
from mpchan.channel.rules import enforce
from mpchan.errors import (
    MpchanError,
    NotPossible,
    ParseError,
    Refused,
    SellerRefused,
    StorageError,
)
from mpchan.market.asking import ANOTHER_OFFER, NEWER_OFFER, Asking, Step
from mpchan.market.closing import settled
from mpchan.market.output import Output
from mpchan.market.standing import is_begun, live_channel, stake_text
from mpchan.party import payer as party
from mpchan.party.common import gather_facts, read_psbt
from mpchan.party.offers.selling import Wish
from mpchan.party.opening.funding import require_possible
from mpchan.sale.manifest import Sale, made_out_rules, pieces_text, sale_of
from mpchan.transport.base import Arrival, Line
from mpchan.units import Amount
from mpchan.values import frozen, replace
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet

LAST_PATIENCE = 30.0
"""Seconds, at most, in which a seller that cannot deliver must answer the settlement."""


@frozen
class Delivered:
    """A purchase that has come to its end.

    Attributes:
        channel: its shown id; None where nothing had to be paid.
        paid: in all.
        settlement_txid: of the close; None where nothing had to be paid.
    """

    channel: str | None
    paid: Amount
    settlement_txid: str | None


class Buyer:
    """One purchase, from where it stands to its end.

    Args:
        purchase: saved already.
        line: to the seller.
        output: open, with the pieces that it holds already in ``held``.
        patience: seconds in which the seller must answer well.
        pause: seconds between two looks at the chain, and before a refused request is repeated.
        tell: is told of every step.
        refund_out: also write the complete refund there, before the funding can leave.
    """

    def __init__(
        self,
        wallet: Wallet,
        chain: Chain,
        purchase: Purchase,
        line: Line,
        output: Output,
        held: set[int],
        *,
        patience: float,
        pause: float,
        tell: Callable[[Step], None],
        refund_out: Path | None = None,
    ) -> None:
        self._wallet = wallet
        self._chain = chain
        self._purchase = purchase
        self._purchases = Purchases(wallet.directory)
        self._asking = Asking(line, tell, patience=patience, pause=pause)
        self._output = output
        self._held = held
        self._pause = pause
        self._tell = tell
        self._refund_out = refund_out
        self._sale: Sale = sale_of(purchase.published)
        self._channel: str | None = None

    def run(self) -> Delivered:
        """Buy what is missing.

        Raises:
            MpchanError: whatever ends it; the hint says what is at stake, and what to do.
        """
        try:
            return self._run()
        except MpchanError as error:
            error.hint = self.stake(error, closed=self._closes_after(error))
            raise

    def _settle(self, name: str) -> str:
        return settled(self._wallet, self._chain, self._asking, name, self._tell)

    def _closes_after(self, error: MpchanError) -> bool:
        """Whether the seller has closed the channel after it could not deliver: then the rest comes back at once.

        A seller that does not answer cannot be asked to; what is paid in full locks nothing of the buyer's.
        """
        try:
            record = self._record()
            if record is None or not is_begun(record) or record.paid == record.terms.capacity:
                return False
            if not (_cannot_deliver(error) or error.slug == "channel-settling"):
                return False
            self._asking.patience = min(self._asking.patience, LAST_PATIENCE)
            self._settle(record.terms.name)
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
            record = self._record()
        except MpchanError:  # the channel's file cannot be read, which is what the error says
            return hint or "see `mpchan list` and `mpchan fsck`"
        return stake_text(hint, record, self._sale.price, len(self._held_of_bought()), closed=closed)

    def _run(self) -> Delivered:
        self._output.require_room(set(self._purchase.wanted) - self._held)
        for number in self._purchase.wanted:
            if self._sale.is_free(number) and number not in self._held:
                self._fetch(number, "piece", _piece_body(number))
        if self._purchase.bought:
            self._pay_for_all()
        lost = self._finish_file()
        settlement = None if self._channel is None else self._settle(self._channel)
        self._purchases.save(replace(self._purchase, done=True))
        if lost:
            gone = pieces_text(sorted(lost))
            raise StorageError(
                "output-changed",
                f"{self._purchase.output}: pieces {gone:.80} were there before, and are not any more",
                hint="the same command buys them in another channel",
            )
        record = self._record()
        if record is None:
            return Delivered(None, Amount(0), settlement)
        return Delivered(record.terms.channel_id, record.paid, settlement)

    # opening --------------------------------------------------------------------------------------

    def _own_offer(self) -> Offer:
        """The offer that the seller made out to this session, which must be the published one but for its keys."""
        if self._purchase.own is not None:
            return self._purchase.own
        return self._take_offer(self._made_out())

    def _made_out(self) -> Offer:
        """What the seller makes out to this session now."""
        purchase = self._purchase
        wish = Wish(purchase.published.offer_id, purchase.session, pieces_text(purchase.bought))
        try:
            text = self._asking.message("offer", wish.to_bytes()).decode()
        except SellerRefused as refused:
            if refused.reason in NEWER_OFFER:
                refused.hint = "the seller publishes another offer now: run the command with that one"
            raise
        except UnicodeDecodeError:
            raise ParseError("not-utf8", "the seller's offer is not UTF-8 text") from None
        offer = Offer.from_toml(text)
        enforce(made_out_rules(purchase.published, offer, purchase.session, purchase.bought))
        return offer

    def _take_offer(self, offer: Offer) -> Offer:
        """It is on disk before anything is asked for under it."""
        self._purchase = replace(self._purchase, own=offer)
        self._purchases.save(self._purchase)
        self._tell(Step("offer", text=offer.offer_id))
        return offer

    def _record(self) -> PayerRecord | None:
        """The channel of this purchase, as it stands."""
        if self._channel is None:
            record = live_channel(self._wallet, self._purchase)
            self._channel = None if record is None else record.terms.name
        if self._channel is None:
            return None
        found = self._wallet.channels.load(self._channel)
        return found if isinstance(found, PayerRecord) else None

    def _open(self) -> PayerRecord:
        """The channel, funded.

        What was begun is gone on with, unless nothing is locked yet and the seller will not have it any more: its
        wallet was restored, or the offer's time is over. Then another offer is asked for, once.
        """
        try:
            return self._funded()
        except SellerRefused as refused:
            if refused.reason not in ANOTHER_OFFER or not self._has_another():
                raise
        return self._funded()

    def _has_another(self) -> bool:
        """Whether the seller makes out another offer than the one that it refuses; the opening is given up then."""
        purchase, record = self._purchase, self._record()
        if purchase.own is None or is_begun(record) or (record is not None and record.restored):
            return False
        another = self._made_out()
        if another == purchase.own:
            return False
        if record is not None:
            party.abandon(self._wallet, self._chain, record.terms.name)
        self._channel = None
        self._take_offer(another)
        return True

    def _funded(self) -> PayerRecord:
        """The channel under the offer of this session, funded."""
        offer = self._own_offer()
        record = self._record()
        if record is None or isinstance(record.state, (payer.Opening, payer.Secured)):
            asked = None if record is None else record.asked
            request = party.open_channel(
                self._wallet,
                self._chain,
                offer.to_toml(),
                self._sale.price_of(len(self._purchase.bought)),
                refund_delay=None if asked is None else asked.refund_delay,
                funding_fee_rate=None if asked is None else asked.funding_fee_rate,
                address=None if asked is None else asked.address,
            )
            self._tell(Step("opened", text=request.channel))
            reply = read_psbt(self._asking.message("refund", bytes.fromhex(request.hex)))
            self._require_own(reply)
            party.fund(self._wallet, self._chain, reply, refund_out=self._refund_out)
            record = self._record()
        if record is None or record.funding is None:
            raise NotPossible("channel-abandoned", "the channel of this purchase was abandoned")
        self._tell(Step("funded", text=record.terms.channel_id))
        if isinstance(record.state, payer.Funded):
            self._asking.message("funding", bytes.fromhex(record.funding.to_hex()))
        return record

    def _require_own(self, reply: Psbt) -> None:
        """The refund is that of this purchase's channel: a good one of another would fund what nobody agreed to now."""
        enforce(single_input_rules(reply))
        outpoint = reply.tx.inputs[0].outpoint
        if outpoint.name != self._require_record().terms.name:
            raise Refused(
                "other-channel", f"the seller answers with a refund of another channel, on {outpoint}"
            )

    def _wait_for_confirmation(self, record: PayerRecord) -> None:
        """Until the channel takes payments. That is the chain's time, and no matter of patience."""
        needed = record.terms.offer.min_confirmations
        told = -1
        while True:
            facts = gather_facts(self._chain, record.terms)
            require_possible(self._chain, record, facts)
            if facts.confirmations >= needed or record.status(facts) is not Status.FUNDING:
                return
            self._require_time(record)
            if facts.funding is None and isinstance(record.state, payer.Funded) and record.state.sends:
                # stored, and then the program was killed before it could be sent; or it fell out of the mempool
                party.send_funding_again(self._wallet, self._chain, record.terms.name)
            if facts.confirmations != told:
                told = facts.confirmations
                private = (
                    " (`mpchan regtest mine 1` mines a block)" if self._wallet.config.chain.is_private else ""
                )
                self._tell(Step("confirming", told, f"{told} of {needed}{private}"))
            time.sleep(self._pause)

    # paying ---------------------------------------------------------------------------------------

    def _pay_for_all(self) -> None:
        record = self._open()
        if self._held_of_bought() != self._purchase.bought:
            self._wait_for_confirmation(record)
        for count, number in enumerate(self._purchase.bought, start=1):
            if number in self._held:
                continue
            total = self._sale.price_of(count)
            record = self._require_record()
            if record.paid > total or (record.paid == total and isinstance(record.state, payer.Settling)):
                # of a channel that is closing the seller may have the settlement alone, which pays for it as well
                self._fetch(number, "piece", _piece_body(number))
                continue
            if record.paid < total:
                self._require_time(record)
            # where the total is reached, this is the latest update once more: the seller may never have seen it
            paid = party.pay_up_to(self._wallet, self._chain, record.terms.name, total)
            self._tell(Step("paid", count, str(total)))
            self._fetch(number, "update", bytes.fromhex(paid.hex))

    def _require_record(self) -> PayerRecord:
        record = self._record()
        if record is None:
            raise NotPossible("channel-abandoned", "the channel of this purchase was abandoned")
        return record

    def _require_time(self, record: PayerRecord) -> None:
        """Near L_0 a seller closes the channel: what is paid then may never be delivered."""
        deadline = record.terms.schedule.deadline
        tip = self._chain.tip()
        if deadline.now(tip) >= deadline.value - self._wallet.config.watch.near(deadline.unit):
            raise NotPossible("near-deadline", f"no piece is paid for so near to {deadline}")

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
