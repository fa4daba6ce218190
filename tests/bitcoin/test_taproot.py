"""mpchan.bitcoin.taproot and taproot's sighashes: the vectors of BIP-0341, by every signer that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.signer import SIGNERS, using
from support.strategies import vectors

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import NETWORKS
from mpchan.bitcoin.schnorr import verify_schnorr
from mpchan.bitcoin.sighash import taproot_key_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.taproot import (
    MAX_DEPTH,
    ControlBlock,
    TapLeaf,
    TaprootOutput,
    Tree,
    branch_hash,
    output_key,
    p2tr_script,
)
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import ParseError
from mpchan.units import Amount
from mpchan.values import replace

VECTORS = vectors("bip341.json")
OUTPUTS = VECTORS["scriptPubKey"]
TREES = [case for case in OUTPUTS if case["given"]["scriptTree"]]
(SPENDING,) = VECTORS["keyPathSpending"]
GENERATOR_X = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")


@pytest.fixture(params=SIGNERS)
def signer(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


def tree_of(given: Any, leaves: dict[int, TapLeaf]) -> Tree:
    """The tree of a vector; ``leaves`` gets each leaf under its id."""
    if isinstance(given, list):
        left, right = given
        return tree_of(left, leaves), tree_of(right, leaves)
    leaf = TapLeaf(bytes.fromhex(given["script"]), given["leafVersion"])
    leaves[given["id"]] = leaf
    return leaf


@pytest.mark.parametrize("case", OUTPUTS, ids=range(len(OUTPUTS)))
def test_output_keys_of_bip341(signer: str, case: dict[str, Any]) -> None:
    internal_key = bytes.fromhex(case["given"]["internalPubkey"])
    root = bytes.fromhex(case["intermediary"]["merkleRoot"] or "")
    script = p2tr_script(output_key(internal_key, root).x_only)
    assert script.hex() == case["expected"]["scriptPubKey"]
    assert script_to_address(script, NETWORKS["mainnet"]) == case["expected"]["bip350Address"]


@pytest.mark.parametrize("case", TREES, ids=range(len(TREES)))
def test_trees_of_bip341(case: dict[str, Any]) -> None:
    leaves: dict[int, TapLeaf] = {}
    tree = tree_of(case["given"]["scriptTree"], leaves)
    known, expected = case["intermediary"], case["expected"]
    assert [leaves[number].hash.hex() for number in range(len(leaves))] == known["leafHashes"]
    output = TaprootOutput(bytes.fromhex(case["given"]["internalPubkey"]), tree)
    assert output.merkle_root.hex() == known["merkleRoot"]
    assert output.output_key.x_only.hex() == known["tweakedPubkey"]
    assert output.script_pubkey.hex() == expected["scriptPubKey"]
    for number, text in enumerate(expected["scriptPathControlBlocks"]):
        leaf, block = leaves[number], ControlBlock.from_bytes(bytes.fromhex(text))
        assert output.control_block(leaf) == block
        assert block.to_bytes().hex() == text
        assert block.merkle_root(leaf.script) == output.merkle_root
        assert block.proves(leaf.script, output.script_pubkey)
        assert not block.proves(leaf.script + b"\x51", output.script_pubkey)
        for wrong in (
            replace(block, leaf_version=block.leaf_version ^ 2),
            replace(block, odd_y=not block.odd_y),
            replace(block, internal_key=GENERATOR_X),
            replace(block, internal_key=b"\xff" * 32),
            replace(block, path=(*block.path, bytes(32))),
        ):
            assert not wrong.proves(leaf.script, output.script_pubkey)


def test_the_order_of_branches_makes_no_difference() -> None:
    one, two, three = (TapLeaf(bytes([0x50 + number])) for number in (1, 2, 3))
    roots = {
        TaprootOutput(GENERATOR_X, tree).merkle_root
        for tree in (((one, two), three), ((two, one), three), (three, (one, two)), (three, (two, one)))
    }
    assert len(roots) == 1
    assert branch_hash(one.hash, two.hash) == branch_hash(two.hash, one.hash)


def test_an_internal_key_is_the_x_of_a_point() -> None:
    with pytest.raises(ParseError) as caught:
        TaprootOutput(b"\xff" * 32, TapLeaf(b"\x51"))
    assert caught.value.slug == "malformed-public-key"


@pytest.mark.parametrize(
    "size", [0, 1, 32, 34, 64, 66, 33 + 31, 33 + 32 * MAX_DEPTH + 31, 33 + 32 * (MAX_DEPTH + 1)]
)
def test_control_blocks_of_no_such_size(size: int) -> None:
    with pytest.raises(ParseError) as caught:
        ControlBlock.from_bytes(bytes(size))
    assert caught.value.slug == "malformed-control-block"


def test_the_longest_control_block() -> None:
    data = bytes(range(33)) + bytes(32 * MAX_DEPTH)
    assert ControlBlock.from_bytes(data).to_bytes() == data


@pytest.mark.parametrize("case", SPENDING["inputSpending"], ids=lambda case: case["given"]["txinIndex"])
def test_key_path_spends_of_bip341(signer: str, case: dict[str, Any]) -> None:
    """Its keys, its signatures, and the sighashes of the two types that are hashed here."""
    given, known = case["given"], case["intermediary"]
    internal = PrivateKey(bytes.fromhex(given["internalPrivkey"])).public_key.x_only
    assert internal.hex() == known["internalPubkey"]
    tweaked = PrivateKey(bytes.fromhex(known["tweakedPrivkey"]))
    digest, signature = bytes.fromhex(known["sigHash"]), bytes.fromhex(case["expected"]["witness"][0])
    assert tweaked.sign_schnorr(digest) == signature[:64]
    key = output_key(internal, bytes.fromhex(given["merkleRoot"] or ""))
    assert key.x_only == tweaked.public_key.x_only
    assert verify_schnorr(key.x_only, signature[:64], digest)
    if given["hashType"] in (0, 1):
        transaction = Transaction.from_hex(SPENDING["given"]["rawUnsignedTx"])
        spent = [
            TxOut(Amount(each["amountSats"]), bytes.fromhex(each["scriptPubKey"]))
            for each in SPENDING["given"]["utxosSpent"]
        ]
        assert taproot_key_sighash(transaction, given["txinIndex"], spent, given["hashType"]) == digest
