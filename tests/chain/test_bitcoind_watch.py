"""The watcher on a real node: what its mempool loses, what is reorganised away, a node that comes and goes."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.bitcoind import Calls, calls
from support.chain.node import MinedChain, Node, needs_node, running
from support.chain.watch_load import payee_with_channels
from support.party import SHORT, Pair, balance_sat
from support.protocol import scheme_of
from support.watch import look, one, seen, watcher

from mpchan.chain.base import FALLBACK_RATE
from mpchan.errors import MpchanError
from mpchan.party import payee
from mpchan.party.watch.watcher import Watcher
from mpchan.wallet.wallet import Wallet

pytestmark = needs_node

DEPTHS = pytest.mark.parametrize("depth", [1, 2, 6])
ROOMY = {"settle_window": 20, "min_refund_delay": 40, "max_refund_delay": 80}
"""Terms under which six blocks more are no deadline missed."""


@pytest.fixture(scope="module")
def forgetful_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that forgets its mempool whenever it is restarted."""
    with running(tmp_path_factory.mktemp("node") / "node", "-persistmempool=0") as node:
        yield node


@pytest.fixture
def pair(forgetful_node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """A payer with a coin, and a payee, who agree on what the node estimates: no close needs a child at once."""
    monkeypatch.setitem(SHORT, "fee_rate_sat_per_kvb", FALLBACK_RATE.sat_per_kvb)
    with MinedChain(forgetful_node, tmp_path / "seen") as chain:
        yield Pair(tmp_path, chain)


def forget(pair: Pair) -> None:
    """The node is restarted without its mempool."""
    node = pair.chain.node
    node.stop()
    node.start()
    assert node.call("getrawmempool") == []


def payee_sees(pair: Pair) -> tuple[str | None, str, bool, str | None]:
    return seen(look(pair.payee, pair.chain))


def payer_sees(pair: Pair) -> tuple[str | None, str, bool, str | None]:
    return seen(look(pair.payer, pair.chain))


# the rules, by a real node's verdicts -------------------------------------------------------------


def test_a_channel_from_its_funding_to_the_claim(pair: Pair) -> None:
    """Block by block: the node takes what the watcher sends, the first time that it sends it."""
    name = pair.open(min_confirmations=2, min_refund_delay=26)
    assert payer_sees(pair) == payee_sees(pair) == ("funding", "wait", False, None)
    assert "1 of 2 confirmations" in one(look(pair.payer, pair.chain)).why
    pair.chain.mine(1)
    assert payer_sees(pair) == payee_sees(pair) == ("open", "wait", False, None)
    pair.accept(pair.pay(name, 1_000))
    lock_time = pair.payee_record(name).latest_lock_time
    pair.mine_to(lock_time - 1)
    assert payer_sees(pair) == payee_sees(pair) == ("open", "wait", False, None)
    pair.chain.mine(1)
    assert payee_sees(pair) == ("settling", "update", True, None)
    assert payer_sees(pair) == ("settling", "wait", False, None)
    pair.chain.mine(1)
    assert payer_sees(pair) == payee_sees(pair) == ("closed", "wait", False, None)
    assert balance_sat(pair.payee, pair.chain) == 1_000


def test_a_channel_from_its_funding_to_the_refund(pair: Pair) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value - 1)
    assert payer_sees(pair) == ("open", "wait", False, None)
    pair.chain.mine(1)
    assert payer_sees(pair) == ("refunding", "refund", True, None)
    assert payee_sees(pair) == ("refunding", "wait", False, None)
    pair.chain.mine(1)
    assert payer_sees(pair) == payee_sees(pair) == ("refunded", "wait", False, None)


def test_a_channel_in_seconds_goes_by_the_median_time(node: Node, tmp_path: Path) -> None:
    """Six blocks more than half of eleven carry a time; at the lock time itself nothing may go yet (BIP-0113)."""

    def pass_to(median_time: int) -> None:
        node.call("setmocktime", median_time)
        node.mine(6)

    with MinedChain(node, tmp_path / "seen") as chain:
        pair = Pair(tmp_path, chain, coins=2)
        pass_to(1_900_000_000)
        terms = {"lock_time_unit": "seconds", "settle_window": 3_600}
        paid, unpaid = (
            pair.open(**terms, min_refund_delay=delay, max_refund_delay=90_000) for delay in (18_000, 30_000)
        )
        pair.accept(pair.pay(paid, 1_000))
        update = pair.payee_record(paid).latest_lock_time
        refund = pair.terms(unpaid).refund_lock_time.value
        for due, wallet, deed in ((update, pair.payee, "update"), (refund, pair.payer, "refund")):
            pass_to(due)
            assert not [finding for finding in look(wallet, chain).findings if finding.sent is not None]
            pass_to(due + 1)
            sent = [finding for finding in look(wallet, chain).findings if finding.sent is not None]
            assert [finding.deed.value for finding in sent] == [deed]
            assert sent[0].sent in node.call("getrawmempool")
            node.mine(1)


