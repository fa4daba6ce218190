"""What a sale costs beside a plain copy of the same bytes, in the same run on the same disk; and fifty buyers at once.

The table stands in the output with ``-s``. A sale is two programs and a disk that has everything in the end: the seller
copies each piece, the buyer hashes it, writes it, syncs it, pays for the next, and reads all of it back before it
settles. So besides ``cp`` and ``cp`` with a hash there is what the same work costs without a payment.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from support.market.processes import MIB, PRICE, WAYS, Shop, make_film, opened

from mpchan.chain.embedded import EmbeddedChain

SIZE, PIECES = 1024 * MIB, 100
ROUNDS = 3
BUYERS = 50

SENDER = """
import os, socket, sys
with open(sys.argv[1], "rb") as file, socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as connection:
    connection.sendfile(file)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")
    directory = tmp_path_factory.mktemp("bare") / "chain"
    with EmbeddedChain(directory) as chain:
        chain.tip()
    return directory


@pytest.fixture
def film(tmp_path: Path) -> Iterator[Path]:
    made = make_film(tmp_path / "film.mkv", SIZE)
    yield made
    made.unlink()


# plain ways ---------------------------------------------------------------------------------------


def timed(act: Callable[[], None]) -> float:
    """Seconds, with nothing left to be written from before."""
    os.sync()
    began = time.monotonic()
    act()
    return time.monotonic() - began


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", str(source), str(target)], check=True)


def hashed(path: Path) -> bytes:
    """SHA-256 of a file, by one thread."""
    digest, buffer = sha256(), memoryview(bytearray(MIB))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.digest()


def synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def copy_and_hash(source: Path, target: Path) -> None:
    copy(source, target)
    hashed(target)


def same_work(source: Path, target: Path) -> None:
    """Into the mailbox, out of it and hashed, on the disk, and read back."""
    between = target.with_suffix(".between")
    copy(source, between)
    copy_and_hash(between, target)
    between.unlink()
    synced(target)
    hashed(target)


def by_tcp(source: Path, target: Path) -> None:
    """One sender, and one receiver who writes and hashes."""
    digest, buffer = sha256(), memoryview(bytearray(MIB))
    with socket.create_server(("127.0.0.1", 0)) as server, target.open("wb", buffering=0) as file:
        words = [sys.executable, "-c", SENDER, str(source), str(server.getsockname()[1])]
        with subprocess.Popen(words) as sender:
            connection, _ = server.accept()
            with connection:
                while count := connection.recv_into(buffer):
                    digest.update(buffer[:count])
                    file.write(buffer[:count])
        assert sender.returncode == 0


PLAIN = {
    "cp": copy,
    "cp, then SHA-256 of the copy": copy_and_hash,
    "plain TCP, written and hashed": by_tcp,
    "cp twice, SHA-256, fsync, SHA-256 again": same_work,
}


# a sale -------------------------------------------------------------------------------------------


def sold(folder: Path, bare: Path, way: str, film: Path) -> tuple[float, float]:
    """Seconds of the whole command, and from the first payment on."""
    os.sync()
    with opened(Shop(folder, bare, way, film, PIECES)) as shop:
        seller = shop.sell()
        with shop.mining():
            buyer = shop.buy()
            seller.until(lambda: '"update"' in seller.out, "a payment")
            first = time.monotonic()
            buyer.ends_well()
            ended = time.monotonic()
        assert shop.is_whole()
        assert shop.received() == PIECES * PRICE
        return ended - buyer.began, ended - first


def test_a_gigabyte(tmp_path: Path, bare: Path, film: Path) -> None:
    """The quickest of some rounds, in each of which everything has its turn."""
    seconds: dict[str, list[float]] = {}
    target = tmp_path / "copy"
    for number in range(ROUNDS):
        for name, act in PLAIN.items():
            seconds.setdefault(name, []).append(timed(lambda act=act: act(film, target)))  # type: ignore[misc]
            target.unlink()
        for way in WAYS:
            folder = tmp_path / f"{way}-{number}"
            folder.mkdir()
            whole, paying = sold(folder, bare, way, film)
            seconds.setdefault(f"sale by {way}, from the first payment to the end", []).append(paying)
            seconds.setdefault(f"sale by {way}, the whole command", []).append(whole)
    base = min(seconds["cp, then SHA-256 of the copy"])
    print(
        f"\n{SIZE // MIB} MiB in {PIECES} pieces: seconds (least, median), and the least beside cp and SHA-256"
    )
    for name, found in seconds.items():
        median = sorted(found)[len(found) // 2]
        print(f"| {name:55} | {min(found):6.2f} | {median:6.2f} | {min(found) / base:5.2f} |")


@pytest.mark.parametrize("way", WAYS)
def test_fifty_buyers(way: str, tmp_path: Path, bare: Path) -> None:
    """At once, each of them a process: what they take together, and the seller's memory."""
    film = make_film(tmp_path / "film.mkv", 32 * MIB)
    with opened(Shop(tmp_path, bare, way, film, 2, buyers=BUYERS + 10)) as shop:
        seller = shop.sell()
        sizes, took = [seller.resident_kib()], []
        with shop.mining(0.5):
            for names in (shop.buyers[:10], shop.buyers[10:]):
                began = time.monotonic()
                going = [shop.buy(name=name) for name in names]
                for buyer in going:
                    buyer.ends_well()
                took.append(time.monotonic() - began)
                sizes.append(seller.resident_kib())
                for name in names:
                    shop.output(name).unlink()
        most = seller.resident_kib("VmHWM")
        assert shop.received() == len(shop.buyers) * 2 * PRICE
    shown = ", ".join(f"{size / 1024:.1f}" for size in [*sizes, most])
    print(
        f"\n{way}, 32 MiB for each in 2 pieces: 10 buyers {took[0]:.1f} s, {BUYERS} buyers {took[1]:.1f} s; seller's "
        f"memory before, after 10, after {BUYERS} more, and at the most: {shown} MiB"
    )
