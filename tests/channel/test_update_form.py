"""The form of a channel's updates: filled in, it is to the byte what is built without it; and it reads nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.protocol import (
    PAYEE,
    PAYER,
    PAYOUT_KINDS,
    channel_sighash,
    complete,
    make_offer,
    make_terms,
    payout,
    scheme_of,
    settlement_psbt,
    signed,
    signed_message,
    update_psbt,
)

from mpchan.bitcoin.psbt import Psbt
from mpchan.channel.construction.form import UpdateForm, update_form
from mpchan.channel.rules import explain
from mpchan.channel.taking import incoming_rules
from mpchan.channel.terms import Terms
from mpchan.units import Amount, Height, MedianTime


@st.composite
def channels(draw: st.DrawFn) -> Terms:
    """Any channel that has a form, of either lock time and any kind of outputs."""
    unit = draw(st.sampled_from(["blocks", "seconds"]))
    offer = make_offer(
        draw(st.sampled_from(PAYOUT_KINDS)), lock_time_unit=unit, step=draw(st.sampled_from([1, 2, 7, 600]))
    )
    lock_time: Any = Height(draw(st.integers(10_000, 499_999_999)))
    if unit == "seconds":
        lock_time = MedianTime(draw(st.integers(600_000_000, 4_294_967_295)))
    capacity = Amount(draw(st.one_of(st.integers(1_100, 3_000), st.integers(1_100, 100_000_000))))
    script = payout(draw(st.sampled_from(PAYOUT_KINDS)), "payer")
    return make_terms(offer, capacity, script, lock_time)


def form_of(terms: Terms) -> UpdateForm:
    form = update_form(terms)
    assert form is not None
    return form


@st.composite
def payments(draw: st.DrawFn) -> tuple[UpdateForm, int, int]:
    """A channel's form, a number and a total; often where an output begins or ends to be left out."""
    form = form_of(draw(channels()))
    number = draw(st.one_of(st.integers(1, form.last), st.sampled_from([1, 2, form.last])))
    capacity = form.terms.capacity.sat
    edge = capacity - form.least_change
    near = [paid for paid in (form.dust, edge - 1, edge, edge + 1, capacity) if form.dust <= paid <= capacity]
    return form, number, draw(st.one_of(st.sampled_from(near), st.integers(form.dust, capacity)))


@settings(max_examples=150)
@given(payments())
def test_the_form_gives_the_very_bytes_of_the_plain_way(payment: tuple[UpdateForm, int, int]) -> None:
    form, number, paid = payment
    terms = form.terms
    transaction = scheme_of(terms).update(number, Amount(paid))
    assert form.lock_time(number) == transaction.lock_time
    assert form.sighash(number, paid) == channel_sighash(terms, transaction)
    signature = PAYER.sign_update(terms, number, Amount(paid))
    assert PAYER.sign_update_in(form, number, paid) == signature
    plain = signed_message(terms, transaction, terms.payer_key, signature)
    assert form.message(number, paid, signature) == plain.to_bytes()
    ours = PAYEE.sign_update(terms, number, Amount(paid))
    whole = complete(terms, transaction, signature, ours)
    assert form.complete(number, paid, signature, ours) == whole.to_bytes()


@settings(max_examples=150)
@given(payments())
def test_what_the_form_gives_it_reads(payment: tuple[UpdateForm, int, int]) -> None:
    form, number, paid = payment
    signature = PAYER.sign_update(form.terms, number, Amount(paid))
    assert form.read(form.message(number, paid, signature)) == (number, paid, signature)


TERMS = make_terms(make_offer(step=2))
FORM = form_of(TERMS)
GOOD = update_psbt(TERMS, 3, 5000).to_bytes()
ALONE = update_psbt(TERMS, 3, 99_900).to_bytes()


@settings(max_examples=400)
@given(st.sampled_from([GOOD, ALONE]), st.data())
def test_a_message_that_is_bent_anywhere_is_read_as_the_rules_read_it_or_not_at_all(
    message: bytes, data: st.DataObject
) -> None:
    """Bytes changed, left out or put in: what the form still reads, the rules establish too, signature apart."""
    at = data.draw(st.integers(0, len(message)))
    put = data.draw(st.binary(max_size=3))
    bent = message[:at] + put + message[at + data.draw(st.integers(0, 3)) :]
    found = FORM.read(bent)
    if found is None:
        return
    number, paid, signature = found
    assert FORM.message(number, paid, signature) == bent
    psbt = Psbt.from_bytes(bent)
    assert psbt.inputs[0].partial_sigs == {TERMS.payer_key.sec: signature}
    assert psbt.tx == scheme_of(TERMS).update(number, Amount(paid))
    broken = [rule.slug for rule in explain(incoming_rules(psbt, TERMS)) if not rule.ok]
    assert not broken or broken[0].startswith(("signature", "sighash-type")), broken


def test_the_form_reads_no_other_message() -> None:
    """Nothing, a part, more, a settlement, numbers and totals out of range, another channel's update."""
    assert FORM.read(b"") is None
    assert not [length for length in range(len(GOOD)) if FORM.read(GOOD[:length]) is not None]
    assert FORM.read(GOOD + b"\x00") is None
    assert FORM.read(settlement_psbt(TERMS, 5000).to_bytes()) is None
    other = make_terms(make_offer(step=2), salt=1)
    assert FORM.read(signed(other, scheme_of(other).update(3, Amount(5000))).to_bytes()) is None
    good = FORM.read(GOOD)
    assert good is not None
    for number, paid in ((0, 5000), (FORM.last + 1, 5000), (3, FORM.dust - 1)):
        assert FORM.read(FORM.message(number, paid, good[2])) is None, (number, paid)


def test_a_lock_time_between_two_updates_is_not_read() -> None:
    lock_time = FORM.lock_time(3)
    other = (lock_time + 1).to_bytes(4, "little")
    assert FORM.read(GOOD.replace(lock_time.to_bytes(4, "little"), other)) is None


@pytest.mark.parametrize(("capacity", "lock_time"), [(500, None), (100_000, 146)])
def test_a_channel_of_hardly_any_updates_has_no_form(capacity: int, lock_time: int | None) -> None:
    """Too small for change beside a payment; one update and no more: such are built one by one."""
    offer = make_offer(min_capacity=Amount(1), settle_window=144)
    height = None if lock_time is None else Height(lock_time)
    assert update_form(make_terms(offer, Amount(capacity), refund_lock_time=height)) is None
