"""The lock of ``decrementing``: P2WSH with a 2-of-2 (BIP-0141), two ECDSA signatures with SIGHASH_ALL (BIP-0143).

The witness script is ``2 <k1> <k2> 2 OP_CHECKMULTISIG`` with the keys in BIP-0067 order. A message carries, besides the
transaction, witness_utxo, witness_script, sighash_type and one partial signature (BIP-0174): strict DER (BIP-0066) with
low S (BIP-0146), and the sighash byte 0x01 behind.

Sizes are for two signatures of 72 bytes, the largest that a low-S signature can have with its sighash byte, so a real
transaction is never larger than what was paid for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mpchan.bitcoin.descriptor import two_of_two_descriptor
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import (
    output_size,
    parse_multisig,
    parse_two_of_two,
    script_to_p2wsh_script,
    two_of_two_script,
)
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey, PublicKey, is_low_s, parse_der
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.messages import single_input_rules, spent_rules
from mpchan.channel.outputs import BASE_SIZE
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.errors import ParseError
from mpchan.units import Amount, LockTime
from mpchan.values import field, frozen

if TYPE_CHECKING:
    from mpchan.channel.offer import Offer
    from mpchan.channel.terms import Terms

WITNESS_SCRIPT_SIZE = (
    1  # OP_2
    + (1 + 33)  # first key
    + (1 + 33)  # second key
    + 1  # OP_2
    + 1  # OP_CHECKMULTISIG
)
_WITNESS = (
    2  # segwit marker and flag
    + 1  # number of stack items
    + 1  # the empty item that OP_CHECKMULTISIG drops
    + (1 + 72)  # first signature
    + (1 + 72)  # second signature
    + (1 + WITNESS_SCRIPT_SIZE)
)


def spend_vsize(*output_scripts: bytes) -> int:
    """Virtual size (BIP-0141) of a spend of the funding output that pays to these scripts."""
    base = BASE_SIZE + sum(output_size(script) for script in output_scripts)
    return -(-(4 * base + _WITNESS) // 4)


@frozen
class TwoOfTwo:
    """The lock of one channel.

    Attributes:
        value: of the output that it locks.
        witness_script: 71 bytes.
    """

    payer_key: PublicKey
    payee_key: PublicKey
    value: Amount
    witness_script: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        script = two_of_two_script(self.payer_key.sec, self.payee_key.sec)
        object.__setattr__(self, "witness_script", script)

    @property
    def script_pubkey(self) -> bytes:
        """Version 0 and the SHA-256 of the witness script."""
        return script_to_p2wsh_script(self.witness_script)

    @property
    def descriptor(self) -> str:
        """``wsh(sortedmulti(2,…))``."""
        return two_of_two_descriptor(self.payer_key.sec, self.payee_key.sec)

    @property
    def _funding(self) -> TxOut:
        return TxOut(self.value, self.script_pubkey)

    def sighash(self, transaction: Transaction) -> bytes:
        """The BIP-0143 digest, SIGHASH_ALL, of a spend of the funding output; the amount is our own terms'."""
        return segwit_v0_sighash(transaction, 0, self.witness_script, self.value, SIGHASH_ALL)

    def sign_checked(self, key: PrivateKey, transaction: Transaction) -> bytes:
        """Strict DER with the sighash byte; verified."""
        return key.sign_checked(self.sighash(transaction)) + bytes([SIGHASH_ALL])

    def signature_rules(self, transaction: Transaction, signer: PublicKey, signature: bytes) -> Check[None]:
        """SIGHASH_ALL, strict DER, low S, and made by ``signer`` for this very transaction."""
        yield from signature_over_rules(self.sighash(transaction), signer, signature)

    def message(
        self, transaction: Transaction, signer: PublicKey | None = None, signature: bytes = b""
    ) -> Psbt:
        """The PSBT of a spend of the funding output, with one party's signature or none."""
        return Psbt.create(transaction).with_input_fields(
            0,
            witness_utxo=self._funding,
            witness_script=self.witness_script,
            sighash_type=SIGHASH_ALL,
            partial_sigs={} if signer is None else {signer.sec: signature},
        )

    def envelope_rules(self, psbt: Psbt, signer: PublicKey | None) -> Check[bytes]:
        """witness_utxo, witness_script, sighash_type, and the one signature that belongs there."""
        yield from spent_rules(psbt, self._funding)
        fields = psbt.inputs[0]
        script = fields.witness_script
        same = script == self.witness_script
        found = "none" if script is None else script[:200].hex()
        yield Rule("witness-script", same, "witness_script", self.witness_script.hex(), found)
        kind = fields.sighash_type
        yield Rule("sighash-type", kind == SIGHASH_ALL, "sighash_type", SIGHASH_ALL, kind)
        signers = set(fields.partial_sigs)
        wanted = set() if signer is None else {signer.sec}
        yield Rule(
            "missing-signature",
            wanted <= signers,
            "message lacks the signature of the other party's key",
            hint=self._instead(signers),
        )
        extra = sorted(key.hex() for key in signers - wanted)
        yield Rule(
            "extra-signature",
            not extra,
            "message holds a signature that does not belong there",
            found=", ".join(extra),
        )
        return b"" if signer is None else fields.partial_sigs[signer.sec]

    def _instead(self, signers: set[bytes]) -> str | None:
        """What a message most likely is that lacks the other party's signature."""
        if not signers:
            return "nobody has signed it: a refund request is for `mpchan payee sign-refund`"
        if signers <= {self.payer_key.sec, self.payee_key.sec}:
            return "it is this party's own message, and for the other one"
        return None

    def signers(self, transaction: Transaction) -> tuple[PublicKey, ...]:
        """Both, whatever the transaction."""
        return self.payer_key, self.payee_key

    def complete(self, transaction: Transaction, signatures: Mapping[PublicKey, bytes]) -> Transaction:
        """The transaction with both signatures in its witness, in the order of the keys in the script."""
        first, second = sorted(self.signers(transaction), key=lambda key: key.sec)
        return transaction.with_witness(0, (b"", signatures[first], signatures[second], self.witness_script))

    def is_whole(self, transaction: Transaction) -> bool:
        """Whether the witness is an empty item, two signatures and the script."""
        witness = transaction.inputs[0].witness
        return len(witness) == 4 and witness[0] == b"" and witness[3] == self.witness_script

    def signature_in(self, transaction: Transaction, signer: PublicKey) -> bytes:
        """One party's signature out of a transaction that holds both."""
        first = signer.sec == min(self.payer_key.sec, self.payee_key.sec)
        return transaction.inputs[0].witness[1 if first else 2]

    def signature_from(self, psbt: Psbt, signer: PublicKey) -> bytes:
        """One party's partial signature."""
        return psbt.inputs[0].partial_sigs.get(signer.sec, b"") if psbt.inputs else b""

    def takes_back(self, spending: Transaction) -> bool:
        """Never: both sign the refund, and there is one."""
        return False


