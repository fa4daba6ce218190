"""``--stream``: a running meter of two processes and a pipe, which may be broken off at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from support.transcript import Shell, program

from mpchan.bitcoin.network import REGTEST
from mpchan.cli.commands import stream
from mpchan.errors import MpchanError
from mpchan.party.meter.base import AT_ONCE
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.wallet import Wallet

PAY = "mpchan --wallet buyer payer pay --stream"
ACCEPT = "mpchan --wallet seller payee accept --stream"
MANY = 1 << 20


@pytest.fixture(scope="session")
def _metered(_wallets: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("metered") / "folder", _wallets)
    shell.ok("mpchan --wallet seller payee offer --lock-time-unit seconds --max-capacity 1btc -o offer.toml")
    shell.ok("mpchan --wallet buyer payer open offer.toml 0.5btc -o request.psbt")
    shell.ok("mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt")
    shell.ok("mpchan --wallet buyer payer fund signed.psbt -o funding.hex")
    shell.ok("mpchan regtest mine 1")
    return shell


@pytest.fixture
def metered(_metered: Shell, tmp_path: Path) -> Shell:
    """A channel of half a bitcoin that counts seconds: it has room for a million updates."""
    return Shell(tmp_path / "folder", _metered)


class Running:
    """A command that runs in a shell's folder, with pipes to it where the test wants them."""

    def __init__(self, shell: Shell, command: str, **pipes: Any) -> None:
        words = [str(program()), *command.split()[1:]]
        kept: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **pipes}
        self.process = subprocess.Popen(
            words, cwd=shell.folder, env=shell.env, stderr=subprocess.PIPE, **kept
        )

    @property
    def input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def say(self, *lines: object) -> None:
        self.input.write("".join(f"{line}\n" for line in lines).encode())
        self.input.flush()

    def end(self) -> tuple[int, str, str]:
        """Exit code, and what is left of both outputs."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, (out or b"").decode(), err.decode()


@pytest.fixture
def start(metered: Shell) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(command: str, **pipes: Any) -> Running:
        started.append(Running(metered, command, **pipes))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()
        for pipe in (each.process.stdin, each.process.stdout, each.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def paid(shell: Shell, wallet: str) -> tuple[int, int]:
    """Number and total of the latest update, as the wallet's files have it."""
    opened = Wallet.open(shell.folder / wallet)
    [record] = opened.channels.readable()
    return record.updates, record.paid.sat


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def stream_of(shell: Shell, command: str, lines: list[Any]) -> tuple[int, list[str], str]:
    done = shell.run(command, stdin="".join(f"{line}\n" for line in lines).encode())
    return done.code, done.out.splitlines(), done.err


# the meter ----------------------------------------------------------------------------------------


def test_a_running_meter(metered: Shell) -> None:
    """Line for line, in order; both sides then know the same, and all of it is whole."""
    amounts = [1000, *range(1, 700)]
    (metered.folder / "amounts").write_text("".join(f"{amount}\n" for amount in amounts))
    done = metered.run(f"{PAY} < amounts | {ACCEPT} --json")
    assert (done.code, done.err) == (0, "")
    results = objects(done.out)
    assert [each["received_sat"] for each in results] == amounts
    assert [each["update"] for each in results] == list(range(1, 701))
    total = sum(amounts)
    assert results[-1]["paid_sat"] == total
    assert paid(metered, "buyer") == paid(metered, "seller") == (700, total)
    for wallet in ("buyer", "seller"):
        assert metered.json(f"mpchan --wallet {wallet} fsck")["wrong"] == 0
        events = metered.json(f"mpchan --wallet {wallet} history")["events"]
        assert sum(each["event"] in ("paid", "accepted") for each in events) == 700
    metered.ok("mpchan --wallet buyer settle -o settlement.psbt")
    assert metered.json("mpchan --wallet seller settle settlement.psbt")["paid_sat"] == total


def test_an_answer_comes_at_once_for_a_line_alone(start: Callable[..., Running], metered: Shell) -> None:
    """No line waits for another one; what came out is on the disk while the command still runs."""
    paying, taking = start(PAY), start(f"{ACCEPT} --json")
    for number, amount in enumerate((1000, 7, 9), 1):
        paying.say(amount)
        message = paying.output.readline().decode().strip()
        assert paid(metered, "buyer")[0] == number
        taking.say(message)
        taken = json.loads(taking.output.readline())
        assert (taken["update"], taken["received_sat"]) == (number, amount)
        assert paid(metered, "seller") == (number, taken["paid_sat"])
    assert paying.end() == (0, "", "")
    assert taking.end() == (0, "", "")


