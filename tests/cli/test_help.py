"""Every command and option of the contract is there, explained, with an example, within 80 columns."""

from __future__ import annotations

import click
import pytest
from support.transcript import Shell

from mpchan.cli.main import cli

COMMON = {"--wallet", "--json", "--quiet", "--help"}
CHAIN = {"--tip", "--confirmations"}
OUTPUT = {"--output"}
CHANNEL = {"--channel"}
TERMS = {
    "--fee-rate",
    "--lock-time-unit",
    "--min-refund-delay",
    "--max-refund-delay",
    "--settle-window",
    "--scheme",
    "--step",
    "--min-confirmations",
    "--memo",
    "--force",
}

OPTIONS: dict[str, set[str]] = {
    "init": {
        "--network",
        "--chain",
        "--rpc-url",
        "--rpc-cookie",
        "--electrum",
        "--proxy",
        "--restore",
        "--encrypt",
        "--show-words",
    },
    "passphrase set": set(),
    "passphrase change": set(),
    "passphrase remove": set(),
    "address": set(),
    "balance": CHAIN,
    "send": CHAIN | OUTPUT | {"--all", "--fee-rate", "--no-broadcast", "--resend", "--forget", "--yes"},
    "scan": CHAIN | {"--gap-limit"},
    "backup": OUTPUT,
    "restore": set(),
    "list": CHAIN,
    "show": CHAIN | CHANNEL | {"--descriptor"},
    "inspect": {"--network"},
    "verify": CHAIN | CHANNEL,
    "history": CHANNEL,
    "fsck": CHANNEL | {"--repair"},
    "wait": CHAIN | CHANNEL | {"--for", "--timeout"},
    "watch": {"--once", "--interval"},
    "plan": {
        "--price",
        "--price-per-piece",
        "--pieces",
        "--piece-size",
        "--free-pieces",
        "--fee-rate",
        "--lock-time-unit",
        "--refund-delay",
        "--settle-window",
        "--scheme",
        "--step",
        "--min-confirmations",
        "--tip",
    },
    "payee offer": OUTPUT
    | {
        "--like",
        "--for",
        "--min-capacity",
        "--max-capacity",
        "--min-increment",
        "--address",
        "--tip",
        "--expires-in",
    }
    | TERMS,
    "payee sign-refund": CHAIN | OUTPUT,
    "payee funding": CHAIN | {"--broadcast"},
    "payee accept": CHAIN | {"--stream", "--skip-superseded", "--on-error"},
    "payee settle": CHAIN | OUTPUT | CHANNEL,
    "payee abandon": CHAIN | CHANNEL,
    "payee sell": OUTPUT
    | TERMS
    | {
        "--price-per-piece",
        "--pieces",
        "--piece-size",
        "--free-pieces",
        "--mailbox",
        "--listen",
        "--buyers",
        "--interval",
        "--address",
    },
    "payee serve": {
        *("--upstream", "--price", "--prices", "--listen", "--url", "--realm", "--scheme", "--deposit"),
        *("--certificate", "--key", "--proxy", "--plain", "--interval"),
    },
    "payer fetch": OUTPUT
    | {"--request", "--header", "--data", "--deposit", "--max-price", "--budget", "--prepay", "--pin"}
    | {"--fail", "--open-only", "--close"},
    "payer spending": {"--since", "--until", "--origin", "--csv"},
    "payer buy": OUTPUT
    | {"--pieces", "--mailbox", "--connect", "--patience", "--refund-out", "--cancel", "--yes"},
    "payee export-latest": OUTPUT | CHANNEL,
    "payer sync": CHANNEL | {"--nothing-newer"},
    "payer open": CHAIN
    | OUTPUT
    | {"--refund-delay", "--funding-fee-rate", "--address", "--external", "--funding", "--again"}
    | {"--no-broadcast", "--refund-out", "--yes"},
    "payer fund": CHAIN | OUTPUT | {"--funding", "--no-broadcast", "--refund-out", "--yes"},
    "payer pay": CHAIN | OUTPUT | CHANNEL | {"--total", "--last", "--stream", "--totals", "--on-error"},
    "payer settle": CHAIN | OUTPUT | CHANNEL | {"--total"},
    "payer refund": CHAIN | OUTPUT | CHANNEL | {"--address"},
    "payer recover": CHAIN,
    "payer abandon": CHAIN | CHANNEL,
    "settle": CHAIN | OUTPUT | CHANNEL | {"--total"},
    "bump": CHAIN | OUTPUT | CHANNEL | {"--fee-rate", "--no-broadcast"},
    "regtest mine": set(),
    "regtest faucet": set(),
    "regtest status": set(),
    "engine install": {"--yes"},
    "guide": set(),
}
SHORT_FORMS = {"open": "payer open", "pay": "payer pay", "refund": "payer refund"}
GROUPS = {"passphrase", "payee", "payer", "regtest", "engine"}
ANSWERS = {"engine"}
"""Groups that are a question by themselves."""
ELSEWHERE = {"demo"}
"""Commands with tests of their own."""

