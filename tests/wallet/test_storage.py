"""Durable writes and locks."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpchan import durability
from mpchan.errors import ParseError, StorageError
from mpchan.wallet import storage
from mpchan.wallet.storage import (
    close_to_others,
    discard_leftovers,
    locked,
    make_directory,
    read_text,
    remove_durably,
    write_durably,
)


def failing(error: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def test_a_write_is_there_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"one")
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_durably(path, b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("write", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EACCES), ("open", errno.EROFS)],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")
    monkeypatch.setattr(os, name, failing(error))
    with pytest.raises(StorageError) as caught:
        write_durably(path, b"new")
    monkeypatch.undo()
    assert (caught.value.slug, caught.value.exit_code) == ("write-failed", 7)
    assert str(path) in caught.value.message
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["another's", "soft link", "hard link"])
def test_what_stands_at_the_temporary_name_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nobody can guess the name; were it guessed, what stands there is anybody's file, or a link to one of ours."""
    path, precious = tmp_path / "file", tmp_path / "precious"
    precious.write_bytes(b"keys")
    monkeypatch.setattr(os, "urandom", bytes)
    temporary = tmp_path / f".file.{bytes(8).hex()}.tmp"
    if kind == "soft link":
        temporary.symlink_to(precious)
    elif kind == "hard link":
        temporary.hardlink_to(precious)
    else:
        temporary.write_bytes(b"the half of it, and longer than the new text")
        temporary.chmod(0o666)
    with pytest.raises(StorageError, match="exists") as caught:
        write_durably(path, b"new")
    assert caught.value.slug == "write-failed"
    assert not path.exists()
    assert precious.read_bytes() == b"keys"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:3])))
    write_durably(tmp_path / "file", b"ten bytes!")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"ten bytes!"


def test_the_order_is_write_sync_rename_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash at any point a reader finds the old file or the new one."""
    done: list[str] = []

    def noted(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            kind = name
            if name == "fsync":
                kind += " folder" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else " file"  # type: ignore[arg-type]
            done.append(kind)
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "replace"):
        noted(name)
    write_durably(tmp_path / "file", b"data")
    assert done == ["write", "fsync file", "replace", "fsync folder"]


def test_a_temporary_that_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """Nor is that of a process which writes the same file at this moment; it is found where somebody looks for it."""
    path = tmp_path / "file"
    others = [tmp_path / f".file.{name}.tmp" for name in (os.getpid(), "0123456789abcdef")]
    for other in others:
        other.write_bytes(b"half a file, longer than the next")
    write_durably(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert all(other.exists() for other in others)
    discard_leftovers(path)
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_as_long_as_file_systems_take(tmp_path: Path) -> None:
    for name in ("x" * 255, "\N{SNOWMAN}" * 85, "\udcff" * 255):
        try:
            (tmp_path / name).touch()
        except OSError:
            continue  # this one takes names in UTF-8 only
        write_durably(tmp_path / name, b"data")
        assert (tmp_path / name).read_bytes() == b"data"
        (tmp_path / name).unlink()
    assert os.listdir(tmp_path) == []


def test_who_interrupts_a_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_durably(tmp_path / "file", b"data")
    assert os.listdir(tmp_path) == []


def test_directories_are_private(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    make_directory(tmp_path / "a" / "b")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        make_directory(tmp_path / "file" / "below")
    assert caught.value.slug == "write-failed"


def test_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("tëxt")
    assert read_text(path) == "tëxt"
    with pytest.raises(StorageError) as missing:
        read_text(tmp_path / "none")
    assert missing.value.slug == "file-missing"
    with pytest.raises(StorageError) as folder:
        read_text(tmp_path)
    assert folder.value.slug == "read-failed"
    path.write_bytes(b"\xff")
    with pytest.raises(ParseError) as damaged:
        read_text(path)
    assert damaged.value.slug == "malformed-file"
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 3)
    path.write_bytes(b"four")
    with pytest.raises(ParseError) as large:
        read_text(path)
    assert large.value.slug == "malformed-file"


# file systems that lack something -------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_synced_is_as_good_as_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Of a file the same answer means that it is not on the disk."""
    path = tmp_path / "file"
    monkeypatch.setattr(os, "fsync", failing_for_folders(error))
    write_durably(path, b"new")
    remove_durably(path)
    make_directory(tmp_path / "folder")
    monkeypatch.setattr(os, "fsync", failing(error))
    with pytest.raises(StorageError) as caught:
        write_durably(path, b"newer")
    assert caught.value.slug == "write-failed"
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ENOSPC])
def test_a_folder_whose_sync_fails_leaves_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """And says so: the new name stands, unless the machine crashes."""
    path = tmp_path / "file"
    write_durably(path, b"old")
    monkeypatch.setattr(os, "fsync", failing_for_folders(error))
    with pytest.raises(StorageError) as caught:
        write_durably(path, b"new")
    assert caught.value.slug == "write-unsure"
    assert caught.value.message == (
        f"{path}: {os.strerror(error).lower()}; it is done, and only a crash of the machine could undo it"
    )
    assert path.read_bytes() == b"new"
    with pytest.raises(StorageError) as caught:
        remove_durably(path)
    assert caught.value.slug == "write-unsure"
    assert os.listdir(tmp_path) == []


