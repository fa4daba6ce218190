"""What a child pays: enough, never more than it may, and what the mempool's rules of replacement ask for."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mpchan.channel.watch.bidding import (
    LEAST_STEP,
    NOBODY,
    Bidding,
    Market,
    Paying,
    Rivals,
    bid,
    blocks_since,
    child_fee,
    pays,
    raised,
    rate_of,
)
from mpchan.errors import NotPossible
from mpchan.units import MAX_MONEY_SAT, Amount, ChainTip, FeeRate, Height, MedianTime
from mpchan.values import replace

RATES = st.integers(0, 2_000_000).map(FeeRate)
STEPS = st.integers(0, 5_000).map(FeeRate)
VSIZES = st.integers(100, 1_000)
PAYING = st.builds(Paying, VSIZES, st.integers(0, 2_000_000).map(Amount))
SIBLING = st.builds(lambda sibling: Rivals((sibling,)), PAYING)
"""A child of the other party, which holds the place that this one wants."""
REFUND = st.builds(lambda paying: Rivals(tuple(paying), True), st.lists(PAYING, min_size=1, max_size=2))
"""The other party's refund, alone or with a child, which stands against the close itself."""
RIVALS = st.one_of(st.just(NOBODY), SIBLING, REFUND)


def rate(*together: Paying) -> Fraction:
    """In satoshi per virtual byte, not rounded."""
    return Fraction(sum(each.fee.sat for each in together), sum(each.vsize for each in together))


def exact(fee_rate: FeeRate) -> Fraction:
    return Fraction(fee_rate.sat_per_kvb, 1000)


def is_enough(
    fee: int, wanted: FeeRate, parent: Paying, vsize: int, rivals: Rivals = NOBODY, step: FeeRate = LEAST_STEP
) -> bool:
    """The rules as they are written: the rate of both, and BIP-0125's rules 3 and 4, and a rate above what miners see.

    What comes is the child alone where a sibling leaves, and both where they take the refund's place; there the child
    has to pay more than its parent does for itself.
    """
    child = Paying(vsize, Amount(fee))
    if rate(parent, child) < exact(wanted):
        return False
    if not rivals.paying:
        return True
    comes = (parent, child) if rivals.of_parent else (child,)
    size, total = sum(each.vsize for each in comes), sum(each.fee.sat for each in comes)
    leaves = sum(each.fee.sat for each in rivals.paying)
    best = max(most_by_weight(rivals.paying[:1]), most_by_weight(rivals.paying))
    own_relay = max(exact(step), exact(LEAST_STEP)) * size
    raises = not rivals.of_parent or rounded(parent, child) > rounded(parent)
    return total >= leaves and total - leaves >= own_relay and rate(*comes) > best and raises


def most_by_weight(together: Sequence[Paying]) -> Fraction:
    """The highest rate that such a size can mean: up to three weight units of each are missing in the last byte."""
    weight = sum(4 * each.vsize - 3 for each in together)
    return Fraction(4 * sum(each.fee.sat for each in together), weight)


def rounded(*together: Paying) -> int:
    """In satoshi per 1000 virtual bytes, as older nodes compare."""
    return int(rate(*together) * 1000)


@given(RATES, PAYING, VSIZES, RIVALS, STEPS)
def test_a_child_pays_just_enough(
    wanted: FeeRate, parent: Paying, vsize: int, rivals: Rivals, step: FeeRate
) -> None:
    fee = child_fee(wanted, parent, vsize, rivals, step).sat
    assert is_enough(fee, wanted, parent, vsize, rivals, step)
    assert fee == 0 or not is_enough(fee - 1, wanted, parent, vsize, rivals, step)


@given(RATES, st.integers(0, 100_000), PAYING, VSIZES, RIVALS, STEPS)
def test_it_pays_no_less_where_more_is_wanted(
    wanted: FeeRate, more: int, parent: Paying, vsize: int, rivals: Rivals, step: FeeRate
) -> None:
    higher = child_fee(FeeRate(wanted.sat_per_kvb + more), parent, vsize, rivals, step)
    assert child_fee(wanted, parent, vsize, rivals, step) <= higher
    assert child_fee(wanted, parent, vsize, rivals, step) <= child_fee(
        wanted, parent, vsize, rivals, FeeRate(step.sat_per_kvb + more)
    )
    dearer = replace(
        rivals, paying=tuple(Paying(each.vsize, each.fee + Amount(more)) for each in rivals.paying)
    )
    assert child_fee(wanted, parent, vsize, rivals, step) <= child_fee(wanted, parent, vsize, dearer, step)


