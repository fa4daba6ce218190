"""The steps of payer and payee as functions of state and facts: amounts, phases, repetitions, refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.protocol import (
    PAYEE,
    PAYER,
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

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel import payee, payer
from mpchan.channel.construction.base import Kind
from mpchan.channel.facts import Facts, Status
from mpchan.channel.limits import PayerLimits
from mpchan.channel.opening import capacity_rules, offer_rules
from mpchan.channel.rules import enforce, explain
from mpchan.channel.terms import smallest_capacity
from mpchan.errors import MpchanError, NotPossible, Refused, TooEarly
from mpchan.units import Amount, ChainTip, FeeRate, Txid

TERMS = make_terms(make_offer(min_increment=Amount(10), min_confirmations=3))
FACTS = facts_of(TERMS, confirmations=3)
FUNDED = make_funded(TERMS)
PAID = replace(FUNDED, number=2, paid=Amount(5000))
SETTLING = payer.Settling(PAID, Amount(6000))
REFUND = FUNDED.refund.txid
STRANGE = Txid(bytes(32))
LATE = ChainTip(TERMS.refund_lock_time.value, TIP.median_time)


def slug(error: type[MpchanError], call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(MpchanError) as caught:
        call(*arguments)
    assert type(caught.value) is error
    return caught.value.slug


# what a payment must be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(0, "zero-payment"), (9, "below-increment"), (293, "below-dust"), (100_001, "over-capacity")],
)
def test_first_payment_that_cannot_be(amount: int, expected: str) -> None:
    assert slug(NotPossible, payer.pay, FUNDED, Amount(amount), FACTS) == expected


@pytest.mark.parametrize("amount", [294, 295, 99_999, 100_000])
def test_first_payment_that_can_be(amount: int) -> None:
    state = payer.pay(FUNDED, Amount(amount), FACTS)
    assert (state.number, state.paid) == (1, Amount(amount))
    _, receipt = payee.accept(payee.Active(TERMS), payer.update_message(state, PAYER), FACTS, PAYEE)
    assert receipt.received == Amount(amount)


@pytest.mark.parametrize(
    ("amount", "expected"), [(9, "below-increment"), (95_001, "over-capacity"), (0, "zero-payment")]
)
def test_later_payment_that_cannot_be(amount: int, expected: str) -> None:
    assert slug(NotPossible, payer.pay, PAID, Amount(amount), FACTS) == expected


def test_payments_add_up_and_numbers_count_up() -> None:
    state = payer.pay(PAID, Amount(10), FACTS)
    state = payer.pay(state, Amount(94_990), FACTS)
    assert (state.number, state.paid) == (4, Amount(100_000))
    assert slug(NotPossible, payer.pay, state, Amount(10), FACTS) == "over-capacity"


@pytest.mark.parametrize("confirmations", [0, 1, 2])
def test_no_number_is_used_before_the_funding_is_deep_enough(confirmations: int) -> None:
    facts = facts_of(TERMS, confirmations=confirmations)
    assert slug(TooEarly, payer.pay, FUNDED, Amount(1000), facts) == "unconfirmed"
    assert slug(TooEarly, payer.settle, FUNDED, Amount(1000), facts) == "unconfirmed"
    assert slug(TooEarly, payer.pay, FUNDED, Amount(1000), Facts(TIP)) == "unconfirmed"


@pytest.mark.parametrize("confirmations", [0, 1, 2])
def test_payee_counts_nothing_before_the_funding_is_deep_enough(confirmations: int) -> None:
    facts = facts_of(TERMS, confirmations=confirmations)
    for message in (update_psbt(TERMS, 1, 1000), settlement_psbt(TERMS, 1000)):
        assert slug(TooEarly, payee.accept, payee.Active(TERMS), message, facts, PAYEE) == "unconfirmed"
        assert (
            slug(TooEarly, payee.accept, payee.Active(TERMS), message, Facts(TIP), PAYEE) == "funding-unseen"
        )


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (TxOut(TERMS.funding_value, b"\x00\x20" + bytes(32)), "funding-script"),
        (TxOut(TERMS.funding_value - Amount(1), TERMS.funding_txout.script_pubkey), "funding-value"),
        (TxOut(TERMS.funding_value + Amount(1), TERMS.funding_txout.script_pubkey), "funding-value"),
    ],
)
def test_payee_reads_script_and_value_from_the_chain(output: TxOut, expected: str) -> None:
    """CVE-2019-12998 and its kin: not from what the payer says."""
    facts = replace(FACTS, funding=output)
    for message in (update_psbt(TERMS, 1, 1000), settlement_psbt(TERMS, 1000)):
        assert slug(Refused, payee.accept, payee.Active(TERMS), message, facts, PAYEE) == expected
    state, _ = payee.accept(payee.Active(TERMS), update_psbt(TERMS, 1, 1000), FACTS, PAYEE)
    assert slug(Refused, payee.accept, state, update_psbt(TERMS, 2, 2000), facts, PAYEE) == expected


@pytest.mark.parametrize("confirmations", [0, 3])
def test_payee_refuses_a_funding_that_is_spent_already(confirmations: int) -> None:
    facts = replace(FACTS, spent_by=STRANGE, spend_confirmations=confirmations)
    message = update_psbt(TERMS, 1, 1000)
    assert slug(Refused, payee.accept, payee.Active(TERMS), message, facts, PAYEE) == "funding-spent"


def test_payee_waits_for_a_miners_reward_to_mature() -> None:
    """Nothing can spend it for 100 blocks: with a short settle window the refund would come as early as an update."""
    facts = replace(FACTS, mature=False)
    for message in (update_psbt(TERMS, 1, 1000), settlement_psbt(TERMS, 1000)):
        with pytest.raises(TooEarly) as caught:
            payee.accept(payee.Active(TERMS), message, facts, PAYEE)
        assert caught.value.slug == "funding-immature"


def test_payee_stops_when_the_funding_is_reorganised_away() -> None:
    state, _ = payee.accept(payee.Active(TERMS), update_psbt(TERMS, 1, 1000), FACTS, PAYEE)
    second = update_psbt(TERMS, 2, 2000)
    assert slug(TooEarly, payee.accept, state, second, Facts(TIP), PAYEE) == "funding-unseen"
    shallow = facts_of(TERMS, confirmations=2)
    assert slug(TooEarly, payee.accept, state, second, shallow, PAYEE) == "unconfirmed"
    payee.accept(state, second, FACTS, PAYEE)


# phases -------------------------------------------------------------------------------------------


def spent(by: Txid, confirmations: int) -> Facts:
    return replace(FACTS, spent_by=by, spend_confirmations=confirmations)


@pytest.mark.parametrize(
    ("state", "facts", "expected"),
    [
        (make_opening(TERMS), FACTS, "not-funded"),
        (make_secured(TERMS), FACTS, "not-funded"),
        (payer.Abandoned(TERMS), FACTS, "channel-abandoned"),
        (SETTLING, FACTS, "channel-settling"),
        (payer.Refunding(PAID, None), FACTS, "channel-refunding"),
        (PAID, spent(STRANGE, 0), "channel-settling"),
        (PAID, spent(STRANGE, 1), "channel-closed"),
        (PAID, spent(REFUND, 0), "channel-refunding"),
        (PAID, spent(REFUND, 1), "channel-refunded"),
    ],
)
def test_payer_pays_in_an_open_channel_only(state: payer.PayerState, facts: Facts, expected: str) -> None:
    assert slug(NotPossible, payer.pay, state, Amount(1000), facts) == expected
    assert slug(NotPossible, payer.pay_up_to, state, Amount(9000), facts) == expected
    if not isinstance(state, payer.Settling):
        assert slug(NotPossible, payer.settle, state, None, facts) == expected
        assert slug(NotPossible, payer.settle, state, Amount(9000), facts) == expected


HOLDING, _ = payee.accept(payee.Active(TERMS), update_psbt(TERMS, 1, 1000), FACTS, PAYEE)
SETTLED, _ = payee.accept(HOLDING, settlement_psbt(TERMS, 1000), FACTS, PAYEE)


@pytest.mark.parametrize(
    ("state", "facts", "expected"),
    [
        (SETTLED, FACTS, "channel-settling"),
        (payee.Closing(payee.active_of(HOLDING), None), FACTS, "channel-settling"),
        (HOLDING, spent(STRANGE, 0), "channel-settling"),
        (HOLDING, spent(STRANGE, 1), "channel-closed"),
        (HOLDING, spent(REFUND, 0), "channel-refunding"),
        (HOLDING, spent(REFUND, 1), "channel-refunded"),
        (payee.Active(TERMS), spent(REFUND, 0), "channel-refunding"),
        (payee.Active(TERMS), spent(REFUND, 1), "channel-refunded"),
        (payee.Abandoned(TERMS), FACTS, "channel-abandoned"),
    ],
)
def test_39_payee_takes_updates_in_an_open_channel_only(
    state: payee.PayeeState, facts: Facts, expected: str
) -> None:
    assert slug(NotPossible, payee.accept, state, update_psbt(TERMS, 2, 2000), facts, PAYEE) == expected


@pytest.mark.parametrize(
    ("facts", "ours", "theirs"),
    [
        (None, Status.FUNDING, Status.OPENING),
        (Facts(TIP), Status.FUNDING, Status.OPENING),
        (facts_of(TERMS, confirmations=0), Status.FUNDING, Status.FUNDING),
        (facts_of(TERMS, confirmations=2), Status.FUNDING, Status.FUNDING),
        (FACTS, Status.OPEN, Status.OPEN),
        (spent(STRANGE, 0), Status.SETTLING, Status.SETTLING),
        (spent(STRANGE, 1), Status.CLOSED, Status.CLOSED),
        (spent(REFUND, 0), Status.REFUNDING, Status.REFUNDING),
        (spent(REFUND, 1), Status.REFUNDED, Status.REFUNDED),
    ],
)
def test_status_follows_from_the_chain(facts: Facts | None, ours: Status, theirs: Status) -> None:
    assert payer.status(FUNDED, facts) is ours
    assert payee.status(payee.Active(TERMS), facts) is theirs


def test_53_a_refund_is_done_when_it_is_confirmed() -> None:
    state = payer.take_refund(PAID, replace(FACTS, tip=LATE))
    assert payer.status(state, replace(FACTS, tip=LATE)) is Status.REFUNDING
    assert payer.status(state, replace(spent(REFUND, 0), tip=LATE)) is Status.REFUNDING
    assert payer.status(state, replace(spent(REFUND, 1), tip=LATE)) is Status.REFUNDED
    # the payee's close can still win
    assert payer.status(state, replace(spent(STRANGE, 1), tip=LATE)) is Status.CLOSED


# totals and repetitions ---------------------------------------------------------------------------


def test_a_total_that_is_reached_gives_the_latest_update_again() -> None:
    assert payer.pay_up_to(PAID, Amount(5000), FACTS) == PAID
    assert payer.pay_up_to(PAID, Amount(5000), Facts(LATE)) == PAID
    assert payer.pay_up_to(SETTLING, Amount(5000), FACTS) == PAID
    assert slug(NotPossible, payer.pay_up_to, PAID, Amount(4999), FACTS) == "total-below-paid"
    more = payer.pay_up_to(PAID, Amount(5010), FACTS)
    assert (more.number, more.paid) == (3, Amount(5010))
    assert slug(NotPossible, payer.pay_up_to, FUNDED, Amount(0), FACTS) == "zero-payment"


def test_the_latest_update_comes_again_byte_for_byte() -> None:
    for state in (PAID, SETTLING, payer.Refunding(PAID, None)):
        assert payer.latest_update(state) == PAID
    assert payer.update_message(PAID, PAYER).to_bytes() == payer.update_message(PAID, PAYER).to_bytes()
    for nothing in (FUNDED, make_opening(TERMS), payer.Abandoned(TERMS)):
        assert slug(NotPossible, payer.latest_update, nothing) == "no-update"


def test_22_a_duplicate_counts_nothing() -> None:
    message = update_psbt(TERMS, 1, 1000)
    state, receipt = payee.accept(HOLDING, message, FACTS, PAYEE)
    assert state is HOLDING
    assert receipt == payee.Receipt(1, Amount(0), Amount(1000), message.tx.lock_time, True, Kind.UPDATE)
    state, receipt = payee.accept(SETTLED, settlement_psbt(TERMS, 1000), FACTS, PAYEE)
    assert state is SETTLED
    assert receipt == payee.Receipt(1, Amount(0), Amount(1000), 0, True, Kind.SETTLEMENT)


def test_a_settlement_is_handed_over_once() -> None:
    assert payer.settle(SETTLING, None, FACTS) is SETTLING
    assert payer.settle(SETTLING, Amount(6000), FACTS) is SETTLING
    assert slug(NotPossible, payer.settle, SETTLING, Amount(6001), FACTS) == "settlement-handed-over"
    assert slug(NotPossible, payer.settle, SETTLING, Amount(5000), FACTS) == "settlement-handed-over"
    assert slug(NotPossible, payer.settle, PAID, Amount(4999), FACTS) == "total-below-paid"
    assert slug(NotPossible, payer.settle, PAID, Amount(5009), FACTS) == "below-increment"
    assert slug(NotPossible, payer.settle, FUNDED, Amount(293), FACTS) == "below-dust"
    assert slug(NotPossible, payer.settle, PAID, Amount(100_001), FACTS) == "over-capacity"
    assert payer.settle(PAID, None, FACTS).total == Amount(5000)
    assert payer.settle(PAID, Amount(5000), FACTS).total == Amount(5000)


def test_paid_total_counts_the_settlement() -> None:
    assert payer.paid_total(make_opening(TERMS)) == payer.paid_total(FUNDED) == Amount(0)
    assert payer.paid_total(PAID) == Amount(5000)
    assert payer.paid_total(SETTLING) == Amount(6000)
    assert payer.paid_total(payer.Refunding(PAID, None)) == Amount(5000)
    assert payer.paid_total(payer.Refunding(PAID, Amount(6000))) == Amount(6000)


# closing ------------------------------------------------------------------------------------------


def final(terms_update: int) -> Facts:
    lock_time = scheme_of(TERMS).update_lock_time(terms_update).value
    return replace(FACTS, tip=ChainTip(lock_time, TIP.median_time))


def held_update(state: payee.PayeeState) -> Transaction:
    best = payee.best_of(state)
    assert best is not None
    return best.transaction


def test_payee_with_nothing_has_nothing_to_collect() -> None:
    assert slug(NotPossible, payee.close, payee.Active(TERMS), FACTS) == "nothing-to-collect"
    assert slug(NotPossible, payee.close, payee.Abandoned(TERMS), FACTS) == "channel-abandoned"


def test_a_held_settlement_goes_first_and_at_once() -> None:
    assert isinstance(SETTLED, payee.Closing)
    state, closing = payee.close(SETTLED, FACTS)
    assert state == SETTLED
    assert closing == SETTLED.settlement
    # also where the update could go by now
    assert payee.close(SETTLED, final(1))[1] == SETTLED.settlement


def test_without_a_settlement_the_best_update_goes() -> None:
    state, closing = payee.close(HOLDING, final(1))
    assert closing == payee.best_of(HOLDING)
    assert state == payee.Closing(payee.active_of(HOLDING), None)
    assert slug(TooEarly, payee.close, HOLDING, FACTS) == "update-locked"


def test_what_is_out_already_is_named_again() -> None:
    update = held_update(HOLDING)
    assert payee.close(HOLDING, replace(final(1), spent_by=update.txid))[1] == payee.best_of(HOLDING)
    # the update is out: the settlement would only conflict
    assert payee.close(SETTLED, replace(final(1), spent_by=update.txid))[1] == payee.best_of(SETTLED)
    assert isinstance(SETTLED, payee.Closing)
    assert SETTLED.settlement is not None
    out = replace(FACTS, spent_by=SETTLED.settlement.transaction.txid, spend_confirmations=5)
    assert payee.close(SETTLED, out)[1] == SETTLED.settlement


@pytest.mark.parametrize(("by", "expected"), [(STRANGE, "channel-closed"), (REFUND, "channel-refunded")])
def test_payee_does_not_close_what_another_closed(by: Txid, expected: str) -> None:
    assert slug(NotPossible, payee.close, HOLDING, spent(by, 1)) == expected


def test_52_refund_before_its_time() -> None:
    for state in (FUNDED, PAID, SETTLING):
        assert slug(TooEarly, payer.take_refund, state, FACTS) == "refund-locked"
    for state in (make_opening(TERMS), make_secured(TERMS), payer.Abandoned(TERMS)):
        assert slug(NotPossible, payer.take_refund, state, replace(FACTS, tip=LATE)) == "not-funded"


def test_refund_in_its_time() -> None:
    facts = replace(FACTS, tip=LATE)
    assert payer.take_refund(FUNDED, facts) == payer.Refunding(FUNDED, None)
    assert payer.take_refund(SETTLING, facts) == payer.Refunding(PAID, Amount(6000))
    again = payer.take_refund(PAID, facts)
    assert payer.take_refund(again, facts) is again
    # it is out already, and a reorganisation took the tip back
    assert payer.take_refund(again, spent(REFUND, 0)) is again
    assert (
        slug(NotPossible, payer.take_refund, PAID, replace(spent(STRANGE, 0), tip=LATE)) == "channel-settling"
    )


# giving up ----------------------------------------------------------------------------------------


def test_payer_abandons_only_what_it_never_signed() -> None:
    for state in (make_opening(TERMS), make_secured(TERMS)):
        assert payer.abandon(state) == payer.Abandoned(TERMS)
    assert payer.abandon(payer.Abandoned(TERMS)) == payer.Abandoned(TERMS)
    for signed in (FUNDED, PAID, SETTLING, payer.Refunding(PAID, None)):
        assert slug(NotPossible, payer.abandon, signed) == "funding-signed"


def test_a_void_funding_that_comes_back_is_a_channel_again() -> None:
    """Whoever gave it up would else have no refund left."""
    void = payer.abandon(PAID, funding_is_void=True)
    assert payer.status(void, None) is payer.status(void, Facts(TIP)) is Status.ABANDONED
    assert slug(NotPossible, payer.take_refund, void, Facts(TIP)) == "not-funded"
    assert slug(NotPossible, payer.pay, void, Amount(1), Facts(TIP)) == "channel-abandoned"
    assert payer.status(void, FACTS) is Status.OPEN
    assert payer.pay(void, Amount(10), FACTS) == payer.pay(PAID, Amount(10), FACTS)
    assert payer.pay_up_to(void, PAID.paid, FACTS) == payer.latest_update(void) == PAID
    assert payer.settle(void, None, FACTS) == payer.settle(PAID, None, FACTS)
    late = replace(FACTS, tip=LATE)
    assert payer.take_refund(void, late) == payer.take_refund(PAID, late)
    for unsigned in (make_opening(TERMS), make_secured(TERMS)):
        assert payer.abandon(unsigned, funding_is_void=True) == payer.Abandoned(TERMS)


def test_payee_abandons_only_what_nobody_has_seen() -> None:
    active = payee.Active(TERMS)
    for facts in (None, Facts(TIP)):
        assert payee.abandon(active, facts) == payee.Abandoned(TERMS)
    funding = make_opening(TERMS).funding
    for state, facts in (
        (active, facts_of(TERMS, confirmations=0)),
        (payee.take_funding(active, funding), Facts(TIP)),
        (HOLDING, Facts(TIP)),
        (SETTLED, Facts(TIP)),
    ):
        assert slug(NotPossible, payee.abandon, state, facts) == "funding-seen"


def test_payee_abandons_a_funding_by_file_that_never_came() -> None:
    """Whoever asks for a refund can hand over a transaction that spends nothing there is."""
    handed_over = payee.take_funding(payee.Active(TERMS), make_opening(TERMS).funding)
    deadline = scheme_of(TERMS).deadline.value
    for facts in (None, Facts(ChainTip(deadline - 1, 0))):
        assert slug(NotPossible, payee.abandon, handed_over, facts) == "funding-seen"
    assert payee.abandon(handed_over, Facts(ChainTip(deadline, 0))) == payee.Abandoned(TERMS)
    late = replace(FACTS, tip=ChainTip(deadline, 0))
    assert slug(NotPossible, payee.abandon, handed_over, late) == "funding-seen"


def test_20_a_funding_by_file_must_fit_the_refund() -> None:
    active = payee.Active(TERMS)
    funding = make_opening(TERMS).funding
    assert payee.take_funding(active, funding) == payee.Active(TERMS, funding)
    other = make_opening(make_terms(salt=1), salt=1).funding
    assert slug(Refused, payee.take_funding, active, other) == "funding-txid"
    beyond = payee.Active(replace(TERMS, outpoint=replace(TERMS.outpoint, vout=1)))
    assert slug(Refused, payee.take_funding, beyond, funding) == "funding-output"
    dearer = payee.Active(replace(TERMS, funding_value=TERMS.funding_value + Amount(1)))
    assert slug(Refused, payee.take_funding, dearer, funding) == "funding-value"
    strange = payee.Active(replace(TERMS, payer_key=make_offer().payee_key.add_tweak(bytes(31) + b"\x01")))
    assert slug(Refused, payee.take_funding, strange, funding) == "funding-script"
    assert payee.status(payee.Active(TERMS, funding), None) is Status.FUNDING
    assert slug(NotPossible, payee.take_funding, payee.Abandoned(TERMS), funding) == "channel-abandoned"


# what the payer takes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "relay", "expected"),
    [
        (999, 0, "fee-rate-low"),
        (1000, 0, None),
        (1500, 1501, "fee-rate-low"),
        (1501, 1501, None),
        (200_000, 0, None),
        (200_001, 0, "fee-rate-high"),
    ],
)
def test_fee_rate_of_an_offer(rate: int, relay: int, expected: str | None) -> None:
    check = offer_rules(make_offer(fee_rate=FeeRate(rate)), "regtest", PayerLimits(), FeeRate(relay))
    if expected is None:
        enforce(check)
    else:
        assert slug(Refused, enforce, check) == expected


def test_47_an_offer_of_another_network() -> None:
    check = offer_rules(make_offer(), "mainnet", PayerLimits(), FeeRate(0))
    assert slug(Refused, enforce, check) == "wrong-network"


@pytest.mark.parametrize(
    ("capacity", "least", "expected"),
    [(1000, 1, None), (999, 1000, "capacity"), (2001, 1, "capacity"), (2000, 1, None), (293, 1, "capacity")],
)
def test_capacity_of_a_channel(capacity: int, least: int, expected: str | None) -> None:
    offer = make_offer(min_capacity=Amount(least), max_capacity=Amount(2000))
    check = capacity_rules(offer, Amount(capacity), TERMS.payer_script)
    if expected is None:
        enforce(check)
    else:
        assert slug(NotPossible, enforce, check) == expected


def test_no_channel_is_smaller_than_either_partys_dust() -> None:
    offer = make_offer("p2pkh", min_capacity=Amount(1))
    assert smallest_capacity(offer, TERMS.payer_script) == Amount(546)
    assert smallest_capacity(make_offer(min_capacity=Amount(1)), offer.payee_script) == Amount(546)
    coarse = make_offer(
        min_capacity=Amount(1), min_increment=Amount(700)
    )  # else there could be no payment at all
    assert smallest_capacity(coarse, TERMS.payer_script) == Amount(700)


def test_payer_and_payee_have_different_addresses() -> None:
    check = capacity_rules(make_offer(), Amount(1000), make_offer().payee_script)
    assert slug(NotPossible, enforce, check) == "same-payout"


# rules --------------------------------------------------------------------------------------------


def test_explaining_and_enforcing_are_one_list() -> None:
    facts = facts_of(TERMS, confirmations=1)
    message = update_psbt(TERMS, 1, 1000)
    listed = list(explain(payee.accept_rules(payee.Active(TERMS), message, facts)))
    assert [rule.ok for rule in listed] == [True] * (len(listed) - 1) + [False]
    assert listed[-1].slug == "unconfirmed"
    assert str(listed[-1].failure()) == "confirmations of the funding: expected at least 3, found 1"
    assert all(rule.ok for rule in explain(payee.accept_rules(payee.Active(TERMS), message, FACTS)))
