"""Line 82, of the file that is sold and of the file that is filled: both are changed by others while a sale goes on.

No buyer pays for a piece that the seller's file does not hold any more; what a buyer ends up with is what was sold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.market.cheats import Forger
from support.market.market import PIECE, PRICE, Market
from support.party import balance_sat

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import SellerRefused, StorageError
from mpchan.market import sold_file
from mpchan.market.asking import Step
from mpchan.market.output import part_path

ANN = "aa" * 16


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """Five pieces of 1,000 bytes, the last one of 999, for 1,000 sat each; its file has not changed for long."""
    with EmbeddedChain(tmp_path / "chain") as chain, chain.engine():
        yield Market(tmp_path, chain)


class Meddler(list[Step]):
    """Somebody who does something once a step of the purchase has been told so many times."""

    def __init__(self, kind: str, times: int, deed: Callable[[], object]) -> None:
        super().__init__()
        self._kind, self._times, self._deed = kind, times, deed

    def append(self, step: Step) -> None:
        """Is told of each step."""
        super().append(step)
        if step.kind == self._kind:
            self._times -= 1
            if not self._times:
                self._deed()


def writing(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def in_place(path: Path) -> None:
    """Another content from the third piece on, and the time set back."""
    times = path.stat()
    writing(path, 2 * PIECE, b"x" * (2 * PIECE))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


# the file that is sold ----------------------------------------------------------------------------

SPOILT: dict[str, Callable[[Path], object]] = {
    "82 the sold file is written to": lambda path: writing(path, 2 * PIECE, b"x"),
    "82 the sold file has its time set back": in_place,
    "82 the sold file shrinks": lambda path: os.truncate(path, 2 * PIECE),
    "82 the sold file grows": lambda path: os.truncate(path, 6 * PIECE),
    "82 the sold file is replaced": replaced,
    "82 the sold file is removed": os.unlink,
}


@pytest.mark.parametrize("name", SPOILT)
def test_nothing_is_taken_for_what_the_file_does_not_hold(market: Market, name: str) -> None:
    """Two pieces have come when it happens: no wrong one ever does, and the channel closes with one price at stake."""
    market.steps = Meddler("piece", 2, lambda: SPOILT[name](market.file))
    with pytest.raises(SellerRefused) as caught:
        market.buy()
    assert caught.value.reason == "file-changed"
    assert "wrong-piece" not in [step.kind for step in market.steps]
    assert market.delivered() == {1, 2}
    assert len({request.body for request in market.asked("update")}) == 3
    market.chain.mine(1)
    assert market.pair.status(market.name) == ("closed", "closed")
    assert balance_sat(market.pair.payee, market.chain) <= 3 * PRICE


def test_82_pieces_that_are_still_right_are_sold_on(market: Market) -> None:
    """A content whose time was set back is wrong from the third piece on; who buys the first two gets them."""
    market.pair.coin()
    ann = Forger(market, ANN)
    ann.open("1-3")
    in_place(market.file)
    assert [ann.pay(number) for number in (1, 2)] == [1, 2]
    ann.refused("update", ann.update(3, 3 * PRICE), "file-changed")
    assert ann.received == 2 * PRICE


TOUCHED: dict[str, Callable[[Path], object]] = {
    "82 another mode": lambda path: path.chmod(0o444),
    "82 a second name": lambda path: path.with_name("second").hardlink_to(path),
    "82 moved away and back": lambda path: path.rename(path.with_name("away")).rename(path),
    "82 its time set to what it was": lambda path: os.utime(
        path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns)
    ),
}


@pytest.mark.parametrize("name", TOUCHED)
def test_a_file_that_is_only_touched_is_sold_on(market: Market, name: str) -> None:
    """A backup by hard links, a chmod: no content has changed, and each piece is looked at to know that."""
    market.steps = Meddler("piece", 2, lambda: TOUCHED[name](market.file))
    assert market.buy().paid_sat == 5 * PRICE
    assert market.is_whole()


def test_82_each_piece_is_read_once_however_often_it_is_asked_for(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody makes the seller read its disk without end, be the file right or wrong."""
    market.pair.coin()
    ann = Forger(market, ANN)
    ann.open()
    in_place(market.file)
    read: list[int] = []
    real = sold_file.wrong_pieces  # type: ignore[attr-defined]

    def counted(path: Path, hashes: Any, numbers: Any) -> list[int]:
        read.extend(numbers)
        return real(path, hashes, numbers)

    monkeypatch.setattr(sold_file, "wrong_pieces", counted)
    assert ann.pay(1) == 1
    for _ in range(3):
        assert ann.piece(1) == 1
    assert read == [0]
    for _ in range(3):
        ann.refused("update", ann.update(3, 3 * PRICE), "file-changed")
    assert sorted(read) == [0, 1, 2]


# the file that is filled --------------------------------------------------------------------------

FILLED: dict[str, Callable[[Path], object]] = {
    "82 the output shrinks": lambda path: os.truncate(path, PIECE),
    "82 the output grows": lambda path: os.truncate(path, 7 * PIECE),
    "82 the output is written to": lambda path: writing(path, PIECE, b"x" * PIECE),
}


@pytest.mark.parametrize("name", FILLED)
def test_what_is_done_to_the_output_is_mended(market: Market, name: str) -> None:
    market.steps = Meddler("piece", 4, lambda: FILLED[name](part_path(market.output)))
    assert market.buy().paid_sat == 5 * PRICE
    assert market.is_whole()
    assert market.output.stat().st_size == market.sale.length


GONE: dict[str, Callable[[Path], object]] = {
    "82 the output is replaced": replaced,
    "82 the output is removed": os.unlink,
    "82 the output is moved away": lambda path: path.rename(path.with_name("away")),
}


@pytest.mark.parametrize("kind", ["piece", "verifying"])
@pytest.mark.parametrize("name", GONE)
def test_an_output_that_is_another_file_in_the_end(market: Market, name: str, kind: str) -> None:
    """What was verified is not what stands there: said, not renamed; the same command fetches all of it again."""
    part = part_path(market.output)
    market.steps = Meddler(kind, 3 if kind == "piece" else 1, lambda: GONE[name](part))
    with pytest.raises(StorageError) as caught:
        market.buy()
    assert (caught.value.slug, caught.value.exit_code) == ("output-failed", 7)
    assert "not there any more" in caught.value.message
    assert not market.output.exists()
    market.steps = []
    market.restart()
    assert market.buy().paid_sat == 5 * PRICE
    assert market.is_whole()
    assert (market.paid, market.received) == (5 * PRICE, 5 * PRICE)
