"""The seam between the protocol and a construction of the channel.

A scheme says which transactions the terms allow. The offer names it; one module per construction is
all that a new one needs, and a line in ``scheme_of``.
"""

from __future__ import annotations

from typing import Protocol

from mpchan.bitcoin.tx import Transaction
from mpchan.channel.decrementing import Decrementing
from mpchan.channel.terms import Terms
from mpchan.units import Amount, LockTime


class Scheme(Protocol):
    """The transactions of one channel, all unsigned, each the only one that the terms allow."""

    @property
    def deadline(self) -> LockTime:
        """From here on the payee takes no update: it must settle, not deliver."""

    def refund(self) -> Transaction:
        """All of it back to the payer, not before the refund's lock time."""

    def update(self, number: int, paid: Amount) -> Transaction:
        """Update ``number`` (from 1) with ``paid`` in all for the payee.

        Raises:
            NotPossible: ``out-of-updates``.
        """

    def settlement(self, paid: Amount) -> Transaction:
        """The final balance, final at once."""

    def update_lock_time(self, number: int) -> LockTime:
        """Lock time of update ``number``.

        Raises:
            NotPossible: ``out-of-updates``.
        """

    def update_number(self, lock_time: int) -> int | None:
        """Which update has this nLockTime; None where none has."""

    @property
    def last_update(self) -> int:
        """The highest update number that the lock times leave room for."""


def scheme_of(terms: Terms) -> Scheme:
    """The construction that the offer names; an ``Offer`` never holds an unknown one."""
    return Decrementing(terms)
