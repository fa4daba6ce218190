"""All updates of one channel as one form: hex digits that never change, with gaps for what does.

Two updates of a channel differ in their lock time, in the values of their outputs, and in the signatures; everything
else of a message, from some 350 bytes on, is the same every time. The form is cut out of what the lock and the schedule
have built, so it holds no format of its own; filled in, it gives their very bytes. Who pays or is paid many times a
second builds with it, and reads with it: a message that is not digit for digit what the form gives is none of its
business, and the rules that explain every difference judge that one. Messages stay in hex, as they travel: of more than
a thousand bytes, some hundred have to be looked at.

What is the same in every construction is here; each has its own digest, signatures and lock times.
Amounts are plain satoshi here, numbers plain integers: both are checked against the terms before they get here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from mpchan.bitcoin.serialize import uint32
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.terms import Terms
from mpchan.units import Amount

_LONGEST_SIGNATURE = 0xFC  # its length is one byte


class _Shape:
    """The form with a given number of outputs: one of ``Terms`` with change for the payer, one without.

    Attributes:
        scripts: what stands behind the value of each output: its script, after the length.
        size: of all outputs, in hex digits.
        pieces: of a message: before the outputs, between lock time and signature, after that; hex.
    """

    __slots__ = ("pieces", "scripts", "size")

    def __init__(self, terms: Terms, transaction: Transaction, sample: bytes) -> None:
        self.scripts = tuple(output.to_bytes()[8:] for output in transaction.outputs)
        outputs = b"".join(output.to_bytes() for output in transaction.outputs)
        self.size = 2 * len(outputs)
        message = terms.lock.message(transaction, terms.payer_key, sample).to_bytes()
        head, rest = _cut(message, outputs + uint32(transaction.lock_time))
        middle, end = _cut(rest, bytes([len(sample)]) + sample)
        self.pieces = (head.hex(), middle.hex(), end.hex())


def _cut(data: bytes, middle: bytes) -> tuple[bytes, bytes]:
    """What stands around a piece that is there once.

    Raises:
        ValueError: it is not.
    """
    before, found, behind = data.partition(middle)
    if not found or middle in behind:
        raise ValueError("a message of this scheme has no such form")
    return before, behind


class UpdateForm(ABC):
    """The form of one channel's updates, a ``base.Form``. Make it with ``fitting``.

    Attributes:
        sample: in the place of the payer's signature while the form is cut.

    Raises:
        ValueError: the channel's updates have none.
    """

    sample: bytes
    last: int | None

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.dust = terms.payee_dust.sat
        self._capacity = terms.capacity.sat
        self._alone = _Shape(terms, update(terms, 1, self._capacity), self.sample)
        self._both = _Shape(terms, update(terms, 1, self.dust), self.sample)
        if len(self._both.scripts) != 2:
            raise ValueError("no update of this channel leaves the payer any change")
        self.least_change = _least_change(terms)
        self._latest = (-1, self._alone, b"")

    @abstractmethod
    def lock_time(self, number: int) -> int:
        """nLockTime of update ``number``, which must be 1 to ``last``."""

    @abstractmethod
    def _number_at(self, lock_time: int) -> int | None:
        """The number of the update with this nLockTime; None where updates have none.

        Raises:
            ValueError: no update of the channel has it.
        """

    @abstractmethod
    def _digest(self, number: int, outputs: bytes) -> bytes:
        """What both parties sign: from the part that all updates share, the outputs as they stand in the transaction,
        and the lock time."""

    @abstractmethod
    def _signature(self, key: PrivateKey, digest: bytes) -> bytes:
        """As messages carry it."""

    @abstractmethod
    def _is_signature(self, key: PublicKey, signature: bytes, digest: bytes) -> bool:
        """Whether it is one that messages may carry, and the key's."""

    def sign(self, key: PrivateKey, number: int, paid: int) -> bytes:
        """See ``base.Form``."""
        return self._signature(key, self._digest(number, self._outputs(paid)[1]))

    def verify(self, key: PublicKey, number: int, paid: int, signature: bytes) -> bool:
        """See ``base.Form``."""
        return self._is_signature(key, signature, self._digest(number, self._outputs(paid)[1]))

    def _outputs(self, paid: int) -> tuple[_Shape, bytes]:
        if paid == self._latest[0]:  # read a moment ago and verified now, or signed and sent
            return self._latest[1:]
        change = self._capacity - paid
        if change < self.least_change:
            shape = self._alone
            outputs = paid.to_bytes(8, "little") + shape.scripts[0]
        else:
            shape = self._both
            payer, payee = shape.scripts
            outputs = change.to_bytes(8, "little") + payer + paid.to_bytes(8, "little") + payee
        self._latest = (paid, shape, outputs)
        return shape, outputs

    def message(self, number: int, paid: int, signature: bytes) -> str:
        """See ``base.Form``."""
        return self._message(self.lock_time(number), paid, signature)

    def _message(self, lock_time: int, paid: int, signature: bytes) -> str:
        shape, outputs = self._outputs(paid)
        head, middle, end = shape.pieces
        size = bytes([len(signature)])
        filled = outputs + lock_time.to_bytes(4, "little")
        return f"{head}{filled.hex()}{middle}{(size + signature).hex()}{end}"

    def read(self, text: str) -> tuple[int | None, int, bytes] | None:
        """See ``base.Form``."""
        for shape in (self._both, self._alone):
            if text.startswith(shape.pieces[0]):
                try:
                    return self._read(shape, text)
                except ValueError:  # no hex, or no lock time of an update
                    return None
        return None

    def _read(self, shape: _Shape, text: str) -> tuple[int | None, int, bytes] | None:
        head, middle, _ = shape.pieces
        behind = len(head) + shape.size
        at = behind + 8 + len(middle)
        value = behind - 2 * len(shape.scripts[-1]) - 16
        paid = int.from_bytes(bytes.fromhex(text[value : value + 16]), "little")
        lock_time = int.from_bytes(bytes.fromhex(text[behind : behind + 8]), "little")
        size, *_ = bytes.fromhex(text[at : at + 2])
        if size > _LONGEST_SIGNATURE or not self.dust <= paid <= self._capacity:
            return None
        signature = bytes.fromhex(text[at + 2 : at + 2 + 2 * size])
        number = self._number_at(lock_time)
        # what was skipped, and what is read in another way than it was written, shows here
        return (number, paid, signature) if self._message(lock_time, paid, signature) == text else None

    def _fits(self, number: int, paid: int) -> bool:
        """The form gives what is built without it."""
        terms = self.terms
        plain = terms.lock.message(update(terms, number, paid), terms.payer_key, self.sample)
        return self.message(number, paid, self.sample) == plain.to_hex()


def update(terms: Terms, number: int, paid: int) -> Transaction:
    """An update as it is built without a form."""
    schedule = terms.schedule
    return schedule.build(schedule.update(number, Amount(paid)))


def _least_change(terms: Terms) -> int:
    """The least change that the payer gets as an output of its own; found where the schedule draws the line."""
    low, high = 0, (terms.capacity - terms.payee_dust).sat  # without and with an output for it
    while high - low > 1:
        middle = (low + high) // 2
        if len(update(terms, 1, terms.capacity.sat - middle).outputs) == 2:
            high = middle
        else:
            low = middle
    return high


AnyForm = TypeVar("AnyForm", bound=UpdateForm)


def fitting(kind: type[AnyForm], terms: Terms) -> AnyForm | None:
    """The form of a channel's updates; None where they have none, and are built one by one."""
    try:
        form = kind(terms)
    except ValueError:
        return None
    capacity, dust, edge = terms.capacity.sat, form.dust, form.least_change
    far = 2 if form.last is None else form.last
    tried = (1, dust), (far, capacity), (2, capacity - edge), (far, capacity - edge + 1)
    return form if all(form._fits(number, paid) for number, paid in tried) else None