def signature_over_rules(digest: bytes, signer: PublicKey, signature: bytes) -> Check[None]:
    """A signature over a transaction's 32-byte digest for SIGHASH_ALL: strict DER, low S, made by ``signer``."""
    kind = signature[-1] if signature else None
    yield Rule("sighash-type", kind == SIGHASH_ALL, "sighash byte of the signature", SIGHASH_ALL, kind)
    der = signature[:-1]
    valid = signer.verify(der, digest)
    if not valid:
        yield from _why_refused(der)
    text = "signature does not fit this transaction and the key"
    yield Rule("signature", valid, text, found=signer.sec.hex())


def _why_refused(der: bytes) -> Iterator[Rule]:
    """What is wrong with the form of a signature that does not verify: ``PublicKey.verify`` takes no other form."""
    try:
        _, s = parse_der(der)
    except ParseError as error:
        yield Rule("signature-der", False, f"signature is not strict DER: {error.message}")
        raise
    yield Rule("signature-high-s", is_low_s(s), "signature has a high S", found=der[:200].hex())


def keys_rules(psbt: Psbt) -> Check[tuple[bytes, bytes]]:
    """The witness script is a 2-of-2. Establishes both keys, one of which is some offer's."""
    yield from single_input_rules(psbt)
    script = psbt.inputs[0].witness_script
    if script is None:
        hint = (
            "no refund and no request for one: a payment is for `mpchan payee accept`, "
            "what another wallet has made for `mpchan payer open --funding`"
        )
        yield Rule("witness-script", False, "message lacks witness_script", hint=hint)
        raise TypeError(BROKEN)
    try:
        keys = parse_two_of_two(script)
    except ParseError as error:
        yield Rule("witness-script", False, f"witness_script is not the channel's 2-of-2: {error.message}")
        raise
    yield Rule("witness-script", True, "witness_script is a 2-of-2 with keys in BIP-0067 order")
    return keys


class TwoOfTwoLocked:
    """What the constructions with this lock have in common."""

    def lock(self, terms: Terms) -> TwoOfTwo:
        """How the funding output of a channel is spent."""
        return TwoOfTwo(terms.payer_key, terms.offer.payee_key, terms.funding_value)

    has_exchange = True

    def close_vsize(self, payer_script: bytes, payee_script: bytes) -> int:
        """See ``spend_vsize``."""
        return spend_vsize(payer_script, payee_script)

    def refund_vsize(self, payer_script: bytes) -> int:
        """See ``spend_vsize``."""
        return spend_vsize(payer_script)

    def payer_script_fault(self, payer_script: bytes) -> str | None:
        """Any that nodes relay will do."""
        return None

    def refund_at(self, earliest: LockTime) -> LockTime:
        """Any lock time will do."""
        return earliest

    def refund_times(self, offer: Offer, latest: LockTime) -> range:
        """None: without the payee's signature no refund can be had."""
        return range(0)

    def funding_script(self, offer: Offer, payer_key: PublicKey, refund_at: LockTime | None) -> bytes:
        """The scriptPubKey of the funding output."""
        return script_to_p2wsh_script(two_of_two_script(payer_key.sec, offer.payee_key.sec))

    def descriptor(self, offer: Offer, payer_key: PublicKey, refund_at: LockTime | None) -> str:
        """The same as ``wsh(sortedmulti(2,…))``."""
        return two_of_two_descriptor(payer_key.sec, offer.payee_key.sec)

    def is_message(self, psbt: Psbt) -> bool:
        """Whether what a PSBT spends first has a witness script."""
        return bool(psbt.tx.inputs) and psbt.inputs[0].witness_script is not None

    def opening_rules(self, psbt: Psbt, offer: Offer) -> Check[Terms]:
        """The refund was signed before."""
        raise TypeError("no message of this construction makes a channel")

    def refund_fault(self, transaction: Transaction) -> str | None:
        """One input with both signatures of a 2-of-2, one output, a lock time."""
        if not transaction.lock_time:
            return "it has no lock time; a settlement is broadcast by the payee"
        if len(transaction.inputs) != 1 or len(transaction.outputs) != 1:
            return f"it has {len(transaction.inputs)} inputs and {len(transaction.outputs)} outputs"
        witness = transaction.inputs[0].witness
        multisig = parse_multisig(witness[-1]) if len(witness) == 4 else None
        if multisig is None or multisig[0] != 2 or len(multisig[1]) != 2 or witness[0]:
            return "its input does not hold the two signatures of a channel"
        return None
