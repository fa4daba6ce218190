"""What strangers at a seller's door cost it, while an honest buyer buys: time, memory, disk, and the start afterwards.

    python tests/benchmarks/strangers.py                           # some minutes
    python tests/benchmarks/strangers.py --only junk,silent --count 100000 --json strangers.json

Each attack meets the real seller with a new wallet, on a private chain. The attack stands, or goes on, while one honest
buyer buys a small file; then the seller is left alone with it for a while, is ended, and starts again. Memory and CPU
are counted as Linux does, and the sources are addresses of its loopback network. Another attack is one more entry in
ATTACKS.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.market.processes import TERMINATE, Shop, make_film, opened

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.offer import Offer
from mpchan.party.offers.selling import Wish

PIECES, FREE = 8, 2
Result = dict[str, Any]


@dataclass(frozen=True)
class Attack:
    """What strangers do.

    Attributes:
        way: ``mailbox`` or ``tcp``.
        count: how many of them there are, where nothing else is said.
        piece: bytes of a piece of the file on sale.
        run: does it; what it returns is kept until the seller is ended.
    """

    way: str
    count: int
    piece: int
    run: Callable[[Shop, int, ExitStack], None]


# in a mailbox -------------------------------------------------------------------------------------


def laid(shop: Shop, kind: str, body: bytes, session: str | None = None) -> None:
    """A request that nobody waits for."""
    folder = shop.mailbox / "to-payee"
    name = f"{session or secrets.token_hex(16)}-000001-{kind}.hex"
    (folder / f".{name}").write_text(body.hex() + "\n")
    (folder / f".{name}").rename(folder / name)


def wishes(shop: Shop, number: int, stack: ExitStack) -> None:
    """73: offers are asked for, and never used."""
    offer_id = Offer.from_toml(shop.offer.read_text()).offer_id
    for _ in range(number):
        session = secrets.token_hex(16)
        laid(shop, "offer", Wish(offer_id, session, f"{FREE + 1}-{PIECES}").to_bytes(), session)


def free_pieces(shop: Shop, number: int, stack: ExitStack) -> None:
    """75: samples are asked for, and never taken away."""
    for _ in range(number):
        laid(shop, "piece", b'{"piece": 1}')


def junk(shop: Shop, number: int, stack: ExitStack) -> None:
    """Files that are no requests."""
    for index in range(number):
        (shop.mailbox / "to-payee" / f"junk-{index}").touch()


def half_requests(shop: Shop, number: int, stack: ExitStack) -> None:
    """Requests that are never finished."""
    for _ in range(number):
        (shop.mailbox / "to-payee" / f"{secrets.token_hex(16)}-000001-offer.hex").write_bytes(b"00")


# over connections ---------------------------------------------------------------------------------


def sources(one: bool) -> Iterator[str]:
    """Addresses of strangers."""
    for number in count():
        yield "127.0.0.2" if one else f"127.1.{number // 250 % 250}.{number % 250}"


def connections(number: int, shop: Shop, stack: ExitStack, *, one: bool, hello: bool) -> None:
    """76: so many, each made again when the seller ends it, as long as the attack goes on."""
    from support.transport.tcp import HELLO, frame

    host, port = shop.address.rsplit(":", 1)
    stop, addresses = threading.Event(), sources(one)
    stack.callback(stop.set)

    def hold() -> None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        wires: list[socket.socket] = []
        while not stop.is_set():
            try:
                wire = socket.create_connection((host, int(port)), 2, source_address=(next(addresses), 0))
                if hello:
                    wire = context.wrap_socket(wire)
                    wire.sendall(HELLO[:-16] + secrets.token_bytes(16) + frame(0x14, b'{"piece": 1}'))
                wires.append(wire)
            except OSError:
                time.sleep(0.01)
            if len(wires) > number:
                wires.pop(0).close()
                time.sleep(0.01)
        for wire in wires:
            wire.close()

    thread = threading.Thread(target=hold)
    thread.start()
    stack.callback(thread.join)
    stack.callback(stop.set)
    time.sleep(min(5.0, number / 100))


def silent(shop: Shop, number: int, stack: ExitStack) -> None:
    """76: nothing is said; from one source."""
    connections(number, shop, stack, one=True, hello=False)


def silent_from_many(shop: Shop, number: int, stack: ExitStack) -> None:
    """76: nothing is said; from as many sources."""
    connections(number, shop, stack, one=False, hello=False)


def slow(shop: Shop, number: int, stack: ExitStack) -> None:
    """75 and 76: a free piece is asked for on each connection, and not read."""
    connections(number, shop, stack, one=True, hello=True)


def nothing(shop: Shop, number: int, stack: ExitStack) -> None:
    """The honest buyer alone."""


ATTACKS = {
    "nobody": Attack("mailbox", 0, 100_000, nothing),
    "nobody-tcp": Attack("tcp", 0, 100_000, nothing),
    "wishes": Attack("mailbox", 1_000, 100_000, wishes),
    "free": Attack("mailbox", 100, 1_920_000, free_pieces),
    "junk": Attack("mailbox", 100_000, 100_000, junk),
    "half": Attack("mailbox", 10_000, 100_000, half_requests),
    "silent": Attack("tcp", 216, 100_000, silent),
    "silent-many": Attack("tcp", 2_000, 100_000, silent_from_many),
    "slow": Attack("tcp", 216, 1_920_000, slow),
}


# measuring ----------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stored(folder: Path) -> int:
    """Bytes of all files below a folder, those that went meanwhile left out."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