@pytest.mark.parametrize("paid", [500, 2_000, 100_000])
def test_a_refund_is_fought(pair: Pair, paid: int) -> None:
    """The payee comes too late, the refund waits already.

    A close with both outputs pays hardly the refund's own fee rate, so that it takes a child to replace it, which
    500 sat cannot pay. A miner who never saw the refund takes the close all the same.
    """
    name = pair.open()
    pair.accept(pair.pay(name, paid))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert payer_sees(pair) == ("refunding", "refund", True, None)
    done = look(pair.payee, pair.chain)
    wins = paid > 500
    assert seen(done) == ("settling" if wins else "refunding", "update", wins, "refund-seen")
    assert done.exit_code == 5
    update = pair.payee_record(name).state.active.best.transaction
    if wins:
        assert str(update.txid) in pair.chain.node.call("getrawmempool")
        pair.chain.mine(1)
    else:
        assert "the node refuses" in one(done).why
        pair.chain.node.mine_with([update])
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)


# what a mempool loses -----------------------------------------------------------------------------


def test_what_a_restart_forgets_is_sent_again(pair: Pair) -> None:
    """Funding, settlement, and both at once."""
    request = pair.request()
    name = f"{request.funding_txid}-{request.funding_vout}"
    pair.fund(pair.sign_refund(request.hex))
    forget(pair)
    assert payee_sees(pair) == ("opening", "wait", False, None)
    assert payer_sees(pair) == ("funding", "funding", True, None)
    pair.chain.mine(1)
    pair.accept(pair.pay(name, 1_000))
    pair.accept(pair.settlement(name, 2_000))
    assert payee_sees(pair) == ("settling", "settlement", True, None)
    forget(pair)
    assert payee_sees(pair) == ("settling", "settlement", True, None)
    pair.chain.node.drop(1)
    forget(pair)
    assert payee_sees(pair) == ("settling", "wait", False, "funding-gone")
    assert payer_sees(pair) == ("settling", "funding", True, None)
    assert payee_sees(pair) == ("settling", "wait", False, "funding-unconfirmed")
    pair.chain.mine(1)
    assert payee_sees(pair) == ("settling", "settlement", True, None)
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)
    assert balance_sat(pair.payee, pair.chain) == 2_000


def test_what_expires_is_sent_again(tmp_path: Path) -> None:
    """A refund that no block takes falls out of the mempool after -mempoolexpiry hours."""
    with (
        running(tmp_path / "node", "-mempoolexpiry=1") as node,
        MinedChain(node, tmp_path / "seen") as chain,
    ):
        pair = Pair(tmp_path, chain)
        name = pair.open()
        pair.mine_to(pair.terms(name).refund_lock_time.value)
        assert payer_sees(pair) == ("refunding", "refund", True, None)
        refund = str(pair.payer_record(name).state.funded.refund.txid)
        node.call("setmocktime", node.call("getblockheader", node.call("getbestblockhash"))["time"] + 10_000)
        node.pay(b"\x00\x14" + bytes(20), 10_000)  # whatever comes makes the node look for what is too old
        assert refund not in node.call("getrawmempool")
        assert payer_sees(pair) == ("refunding", "refund", True, None)
        assert refund in node.call("getrawmempool")


# reorganisations ----------------------------------------------------------------------------------


def reach(pair: Pair, status: str, depth: int) -> str:
    """A channel that came to this status ``depth`` blocks ago, with a payment where the status allows it."""
    name = pair.open(**ROOMY)
    if status in ("funding", "open"):
        if status == "open":
            pair.accept(pair.pay(name, 1_000))
        pair.chain.mine(depth - 1)
        return name
    if status == "refunded":
        pair.mine_to(pair.terms(name).refund_lock_time.value)
        assert payer_sees(pair)[1:3] == ("refund", True)
    else:
        pair.accept(pair.pay(name, 1_000))
        if status == "settled":
            pair.accept(pair.settlement(name, 2_000))
        else:
            pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
        assert payee_sees(pair)[2]
    pair.chain.mine(depth)
    return name


