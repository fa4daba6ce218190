"""The benchmarks' report can be made and drawn: a short run of what needs neither a node nor patience."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpchan.bitcoin import signers
from mpchan.channel.construction.registry import CONSTRUCTIONS

FOLDER = Path(__file__).with_name("benchmarks")


@pytest.mark.skipif(
    importlib.util.find_spec("pbk") is None, reason="the engine is not installed (mpchan engine install)"
)
def test_a_short_report(tmp_path: Path) -> None:
    """Every payment comes out of the pipe; how fast is not asked here."""
    words = ["--folder", tmp_path, "--payments", "600", "--channels", "20", "--json", tmp_path / "speed.json"]
    script = [sys.executable, FOLDER / "speed.py", *words, "--only", "abd"]
    done = subprocess.run(
        [str(word) for word in script], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "speed.json").read_text())
    fastest = signers.installed()[0]
    assert all(found["b"][f"{scheme}, {fastest}"]["per_second"] > 0 for scheme in CONSTRUCTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]
    drawn = subprocess.run(
        [sys.executable, str(FOLDER / "plot.py"), str(tmp_path / "speed.json")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(drawn.splitlines()) == 8
    assert f"pay --stream | accept --stream, taproot, {fastest}" in drawn


@pytest.mark.skipif(
    importlib.util.find_spec("pbk") is None, reason="the engine is not installed (mpchan engine install)"
)
def test_strangers_in_small_numbers(tmp_path: Path) -> None:
    """An honest buyer gets its file beside them, on both ways; how fast is not asked here."""
    words = ["--folder", tmp_path, "--count", "5", "--alone", "0.1", "--json", tmp_path / "strangers.json"]
    script = [sys.executable, FOLDER / "strangers.py", *words, "--only", "free,silent-many"]
    done = subprocess.run(
        [str(word) for word in script], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "strangers.json").read_text())
    assert {name: result["count"] for name, result in found.items()} == {"free": 5, "silent-many": 5}
    assert found["free"]["answers_mb"] <= 64
    assert [path.name for path in tmp_path.iterdir()] == ["strangers.json"]
