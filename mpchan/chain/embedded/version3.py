"""Transactions of version 3 in the mempool: at most one parent with one child, and both of this version (BIP-0431)."""

from __future__ import annotations

from mpchan.bitcoin.tx import TRUC_VERSION
from mpchan.chain.embedded.index import Index
from mpchan.chain.embedded.mempool import Candidate, reject
from mpchan.values import replace

MAX_VSIZE = 10_000
MAX_CHILD_VSIZE = 1_000


def within_topology(candidate: Candidate, index: Index, *, evicts_sibling: bool) -> Candidate:
    """The candidate, which may also replace the child that its parent has already ("sibling eviction").

    Raises:
        ChainError: ``rejected``.
    """
    _require_one_version(candidate)
    if candidate.transaction.version != TRUC_VERSION:
        return candidate
    _require_size(candidate, MAX_VSIZE, "tx")
    if not candidate.parents:
        return candidate
    _require_size(candidate, MAX_CHILD_VSIZE, "child tx")
    parent = candidate.parents[0]
    if len(candidate.parents) > 1 or index.parents(parent):
        _violation(candidate, "tx would have too many ancestors")
    leaving = {each.txid for each in candidate.replaces}
    siblings = [child for child in index.children(parent) if child.txid not in leaving]
    if not siblings:
        return candidate
    # more than one is there only where a reorganisation put back what was in blocks
    alone = len(siblings) == 1 and len(index.parents(siblings[0])) == 1 and not index.children(siblings[0])
    if not (alone and evicts_sibling):
        _violation(candidate, f"tx {parent.txid} would exceed descendant count limit")
    return replace(candidate, replaces=(*candidate.replaces, *siblings))


def _require_one_version(candidate: Candidate) -> None:
    ours = candidate.transaction.version
    for parent in candidate.parents:
        if ours != TRUC_VERSION and parent.version == TRUC_VERSION:
            _violation(candidate, f"non-version=3 tx cannot spend from version=3 tx {parent.txid}")
        if ours == TRUC_VERSION and parent.version != TRUC_VERSION:
            _violation(candidate, f"version=3 tx cannot spend from non-version=3 tx {parent.txid}")


def _require_size(candidate: Candidate, most: int, what: str) -> None:
    vsize = candidate.transaction.vsize
    if vsize > most:
        _violation(candidate, f"version=3 {what} is too big: {vsize} > {most} virtual bytes")


def _violation(candidate: Candidate, why: str) -> None:
    reject(candidate.transaction, f"TRUC-violation, {why}")
