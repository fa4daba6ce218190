"""The messages between the parties: PSBTs (BIP-0174) that lack one signature.

A message is never inspected piecemeal. Only the free variables are read from it; the one transaction
that the terms allow is rebuilt from them and must be the same bytes; then the signature is checked
against our own digest. The differences that the rules name only explain a refusal: acceptance
rests on equality alone. Which fields stand around the transaction is for the channel's lock to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.rules import Check, Rule, enforce
from mpchan.errors import ParseError, Refused, StorageError

if TYPE_CHECKING:
    from mpchan.channel.terms import Terms


def complete_rules(terms: Terms, unsigned: Transaction, transaction: Transaction) -> Check[None]:
    """A stored transaction is the one that the terms allow, with the good signatures of all who must sign it."""
    yield Rule(
        "stored-transaction",
        transaction.without_witness() == unsigned,
        "txid of the stored transaction",
        unsigned.txid,
        transaction.txid,
        error=StorageError,
    )
    lock = terms.lock
    text = "the stored transaction has another witness than its signatures"
    yield Rule("stored-witness", lock.is_whole(transaction), text, error=StorageError)
    for signer in lock.signers(unsigned):
        yield from lock.signature_rules(unsigned, signer, lock.signature_in(transaction, signer))


def require_complete(terms: Terms, unsigned: Transaction, transaction: Transaction) -> None:
    """Refuse to build on a stored transaction that no block could hold."""
    try:
        enforce(complete_rules(terms, unsigned, transaction))
    except (Refused, ParseError) as error:
        raise StorageError(
            "stored-witness",
            f"the stored transaction {transaction.txid} lacks a good signature: {error.message}",
            hint="`mpchan fsck --repair` signs it again, with this wallet's own keys.toml in its place",
        ) from None


def single_input_rules(psbt: Psbt) -> Check[None]:
    """A message spends one output, and holds no field that only a finished input has."""
    yield Rule("input-count", len(psbt.tx.inputs) == 1, "number of inputs", 1, len(psbt.tx.inputs))
    fields = psbt.inputs[0]
    final = fields.final_script_sig is not None or fields.final_script_witness is not None
    yield Rule(
        "final-field",
        not final,
        "input holds a final field where a partial signature belongs",
        error=ParseError,
    )
    needless = fields.redeem_script is not None
    yield Rule("redeem-script", not needless, "input of a native segwit output holds a redeem script")


def message_rules(psbt: Psbt, terms: Terms, signer: PublicKey | None) -> Check[bytes]:
    """The message spends the channel's funding, and ``signer`` alone has signed it. Establishes that signature.

    It is not verified here; nothing is established where there is no signer.
    """
    yield from single_input_rules(psbt)
    outpoint = psbt.tx.inputs[0].outpoint
    yield Rule("outpoint", outpoint == terms.outpoint, "spent outpoint", terms.outpoint, outpoint)
    return (yield from terms.lock.envelope_rules(psbt, signer))


def spent_rules(psbt: Psbt, expected: TxOut) -> Check[None]:
    """The field witness_utxo is there, and is the output that our own terms name."""
    found = psbt.inputs[0].witness_utxo
    yield Rule("witness-utxo", found is not None, "message lacks witness_utxo")
    if found is not None and found != expected:
        value, script = "value in witness_utxo", "script in witness_utxo"
        yield Rule("witness-utxo", found.value == expected.value, value, expected.value, found.value)
        ours, theirs = expected.script_pubkey.hex(), found.script_pubkey.hex()
        yield Rule("witness-utxo", False, script, ours, theirs)


def same_transaction_rules(expected: Transaction, found: Transaction) -> Check[None]:
    """``found`` is byte for byte the rebuilt transaction; the first difference is named."""
    if expected != found:
        yield from _differences(expected, found)
    yield Rule("transaction", expected == found, "the transaction is not the one that the terms allow")


def _differences(expected: Transaction, found: Transaction) -> Check[None]:
    yield Rule(
        "version", expected.version == found.version, "transaction version", expected.version, found.version
    )
    count = len(found.inputs)
    yield Rule("input-count", count == 1, "number of inputs", 1, count)
    ours, theirs = expected.inputs[0], found.inputs[0]
    yield Rule("outpoint", ours.outpoint == theirs.outpoint, "spent outpoint", ours.outpoint, theirs.outpoint)
    sequence = f"{theirs.sequence:#010x}"
    yield Rule("sequence", ours.sequence == theirs.sequence, "nSequence", f"{ours.sequence:#010x}", sequence)
    yield Rule(
        "lock-time", expected.lock_time == found.lock_time, "nLockTime", expected.lock_time, found.lock_time
    )
    wanted, got = len(expected.outputs), len(found.outputs)
    yield Rule("output-count", wanted == got, "number of outputs", wanted, got)
    for index, (our, their) in enumerate(zip(expected.outputs, found.outputs, strict=True)):
        script, other = our.script_pubkey, their.script_pubkey
        yield Rule(
            "output-script", script == other, f"script of output {index}", script.hex(), other[:200].hex()
        )
        yield Rule(
            "output-value", our.value == their.value, f"value of output {index}", our.value, their.value
        )
