"""Where the node is and who we are to it; and nodes that are not ready, played by a server of our own."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support.chain.faulty import Faulty, answer, faulty

from mpchan.bitcoin.network import MAINNET, NETWORKS, REGTEST, SIGNET, TESTNET4, Network
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain import open_chain
from mpchan.chain.base import ChainConfig
from mpchan.chain.bitcoind import BitcoindChain
from mpchan.chain.bitcoind.endpoint import Credentials, Endpoint, usual_cookie
from mpchan.errors import ChainError, MpchanError, ParseError
from mpchan.units import Amount, ChainTip, FeeRate, OutPoint, Txid

USER, PASSWORD = "MPCHAN_RPC_USER", "MPCHAN_RPC_PASSWORD"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(USER, raising=False)
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


# where --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:18443", Endpoint("127.0.0.1", 18443)),
        ("http://127.0.0.1:18443/", Endpoint("127.0.0.1", 18443)),
        ("http://node", Endpoint("node", 80)),
        ("https://node.example.org", Endpoint("node.example.org", 443, tls=True)),
        (
            "https://node.example.org:8443/rpc/v1",
            Endpoint("node.example.org", 8443, tls=True, path="/rpc/v1"),
        ),
        ("http://[::1]:8332", Endpoint("::1", 8332)),
        ("http://my_node:65535", Endpoint("my_node", 65535)),
    ],
)
def test_urls(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(url) == endpoint
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8332",
        "http://",
        "http://:8332",
        "http://node:0",
        "http://node:65536",
        "http://node:",
        "http://node:8332x",
        "http://node: 8332",
        "http://no de:8332",
        "http://node:8332\n",
        "http://node:8332/\r\nX: y",
        "http://node:8332/a b",
        "http://::1:8332",
        "http://[::1:8332",
        "ftp://node:8332",
        "HTTP://node:8332",
        "http://nöde:8332",
        "http://node:٣",
        "http://" + "n" * 300,
        "unix:/run/node",
    ],
)
def test_no_urls(url: str) -> None:
    with pytest.raises(ParseError) as error:
        Endpoint.parse(url)
    assert error.value.slug == "malformed-config"
    assert len(error.value.message) < 150


@pytest.mark.parametrize(
    "url", ["http://user:secret@node:8332", "http://secret@node", "http://node@secret:1", "u:secret@node"]
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ParseError) as error:
        Endpoint.parse(url)
    assert error.value.slug == "malformed-config"
    assert "secret" not in f"{error.value.message} {error.value.hint}"
    assert PASSWORD in str(error.value.hint)


def test_the_usual_places() -> None:
    """Bitcoin Core's own defaults."""
    ports = {network.name: Endpoint.usual(network).port for network in NETWORKS.values()}
    assert ports == {"mainnet": 8332, "testnet4": 48332, "signet": 38332, "regtest": 18443}
    data = Path.home() / ("Library/Application Support/Bitcoin" if sys.platform == "darwin" else ".bitcoin")
    assert usual_cookie(MAINNET) == data / ".cookie"
    assert usual_cookie(TESTNET4) == data / "testnet4" / ".cookie"
    assert usual_cookie(SIGNET) == data / "signet" / ".cookie"
    assert usual_cookie(REGTEST) == data / "regtest" / ".cookie"


def test_the_usual_places_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert usual_cookie(SIGNET) == Path.home() / "Library/Application Support/Bitcoin/signet/.cookie"


# who ----------------------------------------------------------------------------------------------


def write_cookie(path: Path, content: str | bytes = "__cookie__:c00c1e") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_environment_goes_before_the_cookie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials(write_cookie(tmp_path / ".cookie"))
    assert credentials.read() == "__cookie__:c00c1e"
    monkeypatch.setenv(USER, "alice")
    monkeypatch.setenv(PASSWORD, "p:ä ss")
    assert credentials.read() == "alice:p:ä ss"
    assert str(credentials) == f"the user of {USER}"


