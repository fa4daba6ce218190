"""The node is gone before any command of a channel's life, and comes back: nothing is lost, nothing is sent twice.

What a node forgets when it is killed is its mempool. The command that had sent something sends it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chain.electrum_server import ElectrumServer, serving
from support.chain.grounds import ElectrumGround, NodeGround, Traders
from support.chain.node import Node, needs_node
from support.chain.story import CONFIRMED, ENDINGS, FUNDING, LOOKING, OFFER, OPENING, PAYING, ripen

pytestmark = needs_node

ASKS_NOTHING = " payee funding "


class Fate:
    """What happens between two commands."""

    def __init__(self, shell: Traders, end: Callable[[], None], start: Callable[[], None]) -> None:
        self.shell = shell
        self.end = end
        self.start = start

    def strike(self) -> None:
        """The node ends and starts again."""
        self.end()
        self.start()

    def run(self, command: str) -> None:
        """The node ends; the command fails and changes nothing; the node is there again, and the command works."""
        self.end()
        if ASKS_NOTHING not in command:
            before = self.shell.files()
            done = self.shell.ask(f"{command} --json")
            assert done.code == 8, done
            assert done.error["error"] in ("unreachable", "rpc-credentials"), done
            assert done.error["hint"], done
            assert self.shell.changes(before) == []
        self.start()
        self.shell.ok(command)

    def send(self, command: str) -> None:
        """The same for a command that sends a transaction, which comes into a block in the end."""
        self.run(command)
        ground = self.shell.ground
        waiting, files = ground.mempool(), self.shell.files()
        assert len(waiting) == 1
        self.strike()
        assert ground.mempool() in (waiting, set())
        self.shell.ok(command)
        assert self.shell.changes(files) == [], "the same bytes again, and the same state"
        assert ground.mempool() == waiting
        ground.mine()


@pytest.fixture
def traders(node: Node, tmp_path: Path) -> Iterator[Traders]:
    """On a node that may end."""
    shell = Traders(tmp_path / "folder", NodeGround(node), in_process=True)
    shell.init()
    yield shell
    if not node.is_running:
        node.start()


def live(shell: Traders, fate: Fate, ending: str) -> None:
    """A channel's life."""
    closing, status, sums = ENDINGS[ending]
    shell.ok(OFFER)
    for command in OPENING:
        fate.run(command)
    assert shell.statuses() == ("opening", "opening")
    fate.send(FUNDING[0])
    for command in (*FUNDING[1:], *CONFIRMED, *PAYING):
        fate.run(command)
    assert shell.statuses() == ("open", "open")
    ripen(shell, ending)
    for command in closing[:-1]:
        fate.run(command)
    fate.send(closing[-1])
    for command in LOOKING:
        fate.run(command)
    assert shell.statuses() == (status, status)
    assert shell.sums() == sums


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_node_is_killed_between_any_two_commands(traders: Traders, node: Node, ending: str) -> None:
    """And its mempool with it."""
    live(traders, Fate(traders, node.crash, node.start), ending)


def test_the_node_is_stopped_between_any_two_commands(traders: Traders, node: Node) -> None:
    """It keeps its mempool."""
    live(traders, Fate(traders, node.stop, node.start), "settlement")


def test_the_electrum_server_is_killed_between_any_two_commands(
    electrum: ElectrumServer, tmp_path: Path
) -> None:
    """Its node goes on."""
    with serving(electrum.node, tmp_path / "server") as server:
        shell = Traders(tmp_path / "folder", ElectrumGround(server), in_process=True)
        shell.init()
        live(shell, Fate(shell, server.kill, server.start), "settlement")
