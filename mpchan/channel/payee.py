"""The payee: offers, signs the refund, takes updates, closes.

Each phase is a type of its own:

    Active     the refund is signed; updates are taken once the chain shows the funding
    Closing    a settlement is held, or the latest update was sent to the chain
    Abandoned  an opening whose funding never came; the signed refund stays remembered
"""

from __future__ import annotations

from typing import Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.construction.base import REFUND, Kind, Meant, settlement
from mpchan.channel.facts import Credit, Facts, Status, current_rules, funding_status, spend_status, time_left
from mpchan.channel.messages import require_complete
from mpchan.channel.rules import Check, Rule, enforce
from mpchan.channel.signing import ChannelKey
from mpchan.channel.taking import Incoming, closes, funding_output_rules, funding_rules, incoming_rules
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible, TooEarly
from mpchan.units import Amount, ChainTip, LockTime
from mpchan.values import frozen, replace


@frozen
class Update:
    """The best update held: complete, ready for the chain once it is final.

    Attributes:
        number: its own, or how many were taken where the construction numbers none.
    """

    number: int
    paid: Amount
    transaction: Transaction


@frozen
class Settlement:
    """A settlement held: complete, ready for the chain at once.

    Attributes:
        late: whether something else may get into a block in its place. It came when the chain had reached L_0, so that
            less than the settle window was left until the refund is final; or when our best update was sent already,
            which whoever has seen it can send again, however long it is gone from the mempool.
    """

    paid: Amount
    transaction: Transaction
    late: bool = False


@frozen
class Active:
    """The refund is signed.

    Attributes:
        funding: the funding transaction, where it was handed over by file.
        best: the best update; None before the first.
    """

    terms: Terms
    funding: Transaction | None = None
    best: Update | None = None


@frozen
class Closing:
    """No update is taken any more.

    Attributes:
        settlement: held, or None where the latest update closes the channel.
    """

    active: Active
    settlement: Settlement | None


@frozen
class Abandoned:
    """Given up; the terms stay, so that no second refund is ever signed for the outpoint."""

    terms: Terms


PayeeState = Union[Active, Closing, Abandoned]


def terms_of(state: PayeeState) -> Terms:
    """The terms, whatever the phase."""
    return state.active.terms if isinstance(state, Closing) else state.terms


def active_of(state: Active | Closing) -> Active:
    """The active channel inside the closing phase."""
    return state if isinstance(state, Active) else state.active


def best_of(state: PayeeState) -> Update | None:
    """The best update held."""
    return None if isinstance(state, Abandoned) else active_of(state).best


def settlement_of(state: PayeeState) -> Settlement | None:
    """The settlement held."""
    return state.settlement if isinstance(state, Closing) else None


def holds_anything(state: PayeeState) -> bool:
    """Whether a payment of the channel is held, or its close was begun."""
    return isinstance(state, Closing) or best_of(state) is not None


def received_total(state: PayeeState) -> Amount:
    """All that the payer has signed for, be it pending or not."""
    settlement = settlement_of(state)
    return _best_total(state) if settlement is None else settlement.paid


def _best_total(state: PayeeState) -> Amount:
    best = best_of(state)
    return Amount(0) if best is None else best.paid


def is_settled(state: PayeeState, facts: Facts | None) -> bool:
    """Whether the chain holds the settlement as deep as the offer asks for a funding."""
    settlement = settlement_of(state)
    return (
        settlement is not None
        and facts is not None
        and facts.spent_by == settlement.transaction.txid
        and facts.spend_confirmations >= max(1, terms_of(state).offer.min_confirmations)
    )


def credit(state: PayeeState, facts: Facts | None) -> Credit:
    """What counts as paid, and what does not yet.

    The best update is final before the refund is, and a settlement that came before L_0 has the settle window to get
    into a block. One that came later competes with the refund, and one that came after our update was sent with that:
    it counts once the chain has it deep enough.

    Args:
        facts: None where the chain cannot be asked; what is pending stays so.
    """
    settlement, sure = settlement_of(state), _best_total(state)
    if settlement is None:
        return Credit(sure)
    if not settlement.late or is_settled(state, facts):
        return Credit(settlement.paid)
    lost = (
        facts is not None and facts.spend_confirmations > 0 and facts.spent_by != settlement.transaction.txid
    )
    return Credit(sure) if lost else Credit(sure, settlement.paid - sure)