@pytest.mark.parametrize("name", [USER, PASSWORD])
def test_half_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hidden")
    with pytest.raises(ChainError) as error:
        Credentials(write_cookie(tmp_path / ".cookie")).read()
    assert error.value.slug == "rpc-credentials"
    assert USER in error.value.message
    assert PASSWORD in error.value.message
    assert "hidden" not in error.value.message


@pytest.mark.parametrize("content", ["", "\n", "no colon", b"\xff\xfe:\x00", "a:" + "b" * 5000, "a:b\nc:d"])
def test_what_is_no_cookie(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ChainError) as error:
        Credentials(write_cookie(tmp_path / ".cookie", content)).read()
    assert error.value.slug == "rpc-credentials"
    assert str(tmp_path) in error.value.message


def test_a_cookie_with_a_line_end(tmp_path: Path) -> None:
    assert Credentials(write_cookie(tmp_path / ".cookie", "user:password\n")).read() == "user:password"


@pytest.mark.parametrize("path", ["missing", "missing/missing", "folder"])
def test_a_cookie_that_cannot_be_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ChainError) as error:
        Credentials(tmp_path / path).read()
    assert error.value.slug == "rpc-credentials"
    assert str(tmp_path / path) in error.value.message
    assert USER in str(error.value.hint)


# nodes that are not ready -------------------------------------------------------------------------


class Play:
    """A node that knows its lines: a result, or an error as a pair, for each method."""

    def __init__(self, server: Faulty) -> None:
        self.server = server
        self.lines: dict[str, Any] = {
            "getblockhash": SIGNET.genesis_hash,
            "getblockchaininfo": {
                "blocks": 200_000,
                "headers": 200_000,
                "bestblockhash": "00" * 32,
                "mediantime": 1_700_000_000,
                "time": int(time.time()) - 6 * 3600 + 300,
                "initialblockdownload": False,
            },
        }
        self.heads: list[bytes] = []
        server.node = None
        self.body: Callable[[Any], bytes] | None = None

    def chain(self, network: Network = SIGNET) -> BitcoindChain:
        """The backend that asks it."""
        config = ChainConfig("bitcoind", rpc_url=f"http://127.0.0.1:{self.server.port}")
        write_cookie(usual_cookie(network))
        opened = open_chain(config, network, Path.home())
        assert isinstance(opened, BitcoindChain)
        return opened

    def say(self, request: bytes) -> bytes:
        """The answer to a request."""
        head, _, body = request.partition(b"\r\n\r\n")
        self.heads.append(head)
        asked = json.loads(body)
        line = self.lines[asked["method"]]
        if isinstance(line, tuple):
            error = {"code": line[0], "message": line[1]}
            reply = {"result": None, "error": error, "id": asked["id"]}
            return answer(json.dumps(reply).encode(), "500 Internal Server Error")
        return answer(json.dumps({"result": line, "error": None, "id": asked["id"]}).encode())


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Takes the node's place."""
    with faulty(None) as server:
        started = Play(server)
        monkeypatch.setattr(server, "_pass_on", started.say)
        monkeypatch.setattr(server, "node", object())
        yield started


def error_of(call: Callable[[], object]) -> MpchanError:
    with pytest.raises(MpchanError) as error:
        call()
    return error.value


NOWHERE = OutPoint(Txid(bytes(32)), 0)
PLAY = Transaction(2, (TxIn(NOWHERE, 0),), (TxOut(Amount(1000), b"\x51"),), 0)
QUESTIONS: dict[str, Callable[[BitcoindChain], object]] = {
    "tip": lambda chain: chain.tip(),
    "output": lambda chain: chain.output(NOWHERE),
    "coins": lambda chain: chain.coins([b"\x51"]),
    "package": lambda chain: chain.broadcast_package([PLAY, PLAY]),
    "fee rate": lambda chain: chain.fee_rate(),
    "least fee rate": lambda chain: chain.min_fee_rate(),
}


