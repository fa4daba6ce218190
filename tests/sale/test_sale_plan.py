"""The sums of a sale's plan, against the transactions and the rules of the channel that it would be."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.protocol import (
    PAYEE,
    PAYER_SCRIPT,
    TIP,
    facts_of,
    make_funded,
    make_terms,
    replace,
    scheme_of,
    settlement_psbt,
)

from mpchan.bitcoin.block import Header
from mpchan.bitcoin.network import MAINNET, NETWORKS, REGTEST
from mpchan.bitcoin.script import dust_limit, is_p2wpkh, script_to_p2wsh_script
from mpchan.bitcoin.tx import TxOut
from mpchan.chain.base import ChainConfig, Coin
from mpchan.channel import opening, payer
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import blocks_in_unit
from mpchan.channel.terms import Terms, smallest_capacity
from mpchan.errors import NotPossible, ParseError
from mpchan.sale.manifest import MAX_LENGTH, MAX_PIECES, Sale
from mpchan.sale.plan import (
    ANYBODYS_SCRIPT,
    DEFAULT_PIECES,
    EARLIEST_TIME,
    Cut,
    SalePlan,
    even_piece_length,
    planned_offer,
    share_of_price,
)
from mpchan.units import MAX_MONEY_SAT, Amount, ChainTip, FeeRate, OutPoint, Txid
from mpchan.wallet.coins import build_funding, spend_vsize
from mpchan.wallet.config import Config, offer_defaults

UNITS = ("blocks", "seconds")
FUNDING_VSIZE = spend_vsize(1, [script_to_p2wsh_script(b""), ANYBODYS_SCRIPT])
ANY_LIMITS = PayerLimits(max_refund_delay_blocks=10**6, max_refund_delay_seconds=10**9)


def make_plan(
    length: int = 1_000_000,
    pieces: int = DEFAULT_PIECES,
    price: int = 1000,
    unit: str = "blocks",
    tip: ChainTip | None = TIP,
    free_pieces: int = 0,
    **terms: Any,
) -> SalePlan:
    """A plan under the usual terms, with some changed."""
    cut = Cut(length, even_piece_length(length, pieces), free_pieces)
    usual = {**offer_defaults(Config(REGTEST, ChainConfig()), unit), "fee_rate_sat_per_kvb": 2000, **terms}
    offer = planned_offer(usual, REGTEST, cut, Amount(price))
    return SalePlan(cut, Amount(price), offer, FUNDING_VSIZE, tip)


def terms_of(plan: SalePlan, tip: ChainTip = TIP) -> Terms:
    """The channel of this plan, opened at the tip, with keys that sign."""
    offer = replace(plan.offer, payee_key=PAYEE.public_key)
    lock_time = opening.refund_lock_time(offer, tip, None, ANY_LIMITS)
    return make_terms(offer, plan.capacity, PAYER_SCRIPT, lock_time)


# pieces -------------------------------------------------------------------------------------------


@given(
    length=st.integers(1, MAX_LENGTH),
    pieces=st.integers(1, 10**6),
    free=st.integers(0, 10**6),
    data=st.data(),
)
def test_pieces_cover_the_file(length: int, pieces: int, free: int, data: st.DataObject) -> None:
    piece_length = data.draw(st.one_of(st.integers(1, length), st.just(even_piece_length(length, pieces))))
    count = -(-length // piece_length)
    cut = Cut(length, piece_length, min(free, count - 1))
    assert cut.pieces == count
    assert (cut.pieces - 1) * piece_length < length <= cut.pieces * piece_length
    assert (cut.pieces - 1) * piece_length + cut.last_piece_length == length
    assert 1 <= cut.last_piece_length <= piece_length
    assert cut.paid_pieces + cut.free_pieces == cut.pieces
    assert cut.paid_pieces >= 1


@given(length=st.integers(1, MAX_LENGTH), pieces=st.integers(1, 10**6))
def test_a_file_is_cut_into_no_more_pieces_than_asked_for_and_none_could_be_shorter(
    length: int, pieces: int
) -> None:
    piece_length = even_piece_length(length, pieces)
    assert Cut(length, piece_length).pieces <= min(pieces, length)
    assert piece_length == 1 or -(-length // (piece_length - 1)) > pieces


def test_a_hundred_pieces_unless_told_otherwise() -> None:
    assert {
        length: Cut(length, even_piece_length(length)).pieces for length in (1, 99, 100, 101, 10**12)
    } == {
        1: 1,
        99: 99,
        100: 100,
        101: 51,
        10**12: 100,
    }


@pytest.mark.parametrize(
    ("length", "piece_length", "free"),
    [(0, 1, 0), (MAX_LENGTH + 1, 1, 0), (10, 0, 0), (10, 11, 0), (10, 5, 2), (10, 5, -1), (True, 1, 0)],
)
def test_what_is_no_cut(length: int, piece_length: int, free: int) -> None:
    """As ``Sale`` has it."""
    with pytest.raises(ParseError) as caught:
        Cut(length, piece_length, free)
    assert caught.value.slug == "malformed-number"


@given(total=st.integers(0, MAX_MONEY_SAT), pieces=st.integers(1, 10**6))
def test_the_pieces_cost_the_whole_or_less_than_a_satoshi_each_more(total: int, pieces: int) -> None:
    whole = share_of_price(Amount(total), pieces).sat * pieces
    assert total <= whole < total + pieces


# money --------------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> SalePlan:
    """Any plan whose offer is one."""
    unit = draw(st.sampled_from(UNITS))
    day, margin = blocks_in_unit(144, unit), blocks_in_unit(18, unit)
    window, confirmations = draw(st.integers(1, 9 * day)), draw(st.integers(1, 100))
    least = window + blocks_in_unit(confirmations, unit) + margin + draw(st.integers(0, 30 * day))
    return make_plan(
        length=draw(st.integers(1, MAX_LENGTH)),
        pieces=draw(st.integers(1, 3000)),
        price=draw(st.integers(294, 10**9)),
        unit=unit,
        fee_rate_sat_per_kvb=draw(st.integers(1000, 10**6)),
        step=draw(st.integers(1, 100)),
        settle_window=window,
        min_confirmations=confirmations,
        min_refund_delay=least,
        max_refund_delay=least + margin + draw(st.integers(0, day)),
    )


@given(plan=plans())
def test_the_channel_pays_for_the_whole_file(plan: SalePlan) -> None:
    assert plan.capacity.sat == plan.price.sat * (plan.cut.pieces - plan.cut.free_pieces)
    assert (plan.offer.min_capacity, plan.offer.max_capacity) == (plan.price, plan.capacity)
    assert smallest_capacity(plan.offer, ANYBODYS_SCRIPT) <= plan.capacity


def test_samples_cost_nothing() -> None:
    plan = make_plan(pieces=100, free_pieces=3)
    assert plan.capacity == plan.offer.max_capacity == Amount(97_000)
    assert make_plan(pieces=100, free_pieces=99).capacity == Amount(1000)


@given(plan=plans())
def test_the_fees_are_those_of_the_transactions(plan: SalePlan) -> None:
    """What goes into each, less what comes out of it."""
    terms = terms_of(plan)
    built = scheme_of(terms)
    funding = terms.funding_txout
    assert plan.locked == funding.value
    [refund] = built.refund().outputs
    assert plan.refund_fee == funding.value - refund.value
    for total in {
        plan.price.sat,
        plan.capacity.sat // plan.price.sat // 2 * plan.price.sat,
        plan.capacity.sat,
    }:
        if total:
            close = built.settlement(Amount(total))
            assert plan.close_fee.sat == funding.value.sat - sum(output.value.sat for output in close.outputs)
    coin = Coin(
        OutPoint(Txid(hashlib.sha256(b"coin").digest()), 0),
        TxOut(Amount(funding.value.sat + 10**12), PAYER_SCRIPT),
        1,
    )
    made, spent = build_funding([coin], funding, PAYER_SCRIPT, plan.offer.fee_rate)
    assert len(made.outputs) == 2
    assert plan.funding_fee.sat == spent[0].value.sat - sum(output.value.sat for output in made.outputs)
    assert plan.fees == plan.funding_fee + plan.close_fee


@given(plan=plans())
def test_what_the_payer_loses_at_worst(plan: SalePlan) -> None:
    """It has a coin, pays for one piece that never comes, and gets back what the payee's close leaves it."""
    terms = terms_of(plan)
    update = scheme_of(terms).update(1, plan.price)
    back = sum(output.value.sat for output in update.outputs if output.script_pubkey == PAYER_SCRIPT)
    assert plan.payer_risk.sat == plan.funding_fee.sat + terms.funding_value.sat - back
    [refund] = scheme_of(terms).refund().outputs
    assert plan.payer_risk.sat >= plan.funding_fee.sat + terms.funding_value.sat - refund.value.sat


