"""Folders that the transcripts begin with, made once by commands and copied for every test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from support.transcript import Shell

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("pbk") is None, reason="the engine is not installed (mpchan engine install)"
)


@pytest.fixture
def bare(tmp_path: Path) -> Shell:
    """An empty folder, no wallet, no chain."""
    return Shell(tmp_path / "folder")


@pytest.fixture(scope="session")
def _wallets(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    if importlib.util.find_spec("pbk") is None:
        pytest.skip("the engine is not installed (mpchan engine install)")
    shell = Shell(tmp_path_factory.mktemp("wallets") / "folder")
    shell.ok("mpchan --wallet buyer init")
    shell.ok("mpchan --wallet seller init")
    shell.ok("mpchan regtest faucet $(mpchan --wallet buyer address) 1btc")
    shell.ok("mpchan regtest mine 1")
    return shell


@pytest.fixture(scope="session")
def _opened(_wallets: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("opened") / "folder", _wallets)
    offer = shell.json("mpchan --wallet seller payee offer -o offer.toml")
    request = shell.json("mpchan --wallet buyer payer open offer.toml 100000 -o request.psbt")
    shell.ok("mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt")
    shell.ok("mpchan --wallet buyer payer fund signed.psbt -o funding.hex")
    shell.ok("mpchan regtest mine 1")
    shell.names.update(
        {"offer": offer["offer_id"], "channel": request["channel"], "txid:funding": request["funding_txid"]}
    )
    return shell


@pytest.fixture(scope="session")
def _paid(_opened: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("paid") / "folder", _opened)
    shell.ok("mpchan --wallet buyer pay 1000 -o update.psbt")
    shell.ok("mpchan --wallet seller payee accept update.psbt")
    return shell


@pytest.fixture
def wallets(_wallets: Shell, tmp_path: Path) -> Shell:
    """Two wallets on an embedded chain of height 111; the buyer has 1 bitcoin."""
    return Shell(tmp_path / "folder", _wallets)


@pytest.fixture
def opened(_opened: Shell, tmp_path: Path) -> Shell:
    """The same with a channel of 100,000 sat, ready for payments; refund at 417, L_0 at 273, tip at 112."""
    return Shell(tmp_path / "folder", _opened)


@pytest.fixture
def paid(_paid: Shell, tmp_path: Path) -> Shell:
    """The same after one payment of 1000 sat, which stands in ``update.psbt`` and is accepted."""
    return Shell(tmp_path / "folder", _paid)
