"""What a watcher does about a channel in which it is paid: it claims before the refund becomes final.

A settlement goes at once. The latest update goes when it is final and L_0 is near, or when no payment came for a long
time. From L_0 on every update is final (L_k < L_0), and ``settle_window`` is left until the refund is: a watcher that
looks once in that time has sent what it holds.
"""

from __future__ import annotations

from mpchan.channel.facts import Facts, Status
from mpchan.channel.limits import WatchPolicy
from mpchan.channel.payee import (
    Abandoned,
    Active,
    Closing,
    PayeeState,
    Settlement,
    Update,
    active_of,
    credit,
    final_at,
    status,
    terms_of,
)
from mpchan.channel.terms import Terms
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
from mpchan.errors import MpchanError, NotPossible, TooEarly
from mpchan.units import Amount, ChainTip


def payee_deadlines(state: PayeeState) -> tuple[Deadline, ...]:
    """The lock times that matter to the payee, the earliest first."""
    if isinstance(state, Abandoned):
        return ()
    terms = terms_of(state)
    last = (Deadline("last-update", terms.schedule.deadline), Deadline("refund", terms.refund_lock_time))
    if isinstance(state, Closing):
        return last[1:]
    final = None if state.best is None else final_at(terms, state.best)
    return last if final is None else (Deadline("update", final), *last)


def payee_decision(
    state: PayeeState, facts: Facts | None, policy: WatchPolicy, silent_seconds: int
) -> Decision:
    """What to do now.

    Args:
        facts: None for a channel that was given up, about which nothing needs to be asked.
        silent_seconds: since the last payment.
    """
    if isinstance(state, Abandoned) or facts is None:
        return Decision(Deed.NOTHING, "given up", over=True)
    active = active_of(state)
    settlement = state.settlement if isinstance(state, Closing) else None
    held = [close for close in (settlement, active.best) if close is not None]
    if not held:
        return _nothing_held(active, facts)
    if facts.spent_by is not None:
        return _spent(state, held, facts)
    if facts.funding is None:
        return _funding_gone(active, credit(state, facts).paid)
    return _unspent(state, held, facts, policy, silent_seconds)


# nothing to lose ----------------------------------------------------------------------------------


def _nothing_held(active: Active, facts: Facts) -> Decision:
    """No payment came. What the payer does then costs the payee nothing, and is no reason to call anybody."""
    terms = active.terms
    now = status(active, facts)
    if now is Status.REFUNDING:
        return Decision(Deed.NOTHING, "the payer takes its refund; nothing was paid")
    if now is Status.REFUNDED:
        return Decision(Deed.NOTHING, "refunded; nothing was paid", over=is_buried(facts))
    if facts.funding is not None and facts.funding != terms.funding_txout:
        return Decision(Deed.NOTHING, "the chain holds another output than the channel's; nothing was paid")
    if facts.spent_by is not None:
        return _foreign([], terms, facts)
    late = terms.schedule.deadline.reached(facts.tip)
    if facts.funding is None:
        why = "the funding was not seen"
        if late:
            why += ", and its time is over: `mpchan payee abandon` gives the opening up"
        return Decision(Deed.NOTHING, why)
    if late:
        return Decision(Deed.NOTHING, "the time for updates is over; nothing was paid")
    return Decision(
        Deed.NOTHING, f"{confirmations_of(facts, terms.offer.min_confirmations)}; nothing is paid yet"
    )


# money at stake -----------------------------------------------------------------------------------


def _spent(state: Active | Closing, held: list[Settlement | Update], facts: Facts) -> Decision:
    """Something spends the funding: what we sent, the refund, or what nobody should have."""
    terms = terms_of(state)
    now = status(state, facts)
    if facts.spent_by in [close.transaction.txid for close in held]:
        if facts.spend_confirmations:
            return Decision(Deed.NOTHING, "closed, with your money", over=is_buried(facts))
        return Decision(Deed.NOTHING, "the close waits for a block", _overdue(terms, facts), bids=True)
    if now in (Status.REFUNDING, Status.REFUNDED) and not held[0].paid:
        return _nothing_held(active_of(state), facts)
    paid = credit(state, facts).paid
    if now is Status.REFUNDING:
        return _refund_seen(terms, held, paid, facts)
    if now is Status.REFUNDED and not paid:
        return Decision(Deed.NOTHING, "refunded; what was pending is void", over=is_buried(facts))
    if now is Status.REFUNDED:
        alarm = NotPossible(
            "refunded-unclaimed",
            f"the refund is in the chain, and {paid} that were paid are not collected",
            hint="a watcher must run at least once in the settle window",
        )
        over = is_forgotten(facts)
        return Decision(Deed.NOTHING, "refunded", None if over else alarm, over=over)
    return _foreign(held, terms, facts)


def _overdue(terms: Terms, facts: Facts) -> NotPossible | None:
    """Half of the settle window is over. Once the refund is final, the payer can replace the close by it."""
    if not has_passed(terms, 2, facts.tip):
        return None
    return NotPossible(
        "close-unconfirmed",
        f"the close {facts.spent_by} is still not in a block, and {terms.refund_lock_time} is near, "
        "when the refund is final",
        hint="`mpchan bump CHANNEL --fee-rate R` pays more for it, also with other coins of the wallet",
    )


