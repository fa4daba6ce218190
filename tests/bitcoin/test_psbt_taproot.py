"""The fields of taproot (BIP-0371) and MuSig2 (BIP-0373) in a PSBT: all their vectors, and what they hold."""

from __future__ import annotations

from typing import Any

import pytest
from support.strategies import vectors

from mpchan.bitcoin import psbt_fields
from mpchan.bitcoin.musig import aggregate_keys, musig_key
from mpchan.bitcoin.psbt import InputMap, OutputMap, Psbt
from mpchan.bitcoin.schnorr import verify_schnorr
from mpchan.bitcoin.sighash import taproot_script_sighash
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.taproot import TapLeaf, TaprootOutput, output_key, p2tr_script
from mpchan.bitcoin.tapscript import key_after_script, two_keys_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import ParseError
from mpchan.units import Amount, Height, OutPoint, Txid

BIP371, BIP373 = vectors("bip371.json"), vectors("bip373.json")
VALID = {**BIP371["valid"], **BIP373["valid"]}
INVALID = {**BIP371["invalid"], **BIP373["invalid"]}
KEYS = [PrivateKey(bytes([number]) * 32).public_key for number in (1, 2)]
TX = Transaction(3, (TxIn(OutPoint(Txid(bytes(32)), 0), 5),), (TxOut(Amount(1), b"\x51"),), 7)


def named(name: str) -> Psbt:
    return Psbt.from_bytes(bytes.fromhex(VALID[name]))


@pytest.mark.parametrize("name", VALID)
def test_valid_vectors_round_trip(name: str) -> None:
    assert named(name).to_hex() == VALID[name]


@pytest.mark.parametrize("name", INVALID)
def test_invalid_vectors_are_refused(name: str) -> None:
    with pytest.raises(ParseError) as caught:
        Psbt.from_bytes(bytes.fromhex(INVALID[name]))
    assert caught.value.slug == "malformed-psbt"


def test_every_beginning_is_refused() -> None:
    data = max((bytes.fromhex(text) for text in VALID.values()), key=len)
    for length in range(0, len(data), 3):
        with pytest.raises(ParseError):
            Psbt.from_bytes(data[:length])


def test_an_input_with_internal_key_and_signature() -> None:
    (name,) = (name for name in VALID if name.endswith("its derivation path, and signature"))
    (fields,) = named(name).inputs
    key = fields.tap_internal_key
    assert key is not None
    assert fields.tap_merkle_root is None
    assert fields.witness_utxo is not None
    assert p2tr_script(output_key(key).x_only) == fields.witness_utxo.script_pubkey
    assert fields.tap_key_sig is not None
    assert fields.has_signature


@pytest.mark.parametrize("signed", [False, True])
def test_leaves_and_the_signatures_in_them(signed: bool) -> None:
    """Each control block proves its leaf, each signature is right: those of other people's programs."""
    names = [name for name in VALID if "script path only input" in name]
    (name,) = (name for name in names if name.endswith("script path signatures") is signed)
    psbt = named(name)
    (fields,) = psbt.inputs
    spent = psbt.spent_output(0)
    leaves = fields.tap_leaf_scripts
    assert len(leaves) == 3
    for block, leaf in leaves.items():
        assert (block.leaf_version, block.internal_key) == (leaf.version, fields.tap_internal_key)
        assert block.merkle_root(leaf.script) == fields.tap_merkle_root
        assert block.proves(leaf.script, spent.script_pubkey)
    assert bool(fields.tap_script_sigs) is signed
    for (key, leaf_hash), signature in fields.tap_script_sigs.items():
        (leaf,) = (leaf for leaf in leaves.values() if leaf.hash == leaf_hash)
        assert key in leaf.script
        kind = signature[64] if len(signature) > 64 else 0
        digest = taproot_script_sighash(psbt.tx, 0, [spent], leaf_hash, kind)
        assert verify_schnorr(key, signature[:64], digest)


@pytest.mark.parametrize("name", BIP373["valid"])
def test_the_aggregate_of_the_participants(name: str) -> None:
    """As compressed keys: the sign of the aggregate's y too."""
    psbt = named(name)
    listed = [fields.musig2_participants for fields in psbt.inputs]
    kind = psbt_fields.OUT_MUSIG2_PARTICIPANT_PUBKEYS
    listed += [
        {key: psbt_fields.compressed_keys(value) for key, value in fields.keyed(kind).items()}
        for fields in psbt.outputs
    ]
    found = [(aggregate, keys) for each in listed for aggregate, keys in each.items()]
    for aggregate, keys in found:
        assert aggregate_keys([PublicKey(key) for key in keys]).sec == aggregate
    finished = any(fields.tap_key_sig or fields.tap_script_sigs for fields in psbt.inputs)
    assert found or finished


# --- writing what is read -------------------------------------------------------------------------


def everything() -> tuple[Psbt, dict[str, Any]]:
    """A PSBT with every field that can be written here, and what was written."""
    payer, payee = KEYS
    leaves = (TapLeaf(b"\x51"), TapLeaf(b"\x52\x53", 0xC2))
    aggregate = musig_key(payer, payee)
    output = TaprootOutput(aggregate.x_only, leaves)
    given: dict[str, Any] = {
        "witness_utxo": TxOut(Amount(7), output.script_pubkey),
        "tap_script_sigs": {
            (payer.x_only, leaves[0].hash): b"s" * 64,
            (payee.x_only, leaves[0].hash): b"t" * 65,
        },
        "tap_leaf_scripts": {output.control_block(leaf): leaf for leaf in leaves},
        "tap_internal_key": aggregate.x_only,
        "tap_merkle_root": output.merkle_root,
        "musig2_participants": {aggregate.sec: (payer.sec, payee.sec)},
    }
    return Psbt.create(TX).with_input_fields(0, **given), given


