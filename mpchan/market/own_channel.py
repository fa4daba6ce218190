"""The channel of one purchase: the offer that it is opened under, its opening together with the seller, and its end.

What was begun is gone on with. Another offer is asked for only while nothing is locked.
"""

from __future__ import annotations

import time
from pathlib import Path

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Status
from mpchan.channel.messages import single_input_rules
from mpchan.channel.offer import Offer
from mpchan.channel.rules import enforce
from mpchan.errors import NotPossible, ParseError, Refused, SellerRefused
from mpchan.market.asking import ANOTHER_OFFER, NEWER_OFFER, Asking, Step
from mpchan.market.closing import settled
from mpchan.market.standing import is_begun, live_channel
from mpchan.party import payer as party
from mpchan.party.common import gather_facts, read_psbt
from mpchan.party.offers.selling import Wish
from mpchan.party.opening.funding import require_possible
from mpchan.party.sending import LEAVES, Leaving
from mpchan.results.opening import Opened
from mpchan.results.payments import Payment
from mpchan.sale.manifest import made_out_rules, pieces_text, sale_of
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet


class OwnChannel:
    """The channel in which a purchase is paid.

    Args:
        purchase: saved already.
        refund_out: also write the complete refund there, before the funding can leave.
    """

    def __init__(
        self, wallet: Wallet, chain: Chain, purchase: Purchase, asking: Asking, refund_out: Path | None
    ) -> None:
        self._wallet = wallet
        self._chain = chain
        self._purchase = purchase
        self._purchases = Purchases(wallet.directory)
        self._asking = asking
        self._tell = asking.tell
        self._refund_out = refund_out
        self._name: str | None = None

    def record(self) -> PayerRecord | None:
        """The channel as it stands; None where there is none."""
        if self._name is None:
            record = live_channel(self._wallet, self._purchase)
            self._name = None if record is None else record.terms.name
        if self._name is None:
            return None
        found = self._wallet.channels.load(self._name)
        return found if isinstance(found, PayerRecord) else None

    def require_record(self) -> PayerRecord:
        """The channel, which must be there."""
        record = self.record()
        if record is None:
            raise NotPossible("channel-abandoned", "the channel of this purchase was abandoned")
        return record

    def _require_time(self, record: PayerRecord) -> None:
        """Near L_0 a seller closes the channel: what is paid then may never be delivered."""
        deadline = record.terms.schedule.deadline
        tip = self._chain.tip()
        if deadline.now(tip) >= deadline.value - self._wallet.config.watch.near(deadline.unit):
            raise NotPossible("near-deadline", f"no piece is paid for so near to {deadline}")

    def pay_up_to(self, record: PayerRecord, total: Amount) -> Payment:
        """The update that brings the total there; where it is reached, the latest, which may never have come over."""
        if record.paid < total:
            self._require_time(record)
        return party.pay_up_to(self._wallet, self._chain, record.terms.name, total)

    def settle(self) -> str | None:
        """Close it with what is paid; the txid of the close, None where there is no channel."""
        return None if self._name is None else settled(self._wallet, self._chain, self._asking, self._name)

    def end(self) -> None:
        """The purchase is done."""
        self._purchases.save(replace(self._purchase, done=True))

    # opening --------------------------------------------------------------------------------------

    def _own_offer(self) -> Offer:
        """The offer that the seller made out to this session, which must be the published one but for its keys.

        Where nothing else is asked of the seller before money is locked, it is asked for it again: so it is there now,
        has the file, and makes this very offer out.
        """
        own = self._purchase.own
        if own is not None and (construction_of(own).has_exchange or self.record() is not None):
            return own
        made = self._made_out()
        return made if made == own else self._take_offer(made)

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

    def open(self) -> PayerRecord:
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
        purchase, record = self._purchase, self.record()
        if purchase.own is None or is_begun(record) or (record is not None and record.restored):
            return False
        another = self._made_out()
        if another == purchase.own:
            return False
        if record is not None:
            party.abandon(self._wallet, self._chain, record.terms.name)
        self._name = None
        self._take_offer(another)
        return True

    def _funded(self) -> PayerRecord:
        """The channel under the offer of this session, funded."""
        offer = self._own_offer()
        record = self.record()
        has_exchange = construction_of(offer).has_exchange
        if record is None or isinstance(record.state, (payer.Opening, payer.Secured)):
            if has_exchange:
                self._exchange(offer, record)
            else:
                self._open_channel(offer, record, Leaving(refund_out=self._refund_out))
            record = self.record()
        if record is None or record.funding is None:
            raise NotPossible("channel-abandoned", "the channel of this purchase was abandoned")
        self._tell(Step("funded", text=record.terms.channel_id))
        if has_exchange and isinstance(record.state, payer.Funded):
            self._asking.message("funding", bytes.fromhex(record.funding.to_hex()))
        return record

    def _exchange(self, offer: Offer, record: PayerRecord | None) -> None:
        """Have the refund signed by the seller, and fund the channel."""
        request = self._open_channel(offer, record)
        self._tell(Step("opened", text=request.channel))
        reply = read_psbt(self._asking.message("refund", bytes.fromhex(request.hex)))
        self._require_own(reply)
        party.fund(self._wallet, self._chain, reply, refund_out=self._refund_out)

    def _open_channel(self, offer: Offer, record: PayerRecord | None, leaving: Leaving = LEAVES) -> Opened:
        """Begin the channel, or go on with the one that was begun; where nothing is exchanged, its funding leaves.

        Args:
            record: of what was begun.
        """
        asked = Asked() if record is None else record.asked
        return party.open_channel(
            self._wallet,
            self._chain,
            offer.to_toml(),
            sale_of(self._purchase.published).price_of(len(self._purchase.bought)),
            refund_delay=asked.refund_delay,
            funding_fee_rate=asked.funding_fee_rate,
            address=asked.address,
            leaving=leaving,
        )

    def _require_own(self, reply: Psbt) -> None:
        """The refund is that of this purchase's channel: a good one of another would fund what nobody agreed to now."""
        enforce(single_input_rules(reply))
        outpoint = reply.tx.inputs[0].outpoint
        if outpoint.name != self.require_record().terms.name:
            raise Refused(
                "other-channel", f"the seller answers with a refund of another channel, on {outpoint}"
            )

    def wait_for_confirmation(self, record: PayerRecord) -> None:
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
            time.sleep(self._asking.pause)