def status(state: PayeeState, facts: Facts | None) -> Status:
    """Where the channel stands. Without facts (no chain in reach) the own phase alone decides."""
    if isinstance(state, Abandoned):
        return Status.ABANDONED
    terms = terms_of(state)
    spent = None if facts is None else spend_status(terms, facts)
    if spent is not None:
        return spent
    if isinstance(state, Closing):
        return Status.SETTLING
    seen = Status.OPENING if facts is None else funding_status(facts, terms.offer.min_confirmations)
    if seen is Status.OPENING and state.funding is not None:
        return Status.FUNDING
    return seen


# the refund --------------------------------------------------------------------------------------


def signed_refund(terms: Terms, key: ChannelKey) -> Psbt:
    """The answer to a refund request: the refund with the payee's signature, the same bytes every time."""
    refund = terms.schedule.build(REFUND)
    return terms.lock.message(refund, terms.offer.payee_key, key.sign_refund(terms))


# the funding --------------------------------------------------------------------------------------


def funding_file_rules(state: PayeeState, transaction: Transaction) -> Check[None]:
    """A funding transaction that was handed over by file is the one of the refund."""
    terms = terms_of(state)
    txid, vout = terms.outpoint.txid, terms.outpoint.vout
    yield Rule("funding-txid", transaction.txid == txid, "txid of the funding", txid, transaction.txid)
    count = len(transaction.outputs)
    yield Rule("funding-output", vout < count, "outputs of the funding", f"more than {vout}", count)
    yield from funding_output_rules(
        terms, transaction.outputs[vout].script_pubkey, transaction.outputs[vout].value
    )
    given_up = isinstance(state, Abandoned)
    yield Rule("channel-abandoned", not given_up, "the channel was abandoned", error=NotPossible)


def take_funding(state: PayeeState, transaction: Transaction) -> PayeeState:
    """Keep the funding transaction. It counts as no confirmation.

    Raises:
        Refused: ``funding-txid``, ``funding-output``, ``funding-script``, ``funding-value``.
        NotPossible: ``channel-abandoned``.
    """
    enforce(funding_file_rules(state, transaction))
    return replace(state, funding=transaction) if isinstance(state, Active) else state


# updates and the settlement -----------------------------------------------------------------------


@frozen
class Receipt:
    """What a message brought.

    Attributes:
        number: of the update, or how many were taken; for a settlement that of the best update before it.
        received: what is new; 0 for a duplicate, and for what is pending.
        paid: the total that counts now.
        lock_time: nLockTime of what was taken; 0 for what is final at any time, such as a settlement.
        pending: what a settlement pays on top, once it is confirmed.
    """

    number: int
    received: Amount
    paid: Amount
    lock_time: int
    duplicate: bool
    kind: Kind
    pending: Amount = Amount(0)


def _duplicate(state: PayeeState, incoming: Incoming, facts: Facts) -> Receipt | None:
    """The receipt of what is held already, or None."""
    best, settlement = best_of(state), settlement_of(state)
    if incoming.is_update:
        if best is None or best.paid != incoming.paid or incoming.number not in (None, best.number):
            return None
        lock_time = incoming.transaction.lock_time
        return Receipt(best.number, Amount(0), best.paid, lock_time, duplicate=True, kind=Kind.UPDATE)
    if settlement is None or settlement.paid != incoming.paid:
        return None
    counts = credit(state, facts)
    number = 0 if best is None else best.number
    return Receipt(number, Amount(0), counts.paid, 0, True, Kind.SETTLEMENT, counts.pending)


def _phase_rules(state: PayeeState, facts: Facts, incoming: Incoming) -> Check[Active]:
    """The channel still takes messages.

    While only our own update closes it and nothing spends the funding yet, a settlement still serves us.
    """
    now = status(state, facts)
    if isinstance(state, Active) and facts.spent_by is not None and state.best is None:
        refunded = now in (Status.REFUNDING, Status.REFUNDED)
        yield Rule(f"channel-{now.value}", not refunded, f"the channel is {now.value}", error=NotPossible)
        return state  # any other spend before the first update: `funding_rules` refuses it
    takes = isinstance(state, Active) or (
        isinstance(state, Closing) and state.settlement is None and not incoming.is_update
    )
    unspent = facts.spent_by is None
    yield Rule(f"channel-{now.value}", takes and unspent, f"the channel is {now.value}", error=NotPossible)
    if isinstance(state, Abandoned):
        raise TypeError("an abandoned channel does not pass the rule above")
    return active_of(state)


_OLDER_COPY = (
    "if the payer went back to an older copy of its wallet: `mpchan payee export-latest` writes the latest that it has "
    "signed, for its `mpchan payer sync FILE`"
)


