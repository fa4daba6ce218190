"""Fundings that strangers have announced: those that come are found on every backend, the others cost little."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count

import pytest
from support.chain.bitcoind import calls, first, fresh_script, spend
from support.chain.grounds import Ground
from support.chain.node import Node, needs_node

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import script_to_p2wsh_script
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import Chain
from mpchan.chain.bitcoind.openings import FEW
from mpchan.chain.bitcoind.rpc import Rpc
from mpchan.chain.electrum.backend import OPENINGS_AT_ONCE
from mpchan.units import Amount, OutPoint, Txid

_fresh = count(1)


def never_sent(number: int) -> dict[OutPoint, bytes]:
    """Outputs of transactions that nobody has made, each with its script."""
    digests = [hashlib.sha256(b"never %d" % next(_fresh)).digest() for _ in range(number)]
    return {OutPoint(Txid(digest), vout % 3): b"\x00\x20" + digest for vout, digest in enumerate(digests)}


def known(chain: Chain, openings: dict[OutPoint, bytes]) -> set[OutPoint]:
    """After a whole turn of a backend that asks about some at a time."""
    return {found for _ in range(len(openings) // OPENINGS_AT_ONCE + 2) for found in chain.appeared(openings)}


# every backend ------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [3, FEW + 100])
def test_what_comes_is_found(ground: Ground, others: int) -> None:
    """In the mempool, in a block, and after a reorganisation; whether or not the same object was asked before."""
    openings = never_sent(others)
    script = script_to_p2wsh_script(b"\x04" + next(_fresh).to_bytes(4, "little"))
    with ground.open() as chain:
        assert known(chain, openings) == set()
        ground.pay(script_to_address(script, REGTEST) or "", 50_000)
        ground.settle_down()
        [coin] = chain.coins([script])
        openings[coin.outpoint] = script
        assert known(chain, openings) == {coin.outpoint}
        for _ in range(2):
            ground.mine(1)
            ground.settle_down()
            assert known(chain, openings) == {coin.outpoint}
            with ground.open() as another:
                assert known(another, openings) == {coin.outpoint}
        ground.reorganise(2)
        ground.settle_down()
        assert known(chain, openings) == {coin.outpoint}, "it waits again"
        ground.mine(1)
        ground.settle_down()
        assert known(chain, openings) == {coin.outpoint}


# a node -------------------------------------------------------------------------------------------


@pytest.fixture
def pair(node: Node) -> Iterator[tuple[Node, Chain]]:
    """A node of the test's own, and the backend on it."""
    with node.chain() as chain:
        yield node, chain


def unsent(node: Node) -> tuple[Transaction, OutPoint]:
    """A payment that can be sent later, and its first output."""
    source = node.pay(fresh_script(), 90_000)
    node.mine(1)
    payment = spend(source, 80_000, script=fresh_script())
    return payment, first(payment)


@needs_node
def test_what_never_comes_is_asked_about_once(
    pair: tuple[Node, Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then one list of the mempool, and one look at each new block, whatever the number."""
    node, chain = pair
    openings = never_sent(3 * FEW)
    with calls(monkeypatch) as counted:
        assert chain.appeared(openings) == set()
    assert counted["gettxout"] == len(openings)
    assert counted.messages < 10
    for blocks in (0, 1, 5):
        node.mine(blocks)
        with calls(monkeypatch) as counted:
            assert chain.appeared(openings) == set()
        assert counted == {"getblockchaininfo": 1, "getrawmempool": 1} | (
            {"getblock": blocks} if blocks else {}
        )
    openings |= never_sent(2)
    with calls(monkeypatch) as counted:
        assert chain.appeared(openings) == set()
    assert counted["gettxout"] == 2


@needs_node
def test_what_comes_among_many_later(pair: tuple[Node, Chain]) -> None:
    """Through the mempool and straight in a block; also one that the mempool spends before anybody has looked."""
    node, chain = pair
    seen, (mined, straight), (parent, quick) = unsent(node), unsent(node), unsent(node)
    openings = never_sent(2 * FEW) | dict.fromkeys((seen[1], straight, quick), b"")
    assert chain.appeared(openings) == set()
    node.call("sendrawtransaction", seen[0].to_hex())
    assert chain.appeared(openings) == {seen[1]}
    node.mine_with([mined])
    assert chain.appeared(openings) == {seen[1], straight}
    for transaction in (parent, spend(parent, 70_000)):
        node.call("sendrawtransaction", transaction.to_hex())
    assert chain.appeared(openings) == {seen[1], straight, quick}
    node.mine(1)
    assert chain.appeared(openings) >= {seen[1], straight}


@needs_node
@pytest.mark.parametrize("depth", [1, 3])
def test_what_only_the_other_branch_holds(pair: tuple[Node, Chain], depth: int) -> None:
    """What was looked through belongs to a branch that is gone."""
    node, chain = pair
    payment, outpoint = unsent(node)
    openings = {**never_sent(2 * FEW), outpoint: b""}
    node.mine(depth)
    assert chain.appeared(openings) == set()
    node.drop(depth)
    node.mine_with([payment])
    node.mine(depth)
    assert chain.appeared(openings) == {outpoint}
    node.drop(depth + 1)
    conflict = Transaction(2, payment.inputs, (TxOut(Amount(70_000), fresh_script()),), 0)
    node.mine_with([conflict])
    node.mine(depth + 1)
    assert chain.appeared(openings) == set(), "it is gone for good"


@needs_node
def test_what_comes_between_two_questions_is_not_missed(
    pair: tuple[Node, Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block takes it out of the mempool at any moment of a look: this look or the next one finds it."""
    node, chain = pair
    openings = never_sent(FEW + 1)
    assert chain.appeared(openings) == set()
    attempt = Rpc.attempt
    for nth in range(4):
        payment, outpoint = unsent(node)
        openings[outpoint] = b""
        assert outpoint not in chain.appeared(openings)
        node.call("sendrawtransaction", payment.to_hex())
        asked = count()

        def moving(self: Rpc, method: str, *parameters: object, **options: float | None) -> object:
            if next(asked) == nth:  # noqa: B023
                node.mine(1)
            return attempt(self, method, *parameters, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Rpc, "attempt", moving)
            found = chain.appeared(openings)
        assert outpoint in found | chain.appeared(openings)


@needs_node
def test_a_coinbase_is_no_opening(pair: tuple[Node, Chain]) -> None:
    """The greatest index of an output is a question that the node does not take."""
    _, chain = pair
    nothing = OutPoint(Txid(bytes(32)), 0xFFFF_FFFF)
    assert chain.appeared({nothing: b""}) == set()
