"""The file that a buyer fills: sparse, never over another one, and right in the end whatever happened to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.market.cheats import held_pieces
from support.market.market import PIECE, PRICE, Market
from support.party import balance_sat

from mpchan import durability
from mpchan.errors import MpchanError, NotPossible, StorageError, UsageError
from mpchan.market.asking import Step
from mpchan.market.output import Output, already_there, part_path
from mpchan.sale.manifest import Sale
from mpchan.units import Amount

LENGTH = 64 << 10
CONTENT = [bytes([number]) * LENGTH for number in (1, 2, 3)] + [b"\x04" * 100]
SALE = Sale(
    "film", 3 * LENGTH + 100, LENGTH, Amount(PRICE), 0, tuple(sha256(piece).digest() for piece in CONTENT)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "film"


def chunks(piece: bytes, size: int = 1000) -> Iterator[memoryview]:
    """As they arrive: in two buffers that are used in turn."""
    buffer, other = bytearray(size), bytearray(size)
    for at in range(0, len(piece), size):
        part = piece[at : at + size]
        buffer[: len(part)] = part
        yield memoryview(buffer)[: len(part)]
        buffer, other = other, buffer


def finished(path: Path, numbers: list[int]) -> None:
    """The last pieces, and the end."""
    with Output(path, SALE) as output:
        for number in numbers:
            assert output.take(number, chunks(CONTENT[number - 1]))
        output.finish()


def filled(path: Path, *numbers: int) -> None:
    with Output(path, SALE) as output:
        for number in numbers:
            assert output.take(number, chunks(CONTENT[number - 1]))


def test_a_file_that_is_partly_there_takes_no_more_room_than_that(path: Path) -> None:
    filled(path, 3)
    status = part_path(path).stat()
    assert status.st_size == SALE.length
    assert LENGTH <= status.st_blocks * 512 < 2 * LENGTH
    assert part_path(path).read_bytes() == bytes(2 * LENGTH) + CONTENT[2] + bytes(100)
    assert already_there(path, SALE, [1, 2, 3, 4]) == {3}
    filled(path, 4, 1)
    with Output(path, SALE) as output:
        assert output.held([1, 2, 3, 4]) == {1, 3, 4}
        assert output.take(2, chunks(CONTENT[1]))
        output.finish()
    assert path.read_bytes() == b"".join(CONTENT)
    assert not part_path(path).exists()


@pytest.mark.parametrize(
    "bad",
    [b"", CONTENT[1][:-1], CONTENT[1] + b"\x02", CONTENT[0], CONTENT[1][:-1] + b"\x03", CONTENT[1] * 9],
    ids=["empty", "short", "long", "another piece", "one byte", "endless"],
)
def test_a_wrong_piece_and_then_the_right_one(path: Path, bad: bytes) -> None:
    """The wrong one stays in its own place."""
    filled(path, 1, 3)
    with Output(path, SALE) as output:
        assert not output.take(2, chunks(bad))
        assert output.held([1, 2, 3, 4]) == {1, 3}
        assert output.take(2, chunks(CONTENT[1]))
        assert output.held([1, 2, 3, 4]) == {1, 2, 3}


def test_what_was_wrong_before_is_seen(path: Path) -> None:
    filled(path, 1, 2, 3)
    with part_path(path).open("r+b") as file:
        file.seek(LENGTH + 7)
        file.write(b"\0")
    assert already_there(path, SALE, [1, 2, 4]) == {1}


REFUSED = ["directory", "fifo", "device", "socket", "short", "long", "link", "dangling"]


def lay(path: Path, kind: str) -> None:
    """Something that is no file to fill."""
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind in ("short", "long"):
        path.write_bytes(b"x" * (SALE.length + (1 if kind == "long" else -1)))
    else:
        target = {"device": "/dev/null", "dangling": "nowhere"}.get(kind, str(path) + ".victim")
        if kind == "link":
            Path(target).write_bytes(bytes(SALE.length))
        path.symlink_to(target)


def looked_at(path: Path) -> set[int] | str:
    """The pieces that are there, or why nothing can be there."""
    try:
        return already_there(path, SALE, [1, 2, 3, 4])
    except (UsageError, StorageError) as error:
        return error.slug


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("place", ["final", "part"])
def test_what_is_no_file_to_fill(path: Path, kind: str, place: str) -> None:
    """Nobody is led elsewhere, waits for ever, or finds anything overwritten."""
    laid = path if place == "final" else part_path(path)
    lay(laid, kind)
    before = {entry.name: os.lstat(entry) for entry in path.parent.iterdir()}
    with pytest.raises(MpchanError) as caught:
        Output(path, SALE)
    assert caught.value.slug in ("output-exists", "output-failed")
    assert looked_at(path) in (set(), "output-exists", "output-failed")
    after = {entry.name: os.lstat(entry) for entry in path.parent.iterdir()}
    assert {name: status.st_size for name, status in after.items()} == {
        name: status.st_size for name, status in before.items()
    }


def test_a_file_beside_the_one_that_was_begun(path: Path) -> None:
    """It would be overwritten in the end, without anybody's having been asked."""
    filled(path, 1)
    path.write_text("my thesis")
    for use in (lambda: already_there(path, SALE, [1]), lambda: Output(path, SALE)):
        with pytest.raises(UsageError) as caught:
            use()
        assert caught.value.slug == "output-exists"
    assert path.read_text() == "my thesis"


