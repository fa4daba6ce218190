"""Many buyers at the same time from one seller process, whose memory does not grow with them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.processes import MIB, PRICE, TERMINATE, WAYS, Program, Shop, make_film, opened

PIECES, PIECE = 2, 16 * MIB
ROOM_KIB = 14 * 1024
"""What the seller may grow by: less than a piece, so that none can ever have stayed in its memory."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


@pytest.fixture
def shop(way: str, scheme: str | None, buyers: int, tmp_path: Path, bare: Path) -> Iterator[Shop]:
    film = make_film(tmp_path / "film.mkv", PIECES * PIECE)
    with opened(Shop(tmp_path, bare, way, film, PIECES, buyers=buyers, scheme=scheme)) as shop:
        yield shop


def all_at_once(shop: Shop, names: list[str]) -> None:
    """These buyers buy at the same time, and each gets its file, which does not stay on the disk."""
    going = [shop.buy(name=name) for name in names]
    for buyer in going:
        buyer.ends_well()
    for name in names:
        assert shop.is_whole(name)
        assert shop.paid(name) == PIECES * PRICE
        shop.output(name).unlink()


def memory(shop: Shop, seller: Program, first: int) -> tuple[int, int, int]:
    """Of the seller in KiB: after the first few buyers, after all others, who come at once, and at the most."""
    with shop.mining(0.5):
        all_at_once(shop, shop.buyers[:first])
        few = seller.resident_kib()
        began = time.monotonic()
        all_at_once(shop, shop.buyers[first:])
        took = time.monotonic() - began
    many, most = seller.resident_kib(), seller.resident_kib("VmHWM")
    print(
        f"\n{shop.way}: {few / 1024:.1f} MiB after {first} buyers, {many / 1024:.1f} after {len(shop.buyers)}, "
        f"{most / 1024:.1f} at the most; {len(shop.buyers) - first} buyers at once took {took:.1f} s"
    )
    return few, many, most


def check(shop: Shop, seller: Program, first: int) -> None:
    """All are served, and the memory stays."""
    few, many, most = memory(shop, seller, first)
    assert many - few < ROOM_KIB
    assert most - few < PIECE // 1024
    assert shop.received() == len(shop.buyers) * PIECES * PRICE
    assert len(shop.wallet("seller").channels.names()) == len(shop.buyers)
    assert len({event["session"] for event in seller.events("settlement")}) == len(shop.buyers)
    assert not seller.events("refused")
    assert seller.ended(TERMINATE) == 0


@pytest.mark.parametrize(
    ("way", "scheme"), [*((way, None) for way in WAYS), ("tcp", "taproot")], indirect=["scheme"]
)
@pytest.mark.parametrize("buyers", [10])
def test_ten_buyers(shop: Shop) -> None:
    check(shop, shop.sell(), 2)


@pytest.mark.campaign
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("buyers", [60])
def test_fifty_buyers(shop: Shop) -> None:
    check(shop, shop.sell(), 10)
