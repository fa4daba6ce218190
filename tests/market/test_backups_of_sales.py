"""What a sale needs on both sides is in a backup: the purchase, and the seller's certificate with its key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.chain.node import free_port
from support.market.market import Market

from mpchan.errors import NotPossible
from mpchan.http.certificates import own_certificate
from mpchan.party.backup import backup, restore
from mpchan.transport.base import Answer, Refusal, Request
from mpchan.wallet.purchases import Purchases


def test_a_purchase_goes_on_from_a_backup(market: Market, tmp_path: Path) -> None:
    def bend(request: Request, answer: Answer) -> Answer:
        refused = request.kind == "refund"
        return Refusal(b'{"error": "x", "message": "y", "exit_code": 5}') if refused else answer

    market.bend = bend
    with pytest.raises(NotPossible):
        market.buy()
    [path] = Purchases(market.pair.payer.directory).files()
    backup(market.pair.payer, tmp_path / "copy")
    restore((tmp_path / "copy").read_bytes(), tmp_path / "restored")
    [again] = Purchases(tmp_path / "restored").files()
    assert (again.name, again.read_bytes()) == (path.name, path.read_bytes())


def test_a_seller_shows_the_same_certificate_after_a_restoration(tmp_path: Path) -> None:
    """The command itself makes it, where the backup looks for it; what it listens for is of no use here."""
    run = [sys.executable, "-m", "mpchan", "--wallet", str(tmp_path / "seller")]
    subprocess.run([*run, "init", "--chain", "none"], check=True, capture_output=True)
    (tmp_path / "film").write_bytes(b"film")
    words = ["payee", "sell", "film", "--price-per-piece", "1000", "--fee-rate", "2", "-o", "offer.toml"]
    done = subprocess.run(
        [*run, "--json", *words, "--listen", f"127.0.0.1:{free_port()}"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert json.loads(done.stderr)["error"] == "no-backend"
    assert not list((tmp_path / "seller" / "offers").iterdir())
    before = own_certificate(tmp_path / "seller").fingerprint
    subprocess.run([*run, "backup", "-o", str(tmp_path / "copy")], check=True, capture_output=True)
    restore((tmp_path / "copy").read_bytes(), tmp_path / "restored")
    made = (tmp_path / "restored" / "listening.pem").stat()
    assert made.st_mode & 0o777 == 0o600
    assert own_certificate(tmp_path / "restored").fingerprint == before
    assert (tmp_path / "restored" / "listening.pem").stat().st_ino == made.st_ino
