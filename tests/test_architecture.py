"""Dependencies point inward (guide: developers): every import is read, and one that points outward fails.

    errors, values <- units <- bitcoin <- channel <- sale; chain <- wallet <- party, transport <- market <- cli
    values <- results <- sale, party, market, cli

``durability`` stands beside ``errors``: what writes or sends passes through it, which is checked here too.

Imports inside functions and under TYPE_CHECKING count too: they say the same about the design.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mpchan
from mpchan.channel.construction import registry

ROOT = Path(mpchan.__file__).parent

ALLOWED: dict[str, set[str]] = {
    "__init__": {"errors", "party", "results"},
    "errors": set(),
    "values": set(),
    "results": {"values"},
    "durability": set(),
    "units": {"errors", "values"},
    "bitcoin": {"errors", "values", "units"},
    "channel": {"errors", "values", "units", "bitcoin"},
    "sale": {"errors", "values", "units", "bitcoin", "channel", "results"},
    "chain": {"errors", "values", "durability", "units", "bitcoin"},
    "wallet": {"errors", "values", "durability", "units", "bitcoin", "channel", "sale", "chain.base"},
    "party": {
        *(
            "errors",
            "values",
            "durability",
            "units",
            "bitcoin",
            "channel",
            "sale",
            "chain",
            "wallet",
            "results",
        ),
    },
    "transport": {"errors", "values", "durability", "units", "http.certificates"},
    "http": {
        *(
            "errors",
            "values",
            "durability",
            "units",
            "bitcoin",
            "channel",
            "sale",
            "chain",
            "wallet",
            "party",
        ),
        *("results", "transport"),
    },
    "market": {
        *(
            "errors",
            "values",
            "durability",
            "units",
            "bitcoin",
            "channel",
            "sale",
            "chain",
            "wallet",
            "party",
            "results",
        ),
        "transport",
    },
    "cli": {
        *(
            "errors",
            "values",
            "durability",
            "units",
            "bitcoin",
            "channel",
            "sale",
            "chain",
            "wallet",
            "party",
            "results",
        ),
        *("transport", "http", "market", "__init__"),
    },
    "__main__": {"errors", "cli"},
}
"""What each part may import besides itself."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "ecdsa": ("bitcoin/signers/ecdsa.py",),
    "coincurve": ("bitcoin/signers/coincurve.py",),
    "btclib_secp256k1": ("bitcoin/signers/btclib.py",),
    "pbk": ("chain/embedded/kernel.py",),
    "rfc8785": ("http",),
    "uvicorn": ("http",),
    "urllib3": ("http",),
    "httpx2": ("http",),
    "requests": ("http",),
    "rich": ("cli/render", "cli/demo"),
    "sqlite3": ("chain/embedded/index.py",),
    "http": ("chain/bitcoind/rpc.py",),
    "ssl": ("chain/electrum/certificates.py", "transport/tls.py", "http/"),
    "socket": ("chain/electrum/", "transport/", "http/"),
    "python_socks": ("chain/electrum/dialling.py",),
    "click": ("cli/", "__main__.py", "chain/home.py"),
    "mnemonic": ("bitcoin/seed_words.py",),
    "segno": ("cli/commands/request.py", "http/server/page.py"),
    "subprocess": ("chain/embedded/installing.py",),
    "cryptography": ("wallet/sealing.py", "http/certificates.py"),
}
"""The only modules (or beginnings of their paths) that may import a package."""

PURE = ("channel", "sale")

NOT_PURE = {
    "asyncio", "datetime", "glob", "io", "logging", "os", "pathlib", "random", "secrets", "shutil", "socket",
    "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
"""What a protocol that knows no file, clock, network or randomness cannot need."""

NOT_PURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}


