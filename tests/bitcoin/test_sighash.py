"""mpchan.bitcoin.sighash: BIP-0143's examples, Bitcoin Core's spends, and its interpreter as judge."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import UNSIGNED_INPUTS, transactions, vectors

from mpchan.bitcoin.script import (
    is_p2wpkh,
    key_to_p2wpkh_script,
    p2wpkh_script_code,
    script_to_p2wsh_script,
    two_of_two_script,
)
from mpchan.bitcoin.sighash import (
    SIGHASH_ALL,
    SIGHASH_ANYONECANPAY,
    SIGHASH_DEFAULT,
    SIGHASH_NONE,
    SIGHASH_SINGLE,
    segwit_v0_sighash,
)
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import ParseError
from mpchan.units import MAX_MONEY_SAT, Amount, OutPoint, Txid

KEYS = (PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32))
TX = Transaction(2, (TxIn(OutPoint(Txid(bytes(32)), 0), 5),), (TxOut(Amount(1), b"\x51"),), 7)


@pytest.mark.parametrize("case", vectors("bip143.json")["cases"], ids=lambda case: case["name"])
def test_bip143_examples(case: dict[str, Any]) -> None:
    program, script_code = case.get("program"), case.get("script_code")
    code = bytes.fromhex(script_code) if script_code else p2wpkh_script_code(bytes.fromhex(program))  # type: ignore[arg-type]
    tx = Transaction.from_hex(case["tx"])
    digest = segwit_v0_sighash(tx, case["index"], code, Amount(case["value_sat"]), case["sighash_type"])
    assert digest.hex() == case["sighash"]


def test_bip143_examples_cover_all_six_types() -> None:
    types = {case["sighash_type"] for case in vectors("bip143.json")["cases"]}
    assert types == {kind | flag for kind in (1, 2, 3) for flag in (0, SIGHASH_ANYONECANPAY)}


@pytest.mark.parametrize(
    "case", vectors("core_p2wpkh_spends.json")["cases"], ids=lambda case: case["witness"][0][-2:]
)
def test_core_spends_of_p2wpkh(case: dict[str, Any]) -> None:
    """Signatures that Bitcoin Core accepts: 61 sighash bytes, and SINGLE where no output stands beside."""
    output = TxOut.from_bytes(bytes.fromhex(case["output"]))
    program = output.script_pubkey
    if not is_p2wpkh(program):
        program = bytes.fromhex(case["script_sig"])[1:]
    signature, key = map(bytes.fromhex, case["witness"])
    code = p2wpkh_script_code(program)
    if len(key) == 65:  # policy forbids it in a witness, consensus does not
        key = bytes([2 + key[64] % 2]) + key[1:33]
    tx, index = Transaction.from_hex(case["tx"]), case["index"]
    assert PublicKey(key).verify(
        signature[:-1], segwit_v0_sighash(tx, index, code, output.value, signature[-1])
    )
    other = segwit_v0_sighash(tx, index, code, output.value, signature[-1] ^ 0x40)
    assert not PublicKey(key).verify(signature[:-1], other)


@given(
    transactions(UNSIGNED_INPUTS),
    st.integers(0, MAX_MONEY_SAT),
    st.integers(0, 255) | st.sampled_from([1, 2, 3, 0x81, 0x82, 0x83]),
    st.data(),
)
def test_core_accepts_what_is_signed(
    tx: Transaction, value: int, sighash_type: int, data: st.DataObject
) -> None:
    """Consensus allows any sighash byte in segwit version 0, so Bitcoin Core judges every one."""
    pbk = pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")
    index = data.draw(st.integers(0, len(tx.inputs) - 1))
    first, second = sorted(KEYS, key=lambda key: key.public_key.sec)
    script = two_of_two_script(first.public_key.sec, second.public_key.sec)
    digest = segwit_v0_sighash(tx, index, script, Amount(value), sighash_type)
    signatures = [key.sign(digest) + bytes([sighash_type]) for key in (first, second)]
    signed = tx.with_witness(index, (b"", *signatures, script))
    guard = pbk.ScriptPubkey(script_to_p2wsh_script(script))
    flags = pbk.ScriptVerificationFlags.ALL & ~pbk.ScriptVerificationFlags.TAPROOT
    assert guard.verify(value, pbk.Transaction(signed.to_bytes()), None, index, flags)
    assert not guard.verify(value ^ 1, pbk.Transaction(signed.to_bytes()), None, index, flags)


def test_sighash_all_is_the_default() -> None:
    code = p2wpkh_script_code(key_to_p2wpkh_script(KEYS[0].public_key.sec))
    assert segwit_v0_sighash(TX, 0, code, Amount(1)) == segwit_v0_sighash(TX, 0, code, Amount(1), SIGHASH_ALL)


def test_each_type_has_a_digest_of_its_own() -> None:
    types = [
        SIGHASH_DEFAULT,
        SIGHASH_ALL,
        SIGHASH_NONE,
        SIGHASH_SINGLE,
        SIGHASH_ALL | SIGHASH_ANYONECANPAY,
        0x101,
    ]
    assert len({segwit_v0_sighash(TX, 0, b"", Amount(1), kind) for kind in types}) == len(types)


@pytest.mark.parametrize(
    ("index", "sighash_type"), [(-1, 1), (1, 1), (True, 1), (0, -1), (0, 2**32), (0, 1.0)]
)
def test_no_such_input_or_type(index: int, sighash_type: int) -> None:
    with pytest.raises(ParseError) as caught:
        segwit_v0_sighash(TX, index, b"", Amount(1), sighash_type)
    assert caught.value.slug == "malformed-number"
