"""Real money is asked for. No chain backend of this version knows real coins, so a made-up one stands in here."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

import mpchan.chain
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import Coin
from mpchan.chain.manual import ManualChain
from mpchan.cli.main import main
from mpchan.units import Amount, ChainTip, OutPoint, Txid

QUESTION = "This locks 50338 sat of real money until block 800306 at the latest. Go on? [y/N] "


class RichChain(ManualChain):
    """Each script owns one coin; broadcasts are remembered."""

    def __init__(self) -> None:
        super().__init__(ChainTip(800_000, 1_690_000_000), 100, sends=True)

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """A million satoshi each."""
        return [
            Coin(OutPoint(Txid(script[-20:] + bytes(12)), 0), TxOut(Amount(1_000_000), script), 10)
            for script in scripts
        ]

    def broadcast(self, transaction: Transaction) -> None:
        """Nothing is real here."""


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mpchan.chain, "open_chain", lambda *_: RichChain())

    def command(line: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    for line in (
        "--wallet buyer init --network mainnet -q",
        "--wallet buyer address",
        "--wallet seller init --network mainnet -q",
        "--wallet seller payee offer --min-confirmations 1 -o offer.toml",
        "--wallet buyer open offer.toml 50000 -o request.psbt",
        "--wallet seller payee sign-refund request.psbt -o signed.psbt",
    ):
        assert command(line)[0] == 0, line
    return command


def phase(folder: Path) -> str:
    """How far the buyer's one channel is."""
    [path] = (folder / "buyer" / "channels").glob("*.json")
    body: str = json.loads(path.read_text())["channel"]["phase"]
    return body


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n", " y \n"])
def test_yes(run: Run, tmp_path: Path, answer: str) -> None:
    """Only the hex is on stdout; the question is on stderr."""
    code, out, err = run("--wallet buyer payer fund signed.psbt", answer)
    assert code == 0
    assert err.startswith(f"{QUESTION}channel ")
    assert "seed words alone do not recover an open channel" in err
    assert len(Transaction.from_hex(out.removesuffix("\n")).outputs) == 2
    assert phase(tmp_path) == "funded"
    assert run("--wallet buyer payer fund signed.psbt")[:2] == (0, out)  # it is out already: not asked again


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yesterday\n", "j\n"])
def test_anything_else_is_no(run: Run, tmp_path: Path, answer: str) -> None:
    """Nothing is signed, not even the refund; the command can be run again."""
    code, out, err = run("--wallet buyer payer fund signed.psbt -o out --refund-out refund", answer)
    assert (code, out) == (5, "")
    assert err == (
        f"{QUESTION}mpchan: error: funding on mainnet was not confirmed\nmpchan: hint: answer y, or add --yes\n"
    )
    assert phase(tmp_path) == "opening"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "refund").exists()
    assert run("--wallet buyer payer fund signed.psbt --yes -q")[0] == 0


def test_a_message_on_standard_input_leaves_nobody_to_ask(run: Run, tmp_path: Path) -> None:
    signed = (tmp_path / "signed.psbt").read_text()
    code, out, err = run("--wallet buyer payer fund -", signed)
    assert (code, out) == (5, "")
    assert "mpchan: error: funding on mainnet was not confirmed\n" in err
    assert run("--wallet buyer payer fund - --yes", signed)[0] == 0


@pytest.mark.parametrize("flags", ["--yes", "--yes --json", "--yes -q"])
def test_with_yes_nobody_is_asked(run: Run, flags: str) -> None:
    code, out, err = run(f"--wallet buyer payer fund signed.psbt {flags}")
    assert code == 0
    assert "Go on?" not in err + out


def test_with_json_nobody_is_asked_and_the_answer_is_no(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--wallet buyer payer fund signed.psbt --json", "y\n")
    assert (code, out) == (5, "")
    assert json.loads(err) == {
        "error": "not-confirmed",
        "message": "funding on mainnet was not confirmed",
        "hint": "answer y, or add --yes",
        "exit_code": 5,
    }
    assert phase(tmp_path) == "opening"
