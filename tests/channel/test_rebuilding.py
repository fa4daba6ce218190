"""Checking by rebuilding (guide: protocol): nothing but the allowed transaction with the needed fields passes.

Two ways to try: random transactions near the good ones, signed by the payer without fault and judged by a
predicate that is written from the design alone; and random damage to the bytes of real messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.protocol import (
    PAYEE,
    PAYEE_SECRET,
    PAYER,
    PAYER_SCRIPT,
    PAYER_SECRET,
    TIP,
    facts_of,
    make_offer,
    make_opening,
    make_terms,
    message,
    payout,
    private_key,
    replace,
    scheme_of,
    settlement_psbt,
    sign,
    signed,
    update_psbt,
    witness_script,
)

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import InputMap, OutputMap, Psbt
from mpchan.bitcoin.psbt_map import GlobalMap
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.channel import payee, payer
from mpchan.channel.construction.refund_first import (
    refund_delay_rules,
    refund_request_rules,
    requested_keys_rules,
)
from mpchan.channel.messages import same_transaction_rules
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError, ParseError, Refused
from mpchan.units import Amount, Height, OutPoint, Txid

TERMS = make_terms(make_offer(step=2))
DEADLINE = TERMS.refund_lock_time.value - 144
HELD = (3, 5000)


def holding(number: int, paid: int) -> payee.PayeeState:
    state, _ = payee.accept(payee.Active(TERMS), update_psbt(TERMS, number, paid), facts_of(TERMS), PAYEE)
    return state


STATE = holding(*HELD)
FACTS = facts_of(TERMS)


# near the good ones -------------------------------------------------------------------------------

SCRIPTS = [PAYER_SCRIPT, TERMS.offer.payee_script, payout("p2wpkh", "stranger"), b"\x6a"]
AMOUNTS = st.one_of(
    st.sampled_from([0, 1, 293, 294, 295, 4999, 5000, 5001, 6000, 94_000, 95_000, 99_706, 99_707, 100_000]),
    st.integers(0, 100_400),
)


@st.composite
def balanced_outputs(draw: st.DrawFn) -> tuple[TxOut, ...]:
    """What an honest payer would write, often; one detail off, sometimes."""
    paid = draw(AMOUNTS)
    change = 100_000 - paid + draw(st.sampled_from([0] * 12 + [1, -1]))
    change_script, paid_script = (SCRIPTS[0], SCRIPTS[1])
    wrong = draw(st.sampled_from([None] * 8 + ["change", "paid", "order"]))
    if wrong == "change":
        change_script = draw(st.sampled_from(SCRIPTS))
    if wrong == "paid":
        paid_script = draw(st.sampled_from(SCRIPTS))
    pair = [(change, change_script), (paid, paid_script)]
    if wrong == "order":
        pair.reverse()
    cut = draw(st.sampled_from(["usual"] * 8 + ["none", "all"]))
    kept = [
        (value, script)
        for value, script in pair
        if value >= 0 and (cut == "none" or value >= (294 if script == PAYER_SCRIPT else 1))
    ]
    return tuple(TxOut(Amount(value), script) for value, script in (kept[:1] if cut == "all" else kept))


def near_transactions() -> st.SearchStrategy[Transaction]:
    usually = st.sampled_from
    lock_times = st.one_of(
        st.sampled_from([0, DEADLINE, DEADLINE - 2 * 3, DEADLINE - 2 * 4, TERMS.refund_lock_time.value]),
        st.integers(DEADLINE - 20, DEADLINE + 2),
        st.sampled_from([1, 2, 499_999_999, 500_000_000, 0xFFFFFFFF]),
    )
    sequences = usually([0xFFFFFFFD] * 12 + [0xFFFFFFFF, 0xFFFFFFFE, 0])
    outpoints = usually(
        [TERMS.outpoint] * 12 + [OutPoint(TERMS.outpoint.txid, 1), OutPoint(Txid(bytes(32)), 0)]
    )
    inputs = st.builds(TxIn, outpoints, sequences)
    listed = usually([1] * 12 + [0, 2]).flatmap(lambda size: st.tuples(*[inputs] * size))
    return st.builds(
        Transaction,
        usually([2] * 12 + [0, 1, 3]),
        listed,
        balanced_outputs(),
        lock_times,
    )


def allowed(transaction: Transaction) -> tuple[int, int] | None:
    """Number (0 for a settlement) and total of a message that the design lets supersede ``HELD``; else None."""
    if transaction.version != 2:
        return None
    if [(source.outpoint, source.sequence) for source in transaction.inputs] != [
        (TERMS.outpoint, 0xFFFFFFFD)
    ]:
        return None
    outputs = [(output.value.sat, output.script_pubkey) for output in transaction.outputs]
    paid = sum(value for value, script in outputs if script == TERMS.offer.payee_script)
    if not 294 <= paid <= 100_000:
        return None
    change = [(100_000 - paid, PAYER_SCRIPT)] if 100_000 - paid >= 294 else []
    if outputs != [*change, (paid, TERMS.offer.payee_script)]:
        return None
    if transaction.lock_time == 0:
        return (0, paid) if paid >= HELD[1] else None
    number, rest = divmod(DEADLINE - transaction.lock_time, 2)
    if rest or not 1 <= transaction.lock_time <= DEADLINE - 2:
        return None
    return (number, paid) if number > HELD[0] and paid > HELD[1] else None


@settings(max_examples=300)
@given(near_transactions(), st.sampled_from([1] * 10 + [2, 3, 0x81, 0]))
@example(scheme_of(TERMS).update(4, Amount(6000)), 1)
@example(scheme_of(TERMS).settlement(Amount(5000)), 1)
def test_exactly_the_allowed_transactions_pass(transaction: Transaction, sighash: int) -> None:
    expected = allowed(transaction) if sighash == 1 else None
    signable = bool(transaction.inputs)
    hostile = signed(TERMS, transaction, sighash=sighash) if signable else message(TERMS, transaction)
    duplicate = transaction == scheme_of(TERMS).update(*_held()) and sighash == 1
    try:
        state, receipt = payee.accept(STATE, hostile, FACTS, PAYEE)
    except MpchanError:
        assert expected is None
        assert not duplicate
        return
    if duplicate:
        assert receipt.duplicate
        assert state == STATE
        return
    assert expected is not None
    number, paid = expected
    assert receipt.paid == Amount(paid)
    assert receipt.received == Amount(paid - HELD[1])
    assert receipt.number == (number or HELD[0])


def _held() -> tuple[int, Amount]:
    return HELD[0], Amount(HELD[1])


def test_the_predicate_knows_good_ones() -> None:
    """Else the property above could hold with nothing accepted."""
    assert allowed(scheme_of(TERMS).update(4, Amount(6000))) == (4, 6000)
    assert allowed(scheme_of(TERMS).update(4, Amount(99_800))) == (4, 99_800)
    assert allowed(scheme_of(TERMS).settlement(Amount(5000))) == (0, 5000)
    assert allowed(scheme_of(TERMS).update(4, Amount(5000))) is None


# damaged bytes ------------------------------------------------------------------------------------


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The message with some bytes changed, added, taken away, doubled or moved."""
    places = st.integers(0, len(data) - 1)

    def apply(edits: list[tuple[str, int, int, bytes]]) -> bytes:
        found = bytearray(data)
        for kind, at, size, new in edits:
            at = min(at, len(found))
            if kind == "flip" and at < len(found):
                found[at] ^= 1 << (size % 8)
            elif kind == "set":
                found[at : at + len(new)] = new
            elif kind == "insert":
                found[at:at] = new
            elif kind == "delete":
                del found[at : at + size]
            elif kind == "double":
                found[at:at] = found[at : at + size]
            elif kind == "cut":
                del found[at:]
        return bytes(found)

    kinds = st.sampled_from(["flip", "set", "insert", "delete", "double", "cut"])
    edits = st.tuples(kinds, places, st.integers(1, 80), st.binary(min_size=1, max_size=4))
    return st.lists(edits, min_size=1, max_size=3).map(apply)


