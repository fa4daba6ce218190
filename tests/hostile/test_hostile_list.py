"""The list of hostile inputs is covered whole: every line has a case, and every case a line."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from support.hostile import LINES

HERE = Path(__file__).parent
MODULES = [
    importlib.import_module(path.stem)
    for path in sorted(HERE.glob("test_hostile_*.py"))
    if path.stem != "test_hostile_list"
]


def cases(module: ModuleType) -> Iterator[tuple[int, str]]:
    """Number and name of each numbered test, and of each numbered case of a parametrised one."""
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        found = re.match(r"test_(\d+)_", name)
        if found:
            yield int(found[1]), name
        for mark in getattr(test, "pytestmark", []):
            if mark.name != "parametrize":
                continue
            for value in mark.args[1]:
                text = value[0] if isinstance(value, tuple) else value
                numbered = re.match(r"(\d+) \S", text) if isinstance(text, str) else None
                if numbered:
                    yield int(numbered[1]), text


def in_other_layers() -> set[int]:
    """The numbers of tests among those of the backends and of HTTP, which need nodes and servers."""
    places = [path for layer in ("chain", "http") for path in sorted((HERE.parent / layer).glob("test_*.py"))]
    texts = [path.read_text() for path in places]
    return {int(number) for text in texts for number in re.findall(r"^def test_(\d+)_", text, re.MULTILINE)}


NUMBERS = set(range(1, 93))
"""Of the lines that are covered."""


def test_the_list_has_these_lines() -> None:
    assert set(LINES) >= NUMBERS


def test_no_number_is_missing() -> None:
    covered = {number for module in MODULES for number, _ in cases(module)} | in_other_layers()
    missing = {number: text for number, text in LINES.items() if number not in covered}
    assert missing == {}
    assert covered == set(LINES)


def test_no_case_stands_twice() -> None:
    for module in MODULES:
        names = [name for _, name in cases(module)]
        shared = {name for name in names if names.count(name) > 2}  # an update and a settlement share a table
        assert shared == set(), module.__name__
