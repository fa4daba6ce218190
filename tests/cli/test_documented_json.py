"""The JSON of every command is documented: its keys have a meaning, the guide's page is what follows from the classes,
and what ``Shell`` runs with ``--json`` anywhere in the tests is held to them."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
import pytest
from support.documented import command_in, faults, require_documented
from support.transcript import Shell

import mpchan.results
from mpchan.cli.main import cli
from mpchan.results import documented
from mpchan.results.base import Result
from mpchan.results.channels import ChannelLine, ChannelList
from mpchan.results.checks import PsbtInput

PAGE = Path(mpchan.__file__).parent / "guide" / "json.md"
BUYER = "mpchan --wallet buyer"
LINE = ChannelLine("0123456789abcdef", "payer", "open", 1000, 1, 0, 999, 1, 417)
LIST = ChannelList((LINE,), 0, warnings=("take care",)).to_dict()


def commands(group: click.Command, name: str = "") -> list[str]:
    """The full names of all commands below."""
    if not isinstance(group, click.Group):
        return [name]
    found = [name] if group.invoke_without_command else []
    for word in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), word)
        assert command is not None
        found += commands(command, f"{name} {word}".strip())
    return found


def classes() -> list[type[Result]]:
    """Every class of an answer."""
    modules = [
        import_module(f"mpchan.results.{module.name}") for module in iter_modules(mpchan.results.__path__)
    ]
    found = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    return [kind for kind in found if issubclass(kind, Result) and kind is not Result]


def test_every_command_is_documented() -> None:
    known = {*documented.ANSWERS, *documented.SHORT_FORMS}
    assert known == set(commands(cli))
    assert {command for meant in documented.SHORT_FORMS.values() for command in meant} <= known


def test_every_key_has_a_meaning() -> None:
    for kind in classes():
        said = {name for each in kind.__mro__ for name, meaning in documented._attributes(each) if meaning}
        fields = [key.name for key in documented.keys(kind)]
        assert said <= set(fields), f"{kind.__name__} explains what it does not have"
        for key in documented.keys(kind):
            assert key.meaning.strip(), (kind, key)
            if " or null" in key.json_type:
                assert "null" in key.meaning, f"{kind.__name__}.{key.name} does not say when it is null"
            if key.name.endswith("_sat"):
                assert "satoshi" in key.meaning, f"{kind.__name__}.{key.name} has no unit"


def test_the_page_of_the_guide_is_made_of_the_classes() -> None:
    assert PAGE.read_text() == documented.page(), (
        "python -c 'from mpchan.results.documented import page; print(page(), end=\"\")' > mpchan/guide/json.md"
    )


def test_help_shows_the_keys(bare: Shell) -> None:
    shown = bare.ok("mpchan payer pay --help").out
    for key in documented.keys(documented.answers("payer pay")[0]):
        assert f"  {key.name} " in shown
    assert "in satoshi" in shown
    assert "\nJSON " not in bare.ok("mpchan payer --help").out


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"more": 1}, "unknown more"),
        ({"channels": None}, "channels is no list of objects"),
        ({"channels": [{}]}, "channels is no list of objects"),
        ({"channels": [{**LINE.to_dict(), "updates": "1"}]}, "channels is no list of objects"),
        ({"channels": [{**LINE.to_dict(), "updates": True}]}, "channels is no list of objects"),
        ({"openings": 0.5}, "openings is no integer"),
        ({"openings": None}, "openings is no integer"),
        ({"warnings": [None]}, "warnings is no list of strings"),
    ],
)
def test_other_keys_and_types_are_found(change: dict[str, object], fault: str) -> None:
    assert faults(ChannelList, LIST) == []
    assert faults(ChannelList, {**LIST, **change}) == [fault]


def test_missing_keys_and_another_order_are_found() -> None:
    assert faults(ChannelList, {}) == ["missing channels"]
    assert faults(ChannelList, dict(reversed(LIST.items()))) == ["another order"]
    psbt_input = PsbtInput("00", 1, 2, None, None, None, {"02": "30"}, {}).to_dict()
    assert faults(PsbtInput, psbt_input) == []
    assert faults(PsbtInput, {**psbt_input, "partial_sigs": {"02": 1}}) == ["partial_sigs is no object"]


def test_what_is_printed_is_held_to_it(bare: Shell) -> None:
    assert command_in(["--wallet", "payee", "settle", "--json"]) == "settle"
    with pytest.raises(AssertionError, match="unknown more"):
        require_documented(["address"], '{"address": "bcrt1", "more": 1}\n')
    with pytest.raises(AssertionError, match="nothing documents"):
        require_documented(["sing"], "{}")
    bare.json(f"{BUYER} init --chain none")
    bare.json(f"{BUYER} list")


def test_every_command_prints_what_is_documented(wallets: Shell) -> None:
    """Each is run once here, and held to its classes by ``Shell``; those of a sale and
    of the demo by their own tests."""
    shell, ran = wallets, set()

    def says(wallet: str, words: str, **options: Any) -> Any:
        ran.add(command_in(words.split()))
        name = f"--wallet {wallet} " if wallet else ""
        out = shell.ok(f"mpchan {name}{words} --json", **options).out
        return json.loads(out.splitlines()[-1])

    secret = shell.folder.parent / "passphrase"
    secret.write_text("a long passphrase\n")
    secret.chmod(0o600)
    asked = {"MPCHAN_PASSPHRASE_FILE": str(secret), "MPCHAN_NEW_PASSPHRASE_FILE": str(secret)}

    def opened() -> Any:
        says("seller", "payee offer -o offer.toml")
        request = says("buyer", "payer open offer.toml 100000 -o request.psbt")
        says("seller", "payee sign-refund request.psbt -o signed.psbt")
        return request

    words = says("", "init --show-words", MPCHAN_WALLET=str(shell.folder / "third"))["words"]
    says("fourth", "init --restore", stdin=words.encode())
    for step in ("set", "change", "remove"):
        says("seller", f"passphrase {step}", **asked)
    given_up = opened()
    says("buyer", f"payer abandon -c {given_up['channel']}")
    says("seller", f"payee abandon -c {given_up['channel']}")
    says("seller", "payee offer -o offer.toml")
    says("buyer", "payer open offer.toml 100000 --external")
    name = opened()["channel"]
    says("buyer", "payer fund signed.psbt -o funding.hex")
    says("seller", "payee funding funding.hex")
    says("", "regtest mine 1")
    says("", "regtest status")
    says("buyer", "wait --for confirmed --timeout 5")
    says("buyer", "payer pay 1000 -o update.psbt")
    says("buyer", "pay --last")
    says("seller", "verify update.psbt")
    says("seller", "inspect update.psbt")
    says("seller", "payee accept update.psbt")
    says("seller", f"payee export-latest {name} -o latest.psbt")
    says("buyer", "payer sync latest.psbt")
    for question in (
        f"show {name}",
        f"show {name} --descriptor",
        "list",
        f"history {name}",
        "fsck",
        "balance",
        "payer spending",
        "address",
        "scan",
    ):
        says("buyer", question)
    says("seller", "watch --once")
    says("buyer", "plan 1000000 --price 0.01btc")
    says("buyer", "backup -o wallet.backup")
    says("fifth", "restore wallet.backup")
    says("buyer", "payer settle -o settlement.psbt")
    says("buyer", "settle")
    says("seller", "payee settle settlement.psbt")
    says("", "regtest mine 1")
    to = says("seller", "address")["address"]
    says("", f"regtest faucet {to} 50000")
    sent = says("buyer", f"send {to} 20000 --no-broadcast")
    says("buyer", f"send --forget {sent['txid']}")
    name = opened()["channel"]
    funded = says("buyer", "payer fund signed.psbt --refund-out refund.hex")
    assert funded["broadcast"]
    says("buyer", f"bump {name} --fee-rate 9")
    says("", "regtest mine 310")
    says("buyer", "open offer.toml 100000")
    says("buyer", f"payer refund -c {name}")
    says("buyer", f"refund -c {name}")
    says("seller", "payee offer --scheme taproot -o any-wallet.toml")
    awaited = says("buyer", "payer open any-wallet.toml --external")
    says("buyer", f"show {awaited['offer_id']}")
    says("buyer", "list")
    says("", f"regtest faucet {awaited['address']} 90000")
    says("buyer", "payer open any-wallet.toml --external")
    says("buyer", "payer recover any-wallet.toml")
    says("", "engine")
    says("", "engine install")
    says("", "guide")
    assert {*documented.ANSWERS, *documented.SHORT_FORMS} - ran == {
        *("payee sell", "payee serve", "payer buy", "payer fetch", "demo"),
    }
