"""The form of a channel's updates: filled in, it is to the byte what is built without it; and it reads nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.protocol import (
    PAYEE,
    PAYER,
    PAYER_SCRIPT,
    PAYOUT_KINDS,
    STRANGER_SECRET,
    make_offer,
    make_terms,
    payout,
    private_key,
    settlement_psbt,
)

from mpchan.bitcoin.psbt import Psbt
from mpchan.channel.construction.base import Form
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.rules import explain
from mpchan.channel.taking import incoming_rules
from mpchan.channel.terms import Terms, funding_output
from mpchan.units import Amount, Height, LockTime, MedianTime, OutPoint, Txid

SCHEMES = ("decrementing", "taproot")


def terms_of(
    scheme: str, offer: dict[str, Any], capacity: int, payer_script: bytes, lock_time: LockTime | None = None
) -> Terms:
    """A channel in either construction."""
    if scheme == "decrementing":
        return make_terms(make_offer(**offer), Amount(capacity), payer_script, lock_time)
    changes = {key: value for key, value in offer.items() if key != "step"}
    made = make_offer(**changes, version=2, scheme=scheme, own_terms={"made_at": 1000})
    refund_at = construction_of(made).refund_at(lock_time or Height(2000))
    output = funding_output(made, Amount(capacity), PAYER.public_key, payer_script, refund_at)
    outpoint = OutPoint(Txid(bytes(range(32))), 1)
    return Terms(made, outpoint, output.value, PAYER.public_key, payer_script, refund_at)


@st.composite
def channels(draw: st.DrawFn, scheme: str) -> Terms:
    """Any channel that has a form, of either lock time and any kind of outputs."""
    unit = draw(st.sampled_from(["blocks", "seconds"]))
    offer = {"lock_time_unit": unit, "step": draw(st.sampled_from([1, 2, 7, 600]))}
    lock_time: Any = Height(draw(st.integers(10_000, 499_999_900)))
    if unit == "seconds":
        lock_time = MedianTime(draw(st.integers(600_000_000, 2_147_400_000)))
    capacity = draw(st.one_of(st.integers(1_100, 3_000), st.integers(1_100, 100_000_000)))
    script = payout(draw(st.sampled_from(PAYOUT_KINDS)), "payer")
    offer["payout_kind"] = draw(st.sampled_from(PAYOUT_KINDS))
    return terms_of(scheme, offer, capacity, script, lock_time)


def form_of(terms: Terms) -> Form:
    form = construction_of(terms.offer).form(terms)
    assert form is not None
    return form


@st.composite
def payments(draw: st.DrawFn, scheme: str) -> tuple[Form, int, int]:
    """A channel's form, a number and a total; often where an output begins or ends to be left out."""
    form = form_of(draw(channels(scheme)))
    last = 1_000_000 if form.last is None else form.last
    number = draw(st.one_of(st.integers(1, last), st.sampled_from([1, 2, last])))
    capacity = form.terms.capacity.sat
    edge = capacity - form.least_change
    near = [paid for paid in (form.dust, edge - 1, edge, edge + 1, capacity) if form.dust <= paid <= capacity]
    return form, number, draw(st.one_of(st.sampled_from(near), st.integers(form.dust, capacity)))


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=100)
@given(st.data())
def test_the_form_gives_the_very_bytes_of_the_plain_way(scheme: str, data: st.DataObject) -> None:
    """And it reads them: number, total and signature."""
    form, number, paid = data.draw(payments(scheme))
    terms, key = form.terms, PAYER.public_key
    meant = terms.schedule.update(number, Amount(paid))
    transaction = terms.schedule.build(meant)
    assert form.lock_time(number) == transaction.lock_time
    signature = PAYER.sign_update(terms, number, Amount(paid))
    assert PAYER.sign_update_in(form, number, paid) == signature
    assert PAYEE.sign_update_in(form, number, paid) == PAYEE.sign_update(terms, number, Amount(paid))
    plain = terms.lock.message(transaction, key, signature).to_hex()
    assert form.message(number, paid, signature) == plain
    assert form.read(plain) == (meant.number, paid, signature)
    assert form.verify(key, number, paid, signature)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signature_is_good_for_one_update_by_one_key(scheme: str) -> None:
    form = FORMS[scheme]
    good = PAYER.sign_update_in(form, 3, 5000)
    assert form.verify(PAYER.public_key, 3, 5000, good)
    assert not form.verify(PAYER.public_key, 3, 5001, good)
    assert not form.verify(PAYER.public_key, 3, 99_900, good)
    assert not form.verify(PAYEE.public_key, 3, 5000, good)
    assert not form.verify(PAYER.public_key, 3, 5000, form.sign(STRANGER_SECRET, 3, 5000))
    for bad in (b"", good[:-1], good + b"\x01", good[:-1] + b"\x03", good[:9] + b"\x00" + good[10:]):
        assert not form.verify(PAYER.public_key, 3, 5000, bad)
    other = form_of(terms_of(scheme, {"step": 2}, 100_001, PAYER_SCRIPT))
    assert not other.verify(PAYER.public_key, 3, 5000, good)
    assert form.verify(PAYER.public_key, 4, 5000, good) == (form.last is None)