def imported(tree: ast.AST, module: str) -> Iterator[tuple[str, int]]:
    """The full names that a module imports, with their lines; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def faults(path: str, source: str) -> list[str]:
    """What is wrong with the imports of one module, ``path`` being relative to the package."""
    tree = ast.parse(source)
    module = "mpchan." + path[:-3].replace("/", ".")
    part = path.split("/")[0].removesuffix(".py")
    found = []
    for name, line in imported(tree, module):
        where = f"{path}:{line} imports {name}"
        package = name.split(".")[0]
        if package == "mpchan":
            inner = name.split(".")[1:] or ["__init__"]
            target = inner[0] if inner[0] in ALLOWED else "__init__"
            fits = target == part or target in ALLOWED[part] or ".".join(inner[:2]) in ALLOWED[part]
            if not fits:
                found.append(f"{where}, which points outward")
        elif package in ONLY_IN and not path.startswith(ONLY_IN[package]):
            found.append(f"{where}, which only {', '.join(ONLY_IN[package])} may")
        elif part in PURE and package in NOT_PURE:
            found.append(f"{where}, but the protocol is pure")
    if part in PURE:
        found += [
            f"{path}:{node.lineno} calls {node.func.id}, but the protocol is pure"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in NOT_PURE_CALLS
        ]
    return found


MODULES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES)
def test_imports_point_inward(path: str) -> None:
    assert faults(path, (ROOT / path).read_text()) == []


def test_every_part_is_known() -> None:
    """A new part of the package takes its place in the table, or this fails."""
    parts = {path.split("/")[0].removesuffix(".py") for path in MODULES}
    assert parts == set(ALLOWED)
    assert len(MODULES) > 50


CONSTRUCTIONS = "channel/construction/"
IN_THE_SEAM = ("base", "registry", "refund_first", "signed_refund", "form")
"""What others may import of the constructions: the seam, and, by name, the opening that signs a refund first."""

OF_A_LOCK = {
    "witness_script",
    "parse_two_of_two",
    "parse_multisig",
    "two_of_two_script",
    "two_of_two_descriptor",
}
OF_A_SCHEDULE = {"last_update", "update_number", "update_lock_time"}

KNOWS_A_SHAPE = {
    "results/checks.py": "names those fields",
    "results/demo.py": "names a key of the demo's JSON",
    "party/check/inspection.py": "shows whatever fields a PSBT has",
    "party/briefs.py": "in every construction the refund alone has L_refund as its lock time",
    "channel/foreign_funding.py": "the lock time of a funding that another wallet made",
    "channel/messages.py": "names the first difference between two transactions",
    "chain/": "whether a block may hold a transaction, whatever it is",
    "bitcoin/": "the formats themselves",
}
"""Who reads a lock time or a script's shape outside of the constructions, and why that tells no construction."""


def shapes(path: str, source: str) -> list[str]:
    """Where one module knows a construction by itself: its name, a message's lock time, the shape of its script."""
    if path.startswith((CONSTRUCTIONS, *KNOWS_A_SHAPE)):
        return []
    tree = ast.parse(source)
    found = [
        f"{path}:{line} imports {name}"
        for name, line in imported(tree, "mpchan." + path[:-3].replace("/", "."))
        if name.startswith("mpchan.channel.construction.") and name.split(".")[3] not in IN_THE_SEAM
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in registry.CONSTRUCTIONS:
            found.append(f"{path}:{node.lineno} names {node.value}")
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in OF_A_LOCK | OF_A_SCHEDULE:
            found.append(f"{path}:{node.lineno} knows {name}")  # type: ignore[attr-defined]
        for asked in _asked(node):
            if isinstance(asked, ast.Attribute) and asked.attr == "lock_time":
                found.append(f"{path}:{asked.lineno} decides by {ast.unparse(asked)}")
    return found


def _asked(node: ast.AST) -> list[ast.expr]:
    """What a node decides by."""
    if isinstance(node, ast.Compare):
        is_there = all(isinstance(operator, (ast.Is, ast.IsNot)) for operator in node.ops)
        return [] if is_there else [node.left, *node.comparators]
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [node.operand]
    return [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While)) else []