def test_the_stream_makes_the_messages_of_the_command(metered: Shell) -> None:
    twin = Shell(metered.folder.with_name("twin"), metered)
    code, out, err = stream_of(metered, PAY, [1000, "0.00000020btc", "15sat"])
    assert (code, err) == (0, "")
    assert out == [
        twin.ok(f"mpchan --wallet buyer pay {each} -q").out.strip() for each in ("1000", "20", "15")
    ]
    code, out, _ = stream_of(metered, f"{PAY} --json", [5])
    wanted = twin.json("mpchan --wallet buyer pay 5")
    assert [json.loads(line) for line in out] == [wanted]
    message = wanted["hex"]
    code, out, _ = stream_of(metered, f"{ACCEPT} --json", [message])
    assert [json.loads(line) for line in out] == [
        json.loads(twin.ok(f"echo {message} | mpchan --wallet seller payee accept - --json").out)
    ]


def test_totals_are_safe_to_repeat(metered: Shell) -> None:
    code, out, _ = stream_of(metered, f"{PAY} --totals --json", [1000, 1500, 1500])
    views = [json.loads(line) for line in out]
    assert [each["amount_sat"] for each in views] == [1000, 500, 0]
    assert views[1]["hex"] == views[2]["hex"]
    code, out, err = stream_of(metered, f"{PAY} --totals", [1500, 1400])
    assert (code, out) == (5, [views[1]["hex"]])
    assert err.startswith("mpchan: error: line 2: 1500 sat are paid already")
    assert paid(metered, "buyer") == (2, 1500)


# refused lines ------------------------------------------------------------------------------------


def test_a_refused_line_is_reported_on_its_line(metered: Shell) -> None:
    """Stop, or go on, as it is told; the exit code is the highest of all."""
    lines = [1000, "x", 0, "", 10]
    for option in ("", " --on-error stop"):
        code, out, err = stream_of(metered, PAY + option, lines)
        assert (code, len(out)) == (3, 1)
        assert err.startswith("mpchan: error: line 2: not an amount: 'x'\nmpchan: hint: write satoshi as")
    code, out, err = stream_of(metered, f"{PAY} --on-error continue", lines)
    assert (code, len(out)) == (5, 2)
    assert [line.split(":")[2] for line in err.splitlines() if ": error: " in line] == [" line 2", " line 3"]
    code, out, err = stream_of(metered, f"{PAY} --on-error continue --json", lines)
    views = [json.loads(line) for line in out]
    assert err == ""
    assert [each.get("error") for each in views] == [None, "malformed-amount", "zero-payment", None]
    assert [each.get("line") for each in views] == [None, 2, 3, None]
    assert [each.get("exit_code") for each in views] == [None, 3, 5, None]
    assert paid(metered, "buyer") == (6, 4020)


def test_a_refused_line_ends_a_stream_whose_input_goes_on(start: Callable[..., Running]) -> None:
    for command, line, code in ((PAY, "x", 3), (ACCEPT, "zz", 3)):
        running = start(command)
        running.say(line)
        assert running.process.wait(30) == code


def test_a_refused_message_is_reported_on_its_line(metered: Shell) -> None:
    _, updates, _ = stream_of(metered, PAY, [1000, 10, 10])
    bad = updates[1][:-2]
    lines = [updates[0], bad, updates[1], updates[1], "zz", updates[2]]
    code, out, err = stream_of(metered, ACCEPT, lines)
    assert (code, len(out)) == (3, 2)
    assert out[1] == "line 2 refused: malformed-psbt"
    assert err.startswith("mpchan: error: line 2: not a valid PSBT")
    code, out, _ = stream_of(metered, f"{ACCEPT} --on-error continue", lines[2:])
    assert code == 3
    assert out[0].startswith("update 2 of channel ")
    assert out[1].endswith("is held already: 1010 sat in all")
    assert out[2] == "line 3 refused: malformed-hex"
    assert out[3].endswith("10 sat received, 1020 in all, 49998980 left")
    code, out, err = stream_of(metered, f"{ACCEPT} -q --on-error continue", [updates[2], "zz"])
    assert (code, out) == (3, [])
    assert err.startswith("mpchan: error: line 2: ")
    code, out, err = stream_of(metered, f"{ACCEPT} --json", ["zz"])
    assert (code, err) == (3, "")
    assert objects(out[0])[0]["error"] == "malformed-hex"


