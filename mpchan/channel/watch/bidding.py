"""How much a child pays for a transaction of a channel, and when.

Miners take what belongs together by its fee rate as a whole. So a transaction that pays too little, and that nobody may
change any more, is helped by a child that spends an output of it and pays for both. Of a parent of version 3 there is
one child at a time (BIP-0431): whoever wants the place pays more than what stands there ("sibling eviction").

No clock, no file and no network here: a watcher that was stopped bids what one that ran all the time would.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.errors import NotPossible
from mpchan.units import MAX_MONEY_SAT, SECONDS_PER_BLOCK, Amount, ChainTip, FeeRate, LockTime
from mpchan.values import frozen

LEAST_STEP = FeeRate(1000)
"""What a replacement pays at least on top of what it replaces, for its own size; Bitcoin Core's default up to 29."""

MAX_CHILD_VSIZE = 1_000
"""Of a child whose parent has version 3 (BIP-0431)."""

REFUND_PATIENCE = 3
"""Blocks in which the estimate promises a place: so many without the refund raise what it pays once."""

DEFENCE_VSIZE = 1_170
"""A close with the largest child: whoever would outbid that at today's rate needs so many virtual bytes' fee."""

_MOST_RAISES = 60  # 1.5 to this power is above any rate


@frozen
class Paying:
    """A transaction with all its signatures, by what matters to a miner.

    Attributes:
        vsize: in virtual bytes (BIP-0141).
    """

    vsize: int
    fee: Amount

    def fee_of(self, vsize: int) -> int:
        """What so many virtual bytes pay at the same rate, in satoshi, rounded down."""
        return self.fee.sat * vsize // self.vsize