def test_a_file_that_comes_into_the_final_place_meanwhile(path: Path) -> None:
    filled(path, 1, 2, 3)
    with Output(path, SALE) as output:
        assert output.take(4, chunks(CONTENT[3]))
        path.write_text("my thesis")
        with pytest.raises(StorageError) as caught:
            output.finish()
    assert (caught.value.slug, path.read_text()) == ("output-failed", "my thesis")
    assert part_path(path).stat().st_size == SALE.length
    path.unlink()
    with Output(path, SALE) as output:
        output.finish()
    assert path.read_bytes() == b"".join(CONTENT)


def test_names_and_folders_that_cannot_be(path: Path) -> None:
    for bad in (path / "x" / "y", path.with_name("x" * 250), path.with_name("x" * 4000)):
        with pytest.raises(StorageError) as caught, Output(bad, SALE):
            pass
        assert caught.value.slug == "output-failed"
        assert looked_at(bad) in (set(), "output-failed")


def test_room_for_what_is_wanted_and_no_more(path: Path) -> None:
    """A disk that could not hold the whole file holds some pieces of it."""
    huge = Sale("film", 1 << 43, 1 << 20 << 20, Amount(PRICE), 0, SALE.hashes * 2)
    with Output(path, huge) as output:
        output.require_room([])
        with pytest.raises(NotPossible) as caught:
            output.require_room([1, 2, 3])
        assert caught.value.slug == "no-space"
    with Output(path.with_name("other"), SALE) as output:
        output.require_room([1, 2, 3, 4])


class Full:
    """A disk that has no room any more for some kinds of step."""

    def __init__(self, kinds: tuple[str, ...], after: int = 0) -> None:
        self.kinds, self.left = kinds, after
        self._real = durability.step

    def __call__(self, kind: str, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if kind in self.kinds:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._real(kind, act, *args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "after"),
    [("create", 0), ("cut", 0), ("write", 0), ("write", 70), ("sync", 0), ("sync", 1), ("replace", 0)],
)
def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, after: int) -> None:
    """Whenever it is full: an error that says so, and afterwards what was written is there."""
    monkeypatch.setattr(durability, "step", Full((kind,), after))
    with pytest.raises(StorageError) as caught:
        finished(path, [1, 2, 3, 4])
    assert (caught.value.slug, caught.value.exit_code) == ("output-failed", 7)
    assert "no space left on device" in caught.value.message
    monkeypatch.undo()
    assert not path.exists()
    held = already_there(path, SALE, [1, 2, 3, 4])
    finished(path, sorted({1, 2, 3, 4} - held))
    assert path.read_bytes() == b"".join(CONTENT)


