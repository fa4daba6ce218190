"""The arithmetic of a child that pays for its parent, held against transactions that are really signed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.script import dust_limit, key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import Coin
from mpchan.channel.watch.bidding import LEAST_STEP, Paying, Rivals, child_fee, pays, rate_of
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate, OutPoint, Txid
from mpchan.wallet.bumping import build_child
from mpchan.wallet.coins import OwnSpend

KEY = PrivateKey(b"\x07" * 32)
OWN = key_to_p2wpkh_script(KEY.public_key.sec)
CHANGE = key_to_p2wpkh_script(PrivateKey(b"\x08" * 32).public_key.sec)

PLAIN = Transaction(2, (), (), 0)
"""A parent, of which nothing but the version counts here."""

RATES = st.integers(1, 300_000).map(FeeRate)
PARENTS = st.builds(Paying, st.integers(61, 20_000), st.integers(0, 50_000).map(Amount))


def coin(value: int, number: int = 0) -> Coin:
    return Coin(OutPoint(Txid(number.to_bytes(32, "big")), number), TxOut(Amount(value), OWN), 1)


def signed(child: OwnSpend) -> Transaction:
    transaction = child.transaction
    for index, output in enumerate(child.spent):
        code = p2wpkh_script_code(output.script_pubkey)
        digest = segwit_v0_sighash(child.transaction, index, code, output.value, SIGHASH_ALL)
        signature = KEY.sign(digest) + bytes([SIGHASH_ALL])
        transaction = transaction.with_witness(index, (signature, KEY.public_key.sec))
    return transaction


def fee_of(child: OwnSpend) -> int:
    return _sum(child.spent) - _sum(child.transaction.outputs)


def _sum(outputs: Sequence[TxOut]) -> int:
    return sum(output.value.sat for output in outputs)


@given(
    rate=RATES,
    parent=PARENTS,
    own=st.integers(294, 10_000_000),
    more=st.lists(st.integers(294, 10_000_000), max_size=6),
)
def test_both_together_pay_the_rate_and_little_more(
    rate: FeeRate, parent: Paying, own: int, more: list[int]
) -> None:
    coins = [coin(value, number) for number, value in enumerate(more, 1)]
    child = built(rate, parent, coin(own), coins)
    if child is None:
        worth = sum(value for value in more if value > rate.fee(68).sat)
        inputs = 1 + sum(1 for value in more if value > rate.fee(68).sat)
        most = rate.fee(parent.vsize + 42 + 69 * inputs).sat - parent.fee.sat
        assert own + worth < max(most, 0) + 294
        return
    complete = signed(child)
    vsize, fee = complete.vsize, fee_of(child)
    total, needed = fee + parent.fee.sat, rate.fee(vsize + parent.vsize).sat
    assert total >= needed
    # signatures are counted with 72 bytes, ours have 71: a quarter of a virtual byte for each input
    slack = rate.fee(1 + len(child.spent) // 4).sat + 1
    assert total <= max(needed + slack, parent.fee.sat)
    [output] = child.transaction.outputs
    assert output.value >= dust_limit(CHANGE)
    assert child.spent[0].value.sat == own
    assert all(txin.sequence == 0xFFFF_FFFD for txin in child.transaction.inputs)
    paying = Paying(vsize, Amount(fee))
    assert pays(rate, parent, paying)
    assert rate_of(parent, paying) >= rate


@given(
    rate=RATES,
    parent=PARENTS,
    own=st.integers(294, 1_000_000),
    more=st.lists(st.integers(294, 10**6), max_size=5),
)
def test_no_coin_more_than_needed(rate: FeeRate, parent: Paying, own: int, more: list[int]) -> None:
    coins = [coin(value, number) for number, value in enumerate(more, 1)]
    child = built(rate, parent, coin(own), coins)
    if child is None:
        return
    extra = [output.value.sat for output in child.spent[1:]]
    assert extra == sorted(more, reverse=True)[: len(extra)]
    if extra:
        assert built(rate, parent, coin(own), coins_above(coins, extra[-1])) is None


def built(rate: FeeRate, parent: Paying, own: Coin, more: Sequence[Coin]) -> OwnSpend | None:
    """The child; None where there is not enough."""
    try:
        return build_child(rate, PLAIN, parent, own, more, CHANGE)
    except NotPossible:
        return None


def coins_above(coins: Sequence[Coin], value: int) -> list[Coin]:
    """Only the coins above a value, as far as each was needed."""
    kept = sorted(coins, key=lambda each: each.output.value, reverse=True)
    index = [each.output.value.sat for each in kept].index(value)
    return kept[:index]


@given(
    parent=PARENTS,
    first=RATES,
    second=RATES,
    before=st.integers(110, 2_000),
    after=st.integers(110, 2_000),
)
def test_a_later_child_outbids_the_earlier_one(
    parent: Paying, first: FeeRate, second: FeeRate, before: int, after: int
) -> None:
    """BIP-0125: a higher fee, by the size's own price; and a higher rate."""
    earlier = Paying(before, child_fee(first, parent, before))
    later = child_fee(second, parent, after, Rivals((earlier,)))
    assert later.sat >= earlier.fee.sat + LEAST_STEP.fee(after).sat
    assert later.sat * before > earlier.fee.sat * after
    assert pays(second, parent, Paying(after, later))


def test_a_child_of_a_parent_that_pays_enough_costs_nothing_extra() -> None:
    assert child_fee(FeeRate(1000), Paying(100, Amount(5_000)), 110) == Amount(0)


def test_a_coin_that_costs_more_than_it_holds_is_left() -> None:
    parent = Paying(169, Amount(0))
    with pytest.raises(NotPossible) as caught:
        build_child(FeeRate(10_000), PLAIN, parent, coin(1_000), [coin(680, 1)] * 9, CHANGE)
    assert caught.value.slug == "not-enough-funds"


@pytest.mark.parametrize("left", [293, 294])
def test_the_output_of_a_child_is_no_dust(left: int) -> None:
    """294 is Bitcoin Core's limit for P2WPKH."""
    parent = Paying(169, Amount(169))
    fee = FeeRate(2_000).fee(169 + 110).sat - 169
    if left < 294:
        with pytest.raises(NotPossible):
            build_child(FeeRate(2_000), PLAIN, parent, coin(fee + left), [], CHANGE)
    else:
        child = build_child(FeeRate(2_000), PLAIN, parent, coin(fee + left), [], CHANGE)
        assert child.transaction.outputs[0].value == Amount(left)