REQUEST = payer.refund_request(make_opening(TERMS))
REPLY = payee.signed_refund(TERMS, PAYEE)
UPDATE = update_psbt(TERMS, 4, 6000)
SETTLEMENT = settlement_psbt(TERMS, 6000)


def needed_fields(psbt: Psbt) -> tuple[Any, ...]:
    """All that the receiver relies on."""
    fields = psbt.inputs[0]
    return (
        psbt.tx,
        fields.witness_utxo,
        fields.witness_script,
        fields.sighash_type,
        fields.partial_sigs,
        fields.final_script_sig,
        fields.final_script_witness,
        fields.redeem_script,
    )


def accept_update(psbt: Psbt) -> object:
    return payee.accept(STATE, psbt, FACTS, PAYEE)


def sign_request(psbt: Psbt) -> object:
    assert set(enforce(requested_keys_rules(psbt))) == {PAYER.public_key.sec, PAYEE.public_key.sec}
    terms = enforce(refund_request_rules(psbt, TERMS.offer))
    enforce(refund_delay_rules(terms, TIP))
    return terms


def secure(psbt: Psbt) -> object:
    return payer.secure(make_opening(TERMS), psbt, PAYER)


RECEIVERS: dict[str, tuple[Psbt, Callable[[Psbt], object]]] = {
    "refund request": (REQUEST, sign_request),
    "signed refund": (REPLY, secure),
    "update": (UPDATE, accept_update),
    "settlement": (SETTLEMENT, accept_update),
}


