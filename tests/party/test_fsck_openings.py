"""``fsck`` of a seller's openings: what it finds, and how it goes on without a damaged line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.market import Market
from support.market.strangers import Stranger

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import Refused
from mpchan.party.check.fsck import fsck
from mpchan.party.views import list_channels
from mpchan.results.checks import CheckedSubject
from mpchan.wallet.wallet import Wallet


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        place = Path(name)
        with EmbeddedChain(place / "chain") as chain, chain.engine():
            made = Market(place, chain)
            assert all(Stranger(number).opens(made) for number in range(3))
            yield made


def about(market: Market, *, repair: bool = False) -> CheckedSubject:
    """What is said of the openings by a command of its own."""
    found = fsck(Wallet.open(market.pair.payee.directory), repair=repair)
    [subject] = [each for each in found.subjects if each.kind == "openings"]
    return subject


def broken(subject: CheckedSubject) -> set[str]:
    return {rule.rule for rule in subject.rules if not rule.ok}


def test_whole_ones(market: Market) -> None:
    subject = about(market)
    assert (subject.name, subject.ok, broken(subject)) == ("notes", True, set())
    assert fsck(market.pair.payer).wrong == 0
    assert list_channels(market.pair.payee, market.chain, lambda *_: None).to_dict() == {
        "channels": [],
        "openings": 3,
    }
    assert list_channels(market.pair.payer, market.chain, lambda *_: None).to_dict() == {"channels": []}


def test_a_damaged_line(market: Market) -> None:
    """It is left out and kept aside; nothing is signed under an offer that it may have stood for."""
    path = market.pair.payee.openings.path
    first, one, two, three = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + one + two[:40] + b"x" + two[41:] + three)
    assert broken(about(market)) == {"openings-damaged"}
    assert path.read_bytes().count(b"\n") == 4
    mended = about(market, repair=True)
    assert (mended.ok, broken(mended)) == (True, set())
    assert "kept 2 openings and left 1 damaged lines out" in mended.repaired[0]
    [aside] = [each for each in path.parent.iterdir() if each.name != "notes"]
    assert aside.read_bytes().splitlines(keepends=True)[2] != two
    market.restart()
    assert Stranger(0).opens(market)  # signed before
    for number in (1, 9):
        assert not Stranger(number).opens(market)
        assert market.events[-1].error is not None
        assert isinstance(market.events[-1].error, Refused)
        assert market.events[-1].error.slug == "offer-void"
    market.own = market.publish()
    market.seller = market.new_seller()
    assert Stranger(9).opens(market)
    assert fsck(market.pair.payee).wrong == 0


def test_a_published_offer_that_is_gone(market: Market) -> None:
    """It is said of each that it cannot become a channel."""
    (market.pair.payee.directory / "offers" / f"{market.own.offer.offer_id}.toml").unlink()
    assert broken(about(market)) == {"openings-damaged"}


def test_two_under_one_offer(market: Market) -> None:
    """No program writes that."""
    from mpchan.values import replace

    openings = market.pair.payee.openings
    one = next(openings.all())
    openings.add(replace(one, outpoint=replace(one.outpoint, vout=one.outpoint.vout + 1)))
    assert broken(about(market)) == {"opening-twice"}
