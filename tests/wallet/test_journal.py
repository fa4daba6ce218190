"""The journal of a channel and its state file: what one says follows from the other, whatever is cut or bent."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.protocol import (
    PAYEE,
    facts_of,
    make_funded,
    make_opening,
    make_secured,
    make_terms,
    replace,
    settlement_psbt,
    update_psbt,
)

from mpchan.bitcoin.network import REGTEST
from mpchan.channel import payee, payer
from mpchan.errors import MpchanError, ParseError, StorageError
from mpchan.units import Amount
from mpchan.wallet import channel_files, journal
from mpchan.wallet.channel_files import SNAPSHOT_EVERY, ChannelFiles
from mpchan.wallet.journal import Body, Entry, beginning, difference, entries, fold, payment_written, written
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.records import body_of
from mpchan.wallet.recovery import examine
from mpchan.wallet.storage import read_text
from mpchan.wallet.store import canonical

Record = PayerRecord | PayeeRecord

TERMS = make_terms()
OTHER = make_terms(salt=1)
NAME = TERMS.name
FUNDED = make_funded(TERMS)


def paying(number: int) -> PayerRecord:
    """The payer after so many payments."""
    return PayerRecord(3, replace(FUNDED, number=number, paid=Amount(1000 * number)))


def taking(number: int) -> PayeeRecord:
    """The payee after so many payments."""
    if not number:
        return PayeeRecord(5, payee.Active(TERMS))
    message = update_psbt(TERMS, number, 1000 + number)
    state, _ = payee.accept(payee.Active(TERMS), message, facts_of(TERMS), PAYEE)
    return PayeeRecord(5, state)


def save(files: ChannelFiles, record: Record, event: str = "paid", message: str | None = None) -> None:
    files.save(record, event, message)


@pytest.fixture
def files(tmp_path: Path) -> ChannelFiles:
    return ChannelFiles(tmp_path, REGTEST)


def lines(files: ChannelFiles, name: str = NAME) -> list[bytes]:
    return files.journal_path(name).read_bytes().splitlines(keepends=True)


def reading(files: ChannelFiles) -> ChannelFiles:
    """Another process."""
    return ChannelFiles(files.directory, REGTEST)


def damage(files: ChannelFiles) -> str:
    with pytest.raises(StorageError) as caught:
        reading(files).load(NAME)
    assert (caught.value.slug, caught.value.exit_code) == ("channel-damaged", 7)
    assert NAME in caught.value.message
    assert "mpchan fsck" in str(caught.value.hint)
    return caught.value.message


# the fold -----------------------------------------------------------------------------------------


@st.composite
def payer_lives(draw: st.DrawFn) -> list[Record]:
    """A payer's channel from its opening on, as far as it comes."""
    states: list[Any] = [make_opening(TERMS)]
    if draw(st.booleans()):
        states += [make_secured(TERMS), FUNDED]
        for amount in draw(st.lists(st.integers(330, 900), max_size=12)):
            before = states[-1]
            states.append(replace(before, number=before.number + 1, paid=before.paid + Amount(amount)))
        last = states[-1]
        ends: list[list[Any]] = [
            [],
            [payer.Settling(last, last.paid)],
            [payer.Settling(last, last.paid), payer.Refunding(last, last.paid)],
            [payer.Refunding(last, None)],
            [payer.Abandoned(TERMS, last)],
        ]
        states += draw(st.sampled_from(ends))
    elif draw(st.booleans()):
        states.append(payer.Abandoned(TERMS))
    index = draw(st.integers(0, 2**31 - 1))
    return [PayerRecord(index, state) for state in states]


