"""What a look into a mailbox costs, counted in calls of the system, whatever strangers have put there."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.transport.ways import SESSION, MailboxWay, asked, selling

from mpchan.transport.folder import REQUESTS, Folder, Name
from mpchan.transport.requests import Requests

LOOK_SECONDS = 0.1
"""Between two looks of a seller that has nothing to do."""


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Mailbox:
    """A folder of requests, and the seller's eyes."""

    def __init__(self, directory: Path) -> None:
        self.folder = Folder(directory, REQUESTS)
        self.folder.prepare(own=False)
        self.clock = Clock()
        self.requests = Requests(self.folder, self.clock)
        self.done: dict[str, int] = {}
        self.paid: set[str] = set()

    def put(self, name: str, data: bytes = b"00\n") -> Path:
        path = self.folder.path / name
        path.write_bytes(data)
        return path

    def look(self) -> list[str]:
        """One look, and the sessions whose requests are whole."""
        if self.requests.read_folder():
            self.requests.await_reading(lambda session: self.done.get(session, 0), self.paid.__contains__)
        found = []
        for name, stamp, still in self.requests.due():
            if self.folder.read(name) is None:
                self.requests.wait_for(name, stamp, still)
            else:
                found.append(name.session)
                self.done[name.session] = name.number
        return found

    def looks(self, seconds: float) -> list[str]:
        """As a seller looks for so long."""
        found = []
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.clock.now += LOOK_SECONDS
            found += self.look()
        return found


@pytest.fixture
def box(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path / "mailbox")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the system was asked, by the function's name."""
    counts = {"scandir": 0, "stat": 0, "lstat": 0, "open": 0}

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return real(*arguments, **named)

        return call

    for name in counts:
        monkeypatch.setattr(os, name, counting(name, getattr(os, name)))
    return counts


JUNK = {
    "other names": lambda number: (f"junk-{number}", b""),
    "almost a request": lambda number: (f"{number:032x}-000001-offer.hex (conflicted copy)", b"00\n"),
    "number 0": lambda number: (f"{number:032x}-000000-offer.hex", b"00\n"),
    "unfinished": lambda number: (f"{number:032x}-000001-offer.hex", b"00"),
    "answered": lambda number: (f"{number:032x}-000001-offer.hex", b"00\n"),
}


@pytest.mark.parametrize("name", JUNK)
def test_a_folder_in_which_nothing_happens(box: Mailbox, counted: dict[str, int], name: str) -> None:
    """A hundred looks are a hundred questions about the folder, whatever is in it, and it is read every few seconds."""
    for number in range(1, 301):
        box.put(*JUNK[name](number))
    box.looks(120)
    counted.update(dict.fromkeys(counted, 0))
    box.looks(10)
    assert counted["stat"] <= 101
    assert counted["scandir"] <= 10
    assert counted["open"] == 0
    assert counted["lstat"] <= (300 * 10 / 30 + 300 if name == "unfinished" else 0)


@pytest.mark.parametrize("name", JUNK)
def test_an_honest_request_among_junk(box: Mailbox, counted: dict[str, int], name: str) -> None:
    """It is found by the next look, though more junk comes all the time; of that no file is opened twice."""
    for number in range(1, 301):
        box.put(*JUNK[name](number))
    box.looks(10)
    counted.update(dict.fromkeys(counted, 0))
    for number in range(1, 11):
        box.put(*JUNK[name](300 + number))
        box.put(f"{SESSION}-{number:06d}-offer.hex")
        assert SESSION in box.looks(LOOK_SECONDS)
    assert counted["open"] <= 20
    assert counted["scandir"] == 10


def test_the_more_there_is_the_rarer_it_is_read(box: Mailbox, counted: dict[str, int]) -> None:
    """Though something comes all the time."""
    for number in range(2_000):
        box.put(f"junk-{number}")
    box.look()
    counted.update(dict.fromkeys(counted, 0))
    for number in range(100):
        box.put(f"more-{number}")
        box.clock.now += 0.001
        box.look()
    assert 20 <= counted["scandir"] <= 34


