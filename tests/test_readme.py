"""The README is true: its console blocks are run, and its tables are compared with the code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
from support.slugs import slugs

from mpchan import errors
from mpchan.cli.main import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# Raised while a file of the wallet is read, and always turned into a StorageError there; or while a server's claims are
# checked, and turned into a ChainError.
INTERNAL = {
    (3, "channel-damaged"),
    (3, "channel-schema"),
    (3, "keys-damaged"),
    (3, "malformed-header"),
    (3, "malformed-merkle-path"),
    (3, "malformed-seal"),
    (3, "openings-damaged"),
}
PASSED_ON = {(7, "channel-schema")}


def plain(text: str, folder: str = "/nowhere") -> str:
    """Without what differs from run to run: ids, keys, addresses, folders."""
    text = text.replace(folder, "…")
    text = re.sub(r"/\S*/(alice|bob)\b", r"…/\1", text)
    text = re.sub(r"\bbcrt1[0-9a-z]+", "ADDRESS", text)
    return re.sub(r"\b[0-9a-f]{16,}\b", "HEX", text).rstrip()


def console_blocks() -> list[str]:
    return re.findall(r"```console\n(.*?)```", README, re.DOTALL)


def steps() -> list[tuple[str, str]]:
    """Every command with the output that the README shows for it."""
    found = []
    for block in console_blocks():
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def test_the_walk_through_prints_what_it_shows(tmp_path: Path) -> None:
    script = "".join(f"{command}\nprintf '\\n@@%s\\n' $?\n" for command, _ in steps())
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MPCHAN_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    outputs = re.split(r"\n@@(\d+)\n", done.stdout)
    for index, (command, shown) in enumerate(steps()):
        output, code = outputs[2 * index], int(outputs[2 * index + 1])
        assert plain(output, str(tmp_path)) == plain(shown), command
        assert code == (6 if "too early" in shown or "is locked until" in shown else 0), command


def _commands(group: click.Command, prefix: str) -> list[str]:
    if not isinstance(group, click.Group):
        return [prefix]
    context = click.Context(group)
    names = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        names += _commands(command, f"{prefix} {name}")
    return names


def test_every_command_stands_in_the_readme() -> None:
    for command in _commands(cli, "mpchan"):
        assert f"`{command}" in README, command


def test_no_other_command_stands_in_the_readme() -> None:
    known = _commands(cli, "mpchan")
    for shown in re.findall(r"`(mpchan [a-z]+(?: [a-z-]+)?)", README):
        assert any(
            command == shown or command.startswith(shown) or shown.startswith(command) for command in known
        ), shown


def _shell_commands() -> list[list[str]]:
    """Every command of ours in a block that is not run here."""
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
    ]
    return [
        shlex.split(re.split(r" (?:\|\||>>|<) ", line)[0])[1:] for line in lines if line.startswith("mpchan ")
    ]


def test_what_is_not_run_here_is_well_formed() -> None:
    assert len(_shell_commands()) > 5
    for words in _shell_commands():
        command: click.Command = cli
        context = click.Context(cli)
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None
            command = found
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, words


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")} | {0}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)} == codes


def test_the_slugs_are_those_of_the_code() -> None:
    shown = set()
    for code, names in re.findall(r"^- (\d): (.*)$", README, re.MULTILINE):
        shown |= {(int(code), name) for name in re.findall(r"`([^`]+)`", names)}
    assert shown == (slugs() - INTERNAL) | PASSED_ON


def test_links_and_files_exist() -> None:
    for name in re.findall(r"`((?:channel|party|bitcoin|sample-configs)/[a-z_./]*)`", README):
        assert (ROOT / name).exists() or (ROOT / "mpchan" / name).exists(), name
