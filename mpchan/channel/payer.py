"""The payer: asks for the refund, funds the channel, pays, settles or takes the refund.

Each phase is a type of its own, so what a phase cannot have does not exist in it:

    Opening    the refund was asked for; the funding is unsigned
    Secured    the complete refund is ours; the funding is unsigned still
    Funded     the funding is signed (and so may leave); updates flow
    Settling   the settlement was handed over; no payment any more
    Refunding  the refund was sent to the chain
    Abandoned  an opening that was given up, or a funding that another spend of its coins made void
"""

from __future__ import annotations

from typing import Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.carried import with_offer
from mpchan.channel.construction.base import REFUND, settlement
from mpchan.channel.construction.refund_first import with_proof
from mpchan.channel.facts import (
    Facts,
    Status,
    current_rules,
    funding_status,
    is_refund,
    spend_status,
    time_left,
)
from mpchan.channel.messages import message_rules, require_complete, same_transaction_rules
from mpchan.channel.rules import Check, Rule, enforce
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms, is_within_limits
from mpchan.errors import NotPossible, TooEarly
from mpchan.units import Amount, ChainTip
from mpchan.values import frozen, replace


@frozen
class Opening:
    """The refund is asked for.

    Attributes:
        funding: without any signature; None where a block holds it already, and nothing is left to be signed or sent.
        spent: the outputs that its inputs spend, in the same order; none with that.
        external: whether another wallet made the funding, and signs it.
    """

    terms: Terms
    funding: Transaction | None
    spent: tuple[TxOut, ...]
    external: bool = False


@frozen
class Secured:
    """The refund is complete and in hand; only now may the funding be signed, or what another wallet signed leave."""

    terms: Terms
    funding: Transaction | None
    spent: tuple[TxOut, ...]
    refund: Transaction
    external: bool = False


@frozen
class Funded:
    """The funding is signed.

    Attributes:
        funding: None where a block held it before its refund was complete.
        spent: the outputs that the funding's inputs spend, in the same order.
        sends: whether this wallet broadcasts the funding, and again should it get lost; False where the user does.
        number: of the latest update, or how many were made where the construction numbers none; 0 before the first.
        paid: its total for the payee.
        external: whether another wallet made and signed the funding.
        refund_only: whether nothing is ever paid in it: it is not the offer's channel, but other money at its address.
    """

    terms: Terms
    funding: Transaction | None
    spent: tuple[TxOut, ...]
    refund: Transaction
    sends: bool
    number: int = 0
    paid: Amount = Amount(0)
    external: bool = False
    refund_only: bool = False


@frozen
class Settling:
    """The settlement is out of our hands.

    Attributes:
        total: what it pays to the payee.
    """

    funded: Funded
    total: Amount


@frozen
class Refunding:
    """The refund is out of our hands.

    Attributes:
        total: of a settlement that was handed over before; None without one.
    """

    funded: Funded
    total: Amount | None


@frozen
class Abandoned:
    """Given up before the funding was signed, or once it was void.

    Attributes:
        funded: the channel whose funding was void, since a reorganisation may yet bring that back, or whose refund was
            secured while another wallet has the funding; None without one.
    """

    terms: Terms
    funded: Funded | None = None


PayerState = Union[Opening, Secured, Funded, Settling, Refunding, Abandoned]


def terms_of(state: PayerState) -> Terms:
    """The terms, whatever the phase."""
    return funded_of(state).terms if isinstance(state, (Settling, Refunding)) else state.terms


def funded_of(state: Funded | Settling | Refunding) -> Funded:
    """The funded channel inside the later phases."""
    return state if isinstance(state, Funded) else state.funded


def ever_funded(state: PayerState) -> Funded | None:
    """The channel with its signed funding, be it void by now; None before that was signed."""
    if isinstance(state, (Opening, Secured)):
        return None
    return state.funded if isinstance(state, Abandoned) else funded_of(state)


def revived(state: PayerState, facts: Facts | None) -> PayerState:
    """The channel as it was before it was abandoned, where the chain shows its void funding after all."""
    if (
        isinstance(state, Abandoned)
        and state.funded is not None
        and facts is not None
        and facts.funding is not None
    ):
        return state.funded
    return state


def paid_total(state: PayerState) -> Amount:
    """What the payer has signed away so far, the settlement included."""
    if isinstance(state, (Settling, Refunding)):
        return state.funded.paid if state.total is None else state.total
    funded = ever_funded(state)
    return Amount(0) if funded is None else funded.paid


