"""The roles of BIP-0174 that mpchan has, creator, finalizer and extractor; Bitcoin Core judges the result."""

from __future__ import annotations

import pytest
from support.psbts import with_whole_utxo
from support.strategies import vectors

from mpchan.bitcoin.psbt import InputMap, Psbt
from mpchan.bitcoin.script import (
    key_to_p2wpkh_script,
    p2wpkh_script_code,
    push_data,
    script_to_p2wsh_script,
    two_of_two_script,
)
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import NotPossible, Refused
from mpchan.units import Amount, OutPoint
from mpchan.values import replace

BIP174 = vectors("bip174.json")
WORKFLOW = BIP174["workflow"]


def step(name: str) -> Psbt:
    return Psbt.from_bytes(bytes.fromhex(WORKFLOW[name]))


def sign(psbt: Psbt, index: int, key: PrivateKey) -> Psbt:
    output, script = psbt.spent_output(index), psbt.inputs[index].witness_script
    code = p2wpkh_script_code(output.script_pubkey) if script is None else script
    signature = key.sign(segwit_v0_sighash(psbt.tx, index, code, output.value)) + bytes([SIGHASH_ALL])
    return psbt.with_input_fields(index, partial_sigs={key.public_key.sec: signature})


def test_creator() -> None:
    assert Psbt.create(step("created").tx) == step("created")
    assert [output.value for output in step("created").tx.outputs] == [
        Amount(149_990_000),
        Amount(100_000_000),
    ]


def test_extractor() -> None:
    assert step("finalized").extract().to_hex() == WORKFLOW["extracted"]


def test_finalizer_needs_the_right_sighash_type() -> None:
    psbt = sign(unsigned("P2WPKH", whole=False), 0, PRIVATE[KEY_A]).with_input_fields(0, sighash_type=3)
    with pytest.raises(Refused) as caught:
        psbt.finalize()
    assert caught.value.slug == "wrong-sighash-type"


def test_finalizer_needs_the_spent_output() -> None:
    with pytest.raises(NotPossible) as caught:
        step("created").finalize()
    assert caught.value.slug == "missing-utxo"


def test_extractor_needs_every_input_final() -> None:
    final = step("finalized")
    for index in (0, 1):
        inputs = list(final.inputs)
        inputs[index] = step("combined").inputs[index]
        with pytest.raises(NotPossible, match=f"input {index} is not final") as caught:
            replace(final, inputs=tuple(inputs)).extract()
        assert caught.value.slug == "not-final"


def test_two_utxo_fields_must_agree() -> None:
    psbt = step("updated")
    output = psbt.spent_output(0)
    assert psbt.with_input_fields(0, witness_utxo=output).spent_output(0) == output
    with pytest.raises(Refused) as caught:
        psbt.with_input_fields(
            0, witness_utxo=replace(output, value=Amount(output.value.sat + 1))
        ).spent_output(0)
    assert caught.value.slug == "psbt-mismatch"


# --- every kind of input, from the first field to Bitcoin Core's verdict

SECRETS = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
PRIVATE = {key.public_key.sec: key for key in SECRETS}
KEY_A, KEY_B, KEY_C = PRIVATE
CHANNEL = two_of_two_script(KEY_A, KEY_B)
TWO_OF_THREE = b"\x52" + b"".join(map(push_data, PRIVATE)) + b"\x53\xae"
WPKH = key_to_p2wpkh_script(KEY_A)
WSH = script_to_p2wsh_script(CHANNEL)

# scriptPubKey, witness script, signatures needed
KINDS: dict[str, tuple[bytes, bytes | None, int]] = {
    "P2WSH 2-of-2": (WSH, CHANNEL, 2),
    "P2WSH 2-of-3": (script_to_p2wsh_script(TWO_OF_THREE), TWO_OF_THREE, 2),
    "P2WPKH": (WPKH, None, 1),
}


def unsigned(kind: str, *, whole: bool) -> Psbt:
    """A PSBT that spends such an output; ``whole`` tells of it by its whole transaction."""
    script_pubkey, witness_script, _ = KINDS[kind]
    txin = TxIn(OutPoint(step("created").tx.txid, 0), 0)
    previous = Transaction(2, (txin,), (TxOut(Amount(1), b""), TxOut(Amount(100_000), script_pubkey)), 0)
    spending = TxIn(OutPoint(previous.txid, 1), 0xFFFF_FFFD)
    psbt = Psbt.create(Transaction(2, (spending,), (TxOut(Amount(99_000), WPKH),), 500))
    psbt = psbt.with_input_fields(0, witness_script=witness_script, sighash_type=SIGHASH_ALL)
    if whole:
        return with_whole_utxo(psbt, 0, previous)
    return psbt.with_input_fields(0, witness_utxo=previous.outputs[1])


