"""Real Electrum servers for tests: ElectrumX in front of a real Bitcoin Core node, over TCP and TLS."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from support.chain.node import Node, free_port

from mpchan.bitcoin.network import REGTEST
from mpchan.chain.electrum import ElectrumChain
from mpchan.chain.electrum.address import Server

T = TypeVar("T")

ELECTRUMX = importlib.util.find_spec("electrumx") is not None

NO_ELECTRUMX = "no ElectrumX: its database has no wheel for this Python"

CERTIFICATES = Path(__file__).parent / "certificates"
USER, PASSWORD, _SALT = "electrumx", "secret", "5a17"

START_SECONDS = 120
SETTLE_SECONDS = 60

_RUN = "from electrumx.cli.electrumx_server import main; main()"


def node_options() -> list[str]:
    """What a node needs to stand behind a server: two indexes, and credentials that outlive a restart."""
    digest = hmac.new(_SALT.encode(), PASSWORD.encode(), hashlib.sha256).hexdigest()
    return ["-txindex=1", "-txospenderindex=1", f"-rpcauth={USER}:{_SALT}${digest}"]


class ElectrumServer:
    """ElectrumX before a node that was started with ``node_options``.

    Args:
        certificate: the name of one of ``CERTIFICATES``, for TLS.
    """

    def __init__(self, node: Node, directory: Path, certificate: str = "own") -> None:
        self.node = node
        self.directory = directory
        self.certificate = certificate
        self.port, self.tls_port, self._control_port = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()

    @property
    def name(self) -> str:
        """As in wallet.toml, over TCP."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls_name(self) -> str:
        """As in wallet.toml, over TLS."""
        return f"localhost:{self.tls_port}:s"

    def start(self) -> None:
        """Start it, and wait until it has indexed the chain."""
        services = f"tcp://127.0.0.1:{self.port},ssl://localhost:{self.tls_port},rpc://127.0.0.1:{self._control_port}"
        settings = {
            "DB_ENGINE": "leveldb",
            "COIN": "Bitcoin",
            "NET": "regtest",
            "DB_DIRECTORY": str(self.directory),
            "DAEMON_URL": f"http://{USER}:{PASSWORD}@127.0.0.1:{self.node.port}",
            "ALLOW_ROOT": "1",
            "SERVICES": services,
            "SSL_CERTFILE": str(CERTIFICATES / f"{self.certificate}.pem"),
            "SSL_KEYFILE": str(CERTIFICATES / f"{self.certificate}.key"),
            "PEER_DISCOVERY": "off",
            "COST_SOFT_LIMIT": "0",
            "COST_HARD_LIMIT": "0",
            "INITIAL_CONCURRENT": "1000",
            "DAEMON_POLL_INTERVAL_BLOCKS": "50",
            "DAEMON_POLL_INTERVAL_MEMPOOL": "50",
            "LOG_LEVEL": "warning",
        }
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN], env={**os.environ, **settings}, stdout=log, stderr=log
            )
        self.settle()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ask(self, method: str, *parameters: object) -> Any:
        """Ask it, without any of mpchan's code."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            stream = connection.makefile("rw", encoding="utf-8", newline="\n")
            requests = [("server.version", ["test", "1.4"]), (method, list(parameters))]
            for number, (name, values) in enumerate(requests):
                stream.write(json.dumps({"id": number, "method": name, "params": values}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline() or "null")
                if answer is None:
                    raise ConnectionError("it hung up")
        assert "error" not in answer, answer
        return answer["result"]

    def settle(self) -> None:
        """Wait until it has the node's last block and all of its mempool."""
        limit = time.monotonic() + START_SECONDS
        while not self._is_settled():
            assert self._process is None or self._process.poll() is None, "ElectrumX has ended"
            assert time.monotonic() < limit, "ElectrumX does not catch up"
            time.sleep(0.05)

    def _is_settled(self) -> bool:
        with suppress(OSError, ValueError):
            tip = self.ask("blockchain.headers.subscribe")
            if tip["hex"] != self.node.call("getblockheader", self.node.call("getbestblockhash"), False):
                return False
            waiting = self.node.call("getrawmempool", True)
            return all(txid in self._waiting(txid) for txid in waiting)
        return False

    def _waiting(self, txid: str) -> list[str]:
        """The mempool transactions that it knows of one's first output."""
        outputs = self.node.call("getrawtransaction", txid, True)["vout"]
        script = bytes.fromhex(outputs[0]["scriptPubKey"]["hex"])
        name = hashlib.sha256(script).digest()[::-1].hex()
        return [item["tx_hash"] for item in self.ask("blockchain.scripthash.get_mempool", name)]

    def chain(self, directory: Path | None = None, **options: Any) -> ElectrumChain:
        """The backend under test, on this server."""
        return ElectrumChain(REGTEST, [Server.parse(self.name)], None, directory, **options)


@contextmanager
def serving(node: Node, directory: Path, certificate: str = "own") -> Iterator[ElectrumServer]:
    """A server that has indexed the node's chain, and its end."""
    server = ElectrumServer(node, directory, certificate)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def eventually(look: Callable[[], T], wanted: T) -> None:
    """Assert that something comes out, now or when the server has caught up with the node."""
    limit = time.monotonic() + SETTLE_SECONDS
    found = look()
    while found != wanted and time.monotonic() < limit:
        time.sleep(0.05)
        found = look()
    assert found == wanted
