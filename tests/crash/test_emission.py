"""What cannot be told is kept: a reader that is gone, a full device, a folder that goes, files that may not grow."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair

from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import payer

PROGRAM = "import os, sys\nfrom mpchan.cli.main import main\nos._exit(main(sys.argv[1:]))\n"


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain)


def command(line: str, program: str = PROGRAM) -> list[str]:
    return [sys.executable, "-c", program, "--json", *line.split()]


def run(
    pair: Pair, line: str, *, program: str = PROGRAM, stdout: int = subprocess.PIPE, most: int = 0
) -> dict[str, object]:
    """Run one command line that must fail; its report.

    Args:
        most: no file may grow beyond so many bytes; 0 sets no limit.
    """
    done = subprocess.run(
        command(line, program),
        cwd=pair.directory,
        env={**os.environ, "MPCHAN_REGTEST": str(pair.chain.directory)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))) if most else None,
    )
    assert done.returncode, "it ended well"
    assert not done.stdout
    report: dict[str, object] = json.loads(done.stderr)
    assert report["exit_code"] == done.returncode
    return report


def test_a_reader_that_is_gone(pair: Pair) -> None:
    name = pair.open()
    reading, writing = os.pipe()
    os.close(reading)
    try:
        report = run(pair, "--wallet payer pay --total 1000", stdout=writing)
    finally:
        os.close(writing)
    assert (report["error"], report["exit_code"]) == ("not-emitted", 7)
    kept = payer.pay_last(pair.payer, pair.chain, name)
    assert (kept.update, kept.paid_sat) == (1, 1000)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
def test_a_full_device(pair: Pair) -> None:
    name = pair.open()
    for line in ("--wallet payer pay 1000 -o /dev/full", "--wallet payer pay --last"):
        with open("/dev/full", "wb") as full:
            report = run(pair, line, stdout=full.fileno())
        assert (report["error"], report["exit_code"]) == ("not-emitted", 7)
    kept = payer.pay_last(pair.payer, pair.chain, name)
    assert (kept.update, kept.paid_sat) == (1, 1000)


def test_a_folder_that_vanishes_between_the_check_and_the_result(pair: Pair) -> None:
    """The command has found the folder in order; it goes while the payment is being saved."""
    name = pair.open()
    out = pair.directory / "out"
    out.mkdir()
    program = (
        """
import os, shutil, sys
from mpchan.party import payer
real = payer.pay_up_to
def pay_up_to(*arguments):
    shutil.rmtree("out")
    return real(*arguments)
payer.pay_up_to = pay_up_to
"""
        + PROGRAM
    )
    report = run(pair, "--wallet payer pay --total 1000 -o out/update.psbt", program=program)
    assert (report["error"], report["exit_code"]) == ("not-emitted", 7)
    assert "out/update.psbt" in str(report["message"])
    assert not out.exists()
    kept = payer.pay_last(pair.payer, pair.chain, name)
    assert (kept.update, kept.paid_sat) == (1, 1000)


@pytest.mark.parametrize("percent", [0, 30, 99])
def test_files_that_may_not_grow(pair: Pair, percent: int) -> None:
    """A real limit of the system cuts the write itself: the journal ends as it did, and the payment was never made."""
    name = pair.open()
    journal = pair.payer.directory / "channels" / f"{name}.journal"
    before = journal.read_bytes()
    saved = pair.directory / "saved"
    shutil.copytree(pair.payer.directory, saved)
    assert pair.pay(name, 1000)
    added = journal.stat().st_size - len(before)
    shutil.rmtree(pair.payer.directory)
    shutil.copytree(saved, pair.payer.directory)
    report = run(pair, "--wallet payer pay --total 1000", most=len(before) + max(1, added * percent // 100))
    assert report["exit_code"] == 7
    assert str(journal.name) in str(report["message"])
    assert journal.read_bytes() == before
    pair.restart()
    assert pair.payer_record(name).updates == 0
    assert pair.accept(pair.pay(name, 1000)).received_sat == 1000
