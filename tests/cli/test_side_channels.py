"""Who signs for real money without libsecp256k1 is told so: once for a command, on stderr, for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.transcript import Shell
from test_mainnet import RichChain

import mpchan.chain
from mpchan.bitcoin import signers
from mpchan.cli.main import main

WARNING = """\
mpchan: warning: signed with ecdsa, which is not hardened against side channels
mpchan: hint: who can measure its timing may learn a key; mpchan[fast] signs in constant time
"""
FAST = ("btclib_secp256k1", "coincurve")
"""What is imported to sign in constant time."""
TIP = "--tip 800001 --confirmations 6"
SIGNING = (
    "--wallet seller payee sign-refund request.psbt -o signed.psbt --tip 800000",
    "--wallet buyer payer fund signed.psbt -o funding.hex --yes --tip 800000",
    f"--wallet buyer pay 1000 -o update.psbt {TIP}",
    f"--wallet seller payee accept update.psbt {TIP}",
    f"--wallet buyer settle -o settlement.psbt {TIP}",
    f"--wallet seller settle settlement.psbt -o close.hex {TIP}",
)
OTHER = (
    "--wallet seller payee offer --fee-rate 2 -o other.toml",
    "--wallet seller address",
    f"--wallet buyer show {TIP}",
    f"--wallet buyer list {TIP}",
    "inspect request.psbt",
    "--version",
)


def prepare(folder: Path, network: str) -> Shell:
    """Two wallets that ask no chain, the buyer's with a channel that is being opened: it was rich for that moment."""
    shell = Shell(folder)
    for wallet in ("buyer", "seller"):
        shell.ok(f"mpchan --wallet {wallet} init --network {network} --chain none")
    shell.ok("mpchan --wallet buyer address")
    shell.ok("mpchan --wallet seller payee offer --fee-rate 2 -o offer.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(mpchan.chain, "open_chain", lambda *_: RichChain())
        assert main(["--wallet", "buyer", "open", "offer.toml", "50000", "-o", "request.psbt"]) == 0
    return shell


@pytest.fixture
def mainnet(tmp_path: Path) -> Shell:
    """Real money."""
    return prepare(tmp_path / "folder", "mainnet")


@pytest.fixture
def test_money(tmp_path: Path) -> Shell:
    """Money of no worth."""
    return prepare(tmp_path / "folder", "testnet4")


def test_each_command_that_signs_says_so_once(mainnet: Shell) -> None:
    """Where libsecp256k1 is not installed; the commands themselves are the same."""
    mainnet.without(*FAST)
    for command in SIGNING:
        done = mainnet.ok(f"mpchan {command}")
        assert done.err.endswith(WARNING), done
        assert done.err.count("warning") == 1, done
    for command in OTHER:
        assert "warning" not in mainnet.ok(f"mpchan {command}").err, command


@pytest.mark.parametrize("flag", ["-q", "--json"])
def test_programs_are_told_nothing(mainnet: Shell, flag: str) -> None:
    """What they read on stderr is an error."""
    mainnet.without(*FAST)
    for command in SIGNING:
        assert mainnet.ok(f"mpchan {command} {flag}").err == "", command


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_command_that_signed_and_then_failed_says_so_too(mainnet: Shell) -> None:
    mainnet.without(*FAST)
    mainnet.ok(f"mpchan {SIGNING[0]}")
    (mainnet.folder / "full").symlink_to("/dev/full")
    done = mainnet.run(f"mpchan {SIGNING[0].replace('signed.psbt', 'full')}")
    assert done.code == 7
    assert done.err.endswith(WARNING)
    assert "mpchan: error: " in done.err
    report = mainnet.fails(f"mpchan {SIGNING[0].replace('signed.psbt', 'full')}", 7, "not-emitted")
    assert list(report) == ["error", "message", "hint", "exit_code"]


def test_the_signer_that_was_asked_for(mainnet: Shell) -> None:
    """Whether libsecp256k1 is missing or not wanted is all the same."""
    assert mainnet.ok(f"mpchan {SIGNING[0]}", MPCHAN_SIGNER="ecdsa").err.endswith(WARNING)


@pytest.mark.parametrize("signer", [name for name in signers.installed() if name != "ecdsa"])
def test_with_a_hardened_signer_there_is_nothing_to_say(mainnet: Shell, signer: str) -> None:
    for command in SIGNING:
        assert "warning" not in mainnet.ok(f"mpchan {command}", MPCHAN_SIGNER=signer).err, command


def test_test_money_is_worth_no_warning(test_money: Shell) -> None:
    test_money.without(*FAST)
    for command in SIGNING:
        assert "warning" not in test_money.ok(f"mpchan {command}").err, command
