"""What a command loads, and what it does without: the engine and the fast signer are optional."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.encrypted import encrypt
from support.transcript import Shell

import mpchan
from mpchan.bitcoin import signers

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
FAST = ("btclib_secp256k1", "coincurve")
"""The packages of the extra ``fast``, the faster first."""
SIGNER = signers.load(signers.installed()[0]).package

ASKED_BY_CLICK = set(
    subprocess.run(
        [sys.executable, "-c", "import sys, click; print(*sys.modules)"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
)
"""What no command can do without: on Python 3.10 ``uuid``, which click loads, loads ``subprocess``."""

HEAVY = {
    "rich",
    "pbk",
    "mnemonic",
    "cryptography",
    "asyncio",
    "http",
    "ssl",
    "socket",
    "email",
    "urllib.request",
    "subprocess",
    "logging",
    "decimal",
} - ASKED_BY_CLICK
LISTER = """
import json, sys
from mpchan.cli.main import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump([code, sorted(sys.modules)], file)
"""


def loaded(shell: Shell, arguments: str) -> set[str]:
    """The modules that a command has loaded when it ends."""
    (shell.folder / "lister.py").write_text(LISTER)
    shell.ok(["python", "lister.py", "modules.json", *arguments.split()])
    code, modules = json.loads(shell.text("modules.json"))
    assert code == 0, arguments
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "pay --help",
        "payee accept --help",
        "--wallet buyer pay 1000 -o update2.psbt",
        "--wallet buyer pay 1000 --json",
        "--wallet buyer pay --total 1000",
        "--wallet seller payee accept update.psbt",
        "--wallet seller payee accept update.psbt --json",
        "--wallet buyer show --json",
        "--wallet buyer list --json",
        "--wallet buyer settle --json",
        "--wallet buyer pay --stream",
        "--wallet buyer pay --stream --json --on-error continue",
        "--wallet seller payee accept --stream",
        "--wallet seller payee accept --stream --skip-superseded",
        "inspect update.psbt --json",
        "regtest status",
        "guide files",
    ],
)
def test_heavy_modules_are_left_alone(paid: Shell, arguments: str) -> None:
    modules = loaded(paid, arguments)
    assert "mpchan.cli.main" in modules
    assert not modules & HEAVY
    assert not [name for name in modules if name.split(".")[0] in ("rich", "pbk", "mnemonic", "asyncio")]
    used = {SIGNER.replace("-", "_")}
    assert modules & {*FAST, "ecdsa"} <= used


def test_a_single_payment_loads_nothing_of_a_stream(paid: Shell) -> None:
    """Nor of what opens a channel, or of a journal that is closed."""
    for arguments in ("buyer pay 1000", "buyer show --json", "seller payee accept update.psbt"):
        modules = loaded(paid, f"--wallet {arguments}")
        needless = (
            "stream",
            "party.meter",
            "update_form",
            "past",
            "coins",
            "channel.opening",
            "wallet.opening",
            "opening.request",
            "restore",
            "backup",
            "external",
        )
        found = [name for name in modules if name.startswith("mpchan.") and name.endswith(needless)]
        assert not found, arguments


def test_programs_load_what_they_ask_for(bare: Shell) -> None:
    """The package alone loads next to nothing; a payer nothing of the payee's."""
    script = (
        "import sys, mpchan; {} print(sorted(name for name in sys.modules if name.startswith('mpchan.')))"
    )
    alone = bare.ok(["python", "-c", script.format("")]).out
    assert alone == "[]\n"
    payer = bare.ok(["python", "-c", script.format("mpchan.Payer;")]).out
    assert "meter.payer" in payer
    assert "payee" not in payer
    assert (
        "click"
        not in bare.ok(["python", "-c", "import sys, mpchan; mpchan.Payee; print(*sys.modules)"]).out.split()
    )


def test_the_check_itself_sees_what_is_loaded(paid: Shell) -> None:
    """A table needs rich, a new wallet the words: the list of modules would show them elsewhere too."""
    assert "rich" in loaded(paid, "--wallet buyer show")
    assert "mnemonic" in loaded(paid, "--wallet third init")
    assert "pbk" in loaded(paid, "--version")


def test_encrypted_keys_load_their_library_only_to_be_opened(paid: Shell) -> None:
    encrypt(paid, "buyer")
    for arguments in ("list --json", "show --json", "balance --json", "address", "watch --once"):
        assert "cryptography" not in loaded(paid, f"--wallet buyer {arguments}"), arguments
    paid.env["MPCHAN_PASSPHRASE_FILE"] = "secret"
    modules = loaded(paid, "--wallet buyer pay 1000")
    assert "cryptography" in modules
    assert not modules & HEAVY - {"cryptography", "logging", "socket"}