@DEPTHS
@pytest.mark.parametrize("status", ["funding", "open", "settled", "claimed", "refunded"])
def test_every_status_is_reached_again_after_a_reorganisation(pair: Pair, status: str, depth: int) -> None:
    """The blocks are gone, and the node has forgotten what they held. Both watchers bring the channel back."""
    name = reach(pair, status, depth)
    end = {"funding": "open", "open": "open", "settled": "closed", "claimed": "closed"}.get(status, status)
    assert pair.status(name) == (end, end)
    message = pair.pay(name, 1_000) if status == "open" else None
    pair.chain.node.drop(depth)
    forget(pair)
    if message is not None:
        with pytest.raises(MpchanError) as error:
            pair.accept(message)
        assert error.value.exit_code == 6
    alarms, sent = set(), []
    for _ in range(depth + 1):
        for sees in (payer_sees, payee_sees):
            _, deed, was_sent, alarm = sees(pair)
            alarms |= {alarm} - {None}
            sent += [deed] * was_sent
        pair.chain.mine(1)
    assert pair.status(name) == (end, end)
    wanted = {"settled": "settlement", "claimed": "update", "refunded": "refund"}.get(status, "funding")
    assert sent == [wanted]
    # the payer sends first, so the payee finds its funding in the mempool again
    assert alarms == ({"funding-unconfirmed"} if status == "open" else set())
    if message is not None:
        assert pair.accept(message).paid_sat == 2_000


@DEPTHS
def test_a_reorganisation_that_keeps_the_mempool_needs_nobody(pair: Pair, depth: int) -> None:
    """Closed, settling, closed: the node itself puts the close back, and nothing is sent twice."""
    name = reach(pair, "settled", depth)
    pair.chain.node.drop(depth)
    assert payee_sees(pair) == payer_sees(pair) == ("settling", "wait", False, None)
    pair.chain.mine(depth)
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)
    assert pair.status(name) == ("closed", "closed")


@DEPTHS
def test_a_branch_in_which_the_refund_was_first(pair: Pair, depth: int) -> None:
    """Money that was collected is lost again: nothing can be sent, and it is said."""
    name = reach(pair, "claimed", depth)
    refund = pair.payer_record(name).state.refund
    pair.mine_to(refund.lock_time)
    pair.chain.node.drop(pair.chain.node.height - pair.terms(name).refund_lock_time.value + depth + 21)
    forget(pair)
    pair.mine_to(refund.lock_time)
    pair.chain.node.mine_with([refund])
    pair.chain.mine(depth)
    assert payee_sees(pair) == ("refunded", "wait", False, "refunded-unclaimed")
    assert payer_sees(pair) == ("refunded", "wait", False, None)


# a node that comes and goes -----------------------------------------------------------------------


def test_a_node_that_is_killed_between_two_rounds(pair: Pair) -> None:
    """The same watcher goes on when it is there again, with its new cookie."""
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    forget(pair)  # what a node holds at a clean end, it still has after being killed
    node = pair.chain.node
    watching = watcher(pair.payee, pair.chain)
    assert seen(watching.round(lambda finding: None)) == ("open", "wait", False, None)
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
    node.kill()
    done = watching.round(lambda finding: None)
    assert (done.tip, done.exit_code) == (None, 8)
    assert done.alarm is not None
    assert done.alarm.slug in ("unreachable", "rpc-credentials")
    node.start()
    # its last blocks may be lost: the next ones bring the deadline back
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
    assert seen(watching.round(lambda finding: None)) == ("settling", "update", True, None)