@pytest.mark.parametrize("path", MODULES)
def test_no_module_outside_knows_a_construction(path: str) -> None:
    """A new construction is one module, and a line of the registry."""
    assert shapes(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from mpchan.channel.construction.decrementing import Decrementing",
        "from mpchan.channel.construction import two_of_two",
        "table = {'scheme': 'decrementing'}",
        "kind = 'settlement' if transaction.lock_time == 0 else 'update'",
        "kind = 'update' if psbt.tx.lock_time else 'settlement'",
        "if not message.tx.lock_time:\n    raise ValueError",
        "script = terms.lock.witness_script",
        "keys = parse_two_of_two(script)",
        "left = terms.schedule.last_update - number",
    ],
)
def test_a_construction_known_elsewhere_is_seen(source: str) -> None:
    assert len(shapes("party/payer.py", source)) == 1
    assert shapes("channel/construction/decrementing.py", source) == []


def test_every_exception_of_the_constructions_is_needed() -> None:
    """An exception that nothing needs any more would hide the next module that looks for itself."""
    for place in list(KNOWS_A_SHAPE):
        reason = KNOWS_A_SHAPE.pop(place)
        try:
            found = [
                fault
                for path in MODULES
                if path.startswith(place)
                for fault in shapes(path, (ROOT / path).read_text())
            ]
        finally:
            KNOWS_A_SHAPE[place] = reason
        assert found, place


def test_one_command_fetches_anything() -> None:
    """No other can come to run pip: what does is imported nowhere else."""
    users = [
        path
        for path in MODULES
        for name, _ in imported(ast.parse((ROOT / path).read_text()), "mpchan")
        if name.startswith("mpchan.chain.embedded.installing")
    ]
    assert users == ["cli/commands/engine.py"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("channel/payer.py", "from mpchan.chain.base import Chain"),
        ("channel/payer.py", "import mpchan.wallet.wallet"),
        ("channel/payer.py", "from mpchan import wallet"),
        ("channel/payer.py", "from ..wallet import storage"),
        ("channel/payer.py", "def late():\n    from mpchan.party import payer"),
        ("channel/payer.py", "if TYPE_CHECKING:\n    from mpchan.cli.app import App"),
        ("channel/payer.py", "import time"),
        ("channel/payer.py", "from os import path"),
        ("channel/payer.py", "import os.path"),
        ("channel/payer.py", "from pathlib import Path"),
        ("channel/payer.py", "import socket"),
        ("channel/payer.py", "import random"),
        ("channel/payer.py", "open('file')"),
        ("chain/base.py", "from mpchan.channel.terms import Terms"),
        ("chain/embedded/chain.py", "from mpchan.wallet.config import ChainConfig"),
        ("chain/embedded/chain.py", "from ...party import payer"),
        ("wallet/coins.py", "from mpchan.chain.embedded import EmbeddedChain"),
        ("wallet/coins.py", "from mpchan.chain import open_chain"),
        ("wallet/coins.py", "from mpchan.party import common"),
        ("party/payer.py", "from mpchan.cli.app import App"),
        ("bitcoin/tx.py", "from mpchan.channel.terms import Terms"),
        ("units.py", "from mpchan.bitcoin.tx import Transaction"),
        ("errors.py", "from mpchan.units import Amount"),
        ("values.py", "from mpchan.errors import ParseError"),
        ("bitcoin/hd.py", "import ecdsa"),
        ("bitcoin/hd.py", "from coincurve import PrivateKey"),
        ("bitcoin/signature.py", "from btclib_secp256k1 import dsa"),
        ("bitcoin/signers/ecdsa.py", "import coincurve"),
        ("chain/embedded/mining.py", "import pbk"),
        ("cli/app.py", "from rich.table import Table"),
        ("party/views.py", "import click"),
        ("chain/base.py", "import sqlite3"),
        ("cli/demo/command.py", "from subprocess import run"),
    ],
)
def test_the_checker_catches_a_planted_violation(path: str, source: str) -> None:
    assert path in MODULES
    assert len(faults(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("channel/payer.py", "from mpchan.bitcoin.tx import Transaction"),
        ("channel/payer.py", "from . import terms"),
        ("channel/payer.py", "from mpchan.channel import terms"),
        ("channel/payer.py", "import dataclasses, re"),
        ("wallet/coins.py", "from mpchan.chain.base import Coin"),
        ("wallet/coins.py", "import os"),
        ("cli/demo/command.py", "from rich.table import Table"),
        ("cli/main.py", "import mpchan"),
        ("bitcoin/signers/ecdsa.py", "import ecdsa"),
    ],
)
def test_the_checker_lets_good_imports_pass(path: str, source: str) -> None:
    assert faults(path, source) == []


