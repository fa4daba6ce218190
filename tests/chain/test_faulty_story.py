"""A proxy that drops, delays, truncates and corrupts, under every command of a channel's life and at its every request.

The command fails clean, and once the line is good again the same command does what it would have done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.faulty import Faulty, Harm, body, cut, faulty, reset, sent, silent
from support.chain.grounds import NodeGround, Traders
from support.chain.node import needs_node
from support.chain.story import CONFIRMED, ENDINGS, FUNDING, LOOKING, OFFER, OPENING, PAYING, ripen
from support.transcript import WALLETS, Done

from mpchan.chain.bitcoind import BitcoindChain

pytestmark = needs_node

ASKS_NOTHING = " payee funding "
FAULTS: dict[str, Harm] = {
    "drops": lambda client, _: None,
    "resets": reset,
    "truncates": cut(0.8),
    "truncates the body": body(lambda text: text[: len(text) // 2]),
    "corrupts": body(lambda text: bytes(255 - byte if n % 7 == 3 else byte for n, byte in enumerate(text))),
    "says something else": sent(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
}


@pytest.fixture
def server(bitcoind_ground: NodeGround) -> Iterator[Faulty]:
    """Between the wallets and the node."""
    with faulty(bitcoind_ground.node) as started:
        yield started


@pytest.fixture
def traders(server: Faulty, bitcoind_ground: NodeGround, tmp_path: Path) -> Traders:
    """Whose wallets ask through the server."""
    ground = NodeGround(bitcoind_ground.node)
    ground.init = ground.init.replace(ground.node.url, f"http://127.0.0.1:{server.port}")
    shell = Traders(tmp_path / "folder", ground, in_process=True)
    shell.init()
    return shell


class Line:
    """What a command meets on its way to the node."""

    def __init__(self, shell: Traders, server: Faulty, harm: Harm) -> None:
        self.shell = shell
        self.server = server
        self.harm = harm
        self.failures = 0

    def run(self, command: str) -> None:
        """Harm the answers from the first request on, then from the second on …, until none is left to harm."""
        nth, files = 0, self.shell.files()
        while True:
            nth += 1
            self.server.set(self.harm, nth, onwards=True)
            done = self.shell.run(f"{command} --json")
            if self.server.asked < nth:
                break
            self._failed(done, files)
        assert done.code == 0, done
        assert nth > 1 or ASKS_NOTHING in command, "the line was never used"
        self.server.set(None)
        after = self.shell.files()
        again = self.shell.run(f"{command} --json")
        assert again.code == 0, again
        assert self.shell.files() == after, "what is done is done"

    def _failed(self, done: Done, before: dict[str, bytes]) -> None:
        """With an error that says so; only the wallets may have changed."""
        if done.code == 0:  # nothing but advice rests on that answer
            return
        assert done.code == 8, done
        assert done.error["error"] in ("unreachable", "malformed-answer"), done
        assert done.error["message"].isprintable(), done
        assert [
            mark for mark in self.shell.changes(before) if mark[2:].partition("/")[0] not in WALLETS
        ] == []
        self.failures += 1


def live(line: Line, ending: str) -> None:
    """A channel's life over that line."""
    shell, server = line.shell, line.server
    closing, status, sums = ENDINGS[ending]
    line.shell.ok(OFFER)
    for command in (*OPENING, *FUNDING):
        line.run(command)
    assert len(shell.ground.mempool()) == 1
    shell.ground.mine()
    for command in (*CONFIRMED, *PAYING):
        line.run(command)
    server.set(None)
    ripen(shell, ending)
    for command in closing:
        line.run(command)
    assert len(shell.ground.mempool()) == 1
    shell.ground.mine()
    for command in LOOKING:
        line.run(command)
    assert shell.statuses() == (status, status)
    assert shell.sums() == sums


@pytest.mark.parametrize(
    ("fault", "ending"),
    [*((fault, "settlement") for fault in FAULTS), ("drops", "update"), ("truncates", "refund")],
)
def test_every_request_of_every_command_meets_a_fault(
    traders: Traders, server: Faulty, fault: str, ending: str
) -> None:
    line = Line(traders, server, FAULTS[fault])
    live(line, ending)
    assert line.failures > 30


def test_answers_that_never_come(traders: Traders, server: Faulty) -> None:
    """A command does not wait for ever; the next one may be luckier."""
    defaults = BitcoindChain.__init__.__kwdefaults__
    assert defaults is not None

    def run(*commands: str) -> None:
        for command in commands:
            server.set(silent)
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(defaults, "seconds", 0.2)
                error = traders.fails(command, 8, "unreachable")
            assert error["message"].endswith("does not answer in time")
            server.set(None)
            traders.ok(command)

    closing, _, sums = ENDINGS["settlement"]
    traders.ok(OFFER)
    run(*OPENING, FUNDING[0])
    traders.ground.mine()
    run(*CONFIRMED, *PAYING, *closing)
    traders.ground.mine()
    assert traders.sums() == sums


def test_answers_that_come_late(traders: Traders, server: Faulty) -> None:
    """They are answers: no command fails."""

    def late(client: object, whole: bytes) -> None:
        time.sleep(0.02)
        client.sendall(whole)  # type: ignore[attr-defined]

    closing, status, sums = ENDINGS["settlement"]
    traders.ok(OFFER)
    server.set(late)
    for command in (*OPENING, *FUNDING):
        traders.ok(command)
    traders.ground.mine()
    for command in (*CONFIRMED, *PAYING, *closing):
        traders.ok(command)
    traders.ground.mine()
    assert traders.statuses() == (status, status)
    assert traders.sums() == sums