def test_the_request_is_what_a_node_expects(play: Play) -> None:
    with play.chain() as chain:
        assert chain.tip() == ChainTip(200_000, 1_700_000_000)
    token = base64.b64encode(b"__cookie__:c00c1e")
    for head in play.heads:
        assert head.startswith(b"POST / HTTP/1.1\r\n")
        assert b"\r\nAuthorization: Basic " + token in head
        assert f"\r\nHost: 127.0.0.1:{play.server.port}".encode() in head
    assert len(play.heads) == 2


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_node_of_another_network(play: Play, question: str) -> None:
    """Nothing else is asked of it."""
    with play.chain(MAINNET) as chain:
        error = error_of(lambda: QUESTIONS[question](chain))
    assert (error.slug, error.exit_code) == ("wrong-network", 8)
    assert SIGNET.genesis_hash in error.message
    assert "mainnet" in error.message
    assert len(play.heads) == 1


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_node_that_is_starting(play: Play, question: str) -> None:
    play.lines["getblockhash"] = (-28, "Verifying blocks…")
    with play.chain() as chain:
        error = error_of(lambda: QUESTIONS[question](chain))
        assert (error.slug, error.exit_code) == ("warming-up", 8)
        assert error.message.endswith("is still starting: Verifying blocks")
        play.lines["getblockhash"] = SIGNET.genesis_hash
        assert chain.tip().height == 200_000


def test_a_node_that_is_behind_its_network(play: Play) -> None:
    """Its tip would make every lock time look far away."""
    play.lines["getblockchaininfo"]["initialblockdownload"] = True
    with play.chain() as chain:
        lag = chain.tip().lag
        assert lag is not None
        assert "200000 of 200000" in lag.why
        for call in (lambda: chain.coins([b"\x51"]), lambda: chain.used_scripts([b"\x51"])):
            error = error_of(call)
            assert (error.slug, error.exit_code) == ("node-behind", 8)


@pytest.mark.parametrize("status", ["headers-only", "invalid"])
def test_headers_ahead_of_the_blocks(play: Play, status: str) -> None:
    """A watcher learns how late it is by the last header that is not known to be bad."""
    play.lines["getblockchaininfo"]["blocks"] = 150_000
    play.lines["getchaintips"] = [{"height": 200_000, "hash": "11" * 32, "status": status}]
    play.lines["getblockheader"] = {"mediantime": 1_710_000_000}
    with play.chain() as chain:
        lag = chain.tip().lag
    assert lag is not None
    assert "it has block 150000, and headers up to 200000" in lag.why
    assert (lag.height, lag.median_time) == (200_000, 1_710_000_000 if status != "invalid" else 1_700_000_000)


@pytest.mark.parametrize("network", [MAINNET, SIGNET, TESTNET4, REGTEST], ids=str)
def test_66_a_node_that_stands_still(play: Play, network: Network) -> None:
    """Its last block is of more than six hours ago; on regtest no clock counts."""
    info = play.lines["getblockchaininfo"]
    play.lines["getblockhash"] = network.genesis_hash
    with play.chain(network) as chain:
        assert chain.tip().lag is None, "not quite six hours"
        info["time"] -= 2 * 3600 + 300
        tip = chain.tip()
        if network == REGTEST:
            assert tip.lag is None
            return
        assert tip.lag is not None
        for clock in (info["time"], time.time()):
            assert datetime.fromtimestamp(clock, timezone.utc).strftime("%Y-%m-%d %H:") in tip.lag.why
        assert tip.of_network.height == 200_000 + 8 * 6
        assert 0 <= time.time() - 3600 - tip.of_network.median_time < 60
        assert error_of(lambda: chain.used_scripts([b"\x51"])).slug == "node-behind"


def test_an_older_node(play: Play) -> None:
    play.lines["gettxout"] = None
    play.lines["gettxspendingprevout"] = (-32601, "Method not found")
    with play.chain() as chain:
        error = error_of(lambda: chain.output(NOWHERE))
    assert (error.slug, error.exit_code) == ("rpc-error", 8)
    assert "gettxspendingprevout" in error.message
    assert error.hint == "mpchan needs Bitcoin Core 25 or newer"


NO_ESTIMATE = {"errors": ["Insufficient data or no feerate found"], "blocks": 0}


