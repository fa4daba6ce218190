"""Each command, killed or with a failing disk at its steps: nothing is lost, counted twice, signed twice or reused.

The tests take a sample, of every kind of step of every command one. The whole campaign takes each of them:

    pytest -m campaign tests/crash -n 2 -s
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from support.crash.campaign import Fault, Forkserver, Stage, Story, errors, kills, of_each_kind, sample
from support.crash.stories import ELSEWHERE, SHORT_FORMS, STORIES, WRITE_NOTHING

from mpchan.cli.main import cli
from mpchan.errors import MpchanError

Faults = Callable[[tuple[str, ...]], list[Fault]]


def try_all(stage: Stage, faults: Faults, names: set[str]) -> int:
    """Break the story off at each fault of the named commands; how many there were."""
    failures, tried = [], Counter[str]()
    for command in stage.story.tried:
        if command.name not in names:
            continue
        for fault in faults(stage.steps[command.name]):
            tried[command.name] += 1
            try:
                stage.break_off(command, fault)
            except (AssertionError, MpchanError, ValueError, KeyError, IndexError) as error:
                failures.append(f"{command.name}: {fault}\n    {type(error).__name__}: {error!s:.600}")
    print(f"\n{stage.story.name}: {sum(tried.values())} points, {dict(tried)}")
    assert not failures, f"{len(failures)} of {sum(tried.values())}\n" + "\n".join(failures)
    return sum(tried.values())


def first_time(story: Story) -> set[str]:
    """The names of a story's commands that no earlier story has tried."""
    earlier = STORIES[: STORIES.index(story)]
    before = {command.name for other in earlier for command in other.tried}
    return {command.name for command in story.tried} - before


EACH = pytest.mark.parametrize(
    "stage", STORIES, ids=[story.name for story in STORIES], indirect=True, scope="module"
)


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest,
    forkserver: Forkserver,
    bare: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stage:
    """A story that is told once for all that becomes of it: many faults leave the same behind."""
    return Stage(forkserver, tmp_path_factory.mktemp("stage"), bare, request.param)


@EACH
def test_killed(stage: Stage) -> None:
    assert try_all(stage, lambda steps: sample(kills(steps)), first_time(stage.story)) > 3


@EACH
def test_failing_disk(stage: Stage) -> None:
    assert try_all(stage, lambda steps: of_each_kind(errors(steps)), first_time(stage.story)) > 3


@pytest.mark.campaign
@EACH
def test_killed_everywhere(stage: Stage) -> None:
    try_all(stage, kills, {command.name for command in stage.story.tried})


@pytest.mark.campaign
@EACH
def test_failing_disk_everywhere(stage: Stage) -> None:
    try_all(stage, errors, {command.name for command in stage.story.tried})


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    """The full name of every command."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def test_every_command_is_tried_or_named() -> None:
    told = {
        " ".join(command.line.split()[2 if command.line.startswith("--wallet") else 0 :])
        for story in STORIES
        for command in story.tried
    }
    for name in commands(cli):
        known = name in WRITE_NOTHING | SHORT_FORMS | ELSEWHERE
        assert known or any(f"{line} ".startswith(f"{name} ") for line in told), name
