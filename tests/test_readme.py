"""The walk-throughs of the README and of the guide are run, and print what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mpchan

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = Path(mpchan.__file__).parent / "guide"
WALK_THROUGHS = [path for path in (README, *sorted(GUIDE.glob("*.md"))) if "```console\n" in path.read_text()]


def plain(text: str, folder: str = "/nowhere") -> str:
    """Without what differs from run to run: ids, keys, addresses, folders."""
    text = text.replace(folder, "…")
    text = re.sub(r"/\S*/(alice|bob)\b", r"…/\1", text)
    text = re.sub(r"\bbcrt1[0-9a-z]+", "ADDRESS", text)
    return re.sub(r"\b[0-9a-f]{16,}\b", "HEX", text).rstrip()


def steps(page: Path) -> list[tuple[str, str]]:
    """Every command of a page with the output that it shows."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def outputs(commands: list[str], folder: Path) -> list[tuple[str, int]]:
    """What a shell prints for each command, and its exit code."""
    script = "".join(f"{command}\nprintf '\\n@@%s\\n' $?\n" for command in commands)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MPCHAN_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    parts = re.split(r"\n@@(\d+)\n", done.stdout)
    return list(zip(parts[::2], map(int, parts[1::2]), strict=False))


@pytest.mark.parametrize("page", WALK_THROUGHS, ids=lambda path: path.stem)
def test_a_walk_through_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    written = steps(page)
    found = outputs([command for command, _ in written], tmp_path)
    assert len(found) == len(written)
    for (command, shown), (output, code) in zip(written, found, strict=True):
        assert plain(output, str(tmp_path)) == plain(shown), command
        assert code == (6 if "is locked until" in shown else 0), command


def test_there_are_walk_throughs() -> None:
    assert [path.name for path in WALK_THROUGHS] == ["README.md", "by-hand.md"]


def test_the_readme_is_short() -> None:
    """What is longer belongs into the guide."""
    assert len(README.read_bytes()) < 16_000
