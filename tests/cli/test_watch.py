"""``mpchan watch`` as a program: what it prints, how it ends, and what its exit code says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.transcript import TIMEOUT_SECONDS, Done, Shell
from test_terminal import plain, terminal

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
CHANNEL_KEYS = [
    "time", "event", "channel", "outpoint", "role", "status", "confirmations", "paid_sat", "pending_sat", "action",
    "txid", "deadline", "reason", "alarm", "message", "hint",
]  # fmt: skip
ROUND_KEYS = [
    "time", "event", "height", "median_time", "channels", "going", "alarms", "alarm", "message", "hint",
    "exit_code",
]  # fmt: skip
DEADLINE_KEYS = ["what", "lock_time", "unit", "blocks", "seconds", "at"]


def once(shell: Shell, who: str, *options: str, **env: str) -> Done:
    """``watch --once``: it answers on stdout whatever its exit code, so the rule of the empty stdout is not its own."""
    done = shell._start(["mpchan", "--wallet", who, "watch", "--once", *options], b"", dict(env))
    assert "Traceback" not in done.err
    return done


def events(text: str) -> list[dict[str, Any]]:
    """JSON lines, each with exactly the documented keys."""
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert list(event) == (ROUND_KEYS if event["event"] == "round" else CHANNEL_KEYS)
        if event.get("deadline"):
            assert list(event["deadline"]) == DEADLINE_KEYS
    return found


def to_refund(shell: Shell) -> None:
    shell.ok("mpchan -q regtest mine 305")


# once ---------------------------------------------------------------------------------------------


def test_nothing_needs_a_person(paid: Shell) -> None:
    done = once(paid, "seller", "--json")
    assert (done.code, done.err) == (0, "")
    channel, end = events(done.out)
    view = paid.json(f"{SELLER} show")
    for key in ("channel", "role", "status"):
        assert channel[key] == view[key]
    assert channel["outpoint"] == f"{view['funding']['txid']}:{view['funding']['vout']}"
    assert (channel["confirmations"], channel["paid_sat"], channel["action"]) == (1, 1000, "wait")
    assert (channel["txid"], channel["alarm"], channel["message"], channel["hint"]) == (
        None,
        None,
        None,
        None,
    )
    deadline = channel["deadline"]
    assert (deadline["what"], deadline["unit"]) == ("update", "blocks")
    assert deadline["lock_time"] == view["latest_lock_time"]
    assert deadline["seconds"] == 600 * deadline["blocks"] == 600 * (view["latest_lock_time"] - end["height"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", deadline["at"])
    assert (end["channels"], end["going"], end["alarms"], end["exit_code"]) == (1, 1, 0, 0)


def test_a_claim_and_its_words(paid: Shell) -> None:
    paid.ok("mpchan -q regtest mine 160")
    done = once(paid, "seller")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"sent the update [0-9a-f]{64}", done.out)
    assert once(paid, "seller").out.count("settling") == 1
    paid.ok("mpchan -q regtest mine 1")
    assert "closed" in once(paid, "seller").out
    assert paid.json(f"{SELLER} balance")["confirmed_sat"] == 1000


def test_a_refund_that_the_payee_sees_too_late(paid: Shell) -> None:
    to_refund(paid)
    [channel, end] = events(once(paid, "buyer", "--json").out)
    assert (channel["action"], channel["status"], end["exit_code"]) == ("refund", "refunding", 0)
    assert re.fullmatch("[0-9a-f]{64}", channel["txid"])
    done = once(paid, "seller", "--json")
    assert done.code == 5
    [channel, end] = events(done.out)
    assert (channel["alarm"], channel["action"], end["exit_code"], end["alarms"]) == (
        "refund-seen",
        "update",
        5,
        1,
    )
    assert "1000 sat" in channel["message"]
    assert "a child pays" in channel["reason"]
    # with its child the close has taken the refund's place; it stays an alarm until a block has it
    loud = once(paid, "seller")
    assert loud.code == 5
    assert "ALARM close-unconfirmed: channel " in loud.out
    assert once(paid, "seller", "-q").out.count("ALARM close-unconfirmed") == 1
    assert once(paid, "buyer", "-q").out == ""


def test_a_damaged_file_and_a_chain_out_of_reach(paid: Shell) -> None:
    [path] = paid.folder.glob("seller/channels/*.json")
    text = path.read_text()
    path.write_text(text.replace("1000", "2000"))
    done = once(paid, "seller", "--json")
    assert done.code == 7
    channel, end = events(done.out)
    assert (channel["alarm"], channel["role"], channel["status"]) == ("channel-damaged", None, None)
    assert end["exit_code"] == 7
    path.write_text(text)
    config = paid.folder / "seller" / "wallet.toml"
    config.write_text(
        config.read_text().replace(
            'backend = "embedded"', 'backend = "bitcoind"\nrpc_url = "http://127.0.0.1:1"'
        )
    )
    env = {"MPCHAN_RPC_USER": "u", "MPCHAN_RPC_PASSWORD": "p"}
    done = once(paid, "seller", "--json", **env)
    assert done.code == 8
    [end] = events(done.out)
    assert (end["alarm"], end["height"], end["channels"], end["exit_code"]) == ("unreachable", None, 0, 8)
    loud = once(paid, "seller", **env)
    assert loud.code == 8
    assert "ALARM unreachable" in loud.out


def test_a_wallet_without_channels_or_without_a_chain(wallets: Shell) -> None:
    done = once(wallets, "seller")
    assert (done.code, done.out.splitlines()[0]) == (0, "no channels yet")
    [end] = events(once(wallets, "seller", "--json").out)
    assert end["channels"] == 0
    wallets.ok("mpchan --wallet third init --chain none")
    wallets.fails("mpchan --wallet third watch --once", 8, "no-backend")
    wallets.fails("mpchan --wallet third watch", 8, "no-backend")
    wallets.fails("mpchan --wallet fourth watch --once", 7, "no-wallet")


@pytest.mark.parametrize(
    ("line", "slug"),
    [
        ("claim_after = 5", "malformed-config"),
        ('claim_after = "2 days"', "malformed-config"),
        ('claim_after = "-1d"', "malformed-config"),
        ('claim_after = "9999999999d"', "malformed-number"),
        ("near_blocks = -1", "malformed-number"),
        ("near_seconds = 1.5", "malformed-number"),
        ("nearly = 1", "malformed-config"),
    ],
)
def test_a_malformed_watch_table(paid: Shell, line: str, slug: str) -> None:
    path = paid.folder / "seller" / "wallet.toml"
    path.write_text(path.read_text().replace("[watch]\n", f"[watch]\n{line}\n"))
    paid.fails(f"{SELLER} watch --once", 3, slug)


# for days -----------------------------------------------------------------------------------------


class Running:
    """A watcher that runs, and its lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith("\n"), line
        return line

    def event(self, **wanted: object) -> dict[str, Any]:
        """The next event that says this."""
        while True:
            [event] = events(self.line())
            if all(event.get(key) == value for key, value in wanted.items()):
                return event

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_SECONDS)

    def rest(self) -> tuple[str, str]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        return self.process.stdout.read(), self.process.stderr.read()


