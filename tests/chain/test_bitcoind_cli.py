"""The program on a real node: every command is a process of its own, as users run it."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import warm
from support.chain.node import Node, needs_node, running

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST

pytestmark = needs_node

BUYER, SELLER = "--wallet buyer", "--wallet seller"


class Program:
    """The program in a folder of its own.

    Args:
        node: whose URL and cookie the wallets get.
    """

    def __init__(self, folder: Path, node: Node) -> None:
        self.folder = folder
        self.node = node
        folder.mkdir()
        (folder / "home").mkdir()
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
            "PYTHONWARNINGS": "error",
        }

    def run(self, command: str, *, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command; whatever happens, it says what the rules of the command line ask for."""
        code, out, err = warm.run(command.split(), self.folder, {**self.env, **env}, stdin.encode(), 120)
        done = subprocess.CompletedProcess(command, code, out.decode(), err.decode())
        assert "Traceback" not in done.stderr, done
        assert "Exception ignored" not in done.stderr, done
        assert "Warning" not in done.stderr, done
        assert done.returncode not in (1, 130), done
        assert done.returncode == 0 or done.stdout == "", done
        return done

    def json(self, command: str, **env: str) -> Any:
        """What a command says that must succeed."""
        done = self.run(f"{command} --json", **env)
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    def fails(self, command: str, **env: str) -> dict[str, Any]:
        """The error of a command that must fail."""
        done = self.run(f"{command} --json", **env)
        assert done.returncode != 0, done
        error: dict[str, Any] = json.loads(done.stderr)
        assert error["exit_code"] == done.returncode
        return error

    def init(self, wallet: str, *options: str) -> None:
        """A wallet on the node."""
        where = f"--rpc-url {self.node.url} --rpc-cookie {self.node.cookie}"
        self.json(f"--wallet {wallet} init --chain bitcoind {where} {' '.join(options)}")

    def coin(self, wallet: str, amount: int) -> None:
        """Give a wallet a confirmed coin."""
        address = self.json(f"--wallet {wallet} address")["address"]
        self.node.pay(address_to_script(address, REGTEST), amount)
        self.node.mine()

    def open(self) -> str:
        """A channel of 100,000 sat that is ready for payments."""
        self.init("buyer")
        self.init("seller")
        self.coin("buyer", 1_000_000)
        self.json(
            f"{SELLER} payee offer --settle-window 6 --min-refund-delay 25 --max-refund-delay 60 -o offer"
        )
        name = self.json(f"{BUYER} open offer 100000 -o request")["channel"]
        self.json(f"{SELLER} payee sign-refund request -o signed")
        self.json(f"{BUYER} payer fund signed -o funding")
        self.node.mine()
        return str(name)


@pytest.fixture
def program(shared_node: Node, tmp_path: Path) -> Program:
    """On the node that all tests share."""
    return Program(tmp_path / "folder", shared_node)


@pytest.fixture
def own(node: Node, tmp_path: Path) -> Iterator[Program]:
    """On a node of the test's own, which it may stop."""
    yield Program(tmp_path / "folder", node)
    if not node.is_running:
        node.start()  # so that the fixture can stop it


# the story ----------------------------------------------------------------------------------------


def test_the_whole_story(program: Program) -> None:
    node = program.node
    assert node.call("getindexinfo") == {}, "no index, and no wallet was compiled in or loaded"
    program.init("buyer")
    program.init("seller")
    program.coin("buyer", 1_000_000)
    assert program.json(f"{BUYER} balance") == {
        "confirmed_sat": 1_000_000,
        "unconfirmed_sat": 0,
        "in_channels_sat": 0,
    }
    program.json(f"{SELLER} payee offer -o offer.toml")
    request = program.json(f"{BUYER} open offer.toml 100000 -o request")
    program.json(f"{SELLER} payee sign-refund request -o signed")
    funded = program.json(f"{BUYER} payer fund signed -o funding")
    assert funded["broadcast"] is True
    assert request["funding_txid"] in node.call("getrawmempool")
    assert program.fails(f"{BUYER} pay 1000")["error"] == "unconfirmed"
    node.mine()
    assert program.json(f"{SELLER} wait --for confirmed --timeout 30")["status"] == "open"
    assert program.json(f"{BUYER} pay 1000 -o update")["paid_sat"] == 1000
    assert program.json(f"{SELLER} payee accept update")["received_sat"] == 1000
    assert program.json(f"{SELLER} payee accept update")["duplicate"] is True
    early = program.fails(f"{BUYER} refund")
    assert (early["error"], early["exit_code"]) == ("refund-locked", 6)
    program.json(f"{BUYER} settle --total 100000 -o settlement")
    closed = program.json(f"{SELLER} settle settlement -o close")
    assert closed["broadcast"] is True
    assert closed["txid"] in node.call("getrawmempool")
    for wallet in (BUYER, SELLER):
        assert program.json(f"{wallet} show")["status"] == "settling"
    assert program.json(f"{SELLER} balance")["unconfirmed_sat"] == 100_000
    waiting = threading.Thread(target=lambda: node.mine(2))
    waiting.start()
    assert program.json(f"{SELLER} wait --for closed --timeout 60")["status"] == "closed"
    waiting.join()
    for wallet in (BUYER, SELLER):
        [listed] = program.json(f"{wallet} list")["channels"]
        assert (listed["status"], listed["paid_sat"], listed["remaining_sat"]) == ("closed", 100_000, 0)
    assert program.json(f"{SELLER} balance") == {
        "confirmed_sat": 100_000,
        "unconfirmed_sat": 0,
        "in_channels_sat": 0,
    }
    assert "100,000" in program.run(f"{SELLER} list").stdout


