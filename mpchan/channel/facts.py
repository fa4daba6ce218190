"""What the chain says about one channel, as arguments to the parties."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.construction.base import REFUND
from mpchan.channel.rules import Check, Rule
from mpchan.errors import ChainError
from mpchan.units import Amount, ChainTip, LockTime, Txid
from mpchan.values import frozen

if TYPE_CHECKING:
    from mpchan.channel.terms import Terms


class Status(str, Enum):
    """Where a channel stands, as shown to people and scripts."""

    OPENING = "opening"
    FUNDING = "funding"
    OPEN = "open"
    SETTLING = "settling"
    CLOSED = "closed"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    ABANDONED = "abandoned"


@frozen
class Facts:
    """The chain's view of a channel at one moment.

    Attributes:
        tip: height and median time past.
        funding: the output at the funding outpoint, or None while nobody has seen it.
        confirmations: of the funding; 0 while it is only in the mempool.
        spent_by: the transaction that spends the funding output, in a block or in the mempool.
        spend_confirmations: of that; 0 while it is only in the mempool.
        mature: False while the funding is a miner's fresh reward, which nothing can spend.
        spending: the transaction ``spent_by`` itself, where the backend can say it.
    """

    tip: ChainTip
    funding: TxOut | None = None
    confirmations: int = 0
    spent_by: Txid | None = None
    spend_confirmations: int = 0
    mature: bool = True
    spending: Transaction | None = None

    def paid_to(self, script_pubkey: bytes) -> Amount | None:
        """What the spend pays to a script; None where there is none, or the backend cannot show it."""
        if self.spending is None:
            return None
        return Amount(
            sum(out.value.sat for out in self.spending.outputs if out.script_pubkey == script_pubkey)
        )


@frozen
class Credit:
    """What a channel has brought its payee, or cost its payer, so far.

    Attributes:
        paid: deliver for this.
        pending: what a payee's settlement pays on top, which came so late that the refund may get into a block first.
            It counts once the settlement is confirmed.
    """

    paid: Amount
    pending: Amount = Amount(0)


def is_refund(terms: Terms, facts: Facts) -> bool:
    """Whether what spends the funding output is the refund, or takes everything back in another way."""
    if facts.spent_by == terms.schedule.build(REFUND).txid:
        return True
    return facts.spending is not None and terms.lock.takes_back(facts.spending)


def spend_status(terms: Terms, facts: Facts) -> Status | None:
    """The status that a spend of the funding output brings about, or None while it is unspent."""
    if facts.spent_by is None:
        return None
    confirmed = facts.spend_confirmations > 0
    if is_refund(terms, facts):
        return Status.REFUNDED if confirmed else Status.REFUNDING
    return Status.CLOSED if confirmed else Status.SETTLING


def funding_status(facts: Facts, min_confirmations: int) -> Status:
    """The status of a channel that nothing has spent yet, by its funding alone."""
    if facts.funding is None:
        return Status.OPENING
    return Status.OPEN if facts.confirmations >= min_confirmations else Status.FUNDING


def current_rules(tip: ChainTip) -> Check[None]:
    """The backend is up to date with its network.

    Whoever takes something on the strength of what the chain shows, a payment, a refund request or a channel, demands
    it. Whoever only sends what is held complete does not: a late look is a reason to send, not to wait.
    """
    lag = tip.lag
    if lag is None:
        yield Rule("node-behind", True, "the backend is up to date with its network", error=ChainError)
    else:
        yield Rule("node-behind", False, lag.why, error=ChainError, hint=lag.hint)


def time_left(lock_time: LockTime, tip: ChainTip) -> str:
    """How far the tip is from making a transaction with this lock time final, in words.

    A height is final once the tip has it, a time only once the median time is past it (BIP-0113).
    """
    left = lock_time.value - lock_time.now(tip) + (1 if lock_time.unit == "seconds" else 0)
    return f"{left} {lock_time.unit[:-1] if left == 1 else lock_time.unit}"
