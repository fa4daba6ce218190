"""What of a channel is in no block yet, which output of it is this wallet's, and who stands in the way of a child."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mpchan.bitcoin.spend import lock_accepts
from mpchan.bitcoin.tx import TRUC_VERSION, Transaction, TxOut, total_of
from mpchan.chain.base import Chain, Coin
from mpchan.chain.steady import moved
from mpchan.channel import payee, payer
from mpchan.channel.construction.base import Kind
from mpchan.channel.facts import Facts, is_refund
from mpchan.channel.terms import Terms
from mpchan.channel.watch.bidding import MAX_CHILD_VSIZE, NOBODY, Paying, Rivals, child_fee, pays
from mpchan.errors import NotPossible
from mpchan.party.common import from_now_on, gather_facts, require_confirmed_funding
from mpchan.party.opening.funding import require_possible
from mpchan.units import Amount, FeeRate, OutPoint
from mpchan.values import frozen
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.sent import Sent

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


@frozen
class Stuck:
    """A channel's transaction that is in no block.

    Attributes:
        kind: ``funding``, ``settlement``, ``update`` or ``refund``.
        waits: whether it is in the mempool.
        against: what spends the funding in the mempool instead of it: the other party's refund.
    """

    kind: str
    transaction: Transaction
    fee: Amount
    waits: bool
    against: Transaction | None = None

    @property
    def paying(self) -> Paying:
        """Its size and fee."""
        return Paying(self.transaction.vsize, self.fee)


def may_wait(record: Record) -> bool:
    """Whether the channel has come so far that something of it may be stuck."""
    state = record.state
    return not isinstance(state, (payer.Opening, payer.Secured, payer.Abandoned, payee.Abandoned))


def stuck_of(chain: Chain, record: Record) -> Stuck:
    """The first of the channel's transactions that is in no block: the funding, else what spends it.

    Raises:
        NotPossible: ``not-funded``, ``already-confirmed``, ``not-sent``, ``no-own-output``, ``funding-void``,
            ``nothing-to-collect``, ``channel-…``.
        TooEarly: ``refund-locked``, ``update-locked``, ``funding-conflict``, ``funding-unconfirmed``.
        ChainError: out of reach.
    """
    if not may_wait(record):
        raise NotPossible("not-funded", f"the channel is {record.status(None).value}, nothing of it was sent")
    facts = gather_facts(chain, record.terms)
    if not facts.confirmations:
        return _funding(chain, record, facts)
    if facts.spend_confirmations:
        raise NotPossible("already-confirmed", f"{facts.spent_by}, which ended the channel, is in a block")
    if isinstance(record, PayeeRecord) and is_refund(record.terms, facts):
        return _contested_close(record, facts)
    if facts.spent_by is not None:
        return waiting(record.terms, facts)
    return _unsent_refund(record, facts) if isinstance(record, PayerRecord) else _unsent_close(record, facts)


def _funding(chain: Chain, record: Record, facts: Facts) -> Stuck:
    state = record.state
    if not isinstance(state, (payer.Funded, payer.Settling, payer.Refunding)):
        require_confirmed_funding(chain, record.terms, facts)
        raise no_own_output("funding", "the payer, who made it, can bump it")
    funded = payer.funded_of(state)
    require_possible(chain, record, facts)
    if funded.funding is None:
        raise no_own_output("funding", "the wallet that made it can bump it")
    if facts.funding is None and not funded.sends:
        raise _not_sent("the funding", "mpchan payer fund")
    fee = total_of(funded.spent) - total_of(funded.funding.outputs)
    return Stuck("funding", funded.funding, fee, facts.funding is not None)


def waiting(terms: Terms, facts: Facts) -> Stuck:
    """What spends the funding in the mempool, whoever sent it."""
    transaction = facts.spending
    if transaction is None:
        raise moved()
    meant = terms.schedule.read(transaction)
    kind = Kind.SETTLEMENT if meant is None else meant.kind
    if is_refund(terms, facts):
        kind = Kind.REFUND
    return close_of(kind.value, terms, transaction, waits=True)


def _contested_close(record: PayeeRecord, facts: Facts) -> Stuck:
    """The payee's close, in whose place the refund waits in the mempool."""
    _, closing = payee.close(record.state, facts, contest=True)
    kind = "settlement" if isinstance(closing, payee.Settlement) else "update"
    return close_of(kind, record.terms, closing.transaction, waits=False, against=facts.spending)