@contextmanager
def shop_for(folder: Path, bare: Path, attack: Attack) -> Iterator[Shop]:
    film = make_film(folder / "film", PIECES * attack.piece)
    options = ("--free-pieces", str(FREE))
    with opened(Shop(folder, bare, attack.way, film, PIECES, options=options)) as shop, shop.mining():
        yield shop


def measured(folder: Path, bare: Path, attack: Attack, number: int, seconds: float) -> Result:
    """One attack, and what it cost.

    Args:
        seconds: so long the seller's CPU is counted when the honest buyer has gone.
    """
    with shop_for(folder, bare, attack) as shop:
        seller = shop.sell()
        with ExitStack() as stack:
            attack.run(shop, number, stack)
            began = time.monotonic()
            buyer = shop.buy()
            buyer.ends_well()
            bought = time.monotonic() - began
            assert shop.is_whole()
            before = cpu_seconds(seller.pid)
            time.sleep(seconds)
            alone = (cpu_seconds(seller.pid) - before) / seconds
            memory = seller.resident_kib("VmHWM")
            mailbox = stored(shop.mailbox / "to-payer") if attack.way == "mailbox" else 0
            seller.ended(TERMINATE)
        began = time.monotonic()
        shop.sell()
        started = time.monotonic() - began
        return {
            "count": number,
            "honest_seconds": bought,
            "cpu_alone": alone,
            "peak_mb": memory / 1024,
            "answers_mb": mailbox / 1e6,
            "wallet_mb": stored(folder / "seller") / 1e6,
            "restart_seconds": started,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(ATTACKS), help="which attacks, by their names")
    parser.add_argument(
        "--count", type=int, help="how many strangers, in the place of each attack's own number"
    )
    parser.add_argument("--alone", type=float, default=3.0, help="seconds for which the seller is left alone")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the wallets and mailboxes stand")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    words = parser.parse_args()
    found: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="strangers-", dir=words.folder) as name:
        bare = Path(name) / "bare"
        with EmbeddedChain(bare) as chain:
            chain.tip()
        for each in words.only.split(","):
            attack = ATTACKS[each]
            folder = Path(name) / each
            folder.mkdir()
            number = attack.count if words.count is None or not attack.count else words.count
            found[each] = result = measured(folder, bare, attack, number, words.alone)
            print(
                f"{each:<12} {result['count']:>7,}  honest {result['honest_seconds']:6.2f} s  "
                f"CPU {result['cpu_alone']:4.0%}  peak {result['peak_mb']:5.0f} MB  "
                f"answers {result['answers_mb']:6.1f} MB  wallet {result['wallet_mb']:5.2f} MB  "
                f"restart {result['restart_seconds']:5.2f} s",
                flush=True,
            )
    if words.json is not None:
        words.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
