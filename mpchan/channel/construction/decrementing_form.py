"""The form of the updates of ``decrementing``: each has a lock time of its own, and an ECDSA signature."""

from __future__ import annotations

from hashlib import sha256

from mpchan.bitcoin.script import double_sha256
from mpchan.bitcoin.serialize import uint32
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_constant_part
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.channel.construction.decrementing import Decrementing
from mpchan.channel.construction.form import UpdateForm, fitting, update
from mpchan.channel.construction.two_of_two import TwoOfTwo
from mpchan.channel.terms import Terms

_TYPE = uint32(SIGHASH_ALL)
_ALL = bytes([SIGHASH_ALL])


class DecrementingForm(UpdateForm):
    """Make it with ``update_form``."""

    sample = b"\x30" + b"P" * 71
    last: int

    def __init__(self, terms: Terms) -> None:
        schedule = Decrementing(terms)
        self.last = schedule.last_update
        first, second = (schedule.update_lock_time(number).value for number in (1, 2))
        self._step = first - second
        self._zero = first + self._step
        super().__init__(terms)
        lock = TwoOfTwo(terms.payer_key, terms.offer.payee_key, terms.funding_value)
        sample = update(terms, 1, terms.capacity.sat)
        self._constant = sha256(segwit_v0_constant_part(sample, 0, lock.witness_script, terms.funding_value))

    def lock_time(self, number: int) -> int:
        return self._zero - number * self._step

    def _number_at(self, lock_time: int) -> int:
        number, rest = divmod(self._zero - lock_time, self._step)
        if rest or not 1 <= number <= self.last:
            raise ValueError
        return number

    def _digest(self, number: int, outputs: bytes) -> bytes:
        """BIP-0143, from the hash of the part that all updates share."""
        digest = self._constant.copy()
        digest.update(double_sha256(outputs) + self.lock_time(number).to_bytes(4, "little") + _TYPE)
        return sha256(digest.digest()).digest()

    def _signature(self, key: PrivateKey, digest: bytes) -> bytes:
        return key.sign(digest) + _ALL

    def _is_signature(self, key: PublicKey, signature: bytes, digest: bytes) -> bool:
        return signature[-1:] == _ALL and key.verify(signature[:-1], digest)


def update_form(terms: Terms) -> DecrementingForm | None:
    """The form of a channel's updates; None where they have none, and are built one by one."""
    return None if Decrementing(terms).last_update < 2 else fitting(DecrementingForm, terms)
