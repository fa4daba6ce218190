"""A story is told command by command; at each step of each command it can be broken off, and then it goes on.

A folder holds all of a story: the wallets, the chain, the messages, and each command's answer as ``NAME.json``. So the
folder before any command can be copied, and the story goes on from the copy.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.crash.lasting import lasting

from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Txid
from mpchan.wallet.records import body_of
from mpchan.wallet.wallet import Wallet

KILLED = -9
PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True)
class Command:
    """One command of a story.

    Attributes:
        name: unique in its story.
        line: its words; ``{NAME.key}`` is what an earlier command answered.
        stdin: the same, for its standard input; None for nothing.
        again: what a person or script runs after a crash, until one of them ends well; the command itself where None.
        once: whether nobody runs it again once it has told its result, because that would be another one.
        codes: of the exit codes, those that are fine.
    """

    name: str
    line: str
    stdin: str | None = None
    again: tuple[str, ...] | None = None
    once: bool = False
    codes: tuple[int, ...] = (0,)

    @property
    def lines(self) -> tuple[str, ...]:
        """What is run after a crash."""
        return (self.line,) if self.again is None else self.again


@dataclass(frozen=True)
class Story:
    """Commands in their order, and how they end.

    Attributes:
        first: the name of the first command that faults are tried at; those before it are another story's.
        ends: what ``show`` says at the end, by wallet: status and total paid; empty without a channel.
        sent: how many transactions ``send`` has made at the end, by wallet.
    """

    name: str
    commands: tuple[Command, ...]
    first: str
    ends: tuple[tuple[str, str, int], ...]
    sent: tuple[tuple[str, int], ...] = ()

    @property
    def tried(self) -> tuple[Command, ...]:
        """The commands that faults are tried at."""
        names = [command.name for command in self.commands]
        return self.commands[names.index(self.first) :]


@dataclass(frozen=True)
class Done:
    """A command that has ended, in whatever way."""

    code: int
    out: str
    err: str
    steps: tuple[str, ...]

    @property
    def answer(self) -> dict[str, Any]:
        """Its JSON object."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> dict[str, Any]:
        """The JSON object on stderr."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])
        return found


@dataclass(frozen=True)
class Fault:
    """What happens at one step of a command.

    Attributes:
        at: the step's number; the first is 1.
        step: what it is.
        how: ``kill``, ``cut`` (a write that ends after ``percent`` of its bytes, with the process), or an error's name.
        when: ``before`` the step or ``after`` it.
    """

    at: int
    step: str
    how: str
    when: str
    percent: int = 0

    @property
    def request(self) -> dict[str, Any]:
        """As the forkserver takes it."""
        return {"at": self.at, "how": self.how, "when": self.when, "percent": self.percent}

    @property
    def kind(self) -> str:
        """Of the step."""
        return self.step.partition(" ")[0]


def kills(steps: tuple[str, ...]) -> list[Fault]:
    """A kill before and after every step, and in the middle of every write."""
    found = []
    for at, step in enumerate(steps, 1):
        if step == "engine process_block" and step in steps[max(0, at - 3) : at - 1] and at < len(steps) - 3:
            continue  # block after block after block
        found += [Fault(at, step, "kill", when) for when in ("before", "after")]
        if step.startswith("write "):
            found += [Fault(at, step, "cut", "before", percent) for percent in (1, 50, 99)]
    return found


def errors(steps: tuple[str, ...]) -> list[Fault]:
    """A full disk before every step, and a bad one after it."""
    return [
        Fault(fault.at, fault.step, "ENOSPC" if fault.when == "before" else "EIO", fault.when)
        for fault in kills(steps)
        if fault.how == "kill"
    ]


def of_each_kind(faults: list[Fault]) -> list[Fault]:
    """Of every kind of step the last one, before it or after it."""
    chosen = {fault.kind: fault for fault in faults if fault.when == ("before", "after")[len(fault.kind) % 2]}
    return sorted(chosen.values(), key=lambda fault: fault.at)


def sample(faults: list[Fault]) -> list[Fault]:
    """Of every kind of step one, before it and after it in turn; of what takes a file's place both."""
    chosen: dict[tuple[str, ...], Fault] = {}
    for fault in faults:
        last = fault.kind == "replace" and fault.step.endswith((".json", ".toml"))
        last = last or (fault.kind == "sync" and fault.step.endswith(".journal"))
        turn = ("before", "after")[len(fault.step) % 2]
        if last or fault.how == "cut":
            named = re.sub(r"[0-9a-f]{16,}|\d+\.tmp", "", fault.step)  # every file that counts, once
            chosen[named if last else fault.kind, fault.when, fault.how, str(fault.percent)] = fault
        elif fault.when == turn:
            chosen.setdefault((fault.kind, fault.how), fault)
    for fault in faults:  # a kind whose turn never came
        if not any(other.kind == fault.kind for other in chosen.values()):
            chosen[fault.kind, fault.how] = fault
    return sorted(chosen.values(), key=lambda fault: (fault.at, fault.when))