def _supersede_rules(
    best: Update | None, incoming: Incoming, least: Amount, spent: Amount | None
) -> Check[None]:
    """A later update pays more; a settlement pays no less, but for what was signed in advance and never used."""
    number, held = (0, Amount(0)) if best is None else (best.number, best.paid)
    paid = incoming.paid
    if spent is not None and not incoming.is_update and paid == spent:
        return
    if incoming.number is not None:
        later = incoming.number > number
        yield Rule(
            "update-number", later, "update number", f"above {number}", incoming.number, hint=_OLDER_COPY
        )
    yield Rule("paid-lower", paid >= held, "paid total", f"at least {held}", paid, hint=_OLDER_COPY)
    increment = paid - held
    enough = increment >= least or (not incoming.is_update and not increment)
    yield Rule("below-increment", enough, "payment", f"at least {least}", increment)


def accept_rules(
    state: PayeeState, psbt: Psbt, facts: Facts, *, closing: bool = False, spent: Amount | None = None
) -> Check[tuple[Incoming, Receipt]]:
    """Everything that a message must fulfil to be taken. Establishes it and its receipt.

    Args:
        closing: as in ``taking.incoming_rules``.
        spent: as in ``accept``.
    """
    incoming = yield from incoming_rules(psbt, terms_of(state), closing=closing)
    receipt = yield from standing_rules(state, incoming, facts, spent)
    return incoming, receipt


def standing_rules(
    state: PayeeState, incoming: Incoming, facts: Facts, spent: Amount | None = None
) -> Check[Receipt]:
    """What the channel's phase, the best update and the chain demand of a good message. Establishes its receipt.

    Args:
        spent: as in ``accept``.
    """
    terms = terms_of(state)
    duplicate = _duplicate(state, incoming, facts)
    if duplicate is not None:
        return duplicate
    active = yield from _phase_rules(state, facts, incoming)
    late = _is_late(state, facts)
    yield from _supersede_rules(active.best, incoming, terms.offer.min_increment, None if late else spent)
    yield from current_rules(facts.tip)
    # a settlement that pays nothing more only sends the payer its money back, however deep that is
    pays = incoming.is_update or incoming.paid > _best_total(active)
    yield from funding_rules(terms, facts, first=active.best is None, pays=pays)
    deadline = terms.schedule.deadline
    if incoming.is_update:
        yield Rule(
            "past-deadline",
            not late,
            f"the chain has reached {deadline}, from where on only a settlement is taken",
            error=NotPossible,
            hint="close the channel with `mpchan payee settle`"
            + (" FILE" if closes(terms, incoming.meant) else ""),
        )
    held = _best_total(active)
    number = _number_of(incoming, active.best)
    more = incoming.paid - held if incoming.paid >= held else Amount(0)
    if late:
        return Receipt(number, Amount(0), held, 0, duplicate=False, kind=incoming.meant.kind, pending=more)
    lock_time = incoming.transaction.lock_time
    return Receipt(number, more, incoming.paid, lock_time, duplicate=False, kind=incoming.meant.kind)


def _number_of(incoming: Incoming, best: Update | None) -> int:
    """Its own; the next one where the construction numbers none; for a settlement that of the best update."""
    held = 0 if best is None else best.number
    if not incoming.is_update:
        return held
    return held + 1 if incoming.number is None else incoming.number


def accept(
    state: PayeeState,
    psbt: Psbt,
    facts: Facts,
    key: ChannelKey,
    *,
    closing: bool = False,
    spent: Amount | None = None,
) -> tuple[PayeeState, Receipt]:
    """Verify an update or a settlement, countersign it, and keep it.

    Args:
        closing: as in ``taking.incoming_rules``.
        spent: what was charged, where the payer signs in advance for what it may use: a settlement of just that is
            taken before L_0, though more was signed for.

    Raises:
        Refused: the payer broke a rule.
        NotPossible: ``channel-…``, ``past-deadline``.
        TooEarly: ``funding-unseen``, ``funding-immature``, ``unconfirmed``.
    """
    incoming, receipt = enforce(accept_rules(state, psbt, facts, closing=closing, spent=spent))
    if receipt.duplicate or isinstance(state, Abandoned):
        return state, receipt
    terms, active = terms_of(state), active_of(state)
    if incoming.is_update:
        best = countersigned(terms, receipt.number, incoming.paid, incoming.signature, key)
        return replace(active, best=best), receipt
    ours = key.sign_settlement(terms, incoming.paid)
    transaction = _whole(terms, incoming.transaction, incoming.signature, ours)
    return Closing(active, Settlement(incoming.paid, transaction, _is_late(state, facts))), receipt


