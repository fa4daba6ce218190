"""Private chains on which two parties meet, each behind another backend: what a wallet's configuration chooses.

A test that is written against ``Ground`` says nothing of the backend; the wallets get it from the options of
``mpchan init``.
"""

from __future__ import annotations

import io
import re
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from support.chain.electrum_server import ElectrumServer
from support.chain.node import Node
from support.transcript import WALLETS, Done, Files, Shell

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.chain.embedded import EmbeddedChain
from mpchan.cli.main import main
from mpchan.units import Amount, ChainTip

COIN = 1_000_000
BELIEVED = 5_000
"""The highest estimate that the wallets believe, in sat/kvB: what these tests agree on for their closes."""
LATER = 1_900_000_000
"""A time that is later than every clock; from there on a test of lock times in seconds sets the node's."""


class Ground(ABC):
    """A chain, and how a wallet is told to ask it.

    Attributes:
        name: of the backend.
        init: options of ``mpchan init``.
        env: variables of every command.
        mine_command: what mines one block, as a word list for the sample scripts.
    """

    name: str
    init: str
    env: dict[str, str]
    mine_command: str

    @abstractmethod
    def tip(self) -> ChainTip:
        """Where the chain stands."""

    @abstractmethod
    def mine(self, count: int = 1) -> None:
        """Mine blocks that hold the mempool."""

    @abstractmethod
    def mine_past(self, median_time: int) -> None:
        """Mine until the median time is at least that, by as little as can be."""

    @abstractmethod
    def pay(self, address: str, amount: int) -> None:
        """Pay to an address; the transaction waits in the mempool."""

    @abstractmethod
    def mempool(self) -> set[str]:
        """The txids that wait."""

    @abstractmethod
    def reorganise(self, depth: int, instead: Sequence[Transaction] = ()) -> None:
        """Replace the last blocks by one more; the first of them holds ``instead``, the others nothing.

        What the replaced ones held waits in the mempool again, where it still can.
        """

    @abstractmethod
    def open(self) -> AbstractContextManager[Chain]:
        """The backend itself, as a wallet's program has it."""

    @abstractmethod
    def settle_down(self) -> None:
        """Wait until the backend has seen what the chain holds; there is nothing to wait for where it is the chain."""


class EmbeddedGround(Ground):
    """The embedded chain, in a directory."""

    name = "embedded"
    init = "--chain embedded"
    mine_command = "mpchan -q regtest mine 1"

    def __init__(self, directory: Path) -> None:
        self._chain = EmbeddedChain(directory)
        self.env = {"MPCHAN_REGTEST": str(directory)}

    def tip(self) -> ChainTip:
        return self._chain.tip()

    def mine(self, count: int = 1) -> None:
        self._chain.mine(count)

    def mine_past(self, median_time: int) -> None:
        while self.tip().median_time < median_time:
            self.mine()

    def pay(self, address: str, amount: int) -> None:
        self._chain.faucet(address_to_script(address, REGTEST), Amount(amount))

    def mempool(self) -> set[str]:
        return {str(txid) for txid in self._chain.mempool()}

    def reorganise(self, depth: int, instead: Sequence[Transaction] = ()) -> None:
        self._chain.reorganise(depth, instead)

    def open(self) -> AbstractContextManager[Chain]:
        return EmbeddedChain(self._chain.directory)

    def settle_down(self) -> None:
        return


class NodeGround(Ground):
    """A Bitcoin Core node, asked itself."""

    name = "bitcoind"

    def __init__(self, node: Node) -> None:
        self.node = node
        self.init = f"--chain bitcoind --rpc-url {node.url} --rpc-cookie {node.cookie}"
        self.env = {}
        program = Path(__file__).with_name("mine_blocks.py")
        self.mine_command = f"{sys.executable} {program} 127.0.0.1:{node.port} {node.cookie} 1"

    def tip(self) -> ChainTip:
        info = self.node.call("getblockchaininfo")
        return ChainTip(info["blocks"], info["mediantime"])

    def mine(self, count: int = 1) -> None:
        self.node.mine(count)

    def mine_past(self, median_time: int) -> None:
        if self.tip().median_time < median_time:
            self.node.call("setmocktime", median_time)
            self.mine(6)  # more than half of eleven

    def pay(self, address: str, amount: int) -> None:
        self.node.pay(address_to_script(address, REGTEST), amount)

    def mempool(self) -> set[str]:
        return set(self.node.call("getrawmempool"))

    def reorganise(self, depth: int, instead: Sequence[Transaction] = ()) -> None:
        self.node.drop(depth)
        self.node.mine_with(instead)
        for _ in range(depth):
            self.node.mine_with(())

    def open(self) -> AbstractContextManager[Chain]:
        return self.node.chain()

    def settle_down(self) -> None:
        return


