"""What guards the input of a PSBT, and how signatures open it (BIP-0174, Signer and Input Finalizer)."""

from __future__ import annotations

from mpchan.bitcoin import psbt_fields
from mpchan.bitcoin.psbt_map import InputMap
from mpchan.bitcoin.script import (
    hash160,
    is_p2pkh,
    is_p2sh,
    is_p2tr,
    is_p2wpkh,
    is_p2wsh,
    key_to_p2pkh_script,
    p2wpkh_script_code,
    parse_multisig,
    push_data,
    script_to_p2sh_script,
    script_to_p2wsh_script,
)
from mpchan.bitcoin.tx import TxOut, witness_to_bytes
from mpchan.errors import NotPossible, Refused
from mpchan.values import frozen

# BIP-0174: once an input is final, its map keeps the spent output and what is unknown, and nothing else
_CLEARED = frozenset(
    (
        psbt_fields.IN_PARTIAL_SIG,
        psbt_fields.IN_SIGHASH_TYPE,
        psbt_fields.IN_REDEEM_SCRIPT,
        psbt_fields.IN_WITNESS_SCRIPT,
        psbt_fields.IN_BIP32_DERIVATION,
        psbt_fields.IN_RIPEMD160,
        psbt_fields.IN_SHA256,
        psbt_fields.IN_HASH160,
        psbt_fields.IN_HASH256,
        psbt_fields.IN_TAP_KEY_SIG,
        psbt_fields.IN_TAP_SCRIPT_SIG,
        psbt_fields.IN_TAP_LEAF_SCRIPT,
        psbt_fields.IN_TAP_BIP32_DERIVATION,
        psbt_fields.IN_TAP_INTERNAL_KEY,
        psbt_fields.IN_TAP_MERKLE_ROOT,
    )
)


@frozen
class Lock:
    """The scripts that guard an input, their hashes checked against the spent output.

    Attributes:
        script_code: what a signature commits to: the witness script, the redeem script or the scriptPubKey, or
            the P2PKH script that stands for P2WPKH (BIP-0143).
        redeem_script: the script behind P2SH, else None.
        witness_script: the script behind P2WSH, else None.
        segwit: whether signatures are of BIP-0143 and stand in the witness.
    """

    script_code: bytes
    redeem_script: bytes | None
    witness_script: bytes | None
    segwit: bool


def input_lock(fields: InputMap, output: TxOut) -> Lock:
    """Find out what guards the input that spends ``output``, as a signer must.

    Raises:
        Refused: ``psbt-mismatch`` for a script that is missing or has another hash, or an
            old-style input without the whole transaction that it spends.
    """
    program = output.script_pubkey
    redeem_script = fields.redeem_script
    if is_p2sh(program):
        if redeem_script is None or script_to_p2sh_script(redeem_script) != program:
            raise _mismatch("redeem script", redeem_script, output)
        program = redeem_script
    elif redeem_script is not None:
        raise _mismatch("redeem script", redeem_script, output)
    witness_script = fields.witness_script
    if is_p2wsh(program):
        if witness_script is None or script_to_p2wsh_script(witness_script) != program:
            raise _mismatch("witness script", witness_script, output)
        return Lock(witness_script, redeem_script, witness_script, segwit=True)
    if witness_script is not None:
        raise _mismatch("witness script", witness_script, output)
    if is_p2wpkh(program):
        return Lock(p2wpkh_script_code(program), redeem_script, None, segwit=True)
    if fields.get(psbt_fields.IN_NON_WITNESS_UTXO) is None:
        # only BIP-0143 signs the amount, so here a lie about it would go unnoticed
        raise Refused("psbt-mismatch", "a witness utxo stands where no witness can be")
    return Lock(program, redeem_script, None, segwit=False)


def finalize_input(index: int, fields: InputMap, output: TxOut) -> InputMap:
    """Turn the partial signatures of an input into its final scriptSig and witness.

    Knows P2PKH, P2WPKH and k-of-n multisig, bare or behind P2SH, P2WSH or both, and taproot's key path (BIP-0371).
    The signatures are not verified.

    Raises:
        NotPossible: ``missing-signature``; ``unknown-script``.
        Refused: ``psbt-mismatch``; ``wrong-sighash-type`` for a signature of another type than the field says.
    """
    if is_p2tr(output.script_pubkey) and fields.tap_key_sig is not None:
        return _final(fields, b"", (fields.tap_key_sig,))
    lock = input_lock(fields, output)
    _check_sighash_types(index, fields)
    stack = _solve(index, lock, fields.partial_sigs)
    script_sig = b""
    witness: tuple[bytes, ...] = ()
    if lock.segwit:
        witness = stack if lock.witness_script is None else (*stack, lock.witness_script)
    else:
        script_sig = b"".join(map(push_data, stack))
    if lock.redeem_script is not None:
        script_sig += push_data(lock.redeem_script)
    return _final(fields, script_sig, witness)


def _final(fields: InputMap, script_sig: bytes, witness: tuple[bytes, ...]) -> InputMap:
    kept = InputMap(tuple([pair for pair in fields.pairs if pair[0][0] not in _CLEARED]))
    final = {}
    if script_sig:
        final[bytes([psbt_fields.IN_FINAL_SCRIPT_SIG])] = script_sig
    if witness:
        final[bytes([psbt_fields.IN_FINAL_SCRIPT_WITNESS])] = witness_to_bytes(witness)
    return kept.with_pairs(final)


def _solve(index: int, lock: Lock, signatures: dict[bytes, bytes]) -> tuple[bytes, ...]:
    script = lock.script_code
    if is_p2pkh(script):
        for key, signature in signatures.items():
            if key_to_p2pkh_script(key) == script:
                return signature, key
        raise _missing(index, 1, 0)
    multisig = parse_multisig(script)
    if multisig is None:
        raise NotPossible(
            "unknown-script", f"input {index} has a script of an unknown kind: {script.hex():.80}"
        )
    required, keys = multisig
    # OP_CHECKMULTISIG takes the signatures in the order of the keys
    found = [signatures[key] for key in keys if key in signatures][:required]
    if len(found) < required:
        raise _missing(index, required, len(found))
    # it also pops one element more than it uses, which must be empty (BIP-0147)
    return b"", *found


def _check_sighash_types(index: int, fields: InputMap) -> None:
    expected = fields.sighash_type
    for signature in fields.partial_sigs.values():
        if expected is not None and signature[-1] != expected:
            raise Refused(
                "wrong-sighash-type",
                f"input {index} asks for sighash type {expected}, but a signature has {signature[-1]}",
            )


def _missing(index: int, required: int, found: int) -> NotPossible:
    return NotPossible("missing-signature", f"input {index} needs {required} signatures and has {found}")


def _mismatch(name: str, script: bytes | None, output: TxOut) -> Refused:
    shown = "none" if script is None else f"one with HASH160 {hash160(script).hex()}"
    return Refused("psbt-mismatch", f"{name}: {shown} fits the script {output.script_pubkey.hex():.80}")
