"""Merkle proofs: that a transaction is in a block, by the block's header alone.

A block's header commits to its transactions by a binary tree of double SHA-256 hashes. A proof is the other child at
each level from the transaction up to the root.

The tree does not say which of its nodes are transactions, and 64 bytes can be both a transaction and the two children
of a node (CVE-2017-12842). So a transaction of 64 bytes proves nothing here, and neither does a path on which some node
reads as a transaction: whoever can put such a one in a block could prove under it whatever he likes.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.script import double_sha256
from mpchan.bitcoin.tx import Transaction
from mpchan.errors import ParseError

MAX_DEPTH = 18
"""Levels of the tree of the largest block: 4,000,000 weight units hold less than 2**17 transactions of 60 bytes."""

_NODE_SIZE = 64


def is_ambiguous(transaction: Transaction) -> bool:
    """Whether a transaction could be taken for a node of the tree."""
    return len(transaction.to_bytes(include_witness=False)) == _NODE_SIZE


def block_merkle_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a block's transactions by one or more of their hashes, an odd last one being paired with itself."""
    level = list(hashes)
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        level = [double_sha256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def root_of_path(leaf: bytes, position: int, path: Sequence[bytes]) -> bytes:
    """The root to which a path leads, wire order like all hashes here.

    Args:
        leaf: the transaction's id.
        position: of the transaction in the block, the coinbase's being 0.
        path: the other child of each level, the lowest first.

    Raises:
        ParseError: ``malformed-merkle-path``: too long, no such position under it, or a node that reads as a
        transaction.
    """
    if len(path) > MAX_DEPTH:
        raise ParseError("malformed-merkle-path", f"a path of {len(path)} levels, above {MAX_DEPTH}")
    if not 0 <= position < 1 << len(path):
        raise ParseError(
            "malformed-merkle-path", f"no position {position} under a path of {len(path)} levels"
        )
    node = leaf
    for level, other in enumerate(path):
        both = other + node if position >> level & 1 else node + other
        if _reads_as_transaction(both):
            raise ParseError("malformed-merkle-path", f"the node at level {level} may be a transaction")
        node = double_sha256(both)
    return node


def _reads_as_transaction(data: bytes) -> bool:
    try:
        transaction = Transaction.from_bytes(data, allow_witness=False)
    except ParseError:
        return False
    return bool(transaction.inputs and transaction.outputs)