class Forkserver:
    """The process whose children the commands are.

    Args:
        words: ``spilman``, for that construction in new offers.
    """

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-m", "support.crash.forkserver", *words],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(
        self, folder: Path, line: str, stdin: str | None = None, fault: dict[str, Any] | None = None
    ) -> Done:
        """Run one command line in a folder.

        Args:
            fault: see ``forkserver.Steps``.
        """
        around = folder.with_name(folder.name + ".around")
        around.mkdir(exist_ok=True)
        (around / "steps").write_text("")
        if stdin is not None:
            (around / "in").write_text(filled(folder, stdin))
        request = {
            "folder": str(folder),
            "env": {
                "MPCHAN_REGTEST": str(folder / "chain"),
                "HOME": str(folder / "home"),
                "MPCHAN_PASSPHRASE_FILE": str(folder / "secret"),
                "MPCHAN_NEW_PASSPHRASE_FILE": str(folder / "secret"),
            },
            "arguments": ["--json", *filled(folder, line).split()],
            "stdin": None if stdin is None else str(around / "in"),
            "out": str(around / "out"),
            "err": str(around / "err"),
            "steps": str(around / "steps"),
            "signatures": str(folder / "signatures"),
            "fault": fault,
        }
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        code = json.loads(process.stdout.readline())
        out, err, steps = ((around / name).read_text() for name in ("out", "err", "steps"))
        if out:
            with (folder / "emitted").open("a") as file:
                file.write(out)
        return Done(code, out, err, tuple(steps.splitlines()))

    def tell(self, folder: Path, command: Command) -> Done:
        """Run a command of a story; it must end well. Its answer is kept in the folder."""
        for line in command.lines:
            done = self.run(folder, line, command.stdin)
            if done.code in command.codes:
                (folder / f"{command.name}.json").write_text(done.out)
                return done
        raise AssertionError(f"{command.name} ends with {done.code}: {done.err}{done.out}")


def filled(folder: Path, text: str) -> str:
    """A command line with what earlier commands answered."""

    def value(match: re.Match[str]) -> str:
        return str(json.loads((folder / f"{match[1]}.json").read_text())[match[2]])

    return re.sub(r"\{([\w-]+)\.(\w+)\}", value, text)


