"""Taproot outputs: a key, and behind it a tree of scripts (BIP-0341).

Who spends by the key path shows one signature of the output key. Who spends by a script shows the script, what
satisfies it, and a control block, which proves that the output key commits to the script.
"""

from __future__ import annotations

from functools import reduce
from typing import Union

from mpchan.bitcoin.schnorr import X_ONLY_SIZE, tagged_hash
from mpchan.bitcoin.script import OP_1
from mpchan.bitcoin.serialize import var_bytes
from mpchan.bitcoin.signature import PublicKey
from mpchan.errors import ParseError
from mpchan.values import field, frozen

TAPSCRIPT = 0xC0
"""The leaf version whose scripts BIP-0342 defines; others are anyone's to spend by consensus."""

ANNEX_TAG = b"\x50"
"""How the last item of a witness of two or more begins where it is an annex, which has no meaning yet."""

HASH_SIZE = 32
MAX_DEPTH = 128
_EVEN_Y, _ODD_Y = 2, 3  # the first byte of a compressed key


def without_annex(witness: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """What a witness shows of how a taproot output is spent (BIP-0341)."""
    has_annex = len(witness) > 1 and witness[-1].startswith(ANNEX_TAG)
    return witness[:-1] if has_annex else witness


@frozen
class TapLeaf:
    """A script of the tree, and its leaf version: an even number from 0 to 254 (BIP-0341)."""

    script: bytes
    version: int = TAPSCRIPT

    @property
    def hash(self) -> bytes:
        """The 32 bytes under which signatures and the tree know the leaf."""
        return tagged_hash("TapLeaf", bytes([self.version]) + var_bytes(self.script))


Tree = Union[TapLeaf, "tuple[Tree, Tree]"]
"""A leaf, or two subtrees. The order of two subtrees makes no difference to the output."""


def branch_hash(a: bytes, b: bytes) -> bytes:
    """The hash of the node above two hashes, whichever comes first."""
    return tagged_hash("TapBranch", min(a, b) + max(a, b))


def output_key(internal_key: bytes, merkle_root: bytes = b"") -> PublicKey:
    """The key of a taproot output, with the sign of its y.

    Args:
        internal_key: x-only, 32 bytes.
        merkle_root: the hash of the tree of scripts; empty where the output has no scripts.

    Raises:
        ParseError: ``malformed-public-key`` where the internal key is no x of a point.
    """
    tweak = tagged_hash("TapTweak", internal_key + merkle_root)
    return PublicKey(bytes([_EVEN_Y]) + internal_key).add_tweak(tweak)


def p2tr_script(x_only_key: bytes) -> bytes:
    """The P2TR scriptPubKey of an output key."""
    return bytes([OP_1, X_ONLY_SIZE]) + x_only_key


def has_control_block_size(data: bytes) -> bool:
    """Whether ``data`` has 33 bytes and 32 for each step of a path, of which there are at most 128 (BIP-0341)."""
    steps, rest = divmod(len(data) - 1 - X_ONLY_SIZE, HASH_SIZE)
    return rest == 0 and 0 <= steps <= MAX_DEPTH


@frozen
class ControlBlock:
    """What proves that an output commits to a leaf (BIP-0341, "Script validation rules").

    Attributes:
        leaf_version: of the script that it belongs to.
        odd_y: whether the y of the output key is odd.
        internal_key: x-only.
        path: the hashes beside the leaf on the way up to the root.
    """

    leaf_version: int
    odd_y: bool
    internal_key: bytes
    path: tuple[bytes, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> ControlBlock:
        """Whether the internal key is a point is not asked.

        Raises:
            ParseError: ``malformed-control-block`` for another length.
        """
        if not has_control_block_size(data):
            raise ParseError("malformed-control-block", f"a control block of {len(data)} bytes")
        hashes = [data[at : at + HASH_SIZE] for at in range(1 + X_ONLY_SIZE, len(data), HASH_SIZE)]
        return cls(data[0] & 0xFE, bool(data[0] & 1), data[1 : 1 + X_ONLY_SIZE], tuple(hashes))

    def to_bytes(self) -> bytes:
        """Leaf version and sign of y in one byte, the internal key, the path."""
        return bytes([self.leaf_version | self.odd_y]) + self.internal_key + b"".join(self.path)

    def merkle_root(self, script: bytes) -> bytes:
        """The root of the tree that has ``script`` at the end of this path."""
        return reduce(branch_hash, self.path, TapLeaf(script, self.leaf_version).hash)

    def proves(self, script: bytes, script_pubkey: bytes) -> bool:
        """Whether the P2TR output ``script_pubkey`` commits to ``script``."""
        try:
            key = output_key(self.internal_key, self.merkle_root(script))
        except ParseError:  # the internal key is no point
            return False
        odd_y = key.sec[0] == _ODD_Y
        return (odd_y, p2tr_script(key.x_only)) == (self.odd_y, script_pubkey)


@frozen
class TaprootOutput:
    """An output whose internal key (x-only) and tree are known.

    Attributes:
        merkle_root: the hash of the tree, to which the output key commits.
        output_key: with the sign of its y.

    Raises:
        ParseError: ``malformed-public-key`` where the internal key is no x of a point.
    """

    internal_key: bytes
    tree: Tree
    merkle_root: bytes = field(init=False, repr=False)
    output_key: PublicKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "merkle_root", _root(self.tree))
        object.__setattr__(self, "output_key", output_key(self.internal_key, self.merkle_root))

    @property
    def script_pubkey(self) -> bytes:
        """Of the output."""
        return p2tr_script(self.output_key.x_only)

    def control_block(self, leaf: TapLeaf) -> ControlBlock:
        """What a spend by ``leaf``, which must be one of the tree, shows."""
        odd_y = self.output_key.sec[0] == _ODD_Y
        return ControlBlock(leaf.version, odd_y, self.internal_key, _paths(self.tree)[leaf])


def _root(tree: Tree) -> bytes:
    return tree.hash if isinstance(tree, TapLeaf) else branch_hash(_root(tree[0]), _root(tree[1]))


def _paths(tree: Tree) -> dict[TapLeaf, tuple[bytes, ...]]:
    """The hashes beside each leaf on its way up to the root."""
    if isinstance(tree, TapLeaf):
        return {tree: ()}
    left, right = tree
    return {
        **{leaf: (*path, _root(right)) for leaf, path in _paths(left).items()},
        **{leaf: (*path, _root(left)) for leaf, path in _paths(right).items()},
    }
