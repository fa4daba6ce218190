"""The command lines of the guide that its pages do not show the output of: they are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.foreign_wallet import P2WPKH, coin, partly_signed, payment, psbt_of
from support.transcript import CHAIN, Shell

import mpchan
from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount

GUIDE = Path(mpchan.__file__).parent / "guide"
BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"


def blocks(topic: str) -> list[str]:
    """The shell's blocks of a page, without what is broken over two lines."""
    text = (GUIDE / f"{topic}.md").read_text()
    return [found.replace("\\\n", "") for found in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def test_a_running_meter(opened: Shell) -> None:
    """With fewer payments, and a line to the other machine that stays on this one."""
    [block] = blocks("meter")
    line = opened.folder / "ssh"
    line.write_text('#!/bin/sh\nshift\nMPCHAN_WALLET=seller exec "$@"\n')
    line.chmod(0o755)
    opened.env["PATH"] = f"{opened.folder}:{opened.env['PATH']}"
    opened.env["MPCHAN_WALLET"] = "buyer"
    done = opened.ok(block.replace("yes 10", "yes 1000").replace("100000", "20"))
    assert done.out.count("\n") == 20
    assert opened.json(f"{SELLER} show")["paid_sat"] == 20_000


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (GUIDE / "python.md").read_text(), re.DOTALL)


def test_a_payment_from_python(opened: Shell) -> None:
    opened.ok(["python", "-c", python_blocks()[0]])
    assert opened.json(f"{SELLER} show")["paid_sat"] == 1000


def sold_by_the_page(shell: Shell, size: int, sale: str) -> tuple[int, str, str]:
    """Run the page's sale of a file, while blocks come: its exit code, and what it says."""
    (shell.folder / "film.mkv").write_bytes(bytes(range(256)) * (size // 256))
    environment = {**os.environ, **shell.env}
    command = [sys.executable, "-c", sale]
    with subprocess.Popen(
        command, cwd=shell.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        while program.poll() is None:
            shell.ok("mpchan regtest mine 1")
        out, err = program.communicate()
    return program.returncode, out, err


def without_an_exchange(sale: str, opening: str) -> str:
    """The page's sale with the other way to begin a channel."""
    before, mark, rest = sale.partition("# The channel: ")
    assert mark
    return f"{before}{opening}\n{rest.partition(chr(10) * 2)[2]}"


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_sale_from_python(wallets: Shell, exchanges: bool) -> None:
    sale, opening = python_blocks()[1:3]
    assert len(sale.splitlines()) <= 40
    sale = sale if exchanges else without_an_exchange(sale, opening)
    assert ("sign_refund" in sale) is exchanges
    code, out, err = sold_by_the_page(wallets, 512_000, sale)
    assert (code, err) == (0, "")
    assert out.startswith("6000 sat for the seller in ")
    assert (wallets.folder / "bought.mkv").read_bytes() == (wallets.folder / "film.mkv").read_bytes()
    wallets.ok("mpchan regtest mine 1")
    assert wallets.json(f"{SELLER} show")["status"] == "closed"


def test_a_sale_from_python_that_is_refused(wallets: Shell) -> None:
    """The error is the command's: here no coin is large enough."""
    code, _, err = sold_by_the_page(wallets, 256_000_000, python_blocks()[1])
    assert (code, "mpchan.errors.NotPossible" in err) == (1, True)


@pytest.mark.parametrize("number", range(2))
def test_an_offer_in_each_construction(wallets: Shell, number: int) -> None:
    [block] = blocks("constructions")
    command = block.splitlines()[number]
    wallets.ok(command, MPCHAN_WALLET="seller")
    assert f'scheme = "{command.split()[4]}"' in wallets.text("offer.toml")


def test_watching(paid: Shell) -> None:
    """Nothing needs a person; the lines that go on for ever have tests of their own."""
    [block] = blocks("watching")
    [once] = [line for line in block.splitlines() if "--once" in line]
    assert "a channel needs you" not in paid.ok(once, MPCHAN_WALLET="seller").out


def init_lines() -> list[str]:
    return [line for block in blocks("nodes") for line in block.splitlines() if line]


@pytest.mark.parametrize("number", range(3))
def test_wallets_for_nodes_and_servers(bare: Shell, number: int) -> None:
    made = bare.json(init_lines()[number], MPCHAN_WALLET="wallet")
    assert made["chain"] == ("electrum" if "electrum" in init_lines()[number] else "bitcoind")
    assert made["network"] in init_lines()[number]


def test_there_is_no_other_wallet_for_them() -> None:
    assert len(init_lines()) == 3


def test_a_funding_from_another_wallet(wallets: Shell) -> None:
    """The page's two commands, with the payee's between them."""
    opening, funding = blocks("funding")[0].splitlines()
    wallets.ok(f"{SELLER} payee offer -o offer.toml")
    plan = wallets.json(f"{BUYER} payer open offer.toml 100000 --external")
    output = TxOut(Amount(plan["amount_sat"]), address_to_script(plan["address"], REGTEST))
    with EmbeddedChain(wallets.folder / CHAIN) as chain:
        unsigned = psbt_of(chain, payment(chain, [coin(chain, P2WPKH)], output))
        (wallets.folder / "funding.psbt").write_bytes(unsigned.to_bytes())
        (wallets.folder / "signed-funding.psbt").write_text(partly_signed(chain, unsigned).to_hex())
    wallets.ok(opening, MPCHAN_WALLET="buyer")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed-refund.psbt")
    wallets.ok(funding, MPCHAN_WALLET="buyer")
    wallets.ok("mpchan regtest mine 1")
    assert wallets.json(f"{BUYER} show")["status"] == "open"
