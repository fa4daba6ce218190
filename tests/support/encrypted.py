"""Wallets whose keys are encrypted, at a cost that tests can pay; and a terminal of one's own."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpchan.bitcoin.network import REGTEST
from mpchan.wallet.keys import Keys
from mpchan.wallet.sealing import Cost
from support.transcript import TIMEOUT_SECONDS, Shell

SECRET = "correct horse battery staple"
CHEAP = Cost(2, 1, 1)


def encrypt(shell: Shell, *wallets: str, passphrase: str = SECRET) -> None:
    """Encrypt wallets, and lay the passphrase beside them in the file ``secret``."""
    for wallet in wallets:
        Keys.load(shell.folder / wallet / "keys.toml", REGTEST).encrypt(passphrase, CHEAP)
    write_secret(shell.folder / "secret", f"{passphrase}\n")


def write_secret(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    """A file that only its owner may read."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)


GIVEN: dict[str, Any] = {"MPCHAN_PASSPHRASE_FILE": "secret"}

_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def typed(
    shell: Shell,
    command: str,
    *answers: bytes,
    stdin: bytes = b"",
    meanwhile: Callable[[], None] = lambda: None,
    **env: str,
) -> tuple[int, str, str]:
    """Run a command that has a terminal, and answer each of its questions.

    Args:
        meanwhile: called while a question waits for its answer.

    Returns:
        Its exit code, its stdout, and all that the terminal showed.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *command.split()],
        cwd=shell.folder,
        env={**shell.env, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(stdin)
        process.stdin.close()
        seen = b""
        limit = time.monotonic() + TIMEOUT_SECONDS
        for number, answer in enumerate(answers, start=1):
            while seen.count(b"(not shown): ") < number and time.monotonic() < limit:
                seen += os.read(ours, 1000)
            try:
                meanwhile()
            except BaseException:
                process.kill()  # it would wait for its answer for ever
                raise
            os.write(ours, answer)
        out = process.stdout.read()
        code = process.wait(TIMEOUT_SECONDS)
        with contextlib.suppress(OSError):  # Linux's way to say that the terminal has no writer any more
            while read := os.read(ours, 10_000):
                seen += read
        os.close(ours)
    return code, out.decode(), seen.decode().replace("\r\n", "\n")