def status(state: PayerState, facts: Facts | None) -> Status:
    """Where the channel stands. Without facts (no chain in reach) the own phase alone decides."""
    state = revived(state, facts)
    if isinstance(state, Abandoned):
        return Status.ABANDONED
    if isinstance(state, (Opening, Secured)):
        return Status.OPENING
    spent = None if facts is None else spend_status(terms_of(state), facts)
    if spent is not None:
        return spent
    if isinstance(state, Settling):
        return Status.SETTLING
    if isinstance(state, Refunding):
        return Status.REFUNDING
    if facts is None:
        return Status.FUNDING
    seen = funding_status(facts, state.terms.offer.min_confirmations)
    return Status.FUNDING if seen is Status.OPENING else seen


# opening ------------------------------------------------------------------------------------------


def refund_request(state: PayerState, key: ChannelKey | None = None) -> Psbt:
    """The message that asks for the payee's signature on the refund: the same bytes in every phase.

    Args:
        key: our own, which proves that we ask; None where nobody else can pay to the outpoint.
    """
    terms = terms_of(state)
    request = with_offer(terms.lock.message(terms.schedule.build(REFUND)), terms.offer)
    return request if key is None else with_proof(request, key)


# funding ------------------------------------------------------------------------------------------


def refund_reply_rules(terms: Terms, psbt: Psbt) -> Check[bytes]:
    """The payee's answer: our own refund, signed by the payee. Establishes that signature."""
    payee_key = terms.offer.payee_key
    signature = yield from message_rules(psbt, terms, payee_key)
    refund = terms.schedule.build(REFUND)
    yield from same_transaction_rules(refund, psbt.tx)
    yield from terms.lock.signature_rules(refund, payee_key, signature)
    return signature


def secure(state: Opening, psbt: Psbt, key: ChannelKey) -> Secured:
    """Complete the refund with our own signature, after the payee's was verified.

    Raises:
        Refused, ParseError: the payee's answer breaks a rule.
    """
    terms = state.terms
    payee_signature = enforce(refund_reply_rules(terms, psbt))
    signatures = {terms.payer_key: key.sign_refund(terms), terms.offer.payee_key: payee_signature}
    refund = terms.lock.complete(terms.schedule.build(REFUND), signatures)
    return Secured(terms, state.funding, state.spent, refund, state.external)


def refund_reply(state: Secured) -> Psbt:
    """The payee's answer as it was taken: the refund with the payee's signature alone."""
    terms, payee_key = state.terms, state.terms.offer.payee_key
    signature = terms.lock.signature_in(state.refund, payee_key)
    return terms.lock.message(terms.schedule.build(REFUND), payee_key, signature)


def time_left_rules(terms: Terms, tip: ChainTip) -> Check[None]:
    """Enough time must be left to confirm the funding and to make a payment before L_0."""
    deadline = terms.schedule.deadline
    left = deadline.value - deadline.now(tip)
    needed = terms.offer.confirmation_delay
    yield Rule(
        "too-little-time",
        left > needed,
        f"{deadline.unit} left for payments",
        f"more than {needed}",
        left,
        error=NotPossible,
        hint="give this opening up with `mpchan payer abandon` and open another",
    )


def fund(state: Secured, signed_funding: Transaction | None, *, sends: bool) -> Funded:
    """Take the signed funding in. Its txid is that of the unsigned one, or the refund would be void.

    Args:
        signed_funding: None for one that a block holds already.
        sends: whether this wallet is about to broadcast it.

    Raises:
        NotPossible: ``funding-changed``.
        StorageError: ``stored-witness``, the stored refund is no way back.
    """
    require_complete(state.terms, state.terms.schedule.build(REFUND), state.refund)
    if signed_funding is None or state.funding is None:
        if signed_funding is not state.funding:
            raise TypeError("a funding is signed if and only if there is one to sign")
        return Funded(state.terms, None, state.spent, state.refund, sends=False, external=state.external)
    if signed_funding.txid != state.funding.txid or signed_funding.txid != state.terms.outpoint.txid:
        raise NotPossible("funding-changed", f"the signed funding has another txid: {signed_funding.txid}")
    return Funded(state.terms, signed_funding, state.spent, state.refund, sends, external=state.external)


def abandon(state: PayerState, *, funding_is_void: bool = False, may_be_signed: bool = False) -> Abandoned:
    """Give the opening up.

    Args:
        may_be_signed: a lost wallet, of which this is an older copy, may have signed the funding.
        funding_is_void: a confirmed transaction other than the funding spends one of the funding's inputs.

    Raises:
        NotPossible: ``funding-signed``, the funding is signed and could be mined any time.
    """
    if isinstance(state, Abandoned):
        return state
    if isinstance(state, Secured) and (state.external or may_be_signed):
        # the other wallet, or whoever has the signed funding, may still send it: the refund stays at hand
        unsent = Funded(state.terms, state.funding, state.spent, state.refund, sends=False, external=True)
        return Abandoned(state.terms, unsent)
    if isinstance(state, (Opening, Secured)):
        return Abandoned(state.terms)
    if isinstance(state, Funded) and funding_is_void:
        return Abandoned(state.terms, state)
    raise NotPossible(
        "funding-signed",
        "the funding is signed and may be in other hands, so the channel cannot be abandoned",
        hint="close it with `mpchan payer settle`, or take the refund at its lock time",
    )


