"""What a watcher decides: for every state of both parties, at every height, whatever spends the funding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.protocol import (
    PAYEE,
    TIP,
    facts_of,
    make_funded,
    make_offer,
    make_opening,
    make_secured,
    make_terms,
    replace,
    scheme_of,
    settlement_psbt,
    update_psbt,
)

from mpchan.bitcoin.tx import TxOut
from mpchan.channel import payee, payer
from mpchan.channel.facts import Facts
from mpchan.channel.limits import WatchPolicy
from mpchan.channel.terms import Terms
from mpchan.channel.watch.base import BURIED, REMEMBERED, Deadline, Decision, Deed, next_deadline
from mpchan.channel.watch.payee import payee_deadlines, payee_decision
from mpchan.channel.watch.payer import payer_deadlines, payer_decision
from mpchan.errors import TooEarly
from mpchan.units import Amount, ChainTip, Height, MedianTime, Txid

STRANGE = Txid(bytes(32))
POLICY = WatchPolicy(claim_after=1000, near_blocks=6, near_seconds=3600)
TERMS = {
    "blocks": make_terms(make_offer(step=10, min_confirmations=3)),
    "seconds": make_terms(make_offer(lock_time_unit="seconds", step=7000, min_confirmations=3)),
}
UNITS = pytest.mark.parametrize("unit", ["blocks", "seconds"])


def held(terms: Terms, number: int = 1, paid: int = 1000) -> payee.Active:
    """The payee after one payment."""
    opened = facts_of(terms, confirmations=3)
    state, _ = payee.accept(payee.Active(terms), update_psbt(terms, number, paid), opened, PAYEE)
    assert isinstance(state, payee.Active)
    return state


def settled(state: payee.PayeeState, paid: int = 1000) -> payee.Closing:
    """The payee with a settlement in hand."""
    terms = payee.terms_of(state)
    state, _ = payee.accept(state, settlement_psbt(terms, paid), facts_of(terms, confirmations=3), PAYEE)
    assert isinstance(state, payee.Closing)
    return state


HELD = {unit: held(terms) for unit, terms in TERMS.items()}
SETTLED = {unit: settled(state) for unit, state in HELD.items()}
FUNDED = {unit: replace(make_funded(terms), number=1, paid=Amount(1000)) for unit, terms in TERMS.items()}


def at(unit: str, value: int) -> ChainTip:
    """A tip that stands there in this unit."""
    return replace(TIP, height=value) if unit == "blocks" else replace(TIP, median_time=value)


def final_at(unit: str, lock_time: int) -> int:
    """The first tip at which this lock time is final."""
    return lock_time + (unit == "seconds")


def alarm_of(decision: Decision) -> str | None:
    return None if decision.alarm is None else decision.alarm.slug


# the payee ----------------------------------------------------------------------------------------


@UNITS
def test_a_settlement_goes_at_once(unit: str) -> None:
    decision = payee_decision(SETTLED[unit], facts_of(TERMS[unit], 3), POLICY, 0)
    assert (decision.deed, decision.alarm, decision.contest) == (Deed.SETTLEMENT, None, False)
    only = settled(payee.Active(TERMS[unit]))
    assert payee_decision(only, facts_of(TERMS[unit], 3), POLICY, 0).deed is Deed.SETTLEMENT


@UNITS
@pytest.mark.parametrize("silent", [0, 999, 1000, 10**9])
def test_an_update_goes_when_it_is_final_and_l0_is_near_or_the_payer_silent(unit: str, silent: int) -> None:
    terms, state = TERMS[unit], HELD[unit]
    final = final_at(unit, state.best.transaction.lock_time)
    near = scheme_of(terms).deadline.value - POLICY.near(unit)
    assert final < near
    for value in (final - 1, final, near - 1, near, near + 1, terms.refund_lock_time.value - 1):
        due = value >= final and (value >= near or silent >= POLICY.claim_after)
        decision = payee_decision(state, facts_of(terms, 3, at(unit, value)), POLICY, silent)
        assert decision.deed is (Deed.UPDATE if due else Deed.NOTHING), value
        assert decision.alarm is None
        assert not decision.over


@UNITS
def test_near_l0_an_update_waits_until_it_is_final(unit: str) -> None:
    terms = make_terms(make_offer(lock_time_unit=unit, min_confirmations=3))
    state = held(terms)
    final = final_at(unit, state.best.transaction.lock_time)
    assert final > scheme_of(terms).deadline.value - POLICY.near(unit)
    for value, deed in ((final - 1, Deed.NOTHING), (final, Deed.UPDATE)):
        assert payee_decision(state, facts_of(terms, 3, at(unit, value)), POLICY, 10**9).deed is deed


@UNITS
def test_a_close_that_was_sent_is_sent_again(unit: str) -> None:
    """It was decided once, and is not decided again: a close that fell out goes out as soon as it can."""
    terms, closing = TERMS[unit], payee.Closing(HELD[unit], None)
    final = final_at(unit, HELD[unit].best.transaction.lock_time)
    for value, deed in ((final - 1, Deed.NOTHING), (final, Deed.UPDATE)):
        assert payee_decision(closing, facts_of(terms, 3, at(unit, value)), POLICY, 0).deed is deed
    again = payee_decision(SETTLED[unit], facts_of(terms, 0), POLICY, 0)
    assert (again.deed, alarm_of(again)) == (Deed.SETTLEMENT, "funding-unconfirmed")


def payee_spent(state: payee.PayeeState, by: Txid, deep: int, tip: ChainTip = TIP) -> Decision:
    facts = facts_of(payee.terms_of(state), 9 + deep, tip, spent_by=by, spend_confirmations=deep)
    return payee_decision(state, facts, POLICY, 10**9)


@UNITS
def test_what_is_pending_is_sent_and_its_loss_calls_nobody(unit: str) -> None:
    """A settlement without an update before it, that came when the refund was final: nothing was delivered for it."""
    terms, refund = TERMS[unit], scheme_of(TERMS[unit]).refund().txid
    late = at(unit, final_at(unit, terms.refund_lock_time.value))
    state, receipt = payee.accept(
        payee.Active(terms), settlement_psbt(terms, 5000), facts_of(terms, 3, late), PAYEE
    )
    assert (receipt.received, receipt.paid, receipt.pending) == (Amount(0), Amount(0), Amount(5000))
    waiting = payee_decision(state, facts_of(terms, 3, late), POLICY, 0)
    assert (waiting.deed, alarm_of(waiting)) == (Deed.SETTLEMENT, None)
    seen = payee_spent(state, refund, 0, late)
    assert (seen.deed, alarm_of(seen), seen.contest) == (Deed.SETTLEMENT, None, True)
    lost = payee_spent(state, refund, 1, late)
    assert (lost.deed, alarm_of(lost), lost.over) == (Deed.NOTHING, None, False)
    assert payee_spent(state, refund, BURIED, late).over


@UNITS
def test_the_payee_sees_what_spends_the_funding(unit: str) -> None:
    terms, refund = TERMS[unit], scheme_of(TERMS[unit]).refund().txid
    late = at(unit, final_at(unit, terms.refund_lock_time.value))
    for state, deed in ((HELD[unit], Deed.UPDATE), (SETTLED[unit], Deed.SETTLEMENT)):
        seen = payee_spent(state, refund, 0, late)
        assert (seen.deed, alarm_of(seen), seen.contest) == (deed, "refund-seen", True)
        for deep in (1, BURIED, REMEMBERED - 1, REMEMBERED):
            lost = payee_spent(state, refund, deep, late)
            assert lost.deed is Deed.NOTHING
            assert (alarm_of(lost), lost.over) == (
                (None, True) if deep == REMEMBERED else ("refunded-unclaimed", False)
            )
            foreign = payee_spent(state, STRANGE, deep)
            assert (alarm_of(foreign), foreign.over) == (
                (None, True) if deep == REMEMBERED else ("foreign-spend", False)
            )
        assert alarm_of(payee_spent(state, STRANGE, 0)) == "foreign-spend"
        ours = payee.active_of(state).best.transaction.txid
        for deep in (0, 1, BURIED - 1, BURIED):
            done = payee_spent(state, ours, deep)
            assert (done.deed, done.alarm, done.over) == (Deed.NOTHING, None, deep == BURIED)


@UNITS
def test_a_close_that_no_block_takes(unit: str) -> None:
    """Before the refund is final there must be time for a person to do something about it."""
    terms, txid = TERMS[unit], SETTLED[unit].settlement.transaction.txid
    half = terms.refund_lock_time.value - terms.offer.settle_window // 2
    assert payee_spent(SETTLED[unit], txid, 0, at(unit, half - 1)).alarm is None
    assert alarm_of(payee_spent(SETTLED[unit], txid, 0, at(unit, half))) == "close-unconfirmed"
    assert payee_spent(SETTLED[unit], txid, 1, at(unit, half)).alarm is None


@UNITS
def test_money_at_risk_is_said(unit: str) -> None:
    terms, state = TERMS[unit], HELD[unit]
    late = at(unit, final_at(unit, terms.refund_lock_time.value))
    decision = payee_decision(state, facts_of(terms, 3, late), POLICY, 0)
    assert (decision.deed, alarm_of(decision)) == (Deed.UPDATE, "claim-late")
    assert alarm_of(payee_decision(state, facts_of(terms, 0), POLICY, 0)) == "funding-unconfirmed"
    assert payee_decision(state, facts_of(terms, 1), POLICY, 0).alarm is None
    gone = payee_decision(state, Facts(TIP), POLICY, 0)
    assert (gone.deed, alarm_of(gone)) == (Deed.NOTHING, "funding-gone")
    with_file = replace(state, funding=make_funded(terms).funding)
    gone = payee_decision(with_file, Facts(TIP), POLICY, 0)
    assert (gone.deed, gone.alarm) == (Deed.FUNDING, None)


@UNITS
def test_where_nothing_was_paid_the_payer_may_do_as_it_likes(unit: str) -> None:
    """Nothing that a payer who never paid can do calls the payee to its watcher."""
    terms = TERMS[unit]
    refund = scheme_of(terms).refund().txid
    nothing_bought = settled(payee.Active(terms), paid=0)
    late = at(unit, final_at(unit, terms.refund_lock_time.value))
    for state in (payee.Active(terms), nothing_bought):
        for facts in (
            Facts(TIP),
            Facts(late),
            facts_of(terms, 0),
            facts_of(terms, 3, late),
            facts_of(terms, 3, late, spent_by=refund),
            facts_of(terms, 3, late, spent_by=refund, spend_confirmations=1),
        ):
            assert payee_decision(state, facts, POLICY, 10**9).alarm is None
    other = Facts(TIP, TxOut(Amount(5), b""), 3, spent_by=STRANGE, spend_confirmations=1)
    assert payee_decision(payee.Active(terms), other, POLICY, 0).alarm is None
    # with the right output, only this wallet's key can have made such a spend
    strange = facts_of(terms, 3, spent_by=STRANGE)
    assert alarm_of(payee_decision(payee.Active(terms), strange, POLICY, 0)) == "foreign-spend"


@UNITS
@given(data=st.data())
def test_a_watcher_that_looks_once_in_the_settle_window_has_sent_what_it_holds(
    unit: str, data: st.DataObject
) -> None:
    """Whatever the policy, the update, and how the payer is heard; and the protocol agrees that it may be sent."""
    terms = TERMS[unit]
    number = data.draw(st.integers(1, 50))
    state = data.draw(st.sampled_from([held(terms, number), payee.Closing(held(terms, number), None)]))
    policy = WatchPolicy(
        *data.draw(st.tuples(st.integers(0, 10**9), st.integers(0, 500), st.integers(0, 10**6)))
    )
    window = terms.offer.settle_window
    value = scheme_of(terms).deadline.value + data.draw(st.integers(0, window - 1))
    facts = facts_of(terms, data.draw(st.integers(0, 200)), at(unit, value))
    decision = payee_decision(state, facts, policy, data.draw(st.integers(0, 10**9)))
    assert decision.deed is Deed.UPDATE
    _, close = payee.close(state, facts)
    assert close == payee.active_of(state).best
    assert not terms.refund_lock_time.is_final(facts.tip)


ANY_FACTS = st.builds(
    lambda seen, deep, spender, spend_deep: (seen, deep, spender, spend_deep),
    st.booleans(),
    st.integers(0, 1100),
    st.sampled_from(["none", "none", "refund", "close", "strange"]),
    st.integers(0, 1100),
)


def drawn_facts(data: st.DataObject, unit: str, close: Txid) -> Facts:
    """The chain in any state, at any height around this channel's lock times."""
    terms = TERMS[unit]
    seen, deep, spender, spend_deep = data.draw(ANY_FACTS)
    edges = [terms.refund_lock_time.value, scheme_of(terms).deadline.value, terms.refund_lock_time.now(TIP)]
    tip = at(unit, data.draw(st.sampled_from(edges)) + data.draw(st.integers(-30, 30)))
    if not seen:
        return Facts(tip)
    by = {"none": None, "refund": scheme_of(terms).refund().txid, "close": close, "strange": STRANGE}[spender]
    return facts_of(
        terms,
        max(deep, spend_deep if by else 0),
        tip,
        spent_by=by,
        spend_confirmations=spend_deep if by else 0,
    )