@pytest.mark.parametrize(
    ("estimate", "least", "relay", "expected"),
    [
        ({"feerate": 0.00012345, "blocks": 3}, 0.0001, 0.0001, 12_345),
        ({"feerate": 0.00012345, "blocks": 3}, 0.0002, 0.0001, 20_000),
        ({"feerate": 0.00012345, "blocks": 3}, 0.0001, 0.0003, 30_000),
        (NO_ESTIMATE, 0, 0, 5_000),
        (NO_ESTIMATE, 0.0002, 0.0001, 20_000),
    ],
)
def test_fee_rates(play: Play, estimate: dict[str, Any], least: float, relay: float, expected: int) -> None:
    play.lines["estimatesmartfee"] = estimate
    play.lines["getmempoolinfo"] = {"mempoolminfee": least, "minrelaytxfee": relay}
    with play.chain() as chain:
        assert chain.fee_rate() == FeeRate(expected)
        assert chain.min_fee_rate() == FeeRate(round(max(least, relay) * 10**8))


def test_a_search_for_coins_that_does_not_end(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpchan.chain.bitcoind import coins

    monkeypatch.setattr(coins, "SCAN_SECONDS", 0.2)
    play.lines["scantxoutset"] = (-8, 'Scan already in progress, use action "abort" or "status"')
    with play.chain() as chain:
        error = error_of(lambda: chain.coins([b"\x51"]))
    assert (error.slug, error.exit_code) == ("node-busy", 8)


def test_a_new_cookie_while_it_runs(play: Play, tmp_path: Path) -> None:
    """The node was restarted: the old cookie is refused, and the new one is there."""
    new = base64.b64encode(b"__cookie__:new")
    say = play.say

    def strict(request: bytes) -> bytes:
        return say(request) if new in request else answer(b"", "401 Unauthorized")

    with play.chain() as chain:
        chain.tip()
        play.server._pass_on = strict  # type: ignore[method-assign]
        error = error_of(chain.tip)
        assert (error.slug, error.exit_code) == ("rpc-credentials", 8)
        real, reads = Credentials.read, iter(["__cookie__:old", "__cookie__:new"])

        def read(self: Credentials) -> str:
            return next(reads, None) or real(self)

        write_cookie(usual_cookie(SIGNET), "__cookie__:new")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Credentials, "read", read)
            assert chain.tip().height == 200_000
        assert chain.tip().height == 200_000


def test_nobody_listens(tmp_path: Path) -> None:
    from support.chain.node import free_port

    port = free_port()
    credentials = Credentials(write_cookie(tmp_path / ".cookie"))
    for host in ("127.0.0.1", "::1", "no-such-host.invalid", "a" * 70 + ".invalid"):
        with BitcoindChain(REGTEST, Endpoint(host, port), credentials) as chain:
            error = error_of(chain.tip)
        assert (error.slug, error.exit_code) == ("unreachable", 8)
        assert f"{port}" in error.message


def test_tls_is_spoken_where_it_is_asked_for(play: Play, tmp_path: Path) -> None:
    """The server here answers in clear: no request, and no password, reaches it."""
    credentials = Credentials(write_cookie(tmp_path / ".cookie"))
    endpoint = Endpoint("127.0.0.1", play.server.port, tls=True)
    with BitcoindChain(SIGNET, endpoint, credentials, seconds=0.3) as chain:
        error = error_of(chain.tip)
    assert error.slug == "unreachable"
    assert play.heads == []


@pytest.mark.parametrize(
    "refusal",
    [(-32601, "Method not found"), (-1, "submitpackage is for regression testing (-regtest mode) only")],
)
def test_a_node_that_takes_no_packages(play: Play, refusal: tuple[int, str]) -> None:
    play.lines["submitpackage"] = refusal
    with play.chain() as chain, pytest.raises(ChainError) as error:
        chain.broadcast_package([PLAY, PLAY])
    assert (error.value.slug, error.value.exit_code) == ("no-packages", 8)
    assert refusal[1] in error.value.message
    assert error.value.hint == "Bitcoin Core 26 and newer do"
