"""Where ``MPCHAN_NO_SKIP`` is set, nothing that needs a node or another program is skipped in silence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
SOME = """
import pytest


@pytest.mark.skipif(True, reason="no bitcoind: neither $BITCOIND nor on PATH")
def test_with_a_mark():
    pass


def test_in_its_body():
    pytest.skip("the server is not installed")


@pytest.fixture
def server():
    pytest.skip("the server is not installed")


def test_with_a_fixture(server):
    pass


@pytest.mark.skipif(True, reason="root may write everywhere")
def test_of_the_machine():
    pass


@pytest.mark.xfail(reason="as it should", strict=True)
def test_that_must_fail():
    assert False


def test_that_passes():
    pass
"""
NONE = "import pytest\n\npytest.importorskip('no_such_module', reason='the server is not installed')\n"


def outcomes(folder: Path, workers: str, **variables: str) -> dict[str, int]:
    """Run the files in ``folder`` as pytest of a developer would: how often each outcome came."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MPCHAN_", "PYTEST_"))}
    env["PYTHONPATH"] = str(CONFTEST.parent)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            workers,
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            folder,
        ],
        cwd=folder,
        env={**env, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1]
    found = {word.rstrip("s"): int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", last)}
    assert (done.returncode == 0) == (not found.keys() & {"failed", "error"}), done
    return found


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_skip_fails_where_none_is_allowed(tmp_path: Path, workers: str) -> None:
    """Of a test, of a fixture and of a whole file; what the machine itself cannot do may be skipped."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_some.py").write_text(SOME)
    (tmp_path / "test_none.py").write_text(NONE)
    assert outcomes(tmp_path, workers) == {"passed": 1, "skipped": 5, "xfailed": 1}
    (tmp_path / "test_none.py").unlink()
    strict = outcomes(tmp_path, workers, MPCHAN_NO_SKIP="1")
    assert strict == {"failed": 1, "error": 2, "passed": 1, "skipped": 1, "xfailed": 1}
    (tmp_path / "test_some.py").unlink()
    (tmp_path / "test_none.py").write_text(NONE)
    assert outcomes(tmp_path, workers, MPCHAN_NO_SKIP="1") == {"error": 1}


def test_the_integration_run_allows_none() -> None:
    """Where it has a node."""
    script = (CONFTEST.parents[1] / ".ci" / "run").read_text()
    assert 'if [ -n "${BITCOIND:-}" ]; then export MPCHAN_NO_SKIP=1; fi' in script
