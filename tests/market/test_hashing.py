"""Hashing the pieces of a file: by real files, against one thread that reads them plainly."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpchan.errors import MpchanError, NotPossible, ParseError
from mpchan.market import hashing
from mpchan.market.hashing import (
    FileHashes,
    Looks,
    cached_hashes,
    hash_file,
    looks_of,
    same_file,
    sample,
    verify_pieces,
)
from mpchan.values import replace
from mpchan.wallet.store import canonical, checksum

OLD = 1_600_000_000_123_456_789
"""An mtime of long ago, in nanoseconds."""

TIMEOUT_SECONDS = 60


def content(length: int, salt: int = 0) -> bytes:
    """Bytes that do not repeat."""
    words = -(-length // 32)
    return b"".join(sha256(b"%d %d" % (salt, number)).digest() for number in range(words))[:length]


def plainly(data: bytes, piece_length: int) -> tuple[bytes, ...]:
    """The pieces' hashes, one after the other."""
    return tuple(
        sha256(data[start : start + piece_length]).digest() for start in range(0, len(data), piece_length)
    )


def make(path: Path, data: bytes, mtime_ns: int = OLD) -> Path:
    """A file that was changed long ago."""
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def never(_: int) -> None:
    """Nothing may be read."""
    pytest.fail("the file was read")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small files have many."""
    monkeypatch.setattr(hashing, "BLOCK_BYTES", 7)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """However hashing ends, its threads have ended."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# hashes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["preadv", "pread"])
@pytest.mark.parametrize("cores", [1, 2, 16])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(1, 400), piece_length=st.integers(1, 500))
def test_every_piece_has_its_hash(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: None,
    cores: int,
    reading: str,
    length: int,
    piece_length: int,
) -> None:
    """Whatever the sizes, the number of threads and the system's way to read."""
    monkeypatch.setattr(hashing, "_workers", lambda pieces: min(cores, pieces))
    if reading == "pread":
        monkeypatch.delattr(os, "preadv", raising=False)
    data = content(length)
    path = make(tmp_path / "file", data)
    done: list[int] = []
    found = hash_file(path, piece_length, done.append)
    status = path.stat()
    assert found == FileHashes(Looks.of(status), piece_length, plainly(data, piece_length))
    assert sum(done) == length
    assert all(0 < step <= 7 for step in done)


@pytest.mark.parametrize("piece_length", [1, 1 << 20, (1 << 20) + 1, 3 << 20, 1 << 40])
def test_blocks_of_a_megabyte(tmp_path: Path, piece_length: int) -> None:
    """With the real size of a block, and pieces that are shorter, longer, and far longer than the file."""
    length = 100 if piece_length == 1 else (7 << 20) + 5
    data = content(length)
    path = make(tmp_path / "file", data)
    assert hash_file(path, piece_length).hashes == plainly(data, piece_length)


def test_progress_is_told_in_the_thread_that_waits(tmp_path: Path, small_blocks: None) -> None:
    told: set[int] = set()
    hash_file(make(tmp_path / "file", content(1000)), 10, lambda _: told.add(threading.get_ident()))
    assert told == {threading.get_ident()}


def test_there_is_a_thread_for_each_core_and_none_without_work() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert [hashing._workers(pieces) for pieces in (0, 1, 10_000)] == [0, 1, cores]


def test_threads_hash_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    """Two threads wait for each other in the middle of their pieces; one alone would wait for ever."""
    monkeypatch.setattr(hashing, "_workers", lambda pieces: 2)
    both, real = threading.Barrier(2, timeout=TIMEOUT_SECONDS), hashing._read_into

    def read(descriptor: int, buffer: memoryview, offset: int) -> int:
        both.wait()
        return real(descriptor, buffer, offset)

    monkeypatch.setattr(hashing, "_read_into", read)
    data = content(28)
    assert hash_file(make(tmp_path / "file", data), 14).hashes == plainly(data, 14)


def test_a_descriptor_is_used_up_nowhere(tmp_path: Path) -> None:
    path = make(tmp_path / "file", content(100))
    before = os.dup(0)
    os.close(before)
    hash_file(path, 10)
    with pytest.raises(ParseError):
        hash_file(tmp_path, 10)
    after = os.dup(0)
    os.close(after)
    assert after == before


# files that cannot be hashed ----------------------------------------------------------------------


def refusal(path: Path, piece_length: int = 10) -> MpchanError:
    with pytest.raises(MpchanError) as caught:
        hash_file(path, piece_length)
    return caught.value


