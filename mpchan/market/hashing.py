"""SHA-256 of every piece of a file: as fast as the disk, on all cores.

Threads do it: both reading a block and hashing it let go of Python's lock. Each thread takes one piece after the other
and reads it in blocks, so a file of any size needs a megabyte for each core. Where it takes minutes, the result is
worth keeping: a small file for each file and piece length, in a directory of the wallet. A missing or damaged one
costs time and nothing else. A wrong one would cost each buyer a piece, so what is kept is tried at some pieces before
it is believed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Union

from mpchan import durability
from mpchan.errors import MpchanError, NotPossible, ParseError, system_reason
from mpchan.units import checked_int, is_hex
from mpchan.values import frozen, replace
from mpchan.wallet.storage import read_text
from mpchan.wallet.store import canonical, checksum, opened

BLOCK_BYTES = 1 << 20
"""So much is read and hashed at a time, and may still be after a thread was told to stop."""

SETTLED_NS = 2_000_000_000
"""A file that was changed within this time, before it was hashed, could change again without looking otherwise: the
clocks of file systems tick up to 2 s apart (FAT). Its hashes are not kept."""

SAMPLE_BYTES = 1 << 28
"""So much of a file is hashed again before what is kept of it is believed: half a second. A shorter one is hashed as a
whole, and nothing is kept."""

_CACHE_SCHEMA = 2
_MAX_OFFSET = (1 << 63) - 1
_MAX_NUMBER = (1 << 64) - 1
_DIGEST_BYTES = 32

Progress = Callable[[int], None]
"""Told how many more bytes are done, always in the thread that waits for the result."""


@frozen
class Looks:
    """What the system says of a file without reading it.

    Attributes:
        length: in bytes.
        mtime_ns: when it was last modified, in nanoseconds since 1970; whoever may write to it can set it back.
        ctime_ns: when anything about it changed last, its names and modes included; nobody can set it back, but some
            file systems of networks make it up.
        device, inode: which file it is.
    """

    length: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Looks:
        """As the system tells them."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)

    def is_touched(self, before: Looks) -> bool:
        """Whether nothing but the ctime differs: another name or mode, or a content whose time was set back."""
        return replace(self, ctime_ns=before.ctime_ns) == before


@frozen
class FileHashes:
    """The pieces of one file as it was when it was read.

    Attributes:
        piece_length: in bytes; the last piece has what is left.
        hashes: SHA-256 of each piece, in order.
    """

    looks: Looks
    piece_length: int
    hashes: tuple[bytes, ...]

    @property
    def length(self) -> int:
        """Of the file, in bytes."""
        return self.looks.length


def hash_file(path: Path, piece_length: int, progress: Progress | None = None) -> FileHashes:
    """Hash every piece of a file.

    Args:
        progress: its increments add up to the length of the file.

    Raises:
        ParseError: ``unreadable-file`` for what is missing, empty, no regular file, or fails while it is read;
            ``malformed-number`` for a piece length below 1.
        NotPossible: ``file-changed``, it was modified, replaced or removed meanwhile.
    """
    checked_int(piece_length, 1, _MAX_OFFSET, "piece length")
    with _opened(path) as descriptor:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            kind = "a directory" if stat.S_ISDIR(before.st_mode) else "no regular file"
            raise ParseError("unreadable-file", f"{path!s:.200}: is {kind}")
        if not before.st_size:
            raise ParseError("unreadable-file", f"{path!s:.200}: is empty")
        numbers = range(_count(before.st_size, piece_length))
        found = _digests(descriptor, f"{path!s:.200}", numbers, piece_length, before.st_size, progress)
    digests = tuple(digest for digest in map(found.__getitem__, numbers) if digest is not None)
    hashes = FileHashes(Looks.of(before), piece_length, digests)
    if len(digests) != len(numbers) or not same_file(path, hashes):
        raise NotPossible(
            "file-changed",
            f"{path!s:.200} has changed while it was read",
            hint="try again when nothing writes to it any more",
        )
    return hashes


def same_file(path: Path, hashes: FileHashes) -> bool:
    """Whether a file is still the one that was hashed, by its looks: nothing is read."""
    return looks_of(path) == hashes.looks


