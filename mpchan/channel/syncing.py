"""A payer that was restored from an older copy takes its own later signatures back.

The payee gives them back, with the payer's signature alone, so nothing has to be believed: only what this payer's own
key has signed is taken. Nothing ever goes backwards, neither the number nor the total. A payee that gives an older one
back gains nothing by it: it can use one of all that were signed, and no more than the best of them.

Where a copy has paid without asking, two signed states can contradict each other: two updates with one number, or a
later one that pays less. The payee can use either. So the payer reckons with the higher total, and goes on with a
number that neither of them has.
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.channel.payee import (
    Closing,
    PayeeState,
    Settlement,
    Update,
    best_of,
    payers_message,
)
from mpchan.channel.payee import terms_of as payee_terms_of
from mpchan.channel.payer import Funded, PayerState, Refunding, Settling, ever_funded, terms_of
from mpchan.channel.rules import BROKEN, Check, Rule, enforce
from mpchan.channel.taking import Incoming, incoming_rules
from mpchan.errors import NotPossible
from mpchan.units import Amount
from mpchan.values import frozen, replace


@frozen
class Synced:
    """What taking a signature back comes to.

    Attributes:
        state: afterwards; the one before where that is as late already.
        incoming: what the payer once signed.
        conflict: whether it contradicts what this state knew to be signed.
    """

    state: PayerState
    incoming: Incoming
    conflict: bool


def latest_message(state: PayeeState) -> tuple[Incoming, Psbt]:
    """What the payer has signed last, as it sent it: the settlement that is held, else the best update.

    It bears the payer's signature alone, which is verified before it leaves.

    Raises:
        NotPossible: ``no-update``.
        Refused: ``signature`` and the like, the state does not hold what it should.
    """
    settlement = state.settlement if isinstance(state, Closing) else None
    held: Settlement | Update | None = settlement or best_of(state)
    if held is None:
        raise NotPossible("no-update", "the payer has signed no update and no settlement yet")
    terms = payee_terms_of(state)
    message = payers_message(terms, held)
    return enforce(incoming_rules(message, terms)), message


def sync_rules(state: PayerState, psbt: Psbt) -> Check[Synced]:
    """An update or a settlement of this channel that this payer has signed. Establishes the state with it.

    Raises:
        NotPossible: ``not-funded``; ``out-of-updates`` where a conflict leaves no number to go on with.
    """
    incoming = yield from incoming_rules(psbt, terms_of(state))
    funded = ever_funded(state)
    yield Rule(
        "not-funded",
        funded is not None,
        "the channel is not funded in this wallet",
        error=NotPossible,
        hint="run `mpchan payer fund` with the signed refund first",
    )
    if funded is None:
        raise TypeError(BROKEN)
    if not incoming.is_update:
        return _with_settlement(state, funded, incoming)
    if _holds(funded, incoming):
        return Synced(state, incoming, conflict=False)
    later, conflict = _with_update(funded, incoming)
    return Synced(_in_phase(state, later), incoming, conflict)


def _holds(funded: Funded, incoming: Incoming) -> bool:
    """Whether the update is the own latest one, or an earlier one."""
    if incoming.number is None:
        return incoming.paid <= funded.paid
    if incoming.number == funded.number:
        return incoming.paid == funded.paid
    return incoming.number < funded.number and incoming.paid <= funded.paid


def _with_update(funded: Funded, incoming: Incoming) -> tuple[Funded, bool]:
    """The channel with an update that it does not know, and whether that contradicts its own."""
    if incoming.number is None:  # totals alone cannot contradict each other
        return replace(funded, number=funded.number + 1, paid=incoming.paid), False
    if incoming.number > funded.number and incoming.paid > funded.paid:
        return replace(funded, number=incoming.number, paid=incoming.paid), False
    number, paid = max(funded.number, incoming.number) + 1, max(funded.paid, incoming.paid)
    funded.terms.schedule.update(number, paid)  # raises when none is left
    return replace(funded, number=number, paid=paid), True


def _in_phase(state: PayerState, funded: Funded) -> PayerState:
    """The phase goes on; an abandoned channel that has updates was never void."""
    if isinstance(state, (Settling, Refunding)):
        total = None if state.total is None else max(state.total, funded.paid)
        if isinstance(state, Settling):
            return Settling(funded, funded.paid if total is None else total)
        return Refunding(funded, total)
    return funded


def _with_settlement(state: PayerState, funded: Funded, incoming: Incoming) -> Synced:
    """The settlement was handed over: no payment any more."""
    known: Amount | None = state.total if isinstance(state, (Settling, Refunding)) else None
    total = max(incoming.paid, funded.paid if known is None else known)
    conflict = total != incoming.paid or (known is not None and known != incoming.paid)
    if isinstance(state, Refunding):
        return Synced(Refunding(funded, total), incoming, conflict)
    return Synced(Settling(funded, total), incoming, conflict)
