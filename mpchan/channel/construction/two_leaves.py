"""The lock of ``taproot``: a P2TR output with two leaves (BIP-0341, BIP-0342), one BIP-0340 signature of each signer.

    internal key   the MuSig2 aggregate (BIP-0327) of both keys, in the order of BIP-0390's ``musig()``
    leaf U         <payer> OP_CHECKSIGVERIFY <payee> OP_CHECKSIG
    leaf R         <payer> OP_CHECKSIGVERIFY <L_refund> OP_CHECKLOCKTIMEVERIFY

Updates and the settlement are spends by leaf U, the refund by leaf R, which needs the payer alone. Nobody spends by the
key path yet; that the address commits to it lets a later settlement be 50 vB smaller.

A message carries all that makes the channel: witness_utxo, both leaf scripts with their control blocks, the internal
key, the Merkle root (BIP-0371), both keys with the signs of their y as the participants of the internal key (BIP-0373),
the offer and the payer's script (``carried``), and the payer's signature. So it needs nothing else to be understood.
Signatures have 64 bytes, SIGHASH_DEFAULT, and auxiliary randomness of zeros: the same bytes every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from mpchan.bitcoin.descriptor import musig_descriptor
from mpchan.bitcoin.musig import musig_key
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.schnorr import SIGNATURE_SIZE, verify_schnorr
from mpchan.bitcoin.script import output_size
from mpchan.bitcoin.sighash import taproot_script_sighash
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.taproot import ControlBlock, TapLeaf, TaprootOutput, without_annex
from mpchan.bitcoin.tapscript import key_after_script, two_keys_script
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.carried import carried_more, carries, with_more, with_offer
from mpchan.channel.messages import spent_rules
from mpchan.channel.offer import Offer
from mpchan.channel.outputs import BASE_SIZE
from mpchan.channel.rules import Check, Rule
from mpchan.units import Amount, LockTime
from mpchan.values import field, frozen

_KEY_AND_CHECK = 1 + 32 + 1
_CONTROL_BLOCK = 33 + 32
_SIGNATURE = 1 + SIGNATURE_SIZE
_WITNESS_BASE = (
    2 + 1 + 1 + 1 + _CONTROL_BLOCK
)  # marker and flag, number of items, the lengths of script and block
_LEAF_U = 2 * _KEY_AND_CHECK
_LEAF_R = _KEY_AND_CHECK + (1 + 4) + 1  # a lock time of four bytes, the longest

LONGEST_PAYER_SCRIPT = 34
"""Of P2WSH and P2TR, in bytes. The reserve is for that, so that it follows from the offer alone."""


def close_vsize(payee_script: bytes) -> int:
    """Virtual size (BIP-0141) of a spend by leaf U to the longest script that a payer can have, and to the payee's."""
    outputs = output_size(bytes(LONGEST_PAYER_SCRIPT)) + output_size(payee_script)
    return -(-(4 * (BASE_SIZE + outputs) + _WITNESS_BASE + _LEAF_U + 2 * _SIGNATURE) // 4)


def refund_vsize(payer_script: bytes) -> int:
    """Virtual size of a spend by leaf R to one output."""
    return -(-(4 * (BASE_SIZE + output_size(payer_script)) + _WITNESS_BASE + _LEAF_R + _SIGNATURE) // 4)


@frozen
class Tree:
    """What follows from the keys and L_refund; worked out once, since its parts cost multiplications on the curve.

    Attributes:
        aggregate: the internal key with the sign of its y, compressed.
        keys: the keys that it aggregates, compressed, in the order in which it does.
        close, refund: the leaves U and R.
        control_blocks: what a spend by each of the two shows.
    """

    aggregate: bytes
    keys: tuple[bytes, ...]
    close: TapLeaf
    refund: TapLeaf
    merkle_root: bytes
    script_pubkey: bytes
    control_blocks: Mapping[TapLeaf, ControlBlock] = field(compare=False)

    @property
    def internal_key(self) -> bytes:
        """The aggregate, x-only."""
        return self.aggregate[1:]

    def control_block(self, leaf: TapLeaf) -> bytes:
        """What a spend by the leaf shows."""
        return self.control_blocks[leaf].to_bytes()


@lru_cache(1024)
def tree_of(payer_key: PublicKey, payee_key: PublicKey, refund_at: LockTime) -> Tree:
    """The tree of a channel.

    Raises:
        ParseError: ``malformed-number`` where L_refund is above what a script can hold.
    """
    close = TapLeaf(two_keys_script(payer_key.x_only, payee_key.x_only))
    refund = TapLeaf(key_after_script(payer_key.x_only, refund_at))
    keys = tuple(sorted((payer_key.sec, payee_key.sec)))
    aggregate = musig_key(payer_key, payee_key)
    output = TaprootOutput(aggregate.x_only, (close, refund))
    blocks = {leaf: output.control_block(leaf) for leaf in (close, refund)}
    return Tree(aggregate.sec, keys, close, refund, output.merkle_root, output.script_pubkey, blocks)


@frozen
class TwoLeaves:
    """The lock of one channel.

    Attributes:
        value: of the output that it locks.
        refund_at: L_refund.
        payer_script: scriptPubKey that gets the payer's share.
    """

    offer: Offer
    payer_key: PublicKey
    value: Amount
    payer_script: bytes
    refund_at: LockTime

    @property
    def payee_key(self) -> PublicKey:
        """The offer's."""
        return self.offer.payee_key

    @property
    def tree(self) -> Tree:
        """Both leaves, and the internal key."""
        return tree_of(self.payer_key, self.payee_key, self.refund_at)

    @property
    def script_pubkey(self) -> bytes:
        """Version 1 and the output key."""
        return self.tree.script_pubkey

    @property
    def descriptor(self) -> str:
        """``tr(musig(…),{…,…})``."""
        return musig_descriptor(self.payer_key, self.payee_key, self.refund_at)

    @property
    def _funding(self) -> TxOut:
        return TxOut(self.value, self.script_pubkey)

    def _leaf(self, transaction: Transaction) -> TapLeaf:
        is_refund = transaction.lock_time == self.refund_at.value
        return self.tree.refund if is_refund else self.tree.close

    def signers(self, transaction: Transaction) -> tuple[PublicKey, ...]:
        """Of the refund the payer alone."""
        if self._leaf(transaction) == self.tree.refund:
            return (self.payer_key,)
        return self.payer_key, self.payee_key

    def sighash(self, transaction: Transaction) -> bytes:
        """The BIP-0341 digest, SIGHASH_DEFAULT, of a spend by the leaf that is the transaction's."""
        return taproot_script_sighash(transaction, 0, [self._funding], self._leaf(transaction).hash)

    def sign_checked(self, key: PrivateKey, transaction: Transaction) -> bytes:
        """64 bytes; verified."""
        return key.sign_schnorr_checked(self.sighash(transaction))

    def signature_rules(self, transaction: Transaction, signer: PublicKey, signature: bytes) -> Check[None]:
        """64 bytes, and made by ``signer`` for this very transaction."""
        size = len(signature)
        yield Rule(
            "sighash-type",
            size == SIGNATURE_SIZE,
            "bytes of a SIGHASH_DEFAULT signature",
            SIGNATURE_SIZE,
            size,
        )
        valid = verify_schnorr(signer.x_only, signature, self.sighash(transaction))
        text = "signature does not fit this transaction and the key"
        yield Rule("signature", valid, text, found=signer.x_only.hex())

    def message(
        self, transaction: Transaction, signer: PublicKey | None = None, signature: bytes = b""
    ) -> Psbt:
        """The PSBT of a spend of the funding output, with one party's signature or none."""
        place = None if signer is None else (signer.x_only, self._leaf(transaction).hash)
        psbt = Psbt.create(transaction).with_input_fields(
            0,
            witness_utxo=self._funding,
            tap_script_sigs={} if place is None else {place: signature},
            tap_leaf_scripts=self._leaf_scripts(),
            tap_internal_key=self.tree.internal_key,
            tap_merkle_root=self.tree.merkle_root,
            musig2_participants={self.tree.aggregate: self.tree.keys},
        )
        return with_more(with_offer(psbt, self.offer), self.payer_script)

    def _leaf_scripts(self) -> dict[ControlBlock, TapLeaf]:
        return {block: leaf for leaf, block in self.tree.control_blocks.items()}

    def envelope_rules(self, psbt: Psbt, signer: PublicKey | None) -> Check[bytes]:
        """Both leaves, the keys, the offer, the payer's script, and the one signature that belongs there."""
        yield from spent_rules(psbt, self._funding)
        fields, tree = psbt.inputs[0], self.tree
        leaves = fields.tap_leaf_scripts == self._leaf_scripts()
        yield Rule("leaf-scripts", leaves, "the leaf scripts and control blocks are not the channel's two")
        key, root = fields.tap_internal_key, fields.tap_merkle_root
        ours = tree.internal_key
        yield Rule("internal-key", key == ours, "tap_internal_key", ours.hex(), _hex(key))
        same = root == tree.merkle_root
        yield Rule("merkle-root", same, "tap_merkle_root", tree.merkle_root.hex(), _hex(root))
        participants = fields.musig2_participants == {tree.aggregate: tree.keys}
        yield Rule(
            "participants", participants, "the participants of the internal key are not both parties' keys"
        )
        yield Rule("offer-differs", carries(psbt, self.offer), "the message carries another offer")
        script = carried_more(psbt)
        same = script == self.payer_script
        yield Rule("payer-script", same, "payer's script", self.payer_script.hex(), _hex(script))
        kind = fields.sighash_type
        yield Rule(
            "sighash-type",
            kind is None,
            "message has a sighash_type, SIGHASH_DEFAULT needs none",
            found="" if kind is None else kind,
        )
        yield Rule("key-path", fields.tap_key_sig is None, "message has a signature for the key path")
        return (yield from self._signature_field_rules(psbt, signer))

    def _signature_field_rules(self, psbt: Psbt, signer: PublicKey | None) -> Check[bytes]:
        found = psbt.inputs[0].tap_script_sigs
        place = None if signer is None else (signer.x_only, self._leaf(psbt.tx).hash)
        text = "message lacks the signature of the other party's key"
        yield Rule("missing-signature", place is None or place in found, text)
        extra = len(found) > (0 if place is None else 1) or bool(psbt.inputs[0].partial_sigs)
        yield Rule("extra-signature", not extra, "message holds a signature that does not belong there")
        return b"" if place is None else found[place]

    def complete(self, transaction: Transaction, signatures: Mapping[PublicKey, bytes]) -> Transaction:
        """The transaction with its witness: the signature that the script checks first comes last."""
        leaf = self._leaf(transaction)
        stack = [signatures[signer] for signer in reversed(self.signers(transaction))]
        return transaction.with_witness(0, (*stack, leaf.script, self.tree.control_block(leaf)))

    def is_whole(self, transaction: Transaction) -> bool:
        """Whether the witness is the signatures, the leaf's script and its control block."""
        witness, leaf = transaction.inputs[0].witness, self._leaf(transaction)
        count = len(self.signers(transaction))
        return len(witness) == count + 2 and witness[count:] == (leaf.script, self.tree.control_block(leaf))

    def signature_in(self, transaction: Transaction, signer: PublicKey) -> bytes:
        """One party's signature out of a transaction that is whole."""
        signers = self.signers(transaction)
        return transaction.inputs[0].witness[len(signers) - 1 - signers.index(signer)]

    def signature_from(self, psbt: Psbt, signer: PublicKey) -> bytes:
        """One party's signature in the leaf that is the transaction's."""
        place = signer.x_only, self._leaf(psbt.tx).hash
        return psbt.inputs[0].tap_script_sigs.get(place, b"") if psbt.inputs else b""

    def takes_back(self, spending: Transaction) -> bool:
        """Whether leaf R is what it was spent by. All else of it, an annex too, is for the payer to choose."""
        shown = (self.tree.refund.script, self.tree.control_block(self.tree.refund))
        return any(without_annex(source.witness)[-2:] == shown for source in spending.inputs)


def _hex(data: bytes | None) -> str:
    return "none" if data is None else data[:200].hex()
