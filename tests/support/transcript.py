"""Shell transcripts: the installed ``mpchan`` is run by a shell in a folder of its own, and all that can be seen of
it is compared.

A transcript is a text:

    # a comment
    $ mpchan --wallet seller payee offer
    > -o offer.toml
    2> offer <offer>, paid to <address:seller>
    2> next: the payer runs `mpchan payer open OFFER AMOUNT` on this text
    + offer.toml

``$`` begins a command line, lines without a mark are its stdout, ``2>`` its stderr, ``?`` its exit code where it is
not 0; ``>`` goes on with the line before. ``+``, ``~`` and ``-`` name the files that appear, change and vanish; wallets
may change when a command succeeds, and nothing else may. Names in angle brackets stand for what differs from run to
run: the same name is the same text all through a ``Shell``, also inside a command; ``<hex>`` and ``<n>`` alone stand
for anything of their kind.

Whatever the transcript says, each ``mpchan`` command has to keep the rules of the command line: see ``_rules``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import warm
from support.documented import require_documented

TIMEOUT_SECONDS = 120
WALLETS = ("buyer", "seller")
CHAIN = "chain"

_KINDS = {
    "channel": "[0-9a-f]{16}",
    "offer": "[0-9a-f]{32}",
    "generation": "[0-9a-f]{16}",
    "token": "[0-9a-f]{64}",
    "txid": "[0-9a-f]{64}",
    "block": "[0-9a-f]{64}",
    "key": "0[23][0-9a-f]{64}",
    "address": "bcrt1[a-z0-9]+",
    "hex": "(?:[0-9a-f]{2})+",
    "n": "[0-9]+",
}
_NAME = re.compile(f"<((?:{'|'.join(_KINDS)})(?::[a-z0-9-]+)?)>")
_ERROR_KEYS = ["error", "message", "hint", "exit_code"]
_FOR_A_SHELL = re.compile(r"[^\w\s./:,@%+='\"-]")
"""What a shell makes of a command line is not always its words."""
_HOUSE_STYLE = re.compile(r"[^A-Z\s].*[^.\s]", re.DOTALL)
"""Of an error's message: lower case, no period."""

Files = dict[str, bytes]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    command: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on its one line of stdout."""
        assert self.out.endswith("\n"), self
        assert self.out.count("\n") == 1, self
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The JSON object on stderr."""
        assert self.err.count("\n") == 1, self
        report: dict[str, Any] = json.loads(self.err)
        assert list(report) == _ERROR_KEYS, self
        return report