def test_a_line_that_may_be_cut_off_pays_nothing(metered: Shell) -> None:
    """1000 of 10000 would be a wrong amount; a message cannot be cut without a trace."""
    done = metered.run(f"{PAY} --json", stdin=b"1000\n1000")
    assert done.code == 3
    assert [each.get("error") for each in objects(done.out)] == [None, "unfinished-line"]
    assert paid(metered, "buyer") == (1, 1000)
    message = objects(done.out)[0]["hex"]
    assert metered.run(f"{ACCEPT} -q", stdin=message.encode()).code == 0


def test_a_line_that_never_ends_is_not_kept_in_memory(metered: Shell) -> None:
    data = b"1" * 3_000_000 + b"\n1000\n" + b"1" * 900_000 + b"\n10\n"
    done = metered.run(f"{PAY} --json --on-error continue", stdin=data)
    assert [each.get("error") for each in objects(done.out)] == ["too-large", None, "too-large", None]
    assert [each.get("line") for each in objects(done.out)] == [1, None, 3, None]
    assert (done.code, paid(metered, "buyer")) == (3, (2, 1010))


def test_windows_line_ends_and_space(metered: Shell) -> None:
    done = metered.run(PAY, stdin=b"1000\r\n 10 \r\n\r\n")
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    done = metered.run(f"{ACCEPT} --json", stdin=done.out.replace("\n", "\r\n").encode())
    assert [each["paid_sat"] for each in objects(done.out)] == [1000, 1010]


@pytest.mark.parametrize(
    "command",
    [
        f"{PAY} 1000",
        f"{PAY} --total 1000",
        f"{PAY} --last",
        f"{PAY} -o file",
        "mpchan --wallet buyer pay 1000 --totals",
        "mpchan --wallet buyer pay 1000 --on-error stop",
        "mpchan --wallet buyer pay",
        f"{ACCEPT} file",
        "mpchan --wallet seller payee accept",
        "mpchan --wallet seller payee accept file --skip-superseded",
        "mpchan --wallet seller payee accept file --on-error continue",
    ],
)
def test_options_that_do_not_go_together(metered: Shell, command: str) -> None:
    metered.fails(command, 2, "usage")


def test_what_stops_a_command_stops_a_stream_before_it_reads(metered: Shell) -> None:
    metered.fails(f"{PAY} --channel ffff", 5, "unknown-channel")
    metered.fails("mpchan --wallet nobody payee accept --stream", 7, "no-wallet")


# superseded ---------------------------------------------------------------------------------------


def test_superseded_updates_are_said_to_be_unverified(metered: Shell) -> None:
    _, updates, _ = stream_of(metered, PAY, [1000, 10, 10, 10])
    twin = Shell(metered.folder.with_name("twin"), metered)
    code, out, err = stream_of(metered, f"{ACCEPT} --skip-superseded", updates)
    assert (code, err) == (0, "")
    assert out[0] == "update 1 was not verified: update 4 supersedes it"
    assert out[3].endswith("1030 in all, 49998970 left; supersedes 3 that were not verified")
    code, out, _ = stream_of(twin, f"{ACCEPT} --skip-superseded --json", updates)
    views = [json.loads(line) for line in out]
    assert [each.get("superseded_by") for each in views] == [4, 4, 4, None]
    assert (views[3]["superseded"], views[3]["received_sat"]) == (3, 1030)


# broken off ---------------------------------------------------------------------------------------


def test_a_closed_pipe_ends_the_payer_and_loses_nothing(
    start: Callable[..., Running], metered: Shell
) -> None:
    paying = start(PAY)
    paying.say(1000)
    first = paying.output.readline()
    paying.output.close()
    paying.say(*[10] * 1000)
    assert paying.process.stderr is not None
    err = paying.process.stderr.read().decode()
    assert paying.process.wait() == 7
    assert "the result could not be written: standard output: broken pipe" in err
    assert "`mpchan payer pay --last` writes the latest again" in err
    number, total = paid(metered, "buyer")
    assert number > 1
    assert metered.json("mpchan --wallet buyer pay --last")["paid_sat"] == total
    _, out, _ = stream_of(metered, PAY, [10])
    assert metered.run(ACCEPT, stdin=first + out[0].encode()).code == 0
    assert paid(metered, "seller") == (number + 1, total + 10)


