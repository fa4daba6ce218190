"""A long journal goes on in a new file: nothing is lost, whenever the process dies, and no file grows without end."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_journal import NAME, paying, reading, save

from mpchan import durability
from mpchan.bitcoin.network import REGTEST
from mpchan.errors import ParseError, StorageError
from mpchan.wallet import channel_files
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.journal import Entry, beginning, entries, fold
from mpchan.wallet.past import closed_files, history
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.records import body_of
from mpchan.wallet.recovery import examine, restart

SHORT = 20_000


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChannelFiles:
    monkeypatch.setattr(channel_files, "CLOSE_BYTES", SHORT)
    return ChannelFiles(tmp_path, REGTEST)


MESSAGE = "00" * 400


def pay(files: ChannelFiles, numbers: range) -> None:
    for number in numbers:
        save(files, paying(number), "paid", MESSAGE)


def journal(files: ChannelFiles) -> Path:
    return files.journal_path(NAME)


def all_numbers(files: ChannelFiles) -> list[int]:
    """The updates in all files of the history, in their order; the chain is checked on the way."""
    found = list(history(journal(files), NAME))
    assert [entry.sequence for entry, _ in found] == list(
        range(found[0][0].sequence, found[-1][0].sequence + 1)
    )
    return [entry.changes["update"]["number"] for entry, _ in found if entry.event == "paid"]


def test_files_stay_short_and_the_history_whole(files: ChannelFiles) -> None:
    """Each file alone gives the channel at its end; all of them give every payment; the state file keeps its size."""
    sizes = set()
    save(files, paying(0), "funded")
    for number in range(1, 200):
        pay(reading(files), range(number, number + 1))  # each by a process of its own
        sizes.add(files.state_path(NAME).stat().st_size)
        assert reading(files).load(NAME) == paying(number)
    closed = closed_files(journal(files))
    assert len(closed) > 8
    assert max(path.stat().st_size for path in [*closed, journal(files)]) < SHORT + 2000
    assert max(sizes) - min(sizes) <= 30
    assert all_numbers(files) == list(range(1, 200))
    for path in [*closed, journal(files)]:
        body: dict[str, Any] = {}
        for entry, _ in entries(path, beginning(NAME)):
            body = fold(body, entry)
        record = paying(body["update"]["number"])
        assert body == body_of(record)
    found = examine(files, NAME)
    assert found.sound
    assert found.body == body_of(paying(199))


def test_a_batch_closes_a_journal_too(files: ChannelFiles) -> None:
    save(files, paying(0), "funded")
    with files.lock(NAME):
        for begin in range(1, 400, 50):
            batch = files.batch(NAME)
            for number in range(begin, begin + 50):
                batch.add_payment("paid", number, paying(number).paid.sat, bytes.fromhex(MESSAGE))
            files.commit(NAME, batch, paying(begin + 49), snapshot_every=10_000)
    assert len(closed_files(journal(files))) >= 7
    assert all_numbers(files) == list(range(1, 401))
    assert files.load(NAME) == reading(files).load(NAME) == paying(400)


class Died(BaseException):
    """As if the process were no more."""


def closing(files: ChannelFiles) -> int:
    """Pay until the next payment closes the journal for the second time; that payment's number."""
    save(files, paying(0), "funded")
    for number in itertools.count(1):
        if closed_files(journal(files)) and journal(files).stat().st_size > SHORT - 1000:
            return number
        pay(files, range(number, number + 1))
    raise AssertionError


