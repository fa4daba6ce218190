"""Where the channels of a payer stand, as far as requests are concerned: signed, spent, and in flight.

The server's words are believed only as far as they cost nothing: what it says to have charged is never above what was
signed, and each request may raise what is signed by its own price and no more.
"""

from __future__ import annotations

from mpchan.errors import NotPossible
from mpchan.values import frozen


@frozen
class Needed:
    """What a request needs.

    Attributes:
        total: satoshi; to be signed for in all.
        rise: how much that is more than what is signed.
    """

    total: int
    rise: int


class Book:
    """One channel.

    Args:
        paid: satoshi that are signed for.
        spent: satoshi that were charged, by receipts.
        capacity: what can be signed for at the most.
        least: the least total that there is, and the least step between two.
    """

    def __init__(self, paid: int, spent: int, capacity: int, least: tuple[int, int]) -> None:
        self.paid = paid
        self.spent = spent
        self.capacity = capacity
        self._dust, self._step = least
        self._flying: dict[str, tuple[int, int]] = {}  # by key: price, and what was signed for it so far

    @property
    def left(self) -> int:
        """What can be paid still, in satoshi, whatever is in flight."""
        return self.capacity - self.spent - sum(price for price, _ in self._flying.values())

    def needed(self, key: str, price: int, ahead: int = 0) -> Needed:
        """What to sign for, so that a request is paid for; the request is in flight from now on.

        What a server says to have charged may hold the price of a request whose answer is still on its way here, so
        that it is counted twice. So however much is missing, no request raises what is signed by more than its price.

        Args:
            ahead: satoshi that are authorised on top.

        Raises:
            NotPossible: ``over-capacity``.
        """
        _, risen = self._flying.get(key, (0, 0))
        self._flying[key] = price, risen
        wanted = self.spent + sum(each for each, _ in self._flying.values())
        most = self.paid + max(price + ahead, self._step, 0 if self.paid else self._dust) - risen
        if min(wanted, most) > self.capacity:
            del self._flying[key]
            raise NotPossible("over-capacity", f"the channel has {self.left} sat left, not {price}")
        total = self._possible(min(wanted + ahead, most, self.capacity))
        if total > most:
            total = self.paid
        return Needed(total, total - self.paid)

    def signed(self, key: str, total: int) -> None:
        """So much is signed for now, for this request."""
        price, risen = self._flying.get(key, (0, 0))
        if key in self._flying:
            self._flying[key] = price, risen + max(0, total - self.paid)
        self.paid = max(self.paid, total)

    def _possible(self, wanted: int) -> int:
        """The least total from ``wanted`` on that can be signed for; what is signed for, where that suffices."""
        if wanted <= self.paid:
            return self.paid
        return min(self.capacity, max(wanted, self.paid + self._step, self._dust))

    def ended(self, key: str, spent: int | None) -> None:
        """A request is over.

        Args:
            spent: what was charged in all, by its receipt; None where it brought none.
        """
        self._flying.pop(key, None)
        if spent is not None:
            self.learn(spent)

    def learn(self, spent: int) -> None:
        """What the server says to have charged; it cannot have charged more than what was signed."""
        self.spent = max(self.spent, min(spent, self.paid))