COLUMNS = 80


def command_of(name: str) -> click.Command:
    """A command by its words."""
    command: click.Command = cli
    for word in name.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None, name
        command = found
    return command


def names(group: click.Group) -> set[str]:
    """The names of a group's commands."""
    return set(group.list_commands(click.Context(group)))


def test_the_commands_are_those_of_the_contract() -> None:
    found = names(cli)
    for group in GROUPS:
        inner = command_of(group)
        assert isinstance(inner, click.Group)
        found |= {f"{group} {name}" for name in names(inner)}
    assert found == set(OPTIONS) | set(SHORT_FORMS) | GROUPS | ELSEWHERE


@pytest.mark.parametrize("name", [*OPTIONS, *SHORT_FORMS])
def test_the_options_are_those_of_the_contract(name: str) -> None:
    wanted = OPTIONS[SHORT_FORMS.get(name, name)] | COMMON
    command = command_of(name)
    with click.Context(command, help_option_names=["-h", "--help"]) as context:
        options = [item for item in command.get_params(context) if isinstance(item, click.Option)]
    assert {max(option.opts, key=len) for option in options} == wanted
    for option in options:
        assert option.help, option.opts


def test_the_short_forms_are_the_same_commands() -> None:
    for short, long in SHORT_FORMS.items():
        assert command_of(short) is command_of(long)


@pytest.mark.parametrize("name", [*OPTIONS, *SHORT_FORMS])
def test_every_command_has_an_example(name: str) -> None:
    """And the example is a command that exists, in its own long or short form."""
    command = command_of(name)
    assert command.epilog is not None
    lines = [line.strip() for line in command.epilog.splitlines()]
    assert lines[:2] == ["\b", "Example:"]
    forms = {
        name,
        *(short for short, long in SHORT_FORMS.items() if name == long),
        SHORT_FORMS.get(name, name),
    }
    last = {form.split()[-1] for form in forms}
    for line in lines[2:]:
        words = line.split()
        assert words[0] == "mpchan"
        assert last & set(words) or words[1:3] == ["regtest", "mine"], line


@pytest.mark.parametrize("name", ["", *sorted(GROUPS), *OPTIONS, *SHORT_FORMS])
def test_help_fits_80_columns(bare: Shell, name: str) -> None:
    """No line is too long, none is cut, and every option's text stands beside it or below."""
    done = bare.ok(f"mpchan {name} --help", COLUMNS=str(COLUMNS))
    assert done.err == ""
    assert done.out.startswith("Usage: mpchan " + name)
    for line in done.out.splitlines():
        assert len(line) <= COLUMNS, line
        assert "..." not in line.replace("COMMAND [ARGS]...", ""), line
        assert line == line.rstrip(), line
    if name and name not in GROUPS:
        assert "\n  Example:\n    mpchan " in done.out


def test_help_has_a_short_option(bare: Shell) -> None:
    for name in ("", "payee", "payee offer"):
        assert bare.ok(f"mpchan {name} -h").out == bare.ok(f"mpchan {name} --help").out


def test_help_of_a_group_lists_its_commands(bare: Shell) -> None:
    for group in ("", *sorted(GROUPS)):
        text = bare.ok(f"mpchan {group} --help", COLUMNS=str(COLUMNS)).out
        listed = [
            line.split()[0] for line in text.partition("\nCommands:\n")[2].partition("\n\n")[0].splitlines()
        ]
        inner = command_of(group)
        assert isinstance(inner, click.Group)
        assert listed == inner.list_commands(click.Context(inner))


def test_nothing_at_all_shows_the_help(bare: Shell) -> None:
    """On stderr, with the exit code of wrong usage."""
    for group in ("", *sorted(GROUPS - ANSWERS)):
        done = bare.run(f"mpchan {group}".rstrip(), COLUMNS=str(COLUMNS))
        text = bare.ok(f"mpchan {group} --help", COLUMNS=str(COLUMNS)).out
        words = f"mpchan {group}".rstrip()
        assert (done.code, done.out) == (2, "")
        assert done.err == f"{text}\nmpchan: error: missing command\nmpchan: hint: see `{words} --help`\n"


def test_a_usage_error_names_the_help_to_read(bare: Shell) -> None:
    done = bare.run("mpchan payee offer --nonsense")
    assert done.err.startswith("mpchan: error: no such option")
    assert done.err.endswith("\nmpchan: hint: see `mpchan payee offer --help`\n")
