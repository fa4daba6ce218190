"""What the signature of a segwit input commits to: version 0 (BIP-0143), and taproot's key path (BIP-0341)."""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.script import double_sha256, sha256
from mpchan.bitcoin.serialize import MAX_UINT32, var_bytes
from mpchan.bitcoin.tx import Transaction, TxOut, outpoint_to_bytes
from mpchan.units import Amount, checked_int

SIGHASH_DEFAULT = 0
"""Taproot's (BIP-0341); never valid in a signature of segwit version 0, where it hashes like ALL."""
SIGHASH_ALL = 1
SIGHASH_NONE = 2
SIGHASH_SINGLE = 3
SIGHASH_ANYONECANPAY = 0x80

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
    from mpchan.bitcoin.schnorr import tagged_hash

    checked_int(index, 0, len(tx.inputs) - 1, "input index")
    checked_int(len(spent), len(tx.inputs), len(tx.inputs), "number of spent outputs")
    checked_int(sighash_type, SIGHASH_DEFAULT, SIGHASH_ALL, "sighash type")
    message = b"".join(
        (
            b"\x00",  # sighash epoch
            bytes([sighash_type]),
            tx.version.to_bytes(4, "little"),
            tx.lock_time.to_bytes(4, "little"),
            sha256(_prevouts(tx)),
            sha256(b"".join(output.value.sat.to_bytes(8, "little") for output in spent)),
            sha256(b"".join(var_bytes(output.script_pubkey) for output in spent)),
            sha256(_sequences(tx)),
            sha256(b"".join(output.to_bytes() for output in tx.outputs)),
            b"\x00",  # key path, no annex
            index.to_bytes(4, "little"),
        )
    )
    return tagged_hash("TapSighash", message)


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
