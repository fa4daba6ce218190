"""One forkserver and one new chain for all tests of this folder that a process runs."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crash.campaign import Forkserver


@pytest.fixture(scope="session")
def forkserver() -> Iterator[Forkserver]:
    """It runs commands, and kills them."""
    if importlib.util.find_spec("pbk") is None:
        pytest.skip("the engine is not installed (mpchan engine install)")
    server = Forkserver()
    yield server
    server.close()


@pytest.fixture(scope="session")
def bare(forkserver: Forkserver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an embedded chain and nothing else."""
    from mpchan.chain.embedded import EmbeddedChain

    folder = tmp_path_factory.mktemp("bare") / "folder"
    with EmbeddedChain(folder / "chain") as chain:
        chain.tip()
    return folder


MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what a killed process leaves is the same, and no disk is waited for."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < 1 << 30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="mpchan-crash-", dir=MEMORY) as name:
        yield Path(name)
