"""Where a command writes, and file systems that lack something.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Desk, environment, mpchan
from support.party import Pair

from mpchan import durability
from mpchan.chain.embedded import EmbeddedChain
from mpchan.cli.files import written
from mpchan.errors import StorageError


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain, coins=2), folder)


@contextmanager
def failing(kind: str, number: int, what: Callable[[Path], bool] = lambda path: True) -> Iterator[list[Path]]:
    """Let each step of a kind fail on what is chosen; the paths on which it did."""
    real, failed = durability.step, []

    def step(of: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if of == kind:
            first = arguments[0]
            path = Path(os.readlink(f"/proc/self/fd/{first}")) if isinstance(first, int) else Path(first)
            if what(path):
                failed.append(path)
                raise OSError(number, os.strerror(number))
        return real(of, act, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durability, "step", step)
        yield failed


# 83: processes, folders and file systems ----------------------------------------------------------

PAUSED = """
import os, sys
from mpchan import durability

real = durability.step

def step(kind, act, *arguments, **options):
    if kind == "replace" and os.fspath(arguments[1]) == sys.argv[1]:
        print("staged by", os.getpid(), flush=True)
        sys.stdin.readline()
    return real(kind, act, *arguments, **options)

durability.step = step
if sys.argv[2] == "injected":
    os.getpid = lambda: 1
from mpchan.cli.main import main

