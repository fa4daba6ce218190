"""``send`` as users run it: one transaction, and nothing but its hex on stdout."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support.transcript import Shell
from test_mainnet import RichChain
from test_two_at_once import at_once

import mpchan.chain
from mpchan.bitcoin.tx import Transaction
from mpchan.cli.main import main

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"


def test_money_leaves_the_wallet(wallets: Shell) -> None:
    wallets.play(
        """
        $ mpchan --wallet seller address
        <address:shop>
        $ mpchan --wallet buyer send <address:shop> 40000 --fee-rate 1.5 -o sent.hex
        2> 40000 sat in <txid:sent>, fee 212 sat, change 99959788 sat
        + sent.hex
        $ mpchan --wallet buyer balance
        confirmed    0 sat
        unconfirmed  99,959,788 sat
        in channels  0 sat
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet seller balance --json
        {"confirmed_sat": 40000, "unconfirmed_sat": 0, "in_channels_sat": 0}
        $ mpchan --wallet buyer send --resend <txid:sent> -q -o again.hex
        + again.hex
        $ cmp sent.hex again.hex
        $ mpchan --wallet buyer send --forget <txid:sent>
        2> mpchan: error: <txid:sent> is on the chain or waits for a block
        ? 5
        $ mpchan --wallet buyer send <address:shop> --all --json
        {"txid": "<txid:rest>", "amount_sat": 99959568, "fee_sat": 220, "change_sat": 0,
        > "broadcast": true, "hex": "<hex>"}
        $ mpchan --wallet buyer send <address:shop> --all
        2> mpchan: error: the wallet can spend 0 sat: after the fee less than 294 sat is left
        ? 5
        """
    )
    assert wallets.text("sent.hex").endswith("\n")
    assert str(Transaction.from_hex(wallets.text("sent.hex").strip()).txid) == wallets.names["txid:sent"]


def test_only_the_hex_is_on_stdout(wallets: Shell) -> None:
    address = wallets.ok(f"{SELLER} address").out.strip()
    done = wallets.ok(f"{BUYER} send {address} 1000")
    assert done.out == Transaction.from_hex(done.out.strip()).to_hex() + "\n"
    done = wallets.ok(f"{BUYER} send {address} 1000 -q")
    assert (done.err, done.out.count("\n")) == ("", 1)


def test_what_is_not_broadcast_keeps_its_coins(wallets: Shell) -> None:
    wallets.play(
        """
        $ mpchan --wallet seller address
        <address:shop>
        $ mpchan --wallet buyer send <address:shop> 40000 --no-broadcast --fee-rate 1 -o sent.hex
        2> 40000 sat in <txid:sent>, fee 141 sat, change 99959859 sat; broadcast it yourself, or with
        > `mpchan send --resend`
        + sent.hex
        $ mpchan --wallet buyer balance
        confirmed          100,000,000 sat
        unconfirmed        0 sat
        in channels        0 sat
        of these reserved  100,000,000 sat
        $ mpchan --wallet buyer send <address:shop> 50000
        2> mpchan: error: 50000 sat and a fee are needed, the wallet can spend 0 sat; 100000000 sat are reserved by
        > channels and sends that are not in a block yet
        2> mpchan: hint: send coins to the address that `mpchan address` prints, and wait for a confirmation
        ? 5
        $ mpchan --wallet buyer send --forget <txid:sent>
        <txid:sent> is forgotten, its coins are free again
        2> destroy every copy of it: whoever has one can still send it
        $ mpchan --wallet buyer send <address:shop> 50000 --fee-rate 1 -o other.hex
        2> 50000 sat in <txid:other>, fee 141 sat, change 99949859 sat
        + other.hex
        $ mpchan --wallet buyer send --forget <txid:sent> --json
        2> {"error": "unknown-send", "message": "this wallet sent no transaction '<txid:sent>'", "hint": null,
        > "exit_code": 5}
        ? 5
        """
    )


@pytest.mark.parametrize(
    ("arguments", "code", "slug"),
    [
        ("", 2, "usage"),
        ("ADDRESS", 2, "usage"),
        ("ADDRESS 1000 --all", 2, "usage"),
        ("ADDRESS 1000 --resend abcd", 2, "usage"),
        ("--resend abcd --forget abcd", 2, "usage"),
        ("--resend abcd --no-broadcast", 2, "usage"),
        ("--forget abcd --all", 2, "usage"),
        ("ADDRESS 1.5", 2, "malformed-amount"),
        ("ADDRESS -- -5", 2, "malformed-amount"),
        ("ADDRESS 1000 --fee-rate fast", 2, "malformed-fee-rate"),
        ("nonsense 1000", 2, "malformed-address"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4 1000", 2, "wrong-network"),
        ("ADDRESS 1000 -o missing/file", 2, "output-unwritable"),
        ("ADDRESS 1000 -o buyer/sent/new.json", 2, "output-is-wallet"),
        ("ADDRESS 0", 5, "below-dust"),
        ("ADDRESS 293", 5, "below-dust"),
        ("ADDRESS 1000 --fee-rate 0.5", 5, "fee-rate-low"),
        ("ADDRESS 1000 --fee-rate 201", 5, "fee-rate-high"),
        ("ADDRESS 1btc", 5, "not-enough-funds"),
        ("--resend abcd", 5, "unknown-send"),
        ("--forget ''", 5, "unknown-send"),
    ],
)
def test_refusals_change_nothing(wallets: Shell, arguments: str, code: int, slug: str) -> None:
    if "buyer/sent" in arguments:
        wallets.ok(f"{BUYER} send $({BUYER} address) 1000 -q -o first.hex")
    address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    before = wallets.json("mpchan regtest status")
    wallets.fails(f"{BUYER} send {arguments.replace('ADDRESS', address)}", code, slug)
    assert wallets.json("mpchan regtest status") == before


def test_a_wallet_without_a_backend(bare: Shell) -> None:
    bare.ok("mpchan --wallet buyer init --chain none")
    bare.fails(f"{BUYER} send bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080 1000", 8, "no-backend")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("form", ["> /dev/full", "-o /dev/full", "--json > /dev/full"])
def test_a_lost_output_is_had_again(wallets: Shell, form: str) -> None:
    """The same command tells the transaction that was sent; it is no second payment."""
    address = wallets.ok(f"{SELLER} address").out.strip()
    done = wallets.run(f"{BUYER} send {address} 1000 {form}")
    assert done.code == 7
    assert "it is safe to run the same command again" in done.err
    [sent] = wallets.json("mpchan regtest status")["mempool"]
    again = wallets.json(f"{BUYER} send {address} 1000")
    assert again["txid"] == sent
    assert again["warnings"][0].startswith("this transaction was made before, by a command that did not end")
    assert wallets.json(f"{BUYER} send {address} 1000")["txid"] != sent


def test_equal_commands_at_once_are_payments_of_their_own(wallets: Shell) -> None:
    """Each with a transaction of its own, its own coins and its own change address."""
    for _ in range(3):
        wallets.ok(f"mpchan regtest faucet $({BUYER} address) 1000000")
    wallets.ok("mpchan regtest mine 1")
    address = wallets.ok(f"{SELLER} address").out.strip()
    results = at_once(wallets, *[f"{BUYER} send {address} 1000"] * 4)
    transactions = [Transaction.from_hex(result["hex"]) for result in results]
    assert len({result["txid"] for result in results}) == 4
    spent = [source.outpoint for transaction in transactions for source in transaction.inputs]
    assert len(spent) == len(set(spent))
    scripts = [output.script_pubkey for transaction in transactions for output in transaction.outputs]
    assert len(set(scripts)) == 5, "four change addresses and the seller's"
    wallets.ok("mpchan regtest mine 1")
    assert wallets.json(f"{SELLER} balance")["confirmed_sat"] == 4000


# real money ---------------------------------------------------------------------------------------

SHOP = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
QUESTION = f"This sends 5000 sat of real money to {SHOP}, and pays a fee of 141 sat. Go on? [y/N] "


@pytest.mark.parametrize(
    ("options", "answer", "code"),
    [
        ("", "y\n", 0),
        ("", "n\n", 5),
        ("", "", 5),
        ("--json", "y\n", 5),
        ("--yes", "", 0),
        ("--yes --json", "", 0),
    ],
)
def test_mainnet_asks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    answer: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mpchan.chain, "open_chain", lambda *_: RichChain())
    assert main(["--wallet", "buyer", "init", "--network", "mainnet", "-q"]) == 0
    assert main(["--wallet", "buyer", "address"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(answer.encode())))
    assert main(f"--wallet buyer send {SHOP} 5000 --fee-rate 1 {options}".split()) == code
    out, err = capsys.readouterr()
    assert (QUESTION in err) == (options == "")
    assert (out == "") == (code != 0)
    assert (tmp_path / "buyer" / "sent").exists() == (code == 0)
    if code:
        assert "not confirmed" in err
