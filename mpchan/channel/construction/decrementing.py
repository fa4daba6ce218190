"""The default construction, ``decrementing``: every update is final before the one that it replaces.

    L_refund              the refund
    L_0 = L_refund - settle_window
    L_k = L_0 - k * step  update k, k >= 1

The settlement has nLockTime 0. nSequence is 0xfffffffd (BIP-0125 signals replaceability; what matters is that it
is not 0xffffffff, which would switch the lock time off, and that bit 31 is set, so that BIP-0068
does not apply), and the version is that which the offer's own version means, in all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.construction.base import Form, Kind, Meant, Message
from mpchan.channel.construction.two_of_two import TwoOfTwoLocked
from mpchan.channel.outputs import close_outputs, paid_in, refund_outputs, spend
from mpchan.errors import NotPossible
from mpchan.units import Amount, LockTime
from mpchan.values import frozen

if TYPE_CHECKING:
    from mpchan.channel.offer import Offer
    from mpchan.channel.terms import Terms


def step_of(offer: Offer) -> int:
    """Between the lock times of two updates, in the offer's unit."""
    return offer.own_terms["step"]


def lock_time_of(offer: Offer, refund_at: LockTime, number: int) -> LockTime:
    """L_k for ``number`` k, L_0 for 0; there is no such lock time where k is above ``last_update``."""
    return type(refund_at)(refund_at.value - offer.settle_window - number * step_of(offer))


def last_update(offer: Offer, refund_at: LockTime) -> int:
    """The highest k whose L_k is not below 1 (blocks) or 500,000,000 (seconds)."""
    return (refund_at.value - offer.settle_window - refund_at.lowest) // step_of(offer)


@frozen
class Decrementing:
    """The transactions of one channel in this construction."""

    terms: Terms

    @property
    def deadline(self) -> LockTime:
        """L_0."""
        return lock_time_of(self.terms.offer, self.terms.refund_lock_time, 0)

    @property
    def last_update(self) -> int:
        """The highest update number that the lock times leave room for."""
        return last_update(self.terms.offer, self.terms.refund_lock_time)

    def update_lock_time(self, number: int) -> LockTime:
        """L_k = L_0 - k * step.

        Raises:
            NotPossible: ``out-of-updates``.
        """
        if number > self.last_update:
            raise NotPossible(
                "out-of-updates",
                f"no lock time is left for update {number}, the channel has room for {self.last_update}",
                hint="close the channel with `mpchan payer settle`; its --total can carry a last payment",
            )
        return lock_time_of(self.terms.offer, self.terms.refund_lock_time, number)

    def update(self, number: int, paid: Amount) -> Meant:
        """Update ``number``; NotPossible ``out-of-updates`` where no lock time is left for it."""
        self.update_lock_time(number)
        return Meant(Kind.UPDATE, number, paid)

    def update_number(self, lock_time: int) -> int | None:
        """k where ``lock_time`` is exactly L_k, k >= 1; else None."""
        number, rest = divmod(self.deadline.value - lock_time, step_of(self.terms.offer))
        return number if rest == 0 and 1 <= number <= self.last_update else None

    def read(self, message: Message) -> Meant | None:
        """By nLockTime: 0 for the settlement, L_refund for the refund, L_k for update k."""
        transaction = message.tx if isinstance(message, Psbt) else message
        paid = paid_in(transaction, self.terms) or Amount(0)
        if transaction.lock_time == 0:
            return Meant(Kind.SETTLEMENT, None, paid)
        if transaction.lock_time == self.terms.refund_lock_time.value:
            return Meant(Kind.REFUND, None, paid)
        number = self.update_number(transaction.lock_time)
        return None if number is None else Meant(Kind.UPDATE, number, paid)

    def final_at(self, meant: Meant) -> LockTime | None:
        """L_refund, L_k, or at any time for the settlement."""
        if meant.kind is Kind.SETTLEMENT:
            return None
        return self.terms.refund_lock_time if meant.number is None else self.update_lock_time(meant.number)

    def build(self, meant: Meant) -> Transaction:
        """The transaction without its signatures; NotPossible ``out-of-updates``."""
        return _built(self, meant)


@lru_cache(32)
def _built(schedule: Decrementing, meant: Meant) -> Transaction:
    """What a message means is checked, signed, completed and kept: each of them builds it anew, and gets this one."""
    terms, final_at = schedule.terms, schedule.final_at(meant)
    outputs = refund_outputs(terms) if meant.kind is Kind.REFUND else close_outputs(terms, meant.paid)
    return spend(terms, outputs, 0 if final_at is None else final_at.value)


class _Decrementing(TwoOfTwoLocked):
    """The construction, as an offer knows it."""

    def schedule(self, terms: Terms) -> Decrementing:
        return Decrementing(terms)

    def form(self, terms: Terms) -> Form | None:
        from mpchan.channel.construction.decrementing_form import update_form

        return update_form(terms)

    def likely_kind(self, transaction: Transaction) -> Kind:
        return Kind.UPDATE if transaction.lock_time else Kind.SETTLEMENT

    def most_updates(self, offer: Offer, refund_at: LockTime) -> int | None:
        return last_update(offer, refund_at)

    def first_final(self, offer: Offer) -> int | None:
        return step_of(offer)


DECREMENTING = _Decrementing()
