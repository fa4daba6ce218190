"""What the watcher pays to bring a close or a refund into a block: a child, as ``channel.bidding`` says.

A child is written down before it leaves. Where that fails it leaves all the same, since the money is at stake now, and
is known by where it pays. Fee rates are asked for once a tip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpchan.bitcoin.script import dust_limit
from mpchan.chain.base import Chain
from mpchan.channel import payee, payer
from mpchan.channel.facts import Facts
from mpchan.channel.terms import Terms
from mpchan.channel.watch.base import Decision, Deed, has_passed
from mpchan.channel.watch.bidding import (
    REFUND_PATIENCE,
    Bidding,
    Market,
    Paying,
    bid,
    blocks_since,
    pays,
    raised,
    rate_of,
)
from mpchan.durability import step
from mpchan.errors import MpchanError, StorageError
from mpchan.party.watch.stuck import Place, Stuck, close_of, own_output, paying, place_of, waiting
from mpchan.units import Amount, ChainTip, Txid
from mpchan.values import frozen, replace
from mpchan.wallet.bumping import automatic_child
from mpchan.wallet.coins import spend_vsize
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.sent import Sent
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


@frozen
class Answer:
    """What became of a look at something that waits.

    Attributes:
        stuck: what waits, or is about to be sent.
        child: that pays for it, be it new or not; None without one.
        is_new: whether this look has made it.
        alarm: why a person is needed.
    """

    stuck: Stuck
    child: Sent | None = None
    is_new: bool = False
    alarm: MpchanError | None = None

    @property
    def why(self) -> str:
        """In words, for people; empty without a new child."""
        if self.child is None or not self.is_new:
            return ""
        together = rate_of(self.stuck.paying, paying(self.child))
        return f"a child pays {self.child.fee} for it: {together} together"


class Bidder:
    """Bids for one wallet, channel by channel.

    Args:
        once: there is one round, and nothing to remember.
    """

    def __init__(self, wallet: Wallet, chain: Chain, *, once: bool = False) -> None:
        self._wallet = wallet
        self._chain = chain
        self._once = once
        self._asked: tuple[ChainTip, Market] | None = None
        # by txid: the height at which this process first offered it, or saw it wait
        self._offered: dict[Txid, int] = {}
        self._unopposed: dict[Txid, int] = {}  # by txid: the height at which nobody was seen in its way yet

    def answer(self, record: Record, facts: Facts, decision: Decision) -> Answer | None:
        """Make the child that is needed; nothing is sent yet. None where nothing of the channel is stuck.

        Whatever goes wrong here is told as an alarm: it holds up no close.
        """
        stuck = _stuck(record, facts, decision)
        if stuck is None:
            return None
        try:
            return self._answer(record, facts, stuck)
        except MpchanError as error:
            return Answer(stuck, alarm=error)

    def submit(self, answer: Answer) -> None:
        """Hand what waits to the chain, again and again, with its child: nodes forget, and peers come late."""
        parent = answer.stuck.transaction
        if answer.child is None:
            step("emit", self._chain.broadcast, parent)
        else:
            step("emit", self._chain.broadcast_package, [parent, answer.child.transaction])

    def _answer(self, record: Record, facts: Facts, stuck: Stuck) -> Answer:
        market = self._market(facts.tip)
        children = self._wallet.sent.readable_children_of(stuck.transaction.txid)
        noted = children[0] if children else None
        times = self._times(record, stuck, children, facts)
        calm = times == 0 and pays(market.least, stuck.paying)
        try:
            output = own_output(stuck, self._wallet.fresh_keys().scripts())
            place = place_of(self._chain, stuck, output, children)
        except MpchanError as error:
            # what nodes relay may wait for a block as it is, as long as nobody is against it and time is left
            enough = pays(market.estimate, stuck.paying) or (calm and stuck.against is None)
            helps = (
                isinstance(record, PayerRecord) and stuck.kind != "refund"
            )  # with nothing at stake, if need be
            return Answer(stuck, noted, alarm=None if enough or helps else error)
        bidding = _bidding(place)
        # a payer can lose nothing: what does not come into a block in time goes back to it, all of it
        pressing = isinstance(record, PayeeRecord) and has_passed(record.terms, 4, _seen(facts.tip))
        if isinstance(record, PayeeRecord):
            times = max(times, self._since_answered(place, children, facts))
        offered = pressing or self._is_on_offer(record, stuck, facts)
        target = raised(market.estimate, times) if offered else market.estimate
        if noted is not None and not place.has_lost(target, noted):
            return Answer(stuck, noted)
        held = None if place.rivals.paying else noted  # what was outbid is refused
        most = bidding.most(pressing=pressing, max_rate=self._wallet.config.limits.max_bump_fee_rate)
        try:
            fee = bid(bidding, target, market, most)
            if fee is None:
                return Answer(stuck, held)
            return self._made(place, fee, facts)
        except MpchanError as error:
            waits = isinstance(error, StorageError) or error.slug == "bump-capped"
            quiet = waits and calm and not place.rivals.paying  # relayed as it is, with time left
            return Answer(stuck, held, alarm=None if quiet else error)

    def _times(self, record: Record, stuck: Stuck, children: list[Sent], facts: Facts) -> int:
        """How often the estimate has failed to bring it into a block.

        For a payee, whose money somebody may take, that is counted from the chain alone, from L_0 on. With a payer
        nothing but patience is at stake, be it with its refund or with the payee's close: only blocks count that have
        come since this wallet has paid for it, or this process has seen it wait. The first child for a close that waits
        late pays half as much again, so that there is one to count from.
        """
        if isinstance(record, PayeeRecord):
            return blocks_since(record.terms.schedule.deadline, _seen(facts.tip))
        height, is_refund = facts.tip.height, stuck.kind == "refund"
        seen = self._offered.setdefault(stuck.transaction.txid, height if is_refund else height - 1)
        passed = max(0, height - min([seen, *(child.height for child in children)]))
        if is_refund:
            return passed // REFUND_PATIENCE
        return max(passed, _since_half(record.terms, facts.tip)) if self._once else passed

    def _since_answered(self, place: Place, children: list[Sent], facts: Facts) -> int:
        """Blocks since this wallet first paid for what another one holds up.

        Blocks for which it waited unopposed are none of them, as far as this process has seen that.
        """
        txid, height = place.stuck.transaction.txid, facts.tip.height
        if not place.rivals.paying:
            self._unopposed[txid] = height
            return 0
        if not children:
            return 0
        return max(0, height - max(self._unopposed.get(txid, 0), min(child.height for child in children)))

    def _is_on_offer(self, record: Record, stuck: Stuck, facts: Facts) -> bool:
        """Whether it was sent before, and a block has come since, as far as this process can know.

        A watcher that wakes up late first offers its close at the estimate, like any other. Only blocks that come
        without it then are a reason to pay for all of them.
        """
        txid, height = stuck.transaction.txid, facts.tip.height
        if stuck.waits or isinstance(record.state, (payee.Closing, payer.Refunding)):
            return height > self._offered.get(txid, -1) or isinstance(record, PayerRecord)
        self._offered.setdefault(txid, height)
        return False

    def _market(self, tip: ChainTip) -> Market:
        if self._asked is None or self._asked[0] != tip:
            least = self._chain.min_fee_rate()
            # an estimate may be one server's word: more than for anything else is paid only once blocks came without it
            estimate = max(min(self._chain.fee_rate(), self._wallet.config.limits.max_fee_rate), least)
            self._asked = (tip, Market(estimate, least, self._chain.incremental_fee_rate()))
        return self._asked[1]

    def _made(self, place: Place, fee: Amount, facts: Facts) -> Answer:
        """A new child, written down where that is possible."""
        stuck = place.stuck
        child = automatic_child(stuck.transaction, place.output, fee)
        signed = self._wallet.keys.sign_coins(child.transaction, child.spent)
        script = place.output.output.script_pubkey
        sent = Sent(signed, child.spent, 0, script, None, facts.tip.height, True, stuck.transaction)
        try:
            with self._wallet.lock():
                self._wallet.sent.save(sent)
        except StorageError as error:
            if error.slug == "locked":  # another command is at it
                raise
            self._wallet.sent.keep_unwritten(sent)
            return Answer(stuck, sent, is_new=True, alarm=error)
        return Answer(stuck, sent, is_new=True)


def _stuck(record: Record, facts: Facts, decision: Decision) -> Stuck | None:
    """What is about to be sent, or waits in the mempool."""
    terms = record.terms
    if decision.deed is Deed.NOTHING:
        return None if facts.spending is None or facts.spend_confirmations else waiting(terms, facts)
    if isinstance(record, PayerRecord):
        refund = payer.take_refund(record.state, facts).funded.refund
        return close_of("refund", terms, refund, waits=False)
    _, closing = payee.close(record.state, facts, contest=decision.contest)
    against = facts.spending if decision.contest else None
    return close_of(decision.deed.value, terms, closing.transaction, waits=False, against=against)


_MOST_UNSEEN = 6
"""Raises that a payer pays for at most on the word of the chain alone, which does not tell when a close came."""


def _since_half(terms: Terms, tip: ChainTip) -> int:
    """Blocks since half of the settle window was over, from where on a payer helps the payee's close; a few at most."""
    refund = terms.refund_lock_time
    passed = blocks_since(type(refund)(refund.value - terms.offer.settle_window // 2), tip)
    return min(passed, _MOST_UNSEEN)


def _seen(tip: ChainTip) -> ChainTip:
    """The last block that was seen, wherever the network may be by now.

    Nobody knows of a block that was not seen whether it came without the close; and what tells that there are such can
    be a wrong clock of this machine. A close goes out in time by the network's tip, but pays more by this one alone.
    """
    return replace(tip, lag=None)


def _bidding(place: Place) -> Bidding:
    output = place.output.output
    script = output.script_pubkey
    own: Paying | None = None if place.rivals.paying else place.own
    vsize = spend_vsize(1, [script])
    return Bidding(place.stuck.paying, vsize, output.value, dust_limit(script), own, place.rivals)
