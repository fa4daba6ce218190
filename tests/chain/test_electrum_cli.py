"""The program on a real Electrum server: what a lying one does to a channel, what is loaded, what people are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.electrum_server import CERTIFICATES, ElectrumServer
from support.chain.grounds import ElectrumGround, Traders
from support.chain.lying import Liar, lying

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
LISTER = """
import json, sys
from mpchan.cli.main import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump([code, sorted(sys.modules)], file)
"""


@pytest.fixture
def liar(electrum: ElectrumServer) -> Iterator[Liar]:
    with lying(electrum.port) as server:
        yield server


@pytest.fixture
def traders(electrum: ElectrumServer, liar: Liar, tmp_path: Path) -> Traders:
    """The buyer asks an honest server, the seller one that may lie."""
    shell = Traders(tmp_path / "folder", ElectrumGround(electrum))
    shell.ok(f"{BUYER} init --chain electrum --electrum {electrum.name}")
    shell.ok(f"{SELLER} init --chain electrum --electrum {liar.name}")
    return shell


def test_a_funding_that_is_only_called_confirmed(
    traders: Traders, liar: Liar, electrum: ElectrumServer
) -> None:
    """It was, until a reorganisation took its block. The seller delivers nothing for it, whatever the server says."""
    traders.coin()
    traders.ok(f"{SELLER} payee offer -o offer.toml")
    traders.ok(f"{BUYER} open offer.toml 50000 -o request.psbt")
    traders.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    traders.ok(f"{BUYER} payer fund signed.psbt -o funding.hex")
    electrum.node.mine()
    electrum.settle()
    traders.ok(f"{BUYER} pay 1000 -o update.psbt")
    height = electrum.node.height
    txid = traders.json(f"{BUYER} show")["funding"]["txid"]
    proof = electrum.ask("blockchain.transaction.get_merkle", txid, height)
    traders.ground.reorganise(1)
    electrum.settle()
    early = traders.fails(f"{SELLER} payee accept update.psbt", 6, "unconfirmed")
    assert "found 0" in early["message"]
    liar.lies["blockchain.scripthash.get_history"] = lambda parameters, history: [
        {"tx_hash": txid, "height": height}
    ]
    liar.swallowed["blockchain.transaction.get_merkle"] = lambda parameters: proof
    error = traders.fails(f"{SELLER} payee accept update.psbt", 8, "proof-refused")
    assert liar.name in error["message"]
    assert txid in error["message"]
    liar.lies.clear()
    liar.swallowed.clear()
    electrum.node.mine()
    electrum.settle()
    assert traders.json(f"{SELLER} payee accept update.psbt")["paid_sat"] == 1000


def test_a_certificate_that_has_changed(traders: Traders, electrum: ElectrumServer) -> None:
    traders.ok(f"mpchan --wallet third init --chain electrum --electrum {electrum.tls_name}")
    traders.ok("mpchan --wallet third balance")
    [kept] = (traders.folder / "third" / "certificates").iterdir()
    kept.write_bytes((CERTIFICATES / "other.pem").read_bytes())
    error = traders.fails("mpchan --wallet third balance", 8, "certificate-changed")
    assert "SHA-256" in error["message"]
    assert kept.name in error["hint"]


def test_heavy_modules_are_left_alone(traders: Traders, electrum: ElectrumServer) -> None:
    """Without TLS and proxy neither is loaded, and asyncio never is."""
    (traders.folder / "lister.py").write_text(LISTER)
    traders.ok(["python", "lister.py", "modules.json", "--wallet", "buyer", "balance", "--json"])
    code, modules = json.loads(traders.text("modules.json"))
    assert code == 0
    assert "mpchan.chain.electrum.view" in modules
    unwanted = ("asyncio", "ssl", "http", "email", "logging", "decimal", "python_socks", "concurrent", "rich")
    assert not [name for name in modules if name.split(".")[0] in unwanted]