def _unsent_refund(record: PayerRecord, facts: Facts) -> Stuck:
    """The refund that the chain did not take, or has dropped."""
    if not isinstance(record.state, payer.Refunding):
        if record.terms.refund_lock_time.is_final(facts.tip):
            raise _not_sent("the refund", "mpchan payer refund")
        raise NotPossible("already-confirmed", "the funding is in a block, and no close of the channel waits")
    return close_of("refund", record.terms, payer.take_refund(record.state, facts).funded.refund, waits=False)


def _unsent_close(record: PayeeRecord, facts: Facts) -> Stuck:
    """The settlement or the update that the chain did not take, or has dropped."""
    _, closing = payee.close(record.state, facts)
    kind = "settlement" if isinstance(closing, payee.Settlement) else "update"
    if not isinstance(record.state, payee.Closing):
        raise _not_sent(f"the {kind}", "mpchan payee settle")
    return close_of(kind, record.terms, closing.transaction, waits=False)


def close_of(
    kind: str, terms: Terms, transaction: Transaction, *, waits: bool, against: Transaction | None = None
) -> Stuck:
    """A transaction that spends the funding alone."""
    return Stuck(kind, transaction, terms.funding_value - total_of(transaction.outputs), waits, against)


def _not_sent(what: str, command: str) -> NotPossible:
    return NotPossible(
        "not-sent",
        f"{what} was not sent by this wallet",
        hint=f"`{command}` sends it; bump it where it is refused",
    )


# our output of it ---------------------------------------------------------------------------------


def own_output(stuck: Stuck, scripts: Collection[bytes]) -> Coin:
    """The largest output of a stuck transaction that pays to this wallet.

    Raises:
        NotPossible: ``no-own-output``.
    """
    outputs = stuck.transaction.outputs
    own = [vout for vout, output in enumerate(outputs) if output.script_pubkey in scripts]
    if not own:
        hint = "the other party may have an output that it can spend"
        if stuck.kind == "funding":
            hint = "spend its change in the wallet that made it; never replace the funding, that voids the refund"
        raise no_own_output(stuck.kind, hint)
    vout = max(own, key=lambda vout: outputs[vout].value)
    return Coin(OutPoint(stuck.transaction.txid, vout), outputs[vout], 0)


def no_own_output(kind: str, hint: str) -> NotPossible:
    """The refusal to bump what pays nothing to this wallet."""
    return NotPossible(
        "no-own-output", f"the {kind} has no output of this wallet that a child could spend", hint=hint
    )


# who is in the way --------------------------------------------------------------------------------


def child_seen(chain: Chain, stuck: Stuck, vout: int) -> Transaction | None:
    """What spends an output of a stuck transaction in the mempool."""
    if not stuck.waits:
        return None
    return _spender(chain, OutPoint(stuck.transaction.txid, vout))


@frozen
class Place:
    """The output of a stuck transaction that this wallet's child spends, and what is there already.

    Attributes:
        noted: the child of this wallet that pays most, as far as it was written down.
        own: size and fee of the child that is in the mempool, or else of that one.
        rivals: what the other party has put in the way.
    """

    stuck: Stuck
    output: Coin
    noted: Sent | None
    own: Paying | None
    rivals: Rivals

    def has_lost(self, rate: FeeRate, child: Sent) -> bool:
        """Whether a child pays too little for this rate, or is not what miners would take."""
        held = paying(child)
        needed = child_fee(FeeRate(0), self.stuck.paying, held.vsize, self.rivals)
        return not pays(rate, self.stuck.paying, held) or held.fee < needed