def steps_of(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], at: int, when: str, error: Any) -> int:
    """Do something that ends at one step; how many steps there were up to there."""
    count = 0

    def step(kind: str, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and when == "before":
            if isinstance(error, Died) and kind in ("close", "unlock"):
                do(*arguments, **options)  # what a program holds is let go when it dies, whatever it was at
            raise error
        result = do(*arguments, **options)
        if count == at and when == "after":
            raise error
        return result

    with monkeypatch.context() as patch:
        patch.setattr(durability, "step", step)
        act()
    return count


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step(files: ChannelFiles, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The channel is as it was or as it is to be; it pays on, closes its journal again, and its history is whole."""
    number = closing(files)
    kept = files.directory.with_name(f"{files.directory.name}-kept")
    shutil.copytree(files.directory, kept)
    total = steps_of(monkeypatch, lambda: pay(reading(files), range(number, number + 1)), 0, "", None)
    assert len(closed_files(journal(files))) == 2
    assert total > 20
    for at in range(1, total + 1):
        shutil.rmtree(files.directory)
        shutil.copytree(kept, files.directory)
        with pytest.raises(Died):
            steps_of(monkeypatch, lambda: pay(reading(files), range(number, number + 1)), at, when, Died())
        found = reading(files).load(NAME)
        assert isinstance(found, PayerRecord)
        assert found.updates in (number - 1, number), at
        assert examine(reading(files), NAME).journal_fault is None, at
        pay(reading(files), range(found.updates + 1, number + 40))
        assert reading(files).load(NAME) == paying(number + 39)
        assert all_numbers(files) == list(range(1, number + 40)), at
        assert len(closed_files(journal(files))) >= 3
        found_now = examine(reading(files), NAME)
        assert (found_now.state_fault, found_now.journal_fault) == (None, None), at


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_disk_that_fails_at_any_step(
    files: ChannelFiles, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The payment is written down or refused; that a journal was not closed is nobody's trouble."""
    number = closing(files)
    kept = files.directory.with_name(f"{files.directory.name}-kept")
    shutil.copytree(files.directory, kept)
    pay(files, range(number, number + 1))
    total = 40
    for at in range(1, total):
        shutil.rmtree(files.directory)
        shutil.copytree(kept, files.directory)
        one = reading(files)
        done = number
        try:
            steps_of(
                monkeypatch,
                lambda one=one: pay(one, range(number, number + 1)),  # type: ignore[misc]
                at,
                when,
                OSError(5, "bad"),
            )
        except StorageError:
            done = number - 1
        assert one.load(NAME) == reading(files).load(NAME) == paying(done), at
        pay(one, range(done + 1, number + 5))
        assert all_numbers(files) == list(range(1, number + 5)), at


def test_without_its_closed_files_the_channel_is_whole_and_its_history_later(files: ChannelFiles) -> None:
    save(files, paying(0), "funded")
    pay(files, range(1, 100))
    closed = closed_files(journal(files))
    last = [entry for entry, _ in entries(closed[1], beginning(NAME))][-1]
    closed[1].unlink()
    assert all_numbers(files) == list(range(last.changes["update"]["number"] + 1, 100))
    for path in closed_files(journal(files)):
        path.unlink()
    first, _ = next(history(journal(files), NAME))
    assert first.event == "continued"
    assert dict(first.changes) == body_of(paying(first.changes["update"]["number"]))
    assert reading(files).load(NAME) == paying(99)
    assert examine(files, NAME).sound
    files.state_path(NAME).unlink()
    assert reading(files).load(NAME) == paying(99)


def test_a_damaged_closed_file_is_named_and_costs_the_channel_nothing(files: ChannelFiles) -> None:
    save(files, paying(0), "funded")
    pay(files, range(1, 100))
    path = closed_files(journal(files))[1]
    data = path.read_bytes()
    for bent in (data.replace(b'"event":"paid"', b'"event":"said"', 1), data[:-200], data + data[-900:]):
        path.write_bytes(bent)
        with pytest.raises(ParseError, match=r"line|ends"):
            all_numbers(files)
        assert examine(files, NAME).journal_fault is not None
        assert reading(files).load(NAME) == paying(99)


def test_a_journal_that_goes_on_from_other_lines_is_damage(files: ChannelFiles, tmp_path: Path) -> None:
    """A later journal file in the place of this one: the state file does not fit it."""
    save(files, paying(0), "funded")
    pay(files, range(1, 60))
    kept = files.state_path(NAME).read_bytes()
    pay(files, range(60, 100))
    files.state_path(NAME).write_bytes(kept)
    with pytest.raises(StorageError) as caught:
        reading(files).load(NAME)
    assert caught.value.slug == "channel-damaged"


def test_a_reader_without_the_lock_sees_one_state_or_the_next_while_files_are_closed(
    files: ChannelFiles,
) -> None:
    save(files, paying(0), "funded")
    seen, failures, done = [0], [], threading.Event()

    def read() -> None:
        other = reading(files)
        while not done.is_set():
            for each in (other, reading(files)):
                try:
                    record = each.load(NAME)
                except Exception as error:  # noqa: BLE001  # whatever it is, the test has to name it
                    failures.append(repr(error))
                    return
                seen.append(record.updates)

    thread = threading.Thread(target=read)
    thread.start()
    pay(files, range(1, 300))
    done.set()
    thread.join()
    assert not failures
    assert seen == sorted(seen)
    assert len(closed_files(journal(files))) > 10


def test_a_reader_between_two_looks(files: ChannelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read the state file before the journal was closed, and the journal after: it looks again."""
    number = closing(files)
    other = reading(files)
    old = other._state_text(NAME)
    pay(files, range(number, number + 10))
    texts = [old, other._state_text(NAME)]
    monkeypatch.setattr(other, "_state_text", lambda name: texts.pop(0))
    assert other.load(NAME) == paying(number + 9)
    assert not texts


def test_a_new_journal_after_damage_leaves_the_closed_ones_aside(files: ChannelFiles) -> None:
    save(files, paying(0), "funded")
    pay(files, range(1, 60))
    before = closed_files(journal(files))
    assert before
    restart(files, NAME, body_of(paying(59)))
    assert closed_files(journal(files)) == []
    assert len(list(files.directory.glob("*.damaged-*"))) == len(before) + 1
    found: list[Entry] = []
    assert examine(reading(files), NAME, found.append).sound
    assert [entry.event for entry in found] == ["restarted"]
    pay(reading(files), range(60, 120))
    assert all_numbers(files) == list(range(60, 120))
