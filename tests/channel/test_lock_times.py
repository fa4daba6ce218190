"""Lock times of the construction ``decrementing`` (guide: protocol, "Lock times"), heights and seconds."""

from __future__ import annotations

import pytest
from support.protocol import (
    PAYEE,
    PAYER,
    TIP,
    facts_of,
    make_funded,
    make_offer,
    make_terms,
    replace,
    scheme_of,
    settlement_psbt,
    update_psbt,
)

from mpchan.channel import payee, payer
from mpchan.channel.construction.refund_first import refund_delay_rules, refund_request_rules
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import Offer
from mpchan.channel.opening import refund_lock_time
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError, NotPossible, ParseError, Refused, TooEarly
from mpchan.units import Amount, ChainTip, Height, LockTime, MedianTime

NOON = 1_700_000_000


def seconds_offer(**changes: object) -> Offer:
    return make_offer(lock_time_unit="seconds", **changes)


def terms_at(lock_time: LockTime, **changes: object) -> Terms:
    unit = "blocks" if isinstance(lock_time, Height) else "seconds"
    return make_terms(make_offer(lock_time_unit=unit, **changes), refund_lock_time=lock_time)


def slug_of(call: object, *arguments: object) -> str:
    with pytest.raises(MpchanError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.slug


# the formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock_time", "window", "step", "expected"),
    [
        (Height(2000), 144, 1, [1856, 1855, 1854, 1853]),
        (Height(2000), 100, 7, [1900, 1893, 1886, 1879]),
        (MedianTime(NOON), 86_400, 1, [NOON - 86_400, NOON - 86_401, NOON - 86_402, NOON - 86_403]),
        (MedianTime(NOON), 30_000, 600, [NOON - 30_000, NOON - 30_600, NOON - 31_200, NOON - 31_800]),
    ],
)
def test_lock_times_follow_the_formulas(
    lock_time: LockTime, window: int, step: int, expected: list[int]
) -> None:
    built = scheme_of(terms_at(lock_time, settle_window=window, step=step))
    assert built.deadline == type(lock_time)(expected[0])
    assert [built.update_lock_time(number).value for number in (1, 2, 3)] == expected[1:]
    assert [built.update(number, Amount(1000)).lock_time for number in (1, 2, 3)] == expected[1:]
    assert [built.update_number(value) for value in expected] == [None, 1, 2, 3]
    assert built.refund().lock_time == lock_time.value


def test_only_exact_lock_times_have_a_number() -> None:
    built = scheme_of(terms_at(Height(2000), settle_window=100, step=7))
    numbers = {value: built.update_number(value) for value in range(1850, 2002)}
    assert {value: number for value, number in numbers.items() if number is not None} == {
        1893: 1,
        1886: 2,
        1879: 3,
        1872: 4,
        1865: 5,
        1858: 6,
        1851: 7,
    }


def test_refund_is_the_last_to_become_final() -> None:
    for terms in (make_terms(), make_terms(seconds_offer())):
        built = scheme_of(terms)
        falling = [built.refund().lock_time, *(built.update_lock_time(k).value for k in range(1, 6))]
        assert falling == sorted(falling, reverse=True)
        assert len(set(falling)) == len(falling)
        assert built.update_lock_time(1).value < built.deadline.value < terms.refund_lock_time.value


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_refund_lock_time_is_the_tip_plus_the_delay(unit: str) -> None:
    offer = make_offer(lock_time_unit=unit)
    delay = offer.min_refund_delay + 5
    found = refund_lock_time(offer, TIP, delay, PayerLimits())
    expected: LockTime = Height(TIP.height + delay) if unit == "blocks" else MedianTime(NOON + delay)
    assert found == expected


# the two kinds ------------------------------------------------------------------------------------


def test_heights_and_times_are_never_compared() -> None:
    with pytest.raises(TypeError):
        assert Height(5) < MedianTime(500_000_000)  # type: ignore[operator]
    assert Height(499_999_999) != MedianTime(500_000_000)
    assert slug_of(Height, 500_000_000) == slug_of(MedianTime, 499_999_999) == "malformed-number"
    assert slug_of(Height, 0) == slug_of(MedianTime, 4_294_967_296) == "malformed-number"
    assert MedianTime(4_294_967_295).value == 0xFFFFFFFF