def test_what_is_no_file_to_hash(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    expected = {
        "missing": "no such file or directory",
        "dangling": "no such file or directory",
        "loop": os.strerror(errno.ELOOP).lower(),
        "": "is a directory",
        "pipe": "is no regular file",
        "empty": "is empty",
    }
    for name, reason in expected.items():
        error = refusal(tmp_path / name)
        assert (error.slug, error.exit_code) == ("unreadable-file", 3)
        assert error.message == f"{tmp_path / name}: {reason}"
    assert refusal(Path("/dev/null")).message == "/dev/null: is no regular file"
    assert refusal(Path("nul\0byte")).slug == "unreadable-file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = make(tmp_path / "file", b"data")
    path.chmod(0)
    assert refusal(path).message == f"{path}: permission denied"


@pytest.mark.parametrize("piece_length", [0, -1, 1 << 63])
def test_a_piece_has_a_length(tmp_path: Path, piece_length: int) -> None:
    path = make(tmp_path / "file", b"data")
    assert (refusal(path, piece_length).slug, refusal(path, piece_length).exit_code) == (
        "malformed-number",
        3,
    )


def test_a_link_leads_to_its_file(tmp_path: Path) -> None:
    data = content(100)
    make(tmp_path / "file", data)
    (tmp_path / "link").symlink_to("file")
    assert hash_file(tmp_path / "link", 9) == hash_file(tmp_path / "file", 9)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, ns=(OLD, OLD))


def shrink(path: Path) -> None:
    os.truncate(path, 5)
    os.utime(path, ns=(OLD, OLD))


