# mypy: disable-error-code="operator, list-item, comparison-overlap"
# what the types forbid is what is tried here
"""Quantities that must not be mixed up: amounts, fee rates, lock times, ids."""

from __future__ import annotations

import pickle
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.errors import ParseError
from mpchan.units import (
    MAX_MONEY_SAT,
    Amount,
    ChainTip,
    FeeRate,
    Height,
    MedianTime,
    OutPoint,
    Txid,
    checked_int,
    lock_time_from_int,
)

GENESIS = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
NO_INTEGERS = [True, False, 1.0, "1", b"1", None, [1], 1j, Decimal(1), Fraction(1)]


def slug_of(call: object, *arguments: object) -> str:
    with pytest.raises(ParseError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 3
    return caught.value.slug


# amounts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sat", [0, 1, 546, MAX_MONEY_SAT])
def test_amounts_in_range(sat: int) -> None:
    assert Amount(sat).sat == sat
    assert str(Amount(sat)) == f"{sat} sat"
    assert bool(Amount(sat)) is (sat > 0)


def test_the_most_is_21_million_bitcoin() -> None:
    assert MAX_MONEY_SAT == 2_100_000_000_000_000 == 21 * 10**14


@pytest.mark.parametrize("value", [-1, MAX_MONEY_SAT + 1, 2**64, -(2**70), *NO_INTEGERS])
def test_amounts_out_of_range_or_of_another_type(value: object) -> None:
    assert slug_of(Amount, value) == "malformed-number"


def test_a_huge_number_is_told_in_few_words() -> None:
    with pytest.raises(ParseError) as caught:
        Amount(1 << 100_000)
    assert len(caught.value.message) < 100


@given(st.integers(0, MAX_MONEY_SAT), st.integers(0, MAX_MONEY_SAT))
def test_sums_and_differences_stay_in_range_or_raise(left: int, right: int) -> None:
    if left + right <= MAX_MONEY_SAT:
        assert (Amount(left) + Amount(right)).sat == left + right
    else:
        assert slug_of(Amount(left).__add__, Amount(right)) == "malformed-number"
    if left >= right:
        assert (Amount(left) - Amount(right)).sat == left - right
    else:
        assert slug_of(Amount(left).__sub__, Amount(right)) == "malformed-number"


@given(st.integers(0, MAX_MONEY_SAT), st.integers(0, MAX_MONEY_SAT))
def test_amounts_compare_as_their_numbers(left: int, right: int) -> None:
    ours, theirs = Amount(left), Amount(right)
    assert (ours < theirs, ours <= theirs, ours > theirs, ours >= theirs, ours == theirs) == (
        left < right,
        left <= right,
        left > right,
        left >= right,
        left == right,
    )
    assert (hash(ours) == hash(theirs)) or left != right


def test_amounts_do_not_mix_with_numbers() -> None:
    assert Amount(1) != 1
    for mixed in (
        lambda: Amount(1) < 2,
        lambda: Amount(1) + 1,
        lambda: 1 + Amount(1),
        lambda: Amount(2) - 1,
        lambda: Amount(2) * 2,
        lambda: Amount(2) / 2,
        lambda: sum([Amount(1), Amount(2)]),
        lambda: Amount(1) < Height(2),
        lambda: FeeRate(1) < Amount(2),
    ):
        with pytest.raises((TypeError, AttributeError)):
            mixed()


@pytest.mark.parametrize(
    ("text", "sat"),
    [
        ("0", 0),
        ("1500", 1500),
        ("1500sat", 1500),
        ("0.000015btc", 1500),
        ("1btc", 100_000_000),
        ("0btc", 0),
        ("1.00000001btc", 100_000_001),
        ("0.1btc", 10_000_000),
        ("21000000btc", MAX_MONEY_SAT),
        ("2100000000000000", MAX_MONEY_SAT),
        ("007", 7),
    ],
)
def test_amounts_as_people_write_them(text: str, sat: int) -> None:
    assert Amount.parse(text) == Amount(sat)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1 ", " 1", "1\n", "+1", "-1", "1e3", "1_000", "1,000", "1.5", "1.5sat", "sat", "btc", ".1btc",
        "1.btc", "1.000000001btc", "1 btc", "1 sat", "1BTC", "1SAT", "0x10", "١٢", "１", "1satbtc", "nan", "inf",
        "12345678901234567", "123456789btc",
    ],
)  # fmt: skip
def test_48_malformed_amounts(text: str) -> None:
    assert slug_of(Amount.parse, text) == "malformed-amount"