def test_a_closed_pipe_ends_the_payee(start: Callable[..., Running], metered: Shell) -> None:
    _, updates, _ = stream_of(metered, PAY, [1000] + [10] * 50)
    taking = start(f"{ACCEPT} --json")
    taking.output.close()
    taking.say(*updates)
    taking.input.close()
    assert taking.process.wait() == 7
    assert paid(metered, "seller") == (51, 1500)


def _fed(running: Running, line: bytes) -> subprocess.Popen[bytes]:
    """Lines without end, from a process of its own."""
    text = f"import sys\nwhile True: sys.stdout.buffer.write({line!r} * 100)"
    return subprocess.Popen([sys.executable, "-c", text], stdout=running.input, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("victim", ["payer", "payee", "both"])
@pytest.mark.parametrize("moment", [0.05, 0.17, 0.4])
def test_killed_at_any_moment_both_sides_go_on(metered: Shell, victim: str, moment: float) -> None:
    """What was acknowledged is held; what was let out was written down; the meter runs on from there."""
    stream_of(metered, PAY, [1000])
    paying = Running(metered, PAY)
    feeding = _fed(paying, b"10\n")
    taking = Running(metered, f"{ACCEPT} --json", stdin=paying.output)
    paying.output.close()
    acknowledged = [json.loads(taking.output.readline())]
    time.sleep(moment)
    if victim in ("payer", "both"):
        paying.process.kill()
    if victim in ("payee", "both"):
        taking.process.kill()
    out = taking.output.read().decode()
    paying.input.close()
    for process in (paying.process, taking.process):
        process.wait(60)
        assert process.stderr is not None
        process.stderr.close()
    feeding.wait(60)
    taking.output.close()
    whole = out[: out.rfind("\n") + 1]
    acknowledged += [each for each in objects(whole) if "paid_sat" in each]
    held, signed = paid(metered, "seller"), paid(metered, "buyer")
    assert acknowledged[-1]["paid_sat"] <= held[1] <= signed[1]
    assert acknowledged[-1]["update"] <= held[0] <= signed[0]
    last = metered.ok("mpchan --wallet buyer pay --last -q").out
    assert metered.run(ACCEPT, stdin=last.encode()).code == 0
    metered.run("mpchan --wallet seller fsck --repair")
    for wallet in ("buyer", "seller"):
        subjects = metered.json(f"mpchan --wallet {wallet} fsck --repair")
        assert subjects["wrong"] == 0
    done = metered.run(f"echo 10 | {PAY} | {ACCEPT} -q")
    assert done.code == 0
    assert paid(metered, "seller") == paid(metered, "buyer") == (signed[0] + 1, signed[1] + 10)


def test_ctrl_c_lets_a_batch_come_to_its_end(start: Callable[..., Running], metered: Shell) -> None:
    """The exit code of an interruption; every payment that was written down was written out."""
    paying = start(PAY)
    feeding = _fed(paying, b"1000\n")
    lines = [paying.output.readline()]
    paying.process.send_signal(signal.SIGINT)
    lines += paying.output.readlines()
    code, _, err = paying.end()
    feeding.wait(60)
    assert (code, err) == (130, "mpchan: interrupted\n")
    assert len(lines) < 20 * AT_ONCE
    assert len(lines) == paid(metered, "buyer")[0]
    assert metered.run(f"{ACCEPT} -q", stdin=b"".join(lines)).code == 0
    assert paid(metered, "seller") == paid(metered, "buyer")


def test_ctrl_c_ends_what_waits(start: Callable[..., Running], metered: Shell) -> None:
    for command in (PAY, ACCEPT):
        waiting = start(command)
        if command == PAY:
            waiting.say(1000)
            waiting.output.readline()
        else:
            time.sleep(1)
        waiting.process.send_signal(signal.SIGINT)
        assert waiting.process.wait(30) == 130


def test_a_second_ctrl_c_ends_a_payer_that_nobody_reads(
    start: Callable[..., Running], metered: Shell
) -> None:
    paying = start(PAY)
    feeding = _fed(paying, b"1000\n")
    _until_it_rests(lambda: paid(metered, "buyer")[0])
    paying.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    paying.process.send_signal(signal.SIGINT)
    assert paying.process.wait(30) == 130
    feeding.kill()
    feeding.wait()


def _until_it_rests(look: Callable[[], int]) -> int:
    """The value once it has been the same, and above 0, for half a second."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5 or before <= 0:
        now = look()
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.02)
    return before


def test_a_side_that_does_not_read_holds_the_other_up(start: Callable[..., Running], metered: Shell) -> None:
    """No more is signed than fits the pipe and a batch, however much is asked for."""
    paying = start(PAY)
    feeding = _fed(paying, b"1000\n")
    rested = _until_it_rests(lambda: paid(metered, "buyer")[0])
    size = len(metered.ok("mpchan --wallet buyer pay --last -q").out)
    assert rested <= MANY // size + 3 * AT_ONCE
    for _ in range(600):
        paying.output.readline()
    assert _until_it_rests(lambda: paid(metered, "buyer")[0]) > rested
    feeding.kill()
    feeding.wait()


# beside others ------------------------------------------------------------------------------------


def test_other_commands_work_while_a_stream_runs(start: Callable[..., Running], metered: Shell) -> None:
    """They get the channel between two batches, and the stream goes on from where they left it."""
    paying = start(PAY, stdout=subprocess.DEVNULL)
    feeding = _fed(paying, b"1000\n")
    _until = time.monotonic() + 30
    while not paid(metered, "buyer")[0] and time.monotonic() < _until:
        time.sleep(0.01)
    numbers = [metered.json("mpchan --wallet buyer pay 1")["update"] for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert metered.json("mpchan --wallet buyer show")["updates"] >= numbers[-1]
    settled = metered.json("mpchan --wallet buyer settle")
    assert settled["paid_sat"] >= 1000
    assert paying.process.wait(30) == 5
    assert paying.process.stderr is not None
    assert b": the channel is settling" in paying.process.stderr.read()
    feeding.wait(30)


# what leaves, leaves last -------------------------------------------------------------------------


STEPS = """
import json, sys
from mpchan import durability
real, steps = durability.step, []
def step(kind, act, *arguments, **options):
    steps.append(kind)
    return real(kind, act, *arguments, **options)
import mpchan.cli.main
for module in list(sys.modules.values()):
    if getattr(module, "step", None) is real:
        module.step = step
code = mpchan.cli.main.main(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps([code, steps]))
"""


def test_no_line_leaves_before_its_fsync(metered: Shell) -> None:
    """One append, one fsync, one write of all answers, in this order, for each batch."""
    (metered.folder / "steps.py").write_text(STEPS)
    updates = b""
    for side, data in (("buyer payer pay", b"1000\n" * (AT_ONCE + 88)), ("seller payee accept", None)):
        words = ["python", "steps.py", "steps.json", "--wallet", *side.split(), "--stream"]
        done = metered.ok(words, stdin=updates if data is None else data)
        updates = done.out.encode()
        assert len(done.out.splitlines()) == AT_ONCE + 88
        code, steps = json.loads(metered.text("steps.json"))
        assert code == 0
        emitted = [at for at, kind in enumerate(steps) if kind == "emit"]
        assert len(emitted) >= 2
        begin = 0
        for at in emitted:
            batch = steps[begin:at]
            assert "write" in batch
            assert batch.index("sync") > batch.index("write")
            begin = at + 1


def test_interruptions_wait_for_a_batch_once() -> None:
    noted = stream.Interruptions()
    noted.note(2, None)
    with pytest.raises(KeyboardInterrupt), noted.waiting():
        pytest.fail("it does not wait any more")
    fresh = stream.Interruptions()
    with pytest.raises(KeyboardInterrupt), fresh.waiting():
        fresh.note(2, None)
    fresh = stream.Interruptions()
    fresh.note(2, None)
    with pytest.raises(KeyboardInterrupt):
        fresh.note(2, None)


def test_lines_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the system cuts the input: the same lines."""
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reader, "rb"))
    lines = stream.Lines(stream.Interruptions(), whole=True)
    for piece in (b"1", b"2\n3", b"4\n", b"\n5"):
        os.write(writer, piece)
        lines._read()
    os.close(writer)
    found = lines.some(2) + lines.some(5)
    assert found[:2] == [(1, b"12"), (2, b"34")]
    number, error = found[2]
    assert isinstance(error, MpchanError)
    assert (number, error.slug) == (4, "unfinished-line")
    assert lines.some(5) == []
    sys.stdin.close()


def test_journals_of_streams_are_chained(metered: Shell) -> None:
    (metered.folder / "amounts").write_text("1000\n" * 600)
    assert metered.run(f"{PAY} < amounts | {ACCEPT} -q").code == 0
    for wallet in ("buyer", "seller"):
        files = ChannelFiles(metered.folder / wallet / "channels", REGTEST)
        [name] = files.names()
        assert files.load(name).updates == 600
        state = json.loads(files.state_path(name).read_text())
        assert state["channel"]["update"]["number"] == 600, "a stream that ends well leaves nothing to read"
