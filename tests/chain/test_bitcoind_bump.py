"""A child that pays for its parent, on a real node whose mempool is full: every kind of parent, by everyone who can.

Bitcoin Core is the judge: it refuses the parent alone, takes the package, counts sizes and fees, and mines both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chain.bitcoind import FULL, fill
from support.chain.node import MinedChain, Node, needs_node, running
from support.party import Pair, psbt

from mpchan.bitcoin.address import address_to_script
from mpchan.errors import ChainError, MpchanError
from mpchan.party import payer, views
from mpchan.party.watch.bump import bump
from mpchan.results.closing import Bumped
from mpchan.units import Amount, FeeRate
from mpchan.wallet.wallet import Wallet

pytestmark = needs_node

RATE = FeeRate(20_000)
HIGHER = FeeRate(35_000)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A payer with a coin, and a payee, on a node whose mempool can be filled."""
    with running(tmp_path / "node", FULL) as node, MinedChain(node, tmp_path / "seen") as chain:
        yield Pair(tmp_path, chain)  # type: ignore[arg-type]


def node_of(pair: Pair) -> Node:
    assert isinstance(pair.chain, MinedChain)
    return pair.chain.node


def refused(call: Callable[[], object]) -> MpchanError:
    with pytest.raises(MpchanError) as caught:
        call()
    return caught.value


def cheap_funding(pair: Pair) -> str:
    """A channel whose funding pays 1 sat/vB and waits in the mempool."""
    made = payer.open_channel(
        pair.payer, pair.chain, pair.offer(), Amount(100_000), funding_fee_rate=FeeRate(1_000)
    )
    pair.fund(pair.sign_refund(made.hex))
    return f"{made.funding_txid}-{made.funding_vout}"


def stuck_funding(pair: Pair) -> tuple[str, Wallet]:
    name = cheap_funding(pair)
    fill(node_of(pair))
    return name, pair.payer


def stuck_settlement(pair: Pair) -> tuple[str, Wallet]:
    """The payee has countersigned it; the node does not take it."""
    name = pair.open()
    message = pair.settlement(name, 60_000)
    fill(node_of(pair))
    error = refused(lambda: pair.settle(message))
    assert (error.slug, error.exit_code) == ("rejected", 8)
    return name, pair.payee


def stuck_update(pair: Pair) -> tuple[str, Wallet]:
    name = pair.open()
    message = pair.pay(name, 40_000)
    pair.accept(message)
    pair.mine_to(psbt(message).tx.lock_time)
    fill(node_of(pair))
    assert refused(lambda: pair.settle(name=name)).slug == "rejected"
    return name, pair.payee


def stuck_refund(pair: Pair) -> tuple[str, Wallet]:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    fill(node_of(pair))
    assert refused(lambda: pair.refund(name)).slug == "rejected"
    return name, pair.payer


STUCK = {
    "funding": stuck_funding,
    "settlement": stuck_settlement,
    "update": stuck_update,
    "refund": stuck_refund,
}


def check_package(node: Node, done: Bumped, rate: FeeRate) -> None:
    """Both are in the mempool, and by Bitcoin Core's own account they pay this rate, and little more."""
    entry = node.call("getmempoolentry", done.child_txid)
    parent = node.call("getmempoolentry", done.txid)
    assert entry["depends"] == [done.txid]
    assert entry["ancestorsize"] == entry["vsize"] + parent["vsize"]
    assert int(entry["fees"]["base"] * 10**8) == done.fee_sat
    together = int(entry["fees"]["ancestor"] * 10**8)
    needed = rate.fee(entry["ancestorsize"]).sat
    assert needed <= together <= needed + rate.fee(1 + len(entry["depends"])).sat
    assert done.fee_rate_sat_per_kvb == together * 1000 // entry["ancestorsize"]


@pytest.mark.parametrize("kind", STUCK)
def test_what_the_node_refuses_alone_is_mined_with_its_child(pair: Pair, kind: str) -> None:
    name, wallet = STUCK[kind](pair)
    node = node_of(pair)
    pair.restart()
    wallet = Wallet.open(wallet.directory)
    done = bump(wallet, pair.chain, name, RATE)
    assert (done.kind, done.broadcast) == (kind, True)
    check_package(node, done, RATE)
    files = pair.files()
    assert bump(Wallet.open(wallet.directory), pair.chain, name, RATE) == done
    assert bump(wallet, pair.chain, name, FeeRate(5_000)) == done
    assert pair.files() == files
    better = bump(wallet, pair.chain, name, HIGHER)
    assert better.child_txid != done.child_txid
    check_package(node, better, HIGHER)
    assert done.child_txid not in node.call("getrawmempool")
    [block] = node.mine(1)
    held = node.call("getblock", block, 1)["tx"]
    assert {done.txid, better.child_txid} <= set(held)
    error = refused(lambda: bump(wallet, pair.chain, name, FeeRate(50_000)))
    assert (error.slug, error.exit_code) == ("already-confirmed", 5)