@pytest.mark.parametrize("text", ["2100000000000001", "9999999999999999sat", "21000000.00000001btc"])
def test_amounts_that_nobody_has(text: str) -> None:
    assert slug_of(Amount.parse, text) == "malformed-number"


@given(st.integers(0, MAX_MONEY_SAT))
def test_every_amount_reads_back(sat: int) -> None:
    assert Amount.parse(str(sat)) == Amount.parse(f"{sat}sat") == Amount(sat)
    assert Amount.parse(f"{sat // 10**8}.{sat % 10**8:08}btc") == Amount(sat)


# fee rates ----------------------------------------------------------------------------------------


@given(st.integers(0, 10**8), st.integers(0, 400_000))
def test_a_fee_is_the_rounded_up_product(rate: int, vsize: int) -> None:
    fee = FeeRate(rate).fee(vsize).sat
    exact = Fraction(rate * vsize, 1000)
    assert fee >= exact > fee - 1


@pytest.mark.parametrize(
    ("text", "sat_per_kvb", "shown"),
    [
        ("2", 2000, "2 sat/vB"),
        ("1.5", 1500, "1.5 sat/vB"),
        ("0.001", 1, "0.001 sat/vB"),
        ("10.05", 10_050, "10.05 sat/vB"),
        ("0", 0, "0 sat/vB"),
    ],
)
def test_fee_rates_as_people_write_them(text: str, sat_per_kvb: int, shown: str) -> None:
    rate = FeeRate.parse_sat_per_vb(text)
    assert (rate, str(rate)) == (FeeRate(sat_per_kvb), shown)


@pytest.mark.parametrize("text", ["", "-1", "1.0001", ".5", "1.", "1e3", "2 sat/vB", "1234567890", "２"])
def test_malformed_fee_rates(text: str) -> None:
    assert slug_of(FeeRate.parse_sat_per_vb, text) == "malformed-fee-rate"


@pytest.mark.parametrize("value", [-1, MAX_MONEY_SAT + 1, *NO_INTEGERS])
def test_fee_rates_out_of_range(value: object) -> None:
    assert slug_of(FeeRate, value) == "malformed-number"


# lock times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, Height), (499_999_999, Height), (500_000_000, MedianTime), (4_294_967_295, MedianTime)],
)
def test_the_threshold_tells_the_two_kinds_apart(value: int, kind: type) -> None:
    lock_time = lock_time_from_int(value)
    assert type(lock_time) is kind
    assert lock_time.value == value


@pytest.mark.parametrize("value", [0, -1, 4_294_967_296])
def test_no_lock_times(value: int) -> None:
    assert slug_of(lock_time_from_int, value) == "malformed-number"


@pytest.mark.parametrize("kind", [Height, MedianTime])
@pytest.mark.parametrize("value", NO_INTEGERS)
def test_lock_times_of_another_type(kind: type, value: object) -> None:
    assert slug_of(kind, value) == "malformed-number"


def test_lock_times_of_one_kind_compare_and_of_two_do_not() -> None:
    assert Height(1) < Height(2) <= Height(2)
    assert MedianTime(500_000_000) < MedianTime(500_000_001)
    for mixed in (lambda: Height(1) < MedianTime(500_000_000), lambda: MedianTime(500_000_000) >= Height(1)):
        with pytest.raises(TypeError):
            mixed()


def test_lock_times_say_their_kind() -> None:
    assert (str(Height(5)), Height(5).unit) == ("block 5", "blocks")
    assert (str(MedianTime(500_000_000)), MedianTime.unit) == ("median time 500000000", "seconds")


@given(st.integers(0, 499_999_999), st.integers(0, 2**32 - 1), st.integers(1, 499_999_999))
def test_a_height_is_final_when_the_tip_has_it(height: int, time: int, lock: int) -> None:
    tip = ChainTip(height, time)
    assert Height(lock).is_final(tip) is Height(lock).reached(tip) is (height >= lock)
    assert Height.now(tip) == height


