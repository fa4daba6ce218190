"""A part of a file into another, on each of the ways that a system may have."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.transport.ways import some_bytes

from mpchan.transport import answers as copying
from mpchan.transport.answers import copy_part

DATA = some_bytes(3_000_000)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def target_in(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder / "target", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def little_by_little(place: int, real: Callable[..., int]) -> Callable[..., int]:
    """A system that does less than it is asked to, and then has no liking for the rest.

    Args:
        place: of the count among the call's arguments.
    """
    calls = iter(range(3))

    def copy(*given: int) -> int:
        if next(calls, None) is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        arguments = list(given)
        arguments[place] = min(777, arguments[place])
        return real(*arguments)

    return copy


SYSTEMS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without the call": {"copy_file_range": None},
    "no such call": {"copy_file_range": failing(errno.ENOSYS)},
    "another file system": {"copy_file_range": failing(errno.EXDEV)},
    "not these files": {"copy_file_range": failing(errno.EINVAL)},
    "not supported": {"copy_file_range": failing(errno.EOPNOTSUPP)},
    "forbidden": {"copy_file_range": failing(errno.EPERM)},
    "says that nothing is there": {"copy_file_range": lambda *_: 0},
    "macOS": {"copy_file_range": None, "sendfile": failing(errno.ENOTSOCK)},
    "neither": {"copy_file_range": failing(errno.ENOSYS), "sendfile": failing(errno.EINVAL)},
    "neither says anything": {"copy_file_range": lambda *_: 0, "sendfile": lambda *_: 0},
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(("offset", "length"), [(0, len(DATA)), (1, 1), (12345, 2_500_000), (2_999_999, 1)])
def test_the_same_bytes_on_every_system(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, offset: int, length: int
) -> None:
    for call, does in SYSTEMS[name].items():
        monkeypatch.setattr(os, call, does, raising=False)
    with target_in(tmp_path) as target:
        assert copy_part(source, offset, length, target, lambda: True) == length
    assert (tmp_path / "target").read_bytes() == DATA[offset : offset + length]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_source_that_is_too_short(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for call, does in SYSTEMS[name].items():
        monkeypatch.setattr(os, call, does, raising=False)
    with target_in(tmp_path) as target:
        assert copy_part(source, len(DATA) - 1000, 5000, target, lambda: True) == 1000
    with target_in(tmp_path) as target:
        assert copy_part(source, len(DATA), 1, target, lambda: True) == 0


def test_one_way_goes_on_where_the_other_stopped(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (within_kernel := getattr(os, "copy_file_range", None)) is not None:
        monkeypatch.setattr(os, "copy_file_range", little_by_little(2, within_kernel))
    monkeypatch.setattr(os, "sendfile", little_by_little(3, os.sendfile))
    with target_in(tmp_path) as target:
        assert copy_part(source, 5, 100_000, target, lambda: True) == 100_000
    assert (tmp_path / "target").read_bytes() == DATA[5:100_005]


def test_what_the_last_way_says_counts(source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in ("copy_file_range", "sendfile", "write"):
        monkeypatch.setattr(os, call, failing(errno.ENOSPC), raising=False)
    with target_in(tmp_path) as target, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        copy_part(source, 0, 10, target, lambda: True)


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_can_be_broken_off(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for call, does in SYSTEMS[name].items():
        monkeypatch.setattr(os, call, does, raising=False)
    for size in ("_KERNEL_BYTES", "_PLAIN_BYTES"):
        monkeypatch.setattr(copying, size, 1000)
    steps = iter([True] * 10)
    with target_in(tmp_path) as target:
        done = copy_part(source, 0, len(DATA), target, lambda: next(steps, False))
    assert done <= 10_000
    assert (tmp_path / "target").read_bytes() == DATA[:done]
    with target_in(tmp_path) as target:
        assert copy_part(source, 0, len(DATA), target, lambda: False) == 0
