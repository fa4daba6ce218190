"""A payer and a payee, in each construction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair
from support.web.house import House

from mpchan.chain.embedded import EmbeddedChain


@pytest.fixture(params=("decrementing", "taproot"))
def pair(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme=request.param)


@pytest.fixture
def house(pair: Pair, chain_directory: Path) -> Iterator[House]:
    found = House(pair, chain_directory)
    yield found
    found.close()
