"""The four kinds of transaction, their sizes and their outputs (guide: protocol)."""

from __future__ import annotations

import hashlib

import pytest
from support.protocol import (
    CAPACITY,
    PAYEE,
    PAYER,
    PAYER_SCRIPT,
    PAYOUT_KINDS,
    complete,
    facts_of,
    make_funded,
    make_funding,
    make_offer,
    make_opening,
    make_secured,
    make_terms,
    outputs_of,
    payout,
    private_key,
    replace,
    scheme_of,
    settlement_psbt,
    unsigned,
    update_psbt,
    witness_script,
    witness_signatures,
)

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payee, payer
from mpchan.channel.construction.two_of_two import spend_vsize as channel_spend_vsize
from mpchan.channel.terms import Terms, funding_output
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate, Height, OutPoint

DUST = {"p2pkh": 546, "p2sh": 540, "p2wpkh": 294, "p2wsh": 330, "p2tr": 330}
"""Bitcoin Core's limits at its default -dustrelayfee, by the kind of output."""

REFUND_VSIZE = {"p2pkh": 141, "p2sh": 139, "p2wpkh": 138, "p2wsh": 150, "p2tr": 150}
OUTPUT_SIZE = {"p2pkh": 34, "p2sh": 32, "p2wpkh": 31, "p2wsh": 43, "p2tr": 43}

EVERY_PAYOUT = [(ours, theirs) for ours in PAYOUT_KINDS for theirs in PAYOUT_KINDS]


def completed_update(terms: Terms, number: int, paid: int) -> Transaction:
    state, _ = payee.accept(payee.Active(terms), update_psbt(terms, number, paid), facts_of(terms), PAYEE)
    assert isinstance(state, payee.Active)
    assert state.best is not None
    return state.best.transaction


def completed_settlement(terms: Terms, paid: int) -> Transaction:
    state, _ = payee.accept(payee.Active(terms), settlement_psbt(terms, paid), facts_of(terms), PAYEE)
    assert isinstance(state, payee.Closing)
    assert state.settlement is not None
    return state.settlement.transaction


# funding ------------------------------------------------------------------------------------------


def test_funding_output_is_the_sorted_two_of_two() -> None:
    ours, theirs = PAYER.public_key.sec, private_key("payee").public_key.sec
    low, high = min(ours, theirs), max(ours, theirs)
    script = bytes.fromhex("5221") + low + bytes.fromhex("21") + high + bytes.fromhex("52ae")
    offer = make_offer()
    output = funding_output(offer, CAPACITY, PAYER.public_key, PAYER_SCRIPT)
    assert output.script_pubkey == bytes.fromhex("0020") + hashlib.sha256(script).digest()
    assert witness_script(make_terms(offer)) == script


def test_funding_script_is_the_same_whichever_key_is_the_payers() -> None:
    """BIP-0067 order: one of these two pairs stands against the order of the roles."""
    for label in ("one key", "another key", "a third key", "a fourth key"):
        key = private_key(label).public_key
        terms = replace(make_terms(), payer_key=key)
        code = witness_script(terms)
        assert code[2:35] < code[36:69]
        assert {code[2:35], code[36:69]} == {key.sec, terms.offer.payee_key.sec}


def test_funding_is_made_of_one_channel_output_worth_capacity_and_reserve() -> None:
    terms = make_terms(make_offer(fee_rate=FeeRate(1000)))
    assert terms.funding_value == Amount(CAPACITY.sat + 169)
    assert terms.reserve == Amount(169)
    assert terms.capacity == CAPACITY


def test_no_signature_of_the_funding_exists_before_the_refund_is_complete() -> None:
    """The type of each phase says so: only what holds the complete refund can take a signed funding."""
    opening = make_opening(make_terms())
    assert not opening.funding.has_witness
    secured = make_secured(make_terms())
    assert not secured.funding.has_witness
    assert [len(item) for item in secured.refund.inputs[0].witness[:1]] == [0]
    assert all(witness_signatures(secured.refund))
    with pytest.raises(AttributeError):
        payer.fund(opening, opening.funding, sends=True)  # type: ignore[arg-type]


def test_a_signed_funding_with_another_txid_is_not_taken() -> None:
    secured = make_secured(make_terms())
    other = replace(secured.funding, lock_time=1)
    with pytest.raises(NotPossible) as caught:
        payer.fund(secured, other, sends=True)
    assert caught.value.slug == "funding-changed"


