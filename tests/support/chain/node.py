"""Real Bitcoin Core nodes for tests: private regtest chains, started from ``$BITCOIND`` or the ``bitcoind`` on PATH."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import script_to_p2wsh_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.bitcoind import BitcoindChain
from mpchan.chain.bitcoind.endpoint import Credentials, Endpoint
from mpchan.units import Amount, ChainTip, OutPoint, Txid

BITCOIND = os.environ.get("BITCOIND") or shutil.which("bitcoind")

NO_NODE = "no bitcoind: neither $BITCOIND nor on PATH"

needs_node = pytest.mark.skipif(BITCOIND is None, reason=NO_NODE)

MINER_WITNESS_SCRIPT = b"\x51"  # OP_1: true for everybody
MINER_SCRIPT = script_to_p2wsh_script(MINER_WITNESS_SCRIPT)
FEE = 10_000

START_SECONDS = 60


class Refusal(Exception):
    """The node's own error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class Node:
    """A node on a chain of its own, with no peers, none of the optional indexes, and as a rule no wallet.

    Args:
        options: further ones of the command line.
        wallet: whether it can have wallets.
    """

    def __init__(self, directory: Path, *options: str, wallet: bool = False) -> None:
        self.directory = directory
        self.wallet = wallet
        self.options = options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self._coins: list[tuple[OutPoint, int]] = []
        self._branches = 0
        directory.mkdir()

    # the process ----------------------------------------------------------------------------------

    def start(self, *options: str, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        command = [str(BITCOIND), "-regtest", f"-datadir={self.directory}", f"-rpcport={self.port}"]
        command += [
            "-listen=0",
            "-fallbackfee=0.0001" if self.wallet else "-disablewallet",
            "-printtoconsole=0",
            "-rpcservertimeout=3600",
            *self.options,
            *options,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers."""
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            assert self._process is not None
            assert self._process.poll() is None, "bitcoind has ended"
            try:
                self.call("getblockcount")
            except (OSError, Refusal, ValueError, http.client.HTTPException):
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the node does not come up")

    def stop(self) -> None:
        """Stop it by its own command."""
        self.call("stop")
        self._connection.close()
        assert self._process is not None
        self._process.wait(60)

    def crash(self) -> None:
        """Kill it as a power cut would; its mempool is gone.

        A node that has no peers could never fetch again what it had not yet written, so it writes first.
        """
        self.call("gettxoutsetinfo", "none")
        self.kill()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Make sure that it is gone."""
        self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    # asking ---------------------------------------------------------------------------------------

    @property
    def cookie(self) -> Path:
        """The file that it writes at its start."""
        return self.directory / "regtest" / ".cookie"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, *parameters: object, wallet: str | None = None, **named: object) -> Any:
        """Ask it, or one of its wallets, without any of mpchan's code; amounts come as ``Decimal``."""
        connection = self._connection
        headers = {"Authorization": "Basic " + base64.b64encode(self.cookie.read_bytes()).decode()}
        body = json.dumps(
            {"method": method, "params": {"args": parameters, **named} if named else parameters}
        )
        path = "/" if wallet is None else f"/wallet/{wallet}"
        try:
            connection.request("POST", path, body, headers)
            answer = json.loads(connection.getresponse().read(), parse_float=Decimal)
        except BaseException:
            connection.close()  # the next call opens it again
            raise
        if answer["error"] is not None:
            raise Refusal(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def chain(self, notes: Path | None = None, **options: Any) -> BitcoindChain:
        """The backend under test, on this node."""
        endpoint = Endpoint("127.0.0.1", self.port)
        return BitcoindChain(REGTEST, endpoint, Credentials(self.cookie), notes, **options)

    # its chain ------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Of its tip."""
        return int(self.call("getblockcount"))

    def mine(self, count: int = 1, script: bytes | None = None) -> list[str]:
        """Mine blocks that hold the mempool; their hashes."""
        hashes: list[str] = self.call("generatetodescriptor", count, self._miner(script)) if count else []
        return hashes

    def mine_with(self, transactions: Sequence[Transaction]) -> str:
        """Mine one block with just these transactions."""
        raw = [transaction.to_hex() for transaction in transactions]
        return str(self.call("generateblock", self._miner(None), raw)["hash"])

    def _miner(self, script: bytes | None) -> str:
        """Who is paid; in each branch another, or its blocks could be the very ones that were declared invalid."""
        own = MINER_SCRIPT if not self._branches else b"\x02" + self._branches.to_bytes(2, "little")
        return f"raw({(script or own).hex()})"

    def ripen(self) -> None:
        """Mine until there are ten coins that can be spent."""
        for block in self.mine(110)[:10]:
            [coinbase] = self.call("getblock", block, 1)["tx"]
            self._coins.append((OutPoint(Txid.from_hex(coinbase), 0), 50 * 100_000_000))

    def pay(self, script: bytes, *amounts: int) -> Transaction:
        """Pay to a script, one output for each amount; the transaction waits in the mempool."""
        outpoint, value = self._coins.pop(0)
        change = value - sum(amounts) - FEE
        outputs = [
            *(TxOut(Amount(amount), script) for amount in amounts),
            TxOut(Amount(change), MINER_SCRIPT),
        ]
        source = TxIn(outpoint, 0xFFFF_FFFD, b"", (MINER_WITNESS_SCRIPT,))
        transaction = Transaction(2, (source,), tuple(outputs), 0)
        self.call("sendrawtransaction", transaction.to_hex())
        self._coins.append((OutPoint(transaction.txid, len(amounts)), change))
        return transaction

    def drop(self, blocks: int) -> list[str]:
        """Take the last blocks off the chain, as a reorganisation does; the hashes, the lowest first."""
        height = self.height
        hashes = [self.call("getblockhash", n) for n in range(height - blocks + 1, height + 1)]
        self.call("invalidateblock", hashes[0])
        self._branches += 1
        return hashes


class MinedChain(BitcoindChain):
    """The backend with what tests of the parties want besides: blocks and coins, as the embedded chain has them."""

    def __init__(self, node: Node, notes: Path | None = None, **options: Any) -> None:
        super().__init__(
            REGTEST, Endpoint("127.0.0.1", node.port), Credentials(node.cookie), notes, **options
        )
        self.node = node

    def mine(self, count: int) -> ChainTip:
        """Mine blocks."""
        self.node.mine(count)
        return self.tip()

    def faucet(self, script_pubkey: bytes, amount: Amount) -> Txid:
        """Pay to a script."""
        return self.node.pay(script_pubkey, amount.sat).txid


@contextmanager
def running(directory: Path, *options: str, ripe: bool = True, wallet: bool = False) -> Iterator[Node]:
    """A node with 110 blocks, and its end."""
    node = Node(directory, *options, wallet=wallet)
    try:
        node.start()
        if ripe:
            node.ripen()
        yield node
        node.stop()
    finally:
        node.kill()


# Below the ports that systems give to outgoing connections: one of those could take the port of a node that is down for
# a moment. Each process of a test run begins at another place.
_ports = count(10_000 + os.getpid() * 97 % 20_000)


def free_port() -> int:
    """A port that nobody listens at."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