def test_what_is_still_being_written_is_looked_at_more_and_more_rarely(
    box: Mailbox, counted: dict[str, int]
) -> None:
    path = box.put(f"{SESSION}-000001-offer.hex", b"00")
    box.looks(1)
    assert counted["lstat"] >= 4
    box.looks(600)
    counted.update(dict.fromkeys(counted, 0))
    box.looks(60)
    assert counted["lstat"] == 2
    path.write_bytes(b"0011")
    box.looks(30)
    path.write_bytes(b"0011\n")
    assert box.looks(15) == [SESSION], "whoever has gone on is looked at often again"


def test_a_look_opens_so_many_and_no_more(box: Mailbox, counted: dict[str, int]) -> None:
    """Malformed ones too; those who have paid are served first."""
    for number in range(1, 1_001):
        box.put(f"{number:032x}-000001-offer.hex")
    box.put(f"{SESSION}-000001-update.hex")
    box.paid.add(SESSION)
    found = []
    for _ in range(4):
        counted["open"] = 0
        box.clock.now += LOOK_SECONDS
        found.append(box.look())
        assert counted["open"] <= 256
    assert found[0][0] == SESSION
    assert [len(each) for each in found] == [256, 256, 256, 233]


def test_a_file_system_that_does_not_tell(box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is read all the same; once it has been seen to change unsaid, it is read at each look."""
    monkeypatch.setattr(box.folder, "folder_stamp", lambda: None)
    box.looks(10)
    box.put(f"{SESSION}-000001-offer.hex")
    assert box.looks(1.1) == [SESSION]
    for number in range(2, 10):
        box.put(f"{SESSION}-{number:06d}-offer.hex")
        assert box.looks(LOOK_SECONDS) == [SESSION]


def test_two_changes_within_one_tick_of_the_file_system(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock may count in steps of two seconds: the second change leaves the folder as it was."""
    box.looks(10)
    box.put(f"{SESSION}-000001-offer.hex")
    assert box.looks(LOOK_SECONDS) == [SESSION]
    coarse = (1, 2, 1_796_000_000 * 10**9, 1_796_000_000 * 10**9)
    monkeypatch.setattr(box.folder, "folder_stamp", lambda: coarse)
    box.looks(1)
    box.put(f"{SESSION}-000002-offer.hex")
    assert box.looks(LOOK_SECONDS) == [SESSION]


def test_a_buyer_reads_the_folders_once(mailbox: MailboxWay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies in them, and however often it asks; the seller beside it is not counted."""
    read: list[Path] = []
    real = Folder.names

    def names(folder: Folder, session: str | None = None) -> list[Name]:
        if session is not None:
            read.append(folder.path)
        return real(folder, session)

    monkeypatch.setattr(Folder, "names", names)
    with selling(mailbox.inbox()), closing(mailbox.line()) as line:
        for _ in range(10):
            asked(line)
    assert read == [mailbox.directory / "to-payee", mailbox.directory / "to-payer"]


def test_names_are_compared_as_a_whole(box: Mailbox) -> None:
    """What sync programs, file managers and editors make of a request is none."""
    good = f"{SESSION}-000001-offer.hex"
    stem = good.removesuffix(".hex")
    for name in (
        f"{stem} (conflicted copy).hex",
        f"{stem} (Ann's conflicted copy 2026-11-30).hex",
        f"{stem}.sync-conflict-20261130-120000-ABCDEFG.hex",
        f"{stem} 2.hex",
        f"{stem} - Copy.hex",
        f"{stem}~",
        f"{good}~",
        f"{good}.part",
        f".{good}.aB3dE9",
        f".~{good}",
        good.upper(),
    ):
        box.put(name)
    assert box.look() == []
    box.put(good)
    assert box.looks(LOOK_SECONDS) == [SESSION]
    assert box.requests.newest == {SESSION: Name(SESSION, 1, "offer.hex")}