@pytest.mark.parametrize("kind", RECEIVERS)
@settings(max_examples=200)
@given(data=st.data())
def test_damaged_bytes_are_never_accepted(kind: str, data: st.DataObject) -> None:
    """Unless what counts is as it was; and the refusal is always one of ours."""
    original, receive = RECEIVERS[kind]
    raw = data.draw(damaged(original.to_bytes()))
    try:
        psbt = decode_message(raw)
        if isinstance(psbt, Transaction):
            return
        result = receive(psbt)
    except MpchanError:
        return
    except AssertionError:
        # other keys: the request would be looked for under another offer
        assert kind == "refund request"
        return
    if kind == "refund request":
        assert_free_variables_only(psbt, result)
        return
    assert needed_fields(psbt) == needed_fields(original)
    assert result == receive(original)


def assert_free_variables_only(psbt: Psbt, terms: object) -> None:
    """A request is unsigned: another outpoint, value, address or lock time is just another request."""
    assert isinstance(terms, Terms)
    assert terms.offer == TERMS.offer
    assert terms.payer_key == PAYER.public_key
    assert needed_fields(psbt) == needed_fields(message(terms, scheme_of(terms).refund()))


@pytest.mark.parametrize("kind", RECEIVERS)
def test_every_single_bit_counts_or_is_ignored(kind: str) -> None:
    """Not one bit of a message can be flipped to another effect."""
    original, receive = RECEIVERS[kind]
    raw = original.to_bytes()
    expected = receive(original)
    passed = 0
    for at in range(len(raw)):
        for bit in range(0, 8, 1 if at % 7 == 0 else 5):
            bent = raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]
            try:
                psbt = decode_message(bent)
                if isinstance(psbt, Transaction):
                    continue
                result = receive(psbt)
            except (MpchanError, AssertionError):
                continue
            if kind == "refund request":
                assert_free_variables_only(psbt, result)
                continue
            assert result == expected, (at, bit)
            assert needed_fields(psbt) == needed_fields(original), (at, bit)
            passed += 1
    assert passed == 0


@pytest.mark.parametrize("kind", RECEIVERS)
def test_every_prefix_is_malformed(kind: str) -> None:
    raw = RECEIVERS[kind][0].to_bytes()
    for size in range(len(raw)):
        with pytest.raises(ParseError):
            decode_message(raw[:size])


# what is ignored ----------------------------------------------------------------------------------

UNKNOWN = (b"\xfc\x06mpchan\x00", b"a proprietary field")
DERIVATION = bytes(4) + (0x80000000).to_bytes(4, "little") + (7).to_bytes(4, "little")


def decorated(psbt: Psbt) -> Psbt:
    """With fields that other tools add: unknown ones and derivations, in every map."""
    assert psbt.inputs[0].witness_script is not None
    derivation = (b"\x06" + psbt.inputs[0].witness_script[2:35], DERIVATION)
    out = (b"\x02" + private_key("payer payout").public_key.sec, DERIVATION)
    return Psbt(
        psbt.tx,
        GlobalMap((*psbt.global_fields.pairs, UNKNOWN)),
        (InputMap((*psbt.inputs[0].pairs, derivation, UNKNOWN)),),
        tuple(OutputMap((out, UNKNOWN)) for _ in psbt.outputs),
    )


@pytest.mark.parametrize("kind", RECEIVERS)
def test_unknown_and_derivation_fields_are_ignored(kind: str) -> None:
    original, receive = RECEIVERS[kind]
    more = decorated(original)
    assert more != original
    assert decode_message(more.to_hex().encode()) == more
    assert receive(more) == receive(original)


def test_unknown_fields_are_not_echoed() -> None:
    terms = enforce(refund_request_rules(decorated(REQUEST), TERMS.offer))
    assert payee.signed_refund(terms, PAYEE) == REPLY


@pytest.mark.parametrize("kind", RECEIVERS)
def test_the_order_of_fields_does_not_matter(kind: str) -> None:
    original, receive = RECEIVERS[kind]
    turned = replace(original, inputs=(InputMap(original.inputs[0].pairs[::-1]),))
    assert turned.to_bytes() != original.to_bytes()
    assert receive(turned) == receive(original)


def test_a_message_has_the_fields_that_the_design_names() -> None:
    for psbt, signer in ((REQUEST, None), (REPLY, PAYEE), (UPDATE, PAYER), (SETTLEMENT, PAYER)):
        fields = psbt.inputs[0]
        assert fields.witness_utxo == TERMS.funding_txout
        assert fields.witness_script == witness_script(TERMS)
        assert fields.sighash_type == 1
        assert list(fields.partial_sigs) == ([] if signer is None else [signer.public_key.sec])
        assert len(fields.pairs) == (3 if signer is None else 4)
        assert len(psbt.global_fields.pairs) == 1
        assert all(not output.pairs for output in psbt.outputs)