sys.exit(main(sys.argv[3:]))
"""


def namespace() -> list[str]:
    """A command that runs another as the first process of a PID namespace; nothing where this user may make none."""
    for words in (
        ["unshare", "--pid", "--fork"],
        ["unshare", "--user", "--map-root-user", "--pid", "--fork"],
    ):
        if (
            shutil.which(words[0])
            and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode
        ):
            return words
    return []


def test_83_two_processes_of_one_id_write_into_one_folder(desk: Desk) -> None:
    """As in two containers that share a folder: each output is its own command's, to the byte."""
    pair = desk.pair
    channels = [pair.open(), pair.open()]
    outputs = [desk.folder / "first", desk.folder / "second"]
    around = namespace()
    how = "alone" if around else "injected"
    pay = ["--wallet", str(desk.payer), "-q", "pay", "1000"]
    running = [
        subprocess.Popen(
            [
                *around,
                sys.executable,
                "-c",
                PAUSED,
                *(output, how),
                *pay,
                *("--channel", channel, "-o", output),
            ],
            env=environment(desk.chain),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for channel, output in zip(channels, outputs, strict=True)
    ]
    for process in running:  # both have written what only waits for its name
        assert process.stdout is not None
        assert process.stdout.readline() == "staged by 1\n"
    for process in running:
        out, _ = process.communicate("\n", timeout=60)
        assert (process.returncode, out) == (0, "")
    for channel, output in zip(channels, outputs, strict=True):
        last = desk.done(desk.payer, "pay", "--last", "--channel", channel)
        assert output.read_text() == last["hex"] + "\n"
    assert sorted(os.listdir(desk.folder)) == ["first", "second"]


def test_83_each_file_on_its_way_has_a_name_of_its_own(tmp_path: Path) -> None:
    """One process writes the same file many times at once: nobody meets a half of another."""
    path = tmp_path / "file"
    texts = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=durability.rewrite, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    assert os.listdir(tmp_path) == ["file"]


FOLDERS = {
    "83 a folder's sync means nothing there": errno.EINVAL,
    "83 a folder's sync is not supported": errno.ENOTSUP,
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_cannot_be_synced(desk: Desk, name: str) -> None:
    """It counts as done: opening, funding, paying, settling and a backup go well, and each file stands."""
    out = desk.folder / "out"
    with failing("sync-directory", FOLDERS[name]) as met:
        pair = desk.pair
        channel = pair.open()
        update = desk.done(desk.payer, "pay", "1000", "--channel", channel, "-o", out)
        assert out.read_text() == update["hex"] + "\n"
        assert desk.done(desk.payee, "payee", "accept", out)["received_sat"] == 1000
        desk.done(desk.payer, "backup", "-o", desk.folder / "backup")
        desk.done(desk.folder / "restored", "restore", desk.folder / "backup")
    assert {desk.folder, desk.payer / "channels", desk.payee / "channels"} <= set(met)


def test_83_a_folder_whose_sync_fails(desk: Desk) -> None:
    """The file stands, and the error says that it does; for the payment itself the hint is that of a lost message."""
    out, other = desk.folder / "out", desk.folder / "other"
    name = desk.pair.open()
    with failing("sync-directory", errno.EIO, lambda path: path == desk.folder) as met:
        ended = mpchan(desk.payer, desk.chain, "pay", "1000", "--channel", name, "-o", out)
        kept = mpchan(desk.payer, desk.chain, "backup", "-o", other)
    assert len(met) == 2
    for answer, target in ((ended, out), (kept, other)):
        said = answer.error
        assert (said["error"], answer.code) == ("write-unsure", 7)
        assert said["message"] == (
            f"{target}: input/output error; it is done, and only a crash of the machine could undo it"
        )
    assert "`mpchan payer pay --last`" in ended.error["hint"]
    assert desk.done(desk.payee, "payee", "accept", out)["received_sat"] == 1000
    assert desk.done(desk.folder / "restored", "restore", other)["channels"] == 1
    assert not list(desk.folder.glob(".*"))


LACKING = {
    "83 a file system without links": ("link", errno.EPERM),
    "83 a file system without permissions": ("chmod", errno.EPERM),
    "83 a file system without chmod": ("chmod", errno.ENOSYS),
}


@pytest.mark.parametrize("name", LACKING)
def test_a_file_system_that_lacks_something(desk: Desk, name: str) -> None:
    """What can be done without it is done: a damaged channel is mended, its old file kept; a mailbox is used."""
    kind, number = LACKING[name]
    channel = desk.pair.open()
    damaged = desk.payer / "channels" / f"{channel}.json"
    damaged.write_text("{")
    with failing(kind, number) as met:
        mended = desk.done(desk.payer, "fsck", "--repair")
        fresh = mpchan(desk.folder / "fresh", desk.chain, "init")
    assert mended["exit_code"] == 0
    [kept] = damaged.parent.glob(f"{damaged.name}.damaged-*")
    assert kept.read_text() == "{"
    assert desk.done(desk.payer, "fsck")["foreign"] == []
    assert fresh.code == 0, "the directory was made closed to others"
    assert (kind == "link") == bool(met)


def test_83_a_directory_that_stays_open_to_others(tmp_path: Path) -> None:
    """Where nobody can be kept out no keys are made, and the hint says what can be done."""
    home = tmp_path / "open"
    home.mkdir(mode=0o755)
    with failing("chmod", errno.EPERM) as met:
        ended = mpchan(home, tmp_path, "init")
    assert met == [home]
    assert (ended.error["error"], ended.code) == ("directory-permissions", 7)
    assert "umask=077" in ended.error["hint"]
    assert os.listdir(home) == []
    assert mpchan(home, tmp_path, "init").code == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_83_a_file_system_without_locks(desk: Desk) -> None:
    """Nothing begins there, and the error says why."""
    name = desk.pair.open()
    with failing("lock", errno.ENOLCK, lambda path: path.is_relative_to(desk.payer)):
        refused = desk.refused(desk.payer, "pay", "1000", "--channel", name)
    assert (refused.slug, refused.exit_code) == ("lock-failed", 7)
    assert "keep the wallet on a disk of this machine" in str(refused.hint)


# 84: where an output goes -------------------------------------------------------------------------

ELSEWHERE = {
    "84 a link to a file of another folder": "elsewhere/precious",
    "84 a link to nothing yet": "elsewhere/nothing",
    "84 a link upwards": "../precious",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_output_that_leads_away(desk: Desk, name: str) -> None:
    """Somebody has laid a link where the output is going to be: what it points to stays, and nothing is paid."""
    channel = desk.pair.open()
    (desk.folder / "elsewhere").mkdir()
    for place in (desk.folder / "elsewhere" / "precious", desk.folder.parent / "precious"):
        place.write_text("precious")
    link = desk.folder / "out"
    link.symlink_to(ELSEWHERE[name])
    (desk.folder / "hop").symlink_to("out")  # a link to the link
    for target in (link, desk.folder / "hop"):
        refused = desk.refused(desk.payer, "pay", "1000", "--channel", channel, "-o", target)
        assert (refused.slug, refused.exit_code) == ("output-is-link", 2)
        assert os.path.realpath(link) in f"{refused.hint}"
    assert (desk.folder.parent / "precious").read_text() == "precious"
    assert os.listdir(desk.folder / "elsewhere") == ["precious"]
    assert (
        desk.done(desk.payer, "pay", "1000", "--channel", channel, "-o", os.path.realpath(link))["update"]
        == 1
    )


def test_84_a_link_that_stays_in_its_folder(desk: Desk) -> None:
    """It is followed, and stays a link; a folder that is reached by one is a folder."""
    channel = desk.pair.open()
    (desk.folder / "out").symlink_to("real")
    (desk.folder / "through").symlink_to(desk.folder)
    for target in (desk.folder / "out", desk.folder / "through" / "out", desk.folder / "through" / "plain"):
        made = desk.done(desk.payer, "pay", "1000", "--channel", channel, "-o", target)
        assert target.read_text() == made["hex"] + "\n"
    assert (desk.folder / "out").is_symlink()


def test_84_devices_and_pipes(desk: Desk) -> None:
    """A link may lead to one anywhere: nothing of it is overwritten."""
    channel = desk.pair.open()
    pipe, link = desk.folder.parent / "pipe", desk.folder / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    made = desk.done(desk.payer, "pay", "1000", "--channel", channel, "-o", link)
    reader.join()
    assert read == [made["hex"] + "\n"]
    (desk.folder / "null").symlink_to("/dev/null")
    desk.done(desk.payer, "pay", "1000", "--channel", channel, "-o", desk.folder / "null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_84_what_is_laid_there_after_the_look(tmp_path: Path) -> None:
    """Between the check and the writing somebody puts a link, or takes a pipe away: nothing is overwritten."""
    precious, out = tmp_path / "precious", tmp_path / "folder" / "out"
    out.parent.mkdir()
    precious.write_text("precious")
    out.symlink_to(precious)
    with pytest.raises(StorageError, match="another folder") as caught, written(out, "text"):
        raise AssertionError
    assert caught.value.slug == "not-emitted"
    out.unlink()
    with written(out, "text"):
        out.symlink_to(precious)
    assert (out.is_symlink(), out.read_text(), precious.read_text()) == (False, "text", "precious")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mpchan.cli.files._is_stream", lambda mode: not stat.S_ISREG(mode) or not swapped.pop())  # type: ignore[has-type]
        swapped = [True, False]
        with pytest.raises(StorageError, match="is a file now"), written(precious, "text"):
            raise AssertionError
    assert precious.read_text() == "precious"


OWN = ("keys.toml", "generation", "channels/names", "purchases/x.json", "hashes/x", "listening.pem")


@pytest.mark.parametrize("name", [f"84 onto {place}" for place in OWN])
def test_an_output_in_a_wallet(desk: Desk, name: str) -> None:
    """In one's own, and in any other that lies on this machine."""
    channel = desk.pair.open()
    for wallet, whose in ((desk.payer, "the"), (desk.payee, "another")):
        target = wallet / name.removeprefix("84 onto ")
        target.parent.mkdir(exist_ok=True)
        refused = desk.refused(desk.payer, "pay", "1000", "--channel", channel, "-o", target)
        assert (refused.slug, refused.exit_code) == ("output-is-wallet", 2)
        assert refused.message == f"{target} is the place of one of {whose} wallet's own files"


def test_84_a_second_name_of_a_wallets_file(desk: Desk) -> None:
    """An output takes a name and changes no file: what else has that name is as it was."""
    channel = desk.pair.open()
    keys = (desk.payer / "keys.toml").read_bytes()
    out = desk.folder / "out"
    out.hardlink_to(desk.payer / "keys.toml")
    desk.done(desk.payer, "pay", "1000", "--channel", channel, "-o", out)
    assert (desk.payer / "keys.toml").read_bytes() == keys


def test_84_two_commands_with_one_output(desk: Desk) -> None:
    """Each puts its own there whole; the last one stays."""
    pair = desk.pair
    out = desk.folder / "out"
    words = [("pay", "1000", "--channel", pair.open(), "-o", str(out), "--json") for _ in range(2)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PAUSED, str(out), "alone", "--wallet", str(desk.payer), *each],
            env=environment(desk.chain),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in words
    ]
    said = []
    for process in running:
        assert process.stdout is not None
        said.append(process.stdout.readline())  # the answer
        assert process.stdout.readline().startswith("staged by")
    for process, answer in zip(running, said, strict=True):
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
        assert out.read_text().strip() in answer
    assert os.listdir(desk.folder) == ["out"]