class Shell:
    """A folder with the wallets ``buyer`` and ``seller``, and the commands that run in it.

    Args:
        folder: becomes the current directory of every command; its ``chain`` is the embedded chain.
        copy_of: another shell whose folder and names this one begins with.

    Attributes:
        forks: whether a command that needs no shell is forked from a process that has everything loaded, or started.
    """

    def __init__(self, folder: Path, copy_of: Shell | None = None) -> None:
        self.folder = folder
        self.forks = True
        self.names: dict[str, str] = {}
        if copy_of is not None:
            copy_folder(copy_of.folder, folder)
            self.names.update(copy_of.names)
        folder.mkdir(exist_ok=True)
        self.env = {
            "PATH": f"{program().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
            "MPCHAN_REGTEST": str(folder / CHAIN),
            "PYTHONWARNINGS": "error",
        }

    def without(self, *packages: str) -> None:
        """From here on these packages cannot be imported by what runs here."""
        folder = self.folder.with_name("without")
        folder.mkdir()
        for package in packages:
            (folder / f"{package}.py").write_text(f"raise ImportError('no {package} here')\n")
        self.env["PYTHONPATH"] = str(folder)

    # running --------------------------------------------------------------------------------------

    def run(self, command: str | Sequence[str | Path], *, stdin: bytes = b"", **env: str | None) -> Done:
        """Run a shell's command line, or the words of one command, and hold it to the rules.

        Args:
            env: further variables; None removes one.
        """
        before = self.files()
        done = self._start(command, stdin, env)
        words = done.command.split()
        if words and words[0] == "mpchan" and not {"|", "&&", ";", "||"} & set(words):
            self._rules(done, before)
        return done

    def _start(self, command: str | Sequence[str | Path], stdin: bytes, env: dict[str, str | None]) -> Done:
        variables = {name: value for name, value in {**self.env, **env}.items() if value is not None}
        if isinstance(command, str):
            shown = self.filled(command)
            arguments = ["/bin/sh", "-c", shown]
            words = [] if _FOR_A_SHELL.search(shown) else shlex.split(shown)
        else:
            arguments = words = [str(word) for word in command]
            shown = " ".join(arguments)
        if self.forks and words[:1] == ["mpchan"] and _is_ours(variables) and warm.can_run(variables):
            code, out, err = warm.run(words[1:], self.folder, variables, stdin, TIMEOUT_SECONDS)
            return Done(shown, code, out.decode(), err.decode())
        process = subprocess.run(
            arguments,
            cwd=self.folder,
            input=stdin,
            env=variables,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            start_new_session=True,  # no question goes to the terminal that the tests were started from
        )
        return Done(shown, process.returncode, process.stdout.decode(), process.stderr.decode())

    def ok(self, command: str | Sequence[str | Path], **options: Any) -> Done:
        """Run what must succeed."""
        done = self.run(command, **options)
        assert done.code == 0, done
        return done

    def json(self, command: str, **options: Any) -> Any:
        """Run ``command --json``, which must succeed, and return what it says."""
        done = self.ok(f"{command} --json", **options)
        assert done.err == "", done
        return done.json

    def fails(self, command: str, code: int, slug: str, **options: Any) -> dict[str, Any]:
        """Run ``command --json``, which must fail so and change nothing; returns the error."""
        done = self.run(f"{command} --json", **options)
        assert (done.code, done.error["error"]) == (code, slug), done
        return done.error

    def _rules(self, done: Done, before: Files) -> None:
        """What holds for every command: no traceback, a documented exit code; and of a failure: nothing on stdout,
        no file made or changed, one error on stderr in the house style."""
        assert "Traceback" not in done.err, done
        assert "Exception ignored" not in done.err, done
        assert 0 <= done.code <= 8, done
        assert done.code != 1, done
        words = done.command.replace("--memo --json", "").split()
        if "--json" in words and done.code != 2:  # else it may be no command, and no option
            require_documented(done.command.split()[1:], done.out)
        if done.code == 0:
            return
        if done.out and "verify" in done.command.split():  # a refusal is this command's answer
            assert self.changes(before) == [], done
            return
        if (
            "--stream" in done.command.split()
        ):  # what was answered before stands, and each refusal on its line
            return
        if done.out and "watch" in done.command.split():  # an alarm is its answer, and what is due was sent
            return
        if done.out and "--fail" in done.command.split():  # the server's answer, which is told all the same
            return
        if done.out and "fsck" in done.command.split():  # so is what is wrong with the files
            assert "--repair" in done.command.split() or self.changes(before) == [], done
            return
        assert done.out == "", done
        changes = self.changes(before)
        if done.code in (7, 8):  # the state may be saved, and only its message or its transaction be held up
            changes = [mark for mark in changes if not _in_wallet(mark)]
        assert changes == [], done
        if "--json" in done.command.split():
            message = done.error["message"]
            assert done.error["exit_code"] == done.code, done
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", done.error["error"]), done
        else:
            assert "mpchan: error: " in done.err, done
            message = done.err.partition("mpchan: error: ")[2].partition("\n")[0]
        assert _HOUSE_STYLE.fullmatch(message), done

    # files ----------------------------------------------------------------------------------------

    def files(self) -> Files:
        """Every file in the folder but the chain's, by its name from there."""
        found = {}
        for directory, folders, names in os.walk(self.folder):
            if Path(directory) == self.folder and CHAIN in folders:
                folders.remove(CHAIN)
            for name in names:
                path = Path(directory, name)
                with suppress(FileNotFoundError):  # another program has taken it away meanwhile
                    kind = path.lstat().st_mode
                    content = path.read_bytes() if stat.S_ISREG(kind) else b"no regular file"
                    found[str(path.relative_to(self.folder))] = content
        return found

    def changes(self, before: Files) -> list[str]:
        """What happened to files since then, in the transcript's way."""
        after = self.files()
        marks = [f"+ {name}" for name in after if name not in before]
        marks += [f"- {name}" for name in before if name not in after]
        marks += [f"~ {name}" for name in after if name in before and after[name] != before[name]]
        return sorted(marks)

    def text(self, name: str) -> str:
        """A file's text."""
        return (self.folder / name).read_text()

    # transcripts ----------------------------------------------------------------------------------

    def filled(self, text: str) -> str:
        """``text`` with the names that are known already."""
        return _NAME.sub(lambda match: self.names.get(match[1], match[0]), text).replace(
            "<folder>", str(self.folder)
        )

    def play(self, transcript: str) -> None:
        """Run a transcript and compare."""
        for command, expected in _blocks(transcript):
            before = self.files()
            done = self.run(command)
            found = [*done.out.splitlines(), *(f"2> {line}" for line in done.err.splitlines())]
            if done.code:
                found.append(f"? {done.code}")
            found += [mark for mark in self.changes(before) if not self._own(mark, done)]
            self._compare(command, expected, found)

    def _own(self, mark: str, done: Done) -> bool:
        """Whether this is a wallet's change by a command that may make one."""
        return done.code in (0, 7, 8) and _in_wallet(mark)

    def _compare(self, command: str, expected: list[str], found: list[str]) -> None:
        fits = len(expected) == len(found)
        for wanted, line in zip(expected, found, strict=False):
            fits = self._fits(wanted, line) and fits
        if not fits:
            shown = difflib.unified_diff(
                [self.filled(line) for line in expected], found, "transcript", "run", lineterm="", n=99
            )
            raise AssertionError("\n".join([f"$ {self.filled(command)}", *shown]))

    def _fits(self, wanted: str, line: str) -> bool:
        """Whether the line is the wanted one; binds the names in it that are new."""
        pattern = ""
        groups: dict[str, str] = {}
        for index, part in enumerate(_NAME.split(self.filled(wanted))):
            if index % 2 == 0:
                pattern += re.escape(part)
                continue
            group = groups.get(part)
            if group is None:
                groups[part] = group = f"g{index}"
                pattern += f"(?P<{group}>{_KINDS[part.partition(':')[0]]})"
            else:
                pattern += f"(?P={group})"
        match = re.fullmatch(pattern, line)
        if match is not None:
            bound = {name: match[group] for name, group in groups.items() if name not in ("hex", "n")}
            self.names.update(bound)
        return match is not None


