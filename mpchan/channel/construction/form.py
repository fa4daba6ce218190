"""All updates of one channel as one form: bytes that never change, with gaps for what does.

Two updates of a channel differ in their lock time, in the values of their outputs, and in the signatures; everything
else, some 350 bytes of a message, is the same every time. The form is cut out of what the lock and the schedule have
built, so it holds no format of its own; filled in, it gives their very bytes. Who pays or is paid many times a second
builds with it, and reads with it: a message that is not byte for byte what the form gives is none of its business, and
the rules that explain every difference judge that one.

Amounts are plain satoshi here, numbers plain integers: both are checked against the terms before they get here.
"""

from __future__ import annotations

from hashlib import sha256

from mpchan.bitcoin.script import double_sha256
from mpchan.bitcoin.serialize import uint32
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_constant_part
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.construction.decrementing import Decrementing
from mpchan.channel.construction.two_of_two import TwoOfTwo
from mpchan.channel.terms import Terms
from mpchan.units import Amount

SAMPLES = (b"\x30" + b"P" * 71, b"\x30" + b"Q" * 71)
"""In the place of the payer's and the payee's signature while the form is cut."""

_TYPE = uint32(SIGHASH_ALL)


class _Shape:
    """The form with a given number of outputs: one of ``Terms`` with change for the payer, one without.

    Attributes:
        scripts: what stands behind the value of each output: its script, after the length.
        message, complete: the pieces of a message, and of a transaction with both signatures.
    """

    __slots__ = ("complete", "message", "scripts", "size")

    def __init__(self, terms: Terms, number: int, paid: Amount) -> None:
        transaction = _update(terms, number, paid)
        self.scripts = tuple(output.to_bytes()[8:] for output in transaction.outputs)
        outputs = b"".join(output.to_bytes() for output in transaction.outputs)
        self.size = len(outputs)
        payer, payee = SAMPLES
        message = terms.lock.message(transaction, terms.payer_key, payer).to_bytes()
        unsigned = outputs + uint32(transaction.lock_time)
        head, rest = _cut(message, unsigned)
        middle, end = _cut(rest, bytes([len(payer)]) + payer)
        self.message = (head, middle, end)
        whole = terms.lock.complete(transaction, _pair(terms, payer, payee)).to_bytes()
        head, rest = _cut(whole, outputs)
        first, second = sorted((payer, payee), key=rest.index)
        begin, rest = _cut(rest, bytes([len(first)]) + first + bytes([len(second)]) + second)
        self.complete = (head, begin, rest[:-4])


def _pair(terms: Terms, payer: bytes, payee: bytes) -> dict[PublicKey, bytes]:
    return {terms.payer_key: payer, terms.offer.payee_key: payee}


def _cut(data: bytes, middle: bytes) -> tuple[bytes, bytes]:
    """What stands around a piece that is there once.

    Raises:
        ValueError: it is not.
    """
    before, found, behind = data.partition(middle)
    if not found or middle in behind:
        raise ValueError("a message of this scheme has no such form")
    return before, behind