class ElectrumGround(NodeGround):
    """An Electrum server before a node. It notices what the node has in its own time."""

    name = "electrum"

    def __init__(self, server: ElectrumServer) -> None:
        super().__init__(server.node)
        self.server = server
        self.init = f"--chain electrum --electrum {server.name}"

    def open(self) -> AbstractContextManager[Chain]:
        return self.server.chain()

    def settle_down(self) -> None:
        self.server.settle()


class Traders(Shell):
    """The wallets ``buyer`` and ``seller`` on a ground; ``mine N`` and ``mine-to HEIGHT`` of a transcript mine there.

    Args:
        in_process: run ``mpchan`` in this process, which is ten times as fast; what it must read from its disk again
            it reads, since every command opens its wallet and its backend anew.
    """

    def __init__(self, folder: Path, ground: Ground, *, in_process: bool = False) -> None:
        super().__init__(folder)
        self.ground = ground
        self.env.update(ground.env)
        self.in_process = in_process
        self._waits = True

    def init(self) -> None:
        """Both wallets, as the ground wants them, and a coin for the buyer."""
        for wallet in WALLETS:
            self.ok(f"mpchan --wallet {wallet} init {self.ground.init}")
            self._calm(self.folder / wallet / "wallet.toml")
        self.coin()

    @staticmethod
    def _calm(config: Path) -> None:
        """Let the wallet believe a small estimate alone: a shared node has seen what other tests pay."""
        text, count = re.subn(r"(?m)^max_fee_rate = \d+$", f"max_fee_rate = {BELIEVED}", config.read_text())
        assert count == 1
        config.write_text(text)

    def files(self) -> Files:
        """Without what a backend notes for itself, which can be deleted at any time."""
        return {name: data for name, data in super().files().items() if Path(name).parts[1:2] != ("seen",)}

    def _compare(self, command: str, expected: list[str], found: list[str]) -> None:
        """A stake too small to defend is said where a chain has a rate of its own, and not on the private one."""
        super()._compare(command, expected, [line for line in found if "cannot be defended" not in line])

    def coin(self, amount: int = COIN) -> None:
        """Give the buyer a confirmed coin."""
        self.ground.pay(self.json("mpchan --wallet buyer address")["address"], amount)
        self.ground.mine()
        self.ground.settle_down()

    def sums(self) -> tuple[int, int]:
        """What buyer and seller have, where nothing is under way any more."""
        found = []
        for wallet in WALLETS:
            balance = self.json(f"mpchan --wallet {wallet} balance")
            assert balance["unconfirmed_sat"] == balance["in_channels_sat"] == 0, (wallet, balance)
            found.append(balance["confirmed_sat"])
        buyer, seller = found
        return buyer, seller

    def statuses(self) -> tuple[str, str]:
        """The one channel's status in the eyes of buyer and seller."""
        buyer, seller = (self.json(f"mpchan --wallet {wallet} show")["status"] for wallet in WALLETS)
        return buyer, seller

    def ask(self, command: str) -> Done:
        """Run a command, and do not wait until the ground has settled: what the wallets ask may be gone."""
        self._waits = False
        try:
            return self.run(command)
        finally:
            self._waits = True

    def _start(self, command: str | Sequence[str | Path], stdin: bytes, env: dict[str, str | None]) -> Done:
        shown = self.filled(command) if isinstance(command, str) else ""
        words = shown.split()
        if words[:1] == ["mine"]:
            self.ground.mine(int(words[1]))
            done = Done(shown, 0, "", "")
        elif words[:1] == ["mine-to"]:
            self.ground.mine(int(words[1]) - self.ground.tip().height)
            done = Done(shown, 0, "", "")
        elif self.in_process and words[:1] == ["mpchan"] and not env:
            done = self._run_here(shown)
        else:
            done = super()._start(command, stdin, env)
        if self._waits:
            self.ground.settle_down()
        return done

    def _run_here(self, command: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            for name, value in self.env.items():
                patch.setenv(name, value)
            code = main(shlex.split(command)[1:])
        return Done(command, code, out.getvalue(), err.getvalue())