# the file of a purchase ---------------------------------------------------------------------------


class Vandal(list[Step]):
    """Somebody who writes into the file once all pieces have come, before it is verified."""

    def __init__(self, market: Market, *numbers: int, times: int = 1) -> None:
        super().__init__()
        self._market, self._numbers, self._times = market, numbers, times

    def append(self, step: Step) -> None:
        """Is told of each step."""
        super().append(step)
        if step.kind != "verifying" or not self._times:
            return
        self._times -= 1
        with part_path(self._market.output).open("r+b") as file:
            for number in self._numbers:
                file.seek((number - 1) * PIECE)
                file.write(b"vandal")


@pytest.mark.parametrize("numbers", [(1,), (5,), (1, 2, 3, 4, 5)])
def test_what_was_changed_is_fetched_again_and_costs_nothing(
    market: Market, numbers: tuple[int, ...]
) -> None:
    before = balance_sat(market.pair.payee, market.chain)
    market.steps = Vandal(market, *numbers)
    result = market.buy()
    assert market.is_whole()
    assert (result.paid_sat, market.paid, market.received) == (5 * PRICE, 5 * PRICE, 5 * PRICE)
    assert len(market.asked("piece")) == len(numbers)
    assert len(market.asked("update")) == 5
    market.chain.mine(1)
    assert balance_sat(market.pair.payee, market.chain) - before == 5 * PRICE


def test_what_changes_again_and_again_is_not_fetched_for_ever(market: Market) -> None:
    """The disk is not to be relied on, and the seller has done nothing wrong."""
    market.steps = Vandal(market, 2, times=100)
    for pieces in ("2", None):
        with pytest.raises(StorageError) as caught:
            market.buy(pieces)
        assert caught.value.slug == "output-failed"
        assert [step.kind for step in market.steps].count("verifying") == 2
        assert not market.output.exists()
        market.steps.clear()
        market.restart()
    market.steps = []
    market.buy()
    assert market.output.read_bytes()[PIECE : 2 * PIECE] == market.file.read_bytes()[PIECE : 2 * PIECE]


def test_what_was_there_before_and_is_lost_is_another_purchase(market: Market) -> None:
    """This one pays for nothing of it; it ends well for what it has paid, and the next one buys the rest."""
    market.output.write_bytes(market.file.read_bytes()[: 2 * PIECE].ljust(market.sale.length, b"\0"))
    market.steps = Vandal(market, 1, 4)
    with pytest.raises(StorageError) as caught:
        market.buy()
    assert (caught.value.slug, caught.value.exit_code) == ("output-changed", 7)
    assert "pieces 1 were there before" in caught.value.message
    assert held_pieces(market) == {2, 3, 4, 5}
    assert not market.output.exists()
    assert (market.paid, market.received) == (3 * PRICE, 3 * PRICE)
    market.chain.mine(1)
    market.restart()
    assert market.buy().paid_sat == PRICE
    assert market.is_whole()


def test_a_disk_that_is_full_in_the_middle_of_a_purchase(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is paid for and could not be written is delivered again."""
    full = Full(("write",))
    real = Output.take

    def take(output: Output, number: int, *rest: Any) -> bool:
        with monkeypatch.context() as patch:
            if number == 3:
                patch.setattr(durability, "step", full)
            return real(output, number, *rest)

    monkeypatch.setattr(Output, "take", take)
    with pytest.raises(StorageError) as caught:
        market.buy()
    assert caught.value.slug == "output-failed"
    assert "1000 sat are lost at most, the price of one piece" in str(caught.value.hint)
    monkeypatch.undo()
    market.restart()
    market.buy()
    assert (market.is_whole(), market.paid, market.received) == (True, 5 * PRICE, 5 * PRICE)
