"""Whether the witness of a native segwit input is right, and fixes the whole transaction.

A channel's refund spends a txid. No witness can change that, but a signature that does not cover all inputs and outputs
would let others build a different transaction with it; so only SIGHASH_ALL, and taproot's DEFAULT, are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpchan.bitcoin.psbt_map import InputMap
from mpchan.bitcoin.schnorr import SIGNATURE_SIZE, verify_schnorr
from mpchan.bitcoin.script import (
    is_p2tr,
    is_p2wpkh,
    is_p2wsh,
    key_to_p2wpkh_script,
    p2wpkh_script_code,
    parse_multisig,
    script_to_p2wsh_script,
)
from mpchan.bitcoin.serialize import MAX_UINT32
from mpchan.bitcoin.sighash import (
    SIGHASH_ALL,
    SIGHASH_DEFAULT,
    segwit_v0_sighash,
    taproot_key_sighash,
    taproot_script_sighash,
)
from mpchan.bitcoin.signature import PublicKey, parse_der
from mpchan.bitcoin.taproot import TAPSCRIPT, ControlBlock, TapLeaf, without_annex
from mpchan.bitcoin.tapscript import parse_key_after, parse_two_keys
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import NotPossible, ParseError, Refused
from mpchan.units import LOCK_TIME_THRESHOLD, LockTime


def is_native_segwit(script_pubkey: bytes) -> bool:
    """P2WPKH, P2WSH or P2TR: spent with an empty scriptSig, by rules that exist (BIP-0141, BIP-0341)."""
    return is_p2wpkh(script_pubkey) or is_p2wsh(script_pubkey) or is_p2tr(script_pubkey)


def check_sighash_types(index: int, fields: InputMap, script_pubkey: bytes) -> None:
    """What a PSBT says about input ``index``: the type that it asks for, and those of the signatures in it.

    Raises:
        Refused: ``sighash-type`` for any but ALL, or taproot's DEFAULT.
    """
    asked = fields.sighash_type
    allowed = (SIGHASH_DEFAULT, SIGHASH_ALL) if is_p2tr(script_pubkey) else (SIGHASH_ALL,)
    if asked is not None and asked not in allowed:
        raise _wrong_type(index, asked)
    if fields.tap_key_sig is not None:
        _schnorr_type(index, fields.tap_key_sig)
    for signature in fields.tap_script_sigs.values():
        _schnorr_type(index, signature)
    for signature in fields.partial_sigs.values():
        _ecdsa_type(index, signature)


def check_witness(tx: Transaction, index: int, spent: Sequence[TxOut]) -> bool:
    """Check the witness of input ``index`` by ``judge_witness``, and that its signatures fix the transaction.

    Raises:
        NotPossible: ``missing-signature`` for an empty witness.
        Refused: as ``judge_witness``.
    """
    if not tx.inputs[index].witness:
        raise NotPossible("missing-signature", f"input {index} is not signed")
    return judge_witness(tx, index, spent, only_all=True)


def judge_witness(tx: Transaction, index: int, spent: Sequence[TxOut | None], *, only_all: bool) -> bool:
    """Judge the witness of input ``index``, which is not empty, by the rules that nodes relay by.

    The signatures of P2WPKH, of k-of-n multisig in P2WSH, of taproot's key path and of the two leaves of ``tapscript``
    are verified. Of other scripts only the sighash types are looked at, in all that has the form of a signature.

    Args:
        spent: the outputs that all inputs spend, in their order; None for one that is not known, but for this one.
        only_all: whether every sighash type must be ALL, or taproot's DEFAULT. Without it a signature of taproot with
            another type is not verified.

    Returns:
        Whether the signatures were verified; else nothing speaks against them.

    Raises:
        Refused: ``signature``; ``sighash-type``; ``witness-script``; ``not-native-segwit``.
    """
    output, stack = spent[index], tx.inputs[index].witness
    if output is None or not is_native_segwit(output.script_pubkey):
        raise Refused("not-native-segwit", f"input {index} spends {_shown(output)}")
    if is_p2wpkh(output.script_pubkey):
        return _judge_p2wpkh(tx, index, output, stack, only_all)
    if is_p2wsh(output.script_pubkey):
        return _judge_p2wsh(tx, index, output, stack, only_all)
    return _judge_taproot(tx, index, spent, output, only_all)


def _shown(output: TxOut | None) -> str:
    return "what nobody knows" if output is None else f"{output.script_pubkey.hex():.80}"


def _judge_p2wpkh(tx: Transaction, index: int, output: TxOut, stack: Sequence[bytes], only_all: bool) -> bool:
    try:
        fits = len(stack) == 2 and key_to_p2wpkh_script(stack[1]) == output.script_pubkey
    except ParseError:  # no compressed key
        fits = False
    if not fits:
        raise _wrong(index, "its witness is not a signature and the key of the coin")
    code = p2wpkh_script_code(output.script_pubkey)
    if not _verify_ecdsa(tx, index, output, code, stack[1], stack[0], only_all):
        raise _wrong(index, "the signature is not that of the coin's key")
    return True


def _judge_p2wsh(tx: Transaction, index: int, output: TxOut, stack: Sequence[bytes], only_all: bool) -> bool:
    *items, witness_script = stack
    if script_to_p2wsh_script(witness_script) != output.script_pubkey:
        raise Refused("witness-script", f"input {index}: the witness script is not the coin's")
    multisig = parse_multisig(witness_script)
    if multisig is None:
        if only_all:
            _look_for_ecdsa(index, items)
        return False
    required, keys = multisig
    if len(items) != required + 1 or items[0]:
        raise _wrong(index, f"its witness is not an empty item and {required} signatures")
    left = iter(keys)  # OP_CHECKMULTISIG takes the signatures in the order of the keys
    for signature in items[1:]:
        if not any(
            _verify_ecdsa(tx, index, output, witness_script, key, signature, only_all) for key in left
        ):
            raise _wrong(index, "a signature is not that of a key of the script, or out of order")
    return True


def _judge_taproot(
    tx: Transaction, index: int, spent: Sequence[TxOut | None], output: TxOut, only_all: bool
) -> bool:
    stack = tx.inputs[index].witness
    if without_annex(stack) != stack:
        if only_all:
            raise _wrong(index, "its witness has an annex, which has no meaning yet")
        return False
    if len(stack) == 1:
        return _check_schnorr(tx, index, spent, output.script_pubkey[2:], stack[0], None, only_all)
    *items, script, control_block = stack
    leaf = _proven_leaf(index, output, script, control_block)
    keys = _keys_of(tx, index, leaf)
    if not keys:
        if only_all:
            _look_for_schnorr(index, items)
        return False
    if len(items) != len(keys):
        raise _wrong(index, f"its witness has {len(items)} items for a script of {len(keys)} signatures")
    # the first key of a script takes what lies on top of the stack
    verdicts = [
        _check_schnorr(tx, index, spent, key, signature, leaf.hash, only_all)
        for key, signature in zip(keys, reversed(items), strict=True)
    ]
    return all(verdicts)


def _proven_leaf(index: int, output: TxOut, script: bytes, control_block: bytes) -> TapLeaf:
    try:
        block = ControlBlock.from_bytes(control_block)
    except ParseError as error:
        raise _wrong(index, error.message) from None
    if not block.proves(script, output.script_pubkey):
        raise Refused("witness-script", f"input {index}: the coin does not commit to the script")
    return TapLeaf(script, block.leaf_version)


def _keys_of(tx: Transaction, index: int, leaf: TapLeaf) -> tuple[bytes, ...]:
    """The keys that sign for a leaf that is known here, in the order of the script; none for other leaves."""
    if leaf.version != TAPSCRIPT:
        return ()
    try:
        return parse_two_keys(leaf.script)
    except ParseError:
        pass
    try:
        key, lock_time = parse_key_after(leaf.script)
    except ParseError:
        return ()
    if not _has_lock_time(tx, index, lock_time):
        raise _wrong(index, f"the script asks for the lock time {lock_time.value}, not {tx.lock_time}")
    return (key,)


def _has_lock_time(tx: Transaction, index: int, lock_time: LockTime) -> bool:
    """Whether nLockTime says as much, in the same unit, and counts (BIP-0065)."""
    same_unit = (tx.lock_time < LOCK_TIME_THRESHOLD) == (lock_time.value < LOCK_TIME_THRESHOLD)
    return same_unit and tx.lock_time >= lock_time.value and tx.inputs[index].sequence != MAX_UINT32


def _check_schnorr(
    tx: Transaction,
    index: int,
    spent: Sequence[TxOut | None],
    x_only_key: bytes,
    signature: bytes,
    leaf_hash: bytes | None,
    only_all: bool,
) -> bool:
    """Verify a signature; False for one of a type that is not hashed here, or over outputs that are not known."""
    sighash_type = _schnorr_type(index, signature, only_all)
    known = [each for each in spent if each is not None]
    if sighash_type not in (SIGHASH_DEFAULT, SIGHASH_ALL) or len(known) != len(spent):
        return False
    if leaf_hash is None:
        digest = taproot_key_sighash(tx, index, known, sighash_type)
    else:
        digest = taproot_script_sighash(tx, index, known, leaf_hash, sighash_type)
    if not verify_schnorr(x_only_key, signature[:SIGNATURE_SIZE], digest):
        raise _wrong(index, "the signature is not that of the coin's key")
    return True


def _verify_ecdsa(
    tx: Transaction,
    index: int,
    output: TxOut,
    script_code: bytes,
    key: bytes,
    signature: bytes,
    only_all: bool,
) -> bool:
    sighash_type = _ecdsa_type(index, signature, only_all)
    digest = segwit_v0_sighash(tx, index, script_code, output.value, sighash_type)
    try:
        return PublicKey(key).verify(signature[:-1], digest)
    except ParseError:  # in a witness no other form of key is relayed
        return False


def _look_for_ecdsa(index: int, items: Iterable[bytes]) -> None:
    for item in items:
        try:
            parse_der(item[:-1])
        except ParseError:
            continue
        _ecdsa_type(index, item)


def _look_for_schnorr(index: int, items: Iterable[bytes]) -> None:
    for item in items:
        if len(item) == SIGNATURE_SIZE + 1:
            _schnorr_type(index, item)


def _ecdsa_type(index: int, signature: bytes, only_all: bool = True) -> int:
    if not signature or (only_all and signature[-1] != SIGHASH_ALL):
        raise _wrong_type(index, signature[-1] if signature else None)
    return signature[-1]


def _schnorr_type(index: int, signature: bytes, only_all: bool = True) -> int:
    """DEFAULT where the signature has no sighash byte, and only there (BIP-0341, "Common signature message")."""
    if len(signature) == SIGNATURE_SIZE:
        return SIGHASH_DEFAULT
    if len(signature) != SIGNATURE_SIZE + 1:
        raise _wrong(index, f"a Schnorr signature of {len(signature)} bytes")
    if signature[-1] == SIGHASH_DEFAULT or (only_all and signature[-1] != SIGHASH_ALL):
        raise _wrong_type(index, signature[-1])
    return signature[-1]


def _wrong_type(index: int, found: int | None) -> Refused:
    shown = "none" if found is None else f"{found:#04x}"
    return Refused(
        "sighash-type",
        f"input {index} is signed, or to be signed, with sighash type {shown}, not with ALL",
        hint="any other would let the transaction be changed after it is signed",
    )


def _wrong(index: int, reason: str) -> Refused:
    return Refused("signature", f"input {index}: {reason}")
