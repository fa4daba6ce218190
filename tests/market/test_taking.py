"""A piece is hashed while the next part of it comes, and goes to the disk while the next piece comes."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpchan import durability
from mpchan.errors import StorageError
from mpchan.market import output
from mpchan.market.output import Output, part_path
from mpchan.sale.manifest import Sale
from mpchan.transport.base import Arrival
from mpchan.units import Amount

CHUNK, CHUNKS = 1_000, 5
PIECE = CHUNK * CHUNKS
LIMIT_SECONDS = 20
DATA = random.Random(1).randbytes(2 * PIECE)


@pytest.fixture
def sale() -> Sale:
    """Two pieces of five chunks each."""
    hashes = tuple(hashlib.sha256(DATA[start : start + PIECE]).digest() for start in (0, PIECE))
    return Sale("film", 2 * PIECE, PIECE, Amount(1_000), 0, hashes)


class Source:
    """A piece that comes in parts.

    Attributes:
        came: how many parts have come.
    """

    def __init__(self, number: int) -> None:
        self._place = (number - 1) * PIECE
        self.came = 0
        self.more = threading.Condition()

    def read(self, buffer: memoryview) -> int:
        """The next part."""
        buffer[:] = DATA[self._place : self._place + len(buffer)]
        self._place += len(buffer)
        with self.more:
            self.came += 1
            self.more.notify_all()
        return len(buffer)

    def chunks(self) -> Iterator[memoryview]:
        """As they come over a line."""
        return Arrival("piece", length=PIECE, read=self.read).chunks(CHUNK)


def test_a_part_is_hashed_while_the_next_one_comes(
    tmp_path: Path, sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slowest hash there is: it looks at a part only when the next one has come. It sees what was written."""
    source = Source(1)

    class Late:
        """SHA-256 of what stands in memory late."""

        def __init__(self) -> None:
            self._real, self._seen = hashlib.sha256(), 0

        def update(self, chunk: memoryview) -> None:
            self._seen += 1
            with source.more:
                assert source.more.wait_for(
                    lambda: source.came > self._seen or source.came == CHUNKS, LIMIT_SECONDS
                )
            self._real.update(chunk)

        def digest(self) -> bytes:
            return self._real.digest()

    monkeypatch.setattr(output, "sha256", Late)
    with Output(tmp_path / "film", sale) as taking:
        assert taking.take(1, source.chunks())
    assert part_path(tmp_path / "film").read_bytes()[:PIECE] == DATA[:PIECE]


def test_a_piece_goes_to_the_disk_while_the_next_one_comes(
    tmp_path: Path, sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, so that the payment in between need not wait for it; and it is there when the next one is."""
    synced, begun = list[str](), threading.Event()
    real = durability.step

    def step(kind: str, act: Any, *arguments: Any, **options: Any) -> Any:
        if kind == "sync":
            synced.append(threading.current_thread().name)
            begun.set()
        return real(kind, act, *arguments, **options)

    monkeypatch.setattr(durability, "step", step)
    monkeypatch.setattr(output, "_SYNC_SECONDS", LIMIT_SECONDS)
    with Output(tmp_path / "film", sale) as taking:
        assert taking.take(1, Source(1).chunks())
        assert not begun.wait(0.05)
        assert taking.take(2, Source(2).chunks())
        assert len(synced) == 1
        assert taking.held({1, 2}) == {1, 2}
        taking.finish()
        assert len(synced) == 3
    assert (tmp_path / "film").read_bytes() == DATA
    assert threading.main_thread().name not in synced[:2]


def test_a_piece_goes_to_the_disk_although_no_other_comes(
    tmp_path: Path, sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Event()
    real = durability.step

    def step(kind: str, act: Any, *arguments: Any, **options: Any) -> Any:
        result = real(kind, act, *arguments, **options)
        if kind == "sync":
            synced.set()
        return result

    monkeypatch.setattr(durability, "step", step)
    with Output(tmp_path / "film", sale) as taking:
        assert taking.take(1, Source(1).chunks())
        assert synced.wait(LIMIT_SECONDS)


def test_a_disk_that_fails_behind_is_told(
    tmp_path: Path, sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next piece at the latest, before another one is paid for."""
    real = durability.step

    def step(kind: str, act: Any, *arguments: Any, **options: Any) -> Any:
        if kind == "sync":
            raise OSError(5, "input/output error")
        return real(kind, act, *arguments, **options)

    monkeypatch.setattr(durability, "step", step)
    with Output(tmp_path / "film", sale) as taking:
        assert taking.take(1, Source(1).chunks())
        with pytest.raises(StorageError) as caught:
            taking.take(2, Source(2).chunks())
    assert caught.value.slug == "output-failed"