def rate_of(*together: Paying) -> FeeRate:
    """The fee rate of some transactions as a whole, rounded down."""
    return FeeRate(_fee(together) * 1000 // sum(paying.vsize for paying in together))


def pays(rate: FeeRate, *together: Paying) -> bool:
    """Whether transactions pay this rate as a whole."""
    return _fee(together) >= rate.fee(sum(paying.vsize for paying in together)).sat


@frozen
class Rivals:
    """What has to leave the mempool when a child comes.

    Attributes:
        paying: each of them; a parent before its child.
        of_parent: they stand against the parent, which comes with the child (the refund against a close); else they
            only hold the child's place.
    """

    paying: tuple[Paying, ...] = ()
    of_parent: bool = False


NOBODY = Rivals()


def child_fee(
    rate: FeeRate, parent: Paying, vsize: int, rivals: Rivals = NOBODY, step: FeeRate = LEAST_STEP
) -> Amount:
    """What a child of this size pays at least for its parent and itself, and to take the place of others.

    A replacement pays what it replaces and ``step`` for its own size (BIP-0125, rules 3 and 4), and raises the feerate
    diagram: it does where it pays a higher rate than the best that leaves. Where parent and child replace together, the
    child also has to pay a higher rate than the parent, or nodes judge the parent alone.

    Args:
        rate: that parent and child pay together.
    """
    fee = max(rate.fee(parent.vsize + vsize).sat - parent.fee.sat, 0)
    if rivals.paying:
        comes = parent if rivals.of_parent else Paying(0, Amount(0))
        size = comes.vsize + vsize
        above_fee = _fee(rivals.paying) + max(step, LEAST_STEP).fee(size).sat
        above_rate = max(_outbidding(rivals.paying[:1], size), _outbidding(rivals.paying, size))
        fee = max(fee, max(above_fee, above_rate) - comes.fee.sat)
    if rivals.of_parent:
        raising = FeeRate(rate_of(parent).sat_per_kvb + 1)  # above it also where rates are rounded down
        fee = max(fee, raising.fee(parent.vsize + vsize).sat - parent.fee.sat)
    return Amount(fee)


def _outbidding(leaves: Sequence[Paying], size: int) -> int:
    """What so many virtual bytes pay for a higher rate than those that leave have together.

    Nodes compare by weight (BIP-0141), of which up to three units each are lost in a size that was rounded up.
    """
    least_weight = sum(4 * each.vsize - 3 for each in leaves)
    return _fee(leaves) * 4 * size // least_weight + 1


def _fee(together: Sequence[Paying]) -> int:
    return sum(paying.fee.sat for paying in together)


# what a watcher bids ------------------------------------------------------------------------------


@frozen
class Market:
    """What the chain says of fees.

    Attributes:
        estimate: the rate for one of the next blocks, at least ``least``.
        least: what is relayed.
        step: what a replacement adds for its own size.
    """

    estimate: FeeRate
    least: FeeRate
    step: FeeRate = LEAST_STEP


def raised(estimate: FeeRate, times: int) -> FeeRate:
    """The estimate, raised by half so many times: what miners take may be in no estimate."""
    power = min(max(times, 0), _MOST_RAISES)
    return FeeRate(min(estimate.sat_per_kvb * 3**power // 2**power, MAX_MONEY_SAT))


def blocks_since(lock_time: LockTime, tip: ChainTip) -> int:
    """Blocks that have come since a lock time; about so many where it is a time."""
    passed = max(0, lock_time.now(tip) - lock_time.value)
    return passed if lock_time.unit == "blocks" else passed // SECONDS_PER_BLOCK


@frozen
class Bidding:
    """One transaction that waits for a block, and the place of its child.

    Attributes:
        parent: the close or refund.
        vsize: of the child that this wallet makes.
        stake: the output of this wallet that the child spends.
        dust: the least that it may leave of it.
        own: this wallet's child that is in the mempool already.
        rivals: of the other party.
    """

    parent: Paying
    vsize: int
    stake: Amount
    dust: Amount
    own: Paying | None = None
    rivals: Rivals = NOBODY

    def reaches(self, target: FeeRate) -> bool:
        """Whether nothing has to be bid: a sibling that pays enough serves both parties."""
        child = self.rivals.paying if self.own is None else (self.own,)
        unopposed = not (self.rivals.of_parent and self.rivals.paying)
        return unopposed and pays(target, self.parent, *child)

    def fee(self, target: FeeRate, step: FeeRate) -> Amount:
        """What the child has to pay to reach the target, and to be taken."""
        held = self.rivals if self.own is None else Rivals((self.own,))
        return child_fee(target, self.parent, self.vsize, held, step)

    def least(self, market: Market) -> Amount:
        """Below this a child is not taken, or does not help. One that does both is relayed by its own rate too."""
        helps = self.parent.fee_of(self.vsize) + 1
        return Amount(max(self.fee(market.least, market.step).sat, helps))

    def most(self, *, pressing: bool, max_rate: FeeRate) -> Amount:
        """What the child may pay: half of what is at stake, all of it above dust where time presses.

        Args:
            max_rate: above which parent and child never pay together.
        """
        left = max(0, self.stake.sat - self.dust.sat)
        share = left if pressing else min(left, self.stake.sat // 2)
        bound = max_rate.fee(self.parent.vsize + self.vsize).sat - self.parent.fee.sat
        return Amount(max(0, min(share, bound)))


def bid(bidding: Bidding, target: FeeRate, market: Market, most: Amount) -> Amount | None:
    """What the child pays; None where none is needed.

    What may be paid at most is bid where the target is above it.

    Raises:
        NotPossible: ``bump-capped`` where not even that is taken.
    """
    if bidding.reaches(target):
        return None
    needed = bidding.fee(target, market.step)
    if needed <= most:
        return needed
    if most < bidding.least(market):
        raise NotPossible(
            "bump-capped",
            f"a child would have to pay {needed} to bring it into a block, and may pay {most} of the "
            f"{bidding.stake} at stake",
            hint="`mpchan bump CHANNEL --fee-rate R` can add coins of the wallet",
        )
    return most
