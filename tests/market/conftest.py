"""A file on sale, on a private chain of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.market import Market
from support.market.processes import MIB, make_film

from mpchan.chain.embedded import EmbeddedChain


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded chain on which nothing has happened, to be copied."""
    pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")
    directory = tmp_path_factory.mktemp("bare") / "chain"
    with EmbeddedChain(directory) as chain:
        chain.tip()
    return directory


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """64 MiB, to be sold by real processes."""
    made = make_film(tmp_path_factory.mktemp("film") / "film.mkv", 64 * MIB)
    yield made
    made.unlink()


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what a killed program leaves is the same, and no disk is waited for."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 1 << 30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="mpchan-market-", dir=memory) as name:
        yield Path(name)


@pytest.fixture
def chain(quick_path: Path) -> Iterator[EmbeddedChain]:
    pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")
    with EmbeddedChain(quick_path / "chain") as chain, chain.engine():
        yield chain


@pytest.fixture
def scheme(request: pytest.FixtureRequest) -> str | None:
    """The construction; None for the default, unless a test runs over each (``support.market.market``)."""
    named: str | None = getattr(request, "param", None)
    return named


@pytest.fixture
def market(quick_path: Path, chain: EmbeddedChain, scheme: str | None) -> Market:
    """Five pieces of 1,000 bytes, the last one of 999, for 1,000 sat each."""
    return Market(quick_path, chain, scheme=scheme)
