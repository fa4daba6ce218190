"""The form of the updates of ``taproot``: all have the lock time 0, none has a number, and signatures are Schnorr's."""

from __future__ import annotations

from hashlib import sha256

from mpchan.bitcoin.schnorr import SIGNATURE_SIZE, tag_prefix, verify_schnorr
from mpchan.bitcoin.sighash import TAP_SIGHASH, taproot_script_constant_parts
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.channel.construction.form import UpdateForm, fitting, update
from mpchan.channel.construction.two_leaves import tree_of
from mpchan.channel.terms import Terms


class TaprootForm(UpdateForm):
    """Make it with ``update_form``."""

    sample = b"P" * SIGNATURE_SIZE
    last = None

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        tree = tree_of(terms.payer_key, terms.offer.payee_key, terms.refund_lock_time)
        sample = update(terms, 1, terms.capacity.sat)
        before, self._after = taproot_script_constant_parts(sample, 0, [terms.funding_txout], tree.close.hash)
        self._before = sha256(tag_prefix(TAP_SIGHASH) + before)

    def lock_time(self, number: int) -> int:
        return 0

    def _number_at(self, lock_time: int) -> None:
        if lock_time:
            raise ValueError

    def _digest(self, number: int, outputs: bytes) -> bytes:
        """BIP-0341, from the hash of the part before the outputs."""
        digest = self._before.copy()
        digest.update(sha256(outputs).digest() + self._after)
        return digest.digest()

    def _signature(self, key: PrivateKey, digest: bytes) -> bytes:
        return key.sign_schnorr(digest)

    def _is_signature(self, key: PublicKey, signature: bytes, digest: bytes) -> bool:
        return verify_schnorr(key.x_only, signature, digest)


def update_form(terms: Terms) -> TaprootForm | None:
    """The form of a channel's updates; None where they have none, and are built one by one."""
    return fitting(TaprootForm, terms)
