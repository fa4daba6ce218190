"""Makes ``version-1/``: wallets as commit 1249310 left them, with the chain that they know.

That commit was the last one that made offers of version 1. Who has such wallets must come to the end of every channel
with the code of today; ``test_old_*.py`` beside this script show it. To make them again, from the top of a clone:

    git worktree add /tmp/old 1249310
    .venv/bin/python tests/old_wallets/make_old_wallets.py /tmp/old

All of it is done by that code's own commands, with the packages of this Python. What stands in ``version-1/``:

    blocks.hex   every block of the embedded chain after its genesis, one a line, oldest first
    mempool.hex  the transactions that wait for a block, one a line, parents first
    NAME/buyer, NAME/seller  wallet directories; Git keeps no empty folders, a test makes them anew
    NAME/*       messages and files of that story: see the functions below
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.old_wallets import FILM_NAME, HERE, MADE_AT, SECRET, make_film
from support.transcript import WALLETS

LIMIT_SECONDS = 60.0
LEFT_OUT = (FILM_NAME, "secret", "hashes", "chain", "home")
"""Folders and files that a test makes anew."""

TERMS_OF_SALE = "--settle-window 6 --min-refund-delay 60 --max-refund-delay 120 --fee-rate 3"
TERMS = "--settle-window 6 --min-refund-delay 30 --max-refund-delay 60 --fee-rate 2"


class Maker:
    """A folder in which commands of the old code run.

    Args:
        code: a work tree of that commit.
        folder: the current directory of every command.
    """

    def __init__(self, code: Path, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(code),
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
            "MPCHAN_REGTEST": str(folder / "chain"),
            "MPCHAN_PASSPHRASE_FILE": str(folder / "secret"),
        }
        folder.mkdir()
        (folder / "secret").write_text(f"{SECRET}\n")
        (folder / "secret").chmod(0o600)

    def start(self, story: str, words: str, log: str = os.devnull) -> subprocess.Popen[bytes]:
        """Begin ``mpchan WORDS`` in the folder of a story."""
        place = self.folder / story
        place.mkdir(exist_ok=True)
        with open(self.folder / log, "wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "mpchan", *words.split()], cwd=place, env=self.env, stdout=out
            )

    def run(self, story: str, *commands: str, code: int = 0) -> None:
        """Run commands, each of which must end so."""
        for words in commands:
            found = self.start(story, words).wait(LIMIT_SECONDS)
            assert found == code, (story, words, found)

    def mine(self, count: int = 1) -> None:
        self.run("", f"-q regtest mine {count}")

    def pair(self, story: str, *, coins: int = 1) -> None:
        """A payer with confirmed coins, and a payee."""
        self.run(story, "-q --wallet buyer init", "-q --wallet seller init")
        self.coins(story, "buyer", coins)

    def coins(self, story: str, wallet: str, count: int) -> None:
        place = self.folder / story
        for _ in range(count):
            address = subprocess.run(
                [sys.executable, "-m", "mpchan", "-q", "--wallet", wallet, "address"],
                cwd=place, env=self.env, capture_output=True, text=True, check=True,
            ).stdout.strip()  # fmt: skip
            self.run(story, f"-q regtest faucet {address} 0.01btc")
        if count:
            self.mine()

    def ask(self, story: str, terms: str = TERMS) -> None:
        """``offer.toml`` and ``request.psbt``: the refund is asked for."""
        self.run(
            story,
            f"-q --wallet seller payee offer {terms} -o offer.toml",
            "-q --wallet buyer payer open offer.toml 100000 -o request.psbt",
        )

    def sign(self, story: str) -> None:
        """``signed.psbt``: the refund is signed by the payee."""
        self.run(story, "-q --wallet seller payee sign-refund request.psbt -o signed.psbt")

    def fund(self, story: str) -> None:
        """``refund.hex`` and ``funding.hex``: the funding waits for its block."""
        self.run(
            story, "-q --wallet buyer payer fund signed.psbt --refund-out refund.hex --yes -o funding.hex"
        )

    def open(self, story: str, terms: str = TERMS) -> None:
        """A channel that is confirmed."""
        self.ask(story, terms)
        self.sign(story)
        self.fund(story)
        self.mine()

    def pay(self, story: str, *totals: int) -> None:
        """Payments that have arrived, each in a file by its total."""
        for total in totals:
            self.run(
                story,
                f"-q --wallet buyer payer pay --total {total} -o paid-{total}.psbt",
                f"-q --wallet seller payee accept paid-{total}.psbt",
            )


# the stories --------------------------------------------------------------------------------------


def opened(m: Maker) -> None:
    """``open``: three payments have arrived, a fourth stands in ``late.psbt``; usual terms, in blocks."""
    m.pair("open")
    m.open("open", "--memo usual")
    m.pay("open", 1_000, 2_000, 3_000)
    m.run("open", "-q --wallet buyer payer pay 500 -o late.psbt")


def in_seconds(m: Maker) -> None:
    """``seconds``: one payment has arrived; the lock times are median times."""
    m.pair("seconds")
    m.open("seconds", "--lock-time-unit seconds")
    m.pay("seconds", 1_000)


def settling(m: Maker) -> None:
    """``settling``: the payee has sent the settlement, which waits; ``settled``: it waits in ``settlement.psbt``."""
    for story in ("settling", "settled"):
        m.pair(story)
        m.open(story)
        m.pay(story, 1_000, 2_000)
        m.run(story, "-q --wallet buyer payer settle --total 5000 -o settlement.psbt")


def restored(m: Maker) -> None:
    """``restored``: both were restored from ``buyer.backup`` and ``seller.backup``, which know one payment of two."""
    m.pair("restored")
    m.open("restored")
    m.run("restored", f"-q --wallet seller payee offer {TERMS} -o unused.toml")
    m.pay("restored", 1_000)
    for wallet in WALLETS:
        m.run("restored", f"-q --wallet {wallet} backup -o {wallet}.backup")
    m.pay("restored", 2_000)
    for wallet in WALLETS:
        shutil.rmtree(m.folder / "restored" / wallet)
        m.run("restored", f"-q --wallet {wallet} restore {wallet}.backup")


def encrypted(m: Maker) -> None:
    """``encrypted``: one payment has arrived; the keys of both, and ``buyer.backup``, need ``SECRET``."""
    m.pair("encrypted")
    m.open("encrypted")
    m.pay("encrypted", 1_000)
    for wallet in WALLETS:
        m.run("encrypted", f"-q --wallet {wallet} passphrase set")
    m.run("encrypted", "-q --wallet buyer backup -o buyer.backup")


def on_sale(m: Maker) -> None:
    """``sale``: some of forty pieces are bought by mailbox, under the published ``shop/offer.toml``, at 3 sat/vB."""
    m.pair("sale")
    seller = put_on_sale(m, "sale")
    buyer = m.start("sale", "--wallet buyer payer buy shop/offer.toml -o bought.mkv --yes --patience 30")
    log = m.folder / "sale.log"
    awaited(lambda: '"funding"' in log.read_text())
    m.mine()
    awaited(lambda: log.read_text().count('"update"') >= 4)
    stop(seller, buyer)
    assert log.read_text().count('"update"') < 35


def wish(m: Maker) -> None:
    """``wish``: the buyer has an offer of its own from the same kind of sale, and no coin to open a channel."""
    m.pair("wish", coins=0)
    seller = put_on_sale(m, "wish")
    m.run("wish", "--wallet buyer payer buy shop/offer.toml -o bought.mkv --yes --patience 5", code=5)
    stop(seller)


def put_on_sale(m: Maker, story: str) -> subprocess.Popen[bytes]:
    make_film(m.folder / story / FILM_NAME)
    words = f"--price-per-piece 1000 --pieces 40 --mailbox shop --interval 0.1 {TERMS_OF_SALE}"
    seller = m.start(story, f"--json --wallet seller payee sell {FILM_NAME} {words}", f"{story}.log")
    awaited((m.folder / story / "shop" / "offer.toml").exists)
    return seller


def openings(m: Maker) -> None:
    """``asked``: the refund is asked for; ``signed``: and signed; ``funding``: and the funding waits for its block."""
    for story in ("asked", "signed", "funding"):
        m.pair(story)
    for story in ("asked", "signed", "funding"):
        m.ask(story)
    for story in ("signed", "funding"):
        m.sign(story)
    m.fund("funding")


def planned(m: Maker) -> None:
    """``plan``: another wallet is to fund a channel under ``offer.toml``."""
    m.pair("plan", coins=0)
    m.run(
        "plan",
        f"-q --wallet seller payee offer {TERMS} -o offer.toml",
        "-q --wallet buyer payer open offer.toml 100000 --external",
    )


def main(code: Path) -> None:
    target = HERE / "version-1"
    with tempfile.TemporaryDirectory() as name:
        m = Maker(code, Path(name) / "work")
        m.run("", "-q regtest mine 1")
        # what waits for a block comes last
        for story in (opened, in_seconds, settling, restored, encrypted, on_sale, wish, planned, openings):
            story(m)
        m.run("settling", "-q --wallet seller payee settle settlement.psbt -o settlement.hex")
        shutil.rmtree(target, ignore_errors=True)
        keep(m, target)


def keep(m: Maker, target: Path) -> None:
    """Take into ``target`` what a test needs."""
    for place in sorted(m.folder.rglob("*")):
        relative = place.relative_to(m.folder)
        if place.is_file() and len(relative.parts) > 1 and not set(LEFT_OUT) & set(relative.parts):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            # a purchase names its file
            data = place.read_bytes().replace(str(m.folder).encode(), MADE_AT.encode())
            (target / relative).write_bytes(data)
    with sqlite3.connect(m.folder / "chain" / "index.sqlite3") as index:
        for file, question in (
            ("blocks.hex", "SELECT raw FROM blocks WHERE height > 0 ORDER BY height"),
            ("mempool.hex", "SELECT raw FROM transactions WHERE height IS NULL ORDER BY id"),
        ):
            lines = [raw.hex() for (raw,) in index.execute(question)]
            (target / file).write_text("\n".join(lines) + "\n")


def stop(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECONDS)


def awaited(look: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while not look():
        assert time.monotonic() < limit
        time.sleep(0.001)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