def looks_of(path: Path) -> Looks | None:
    """How a regular file looks now; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return Looks.of(status) if stat.S_ISREG(status.st_mode) else None


def wrong_pieces(path: Path, hashes: FileHashes, numbers: Collection[int]) -> list[int]:
    """Those of these pieces, by their numbers from 0, that a file does not hold any more: they are read."""
    expected = {number: hashes.hashes[number] for number in numbers}
    with _opened(path) as descriptor:
        return verify_pieces(descriptor, expected, hashes.piece_length, hashes.length)


def sample(hashes: FileHashes) -> list[int]:
    """Some pieces, by their numbers from 0, as chance has it: at least one, and as many as are read in a moment."""
    from random import SystemRandom

    count = len(hashes.hashes)
    return SystemRandom().sample(range(count), min(count, max(1, SAMPLE_BYTES // hashes.piece_length)))


def verify_pieces(
    descriptor: int,
    expected: Mapping[int, bytes],
    piece_length: int,
    length: int,
    progress: Progress | None = None,
) -> list[int]:
    """Which of these pieces an open file does not hold.

    A piece that the file is too short for is none that it holds, nor is one behind ``length``. A hole reads as zeros,
    as what was written as zeros may be kept as a hole: it is a piece of zeros, and no other.

    Args:
        expected: SHA-256 of each piece that is asked about, by its number from 0.
        length: of the whole file, in bytes, as it should be.
        progress: its increments add up to the length of these pieces.

    Returns:
        The numbers of those that hash otherwise, in order.
    """
    asked = sorted(expected)
    found = _digests(descriptor, "the file", asked, piece_length, length, progress)
    return [number for number in asked if found[number] != expected[number]]


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor to read from; a pipe into which nobody writes is opened too, at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _unreadable(f"{path!s:.200}", error) from None
    try:
        yield descriptor
    finally:
        durability.done_reading(descriptor)


def _count(length: int, piece_length: int) -> int:
    return -(-length // piece_length)


def _unreadable(what: str, error: OSError | ValueError) -> ParseError:
    return ParseError("unreadable-file", f"{what}: {system_reason(error)}")


# threads ------------------------------------------------------------------------------------------


_News = Union[int, "tuple[int, bytes | None]", OSError, None]
"""What a thread tells: bytes that are done, a piece and its digest, why it failed, or that it has ended."""


class _Work:
    """The pieces that are still to be hashed, and what is heard of the others."""

    def __init__(self, descriptor: int, numbers: Collection[int], piece_length: int, length: int) -> None:
        self.news: SimpleQueue[_News] = SimpleQueue()
        self.stopped = False  # read and written whole: no lock is needed
        self._descriptor = descriptor
        self._piece_length = piece_length
        self._length = length
        self._numbers = iter(numbers)
        self._taking = threading.Lock()  # an iterator is nothing to share without one

    def run(self, buffer: memoryview) -> None:
        """One thread: piece after piece until none is left."""
        try:
            while not self.stopped:
                with self._taking:
                    number = next(self._numbers, None)
                if number is None:
                    break
                self.news.put((number, self._digest(number, buffer)))
        except OSError as error:
            self.news.put(error)
        finally:
            self.news.put(None)

    def _digest(self, number: int, buffer: memoryview) -> bytes | None:
        """SHA-256 of one piece; None where the file ends before it does."""
        start = number * self._piece_length
        end = min(start + self._piece_length, self._length)
        if not 0 <= start < end:
            return None
        digest = hashlib.sha256()
        while start < end and not self.stopped:
            read = _read_into(self._descriptor, buffer[: end - start], start)
            if not read:
                self.news.put(end - start)
                return None
            digest.update(buffer[:read])
            self.news.put(read)
            start += read
        return digest.digest()


def _digests(
    descriptor: int,
    what: str,
    numbers: Collection[int],
    piece_length: int,
    length: int,
    progress: Progress | None,
) -> dict[int, bytes | None]:
    """SHA-256 of these pieces of an open file; None for a piece that the file is too short for.

    Whatever ends the wait, be it Ctrl-C or ``progress``, ends the threads too, each after the block that it is at: the
    descriptor is in nobody's hands when this returns.
    """
    work = _Work(descriptor, numbers, piece_length, length)
    buffers = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(_workers(len(numbers)))]
    threads = [threading.Thread(target=work.run, args=(buffer,), daemon=True) for buffer in buffers]
    found: dict[int, bytes | None] = {}
    try:
        for thread in threads:
            thread.start()
        going = len(threads)
        while going:
            news = work.news.get()
            if isinstance(news, OSError):
                raise _unreadable(what, news)
            if news is None:
                going -= 1
            elif isinstance(news, tuple):
                found[news[0]] = news[1]
            elif progress is not None:
                progress(news)
    finally:
        work.stopped = True
        for thread in threads:
            if thread.ident is not None:  # Ctrl-C may come before all of them have begun
                thread.join()
    return found


def _workers(pieces: int) -> int:
    """One thread for each core that this process may use, and no more than there are pieces."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, pieces)


