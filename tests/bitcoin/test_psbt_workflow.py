"""The roles of BIP-0174: updater, signer, combiner, finalizer, extractor; Bitcoin Core judges the result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import vectors

from mpchan.bitcoin.hd import ExtendedKey, extended_key_from_base58
from mpchan.bitcoin.network import NETWORKS
from mpchan.bitcoin.psbt import InputMap, KeyOrigin, Psbt
from mpchan.bitcoin.script import (
    double_sha256,
    key_to_p2pkh_script,
    key_to_p2wpkh_script,
    push_data,
    script_to_p2sh_script,
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
HARDENED = 2**31


def step(name: str) -> Psbt:
    return Psbt.from_bytes(bytes.fromhex(WORKFLOW[name]))


def child(index: int) -> ExtendedKey:
    master = extended_key_from_base58(WORKFLOW["master_key"], NETWORKS["testnet4"])
    assert isinstance(master, ExtendedKey)
    return master.derive((HARDENED, HARDENED, HARDENED + index))


def origins(*indexes: int) -> dict[bytes, KeyOrigin]:
    fingerprint = bytes.fromhex("d90c6a4f")
    return {
        child(index).public_key.sec: KeyOrigin(fingerprint, (HARDENED, HARDENED, HARDENED + index))
        for index in indexes
    }


def contents(psbt: Psbt) -> object:
    """What a PSBT says, whatever the order in which its maps say it."""
    return psbt.tx, [dict(fields.pairs) for fields in (psbt.global_fields, *psbt.inputs, *psbt.outputs)]


def legacy_sighash(tx: Transaction, index: int, script_code: bytes) -> bytes:
    """SIGHASH_ALL before segwit, which only the BIP's first input and the fallbacks below need."""
    inputs = [replace(txin, script_sig=b"") for txin in tx.inputs]
    inputs[index] = replace(inputs[index], script_sig=script_code)
    return double_sha256(replace(tx, inputs=tuple(inputs)).to_bytes() + SIGHASH_ALL.to_bytes(4, "little"))


def sighash(psbt: Psbt, index: int) -> bytes:
    lock = psbt.lock(index)
    if lock.segwit:
        return segwit_v0_sighash(psbt.tx, index, lock.script_code, psbt.spent_output(index).value)
    return legacy_sighash(psbt.tx, index, lock.script_code)


def sign(psbt: Psbt, index: int, key: PrivateKey) -> Psbt:
    signature = key.sign(sighash(psbt, index)) + bytes([SIGHASH_ALL])
    return psbt.with_partial_sig(index, key.public_key.sec, signature)


def updated() -> Psbt:
    first, second = (Transaction.from_hex(text) for text in WORKFLOW["previous_transactions"])
    redeem_scripts = [bytes.fromhex(text) for text in WORKFLOW["redeem_scripts"]]
    psbt = step("created")
    psbt = psbt.with_input_fields(
        0, non_witness_utxo=first, redeem_script=redeem_scripts[0], bip32_derivations=origins(0, 1)
    )
    psbt = psbt.with_input_fields(
        1,
        witness_utxo=second.outputs[psbt.tx.inputs[1].outpoint.vout],
        redeem_script=redeem_scripts[1],
        witness_script=bytes.fromhex(WORKFLOW["witness_script"]),
        bip32_derivations=origins(2, 3),
    )
    return psbt.with_output_fields(0, bip32_derivations=origins(4)).with_output_fields(
        1, bip32_derivations=origins(5)
    )


def test_creator() -> None:
    assert Psbt.create(step("created").tx) == step("created")
    assert [output.value for output in step("created").tx.outputs] == [
        Amount(149_990_000),
        Amount(100_000_000),
    ]


def test_updater() -> None:
    psbt = updated()
    assert contents(psbt) == contents(step("updated"))
    for index in (0, 1):
        psbt = psbt.with_input_fields(index, sighash_type=SIGHASH_ALL)
    assert contents(psbt) == contents(step("with_sighash_types"))