@UNITS
def test_a_lower_close_of_another_copy_is_contested_until_a_block_holds_it(unit: str) -> None:
    """An older copy of the wallet sent less than what is held here; what pays no less is left alone."""
    terms, state = TERMS[unit], settled(HELD[unit], 5000)
    for paid, deep, contested in ((4999, 0, True), (5000, 0, False), (5001, 0, False), (4999, 1, False)):
        theirs = scheme_of(terms).settlement(Amount(paid)).with_witness(0, (b"theirs",))
        facts = facts_of(terms, 3 + deep, spent_by=STRANGE, spend_confirmations=deep, spending=theirs)
        decision = payee_decision(state, facts, POLICY, 0)
        assert alarm_of(decision) == "foreign-spend"
        assert (decision.deed, decision.contest) == (
            (Deed.SETTLEMENT, True) if contested else (Deed.NOTHING, False)
        )


@UNITS
@given(data=st.data())
def test_the_payees_deeds_are_possible_and_never_too_early(unit: str, data: st.DataObject) -> None:
    """Whatever is sent, the protocol allows; what is spent by ourselves or buried is left alone."""
    state = data.draw(
        st.sampled_from(
            [payee.Active(TERMS[unit]), HELD[unit], SETTLED[unit], payee.Closing(HELD[unit], None)]
        )
    )
    best = payee.best_of(HELD[unit])
    facts = drawn_facts(data, unit, best.transaction.txid)
    decision = payee_decision(state, facts, POLICY, data.draw(st.sampled_from([0, 10**6])))
    if decision.deed in (Deed.UPDATE, Deed.SETTLEMENT):
        _, close = payee.close(state, facts, contest=decision.contest)
        assert isinstance(close, payee.Settlement) == (decision.deed is Deed.SETTLEMENT)
        assert facts.funding is not None
        assert decision.contest == (facts.spent_by is not None)
        assert facts.spend_confirmations == 0
    assert decision.deed is not Deed.REFUND
    if decision.over:
        assert facts.spend_confirmations >= BURIED
        assert decision.alarm is None
        assert decision.deed is Deed.NOTHING


