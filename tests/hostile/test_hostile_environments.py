"""Environments that lack what is usual: a home, a name, an output, letters, a folder to stand in.

The numbers are those of the list in ``support.hostile.LINES``. Every command either works or says what is
wrong; none ends in a traceback, and none loses a message once what is behind it is saved.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import warm
from support.party import Pair, snapshot

from mpchan.chain.embedded import EmbeddedChain
from mpchan.cli.main import main

PROGRAM = f"{shlex.quote(sys.executable)} -m mpchan"
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ODD = b"odd\xff\xfe\xc3\xa9name"
"""A file name that is no text in UTF-8, nor in ASCII."""

LOOKING = (
    "--version", "--help", "watch --help", "list", "show", "balance", "history", "fsck", "address", "watch --once",
    "list --json", "balance --json", "watch --once --json", "wait --for confirmed", "scan", "regtest status", "nothing",
)  # fmt: skip
"""Commands that may be repeated at will, and one that is none."""


class Place:
    """A wallet with an open channel, used by processes in environments of the test's own."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.folder = folder
        folder.mkdir()
        self.channel = pair.open()
        self.env = {**os.environ, "MPCHAN_REGTEST": str(pair.chain.directory)}
        self.env.pop("MPCHAN_DEBUG", None)

    def shell(self, line: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
        """A line of a shell; it must not end in a traceback, nor as a bug of ours."""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=cwd or self.folder,
            env={**self.env, **env},
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert b"Traceback" not in done.stderr, done
        assert done.returncode in (0, *range(2, 9)), done
        return done

    def payer(self, line: str, **env: str) -> subprocess.CompletedProcess[bytes]:
        """A command on the payer's wallet; what follows it in the line belongs to the shell."""
        return self.shell(f"{PROGRAM} --wallet {shlex.quote(str(self.pair.payer.directory))} {line}", **env)  # type: ignore[arg-type]

    def usual(self, line: str) -> int:
        """The exit code of a command on the payer's wallet where nothing is missing."""
        words = ["--wallet", str(self.pair.payer.directory), *line.split()]
        return warm.run(words, self.folder, self.env, b"", 120)[0]

    def error(self, done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
        """The object on stderr."""
        found: dict[str, Any] = json.loads(done.stderr)
        assert found["exit_code"] == done.returncode
        return found


@pytest.fixture
def place(chain_directory: Path, tmp_path: Path) -> Iterator[Place]:
    with EmbeddedChain(chain_directory) as chain:
        yield Place(Pair(tmp_path, chain, coins=2), tmp_path / "place")


# nobody, nowhere ----------------------------------------------------------------------------------


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process of a user without a home and without a name, and the folder where it stands."""

    def unknown(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CONFIG_HOME", "MPCHAN_WALLET", "MPCHAN_REGTEST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    folder = tmp_path / "nobody"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("line", ["init", "list", "balance", "regtest status", "--wallet w balance"])
def test_87_no_home_and_no_name(nobody: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made in a folder that is called ``~``."""
    if line.startswith("--wallet"):
        assert main(["--wallet", "w", "init"]) == 0
    made = set(nobody.iterdir())
    capsys.readouterr()
    assert main(["--json", *line.split()]) == 2
    said = json.loads(capsys.readouterr().err)
    assert (said["error"], said["exit_code"]) == ("no-home", 2)
    assert ("MPCHAN_REGTEST" if "regtest" in line or "w " in line else "--wallet") in said["hint"]
    assert set(nobody.iterdir()) == made


def test_87_what_the_hints_name_is_enough(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MPCHAN_REGTEST", str(nobody / "chain"))
    for line in (
        "--wallet w init",
        "--wallet w balance",
        "--wallet w list",
        "--wallet w backup -o b",
        "regtest mine 1",
    ):
        assert main(line.split()) == 0
    assert sorted(path.name for path in nobody.iterdir()) == ["b", "chain", "w"]


@pytest.mark.parametrize("cookie", ["", "~/cookie"])
def test_87_a_cookie_at_home_of_nobody(nobody: Path, cookie: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--wallet", "w", "init", "--chain", "bitcoind"]) == 0
    config = nobody / "w" / "wallet.toml"
    if cookie:
        config.write_text(config.read_text().replace("[chain]", f'[chain]\nrpc_cookie = "{cookie}"'))
    capsys.readouterr()
    assert main(["--json", "--wallet", "w", "balance"]) == 2
    said = json.loads(capsys.readouterr().err)
    assert said["error"] == "no-home"
    assert "rpc_cookie" in said["hint"]


def test_87_the_working_directory_is_gone(place: Place) -> None:
    """Whole names are enough; and where a short one is used, it is said why it means nothing."""
    gone = place.folder / "gone"
    lost = f"mkdir {gone}; cd {gone}; rmdir {gone}; {PROGRAM} --json"
    wallet = shlex.quote(str(place.pair.payer.directory))
    for line in ("--version", "regtest status", f"--wallet {wallet} list", f"--wallet {wallet} address"):
        assert place.shell(f"{lost} {line}").returncode == 0, line
    for line in (
        "--wallet w init",
        f"--wallet {wallet} backup -o b",
        f"--wallet {wallet} pay 1000 -o update",
        "inspect x",
    ):
        before = snapshot(place.pair.payer.directory)
        assert place.shell(f"{lost} {line}").returncode in (2, 3, 7), line
        assert snapshot(place.pair.payer.directory) == before
    said = place.error(place.shell(f"{lost} --wallet w init"))
    assert (said["error"], said["message"]) == (
        "system",
        "the directory that this command was started in is gone",
    )


# outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_87_closed_streams(place: Place, closed: str) -> None:
    """No command fails for want of an output that it does not need; one that it needs is missed."""
    for line in LOOKING:
        open_code = place.usual(line)
        code = place.payer(f"{line} {closed}").returncode
        needs = ">&-" in closed.split() and "help" not in line
        assert code == (7 if needs and open_code == 0 else open_code), (line, closed)


def test_87_nothing_is_opened_under_the_number_of_a_closed_stream(place: Place) -> None:
    """What a library prints must not land in a file of the wallet or of the chain."""
    code = (
        "import os, mpchan.__main__ as m; m._occupy_standard_streams(); "
        "raise SystemExit(os.open('file', os.O_CREAT | os.O_RDWR) < 3)"
    )
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        assert place.shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {closed}").returncode == 0


def test_87_no_message_is_lost_once_it_is_saved(place: Place) -> None:
    """Standard output is closed, or cannot take it: the update is there for whoever asks again."""
    before = place.pair.payer_record(place.channel).state
    done = place.payer("--json pay 1000 >&-")
    assert place.error(done)["error"] == "not-emitted"
    assert done.returncode == 7
    after = place.pair.payer_record(place.channel).state
    assert after != before
    again = place.payer("--json pay --total 1000")
    assert again.returncode == 0
    assert place.pair.payer_record(place.channel).state == after
    assert json.loads(again.stdout)["paid_sat"] == 1000
    full = place.payer("--json pay --total 1000 >/dev/full")
    assert (full.returncode, place.error(full)["error"]) == (7, "not-emitted")


# letters ------------------------------------------------------------------------------------------


def test_87_a_locale_without_unicode(place: Place) -> None:
    """What has only ASCII letters needs no others; and files keep theirs."""
    for line in LOOKING:
        assert place.payer(line, **ASCII).returncode == place.usual(line), line
    wallet = shlex.quote(str(place.pair.payee.directory))
    made = place.shell(
        f"{PROGRAM} --wallet {wallet} payee offer --memo 'ein Stück' -o offer.toml",
        **{**ASCII, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"},  # type: ignore[arg-type]
    )
    assert made.returncode == 0, made.stderr
    assert "Stück" in (place.folder / "offer.toml").read_text(encoding="utf-8")
    opened = place.payer("payer open offer.toml 100000 --json", **ASCII)
    assert opened.returncode == 0, opened
    assert opened.stdout.isascii()


def test_87_file_names_that_are_no_text(place: Place) -> None:
    """Wallets, messages, backups and what is sold: every locale finds them, or says why not."""
    name = os.fsdecode(ODD)
    quoted = {
        suffix: f"\"$(printf 'odd\\377\\376\\303\\251name')\".{suffix}"
        for suffix in ("wallet", "offer", "update", "backup", "again", "film", "box")
    }
    (place.folder / f"{name}.film").write_bytes(bytes(1000))
    payee = shlex.quote(str(place.pair.payee.directory))
    payer = shlex.quote(str(place.pair.payer.directory))
    for env in ({}, ASCII, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        for line in (
            f"--wallet {quoted['wallet']} init",
            f"--wallet {quoted['wallet']} address",
            f"--wallet {payee} payee offer -o {quoted['offer']}",
            f"--wallet {payer} verify {quoted['offer']}",
            f"--wallet {payee} backup -o {quoted['backup']}",
            f"--wallet {quoted['again']} restore {quoted['backup']}",
            f"--wallet {quoted['again']} fsck",
        ):
            done = place.shell(f"{PROGRAM} --json {line}", **env)  # type: ignore[arg-type]
            assert done.returncode == 0, (line, done)
            if done.stdout:
                json.loads(done.stdout)
        sold = place.shell(
            f"{PROGRAM} --json --wallet {payee} payee sell {quoted['film']} --price-per-piece 1000 "
            f"--mailbox {quoted['box']}",
            **env,  # type: ignore[arg-type]
        )
        assert (sold.returncode, place.error(sold)["error"]) == (2, "usage")
        assert "UTF-8" in place.error(sold)["message"]
        assert not (place.folder / f"{name}.box").exists()
        done = place.payer(f"--json pay 1000 -o {quoted['update']}", **env)
        assert done.returncode == 0
        for suffix in ("wallet", "again"):
            subprocess.run(["rm", "-r", place.folder / f"{name}.{suffix}"], check=True)
        for suffix in ("offer", "backup", "update"):
            (place.folder / f"{name}.{suffix}").unlink()
