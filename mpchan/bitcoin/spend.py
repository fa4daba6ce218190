"""Whether a transaction that somebody shows could ever be mined as the spend of an output.

What a block holds has been judged by the network. What only waits, by the word of one server, has been judged by
nobody here: its id says nothing of its witness, and a lock time that has not come keeps it out of every block. So a
spend that no block holds counts only where the lock takes its witness and the next block could hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from mpchan.bitcoin.sighash import SIGHASH_ALL, SIGHASH_DEFAULT, segwit_v0_sighash, taproot_key_sighash
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import ParseError
from mpchan.units import ChainTip, OutPoint, lock_time_from_int

_SCHNORR_SIZE = 64


def may_be_mined(tx: Transaction, outpoint: OutPoint, output: TxOut, tip: ChainTip) -> bool:
    """Whether the block after ``tip`` could hold ``tx`` as the spend of an output, as far as that can be told here.

    Args:
        outpoint, output: what it is said to spend.
    """
    index = _input_of(tx, outpoint)
    return index is not None and is_final(tx, tip) and lock_accepts(tx, index, output) is not False


def is_final(tx: Transaction, tip: ChainTip) -> bool:
    """Whether the block after ``tip`` may hold it, by its nLockTime (Bitcoin Core: ``IsFinalTx``)."""
    if not tx.lock_time or all(source.sequence == MAX_UINT32 for source in tx.inputs):
        return True
    return lock_time_from_int(tx.lock_time).is_final(tip)


def lock_accepts(tx: Transaction, index: int, output: TxOut) -> bool | None:
    """Whether the witness of input ``index`` opens what it spends, by the rules that nodes relay by.

    P2WPKH, k-of-n multisig in P2WSH and taproot's key path are judged, with whatever sighash type.

    Returns:
        None for other scripts, for taproot's script path, and where a taproot signature covers outputs that are not
        known here.
    """
    script, source = output.script_pubkey, tx.inputs[index]
    if is_p2wpkh(script):
        return not source.script_sig and _opens_p2wpkh(tx, index, output)
    if is_p2wsh(script):
        return not source.script_sig and _opens_p2wsh(tx, index, output)
    if is_p2tr(script):
        return not source.script_sig and _opens_taproot(tx, index, output)
    return None


def _input_of(tx: Transaction, outpoint: OutPoint) -> int | None:
    return next((index for index, source in enumerate(tx.inputs) if source.outpoint == outpoint), None)


def _opens_p2wpkh(tx: Transaction, index: int, output: TxOut) -> bool:
    stack = tx.inputs[index].witness
    try:
        fits = len(stack) == 2 and key_to_p2wpkh_script(stack[1]) == output.script_pubkey
    except ParseError:  # no compressed key
        return False
    return fits and _is_signature(
        tx, index, output, p2wpkh_script_code(output.script_pubkey), stack[1], stack[0]
    )


def _opens_p2wsh(tx: Transaction, index: int, output: TxOut) -> bool | None:
    stack = tx.inputs[index].witness
    if not stack or script_to_p2wsh_script(stack[-1]) != output.script_pubkey:
        return False
    multisig = parse_multisig(stack[-1])
    if multisig is None:
        return None
    required, keys = multisig
    if len(stack) != required + 2 or stack[0]:
        return False
    left = iter(keys)  # OP_CHECKMULTISIG takes the signatures in the order of the keys
    return all(
        any(_is_signature(tx, index, output, stack[-1], key, signature) for key in left)
        for signature in stack[1:-1]
    )


def _opens_taproot(tx: Transaction, index: int, output: TxOut) -> bool | None:
    stack: Sequence[bytes] = tx.inputs[index].witness
    if len(stack) != 1:
        return None if stack else False
    signature, written = stack[0][:_SCHNORR_SIZE], stack[0][_SCHNORR_SIZE:]
    if len(signature) < _SCHNORR_SIZE or len(written) > 1 or written == bytes([SIGHASH_DEFAULT]):
        return False
    kind = written[0] if written else SIGHASH_DEFAULT
    if kind not in (SIGHASH_DEFAULT, SIGHASH_ALL) or len(tx.inputs) != 1:
        return None
    from mpchan.bitcoin.schnorr import verify_schnorr

    digest = taproot_key_sighash(tx, index, [output], kind)
    return verify_schnorr(output.script_pubkey[2:], signature, digest)


def _is_signature(
    tx: Transaction, index: int, output: TxOut, script_code: bytes, key: bytes, signature: bytes
) -> bool:
    if not signature:
        return False
    digest = segwit_v0_sighash(tx, index, script_code, output.value, signature[-1])
    try:
        return PublicKey(key).verify(signature[:-1], digest)
    except ParseError:  # in a witness no other form of key is relayed
        return False