@st.composite
def payee_lives(draw: st.DrawFn) -> list[Record]:
    """A payee's channel."""
    states: list[Any] = [payee.Active(TERMS)]
    if draw(st.booleans()):
        states.append(payee.take_funding(states[-1], FUNDED.funding))  # type: ignore[arg-type]
    number = paid = 0
    for amount in draw(st.lists(st.integers(330, 900), max_size=6)):
        number, paid = number + draw(st.integers(1, 3)), paid + amount
        states.append(payee.accept(states[-1], update_psbt(TERMS, number, paid), facts_of(TERMS), PAYEE)[0])
    end = draw(st.sampled_from(["", "settled", "claimed"]))
    if end == "settled":
        message = settlement_psbt(TERMS, paid + 500)
        states.append(payee.accept(states[-1], message, facts_of(TERMS), PAYEE)[0])
    elif end == "claimed":
        states.append(payee.Closing(states[-1], None))
    elif not number:
        states.append(payee.Abandoned(TERMS))
    return [PayeeRecord(2, state) for state in states]


lives = st.one_of(payer_lives(), payee_lives())


@settings(max_examples=40)
@given(lives)
def test_all_lines_folded_are_the_channel_at_every_point(life: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = ChannelFiles(Path(folder), REGTEST)
        for count, record in enumerate(life, 1):
            save(files, record, f"event-{count}", "00" * count)
            assert files.load(NAME) == record
            assert reading(files).load(NAME) == record
            body: Body = {}
            read = list(entries(files.journal_path(NAME), beginning(NAME)))
            for entry, _ in read:
                body = fold(body, entry)
            assert body == body_of(record)
            assert [entry.event for entry, _ in read] == [f"event-{number + 1}" for number in range(count)]
            assert read[-1][0].message == "00" * count
        # and without the state file
        files.state_path(NAME).unlink()
        assert reading(files).load(NAME) == life[-1]


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)
bodies = st.dictionaries(st.text(max_size=3), values, max_size=5)


@given(bodies, bodies)
def test_a_difference_folds_into_what_it_was_taken_of(before: Body, after: Body) -> None:
    changes, gone = difference(before, after)
    entry = Entry(1, 0, "x", changes, gone)
    assert fold(before, entry) == after
    assert not changes.keys() & set(gone)
    data, _ = written(beginning("x"), entry)
    assert data.count(b"\n") == 1
    assert data.isascii()
    assert b"\0" not in data


# an end that was cut off --------------------------------------------------------------------------


def test_cut_at_any_length_it_is_a_state_that_was_or_a_named_damage(
    files: ChannelFiles, tmp_path: Path
) -> None:
    """The state file lies three payments behind; a kill leaves a part of the last line, a bad disk of all of it."""
    for number in range(4):
        save(files, taking(number), "accepted" if number else "refund-signed")
    whole = files.journal_path(NAME).read_bytes()
    ends = [0]
    for line in lines(files):
        ends.append(ends[-1] + len(line))
    states = {end: taking(number) for number, end in enumerate(ends[1:])}
    for length in sorted({*range(0, len(whole), 13), *(end + by for end in ends for by in (-2, -1, 0, 1))}):
        if not 0 <= length < len(whole):
            continue
        files.journal_path(NAME).write_bytes(whole[:length])
        if length < ends[1]:  # less than the state file was written after
            damage(files)
            continue
        kept = max(end for end in ends if end <= length)
        assert reading(files).load(NAME) == states[kept]
    # the next event cuts the unfinished line off
    again = reading(files)
    save(again, taking(9), "accepted")
    assert [b'"sequence":4' in line for line in lines(files)] == [False, False, False, True]
    assert reading(files).load(NAME) == taking(9)
    # however long that is
    with open(files.journal_path(NAME), "ab") as file:
        file.write(b"x" * 50_000)
    save(reading(files), taking(10), "accepted")
    assert [entry.sequence for entry, _ in entries(files.journal_path(NAME), beginning(NAME))] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert files.journal_path(NAME).stat().st_size < 20_000


