"""Commands in processes of their own that are forked from one in which everything is loaded.

Four fifths of what a short ``mpchan`` costs is its start. The tests start it thousands of times, so they let a server
fork: what runs is a process like any other, with the folder, the variables, the standard streams and the session that
it would have, and it ends as one. Two things are not as in a process that Python has started: every module is loaded
already, and what Python reads from its variables before it runs anything has been read. So who changes one of these is
given none (``can_run``), and the tests of starting itself, of the stories in the README and of real shells start
``mpchan`` for real.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Any

AT_START = {"LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "error"}
"""What Python is told at its start, here and in every command."""
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "MALLOC", "OPENSSL", "SSL_")


def can_run(env: Mapping[str, str]) -> bool:
    """Whether a command with these variables may be forked."""
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_START)} == AT_START


def run(
    words: Sequence[str], folder: Path, env: Mapping[str, str], stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes]:
    """Run ``mpchan`` with these words: its exit code (as ``subprocess`` has it), its stdout and its stderr.

    Raises:
        subprocess.TimeoutExpired: it was killed.
    """
    pipes = [os.pipe() for _ in range(3)]
    (read_in, write_in), (read_out, write_out), (read_err, write_err) = pipes
    with socket.socket(fileno=os.dup(_server().fileno())) as server:
        request = {"words": list(words), "folder": str(folder), "env": dict(env)}
        _send(server, request, (read_in, write_out, write_err))
        for descriptor in (read_in, write_out, write_err):
            os.close(descriptor)
        child = int(_receive(server)[0])
        try:
            out, err = _talk(write_in, read_out, read_err, stdin, time.monotonic() + timeout)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            _receive(server)
            raise subprocess.TimeoutExpired(list(words), timeout) from None
        finally:
            os.close(read_out)
            os.close(read_err)
        return int(_receive(server)[0]), out, err


def _talk(stdin: int, stdout: int, stderr: int, data: bytes, limit: float) -> tuple[bytes, bytes]:
    """Write and read until both outputs have ended."""
    taken: dict[int, bytearray] = {stdout: bytearray(), stderr: bytearray()}
    os.set_blocking(stdin, False)
    with DefaultSelector() as selector:
        for descriptor in taken:
            selector.register(descriptor, EVENT_READ)
        selector.register(stdin, EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(limit - time.monotonic())
            if time.monotonic() >= limit:
                raise TimeoutError
            for key, _ in ready:
                if key.fd == stdin:
                    try:
                        data = data[os.write(stdin, data) if data else 0 :]
                    except BrokenPipeError:  # it reads no more
                        data = b""
                    if not data:
                        selector.unregister(stdin)
                        os.close(stdin)
                    continue
                part = os.read(key.fd, 1 << 16)
                taken[key.fd] += part
                if not part:
                    selector.unregister(key.fd)
    return bytes(taken[stdout]), bytes(taken[stderr])


def _send(end: socket.socket, value: Any, descriptors: Sequence[int] = ()) -> None:
    end.sendmsg(
        [json.dumps(value).encode()],
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else [],
    )


def _receive(end: socket.socket) -> tuple[Any, list[int]]:
    """One value, and the descriptors that came with it; None where the other end is gone."""
    data, descriptors, _, _ = socket.recv_fds(end, 1 << 20, 3)
    return json.loads(data or b"null"), descriptors


@lru_cache(maxsize=1)
def _server() -> socket.socket:
    """This process's server, which ends with it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(_READ_AT_START)}
        process = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno())],
            pass_fds=[its.fileno()],
            env={**variables, **AT_START},
            stdin=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def load() -> None:
    """Load all that a command may load, and let some commands do all that the first of a process does."""
    import mpchan

    for module in pkgutil.walk_packages(mpchan.__path__, "mpchan."):
        if not module.name.startswith("mpchan.bitcoin.signers."):  # what is installed
            importlib.import_module(module.name)
    for name in (
        "pbk",
        "resource",
        "coincurve",
        "btclib_secp256k1",
        "rich.live",
        "cryptography.hazmat.primitives.ciphers.aead",
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    _use()
    gc.collect()
    gc.freeze()


USED = (
    "--help",
    "pay --help",
    "--wallet wallet init",
    "--json --wallet wallet payee offer --fee-rate 2 -o offer.toml",
    "--json --wallet wallet address",
    "--wallet wallet list",
    "--wallet wallet pay 1000",
    "--json --wallet wallet fsck",
)


def _use() -> None:
    """Run some commands in a folder that goes: what they compile and import on their way is there from then on."""
    from mpchan.bitcoin.signers import signer
    from mpchan.cli.main import main

    before, variables, ours = os.getcwd(), dict(os.environ), [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
        os.chdir(folder)
        os.environ.update(HOME=folder, MPCHAN_REGTEST=os.path.join(folder, "chain"))
        try:
            for line in USED:
                main(line.split())
        finally:
            signer.cache_clear()  # a command may ask for another one
            sys.stdout.flush()
            sys.stderr.flush()
            os.chdir(before)
            os.environ.clear()
            os.environ.update(variables)
            for number, descriptor in zip((1, 2), ours, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _serve(end: socket.socket) -> None:
    """One child for each request, one after the other; returns in the child alone."""
    load()
    while True:
        request, descriptors = _receive(end)
        if request is None:
            os._exit(0)
        child = os.fork()
        if child == 0:
            end.close()
            return _become(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _send(end, child)
        _, status = os.waitpid(child, 0)
        _send(end, os.waitstatus_to_exitcode(status))


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take over what a started process would have been given."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv[:] = ["mpchan", *request["words"]]


def _leave(code: int) -> None:
    """As Python ends, but that it does not take apart what all children share, which would cost as much as the rest."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from mpchan.__main__ import run as run_command

    try:
        run_command()
    except SystemExit as ended:
        _leave(int(ended.code or 0))