def countersigned(terms: Terms, number: int, paid: Amount, signature: bytes, key: ChannelKey) -> Update:
    """An update that the payer has signed, complete with our own signature.

    Args:
        signature: the payer's, verified.
    """
    unsigned = terms.schedule.build(terms.schedule.update(number, paid))
    ours = key.sign_update(terms, number, paid)
    return Update(number, paid, _whole(terms, unsigned, signature, ours))


def _whole(terms: Terms, unsigned: Transaction, theirs: bytes, ours: bytes) -> Transaction:
    return terms.lock.complete(unsigned, {terms.payer_key: theirs, terms.offer.payee_key: ours})


def _is_late(state: PayeeState, facts: Facts) -> bool:
    """Whether a settlement that comes now counts only once it is confirmed; see ``Settlement``.

    What was closing when it came was closed by our own update alone.
    """
    return isinstance(state, Closing) or terms_of(state).schedule.deadline.reached(facts.tip)


def payers_message(terms: Terms, held: Update | Settlement) -> Psbt:
    """The payer's message as it was taken: without our own signature, and without the fields that were ignored."""
    signature = terms.lock.signature_in(held.transaction, terms.payer_key)
    return terms.lock.message(unsigned_close(terms, held), terms.payer_key, signature)


def meant_by(terms: Terms, held: Update | Settlement) -> Meant:
    """What an update or a settlement is."""
    if isinstance(held, Settlement):
        return settlement(held.paid)
    return terms.schedule.update(held.number, held.paid)


def final_at(terms: Terms, held: Update | Settlement) -> LockTime | None:
    """From when on a block may hold an update or a settlement; None for at any time."""
    return terms.schedule.final_at(meant_by(terms, held))


def unsigned_close(terms: Terms, held: Update | Settlement) -> Transaction:
    """The transaction that an update or a settlement is, without its signatures."""
    return terms.schedule.build(meant_by(terms, held))


# closing ------------------------------------------------------------------------------------------


def close(state: PayeeState, facts: Facts, *, contest: bool = False) -> tuple[Closing, Settlement | Update]:
    """What the payee sends to the chain: a settlement that it holds, else its best update.

    Args:
        contest: also while another spend waits in the mempool, of which a miner may know nothing yet.

    Raises:
        NotPossible: ``nothing-to-collect``, ``channel-…`` where another transaction spends the funding.
        TooEarly: ``update-locked``, saying when.
        StorageError: ``stored-witness``.
    """
    if isinstance(state, Abandoned):
        raise NotPossible("channel-abandoned", "the channel was abandoned")
    active = active_of(state)
    held = settlement_of(state)
    closing: Settlement | Update | None = held or active.best
    if closing is None:
        raise NotPossible(
            "nothing-to-collect",
            "no update and no settlement is held",
            hint="ask the payer for a settlement, and pass it as FILE",
        )
    ours = {close.transaction.txid for close in (held, active.best) if close is not None}
    now = status(state, facts)
    foreign = facts.spent_by is not None and facts.spent_by not in ours
    contests = contest and foreign and not facts.spend_confirmations
    if foreign and not contests:
        raise NotPossible(
            f"channel-{now.value}", f"the funding is spent by {facts.spent_by}, the channel is {now.value}"
        )
    if isinstance(closing, Update) and (facts.spent_by is None or contests):
        _require_final(active.terms, closing, facts.tip)
    best = active.best
    if best is not None and facts.spent_by == best.transaction.txid != closing.transaction.txid:
        closing = best  # it is out already: a settlement would only conflict
    require_complete(active.terms, unsigned_close(active.terms, closing), closing.transaction)
    return Closing(active, held), closing


def _require_final(terms: Terms, update: Update, tip: ChainTip) -> None:
    lock_time = final_at(terms, update)
    if lock_time is not None and not lock_time.is_final(tip):
        raise TooEarly(
            "update-locked",
            f"update {update.number} is locked until {lock_time}, the chain stands at {lock_time.now(tip)}",
            hint=f"{time_left(lock_time, tip)} to go; with a settlement from the payer it goes at once",
        )


def abandon(state: PayeeState, facts: Facts | None) -> Abandoned:
    """Give up an opening whose funding nobody has seen; one that was handed over has until L_0 to reach the chain.

    Raises:
        NotPossible: ``funding-seen`` where the chain shows the funding, or may yet show what was handed over.
    """
    if isinstance(state, Abandoned):
        return state
    if isinstance(state, Active) and state.best is None and (facts is None or facts.funding is None):
        deadline = state.terms.schedule.deadline
        if state.funding is None or (facts is not None and deadline.reached(facts.tip)):
            return Abandoned(state.terms)
    raise NotPossible("funding-seen", "the channel's funding was seen, so it cannot be abandoned")
