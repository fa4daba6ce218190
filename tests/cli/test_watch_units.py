"""The sample units for systemd: systemd takes them, and the commands in them do what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support.transcript import TIMEOUT_SECONDS, Shell, program

SAMPLES = Path(__file__).parents[2] / "sample-configs"
UNITS = ["mpchan-watch.service", "mpchan-watch-once.service", "mpchan-watch-once.timer"]
SYSTEMD = shutil.which("systemd-analyze")


def command(unit: str, wallet: Path) -> list[str]:
    """What the unit starts, for this wallet."""
    [line] = re.findall(r"^ExecStart=(.*)$", (SAMPLES / unit).read_text(), re.MULTILINE)
    words = [word.replace("%h/.local/bin/mpchan", str(program())) for word in shlex.split(line)]
    return [word.replace("%h/mpchan", str(wallet)) for word in words]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_unit(unit: str, tmp_path: Path) -> None:
    """Where there is a systemd; elsewhere the sections are looked at."""
    for name in UNITS:
        text = (SAMPLES / name).read_text()
        (tmp_path / name).write_text(text.replace("%h/.local/bin/mpchan", str(program())))
    if SYSTEMD is not None:
        done = subprocess.run(
            [SYSTEMD, "--user", "verify", str(tmp_path / unit)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    sections = re.findall(r"^\[(\w+)\]$", (tmp_path / unit).read_text(), re.MULTILINE)
    assert sections[:2] == ["Unit", "Timer" if unit.endswith(".timer") else "Service"]


def test_the_service_runs_until_it_is_stopped(paid: Shell) -> None:
    """systemd stops it by SIGTERM, and takes 0 for a good end."""
    with subprocess.Popen(
        command("mpchan-watch.service", paid.folder / "seller"),
        cwd=paid.folder,
        env=paid.env,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "(payee) is open" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 0


def test_the_timer_s_service_fails_where_a_person_is_needed(paid: Shell) -> None:
    words = command("mpchan-watch-once.service", paid.folder / "seller")

    def run() -> tuple[int, str, str]:
        done = paid._start(words, b"", {})
        return done.code, done.out, done.err

    assert run() == (0, "", "")
    paid.ok("mpchan -q regtest mine 305")
    paid.ok("mpchan --wallet buyer refund -q -o refund.hex")
    code, out, err = run()
    assert (code, err) == (5, "")
    assert "ALARM refund-seen" in out


def test_the_cron_line_is_the_timer_s_command() -> None:
    text = (SAMPLES / "mpchan-watch-once.timer").read_text()
    [line] = re.findall(r"^#   \*/10 \* \* \* \* (.*)$", text, re.MULTILINE)
    [started] = re.findall(
        r"^ExecStart=(.*)$", (SAMPLES / "mpchan-watch-once.service").read_text(), re.MULTILINE
    )
    assert line.replace("$HOME", "%h") == started
