"""mpchan.bitcoin.tapscript and the sighash of a script path, with Bitcoin Core's engine as the judge of every spend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.judge import ENGINE, Judge, Unjust

from mpchan.bitcoin.schnorr import tagged_hash
from mpchan.bitcoin.script import push_number, sha256
from mpchan.bitcoin.sighash import taproot_script_constant_parts, taproot_script_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.taproot import TapLeaf, TaprootOutput
from mpchan.bitcoin.tapscript import (
    MAX_SCRIPT_LOCK_TIME,
    key_after_script,
    parse_key_after,
    parse_two_keys,
    two_keys_script,
)
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import ParseError
from mpchan.units import Amount, Height, LockTime, MedianTime, OutPoint, Txid, lock_time_from_int
from mpchan.values import replace

PAYER, PAYEE, STRANGER = (PrivateKey(bytes([number]) * 32) for number in (1, 2, 3))
PAYER_X, PAYEE_X = PAYER.public_key.x_only, PAYEE.public_key.x_only
LOCK_TIME = Height(1_008)
BOTH = TapLeaf(two_keys_script(PAYER_X, PAYEE_X))
REFUND = TapLeaf(key_after_script(PAYER_X, LOCK_TIME))
OUTPUT = TaprootOutput(STRANGER.public_key.x_only, (BOTH, REFUND))
SPENT = TxOut(Amount(100_000), OUTPUT.script_pubkey)

needs_engine = pytest.mark.skipif(not ENGINE, reason="the engine is not installed (mpchan engine install)")
LOCK_TIMES = st.integers(1, MAX_SCRIPT_LOCK_TIME).map(lock_time_from_int)


# --- the scripts ----------------------------------------------------------------------------------


def test_the_scripts_byte_by_byte() -> None:
    assert BOTH.script == b"\x20" + PAYER_X + b"\xad\x20" + PAYEE_X + b"\xac"
    assert REFUND.script == b"\x20" + PAYER_X + b"\xad\x02\xf0\x03\xb1"


@pytest.mark.parametrize(
    ("lock_time", "push"),
    [
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (32_767, "02ff7f"),
        (32_768, "03008000"),
        (8_388_608, "0400008000"),
        (499_999_999, "04ff64cd1d"),
        (500_000_000, "040065cd1d"),
        (MAX_SCRIPT_LOCK_TIME, "04ffffff7f"),
    ],
)
def test_lock_times_as_script_numbers(lock_time: int, push: str) -> None:
    script = key_after_script(PAYER_X, lock_time_from_int(lock_time))
    assert script[34:-1].hex() == push == push_number(lock_time).hex()
    assert parse_key_after(script) == (PAYER_X, lock_time_from_int(lock_time))


@given(LOCK_TIMES)
def test_lock_times_are_read_as_they_are_written(lock_time: LockTime) -> None:
    assert parse_key_after(key_after_script(PAYEE_X, lock_time)) == (PAYEE_X, lock_time)


def test_a_lock_time_that_after_cannot_hold() -> None:
    with pytest.raises(ParseError) as caught:
        key_after_script(PAYER_X, MedianTime(MAX_SCRIPT_LOCK_TIME + 1))
    assert caught.value.slug == "malformed-number"


@pytest.mark.parametrize(
    "push",
    [
        "",  # none
        "00",  # 0, which is no lock time
        "0100",  # the same, longer
        "0101",  # OP_1 is shorter
        "0110",  # OP_16 is shorter
        "0180",  # minus 0
        "0181",  # minus 1
        "4f",  # OP_1NEGATE
        "021100",  # a needless sign byte
        "02f083",  # negative
        "03f00300",  # a needless sign byte
        "04ffffffff",  # negative
        "050000008000",  # 2**31: more than after() takes
        "05ffffffff00",  # more than after() takes, though an nLockTime
        "060000000001",  # more than an nLockTime
        "4c02f003",  # OP_PUSHDATA1 where a plain push does
        "02f0",  # cut short
        "02f00361",  # and an OP_NOP
    ],
)
def test_other_lock_times_in_a_script(push: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_key_after(REFUND.script[:34] + bytes.fromhex(push) + b"\xb1")
    assert caught.value.slug == "malformed-script"


def test_nothing_but_the_scripts_themselves() -> None:
    assert parse_two_keys(BOTH.script) == (PAYER_X, PAYEE_X)
    others = {bytes([0x20]) + PAYER_X + b"\xac", BOTH.script[:34] + BOTH.script}
    for wrong in (PAYEE.public_key.sec, PAYEE_X[:-1], b""):  # other lengths, each with its own push
        others.update((two_keys_script(PAYER_X, wrong), two_keys_script(wrong, PAYEE_X)))
        others.add(key_after_script(wrong, LOCK_TIME))
    for script in (BOTH.script, REFUND.script):
        others.update(script[:end] for end in range(len(script)))
        others.update((script + b"\x51", script + script, b"\x51" + script))
        for place in (0, 33, 34, len(script) - 1):
            others.add(script[:place] + bytes([script[place] ^ 1]) + script[place + 1 :])
    for script in others:
        for parse in (parse_two_keys, parse_key_after):
            with pytest.raises(ParseError):
                parse(script)


@given(st.binary(max_size=80))
def test_any_other_bytes(script: bytes) -> None:
    for parse in (parse_two_keys, parse_key_after):
        with pytest.raises(ParseError):
            parse(script)


# --- spending by them -----------------------------------------------------------------------------


def spending(lock_time: int = 0, sequence: int = 0xFFFF_FFFD) -> Transaction:
    """An unsigned transaction that spends ``SPENT``."""
    source = TxIn(OutPoint(Txid(bytes(range(32))), 3), sequence)
    outputs = (TxOut(Amount(60_000), b"\x00\x14" + bytes(20)), TxOut(Amount(39_000), SPENT.script_pubkey))
    return Transaction(3, (source,), outputs, lock_time)


def sign(transaction: Transaction, leaf: TapLeaf, key: PrivateKey) -> bytes:
    return key.sign_schnorr_checked(taproot_script_sighash(transaction, 0, [SPENT], leaf.hash))


def spent_by(transaction: Transaction, leaf: TapLeaf, *items: bytes) -> Transaction:
    return transaction.with_witness(0, (*items, leaf.script, OUTPUT.control_block(leaf).to_bytes()))


def engine_takes(transaction: Transaction, spent: TxOut = SPENT) -> bool:
    try:
        Judge().check(transaction, [spent])
    except Unjust:
        return False
    return True


@needs_engine
def test_both_sign_an_update() -> None:
    update = spending()
    payers, payees = sign(update, BOTH, PAYER), sign(update, BOTH, PAYEE)
    complete = spent_by(update, BOTH, payees, payers)
    assert engine_takes(complete)
    altered = replace(update.outputs[0], value=Amount(60_001))
    rubbish = {
        "the other order": spent_by(update, BOTH, payers, payees),
        "one alone": spent_by(update, BOTH, payers),
        "one twice": spent_by(update, BOTH, payers, payers),
        "an empty one": spent_by(update, BOTH, payees, b""),
        "a stranger's": spent_by(update, BOTH, payees, sign(update, BOTH, STRANGER)),
        "for the other leaf": spent_by(update, BOTH, payees, sign(update, REFUND, PAYER)),
        "a needless sighash byte": spent_by(update, BOTH, payees, payers + b"\x00"),
        "another output": replace(complete, outputs=(altered, update.outputs[1])),
        "one output less": replace(complete, outputs=update.outputs[:1]),
        "another lock time": replace(complete, lock_time=1),
        "another version": replace(complete, version=2),
    }
    for flaw, transaction in rubbish.items():
        assert not engine_takes(transaction), flaw
    assert not engine_takes(complete, replace(SPENT, value=Amount(99_999)))
    assert not engine_takes(replace(complete, inputs=(replace(complete.inputs[0], sequence=1),)))
    witness = complete.inputs[0].witness
    for place in range(33, len(witness[-1]), 9):
        block = bytearray(witness[-1])
        block[place] ^= 1
        assert not engine_takes(complete.with_witness(0, (*witness[:-1], bytes(block)))), place


@needs_engine
def test_the_payer_alone_has_the_refund_at_its_time() -> None:
    refund = spending(LOCK_TIME.value)
    assert engine_takes(spent_by(refund, REFUND, sign(refund, REFUND, PAYER)))
    later = spending(LOCK_TIME.value + 1)
    assert engine_takes(spent_by(later, REFUND, sign(later, REFUND, PAYER)))
    for wrong in (
        spending(LOCK_TIME.value - 1),
        spending(0),
        spending(500_000_000),  # a time, where the script has a height
        spending(LOCK_TIME.value, 0xFFFF_FFFF),  # its lock time would not count
    ):
        assert not engine_takes(spent_by(wrong, REFUND, sign(wrong, REFUND, PAYER)))
    for key, leaf in ((PAYEE, REFUND), (STRANGER, REFUND), (PAYER, BOTH)):
        assert not engine_takes(spent_by(refund, REFUND, sign(refund, leaf, key)))
    assert not engine_takes(spent_by(refund, BOTH, sign(refund, BOTH, PAYER)))


@needs_engine
@pytest.mark.parametrize("lock_time", [1, 16, 17, 128, 499_999_999, 500_000_000, MAX_SCRIPT_LOCK_TIME])
def test_the_engine_reads_the_same_lock_time(lock_time: int) -> None:
    leaf = TapLeaf(key_after_script(PAYER_X, lock_time_from_int(lock_time)))
    output = TaprootOutput(PAYEE_X, (leaf, BOTH))
    spent = TxOut(Amount(100_000), output.script_pubkey)
    for offset, taken in ((0, True), (-1, False)):
        refund = spending(lock_time + offset)
        signature = PAYER.sign_schnorr(taproot_script_sighash(refund, 0, [spent], leaf.hash))
        block = output.control_block(leaf).to_bytes()
        assert engine_takes(refund.with_witness(0, (signature, leaf.script, block)), spent) is taken


@needs_engine
def test_every_other_input_is_signed_too() -> None:
    """With two inputs: the outpoints, sequences, amounts and scripts of both, and which of them it is."""
    other = TxOut(Amount(5_000), b"\x51")  # OP_1: anyone's, without any witness
    source = TxIn(OutPoint(Txid(bytes(32)), 0), 5)
    update = spending()
    update = replace(update, inputs=(source, *update.inputs))
    items = [
        key.sign_schnorr(taproot_script_sighash(update, 1, [other, SPENT], BOTH.hash, kind)) + suffix
        for key, kind, suffix in ((PAYEE, 1, b"\x01"), (PAYER, 0, b""))
    ]
    complete = update.with_witness(1, (*items, BOTH.script, OUTPUT.control_block(BOTH).to_bytes()))

    def takes(transaction: Transaction, *spent: TxOut) -> bool:
        try:
            Judge().check(transaction, spent)
        except Unjust:
            return False
        return True

    assert takes(complete, other, SPENT)
    assert not takes(complete, replace(other, value=Amount(5_001)), SPENT)
    assert not takes(complete, replace(other, script_pubkey=b"\x52"), SPENT)
    for changed in (replace(source, sequence=6), replace(source, outpoint=OutPoint(Txid(bytes(32)), 1))):
        assert not takes(replace(complete, inputs=(changed, complete.inputs[1])), other, SPENT)


def test_sizes_on_chain() -> None:
    """With P2WPKH outputs, as designed: a close by both 180 vB, a refund at a height of today 126 vB."""
    p2wpkh = TxOut(Amount(1_000), b"\x00\x14" + bytes(20))
    close = replace(spending(), outputs=(p2wpkh, p2wpkh))
    assert spent_by(close, BOTH, bytes(64), bytes(64)).vsize == 180
    leaf = TapLeaf(key_after_script(PAYER_X, Height(960_000)))
    block = TaprootOutput(PAYEE_X, (leaf, BOTH)).control_block(leaf).to_bytes()
    refund = replace(spending(960_000), outputs=(p2wpkh,))
    assert refund.with_witness(0, (bytes(64), leaf.script, block)).vsize == 126


def test_what_updates_share_and_what_they_do_not() -> None:
    update = spending()
    before, after = taproot_script_constant_parts(update, 0, [SPENT], BOTH.hash)
    for outputs in (update.outputs, update.outputs[:1], ()):
        changed = replace(update, outputs=outputs)
        assert taproot_script_constant_parts(changed, 0, [SPENT], BOTH.hash) == (before, after)
        middle = sha256(b"".join(output.to_bytes() for output in outputs))
        digest = tagged_hash("TapSighash", before + middle + after)
        assert digest == taproot_script_sighash(changed, 0, [SPENT], BOTH.hash)


def test_what_is_no_sighash() -> None:
    update = spending()
    for index, spent, kind in ((1, [SPENT], 0), (0, [], 0), (0, [SPENT, SPENT], 0), (0, [SPENT], 2)):
        with pytest.raises(ParseError) as caught:
            taproot_script_sighash(update, index, spent, BOTH.hash, kind)
        assert caught.value.slug == "malformed-number"
