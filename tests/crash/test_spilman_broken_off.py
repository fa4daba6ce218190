"""A second construction's commands, killed or with a failing disk: what holds of one holds of both."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import spilman
from support.crash.campaign import Forkserver, Stage, Story, errors, kills, of_each_kind, sample
from support.crash.stories import BY_AMOUNT, REFUND, WATCHED, WHOLE

from mpchan.errors import MpchanError


@pytest.fixture(scope="module")
def spilman_server() -> Iterator[Forkserver]:
    if importlib.util.find_spec("pbk") is None:
        pytest.skip("the engine is not installed (mpchan engine install)")
    server = Forkserver("spilman")
    yield server
    server.close()


TRIED = {
    WHOLE: {"pay", "accept", "settle", "close"},
    BY_AMOUNT: {"close-held"},
    WATCHED: {"watch"},
    REFUND: {"refund"},
}
DISK = {"accept", "close"}
"""What is tried with a failing disk too."""


@pytest.mark.parametrize("story", TRIED, ids=lambda story: story.name)
def test_nothing_is_lost(
    story: Story, spilman_server: Forkserver, bare: Path, quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spilman.register(monkeypatch)  # here, for those who look at what is left
    stage = Stage(spilman_server, quick_path, bare, story)
    failures, tried = [], 0
    for command in story.tried:
        if command.name not in TRIED[story]:
            continue
        steps = stage.steps[command.name]
        failures_of_disk = of_each_kind(errors(steps)) if command.name in DISK else []
        for fault in [*sample(kills(steps)), *failures_of_disk]:
            tried += 1
            try:
                stage.break_off(command, fault)
            except (AssertionError, MpchanError, ValueError, KeyError, IndexError) as error:
                failures.append(f"{command.name}: {fault}\n    {type(error).__name__}: {error!s:.600}")
    assert tried > 3
    assert not failures, "\n".join(failures)
