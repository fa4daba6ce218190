"""Choosing coins: nothing is overspent, the fee is paid and no more than that, and a change is worth having."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain, combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.protocol import private_key

from mpchan.bitcoin.script import dust_limit, key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import Coin
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate, OutPoint, Txid
from mpchan.wallet.coins import (
    LONG_TERM_RATE,
    MAX_INPUTS,
    P2WPKH_INPUT_VSIZE,
    OwnSpend,
    build_funding,
    build_spend,
    build_sweep,
    least_change,
    require_fee_within,
    spend_vsize,
)

KEY = private_key("coins")
OURS = key_to_p2wpkh_script(KEY.public_key.sec)
CHANGE = key_to_p2wpkh_script(private_key("change").public_key.sec)
CHANNEL_SCRIPT = b"\x00\x20" + bytes(range(32))
KEEP = 680
"""The least change: 68 vB at 10 sat/vB."""

SCRIPTS = {
    "p2wpkh": b"\x00\x14" + bytes(20),
    "p2wsh": CHANNEL_SCRIPT,
    "p2tr": b"\x51\x20" + bytes(32),
    "p2pkh": b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
    "p2sh": b"\xa9\x14" + bytes(20) + b"\x87",
}


def coins(*values: int) -> list[Coin]:
    return [
        Coin(OutPoint(Txid(hashlib.sha256(b"%d" % index).digest()), index), TxOut(Amount(value), OURS), 1)
        for index, value in enumerate(values)
    ]


def channel(value: int) -> TxOut:
    return TxOut(Amount(value), CHANNEL_SCRIPT)


def signed_vsize(transaction: Transaction, spent: tuple[TxOut, ...]) -> int:
    """Virtual size with real signatures."""
    for index, output in enumerate(spent):
        digest = segwit_v0_sighash(
            transaction, index, p2wpkh_script_code(output.script_pubkey), output.value, 1
        )
        witness = (KEY.sign(digest) + b"\x01", KEY.public_key.sec)
        transaction = transaction.with_witness(index, witness)
    return transaction.vsize


# sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [1, 2, 5, 252, 253])
@pytest.mark.parametrize("outputs", [[CHANNEL_SCRIPT], [CHANNEL_SCRIPT, CHANGE]])
def test_size_is_that_of_the_signed_transaction(inputs: int, outputs: list[bytes]) -> None:
    """A signature has 71 bytes, sometimes fewer; 72 are counted."""
    rate = FeeRate(1000)
    given_coins = coins(*[10_000] * inputs)
    total = 10_000 * inputs
    value = total - rate.fee(spend_vsize(inputs, outputs)).sat - (KEEP if len(outputs) == 2 else 0)
    funding, spent = build_funding(given_coins, channel(value), CHANGE, rate)
    assert (len(funding.inputs), len(funding.outputs)) == (inputs, len(outputs))
    counted = spend_vsize(inputs, outputs)
    real = signed_vsize(funding, spent)
    # a weight unit for each signature, and two where one of them is a byte shorter still
    assert counted - inputs <= real <= counted
    assert real * 4 >= counted * 4 - 3 - 4 * inputs


@pytest.mark.parametrize("outputs", [1, 252, 253])
def test_the_number_of_outputs_has_its_own_size(outputs: int) -> None:
    spend = build_spend(coins(10**8), [channel(1000)] * outputs, CHANGE, FeeRate(1000))
    scripts = [output.script_pubkey for output in spend.transaction.outputs]
    assert spend_vsize(1, scripts) - 1 <= signed_vsize(spend.transaction, spend.spent)
    assert signed_vsize(spend.transaction, spend.spent) <= spend_vsize(1, scripts)


def test_an_input_has_68_virtual_bytes() -> None:
    for inputs in (1, 100, 251):
        assert spend_vsize(inputs + 1, [CHANGE]) - spend_vsize(inputs, [CHANGE]) == P2WPKH_INPUT_VSIZE == 68


# what holds for every choice ----------------------------------------------------------------------

values = st.lists(st.integers(1, 300_000) | st.integers(1, 5_000_000), min_size=0, max_size=12)
rates = st.integers(0, 200_000) | st.integers(1000, 20_000)
kinds = st.sampled_from(sorted(SCRIPTS))


def affordable(held: Sequence[int], value: int, script: bytes, rate: FeeRate) -> bool:
    """Whether any choice of these coins pays for it."""
    best = sorted(held)
    return any(
        sum(best[-count:]) >= value + rate.fee(spend_vsize(count, [script])).sat
        for count in range(1, len(held) + 1)
    )


def check(spend: OwnSpend, available: Sequence[Coin], payments: list[TxOut], rate: FeeRate) -> None:
    """It spends what is there, once; pays what was asked for; its fee suffices and is not absurd."""
    transaction = spend.transaction
    by_outpoint = {coin.outpoint: coin.output for coin in available}
    outpoints = [source.outpoint for source in transaction.inputs]
    assert len(set(outpoints)) == len(outpoints)
    assert tuple(by_outpoint[outpoint] for outpoint in outpoints) == spend.spent
    assert {source.sequence for source in transaction.inputs} == {0xFFFFFFFE}
    assert (transaction.version, transaction.lock_time) == (2, 0)
    left = list(transaction.outputs)
    for payment in payments:
        left.remove(payment)
    assert left == ([] if spend.change_vout is None else [TxOut(spend.change, CHANGE)])
    if spend.change_vout is not None:
        assert transaction.outputs[spend.change_vout] == left[0]
        assert spend.change.sat >= KEEP > dust_limit(CHANGE).sat
    inside = sum(output.value.sat for output in spend.spent)
    assert inside - sum(output.value.sat for output in transaction.outputs) == spend.fee.sat
    scripts = [output.script_pubkey for output in transaction.outputs]
    needed = rate.fee(spend_vsize(len(spend.spent), scripts)).sat
    real = rate.fee(signed_vsize(transaction, spend.spent)).sat
    assert real <= needed <= spend.fee.sat
    require_fee_within(transaction, spend.spent, rate)
    if spend.change_vout is not None:
        assert spend.fee.sat == needed
    else:  # what is left over is less than a change would have cost
        with_change = rate.fee(spend_vsize(len(spend.spent), [*scripts, CHANGE])).sat
        assert spend.fee.sat < with_change + KEEP
    for output in spend.spent:
        assert 1000 * output.value.sat > 68 * rate.sat_per_kvb


@given(values, st.integers(1000, 6_000_000), rates, kinds)
@example([1000, 1000], 1500, 1000, "p2wpkh")
def test_a_spend_is_whole_paid_for_and_wastes_nothing(
    held: list[int], value: int, rate_value: int, kind: str
) -> None:
    rate, payment = FeeRate(rate_value), TxOut(Amount(value), SCRIPTS[kind])
    available = coins(*held)
    try:
        spend = build_spend(available, [payment], CHANGE, rate)
    except NotPossible:
        assert not affordable(held, value, payment.script_pubkey, rate)
        return
    assert affordable(held, value, payment.script_pubkey, rate)
    check(spend, available, [payment], rate)


@given(values, st.integers(1000, 6_000_000), rates)
def test_a_funding_is_whole_paid_for_and_wastes_nothing(held: list[int], value: int, rate_value: int) -> None:
    rate, available = FeeRate(rate_value), coins(*held)
    try:
        funding, spent = build_funding(available, channel(value), CHANGE, rate)
    except NotPossible:
        assert not affordable(held, value, CHANNEL_SCRIPT, rate)
        return
    assert funding.outputs[0] == channel(value)
    change = 1 if len(funding.outputs) == 2 else None
    check(OwnSpend(funding, spent, change), available, [channel(value)], rate)
    plain = build_spend(available, [channel(value)], CHANGE, rate)
    assert set(plain.transaction.outputs) == set(funding.outputs)
    assert plain.transaction.inputs == funding.inputs


@given(values, rates, kinds)
def test_a_sweep_takes_all_that_is_worth_its_fee(held: list[int], rate_value: int, kind: str) -> None:
    rate, script, available = FeeRate(rate_value), SCRIPTS[kind], coins(*held)
    worth = [value for value in held if 1000 * value > 68 * rate_value]
    rest = sum(worth) - rate.fee(spend_vsize(len(worth), [script])).sat
    try:
        spend = build_sweep(available, script, rate)
    except NotPossible:
        assert rest < dust_limit(script).sat
        return
    assert sorted(output.value.sat for output in spend.spent) == sorted(worth)
    check(spend, available, [TxOut(Amount(rest), script)], rate)
    assert rest >= dust_limit(script).sat
    assert spend.fee == rate.fee(spend_vsize(len(worth), [script]))


@given(values, st.integers(1000, 3_000_000), rates, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order(
    held: list[int], value: int, rate_value: int, random: object
) -> None:
    available = coins(*held)
    shuffled = list(available)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    results: list[object] = []
    for order in (available, shuffled):
        try:
            results.append(build_spend(order, [channel(value)], CHANGE, FeeRate(rate_value)))
        except NotPossible as error:
            results.append(error.message)
    assert results[0] == results[1]


# the best choice ----------------------------------------------------------------------------------


def subsets(available: Sequence[Coin]) -> Iterable[tuple[Coin, ...]]:
    return chain.from_iterable(combinations(available, count) for count in range(1, len(available) + 1))


def excess(chosen: Iterable[Coin], value: int, rate: FeeRate) -> int:
    """What is left without a change, in thousandths of a satoshi."""
    held = [coin.output.value.sat for coin in chosen]
    return 1000 * (sum(held) - value) - rate.sat_per_kvb * spend_vsize(len(held), [CHANNEL_SCRIPT])


@given(
    st.lists(st.integers(500, 9_000), min_size=1, max_size=8),
    st.integers(1000, 40_000),
    st.sampled_from([1000, 3000, 10_000, 25_000]),
)
def test_branch_and_bound_finds_the_cheapest_of_all_subsets(
    held: list[int], value: int, rate_value: int
) -> None:
    """Held against every subset there is; the cost is the fee now and that of spending the change some day."""
    rate, available = FeeRate(rate_value), coins(*held)
    slack = 31 * rate_value + 1000 * KEEP
    worth = [coin for coin in available if 1000 * coin.output.value.sat > 68 * rate_value]
    exact = [
        68 * rate_value * len(chosen) + excess(chosen, value, rate)
        for chosen in subsets(worth)
        if 0 <= excess(chosen, value, rate) < slack
    ]
    comfortable = 31 * rate_value + 1000 * max(KEEP, rate.fee(136).sat)
    few = [len(chosen) for chosen in subsets(worth) if excess(chosen, value, rate) >= comfortable]
    costs = [*exact, *(68 * rate_value * count + slack for count in few)]
    assume(costs)
    spend = build_spend(available, [channel(value)], CHANGE, rate)
    count = len(spend.spent)
    if spend.change_vout is None:
        cost = 68 * rate_value * count + 1000 * (sum(o.value.sat for o in spend.spent) - value)
        cost -= rate_value * spend_vsize(count, [CHANNEL_SCRIPT])
    else:
        assert spend.change.sat >= max(KEEP, rate.fee(136).sat)
        cost = 68 * rate_value * count + slack
    assert cost == min(costs)


def test_a_changeless_match_comes_before_a_change() -> None:
    """5000 and 6000 make 11,000 less the fee; the one coin of 90,000 would leave change."""
    fee = spend_vsize(2, [CHANNEL_SCRIPT])
    spend = build_spend(coins(90_000, 5000, 6000), [channel(11_000 - fee - 50)], CHANGE, FeeRate(1000))
    assert sorted(output.value.sat for output in spend.spent) == [5000, 6000]
    assert (spend.change_vout, spend.fee.sat) == (None, fee + 50)


@pytest.mark.parametrize(("rest", "taken"), [(0, 11_000), (1454, 11_000), (1455, 60_000)])
def test_where_a_changeless_match_ends(rest: int, taken: int) -> None:
    """At 25 sat/vB a change costs 775 sat (31 vB) and must hold 680: so much may go to the fee, and no more."""
    rate = FeeRate(25_000)
    value = 11_000 - rate.fee(spend_vsize(1, [CHANNEL_SCRIPT])).sat - rest
    spend = build_spend(coins(60_000, 11_000), [channel(value)], CHANGE, rate)
    assert [output.value.sat for output in spend.spent] == [taken]


def test_at_a_high_rate_one_input_with_a_change_is_cheaper_than_three_without() -> None:
    rate = FeeRate(50_000)
    value = 90_000 - rate.fee(spend_vsize(3, [CHANNEL_SCRIPT])).sat
    spend = build_spend(coins(200_000, 30_000, 30_000, 30_000), [channel(value)], CHANGE, rate)
    assert [output.value.sat for output in spend.spent] == [200_000]


def test_the_smallest_coin_that_leaves_a_good_change_is_taken() -> None:
    spend = build_spend(coins(9000, 5000, 6000, 100), [channel(4000)], CHANGE, FeeRate(1000))
    assert [output.value.sat for output in spend.spent] == [5000]


def test_a_coin_that_would_leave_a_tiny_change_is_passed_over() -> None:
    """At 25 sat/vB a change of 1500 sat would hardly pay for its own next fee (1700 sat)."""
    rate = FeeRate(25_000)
    tiny = 10_000 + rate.fee(spend_vsize(1, [CHANNEL_SCRIPT, CHANGE])).sat + 1500
    spend = build_spend(coins(tiny, 60_000), [channel(10_000)], CHANGE, rate)
    assert [output.value.sat for output in spend.spent] == [60_000]
    alone = build_spend(coins(tiny), [channel(10_000)], CHANGE, rate)
    assert alone.change == Amount(1500), "but it is not given away where there is no other coin"


def test_else_the_smallest_of_the_fewest() -> None:
    spend = build_spend(coins(4000, 9000, 5000, 6000), [channel(14_000)], CHANGE, FeeRate(1000))
    assert sorted(output.value.sat for output in spend.spent) == [6000, 9000]
    spend = build_spend(coins(*[10_000] * 9, 1_000_000), [channel(20_000)], CHANGE, FeeRate(1000))
    assert [output.value.sat for output in spend.spent] == [1_000_000]


@pytest.mark.parametrize("rate_value", [1000, 10_000, 100_000])
def test_the_least_change(rate_value: int) -> None:
    """One coin; the rest of it goes to the fee up to 679 sat and comes back from 680 on, at any rate."""
    rate = FeeRate(rate_value)
    assert least_change(CHANGE).sat == LONG_TERM_RATE.fee(68).sat == KEEP
    value = 1_000_000 - rate.fee(spend_vsize(1, [CHANNEL_SCRIPT, CHANGE])).sat
    below = build_spend(coins(1_000_000), [channel(value - KEEP + 1)], CHANGE, rate)
    assert below.change_vout is None
    kept = build_spend(coins(1_000_000), [channel(value - KEEP)], CHANGE, rate)
    assert (kept.change, kept.fee) == (Amount(KEEP), rate.fee(spend_vsize(1, [CHANNEL_SCRIPT, CHANGE])))


def test_a_search_that_is_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among 60 coins of powers of two there is no second way to a sum; the few coins are taken instead."""
    held = [3_000 + 2**number for number in range(30)] * 2
    payment = channel(sum(held) // 3 + 12_345)
    available = coins(*held)
    check(build_spend(available, [payment], CHANGE, FeeRate(2000)), available, [payment], FeeRate(2000))


# order --------------------------------------------------------------------------------------------


def test_inputs_and_outputs_stand_in_bip_0069_order() -> None:
    available = coins(*[10_000] * 20)
    spend = build_spend(available, [channel(150_000)], CHANGE, FeeRate(1000))
    shown = [(str(source.outpoint.txid), source.outpoint.vout) for source in spend.transaction.inputs]
    assert shown == sorted(shown)
    assert len(shown) > 10
    for value, vout in ((1000, 1), (90_000, 0)):
        spend = build_spend(coins(100_000), [channel(value)], CHANGE, FeeRate(1000))
        assert spend.change_vout == vout
    outputs = [TxOut(Amount(5000), b"\x00\x14" + bytes([number]) * 20) for number in (3, 1, 2)]
    spend = build_spend(coins(100_000), outputs, CHANGE, FeeRate(1000))
    assert [output.script_pubkey[2] for output in spend.transaction.outputs[:3]] == [1, 2, 3]
    funding, _ = build_funding(coins(100_000), channel(90_000), CHANGE, FeeRate(1000))
    assert funding.outputs[0] == channel(90_000)


# refusals -----------------------------------------------------------------------------------------


def test_not_enough_says_how_much_there_is() -> None:
    with pytest.raises(NotPossible) as caught:
        build_spend(coins(500, 600), [channel(1100)], CHANGE, FeeRate(1000))
    assert (caught.value.slug, caught.value.exit_code) == ("not-enough-funds", 5)
    assert caught.value.message == "1100 sat and a fee are needed, the wallet can spend 1100 sat"
    for rate in (0, 1000):
        with pytest.raises(NotPossible):
            build_spend([], [channel(1)], CHANGE, FeeRate(rate))
        with pytest.raises(NotPossible):
            build_sweep([], CHANGE, FeeRate(rate))


def test_no_transaction_is_too_large_to_be_relayed() -> None:
    """400,000 weight units are the most that nodes pass on."""
    many = coins(*[1000] * (MAX_INPUTS + 1))
    value = 1000 * MAX_INPUTS - FeeRate(1000).fee(spend_vsize(MAX_INPUTS, [CHANNEL_SCRIPT])).sat
    spend = build_spend(many, [channel(value)], CHANGE, FeeRate(1000))
    assert len(spend.spent) == MAX_INPUTS
    assert 4 * spend_vsize(MAX_INPUTS, [CHANNEL_SCRIPT, CHANNEL_SCRIPT, CHANGE]) < 400_000
    for call in (
        lambda: build_spend(many, [channel(value + 1)], CHANGE, FeeRate(1000)),
        lambda: build_sweep(many, CHANGE, FeeRate(1000)),
    ):
        with pytest.raises(NotPossible) as caught:
            call()
        assert caught.value.slug == "too-many-coins"
