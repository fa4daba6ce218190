"""What the signature of a segwit input commits to: version 0 (BIP-0143), and taproot (BIP-0341, BIP-0342)."""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.schnorr import tagged_hash
from mpchan.bitcoin.script import double_sha256, sha256
from mpchan.bitcoin.serialize import MAX_UINT32, uint32, var_bytes
from mpchan.bitcoin.tx import Transaction, TxOut, outpoint_to_bytes
from mpchan.units import Amount, checked_int

SIGHASH_DEFAULT = 0
"""Taproot's (BIP-0341); never valid in a signature of segwit version 0, where it hashes like ALL."""
SIGHASH_ALL = 1
SIGHASH_NONE = 2
SIGHASH_SINGLE = 3
SIGHASH_ANYONECANPAY = 0x80

TAP_SIGHASH = "TapSighash"
"""The tag of a taproot digest."""

_BASE_MASK = 0x1F
_NOTHING = bytes(32)


def segwit_v0_sighash(
    tx: Transaction, index: int, script_code: bytes, value: Amount, sighash_type: int = SIGHASH_ALL
) -> bytes:
    """The 32 bytes that a signature of input ``index`` signs (BIP-0143).

    Args:
        script_code: the witness script of P2WSH, ``p2wpkh_script_code`` of P2WPKH; without its length.
        value: of the output that the input spends.
        sighash_type: 32 bits. As in Bitcoin Core any is hashed: bit 7 is ANYONECANPAY, the low five bits
            choose NONE or SINGLE, and whatever is neither hashes like ALL, its own four bytes included.

    Raises:
        ParseError: ``malformed-number`` when there is no such input, or the type has more than 32 bits.
    """
    checked_int(index, 0, len(tx.inputs) - 1, "input index")
    checked_int(sighash_type, 0, MAX_UINT32, "sighash type")
    anyone_can_pay = bool(sighash_type & SIGHASH_ANYONECANPAY)
    all_outputs = sighash_type & _BASE_MASK not in (SIGHASH_NONE, SIGHASH_SINGLE)
    txin = tx.inputs[index]
    preimage = b"".join(
        (
            tx.version.to_bytes(4, "little"),
            _NOTHING if anyone_can_pay else _hash_prevouts(tx),
            _NOTHING if anyone_can_pay or not all_outputs else _hash_sequence(tx),
            outpoint_to_bytes(txin.outpoint),
            var_bytes(script_code),
            value.sat.to_bytes(8, "little"),
            txin.sequence.to_bytes(4, "little"),
            _hash_outputs(tx, index, sighash_type),
            tx.lock_time.to_bytes(4, "little"),
            sighash_type.to_bytes(4, "little"),
        )
    )
    return double_sha256(preimage)


def segwit_v0_constant_part(tx: Transaction, index: int, script_code: bytes, value: Amount) -> bytes:
    """What stands before ``hashOutputs`` in the preimage of ``segwit_v0_sighash`` with SIGHASH_ALL.

    Neither outputs nor lock time are in it, so transactions that differ in those alone share it, and its hash.

    Args:
        script_code, value: as in ``segwit_v0_sighash``.
    """
    txin = tx.inputs[index]
    return b"".join(
        (
            tx.version.to_bytes(4, "little"),
            _hash_prevouts(tx),
            _hash_sequence(tx),
            outpoint_to_bytes(txin.outpoint),
            var_bytes(script_code),
            value.sat.to_bytes(8, "little"),
            txin.sequence.to_bytes(4, "little"),
        )
    )


def taproot_key_sighash(
    tx: Transaction, index: int, spent: Sequence[TxOut], sighash_type: int = SIGHASH_DEFAULT
) -> bytes:
    """The 32 bytes that a key path signature over all inputs and outputs signs (BIP-0341, without an annex).

    Args:
        spent: the outputs that all inputs spend, in their order.
        sighash_type: DEFAULT or ALL. mpchan takes no signature of another type, so no other is hashed.

    Raises:
        ParseError: ``malformed-number`` when there is no such input, no spent output for each, or another type.
    """
    return _taproot_sighash(tx, index, spent, sighash_type, None)