@given(st.integers(0, 499_999_999), st.integers(0, 2**32 - 1), st.integers(500_000_000, 2**32 - 1))
def test_a_time_is_final_after_it(height: int, time: int, lock: int) -> None:
    tip = ChainTip(height, time)
    assert MedianTime(lock).is_final(tip) is (time > lock)
    assert MedianTime(lock).reached(tip) is (time >= lock)
    assert MedianTime.now(tip) == time


@pytest.mark.parametrize("tip", [(-1, 0), (500_000_000, 0), (0, -1), (0, 2**32), (True, 0), (0, 1.0)])
def test_tips_that_no_chain_has(tip: tuple[object, object]) -> None:
    assert slug_of(ChainTip, *tip) == "malformed-number"


# ids ----------------------------------------------------------------------------------------------


def test_a_txid_holds_wire_bytes_and_shows_display_hex() -> None:
    txid = Txid.from_hex(GENESIS)
    assert str(txid) == GENESIS
    assert txid.wire == bytes.fromhex(GENESIS)[::-1]
    assert Txid.from_hex(GENESIS.upper()) == txid == Txid(txid.wire)


@pytest.mark.parametrize(
    "text", ["", GENESIS[:-1], GENESIS + "0", GENESIS[:-1] + "g", f"0x{GENESIS[2:]}", GENESIS + "\n", None, 5]
)
def test_malformed_txids(text: object) -> None:
    assert slug_of(Txid.from_hex, text) == "malformed-txid"


@pytest.mark.parametrize("wire", [b"", bytes(31), bytes(33), "00" * 16, None, bytearray(32)])
def test_txids_of_another_length_or_type(wire: object) -> None:
    assert slug_of(Txid, wire) == "malformed-txid"


@pytest.mark.parametrize("text", [f"{GENESIS}:0", f"{GENESIS}-0"])
def test_outpoints(text: str) -> None:
    assert OutPoint.parse(text) == OutPoint(Txid.from_hex(GENESIS), 0)
    assert str(OutPoint.parse(text)) == f"{GENESIS}:0"
    assert OutPoint.parse(f"{GENESIS}:4294967295").vout == 2**32 - 1


@pytest.mark.parametrize(
    "end", ["", ":", ":-1", ":00", ":01", ": 1", ":1 ", ":1.0", "/1", ":x", ":１", ":12345678901"]
)
def test_malformed_outpoints(end: str) -> None:
    assert slug_of(OutPoint.parse, GENESIS + end) == "malformed-outpoint"


@pytest.mark.parametrize("vout", [-1, 2**32, True, 1.0, "0"])
def test_output_indexes_out_of_range(vout: object) -> None:
    assert slug_of(OutPoint, Txid(bytes(32)), vout) == "malformed-number"


# all of them --------------------------------------------------------------------------------------

VALUES = [
    Amount(5),
    FeeRate(5),
    Height(5),
    MedianTime(500_000_005),
    ChainTip(5, 6),
    Txid(bytes(32)),
    OutPoint(Txid(bytes(32)), 5),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_immutable_and_hashable(value: object) -> None:
    name = next(iter(type(value).__match_args__))  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        setattr(value, name, 6)
    with pytest.raises(AttributeError):
        value.surprise = 6  # type: ignore[attr-defined]
    assert {value: 1}[pickle.loads(pickle.dumps(value))] == 1
    assert value in VALUES
    assert VALUES.count(value) == 1


@given(st.integers(), st.integers(), st.integers())
def test_checked_int(value: int, low: int, high: int) -> None:
    if low <= value <= high:
        assert checked_int(value, low, high, "it") == value
    else:
        with pytest.raises(ParseError, match="it must be"):
            checked_int(value, low, high, "it")


@pytest.mark.parametrize("value", NO_INTEGERS)
def test_checked_int_takes_integers_only(value: object) -> None:
    with pytest.raises(ParseError, match="it must be an integer, not"):
        checked_int(value, 0, 5, "it")
