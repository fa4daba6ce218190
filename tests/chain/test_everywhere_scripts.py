"""The scripts of ``sample-configs/``, unchanged, on every backend: the wallets name it, and ``MINE`` gets a block."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.chain.grounds import Ground, Traders
from support.transcript import program

from mpchan.channel.construction.registry import CONSTRUCTIONS

SAMPLES = Path(__file__).parents[2] / "sample-configs"
PIECES, PRICE = 4, 1000


def start(script: str, shell: Traders, wallet: str, scheme: str) -> subprocess.Popen[str]:
    """One of the two users."""
    variables = {
        "WALLET": wallet,
        "EXCHANGE": "exchange",
        "PIECES": str(PIECES),
        "PRICE": str(PRICE),
        "SCHEME": scheme,
        "FAUCET": ":",
        "MINE": shell.ground.mine_command,
        "PATIENCE": "120",
    }
    return subprocess.Popen(
        ["sh", SAMPLES / script],
        cwd=shell.folder,
        env={**shell.env, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_the_scripts_sell_every_piece(ground: Ground, scheme: str, tmp_path: Path) -> None:
    assert program().exists()
    shell = Traders(tmp_path / "folder", ground)
    for wallet in ("buyer", "seller"):
        shell.ok(f"mpchan --wallet {wallet} init {ground.init}")
    shell.coin(PIECES * PRICE + 100_000)
    running = [start("payee.sh", shell, "seller", scheme), start("payer.sh", shell, "buyer", scheme)]
    answers = [process.communicate(timeout=300) for process in running]
    assert [(process.returncode, err) for process, (_, err) in zip(running, answers, strict=True)] == [
        (0, "")
    ] * 2
    for number in range(1, PIECES + 1):
        assert shell.text(f"exchange/piece-{number}") == f"the content of piece {number}\n"
    ground.settle_down()
    for wallet in ("buyer", "seller"):
        [channel] = shell.json(f"mpchan --wallet {wallet} list")["channels"]
        assert (channel["status"], channel["paid_sat"]) == ("closed", PIECES * PRICE)
    assert shell.json("mpchan --wallet seller balance") == {
        "confirmed_sat": PIECES * PRICE,
        "unconfirmed_sat": 0,
        "in_channels_sat": 0,
    }
    assert (shell.folder / "buyer" / "refund.hex").exists()