def test_the_payee_delivers_nothing_unpaid() -> None:
    assert make_plan().payee_risk == Amount(0)


def test_sums_that_leave_the_range_are_no_plan() -> None:
    with pytest.raises(ParseError) as caught:
        make_plan(pieces=3, price=MAX_MONEY_SAT // 2)
    assert caught.value.slug == "malformed-number"
    full = make_plan(pieces=1, price=MAX_MONEY_SAT)
    with pytest.raises(ParseError) as caught:
        assert full.result  # no coin of all the money there is pays a fee too
    assert caught.value.slug == "malformed-number"


# time ---------------------------------------------------------------------------------------------


@given(plan=plans())
def test_the_lock_times_are_those_of_the_channel(plan: SalePlan) -> None:
    terms = terms_of(plan)
    built = scheme_of(terms)
    assert plan.refund_lock_time == terms.refund_lock_time
    assert plan.refund_lock_time.value == built.refund().lock_time
    assert plan.deadline == built.deadline
    assert plan.updates_possible == built.last_update
    assert plan.refund_delay == plan.offer.default_refund_delay


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_so_many_updates_are_possible_and_no_more(unit: str, step: int) -> None:
    plan = make_plan(unit=unit, step=step)
    possible = plan.updates_possible
    assert possible is not None
    funded = make_funded(terms_of(plan))
    facts = facts_of(funded.terms)
    last = replace(funded, number=possible - 1, paid=Amount(1000))
    assert payer.pay(last, Amount(1000), facts).number == possible
    with pytest.raises(NotPossible) as caught:
        payer.pay(replace(last, number=possible), Amount(1000), facts)
    assert caught.value.slug == "out-of-updates"


def later(plan: SalePlan, delay: int) -> ChainTip:
    """The tip so much later than at the opening, in the plan's unit."""
    if plan.unit == "blocks":
        return ChainTip(TIP.height + delay, TIP.median_time)
    return ChainTip(TIP.height, TIP.median_time + delay)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("confirmations", [1, 6])
def test_the_time_for_payments_is_what_the_payer_has(unit: str, confirmations: int) -> None:
    """From a funding that is confirmed as early as possible; and with no such time left it funds nothing."""
    plan = make_plan(unit=unit, min_confirmations=confirmations)
    funded = make_funded(terms_of(plan))
    confirmed = blocks_in_unit(confirmations, unit)
    for delay in (0, plan.time_for_payments - 1):
        facts = facts_of(funded.terms, confirmations, later(plan, confirmed + delay))
        assert payer.pay(funded, Amount(1000), facts).number == 1
    facts = facts_of(funded.terms, confirmations, later(plan, confirmed + plan.time_for_payments))
    with pytest.raises(NotPossible) as caught:
        payer.pay(funded, Amount(1000), facts)
    assert caught.value.slug == "past-deadline"
    left = {
        delay: all(rule.ok for rule in payer.time_left_rules(funded.terms, later(plan, delay)))
        for delay in (0, plan.time_for_payments - 1, plan.time_for_payments)
    }
    assert list(left.values()) == [True, True, False]
    seconds = plan.time_for_payments * (600 if unit == "blocks" else 1)
    assert plan.seconds_for_payments == seconds


@given(plan=plans())
def test_how_fast_the_file_must_go(plan: SalePlan) -> None:
    speed, seconds = plan.least_bytes_per_second, plan.seconds_for_payments
    assert speed * seconds >= plan.cut.length > (speed - 1) * seconds


@pytest.mark.parametrize(
    ("unit", "step"),
    [
        *(("blocks", step) for step in (1, 50, 160, 161, 162, 500)),
        *(("seconds", step) for step in (1, 600, 96_599, 96_600, 96_601, 1_000_000)),
    ],
)
def test_how_long_either_waits(unit: str, step: int) -> None:
    """The payer for the refund; the payee, from the moment that it could be paid first, for its first update."""
    plan = make_plan(unit=unit, step=step)
    refund = plan.refund_lock_time
    assert refund is not None
    assert refund.reached(later(plan, plan.payer_locked_at_most))
    assert not refund.reached(later(plan, plan.payer_locked_at_most - 1))
    first = scheme_of(terms_of(plan)).update_lock_time(1)
    paid = plan.offer.confirmation_delay
    assert first.reached(later(plan, paid + plan.payee_waits_at_most))
    assert plan.payee_waits_at_most >= 0
    assert plan.payee_waits_at_most == 0 or not first.reached(
        later(plan, paid + plan.payee_waits_at_most - 1)
    )


def test_without_a_tip_no_lock_time_is_known() -> None:
    plan = make_plan(tip=None)
    assert (plan.refund_lock_time, plan.deadline, plan.updates_possible) == (None, None, None)
    assert plan.warnings() == []
    table = plan.result.to_dict()
    assert table == {
        **make_plan().result.to_dict(),
        "refund_lock_time": None,
        "deadline": None,
        "updates_possible": None,
    }


@given(moment=st.integers(EARLIEST_TIME, 4_000_000_000), step=st.integers(1, 100_000))
def test_in_seconds_there_is_room_for_so_many_updates_on_any_chain(moment: int, step: int) -> None:
    at_least = make_plan(unit="seconds", tip=None, step=step).updates_possible
    real = make_plan(unit="seconds", tip=ChainTip(1, moment), step=step).updates_possible
    assert at_least is not None
    assert real is not None
    assert 0 < at_least <= real
    if moment == EARLIEST_TIME:
        assert at_least == real


def test_the_earliest_time_is_that_of_the_first_block() -> None:
    root = bytes.fromhex("3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a")
    time = EARLIEST_TIME.to_bytes(4, "little")
    header = (
        b"\1\0\0\0"
        + bytes(32)
        + root
        + time
        + bytes.fromhex("ffff001d")
        + (2_083_236_893).to_bytes(4, "little")
    )
    assert str(Header.from_bytes(header)) == MAINNET.genesis_hash


# warnings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_the_usual_sale_is_worth_no_warning(unit: str) -> None:
    plan = make_plan(unit=unit)
    assert plan.warnings() == list(plan.result.warnings) == []
    assert plan.can_be_sold


def test_pieces_that_are_too_cheap_to_be_paid_for() -> None:
    """The first payment of the channel is refused, and the plan says so."""
    dust = dust_limit(ANYBODYS_SCRIPT)
    assert is_p2wpkh(ANYBODYS_SCRIPT)
    for price in (dust.sat - 1, dust.sat):
        plan = make_plan(price=price, fee_rate_sat_per_kvb=1000)
        funded = make_funded(terms_of(plan))
        facts = facts_of(funded.terms)
        assert plan.can_be_sold == (price >= dust.sat)
        if plan.can_be_sold:
            assert payer.pay(funded, plan.price, facts).paid == plan.price
            assert plan.warnings() == []
            continue
        with pytest.raises(NotPossible) as caught:
            payer.pay(funded, plan.price, facts)
        assert caught.value.slug == "below-dust"
        [warning] = plan.warnings()
        assert warning == (
            "a piece for 293 sat is below the dust limit of 294 sat, which the first payment must reach: "
            "sell 99 pieces at most for 29300 sat"
        )
        advised = make_plan(pieces=99, price=share_of_price(plan.capacity, 99).sat)
        assert advised.can_be_sold
    assert make_plan(pieces=2, price=100).warnings()[0].endswith("must reach: ask for more")


@pytest.mark.parametrize("pieces", [MAX_PIECES, MAX_PIECES + 1])
def test_more_pieces_than_an_offer_has_room_for(pieces: int) -> None:
    plan = make_plan(length=100_000_000, pieces=pieces, tip=ChainTip(900_000, 0))
    count = plan.cut.pieces
    hashes = (bytes(32),) * count

    def sale() -> Sale:
        return Sale("file", plan.cut.length, plan.cut.piece_length, plan.price, 0, hashes)

    if count <= MAX_PIECES:
        assert sale().count == count
        assert plan.warnings() == []
        return
    with pytest.raises(ParseError):
        sale()
    assert plan.warnings() == [
        f"an offer has room for 5000 pieces, not for {count}: make them 20000 bytes long or longer"
    ]
    assert not plan.can_be_sold
    assert Cut(100_000_000, 20_000).pieces == MAX_PIECES


def test_more_updates_than_the_lock_times_have_room_for() -> None:
    room = make_plan(pieces=1).updates_possible
    assert room == 1161  # L_0 is 1000 + 306 - 144, and the lowest lock time is 1
    plan = make_plan(pieces=room)
    assert (plan.updates, plan.warnings(), plan.can_be_sold) == (room, [], True)
    plan = make_plan(length=room + 1, pieces=room + 1)
    [warning] = plan.warnings()
    assert warning == (
        "the lock times leave room for 1161 updates, 1162 are needed: sell fewer pieces, make the step smaller, "
        "or count in seconds (--lock-time-unit)"
    )
    assert not plan.can_be_sold
    assert make_plan(length=room + 1, pieces=room + 1, free_pieces=1).can_be_sold
    plan = make_plan(unit="seconds", tip=None, step=500_000)
    assert plan.updates_possible == 1462
    plan = make_plan(unit="seconds", tip=None, step=10_000_000, pieces=74)
    [warning] = plan.warnings()
    assert warning.startswith("the lock times leave room for 73 updates, 74 are needed")
    assert warning.endswith("make the step smaller")


def test_fees_that_are_dear() -> None:
    """More than a tenth of the price."""
    fees = make_plan(pieces=1).fees.sat
    assert fees == 306 + 338
    assert make_plan(pieces=1, price=10 * fees).warnings() == []
    assert make_plan(pieces=1, price=10 * fees - 1).warnings() == [
        "opening and closing cost 644 sat, 10 % of the price"
    ]
    assert make_plan(pieces=1, price=500).warnings() == [
        "opening and closing cost 644 sat, 128 % of the price"
    ]
    assert make_plan(pieces=1, price=500).can_be_sold


@pytest.mark.parametrize("unit", UNITS)
def test_a_refund_that_a_usual_payer_does_not_wait_for(unit: str) -> None:
    most = blocks_in_unit(4320, unit)
    for delay in (most, most + 1):
        margin = blocks_in_unit(18, unit)
        plan = make_plan(unit=unit, min_refund_delay=delay - margin, max_refund_delay=delay)
        refused = [rule for rule in opening.default_delay_rules(plan.offer, PayerLimits()) if not rule.ok]
        expected = [
            f"the refund is {delay} {unit} away: a payer waits {most} at most, unless its wallet.toml says otherwise"
        ]
        assert plan.warnings() == (expected if refused else [])
        assert bool(refused) == (delay > most)


# the offer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", list(NETWORKS))
def test_the_offer_is_one_of_the_network(network: str) -> None:
    usual = {
        **offer_defaults(Config(NETWORKS[network], ChainConfig("none")), None),
        "fee_rate_sat_per_kvb": 1,
    }
    offer = planned_offer(usual, NETWORKS[network], Cut(100, 1), Amount(1000))
    assert offer.network is NETWORKS[network]
    assert offer.fee_rate == FeeRate(1)
    assert offer.min_increment == Amount(1000)


def test_terms_that_no_offer_has_make_no_plan() -> None:
    for terms in ({"settle_window": 1000}, {"min_confirmations": 300}, {"max_refund_delay": 300}):
        with pytest.raises(ParseError) as caught:
            make_plan(**terms)  # type: ignore[arg-type]
        assert caught.value.slug == "offer-limits"
    for terms in ({"step": 0}, {"min_confirmations": 1001}, {"price": 0}):
        with pytest.raises(ParseError) as caught:
            make_plan(**terms)  # type: ignore[arg-type]
        assert caught.value.slug == "malformed-number"


def test_the_last_payment_can_come_with_the_settlement() -> None:
    """All that the plan says is paid fits into the channel."""
    plan = make_plan(pieces=3)
    terms = terms_of(plan)
    assert settlement_psbt(terms, plan.capacity.sat).tx == scheme_of(terms).settlement(plan.capacity)