@contextmanager
def watching(shell: Shell, who: str, *options: str) -> Iterator[Running]:
    words = ["mpchan", "--wallet", who, "watch", "--interval", "0.05", *options]
    with subprocess.Popen(
        words,
        cwd=shell.folder,
        env=shell.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def test_it_follows_a_channel_to_its_end(opened: Shell) -> None:
    """Each change is told once, on a line of its own, as soon as it is seen; and the money moves."""
    with watching(opened, "seller", "--json") as seller, watching(opened, "buyer", "--json") as buyer:
        assert seller.event(event="channel")["status"] == "open"
        assert seller.event(event="round")["going"] == 1
        assert buyer.event(event="channel")["deadline"]["what"] == "refund"
        opened.ok(f"{BUYER} pay 1000 -o update.psbt")
        assert buyer.event(event="channel")["paid_sat"] == 1000
        opened.ok(f"{SELLER} payee accept update.psbt")
        assert seller.event(event="channel")["paid_sat"] == 1000
        opened.ok(f"{BUYER} settle --total 5000 -o settlement.psbt")
        assert buyer.event(event="channel")["status"] == "settling"
        opened.ok(f"{SELLER} payee accept settlement.psbt")
        assert re.fullmatch("[0-9a-f]{64}", seller.event(action="settlement")["txid"])
        opened.ok("mpchan -q regtest mine 1")
        for running in (seller, buyer):
            assert running.event(event="channel", status="closed")["deadline"] is None
            assert running.event(event="round", going=0)
        assert seller.end(signal.SIGTERM) == 0
        assert buyer.end(signal.SIGINT) == 130
        for running in (seller, buyer):
            assert running.rest() == ("", "")
    assert opened.json(f"{SELLER} balance")["confirmed_sat"] == 5000


def test_nothing_new_is_not_told(paid: Shell) -> None:
    with watching(paid, "seller") as running:
        first = [running.line(), running.line()]
        time.sleep(1)  # some twenty rounds
        paid.ok("mpchan -q regtest mine 1")
        time.sleep(0.5)
        assert running.end(signal.SIGTERM) == 0
        assert running.rest() == ("", "")
    assert re.fullmatch(
        r"\S{19}Z  channel [0-9a-f]{16} \(payee\) is open: 1000 sat are paid, to be claimed from block 272 on; "
        r"claim block 272 in 160 blocks, 1 d 2 h \(\d{4}-\d\d-\d\d \d\d:\d\d UTC\)\n",
        first[0],
    )
    assert re.fullmatch(r"\S{19}Z  block 112: 1 channel, 1 going, 0 alarms\n", first[1])


def test_alarms_alone(paid: Shell) -> None:
    to_refund(paid)
    paid.ok(f"{BUYER} refund -q -o refund.hex")
    with watching(paid, "seller", "-q") as running:
        assert "ALARM refund-seen" in running.line()
        assert running.end(signal.SIGTERM) == 0


def test_a_pipe_that_closes_ends_it(paid: Shell) -> None:
    """And what was due is done first."""
    done = paid._start(f"{SELLER} watch --interval 0.05 --json | head -1", b"", {})
    assert json.loads(done.out)["event"] == "channel"
    assert json.loads(done.err)["error"] == "not-emitted"
    paid.ok("mpchan -q regtest mine 160")
    script = f"{SELLER} watch --once --json | true; exit 0"
    paid._start(script, b"", {})
    assert paid.json(f"{SELLER} show")["status"] == "settling"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_round_that_was_cut_short_is_no_success(paid: Shell, number: int) -> None:
    """``--once`` that is ended before its round is over does not say 0, nor what an alarm says."""
    hold = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    paid.ok("mpchan -q regtest mine 160")
    [lock] = paid.folder.glob("seller/channels/*.lock")
    (paid.folder / "seller" / "channels" / f"{'0' * 64}-0.json").write_text("looked at first, and told of")
    with subprocess.Popen(
        [sys.executable, "-c", hold, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with subprocess.Popen(
            ["mpchan", "--wallet", "seller", "watch", "--once", "--json"],
            cwd=paid.folder,
            env=paid.env,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["alarm"] == "channel-damaged"
            process.send_signal(number)  # it waits for the lock, or is about to
            time.sleep(0.2)
            holder.stdin.close()
            assert process.wait(TIMEOUT_SECONDS) == (130 if number == signal.SIGINT else 143)


def test_it_is_not_in_the_way_of_other_commands(paid: Shell) -> None:
    with watching(paid, "seller", "--json") as seller, watching(paid, "seller", "--json") as twin:
        for running in (seller, twin):
            running.event(event="round")
        for number in range(2, 6):
            paid.ok(f"{BUYER} pay 1000 -o update-{number}.psbt")
            assert paid.json(f"{SELLER} payee accept update-{number}.psbt")["paid_sat"] == 1000 * number
        for running in (seller, twin):
            running.event(paid_sat=5000)
            assert running.end(signal.SIGTERM) == 0


# in a terminal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table_in_a_terminal(paid: Shell, columns: int) -> None:
    seen = plain(terminal(paid, "--wallet seller watch --once", columns))
    assert max(len(line) for line in seen.splitlines()) <= columns
    assert len(seen.splitlines()) == 3
    assert seen.splitlines()[0].split() == ["channel", "role", "status", "next", "in", "about"]
    assert re.search(r"  claim  160 blocks  \d\d [A-Z][a-z]{2} \d\d:\d\d UTC\n", seen)
    assert (
        re.sub(r"\d\d:\d\d", "", seen).split() == re.sub(r"\d\d:\d\d", "", once(paid, "seller").out).split()
    )


def test_the_live_table(paid: Shell, tmp_path: Path) -> None:
    """Kept up to date in place, with the alarms below it."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        ["mpchan", "--wallet", "seller", "watch", "--interval", "0.05"],
        cwd=paid.folder,
        env={**paid.env, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)

        def until(words: str) -> str:
            seen = ""
            while words not in seen:
                seen += plain(os.read(ours, 65536).decode(errors="replace"))
            return seen

        first = until("1 going, 0 alarms")
        assert "mpchan watch on regtest" in first
        assert "  claim  160 blocks  " in first
        paid.ok("mpchan -q regtest mine 160")
        until("sent the update")
        paid.ok("mpchan -q regtest mine 1")
        until("closed")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while True:
            try:
                if not os.read(ours, 65536):
                    break
            except OSError:
                break
        assert process.wait(TIMEOUT_SECONDS) == 130
        assert process.stderr.read() == b""
        os.close(ours)
