"""What a watcher costs: one round over 10, 100 and 1,000 open channels on one Bitcoin Core node, and its memory.

A line for each stands in the output with ``-s``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chain.bitcoind import calls
from support.chain.node import Node, needs_node, running
from support.chain.watch_load import payee_with_channels

from mpchan.party.watch.watcher import Round, Watcher
from mpchan.wallet.wallet import Wallet

pytestmark = needs_node

COUNTS = [10, 100, 1000]
ROUNDS = 20


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("node") / "node") as started:
        yield started


@pytest.fixture(scope="module", params=COUNTS)
def wallet(request: pytest.FixtureRequest, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Wallet:
    return payee_with_channels(tmp_path_factory.mktemp("channels") / "wallet", node, request.param)


def looked(watching: Watcher) -> Round:
    return watching.round(lambda finding: None)


@pytest.mark.benchmark(group="one round of the watcher on bitcoind")
def test_round(benchmark: Any, node: Node, wallet: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is found before each round; in every sixth one it is noted that nothing spends the fundings yet."""
    with node.chain(wallet.directory / "seen") as chain:
        watching = Watcher(Wallet.open(wallet.directory), chain)
        done = looked(watching)
        assert done.exit_code == 0
        benchmark.pedantic(
            looked, args=(watching,), setup=lambda: node.mine(1) and None, rounds=ROUNDS, warmup_rounds=1
        )
        with calls(monkeypatch) as counted:
            looked(watching)
    benchmark.extra_info.update(channels=len(done.findings), calls=sum(counted.values()))
    if benchmark.stats is not None:
        stats = benchmark.stats.stats
        print(
            f"\n{len(done.findings)} channels: {stats.min:.4f} s a round at the least, {stats.median:.4f} s the "
            f"median, {sum(counted.values())} questions in {counted.messages} messages"
        )


@pytest.mark.benchmark(group="`watch --once` after a block")
@pytest.mark.parametrize("funded", [True, False])
def test_once(
    benchmark: Any, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funded: bool
) -> None:
    """One round of a new process each time: over channels that are funded, and over as many that never were."""
    directory = payee_with_channels(tmp_path / "wallet", node, COUNTS[-1], funded=funded).directory

    def once() -> Round:
        with node.chain(directory / "seen") as chain:
            return looked(Watcher(Wallet.open(directory), chain, once=True))

    once()
    benchmark.pedantic(once, setup=lambda: node.mine(1) and None, rounds=5, warmup_rounds=1)
    node.mine(1)
    with calls(monkeypatch) as counted:
        assert len(once().findings) == COUNTS[-1]
    if benchmark.stats is not None:
        stats = benchmark.stats.stats
        print(
            f"\n{COUNTS[-1]} channels, funded {funded}: {stats.min:.3f} s at the least, {stats.median:.3f} the median, "
            f"{sum(counted.values())} questions in {counted.messages} messages, {counted['getblock']} blocks read"
        )


def test_memory(node: Node, wallet: Wallet) -> None:
    """Of the program itself, after 3 rounds and after 40 more, with a block before each."""
    words = ["--wallet", str(wallet.directory), "watch", "--json", "--interval", "0.05"]
    with subprocess.Popen(
        [sys.executable, "-m", "mpchan", *words], stdout=subprocess.PIPE, text=True
    ) as watching:
        try:
            _rounds(watching, node, 3)
            first = _resident_kib(watching.pid)
            _rounds(watching, node, 40)
            last = _resident_kib(watching.pid)
        finally:
            watching.kill()
    print(
        f"\n{len(wallet.channels.names())} channels: {first / 1024:.1f} MiB after 3 rounds, {last / 1024:.1f} after 43"
    )


def _rounds(watching: subprocess.Popen[str], node: Node, count: int) -> None:
    """So many blocks, each of them seen by the watcher."""
    assert watching.stdout is not None
    for _ in range(count):
        node.mine(1)
        while True:
            told = json.loads(watching.stdout.readline())
            if told["event"] == "round" and told["height"] == node.height:
                break


def _resident_kib(pid: int) -> int:
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(done.stdout)