def test_a_height_looks_at_the_height_alone_and_a_time_at_the_median_time_alone() -> None:
    assert Height(10).is_final(ChainTip(10, 0))
    assert not Height(10).is_final(ChainTip(9, 4_000_000_000))
    assert MedianTime(500_000_000).is_final(ChainTip(0, 500_000_001))
    assert not MedianTime(500_000_001).is_final(ChainTip(499_999_999, 500_000_001))


@pytest.mark.parametrize("tip", [9, 10, 11])
def test_a_height_is_final_from_the_moment_that_the_tip_has_it(tip: int) -> None:
    at = ChainTip(tip, 1)
    assert Height(10).is_final(at) is (tip >= 10)
    assert Height(10).reached(at) is (tip >= 10)


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_time_is_final_only_when_the_median_time_is_greater(late: int) -> None:
    at = ChainTip(1, NOON + late)
    assert MedianTime(NOON).is_final(at) is (late > 0)
    assert MedianTime(NOON).reached(at) is (late >= 0)


# the end of the updates ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock_time", "step", "last"),
    [
        (Height(144 + 4), 1, 3),  # L_0 = 4: updates at 3, 2, 1
        (Height(144 + 4), 2, 1),  # at 2; 0 is no lock time
        (Height(144 + 4), 3, 1),  # at 1
        (Height(144 + 4), 4, 0),
        (MedianTime(500_000_000 + 144 * 600 + 4), 2, 2),  # L_0 = 500,000,004: the last at 500,000,000
        (MedianTime(500_000_000 + 144 * 600 + 4), 5, 0),
    ],
)
def test_no_lock_time_falls_below_the_lowest_of_its_kind(lock_time: LockTime, step: int, last: int) -> None:
    terms = terms_at(lock_time, step=step)
    built = scheme_of(terms)
    assert built.last_update == last
    if last:
        assert built.update_number(built.update_lock_time(last).value) == last
    with pytest.raises(NotPossible) as caught:
        built.update(last + 1, Amount(1000))
    assert (caught.value.slug, caught.value.exit_code) == ("out-of-updates", 5)
    assert "settle" in (caught.value.hint or "")
    beyond = built.deadline.value - (last + 1) * step
    assert beyond < lock_time.lowest
    assert built.update_number(beyond) is None


def test_payer_out_of_updates_is_told_to_settle() -> None:
    terms = terms_at(Height(144 + 3))
    facts = facts_of(terms, tip=ChainTip(1, 1))
    state = replace(make_funded(terms), number=2, paid=Amount(2000))
    with pytest.raises(NotPossible) as caught:
        payer.pay(state, Amount(1000), facts)
    assert (caught.value.slug, caught.value.exit_code) == ("out-of-updates", 5)
    assert "settle" in (caught.value.hint or "")
    assert payer.settle(state, Amount(3000), facts).total == Amount(3000)


def test_a_lock_time_that_is_past_makes_the_update_final_at_once() -> None:
    terms = make_terms()
    number = scheme_of(terms).deadline.value - (TIP.height - 3)
    state = replace(make_funded(terms), number=number - 1, paid=Amount(1000))
    state = payer.pay(state, Amount(1000), facts_of(terms))
    message = payer.update_message(state, PAYER)
    assert message.tx.lock_time == TIP.height - 3
    held, _ = payee.accept(payee.Active(terms), message, facts_of(terms), PAYEE)
    _, closing = payee.close(held, facts_of(terms))
    assert closing == payee.best_of(held)


# the deadline L_0 ---------------------------------------------------------------------------------


