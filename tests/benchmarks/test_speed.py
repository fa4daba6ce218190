"""What things cost. Apart from the tests: `pytest tests/benchmarks -n 0 --benchmark-enable`.

Payments in process run with fsync switched off, on a file system in memory where there is one: how long a disk takes to
make a file durable says nothing of this code. Whole processes run as a user runs them, fsync included, beside the start
of a bare interpreter that imports click.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpchan.bitcoin import signature, signers
from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import payee, payer, views
from mpchan.results.opening import Opened, RefundSigned
from mpchan.results.payments import Payment
from mpchan.units import Amount
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.wallet import Wallet

MPCHAN = Path(sys.executable).parent / "mpchan"
SIGNERS = signers.installed()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory in memory where the system has one."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def signer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Signatures by the named library for one benchmark."""
    monkeypatch.setenv("MPCHAN_SIGNER", request.param)
    for cache in (signers.signer, signature._point):
        cache.cache_clear()
    yield request.param
    for cache in (signers.signer, signature._point):
        cache.cache_clear()


class Channel:
    """An open channel in seconds between two wallets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = EmbeddedChain(folder / "chain")
        self.alice = Wallet.create(folder / "alice", REGTEST, ChainConfig())
        self.bob = Wallet.create(folder / "bob", REGTEST, ChainConfig())
        coin = address_to_script(views.fresh_address(self.alice).address, REGTEST)
        self.chain.faucet(coin, Amount(50_000_000))
        self.chain.mine(1)
        offer = payee.offer(self.bob, self.chain, {"lock_time_unit": "seconds"}).toml
        asked = payer.open_channel(self.alice, self.chain, offer, Amount(40_000_000))
        signed = payee.sign_refund(self.bob, self.chain, read(asked))
        payer.fund(self.alice, self.chain, read(signed))
        self.chain.mine(1)
        self.pay(1000)

    def pay(self, amount: int = 10) -> Payment:
        return payer.pay(self.alice, self.chain, None, Amount(amount))


def read(result: Opened | RefundSigned | Payment) -> Psbt:
    return Psbt.from_bytes(bytes.fromhex(result.hex))


@pytest.mark.benchmark(group="signatures")
@pytest.mark.parametrize("signer", SIGNERS, indirect=True)
def test_sign(benchmark: Any, signer: str) -> None:
    key = signature.PrivateKey(bytes([7] * 32))
    benchmark(key.sign, bytes(range(32)))


@pytest.mark.benchmark(group="signatures")
@pytest.mark.parametrize("signer", SIGNERS, indirect=True)
def test_verify(benchmark: Any, signer: str) -> None:
    key = signature.PrivateKey(bytes([7] * 32))
    made = key.sign(bytes(range(32)))
    assert benchmark(key.public_key.verify, made, bytes(range(32)))


@pytest.mark.benchmark(group="payments in process, fsync apart")
@pytest.mark.parametrize("signer", SIGNERS, indirect=True)
def test_pay(benchmark: Any, signer: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(folder)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    benchmark.pedantic(channel.pay, rounds=200, warmup_rounds=5)


@pytest.mark.benchmark(group="payments in process, fsync apart")
@pytest.mark.parametrize("signer", SIGNERS, indirect=True)
def test_accept(benchmark: Any, signer: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(folder)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def accept(message: str) -> None:
        payee.accept(channel.bob, channel.chain, Psbt.from_bytes(bytes.fromhex(message)))

    benchmark.pedantic(accept, setup=lambda: ((channel.pay().hex,), {}), rounds=200, warmup_rounds=5)


def run(channel: Channel, *command: str) -> None:
    environment = {**os.environ, "MPCHAN_REGTEST": str(channel.folder / "chain"), "MPCHAN_SIGNER": SIGNERS[0]}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.benchmark(group="whole processes, with the fastest signer")
@pytest.mark.parametrize("name", ["import click", "mpchan payer pay", "mpchan payee accept", "mpchan show"])
def test_process(benchmark: Any, tmp_path: Path, name: str) -> None:
    channel = Channel(tmp_path)
    commands = {
        "import click": [sys.executable, "-c", "import click"],
        "mpchan payer pay": [str(MPCHAN), "-q", "--wallet", str(tmp_path / "alice"), "payer", "pay", "10"],
        "mpchan payee accept": [
            str(MPCHAN),
            "-q",
            "--wallet",
            str(tmp_path / "bob"),
            "payee",
            "accept",
            str(tmp_path / "u"),
        ],
        "mpchan show": [str(MPCHAN), "--json", "--wallet", str(tmp_path / "bob"), "show"],
    }

    def prepare() -> tuple[tuple[Any, ...], dict[str, Any]]:
        if name == "mpchan payee accept":
            (tmp_path / "u").write_text(channel.pay().hex)
        return (channel, *commands[name]), {}

    benchmark.pedantic(run, setup=prepare, rounds=20, warmup_rounds=2)
