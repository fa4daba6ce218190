"""63, 64. A close that somebody holds up, or that nobody relays any more, on real Bitcoin Core nodes.

What miners take (``-blockmintxfee``, ten times the agreed rate) shows in no answer of a node, so a watcher learns of it
by the blocks that come without the close. Every close has to be in a block before the refund is final.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.chain.node import MinedChain, Node, Refusal, free_port, needs_node
from support.party import Pair
from support.pins import child_of, heir_of, version3
from support.protocol import scheme_of
from support.watch import look

from mpchan.bitcoin.tx import Transaction
from mpchan.party import payer
from mpchan.party.watch.bump import bump
from mpchan.results.opening import OpenedAtOnce
from mpchan.units import Amount, FeeRate
from mpchan.wallet.wallet import Wallet

pytestmark = [needs_node, pytest.mark.usefixtures("version3")]

TEN_TIMES = FeeRate(20_000)
MINERS = "-blockmintxfee=0.0002"
RELAYS_LESS = "-minrelaytxfee=0.00001"
RELAYS_AS_MINED = "-minrelaytxfee=0.0002"
NEAR = "-whitelist=noban@127.0.0.1"
"""Transactions are announced at once."""

TERMS = {"settle_window": 16, "min_refund_delay": 36, "max_refund_delay": 60}
TAPROOT = {**TERMS, "max_refund_delay": 90}

__all__ = ["version3"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Ours, and one that mines and is connected to it."""
    directory = tmp_path_factory.mktemp("nodes")
    port = free_port()
    ours = Node(directory / "ours", RELAYS_LESS, MINERS, NEAR)
    theirs = Node(directory / "theirs", RELAYS_LESS, MINERS, NEAR)
    try:
        ours.start("-listen=1", f"-port={port}", "-bind=127.0.0.1")
        theirs.start(f"-connect=127.0.0.1:{port}")
        ours.ripen()
        until(lambda: ours.height == theirs.height and bool(theirs.call("getpeerinfo")))
        yield ours, theirs
        theirs.stop()
        ours.stop()
    finally:
        theirs.kill()
        ours.kill()


@pytest.fixture
def pair(nodes: tuple[Node, Node], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """In the usual construction, or the one that the test asks for."""
    with MinedChain(nodes[0], tmp_path / "seen") as chain:
        yield Pair(tmp_path, chain, scheme=getattr(request, "param", None))  # type: ignore[arg-type]


def opened(pair: Pair) -> str:
    """A channel, whose funding pays what miners take."""
    offer = pair.offer(**(TAPROOT if pair.scheme else TERMS))
    made = payer.open_channel(
        pair.payer, pair.chain, offer, Amount(100_000), funding_fee_rate=FeeRate(30_000)
    )
    if not isinstance(made, OpenedAtOnce):
        pair.fund(pair.sign_refund(made.hex))
    pair.chain.mine(1)
    return f"{made.funding_txid}-{made.funding_vout}"


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


# pins: each holds up a close that waits in the mempool ---------------------------------------------


def many_children(nodes: tuple[Node, Node], attacker: Wallet, close: Transaction) -> None:
    """As many as the node takes, each as cheap as it takes them; with version 3 that is one."""
    child, taken = child_of(attacker, close, 1_500), 0
    with suppress(Refusal):
        for _ in range(70):
            nodes[0].call("sendrawtransaction", child.to_hex())
            taken += 1
            child = heir_of(attacker, child, 120)
    assert taken == 1


def large_child(nodes: tuple[Node, Node], attacker: Wallet, close: Transaction) -> None:
    nodes[0].call("sendrawtransaction", child_of(attacker, close, 8_700, vsize=983).to_hex())


def older_version(nodes: tuple[Node, Node], attacker: Wallet, close: Transaction) -> None:
    with pytest.raises(Refusal, match="TRUC-violation"):
        nodes[0].call("sendrawtransaction", child_of(attacker, close, 8_700, version=2).to_hex())


def elsewhere_first(nodes: tuple[Node, Node], attacker: Wallet, close: Transaction) -> None:
    """The miner's node has another child than ours, and each refuses the other's."""
    ours, theirs = nodes
    until(lambda: ours.height == theirs.height)  # else it may not know what the close spends
    theirs.call("setnetworkactive", False)
    with suppress(Refusal):
        theirs.call("sendrawtransaction", close.to_hex(), 0)
    pinned = child_of(attacker, close, 8_700, vsize=983)
    theirs.call("sendrawtransaction", pinned.to_hex())
    theirs.call("setnetworkactive", True)
    until(lambda: bool(theirs.call("getpeerinfo")))


PINS = [many_children, large_child, older_version, elsewhere_first]
ATTACKERS = ["payer", "payee"]


def parties(pair: Pair, attacker: str) -> tuple[Wallet, Wallet]:
    """The attacker, and the other one."""
    return (pair.payer, pair.payee) if attacker == "payer" else (pair.payee, pair.payer)


def mine_elsewhere(nodes: tuple[Node, Node], child: str | None) -> None:
    """A block by the other node, once it has had the chance to see ours."""
    ours, theirs = nodes
    if child is not None:
        with suppress(AssertionError):  # it may refuse it
            until(lambda: child in theirs.call("getrawmempool"), 0.5)
    theirs.mine()
    until(lambda: ours.height == theirs.height)


def is_mined(pair: Pair, name: str, close: Transaction) -> bool:
    seen = pair.chain.output(pair.terms(name).outpoint)
    spend = None if seen is None else seen.spend
    return spend is not None and spend.txid == close.txid and spend.confirmations > 0


@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.__name__)
def test_a_bump_gets_a_held_up_close_into_a_block(
    nodes: tuple[Node, Node], pair: Pair, attacker: str, pin: Callable[..., None]
) -> None:
    name = opened(pair)
    close = Transaction.from_hex(pair.settle(pair.settlement(name, 60_000)).hex)
    attacking, other = parties(pair, attacker)
    pin(nodes, attacking, close)
    done = bump(other, pair.chain, name, TEN_TIMES)
    rate = TEN_TIMES
    for _ in range(4):  # what another node has first shows in nothing but the blocks
        mine_elsewhere(nodes, done.child_txid)
        if is_mined(pair, name, close):
            break
        rate = FeeRate(2 * rate.sat_per_kvb)
        done = bump(other, pair.chain, name, rate)
    assert is_mined(pair, name, close)
    assert done.fee_sat <= 20_000  # half of the smaller share