@pytest.mark.parametrize(("result", "keys"), [("signed_by_0_and_2", (0, 2)), ("signed_by_1_and_3", (1, 3))])
def test_signer(result: str, keys: tuple[int, int]) -> None:
    psbt = step("with_sighash_types")
    for index, key in enumerate(keys):
        psbt = sign(psbt, index, child(key).private_key)
    assert psbt.to_bytes() == step(result).to_bytes()


def test_combiner() -> None:
    first, second = step("signed_by_0_and_2"), step("signed_by_1_and_3")
    assert contents(first.combine(second)) == contents(step("combined"))
    assert first.combine(second) == second.combine(first)
    assert contents(first.combine(first)) == contents(first)


def test_combiner_keeps_unknown_fields() -> None:
    """The BIP's result of a combiner that orders keys by their bytes."""
    parts = {name: Psbt.from_bytes(bytes.fromhex(text)) for name, text in BIP174["unknown_fields"].items()}
    combined = parts["first"].combine(parts["second"])
    assert combined.to_hex() == BIP174["unknown_fields"]["combined"]
    assert parts["second"].combine(parts["first"]) == combined


def test_combiner_takes_its_own_value_in_a_conflict() -> None:
    mine = step("created").with_input_fields(0, sighash_type=1)
    theirs = step("created").with_input_fields(0, sighash_type=2).with_input_fields(1, sighash_type=2)
    assert [fields.sighash_type for fields in mine.combine(theirs).inputs] == [1, 2]


def test_combiner_refuses_another_transaction() -> None:
    other = Psbt.create(replace(step("created").tx, lock_time=1))
    with pytest.raises(Refused) as caught:
        step("created").combine(other)
    assert caught.value.slug == "psbt-mismatch"


def test_finalizer() -> None:
    assert step("combined").finalize().to_bytes() == step("finalized").to_bytes()
    assert step("finalized").finalize() == step("finalized")


def test_extractor() -> None:
    assert step("finalized").extract().to_hex() == WORKFLOW["extracted"]


def test_p2pkh_is_finalized() -> None:
    psbt = Psbt.from_bytes(bytes.fromhex(BIP174["p2pkh"]["psbt"]))
    assert psbt.finalize().extract().to_hex() == BIP174["p2pkh"]["extracted"]


@pytest.mark.parametrize("name", BIP174["signer_refuses"])
def test_signer_refuses(name: str) -> None:
    psbt = Psbt.from_bytes(bytes.fromhex(BIP174["signer_refuses"][name]))
    refused = []
    for index in range(len(psbt.inputs)):
        try:
            psbt.lock(index)
        except Refused as error:
            refused.append(error.slug)
    assert refused == ["psbt-mismatch"]


@pytest.mark.parametrize("name", ["signed_by_0_and_2", "signed_by_1_and_3"])
def test_finalizer_needs_all_signatures(name: str) -> None:
    with pytest.raises(NotPossible, match="needs 2 signatures and has 1") as caught:
        step(name).finalize()
    assert caught.value.slug == "missing-signature"


def test_finalizer_needs_the_right_sighash_type() -> None:
    with pytest.raises(Refused) as caught:
        step("combined").with_input_fields(1, sighash_type=3).finalize()
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

# scriptPubKey, redeem script, witness script, signatures needed
KINDS: dict[str, tuple[bytes, bytes | None, bytes | None, int]] = {
    "P2WSH 2-of-2": (WSH, None, CHANNEL, 2),
    "P2WSH 2-of-3": (script_to_p2wsh_script(TWO_OF_THREE), None, TWO_OF_THREE, 2),
    "P2SH-P2WSH 2-of-2": (script_to_p2sh_script(WSH), WSH, CHANNEL, 2),
    "P2WPKH": (WPKH, None, None, 1),
    "P2SH-P2WPKH": (script_to_p2sh_script(WPKH), WPKH, None, 1),
    "P2PKH": (key_to_p2pkh_script(KEY_A), None, None, 1),
    "P2SH 2-of-3": (script_to_p2sh_script(TWO_OF_THREE), TWO_OF_THREE, None, 2),
    "bare 2-of-3": (TWO_OF_THREE, None, None, 2),
}