# the free variables -------------------------------------------------------------------------------


def test_the_payers_key_is_the_one_that_is_not_the_offers() -> None:
    for label in ("low", "high", "left", "right"):
        key = private_key(label).public_key
        terms = replace(TERMS, payer_key=key)
        request = message(terms, scheme_of(terms).refund())
        assert enforce(refund_request_rules(request, TERMS.offer)).payer_key == key


@given(
    capacity=st.integers(1000, 100_000_000),
    delay=st.integers(288, 4320),
    kind=st.sampled_from(["p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr"]),
    vout=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_a_request_establishes_exactly_the_payers_terms(
    capacity: int, delay: int, kind: str, vout: int
) -> None:
    terms = make_terms(TERMS.offer, Amount(capacity), payout(kind, "payer"), Height(TIP.height + delay))
    terms = replace(terms, outpoint=OutPoint(terms.outpoint.txid, vout))
    request = message(terms, scheme_of(terms).refund())
    assert enforce(refund_request_rules(request, TERMS.offer)) == terms


@given(number=st.integers(1, 200), paid=st.integers(294, 100_000))
@settings(max_examples=60)
def test_an_update_establishes_exactly_number_and_total(number: int, paid: int) -> None:
    state, receipt = payee.accept(payee.Active(TERMS), update_psbt(TERMS, number, paid), FACTS, PAYEE)
    assert (receipt.number, receipt.paid, receipt.received) == (number, Amount(paid), Amount(paid))
    best = payee.best_of(state)
    assert best is not None
    assert (best.number, best.paid) == (number, Amount(paid))
    assert best.transaction.without_witness() == scheme_of(TERMS).update(number, Amount(paid))


def test_numbers_may_be_skipped() -> None:
    _, receipt = payee.accept(STATE, update_psbt(TERMS, 100, 6000), FACTS, PAYEE)
    assert receipt.number == 100


# the kind of a message ----------------------------------------------------------------------------


def test_lock_time_0_is_a_settlement_and_all_else_an_update() -> None:
    settled, receipt = payee.accept(STATE, SETTLEMENT, FACTS, PAYEE)
    assert isinstance(settled, payee.Closing)
    assert receipt.lock_time == 0
    updated, receipt = payee.accept(STATE, UPDATE, FACTS, PAYEE)
    assert isinstance(updated, payee.Active)
    assert receipt.lock_time == DEADLINE - 8


def test_the_peers_claim_of_the_amount_is_never_used() -> None:
    """A signature over another amount than ours fails, even where witness_utxo tells the same story."""
    more = TERMS.funding_value + Amount(1)
    lie = TxOut(more, TERMS.funding_txout.script_pubkey)
    transaction = scheme_of(TERMS).update(4, Amount(6000))
    key = PAYER.public_key.sec
    claims = {key: sign(PAYER_SECRET, TERMS, transaction, value=more.sat)}
    for fields in ({}, {b"\x01": lie.to_bytes()}):
        with pytest.raises(MpchanError) as caught:
            payee.accept(STATE, message(TERMS, transaction, claims, fields), FACTS, PAYEE)
        assert caught.value.slug == ("witness-utxo" if fields else "signature")


def test_only_the_other_partys_signature_counts() -> None:
    ours = sign(PAYEE_SECRET, TERMS, UPDATE.tx)
    with pytest.raises(MpchanError) as caught:
        payee.accept(STATE, message(TERMS, UPDATE.tx, {PAYEE.public_key.sec: ours}), FACTS, PAYEE)
    assert caught.value.slug == "missing-signature"


def test_terms_decide_not_the_message() -> None:
    """The same message under other terms is another channel's."""
    other: Terms = replace(TERMS, offer=make_offer(step=1))
    with pytest.raises(MpchanError):
        payee.accept(payee.Active(other), update_psbt(TERMS, 900, 6000), facts_of(other), PAYEE)


@pytest.mark.parametrize(
    "differs",
    [
        lambda good: good.with_witness(0, (b"",)),
        lambda good: replace(good, inputs=(replace(good.inputs[0], script_sig=b"\x00"),)),
        lambda good: replace(good, inputs=good.inputs * 2),
        lambda good: replace(good, outputs=good.outputs[::-1]),
        lambda good: replace(good, lock_time=good.lock_time + 1),
        lambda good: replace(good, version=3),
    ],
)
def test_equality_decides_whatever_the_named_differences_say(
    differs: Callable[[Transaction], Transaction],
) -> None:
    good = scheme_of(TERMS).update(4, Amount(6000))
    enforce(same_transaction_rules(good, good))
    with pytest.raises(Refused):
        enforce(same_transaction_rules(good, differs(good)))