# signatures ---------------------------------------------------------------------------------------

MAY_SIGN_UNCHECKED = {
    "bitcoin/signature.py:sign": "asks the library, until R is low",
    "bitcoin/signature.py:sign_checked": "verifies what it got",
    "bitcoin/signature.py:sign_schnorr": "asks the library",
    "bitcoin/signature.py:sign_schnorr_checked": "verifies what it got",
    "channel/construction/decrementing_form.py:_signature": "see ``ChannelKey.sign_update_in``",
    "channel/construction/taproot_form.py:_signature": "the same",
    "channel/signing.py:sign_update_in": "of those that become durable together, the payer's meter verifies the newest",
    "http/certificates.py:_made": "a certificate's own signature, by another library",
}
"""The functions that call ``sign`` or ``sign_schnorr``, which verify nothing, and why; others have ``…_checked``."""


def test_whatever_is_signed_is_verified_before_anybody_gets_it() -> None:
    callers: dict[str, set[str]] = {}
    for path in MODULES:
        for function in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Attribute):
                        callers.setdefault(node.attr, set()).add(f"{path}:{function.name}")
    signing = callers["sign"] | callers["sign_schnorr"]
    assert {name for name in signing if not name.startswith("bitcoin/signers/")} == set(MAY_SIGN_UNCHECKED)
    assert {name for name in callers["sign_update_in"] if name.startswith("party/")} == {
        "party/meter/payer.py:pay"
    }
    assert {name for name in callers["require_update_in"] if name.startswith("party/")} == {
        "party/meter/payer.py:commit"
    }


# the switchboard ----------------------------------------------------------------------------------

SYSTEM_CALLS = {
    "chmod", "close", "fchmod", "fdatasync", "fsync", "ftruncate", "link", "makedirs", "mkdir", "mkfifo", "pwrite",
    "remove", "removedirs", "rename", "renames", "replace", "rmdir", "sendfile", "symlink", "truncate", "unlink",
    "utime", "write", "writev",
}  # fmt: skip
"""Functions of ``os`` that change what others see, or tell only at the end that they did not."""

PATH_CALLS = {
    "chmod", "hardlink_to", "link_to", "mkdir", "rename", "rmdir", "symlink_to", "touch", "unlink", "write_bytes",
    "write_text",
}  # fmt: skip
"""Methods of ``Path`` that do; ``replace`` apart, which text has too, and with two arguments."""

PAST_THE_SWITCHBOARD = {
    "durability.py": "it is the switchboard",
    "__main__.py:_occupy_standard_streams": "what goes to the null device is nothing",
    "cli/files.py:_pour": "the body of a step",
    "cli/files.py:_print": "the body of a step",
    "cli/files.py:print_error": "words for people: nothing depends on their having left",
    "cli/files.py:confirmed": "a question to a person",
    "cli/files.py:silence": "what goes to the null device is nothing",
    "cli/demo/command.py:_temporary": "play money in a folder that goes with the process",
    "cli/demo/playing.py": "play money in a folder that goes with the process",
    "chain/electrum/backend.py": "a broadcast to every server, all within one step of the party",
    "chain/electrum/sending.py": "the request that carries a broadcast, which is one step of the party's",
    "chain/bitcoind/backend.py": "a package of one is a broadcast",
}
"""A module, or one function of it, that may do it by itself, and why."""


