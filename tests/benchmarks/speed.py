"""What a payment costs, in one run on one machine, beside what it must cost and what it costs elsewhere.

    python tests/benchmarks/speed.py                          # some minutes
    python tests/benchmarks/speed.py --payments 1000000 --channels 10000 --json speed.json
    python tests/benchmarks/plot.py speed.json

Wallets stand in --folder, or in a folder of their own below the current one: the disk is part of what is measured.
Bitcoin Core is measured too where $BITCOIND names it, or PATH has it, with bitcoin-cli beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.many_channels import Many

from mpchan.bitcoin import signers
from mpchan.party.meter.base import AT_ONCE

FASTEST = signers.installed()[0]
MPCHAN = str(Path(sys.executable).with_name("mpchan"))
Result = dict[str, Any]

ROUNDS = 3
"""Of the pipe: other work on the machine takes from some of them."""


def per_call(act: Callable[[], object], seconds: float = 0.5) -> float:
    """Processor seconds that a call takes, the least of five rounds: other work on the machine takes none of them."""
    act()
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds / 5:
        act()
        count += 1
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(count):
            act()
        rounds.append((time.process_time() - start) / count)
    return min(rounds)


def spread(values: list[float]) -> Result:
    """Least, median and 99th percentile, in milliseconds."""
    ordered = sorted(values)
    at = min(len(ordered) - 1, int(len(ordered) * 0.99))
    return {"min": ordered[0] * 1e3, "p50": statistics.median(ordered) * 1e3, "p99": ordered[at] * 1e3}


def row(name: str, text: str) -> None:
    print(f"  {name:<58} {text}", flush=True)


# (a) ----------------------------------------------------------------------------------------------


def floor(folder: Path) -> Result:
    """libsecp256k1 by its own calls, without any of our code: in each construction a signature, and a check of it."""
    print("(a) what physics asks for")
    found: Result = {"fsync": fsyncs(folder, 300)}
    row("write of 1,800 bytes and fsync: p50, p99", "{p50:.2f} ms, {p99:.2f} ms".format(**found["fsync"]))
    if FASTEST == "btclib":
        from btclib_secp256k1 import ffi, lib
        from btclib_secp256k1.context import ctx as context
    elif FASTEST == "coincurve":
        from coincurve._libsecp256k1 import ffi, lib  # type: ignore[no-redef]
        from coincurve.context import GLOBAL_CONTEXT

        context = GLOBAL_CONTEXT.ctx
    else:
        row("libsecp256k1", "not installed")
        return found
    for scheme, measured in (("decrementing", ecdsa_floor), ("taproot", schnorr_floor)):
        sign, verify = (per_call(act) * 1e6 for act in measured(ffi, lib, context))
        found[scheme] = {"sign": sign, "verify": verify, "per_second": 1e6 / max(sign, verify)}
        row(f"{scheme}, {FASTEST}: the payer signs / the payee verifies", f"{sign:.0f} us / {verify:.0f} us")
        row("  payments/s, each side on a core of its own", f"{found[scheme]['per_second']:,.0f}")
    return found


Calls = tuple[Callable[[], object], Callable[[], object]]
"""To sign, and to verify."""


def ecdsa_floor(ffi: Any, lib: Any, context: Any) -> Calls:
    """A signature that is ground to a low R, and its check."""
    signature, key = ffi.new("secp256k1_ecdsa_signature *"), bytes([7] * 32)
    public, compact = ffi.new("secp256k1_pubkey *"), ffi.new("unsigned char[64]")
    lib.secp256k1_ec_pubkey_create(context, public, key)
    extra = ffi.new("unsigned char[32]")
    digests = (hashlib.sha256(b"%d" % number).digest() for number in range(1 << 30))

    def sign() -> bytes:
        digest, counter = next(digests), 0
        lib.secp256k1_ecdsa_sign(context, signature, digest, key, ffi.NULL, ffi.NULL)
        while (
            lib.secp256k1_ecdsa_signature_serialize_compact(context, compact, signature) and compact[0] > 127
        ):
            counter += 1
            ffi.buffer(extra)[:] = counter.to_bytes(32, "little")
            lib.secp256k1_ecdsa_sign(context, signature, digest, key, ffi.NULL, extra)
        return digest

    digest = sign()
    kept = ffi.new("secp256k1_ecdsa_signature *", signature[0])
    assert lib.secp256k1_ecdsa_verify(context, kept, digest, public)
    return sign, lambda: lib.secp256k1_ecdsa_verify(context, kept, digest, public)


def schnorr_floor(ffi: Any, lib: Any, context: Any) -> Calls:
    """A BIP-0340 signature by a key pair that is kept, and its check."""
    pair, public = ffi.new("secp256k1_keypair *"), ffi.new("secp256k1_xonly_pubkey *")
    lib.secp256k1_keypair_create(context, pair, bytes([7] * 32))
    lib.secp256k1_keypair_xonly_pub(context, public, ffi.NULL, pair)
    signature, digest, zeros = ffi.new("unsigned char[64]"), bytes(range(32)), bytes(32)
    lib.secp256k1_schnorrsig_sign32(context, signature, digest, pair, zeros)
    assert lib.secp256k1_schnorrsig_verify(context, signature, digest, 32, public)
    return (
        lambda: lib.secp256k1_schnorrsig_sign32(context, signature, digest, pair, zeros),
        lambda: lib.secp256k1_schnorrsig_verify(context, signature, digest, 32, public),
    )


def fsyncs(folder: Path, count: int) -> Result:
    """How long the disk takes to make one line of a journal durable."""
    times = []
    descriptor = os.open(folder / "fsync", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for _ in range(count):
        start = time.perf_counter()
        os.write(descriptor, b"x" * 1800)
        os.fsync(descriptor)
        times.append(time.perf_counter() - start)
    os.close(descriptor)
    return spread(times)


# (b) ----------------------------------------------------------------------------------------------


def meter(many: Many, name: str, signer: str) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """A payer's and a payee's stream, each to be fed by itself."""
    environment = {**many.environment(), "MPCHAN_SIGNER": signer}
    commands = (
        [MPCHAN, "--wallet", str(many.payer.directory), "payer", "pay", "--stream", "--channel", name],
        [MPCHAN, "--wallet", str(many.payee.directory), "payee", "accept", "--stream", "--json"],
    )
    paying, taking = (
        subprocess.Popen(each, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for each in commands
    )
    return paying, taking


def piped(many: Many, name: str, signer: str, count: int) -> Iterator[tuple[int, float]]:
    """So many payments through the pipe: how many have come out, and when; at the end (-1) each side's CPU seconds."""
    environment = {**many.environment(), "MPCHAN_SIGNER": signer}
    amounts = many.payer.directory.with_name("amounts")
    amounts.write_text("1000\n" + "10\n" * (count - 1))
    with open(amounts, "rb") as source:
        paying = subprocess.Popen(
            [MPCHAN, "--wallet", str(many.payer.directory), "payer", "pay", "--stream", "--channel", name],
            env=environment, stdin=source, stdout=subprocess.PIPE,
        )  # fmt: skip
    taking = subprocess.Popen(
        [MPCHAN, "--wallet", str(many.payee.directory), "payee", "accept", "--stream", "--json"],
        env=environment, stdin=paying.stdout, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert paying.stdout is not None
    assert taking.stdout is not None
    paying.stdout.close()
    for number, _ in enumerate(taking.stdout, 1):
        yield number, time.perf_counter()
    for process in (paying, taking):
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        yield -1, used.ru_utime + used.ru_stime


def through_the_pipe(many: Many, name: str, signer: str, count: int) -> Result:
    start, ends, cpu = time.perf_counter(), [], []
    for number, value in piped(many, name, signer, count):
        if number < 0:
            cpu.append(value)
        elif number in (AT_ONCE, count):  # from the end of the first batch on
            ends.append(value)
    return {
        "per_second": (count - AT_ONCE) / (ends[1] - ends[0]),
        "payer_cpu": cpu[0] / count * 1e6,
        "payee_cpu": cpu[1] / count * 1e6,
        "start": ends[0] - start,
    }


def alone(many: Many, name: str, signer: str, count: int) -> Result:
    """From an amount that goes in to the payee's answer that comes out; and the disk's own time in between."""
    paying, taking = meter(many, name, signer)
    descriptor = os.open(many.payer.directory.with_name("fsync"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    times, disk = [], []
    assert paying.stdin is not None
    assert paying.stdout is not None
    assert taking.stdin is not None
    assert taking.stdout is not None
    for number in range(count + 20):
        start = time.perf_counter()
        paying.stdin.write(b"1000\n")
        paying.stdin.flush()
        taking.stdin.write(paying.stdout.readline())
        taking.stdin.flush()
        taking.stdout.readline()
        middle = time.perf_counter()
        for _ in range(2):  # a payment waits for one on each side
            os.write(descriptor, b"x" * 1800)
            os.fsync(descriptor)
        if number >= 20:
            times.append(middle - start)
            disk.append(time.perf_counter() - middle)
        time.sleep(0.002)
    os.close(descriptor)
    for process in (paying, taking):
        process.communicate()
    return {"lone": spread(times), "disk": spread(disk)}


def shares(floors: Result, piped: Result) -> None:
    """How near the pipe comes to the floor of the same run: in payments a second, which other work on the machine takes
    from, and in processor time, start of the program and all, which it does not."""
    for scheme in ("decrementing", "taproot"):
        least, one = floors.get(scheme), piped[f"{scheme}, {FASTEST}"]
        if least is None:
            return
        one["share"] = one["per_second"] / least["per_second"]
        one["share_of_cpu"] = max(least["sign"], least["verify"]) / max(one["payer_cpu"], one["payee_cpu"])
        row(f"{scheme}: of its floor, payments/s / CPU", f"{one['share']:.0%} / {one['share_of_cpu']:.0%}")


def pipe(many: dict[str, Many], count: int) -> Result:
    """Both constructions in turns, by the fastest signer and by the one that is always there."""
    print("(b) through the pipe: pay --stream | accept --stream --json, with fsync")
    found: Result = {}
    for at, (signer, share) in enumerate({FASTEST: 1.0, "ecdsa": 0.05}.items()):
        times: dict[str, list[Result]] = {scheme: [] for scheme in many}
        for _ in range(ROUNDS if signer == FASTEST else 1):
            for scheme, channels in many.items():
                some = max(2 * AT_ONCE, int(count * share))
                times[scheme].append(through_the_pipe(channels, channels.names[at], signer, some))
        for scheme, channels in many.items():
            one = max(times[scheme], key=lambda each: float(each["per_second"]))
            one["all_rounds"] = [each["per_second"] for each in times[scheme]]
            one.update(alone(channels, channels.names[at], signer, 300 if signer == FASTEST else 60))
            found[f"{scheme}, {signer}"] = one
            rounds = ", ".join(f"{each:,.0f}" for each in one["all_rounds"])
            row(f"{scheme}, {signer}: payments/s, the best of", f"{one['per_second']:,.0f}  ({rounds})")
            row("  CPU of a payment: payer / payee", f"{one['payer_cpu']:.0f} us / {one['payee_cpu']:.0f} us")
            row("  one alone, both sides: p50, p99", "{p50:.2f} ms, {p99:.2f} ms".format(**one["lone"]))
            row(
                "  two fsyncs of this disk, between them: p50, p99",
                "{p50:.2f} ms, {p99:.2f} ms".format(**one["disk"]),
            )
    return found


# (c) ----------------------------------------------------------------------------------------------


def core(folder: Path) -> Result | None:
    """The same payment by hand: Core's wallet signs and countersigns, bitcoin-cli carries."""
    print("(c) the same payment with bitcoin-cli and the wallet of Bitcoin Core")
    from core_payment import CorePayment
    from support.chain import node

    program = None if node.BITCOIND is None else Path(node.BITCOIND).with_name("bitcoin-cli")
    if program is None or not program.exists():
        row("no node at hand", "set BITCOIND")
        return None
    with node.running(folder / "node", wallet=True) as started:
        payment = CorePayment(started, str(program))
        times: dict[str, list[float]] = {}
        for number in range(1, 16):
            for step, seconds in payment.make(number).items():
                times.setdefault(step, []).append(seconds)
    found = {step: statistics.median(each) * 1e3 for step, each in times.items()}
    total = sum(found.values())
    row(", ".join(found), " + ".join(f"{each:.0f}" for each in found.values()) + f" = {total:.0f} ms")
    return {"steps": found, "total": total, "per_second": 1e3 / total}


# (d) ----------------------------------------------------------------------------------------------


def process_times(commands: dict[str, list[str]], environment: dict[str, str], rounds: int) -> Result:
    """Wall time and CPU time of whole processes, one round of all commands after the other."""
    wall: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            start = time.perf_counter()
            process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(used.ru_utime + used.ru_stime)
            assert status == 0, words
    return {name: {**spread(wall[name]), "cpu": statistics.median(cpu[name]) * 1e3} for name in commands}


def commands(many: Many, channel: str) -> dict[str, list[str]]:
    """A payment, its acceptance and a look at it; the same message is accepted again and again, or a new one."""
    payer, payee = ["--wallet", str(many.payer.directory)], ["--wallet", str(many.payee.directory)]
    update = str(many.payer.directory.with_name("update"))
    return {
        "mpchan pay": [MPCHAN, *payer, "pay", "1000", "--channel", channel, "--output", update, "--quiet"],
        "mpchan payee accept": [MPCHAN, *payee, "payee", "accept", update],
        "mpchan show": [MPCHAN, *payee, "show", "--channel", channel, "--json"],
    }


def processes(many: Many, channel: str) -> Result:
    print("(d) whole processes: median and least wall time, CPU time")
    bare = {"python -c 'import click'": [sys.executable, "-c", "import click"]}
    found = process_times({**bare, **commands(many, channel)}, many.environment(), 25)
    [least] = [found[name] for name in bare]
    for name, one in found.items():
        times = f"{one['p50']:.0f} ms, {one['min']:.0f} ms, CPU {one['cpu']:.0f} ms"
        row(name, f"{times}  (x {one['cpu'] / least['cpu']:.2f})")
    return found


# (e) ----------------------------------------------------------------------------------------------


def channels(folder: Path, most: int) -> Result:
    print("(e) scale: one channel among many (median wall, CPU time), and the list of all")
    found: Result = {}
    folder.mkdir()
    many = Many(folder, 1)
    for count in sorted({1, 100, most // 10, most}):
        many.grow(count)
        one = commands(many, many.names[count // 2][:16])
        one["mpchan list"] = [MPCHAN, "--wallet", str(many.payer.directory), "list", "--json"]
        times = process_times(one, many.environment(), 7)
        found[str(count)] = times
        shown = "  ".join(
            f"{name.split()[-1]} {each['p50']:.0f}/{each['cpu']:.0f}" for name, each in times.items()
        )
        row(f"{count:,} channels", f"{shown} ms")
    return found


def payments(many: Many, name: str, count: int) -> Result:
    print("    one channel with many payments: payments/s, size of the state file, of the file that grows")
    found: Result = {}
    part = max(1, count // 10)
    last, files = time.perf_counter(), many.payee.channels
    for number, value in piped(many, name, FASTEST, count):
        if number > 0 and number % part == 0:
            sizes = [path.stat().st_size for path in (files.state_path(name), files.journal_path(name))]
            found[str(number)] = {"per_second": part / (value - last), "state": sizes[0], "journal": sizes[1]}
            row(f"{number:,}", f"{part / (value - last):,.0f}  {sizes[0]:,}  {sizes[1]:,}")
            last = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--payments", type=int, default=20_000)
    parser.add_argument("--channels", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="abcde")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mpchan-speed-", dir=given.folder))
    found: Result = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"CPython {platform.python_version()}",
        "payments": given.payments,
    }
    print(found["machine"])
    try:
        both: dict[str, Many] = {}
        for scheme in ("decrementing", "taproot"):
            (folder / scheme).mkdir()
            both[scheme] = Many(folder / scheme, 4, scheme)
        many = both["decrementing"]
        parts: dict[str, Callable[[], Any]] = {
            "a": lambda: floor(folder),
            "b": lambda: pipe(both, min(given.payments, 30_000)),
            "c": lambda: core(folder),
            "d": lambda: processes(many, many.names[2]),
            "e": lambda: {
                "channels": channels(folder / "many", given.channels),
                "payments": payments(many, many.names[3], given.payments),
            },
        }
        for letter in given.only:
            found[letter] = parts[letter]()
        if "a" in found and "b" in found:
            shares(found["a"], found["b"])
    finally:
        shutil.rmtree(folder)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