def test_the_refund(program: Program) -> None:
    name = program.open()
    lock_time = program.json(f"{BUYER} show")["refund_lock_time"]
    program.node.mine(lock_time - program.node.height - 1)
    early = program.fails(f"{BUYER} refund")
    assert (early["error"], early["exit_code"], early["hint"]) == ("refund-locked", 6, "1 block to go")
    program.node.mine()
    assert program.json(f"{BUYER} refund -o refund")["channel"] == name
    program.node.mine()
    assert program.json(f"{SELLER} show")["status"] == "refunded"


# nodes that cannot be asked -----------------------------------------------------------------------


def test_the_node_is_stopped_and_started_between_commands(own: Program) -> None:
    own.open()
    node = own.node
    own.json(f"{BUYER} pay 1000 -o update")
    before = own.node.height
    node.stop()
    own.json(f"{SELLER} address")
    own.json(f"{SELLER} payee offer --fee-rate 2 -o another")
    for command in (
        f"{BUYER} pay 1000 -o second",
        f"{BUYER} balance",
        f"{BUYER} list",
        f"{BUYER} open another 50000",
        f"{SELLER} payee offer",
        f"{SELLER} payee accept update",
        f"{SELLER} settle",
        f"{SELLER} wait --for closed",
    ):
        error = own.fails(command)
        assert error["exit_code"] == 8, error
        assert error["error"] in ("unreachable", "rpc-credentials"), error
        assert error["hint"], error
    assert not (own.folder / "second").exists()
    node.start()
    assert node.height == before
    assert own.json(f"{SELLER} payee accept update")["paid_sat"] == 1000
    node.stop()
    node.start()
    own.json(f"{BUYER} settle -o settlement")
    assert own.json(f"{SELLER} settle settlement")["broadcast"] is True


def test_commands_while_the_node_starts(own: Program) -> None:
    """Whatever the moment: an error that says so, until it works."""
    own.init("buyer")
    node = own.node
    node.mine(100)
    node.stop()
    node.start("-checkblocks=0", "-checklevel=4", wait=False)
    while True:
        done = own.run(f"{BUYER} balance --json")
        if done.returncode == 0:
            break
        error = json.loads(done.stderr)
        assert error["exit_code"] == 8
        assert error["error"] in ("unreachable", "rpc-credentials", "warming-up"), error
    node.wait()


def rpcauth(password: str, salt: str = "5a17") -> str:
    """What stands in bitcoin.conf for alice."""
    return f"alice:{salt}${hmac.new(salt.encode(), password.encode(), hashlib.sha256).hexdigest()}"


def test_a_wrong_password(tmp_path: Path) -> None:
    """``rpcauth`` in the node, user and password in the environment."""
    password = "a password: with § signs"
    with running(tmp_path / "node", f"-rpcauth={rpcauth(password)}") as node:
        program = Program(tmp_path / "folder", node)
        program.json(f"{BUYER} init --chain bitcoind --rpc-url {node.url}")
        missing = program.fails(f"{BUYER} balance")
        assert (missing["error"], missing["exit_code"]) == ("rpc-credentials", 8)
        assert ".bitcoin" in missing["message"] or "Bitcoin" in missing["message"]
        right = {"MPCHAN_RPC_USER": "alice", "MPCHAN_RPC_PASSWORD": password}
        assert program.json(f"{BUYER} balance", **right)["confirmed_sat"] == 0
        for wrong in ({"MPCHAN_RPC_PASSWORD": "guess"}, {"MPCHAN_RPC_USER": "bob"}):
            error = program.fails(f"{BUYER} balance", **{**right, **wrong})
            assert (error["error"], error["exit_code"]) == ("rpc-credentials", 8)
            assert "MPCHAN_RPC_USER" in error["message"]
            assert password not in json.dumps(error)
        (tmp_path / "stale").write_text("__cookie__:0123")
        program.json(
            f"--wallet other init --chain bitcoind --rpc-url {node.url} --rpc-cookie {tmp_path}/stale"
        )
        stale = program.fails("--wallet other balance")
        assert (stale["error"], stale["exit_code"]) == ("rpc-credentials", 8)
        assert str(tmp_path / "stale") in stale["message"]
        assert password not in "".join(path.read_text() for path in _texts(program.folder))


