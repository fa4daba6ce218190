"""Nodes that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from node import Node, running


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node for all tests of this process that leave its chain a chain: they may pay and mine."""
    with running(tmp_path_factory.mktemp("node") / "node") as node:
        yield node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node for one test, with ten coins to spend."""
    with running(tmp_path / "node") as started:
        yield started
