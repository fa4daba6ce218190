"""Putting Bitcoin Core's engine into this environment, also where its package has no wheel for the interpreter.

The package is plain Python over one shared library that it loads with ctypes, so its wheel for CPython 3.13 serves
every other CPython. pip fetches it, from the index that pip is configured for, and takes only a file whose SHA-256
stands in ``engine.txt``. No other module runs another program, and ``mpchan engine install`` alone uses this one.
"""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from mpchan.chain.embedded.kernel import PACKAGE, load_engine
from mpchan.errors import ChainError

REQUIREMENT = Path(__file__).with_name("engine.txt")
"""The version and the hashes of its files, in pip's own form."""

_ISOLATED = [sys.executable, "-I"]
"""Python that takes no module from the current directory, where anyone may have put a ``pip``."""

_WHERE = "wheels are for macOS 13 and Linux (glibc 2.27, or musl on x86-64), on x86-64 and arm64"


def target_directory() -> Path:
    """The directory that this mpchan is installed in, beside which its packages are found.

    Raises:
        ChainError: ``engine-not-installed`` where it is not installed at all.
    """
    try:
        return Path(str(distribution("mpchan").locate_file("")))
    except PackageNotFoundError:
        raise ChainError(
            "engine-not-installed",
            "mpchan runs from its source, and is installed in no environment",
            hint="install it first, with `pip install` and its folder",
        ) from None


def need_pip() -> None:
    """Make sure that pip can be run here.

    Raises:
        ChainError: ``engine-not-installed`` where it cannot; the hint says what to do.
    """
    if not subprocess.run([*_ISOLATED, "-c", "import pip"], capture_output=True, check=False).returncode:
        return
    command = f"`{shlex.quote(sys.executable)} -m ensurepip`"
    if find_spec("ensurepip") is None:
        command = (
            f"the system's package for venv (Debian and Ubuntu: `apt install python3-venv`), then {command}"
        )
    raise ChainError(
        "engine-not-installed",
        f"there is no pip in the environment of {sys.executable}",
        hint=f"{command} puts it there",
    )


def install(directory: Path) -> None:
    """Fetch the engine's package, check it and put it into ``directory``, in place of what is left of an older one.

    Raises:
        ChainError: ``engine-mismatch`` for a file with another hash; ``engine-not-installed`` for whatever else pip
            says; ``engine-missing`` when it is installed, and cannot be loaded.
    """
    command = [
        *(*_ISOLATED, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--require-hashes", "--requirement", str(REQUIREMENT), "--no-deps"),
        # the wheel for 3.13, of the ordinary build also where this interpreter has no global lock
        *("--only-binary=:all:", "--implementation=cp", "--python-version=3.13", "--abi=cp313"),
        *("--target", str(directory), "--upgrade"),
    ]
    # a configuration that installs for the user would contradict --target
    environment = {**os.environ, "PIP_USER": "0"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise _failure(done.stderr)
    for name in [name for name in sys.modules if name.split(".")[0] == "pbk"]:
        del sys.modules[name]  # what was left of an attempt to load it
    importlib.invalidate_caches()
    try:
        load_engine()
    except ChainError as error:
        hint = "it is installed now, but this system cannot load it: use another chain backend"
        raise ChainError(error.slug, error.message, hint=hint) from error


def _failure(said: str) -> ChainError:
    """What pip said on standard error, as one of our own errors."""
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        return ChainError(
            "engine-mismatch",
            f"the package index gave another file for {PACKAGE} than the one that mpchan knows",
            hint="nothing was installed; ask for it from another index, or find out who made that file",
        )
    reason = lines[-1] if lines else (said.strip().splitlines() or ["it gave no reason"])[-1]
    return ChainError(
        "engine-not-installed",
        f"pip could not install {PACKAGE}: {reason.strip().rstrip('.')!s:.200}",
        hint=f"it needs the package index, and {_WHERE}; else use another chain backend",
    )
