"""The messages between the parties: PSBTs (BIP-0174) that lack one signature.

A message is never inspected piecemeal. Only the free variables are read from it; the one transaction
that the terms allow is rebuilt from them and must be the same bytes; then the signature is checked
against our own digest. The differences that the rules name only explain a refusal: acceptance
rests on equality alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.sighash import SIGHASH_ALL
from mpchan.bitcoin.signature import PublicKey, is_low_s, parse_der
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.rules import Check, Rule, enforce
from mpchan.channel.signing import channel_sighash
from mpchan.channel.terms import Terms
from mpchan.errors import ParseError, Refused, StorageError
from mpchan.units import Amount


def unsigned_message(terms: Terms, transaction: Transaction) -> Psbt:
    """The PSBT of a spend of the funding output, without a signature."""
    return _message(terms, transaction, {})


def signed_message(terms: Terms, transaction: Transaction, signer: PublicKey, signature: bytes) -> Psbt:
    """The same with one party's signature."""
    return _message(terms, transaction, {signer.sec: signature})


def _message(terms: Terms, transaction: Transaction, partial_sigs: Mapping[bytes, bytes]) -> Psbt:
    return Psbt.create(transaction).with_input_fields(
        0,
        witness_utxo=terms.funding_txout,
        witness_script=terms.witness_script,
        sighash_type=SIGHASH_ALL,
        partial_sigs=partial_sigs,
    )


def complete(
    terms: Terms, transaction: Transaction, payer_signature: bytes, payee_signature: bytes
) -> Transaction:
    """The transaction with both signatures in its witness, in the order of the keys in the script."""
    pair = sorted([(terms.payer_key.sec, payer_signature), (terms.offer.payee_key.sec, payee_signature)])
    return transaction.with_witness(0, (b"", pair[0][1], pair[1][1], terms.witness_script))


def one_signature(terms: Terms, transaction: Transaction, signer: PublicKey) -> bytes:
    """One party's signature out of a transaction that holds both, as ``complete`` made it."""
    first = signer.sec == min(terms.payer_key.sec, terms.offer.payee_key.sec)
    return transaction.inputs[0].witness[1 if first else 2]


def complete_rules(terms: Terms, unsigned: Transaction, transaction: Transaction) -> Check[None]:
    """A stored transaction is the one that the terms allow, with the good signatures of both parties."""
    yield Rule(
        "stored-transaction",
        transaction.without_witness() == unsigned,
        "txid of the stored transaction",
        unsigned.txid,
        transaction.txid,
        error=StorageError,
    )
    witness = transaction.inputs[0].witness
    whole = len(witness) == 4 and witness[0] == b"" and witness[3] == terms.witness_script
    text = "the stored transaction has another witness than two signatures"
    yield Rule("stored-witness", whole, text, error=StorageError)
    for signer in (terms.payer_key, terms.offer.payee_key):
        yield from signature_rules(terms, unsigned, signer, one_signature(terms, transaction, signer))


def require_complete(terms: Terms, unsigned: Transaction, transaction: Transaction) -> None:
    """Refuse to build on a stored transaction that no block could hold.

    Raises:
        StorageError: ``stored-transaction``, ``stored-witness``.
    """
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


def envelope_rules(psbt: Psbt, terms: Terms, signer: PublicKey | None) -> Check[None]:
    """The fields around the transaction: what is spent, the script, the sighash type, who signed."""
    yield from single_input_rules(psbt)
    fields = psbt.inputs[0]
    outpoint = psbt.tx.inputs[0].outpoint
    yield Rule("outpoint", outpoint == terms.outpoint, "spent outpoint", terms.outpoint, outpoint)
    expected = terms.funding_txout
    yield Rule("witness-utxo", fields.witness_utxo is not None, "message lacks witness_utxo")
    if fields.witness_utxo is not None and fields.witness_utxo != expected:
        found = fields.witness_utxo
        yield Rule(
            "witness-utxo",
            found.value == expected.value,
            "value in witness_utxo",
            expected.value,
            found.value,
        )
        yield Rule(
            "witness-utxo",
            False,
            "script in witness_utxo",
            expected.script_pubkey.hex(),
            found.script_pubkey.hex(),
        )
    script = fields.witness_script
    same = script == terms.witness_script
    yield Rule("witness-script", same, "witness_script", terms.witness_script.hex(), _hex(script))
    kind = fields.sighash_type
    yield Rule("sighash-type", kind == SIGHASH_ALL, "sighash_type", SIGHASH_ALL, kind)
    signers = set(fields.partial_sigs)
    wanted = set() if signer is None else {signer.sec}
    yield Rule(
        "missing-signature",
        wanted <= signers,
        "message lacks the signature of the other party's key",
        hint=_instead(signers, terms),
    )
    extra = sorted(key.hex() for key in signers - wanted)
    yield Rule(
        "extra-signature",
        not extra,
        "message holds a signature that does not belong there",
        found=", ".join(extra),
    )


def _instead(signers: set[bytes], terms: Terms) -> str | None:
    """What a message most likely is that lacks the other party's signature."""
    if not signers:
        return "nobody has signed it: a refund request is for `mpchan payee sign-refund`"
    if signers <= {terms.payer_key.sec, terms.offer.payee_key.sec}:
        return "it is this party's own message, and for the other one"
    return None


def _hex(value: bytes | None) -> str:
    return "none" if value is None else value[:200].hex()


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
        yield Rule("output-script", script == other, f"script of output {index}", script.hex(), _hex(other))
        yield Rule(
            "output-value", our.value == their.value, f"value of output {index}", our.value, their.value
        )


def signature_rules(
    terms: Terms, transaction: Transaction, signer: PublicKey, signature: bytes
) -> Check[None]:
    """SIGHASH_ALL, strict DER (BIP-0066), low S (BIP-0146), and made by ``signer`` for this very transaction."""
    yield from signature_over_rules(channel_sighash(terms, transaction), signer, signature)


def signature_over_rules(digest: bytes, signer: PublicKey, signature: bytes) -> Check[None]:
    """The same of a transaction's own 32-byte digest for SIGHASH_ALL."""
    kind = signature[-1] if signature else None
    yield Rule("sighash-type", kind == SIGHASH_ALL, "sighash byte of the signature", SIGHASH_ALL, kind)
    der = signature[:-1]
    valid = signer.verify(der, digest)
    if not valid:
        try:
            _, s = parse_der(der)
        except ParseError as error:
            yield Rule("signature-der", False, f"signature is not strict DER: {error.message}")
            raise
        yield Rule("signature-high-s", is_low_s(s), "signature has a high S", found=_hex(der))
    yield Rule(
        "signature", valid, "signature does not fit this transaction and the key", found=signer.sec.hex()
    )


def paid_in(transaction: Transaction, terms: Terms) -> Amount | None:
    """What the transaction pays to the payee's script, or None where no output does."""
    for output in reversed(transaction.outputs):
        if output.script_pubkey == terms.offer.payee_script:
            return output.value
    return None
