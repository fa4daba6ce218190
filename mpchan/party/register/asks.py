"""What is asked of the register, and what it answers."""

from __future__ import annotations

from typing import Union

from mpchan.errors import MpchanError
from mpchan.values import frozen


@frozen
class Signed:
    """A total that the payer has signed for.

    Attributes:
        total: satoshi.
        number: of the update; None where its construction numbers none.
        signature: as the channel's messages carry it.
    """

    total: int
    number: int | None
    signature: bytes


@frozen
class Ask:
    """A request that is to be paid for.

    Attributes:
        channel: the name of its files, ``txid-vout``.
        signed: what it brings.
        price: satoshi; the most that it may cost. 0 for one that only brings a total.
        key: its ``Idempotency-Key``; the same request under the same key is charged once. None for none.
        digest: SHA-256 of the request in lower-case hex.
        lasting: whether the key holds as long as the channel, and not for a day.
    """

    channel: str
    signed: Signed
    price: int
    key: str | None = None
    digest: str = "0" * 64
    lasting: bool = False


@frozen
class Standing:
    """Where a channel stands in the books; all in satoshi.

    Attributes:
        accepted: the highest total that the payer has signed.
        spent: what was charged.
        reserved: what the requests in flight may cost.
        deposit: what can be paid in all.
        number, signature: of the accepted total; None before the first.
    """

    channel: str
    accepted: int
    spent: int
    reserved: int
    deposit: int
    number: int | None = None
    signature: bytes | None = None

    @property
    def left(self) -> int:
        """What was signed for and neither charged nor reserved."""
        return self.accepted - self.spent - self.reserved


@frozen
class Reserved:
    """The request may be served now; ``Register.outcome`` says then what it has cost."""

    standing: Standing
    key: str
    amount: int


@frozen
class Repeated:
    """The request was paid for before, under its key.

    Attributes:
        charged: what it has cost; None while it is still being served.
    """

    standing: Standing
    charged: int | None


@frozen
class Taken:
    """The total was taken, or was held already; nothing was asked for."""

    standing: Standing


@frozen
class Short:
    """The total does not do.

    Attributes:
        slug: ``voucher-low``: less than was accepted before. ``balance-low``: what is left does not pay for it, or it
            brings nothing new and has no key. ``delta-too-small``.
        required: the least total that would do.
    """

    standing: Standing
    slug: str
    required: int


Verdict = Union[Reserved, Repeated, Taken, Short, MpchanError]
