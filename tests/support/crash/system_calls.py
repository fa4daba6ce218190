"""Real commands in processes of their own, at whose system calls ``strace`` lets the system fail, or kills them.

What the project's own switchboard does not see is seen here: whatever Python, SQLite or the loader ask the system for.
Only calls about the story's own files and its standard output are touched, and not those of the embedded chain, which
is SQLite's and the engine's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.crash.campaign import Done, filled
from support.transcript import program

STRACE = shutil.which("strace")

TRACES = (
    STRACE is not None
    and not subprocess.run([STRACE, "-o", os.devnull, "true"], capture_output=True).returncode
)
"""Whether it is here, and may look at processes."""

TRACED = (
    *("openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "close", "rename", "link", "linkat"),
    *("unlink", "mkdir", "flock"),
)

ERRORS = {
    "openat": ("EROFS", "EIO"),
    "write": ("ENOSPC", "EINTR"),
    "pwrite64": ("ENOSPC",),
    "fsync": ("EIO",),
    "fdatasync": ("EIO",),
    "ftruncate": ("EIO",),
    "close": ("EIO", "EDQUOT"),
    "rename": ("EROFS",),
    "link": ("ENOSPC",),
    "linkat": ("ENOSPC",),
    "unlink": ("EROFS",),
    "mkdir": ("ENOSPC",),
    "flock": ("ENOLCK", "EINTR"),
}
"""What the system may say to each call."""

UNKNOWN_TO_FOLDERS = "EINVAL"
"""What a file system says to the sync of a folder where it has nothing to sync: that is no failure."""

KILL = "KILL"


@dataclass(frozen=True)
class Call:
    """One call of a process to the system.

    Attributes:
        name: of the call.
        number: among the calls of this name; the first is 1.
        about: the file, relative to the story's folder; ``standard output``.
        text: as strace tells it.
    """

    name: str
    number: int
    about: str
    text: str

    @property
    def writes(self) -> bool:
        """Whether an opened file is to be changed."""
        return re.search(r"O_(WRONLY|RDWR|CREAT)", self.text) is not None

    @property
    def is_about_a_folder(self) -> bool:
        """By its name: the files of a story all have other ones."""
        folders = r"(\.|payer|payee|channels|offers|plans|sent|purchases)"
        return re.fullmatch(rf"(.*/)?{folders}", self.about) is not None


@dataclass(frozen=True)
class Injection:
    """What happens at one call: the name of an error, or ``KILL`` before it."""

    call: Call
    how: str

    @property
    def hides(self) -> bool:
        """Whether what is held, or the answer, cannot be seen then."""
        reading = self.call.name == "openat" and not self.call.writes
        return reading or self.call.about == "standard output"

    @property
    def option(self) -> str:
        """As strace takes it."""
        what = f"signal={KILL}" if self.how == KILL else f"error={self.how}"
        return f"inject={self.call.name}:{what}:when={self.call.number}"


def run(folder: Path, line: str, stdin: str | None = None, injection: Injection | None = None) -> Done:
    """Run one command line in a folder, under strace; its steps are the calls, as strace tells them."""
    assert STRACE is not None
    around = folder.with_name(folder.name + ".around")
    around.mkdir(exist_ok=True)
    trace, out, err = around / "trace", around / "out", around / "err"
    given = around / "in"
    given.write_text("" if stdin is None else filled(folder, stdin))
    extra = [] if injection is None else ["-e", injection.option]
    with given.open() as reading, out.open("w") as writing, err.open("w") as complaining:
        done = subprocess.run(
            [
                *(STRACE, "-f", "-y", "-s", "0", "-o", str(trace), "-e", "trace=" + ",".join(TRACED), *extra),
                *(str(program()), "--json", *filled(folder, line).split()),
            ],
            cwd=folder,
            stdin=reading,
            stdout=writing,
            stderr=complaining,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder / "home"),
                "MPCHAN_REGTEST": str(folder / "chain"),
                "MPCHAN_PASSPHRASE_FILE": str(folder / "secret"),
                "MPCHAN_NEW_PASSPHRASE_FILE": str(folder / "secret"),
                "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUTF8": "1",
            },
            timeout=120,
            check=False,
        )
    told = out.read_text()
    if told:
        with (folder / "emitted").open("a") as file:
            file.write(told)
    return Done(done.returncode, told, err.read_text(), tuple(trace.read_text(errors="replace").splitlines()))


def calls(folder: Path, done: Done) -> list[Call]:
    """The calls of a command's first process that are about its story's files."""
    counts: dict[str, int] = {}
    found = []
    first = done.steps[0].split()[0] if done.steps else ""
    for step in done.steps:
        match = re.match(r"(\d+)\s+(\w+)\((.*)", step)
        if match is None or match[1] != first or match[2] not in TRACED:
            continue
        name, rest = match[2], match[3]
        counts[name] = counts.get(name, 0) + 1
        about = _about(folder, rest)
        if about is not None:
            found.append(Call(name, counts[name], about, rest))
    return found


def _about(folder: Path, rest: str) -> str | None:
    """The file that a call is about, where it is one of the story's; None where it is not."""
    if rest.startswith("1<"):
        return "standard output"
    named = re.findall(r'"([^"]+)"', rest) or re.findall(r"^\d+<([^>]*)>", rest)
    if not named:
        return None
    inside = os.path.relpath(os.path.join(folder, named[-1]), folder)
    return None if inside.split(os.sep)[0] in ("..", "chain", "home", "secret") else inside
