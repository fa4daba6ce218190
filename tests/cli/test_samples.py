"""The sample files are valid, and the two scripts run the whole story as two users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpchan.channel.offer import Offer
from mpchan.wallet.config import Config

SAMPLES = Path(__file__).parents[2] / "sample-configs"
BIN = Path(sys.executable).parent
PIECES, PRICE = 6, 1000


@pytest.mark.parametrize("network", ["regtest", "signet", "mainnet"])
def test_sample_wallet_is_read(network: str) -> None:
    path = SAMPLES / f"wallet-{network}.toml"
    config = Config.from_toml(path.read_text(), source=path)
    assert config.network.name == network


def test_sample_offer_is_read() -> None:
    assert Offer.from_toml((SAMPLES / "offer.toml").read_text()).memo == "one file in 100 pieces"


def test_there_is_no_other_sample() -> None:
    expected = {
        "wallet-regtest.toml",
        "wallet-signet.toml",
        "wallet-mainnet.toml",
        "offer.toml",
        "payer.sh",
        "payee.sh",
    }
    assert {path.name for path in SAMPLES.iterdir()} == expected


@pytest.mark.parametrize("script", ["payer.sh", "payee.sh"])
def test_shellcheck_finds_nothing(script: str) -> None:
    result = subprocess.run(
        [BIN / "shellcheck", SAMPLES / script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


def _start(script: str, home: Path, shared: Path) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MPCHAN_REGTEST": str(shared / "chain"),
        "EXCHANGE": str(shared / "exchange"),
        "PIECES": str(PIECES),
        "PRICE": str(PRICE),
    }
    environment.pop("MPCHAN_WALLET", None)
    return subprocess.Popen(
        ["sh", SAMPLES / script],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run_both(tmp_path: Path) -> dict[str, tuple[int, str, str]]:
    running = {name: _start(f"{name}.sh", tmp_path / name, tmp_path) for name in ("payee", "payer")}
    ended = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=180)
        ended[name] = (process.returncode, out, err)
    return ended


def test_the_scripts_sell_every_piece(tmp_path: Path) -> None:
    ended = _run_both(tmp_path)
    assert {name: (code, err) for name, (code, _, err) in ended.items()} == {
        "payee": (0, ""),
        "payer": (0, ""),
    }
    for number in range(1, PIECES + 1):
        assert (tmp_path / "exchange" / f"piece-{number}").read_text() == f"the content of piece {number}\n"
    for name, (_, out, _) in ended.items():
        assert f"{name}  closed" in out
        assert f"{PIECES * PRICE:,}     0" in out
    assert f"confirmed    {PIECES * PRICE:,} sat" in ended["payee"][1]
