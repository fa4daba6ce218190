"""Version 3, clusters and what may replace what: the embedded mempool against a real Bitcoin Core node (31)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.chain.both import OPTIONS, TAKEN, VALUE, Both, Call
from support.chain.embedded import FINAL, LOCKABLE, spend
from support.chain.node import needs_node, running

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.watch.bidding import Paying, Rivals, child_fee
from mpchan.units import Amount, FeeRate, OutPoint
from mpchan.values import replace

pytestmark = needs_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """One node for all tests here; each begins with a block of its own."""
    with running(tmp_path_factory.mktemp("policy") / "node", *OPTIONS, ripe=False) as started:
        yield started.call


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(tmp_path_factory.mktemp("chain") / "chain") as opened, opened.engine():
        yield opened


@pytest.fixture
def both(embedded: EmbeddedChain, node: Call) -> Both:
    return Both(embedded, node)


def sized(transaction: Transaction, vsize: int) -> Transaction:
    """The same transaction with so many virtual bytes, by an output that carries nothing."""
    for size in range(max(0, vsize - transaction.vsize - 20), vsize):
        padding = TxOut(Amount(0), b"\x6a" + bytes(size))
        larger = replace(transaction, outputs=(*transaction.outputs, padding))
        if larger.vsize == vsize:
            return larger
    raise AssertionError(vsize)


def child(parent: Transaction, fee: int, vout: int = 0, *, version: int = 3, size: int = 0) -> Transaction:
    """A child with this fee, and this size where one is given."""
    sequence = FINAL if version == 3 else LOCKABLE  # version 3 may be replaced whatever it says
    made = spend(
        OutPoint(parent.txid, vout), parent.outputs[vout].value.sat - fee, version=version, sequence=sequence
    )
    return sized(made, size) if size else made


def parent(both: Both, fee: int = 500, version: int = 3) -> Transaction:
    """A transaction with two outputs, one for each party."""
    return spend(both.coin(), 150_000, VALUE - 150_000 - fee, version=version)


def test_a_child_of_version_3_and_no_other(both: Both) -> None:
    close = parent(both)
    assert both.give(close) == TAKEN
    assert both.give(child(close, 500, version=2)) == "TRUC-violation"
    assert both.give(child(close, 5_000, size=1_001)) == "TRUC-violation"
    taken = child(close, 5_000, size=1_000)
    assert both.give(taken) == TAKEN
    assert both.give(child(taken, 5_000)) == "TRUC-violation"
    plain = parent(both, version=2)
    assert both.give(plain) == TAKEN
    assert both.give(child(plain, 500)) == "TRUC-violation"
    assert both.give(child(plain, 500, version=2)) == TAKEN
    others = [parent(both), parent(both)]
    assert [both.give(each) for each in others] == [TAKEN, TAKEN]
    outpoints = [OutPoint(each.txid, 0) for each in others]
    assert both.give(spend(outpoints, 290_000, version=3)) == "TRUC-violation"
    assert both.give(spend([*outpoints, both.coin()], 290_000, version=2)) == "TRUC-violation"


def test_the_largest_of_version_3(both: Both) -> None:
    large = spend(both.coin(), VALUE - 20_000, version=3)
    assert both.give(sized(large, 10_001)) == "TRUC-violation"
    assert both.give(sized(large, 10_000)) == TAKEN


@pytest.mark.parametrize(
    ("theirs", "size", "ours"),
    [(8_700, 983, 0), (3_000, 0, 982), (500, 0, 0), (30_000, 400, 300), (450, 200, 900), (9_000, 113, 300)],
)
def test_a_sibling_is_replaced_to_the_satoshi(both: Both, theirs: int, size: int, ours: int) -> None:
    """What one party's child has to pay to take the place of the other's."""
    close = parent(both, 336)
    assert both.give(close) == TAKEN
    assert both.give(child(close, theirs, size=size)) == TAKEN

    def bid(fee: int) -> Transaction:
        return child(close, fee, 1, size=ours)

    least = both.least(bid, 49_000)
    assert both.give(bid(least - 1)) == "insufficient fee"
    held = Rivals((Paying(child(close, theirs, size=size).vsize, Amount(theirs)),))
    offered = child_fee(FeeRate(0), Paying(close.vsize, Amount(336)), bid(least).vsize, held)
    # what a size does not tell of a weight is paid for; a larger child pays their rate for all of its bytes
    assert least <= offered.sat
    assert offered.sat <= least * 1.01 or bid(least).vsize > held.paying[0].vsize
    assert both.give(bid(offered.sat)) == TAKEN
    assert both.give(child(close, theirs, size=size)) == "insufficient fee"


def test_close_and_refund_replace_each_other_with_their_children(both: Both) -> None:
    """Together, to the satoshi: either is refused alone."""
    coin = both.coin()
    refund = spend(coin, VALUE - 100, version=3)
    close = spend(coin, 150_000, VALUE - 150_140, version=3)
    assert both.give(refund) == TAKEN
    assert both.give(close) == "insufficient fee"

    def bid(parent: Transaction, total: int) -> tuple[Transaction, Transaction]:
        fee = VALUE - sum(output.value.sat for output in parent.outputs)
        return parent, child(parent, total - fee)

    size, other = (sum(each.vsize for each in bid(parent, 1_000)) for parent in (close, refund))
    assert both.give(*bid(close, 100 + size - 1)) == "refused"
    assert both.give(*bid(close, 100 + size)) == TAKEN
    assert both.give(*bid(refund, 100 + size + other - 1)) == "refused"
    assert both.give(*bid(refund, 100 + size + other)) == TAKEN
    assert both.give(*bid(close, 2 * (100 + size + other))) == TAKEN


def test_a_close_that_pays_more_than_its_child_does_not_replace_a_package(both: Both) -> None:
    """However much both pay together: the child has to raise what its parent pays."""
    coin = both.coin()
    refund, close = spend(coin, VALUE - 200, version=3), spend(coin, 150_000, VALUE - 158_400, version=3)
    large = child(refund, 9_000, size=1_000)
    assert [both.give(refund), both.give(large)] == [TAKEN, TAKEN]
    standing = Rivals((Paying(refund.vsize, Amount(200)), Paying(1_000, Amount(9_000))), of_parent=True)
    size = child(close, 1_000).vsize
    offered = child_fee(FeeRate(0), Paying(close.vsize, Amount(8_400)), size, standing)
    no_higher = 8_400 * size // close.vsize
    assert 8_400 + no_higher > 9_200 + close.vsize + size
    assert both.give(close, child(close, no_higher)) == "refused"
    assert both.give(close, child(close, offered.sat)) == TAKEN


def test_packages_of_version_3(both: Both) -> None:
    free = parent(both, 0)
    assert both.give(free) == "min relay fee not met"
    assert both.give(free, child(free, 2_000, size=1_001)) == "refused"
    assert both.give(free, child(free, 2_000, version=2)) == "refused"
    assert both.give(free, child(free, 2_000)) == TAKEN
    assert both.give(free, child(free, 3_000)) == TAKEN  # the parent is there, so this is a replacement
    assert both.give(free, child(free, 5_000, 1)) == TAKEN
    unconfirmed = parent(both, version=2)
    assert both.give(unconfirmed) == TAKEN
    later = child(unconfirmed, 0)
    assert both.give(later, child(later, 5_000)) == "refused"


def test_a_cluster_has_64_transactions_at_most(both: Both) -> None:
    """The pin that version 3 ends: a chain of children on one output keeps every child of the other out."""
    close = parent(both, version=2)
    assert both.give(close) == TAKEN
    last = child(close, 200, version=2)
    for _ in range(62):
        assert both.give(last) == TAKEN
        last = child(last, 200, version=2)
    assert both.give(child(close, 30_000, 1, version=2)) == TAKEN
    assert both.give(last) == "too-large-cluster"
    assert both.give(child(close, 31_000, 1, version=2)) == TAKEN  # a replacement makes it no larger


def test_a_cluster_has_101_000_bytes_at_most(both: Both) -> None:
    close = sized(spend(both.coin(), 90_000, VALUE - 90_000 - 60_000, version=2), 60_000)
    assert both.give(close) == TAKEN
    assert both.give(child(close, 45_000, version=2, size=41_002)) == "too-large-cluster"
    assert both.give(child(close, 45_000, version=2, size=41_000)) == TAKEN
    assert both.give(child(close, 30_000, 1, version=2)) == "too-large-cluster"


def test_what_a_replacement_must_improve(both: Both) -> None:
    """A parent whose child pays for it is worth more than its own rate says."""
    coin = both.coin()
    first = spend(coin, VALUE - 300, version=2)
    assert both.give(first) == TAKEN
    assert both.give(child(first, 9_000, version=2)) == TAKEN

    def bid(fee: int) -> Transaction:
        return sized(spend(coin, VALUE - fee, version=2), 700)

    least = both.least(bid, 190_000)
    assert both.give(bid(least - 1)) == "insufficient fee"
    assert both.give(bid(least)) == TAKEN


def test_both_stay_when_their_block_is_replaced(both: Both, node: Call) -> None:
    """Neither knows the rules for version 3 when it puts back what was in a block."""
    funding = spend(both.coin(), VALUE - 500, version=2)
    assert both.give(funding) == TAKEN
    both.mine()
    close = child(funding, 500)
    assert both.give(close) == TAKEN
    node("invalidateblock", node("getbestblockhash"))
    both.chain.reorganise(1)
    theirs = set(node("getrawmempool"))
    assert {str(funding.txid), str(close.txid)} <= theirs
    assert {str(txid) for txid in both.chain.mempool()} >= {str(funding.txid), str(close.txid)}
