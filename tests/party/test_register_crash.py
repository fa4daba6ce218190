"""The register's process dies before any step of a batch, or the disk refuses it: nothing is charged twice or lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair
from support.shop import FIRST, SCHEMES, Board, Died, Shop

from mpchan import durability
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import StorageError
from mpchan.party.register.asks import Ask, Repeated, Reserved


@pytest.fixture(params=SCHEMES)
def shop(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Shop]:
    with EmbeddedChain(chain_directory) as chain:
        found = Shop(Pair(tmp_path, chain, scheme=request.param))
        yield found
        found.register.close()


def batch(shop: Shop, start: int, label: str) -> list[Ask]:
    return [Ask(shop.name, shop.signed(start + 10 * n), 10, f"{label}{n}", "ab" * 32) for n in (1, 2, 3)]


def test_a_batch_is_one_sync(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ask(FIRST + 10)
    board = Board()
    monkeypatch.setattr(durability, "step", board)
    shop.register.take_many(batch(shop, FIRST + 10, "k"))
    assert board.kinds.count("sync") == 1
    assert "sync-directory" not in board.kinds


@pytest.mark.parametrize("how", ["fatal", "error"])
def test_a_batch_that_is_broken_off_at_each_step(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The same requests again cost once, whether they were on the disk or not; what was accepted stays so."""
    total, at, spent = FIRST, 0, FIRST
    while True:
        asks, board = batch(shop, total, f"{at}/"), Board()
        setattr(board, how, at)
        with monkeypatch.context() as patch:
            patch.setattr(durability, "step", board)
            try:
                granted = shop.register.take_many(asks)
            except (Died, StorageError):
                granted = None
        over = at >= len(board.kinds)
        if how == "fatal":
            shop.again()
        if granted is not None:
            assert all(isinstance(each, Reserved) for each in granted)
            assert shop.account().accepted == total + 30
        assert shop.pair.payee_record(shop.name).paid.sat in (total, total + 30)
        for verdict in shop.register.take_many(asks):
            assert isinstance(verdict, Reserved | Repeated), verdict
            if isinstance(verdict, Reserved):
                shop.end(verdict, 10)
        for each in granted or ():
            shop.end(each, 10)
        shop.register.flush()
        total, spent, at = total + 30, spent + 30, at + 1
        assert (shop.account().spent, shop.account().held, shop.account().accepted) == (spent, 0, total)
        if over:
            break
    assert at > 4