def tips_around(terms: Terms) -> dict[int, ChainTip]:
    """Tips that stand one before L_0, at it, and one behind it."""
    deadline = scheme_of(terms).deadline.value
    if isinstance(terms.refund_lock_time, Height):
        return {late: ChainTip(deadline + late, NOON) for late in (-1, 0, 1)}
    return {late: ChainTip(900_000, deadline + late) for late in (-1, 0, 1)}


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_payee_takes_no_update_once_the_tip_has_reached_l_0(unit: str) -> None:
    terms = make_terms(make_offer(lock_time_unit=unit))
    before, at, after = (tips_around(terms)[late] for late in (-1, 0, 1))
    message = update_psbt(terms, 1, 1000)
    payee.accept(payee.Active(terms), message, facts_of(terms, tip=before), PAYEE)
    for tip in (at, after):
        with pytest.raises(NotPossible) as caught:
            payee.accept(payee.Active(terms), message, facts_of(terms, tip=tip), PAYEE)
        assert (caught.value.slug, caught.value.exit_code) == ("past-deadline", 5)


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_payer_makes_no_update_once_the_tip_has_reached_l_0(unit: str) -> None:
    terms = make_terms(make_offer(lock_time_unit=unit))
    before, at, after = (tips_around(terms)[late] for late in (-1, 0, 1))
    funded = make_funded(terms)
    payer.pay(funded, Amount(1000), facts_of(terms, tip=before))
    for tip in (at, after):
        with pytest.raises(NotPossible) as caught:
            payer.pay(funded, Amount(1000), facts_of(terms, tip=tip))
        assert (caught.value.slug, caught.value.exit_code) == ("past-deadline", 5)


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_a_settlement_is_made_and_taken_after_l_0(unit: str) -> None:
    terms = make_terms(make_offer(lock_time_unit=unit))
    facts = facts_of(terms, tip=tips_around(terms)[1])
    settling = payer.settle(make_funded(terms), Amount(2000), facts)
    message = payer.settlement_message(settling, PAYER)
    state, receipt = payee.accept(payee.Active(terms), message, facts, PAYEE)
    assert isinstance(state, payee.Closing)
    assert (receipt.received, receipt.paid, receipt.pending) == (Amount(0), Amount(0), Amount(2000))
    assert state.settlement is not None
    assert state.settlement.late


def test_a_settlement_is_taken_while_only_our_own_update_closes_the_channel() -> None:
    terms = make_terms()
    state, _ = payee.accept(payee.Active(terms), update_psbt(terms, 1, 1000), facts_of(terms), PAYEE)
    closing = payee.Closing(payee.active_of(state), None)
    facts = facts_of(terms, tip=ChainTip(TIP.height + 200, NOON))
    taken, _ = payee.accept(closing, settlement_psbt(terms, 1000), facts, PAYEE)
    assert isinstance(taken, payee.Closing)
    assert taken.settlement is not None


# when what is held may go to the chain ------------------------------------------------------------


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_an_update_goes_to_the_chain_when_it_is_final(unit: str) -> None:
    terms = make_terms(make_offer(lock_time_unit=unit))
    state, _ = payee.accept(payee.Active(terms), update_psbt(terms, 1, 1000), facts_of(terms), PAYEE)
    lock_time = scheme_of(terms).update_lock_time(1)
    wait = 0 if unit == "blocks" else 1
    height, time = (lock_time.value, NOON) if unit == "blocks" else (900_000, lock_time.value)
    early = ChainTip(height - 1, NOON) if unit == "blocks" else ChainTip(height, time + wait - 1)
    final = ChainTip(height, time + wait)
    with pytest.raises(TooEarly) as caught:
        payee.close(state, facts_of(terms, tip=early))
    assert caught.value.slug == "update-locked"
    assert str(lock_time) in caught.value.message
    payee.close(state, facts_of(terms, tip=final))


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_the_refund_goes_to_the_chain_when_it_is_final(unit: str) -> None:
    terms = make_terms(make_offer(lock_time_unit=unit))
    lock_time = terms.refund_lock_time
    if unit == "blocks":
        early, final = ChainTip(lock_time.value - 1, NOON), ChainTip(lock_time.value, NOON)
    else:
        early, final = ChainTip(900_000, lock_time.value), ChainTip(900_000, lock_time.value + 1)
    funded = make_funded(terms)
    with pytest.raises(TooEarly) as caught:
        payer.take_refund(funded, facts_of(terms, tip=early))
    assert caught.value.slug == "refund-locked"
    assert str(lock_time) in caught.value.message
    assert isinstance(payer.take_refund(funded, facts_of(terms, tip=final)), payer.Refunding)


# the offer's limits -------------------------------------------------------------------------------

BLOCKS = {"min_refund_delay": 100 + 3 + 18, "settle_window": 100, "min_confirmations": 3}
SECONDS = {
    "lock_time_unit": "seconds",
    "min_refund_delay": 7200 + 3 * 600 + 3 * 3600,
    "settle_window": 7200,
    "min_confirmations": 3,
}


