"""A sale that was half done when seller and buyer went over to the code of today."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.old_wallets import FILM_NAME
from support.transcript import TIMEOUT_SECONDS, Shell
from test_old_channels import PAYEE, PAYER, Old, confirmed, mine, status, view

SELL = f"payee sell {FILM_NAME} --price-per-piece 1000 --pieces 40 --mailbox shop --interval 0.1"
TERMS = "--settle-window 6 --min-refund-delay 60 --max-refund-delay 120"
BUY = f"{PAYER} payer buy shop/offer.toml -o bought.mkv --yes --patience 20"
PRICE = 40_000


@contextmanager
def selling(shell: Shell, terms: str) -> Iterator[None]:
    """The seller's program, from its first event on."""
    process = subprocess.Popen(
        ["mpchan", "--json", "--wallet", "seller", *SELL.split(), *terms.split()],
        cwd=shell.folder, env=shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert "offer" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert "Traceback" not in err, err


def is_whole(shell: Shell) -> bool:
    return (shell.folder / "bought.mkv").read_bytes() == (shell.folder / FILM_NAME).read_bytes()


def test_the_same_command_ends_it_with_one_channel(old: Old) -> None:
    """Both start again with the words that they began with."""
    shell = old("sale")
    paid_before = view(shell)["paid_sat"]
    assert 0 < paid_before < PRICE
    with selling(shell, f"{TERMS} --fee-rate 3"):
        shell.ok(BUY)
        mine(shell)
    assert is_whole(shell)
    assert len(shell.json(f"{PAYER} list")["channels"]) == 1
    assert view(shell, PAYER)["paid_sat"] == PRICE
    assert status(shell) == ["closed", "closed"]
    assert confirmed(shell, PAYEE) == PRICE


def test_a_wish_without_a_channel(old: Old) -> None:
    """The buyer had an offer of its own, and no coin."""
    shell = old("wish")
    shell.ok(f"mpchan regtest faucet $({PAYER} address) 0.01btc")
    mine(shell)
    with selling(shell, f"{TERMS} --fee-rate 3"):
        buyer = subprocess.Popen(BUY.split(), cwd=shell.folder, env=shell.env)
        while not shell.json("mpchan regtest status")["mempool"]:
            assert buyer.poll() is None
            time.sleep(0.05)
        mine(shell)
        assert buyer.wait(TIMEOUT_SECONDS) == 0
    assert is_whole(shell)
