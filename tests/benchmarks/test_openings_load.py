"""What strangers cost a seller: as many openings as there is room for, and 10,000 wishes that are never funded.

The figures stand in the output with ``-s``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from support.market.market import Market
from support.market.strangers import Stranger

from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount, OutPoint, Txid
from mpchan.wallet.opening import Opening
from mpchan.wallet.openings import MOST_OPENINGS, Openings

WISHES = 10_000
SESSIONS = 200

RESTART = """
import re, sys, time
from pathlib import Path
from mpchan.wallet.openings import Openings
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before, began = resident(), time.process_time()
openings = Openings(Path(sys.argv[1]))
count = len(openings)
print(count, round(time.process_time() - began, 2), (resident() - before) // 1024)
"""


def opening(number: int) -> Opening:
    """One of very many, all of them different."""
    digest = sha256(number.to_bytes(4, "big")).digest()
    return Opening(
        outpoint=OutPoint(Txid(digest), 0),
        offer_id=digest[:16].hex(),
        published=b"\x01\x02\x03\x04",
        session=digest[16:].hex(),
        sold=tuple(range(1, 101)),
        payer_key=b"\x02" + digest,
        funding_script=b"\x00\x20" + digest,
        value=Amount(100_000),
        lock_time=840_000,
        expires=1_796_169_600 + number % 2,
        payer_script=b"\x00\x14" + bytes(20),
        digest=digest[:4],
    )


def test_as_many_as_there_is_room_for(tmp_path: Path) -> None:
    """Bytes on the disk for each, how long a program takes that starts with them, and its memory for them."""
    openings = Openings(tmp_path)
    openings.add(opening(0))
    lines = [opening(number).to_line() or b"" for number in range(1, MOST_OPENINGS)]
    with openings.path.open("ab") as file:
        file.write(b"".join(lines))
    done = subprocess.run(
        [sys.executable, "-c", RESTART, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, seconds, mebibytes = done.stdout.split()
    assert int(count) == MOST_OPENINGS == len(openings)
    began = time.monotonic()
    openings.leave_out(openings.expired_by(1_796_169_600), forgotten=1_796_169_600)
    half = time.monotonic() - began
    assert len(openings) == MOST_OPENINGS // 2
    size = openings.path.stat().st_size
    print(
        f"\n{count} openings: {2 * size / MOST_OPENINGS:.0f} bytes each; a start takes {seconds} s of a core and "
        f"{mebibytes} MiB; half of them are left out in {half:.2f} s"
    )


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[EmbeddedChain]:
    pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")
    with EmbeddedChain(tmp_path / "chain") as chain, chain.engine():
        yield chain


@pytest.fixture
def market(tmp_path: Path, chain: EmbeddedChain) -> Market:
    return Market(tmp_path, chain)


def stored(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_sessions_of_the_largest_manifest(tmp_path: Path, chain: EmbeddedChain) -> None:
    """Hostile input 74: what they leave in the wallet, and the seller's restart."""
    market = Market(tmp_path, chain, pieces=5_000, step=1, max_refund_delay=6_000, min_refund_delay=5_200)
    before, began = stored(market.pair.payee.directory), time.monotonic()
    assert all(Stranger(number).opens(market, "1-5000") for number in range(SESSIONS))
    each = (time.monotonic() - began) / SESSIONS
    left = stored(market.pair.payee.directory) - before
    began = time.monotonic()
    market.restart()
    print(
        f"\n{SESSIONS} sessions of 5,000 pieces: {1000 * each:.1f} ms each, {left} bytes in all; "
        f"a seller starts again in {time.monotonic() - began:.2f} s"
    )


def test_wishes_that_are_never_funded(market: Market) -> None:
    """Hostile input 73 in full: what each costs, what is left, and the seller's restart; then an honest buyer."""
    began = time.monotonic()
    signed = sum(Stranger(number).opens(market) for number in range(WISHES))
    each = (time.monotonic() - began) / WISHES
    assert signed == WISHES
    size = market.pair.payee.openings.path.stat().st_size
    began = time.monotonic()
    market.restart()
    seller = time.monotonic() - began
    market.buy()
    assert market.is_whole()
    print(
        f"\n{WISHES} strangers: {1000 * each:.1f} ms each for wish and refund, both sides; "
        f"{size / WISHES:.0f} bytes each; a seller starts again in {seller:.2f} s"
    )