# paying -------------------------------------------------------------------------------------------


def _phase_rules(state: PayerState, facts: Facts) -> Check[Funded]:
    """The channel is funded, and neither closed nor being closed."""
    state = revived(state, facts)
    if isinstance(state, (Opening, Secured)):
        yield Rule(
            "not-funded",
            False,
            "the channel is not funded",
            error=NotPossible,
            hint="run `mpchan payer fund` first",
        )
    now = status(state, facts)
    going = isinstance(state, Funded) and now in (Status.FUNDING, Status.OPEN)
    yield Rule(f"channel-{now.value}", going, f"the channel is {now.value}", error=NotPossible)
    if not isinstance(state, Funded):
        raise TypeError("only a funded channel passes the rules above")
    yield Rule(
        "refund-only",
        not state.refund_only,
        "this money is not the offer's channel: nothing is paid in it, its refund alone counts",
        found=state.terms.outpoint,
        error=NotPossible,
        hint=f"`mpchan payer refund` takes it back from {state.terms.refund_lock_time} on",
    )
    return state


def _payment_rules(state: PayerState, amount: Amount, facts: Facts, *, ahead: bool = False) -> Check[Funded]:
    """A payment of ``amount``, be it by an update or inside the settlement.

    Args:
        ahead: whether it may leave before the funding is deep enough.
    """
    funded = yield from _phase_rules(state, facts)
    yield from current_rules(facts.tip)
    terms = funded.terms
    needed, found = terms.offer.min_confirmations, facts.confirmations
    yield Rule(
        "unconfirmed",
        ahead or found >= needed,
        "confirmations of the funding",
        f"at least {needed}",
        found,
        error=TooEarly,
        hint="wait for it with `mpchan wait --for confirmed`",
    )
    yield Rule("zero-payment", bool(amount), "a payment must be above 0", error=NotPossible)
    yield Rule(
        "capacity",
        is_within_limits(terms),
        "the funding is not worth what the offer allows, so that its refund alone counts",
        found=terms.funding_value,
        error=NotPossible,
    )
    least = terms.offer.min_increment
    yield Rule("below-increment", amount >= least, "payment", f"at least {least}", amount, error=NotPossible)
    left = terms.capacity - funded.paid
    yield Rule(
        "over-capacity", amount <= left, f"the channel has {left} left, not {amount}", error=NotPossible
    )
    yield from _dust_rule(terms, funded.paid + amount)
    return funded


def _dust_rule(terms: Terms, total: Amount) -> Check[None]:
    dust = terms.payee_dust
    yield Rule(
        "below-dust",
        total >= dust,
        f"a total of {total} is below the payee's dust limit of {dust} and could not be collected",
        error=NotPossible,
        hint=f"the first payment must be at least {dust}",
    )


def pay(state: PayerState, amount: Amount, facts: Facts, *, ahead: bool = False) -> Funded:
    """The state after one more payment; ``update_message`` makes its message.

    Args:
        ahead: whether it may leave before the funding is deep enough.

    Raises:
        NotPossible: ``channel-…``, ``zero-payment``, ``below-increment``, ``over-capacity``, ``below-dust``,
            ``past-deadline``, ``out-of-updates``.
        TooEarly: ``unconfirmed``.
    """
    funded = enforce(_payment_rules(state, amount, facts, ahead=ahead))
    schedule = funded.terms.schedule
    if schedule.deadline.reached(facts.tip):
        raise NotPossible(
            "past-deadline",
            f"the chain has reached {schedule.deadline}: the payee takes no more updates",
            hint="close the channel with `mpchan payer settle`; its --total can carry a last payment",
        )
    number, paid = funded.number + 1, funded.paid + amount
    schedule.update(number, paid)  # raises when none is left
    return replace(funded, number=number, paid=paid)


def pay_up_to(state: PayerState, total: Amount, facts: Facts) -> Funded:
    """The state after ``total`` is reached; the state as it was where it is reached already.

    Raises:
        NotPossible: ``total-below-paid``, and as ``pay``.
        TooEarly: as ``pay``.
    """
    state = revived(state, facts)
    if isinstance(state, (Funded, Settling, Refunding)):
        funded = funded_of(state)
        if total < funded.paid:
            raise NotPossible("total-below-paid", f"{funded.paid} are paid already, more than {total}")
        if total == funded.paid and funded.number:
            return funded
        return pay(state, total - funded.paid, facts)
    return pay(state, total, facts)