def test_lines_that_stand_together_are_all_there_or_none_is(files: ChannelFiles) -> None:
    """A batch whose first lines need the last: cut at any length, the channel is as before it, or as after it."""
    save(files, taking(1), "refund-signed")
    batches = [(2, 6), (7, 7), (8, 10)]
    ends = [files.journal_path(NAME).stat().st_size]
    for first, last in batches:
        with files.lock(NAME):
            batch = files.batch(NAME)
            for number in range(first, last):
                batch.add_payment("accepted", number, taking(number).paid.sat, b"theirs", more=True)
            batch.add(taking(last), "accepted", signature=b"theirs".hex())
            files.commit(NAME, batch, taking(last), snapshot_every=10_000)
        ends.append(files.journal_path(NAME).stat().st_size)
    whole = files.journal_path(NAME).read_bytes()
    states = dict(zip(ends, (1, 6, 7, 10), strict=True))
    for length in range(ends[0], len(whole) + 1, 7):
        files.journal_path(NAME).write_bytes(whole[:length])
        kept = max(end for end in ends if end <= length)
        again = reading(files)
        assert again.load(NAME) == taking(states[kept])
        found = examine(again, NAME)
        assert (found.unfinished, found.end.end, found.journal_fault) == (length - kept, kept, None)
        assert found.body == body_of(taking(states[kept]))
    # what is written next cuts the rest off, and goes on from there
    files.journal_path(NAME).write_bytes(whole[: ends[3] - 10])
    save(reading(files), taking(9), "accepted")
    assert [entry.sequence for entry, _ in entries(files.journal_path(NAME), beginning(NAME))] == [
        *range(1, 9)
    ]
    assert reading(files).load(NAME) == taking(9)
    # zeros, where power was lost
    files.journal_path(NAME).write_bytes(whole[: ends[2] + 500] + bytes(700))
    assert reading(files).load(NAME) == taking(7)


def test_a_payments_line_is_written_as_any_other(files: ChannelFiles) -> None:
    after = beginning(NAME)
    for more in (False, True):
        data, position = payment_written(after, "paid", 7, 1000, "00ff", 1_700_000_000, more=more)
        update = {"update": {"number": 7, "paid_sat": 1000}}
        entry = Entry(1, 1_700_000_000, "paid", update, signature="00ff", more=more)
        assert (data, position) == written(after, entry)


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "zz"},
        {"signature": 1},
        {"changes": {}},
        {"changes": {"update": {"number": 1}}},
        {"changes": {"update": {"number": 0, "paid_sat": 1}}},
        {"changes": {"update": {"number": 1, "paid_sat": -1}}},
        {"changes": {"update": None}},
        {"more": 1},
    ],
)
def test_a_payments_line_without_what_its_message_follows_from_is_damage(
    files: ChannelFiles, change: dict[str, Any]
) -> None:
    line = {"changes": {"update": {"number": 1, "paid_sat": 1}}, "event": "paid", "signature": "00", **change}
    text = canonical({**line, "sequence": 1, "time": 0})
    digest = sha256(beginning(NAME).digest.encode() + text.encode()).hexdigest()
    files.directory.mkdir(exist_ok=True)
    files.journal_path(NAME).write_text(f'{{"sha256":"{digest}","line":{text}}}\n')
    with pytest.raises(ParseError, match="is not an event"):
        list(entries(files.journal_path(NAME), beginning(NAME)))


def test_before_there_is_a_state_file_the_journal_alone_is_the_channel(files: ChannelFiles) -> None:
    """A process that is killed within the first save leaves a journal alone."""
    save(files, taking(0), "refund-signed")
    files.state_path(NAME).unlink()
    whole = files.journal_path(NAME).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        files.journal_path(NAME).write_bytes(whole[:length])
        other = reading(files)
        assert (other.names(), other.has(NAME)) == ([], False)
        with pytest.raises(StorageError) as caught:
            other.load(NAME)
        assert caught.value.slug == "file-missing"
        save(other, taking(0), "refund-signed")  # the same again
        assert reading(files).load(NAME) == taking(0)
        files.state_path(NAME).unlink()
    files.journal_path(NAME).write_bytes(whole)
    other = reading(files)
    assert (other.names(), other.has(NAME), other.load(NAME)) == ([NAME], True, taking(0))
    assert other.paths() == [files.journal_path(NAME)]