def _read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from a place in a file, as far as the system does it at once; how much it was, 0 at the end."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = os.pread(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


# the cache ----------------------------------------------------------------------------------------


def cached_hashes(cache: Path, path: Path, piece_length: int, progress: Progress | None = None) -> FileHashes:
    """As ``hash_file``; of a file that was hashed before, and looks the same since, only a sample is read again.

    Args:
        cache: a directory of the wallet, made when it is missing. What cannot be written there is as if it were not
            kept.
        progress: told the whole length at once where the rest is believed.
    """
    entry = cache / _entry_name(path, piece_length)
    known = _load(entry, path, piece_length)
    if known is not None and not wrong_pieces(path, known, sample(known)) and same_file(path, known):
        if progress is not None:
            progress(known.length)
        return known
    began = time.time_ns()
    hashes = hash_file(path, piece_length, progress)
    settled = max(hashes.looks.mtime_ns, hashes.looks.ctime_ns) < began - SETTLED_NS
    if settled and hashes.length > SAMPLE_BYTES:
        _save(cache, entry, path, hashes)
    return hashes


def _entry_name(path: Path, piece_length: int) -> str:
    real = os.fsencode(os.path.realpath(path))
    return hashlib.sha256(b"%d %s" % (piece_length, real)).hexdigest() + ".json"


def _save(cache: Path, entry: Path, path: Path, hashes: FileHashes) -> None:
    body = {
        "path": os.path.realpath(path),
        "device": hashes.looks.device,
        "inode": hashes.looks.inode,
        "mtime_ns": hashes.looks.mtime_ns,
        "ctime_ns": hashes.looks.ctime_ns,
        "length": hashes.length,
        "piece_length": hashes.piece_length,
        "hashes": b"".join(hashes.hashes).hex(),
    }
    text = canonical(body)
    envelope = f'{{"schema":{_CACHE_SCHEMA},"checksum":"{checksum(text)}","file":{text}}}\n'
    # the directory is not synced, on purpose: after a crash the old entry, or none, does as well
    with suppress(OSError):
        durability.make_directory(cache, parents=True)
        durability.rewrite(entry, envelope.encode())


def _load(entry: Path, path: Path, piece_length: int) -> FileHashes | None:
    """What is known of a file as it is now; None where that is nothing, or anything about the entry is odd."""
    try:
        body = opened(read_text(entry), "file", lambda body: _CACHE_SCHEMA)
        hashes = _parsed(body)
        fits = body["path"] == os.path.realpath(path) and hashes.piece_length == piece_length
        fits = fits and same_file(path, hashes)
    except (MpchanError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return hashes if fits else None


def _parsed(body: Mapping[str, object]) -> FileHashes:
    """An entry's hashes, as many as the file has pieces."""
    length = checked_int(body["length"], 1, _MAX_OFFSET, "length")
    piece_length = checked_int(body["piece_length"], 1, _MAX_OFFSET, "piece length")
    digits = body["hashes"]
    size = 2 * _DIGEST_BYTES * _count(length, piece_length)
    if not isinstance(digits, str) or len(digits) != size or not is_hex(digits):
        raise ParseError("malformed-hex", "not the hashes of the pieces")
    raw = bytes.fromhex(digits)
    looks = Looks(
        length,
        checked_int(body["mtime_ns"], -_MAX_OFFSET, _MAX_OFFSET, "mtime"),
        checked_int(body["ctime_ns"], -_MAX_OFFSET, _MAX_OFFSET, "ctime"),
        checked_int(body["device"], -_MAX_OFFSET, _MAX_NUMBER, "device"),
        checked_int(body["inode"], 0, _MAX_NUMBER, "inode"),
    )
    return FileHashes(
        looks,
        piece_length,
        tuple(raw[start : start + _DIGEST_BYTES] for start in range(0, len(raw), _DIGEST_BYTES)),
    )
