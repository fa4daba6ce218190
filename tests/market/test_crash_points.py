"""A sale broken off at each of its steps, on either side: it goes on, and nothing is lost or paid twice.

The tests take one step of every kind, the campaign all of them:

    pytest -m campaign tests/market -n 2 -s
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.breaking import Fault, break_off, faults, of_each_kind, straight
from support.market.market import each_scheme

from mpchan.errors import MpchanError

CLEAR = {3, 4, 5, 6, 7, 8}
"""Exit codes of errors that people can do something about; 1 would be a mistake of ours, 2 of theirs."""


def try_all(bare: Path, place: Path, found: list[Fault], scheme: str | None) -> None:
    """Break a sale off at each of these faults."""
    failures, ends = [], Counter[str]()
    for fault in found:
        try:
            error = break_off(bare, place, fault, scheme)
            ends["none" if error is None else error.slug] += 1
            assert error is None or error.exit_code in CLEAR, error
            assert error is None or "bug" not in error.message, error
        except (AssertionError, MpchanError, OSError, ValueError, KeyError) as error:
            failures.append(f"{fault}\n    {type(error).__name__}: {error!s:.600}")
    print(f"\n{len(found)} points, {dict(Counter(fault.side for fault in found))}; ended with {dict(ends)}")
    assert not failures, f"{len(failures)} of {len(found)}\n" + "\n".join(failures)


@pytest.fixture
def kinds(bare: Path, quick_path: Path, scheme: str | None) -> Iterator[dict[str, list[str]]]:
    return straight(bare, quick_path, scheme)  # type: ignore[return-value]


@each_scheme
def test_killed(bare: Path, quick_path: Path, kinds: dict[str, list[str]], scheme: str | None) -> None:
    assert len(kinds["buyer"]) > 50
    assert len(kinds["seller"]) > 50
    try_all(bare, quick_path, of_each_kind(faults(kinds, "kill")), scheme)


def test_failing_disk(bare: Path, quick_path: Path, kinds: dict[str, list[str]], scheme: str | None) -> None:
    try_all(bare, quick_path, of_each_kind(faults(kinds, "disk")), scheme)


@pytest.mark.campaign
@pytest.mark.parametrize("side", ["buyer", "seller"])
@each_scheme
def test_killed_everywhere(
    bare: Path, quick_path: Path, kinds: dict[str, list[str]], side: str, scheme: str | None
) -> None:
    try_all(bare, quick_path, [fault for fault in faults(kinds, "kill") if fault.side == side], scheme)


@pytest.mark.campaign
@pytest.mark.parametrize("side", ["buyer", "seller"])
@each_scheme
def test_failing_disk_everywhere(
    bare: Path, quick_path: Path, kinds: dict[str, list[str]], side: str, scheme: str | None
) -> None:
    try_all(bare, quick_path, [fault for fault in faults(kinds, "disk") if fault.side == side], scheme)
