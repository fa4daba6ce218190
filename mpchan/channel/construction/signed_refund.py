"""A refund that the payee has signed, read from its file alone, where nothing else of the channel is left.

Its own fields tell all that the payer needs to add its signature: what is spent, under which two keys, and where it
goes. They come from a file that anybody may have written, so what is signed is rebuilt from them, the payee's signature
must fit it, and what it leaves to the miners is bounded. Whether it pays to the payer is for the caller to know.
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import script_to_p2wsh_script
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import MAX_REPLACEABLE, Transaction, TxIn, TxOut
from mpchan.channel.construction.two_of_two import keys_rules, signature_over_rules, spend_vsize
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.units import FeeRate, OutPoint
from mpchan.values import frozen

_VERSIONS = (2, 3)


@frozen
class SignedRefund:
    """The refund and the payee's signature.

    Attributes:
        version: of the transaction; that of the other transactions of its channel.
        spent: the channel's funding output.
        witness_script: the channel's 2-of-2, which ``spent`` commits to.
        payout: the only output.
        lock_time: nLockTime.
        payee_signature: strict DER with the sighash byte; verified.
    """

    version: int
    outpoint: OutPoint
    spent: TxOut
    witness_script: bytes
    payee_key: PublicKey
    payer_key: PublicKey
    payout: TxOut
    lock_time: int
    payee_signature: bytes

    @property
    def unsigned(self) -> Transaction:
        """The one transaction that these values make."""
        source = TxIn(self.outpoint, MAX_REPLACEABLE)
        return Transaction(self.version, (source,), (self.payout,), self.lock_time)

    @property
    def sighash(self) -> bytes:
        """What both parties sign (BIP-0143, SIGHASH_ALL)."""
        return segwit_v0_sighash(self.unsigned, 0, self.witness_script, self.spent.value, SIGHASH_ALL)

    def complete(self, payer_signature: bytes) -> Transaction:
        """The refund with both signatures, in the order of the keys in the script."""
        pair = sorted([(self.payer_key.sec, payer_signature), (self.payee_key.sec, self.payee_signature)])
        return self.unsigned.with_witness(0, (b"", pair[0][1], pair[1][1], self.witness_script))


def signed_refund_rules(psbt: Psbt, most: FeeRate) -> Check[SignedRefund]:
    """The file holds a payee's signed refund. Establishes what it says.

    Args:
        most: the highest fee rate that this wallet agrees to. The channel's own is not in the file.
    """
    transaction = psbt.tx
    keys = yield from keys_rules(psbt)
    yield Rule("lock-time-zero", transaction.lock_time != 0, "the refund has nLockTime 0")
    count = len(transaction.outputs)
    yield Rule("output-count", count == 1, "number of outputs", 1, count)
    fields = psbt.inputs[0]
    spent, script = fields.witness_utxo, fields.witness_script
    if spent is None or script is None:
        yield Rule("witness-utxo", False, "message lacks witness_utxo")
        raise TypeError(BROKEN)
    commits = spent.script_pubkey == script_to_p2wsh_script(script)
    yield Rule("witness-utxo", commits, "the script in witness_utxo is not that of witness_script")
    kind = fields.sighash_type
    yield Rule("sighash-type", kind == SIGHASH_ALL, "sighash_type", SIGHASH_ALL, kind)
    signers = [key for key in keys if key in fields.partial_sigs]
    yield Rule(
        "missing-signature",
        len(signers) == 1 and len(fields.partial_sigs) == 1,
        "signatures of the script's two keys",
        "that of the payee alone",
        len(signers),
        hint="give the file that `mpchan payee sign-refund` has written",
    )
    payee, payer = signers[0], keys[0] if keys[1] == signers[0] else keys[1]
    payee_key, payer_key = (PublicKey(key) for key in (payee, payer))
    refund = SignedRefund(
        transaction.version,
        transaction.inputs[0].outpoint,
        spent,
        script,
        payee_key,
        payer_key,
        transaction.outputs[0],
        transaction.lock_time,
        fields.partial_sigs[payee],
    )
    known = transaction.version in _VERSIONS
    yield Rule("version", known, "transaction version", "2 or 3", transaction.version)
    same = refund.unsigned == transaction
    yield Rule("transaction", same, "the transaction has not the form of a refund")
    yield from signature_over_rules(refund.sighash, refund.payee_key, refund.payee_signature)
    fee = spent.value.sat - refund.payout.value.sat
    bound = most.fee(spend_vsize(refund.payout.script_pubkey))
    yield Rule("fee-rate-high", 0 <= fee <= bound.sat, "fee of the refund", f"at most {bound}", f"{fee} sat")
    return refund