@pytest.mark.parametrize("kind", ["settlement", "update"])
def test_the_payer_bumps_the_payees_close_by_its_own_output(pair: Pair, kind: str) -> None:
    name = pair.open()
    if kind == "settlement":
        pair.settle(pair.settlement(name, 60_000))
    else:
        message = pair.pay(name, 40_000)
        pair.accept(message)
        pair.mine_to(psbt(message).tx.lock_time)
        pair.settle(name=name)
    done = bump(pair.payer, pair.chain, name, RATE)
    assert done.kind == kind
    check_package(node_of(pair), done, RATE)
    # there is room for one child: the payee's takes its place where it pays more
    assert refused(lambda: bump(pair.payee, pair.chain, name, RATE)).slug == "bump-needless"
    second = bump(pair.payee, pair.chain, name, HIGHER)
    assert second.txid == done.txid
    pair.chain.mine(1)
    held = node_of(pair).call("getblock", node_of(pair).call("getbestblockhash"), 1)["tx"]
    assert {done.txid, second.child_txid} <= set(held)
    assert done.child_txid not in held


def test_a_small_output_is_helped_by_a_coin_that_nothing_else_spends_then(pair: Pair) -> None:
    """1,000 sat cannot pay for a package of 20 sat/vB."""
    name = pair.open()
    pair.settle(pair.settlement(name, 1_000))
    error = refused(lambda: bump(pair.payee, pair.chain, name, RATE))
    assert (error.slug, error.exit_code) == ("not-enough-funds", 5)
    give(pair, pair.payee, 50_000)
    name = again(pair)
    done = bump(pair.payee, pair.chain, name, RATE)
    check_package(node_of(pair), done, RATE)
    better = bump(pair.payee, pair.chain, name, HIGHER)
    check_package(node_of(pair), better, HIGHER)
    assert len(node_of(pair).call("decoderawtransaction", better.hex)["vin"]) == 2


def give(pair: Pair, wallet: Wallet, amount: int) -> None:
    address = views.fresh_address(wallet).address
    pair.chain.faucet(address_to_script(address, wallet.network), Amount(amount))
    pair.chain.mine(1)


def again(pair: Pair) -> str:
    """Another channel that is just closed with 1,000 sat for the payee."""
    pair.coin()
    name = pair.open()
    pair.settle(pair.settlement(name, 1_000))
    return name


def test_a_rate_that_the_full_mempool_does_not_take(pair: Pair) -> None:
    name, wallet = stuck_settlement(pair)
    least = pair.chain.min_fee_rate()
    files = pair.files()
    error = refused(lambda: bump(wallet, pair.chain, name, FeeRate(least.sat_per_kvb - 100)))
    assert (error.slug, error.exit_code) == ("fee-rate-low", 5)
    assert pair.files() == files


def test_a_node_that_takes_no_packages_says_so(pair: Pair) -> None:
    """The child is kept, and written by --no-broadcast for a node that does."""
    name, wallet = stuck_settlement(pair)

    class Old(MinedChain):
        def broadcast_package(self, transactions: Any) -> None:
            raise ChainError("no-packages", "it is old", hint="newer ones do")

    with Old(node_of(pair)) as old:
        error = refused(lambda: bump(wallet, old, name, RATE))
        assert (error.slug, error.exit_code) == ("no-packages", 8)
        assert "newer ones do" in (error.hint or "")
        written = bump(wallet, old, name, RATE, sends=False)
    assert written.broadcast is False
    node = node_of(pair)
    answer = node.call("submitpackage", [written.parent_hex, written.hex])
    assert answer["package_msg"] == "success"
    check_package(node, written, RATE)


def test_a_reorganisation_makes_the_parent_wait_again(pair: Pair) -> None:
    name, wallet = stuck_settlement(pair)
    done = bump(wallet, pair.chain, name, RATE)
    node = node_of(pair)
    node.mine(1)
    node.drop(1)
    assert bump(wallet, pair.chain, name, RATE) == done
    assert done.child_txid in node.call("getrawmempool")
    node.mine(1)
    assert refused(lambda: bump(wallet, pair.chain, name, RATE)).slug == "already-confirmed"
