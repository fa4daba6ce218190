"""Real file systems that take nothing more: one that is full, one that is mounted read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.party import Pair
from test_emission import command

from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Txid

NO_MOUNT = "only root may mount a file system"


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or not shutil.which("mount")
        or not _mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place))
    ):
        pytest.skip(NO_MOUNT)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path / "wallets", chain)


def run(pair: Pair, wallet: Path, line: str) -> tuple[int, str, str]:
    """Run one command line in a process of its own: exit code, stdout, stderr."""
    done = subprocess.run(
        command(f"--wallet {wallet} {line}"),
        cwd=pair.directory,
        env={**os.environ, "MPCHAN_REGTEST": str(pair.chain.directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def fill(disk: Path) -> Path:
    """Leave not one page free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return filler


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Nothing can be written in this block."""
    assert _mount("-o", "remount,ro", str(disk))
    try:
        yield
    finally:
        assert _mount("-o", "remount,rw", str(disk))


def on_disk(disk: Path, wallet: Path) -> Path:
    """A wallet that is moved to that disk, without its lock files: who never locked it finds none."""
    moved = disk / wallet.name
    shutil.copytree(wallet, moved, ignore=shutil.ignore_patterns("*.lock", "*.queue"))
    return moved


def is_sent(pair: Pair, txid: str) -> bool:
    return pair.chain.transaction(Txid.from_hex(txid)) is not None


@pytest.mark.parametrize("line", ["watch --once", "payee settle"])
def test_a_claim_from_a_read_only_disk(pair: Pair, disk: Path, line: str) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(pair.terms(name).refund_lock_time.value - 6)
    best = pair.payee_record(name).state.best
    assert best is not None
    wallet = on_disk(disk, pair.payee.directory)
    with read_only(disk):
        code, out, err = run(pair, wallet, line)
    assert is_sent(pair, str(best.transaction.txid)), (code, out, err)
    assert (code, "sent-unnoted" in out + err, "read-only file system" in out + err) == (7, True, True)
    assert run(pair, wallet, line)[0] == 0


@pytest.mark.parametrize("line", ["watch --once", "payer refund"])
def test_a_refund_from_a_read_only_disk(pair: Pair, disk: Path, line: str) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    refund = pair.payer_record(name).state.refund
    wallet = on_disk(disk, pair.payer.directory)
    with read_only(disk):
        code, out, err = run(pair, wallet, line)
    assert is_sent(pair, str(refund.txid)), (code, out, err)
    assert (code, "sent-unnoted" in out + err) == (7, True)
    assert run(pair, wallet, line)[0] == 0


def test_a_full_disk_takes_no_payment_and_sends_what_it_holds(pair: Pair, disk: Path) -> None:
    """Payments come until the disk takes no more: the one that fails counts nowhere, and those before are claimed."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    wallet = on_disk(disk, pair.payee.directory)
    filler = fill(disk)
    paid, code, err = 1000, 0, ""
    while code == 0:
        message = pair.directory / "update"
        message.write_text(pair.pay(name, 100))
        code, out, err = run(pair, wallet, f"payee accept {message}")
        paid += 100 if code == 0 else 0
    assert code == 7
    assert json.loads(err)["error"] == "write-failed"
    assert "no space left on device" in err
    assert f"{name}.journal" in err
    assert json.loads(run(pair, wallet, f"show {name}")[1])["paid_sat"] == paid
    pair.mine_to(pair.terms(name).refund_lock_time.value - 6)
    code, out, err = run(pair, wallet, "watch --once")
    channel = json.loads(out.splitlines()[0])
    assert (channel["action"], channel["status"], channel["paid_sat"]) == ("update", "settling", paid)
    assert is_sent(pair, channel["txid"])
    assert code == (0 if channel["alarm"] is None else 7)
    filler.unlink()
    assert run(pair, wallet, "watch --once")[0] == 0