# the payer ----------------------------------------------------------------------------------------


@UNITS
def test_the_refund_goes_at_its_time(unit: str) -> None:
    terms, paying = TERMS[unit], FUNDED[unit]
    final = final_at(unit, terms.refund_lock_time.value)
    for state in (
        paying,
        make_funded(terms),
        payer.Settling(paying, Amount(1000)),
        payer.Refunding(paying, None),
    ):
        for value, deed in ((final - 1, Deed.NOTHING), (final, Deed.REFUND), (final + 10**6, Deed.REFUND)):
            decision = payer_decision(state, facts_of(terms, 3, at(unit, value)))
            assert (decision.deed, decision.alarm) == (deed, None)


@UNITS
@given(data=st.data())
def test_the_payers_deeds_are_possible_and_never_too_early(unit: str, data: st.DataObject) -> None:
    paying = FUNDED[unit]
    state = data.draw(
        st.sampled_from(
            [
                paying,
                make_funded(TERMS[unit]),
                payer.Settling(paying, Amount(2000)),
                payer.Refunding(paying, None),
            ]
        )
    )
    facts = drawn_facts(data, unit, payee.best_of(HELD[unit]).transaction.txid)
    decision = payer_decision(state, facts)
    final = TERMS[unit].refund_lock_time.is_final(facts.tip)
    assert (decision.deed is Deed.REFUND) == (facts.funding is not None and facts.spent_by is None and final)
    if decision.deed is Deed.REFUND:
        payer.take_refund(state, facts)
    elif not final and facts.spent_by is None:
        with pytest.raises(TooEarly):
            payer.take_refund(state, facts)
    assert (decision.deed is Deed.FUNDING) <= (facts.funding is None)
    if decision.over:
        assert facts.spend_confirmations >= BURIED
        assert decision.alarm is None