def test_the_program_survives_a_restart_of_the_node(pair: Pair) -> None:
    """A process that watches all the time: told once that the chain is away, and once that it is back."""
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    pair.accept(pair.settlement(name, 2_000))
    node = pair.chain.node
    config = pair.payee.directory / "wallet.toml"
    where = f'backend = "bitcoind"\nrpc_url = "{node.url}"\nrpc_cookie = "{node.cookie}"'
    config.write_text(config.read_text().replace('backend = "embedded"', where))
    words = ["--wallet", str(pair.payee.directory), "watch", "--json", "--interval", "0.1"]
    with subprocess.Popen(
        [sys.executable, "-m", "mpchan", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None

            def event(**wanted: object) -> None:
                while True:
                    assert process.stdout is not None
                    told = json.loads(process.stdout.readline())
                    if all(told.get(key) == value for key, value in wanted.items()):
                        return

            event(action="settlement", status="settling", alarm=None)
            node.stop()
            event(event="round", exit_code=8)
            node.start()
            event(action="settlement", status="settling", alarm=None)
            event(event="round", exit_code=0)
            node.mine(1)
            event(status="closed")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


# what it asks -------------------------------------------------------------------------------------


def test_a_round_asks_once_for_each_channel(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once for the tip."""
    for _ in range(4):
        pair.coin()
        pair.open()
    with pair.chain.node.chain(pair.directory / "seen") as fresh:
        watching = Watcher(Wallet.open(pair.payee.directory), fresh)
        watching.round(lambda finding: None)
        for _ in range(3):
            with calls(monkeypatch) as counted:
                assert len(watching.round(lambda finding: None).findings) == 4
            assert dict(counted) == {"getblockchaininfo": 1, "gettxout": 4}
        pair.chain.node.mine(1)
        with calls(monkeypatch) as counted:
            watching.round(lambda finding: None)
        assert dict(counted) == {"getblockchaininfo": 1, "gettxout": 4}


@pytest.mark.parametrize("funded", [True, False])
def test_one_look_at_a_block_serves_all_channels(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funded: bool
) -> None:
    """Whether a watcher stays or each round is a new process: a few messages, and each block is read once at most."""
    directory = payee_with_channels(tmp_path / "many", node, 60, funded=funded).directory

    def once(blocks: int) -> Calls:
        node.mine(blocks)
        with node.chain(directory / "seen") as fresh, calls(monkeypatch) as counted:
            assert (
                len(Watcher(Wallet.open(directory), fresh, once=True).round(lambda finding: None).findings)
                == 60
            )
        assert counted.messages <= 12 + 2 * counted["getblock"]
        return counted

    once(0)
    for blocks in (0, 1, 3):
        assert once(blocks)["getblock"] == (0 if funded else blocks)
    with node.chain(directory / "seen") as fresh:
        watching = Watcher(Wallet.open(directory), fresh)
        watching.round(lambda finding: None)
        for blocks in (0, 1, 3):
            node.mine(blocks)
            with calls(monkeypatch) as counted:
                watching.round(lambda finding: None)
            assert counted["getblock"] == (0 if funded else blocks)
            assert counted.messages <= 12 + 2 * blocks


def test_many_rounds_take_no_more_memory(pair: Pair) -> None:
    """Notes, channels, connections: what a round makes is gone after the next one."""
    node = pair.chain.node
    directory = payee_with_channels(pair.directory / "many", node, 30).directory
    tracemalloc.start()
    try:
        with node.chain(directory / "seen") as fresh:
            watching = Watcher(Wallet.open(directory), fresh)
            first = _held(watching, node, 8)
            more = _held(watching, node, 20) - first
    finally:
        tracemalloc.stop()
    assert first > 100_000
    assert more < 10_000  # 30 channels that leaked 20 bytes a round would show


def _held(watching: Watcher, node: Node, rounds: int) -> int:
    """Bytes that mpchan's own lines hold after so many rounds more, with a block before each."""
    for _ in range(rounds):
        node.mine(1)
        assert watching.round(lambda finding: None).exit_code == 0
    gc.collect()
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/mpchan/*")])
    return sum(trace.size for trace in ours.traces)


def test_the_payee_has_the_funding_itself(pair: Pair) -> None:
    """Handed over by file: after a reorganisation the payee needs no payer."""
    name = pair.open()
    payee.funding(pair.payee, pair.chain, pair.payer_record(name).state.funding)
    pair.accept(pair.pay(name, 1_000))
    pair.accept(pair.settlement(name, 2_000))
    pair.chain.node.drop(1)
    forget(pair)
    assert payee_sees(pair)[1:3] == ("funding", True)
    assert payee_sees(pair)[1:] == ("wait", False, "funding-unconfirmed")
    pair.chain.mine(1)
    assert payee_sees(pair)[1:3] == ("settlement", True)
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 2_000
