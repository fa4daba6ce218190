"""Hostile inputs 73 and 74: strangers who wish, have a refund signed, and never fund anything, in numbers.

Each case leaves some dozens; ``benchmarks/test_openings_load.py`` leaves as many as there is room for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.market import Market
from support.market.strangers import Stranger

from mpchan.chain.embedded import EmbeddedChain
from mpchan.party.register import room
from mpchan.party.watch.watcher import Watcher
from mpchan.wallet.opening import MAX_LINE_BYTES

MANY = 60
ONE = "192.0.2.1"


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what is written is the same, and no disk is waited for."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="mpchan-strangers-", dir=memory) as name:
        yield Path(name)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(tmp_path / "chain") as chain, chain.engine():
        yield chain


@pytest.fixture
def market(tmp_path: Path, chain: EmbeddedChain) -> Market:
    return Market(tmp_path, chain)


def disk_of(market: Market) -> tuple[int, int]:
    """How many bytes of openings the seller has, and how many files in all."""
    home = market.pair.payee.directory
    notes = home / "openings" / "notes"
    files = [path for path in home.rglob("*") if path.is_file()]
    return notes.stat().st_size if notes.exists() else 0, len(files)


def left_by(market: Market, strangers: list[Stranger], pieces: str = "1-5") -> int:
    """How many refunds are signed for them; all of it is one line for each."""
    before, files = disk_of(market)
    signed = sum(stranger.opens(market, pieces) for stranger in strangers)
    after, files_now = disk_of(market)
    assert after - before <= MAX_LINE_BYTES * signed + 200
    assert files_now - files <= 1
    assert not list((market.pair.payee.directory / "channels").glob("*.j*"))
    return signed


def honest_buyer_is_served(market: Market) -> None:
    """By the same seller, and by one that has just started; the watcher sees one channel."""
    market.buy("1-2")
    market.chain.mine(1)
    market.restart()
    market.buy()
    assert market.is_whole()
    assert len(market.pair.payee.channels.names()) == 2
    done = Watcher(market.pair.payee, market.chain, once=True).round(lambda finding: None)
    assert (len(done.findings), done.alarms) == (2, [])


def test_73_wishes_that_are_never_funded(market: Market) -> None:
    """A wish leaves nothing at all; a signed refund a line, before and after a restart."""
    before = market.pair.files()
    for number in range(MANY):
        Stranger(number).wish(market, "1-5")
    assert market.pair.files() == before
    assert left_by(market, [Stranger(number) for number in range(MANY)]) == MANY
    market.restart()
    assert len(market.pair.payee.openings) == MANY
    assert left_by(market, [Stranger(number) for number in range(MANY)]) == MANY  # signed before
    assert len(market.pair.payee.openings) == MANY
    honest_buyer_is_served(market)


@pytest.mark.parametrize("sources", [1, 1_000])
def test_73_from_one_source_and_from_many(
    market: Market, monkeypatch: pytest.MonkeyPatch, sources: int
) -> None:
    """Room for 40, and more come. One source gets a twentieth; when it is full, nothing more is written."""
    monkeypatch.setattr(room, "MOST_OPENINGS", 40)
    crowd = [Stranger(number, f"198.51.{number % sources}.0") for number in range(60)]
    signed = left_by(market, crowd)
    if sources == 1:
        assert signed == 2
        assert Stranger(999, ONE).opens(market)
        honest_buyer_is_served(market)
        return
    assert signed == 40
    before = market.pair.files()
    assert not Stranger(999, ONE).opens(market)
    assert market.events[-1].error is not None
    assert (market.events[-1].error.slug, market.events[-1].error.exit_code) == ("too-many-offers", 6)
    assert market.pair.files() == before


def test_74_the_largest_manifest(tmp_path: Path, chain: EmbeddedChain) -> None:
    """Of 5,000 pieces, of which a wish may name any: a line holds what is usual, and no hash of a piece anything."""
    market = Market(tmp_path, chain, pieces=5_000, step=1, max_refund_delay=6_000, min_refund_delay=5_200)
    assert left_by(market, [Stranger(number) for number in range(10)], "1-5000") == 10
    nine_spans = ",".join(f"{first}-{first + 200}" for first in range(500, 5_000, 500))
    assert left_by(market, [Stranger(number) for number in range(10, 20)], nine_spans) == 10
    scattered = ",".join(str(number) for number in range(1, 1_000, 2))
    before = disk_of(market)[0]
    assert Stranger(20).opens(market, scattered)
    assert disk_of(market)[0] == before
    [name] = market.pair.payee.channels.names()
    files = [
        path for path in (market.pair.payee.directory / "channels").iterdir() if path.name.startswith(name)
    ]
    assert sum(path.stat().st_size for path in files) < 30_000
    market.restart()
    assert Stranger(21).opens(market, "1-5000")


def test_74_outpoints_that_do_not_exist(market: Market) -> None:
    """One line each, and no second one for whoever asks again, for another outpoint or for another lock time."""
    strangers = [Stranger(number) for number in range(50)]
    assert left_by(market, strangers) == 50
    before = market.pair.files()
    for stranger in strangers:
        assert stranger.opens(market)
    assert market.pair.files() == before
    market.chain.mine(1)  # the refund that each asks for now is one block later
    assert not any(stranger.opens(market) for stranger in strangers)
    assert {event.error.slug for event in market.events if event.error} == {"outpoint-signed"}
    assert left_by(market, []) == 0
    honest_buyer_is_served(market)
