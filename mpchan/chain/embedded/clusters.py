"""Clusters: the transactions of the mempool that hang together, and the order in which miners would take them.

A cluster is cut into chunks, each of which pays more per byte than the next. Laid behind one another they give the
feerate diagram: how much the first so many bytes pay. A replacement must make it higher somewhere and lower nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded.index import Index
from mpchan.chain.embedded.mempool import fee_of
from mpchan.units import Txid
from mpchan.values import frozen

MAX_CLUSTER_COUNT = 64
MAX_CLUSTER_WEIGHT = 4 * 101_000
"""Bitcoin Core's limits from version 31 on."""


@frozen
class Chunk:
    """Some transactions as a whole: their fee in satoshi, their size in weight units."""

    fee: int
    weight: int

    def __add__(self, other: Chunk) -> Chunk:
        return Chunk(self.fee + other.fee, self.weight + other.weight)

    @property
    def rate(self) -> Fraction:
        """In satoshi per weight unit."""
        return Fraction(self.fee, self.weight)


@frozen
class Member:
    """A transaction of the mempool, with what it pays."""

    transaction: Transaction
    chunk: Chunk


Members = dict[Txid, Member]


def cluster(index: Index, some: Iterable[Transaction]) -> Members:
    """All transactions of the mempool that hang together with any of these."""
    found: Members = {}
    waiting = list(some)
    while waiting:
        transaction = waiting.pop()
        if transaction.txid not in found:
            paid = Chunk(fee_of(transaction, index), transaction.weight)
            found[transaction.txid] = Member(transaction, paid)
            waiting += [*index.parents(transaction), *index.children(transaction)]
    return found


def is_too_large(members: Members) -> bool:
    """Whether a cluster is larger than nodes keep one."""
    weight = sum(member.chunk.weight for member in members.values())
    return len(members) > MAX_CLUSTER_COUNT or weight > MAX_CLUSTER_WEIGHT


def chunks(members: Members) -> list[Chunk]:
    """The chunks, the one that pays most first.

    The order is found by taking, again and again, the transaction that pays most with all that it still needs. For a
    parent with its children this is the best there is.
    """
    above = {txid: _ancestors(member.transaction, members) for txid, member in members.items()}
    left = set(members)
    done: list[Chunk] = []
    while left:
        together = {txid: _sum([members[each].chunk for each in above[txid] & left]) for txid in left}
        best = max(left, key=lambda txid: together[txid].rate)
        done.append(together[best])
        left -= above[best]
        while len(done) > 1 and done[-1].rate > done[-2].rate:
            last = done.pop()
            done[-1] += last
    return sorted(done, key=lambda chunk: chunk.rate, reverse=True)


def improves(new: Sequence[Chunk], old: Sequence[Chunk]) -> bool:
    """Whether one diagram is above the other somewhere, and below it nowhere."""
    sizes = sorted({*_sizes(new), *_sizes(old)})
    pairs = [(_height(new, size), _height(old, size)) for size in sizes]
    return all(ours >= theirs for ours, theirs in pairs) and any(ours > theirs for ours, theirs in pairs)


def _ancestors(transaction: Transaction, members: Members) -> set[Txid]:
    """A transaction and all that it needs, within its cluster."""
    found: set[Txid] = set()
    waiting = [transaction]
    while waiting:
        each = waiting.pop()
        found.add(each.txid)
        needed = {txin.outpoint.txid for txin in each.inputs} & members.keys()
        waiting += [members[txid].transaction for txid in needed]
    return found


def _sum(parts: Sequence[Chunk]) -> Chunk:
    return sum(parts[1:], parts[0])


def _sizes(diagram: Sequence[Chunk]) -> list[int]:
    """Where a diagram bends."""
    return [sum(chunk.weight for chunk in diagram[: count + 1]) for count in range(len(diagram))]


def _height(diagram: Sequence[Chunk], size: int) -> Fraction:
    """What the first ``size`` weight units pay."""
    paid = Fraction(0)
    for chunk in diagram:
        part = min(size, chunk.weight)
        paid += part * chunk.rate
        size -= part
    return paid
