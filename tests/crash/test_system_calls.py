"""Each command, whose calls to the system fail or are its last: what was said is true, and the story ends as it should.

Run by ``strace``, so nothing of the program is replaced. The tests take a sample; the whole campaign takes every call
of every command:

    pytest -m campaign tests/crash/test_system_calls.py -n 2 -s
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from support.crash.campaign import (
    Command,
    Done,
    Forkserver,
    Stage,
    check_alarm,
    check_findings,
    check_sent,
)
from support.crash.stories import BY_AMOUNT, CLAIM, REFUND, STORIES, WATCHED, WATCHED_REFUND, WHOLE
from support.crash.system_calls import ERRORS, KILL, TRACES, UNKNOWN_TO_FOLDERS, Call, Injection, calls, run

from mpchan.cli.files import AGAIN
from mpchan.errors import MpchanError

pytestmark = pytest.mark.skipif(not TRACES, reason="strace is not installed, or may not trace here")

ABSORBED = {"close", "flock", "unlink", "openat"}
"""Calls whose failure may cost nothing: the close of what was read or locked, a lock that is had by reading, what an
earlier process has left, a state file whose journal holds it all."""


def errors_of(call: Call) -> list[Injection]:
    """What the system may say to a call; to a read-only disk only what would change it."""
    unknown = [UNKNOWN_TO_FOLDERS] if call.name == "fsync" and call.is_about_a_folder else []
    return [
        Injection(call, how)
        for how in [*ERRORS[call.name], *unknown]
        if how != "EROFS" or call.name != "openat" or call.writes
    ]


def break_off(stage: Stage, command: Command, injection: Injection) -> Done:
    """Let one call fail in a copy of the folder, do what the answer says, and go on to the end of the story."""

    def judge(folder: Path, broken: Done) -> None:
        assert "(INJECTED)" in "\n".join(broken.steps) or injection.how == KILL, "it was not reached"
        if injection.how == KILL:
            assert broken.code in (-9, 137), broken.code
            return
        assert "Traceback" not in broken.err
        if command.name.startswith("watch") and broken.out:
            check_alarm(broken, stage.sends[command.name] and not injection.hides)
        elif command.name == "fsck":
            check_findings(broken)
        else:
            check_answer(stage, command, folder, broken, injection)

    return stage.try_out(command, lambda folder: run(folder, command.line, command.stdin, injection), judge)


def check_answer(stage: Stage, command: Command, folder: Path, broken: Done, injection: Injection) -> None:
    """The command ended well and told its answer, or it says what failed, names the file, and its hint is true."""
    call = injection.call
    if injection.how == UNKNOWN_TO_FOLDERS:
        assert broken.code in command.codes, broken.err
        return
    if broken.code in command.codes:
        snapshot = ".json" in call.about
        assert injection.how == "EINTR" or call.name in ABSORBED or snapshot or _told_before(broken), call
        for line in broken.out.splitlines():
            json.loads(line)
        return
    error = broken.error
    assert (broken.code, error["exit_code"]) in ((7, 7), (3, 3), (2, 2)), error
    assert error["error"] not in ("bug", "system"), error
    if error["error"] == "sent-unnoted":
        check_sent(folder, broken)
        return
    if broken.code == 7:
        assert re.search(r"standard output|[\w-]+/[\w.-]+|\w+\.(psbt|hex|toml)", error["message"]), error
    if error["error"] not in ("not-emitted", "write-unsure"):
        assert not broken.out or "stream" in command.name, "something was told"
    if " pay 1000" in command.line:
        assert "safe" not in str(error["hint"]), error
    if error["hint"] == AGAIN:  # what the hint says is done, to the letter
        again = stage.server.run(folder, command.line, command.stdin)
        assert again.code in command.codes, (error, again)


def _told_before(broken: Done) -> bool:
    """Whether the answer was out when the call failed."""
    return bool(broken.out)


def all_calls(stage: Stage, command: Command, known: dict[tuple[str, str], list[Call]]) -> list[Call]:
    """The calls of a command that goes well; of one whose calls are known, those."""
    name = (stage.story.name, command.name)
    if name not in known:
        known[name] = _calls_of(stage, command)
    return known[name]


def _calls_of(stage: Stage, command: Command) -> list[Call]:
    folder = stage.folder_before(command, "case")
    done = run(folder, command.line, command.stdin)
    assert done.code in command.codes, done.err
    found = calls(folder, done)
    stage.clear(folder)
    return found


# the sample ---------------------------------------------------------------------------------------

SAMPLE = {
    # the close behind the journal's fsync, which made the payer pay twice
    "pay close": (BY_AMOUNT, "pay-amount", "close", r"\.journal", "EIO"),
    "pay fsync": (BY_AMOUNT, "pay-amount", "fsync", r"\.journal", "EIO"),
    "pay write": (BY_AMOUNT, "pay-amount", "write", r"\.journal", "ENOSPC"),
    "pay output": (BY_AMOUNT, "pay-amount", "rename", r"update\.psbt", "EROFS"),
    "pay into a folder without a sync": (BY_AMOUNT, "pay-amount", "fsync", r"^\.$", "EINVAL"),
    "pay into a folder whose sync fails": (BY_AMOUNT, "pay-amount", "fsync", r"^\.$", "EIO"),
    "pay killed": (BY_AMOUNT, "pay-amount", "close", r"\.journal", KILL),
    "open in a folder without a sync": (WHOLE, "open", "fsync", r"channels$", "EINVAL"),
    "accept close": (WHOLE, "accept", "close", r"\.journal", "EDQUOT"),
    "accept killed": (WHOLE, "accept", "fsync", r"\.journal", KILL),
    "accept told": (WHOLE, "accept", "write", r"standard output", "ENOSPC"),
    "refund read-only": (REFUND, "refund", "openat", r"\.journal", "EROFS"),
    "refund unlocked": (REFUND, "refund", "flock", r"\.lock", "ENOLCK"),
    "refund interrupted": (REFUND, "refund", "flock", r"\.lock", "EINTR"),
    "watch full": (WATCHED_REFUND, "watch-refund", "write", r"\.journal", "ENOSPC"),
    "watch close": (WATCHED, "watch", "close", r"\.journal", "EIO"),
    "watch reads": (WATCHED, "watch", "close", r"\.journal", "EDQUOT"),
    "claim fsync": (CLAIM, "claim", "fsync", r"\.journal", "EIO"),
}
"""Story, command, call, file, and what happens at the last such call that writes."""


@pytest.fixture(scope="module")
def stages(forkserver: Forkserver, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """The stories that were told once, by name."""
    return {}


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, str], list[Call]]:
    """The calls of commands that were looked at once, by story and name."""
    return {}


@pytest.mark.parametrize("name", SAMPLE)
def test_sample(
    name: str,
    stages: dict[str, Stage],
    known: dict[tuple[str, str], list[Call]],
    forkserver: Forkserver,
    bare: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    story, wanted, kind, about, how = SAMPLE[name]
    if story.name not in stages:
        place = tmp_path_factory.mktemp(story.name.replace(" ", "-"))
        stages[story.name] = Stage(forkserver, place, bare, story)
    stage = stages[story.name]
    command = next(command for command in story.commands if command.name == wanted)
    fitting = [
        call
        for call in all_calls(stage, command, known)
        if call.name == kind and re.search(about, call.about) and (kind != "openat" or call.writes)
    ]
    assert fitting, "there is no such call any more"
    for call in fitting if name == "watch reads" else fitting[-1:]:  # each of them, also of what is only read
        break_off(stage, command, Injection(call, how))


# the campaign -------------------------------------------------------------------------------------


def first_time(index: int) -> list[Command]:
    """A story's commands that no earlier story has tried, without those that only the chain answers."""
    before = {command.name for story in STORIES[:index] for command in story.tried}
    return [
        command
        for command in STORIES[index].tried
        if command.name not in before and not command.line.startswith("regtest")
    ]


@pytest.mark.campaign
@pytest.mark.parametrize("index", range(len(STORIES)), ids=[story.name for story in STORIES])
def test_every_call(index: int, forkserver: Forkserver, bare: Path, quick_path: Path) -> None:
    stage = Stage(forkserver, quick_path, bare, STORIES[index])
    failures, tried = [], Counter[str]()
    for command in first_time(index):
        for call in all_calls(stage, command, {}):
            for injection in [*errors_of(call), Injection(call, KILL)]:
                tried[command.name] += 1
                try:
                    break_off(stage, command, injection)
                except (AssertionError, MpchanError, ValueError, KeyError, IndexError) as error:
                    failures.append(
                        f"{command.name}: {injection}\n    {type(error).__name__}: {error!s:.600}"
                    )
    print(f"\n{stage.story.name}: {sum(tried.values())} calls, {dict(tried)}")
    assert not failures, f"{len(failures)} of {sum(tried.values())}\n" + "\n".join(failures)