def _texts(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def test_a_user_who_may_not_ask(tmp_path: Path) -> None:
    options = ("-rpcwhitelist=alice:getblockhash", "-rpcwhitelistdefault=0")
    with running(tmp_path / "node", f"-rpcauth={rpcauth('secret')}", *options, ripe=False) as node:
        program = Program(tmp_path / "folder", node)
        program.json(f"{BUYER} init --chain bitcoind --rpc-url {node.url}")
        error = program.fails(f"{BUYER} balance", MPCHAN_RPC_USER="alice", MPCHAN_RPC_PASSWORD="secret")
        assert (error["error"], error["exit_code"]) == ("rpc-credentials", 8)
        assert "403" in error["message"]
        assert "rpcwhitelist" in error["hint"]


@pytest.mark.parametrize("network", ["mainnet", "signet", "testnet4"])
def test_a_node_of_another_network(program: Program, network: str) -> None:
    program.init("buyer", f"--network {network}")
    error = program.fails(f"{BUYER} balance")
    assert (error["error"], error["exit_code"]) == ("wrong-network", 8)
    assert REGTEST.genesis_hash in error["message"]
    assert network in error["message"]


# settings -----------------------------------------------------------------------------------------


def test_a_url_with_a_password_is_no_option_and_no_setting(program: Program) -> None:
    url = "http://alice:secret@127.0.0.1:8332"
    error = program.fails(f"{BUYER} init --chain bitcoind --rpc-url {url}")
    assert (error["error"], error["exit_code"]) == ("malformed-config", 2)
    assert "secret" not in json.dumps(error)
    assert not (program.folder / "buyer").exists()
    program.init("buyer")
    path = program.folder / "buyer" / "wallet.toml"
    path.write_text(path.read_text().replace(program.node.url, url))
    error = program.fails(f"{BUYER} balance")
    assert (error["error"], error["exit_code"]) == ("malformed-config", 3)
    assert "secret" not in json.dumps(error)


def test_the_cookie_in_the_usual_place(program: Program) -> None:
    place = program.folder / "home" / ".bitcoin" / "regtest"
    if sys.platform == "darwin":
        place = program.folder / "home/Library/Application Support/Bitcoin/regtest"
    place.mkdir(parents=True)
    (place / ".cookie").symlink_to(program.node.cookie)
    program.json(f"{BUYER} init --chain bitcoind --rpc-url {program.node.url}")
    assert program.json(f"{BUYER} balance")["confirmed_sat"] == 0


def test_what_a_wallet_keeps(program: Program) -> None:
    """Notes stand apart from what counts, and can be deleted at any time."""
    program.open()
    program.json(f"{BUYER} pay 1000 -o update")
    program.json(f"{SELLER} payee accept update")
    program.json(f"{BUYER} settle -o settlement")
    program.json(f"{SELLER} settle settlement")
    program.node.mine(2)
    for wallet in ("buyer", "seller"):
        status = program.json(f"--wallet {wallet} show")
        notes = program.folder / wallet / "seen"
        assert status["status"] == "closed"
        assert list(notes.iterdir())
        for note in notes.iterdir():
            note.unlink()
        notes.rmdir()
        assert program.json(f"--wallet {wallet} show") == status


def test_http_is_loaded_only_to_ask(program: Program) -> None:
    lister = "import sys; from mpchan.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"

    def loaded(*words: str) -> set[str]:
        command = [sys.executable, "-c", lister, *words, "-q"]
        done = subprocess.run(
            command, cwd=program.folder, env=program.env, capture_output=True, text=True, check=True
        )
        return set(done.stderr.split())

    program.open()
    assert "http.client" in loaded("--wallet", "buyer", "pay", "1000")
    assert "http.client" in loaded("--wallet", "seller", "payee", "offer")
    quiet = loaded("--wallet", "seller", "address")
    assert not [name for name in quiet if name.startswith(("http", "mpchan.chain.bitcoind"))]
