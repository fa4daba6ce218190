"""Handing a channel's transactions to the chain.

The order is that of everything else here: the note is on the disk before the transaction leaves. But a transaction that
is complete on the disk already needs no note to be right, and one that does not leave in time can cost all that a
channel holds. So the note is tried, and where the disk fails, what is complete is sent all the same; the failure is
told afterwards, and this process takes nothing more in the channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.chain.reasons import TOO_CHEAP
from mpchan.channel.facts import Facts
from mpchan.durability import step
from mpchan.errors import ChainError, SentUnnoted, StorageError
from mpchan.results.base import Result
from mpchan.values import frozen
from mpchan.wallet.storage import held_if_possible
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.channel.terms import Terms
    from mpchan.wallet.records import Record

R = TypeVar("R", bound=Result)


@frozen
class Leaving:
    """What the command says of a funding that leaves at once.

    Attributes:
        send: whether this wallet broadcasts it, and again should it get lost.
        refund_out: also write the complete refund there, before the funding can leave.
        confirm: asked before anything is signed; it raises to stop.
    """

    send: bool = True
    refund_out: Path | None = None
    confirm: Callable[[Terms], None] | None = None


LEAVES = Leaving()
"""It is sent, without a question or a copy of the refund."""


class Sending:
    """One channel, whose transaction is about to be sent; see ``sending``."""

    def __init__(self, wallet: Wallet, name: str, failure: StorageError | None) -> None:
        self._wallet = wallet
        self._name = name
        self._failure = failure

    def require_disk(self) -> None:
        """What follows is not complete on the disk, and leaves only after it is.

        Raises:
            StorageError: the channel cannot be held.
        """
        if self._failure is not None:
            raise self._failure

    def note(self, record: Record, event: str, message: str | None = None) -> None:
        """Write down what is about to be sent, as far as the disk lets us; see ``ChannelFiles.save``."""
        try:
            self._wallet.channels.save(record, event, message, sent=True)
        except StorageError as error:
            self.fail(error)

    def make_sure(self) -> None:
        """Make durable what this rests on, as far as the disk lets us."""
        try:
            self._wallet.channels.make_sure(self._name)
        except StorageError as error:
            self.fail(error)

    def close(self, chain: Chain, transaction: Transaction, facts: Facts) -> bool:
        """Send a spend of the funding, unless it is there already; whether it is there now."""
        if facts.spent_by == transaction.txid:
            return True
        if not chain.sends:
            return False
        self.make_sure()
        hand_over(self._wallet, chain, transaction)
        return True

    def told(self, what: str, result: R) -> R:
        """The answer.

        Raises:
            SentUnnoted: with the answer; the disk has failed.
        """
        if self._failure is None:
            return result
        self._wallet.channels.stop(self._name, self._failure)
        raise SentUnnoted(self._failure, what, result) from self._failure

    def fail(self, error: StorageError) -> None:
        """Remember the first failure of the disk, to be told at the end."""
        self._failure = self._failure or error


@contextmanager
def sending(wallet: Wallet, name: str) -> Iterator[Sending]:
    """Hold a channel to send what is complete on the disk; a disk that gives no lock is no reason not to."""
    with held_if_possible(wallet.channels.lock(name, sure=False)) as failure:
        attempt = Sending(wallet, name, failure)
        yield attempt
        attempt.make_sure()


def hand_over(wallet: Wallet | None, chain: Chain, transaction: Transaction) -> None:
    """Send a funding, settlement, update or refund, with the child that pays for it where ``mpchan bump`` made one.

    A damaged record of a send may hide that child, and holds up nothing.

    Args:
        wallet: which may hold that child; None for a bare file, with which none came.

    Raises:
        TooEarly: ``non-final``.
        ChainError: out of reach; ``rejected``.
    """
    for child in () if wallet is None else wallet.sent.readable_children_of(transaction.txid)[:1]:
        try:
            step("emit", chain.broadcast_package, [transaction, child.transaction])
        except ChainError:
            pass  # whatever is wrong with the child, the transaction's own verdict counts
        else:
            return
    try:
        step("emit", chain.broadcast, transaction)
    except ChainError as error:
        if error.slug != "rejected" or TOO_CHEAP not in error.message:
            raise
        hint = "`mpchan bump CHANNEL --fee-rate R` pays for it with a child"
        raise ChainError(error.slug, error.message, hint=hint) from None
