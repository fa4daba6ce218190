"""A command whose answer is lost says what to do, and that is true: here it is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.transcript import Shell

from mpchan.cli.files import AGAIN, DONE

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")


def lost(shell: Shell, line: str) -> str:
    """Run a command whose standard output is a full disk; its hint."""
    done = shell.run(f"true; {line} --json > /dev/full")  # what it has made stays, which no other failure may
    assert (done.code, done.error["error"]) == (7, "not-emitted"), done
    assert "standard output: no space left" in done.error["message"]
    hint = done.error["hint"]
    assert isinstance(hint, str)
    return hint


def test_a_wallet_is_made_once(wallets: Shell) -> None:
    assert lost(wallets, "mpchan --wallet new init") == DONE
    assert wallets.ok("mpchan --wallet new address").out


def test_words_that_nobody_saw_are_no_words(wallets: Shell) -> None:
    """What the hint says leaves a wallet whose words are known."""
    hint = lost(wallets, "mpchan --wallet new init --show-words")
    assert "remove its directory, and make another" in hint
    wallets.ok("rm -r new")
    assert len(wallets.json("mpchan --wallet new init --show-words")["words"].split()) == 12


def test_play_money_is_sent_once_and_blocks_are_mined_once(wallets: Shell) -> None:
    address = wallets.ok(f"{SELLER} address -q").out.strip()
    assert lost(wallets, f"mpchan regtest faucet {address} 5000") == DONE
    height = wallets.json("mpchan regtest status")["height"]
    assert lost(wallets, "mpchan regtest mine 2") == DONE
    assert wallets.json("mpchan regtest status")["height"] == height + 2
    assert wallets.json(f"{SELLER} balance")["confirmed_sat"] == 5000


def test_a_passphrase_is_set_changed_and_removed_once(wallets: Shell) -> None:
    for name in ("old", "new"):
        secret = wallets.folder / name
        secret.write_text(f"a {name} passphrase of some length\n")
        os.chmod(secret, 0o600)
    old, new = "MPCHAN_PASSPHRASE_FILE=old", "MPCHAN_PASSPHRASE_FILE=new"
    assert lost(wallets, f"{old} {BUYER} passphrase set") == DONE
    wallets.ok(f"{old} {BUYER} payee offer")
    assert lost(wallets, f"{old} MPCHAN_NEW_PASSPHRASE_FILE=new {BUYER} passphrase change") == DONE
    wallets.ok(f"{new} {BUYER} payee offer")
    assert lost(wallets, f"{new} {BUYER} passphrase remove") == DONE
    wallets.ok(f"{BUYER} payee offer")


def test_a_backup_comes_again_and_is_restored_once(paid: Shell) -> None:
    assert lost(paid, f"{BUYER} backup -o buyer.backup") == AGAIN
    paid.ok(f"{BUYER} backup -o buyer.backup")
    assert lost(paid, "mpchan --wallet again restore buyer.backup") == DONE
    assert lost(paid, "mpchan --wallet again payer sync --nothing-newer") == DONE
    assert paid.json("mpchan --wallet again pay --last")["paid_sat"] == 1000


def test_a_send_goes_on_and_is_forgotten_once(wallets: Shell) -> None:
    address = wallets.ok(f"{SELLER} address -q").out.strip()
    command = f"{BUYER} send {address} 5000 --no-broadcast"
    assert lost(wallets, command) == AGAIN
    made = wallets.json(command)["txid"]
    assert [path.stem for path in (wallets.folder / "buyer" / "sent").glob("*.json")] == [made]
    assert lost(wallets, f"{BUYER} send --forget {made}") == DONE
    assert not list((wallets.folder / "buyer" / "sent").glob("*.json"))


@pytest.mark.parametrize(
    "line",
    [
        f"{SELLER} payee accept update.psbt",
        f"{SELLER} payee funding funding.hex",
        f"{SELLER} payee export-latest",
        f"{SELLER} scan",
        f"{SELLER} address",
        f"{BUYER} payer sync latest.psbt",
        f"{BUYER} fsck --repair",
        f"{BUYER} wait --for confirmed",
        f"{BUYER} show",
        f"{BUYER} payer settle",
    ],
)
def test_what_is_safe_to_repeat_is(paid: Shell, line: str) -> None:
    paid.ok(f"{SELLER} payee export-latest -q -o latest.psbt")
    assert lost(paid, line) == AGAIN
    first, second = paid.json(line), paid.json(line)
    assert first == second or "address" in line


def test_an_opening_is_given_up_again(wallets: Shell) -> None:
    wallets.ok(f"{SELLER} payee offer -q -o offer.toml")
    wallets.ok(f"{BUYER} open offer.toml 50000 -q -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -q -o signed.psbt")
    for wallet, role in ((BUYER, "payer"), (SELLER, "payee")):
        assert lost(wallets, f"{wallet} {role} abandon") == AGAIN
        assert wallets.json(f"{wallet} {role} abandon")["status"] == "abandoned"


def test_help_that_cannot_be_printed(wallets: Shell) -> None:
    """It is standard output that failed, and not one file of the wallet."""
    assert lost(wallets, f"{BUYER} pay --help") == AGAIN
