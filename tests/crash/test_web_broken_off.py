"""A client that is killed between any two steps: the next one pays once, in the channel that was begun.

The payee's register is broken off in ``tests/party/test_register*``, and a server in ``tests/hostile``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.web.buying import Both, buying

from mpchan.channel import payer as protocol

PRICE = 1_000
DEPOSIT = 50_000
TESTS = Path(__file__).parents[1]


@pytest.fixture(params=("decrementing", "taproot"))
def both(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Both]:
    with buying(tmp_path, chain_directory, request.param, PRICE) as found:
        yield found


def ask(both: Both, key: str, at: int = 0) -> tuple[int, list[str]]:
    """Let a program ask; its exit code, and its lines."""
    words = [str(both.pair.payer.directory), str(both.chain_directory), both.url, key, str(DEPOSIT), str(at)]
    run = subprocess.run(
        [sys.executable, "-m", "support.web.asking", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert run.returncode in (0, 137), run.stderr
    return run.returncode, run.stdout.splitlines()


def kinds_of(steps: list[str]) -> list[int]:
    """A step of each kind in each stretch between two things that leave, and all that leave."""
    found, seen = [], set[str]()
    for number, kind in enumerate(steps, 1):
        if kind == "emit":
            seen.clear()
            found.append(number)
        elif kind not in seen and kind in ("replace", "sync", "commit"):
            seen.add(kind)
            found.append(number)
    return found


def opened_once(both: Both) -> None:
    """Money is locked in one channel, in which no more is signed for than one request above what was charged."""
    [record] = [each for each in both.records() if isinstance(each.state, protocol.Funded)]
    assert record.spent.sat <= record.paid.sat <= record.spent.sat + PRICE


def test_killed_while_a_channel_is_opened(both: Both) -> None:
    """Every program is killed some steps later than the one before; all of them ask for the same."""
    at, last, killed = 1, 0, 0
    while True:
        both.pair.chain.mine(1)
        code, lines = ask(both, "the same", at)
        killed += 1
        at += 7
        if code == 0:
            last = int(lines[-1])
            break
    assert killed > 3
    assert last == PRICE
    opened_once(both)


def test_killed_while_a_request_is_paid(both: Both) -> None:
    """A request under its own key costs its price, wherever the program that asked first was killed."""
    _, lines = ask(both, "first")
    spent = int(lines[-1])
    _, lines = ask(both, "second")
    steps, spent = lines[:-1], int(lines[-1])
    assert spent == 2 * PRICE
    for at in kinds_of(steps):
        code, _ = ask(both, f"key {at}", at)
        assert code == 137
        _, lines = ask(both, f"key {at}")
        spent += PRICE
        assert int(lines[-1]) == spent, f"killed before step {at}, {steps[at - 1]}"
    opened_once(both)
