"""The judge itself: it passes what is right and fails on what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.judge import Judge, Unjust, channel_output, judge_wallet, taproot_script
from support.protocol import (
    PAYEE,
    PAYEE_SECRET,
    PAYER,
    PAYER_SECRET,
    STRANGER_SECRET,
    bent,
    complete,
    facts_of,
    make_funded,
    make_funding,
    make_offer,
    make_secured,
    make_terms,
    replace,
    scheme_of,
    sign,
    update_psbt,
)

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payee
from mpchan.channel.construction.two_leaves import TwoLeaves, tree_of
from mpchan.units import Amount, Height, lock_time_from_int
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord

UNJUDGED_IN_TAPROOT = TwoLeaves.complete  # as it is before any test begins
TERMS = make_terms()
REFUND = make_secured(TERMS).refund
OUTPUT = channel_output(TERMS.funding_value.sat, PAYER.public_key.sec, PAYEE.public_key.sec)


def test_judge_passes_a_good_transaction() -> None:
    judge = Judge()
    judge.check(REFUND, [OUTPUT])
    assert (judge.passed, judge.refused) == (1, [])


def swap_signatures(transaction: Transaction) -> Transaction:
    empty, first, second, script = transaction.inputs[0].witness
    return transaction.with_witness(0, (empty, second, first, script))


def strangers_signature(transaction: Transaction) -> Transaction:
    empty, _, second, script = transaction.inputs[0].witness
    return transaction.with_witness(0, (empty, sign(STRANGER_SECRET, TERMS, transaction), second, script))


def null_dummy(transaction: Transaction) -> Transaction:
    return transaction.with_witness(0, (b"\x01", *transaction.inputs[0].witness[1:]))


@pytest.mark.parametrize(
    "spoil",
    [
        swap_signatures,
        strangers_signature,
        null_dummy,
        lambda transaction: bent(transaction, lock_time=transaction.lock_time + 1),
        lambda transaction: transaction.without_witness(),
        lambda transaction: replace(transaction, outputs=transaction.outputs * 2),
    ],
    ids=["swapped", "stranger", "null dummy", "lock time", "no witness", "outputs"],
)
def test_judge_fails_on_a_bad_transaction(spoil: Callable[[Transaction], Transaction]) -> None:
    judge = Judge()
    with pytest.raises(Unjust):
        judge.check(spoil(REFUND), [OUTPUT])
    assert judge.passed == 0
    assert len(judge.refused) == 1


def test_judge_fails_on_another_amount() -> None:
    more = replace(OUTPUT, value=OUTPUT.value + Amount(1))
    with pytest.raises(Unjust):
        Judge().check(REFUND, [more])


def test_whatever_a_party_completes_is_judged(judge: Judge) -> None:
    before = judge.passed
    make_secured(TERMS)
    assert judge.passed == before + 1
    payee.accept(payee.Active(TERMS), update_psbt(TERMS, 1, 1000), facts_of(TERMS), PAYEE)
    assert judge.passed == before + 3  # update_psbt secures a refund of its own


def test_a_bad_completion_fails_the_test_that_makes_it(judge: Judge) -> None:
    refund = scheme_of(TERMS).refund()
    wrong = PAYER.sign_update(TERMS, 1, Amount(1000))
    with pytest.raises(Unjust):
        TERMS.lock.complete(refund, both(wrong, PAYEE.sign_refund(TERMS)))
    assert judge.refused
    judge.refused.clear()  # else the fixture fails this test, as it should


def both(payers: bytes, payees: bytes) -> dict[PublicKey, bytes]:
    return {TERMS.payer_key: payers, TERMS.offer.payee_key: payees}


def keep(wallet: Path, record: PayerRecord | PayeeRecord) -> None:
    ChannelFiles(wallet / "channels", REGTEST).save(record, "made", None)


def test_a_wallets_files_are_judged(tmp_path: Path) -> None:
    (tmp_path / "channels").mkdir()
    funded = make_funded(TERMS)
    keep(tmp_path, PayerRecord(0, funded))
    assert judge_wallet(tmp_path) == 1
    state, _ = payee.accept(payee.Active(TERMS), update_psbt(TERMS, 1, 1000), facts_of(TERMS), PAYEE)
    keep(tmp_path, PayeeRecord(0, state))
    assert judge_wallet(tmp_path) == 1


def test_a_bad_transaction_in_a_wallet_is_found(tmp_path: Path) -> None:
    (tmp_path / "channels").mkdir()
    funded = make_funded(TERMS)
    keep(tmp_path, PayerRecord(0, replace(funded, refund=swap_signatures(funded.refund))))
    with pytest.raises(Unjust):
        judge_wallet(tmp_path)
    keep(tmp_path, PayerRecord(0, replace(funded, funding=make_funding(TERMS.offer, Amount(5000))[0])))
    with pytest.raises(Unjust, match="does not make"):
        judge_wallet(tmp_path)
    other = scheme_of(make_terms(salt=1)).refund().with_witness(0, funded.refund.inputs[0].witness)
    keep(tmp_path, PayerRecord(0, replace(funded, refund=other)))
    with pytest.raises(Unjust, match="spends something else"):
        judge_wallet(tmp_path)


def test_judged_complete_is_the_real_one_behind() -> None:
    refund = scheme_of(TERMS).refund()
    signatures = (PAYER.sign_refund(TERMS), PAYEE.sign_refund(TERMS))
    assert TERMS.lock.complete(refund, both(*signatures)) == complete(TERMS, refund, *signatures)


def test_the_output_of_a_channel_in_taproot_is_worked_out_by_itself() -> None:
    """From keys and L_refund alone; any other value of them makes another output."""
    for refund_at in (144, 2016, 840_024, 1_700_006_400):
        for one, two in ((PAYER, PAYEE), (PAYEE, PAYER)):
            keys = one.public_key, two.public_key
            tree = tree_of(*keys, lock_time_from_int(refund_at))
            script = taproot_script(keys[0].sec, keys[1].sec, refund_at)
            assert script == tree.script_pubkey
            assert script != taproot_script(keys[1].sec, keys[0].sec, refund_at)
            assert script != taproot_script(keys[0].sec, keys[1].sec, refund_at + 36)


@pytest.mark.parametrize("spoilt", ["refund_at", "payer_key", "value"])
def test_a_completion_in_taproot_is_judged(spoilt: str) -> None:
    """One by a lock that is wrong about what is spent is refused, although it is right by its own lights."""
    judge, offer = Judge(), make_offer(version=2, scheme="taproot", own_terms={"made_at": 1000})
    lock = TwoLeaves(offer, PAYER.public_key, Amount(50_000), TERMS.payer_script, Height(2016))
    update = replace(scheme_of(TERMS).settlement(Amount(5000)), lock_time=0)
    secret = {PAYER.public_key: PAYER_SECRET, PAYEE.public_key: PAYEE_SECRET}
    signatures = {key: lock.sign_checked(each, update) for key, each in secret.items()}
    complete = judge.judged_complete(UNJUDGED_IN_TAPROOT)
    assert complete(lock, update, signatures).has_witness
    assert judge.passed == 1
    changes = {"refund_at": Height(2052), "payer_key": STRANGER_SECRET.public_key, "value": Amount(50_001)}
    other = replace(lock, **{spoilt: changes[spoilt]})
    with pytest.raises(Unjust):
        complete(other, update, {**signatures, other.payer_key: signatures[PAYER.public_key]})