def _is_ours(env: Mapping[str, str]) -> bool:
    """Whether the ``mpchan`` that a shell would find is the one of this Python."""
    return shutil.which("mpchan", path=env.get("PATH", "")) == str(program())


def _in_wallet(mark: str) -> bool:
    return mark[2:].partition("/")[0] in WALLETS


def _blocks(transcript: str) -> list[tuple[str, list[str]]]:
    """Each command with the lines that are expected of it."""
    blocks: list[tuple[str, list[str]]] = []
    for line in textwrap.dedent(transcript).replace("\n> ", " ").splitlines():
        if line.startswith("$ "):
            blocks.append((line[2:], []))
        elif line.strip() and not line.startswith("# "):
            blocks[-1][1].append(line)
    return blocks


def program() -> Path:
    """The installed ``mpchan``: beside this Python, else on the path."""
    beside = Path(sys.executable).with_name("mpchan")
    found = beside if beside.exists() else shutil.which("mpchan")
    assert found is not None, "mpchan is not installed: pip install -e ."
    return Path(found)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder; the zeros at the end of the engine's files become a hole and take no room."""
    for directory, _, names in os.walk(source):
        folder = target / Path(directory).relative_to(source)
        folder.mkdir(parents=True)
        shutil.copystat(directory, folder)
        for name in names:
            path = Path(directory, name)
            data = path.read_bytes()
            with open(folder / name, "wb") as file:
                file.write(data.rstrip(b"\0"))
                file.truncate(len(data))
            shutil.copystat(path, folder / name)
