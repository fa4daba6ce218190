"""A second construction, for tests alone: a plain Spilman channel.

A 2-of-2 whose refund is signed first, as in the default one; but no update has a lock time or a number. The payee alone
can send one, and has no reason to send any but the one that pays most. An update and a settlement of one total are one
transaction.
"""

from __future__ import annotations

import pytest

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.construction import registry
from mpchan.channel.construction.base import Kind, Meant, Message
from mpchan.channel.construction.two_of_two import TwoOfTwoLocked
from mpchan.channel.offer import Offer
from mpchan.channel.outputs import close_outputs, paid_in, refund_outputs, spend
from mpchan.channel.terms import Terms
from mpchan.units import Amount, LockTime
from mpchan.values import frozen

NAME = "spilman"


@frozen
class Spilman:
    """The transactions of one channel."""

    terms: Terms

    @property
    def deadline(self) -> LockTime:
        """L_0."""
        refund_at = self.terms.refund_lock_time
        return type(refund_at)(refund_at.value - self.terms.offer.settle_window)

    def update(self, number: int, paid: Amount) -> Meant:
        """Any number of them, none of which has one."""
        return Meant(Kind.UPDATE, None, paid)

    def read(self, message: Message) -> Meant | None:
        """By nLockTime; what pays the payee something is an update."""
        transaction = message.tx if isinstance(message, Psbt) else message
        paid = paid_in(transaction, self.terms) or Amount(0)
        if transaction.lock_time == self.terms.refund_lock_time.value:
            return Meant(Kind.REFUND, None, paid)
        if transaction.lock_time:
            return None
        return Meant(Kind.UPDATE if paid else Kind.SETTLEMENT, None, paid)

    def build(self, meant: Meant) -> Transaction:
        """The refund is locked, nothing else is."""
        if meant.kind is Kind.REFUND:
            return spend(self.terms, refund_outputs(self.terms), self.terms.refund_lock_time.value)
        return spend(self.terms, close_outputs(self.terms, meant.paid), 0)

    def final_at(self, meant: Meant) -> LockTime | None:
        """L_refund for the refund."""
        return self.terms.refund_lock_time if meant.kind is Kind.REFUND else None


class _Spilman(TwoOfTwoLocked):
    def schedule(self, terms: Terms) -> Spilman:
        return Spilman(terms)

    def form(self, terms: Terms) -> None:
        return None

    def likely_kind(self, transaction: Transaction) -> Kind:
        return Kind.UPDATE

    def most_updates(self, offer: Offer, refund_at: LockTime) -> int | None:
        return None

    def first_final(self, offer: Offer) -> int | None:
        return None


SPILMAN = _Spilman()


def register(patch: pytest.MonkeyPatch) -> None:
    """Make it known, and the construction of new offers: all that a construction needs outside its own module."""
    patch.setitem(registry.CONSTRUCTIONS, NAME, registry.Entry(f"{__name__}:SPILMAN"))
    patch.setattr(registry, "DEFAULT", NAME)