def write_over(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def put_another(path: Path) -> None:
    data = path.read_bytes()
    make(path.with_name("another"), data).replace(path)


def remove(path: Path) -> None:
    path.unlink()


def put_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: list[Callable[[Path], None]] = [grow, shrink, write_over, put_another, remove, put_a_directory]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_hashed(
    tmp_path: Path, small_blocks: None, change: Callable[[Path], None]
) -> None:
    """Whether by its length, its time or its place alone."""
    path = make(tmp_path / "file", content(500))
    told: list[int] = []

    def meanwhile(done: int) -> None:
        told.append(done)
        if len(told) == 1:
            change(path)

    with pytest.raises(NotPossible) as caught:
        hash_file(path, 10, meanwhile)
    assert (caught.value.slug, caught.value.exit_code) == ("file-changed", 5)
    assert caught.value.message == f"{path} has changed while it was read"


def test_a_file_that_was_shorter_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    """It looks as before when all is done, but the end of it was not there to be read."""
    path = make(tmp_path / "file", content(50))
    real = hashing._read_into

    def read(descriptor: int, buffer: memoryview, offset: int) -> int:
        os.truncate(path, 5)
        got = real(descriptor, buffer, offset)
        make(path, content(50))
        return got

    monkeypatch.setattr(hashing, "_read_into", read)
    monkeypatch.setattr(hashing, "_workers", lambda pieces: 1)
    assert refusal(path).slug == "file-changed"


# the end of patience ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, BrokenPipeError])
def test_what_ends_the_caller_ends_the_threads(tmp_path: Path, kind: type[BaseException]) -> None:
    """Be it Ctrl-C or an output that is gone: the threads stop within their blocks, of a file that takes hours."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)

    def gone(_: int) -> None:
        raise kind

    for piece_length in (1 << 10, 1 << 40):
        with pytest.raises(kind):
            hash_file(path, piece_length, gone)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(kind):
                verify_pieces(descriptor, {0: b"", 1: b""}, 1 << 39, 1 << 40, gone)
        finally:
            os.close(descriptor)


SCRIPT = """
import sys, threading
from pathlib import Path
from mpchan.market import hashing
calls = []
def begun(*told):
    calls.append(told)
    if len(calls) == 100:
        print("begun", flush=True)
def read(*where, real=hashing._read_into):
    begun()
    return real(*where)
told = sys.argv[2] == "told"
if not told:
    hashing._read_into = read
try:
    hashing.hash_file(Path(sys.argv[1]), 1 << 30, begun if told else None)
except KeyboardInterrupt:
    print("ended", threading.active_count())
"""


@pytest.mark.parametrize("waits", ["told", "silent"])
def test_ctrl_c(tmp_path: Path, waits: str) -> None:
    """The caller waits for its threads, with something to do now and then or nothing, and a signal comes."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, path, waits],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (out, err, process.returncode) == ("ended 1\n", "", 0)


# the looks of a file ------------------------------------------------------------------------------


def test_a_file_is_the_same_by_its_looks(tmp_path: Path) -> None:
    path = make(tmp_path / "file", content(100))
    hashes = hash_file(path, 30)
    assert same_file(path, hashes)
    (tmp_path / "link").symlink_to("file")
    assert same_file(tmp_path / "link", hashes)
    make(path, content(100, salt=1))  # its time set back
    touched = looks_of(path)
    assert touched is not None
    assert touched.is_touched(hashes.looks)
    assert not same_file(path, hashes)
    path.rename(tmp_path / "moved")
    assert not same_file(path, hashes)
    os.utime(tmp_path / "moved", ns=(OLD, OLD + 1))
    changed = looks_of(tmp_path / "moved")
    assert changed is not None
    assert not changed.is_touched(hashes.looks)


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = make(tmp_path / "file", content(100))
    hashes = hash_file(path, 30)
    change(path)
    assert not same_file(path, hashes)


def test_a_directory_is_never_the_same_file(tmp_path: Path) -> None:
    status = tmp_path.stat()
    hashes = FileHashes(Looks.of(status), 1, (b"",))
    assert not same_file(tmp_path, hashes)
    assert not same_file(Path("nul\0byte"), hashes)


# verifying ----------------------------------------------------------------------------------------


def verified(path: Path, expected: dict[int, bytes], piece_length: int, length: int) -> list[int]:
    """Which pieces a file does not hold; the progress is checked besides."""
    descriptor = os.open(path, os.O_RDONLY)
    done: list[int] = []
    try:
        wrong = verify_pieces(descriptor, expected, piece_length, length, done.append)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    finally:
        os.close(descriptor)
    starts = [number * piece_length for number in expected]
    assert sum(done) == sum(min(piece_length, length - start) for start in starts if 0 <= start < length)
    return wrong


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), length=st.integers(1, 300), piece_length=st.integers(1, 80))
def test_the_pieces_that_are_wrong(
    tmp_path: Path, small_blocks: None, data: st.DataObject, length: int, piece_length: int
) -> None:
    whole = content(length)
    hashes = plainly(whole, piece_length)
    asked = data.draw(st.sets(st.sampled_from(range(len(hashes)))))
    bad = data.draw(st.sets(st.sampled_from(range(len(hashes)))))
    bent = bytearray(whole)
    for number in bad:
        size = min(piece_length, length - number * piece_length)
        bent[number * piece_length + data.draw(st.integers(0, size - 1))] ^= 1
    path = make(tmp_path / "file", bytes(bent))
    assert verified(path, {number: hashes[number] for number in asked}, piece_length, length) == sorted(
        asked & bad
    )


def test_a_short_file_and_a_longer_one(tmp_path: Path, small_blocks: None) -> None:
    whole = content(100)
    expected = dict(enumerate(plainly(whole, 30)))
    for length, wrong in {0: [0, 1, 2, 3], 29: [0, 1, 2, 3], 60: [2, 3], 99: [3], 100: []}.items():
        assert verified(make(tmp_path / "file", whole[:length]), expected, 30, 100) == wrong
    assert verified(make(tmp_path / "file", whole + b"more"), expected, 30, 100) == []


def test_a_hole_is_a_piece_of_zeros_and_no_other(tmp_path: Path, small_blocks: None) -> None:
    """A file system may keep zeros that were written as a hole, so there is no telling the two apart."""
    whole = content(60) + bytes(30) + content(10, salt=1)
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(100)
    expected = dict(enumerate(plainly(whole, 30)))
    assert verified(path, expected, 30, 100) == [0, 1, 3]


def test_pieces_behind_the_end_are_none(tmp_path: Path) -> None:
    path = make(tmp_path / "file", content(100))
    nothing = sha256().digest()
    assert verified(path, {-1: nothing, 4: nothing, 1 << 70: nothing}, 30, 100) == [-1, 4, 1 << 70]
    assert verified(path, {}, 30, 100) == []


def test_a_file_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    """Not to be taken for one without the pieces: they would be bought again."""
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, content(100))
    try:
        with pytest.raises(ParseError) as caught:
            verify_pieces(descriptor, {0: b"", 1: b""}, 30, 100)
    finally:
        os.close(descriptor)
    assert (caught.value.slug, caught.value.exit_code) == ("unreadable-file", 3)
    assert caught.value.message == "the file: bad file descriptor"