def test_zeros_at_the_end_are_a_line_that_power_was_lost_in(files: ChannelFiles) -> None:
    for number in range(3):
        save(files, taking(number))
    first, second, third = lines(files)
    path = files.journal_path(NAME)
    for last in (
        bytes(len(third)),
        third[:50] + bytes(20) + third[70:],
        third[:-1] + b"\0",
        bytes(3) + b"\n",
    ):
        path.write_bytes(first + second + last)
        assert reading(files).load(NAME) == taking(1)
    path.write_bytes(first + second[:50] + bytes(20) + second[70:] + third)
    assert "line 2 of the journal" in damage(files)


def test_a_whole_line_that_does_not_fit_is_no_unfinished_one(files: ChannelFiles) -> None:
    """Else one bent bit would take a payment back, and its number would be used again for another."""
    for number in range(3):
        save(files, taking(number))
    path = files.journal_path(NAME)
    whole = path.read_bytes()
    start = len(lines(files)[0])
    for at in range(start, len(whole) - 1, 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "of the journal" in damage(files)
    assert path.read_bytes() != whole  # the files stay as they are


# the chain of digests -----------------------------------------------------------------------------


def bend(kind: str, all_lines: list[bytes]) -> list[bytes]:
    first, second, third, fourth = all_lines
    return {
        "left out": [first, third, fourth],
        "the first left out": [second, third, fourth],
        "doubled": [first, second, second, third, fourth],
        "exchanged": [first, third, second, fourth],
        "an empty line": [first, b"\n", second, third, fourth],
        "two in one": [first, second[:-1] + third, fourth],
        "a space": [first, second.replace(b'"line":', b'"line": '), third, fourth],
        "another event": [first, second.replace(b'"accepted"', b'"acceptee"'), third, fourth],
        "no JSON": [first, b"a diary\n", third, fourth],
        "a new digest": [first, _rewritten(second, first), third, fourth],
        "another channel's": [written(beginning("x"), Entry(1, 0, "x", {}))[0], second, third, fourth],
    }[kind]


def _rewritten(line: bytes, before: bytes) -> bytes:
    """Another line with a digest that fits the one before; so the one behind does not."""
    digest = before[11:75].decode()
    position = journal.Position(1, digest, 0, len(before))
    return written(position, Entry(2, 0, "accepted", {"key_index": 1}))[0]


@pytest.mark.parametrize(
    "kind",
    [
        "left out", "the first left out", "doubled", "exchanged", "an empty line", "two in one", "a space",
        "another event", "no JSON", "a new digest", "another channel's",
    ],
)  # fmt: skip
def test_the_chain_shows_what_was_changed(files: ChannelFiles, kind: str) -> None:
    """From the beginning, as ``mpchan fsck`` reads it; and where there is no state file, for every command."""
    for number in range(4):
        save(files, taking(number), "accepted")
    path = files.journal_path(NAME)
    path.write_bytes(b"".join(bend(kind, lines(files))))
    with pytest.raises(ParseError) as caught:
        list(entries(path, beginning(NAME)))
    assert caught.value.slug == "channel-damaged"
    assert "line " in caught.value.message
    files.state_path(NAME).unlink()
    damage(files)


def test_a_whole_journal_belongs_to_one_channel(files: ChannelFiles) -> None:
    for number in range(3):
        save(files, taking(number), "accepted")
    path = files.journal_path(NAME)
    assert len(list(entries(path, beginning(NAME)))) == 3
    with pytest.raises(ParseError, match="line 1 of the journal"):
        list(entries(path, beginning(OTHER.name)))


@settings(max_examples=150)
@given(st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject) -> None:
    """All but the line feed of the last line, without which that is unfinished."""
    position, text = beginning(NAME), b""
    for number in range(3):
        changes, gone = difference({} if not number else body_of(taking(number - 1)), body_of(taking(number)))
        line, position = written(position, Entry(number + 1, 7, "accepted", changes, gone))
        text += line
    at = data.draw(st.integers(0, len(text) - 2))
    byte = data.draw(st.integers(1, 255).filter(lambda byte: byte != text[at]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(text[:at] + bytes([byte]) + text[at + 1 :])
        with pytest.raises(ParseError) as caught:
            list(entries(path, beginning(NAME)))
    assert caught.value.slug == "channel-damaged"


@pytest.mark.parametrize(
    "line",
    [
        {}, {"sequence": 2}, {"sequence": 2, "time": 0, "event": "x", "changes": {}},
        {"sequence": 0, "time": 0, "event": "x", "changes": {}},
        {"sequence": 1, "time": 0, "event": "x", "changes": []},
        {"sequence": 1, "time": 0.5, "event": "x", "changes": {}},
        {"sequence": 1, "time": 0, "event": 1, "changes": {}},
        {"sequence": 1, "time": 0, "event": "x", "changes": {}, "gone": 5},
    ],
)  # fmt: skip
def test_nonsense_with_a_digest_that_fits_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: dict[str, Any]
) -> None:
    monkeypatch.setattr(journal.json, "dumps", lambda *_, **__: str(line).replace("'", '"'))  # type: ignore[attr-defined]
    data, _ = written(beginning("x"), Entry(1, 0, "x", {}))
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ParseError, match="line 1 of the journal"):
        list(entries(tmp_path / "x", beginning("x")))


def test_a_missing_journal_is_damage(files: ChannelFiles) -> None:
    """The state file may lie behind: to pay or to accept after it could use a number twice."""
    save(files, paying(1))
    files.journal_path(NAME).unlink()
    assert "its journal is missing" in damage(files)
    with pytest.raises(StorageError):
        save(reading(files), paying(2))
    assert not files.journal_path(NAME).exists()


def test_a_journal_of_the_same_length_with_other_lines_is_damage(files: ChannelFiles, tmp_path: Path) -> None:
    save(files, paying(1))
    other = ChannelFiles(tmp_path / "other", REGTEST)
    (tmp_path / "other").mkdir()
    save(other, replace(paying(1), key_index=4))
    shutil.copy(other.journal_path(NAME), files.journal_path(NAME))
    assert "line 1 of the journal is not the one" in damage(files)


# readers, writers and their death -----------------------------------------------------------------


def test_a_reader_without_the_lock_sees_one_state_or_the_next(files: ChannelFiles) -> None:
    save(files, paying(0))
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        mine, last = reading(files), 0
        try:
            while not done.is_set():
                number = mine.load(NAME).updates
                assert number >= last
                assert mine.names() == [NAME]
                last = number
        except BaseException as error:  # noqa: BLE001  # of another thread
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 3 * SNAPSHOT_EVERY):
            save(files, paying(number))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not failures


