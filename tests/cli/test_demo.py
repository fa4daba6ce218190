"""``mpchan demo`` as a person, a pipe and a script see it; the accounts are checked against the chain's own files."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import json
import os
import pty
import re
import shlex
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from support.documented import require_documented

from mpchan.chain.embedded import EmbeddedChain
from mpchan.cli.demo import story as demo_story
from mpchan.cli.demo.show import Transcript
from mpchan.cli.main import main
from mpchan.party import payer as party_payer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pbk") is None, reason="the engine is not installed (mpchan engine install)"
)

PROGRAM = [sys.executable, "-m", "mpchan"]
SHORT_STORY = """
import sys
from mpchan.cli.demo import story as demo_story
from mpchan.cli import main
demo_story.UNITS, demo_story.CAPACITY_SAT = 6, 6 * demo_story.UNIT_SAT
sys.exit(main.main(["demo"]))
"""
UNIT = 1000
FUNDING_VALUE = 100 * UNIT + 338  # the reserve is the fee of a two-output close: 169 vB at 2 sat/vB
REFUND_FEE = 276  # 138 vB at 2 sat/vB
AT_ONCE = "taproot"
FUNDING_VALUE_AT_ONCE = 100 * UNIT + 384  # 192 vB, for a payer's script of 34 bytes
REFUND_FEE_AT_ONCE = 252  # 126 vB
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def environment(home: Path, **changes: str) -> dict[str, str]:
    """The user's environment, with a temporary folder of its own and a chain that must stay untouched."""
    (home / "tmp").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "TMPDIR": str(home / "tmp"), "MPCHAN_REGTEST": str(home / "users-chain"), **changes}


def run(home: Path, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(home, **changes),
        timeout=120,
        check=False,
    )


