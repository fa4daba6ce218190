"""The embedded chain's blocks and reject words against a real Bitcoin Core node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.both import OPTIONS, Call, hand_over, word_of
from support.chain.embedded import BITCOIN, FEE, OPEN_SCRIPT, fund, spend
from support.chain.node import needs_node, running

from mpchan.bitcoin.tx import Transaction, TxIn
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.embedded.admission import admit
from mpchan.chain.embedded.blocks import MINER_SCRIPT, MINER_WITNESS_SCRIPT
from mpchan.chain.embedded.index import Index
from mpchan.errors import ChainError, TooEarly
from mpchan.units import OutPoint, Txid
from mpchan.values import replace

pytestmark = needs_node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Call]:
    """A regtest node that accepts a tip from 2011 as recent, as a function that calls it."""
    with running(tmp_path / "node", *OPTIONS, ripe=False) as started:
        yield started.call


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(tmp_path / "chain") as opened, opened.engine():
        yield opened


def test_node_takes_every_block_and_counts_the_same_coins(chain: EmbeddedChain, node: Call) -> None:
    outpoints = fund(chain, *[BITCOIN] * 4)
    for outpoint in outpoints:
        chain.broadcast(spend(outpoint, BITCOIN - FEE))
    chain.mine(300)
    hand_over(chain, node)
    info = node("getblockchaininfo")
    assert (info["blocks"], info["mediantime"]) == (chain.tip().height, chain.tip().median_time)
    confirmed = [coin for coin in chain.coins([OPEN_SCRIPT, MINER_SCRIPT]) if coin.confirmations]
    totals = node("gettxoutsetinfo", "none")
    assert totals["txouts"] == len(confirmed)
    assert totals["total_amount"] * BITCOIN == sum(coin.output.value.sat for coin in confirmed)


def test_same_reject_words(chain: EmbeddedChain, node: Call) -> None:
    first, second, spent = fund(chain, *[100_000] * 3)
    chain.broadcast(spend(spent, 99_000))
    chain.mine(1)
    hand_over(chain, node)
    tip = chain.tip()
    null = OutPoint(Txid(bytes(32)), 0xFFFF_FFFF)
    coinbases = {coin.confirmations: coin.outpoint for coin in chain.coins([MINER_SCRIPT])}
    size = spend(first, 99_000).vsize
    transactions = [
        spend(first, 99_000),
        spend(first, 99_000, lock_time=tip.height),
        spend(first, 99_000, lock_time=tip.height + 1),
        spend(first, 99_000, lock_time=tip.median_time - 1),
        spend(first, 99_000, lock_time=tip.median_time),
        spend(first, 99_000, lock_time=tip.median_time, sequence=0xFFFF_FFFF),
        spend(first, 99_000, sequence=2),
        spend(first, 99_000, sequence=3),
        spend(first, 99_000, sequence=1 << 22 | 2),
        spend(first, 99_000, sequence=1 << 22 | 3),
        spend([first, second], 199_000, version=1, sequence=50),
        spend(OutPoint(Txid(b"\x01" * 32), 0), 99_000),
        spend(spent, 99_000, 330),
        spend([first, first], 199_000),
        spend([first, null], 99_000),
        replace(spend(null, 99_000), inputs=(TxIn(null, 0, b"\x01\x01"),)),
        spend(coinbases[99], 99_000, witness_script=MINER_WITNESS_SCRIPT),
        spend(coinbases[100], 10**9, witness_script=MINER_WITNESS_SCRIPT),
        spend(first, 100_001),
        spend(first, 21 * 10**14, 1),
        spend(first, 100_000 - size),
        spend(first, 100_000 - size + 1),
        spend(first, 90_000, 330),
        spend(first, 90_000, 329),
        spend(first, 99_000, version=0),
        spend(first, 99_000, version=4),
        spend(first, 99_000, witness_script=b"\x51"),
        spend(first),
    ]
    theirs = [node_reason(node, transaction) for transaction in transactions]
    ours = [our_reason(chain, transaction) for transaction in transactions]
    assert ours == theirs
    assert len(set(ours)) == 15


def test_same_replacements(chain: EmbeddedChain, node: Call) -> None:
    """What pushes a transaction, and its child, out of the mempool, to the satoshi."""
    alone, parent, other = fund(chain, *[100_000] * 3)
    hand_over(chain, node)
    size = spend(alone, 99_000).vsize
    first = spend(alone, 99_000)
    below = spend(parent, 98_000)
    child = spend(OutPoint(below.txid, 0), 95_000)
    for transaction in (first, below, child):
        chain.broadcast(transaction)
        node("sendrawtransaction", transaction.to_hex())
    wide = spend(alone, 1_000, *[330] * 150)  # a much higher fee, but a lower rate
    transactions = [
        spend(alone, 99_000, sequence=5),  # too early also where it replaces
        spend(alone, 98_999),
        spend(alone, 99_000 - size + 1),
        spend(alone, 99_000 - size),
        spend(parent, 95_000 - size + 1),  # the child's fee counts too
        spend(parent, 95_000 - size),
        spend([parent, other], 194_900),
        spend([OutPoint(below.txid, 0), parent], 50_000),
        wide,
        spend(other, 99_000),
    ]
    theirs = [node_reason(node, transaction) for transaction in transactions]
    ours = [our_verdict(chain, transaction) for transaction in transactions]
    assert ours == theirs
    assert ours[2:4] == ["insufficient fee", None]
    assert ours[4:6] == ["insufficient fee", None]


def test_same_packages(chain: EmbeddedChain, node: Call) -> None:
    """A parent that pays too little alone, and a child that pays for both, to the satoshi (Bitcoin Core 31)."""
    plain, cheap, good, free, late = fund(chain, *[100_000] * 5)
    hand_over(chain, node)
    size = spend(plain, 99_000).vsize

    def package(outpoint: OutPoint, parent_fee: int, child_fee: int, **options: int) -> list[Transaction]:
        parent = spend(outpoint, 100_000 - parent_fee, **options)  # type: ignore[arg-type]
        return [parent, spend(OutPoint(parent.txid, 0), 100_000 - parent_fee - child_fee)]

    packages = [
        package(plain, size, size),
        package(cheap, 10, 2 * size - 11),
        package(cheap, 10, 2 * size - 10),
        package(good, 5 * size, size - 1),  # the parent's fee pays for the parent alone
        package(free, 0, 2 * size),
        package(late, 10, 50_000, lock_time=chain.tip().height + 1),
    ]
    assert node_reason(node, packages[2][0]) == "min relay fee not met"
    theirs = [_node_takes(node, transactions) for transactions in packages]
    ours = [_we_take(chain, transactions) for transactions in packages]
    assert ours == theirs == [True, False, True, False, True, False]
    chain.mine(1)
    assert chain.transaction(packages[2][1].txid) == (packages[2][1], 1)


def _node_takes(node: Call, transactions: list[Transaction]) -> bool:
    answer = node("submitpackage", [transaction.to_hex() for transaction in transactions])
    return bool(answer["package_msg"] == "success")


def _we_take(chain: EmbeddedChain, transactions: list[Transaction]) -> bool:
    before = chain.mempool()
    try:
        chain.broadcast_package(transactions)
    except (ChainError, TooEarly):
        assert chain.mempool() == before
        return False
    chain.broadcast_package(transactions)
    assert chain.mempool() == [*before, *(transaction.txid for transaction in transactions)]
    return True


def our_verdict(chain: EmbeddedChain, transaction: Transaction) -> str | None:
    """Our word, None when the transaction is accepted; the mempool is as before."""
    index = Index(chain.directory / "index.sqlite3")
    try:
        with index.writing():
            admit(index, transaction)
            raise Undo
    except Undo:
        return None
    except (ChainError, TooEarly) as error:
        return word_of(error.message.removeprefix(f"the chain refuses transaction {transaction.txid}: "))
    finally:
        index.close()


class Undo(Exception):
    """Nothing of it counts."""


def node_reason(node: Call, transaction: Transaction) -> str | None:
    """The node's word, None when it would accept."""
    [verdict] = node("testmempoolaccept", [transaction.to_hex()], 0)
    if verdict["allowed"]:
        return None
    return word_of(verdict["reject-reason"])


def our_reason(chain: EmbeddedChain, transaction: Transaction) -> str | None:
    """Our word, None when the transaction is accepted; it is taken out of the mempool again."""
    try:
        chain.broadcast(transaction)
    except (ChainError, TooEarly) as error:
        return word_of(error.message.removeprefix(f"the chain refuses transaction {transaction.txid}: "))
    index = Index(chain.directory / "index.sqlite3")
    with index.writing():
        index.evict(transaction.txid)
    index.close()
    return None