def place_of(chain: Chain, stuck: Stuck, output: Coin, children: Sequence[Sent]) -> Place:
    """Look at the output in the mempool.

    Args:
        children: that this wallet has made for it, the one that pays most first.

    Raises:
        NotPossible: ``output-spent``.
        ChainError: out of reach.
    """
    noted = children[0] if children else None
    own = None if noted is None else paying(noted)
    seen = chain.output(output.outpoint, not_before=from_now_on(chain.tip()))
    spend = None if seen is None else seen.spend
    if spend is not None and spend.txid not in [child.txid for child in children]:
        if spend.transaction is None or not is_own_child(spend.transaction, output):
            raise NotPossible(
                "output-spent", f"{spend.txid}, which is no bump of this wallet, spends {output.outpoint}"
            )
        own = paying_of(chain, spend.transaction, stuck.transaction)
    return Place(stuck, output, noted, own, rivals_of(chain, stuck, output))


def paying(child: Sent) -> Paying:
    """Size and fee of a child that was written down."""
    return Paying(child.transaction.vsize, child.fee)


def rivals_of(chain: Chain, stuck: Stuck, own: Coin) -> Rivals:
    """What has to leave before a child of ``own`` comes."""
    if stuck.against is not None:
        spent = stuck.fee + total_of(stuck.transaction.outputs)  # both spend the funding alone
        rival = Paying(stuck.against.vsize, spent - total_of(stuck.against.outputs))
        outpoints = [OutPoint(stuck.against.txid, vout) for vout in range(len(stuck.against.outputs))]
        children = [child for child in (_spender(chain, each) for each in outpoints) if child is not None]
        below = [
            paying_of(chain, child, stuck.against)
            for child in children
            if _has_place(chain, child, stuck.against)
        ]
        return Rivals((rival, *below), of_parent=True)
    if stuck.transaction.version != TRUC_VERSION:
        return NOBODY  # every output has room for children
    for vout in range(len(stuck.transaction.outputs)):
        child = None if vout == own.outpoint.vout else child_seen(chain, stuck, vout)
        if child is not None and _has_place(chain, child, stuck.transaction):
            return Rivals((paying_of(chain, child, stuck.transaction),))
    return NOBODY


def _has_place(chain: Chain, child: Transaction, parent: Transaction) -> bool:
    """Whether any node takes a child of a parent of version 3 (BIP-0431), and its other inputs are there to be spent.

    A server shows what waits on its word alone. A child that nobody ever sent must neither make a close look well paid,
    nor make this wallet bid against it.
    """
    if parent.version != TRUC_VERSION:
        return True
    if child.version != TRUC_VERSION or child.vsize > MAX_CHILD_VSIZE:
        return False
    for index, source in enumerate(child.inputs):
        if source.outpoint.txid == parent.txid:
            spent = parent.outputs[source.outpoint.vout : source.outpoint.vout + 1]
            if not spent or lock_accepts(child, index, spent[0]) is False:
                return False
            continue
        seen = chain.output(source.outpoint, not_before=from_now_on(chain.tip()))
        if seen is None or not seen.confirmations or lock_accepts(child, index, seen.output) is False:
            return False
    return True


def paying_of(chain: Chain, child: Transaction, parent: Transaction) -> Paying:
    """Size and fee of a child in the mempool, whose other inputs the chain knows.

    Raises:
        ChainError: out of reach; ``chain-moving``.
    """
    spent: list[TxOut] = []
    for source in child.inputs:
        outpoint = source.outpoint
        if outpoint.txid == parent.txid:
            spent.append(parent.outputs[outpoint.vout])
            continue
        seen = chain.output(outpoint, not_before=from_now_on(chain.tip()))
        if seen is None:
            raise moved()
        spent.append(seen.output)
    return Paying(child.vsize, total_of(spent) - total_of(child.outputs))


def is_own_child(child: Transaction, own: Coin) -> bool:
    """Whether a child that no note tells of is one of this wallet's: it pays only to the script whose output it spends.

    Nobody else can spend that output, so another copy of this wallet made it at the most.
    """
    return all(output.script_pubkey == own.output.script_pubkey for output in child.outputs)


def _spender(chain: Chain, outpoint: OutPoint) -> Transaction | None:
    """What spends an output in the mempool, which may be gone itself by now."""
    seen = chain.output(outpoint, not_before=from_now_on(chain.tip()))
    spend = None if seen is None else seen.spend
    return None if spend is None or spend.confirmations else spend.transaction
