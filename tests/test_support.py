"""The tests' own house: a command that is forked is a command that is started, and each helper has its word."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import support
from support import warm
from support.transcript import Done, Shell

ROOT = Path(__file__).parent
COMMANDS = [
    "mpchan --version",
    "mpchan --wallet new init --chain none",
    "mpchan --wallet new init --chain none --json",
    "mpchan --wallet nowhere balance",
    "mpchan --wallet nowhere balance --json",
    "mpchan pay --help",
    "mpchan nonsense",
    "mpchan verify 'a file'",
    "mpchan verify -",
]


def both(folder: Path, command: str, stdin: bytes) -> list[Done]:
    """The same command, each time in a new folder: forked and started."""
    found = []
    for forks in (True, False):
        place = folder / str(forks) / "folder"
        place.parent.mkdir()
        shell = Shell(place)
        shell.forks = forks
        done = shell.run(command, stdin=stdin)
        files = sorted(re.sub(r"[0-9a-f]{8,}", "X", name) for name in shell.files())
        out, err = (re.sub(rf"{place}|[0-9a-f]{{8,}}", "X", text) for text in (done.out, done.err))
        found.append(Done(f"{done.command} leaves {files}", done.code, out, err))
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_forked_command_does_as_a_started_one(tmp_path: Path, command: str) -> None:
    forked, started = both(tmp_path, command, stdin=b"no message")
    assert forked == started
    assert forked.out + forked.err


def test_what_goes_in_and_comes_out_may_be_longer_than_a_pipe(tmp_path: Path) -> None:
    forked, started = both(tmp_path, "mpchan verify -", stdin=b"70736274ff" * 100_000)
    assert forked == started
    assert forked.code == 3


def test_a_forked_command_is_a_process_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of it comes back: no variable, no folder, no module's state; and its end is its own."""
    env = {
        **warm.AT_START,
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "MPCHAN_WALLET": str(tmp_path / "one"),
    }
    for name in ("one", "two"):
        env["MPCHAN_WALLET"] = str(tmp_path / name)
        code, out, err = warm.run(["init", "--chain", "none", "--json"], tmp_path, env, b"", 60)
        assert (code, err) == (0, b""), out
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert capfd.readouterr() == ("", "")


def test_a_forked_command_that_does_not_end_is_killed(tmp_path: Path) -> None:
    env = {**warm.AT_START, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    words = ["--wallet", str(tmp_path / "new"), "init", "--chain", "none"]
    assert warm.run(words, tmp_path, env, b"", 60)[0] == 0
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run(["--wallet", str(tmp_path / "new"), "verify", "fifo"], tmp_path, env, b"", 0.5)
    assert warm.run(["--version"], tmp_path, env, b"", 60)[0] == 0


def test_what_python_reads_at_its_start_is_not_forked() -> None:
    assert warm.can_run({**warm.AT_START, "HOME": "/"})
    assert not warm.can_run({"HOME": "/"})
    for name in ("PYTHONPATH", "LC_CTYPE", "LANG", "LD_PRELOAD", "TZ", "SSL_CERT_FILE"):
        assert not warm.can_run({**warm.AT_START, name: "x"})


def test_each_helper_has_a_word() -> None:
    """In the package's docstring, and there is none that is gone."""
    told = set(re.findall(r"^    (\w+) +[\w`]", support.__doc__ or "", re.MULTILINE))
    package = ROOT / "support"
    there = {
        path.stem for path in package.rglob("*.py") if path.stem != "__init__" and path.parent.name != "fuzz"
    }
    assert there - told == set(), "say in support/__init__.py what these are for"
    assert told - there == {"fuzz"}