def writes(path: str, source: str) -> list[str]:
    """The calls of one module by which something is written or let out without ``durability``."""
    found = []
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not (what := _written_by(node)):
            continue
        around = [f.name for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
        if path not in PAST_THE_SWITCHBOARD and not any(
            f"{path}:{name}" in PAST_THE_SWITCHBOARD for name in around
        ):
            found.append(f"{path}:{node.lineno} calls {what}")
    return found


def _written_by(call: ast.Call) -> str | None:
    """What a call writes with, or None."""
    name = ast.unparse(call.func)
    owner, _, last = name.rpartition(".")
    if (owner == "os" and last in SYSTEM_CALLS) or (owner == "fcntl" and last in ("flock", "lockf")):
        return name
    if name == "os.open":
        reads = not {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"} & set(
            ast.unparse(call).replace("os.", "").replace(")", " ").split()
        )
        return None if reads else name
    if last == "open":
        texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and set(text) <= set("rwaxbt+")]
        return name if any(set(mode) & set("wax+") for mode in modes) else None
    if last in PATH_CALLS and owner != "durability":
        return name
    if last in ("replace", "rename") and len(call.args) == 1 and not call.keywords and owner != "durability":
        return name
    if last in ("broadcast", "broadcast_package") and owner.endswith(("chain", "server", "self")):
        return name
    if name in ("print", "click.echo", "click.secho", "sys.stdout.write", "stream.write", "shutil.rmtree"):
        return name
    if owner == "tempfile" or name in ("sys.stderr.write", "shutil.move", "shutil.copy", "shutil.copytree"):
        return name
    return None


@pytest.mark.parametrize("path", MODULES)
def test_all_that_is_written_or_sent_passes_the_switchboard(path: str) -> None:
    assert writes(path, (ROOT / path).read_text()) == []


def test_every_exception_of_the_switchboard_is_needed() -> None:
    """An exception whose module writes nothing by itself any more would hide the next one that does."""
    for entry in PAST_THE_SWITCHBOARD:
        path, _, function = entry.partition(":")
        source = (ROOT / path).read_text()
        if function:
            [node] = [
                node
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef) and node.name == function
            ]
            source = ast.unparse(node)
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        assert any(_written_by(call) for call in calls), entry


@pytest.mark.parametrize(
    "source",
    [
        "os.write(descriptor, data)",
        "os.replace(one, other)",
        "os.fsync(descriptor)",
        "os.close(descriptor)",
        "fcntl.flock(descriptor, fcntl.LOCK_EX)",
        "os.open(path, os.O_RDWR | os.O_CREAT, 0o600)",
        "open(path, 'w')",
        "open(path, mode='ab')",
        "path.open('xb')",
        "path.write_text('text')",
        "path.unlink(missing_ok=True)",
        "path.mkdir()",
        "path.replace(other)",
        "path.touch()",
        "print('text')",
        "sys.stdout.write('text')",
        "chain.broadcast(transaction)",
        "self.chain.broadcast_package([parent, child])",
        "shutil.rmtree(path)",
        "tempfile.mkstemp()",
    ],
)
def test_a_write_past_the_switchboard_is_seen(source: str) -> None:
    assert len(writes("wallet/sent.py", source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'rb')",
        "open(path)",
        "os.open(path, os.O_RDONLY | os.O_DIRECTORY)",
        "text.replace('a', 'b')",
        "durability.replace(one, other)",
        "durability.close(descriptor)",
        "index.close()",
        "durability.step('emit', chain.broadcast, transaction)",
        "Wallet.open(directory)",
        "os.environ.get('HOME')",
    ],
)
def test_what_writes_nothing_passes(source: str) -> None:
    assert writes("wallet/sent.py", source) == []


LISTED = ("bitcoin", "channel", "channel/construction", "party", "transport", "wallet")
"""Folders with many modules."""


@pytest.mark.parametrize("name", LISTED)
def test_a_folder_says_what_is_in_it(name: str) -> None:
    """Who opens it first learns where to go on: its docstring names every module."""
    package = ROOT / name
    told = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    named = set(re.findall(r"[a-z0-9_]+", told))
    inside = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    assert inside - named == set()
