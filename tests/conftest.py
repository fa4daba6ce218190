"""What all tests share: a judge over every completed transaction, and no way to the user's own wallet."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from support.judge import ENGINE, Judge

from mpchan.channel.construction.two_leaves import TwoLeaves
from mpchan.channel.construction.two_of_two import TwoOfTwo
from mpchan.wallet.keys import Keys

# a busy machine is no failure
settings.register_profile("mpchan", deadline=None, print_blob=True)
settings.load_profile("mpchan")

# a run that was started in the background ignores Ctrl-C, and so would every program that it starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
"""Twice what all tests leave behind."""


def _memory_serves() -> bool:
    """Whether the folders of tests may stand in memory: there is room, and programs can be run from there."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return False
    room = os.statvfs(MEMORY)
    return room.f_bavail * room.f_frsize >= ROOM_BYTES and not room.f_flag & os.ST_NOEXEC


# a wallet syncs each of its files, for which a disk takes longer than all the rest of a test; the tests of real disks
# (tests/crash/test_real_disks.py) bring their own
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _memory_serves():
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


NO_SKIP = "MPCHAN_NO_SKIP"
"""Set where everything is installed, as in continuous integration: what is skipped there is unproven, and fails."""

MAY_SKIP = (
    "root may write everywhere",
    "only root may mount a file system",
    "this OpenSSL has no RIPEMD-160 to compare with",
    "click asks bash for its version",
)
"""Reasons of the machine itself, which no installation would mend."""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def no_skip(report: Report) -> Report:
    """The same report; a skip becomes a failure where ``MPCHAN_NO_SKIP`` is set."""
    if not os.environ.get(NO_SKIP) or not report.skipped or hasattr(report, "wasxfail"):
        return report
    # of a skip it holds the file, the line and the reason
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if reason.removeprefix("Skipped: ") not in MAY_SKIP:
        report.outcome = "failed"
        report.longrepr = f"{NO_SKIP} is set, and this was skipped: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Every test counts."""
    return no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Every file of tests counts."""
    return no_skip((yield))


def pytest_report_header() -> str:
    return "judge: Bitcoin Core's script engine" if ENGINE else "judge: none, the engine is not installed"


@pytest.fixture(scope="session", autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that names no wallet or chain of its own finds an empty place, never the user's."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("MPCHAN_WALLET", str(home / "wallet"))
        patch.setenv("MPCHAN_REGTEST", str(home / "chain"))
        yield


@pytest.fixture(scope="session")
def _session_judge() -> Iterator[Judge]:
    """From here on no transaction is completed in this process without a verdict."""
    judge = Judge()
    with pytest.MonkeyPatch.context() as patch:
        if ENGINE:
            patch.setattr(TwoOfTwo, "complete", judge.judged_complete(TwoOfTwo.complete))
            patch.setattr(TwoLeaves, "complete", judge.judged_complete(TwoLeaves.complete))
            patch.setattr(Keys, "sign_coins", judge.judged_funding(Keys.sign_coins))
        yield judge


@pytest.fixture(autouse=True)
def judge(_session_judge: Judge) -> Iterator[Judge]:
    """Fails the test that completed a bad transaction, also where something swallowed the error."""
    _session_judge.refused.clear()
    yield _session_judge
    assert not _session_judge.refused


@pytest.fixture(scope="session")
def chain_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded chain for all the tests of this process that only need one to be there."""
    if not ENGINE:
        pytest.skip("the engine is not installed (mpchan engine install)")
    from mpchan.chain.embedded import EmbeddedChain

    directory = tmp_path_factory.mktemp("embedded") / "chain"
    with EmbeddedChain(directory) as chain:
        chain.tip()
    return directory