def test_a_payer_loads_nothing_of_the_payees_and_reverse(paid: Shell) -> None:
    modules = loaded(paid, "--wallet buyer pay 1000")
    assert not [name for name in modules if name.startswith("mpchan.") and "payee" in name]
    modules = loaded(paid, "--wallet seller payee accept update.psbt")
    assert not [name for name in modules if name.startswith("mpchan.") and "payer" in name]


# the program --------------------------------------------------------------------------------------


def test_the_version_names_signer_and_engine(bare: Shell) -> None:
    signer = rf"{SIGNER} [0-9.]+"
    done = bare.ok("mpchan --version")
    pattern = (
        rf"mpchan {re.escape(mpchan.__version__)}, signer {signer}, engine .*py-bitcoinkernel [0-9a-z.]+\n"
    )
    assert re.fullmatch(pattern, done.out), done.out
    assert done.err == ""
    for options in ("--json --version", "--version --json"):
        data = bare.ok(f"mpchan {options}").json
        assert list(data) == ["version", "signer", "engine"]
        assert "mpchan {version}, signer {signer}, engine {engine}\n".format_map(data) == done.out


def test_python_m_mpchan(opened: Shell) -> None:
    """The same program under the same name."""
    assert opened.ok("python -m mpchan --version").out == opened.ok("mpchan --version").out
    done = opened.run("python -m mpchan payee offer --nonsense")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("see `mpchan payee offer --help`\n")
    payment = opened.ok("python -m mpchan --wallet buyer pay 1000 -q").out
    assert opened.ok(f"{BUYER} pay --last -q").out == payment
    assert "Usage: mpchan [OPTIONS]" in opened.ok("python -m mpchan --help").out


def test_the_folder_of_the_environment(opened: Shell) -> None:
    """MPCHAN_WALLET, unless ``--wallet`` says otherwise; without both the user's own data directory."""
    assert opened.json("mpchan show", MPCHAN_WALLET="buyer")["role"] == "payer"
    assert opened.json("mpchan show", MPCHAN_WALLET=str(opened.folder / "seller"))["role"] == "payee"
    assert opened.json(f"{SELLER} show", MPCHAN_WALLET="buyer")["role"] == "payee"
    assert opened.json("mpchan show --wallet seller", MPCHAN_WALLET="buyer")["role"] == "payee"
    assert opened.json(f"{BUYER} show --wallet seller")["role"] == "payee"
    made = Path(opened.json("mpchan init")["wallet"])
    assert opened.folder / "home" in made.parents
    assert opened.json("mpchan list", MPCHAN_WALLET="") == {"channels": []}


# without the optional packages --------------------------------------------------------------------


def test_without_the_engine(paid: Shell) -> None:
    """Questions to a chain that is there still work, and so does all that needs none."""
    paid.without("pbk")
    assert paid.ok("mpchan --version").out.endswith(", engine none\n")
    assert paid.json(f"{BUYER} show")["status"] == "open"
    paid.ok(f"{BUYER} pay 1000 -o second.psbt")
    assert paid.json(f"{SELLER} payee accept second.psbt")["paid_sat"] == 2000
    error = paid.fails("mpchan regtest mine 1", 8, "engine-missing")
    assert error["hint"] == "`mpchan engine install` fetches it; or use another chain backend"
    paid.ok(f"{BUYER} settle -o settlement.psbt")
    paid.fails(f"{SELLER} settle settlement.psbt", 8, "engine-missing")
    paid.fails("mpchan demo", 8, "engine-missing")
    paid.ok("mpchan --wallet third init --chain none")
    paid.ok("mpchan --wallet third payee offer -o third.toml")


def test_without_the_fast_signer(opened: Shell) -> None:
    """The portable signer makes the very same bytes."""
    twin = Shell(opened.folder.with_name("twin"), opened)
    opened.without(*FAST)
    assert re.fullmatch(r"mpchan .*, signer ecdsa [0-9.]+, engine .+\n", opened.ok("mpchan --version").out)
    steps = (
        f"{BUYER} pay 1000 -q -o one",
        f"{BUYER} pay --total 5000 -q -o two",
        f"{BUYER} settle --total 7000 -q -o three",
        f"{SELLER} settle three -q -o close.hex",
    )
    for shell in (opened, twin):
        for step in steps:
            shell.ok(step)
        shell.ok("mpchan regtest mine 1")
        assert shell.json(f"{SELLER} balance")["confirmed_sat"] == 7000
    for name in ("one", "two", "three", "close.hex"):
        assert opened.text(name) == twin.text(name), name


def test_the_whole_story_without_the_fast_signer(wallets: Shell) -> None:
    wallets.without(*FAST)
    wallets.ok(f"{SELLER} payee offer -o offer.toml")
    wallets.ok(f"{BUYER} open offer.toml 5000 -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    wallets.ok(f"{BUYER} payer fund signed.psbt")
    wallets.ok("mpchan regtest mine 1")
    wallets.ok(f"{BUYER} pay 1000 -o update.psbt")
    assert wallets.json(f"{SELLER} payee accept update.psbt")["paid_sat"] == 1000