class Stage:
    """The folder before each command of a story, to be copied.

    Args:
        bare: a folder whose ``chain`` is an embedded chain.
    """

    def __init__(self, server: Forkserver, place: Path, bare: Path, story: Story) -> None:
        self.server = server
        self.story = story
        self._place = place
        self.steps: dict[str, tuple[str, ...]] = {}
        self.sends: dict[str, bool] = {}
        self._finished: dict[tuple[str, str], dict[str, str]] = {}
        folder = place / "straight"
        copy(bare, folder)
        (folder / "secret").write_text(PASSPHRASE + "\n")
        (folder / "secret").chmod(0o600)
        for command in story.commands:
            copy(folder, self._before(command))
            shutil.rmtree(folder / "chain" / "kernel", ignore_errors=True)
            # the first time, as it is written; what follows a crash is for after a crash
            done = server.run(folder, command.line, command.stdin)
            assert done.code in command.codes, (command.name, done.err)
            (folder / f"{command.name}.json").write_text(done.out)
            self.steps[command.name] = done.steps
            self.sends[command.name] = any(step.startswith("emit broadcast") for step in done.steps)
        check(server, story, folder)
        shutil.rmtree(folder)

    def _before(self, command: Command) -> Path:
        return self._place / f"before-{command.name}"

    def folder_before(self, command: Command, name: str) -> Path:
        """A copy of the folder as it is before a command."""
        folder = self._place / name
        copy(self._before(command), folder)
        return folder

    def after(self, command: Command) -> tuple[Command, ...]:
        """The commands that follow."""
        return self.story.commands[self.story.commands.index(command) + 1 :]

    def break_off(self, command: Command, fault: Fault) -> Done:
        """One command is broken off in a copy of the folder, then run again, and the story goes on to its end.

        Returns:
            How the command ended that was broken off.
        """

        def judge(folder: Path, broken: Done) -> None:
            if fault.how in ("kill", "cut"):
                assert broken.code == KILLED, "it was not killed"
                assert broken.steps[fault.at - 1].split()[0] == fault.kind
            elif command.name.startswith("watch"):
                check_alarm(broken, self.sends[command.name] and not is_of_the_chain(fault))
            elif command.name == "fsck":
                check_findings(broken)
            else:
                check_refusal(folder, broken, fault)

        return self.try_out(
            command,
            lambda folder: self.server.run(folder, command.line, command.stdin, fault.request),
            judge,
        )

    def try_out(
        self, command: Command, run: Callable[[Path], Done], judge: Callable[[Path, Done], None]
    ) -> Done:
        """Run one command in a copy of the folder, whatever happens to it; then run it again, and tell the story on.

        Args:
            run: runs it in that folder.
            judge: what must hold right after it.
        """
        folder = self.folder_before(command, "case")
        try:
            broken = run(folder)
            judge(folder, broken)
            check_readable(folder)
            written = re.search(r" -o (\S+)", command.line)
            if command.once and broken.out and (written is None or (folder / written[1]).exists()):
                (folder / f"{command.name}.json").write_text(broken.out)
            else:
                self.server.tell(folder, command)
            self._finish(folder, command)
        finally:
            self.clear(folder)
        return broken

    @staticmethod
    def clear(folder: Path) -> None:
        """Remove a copy, and what stands around it."""
        shutil.rmtree(folder)
        shutil.rmtree(folder.with_name(folder.name + ".around"))

    def _finish(self, folder: Path, command: Command) -> None:
        """The rest of the story; where it was told from the very same state before, what it signed then counts."""
        state = (command.name, state_of(folder, self.after(command)))
        if state not in self._finished:
            for later in self.after(command):
                self.server.tell(folder, later)
            check(self.server, self.story, folder)
            self._finished[state] = {name: read(folder / name) for name in ("signatures", "emitted")}
        for name, text in self._finished[state].items():
            with (folder / name).open("a") as file:
                file.write(text)
        check_signatures(folder)
        check_messages(folder)


