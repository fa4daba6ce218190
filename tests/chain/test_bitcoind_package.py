"""Packages on a real node: what is refused alone goes in with a child that pays for it; and nodes that take none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.chain.bitcoind import FULL, fill, first, fresh_script, spend
from support.chain.node import MINER_SCRIPT, Node, needs_node, running

from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.answer import Failure
from mpchan.chain.bitcoind import BitcoindChain
from mpchan.chain.bitcoind.package import is_unable, refusals
from mpchan.chain.reasons import telling
from mpchan.errors import ChainError, MpchanError, TooEarly
from mpchan.units import Amount, OutPoint, Txid

pytestmark = needs_node


class Busy:
    """A node whose mempool is full: 2 sat/vB and less are refused."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.funding = node.pay(fresh_script(), *[100_000] * 12)
        node.mine()
        self.least = fill(node)
        self._used = 0

    def parent(self, fee: int = 100, **options: Any) -> Transaction:
        """A transaction of about 1 sat/vB, which is not handed over."""
        self._used += 1
        return spend(self.funding, 100_000 - fee, vout=self._used - 1, script=fresh_script(), **options)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    with running(tmp_path_factory.mktemp("busy") / "node", FULL) as node:
        yield Busy(node)


@pytest.fixture
def chain(busy: Busy) -> Iterator[BitcoindChain]:
    with busy.node.chain() as opened:
        yield opened


def in_mempool(busy: Busy, *transactions: Transaction) -> bool:
    return {str(transaction.txid) for transaction in transactions} <= set(busy.node.call("getrawmempool"))


def refusal_of(chain: BitcoindChain, *transactions: Transaction) -> MpchanError:
    with pytest.raises(MpchanError) as caught:
        chain.broadcast_package(transactions)
    return caught.value


def test_what_is_refused_alone_goes_in_with_its_child(busy: Busy, chain: BitcoindChain) -> None:
    parent = busy.parent()
    child = spend(parent, 90_000)
    with pytest.raises(ChainError) as error:
        chain.broadcast(parent)
    assert "mempool min fee not met" in error.value.message
    for _ in range(2):  # known ones are fine
        chain.broadcast_package([parent, child])
        assert in_mempool(busy, parent, child)
    busy.node.mine()
    for transaction in (parent, child):
        seen = chain.output(first(transaction))
        assert seen is not None
        assert seen.confirmations == 1
    chain.broadcast_package([parent, child])


def test_a_child_that_pays_too_little(busy: Busy, chain: BitcoindChain) -> None:
    parent = busy.parent()
    child = spend(parent, 99_800)
    error = refusal_of(chain, parent, child)
    assert (error.slug, error.exit_code) == ("rejected", 8)
    assert error.message.startswith(f"the node refuses transaction {child.txid}: mempool min fee not met")
    assert not in_mempool(busy, parent)


def test_a_child_of_a_parent_that_is_in_the_mempool(busy: Busy, chain: BitcoindChain) -> None:
    parent = busy.parent(10_000)
    chain.broadcast(parent)
    child, better = spend(parent, 80_000), spend(parent, 60_000)
    chain.broadcast_package([parent, child])
    error = refusal_of(chain, parent, spend(parent, 79_999))
    assert (error.slug, "insufficient fee" in error.message) == ("rejected", True)
    chain.broadcast_package([parent, better])
    assert in_mempool(busy, parent, better)
    assert not in_mempool(busy, child)


def test_a_child_of_a_parent_that_is_in_a_block(busy: Busy, chain: BitcoindChain) -> None:
    """It came into the block while the package was made."""
    parent = busy.parent(10_000)
    chain.broadcast(parent)
    busy.node.mine()
    child = spend(parent, 80_000)
    for _ in range(2):
        chain.broadcast_package([parent, child])
        assert in_mempool(busy, child)
    busy.node.mine()
    chain.broadcast_package([parent, child])
    error = refusal_of(chain, parent, spend(parent, 70_000))
    assert error.slug == "rejected"


def test_a_parent_whose_time_has_not_come(busy: Busy, chain: BitcoindChain) -> None:
    parent = busy.parent(10_000, lock_time=busy.node.height + 1)
    error = refusal_of(chain, parent, spend(parent, 80_000))
    assert isinstance(error, TooEarly)
    assert error.slug == "non-final"
    assert str(parent.txid) in error.message
    assert str(parent.lock_time) in (error.hint or "")


def test_a_parent_that_the_chain_contradicts(busy: Busy, chain: BitcoindChain) -> None:
    parent = busy.parent(10_000)
    other = spend(busy.funding, 50_000, vout=parent.inputs[0].outpoint.vout)
    chain.broadcast(other)
    busy.node.mine()
    error = refusal_of(chain, parent, spend(parent, 80_000))
    assert (error.slug, error.exit_code) == ("rejected", 8)
    assert str(parent.txid) in error.message
    assert "missingorspent" in error.message


def test_a_package_that_is_none(busy: Busy, chain: BitcoindChain) -> None:
    parent = busy.parent(10_000)
    error = refusal_of(chain, parent, busy.parent(10_000))
    assert error.slug == "rejected"
    assert "package topology disallowed" in error.message


# other versions, by the answers that their source gives -------------------------------------------

PARENT = Transaction(2, (TxIn(OutPoint(Txid(bytes(32)), 0), 0),), (TxOut(Amount(9), MINER_SCRIPT),), 0)
CHILD = Transaction(2, (TxIn(first(PARENT), 0),), (TxOut(Amount(8), MINER_SCRIPT),), 0)


@pytest.mark.parametrize(
    ("code", "message", "unable"),
    [
        (-32601, "Method not found", True),
        (-1, "submitpackage is for regression testing (-regtest mode) only", True),
        (-1, "JSON value is not an array", False),
        (-25, "package topology disallowed", False),
    ],
)
def test_nodes_before_version_26(code: int, message: str, unable: bool) -> None:
    assert is_unable(Failure(code, message)) is unable


def test_how_version_26_says_it() -> None:
    """It names the first refusal as an error of the request."""
    named = refusals([PARENT, CHILD], Failure(-26, f"{PARENT.txid} failed: non-final"))
    assert named == [(PARENT, "non-final")]
    whole = refusals([PARENT, CHILD], Failure(-25, "package-mempool-limits"))
    assert whole == [(CHILD, "package-mempool-limits")]


def test_the_telling_refusal() -> None:
    cheap = "mempool min fee not met, 100 < 250"
    assert telling([(PARENT, cheap), (CHILD, cheap)]) == (CHILD, cheap)
    assert telling([(PARENT, "non-final"), (CHILD, "missing-inputs")]) == (PARENT, "non-final")
    assert telling([(PARENT, cheap), (CHILD, "dust")]) == (CHILD, "dust")