# the cache ----------------------------------------------------------------------------------------


@pytest.fixture
def long_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that files of a few bytes are worth keeping, and one piece of them is the sample."""
    monkeypatch.setattr(hashing, "SAMPLE_BYTES", 0)
    monkeypatch.setattr(hashing, "SETTLED_NS", 0)


@pytest.fixture
def without_ctime(long_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that makes ctimes up, as those of some networks do."""
    real = Looks.of
    monkeypatch.setattr(Looks, "of", lambda status: replace(real(status), ctime_ns=OLD))


def the_entry(cache: Path) -> Path:
    [entry] = cache.iterdir()
    return entry


def test_what_was_hashed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ctime: None
) -> None:
    """But for the sample: proven by a content that has changed behind the looks of the file, in every other piece."""
    cache, path = tmp_path / "wallet" / "hashes", make(tmp_path / "file", content(100))
    done: list[int] = []
    first = cached_hashes(cache, path, 30, done.append)
    assert first == hash_file(path, 30)
    assert sum(done) == 100
    make(path, content(60) + content(40, salt=1))
    assert first != hash_file(path, 30)
    monkeypatch.setattr(hashing, "sample", lambda hashes: [1])
    assert cached_hashes(cache, path, 30, done.append) == first
    assert sum(done) == 200  # the whole at once
    (tmp_path / "link").symlink_to("file")
    assert cached_hashes(cache, tmp_path / "link", 30) == first
    assert stat.S_IMODE(the_entry(cache).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    monkeypatch.setattr(hashing, "sample", lambda hashes: [1, 3])
    assert cached_hashes(cache, path, 30) == hash_file(path, 30)


def test_a_file_whose_time_was_set_back_is_hashed_again(tmp_path: Path, long_files: None) -> None:
    """Its length, mtime and inode are what they were; nobody can set the ctime."""
    cache, path = tmp_path / "hashes", make(tmp_path / "file", content(100))
    before = cached_hashes(cache, path, 30)
    with path.open("r+b") as file:
        file.write(b"another content")
    os.utime(path, ns=(OLD, OLD))
    assert path.stat().st_ino == before.looks.inode
    after = cached_hashes(cache, path, 30)
    assert after == hash_file(path, 30) != before


def test_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pieces as are read in a moment, one at least, and no more than there are."""
    hashes = hash_file(make(tmp_path / "file", content(100)), 10)
    for size, count in ((0, 1), (9, 1), (30, 3), (100, 10), (1000, 10)):
        monkeypatch.setattr(hashing, "SAMPLE_BYTES", size)
        taken = {tuple(sorted(sample(hashes))) for _ in range(100)}
        assert {len(each) for each in taken} == {count}
        assert all(set(each) <= set(range(10)) for each in taken)
        assert len(taken) == 1 if count == 10 else len(taken) > 5, "which ones they are is for chance to say"


def test_of_a_short_file_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it would be the sample."""
    monkeypatch.setattr(hashing, "SETTLED_NS", 0)
    cached_hashes(tmp_path / "hashes", make(tmp_path / "file", content(100)), 30)
    assert not (tmp_path / "hashes").exists()


@pytest.mark.usefixtures("long_files")
def test_another_piece_length_and_another_file_have_entries_of_their_own(tmp_path: Path) -> None:
    cache, path = tmp_path / "hashes", make(tmp_path / "file", content(100))
    other = make(tmp_path / "other", content(100, salt=1))
    for _ in range(2):
        for piece_length in (30, 31):
            assert cached_hashes(cache, path, piece_length) == hash_file(path, piece_length)
            assert cached_hashes(cache, other, piece_length) == hash_file(other, piece_length)
    assert len(list(cache.iterdir())) == 4


@pytest.mark.usefixtures("without_ctime")
@pytest.mark.parametrize("change", CHANGES[:4])
def test_a_file_that_looks_otherwise_is_hashed_again(tmp_path: Path, change: Callable[[Path], None]) -> None:
    cache, path = tmp_path / "hashes", make(tmp_path / "file", content(100))
    cached_hashes(cache, path, 30)
    change(path)
    assert cached_hashes(cache, path, 30) == hash_file(path, 30)


@pytest.mark.usefixtures("long_files")
def test_a_file_that_is_gone_is_no_hit(tmp_path: Path) -> None:
    cache, path = tmp_path / "hashes", make(tmp_path / "file", content(100))
    cached_hashes(cache, path, 30)
    path.unlink()
    with pytest.raises(ParseError):
        cached_hashes(cache, path, 30)


def test_a_fresh_file_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could change once more within the same tick of the clock, and look as before."""
    monkeypatch.setattr(hashing, "SAMPLE_BYTES", 0)
    cache, path = tmp_path / "hashes", tmp_path / "file"
    path.write_bytes(content(100))
    looks = path.stat().st_mtime_ns
    cached_hashes(cache, path, 30)
    make(path, content(100, salt=1), looks)
    assert cached_hashes(cache, path, 30) == hash_file(path, 30)
    make(path, content(100), looks + 3_600_000_000_000)  # by a clock that is ahead of ours
    cached_hashes(cache, path, 30)
    assert not cache.exists()


def bent_entries(good: bytes) -> Iterator[bytes]:
    """Every way in which an entry can be odd."""
    for length in range(0, len(good) - 1, 9):
        yield good[:length]
    yield good + b"more"
    yield good.replace(b'"hashes":"', b'"hashes":"0')
    envelope = json.loads(good)
    body = envelope["file"]
    yield json.dumps({**envelope, "checksum": "0" * 64}).encode()
    yield json.dumps({**envelope, "schema": 1}).encode()
    odd: Any
    for odd in (None, [], "text", 5, {}, {"hashes": body["hashes"]}):
        yield json.dumps(odd).encode()
        yield with_body(odd)
    numbers = ("device", "inode", "mtime_ns", "ctime_ns", "length", "piece_length")
    odd_values: list[object] = [None, "5", 1.5, True, [], {}, -1, 10**400]
    for name in numbers:
        yield with_body({key: value for key, value in body.items() if key != name})
        for value in (*odd_values, body[name] + 1, float(body[name])):
            yield with_body({**body, name: value})
    for value in (
        *odd_values,
        "",
        body["hashes"][2:],
        body["hashes"] + "00",
        "zz" * 128,
        "    " + body["hashes"][4:],
    ):
        yield with_body({**body, "hashes": value})
    yield with_body({**body, "path": "/elsewhere"})
    yield b"[" * 100_000
    yield b"\xff\xfe"
    yield b"9" * 5000


def with_body(body: object) -> bytes:
    """An entry whose checksum fits."""
    text = canonical(body)
    return f'{{"schema":2,"checksum":"{checksum(text)}","file":{text}}}'.encode()


def test_an_odd_entry_costs_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_ctime: None
) -> None:
    monkeypatch.setattr(hashing, "sample", lambda hashes: [])
    cache, path = tmp_path / "hashes", make(tmp_path / "file", content(100))
    right = cached_hashes(cache, path, 30)
    entry = the_entry(cache)
    good = entry.read_bytes()
    make(path, content(100, salt=1))  # what an entry that is taken would hide
    assert cached_hashes(cache, path, 30) == right
    assert with_body(json.loads(good)["file"]) in good
    tried = 0
    for odd in bent_entries(good):
        entry.write_bytes(odd)
        assert cached_hashes(cache, path, 30) == hash_file(path, 30), odd[:200]
        assert the_entry(cache).read_bytes() != odd
        tried += 1
    assert tried > 100


@pytest.mark.usefixtures("long_files")
def test_a_cache_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    path = make(tmp_path / "file", content(100))
    (tmp_path / "no-folder").write_bytes(b"a file")
    for cache in (tmp_path / "no-folder", tmp_path / "no-folder" / "below", Path("/proc/nothing")):
        assert cached_hashes(cache, path, 30) == hash_file(path, 30)
    cached_hashes(tmp_path / "hashes", path, 30)
    entry = the_entry(tmp_path / "hashes")
    entry.unlink()
    entry.mkdir()
    assert cached_hashes(tmp_path / "hashes", path, 30) == hash_file(path, 30)
    assert os.listdir(tmp_path / "hashes") == [entry.name]


@pytest.mark.usefixtures("long_files")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """File names are bytes."""
    path = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        make(path, content(100))
    except OSError:
        return  # this file system takes names in UTF-8 only
    cached_hashes(tmp_path / "hashes", path, 30)
    assert cached_hashes(tmp_path / "hashes", path, 30, None) == hash_file(path, 30)
    assert len(list((tmp_path / "hashes").iterdir())) == 1