@pytest.mark.parametrize(("terms", "margin"), [(BLOCKS, 18), (SECONDS, 3 * 3600)])
def test_offer_limits_must_make_sense(terms: dict[str, int], margin: int) -> None:
    least = terms["min_refund_delay"]
    offer = make_offer(**terms, max_refund_delay=least + margin)
    assert offer.default_refund_delay == least + margin
    with pytest.raises(ParseError) as caught:
        make_offer(**{**terms, "min_refund_delay": least - 1}, max_refund_delay=least + margin)
    assert caught.value.slug == "offer-limits"
    with pytest.raises(ParseError) as caught:
        make_offer(**terms, max_refund_delay=least + margin - 1)
    assert caught.value.slug == "offer-limits"


@pytest.mark.parametrize("name", ["step", "settle_window", "min_refund_delay", "min_confirmations"])
def test_offer_numbers_are_1_or_more(name: str) -> None:
    assert slug_of(lambda: make_offer(**{name: 0})) == "malformed-number"
    assert slug_of(lambda: make_offer(**{name: True})) == "malformed-number"
    assert slug_of(lambda: make_offer(**{name: 200.0})) == "malformed-number"


@pytest.mark.parametrize(("terms", "margin"), [(BLOCKS, 18), (SECONDS, 3 * 3600)])
def test_default_delay_is_the_least_with_the_margin_on_top(terms: dict[str, int], margin: int) -> None:
    offer = make_offer(**terms, max_refund_delay=terms["min_refund_delay"] + 10 * margin)
    assert offer.default_refund_delay == terms["min_refund_delay"] + margin
    found = refund_lock_time(offer, TIP, None, PayerLimits())
    assert found.value == found.now(TIP) + terms["min_refund_delay"] + margin


def test_blocks_found_between_open_and_sign_refund_do_not_spoil_the_request() -> None:
    terms = make_terms()
    request = payer.refund_request(payer.Opening(terms, make_funded(terms).funding, ()))
    for blocks in (0, 1, 18):
        asked = enforce(refund_request_rules(request, terms.offer))
        assert asked == terms
        enforce(refund_delay_rules(asked, ChainTip(TIP.height + blocks, NOON)))
    with pytest.raises(Refused) as caught:
        enforce(refund_delay_rules(terms, ChainTip(TIP.height + 19, NOON)))
    assert caught.value.slug == "refund-early"


def test_payers_own_limit_of_the_delay() -> None:
    offer = make_offer()
    limits = PayerLimits(max_refund_delay_blocks=306, max_refund_delay_seconds=1)
    assert refund_lock_time(offer, TIP, None, limits) == Height(1306)
    tight = PayerLimits(max_refund_delay_blocks=305)
    with pytest.raises(Refused) as caught:
        refund_lock_time(offer, TIP, None, tight)
    assert caught.value.slug == "refund-delay"
    with pytest.raises(NotPossible) as impossible:
        refund_lock_time(offer, TIP, 306, tight)
    assert impossible.value.slug == "refund-delay"


@pytest.mark.parametrize("delay", [287, 4321])
def test_a_chosen_delay_stays_within_the_offers_limits(delay: int) -> None:
    limits = PayerLimits(max_refund_delay_blocks=10**6)
    with pytest.raises(NotPossible) as caught:
        refund_lock_time(make_offer(), TIP, delay, limits)
    assert caught.value.slug == "refund-delay"


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_fund_is_refused_when_too_little_time_is_left(unit: str) -> None:
    terms = make_terms(make_offer(lock_time_unit=unit, min_confirmations=3))
    needed = 3 if unit == "blocks" else 1800
    deadline = scheme_of(terms).deadline.value

    def tip(left: int) -> ChainTip:
        return ChainTip(deadline - left, NOON) if unit == "blocks" else ChainTip(1000, deadline - left)

    enforce(payer.time_left_rules(terms, tip(needed + 1)))
    with pytest.raises(NotPossible) as caught:
        enforce(payer.time_left_rules(terms, tip(needed)))
    assert (caught.value.slug, caught.value.exit_code) == ("too-little-time", 5)