def _refund_seen(terms: Terms, held: list[Settlement | Update], paid: Amount, facts: Facts) -> Decision:
    """The refund waits in the mempool. Another node, or a miner, may not have it yet: so what is held goes out too.

    Args:
        paid: what counts as paid; nothing of what is pending was delivered for, so its loss calls nobody.
    """
    alarm = NotPossible(
        "refund-seen",
        f"the refund {facts.spent_by} is in the mempool, and {paid} that were paid are not collected",
        hint="what you hold is sent against it in every round; take it to a miner if you can",
    )
    return _contest(terms, held[0], "the payer takes its refund", alarm if paid else None, facts)


def _contest(
    terms: Terms, close: Settlement | Update, why: str, alarm: NotPossible | None, facts: Facts
) -> Decision:
    deed = _deed(terms, close, facts.tip)
    return Decision(deed, why, alarm, contest=True, bids=deed is not Deed.NOTHING)


def _deed(terms: Terms, close: Settlement | Update, tip: ChainTip) -> Deed:
    if isinstance(close, Settlement):
        return Deed.SETTLEMENT
    lock_time = final_at(terms, close)
    return Deed.UPDATE if lock_time is None or lock_time.is_final(tip) else Deed.NOTHING


def _foreign(held: list[Settlement | Update], terms: Terms, facts: Facts) -> Decision:
    """Only this wallet's key makes any spend but the refund possible: somebody else has it, or an old copy ran.

    Until a block holds it, what is held goes out against it where that pays more.
    """
    alarm = NotPossible(
        "foreign-spend",
        f"transaction {facts.spent_by}, which this wallet does not know, spends the funding",
        hint="does another copy of this wallet run, or is it restored from a backup?",
    )
    over, why = is_forgotten(facts), "spent by an unknown transaction"
    received = facts.paid_to(terms.offer.payee_script)
    if held and received is not None and received < held[0].paid and not facts.spend_confirmations:
        return _contest(terms, held[0], why, alarm, facts)
    return Decision(Deed.NOTHING, why, None if over else alarm, over=over)


def _funding_gone(active: Active, paid: Amount) -> Decision:
    if active.funding is not None:
        return Decision(Deed.FUNDING, "the funding is gone from chain and mempool")
    alarm = NotPossible(
        "funding-gone",
        "the funding of a channel in which you were paid is in neither chain nor mempool",
        hint="deliver nothing; ask the payer for the funding, and run `mpchan payee funding FILE --broadcast`",
    )
    return Decision(Deed.NOTHING, "the funding is gone from chain and mempool", alarm if paid else None)


def _unspent(
    state: Active | Closing,
    held: list[Settlement | Update],
    facts: Facts,
    policy: WatchPolicy,
    silent_seconds: int,
) -> Decision:
    terms = terms_of(state)
    close = held[0]
    alarm = _risk(terms, credit(state, facts).paid, facts)
    if held_back(terms, facts):
        return Decision(Deed.NOTHING, "the close waits until the funding is in a block", alarm)
    if isinstance(close, Settlement):
        return Decision(Deed.SETTLEMENT, "a settlement goes at once", alarm, bids=True)
    lock_time = final_at(terms, close)
    why = _why_claim(state, facts.tip, policy, silent_seconds)
    if lock_time is None or lock_time.is_final(facts.tip):
        if why is not None:
            return Decision(Deed.UPDATE, why, alarm, bids=True)
        return Decision(Deed.NOTHING, f"{close.paid} can be claimed; payments may go on", alarm)
    if isinstance(state, Closing):
        return Decision(Deed.NOTHING, f"the close is held back until {lock_time} again", alarm)
    return Decision(Deed.NOTHING, f"{close.paid} are paid, to be claimed from {lock_time} on", alarm)


_PATIENCE = 2 * 24 * 3600
"""Seconds without a payment, where an update that has become final tells that the channel is old."""


def _why_claim(
    state: Active | Closing, tip: ChainTip, policy: WatchPolicy, silent_seconds: int
) -> str | None:
    """Why an update that is final is sent now; None where payments may go on."""
    if isinstance(state, Closing):
        return "the close was sent before, and is gone from chain and mempool"
    deadline = terms_of(state).schedule.deadline
    tip = tip.of_network  # a backend that is behind does not know how late it is
    if deadline.now(tip) >= deadline.value - policy.near(deadline.unit):
        return (
            f"{deadline} is {'here' if deadline.reached(tip) else 'near'}, from where on no update is taken"
        )
    patience = policy.claim_after
    if patience is None and state.best is not None and final_at(state.terms, state.best) is not None:
        patience = _PATIENCE
    if patience is not None and silent_seconds >= patience:
        return f"no payment came for {silent_seconds} s"
    return None


def _risk(terms: Terms, paid: Amount, facts: Facts) -> MpchanError | None:
    """What a person should know although the deed is right."""
    if not paid:
        return None
    if terms.refund_lock_time.is_final(facts.tip.of_network):
        return NotPossible(
            "claim-late",
            f"the refund has been final since {terms.refund_lock_time}, and {paid} that were paid "
            "are not collected",
            hint="whoever is in a block first wins",
        )
    if facts.confirmations == 0:
        return TooEarly(
            "funding-unconfirmed",
            f"the funding of a channel in which {paid} were paid is not in a block any more",
            hint="deliver nothing until it is confirmed again",
        )
    return None