def test_two_writers_in_turn_see_each_others_lines(files: ChannelFiles) -> None:
    writers = [files, reading(files)]
    for number in range(10):
        writer = writers[number % 2]
        with writer.lock(NAME):
            if number:
                assert writer.load(NAME) == paying(number - 1)
            save(writer, paying(number))
    assert len(list(entries(files.journal_path(NAME), beginning(NAME)))) == 10


def test_while_it_is_held_the_state_is_read_once(
    files: ChannelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else can change it meanwhile; what was read before counts no more."""
    save(files, paying(0))
    read: list[object] = []
    monkeypatch.setattr(channel_files, "read_text", lambda path: (read.append(path), read_text(path))[1])
    with files.lock(NAME):
        assert files.load(NAME) == files.load(NAME) == paying(0)
    assert len(read) == 1
    save(reading(files), paying(1))
    read.clear()
    with files.lock(NAME):
        assert files.load(NAME) == paying(1)
        save(files, paying(2))
    assert len(read) == 1


def test_two_threads_of_one_program_wait_for_each_other(files: ChannelFiles) -> None:
    save(files, paying(0))

    def write() -> None:
        for number in range(25):
            save(files, paying(number))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(entries(files.journal_path(NAME), beginning(NAME)))) == 101


def test_an_append_that_was_taken_back_is_forgotten(files: ChannelFiles) -> None:
    """A reader has seen a line whose fsync then failed; another one of the same length stands there now."""
    save(files, paying(1))
    before = files.journal_path(NAME).read_bytes()
    other = reading(files)
    save(other, paying(2))
    assert files.load(NAME) == paying(2)
    files.journal_path(NAME).write_bytes(before)
    assert files.load(NAME) == paying(1)
    save(reading(files), paying(3))
    assert files.load(NAME) == paying(3)


class Counter:
    """Counts what reaches the disk."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fsyncs: list[str] = []
        self.written = 0
        self.fail: Callable[[str], OSError | None] = lambda path: None
        fsync, write = os.fsync, os.write

        def counted_fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            error = self.fail(path)
            if error is not None:
                raise error
            self.fsyncs.append(os.path.basename(path))
            fsync(descriptor)

        def counted_write(descriptor: int, data: Any) -> int:
            count = write(descriptor, data)
            self.written += count
            return count

        patch.setattr(os, "fsync", counted_fsync)
        patch.setattr(os, "write", counted_write)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Counter:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("only Linux tells which file a descriptor is")
    return Counter(monkeypatch)


def test_what_a_dead_process_left_without_an_fsync_is_made_durable(
    files: ChannelFiles, disk: Counter
) -> None:
    """Whoever holds the lock may build on it; nothing that does leaves before."""
    save(files, paying(1))
    [line] = lines(files)
    position = journal.Position(1, line[11:75].decode(), 0, len(line))
    changes, _ = difference(body_of(paying(1)), body_of(paying(2)))
    data, _ = written(position, Entry(2, 0, "paid", changes))
    with open(files.journal_path(NAME), "ab") as file:
        file.write(data)
    disk.fsyncs.clear()
    other = reading(files)
    with other.lock(NAME):
        assert other.load(NAME) == paying(2)
    assert disk.fsyncs == [f"{NAME}.journal"]
    with other.lock(NAME):
        other.load(NAME)
    assert disk.fsyncs == [f"{NAME}.journal"]
    # before a broadcast, within the lock
    third = reading(files)
    with third.lock(NAME):
        third.load(NAME)
        third.make_sure()
        assert len(disk.fsyncs) == 2
    # the fsync of the next line is one for all
    fourth = reading(files)
    with fourth.lock(NAME):
        fourth.load(NAME)
        save(fourth, paying(3))
    assert len(disk.fsyncs) == 3
    # who reads without the lock lets nothing out
    reading(files).load(NAME)
    assert len(disk.fsyncs) == 3


def test_a_line_that_cannot_be_made_durable_is_taken_back(files: ChannelFiles, disk: Counter) -> None:
    save(files, paying(1))
    before = files.journal_path(NAME).read_bytes()
    for times, slug in ((1, "write-failed"), (2, "write-unsure")):
        failures = [OSError(errno.EIO, "Input/output error")] * times
        disk.fail = lambda path, left=failures: left.pop() if left and path.endswith(".journal") else None  # type: ignore[misc]
        disk.fsyncs.clear()
        with pytest.raises(StorageError) as caught:
            save(files, paying(2))
        assert (caught.value.slug, failures) == (slug, [])
        assert len(disk.fsyncs) == 2 - times, "that it is gone is made durable too"
        assert files.journal_path(NAME).read_bytes() == before
        assert (files.load(NAME), reading(files).load(NAME)) == (paying(1), paying(1))
    save(files, paying(2))
    assert reading(files).load(NAME) == paying(2)


def test_the_first_line_that_fails_leaves_nothing(files: ChannelFiles, disk: Counter) -> None:
    for name in ("names", f"{NAME}.journal"):
        failures = [OSError(errno.ENOSPC, "No space left on device")]
        disk.fail = lambda path, name=name, left=failures: (  # type: ignore[misc]
            left.pop() if left and path.endswith(name) else None
        )
        with pytest.raises(StorageError) as caught:
            save(files, paying(1))
        assert (caught.value.slug, failures) == ("write-failed", [])
        assert (files.names(), files.journal_path(NAME).exists()) == ([], False)
    save(files, paying(1))
    assert reading(files).load(NAME) == paying(1)


def test_a_full_disk_in_the_middle_of_a_line(files: ChannelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    save(files, paying(1))
    before = files.journal_path(NAME).read_bytes()
    write = os.write

    def half(descriptor: int, data: Any) -> int:
        if len(data) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(StorageError) as caught:
            save(files, paying(2))
    assert caught.value.slug == "write-failed"
    assert "no space left" in caught.value.message
    assert files.journal_path(NAME).read_bytes() == before
    save(files, paying(2))
    assert reading(files).load(NAME) == paying(2)


def test_a_state_file_that_cannot_be_written_costs_nothing(files: ChannelFiles, disk: Counter) -> None:
    """The journal holds the event; a later one writes the state file."""
    save(files, paying(1))
    disk.fail = lambda path: OSError(errno.EIO, "Input/output error") if ".tmp" in path else None
    settling = PayerRecord(3, payer.Settling(FUNDED, Amount(0)))
    text = files.state_path(NAME).read_text()
    save(files, settling, "settlement")
    assert files.state_path(NAME).read_text() == text
    assert (files.load(NAME), reading(files).load(NAME)) == (settling, settling)
    disk.fail = lambda path: None
    refunding = PayerRecord(3, payer.Refunding(FUNDED, Amount(0)))
    save(reading(files), refunding, "refund")
    assert "refunding" in files.state_path(NAME).read_text()


# what a payment costs -----------------------------------------------------------------------------


def test_a_payment_costs_one_append_however_many_there_were(files: ChannelFiles, disk: Counter) -> None:
    """Bytes and fsyncs are counted, not timed: the last costs what the first did, and the state file does not grow."""
    save(files, paying(0))
    sizes, costs, snapshots = set(), set(), 0
    for number in range(1, 301):
        disk.fsyncs.clear()
        disk.written = 0
        other = reading(files)  # every payment by a process of its own
        with other.lock(NAME):
            other.load(NAME)
            save(other, paying(number), "paid", "00" * 500)
        if len(disk.fsyncs) == 1:
            assert disk.fsyncs == [f"{NAME}.journal"]
            costs.add(disk.written)
        else:
            assert disk.fsyncs[0] == f"{NAME}.journal"
            assert len(disk.fsyncs) == 3
            snapshots += 1
        sizes.add(files.state_path(NAME).stat().st_size)
    assert snapshots == 300 // SNAPSHOT_EVERY
    assert max(costs) - min(costs) <= 8  # digits of number and total
    assert max(costs) < 1400
    assert max(sizes) - min(sizes) <= 20


def test_a_payee_keeps_one_update_however_many_there_were(files: ChannelFiles) -> None:
    sizes = set()
    save(files, taking(0))
    for number in range(1, 140, 3):
        save(files, taking(number), "accepted")
        sizes.add(len(lines(files)[-1]))
    assert max(sizes) - min(sizes) <= 20


def test_to_load_reads_only_what_is_behind_the_state_file(
    files: ChannelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        save(files, paying(number))
    parsed = 0
    real = journal._parsed

    def counted(*arguments: Any) -> Entry:
        nonlocal parsed
        parsed += 1
        return real(*arguments)

    monkeypatch.setattr(journal, "_parsed", counted)
    other = reading(files)
    assert other.load(NAME) == paying(199)
    assert 0 < parsed < SNAPSHOT_EVERY
    once = parsed
    assert other.load(NAME) == paying(199)
    save(files, paying(200))
    assert other.load(NAME) == paying(200)
    assert parsed == once + 1  # no line is read twice by one process


def test_changed_at_follows_the_journal(files: ChannelFiles) -> None:
    """A payment writes no state file: the silence since the last one is that of the journal."""
    save(files, taking(0))
    for path in (files.journal_path(NAME), files.state_path(NAME)):
        os.utime(path, (1000, 1000))
    assert files.changed_at(NAME) == 1000 * 10**9
    save(files, taking(1))
    assert files.state_path(NAME).stat().st_mtime == 1000
    assert files.changed_at(NAME) == files.journal_path(NAME).stat().st_mtime_ns
    with pytest.raises(MpchanError) as caught:
        files.changed_at("x")
    assert caught.value.slug == "file-missing"
