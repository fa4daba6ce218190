"""Shared by the tests of wallets that an older mpchan made: a copy of one, on the chain that it knows."""

from __future__ import annotations

import io
import json
import os
import random
import shlex
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path

import pytest

from mpchan.cli.main import main
from support.transcript import Done, Shell

HERE = Path(__file__).resolve().parents[1] / "old_wallets"
MADE_AT = "/made/at"
"""Stands for the folder that the old code worked in."""
SECRET = "correct horse battery staple"
FILM_NAME = "film.mkv"
FILM_SIZE = 4_000


class OldShell(Shell):
    """Runs ``mpchan`` in this process, ten times as fast as in one of its own, but where a shell is needed."""

    def _start(self, command: str | Sequence[str | Path], stdin: bytes, env: dict[str, str | None]) -> Done:
        words = shlex.split(command) if isinstance(command, str) else []
        if words[:1] != ["mpchan"] or stdin or set("|$<>;") & set(str(command)):
            return super()._start(command, stdin, env)
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            for name, value in {**self.env, **env}.items():
                patch.setenv(name, str(value))
            code = main(words[1:])
        return Done(str(command), code, out.getvalue(), err.getvalue())


def make_film(path: Path) -> None:
    """The file that the old wallets sell, last changed long ago."""
    path.write_bytes(random.Random(FILM_NAME).randbytes(FILM_SIZE))
    os.utime(path, (1_600_000_000, 1_600_000_000))


def lay_out(story: str, folder: Path) -> None:
    """Copy a story's wallets and messages into ``folder``, as private as the old code had them."""
    source = HERE / "version-1" / story
    for directory, _, names in os.walk(source):
        place = folder / Path(directory).relative_to(source)
        place.mkdir(mode=0o700, exist_ok=True)
        if "wallet.toml" in names:  # Git keeps no empty folders
            for empty in ("channels", "offers"):
                (place / empty).mkdir(mode=0o700, exist_ok=True)
        for name in names:
            data = Path(directory, name).read_bytes()
            if place.name == "purchases" and name.endswith(".json"):
                data = moved(data, f"{MADE_AT}/{story}", str(folder))
            (place / name).write_bytes(data)
            (place / name).chmod(0o600)
    make_film(folder / FILM_NAME)
    (folder / "secret").write_text(f"{SECRET}\n")
    (folder / "secret").chmod(0o600)


def moved(purchase: bytes, before: str, after: str) -> bytes:
    """A purchase whose file lies in another folder; its checksum covers that too."""
    envelope = json.loads(purchase)
    body = envelope["purchase"]
    body["output"] = body["output"].replace(before, after)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    envelope["checksum"] = sha256(text.encode()).hexdigest()
    return f"{json.dumps(envelope)}\n".encode()


def replay(directory: Path) -> None:
    """Make the embedded chain that these wallets know, block by block, and what waits for the next one."""
    from mpchan.bitcoin.tx import Transaction
    from mpchan.chain.embedded import EmbeddedChain
    from mpchan.chain.embedded.chain import INDEX_NAME
    from mpchan.chain.embedded.index import Index
    from mpchan.chain.embedded.lock import session
    from mpchan.chain.embedded.mining import create

    directory.mkdir(parents=True)
    with session(directory, 60.0) as held:
        kernel = held.kernel()
        for line in (HERE / "version-1" / "blocks.hex").read_text().split():
            assert kernel.submit(bytes.fromhex(line)) is None
        index = Index.create(directory / INDEX_NAME)
        with index.writing():
            create(index, kernel, 0)
        index.close()
    with EmbeddedChain(directory) as chain:
        for line in (HERE / "version-1" / "mempool.hex").read_text().split():
            chain.broadcast(Transaction.from_hex(line))