# refund -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PAYOUT_KINDS)
def test_refund_pays_everything_but_its_fee_back_to_the_payer(kind: str) -> None:
    script = payout(kind, "payer")
    terms = make_terms(make_offer(fee_rate=FeeRate(1500)), payer_script=script)
    refund = scheme_of(terms).refund()
    fee = -(-1500 * REFUND_VSIZE[kind] // 1000)
    assert outputs_of(refund) == [(terms.funding_value.sat - fee, script)]
    assert [source.outpoint for source in refund.inputs] == [terms.outpoint]
    assert refund.lock_time == terms.refund_lock_time.value > 0


def test_refund_request_holds_no_signature() -> None:
    request = payer.refund_request(make_opening(make_terms()))
    assert request.inputs[0].partial_sigs == {}
    assert not request.inputs[0].is_final


def test_payee_signs_the_refund_first_and_alone() -> None:
    terms = make_terms()
    reply = payee.signed_refund(terms, PAYEE)
    assert set(reply.inputs[0].partial_sigs) == {PAYEE.public_key.sec}
    assert reply.tx == scheme_of(terms).refund()


# updates and settlement ---------------------------------------------------------------------------


def test_update_is_the_refund_with_other_outputs_and_a_lower_lock_time() -> None:
    terms = make_terms()
    refund = scheme_of(terms).refund()
    previous = refund.lock_time
    for number in (1, 2, 3):
        update = scheme_of(terms).update(number, Amount(1000 * number))
        assert replace(update, outputs=refund.outputs, lock_time=refund.lock_time) == refund
        assert outputs_of(update) == [
            (100_000 - 1000 * number, PAYER_SCRIPT),
            (1000 * number, terms.offer.payee_script),
        ]
        assert update.lock_time < previous
        previous = update.lock_time


def test_settlement_is_the_final_balance_with_lock_time_0() -> None:
    terms = make_terms()
    settlement = scheme_of(terms).settlement(Amount(40_000))
    assert settlement.lock_time == 0
    assert replace(settlement, lock_time=scheme_of(terms).update(5, Amount(40_000)).lock_time) == scheme_of(
        terms
    ).update(5, Amount(40_000))


def test_settlement_can_carry_the_last_payment() -> None:
    terms = make_terms()
    funded = replace(make_funded(terms), number=3, paid=Amount(5000))
    settling = payer.settle(funded, Amount(7000), facts_of(terms))
    assert settling.total == Amount(7000)
    assert outputs_of(payer.settlement_message(settling, PAYER).tx)[1][0] == 7000


def test_settlement_with_nothing_paid_gives_all_back() -> None:
    terms = make_terms()
    settling = payer.settle(make_funded(terms), None, facts_of(terms))
    transaction = payer.settlement_message(settling, PAYER).tx
    assert outputs_of(transaction) == [(100_000, PAYER_SCRIPT)]
    assert transaction.lock_time == 0


@pytest.mark.parametrize(("offer_version", "version"), [(1, 2), (2, 3)])
def test_sequence_and_version_are_the_same_everywhere(offer_version: int, version: int) -> None:
    """0xfffffffd: the lock time binds (BIP-0065), and bit 31 keeps BIP-0068 away. The offer says the version."""
    offer = make_offer(version=offer_version)
    assert offer.transaction_version == version
    built = scheme_of(make_terms(offer))
    for transaction in (built.refund(), built.update(1, Amount(1000)), built.settlement(Amount(1000))):
        assert [source.sequence for source in transaction.inputs] == [0xFFFFFFFD]
        assert transaction.version == version


# sizes --------------------------------------------------------------------------------------------


def weight_with_full_signatures(transaction: Transaction) -> int:
    """Weight (BIP-0141) of a spend of the funding when both signatures have 72 bytes."""
    source = transaction.inputs[0]
    stack = (b"", bytes(72), bytes(72), source.witness[3])
    padded = replace(transaction, inputs=(replace(source, witness=stack),))
    assert len(source.witness) == 4
    return 3 * len(padded.to_bytes(include_witness=False)) + len(padded.to_bytes())


@pytest.mark.parametrize(("ours", "theirs"), EVERY_PAYOUT)
def test_close_is_as_large_as_its_fee_says(ours: str, theirs: str) -> None:
    terms = make_terms(make_offer(theirs, fee_rate=FeeRate(1000)), payer_script=payout(ours, "payer"))
    vsize = channel_spend_vsize(terms.payer_script, terms.offer.payee_script)
    for close in (completed_update(terms, 1, 50_000), completed_settlement(terms, 50_000)):
        assert -(-weight_with_full_signatures(close) // 4) == vsize
        assert vsize - 1 <= close.vsize <= vsize
        assert terms.funding_value.sat - sum(value for value, _ in outputs_of(close)) == vsize
    by_hand = (4 * (51 + OUTPUT_SIZE[ours] + OUTPUT_SIZE[theirs]) + 222 + 3) // 4
    assert terms.reserve == Amount(by_hand)


@pytest.mark.parametrize("ours", PAYOUT_KINDS)
def test_refund_is_as_large_as_its_fee_says(ours: str) -> None:
    terms = make_terms(make_offer(fee_rate=FeeRate(1000)), payer_script=payout(ours, "payer"))
    refund = make_secured(terms).refund
    assert -(-weight_with_full_signatures(refund) // 4) == REFUND_VSIZE[ours]
    assert REFUND_VSIZE[ours] - 1 <= refund.vsize <= REFUND_VSIZE[ours]
    assert terms.funding_value.sat - refund.outputs[0].value.sat == REFUND_VSIZE[ours]


def test_sizes_that_the_design_names() -> None:
    terms = make_terms()
    assert channel_spend_vsize(terms.payer_script, terms.offer.payee_script) == 169
    assert channel_spend_vsize(terms.payer_script) == 138


@pytest.mark.parametrize(("rate", "reserve", "refund_fee"), [(1, 1, 1), (1000, 169, 138), (1001, 170, 139)])
def test_fees_are_rounded_up(rate: int, reserve: int, refund_fee: int) -> None:
    terms = make_terms(make_offer(fee_rate=FeeRate(rate)))
    assert terms.reserve == Amount(reserve)
    assert terms.funding_value.sat - scheme_of(terms).refund().outputs[0].value.sat == refund_fee


def test_reserve_counts_both_outputs_also_where_one_is_left_out() -> None:
    terms = make_terms(make_offer(fee_rate=FeeRate(1000)))
    only_payer = completed_settlement(terms, 0)
    only_payee = completed_settlement(terms, 100_000)
    for close in (only_payer, only_payee):
        assert outputs_of(close)[0][0] == 100_000
        assert len(close.outputs) == 1
        assert terms.funding_value.sat - 100_000 == 169 > close.vsize


# outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PAYOUT_KINDS)
def test_dust_limits_are_bitcoin_cores(kind: str) -> None:
    assert dust_limit(payout(kind, "payer")) == Amount(DUST[kind])


@pytest.mark.parametrize("kind", PAYOUT_KINDS)
def test_payers_change_below_dust_goes_to_the_fee(kind: str) -> None:
    terms = make_terms(payer_script=payout(kind, "payer"))
    limit = DUST[kind]
    at_limit = scheme_of(terms).update(1, Amount(100_000 - limit))
    assert outputs_of(at_limit) == [
        (limit, terms.payer_script),
        (100_000 - limit, terms.offer.payee_script),
    ]
    below = scheme_of(terms).update(1, Amount(100_000 - limit + 1))
    assert outputs_of(below) == [(100_000 - limit + 1, terms.offer.payee_script)]
    assert outputs_of(scheme_of(terms).settlement(Amount(100_000 - limit + 1))) == outputs_of(below)
    assert outputs_of(completed_update(terms, 1, 100_000 - limit + 1)) == outputs_of(below)


def test_an_output_of_0_is_left_out() -> None:
    terms = make_terms()
    assert outputs_of(scheme_of(terms).update(1, Amount(100_000))) == [(100_000, terms.offer.payee_script)]
    assert outputs_of(scheme_of(terms).settlement(Amount(0))) == [(100_000, PAYER_SCRIPT)]


def test_completed_transactions_are_the_unsigned_ones_with_a_witness() -> None:
    terms = make_terms()
    assert unsigned(completed_update(terms, 2, 7000)) == scheme_of(terms).update(2, Amount(7000))
    assert unsigned(completed_settlement(terms, 7000)) == scheme_of(terms).settlement(Amount(7000))
    assert unsigned(make_secured(terms).refund) == scheme_of(terms).refund()


@pytest.mark.parametrize("label", [f"payer key {number}" for number in range(6)])
def test_signatures_stand_in_the_order_of_the_keys(label: str) -> None:
    """Judged by the engine through the fixture ``judge``: in the wrong order OP_CHECKMULTISIG fails."""
    key = private_key(label)
    offer = make_offer()
    funding = funding_output(offer, CAPACITY, key.public_key, PAYER_SCRIPT)
    terms = Terms(
        offer,
        OutPoint(make_funding(offer, CAPACITY)[0].txid, 0),
        funding.value,
        key.public_key,
        PAYER_SCRIPT,
        Height(1306),
    )
    payer_key = payer.ChannelKey(key)  # type: ignore[attr-defined]
    opening = payer.Opening(terms, make_funding(offer, CAPACITY)[0], ())
    refund = payer.secure(opening, payee.signed_refund(terms, PAYEE), payer_key).refund
    rebuilt = complete(
        terms, scheme_of(terms).refund(), payer_key.sign_refund(terms), PAYEE.sign_refund(terms)
    )
    assert refund == rebuilt
