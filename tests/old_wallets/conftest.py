"""Old wallets, each test with copies of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from support.old_wallets import OldShell, lay_out, replay
from support.transcript import CHAIN, Shell, copy_folder


@pytest.fixture(scope="session")
def _replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("pbk") is None:
        pytest.skip("py-bitcoinkernel has no wheel for this Python")
    directory = tmp_path_factory.mktemp("old") / CHAIN
    replay(directory)
    return directory


@pytest.fixture
def old(_replayed: Path, tmp_path: Path) -> Callable[[str], Shell]:
    """Gives a folder with what the old code left of a story, and its chain."""

    def laid_out(story: str) -> Shell:
        shell = OldShell(tmp_path / story)
        lay_out(story, shell.folder)
        copy_folder(_replayed, shell.folder / CHAIN)
        return shell

    return laid_out