def taproot_script_sighash(
    tx: Transaction,
    index: int,
    spent: Sequence[TxOut],
    leaf_hash: bytes,
    sighash_type: int = SIGHASH_DEFAULT,
) -> bytes:
    """The same for a signature in a leaf of the tree, whose script has no OP_CODESEPARATOR (BIP-0342).

    Args:
        leaf_hash: ``TapLeaf.hash`` of the script that is satisfied.
        spent, sighash_type: as in ``taproot_key_sighash``.

    Raises:
        ParseError: as ``taproot_key_sighash``.
    """
    return _taproot_sighash(tx, index, spent, sighash_type, leaf_hash)


def taproot_script_constant_parts(
    tx: Transaction, index: int, spent: Sequence[TxOut], leaf_hash: bytes
) -> tuple[bytes, bytes]:
    """What stands before and after ``sha_outputs`` in the message of ``taproot_script_sighash`` with SIGHASH_DEFAULT.

    No output is in it, so transactions that differ in their outputs alone share it. The sighash is the hash of both
    around the SHA-256 of the outputs, with the tag ``TAP_SIGHASH``.
    """
    return _taproot_parts(tx, index, spent, SIGHASH_DEFAULT, leaf_hash)


def _taproot_sighash(
    tx: Transaction, index: int, spent: Sequence[TxOut], sighash_type: int, leaf_hash: bytes | None
) -> bytes:
    checked_int(sighash_type, SIGHASH_DEFAULT, SIGHASH_ALL, "sighash type")
    before, after = _taproot_parts(tx, index, spent, sighash_type, leaf_hash)
    outputs = sha256(b"".join(output.to_bytes() for output in tx.outputs))
    return tagged_hash(TAP_SIGHASH, before + outputs + after)


def _taproot_parts(
    tx: Transaction, index: int, spent: Sequence[TxOut], sighash_type: int, leaf_hash: bytes | None
) -> tuple[bytes, bytes]:
    """What a taproot signature's message has before and after the hash of the outputs."""
    checked_int(index, 0, len(tx.inputs) - 1, "input index")
    checked_int(len(spent), len(tx.inputs), len(tx.inputs), "number of spent outputs")
    before = b"".join(
        (
            b"\x00",  # sighash epoch
            bytes([sighash_type]),
            tx.version.to_bytes(4, "little"),
            tx.lock_time.to_bytes(4, "little"),
            sha256(_prevouts(tx)),
            sha256(b"".join(output.value.sat.to_bytes(8, "little") for output in spent)),
            sha256(b"".join(var_bytes(output.script_pubkey) for output in spent)),
            sha256(_sequences(tx)),
        )
    )
    # spend_type: 0 is the key path, 2 a script (ext_flag 1); neither with an annex
    if leaf_hash is None:
        return before, b"\x00" + uint32(index)
    # of the script: its leaf hash, key_version 0, and no OP_CODESEPARATOR executed before
    return before, b"\x02" + uint32(index) + leaf_hash + b"\x00" + uint32(MAX_UINT32)


def _hash_prevouts(tx: Transaction) -> bytes:
    return double_sha256(_prevouts(tx))


def _prevouts(tx: Transaction) -> bytes:
    return b"".join(outpoint_to_bytes(txin.outpoint) for txin in tx.inputs)


def _hash_sequence(tx: Transaction) -> bytes:
    return double_sha256(_sequences(tx))


def _sequences(tx: Transaction) -> bytes:
    return b"".join(txin.sequence.to_bytes(4, "little") for txin in tx.inputs)


def _hash_outputs(tx: Transaction, index: int, sighash_type: int) -> bytes:
    base = sighash_type & _BASE_MASK
    if base == SIGHASH_NONE or (base == SIGHASH_SINGLE and index >= len(tx.outputs)):
        return _NOTHING
    outputs = tx.outputs[index : index + 1] if base == SIGHASH_SINGLE else tx.outputs
    return double_sha256(b"".join(output.to_bytes() for output in outputs))