def pay_ahead(state: PayerState, total: Amount, facts: Facts) -> Funded:
    """The state after the first payment, where that goes to the payee together with the funding.

    What the payee has of it is worth nothing before the funding is in a block. Once the first payment is made there is
    no other of this kind: the state stays as it is, whatever ``total`` says.

    Raises:
        NotPossible: as ``pay``.
    """
    state = revived(state, facts)
    known = ever_funded(state)
    if isinstance(state, Funded) and known is not None and known.number:
        return known
    return pay(state, total, facts, ahead=True)


def latest_update(state: PayerState) -> Funded:
    """The channel, when it has an update that can be emitted again.

    Raises:
        NotPossible: ``no-update``.
    """
    funded = ever_funded(state)
    if funded is not None and funded.number:
        return funded
    raise NotPossible("no-update", "no payment was made in this channel yet")


def latest_lock_time(funded: Funded) -> int:
    """nLockTime of the latest update; 0 where it is final at any time."""
    schedule = funded.terms.schedule
    final_at = schedule.final_at(schedule.update(funded.number, funded.paid))
    return 0 if final_at is None else final_at.value


def update_message(funded: Funded, key: ChannelKey) -> Psbt:
    """The latest update with the payer's signature: the same bytes every time."""
    terms, number, paid = funded.terms, funded.number, funded.paid
    schedule, signature = terms.schedule, key.sign_update(terms, number, paid)
    return terms.lock.message(schedule.build(schedule.update(number, paid)), terms.payer_key, signature)


# closing ------------------------------------------------------------------------------------------


def settle(state: PayerState, total: Amount | None, facts: Facts, *, at_spent: bool = False) -> Settling:
    """The state once the settlement is handed over; ``settlement_message`` makes its message.

    Args:
        total: final total, paid so far or more; None for what is paid.
        at_spent: it may be less than was signed for, since the payee has charged no more. The payee need not take it.

    Raises:
        NotPossible: ``settlement-handed-over`` for another total than before, ``total-below-paid``, and as ``pay``.
        TooEarly: ``unconfirmed``, where the settlement carries a payment.
    """
    state = revived(state, facts)
    if isinstance(state, Settling):
        if total is not None and total != state.total:
            raise NotPossible(
                "settlement-handed-over",
                f"a settlement of {state.total} was handed over, there is no other of {total}",
            )
        return state
    if isinstance(state, Funded) and total is not None:
        if total < state.paid:
            if at_spent:
                return Settling(enforce(_phase_rules(state, facts)), total)
            raise NotPossible("total-below-paid", f"{state.paid} are paid already, more than {total}")
        if total > state.paid:
            funded = enforce(_payment_rules(state, total - state.paid, facts))
            return Settling(funded, total)
    funded = enforce(_phase_rules(state, facts))
    return Settling(funded, funded.paid)


def settlement_message(state: Settling, key: ChannelKey) -> Psbt:
    """The settlement with the payer's signature: the same bytes every time."""
    terms = state.funded.terms
    signature = key.sign_settlement(terms, state.total)
    return terms.lock.message(terms.schedule.build(settlement(state.total)), terms.payer_key, signature)


def take_refund(state: PayerState, facts: Facts) -> Refunding:
    """The state once the refund goes to the chain.

    Raises:
        TooEarly: ``refund-locked``, saying when.
        NotPossible: ``not-funded``; ``channel-closed`` and the like where another transaction spends the funding.
        StorageError: ``stored-witness``.
    """
    state = revived(state, facts)
    if isinstance(state, (Opening, Secured, Abandoned)):
        raise NotPossible("not-funded", "the channel was never funded, there is nothing to refund")
    now = status(state, facts)
    if facts.spent_by not in (None, funded_of(state).refund.txid):
        how = (
            "another refund was sent" if is_refund(terms_of(state), facts) else "the payee closed the channel"
        )
        raise NotPossible(
            f"channel-{now.value}", f"the funding is spent by {facts.spent_by}, not by the refund: {how}"
        )
    refund_time = terms_of(state).refund_lock_time
    if facts.spent_by is None and not refund_time.is_final(facts.tip):
        raise TooEarly(
            "refund-locked",
            f"the refund is locked until {refund_time}, the chain stands at {refund_time.now(facts.tip)}",
            hint=f"{time_left(refund_time, facts.tip)} to go",
        )
    require_complete(terms_of(state), terms_of(state).schedule.build(REFUND), funded_of(state).refund)
    if isinstance(state, Refunding):
        return state
    return Refunding(funded_of(state), state.total if isinstance(state, Settling) else None)