def copy(source: Path, target: Path) -> None:
    """A folder without the engine's own data, which the index gives back."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("kernel"))


def state_of(folder: Path, later: tuple[Command, ...]) -> str:
    """All that the rest of a story depends on: wallets, messages, chain, and what the commands will be."""
    digest = hashlib.sha256(lasting(folder))
    for home in sorted(folder.iterdir()):  # the journals tell the time too
        for record in Wallet.open(home).channels.readable() if (home / "wallet.toml").exists() else ():
            digest.update(json.dumps(body_of(record), sort_keys=True).encode())
    with EmbeddedChain(folder / "chain") as chain:
        digest.update(f"{chain.tip_hash()} {chain.mempool()}\n".encode())
    for line in re.findall(r"\{([\w-]+)\.(\w+)\}", "\n".join(f"{c.line} {c.stdin}" for c in later)):
        if (folder / f"{line[0]}.json").exists():
            digest.update(filled(folder, "{{{}.{}}}\n".format(*line)).encode())
    return digest.hexdigest()


# what must hold -----------------------------------------------------------------------------------


def check(server: Forkserver, story: Story, folder: Path) -> None:
    """The end of a story, however often it was broken off: see each part."""
    check_signatures(folder)
    check_messages(folder)
    for wallet, status, paid in story.ends:
        view = server.run(folder, f"--wallet {wallet} show").answer
        assert (view["status"], view["paid_sat"]) == (status, paid), wallet
    for wallet, number in story.sent:
        made = [path.name for path in (folder / wallet / "sent").glob("*.json")]
        assert len(made) == number, f"{wallet} sent {made}"
    check_payout(server, story, folder)
    for wallet in ("payer", "payee"):
        if (folder / wallet).exists():
            check_keys(server, folder, wallet)


def check_refusal(folder: Path, broken: Done, fault: Fault) -> None:
    """A command whose disk fails says so, names the file, and has told nobody anything else."""
    assert broken.steps[fault.at - 1].split()[0] == fault.kind
    if broken.code == 0 and (fault.kind in NEEDLESS or is_snapshot(broken.steps, fault.at)):
        return
    if broken.err and broken.error["error"] == "sent-unnoted":
        check_sent(folder, broken)
        return
    printed = any(step == "emit _print" for step in broken.steps[: fault.at - (fault.when == "before")])
    if not printed:
        assert broken.out == "", "something was told"
    if broken.code == 0:
        assert printed, "it ended well"
        return
    error = broken.error
    chains = is_of_the_chain(fault)
    assert (error["exit_code"], broken.code) == ((8, 8) if chains else (7, 7)), error
    assert error["error"] not in ("bug", "system"), error
    said = error["message"]
    assert chains or re.search(r"standard output|[\w-]+/[\w.-]+|\w+\.(psbt|hex|toml)", said), error
    left = [path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".part"))]
    assert not left or fault.kind == "unlink", left


NEEDLESS = ("engine", "unlock", "lock-file")
"""Steps that may fail: the engine's own data are made again, who ends holds no lock, a lock can be had by reading."""

CHAIN_LOCKS = [f"{kind} {name}" for kind in ("lock-file", "lock") for name in ("lock", "queue")]


def is_of_the_chain(fault: Fault) -> bool:
    """Whether it is the chain that fails, and not the disk of a wallet."""
    of_chain = fault.kind in ("commit", "engine") or fault.step in CHAIN_LOCKS
    return of_chain or fault.step.startswith("emit broadcast")


def check_sent(folder: Path, broken: Done) -> None:
    """A complete transaction went out although nothing could be noted: it is there, and the answer was told."""
    assert broken.code == 7, broken
    named = re.search(r"([0-9a-f]{64}) went out", broken.err)
    assert named, broken
    assert broken.answer["hex"], broken
    with EmbeddedChain(folder / "chain") as chain:
        assert chain.transaction(Txid.from_hex(named[1])) is not None, "it was not sent"


def is_snapshot(steps: tuple[str, ...], at: int) -> bool:
    """Whether a step writes a channel's state file, which saves reading and nothing else."""
    named = [step for step in steps[:at] if not step.startswith("sync-directory")]
    return re.search(r"[0-9a-f]{64}-\d+\.json", named[-1] if named else "") is not None


def check_alarm(broken: Done, sends: bool) -> None:
    """The watcher goes on, tells what failed as an alarm, and ends with the alarm's code.

    Args:
        sends: whether something had to go out, and nothing but the wallet's disk was in its way.
    """
    if broken.err:
        assert (broken.error["error"], broken.code) == ("not-emitted", 7), broken
        return
    lines = [json.loads(line) for line in broken.out.splitlines()]
    assert not sends or any(line.get("txid") for line in lines), f"nothing was sent: {broken}"
    alarms = [line["alarm"] for line in lines if line["alarm"]]
    assert broken.code in (0, 5, 7, 8), broken
    assert broken.code == 0 or alarms, broken


def check_findings(broken: Done) -> None:
    """What could not be looked at is among the findings, or a refusal like any other."""
    assert broken.code in (0, 7), broken
    assert not broken.code or broken.err or json.loads(broken.out)["wrong"], broken


def check_readable(folder: Path) -> None:
    """Whatever happened, each wallet is whole, the old one or the new one."""
    for home in folder.iterdir():
        if not (home / "wallet.toml").exists():
            continue
        wallet = Wallet.open(home, lambda unlock: unlock(PASSPHRASE))
        assert wallet.keys.scripts() is not None
        for name in wallet.channels.names():
            wallet.channels.load(name)
        for path in (home / "offers").glob("*.toml"):
            wallet.offers.load(path.stem)
        for path in wallet.plans.files():
            wallet.plans.load(path)
        wallet.sent.all()