class UpdateForm:
    """The form of one channel's updates. Make it with ``update_form``.

    Attributes:
        last: the highest update number that the lock times leave room for.
        dust: the least total that the payee can collect.
        least_change: the least change that the payer gets as an output of its own.
    """

    __slots__ = (
        "_alone",
        "_both",
        "_capacity",
        "_constant",
        "_latest",
        "_payer_signs_first",
        "_step",
        "_zero",
        "dust",
        "last",
        "least_change",
        "terms",
    )

    def __init__(self, terms: Terms) -> None:
        schedule = Decrementing(terms)
        first, self.last = schedule.update_lock_time(1).value, schedule.last_update
        self.terms = terms
        self.dust = terms.payee_dust.sat
        self._capacity = terms.capacity.sat
        self._step = first - schedule.update_lock_time(2).value
        self._zero = first + self._step
        self._alone = _Shape(terms, 1, terms.capacity)
        self._both = _Shape(terms, 1, terms.payee_dust)
        if len(self._both.scripts) != 2:
            raise ValueError("no update of this channel leaves the payer any change")
        self.least_change = _least_change(terms)
        self._payer_signs_first = terms.payer_key.sec < terms.offer.payee_key.sec
        lock = TwoOfTwo(terms.payer_key, terms.offer.payee_key, terms.funding_value)
        sample = _update(terms, 1, terms.capacity)
        constant = segwit_v0_constant_part(sample, 0, lock.witness_script, terms.funding_value)
        self._constant = sha256(constant)
        self._latest = (0, 0, b"")

    def lock_time(self, number: int) -> int:
        """nLockTime of update ``number``, which must be 1 to ``last``."""
        return self._zero - number * self._step

    def _outputs(self, paid: int) -> tuple[_Shape, bytes]:
        change = self._capacity - paid
        if change < self.least_change:
            shape = self._alone
            return shape, paid.to_bytes(8, "little") + shape.scripts[0]
        shape = self._both
        payer, payee = shape.scripts
        return shape, change.to_bytes(8, "little") + payer + paid.to_bytes(8, "little") + payee

    def sighash(self, number: int, paid: int) -> bytes:
        """The digest that both parties sign (BIP-0143), from the hash of the part that all updates share."""
        if self._latest[:2] == (number, paid):  # verified a moment ago, and signed now
            return self._latest[2]
        _, outputs = self._outputs(paid)
        first = self._constant.copy()
        first.update(double_sha256(outputs) + self.lock_time(number).to_bytes(4, "little") + _TYPE)
        digest = sha256(first.digest()).digest()
        self._latest = (number, paid, digest)
        return digest

    def message(self, number: int, paid: int, signature: bytes) -> bytes:
        """The payer's message, a PSBT.

        Args:
            signature: the payer's, with its sighash byte; at most 252 bytes.
        """
        shape, outputs = self._outputs(paid)
        head, middle, end = shape.message
        lock_time = self.lock_time(number).to_bytes(4, "little")
        return b"".join((head, outputs, lock_time, middle, bytes([len(signature)]), signature, end))

    def complete(self, number: int, paid: int, payer_signature: bytes, payee_signature: bytes) -> bytes:
        """The transaction with both signatures, in the wire format."""
        shape, outputs = self._outputs(paid)
        head, begin, end = shape.complete
        first, second = payer_signature, payee_signature
        if not self._payer_signs_first:
            first, second = second, first
        lengths = bytes([len(first)]), bytes([len(second)])
        lock_time = self.lock_time(number).to_bytes(4, "little")
        return b"".join((head, outputs, begin, lengths[0], first, lengths[1], second, end, lock_time))

    def read(self, data: bytes) -> tuple[int, int, bytes] | None:
        """Number, total in satoshi and signature of a message that is byte for byte what this form gives.

        None for any other, whatever it is: the rules judge it. The signature is not looked at here.
        """
        for shape in (self._both, self._alone):
            head, middle, _ = shape.message
            start = len(head)
            behind = start + shape.size
            at = behind + 4 + len(middle)
            if at >= len(data) or not data.startswith(head):
                continue
            value = behind - len(shape.scripts[-1]) - 8
            paid = int.from_bytes(data[value : value + 8], "little")
            lock_time = int.from_bytes(data[behind : behind + 4], "little")
            number, rest = divmod(self._zero - lock_time, self._step)
            allowed = not rest and 1 <= number <= self.last and self.dust <= paid <= self._capacity
            signature = data[at + 1 : at + 1 + data[at]]
            if allowed and data[at] < 0xFD and self.message(number, paid, signature) == data:
                return number, paid, signature
        return None


def _update(terms: Terms, number: int, paid: Amount) -> Transaction:
    schedule = terms.schedule
    return schedule.build(schedule.update(number, paid))


def _least_change(terms: Terms) -> int:
    """The least change that the payer gets as an output of its own; found where the schedule draws the line."""
    low, high = 0, (terms.capacity - terms.payee_dust).sat  # without and with an output for it
    while high - low > 1:
        middle = (low + high) // 2
        if len(_update(terms, 1, terms.capacity - Amount(middle)).outputs) == 2:
            high = middle
        else:
            low = middle
    return high


def update_form(terms: Terms) -> UpdateForm | None:
    """The form of a channel's updates; None where they have none, and are built one by one."""
    try:
        if Decrementing(terms).last_update < 2:
            return None
        form = UpdateForm(terms)
    except ValueError:
        return None
    return form if all(_fits(form, number, paid) for number, paid in _tried(form)) else None


def _tried(form: UpdateForm) -> tuple[tuple[int, int], ...]:
    capacity, dust, edge = form.terms.capacity.sat, form.dust, form.least_change
    return (1, dust), (form.last, capacity), (2, capacity - edge), (form.last, capacity - edge + 1)


def _fits(form: UpdateForm, number: int, paid: int) -> bool:
    """The form gives what is built without it."""
    terms, (payer, payee) = form.terms, SAMPLES
    transaction = _update(terms, number, Amount(paid))
    message = terms.lock.message(transaction, terms.payer_key, payer).to_bytes()
    whole = terms.lock.complete(transaction, _pair(terms, payer, payee)).to_bytes()
    return (form.message(number, paid, payer), form.complete(number, paid, payer, payee)) == (message, whole)
