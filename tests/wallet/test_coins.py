"""Choosing the coins of a funding."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_tools import private_key

from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import Coin
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate, OutPoint, Txid
from mpchan.wallet.coins import build_funding, funding_vsize

KEY = private_key("coins")
OURS = key_to_p2wpkh_script(KEY.public_key.sec)
CHANGE = key_to_p2wpkh_script(private_key("change").public_key.sec)
CHANNEL_SCRIPT = b"\x00\x20" + bytes(range(32))
DUST = 294


def coins(*values: int) -> list[Coin]:
    return [
        Coin(OutPoint(Txid(hashlib.sha256(b"%d" % index).digest()), index), TxOut(Amount(value), OURS), 1)
        for index, value in enumerate(values)
    ]


def channel(value: int) -> TxOut:
    return TxOut(Amount(value), CHANNEL_SCRIPT)


def signed_vsize(funding: Transaction, spent: tuple[TxOut, ...]) -> int:
    """Virtual size with real signatures."""
    for index, output in enumerate(spent):
        digest = segwit_v0_sighash(funding, index, p2wpkh_script_code(output.script_pubkey), output.value, 1)
        funding = funding.with_witness(index, (KEY.sign(digest) + b"\x01", KEY.public_key.sec))
    return funding.vsize


@pytest.mark.parametrize("inputs", [1, 2, 5, 252, 253])
@pytest.mark.parametrize("outputs", [[CHANNEL_SCRIPT], [CHANNEL_SCRIPT, CHANGE]])
def test_size_is_that_of_the_signed_transaction(inputs: int, outputs: list[bytes]) -> None:
    """A signature has 71 bytes, sometimes fewer; 72 are counted."""
    rate = FeeRate(1000)
    given_coins = coins(*[10_000] * inputs)
    total = 10_000 * inputs
    value = total - rate.fee(funding_vsize(inputs, outputs)).sat - (DUST if len(outputs) == 2 else 0)
    funding, spent = build_funding(given_coins, channel(value), CHANGE, rate)
    assert (len(funding.inputs), len(funding.outputs)) == (inputs, len(outputs))
    counted = funding_vsize(inputs, outputs)
    real = signed_vsize(funding, spent)
    # a weight unit for each signature, and two where one of them is a byte shorter still
    assert counted - inputs <= real <= counted
    assert real * 4 >= counted * 4 - 3 - 4 * inputs


values = st.lists(st.integers(DUST, 3_000_000), min_size=0, max_size=12)


@given(values, st.integers(1000, 6_000_000), st.integers(1000, 100_000))
def test_a_funding_is_whole_paid_for_and_wastes_nothing(held: list[int], value: int, rate_value: int) -> None:
    rate = FeeRate(rate_value)
    available = coins(*held)
    try:
        funding, spent = build_funding(available, channel(value), CHANGE, rate)
    except NotPossible:
        # no choice of coins would do: not even all those that are worth their own fee
        for count in range(1, len(held) + 1):
            best = sum(sorted(held)[-count:])
            assert best < value + rate.fee(funding_vsize(count, [CHANNEL_SCRIPT])).sat
        return
    assert funding.outputs[0] == channel(value)
    assert [source.outpoint for source in funding.inputs] == list(
        dict.fromkeys(source.outpoint for source in funding.inputs)
    )
    by_outpoint = {coin.outpoint: coin.output for coin in available}
    assert tuple(by_outpoint[source.outpoint] for source in funding.inputs) == spent
    assert {source.sequence for source in funding.inputs} == {0xFFFFFFFE}
    assert (funding.version, funding.lock_time) == (2, 0)
    paid = sum(output.value.sat for output in spent)
    fee = paid - sum(output.value.sat for output in funding.outputs)
    scripts = [output.script_pubkey for output in funding.outputs]
    needed = rate.fee(funding_vsize(len(spent), scripts)).sat
    assert scripts[1:] in ([], [CHANGE])
    if len(scripts) == 2:
        assert fee == needed
        assert funding.outputs[1].value.sat >= DUST
    else:
        with_change = rate.fee(funding_vsize(len(spent), [CHANNEL_SCRIPT, CHANGE])).sat
        assert needed <= fee < max(needed, with_change) + DUST


@given(values, st.integers(1000, 3_000_000))
def test_the_choice_does_not_depend_on_the_order(held: list[int], value: int) -> None:
    available = coins(*held)
    results = []
    for order in (available, available[::-1]):
        try:
            results.append(build_funding(order, channel(value), CHANGE, FeeRate(1000)))
        except NotPossible:
            results.append(None)
    assert results[0] == results[1]


def test_the_smallest_coin_that_suffices_is_taken() -> None:
    funding, _ = build_funding(coins(9000, 5000, 6000, 100), channel(4000), CHANGE, FeeRate(1000))
    assert [source.outpoint.vout for source in funding.inputs] == [1]


def test_else_the_largest_ones_until_they_do() -> None:
    funding, _ = build_funding(coins(4000, 9000, 5000, 6000), channel(14_000), CHANGE, FeeRate(1000))
    assert [source.outpoint.vout for source in funding.inputs] == [1, 3]


def test_not_enough_says_how_much_there_is() -> None:
    with pytest.raises(NotPossible) as caught:
        build_funding(coins(500, 600), channel(1100), CHANGE, FeeRate(1000))
    assert (caught.value.slug, caught.value.exit_code) == ("not-enough-funds", 5)
    assert "1100 sat" in caught.value.message
    with pytest.raises(NotPossible):
        build_funding([], channel(1), CHANGE, FeeRate(0))