@UNITS
def test_the_payer_follows_its_funding(unit: str) -> None:
    terms = TERMS[unit]
    state = make_funded(terms)
    l0 = scheme_of(terms).deadline.value
    lost = payer_decision(state, Facts(at(unit, l0 - 1)))
    assert (lost.deed, lost.alarm) == (Deed.FUNDING, None)
    late = payer_decision(state, Facts(at(unit, l0)))
    assert (late.deed, alarm_of(late)) == (Deed.NOTHING, "funding-late")
    for paid in (
        FUNDED[unit],
        payer.Settling(state, Amount(1000)),
    ):  # it has been there: the payee counts on it
        assert payer_decision(paid, Facts(at(unit, l0))).deed is Deed.FUNDING
    by_hand = payer_decision(replace(state, sends=False), Facts(TIP))
    assert (by_hand.deed, by_hand.alarm) == (Deed.NOTHING, None)
    void = payer_decision(state, Facts(TIP), "ab" * 32)
    assert (void.deed, alarm_of(void)) == (Deed.NOTHING, "funding-void")
    for confirmations, words in ((0, "0 of 3"), (2, "2 of 3"), (3, "3 confirmations")):
        assert words in payer_decision(state, facts_of(terms, confirmations)).why


@UNITS
def test_an_opening_asks_for_a_person_when_it_can_come_to_nothing(unit: str) -> None:
    terms = TERMS[unit]
    last = scheme_of(terms).deadline.value - terms.offer.confirmation_delay
    for state in (make_opening(terms), make_secured(terms)):
        assert payer_decision(state, Facts(at(unit, last - 1))) == payer_decision(state, Facts(TIP))
        assert payer_decision(state, Facts(TIP)).alarm is None
        assert alarm_of(payer_decision(state, Facts(at(unit, last)))) == "too-little-time"
        assert alarm_of(payer_decision(state, Facts(TIP), "ab" * 32)) == "coin-spent"
        assert alarm_of(payer_decision(state, facts_of(terms, 0))) == "funding-early"