def test_a_sibling_by_hand() -> None:
    """A close of 168 vB at 2 sat/vB; a child of 110 vB against siblings that are large, or dear."""
    close = Paying(168, Amount(336))
    nobody = child_fee(FeeRate(10_000), close, 110)
    assert nobody == Amount(10 * (168 + 110) - 336)
    large = Rivals((Paying(983, Amount(8_700)),))
    assert child_fee(FeeRate(10_000), close, 110, large) == Amount(8_700 + 110)
    assert child_fee(FeeRate(10_000), close, 110, large, FeeRate(100)) == Amount(8_700 + 110)
    assert child_fee(FeeRate(10_000), close, 110, large, FeeRate(3_000)) == Amount(8_700 + 330)
    dear = Rivals((Paying(110, Amount(3_000)),))
    assert child_fee(FeeRate(0), close, 982, dear) == Amount(3_000 * 4 * 982 // (4 * 110 - 3) + 1)


def test_a_refund_by_hand() -> None:
    """The close comes with its child: what both pay is compared with what leaves, be its child worth more or less."""
    close = Paying(168, Amount(336))
    alone = Rivals((Paying(138, Amount(1_380)),), of_parent=True)
    assert child_fee(FeeRate(0), close, 110, alone) == Amount(1_380 * 4 * 278 // (4 * 138 - 3) + 1 - 336)
    lifted = Rivals((Paying(138, Amount(276)), Paying(110, Amount(9_724))), of_parent=True)
    assert child_fee(FeeRate(0), close, 110, lifted) == Amount(10_000 * 4 * 278 // (4 * 248 - 6) + 1 - 336)
    weighed_down = Rivals((Paying(138, Amount(13_800)), Paying(1_000, Amount(100))), of_parent=True)
    assert child_fee(FeeRate(0), close, 110, weighed_down) == Amount(
        13_800 * 4 * 278 // (4 * 138 - 3) + 1 - 336
    )
    assert child_fee(FeeRate(0), Paying(168, Amount(0)), 110, CHEAP_REFUND) == Amount(100 + 278)
    # a close that pays well, and too little for all that leaves: its child pays more than it does for itself
    dear = Paying(168, Amount(8_400))
    assert child_fee(FeeRate(0), dear, 110, REFUND_AND_LARGE) == Amount(-(-50_001 * 278 // 1000) - 8_400)


CHEAP_REFUND = Rivals((Paying(138, Amount(100)),), of_parent=True)
REFUND_AND_LARGE = Rivals((Paying(138, Amount(200)), Paying(1_000, Amount(9_000))), of_parent=True)


@given(st.lists(PAYING, min_size=1, max_size=3), RATES)
def test_rates(together: list[Paying], wanted: FeeRate) -> None:
    """The rate is rounded down, so nobody is said to pay more than it does."""
    said = rate_of(*together)
    assert exact(said) <= rate(*together) < exact(FeeRate(said.sat_per_kvb + 1))
    assert pays(said, *together)
    assert pays(wanted, *together) is (rate(*together) >= exact(wanted))


# what a watcher bids ------------------------------------------------------------------------------


@given(st.integers(0, 10_000_000).map(FeeRate), st.integers(-3, 200))
def test_the_estimate_is_raised_by_half(estimate: FeeRate, times: int) -> None:
    """Sixty times at the most: that is above any rate."""
    found = raised(estimate, times).sat_per_kvb
    whole = estimate.sat_per_kvb * Fraction(3, 2) ** min(max(times, 0), 60)
    assert found == min(int(whole), MAX_MONEY_SAT)
    assert found <= raised(estimate, times + 1).sat_per_kvb


def test_blocks_that_have_come() -> None:
    tip = ChainTip(200, 1_700_000_600)
    assert [blocks_since(Height(height), tip) for height in (150, 199, 200, 250)] == [50, 1, 0, 0]
    times = [MedianTime(1_700_000_600 - seconds) for seconds in (6_000, 600, 599, 0, -600)]
    assert [blocks_since(time, tip) for time in times] == [10, 1, 0, 0, 0]


MARKETS = st.builds(
    lambda least, above, step: Market(FeeRate(least + above), FeeRate(least), step),
    *(st.integers(0, 20_000), st.integers(0, 200_000), STEPS),
)


@st.composite
def biddings(draw: st.DrawFn) -> Bidding:
    rivals = draw(RIVALS)
    own = None if rivals.paying else draw(st.none() | PAYING)
    stake = draw(st.integers(0, 3_000_000).map(Amount))
    return Bidding(
        draw(PAYING), draw(VSIZES), stake, draw(st.sampled_from([Amount(294), Amount(330)])), own, rivals
    )


@given(biddings(), st.booleans(), RATES)
def test_the_cap(bidding: Bidding, pressing: bool, max_rate: FeeRate) -> None:
    """Half of what is at stake; all of it above dust where time presses; never above the wallet's highest rate."""
    most = bidding.most(pressing=pressing, max_rate=max_rate)
    assert most.sat <= max(0, bidding.stake.sat - bidding.dust.sat)
    assert pressing or most.sat <= bidding.stake.sat / 2
    assert most.sat == 0 or pays_at_most(max_rate, bidding.parent, Paying(bidding.vsize, most))
    assert bidding.most(pressing=False, max_rate=max_rate) <= bidding.most(pressing=True, max_rate=max_rate)


def pays_at_most(limit: FeeRate, *together: Paying) -> bool:
    """To the satoshi, which no rate can divide."""
    return sum(each.fee.sat for each in together) <= limit.fee(sum(each.vsize for each in together)).sat


def test_the_cap_by_hand() -> None:
    bidding = Bidding(Paying(168, Amount(336)), 110, Amount(10_001), Amount(294))
    wide, narrow = FeeRate(1_000_000), FeeRate(20_000)
    assert bidding.most(pressing=False, max_rate=wide) == Amount(5_000)
    assert bidding.most(pressing=True, max_rate=wide) == Amount(10_001 - 294)
    assert bidding.most(pressing=True, max_rate=narrow) == Amount(20 * 278 - 336)
    assert bidding.most(pressing=True, max_rate=FeeRate(1_000)) == Amount(0)
    small = replace(bidding, stake=Amount(400))
    assert small.most(pressing=False, max_rate=wide) == Amount(106)  # half of it would leave dust
    assert replace(bidding, stake=Amount(200)).most(pressing=True, max_rate=wide) == Amount(0)


@given(biddings(), RATES, MARKETS, st.integers(0, 3_000_000).map(Amount))
def test_a_bid(bidding: Bidding, target: FeeRate, market: Market, most: Amount) -> None:
    """Nothing where nothing is needed; else what reaches the target, or all that may be paid, if that is of use."""
    held = bidding.rivals if bidding.own is None else Rivals((bidding.own,))
    served = rate(bidding.parent, *held.paying) >= exact(target) and not held.of_parent
    needed = child_fee(target, bidding.parent, bidding.vsize, held, market.step)
    fee = offered(bidding, target, market, most)
    if fee is None:
        assert served
    elif fee == "bump-capped":
        assert not served
        assert most < needed
        assert not is_of_use(bidding, market, most.sat, held)
    else:
        assert not served
        assert fee == min(needed, most)
        assert fee == needed or is_of_use(bidding, market, fee.sat, held)


def offered(bidding: Bidding, target: FeeRate, market: Market, most: Amount) -> Amount | str | None:
    """The bid, or the slug of its refusal."""
    try:
        return bid(bidding, target, market, most)
    except NotPossible as error:
        return error.slug


def is_of_use(bidding: Bidding, market: Market, fee: int, held: Rivals) -> bool:
    """Whether the mempool takes such a child, and it makes its parent worth more."""
    child = Paying(bidding.vsize, Amount(fee))
    return (
        is_enough(fee, market.least, bidding.parent, bidding.vsize, held, market.step)
        and rate(child) >= exact(market.least)
        and rate(child) > rate(bidding.parent)
    )


@given(biddings(), RATES, st.integers(0, 100_000), MARKETS)
def test_a_higher_target_is_no_lower_bid(
    bidding: Bidding, target: FeeRate, more: int, market: Market
) -> None:
    everything = Amount(MAX_MONEY_SAT)
    lower = bid(bidding, target, market, everything)
    higher = bid(bidding, FeeRate(target.sat_per_kvb + more), market, everything)
    assert lower is None or (higher is not None and lower <= higher)


def test_who_serves_both_is_left_alone() -> None:
    """A sibling that pays enough, or this wallet's own child; but a refund never serves a close."""
    close, child = Paying(168, Amount(336)), Paying(110, Amount(3_000))
    market = Market(FeeRate(10_000), FeeRate(1_000))
    plain = Bidding(close, 110, Amount(100_000), Amount(294))
    most = Amount(50_000)
    served = [replace(plain, own=child), replace(plain, rivals=Rivals((child,)))]
    assert [bid(each, FeeRate(12_000), market, most) for each in served] == [None, None]
    assert [bid(each, FeeRate(12_001), market, most) for each in served] == [Amount(3_110)] * 2
    refund = replace(plain, rivals=Rivals((child,), of_parent=True))
    assert bid(refund, FeeRate(0), market, most) == Amount(3_000 * 4 * 278 // (4 * 110 - 3) + 1 - 336)
    assert bid(replace(plain, parent=Paying(168, Amount(3_360))), FeeRate(20_000), market, most) is None


def test_two_watchers_end_at_their_caps() -> None:
    """Each takes the place of the other's child; the fees rise each time, until one may pay no more."""
    close, vsize = Paying(168, Amount(336)), 110
    market, high = Market(FeeRate(2_000), FeeRate(1_000)), FeeRate(500_000)
    stakes = [Amount(30_000), Amount(50_000)]
    held, paid = NOBODY, [Amount(0)]
    while True:
        bidding = Bidding(close, vsize, stakes[len(paid) % 2], Amount(294), None, held)
        fee = offered(bidding, high, market, bidding.most(pressing=True, max_rate=FeeRate(1_000_000)))
        if not isinstance(fee, Amount):
            break
        assert paid[-1] < fee
        paid.append(fee)
        held = Rivals((Paying(vsize, fee),))
    assert fee == "bump-capped"
    assert paid[-1] == Amount(50_000 - 294)
