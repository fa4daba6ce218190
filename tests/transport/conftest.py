"""Both ways, and a watch over what they leave behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.transport.ways import WAYS, MailboxWay, TcpWay, Way, awaited


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    made: Way = WAYS[request.param](tmp_path)  # type: ignore[assignment]
    return made


@pytest.fixture
def mailbox(tmp_path: Path) -> MailboxWay:
    return MailboxWay(tmp_path)


@pytest.fixture
def tcp(tmp_path: Path) -> TcpWay:
    return TcpWay(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """No thread and no open file outlives a test."""
    threads, files = set(threading.enumerate()), _open_files()
    yield
    assert set(threading.enumerate()) <= threads
    awaited(lambda: _open_files() <= files, "the end of the last file")


def _open_files() -> int:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return len(os.listdir(folder))