@UNITS
def test_the_payer_sees_the_close(unit: str) -> None:
    """One that gives the payee no more than was signed here; another copy of the wallet could have signed more."""
    terms, state = TERMS[unit], FUNDED[unit]
    close = HELD[unit].best.transaction
    for deep in (0, 1, BURIED - 1, BURIED):
        facts = facts_of(terms, 9, spent_by=close.txid, spend_confirmations=deep, spending=close)
        decision = payer_decision(state, facts)
        assert (decision.deed, decision.alarm, decision.over) == (Deed.NOTHING, None, deep == BURIED)
        assert "1000 sat" in decision.why
    greedy = held(terms, 2, 1001).best.transaction
    facts = facts_of(terms, 9, spent_by=greedy.txid, spend_confirmations=1, spending=greedy)
    assert alarm_of(payer_decision(state, facts)) == "unknown-close"
    assert payer_decision(payer.Settling(state, Amount(1001)), facts).alarm is None
    blind = facts_of(terms, 9, spent_by=greedy.txid, spend_confirmations=1)
    assert payer_decision(state, blind).alarm is None
    refund = facts_of(terms, 9, spent_by=state.refund.txid, spend_confirmations=BURIED, spending=state.refund)
    assert payer_decision(state, refund).over


def test_what_was_given_up_is_over() -> None:
    terms = TERMS["blocks"]
    assert payer_decision(payer.Abandoned(terms), None).over
    assert payee_decision(payee.Abandoned(terms), None, POLICY, 0).over
    void = payer.Abandoned(terms, FUNDED["blocks"])  # a reorganisation can bring its funding back
    given_up = payer_decision(void, Facts(TIP))
    assert (given_up.deed, given_up.alarm, given_up.over) == (Deed.NOTHING, None, False)
    late = at("blocks", terms.refund_lock_time.value)
    assert payer_decision(void, facts_of(terms, 1, late)).deed is Deed.REFUND
    assert payer_deadlines(payer.Abandoned(terms)) == payee_deadlines(payee.Abandoned(terms)) == ()


