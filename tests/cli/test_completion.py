"""Completion in the shell: the scripts for bash, zsh and fish, and the words that they ask for."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from support.transcript import Shell


def completed(shell: Shell, line: str, kind: str = "bash") -> list[str]:
    """What the shell offers for the last, unfinished word of a line."""
    words = line.split(" ")
    environment = {
        "_MPCHAN_COMPLETE": f"{kind}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    if kind == "fish":
        environment["COMP_CWORD"] = words[-1]
    done = shell.run(["mpchan"], **environment)  # type: ignore[arg-type]
    assert (done.code, done.err) == (0, "")
    lines = done.out.strip().splitlines()
    if kind == "bash":
        return [line.removeprefix("plain,") for line in lines]
    if kind == "fish":
        return [line.removeprefix("plain,").partition("\t")[0] for line in lines]
    return lines[1::3]  # type, word, help


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_the_script(bare: Shell, kind: str) -> None:
    if kind == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version")
    done = bare.ok(["mpchan"], _MPCHAN_COMPLETE=f"{kind}_source")
    assert f"_MPCHAN_COMPLETE={kind}_complete" in done.out
    assert done.err == ""
    checker = shutil.which(kind)
    if checker is not None:
        subprocess.run([checker, "-n"], input=done.out, text=True, check=True, env=bare.env)


def test_an_unknown_shell(bare: Shell) -> None:
    done = bare.run(["mpchan"], _MPCHAN_COMPLETE="tcsh_source")
    assert (done.code, done.out) == (2, "")
    assert done.err == "mpchan: error: no completion for _MPCHAN_COMPLETE=tcsh_source\n"


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_commands_and_options(bare: Shell, kind: str) -> None:
    assert completed(bare, "mpchan pay", kind) == ["payee", "payer", "pay"]
    assert completed(bare, "mpchan payee s", kind) == ["sign-refund", "settle", "sell", "serve"]
    assert completed(bare, "mpchan regtest ", kind) == ["mine", "faucet", "status"]
    assert completed(bare, "mpchan payer pay --t", kind) == ["--total", "--totals", "--tip"]
    assert completed(bare, "mpchan wait --for f", kind) == ["final"]
    assert completed(bare, "mpchan init --chain ", kind) == ["embedded", "bitcoind", "electrum", "none"]


def test_topics_of_the_guide(bare: Shell) -> None:
    assert completed(bare, "mpchan guide p") == ["protocol", "python", "performance"]
    assert completed(bare, "mpchan guide x") == []


def test_channels(opened: Shell) -> None:
    channel = opened.names["channel"]
    for line in (
        "mpchan --wallet buyer pay --channel ",
        "mpchan --wallet buyer payer settle -c " + channel[:3],
        "mpchan --wallet buyer show ",
        "mpchan show --wallet buyer ",
        "mpchan wait --wallet seller " + channel,
    ):
        assert completed(opened, line) == [channel], line
    assert completed(opened, "mpchan --wallet buyer pay --channel x") == []
    assert completed(opened, "mpchan --wallet nobody pay --channel ") == []
    assert completed(opened, "mpchan pay --channel ") == []


def test_channels_of_the_environments_wallet(opened: Shell) -> None:
    opened.env["MPCHAN_WALLET"] = "seller"
    assert completed(opened, "mpchan payee settle --channel ") == [opened.names["channel"]]


def test_completing_changes_nothing(opened: Shell) -> None:
    before = opened.files()
    completed(opened, "mpchan --wallet buyer pay --channel ")
    completed(opened, "mpchan --wallet new init --chain ")
    assert opened.changes(before) == []
