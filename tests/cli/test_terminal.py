"""What a person sees in a terminal: tables of any width without a broken number, and colour only where it belongs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
from support.transcript import TIMEOUT_SECONDS, Shell

from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.cli.commands.init import in_rows
from mpchan.units import Amount, OutPoint, Txid

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
COMMANDS = {
    "show": "--wallet buyer show",
    "list": "--wallet buyer list",
    "balance": "--wallet buyer balance",
    "inspect-psbt": "inspect update.psbt",
    "inspect-tx": "inspect funding.hex",
}


def terminal(shell: Shell, arguments: str, columns: int, *, errors: bool = False, **env: str) -> str:
    """What ``mpchan`` writes to a terminal of that width; with ``errors`` that is where its stderr goes too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        ["mpchan", *arguments.split()],
        cwd=shell.folder,
        env={**shell.env, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if errors else subprocess.PIPE,
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the terminal has no writer any more
                break
            if not read:
                break
            seen += read
        os.close(ours)
        assert errors or (process.stderr is not None and process.stderr.read() == b"")
        assert process.wait(TIMEOUT_SECONDS) == 0
    return seen.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    """Without colours."""
    return COLOUR.sub("", text)


def unfolded(text: str) -> str:
    """With what was folded joined again: no white space at all."""
    return "".join(text.split())


@pytest.mark.parametrize("columns", [40, 80, 140])
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_cut(paid: Shell, name: str, columns: int) -> None:
    """Every character of the piped table is there, at most folded; no line is wider than the terminal."""
    piped = paid.ok(f"mpchan {COMMANDS[name]}").out
    seen = plain(terminal(paid, COMMANDS[name], columns))
    assert ESCAPE not in seen
    assert "\N{HORIZONTAL ELLIPSIS}" not in seen + piped
    assert max(len(line) for line in seen.splitlines()) <= columns
    if name == "list" and columns == 40:  # each value stands beside its name there
        heads, values = [re.split(r"  +", line.strip()) for line in piped.splitlines()]
        assert [re.split(r"  +", line.rstrip()) for line in seen.splitlines()] == [
            list(pair) for pair in zip(heads, values, strict=True)
        ]
        return
    assert unfolded(seen) == unfolded(piped)


@pytest.mark.parametrize(("columns", "lines"), [(80, 2), (139, 2), (140, 1), (200, 1)])
def test_the_txid_of_an_event_has_a_line_of_its_own_where_it_has_no_room(
    paid: Shell, columns: int, lines: int
) -> None:
    piped = paid.ok("mpchan --wallet buyer history").out
    assert max(len(line) for line in piped.splitlines()) == 140
    seen = terminal(paid, "--wallet buyer history", columns)
    assert seen.split() == piped.split()
    assert len(seen.splitlines()) == lines * len(piped.splitlines())
    assert max(len(line) for line in seen.splitlines()) <= columns


def test_show_and_inspect_have_every_value_whole_at_80(paid: Shell) -> None:
    """A txid, a key or an address is never folded in the middle."""
    view = paid.json("mpchan --wallet buyer show")
    seen = plain(terminal(paid, COMMANDS["show"], 80))
    for key in ("channel", "payer_pubkey", "payee_pubkey", "payer_address", "payee_address"):
        assert view[key] in seen, key
    assert f"{view['funding']['txid']}:0" in seen
    seen = plain(terminal(paid, COMMANDS["inspect-psbt"], 80))
    assert f"{view['funding']['txid']}:0" in seen
    assert view["payer_address"] in seen


def test_a_huge_message_does_not_flood_the_terminal(bare: Shell) -> None:
    source = TxIn(OutPoint(Txid(bytes(32)), 0), 0)
    huge = Transaction(2, (source,) * 101, (TxOut(Amount(7), b"\x6a"),) * 5000, 0)
    (bare.folder / "huge.hex").write_text(huge.to_hex())
    lines = bare.ok("mpchan inspect huge.hex").out.splitlines()
    assert len(lines) < 400
    words = [" ".join(line.split()) for line in lines]
    assert "and 1 more input, which --json shows" in words
    assert "and 4,900 more outputs, which --json shows" in words
    assert len(bare.json("mpchan inspect huge.hex")["outputs"]) == 5000


def test_no_seed_word_is_broken_at_the_edge(bare: Shell) -> None:
    """They stay one line, so that a copy of it is whole: the terminal breaks it, between two words."""
    words = "picnic abandon zoo " * 8
    for columns in range(9, 160):
        line = in_rows(words, columns)
        rows = [line[start : start + columns] for start in range(0, len(line), columns)]
        assert [word for row in rows for word in row.split()] == line.split() == words.split(), columns
    seen = terminal(bare, "--wallet buyer init --show-words", 9, errors=True)
    line = seen.splitlines()[1]
    assert len(line.split()) == 12
    assert line == in_rows(" ".join(line.split()), 9)
    again = bare.json("mpchan --wallet again init --restore", stdin=line.encode())
    assert again["scan"]["found"] == 0


def test_large_numbers_are_not_cut(wallets: Shell) -> None:
    """The widest channel that there can be on this chain, in 80 columns."""
    wallets.ok("mpchan regtest faucet $(mpchan --wallet buyer address) 400btc")
    wallets.ok("mpchan regtest mine 1")
    wallets.ok(
        "mpchan --wallet seller payee offer --max-capacity 500btc --lock-time-unit seconds -q -o offer.toml"
    )
    wallets.ok("mpchan --wallet buyer open offer.toml 399btc -o request.psbt")
    wallets.ok("mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt")
    wallets.ok("mpchan --wallet buyer payer fund signed.psbt")
    wallets.ok("mpchan regtest mine 1")
    wallets.ok("mpchan --wallet buyer pay 199btc -o update.psbt")
    for command in (
        "--wallet buyer list",
        "--wallet buyer show",
        "--wallet buyer balance",
        "inspect update.psbt",
    ):
        seen = plain(terminal(wallets, command, 80))
        assert "\N{HORIZONTAL ELLIPSIS}" not in seen
        assert "20,000,000,000" in seen, command
        assert len(max(seen.splitlines(), key=len)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_colour_in_a_terminal_alone(paid: Shell, name: str) -> None:
    if name in ("show", "list"):
        assert ESCAPE in terminal(paid, COMMANDS[name], 80)
    for off in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        seen = terminal(paid, COMMANDS[name], 80, **off)  # type: ignore[arg-type]
        assert ESCAPE not in seen, off
        assert unfolded(seen) == unfolded(paid.ok(f"mpchan {COMMANDS[name]}").out)
    if name != "show":
        return
    for forced in ({}, {"FORCE_COLOR": "1"}, {"TERM": "xterm-256color", "COLORTERM": "truecolor"}):
        assert ESCAPE not in paid.ok(f"mpchan {COMMANDS[name]}", **forced).out, forced


def test_machine_output_is_the_same_in_a_terminal(paid: Shell) -> None:
    """No colour, no folding: JSON and messages do not go through rich."""
    seen = terminal(paid, "--wallet buyer show --json", 40)
    assert json.loads(seen) == paid.json("mpchan --wallet buyer show")
    assert seen.count("\n") == 1
    seen = terminal(paid, "--wallet buyer pay --last -q", 40)
    assert seen == paid.ok("mpchan --wallet buyer pay --last -q").out
    assert terminal(paid, "--wallet buyer show -q", 80).count("\n") > 10


def test_what_is_piped_is_not_folded(paid: Shell) -> None:
    """However narrow the environment says that it is."""
    wide = paid.ok("mpchan --wallet buyer show").out
    assert paid.ok("mpchan --wallet buyer show", COLUMNS="20").out == wide


# the guide ----------------------------------------------------------------------------------------


def pager(shell: Shell, name: str) -> str:
    """A program of this name that keeps in ``seen`` what it is to show."""
    path = shell.folder / name
    path.write_text('#!/bin/sh\ntee seen\necho "the end"\n')
    path.chmod(0o755)
    return str(path)


def test_a_page_of_the_guide_is_shown_by_the_pager(bare: Shell) -> None:
    shown = terminal(bare, "guide files", 80, PAGER=pager(bare, "pager"))
    assert shown.rstrip().endswith("the end")
    seen = bare.text("seen")
    assert "Files and backup" in seen
    assert not [line for line in seen.splitlines() if len(line) > 80]
    assert ESCAPE not in seen, "nobody knows that this program shows colours"


def test_colours_of_the_guide(bare: Shell) -> None:
    """less is told to show them; with NO_COLOR there are none."""
    terminal(bare, "guide files", 80, PAGER=pager(bare, "less"))
    coloured = bare.text("seen")
    terminal(bare, "guide files", 80, PAGER=pager(bare, "less"), NO_COLOR="1")
    without = bare.text("seen")
    assert ESCAPE in coloured
    assert ESCAPE not in without
    assert plain(coloured).split() == without.split()


def test_a_pager_that_cannot_be_called(bare: Shell) -> None:
    """One quotation mark too few is no reason to show nothing."""
    assert "Files and backup" in plain(terminal(bare, "guide files", 80, PAGER='"less'))