# deadlines ----------------------------------------------------------------------------------------


@UNITS
def test_deadlines_come_in_their_order(unit: str) -> None:
    terms, state = TERMS[unit], HELD[unit]
    deadlines = payee_deadlines(state)
    assert [deadline.what for deadline in deadlines] == ["update", "last-update", "refund"]
    assert [deadline.what for deadline in payee_deadlines(SETTLED[unit])] == ["refund"]
    assert [deadline.what for deadline in payer_deadlines(FUNDED[unit])] == ["refund"]
    assert [deadline.what for deadline in payer_deadlines(make_opening(terms))] == ["last-update"]
    for deadline in deadlines:
        value = final_at(unit, deadline.lock_time.value)
        assert next_deadline(deadlines, at(unit, value - 1)) == deadline
        assert deadline.blocks_left(at(unit, value - 1)) == 1
        assert deadline.seconds_left(at(unit, value - 1)) == (600 if unit == "blocks" else 1)
        assert deadline.blocks_left(at(unit, value)) == deadline.seconds_left(at(unit, value)) == 0
    assert next_deadline(deadlines, at(unit, value)) == deadlines[-1]
    assert next_deadline((), TIP) is None


def test_a_deadline_counts_in_both_units() -> None:
    tip = ChainTip(100, 1_700_000_000)
    in_blocks = Deadline("refund", Height(105))
    assert (in_blocks.blocks_left(tip), in_blocks.seconds_left(tip)) == (5, 3000)
    in_seconds = Deadline("refund", MedianTime(1_700_001_200))
    assert (in_seconds.blocks_left(tip), in_seconds.seconds_left(tip)) == (3, 1201)