FORMS = {scheme: form_of(terms_of(scheme, {"step": 2}, 100_000, PAYER_SCRIPT)) for scheme in SCHEMES}


def message(scheme: str, number: int = 3, paid: int = 5000) -> bytes:
    """A good one, built without the form."""
    terms = FORMS[scheme].terms
    transaction = terms.schedule.build(terms.schedule.update(number, Amount(paid)))
    signature = PAYER.sign_update(terms, number, Amount(paid))
    return terms.lock.message(transaction, terms.payer_key, signature).to_bytes()


GOOD = {(scheme, paid): message(scheme, 3, paid) for scheme in SCHEMES for paid in (5000, 99_900)}


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=300)
@given(st.sampled_from([5000, 99_900]), st.data())
def test_a_message_that_is_bent_anywhere_is_read_as_the_rules_read_it_or_not_at_all(
    scheme: str, paid: int, data: st.DataObject
) -> None:
    """Bytes changed, left out or put in: what the form still reads, the rules establish too, signature apart."""
    good, form = GOOD[scheme, paid], FORMS[scheme]
    at = data.draw(st.integers(0, len(good)))
    put = data.draw(st.binary(max_size=3))
    bent = good[:at] + put + good[at + data.draw(st.integers(0, 3)) :]
    found = form.read(bent.hex())
    if found is None:
        return
    number, total, signature = found
    assert bytes.fromhex(form.message(number or 1, total, signature)) == bent
    psbt, terms = Psbt.from_bytes(bent), form.terms
    assert terms.lock.signature_from(psbt, terms.payer_key) == signature
    assert psbt.tx == terms.schedule.build(terms.schedule.update(number or 1, Amount(total)))
    broken = [rule.slug for rule in explain(incoming_rules(psbt, terms)) if not rule.ok]
    assert not broken or broken[0].startswith(("signature", "sighash-type")), broken


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_bytes_in_another_writing_are_not_read(scheme: str) -> None:
    """Capital digits, and white space between any two: the plain way reads them."""
    form, text = FORMS[scheme], GOOD[scheme, 5000].hex()
    assert form.read(text) is not None
    for at, digit in enumerate(text):
        if digit.isalpha():
            assert form.read(text[:at] + digit.upper() + text[at + 1 :]) is None
        for space in (" ", "\n", "_", "+", "\u0660"):
            assert form.read(text[:at] + space + text[at:]) is None
            assert form.read(text[:at] + space + text[at + 1 :]) is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_form_reads_no_other_message(scheme: str) -> None:
    """Nothing, a part, more, another lock time, totals out of range, another channel's update."""
    form, good = FORMS[scheme], GOOD[scheme, 5000]
    assert form.read("") is None
    text = good.hex()
    assert not [length for length in range(len(text)) if form.read(text[:length]) is not None]
    assert form.read(text + "00") is None
    outputs = (5000).to_bytes(8, "little") + good.split((5000).to_bytes(8, "little"), 1)[1][:23]
    lock_time = form.lock_time(3)
    for other in (lock_time + 1, 7 if lock_time else 1, form.terms.refund_lock_time.value):
        bent = good.replace(
            outputs + lock_time.to_bytes(4, "little"), outputs + other.to_bytes(4, "little"), 1
        )
        assert bent != good
        assert form.read(bent.hex()) is None
    found = form.read(text)
    assert found is not None
    for paid in (form.dust - 1, 0):
        assert form.read(form.message(3, paid, found[2])) is None, paid
    salted = form_of(terms_of(scheme, {"step": 2}, 100_001, PAYER_SCRIPT))
    assert salted.read(text) is None


def test_a_number_out_of_range_is_not_read() -> None:
    form = FORMS["decrementing"]
    assert form.last is not None
    signature = PAYER.sign_update_in(form, 1, 5000)
    for number in (0, form.last + 1):
        assert form.read(form.message(number, 5000, signature)) is None, number


def test_a_settlement_that_is_no_update_is_not_read() -> None:
    form = FORMS["decrementing"]
    assert form.read(settlement_psbt(form.terms, 5000).to_hex()) is None


@pytest.mark.parametrize(
    ("scheme", "capacity", "lock_time"),
    [("decrementing", 500, None), ("decrementing", 100_000, 146), ("taproot", 500, None)],
)
def test_a_channel_of_hardly_any_updates_has_no_form(
    scheme: str, capacity: int, lock_time: int | None
) -> None:
    """Too small for change beside a payment; one update and no more: such are built one by one."""
    offer = {"min_capacity": Amount(1), "settle_window": 144}
    height = None if lock_time is None else Height(lock_time)
    terms = terms_of(scheme, offer, capacity, PAYER_SCRIPT, height)
    assert construction_of(terms.offer).form(terms) is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signature_in_the_field_of_another_key_is_not_read(scheme: str) -> None:
    form = FORMS[scheme]
    terms, signature = form.terms, PAYER.sign_update_in(form, 3, 5000)
    transaction = terms.schedule.build(terms.schedule.update(3, Amount(5000)))
    for key in (PAYEE.public_key, private_key("nobody").public_key):
        assert form.read(terms.lock.message(transaction, key, signature).to_hex()) is None
