"""Runs ``mpchan`` commands in processes of their own, some of which die, or meet a bad disk, at a step that is named.

A process that has everything loaded forks for each command: what is killed is a real process, by a real SIGKILL, but
its start costs nothing. It takes one JSON object on each line of its standard input and answers with one. The program
has no switch for this: the child puts its own function in the place of ``mpchan.durability.step``.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from support.crash.lasting import lasting
from support.encrypted import CHEAP
from support.warm import load

from mpchan import durability
from mpchan.channel.construction.base import REFUND, Meant, settlement
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms
from mpchan.errors import ChainError
from mpchan.units import Amount
from mpchan.wallet import sealing


def serve() -> None:
    """One child for each request, one after the other."""
    load()
    sealing.USUAL_COST = CHEAP  # what a guess costs is nothing that a crash could change
    gc.disable()  # as the program does
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run(request)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def run(request: dict[str, Any]) -> NoReturn:
    """The child: one command line, as ``mpchan.__main__`` would run it."""
    code = 70
    try:
        os.chdir(request["folder"])
        os.environ.update(request["env"])
        for descriptor, name, flags in (
            (0, request["stdin"] or os.devnull, os.O_RDONLY),
            (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            opened = os.open(name, flags, 0o600)
            os.dup2(opened, descriptor)
            os.close(opened)
        note_signatures(request["signatures"])
        Steps(request["steps"], request["fault"]).take_over()
        setattr(os, "urandom", Chance(Path(request["folder"]), request["arguments"]).bytes)  # noqa: B010
        from mpchan.cli.main import main

        code = main(request["arguments"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def append(name: str, line: str) -> None:
    """Add a line that stays whatever becomes of this process."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, (line + "\n").encode())
    os.close(descriptor)


class Chance:
    """In the place of the system's random bytes: bytes that follow from a command and from what it finds.

    A command that was killed before it left anything chooses the same when it is run again, so the story that
    follows is one that was told before. Where it has left something, others come out, as the system's would.
    """

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        self.seed = json.dumps(arguments).encode()
        self.drawn = 0

    def bytes(self, count: int) -> bytes:
        """In the place of ``os.urandom``."""
        if not self.drawn:
            self.seed += lasting(self.folder)
            for name in ("emitted", "signatures"):  # what was told or signed was done
                noted = self.folder / name
                self.seed += noted.read_bytes() if noted.exists() else b""
        self.drawn += 1
        found = hashlib.shake_256(self.seed + self.drawn.to_bytes(8, "big")).digest(count)
        # it may be in the name of a file that a killed command has left
        return self.bytes(count) if any(self.folder.rglob(f"*{found.hex()}*")) else found


class Steps:
    """Counts the steps of one command, notes each, and does at one of them what the fault says.

    Args:
        noted: the file that gets a line for each step: its kind, and what it is about.
        fault: None, or ``at`` (the first step is 1), ``how`` and ``when`` (``before`` or ``after`` the step). How:
            ``kill``; ``ENOSPC`` or ``EIO``, an error; ``cut``, some bytes of a write and then the end.
    """

    def __init__(self, noted: str, fault: dict[str, Any] | None) -> None:
        self.noted = noted
        self.fault = fault
        self.number = 0
        self.names: dict[int, str] = {}

    def take_over(self) -> None:
        """From here on every step passes here, by whatever name a module knows it."""
        real = durability.step
        for module in [module for name, module in sys.modules.items() if name.startswith("mpchan")]:
            if getattr(module, "step", None) is real:
                module.step = self.step  # type: ignore[attr-defined]

    def step(self, kind: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """In the place of ``durability.step``."""
        self.number += 1
        append(self.noted, f"{kind} {self.about(kind, act, arguments)}")
        fault = self.fault
        if fault is None or fault["at"] != self.number:
            return self.remember(kind, arguments, act(*arguments, **options))
        if fault["how"] == "cut":
            descriptor, data = arguments
            os.write(descriptor, data[: max(0, len(data) * fault["percent"] // 100)])
            die()
        if fault["when"] == "after":
            result = act(*arguments, **options)
            if fault["how"] != "kill" and isinstance(result, int) and kind in ("create", "lock-file"):
                os.close(result)
        if fault["how"] == "kill":
            die()
        raise failure(kind, act, fault["how"])

    def remember(self, kind: str, arguments: tuple[Any, ...], result: Any) -> Any:
        """Which file a descriptor belongs to."""
        if kind in ("create", "lock-file"):
            self.names[result] = Path(arguments[0]).name
        return result

    def about(self, kind: str, act: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
        """What a step is about: the name of its file, where there is one."""
        if kind in ("write", "sync", "cut", "close", "lock", "unlock"):
            return self.names.get(arguments[0], "opened")
        if kind == "sync-directory":
            return "folder"
        if kind == "mkdir":
            return str(getattr(act, "__self__").name)  # noqa: B009
        if kind in ("emit", "commit", "engine"):
            return str(getattr(act, "__name__", "?"))
        return Path(arguments[-1] if kind in ("replace", "link") else arguments[0]).name


def failure(kind: str, act: Callable[..., Any], name: str) -> Exception:
    """What the step itself raises when the system says ``name``."""
    number = getattr(errno, name)
    if kind == "commit":
        return ChainError("chain-index", "cannot use the index: disk I/O error")
    if kind == "engine":
        return ChainError("engine-failed", "the consensus engine cannot process a block")
    if kind == "emit" and act.__name__.startswith("broadcast"):
        return ChainError("unreachable", "the chain does not answer")
    return OSError(number, os.strerror(number))


def die() -> NoReturn:
    """Nothing of this process runs any more: no ``finally``, no ``atexit``."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit("a killed process goes on")


def note_signatures(name: str) -> None:
    """Every signature of a channel key leaves a line: whose, for what, and of which transaction."""

    def noting(purpose: str, meant_by: Callable[..., Meant]) -> Callable[..., bytes]:
        real = getattr(ChannelKey, f"sign_{purpose}")

        def sign(key: ChannelKey, terms: Any, *arguments: Any) -> bytes:
            number = arguments[0] if purpose == "update" else 0
            _note(name, key, terms, number, meant_by(terms.schedule, *arguments))
            return bytes(real(key, terms, *arguments))

        return sign

    in_form = ChannelKey.sign_update_in

    def sign_in(key: ChannelKey, form: Any, number: int, paid: int) -> bytes:
        _note(name, key, form.terms, number, form.terms.schedule.update(number, Amount(paid)))
        return in_form(key, form, number, paid)

    setattr(ChannelKey, "sign_update_in", sign_in)  # noqa: B010
    for purpose, meant_by in (
        ("refund", lambda schedule: REFUND),
        ("update", lambda schedule, number, paid: schedule.update(number, paid)),
        ("settlement", lambda schedule, paid: settlement(paid)),
    ):
        setattr(ChannelKey, f"sign_{purpose}", noting(purpose, meant_by))


def _note(name: str, key: ChannelKey, terms: Terms, number: int, meant: Meant) -> None:
    built = terms.schedule.build(meant)
    if len(terms.lock.signers(built)) == 1:
        return  # a refund that the payer alone can make, as many as it likes: there is nobody whom another could hurt
    line = [meant.kind.value, key.public_key.sec.hex(), str(terms.outpoint), number]
    append(name, json.dumps([*line, str(built.txid)]))


if __name__ == "__main__":
    if "spilman" in sys.argv:
        import pytest
        from support import spilman

        spilman.register(pytest.MonkeyPatch())
    serve()
