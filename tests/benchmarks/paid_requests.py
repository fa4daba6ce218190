"""What paying adds to a request over HTTPS: paid requests beside unpaid ones of the same server, in one run.

    python tests/benchmarks/paid_requests.py [--seconds 5] [--buyers 8]

The server and the buyers are processes of their own, on this machine; wallets stand in a folder below the current one,
since the disk is part of what is measured. Each line tells requests a second, the median and the 99th percentile of a
request, and the processor time that each side takes for one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.party import SHORT, Pair, new_wallet

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.chain.embedded import EmbeddedChain
from mpchan.http import Client, Paid, Price, Purse
from mpchan.http.certificates import own_certificate, pinned_url
from mpchan.http.listening.server import Listening
from mpchan.party import views
from mpchan.units import Amount

PRICE = 10
Result = dict[str, Any]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once."""
    if scope["type"] == "lifespan":
        raise RuntimeError("nothing to begin")
    await receive()
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


def serve(folder: Path, told: Any) -> None:
    """The server's process: what is below ``/free/`` costs nothing."""
    app = Paid(
        hello,
        folder / "payee",
        lambda asked: None if asked.path.startswith("/free/") else Price(PRICE, terms=SHORT),
        chain=lambda wallet: EmbeddedChain(folder / "chain"),
    )
    certificate = own_certificate(folder / "payee")
    with Listening(app, "127.0.0.1", 0, certificate) as listening:
        told.send(pinned_url(f"https://127.0.0.1:{listening.port}/", certificate))
        told.recv()


def cpu_of(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def buy(folder: Path, name: str, url: str, seconds: float, told: Any) -> None:
    """A buyer's process: what it is told to ask for, again and again."""
    chain: Callable[[Any], EmbeddedChain] = lambda wallet: EmbeddedChain(folder / "chain")  # noqa: E731
    place, _, pin = url.partition("#")
    with Purse(folder / name, chain=chain, deposit=900_000) as purse, Client(purse) as client:
        client.request("GET", url).release()
        told.send("open")
        for path in iter(told.recv, None):
            times = []
            end = time.monotonic() + seconds
            began = time.process_time()
            while time.monotonic() < end:
                start = time.perf_counter()
                response = client.request("GET", f"{place}{path}#{pin}")
                response.raw.read()
                response.raw.release_conn()
                times.append(time.perf_counter() - start)
                assert response.status == 200
            told.send((times, time.process_time() - began))


def run(buyers: list[Any], server: int, path: str, seconds: float) -> Result:
    """One line."""
    before = cpu_of(server)
    for buyer in buyers:
        buyer.send(path)
    answers = [buyer.recv() for buyer in buyers]
    times = [each for found, _ in answers for each in found]
    spread = statistics.quantiles(times, n=100)
    return {
        "a_second": len(times) / seconds,
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": spread[98] * 1e3,
        "client_cpu_ms": sum(cpu for _, cpu in answers) / len(times) * 1e3,
        "server_cpu_ms": (cpu_of(server) - before) / len(times) * 1e3,
    }


def measured(folder: Path, seconds: float, buyers: int) -> dict[str, Result]:
    """Unpaid and paid, from one buyer and from all."""
    found: dict[str, Result] = {}
    with EmbeddedChain(folder / "chain") as chain:
        Pair(folder, chain)
        for number in range(buyers):
            wallet = new_wallet(folder / f"buyer{number}")
            script = address_to_script(views.fresh_address(wallet).address, REGTEST)
            chain.faucet(script, Amount(1_000_000))
        chain.mine(1)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        server = context.Process(target=serve, args=(folder, there))
        server.start()
        url = here.recv()
        lines = []
        for number in range(buyers):
            line, other = context.Pipe()
            process = context.Process(target=buy, args=(folder, f"buyer{number}", url, seconds, other))
            process.start()
            lines.append((line, process))
        for line, _ in lines:
            while not line.poll(0.5):
                chain.mine(1)
            line.recv()
        ends = [line for line, _ in lines]
        assert server.pid is not None
        for name, path in (("unpaid", "free/x"), ("paid", "")):
            found[f"{name}, 1 buyer"] = run(ends[:1], server.pid, path, seconds)
            found[f"{name}, {buyers} buyers"] = run(ends, server.pid, path, seconds)
        for line, process in lines:
            line.send(None)
            process.join()
        here.send("end")
        server.join()
    return found


def main() -> None:
    """Measure, and tell it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--buyers", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="paid-", dir=Path.cwd()))
    try:
        found = measured(folder, options.seconds, options.buyers)
    finally:
        shutil.rmtree(folder)
    for name, line in found.items():
        shown = ", ".join(f"{key} {value:.2f}" for key, value in line.items())
        print(f"{name}: {shown}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
