"""Seller and buyer are killed again and again, at any moment, and what must hold holds after each kill.

The tests kill a few times; the campaign kills a hundred times in one sale:

    pytest -m campaign tests/market -n 0 -s
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from support.market.market import each_scheme
from support.market.processes import MIB, PRICE, TERMINATE, WAYS, Program, Shop, make_film, opened

from mpchan.wallet.purchases import Purchases

SEED = 5
"""Of the moments; what happens at them is the machine's, so a failure may need another run."""


def sold_through(shop: Shop, kills: int, longest: float) -> int:
    """One sale from its beginning to its end, with so many kills; how many there were before it was over.

    Args:
        longest: seconds between a restart and the next kill, at most.
    """
    moments = random.Random(SEED)
    print(f"\n{shop.way}: seed {SEED}")
    shop.sell().kill()  # so that there is an offer
    start = {"seller": shop.start_selling, "buyer": shop.buy}
    going: dict[str, Program] = {side: begin() for side, begin in start.items()}
    done = 0
    with shop.mining():
        while done < kills:
            time.sleep(moments.uniform(0, longest))
            side = moments.choice(["seller", "buyer"])
            if not going["buyer"].is_running:
                break
            assert going["seller"].is_running, going["seller"].err
            going[side].kill()
            done += 1
            shop.check_debt()
            going[side] = start[side]()
        going["buyer"].ends_well()
        going["seller"].until(lambda: going["seller"].events("selling"), "its beginning")
        assert going["seller"].ended(TERMINATE) == 0
    print(f"{done} kills, {len(shop.programs)} programs")
    return done


def check_sold(shop: Shop) -> None:
    """As if nothing had happened."""
    assert shop.is_whole()
    shop.check_end()
    assert [event.amount_sat for event in shop.accepted()] == [PRICE] * shop.sale.count
    purchases = Purchases(shop.folder / "buyer")
    assert all(purchases.load(path).done for path in purchases.files())


@pytest.mark.parametrize(("way", "scheme"), [*((way, None) for way in WAYS), ("mailbox", "taproot")])
def test_killed_some_times(way: str, scheme: str | None, tmp_path: Path, bare: Path, film: Path) -> None:
    with opened(Shop(tmp_path, bare, way, film, 128, scheme=scheme)) as shop:
        assert sold_through(shop, 5, 1.0) > 1
        check_sold(shop)


@pytest.mark.campaign
@each_scheme
@pytest.mark.parametrize("way", WAYS)
def test_killed_a_hundred_times(way: str, scheme: str | None, tmp_path: Path, bare: Path) -> None:
    film = make_film(tmp_path / "film.mkv", 512 * MIB)
    many = ("--lock-time-unit", "seconds")  # of updates, more than a young chain has blocks
    with opened(Shop(tmp_path, bare, way, film, 4096, options=many, scheme=scheme)) as shop:
        assert sold_through(shop, 100, 0.8) == 100
        check_sold(shop)