def core_accepts(tx: Transaction, output: TxOut) -> bool:
    pbk = pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")
    guard = pbk.ScriptPubkey(output.script_pubkey)
    spending = pbk.Transaction(tx.to_bytes())
    spent = pbk.TransactionOutput(guard, output.value.sat)
    data = pbk.script.PrecomputedTransactionData(spending, [spent])
    try:
        return bool(guard.verify(output.value.sat, spending, data, 0, pbk.ScriptVerificationFlags.ALL))
    except pbk.ScriptVerifyException:
        return False


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "signers", [(KEY_A, KEY_B), (KEY_B, KEY_A), (KEY_A, KEY_B, KEY_C)], ids=["ab", "ba", "abc"]
)
def test_core_accepts_every_kind(kind: str, signers: tuple[bytes, ...], whole: bool) -> None:
    """Signatures may come in any order, and more than are needed."""
    psbt = unsigned(kind, whole=whole)
    output = psbt.spent_output(0)
    for key in signers:
        with pytest.raises(NotPossible):
            psbt.finalize()
        psbt = sign(psbt, 0, PRIVATE[key])
        if len(psbt.inputs[0].partial_sigs) == KINDS[kind][2]:
            break
    for key in signers:
        psbt = sign(psbt, 0, PRIVATE[key])
    final = psbt.finalize()
    signed = final.extract()
    assert core_accepts(signed, output)
    assert not core_accepts(replace(signed, lock_time=501), output)
    assert signed.without_witness().inputs[0].outpoint == psbt.tx.inputs[0].outpoint
    assert {key[0] for key, _ in final.inputs[0].pairs} <= {0x00, 0x01, 0x08}


def test_finalized_channel_input() -> None:
    """The witness of a 2-of-2: the empty element, the signatures in the order of the keys, the script."""
    psbt = unsigned("P2WSH 2-of-2", whole=False)
    for key in sorted((KEY_A, KEY_B), reverse=True):
        psbt = sign(psbt, 0, PRIVATE[key])
    signatures = psbt.inputs[0].partial_sigs
    fields = psbt.finalize().inputs[0]
    expected = (b"", *(signatures[key] for key in sorted((KEY_A, KEY_B))), CHANNEL)
    assert fields.final_script_witness == expected
    assert fields.final_script_sig is None
    assert psbt.finalize().extract() == psbt.tx.with_witness(0, expected)


def test_unknown_fields_survive_the_finalizer() -> None:
    psbt = unsigned("P2WPKH", whole=False)
    unknown = ((b"\xfc\x01a\x00", b"kept"), (b"\x50", b"too"))
    psbt = replace(psbt, inputs=(InputMap((*psbt.inputs[0].pairs, *unknown)),))
    final = sign(psbt, 0, PRIVATE[KEY_A]).finalize()
    assert {pair for pair in final.inputs[0].pairs if pair[0][0] >= 0x50} == set(unknown)


def test_script_of_an_unknown_kind() -> None:
    script = b"\x51"
    psbt = Psbt.create(unsigned("P2WPKH", whole=False).tx)
    psbt = psbt.with_input_fields(
        0, witness_utxo=TxOut(Amount(5), script_to_p2wsh_script(script)), witness_script=script
    )
    with pytest.raises(NotPossible) as caught:
        psbt.finalize()
    assert caught.value.slug == "unknown-script"


@pytest.mark.parametrize("kind", ["P2WPKH", "P2WSH 2-of-2"])
@pytest.mark.parametrize("field", [b"\x04", b"\x05"])  # redeem script, witness script
def test_a_script_beside_an_output_that_has_none(kind: str, field: bytes) -> None:
    psbt = unsigned(kind, whole=False)
    pairs = dict(psbt.inputs[0].pairs) | {field: b"\x51"}
    with pytest.raises(Refused) as caught:
        replace(psbt, inputs=(InputMap(tuple(sorted(pairs.items()))),)).finalize()
    assert caught.value.slug == "psbt-mismatch"


@pytest.mark.parametrize("script", [TWO_OF_THREE, None])
def test_a_script_that_does_not_fit_the_output(script: bytes | None) -> None:
    psbt = unsigned("P2WSH 2-of-2", whole=False)
    bare = Psbt.create(psbt.tx).with_input_fields(0, witness_utxo=psbt.spent_output(0))
    psbt = bare.with_input_fields(0, witness_script=script)
    with pytest.raises(Refused) as caught:
        psbt.finalize()
    assert caught.value.slug == "psbt-mismatch"


@pytest.mark.parametrize("name", ["signed_by_0_and_2", "combined"])
def test_what_no_funding_may_spend_is_not_finalized(name: str) -> None:
    """The BIP's example spends P2SH, which is no native segwit."""
    with pytest.raises(NotPossible) as caught:
        step(name).finalize()
    assert caught.value.slug == "unknown-script"