@pytest.fixture
def short_story(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """For a demo in this process: six payments instead of a hundred; the folder for its temporary files."""
    monkeypatch.setattr(demo_story, "UNITS", 6)
    monkeypatch.setattr(demo_story, "CAPACITY_SAT", 6 * UNIT)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def is_untouched(home: Path) -> bool:
    """Nothing is left in the temporary folder, and the user's chain was not made."""
    return not any((home / "tmp").iterdir()) and not (home / "users-chain").exists()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo that was kept: its folder, and what was told."""
    home = tmp_path_factory.mktemp("told")
    done = run(home, "demo", "--dir", str(home / "kept"), COLUMNS="200", FORCE_COLOR="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert is_untouched(home)
    return home / "kept", done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A demo with the bad endings, as data."""
    home = tmp_path_factory.mktemp("data")
    done = run(home, "demo", "--cheat", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert is_untouched(home)
    require_documented(["demo", "--cheat", "--json"], done.stdout)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def data_at_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same where nothing is exchanged before the funding."""
    home = tmp_path_factory.mktemp("at-once")
    done = run(home, "demo", "--scheme", AT_ONCE, "--cheat", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert is_untouched(home)
    require_documented(["demo", "--cheat", "--json"], done.stdout)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


# the story ----------------------------------------------------------------------------------------


def test_the_kept_chain_holds_two_transactions_of_the_channel_and_no_other(told: tuple[Path, str]) -> None:
    folder, text = told
    funding = Path(folder / "funding.hex").read_text().strip()
    settlement = Path(folder / "settlement.hex").read_text().strip()
    database = sqlite3.connect(folder / "chain" / "index.sqlite3")
    try:
        rows = database.execute(
            "SELECT raw FROM transactions WHERE position > 0 AND height > 111 ORDER BY height"
        ).fetchall()
    finally:
        database.close()
    assert [raw.hex() for (raw,) in rows] == [funding, settlement]
    assert "100 payments, and 2 transactions in all blocks" in text


def test_the_kept_wallets_answer_and_their_coins_are_those_that_were_told(told: tuple[Path, str]) -> None:
    folder, text = told
    coins = {}
    for party in ("payer", "payee"):
        common = ("--wallet", str(folder / party), "--json")
        chain = str(folder / "chain")
        [channel] = json.loads(run(folder.parent, *common, "list", MPCHAN_REGTEST=chain).stdout)["channels"]
        assert (channel["role"], channel["status"]) == (party, "closed")
        assert (channel["paid_sat"], channel["remaining_sat"], channel["updates"]) == (100 * UNIT, 0, 99)
        balance = json.loads(run(folder.parent, *common, "balance", MPCHAN_REGTEST=chain).stdout)
        assert (balance["unconfirmed_sat"], balance["in_channels_sat"]) == (0, 0)
        coins[party] = balance["confirmed_sat"]
    assert coins["payee"] == 100 * UNIT
    assert re.search(rf"payer +100,000,000 +{coins['payer']:,} +-", text)
    assert re.search(r"payee +0 +100,000 +\+100,000", text)


def test_a_pipe_gets_plain_lines_of_80_columns_with_whole_words(told: tuple[Path, str]) -> None:
    folder, text = told
    assert "\x1b" not in text
    # the folder's own path is as long as it is
    assert max(len(line) for line in text.splitlines() if str(folder) not in line) <= 80
    assert not re.search(r"[0-9a-f]{33,}", re.sub(r"bcrt1q\w+", "", text))  # an offer's id has 32


def test_every_typed_command_line_is_shown_with_the_first_two_payments_and_the_last(
    told: tuple[Path, str],
) -> None:
    folder, text = told
    commands = re.findall(r"^   \$ (.*)$", text.replace(" \\\n     ", ""), re.MULTILINE)
    assert commands.count("mpchan --wallet payer pay 1000 -o update.psbt") == 3
    assert commands.count("mpchan --wallet payee payee accept update.psbt") == 3
    assert "mpchan --wallet payer payer fund signed.psbt --refund-out refund.hex   -o funding.hex" in commands
    assert commands[-3:] == [
        f"cd {folder}",
        f"export MPCHAN_REGTEST={folder / 'chain'}",
        "mpchan --wallet payer list",
    ]


def test_the_data_account_for_every_satoshi(data: dict[str, Any]) -> None:
    assert (data["unit_sat"], data["payments"], data["capacity_sat"]) == (UNIT, 100, 100 * UNIT)
    assert data["transactions_on_chain"] == len(data["transactions"]) == 2
    assert [seen["kind"] for seen in data["transactions"]] == ["funding", "settlement"]
    fees = [seen["fee_sat"] for seen in data["transactions"]]
    assert fees[1] == FUNDING_VALUE - 100 * UNIT  # the payer's output is 0 and left out
    assert sum(fees) == data["fees_sat"]
    payer, payee = data["balances"]["payer"], data["balances"]["payee"]
    assert payee["after_sat"] - payee["before_sat"] == 100 * UNIT
    assert payer["before_sat"] - payer["after_sat"] == 100 * UNIT + sum(fees)
    assert data["channel"] == data["transactions"][0]["txid"][:16]
    assert data["directory"] is None
    assert "Bitcoin Core" in data["engine"]


def test_the_steps_hold_all_99_updates(data: dict[str, Any]) -> None:
    commands = [step["command"] for step in data["steps"]]
    assert commands.count("mpchan --wallet payer pay 1000 -o update.psbt") == 99
    assert commands.count("mpchan --wallet payee payee accept update.psbt") == 99
    assert "mpchan --wallet payer settle --total 100000 -o settlement.psbt" in commands
    assert {step["exit_code"] for step in data["steps"]} == {0, 5, 6}


def test_where_nothing_is_exchanged_one_command_opens_a_channel(data_at_once: dict[str, Any]) -> None:
    data, commands = data_at_once, [step["command"] for step in data_at_once["steps"]]
    at = commands.index("mpchan --wallet payee payee offer --scheme taproot -o offer.toml")
    assert commands[at + 1] == (
        "mpchan --wallet payer payer open offer.toml 100000 --refund-out refund.hex -o funding.hex"
    )
    assert not [command for command in commands if "sign-refund" in command or "payer fund" in command]
    assert commands.count("mpchan --wallet payee payee accept update.psbt") == 99
    fees = [seen["fee_sat"] for seen in data["transactions"]]
    assert [seen["kind"] for seen in data["transactions"]] == ["funding", "settlement"]
    assert fees[1] == FUNDING_VALUE_AT_ONCE - 100 * UNIT
    assert data["balances"]["payee"]["after_sat"] == 100 * UNIT
    assert data["channel"] == data["transactions"][0]["txid"][:16]


# the bad endings ----------------------------------------------------------------------------------

NON_FINAL, SPENT = "bad-txns-nonfinal", "bad-txns-inputs-missingorspent"
BAD_SCRIPT, MINED = "script-verify-flag-failed", "in block "

ENDINGS = {
    "early-refund": [("command", "exit code 6"), ("engine", NON_FINAL)],
    "altered-settlement": [("engine", BAD_SCRIPT), ("engine", BAD_SCRIPT), ("engine", MINED)],
    "payer-disappears": [
        ("command", "exit code 6"),
        ("engine", MINED),
        ("command", "exit code 5"),
        ("engine", SPENT),
    ],
    "payee-disappears-before-funding": [("engine", BAD_SCRIPT)],
    "payee-disappears-after-funding": [("engine", MINED)],
    "payee-disappears-after-payments": [("engine", MINED)],
    "older-update": [("engine", NON_FINAL), ("engine", MINED), ("engine", SPENT)],
    "held-up-close": [("engine", MINED)],
}
ENDINGS_AT_ONCE = {
    "early-refund": [("command", "exit code 6"), ("engine", NON_FINAL)],
    "altered-settlement": [("engine", BAD_SCRIPT), ("engine", BAD_SCRIPT), ("engine", MINED)],
    "payee-disappears-after-funding": [("engine", MINED)],
    "payee-disappears-after-payments": [("engine", MINED)],
    "held-up-close": [("engine", MINED)],
    "earlier-refund": [("engine", BAD_SCRIPT)],
    "payer-disappears": [("engine", MINED), ("command", "exit code 5"), ("engine", SPENT)],
    "older-update": [("engine", BAD_SCRIPT), ("engine", MINED), ("engine", SPENT)],
    "double-spent-funding": [("command", "exit code 6")] * 3,
}


def ending(data: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [case for case in data["cheats"] if case["name"] == name]
    assert isinstance(found, dict)
    return found


def test_each_bad_ending_is_played_once_on_a_channel_of_its_own(
    data: dict[str, Any], data_at_once: dict[str, Any]
) -> None:
    for told, endings in ((data, ENDINGS), (data_at_once, ENDINGS_AT_ONCE)):
        assert [case["name"] for case in told["cheats"]] == list(endings)
        channels = {told["channel"], *(case["channel"] for case in told["cheats"])}
        assert len(channels) == len(endings) + 1


def require_answers(case: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert case["ok"] is True
    assert all(answer["ok"] for answer in case["answers"])
    assert [answer["by"] for answer in case["answers"]] == [by for by, _ in expected]
    for answer, (_, word) in zip(case["answers"], expected, strict=True):
        assert word in answer["answer"]


@pytest.mark.parametrize("name", ENDINGS)
def test_the_answers_of_commands_and_engine(data: dict[str, Any], name: str) -> None:
    require_answers(ending(data, name), ENDINGS[name])


@pytest.mark.parametrize("name", ENDINGS_AT_ONCE)
def test_the_same_where_nothing_is_exchanged(data_at_once: dict[str, Any], name: str) -> None:
    require_answers(ending(data_at_once, name), ENDINGS_AT_ONCE[name])


def test_a_payee_that_needs_not_wait_closes_in_the_next_block(data_at_once: dict[str, Any]) -> None:
    case = ending(data_at_once, "payer-disappears")
    assert case["payee_gained_sat"] == 30 * UNIT
    assert case["update_height"] < case["refund_lock_time"] - 36
    assert ending(data_at_once, "older-update")["payee_gained_sat"] == 30 * UNIT


def test_a_payer_that_asks_nobody_has_everything_back(data_at_once: dict[str, Any]) -> None:
    for name in ("payee-disappears-after-funding", "payee-disappears-after-payments"):
        case = ending(data_at_once, name)
        assert case["payer_recovered_sat"] == FUNDING_VALUE_AT_ONCE - REFUND_FEE_AT_ONCE
        assert case["refund_lock_time"] % 36 == 0


def test_a_payee_whose_payer_is_gone_has_its_money_before_the_refunds_time(data: dict[str, Any]) -> None:
    case = ending(data, "payer-disappears")
    assert case["update_lock_time"] < case["update_height"] < case["refund_lock_time"]
    assert case["payee_gained_sat"] == 30 * UNIT


def test_a_payer_whose_payee_is_gone_loses_nothing_but_the_refunds_fee(data: dict[str, Any]) -> None:
    before_funding = ending(data, "payee-disappears-before-funding")
    assert before_funding["payer_after_sat"] == before_funding["payer_before_sat"]
    for name in ("payee-disappears-after-funding", "payee-disappears-after-payments"):
        case = ending(data, name)
        assert (case["funding_sat"], case["refund_fee_sat"]) == (FUNDING_VALUE, REFUND_FEE)
        assert case["payer_after_sat"] - case["payer_before_sat"] == FUNDING_VALUE - REFUND_FEE
        assert case["payer_recovered_sat"] == FUNDING_VALUE - REFUND_FEE


def test_a_payee_that_alters_the_amounts_gets_what_it_was_paid(data: dict[str, Any]) -> None:
    assert ending(data, "altered-settlement")["payee_gained_sat"] == 30 * UNIT


def test_the_newer_update_is_final_first(data: dict[str, Any]) -> None:
    case = ending(data, "older-update")
    assert case["newer_lock_time"] < case["older_lock_time"] < case["refund_lock_time"]


# expectations that are not met --------------------------------------------------------------------


def engine_takes_everything(chain: EmbeddedChain, transactions: object) -> None:
    return None


def chain_shows_a_third_transaction(chain: EmbeddedChain, height: int) -> tuple[object, ...]:
    found = REAL_BLOCK_TRANSACTIONS(chain, height)
    return (*found, *found[1:])


REAL_BLOCK_TRANSACTIONS = EmbeddedChain.block_transactions


@pytest.mark.parametrize(
    ("method", "lie", "words", "message"),
    [
        ("submit_block_with", engine_takes_everything, ["--cheat"], "bad-txns-nonfinal, but the answer was accepted"),
        ("block_transactions", chain_shows_a_third_transaction, [], "expected funding and settlement on the chain"),
    ],
)  # fmt: skip
def test_a_failed_expectation_ends_the_demo_with_exit_1(
    method: str,
    lie: Any,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    short_story: Path,
) -> None:
    monkeypatch.setattr(EmbeddedChain, method, lie)
    chain = os.environ["MPCHAN_REGTEST"]
    assert main(["demo", *words, "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    report = json.loads(err)
    assert (report["error"], report["exit_code"]) == ("demo-failed", 1)
    assert message in report["message"]
    assert not any(short_story.iterdir())
    assert os.environ["MPCHAN_REGTEST"] == chain


def test_quiet_is_a_self_test_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short_story: Path
) -> None:
    monkeypatch.delenv("MPCHAN_REGTEST")
    assert main(["-q", "demo"]) == 0
    assert capsys.readouterr() == ("", "")
    assert not any(short_story.iterdir())
    assert "MPCHAN_REGTEST" not in os.environ


# folders, streams, signals ------------------------------------------------------------------------


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert main(["demo", "--dir", str(tmp_path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["error"]) == ("", "demo-directory")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_that_cannot_be_made_is_said_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["demo", "--dir", str(tmp_path / "file" / "below"), "--json"]) == 7
    assert json.loads(capsys.readouterr().err)["error"] == "write-failed"


def test_without_the_engine_the_chains_own_error_comes_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pbk", None)
    assert main(["demo", "--dir", str(tmp_path / "new"), "--json"]) == 8
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["error"]) == ("", "engine-missing")
    assert not any(tmp_path.iterdir())


def in_terminal(home: Path, columns: int, **changes: str) -> str:
    """What a terminal gets from a short demo on both streams."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    names = environment(home, TERM="xterm-256color", **changes)
    names.pop("COLUMNS", None)
    command = [sys.executable, "-c", SHORT_STORY]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=names)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # the other side is closed: how Linux ends a pseudo terminal
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return b"".join(parts).decode()


def test_a_terminal_gets_colours_and_a_bar(tmp_path: Path) -> None:
    text = in_terminal(tmp_path, 120)
    assert COLOUR.search(text)
    assert re.search(r"payments.*/5", STYLE.sub("", text))
    lines = STYLE.sub("", text).replace("\r", "").splitlines()
    assert (
        80 < max(len(line) for line in lines if "payments" not in line and str(tmp_path) not in line) <= 100
    )


def test_no_color_means_no_colour_codes(tmp_path: Path) -> None:
    text = in_terminal(tmp_path, 80, NO_COLOR="1")
    assert not COLOUR.search(text)
    assert "The channel ended 0 : 6." in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment(tmp_path),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("5. 100 payments"):
            assert len(list((tmp_path / "tmp").iterdir())) == 1
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The channel ended" not in out
    assert err.strip() == "mpchan: interrupted"
    assert is_untouched(tmp_path)


def test_ctrl_c_within_a_command_ends_the_whole_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short_story: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(party_payer, "pay", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err.strip() == "mpchan: interrupted"
    assert not any(short_story.iterdir())


def test_ctrl_c_that_python_dropped_is_heeded_after_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short_story: Path
) -> None:
    real = party_payer.pay

    def finaliser_that_drops_it(*words: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return real(*words)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(party_payer, "pay", finaliser_that_drops_it)
    assert main(["demo", "-q"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert not any(short_story.iterdir())


def test_a_reader_that_goes_away_ends_the_demo(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as gone:
        done = subprocess.run(
            [*PROGRAM, "demo"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
            timeout=60,
            check=False,
        )
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    assert is_untouched(tmp_path)


def test_a_stream_that_knows_only_ascii_is_spared_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    show = Transcript(silent=False)
    show.fact(f"the funding {'ab' * 32} is there")
    assert raw.getvalue() == b"   => the funding abababababababab... is there\n"


def test_no_word_is_broken_however_long_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    word = "x" * 90
    Transcript(silent=False).answer(f"what is too long for a line, {word}, stays whole")
    assert word in capsys.readouterr().out


def test_a_long_command_is_broken_before_an_option_as_a_shell_reads_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["mpchan", "--wallet", "my wallet", "fund", "x" * 40, "--refund-out", "y" * 40, "-o", "z"]
    Transcript(silent=False).command(words)
    text = capsys.readouterr().out
    assert text.count(" \\\n") == 1
    assert max(map(len, text.splitlines())) <= 80
    assert shlex.split(text.replace("\\\n", "")) == ["$", *words]
