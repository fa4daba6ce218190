"""``generation``: drawn once, kept in a file of its own, and never guessed where that is damaged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mpchan.errors import StorageError
from mpchan.wallet.offers import draw_generation, read_generation


def test_it_is_drawn_once(tmp_path: Path) -> None:
    assert read_generation(tmp_path) is None
    assert not list(tmp_path.iterdir())
    drawn = draw_generation(tmp_path)
    assert len(bytes.fromhex(drawn)) == 8
    assert draw_generation(tmp_path) == read_generation(tmp_path) == drawn
    assert stat.S_IMODE((tmp_path / "generation").stat().st_mode) == 0o600
    (tmp_path / "generation").unlink()
    assert draw_generation(tmp_path) != drawn


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"0" * 15, b"0" * 18, b"G" * 16, b"AB" * 8, b"\xff\xfe", b"ab cd" * 4]
)
def test_a_damaged_one_is_named_and_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "generation").write_bytes(data)
    for look in (read_generation, draw_generation):
        with pytest.raises(StorageError) as caught:
            look(tmp_path)
        assert (caught.value.slug, caught.value.exit_code) == ("generation-damaged", 7)
    assert (tmp_path / "generation").read_bytes() == data