def failing_for_folders(error: int) -> Callable[[int], None]:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        real(descriptor)

    return fsync


@pytest.mark.parametrize("error", [0, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_second_name_or_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """FAT gives a file one name only."""
    path, kept, made = tmp_path / "file", tmp_path / "kept", tmp_path / "made"
    path.write_bytes(b"old")
    made.write_bytes(b"another's")
    if error:
        monkeypatch.setattr(os, "link", failing(error))
    durability.keep_as(path, kept)
    path.write_bytes(b"new") if error else durability.rewrite(path, b"new")
    assert (kept.read_bytes(), path.read_bytes()) == (b"old", b"new")
    with pytest.raises(FileExistsError):
        durability.claim(kept, path)
    assert (kept.read_bytes(), path.read_bytes()) == (b"old", b"new")
    made.unlink()
    durability.claim(kept, made)
    assert made.read_bytes() == b"old"
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    for act in (durability.keep_as, durability.claim):
        with pytest.raises(OSError, match="space"):
            act(path, tmp_path / "never")
    assert not (tmp_path / "never").exists()


# locks --------------------------------------------------------------------------------------------


def test_a_second_holder_is_refused_after_its_patience(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        with pytest.raises(StorageError) as caught, locked(path, timeout=0.02):
            raise AssertionError("two hold one lock")
        assert (caught.value.slug, caught.value.exit_code) == ("locked", 7)
    with locked(path, timeout=0.02):
        pass
    assert path.read_bytes() == b""


def test_a_lock_is_freed_when_the_work_fails(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path, timeout=0.02):
        pass


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught, locked(tmp_path / "none" / "lock"):
        raise AssertionError
    assert caught.value.slug == "write-failed"


def test_threads_take_turns(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / "lock"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


HOLD = """
import sys
from pathlib import Path
from mpchan.wallet.storage import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_another_process_waits_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StorageError), locked(path, timeout=0.02):
            raise AssertionError("two processes hold one lock")
        other.kill()
        other.wait()
        with locked(path, timeout=5):
            pass


def test_a_directory_of_another_user_is_not_for_a_wallet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could open it to itself again."""
    close_to_others(tmp_path)
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StorageError) as caught:
        close_to_others(tmp_path)
    assert (caught.value.slug, caught.value.message) == (
        "directory-permissions",
        f"{tmp_path} belongs to another user",
    )


# taking turns -------------------------------------------------------------------------------------


def test_who_takes_a_lock_again_and_again_starves_nobody(tmp_path: Path) -> None:
    """It lets the lock go for no longer than it takes to want it back, and still everybody else gets it in time."""
    path, queue = tmp_path / "lock", tmp_path / "queue"
    done, turns = threading.Event(), 0

    def busy() -> None:
        nonlocal turns
        while not done.is_set():
            with locked(path, queue=queue, in_turn=True):
                turns += 1
                time.sleep(0.02)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        while not turns:
            time.sleep(0.001)
        assert not queue.exists(), "nobody waited yet"
        for _ in range(10):
            with locked(path, timeout=0.5, queue=queue):
                held = turns
                time.sleep(0.01)
                assert turns == held
        assert queue.exists()
        before = turns
        time.sleep(0.2)
        assert turns > before, "and it goes on"
    finally:
        done.set()
        thread.join()
