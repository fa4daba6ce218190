"""Merkle proofs, on a real block and on trees of every size; and the transaction that is a node (CVE-2017-12842)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.merkle import MAX_DEPTH, is_ambiguous, root_of_path
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint, Txid

BLOCK_100000 = [
    "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
    "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
    "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
    "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
]
ROOT_100000 = "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766"


def double(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def levels(leaves: list[bytes]) -> list[list[bytes]]:
    """The whole tree, as Bitcoin builds it: an odd node is paired with itself."""
    tree = [leaves]
    while len(tree[-1]) > 1:
        row = tree[-1] if len(tree[-1]) % 2 == 0 else [*tree[-1], tree[-1][-1]]
        tree.append([double(row[at] + row[at + 1]) for at in range(0, len(row), 2)])
    return tree


def path_of(tree: list[list[bytes]], position: int) -> list[bytes]:
    path = []
    for row in tree[:-1]:
        path.append(row[min(position ^ 1, len(row) - 1)])
        position >>= 1
    return path


def test_a_real_block() -> None:
    leaves = [bytes.fromhex(txid)[::-1] for txid in BLOCK_100000]
    tree = levels(leaves)
    for position, leaf in enumerate(leaves):
        assert root_of_path(leaf, position, path_of(tree, position))[::-1].hex() == ROOT_100000
        for wrong in set(range(4)) - {position}:
            assert root_of_path(leaf, wrong, path_of(tree, position))[::-1].hex() != ROOT_100000


def test_a_block_with_one_transaction() -> None:
    assert root_of_path(b"\x07" * 32, 0, []) == b"\x07" * 32


@given(st.integers(min_value=1, max_value=70), st.data())
def test_trees_of_every_size(size: int, data: st.DataObject) -> None:
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(size)]
    tree = levels(leaves)
    position = data.draw(st.integers(min_value=0, max_value=size - 1))
    path = path_of(tree, position)
    assert root_of_path(leaves[position], position, path) == tree[-1][0]
    if path:
        level = data.draw(st.integers(min_value=0, max_value=len(path) - 1))
        altered = [*path[:level], double(path[level]), *path[level + 1 :]]
        assert root_of_path(leaves[position], position, altered) != tree[-1][0]
        assert root_of_path(leaves[position], position >> 1, path[1:]) != tree[-1][0]


@pytest.mark.parametrize(
    ("position", "length"), [(1, 0), (-1, 0), (2, 1), (1 << 18, 18), (0, MAX_DEPTH + 1), (0, 100_000)]
)
def test_what_no_block_has(position: int, length: int) -> None:
    with pytest.raises(ParseError) as caught:
        root_of_path(bytes(32), position, [bytes(32)] * length)
    assert caught.value.slug == "malformed-merkle-path"


def node_transaction(forged: bytes) -> Transaction:
    """A transaction of 64 bytes whose second half is ``forged``: value, script and lock time hold it."""
    for number in range(256):
        outpoint = OutPoint(Txid(bytes([number]) * 32), 0)
        data = Transaction(2, (TxIn(outpoint, 0),), (TxOut(Amount(0), b"\x51\x51\x51\x51"),), 0).to_bytes()
        assert len(data) == 64
        mixed = data[:32] + forged
        try:
            return Transaction.from_bytes(mixed, allow_witness=False)
        except ParseError:
            continue
    raise AssertionError("no such transaction")


def test_a_transaction_that_is_a_node() -> None:
    """Who mines it could prove anything under it: the forged transaction's id is its second half."""
    template = Transaction(
        2, (TxIn(OutPoint(Txid(b"\x11" * 32), 7), 0),), (TxOut(Amount(9), b"\x51\x51\x51\x51"),), 0
    ).to_bytes()
    forged = template[32:]  # stands for the id of a transaction that was never mined
    mined = node_transaction(forged)
    assert is_ambiguous(mined)
    tree = levels([b"\x22" * 32, mined.txid.wire])
    assert root_of_path(mined.txid.wire, 1, path_of(tree, 1)) == tree[-1][0], (
        "the true proof, of the mined one"
    )
    path = [mined.to_bytes(include_witness=False)[:32], b"\x22" * 32]
    assert double(double(path[0] + forged) and b"\x22" * 32 + double(path[0] + forged)) == tree[-1][0]
    with pytest.raises(ParseError) as caught:
        root_of_path(forged, 0b11, path)
    assert "may be a transaction" in caught.value.message


@given(st.binary(min_size=64, max_size=64))
def test_usual_nodes_are_no_transactions(both: bytes) -> None:
    assert root_of_path(both[:32], 0, [both[32:]]) == double(both)


def test_only_64_bytes_are_ambiguous() -> None:
    for size in range(8):
        transaction = Transaction(
            2, (TxIn(OutPoint(Txid(bytes(32)), 0), 0),), (TxOut(Amount(0), b"\x51" * size),), 0
        )
        assert is_ambiguous(transaction) == (size == 4)
        signed = transaction.with_witness(0, (b"\x01" * 30,))
        assert is_ambiguous(signed) == (size == 4)