WATCHED = [
    *((None, pin, attacker) for pin in PINS for attacker in ATTACKERS),
    *(("taproot", pin, "payer") for pin in (large_child, elsewhere_first)),
]


@pytest.mark.parametrize(("pair", "pin", "attacker"), WATCHED, indirect=["pair"])
def test_a_watcher_gets_a_held_up_close_into_a_block(
    nodes: tuple[Node, Node], pair: Pair, attacker: str, pin: Callable[..., None]
) -> None:
    """One round after each block and no more; no fee above half of what is at stake."""
    name = opened(pair)
    pair.accept(pair.pay(name, 50_000))
    terms = pair.terms(name)
    nodes[0].mine(terms.schedule.deadline.value - nodes[0].height)
    attacking, other = parties(pair, attacker)
    if attacker == "payer":
        look(pair.payee, pair.chain)
    else:
        pair.settle(name=name)
    close = pair.payee_record(name).state.active.best.transaction
    pin(nodes, attacking, close)
    while not is_mined(pair, name, close):
        assert not terms.refund_lock_time.is_final(pair.chain.tip())
        look(other, pair.chain, once=True)
        children = other.sent.children_of(close.txid)
        mine_elsewhere(nodes, str(children[0].txid) if children else None)
    assert all(child.fee.sat <= 25_000 for child in other.sent.children_of(close.txid))


# a market that has left the agreed rate behind -----------------------------------------------------


def watch_until_collected(pair: Pair, name: str) -> None:
    """The payee's watcher looks once after each block, and is done before the refund is final."""
    close = pair.payee_record(name).state.best.transaction
    while not is_mined(pair, name, close):
        assert not pair.terms(name).refund_lock_time.is_final(pair.chain.tip())
        look(pair.payee, pair.chain)
        pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def watch_until_refunded(pair: Pair, name: str) -> None:
    for _ in range(15):
        look(pair.payer, pair.chain)
        pair.chain.mine(1)
        if pair.status(name) == ("refunded", "refunded"):
            return
    raise AssertionError("no refund")


def paid(pair: Pair) -> str:
    name = opened(pair)
    pair.accept(pair.pay(name, 50_000))
    return name


def test_who_only_watches_has_its_money_although_no_estimate_tells_what_miners_take(pair: Pair) -> None:
    """64. Nobody at the keyboard, and miners take nothing below ten times the agreed rate."""
    name = paid(pair)
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
    watch_until_collected(pair, name)
    pair.coin()
    name = opened(pair)
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    watch_until_refunded(pair, name)


def test_who_only_watches_has_its_money_when_nobody_relays_the_agreed_rate_any_more(tmp_path: Path) -> None:
    """64. The minimum of the node and of the miners rises after the opening."""
    node = Node(tmp_path / "node", RELAYS_LESS)
    try:
        node.start()
        node.ripen()
        with MinedChain(node, tmp_path / "seen") as chain:
            first, second = (Pair(tmp_path / each, chain) for each in "ab")  # type: ignore[arg-type]
            name, refunded = paid(first), opened(second)
            node.stop()
            node.start(RELAYS_AS_MINED, MINERS)
            first.mine_to(scheme_of(first.terms(name)).deadline.value)
            watch_until_collected(first, name)
            second.mine_to(second.terms(refunded).refund_lock_time.value)
            watch_until_refunded(second, refunded)
        node.stop()
    finally:
        node.kill()


def test_what_waits_is_announced_again_each_round(nodes: tuple[Node, Node], pair: Pair) -> None:
    """A child that left while the node had no peers reaches them in the next round."""
    ours, theirs = nodes
    ours.call("setnetworkactive", False)
    name = opened(pair)
    close = Transaction.from_hex(pair.settle(pair.settlement(name, 60_000)).hex)
    child = bump(pair.payee, pair.chain, name, TEN_TIMES).child_txid
    ours.call("setnetworkactive", True)
    until(lambda: ours.height == theirs.height)
    assert str(close.txid) not in theirs.call("getrawmempool")
    look(pair.payee, pair.chain)
    until(lambda: child in theirs.call("getrawmempool"), 60)
    mine_elsewhere(nodes, child)
    assert is_mined(pair, name, close)
