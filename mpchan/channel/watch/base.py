"""What a watcher does about a channel: common to both parties.

``watching_payee`` and ``watching_payer`` decide, from what is held and what the chain says alone. A decision says what
to send now, why, and whether a person is needed. Nothing is asked, sent or remembered here, so a watcher that was
stopped, or that sees a reorganisation, decides by what is so now.
"""

from __future__ import annotations

from enum import Enum

from mpchan.bitcoin.tx import TRUC_VERSION
from mpchan.channel.facts import Facts
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError
from mpchan.units import SECONDS_PER_BLOCK, ChainTip, LockTime
from mpchan.values import frozen

BURIED = 100
"""Under so many blocks an ending is the end: nothing is asked about the channel any more."""

REMEMBERED = 1008
"""So many blocks long (about a week) it is still said that money was lost."""


SETTLE_SOON = "it was opened under an older offer, and the other party can hold up its close: settle it soon"
"""Of a channel that is ``held_up_easily``."""


class Deed(str, Enum):
    """What a watcher sends."""

    NOTHING = "wait"
    FUNDING = "funding"
    SETTLEMENT = "settlement"
    UPDATE = "update"
    REFUND = "refund"
    BUMP = "bump"


@frozen
class Decision:
    """What to do about a channel now.

    Attributes:
        why: in words, for people.
        alarm: why a person is needed; None where nobody is.
        contest: the deed goes against another spend that waits in the mempool.
        bids: what is sent, or waits in the mempool, may get a child that pays for it.
        over: the channel has ended for good; nothing needs to be asked about it any more.
    """

    deed: Deed
    why: str
    alarm: MpchanError | None = None
    contest: bool = False
    over: bool = False
    bids: bool = False


@frozen
class Deadline:
    """A lock time that matters to a party.

    Attributes:
        what: ``update`` (the latest update is final), ``last-update`` (L_0: no update is made or taken any more) or
            ``refund`` (L_refund: the refund is final).
    """

    what: str
    lock_time: LockTime

    def blocks_left(self, tip: ChainTip) -> int:
        """Blocks until it has come; for a time, about so many."""
        if self.lock_time.unit == "blocks":
            return self._left(tip)
        return -(-self._left(tip) // SECONDS_PER_BLOCK)

    def seconds_left(self, tip: ChainTip) -> int:
        """Seconds until it has come; for a height, about so many."""
        left = self._left(tip)
        return left * SECONDS_PER_BLOCK if self.lock_time.unit == "blocks" else left

    def _left(self, tip: ChainTip) -> int:
        """A time has come when the median time is past it (BIP-0113), a height when the tip has it."""
        if self.lock_time.is_final(tip):
            return 0
        missing = self.lock_time.value - self.lock_time.now(tip)
        return missing if self.lock_time.unit == "blocks" else missing + 1


def next_deadline(deadlines: tuple[Deadline, ...], tip: ChainTip) -> Deadline | None:
    """The first that has not come; the last one where all have; None where there is none."""
    for deadline in deadlines:
        if not deadline.lock_time.is_final(tip):
            return deadline
    return deadlines[-1] if deadlines else None


def confirmations_of(facts: Facts, needed: int) -> str:
    """How deep the funding is, in words."""
    if facts.confirmations >= needed:
        return f"the funding has {facts.confirmations} confirmation{'' if facts.confirmations == 1 else 's'}"
    return f"the funding has {facts.confirmations} of {needed} confirmations"


def is_buried(facts: Facts) -> bool:
    """Whether the spend of the funding is too deep to be reorganised away."""
    return facts.spend_confirmations >= BURIED


def is_forgotten(facts: Facts) -> bool:
    """Whether a loss is so long ago that it needs no person any more."""
    return facts.spend_confirmations >= REMEMBERED


def held_back(terms: Terms, facts: Facts) -> bool:
    """Whether no node relays what spends the funding: it has version 3, while the funding has 2 and is in no block."""
    return terms.offer.transaction_version == TRUC_VERSION and not facts.confirmations


def has_passed(terms: Terms, part: int, tip: ChainTip) -> bool:
    """Whether no more than one ``part``-th of the settle window is left until the refund is final."""
    refund = terms.refund_lock_time
    return refund.now(tip.of_network) >= refund.value - terms.offer.settle_window // part


def held_up_easily(terms: Terms) -> bool:
    """Whether either party can hang so many children on a close that no child of the other is relayed (version 2)."""
    return terms.offer.transaction_version < TRUC_VERSION
