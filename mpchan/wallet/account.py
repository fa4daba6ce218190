"""What a payee has charged in a channel in which requests are paid: a channel's record and journal hold it.

Three numbers describe such a channel. *Accepted* is the highest total that the payer has signed; it follows from the
best update. *Spent* was charged for what was served, and only rises. *Reserved* is what requests that are being served
may still cost. Accepted less spent less reserved is left for others.
"""

from __future__ import annotations

from typing import Any

from mpchan.units import MAX_MONEY_SAT, checked_int
from mpchan.values import frozen, replace

MAX_KEY_LENGTH = 128
_DIGEST_LENGTH = 64


def settled(spent: int, dust: int) -> int:
    """The total of a close at what was charged, in satoshi: no output can hold less than the dust limit, but none may.

    Args:
        spent: satoshi that were charged.
        dust: satoshi; the least that the payee's output can hold.
    """
    return max(spent, dust) if spent else 0


@frozen
class Reservation:
    """A request that is being served.

    Attributes:
        key: its ``Idempotency-Key``, or a name that nobody else uses.
        digest: SHA-256 of the request in lower-case hex.
        amount: satoshi; the most that it may cost.
    """

    key: str
    digest: str
    amount: int

    def to_table(self) -> dict[str, Any]:
        """As plain values."""
        return {"key": self.key, "digest": self.digest, "sat": self.amount}


@frozen
class Account:
    """What was charged in a channel.

    Attributes:
        spent: satoshi.
        reserved: the requests in flight, by key.
        accepted: satoshi; the total when a request was judged last. What was paid since in any other way was paid for
            something else.
    """

    spent: int = 0
    reserved: tuple[Reservation, ...] = ()
    accepted: int = 0

    def with_paid(self, total: int) -> Account:
        """With what was paid otherwise counted as spent: no request can use it, and no close gives it back.

        Args:
            total: satoshi; all that the payer has signed for.
        """
        return Account(self.spent + max(0, total - self.accepted), self.reserved, max(total, self.accepted))

    @property
    def held(self) -> int:
        """What the requests in flight may cost in all."""
        return sum(each.amount for each in self.reserved)

    def reserve(self, reservation: Reservation) -> Account:
        """With one more request in flight."""
        return replace(self, reserved=(*self.reserved, reservation))

    def end(self, key: str, charged: int) -> Account:
        """With a request in flight ended, and what it has cost charged; of one that is none nothing changes.

        Raises:
            ValueError: more than was reserved for it, or less than nothing.
        """
        ended = [each for each in self.reserved if each.key == key]
        if not ended:
            return self
        if not 0 <= charged <= ended[0].amount:
            raise ValueError(f"{charged} sat are not within the {ended[0].amount} that were reserved")
        left = tuple(each for each in self.reserved if each.key != key)
        return replace(self, spent=self.spent + charged, reserved=left)

    def to_table(self) -> dict[str, Any]:
        """As plain values, for the record and the journal."""
        reserved = [each.to_table() for each in self.reserved]
        return {"spent_sat": self.spent, "reserved": reserved, "accepted_sat": self.accepted}

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Account:
        """Read ``to_table`` back; KeyError, TypeError, ValueError or ParseError where it is none."""
        reserved = tuple(_reservation(each) for each in table["reserved"])
        if len({each.key for each in reserved}) != len(reserved):
            raise ValueError("two requests in flight have one key")
        spent, accepted = (
            checked_int(table[name], 0, MAX_MONEY_SAT, name) for name in ("spent_sat", "accepted_sat")
        )
        return cls(spent, reserved, accepted)


def _reservation(table: dict[str, Any]) -> Reservation:
    key, digest = table["key"], table["digest"]
    if type(key) is not str or type(digest) is not str or len(digest) != _DIGEST_LENGTH:
        raise ValueError("no request in flight")
    return Reservation(key, digest, checked_int(table["sat"], 0, MAX_MONEY_SAT, "sat"))