def unsigned(kind: str, *, whole: bool) -> Psbt:
    """A PSBT that spends such an output; ``whole`` tells of it by its whole transaction."""
    script_pubkey, redeem_script, witness_script, _ = KINDS[kind]
    txin = TxIn(OutPoint(step("created").tx.txid, 0), 0)
    previous = Transaction(2, (txin,), (TxOut(Amount(1), b""), TxOut(Amount(100_000), script_pubkey)), 0)
    spending = TxIn(OutPoint(previous.txid, 1), 0xFFFF_FFFD)
    psbt = Psbt.create(Transaction(2, (spending,), (TxOut(Amount(99_000), WPKH),), 500))
    utxo = {"non_witness_utxo": previous} if whole else {"witness_utxo": previous.outputs[1]}
    return psbt.with_input_fields(
        0,
        **utxo,  # type: ignore[arg-type]
        redeem_script=redeem_script,
        witness_script=witness_script,
        sighash_type=SIGHASH_ALL,
    )


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
    if not whole and kind in {"P2PKH", "P2SH 2-of-3", "bare 2-of-3"}:
        with pytest.raises(Refused):
            unsigned(kind, whole=whole).lock(0)
        return
    psbt = unsigned(kind, whole=whole)
    output = psbt.spent_output(0)
    for key in signers:
        with pytest.raises(NotPossible):
            psbt.finalize()
        psbt = sign(psbt, 0, PRIVATE[key])
        if len(psbt.inputs[0].partial_sigs) == KINDS[kind][3]:
            break
    for key in signers:
        psbt = sign(psbt, 0, PRIVATE[key])
    final = psbt.finalize()
    signed = final.extract()
    assert core_accepts(signed, output)
    assert not core_accepts(replace(signed, lock_time=501), output)
    assert signed.without_witness().inputs[0].outpoint == psbt.tx.inputs[0].outpoint
    assert {key[0] for key, _ in final.inputs[0].pairs} <= {0x00, 0x01, 0x07, 0x08}


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


@pytest.mark.parametrize(
    "damage",
    [
        lambda psbt: psbt.with_input_fields(0, witness_script=TWO_OF_THREE),
        lambda psbt: psbt.with_input_fields(0, redeem_script=CHANNEL),
        lambda psbt: psbt.with_input_fields(0, witness_utxo=TxOut(Amount(100_000), WPKH)),
        lambda psbt: psbt.with_input_fields(
            0, witness_utxo=TxOut(Amount(100_000), script_to_p2sh_script(WSH))
        ),
        lambda psbt: psbt.with_input_fields(0, witness_utxo=TxOut(Amount(100_000), b"\x51\x20" + bytes(32))),
    ],
)
def test_scripts_that_do_not_fit_the_output(damage: Callable[[Psbt], Psbt]) -> None:
    psbt = damage(unsigned("P2WSH 2-of-2", whole=False))
    for use in (lambda: psbt.lock(0), psbt.finalize):
        with pytest.raises(Refused) as caught:
            use()
        assert caught.value.slug == "psbt-mismatch"


@given(st.permutations(range(4)))
def test_combiner_of_many_does_not_depend_on_the_order(order: list[int]) -> None:
    psbt = unsigned("P2WSH 2-of-3", whole=False)
    parts = [psbt, *(psbt.with_partial_sig(0, key, b"signature of " + key[:4]) for key in PRIVATE)]
    combined = parts[order[0]]
    for position in order[1:]:
        combined = combined.combine(parts[position])
    assert set(combined.inputs[0].partial_sigs) == set(PRIVATE)
    assert combined == psbt.combine(parts[1]).combine(parts[2]).combine(parts[3])
