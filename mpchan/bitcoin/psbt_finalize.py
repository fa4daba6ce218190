"""How the signatures of a PSBT open what its inputs spend (BIP-0174, Input Finalizer)."""

from __future__ import annotations

from mpchan.bitcoin import psbt_fields
from mpchan.bitcoin.psbt_map import InputMap
from mpchan.bitcoin.script import (
    hash160,
    is_compressed_key,
    is_p2tr,
    is_p2wpkh,
    is_p2wsh,
    key_to_p2wpkh_script,
    parse_multisig,
    script_to_p2wsh_script,
)
from mpchan.bitcoin.tx import TxOut, witness_to_bytes
from mpchan.errors import NotPossible, Refused

# BIP-0174: once an input is final, its map keeps the spent output and what is unknown, and nothing else
_CLEARED = psbt_fields.INPUT_FIELDS.keys() - {
    psbt_fields.IN_NON_WITNESS_UTXO,
    psbt_fields.IN_WITNESS_UTXO,
    psbt_fields.IN_FINAL_SCRIPT_SIG,
    psbt_fields.IN_FINAL_SCRIPT_WITNESS,
    *psbt_fields.IN_VERSION_2,
}


def finalize_input(index: int, fields: InputMap, output: TxOut) -> InputMap:
    """Turn the partial signatures of an input into its final witness.

    Knows what a funding may spend: P2WPKH, k-of-n multisig behind P2WSH, and taproot's key path (BIP-0371). The
    signatures are not verified.

    Raises:
        NotPossible: ``missing-signature``; ``unknown-script``.
        Refused: ``psbt-mismatch`` for a script that is missing or has another hash; ``wrong-sighash-type`` for a
            signature of another type than the field says.
    """
    script, signatures = output.script_pubkey, fields.partial_sigs
    if is_p2tr(script) and fields.tap_key_sig is not None:
        return _final(fields, (fields.tap_key_sig,))
    _check_sighash_types(index, fields)
    needless = is_p2wpkh(script) and (fields.witness_script, fields.redeem_script) != (None, None)
    if needless or (is_p2wsh(script) and fields.redeem_script is not None):
        raise Refused(
            "psbt-mismatch", f"a script stands beside the script {script.hex():.80}, which has none"
        )
    if is_p2wpkh(script):
        for key, signature in signatures.items():
            if is_compressed_key(key) and key_to_p2wpkh_script(key) == script:
                return _final(fields, (signature, key))
        raise _missing(index, 1, 0)
    if not is_p2wsh(script):
        raise _unknown(index, script)
    witness_script = fields.witness_script
    if witness_script is None or script_to_p2wsh_script(witness_script) != script:
        shown = "none" if witness_script is None else f"one with HASH160 {hash160(witness_script).hex()}"
        raise Refused("psbt-mismatch", f"witness script: {shown} fits the script {script.hex():.80}")
    multisig = parse_multisig(witness_script)
    if multisig is None:
        raise _unknown(index, witness_script)
    required, keys = multisig
    # OP_CHECKMULTISIG takes the signatures in the order of the keys
    found = [signatures[key] for key in keys if key in signatures][:required]
    if len(found) < required:
        raise _missing(index, required, len(found))
    # it also pops one element more than it uses, which must be empty (BIP-0147)
    return _final(fields, (b"", *found, witness_script))


def _final(fields: InputMap, witness: tuple[bytes, ...]) -> InputMap:
    kept = InputMap(tuple([pair for pair in fields.pairs if pair[0][0] not in _CLEARED]))
    return kept.with_pairs({bytes([psbt_fields.IN_FINAL_SCRIPT_WITNESS]): witness_to_bytes(witness)})


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


def _unknown(index: int, script: bytes) -> NotPossible:
    return NotPossible("unknown-script", f"input {index} has a script of an unknown kind: {script.hex():.80}")