def test_what_is_written_is_read() -> None:
    psbt, given = everything()
    (fields,) = Psbt.from_bytes(psbt.to_bytes()).inputs
    assert {name: getattr(fields, name) for name in given} == given
    assert fields.has_signature
    keys = [key for key, _ in fields.pairs]
    assert keys == sorted(keys)
    assert {key[0] for key in keys} == {0x01, 0x14, 0x15, 0x17, 0x18, 0x1A}


def test_fields_that_are_absent() -> None:
    (fields,) = Psbt.create(TX).inputs
    assert (fields.tap_script_sigs, fields.tap_leaf_scripts, fields.musig2_participants) == ({}, {}, {})
    assert (fields.tap_internal_key, fields.tap_merkle_root, fields.tap_key_sig) == (None, None, None)


def test_written_fields_are_checked() -> None:
    unsigned, key = Psbt.create(TX), KEYS[0]
    wrong: list[dict[str, Any]] = [
        {"tap_script_sigs": {(key.sec, bytes(32)): bytes(64)}},
        {"tap_script_sigs": {(key.x_only, bytes(32)): bytes(63)}},
        {"tap_internal_key": key.sec},
        {"tap_merkle_root": bytes(31)},
        {"musig2_participants": {key.x_only: [key.sec]}},
        {"musig2_participants": {key.sec: [key.x_only]}},
        {"musig2_participants": {key.sec: []}},
    ]
    for fields in wrong:
        with pytest.raises(ParseError) as caught:
            unsigned.with_input_fields(0, **fields)
        assert caught.value.slug == "malformed-psbt"


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("1a" + "02" * 33, "02" * 66, True),
        ("1a" + "02" * 33, "02" * 65, False),
        ("1a" + "02" * 33, "02" * 33 + "04" + "02" * 32, False),
        ("1a" + "02" * 33, "", False),
        ("1a" + "04" * 33, "02" * 66, False),
        ("1a" + "02" * 32, "02" * 66, False),
        ("1b" + "02" * 66, "00" * 66, True),
        ("1b" + "02" * 98, "00" * 66, True),
        ("1b" + "02" * 67, "00" * 66, False),
        ("1b" + "02" * 33 + "04" * 33, "00" * 66, False),
        ("1b" + "04" * 33 + "02" * 33, "00" * 66, False),
        ("1b" + "02" * 66, "00" * 65, False),
        ("1c" + "02" * 66, "00" * 32, True),
        ("1c" + "02" * 98, "00" * 32, True),
        ("1c" + "02" * 66, "00" * 33, False),
        ("1c" + "02" * 33, "00" * 32, False),
    ],
)
def test_fields_of_musig2(key: str, value: str, right: bool) -> None:
    pairs = ((bytes.fromhex(key), bytes.fromhex(value)),)
    if right:
        assert InputMap(pairs).pairs == pairs
        return
    with pytest.raises(ParseError) as caught:
        InputMap(pairs)
    assert caught.value.slug == "malformed-psbt"


@pytest.mark.parametrize(("keys", "right"), [("02" * 66, True), ("02" * 65, False), ("", False)])
def test_participants_of_an_output(keys: str, right: bool) -> None:
    pairs = ((b"\x08" + KEYS[0].sec, bytes.fromhex(keys)),)
    if right:
        assert OutputMap(pairs).pairs == pairs
        return
    with pytest.raises(ParseError):
        OutputMap(pairs)


# --- by others ------------------------------------------------------------------------------------


def test_embit_signs_for_the_same_leaves() -> None:
    """The library of several hardware signers reads the fields; its signatures are right by our sighash."""
    ec, embit = (pytest.importorskip(f"embit.{name}") for name in ("ec", "psbt"))
    payer, payee = KEYS
    both = TapLeaf(two_keys_script(payer.x_only, payee.x_only))
    refund = TapLeaf(key_after_script(payer.x_only, Height(7)))
    output = TaprootOutput(musig_key(payer, payee).x_only, (both, refund))
    spent = TxOut(Amount(100_000), output.script_pubkey)
    unsigned = Psbt.create(TX).with_input_fields(
        0,
        witness_utxo=spent,
        tap_leaf_scripts={output.control_block(leaf): leaf for leaf in (both, refund)},
        tap_internal_key=output.internal_key,
        tap_merkle_root=output.merkle_root,
    )
    theirs = embit.PSBT.parse(unsigned.to_bytes())
    for number in (1, 2):
        theirs.sign_with(ec.PrivateKey(bytes([number]) * 32))
    (fields,) = Psbt.from_bytes(theirs.serialize()).inputs
    assert fields.tap_leaf_scripts == unsigned.inputs[0].tap_leaf_scripts
    assert fields.tap_script_sigs.keys() == {
        (payer.x_only, both.hash),
        (payee.x_only, both.hash),
        (payer.x_only, refund.hash),
    }
    for (key, leaf_hash), signature in fields.tap_script_sigs.items():
        assert verify_schnorr(key, signature, taproot_script_sighash(TX, 0, [spent], leaf_hash))
