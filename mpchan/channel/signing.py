"""The channel key: signs by purpose. It builds what it signs, so it cannot be made to sign anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpchan.bitcoin.schnorr import tagged_hash
from mpchan.bitcoin.sighash import SIGHASH_ALL
from mpchan.bitcoin.signature import PrivateKey, PublicKey, broken_signature
from mpchan.channel.construction.base import REFUND, Form, Meant, settlement
from mpchan.channel.terms import Terms
from mpchan.units import Amount

if TYPE_CHECKING:
    from mpchan.channel.construction.signed_refund import SignedRefund


class ChannelKey:
    """One party's key in one channel. Signatures are as the channel's messages carry them."""

    __slots__ = ("_private_key",)

    def __init__(self, private_key: PrivateKey) -> None:
        self._private_key = private_key

    @property
    def public_key(self) -> PublicKey:
        """The key that the funding output's script names."""
        return self._private_key.public_key

    def _sign(self, terms: Terms, meant: Meant) -> bytes:
        return terms.lock.sign_checked(self._private_key, terms.schedule.build(meant))

    def sign_refund(self, terms: Terms) -> bytes:
        """Sign the one refund that the terms allow."""
        return self._sign(terms, REFUND)

    def sign_tagged(self, tag: str, data: bytes) -> bytes:
        """Sign something that is no transaction, such as an offer; strict DER, without a sighash byte.

        What is signed is the tagged hash of ``data`` (BIP-0340, "Design"), which can be the digest of no transaction.

        Args:
            tag: begins with ``mpchan/``; each use has its own.
        """
        if not tag.startswith("mpchan/"):
            raise ValueError(f"{tag} is no tag of mpchan's own")
        return self._private_key.sign_checked(tagged_hash(tag, data))

    def sign_returned_refund(self, refund: SignedRefund) -> bytes:
        """Sign a refund that the payee has signed, in a channel of which nothing else is known any more."""
        return self._private_key.sign_checked(refund.sighash) + bytes([SIGHASH_ALL])

    def sign_update(self, terms: Terms, number: int, paid: Amount) -> bytes:
        """Sign the ``number``-th update, with ``paid`` in all for the payee."""
        return self._sign(terms, terms.schedule.update(number, paid))

    def sign_update_in(self, form: Form, number: int, paid_sat: int) -> bytes:
        """The same signature as ``sign_update``, of the update that a channel's form builds.

        It is not verified here: of many that become durable together one is, by ``require_update_in``.
        """
        return form.sign(self._private_key, number, paid_sat)

    def require_update_in(self, form: Form, number: int, paid_sat: int, signature: bytes) -> None:
        """Verify a signature that ``sign_update_in`` has made.

        Raises:
            StorageError: ``own-signature``.
        """
        if not form.verify(self.public_key, number, paid_sat, signature):
            raise broken_signature()

    def sign_settlement(self, terms: Terms, paid: Amount) -> bytes:
        """Sign the settlement with ``paid`` in all for the payee."""
        return self._sign(terms, settlement(paid))