def check_signatures(folder: Path) -> None:
    """Of one outpoint no key has signed two refunds, or two updates with one number."""
    signed: dict[tuple[object, ...], str] = {}
    for line in read(folder / "signatures").splitlines():
        purpose, key, outpoint, number, txid = json.loads(line)
        if purpose == "settlement":
            continue  # the payer may offer a higher total later; the payee broadcasts one
        place = (purpose, key, outpoint, number)
        assert signed.setdefault(place, txid) == txid, f"two transactions are signed as {place}"


def check_messages(folder: Path) -> None:
    """What left twice for one update is the same, byte for byte."""
    known: dict[tuple[str, int], str] = {}
    for answer in answers(folder):
        if "update" in answer and "hex" in answer:
            key = (answer["channel"], answer["update"])
            assert known.setdefault(key, answer["hex"]) == answer["hex"], f"two messages are update {key}"


def read(path: Path) -> str:
    """A file's text; none where there is no file."""
    return path.read_text() if path.exists() else ""


def answers(folder: Path) -> Iterator[dict[str, Any]]:
    """Every JSON object that any command in this folder told, also one that died a moment later."""
    for line in read(folder / "emitted").splitlines():
        yield json.loads(line)


def check_payout(server: Forkserver, story: Story, folder: Path) -> None:
    """The chain gives the payee exactly what both sides count as paid, where the channel was closed."""
    totals = {paid for _, status, paid in story.ends if status == "closed"}
    if not totals:
        return
    [total] = totals
    view = server.run(folder, "--wallet payee show").answer
    from mpchan.bitcoin.address import address_to_script
    from mpchan.bitcoin.network import REGTEST
    from mpchan.units import OutPoint

    with EmbeddedChain(folder / "chain") as chain:
        funding = OutPoint.parse(f"{view['funding']['txid']}:{view['funding']['vout']}")
        seen = chain.output(funding)
        assert seen is not None
        assert seen.spend is not None
        script = address_to_script(view["payee_address"], REGTEST)
        assert seen.spend.transaction is not None
        outputs = seen.spend.transaction.outputs
        assert sum(output.value.sat for output in outputs if output.script_pubkey == script) == total


_ADDRESS = re.compile(r"bcrt1[a-z0-9]+")
_KEY = re.compile(r"\b0[23][0-9a-f]{64}\b")


def check_keys(server: Forkserver, folder: Path, wallet: str) -> None:
    """No two commands were given one key, and the next ones were never seen before."""
    owners: dict[str, set[str]] = {}
    for number, answer in enumerate(answers(folder)):
        if set(answer) == {"address"}:
            # each is another command's, and so is each offer's
            owners.setdefault(answer["address"], set()).add(f"address {number}")
        elif "offer_id" in answer and "toml" in answer:
            for name in ("payee_pubkey", "payee_address"):
                owners.setdefault(answer[name], set()).add(answer["offer_id"])
    for path in (folder / wallet / "offers").glob("*.toml"):  # also those that nobody was told of
        text = path.read_text()
        for word in {*_ADDRESS.findall(text), *_KEY.findall(text)}:
            owners.setdefault(word, set()).add(path.stem)
    for listed in server.run(folder, f"--wallet {wallet} list").answer["channels"]:
        view = server.run(folder, f"--wallet {wallet} show {listed['channel']}").answer
        mine = f"{view['role']}_pubkey"
        owners.setdefault(f"{mine} {view[mine]}", set()).add(view["channel"])
    assert all(len(names) <= 1 for names in owners.values()), owners
    text = "".join(
        path.read_text(errors="replace")
        for path in [folder / "emitted", *(folder / wallet).rglob("*")]
        if path.is_file()
    )
    seen = {*_ADDRESS.findall(text), *_KEY.findall(text)}
    fresh = server.run(folder, f"--wallet {wallet} address").answer["address"]
    offer = server.run(folder, f"--wallet {wallet} payee offer").answer
    assert not seen & {fresh, offer["payee_address"], offer["payee_pubkey"]}
