"""mpchan.bitcoin.witness agrees with Bitcoin Core's engine about which signatures open a coin."""

from __future__ import annotations

import pytest
from support.judge import ENGINE, Judge, Unjust

from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code, script_to_p2wsh_script
from mpchan.bitcoin.sighash import segwit_v0_sighash, taproot_key_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.taproot import TapLeaf, TaprootOutput
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.bitcoin.witness import check_witness, is_native_segwit
from mpchan.errors import NotPossible, Refused
from mpchan.units import Amount, OutPoint, Txid

KEYS = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
PUBLIC = [key.public_key.sec for key in KEYS]
TWO_OF_THREE = b"\x52" + b"".join(b"\x21" + key for key in PUBLIC) + b"\x53\xae"

needs_engine = pytest.mark.skipif(not ENGINE, reason="the engine is not installed (mpchan engine install)")


def spending(*scripts: bytes) -> tuple[Transaction, list[TxOut]]:
    """An unsigned transaction with an input for each script, and what they spend."""
    spent = [TxOut(Amount(10_000 + place), script) for place, script in enumerate(scripts)]
    inputs = tuple(
        TxIn(OutPoint(Txid(bytes([place]) * 32), place), 5 + place) for place in range(len(scripts))
    )
    outputs = (TxOut(Amount(7_000), b"\x51"), TxOut(Amount(1_000), b"\x00\x14" + bytes(20)))
    return Transaction(2, inputs, outputs, 77), spent


def ours(transaction: Transaction, index: int, spent: list[TxOut]) -> bool:
    """Our verdict about one input, all of whose signatures are verified."""
    try:
        return check_witness(transaction, index, spent)
    except Refused as error:
        if error.slug != "signature":
            raise
        return False


def the_engines(transaction: Transaction, spent: list[TxOut]) -> bool:
    try:
        Judge().check(transaction, spent)
    except Unjust:
        return False
    return True


@needs_engine
@pytest.mark.parametrize(
    ("signers", "good"),
    [
        ((0, 1), True),
        ((0, 2), True),
        ((1, 2), True),
        ((1, 0), False),
        ((2, 0), False),
        ((2, 1), False),
        ((0, 0), False),
        ((2, 2), False),
        ((0,), False),
        ((0, 1, 2), False),
    ],
)
def test_two_of_three(signers: tuple[int, ...], good: bool) -> None:
    """The signatures stand in the order of the keys, each key signs once, and none is too many."""
    transaction, spent = spending(script_to_p2wsh_script(TWO_OF_THREE))
    digest = segwit_v0_sighash(transaction, 0, TWO_OF_THREE, spent[0].value)
    signatures = [KEYS[signer].sign(digest) + b"\x01" for signer in signers]
    complete = transaction.with_witness(0, (b"", *signatures, TWO_OF_THREE))
    assert ours(complete, 0, spent) is the_engines(complete, spent) is good


@needs_engine
@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("wrong", [None, "amount", "script", "sequence", "output", "lock-time", "index"])
def test_taproot_commits_to_everything(kind: int, wrong: str | None) -> None:
    """Also to what the other inputs spend: one changed byte anywhere, and both verdicts are no."""
    script = b"\x51\x20" + PUBLIC[0][1:]
    transaction, spent = spending(script, script)
    signed, told, index = transaction, list(spent), 0
    if wrong == "amount":
        told[1] = TxOut(Amount(spent[1].value.sat + 1), script)
    elif wrong == "script":
        told[1] = TxOut(spent[1].value, b"\x51\x20" + PUBLIC[1][1:])
    elif wrong == "sequence":
        inputs = (transaction.inputs[0], TxIn(transaction.inputs[1].outpoint, 9))
        signed = Transaction(2, inputs, transaction.outputs, 77)
    elif wrong == "output":
        signed = Transaction(2, transaction.inputs, transaction.outputs[:1], 77)
    elif wrong == "lock-time":
        signed = Transaction(2, transaction.inputs, transaction.outputs, 78)
    elif wrong == "index":
        index = 1
    suffix = b"\x01" if kind else b""
    first = KEYS[0].sign_schnorr(taproot_key_sighash(signed, index, told, kind)) + suffix
    second = KEYS[0].sign_schnorr(taproot_key_sighash(transaction, 1, spent))
    complete = transaction.with_witness(0, (first,)).with_witness(1, (second,))
    assert ours(complete, 0, spent) is the_engines(complete, spent) is (wrong is None)
    assert ours(complete, 1, spent) is True


