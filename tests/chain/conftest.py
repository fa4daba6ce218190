"""Nodes that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.electrum_server import ELECTRUMX, NO_ELECTRUMX, ElectrumServer, node_options, serving
from support.chain.grounds import ElectrumGround, EmbeddedGround, Ground, NodeGround
from support.chain.node import BITCOIND, NO_NODE, Node, running


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


@pytest.fixture(scope="session")
def embedded_ground(chain_directory: Path) -> Ground:
    """The embedded chain of this process."""
    return EmbeddedGround(chain_directory)


@pytest.fixture(scope="session")
def bitcoind_ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A node whose chain may be reorganised, and whose clock may be set."""
    if BITCOIND is None:
        pytest.skip(NO_NODE)
    with running(tmp_path_factory.mktemp("ground") / "node") as node:
        yield NodeGround(node)


@pytest.fixture(scope="session")
def electrum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElectrumServer]:
    """An Electrum server, and the node behind it, for all tests of this process; also for those that reorganise."""
    if BITCOIND is None:
        pytest.skip(NO_NODE)
    if not ELECTRUMX:
        pytest.skip(NO_ELECTRUMX)
    folder = tmp_path_factory.mktemp("electrum")
    with running(folder / "node", *node_options()) as node, serving(node, folder / "server") as server:
        yield server


@pytest.fixture(scope="session")
def electrum_ground(electrum: ElectrumServer) -> Ground:
    """A server whose node's chain may be reorganised, and whose clock may be set."""
    return ElectrumGround(electrum)


@pytest.fixture(params=["embedded", "bitcoind", "electrum"])
def ground(request: pytest.FixtureRequest) -> Ground:
    """Every backend in turn; a test leaves the chain with the mempool empty, and at whatever height."""
    ground: Ground = request.getfixturevalue(f"{request.param}_ground")
    return ground
