"""What a watcher does about a channel in which it pays: it takes the refund at its time, and minds the funding."""

from __future__ import annotations

from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Facts, Status
from mpchan.channel.payer import (
    Abandoned,
    Funded,
    Opening,
    PayerState,
    Refunding,
    Secured,
    Settling,
    ever_funded,
    funded_of,
    paid_total,
    revived,
    status,
    terms_of,
    time_left_rules,
)
from mpchan.channel.rules import enforce
from mpchan.channel.watch.base import (
    Deadline,
    Decision,
    Deed,
    confirmations_of,
    has_passed,
    held_back,
    is_buried,
    is_forgotten,
)
from mpchan.errors import NotPossible


def payer_deadlines(state: PayerState) -> tuple[Deadline, ...]:
    """The lock times that matter to the payer, the earliest first."""
    if isinstance(state, Abandoned):
        return ()
    terms = terms_of(state)
    if isinstance(state, (Opening, Secured)):
        return (Deadline("last-update", terms.schedule.deadline),)
    return (Deadline("refund", terms.refund_lock_time),)


def payer_decision(state: PayerState, facts: Facts | None, conflict: str | None = None) -> Decision:
    """What to do now.

    Args:
        facts: None for a channel whose funding was never signed, about which nothing needs to be asked.
        conflict: a transaction other than the funding that spends one of its coins; looked for where the funding is
            not to be seen.
    """
    state = revived(state, facts)
    if isinstance(state, Abandoned) or facts is None:
        never_signed = ever_funded(state) is None
        return Decision(Deed.NOTHING, "given up", over=never_signed)
    if isinstance(state, (Opening, Secured)):
        return _opening(state, facts, conflict)
    if facts.spent_by is not None:
        return _spent(state, facts)
    if facts.funding is None:
        return _funding_unseen(state, facts, conflict)
    terms = terms_of(state)
    if terms.refund_lock_time.is_final(facts.tip):
        if held_back(terms, facts):
            return Decision(Deed.NOTHING, "the refund waits until the funding is in a block")
        return Decision(Deed.REFUND, f"the refund is final since {terms.refund_lock_time}", bids=True)
    why = confirmations_of(facts, terms.offer.min_confirmations)
    if isinstance(state, Settling):
        return Decision(Deed.NOTHING, f"the settlement is with the payee; {why}")
    if isinstance(state, Refunding):
        return Decision(Deed.NOTHING, f"the refund is held back until {terms.refund_lock_time} again")
    return Decision(Deed.NOTHING, why)


def _opening(state: Opening | Secured, facts: Facts, conflict: str | None) -> Decision:
    """The funding is unsigned here: nothing can be lost, but its coins are reserved."""
    if facts.funding is not None:
        complete = "run `mpchan payer fund` on the signed refund"
        hint = (
            complete
            if isinstance(state, Secured)
            else f"get the payee's answer to the refund request (too old? `mpchan payer open --again "
            f"{state.terms.outpoint}` makes another), and {complete}"
        )
        alarm = NotPossible(
            "funding-early", "the funding is on its way although it was not signed here", hint=hint
        )
        return Decision(Deed.NOTHING, "the funding was broadcast too early", alarm)
    if conflict is not None:
        alarm = NotPossible(
            "coin-spent",
            f"{conflict} spends a coin that this funding needs",
            hint="give this opening up with `mpchan payer abandon` and open another",
        )
        return Decision(Deed.NOTHING, "the funding cannot be mined any more", alarm)
    try:
        enforce(time_left_rules(state.terms, facts.tip))
    except NotPossible as alarm:
        return Decision(Deed.NOTHING, "too late for this opening", alarm)
    asked = (
        "the refund is signed, the funding is not"
        if isinstance(state, Secured)
        else "the refund is asked for"
    )
    return Decision(Deed.NOTHING, asked)


def _spent(state: Funded | Settling | Refunding, facts: Facts) -> Decision:
    now = status(state, facts)
    if now is Status.REFUNDING:
        return Decision(Deed.NOTHING, "the refund waits for a block", bids=True)
    if now is Status.REFUNDED:
        return Decision(Deed.NOTHING, "refunded", over=is_buried(facts))
    received = facts.paid_to(terms_of(state).offer.payee_script)
    if received is not None and received > paid_total(state):
        alarm = NotPossible(
            "unknown-close",
            f"{facts.spent_by} pays {received} to the payee, more than the {paid_total(state)} of this wallet",
            hint="does another copy of this wallet pay, or is it restored from a backup?",
        )
        over = is_forgotten(facts)
        return Decision(Deed.NOTHING, "closed by the payee", None if over else alarm, over=over)
    share = "" if received is None else f" with {received} for itself"
    if facts.spend_confirmations:
        return Decision(Deed.NOTHING, f"closed by the payee{share}", over=is_buried(facts))
    # a close that does not come into a block holds up the change, whoever is to blame for it
    helps = has_passed(terms_of(state), 2, facts.tip)
    return Decision(Deed.NOTHING, f"the payee closes the channel{share}", bids=helps)


def _funding_unseen(state: Funded | Settling | Refunding, facts: Facts, conflict: str | None) -> Decision:
    """Neither chain nor mempool has it: not sent yet, lost, or replaced."""
    funded = funded_of(state)
    if conflict is not None:
        alarm = NotPossible(
            "funding-void",
            f"{conflict} spends a coin of the funding, which can only be mined in its place",
            hint="once that is confirmed: `mpchan show` tells whether it pays the channel's address, and the way back "
            "(`mpchan payer open --again`); else give the channel up with `mpchan payer abandon`",
        )
        return Decision(Deed.NOTHING, "the funding was replaced", alarm)
    # a channel that was paid in has been on the chain: it is brought back however late it is
    if funded.terms.schedule.deadline.reached(facts.tip) and not paid_total(state):
        alarm = NotPossible(
            "funding-late",
            "the funding never came, and the time for payments is over",
            hint="spend one of its coins otherwise, so that it can never be mined, and run `mpchan payer abandon`"
            if construction_of(funded.terms.offer).has_exchange
            else "give the channel up with `mpchan payer abandon`: its refund stays, should that come after all",
        )
        return Decision(Deed.NOTHING, "the funding is not sent any more", alarm)
    if funded.funding is None:
        return Decision(Deed.NOTHING, "the funding, which a block held, is not to be seen any more")
    if not funded.sends:
        return Decision(Deed.NOTHING, "the funding was not seen; it is yours to broadcast")
    return Decision(Deed.FUNDING, "the funding is in neither chain nor mempool")