LEAF = TapLeaf(b"\x20" + PUBLIC[0][1:] + b"\xac")  # one signature: of the leaves that are not known here
TREE = TaprootOutput(PUBLIC[2][1:], LEAF)


def refusal(witness: tuple[bytes, ...]) -> str | None:
    """Why a script path is refused, None where nothing speaks against it."""
    transaction, spent = spending(TREE.script_pubkey)
    try:
        assert check_witness(transaction.with_witness(0, witness), 0, spent) is False
    except Refused as error:
        return error.slug
    return None


def test_a_script_path_of_another_kind() -> None:
    """It may leave nothing open, though whether it opens the coin is not told here."""
    shown = (LEAF.script, TREE.control_block(LEAF).to_bytes())
    for signature in (bytes(64), bytes(64) + b"\x01", b"", b"any other item"):
        assert refusal((signature, *shown)) is None
    for kind in (0, 2, 3, 0x81, 0x83):
        assert refusal((bytes(64) + bytes([kind]), *shown)) == "sighash-type"
    assert refusal((bytes(64), *shown, b"\x50")) == "signature"
    assert refusal((bytes(64), LEAF.script, shown[1] + bytes(32))) == "witness-script"
    assert refusal((bytes(64), LEAF.script, shown[1] + b"\x00")) == "signature"


@needs_engine
def test_p2wpkh() -> None:
    transaction, spent = spending(key_to_p2wpkh_script(PUBLIC[0]), key_to_p2wpkh_script(PUBLIC[1]))
    complete = transaction
    for index in (0, 1):
        code = p2wpkh_script_code(spent[index].script_pubkey)
        digest = segwit_v0_sighash(transaction, index, code, spent[index].value)
        complete = complete.with_witness(index, (KEYS[index].sign(digest) + b"\x01", PUBLIC[index]))
    assert the_engines(complete, spent)
    assert ours(complete, 0, spent)
    assert ours(complete, 1, spent)
    for wrong in (complete.inputs[1].witness, (complete.inputs[0].witness[0], bytes(33)), (b"\x01",)):
        swapped = complete.with_witness(0, wrong)
        assert not the_engines(swapped, spent)
        assert not ours(swapped, 0, spent)


def test_what_is_no_signed_native_input() -> None:
    transaction, spent = spending(key_to_p2wpkh_script(PUBLIC[0]))
    with pytest.raises(NotPossible) as unsigned:
        check_witness(transaction, 0, spent)
    assert unsigned.value.slug == "missing-signature"
    old = [TxOut(spent[0].value, b"\xa9\x14" + bytes(20) + b"\x87")]
    with pytest.raises(Refused) as refused:
        check_witness(transaction.with_witness(0, (b"x",)), 0, old)
    assert refused.value.slug == "not-native-segwit"


def test_native_scripts() -> None:
    for script in (b"\x00\x14" + bytes(20), b"\x00\x20" + bytes(32), b"\x51\x20" + bytes(32)):
        assert is_native_segwit(script)
    for script in (
        b"",
        b"\x00\x15" + bytes(21),
        b"\x51\x02\x4e\x73",
        b"\x52\x20" + bytes(32),
        b"\x51\x14" + bytes(20),
    ):
        assert not is_native_segwit(script)
