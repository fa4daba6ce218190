"""``mpchan bump`` on every backend, chosen by the wallets' settings alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.bitcoind import FULL, fill
from support.chain.electrum_server import ELECTRUMX, NO_ELECTRUMX, node_options, serving
from support.chain.grounds import COIN, ElectrumGround, Ground, Traders
from support.chain.node import BITCOIND, NO_NODE, running
from support.chain.story import BUYER, FUNDING_FEE, OPEN, RESERVE, SELLER, TERMS


def opened(shell: Traders) -> Traders:
    """A channel of 100,000 sat, with a settlement of 60,000 in ``settlement.psbt``."""
    shell.init()
    shell.ok(f"{SELLER} payee offer {TERMS} -o offer.toml")
    shell.ok(f"{BUYER} {OPEN} -o request.psbt")
    shell.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    shell.ok(f"{BUYER} payer fund signed.psbt -o funding.hex")
    shell.play("$ mine 1")
    shell.ok(f"{BUYER} settle --total 60000 -o settlement.psbt")
    return shell


def test_both_parties_bump_a_settlement_that_waits(ground: Ground, tmp_path: Path) -> None:
    shell = opened(Traders(tmp_path / "folder", ground, in_process=True))
    settled = shell.json(f"{SELLER} payee settle settlement.psbt -o close.hex")
    assert ground.mempool() == {settled["txid"]}
    sellers = shell.json(f"{SELLER} bump --fee-rate 10")
    better = shell.json(f"{SELLER} bump --fee-rate 30")
    assert {sellers["txid"], better["txid"]} == {settled["txid"]}
    assert ground.mempool() == {settled["txid"], better["child_txid"]}
    assert shell.json(f"{SELLER} bump --fee-rate 30") == better
    # a close of version 3 has one child at a time: whoever pays more has the place
    shell.fails(f"{BUYER} bump --fee-rate 20", 5, "bump-needless")
    buyers = shell.json(f"{BUYER} bump --fee-rate 40")
    assert ground.mempool() == {settled["txid"], buyers["child_txid"]}
    shell.play("$ mine 1")
    left = COIN - RESERVE - FUNDING_FEE - 60_000 - buyers["fee_sat"]
    assert shell.sums() == (left, 60_000)
    for wallet in (BUYER, SELLER):
        assert shell.run(f"{wallet} bump --channel {settled['channel']} --fee-rate 50 --json").error[
            "error"
        ] == ("already-confirmed")


@pytest.fixture
def full_electrum(tmp_path: Path) -> Iterator[ElectrumGround]:
    """An Electrum server whose node's mempool can be filled."""
    if BITCOIND is None:
        pytest.skip(NO_NODE)
    if not ELECTRUMX:
        pytest.skip(NO_ELECTRUMX)
    with (
        running(tmp_path / "node", *node_options(), FULL) as node,
        serving(node, tmp_path / "server") as server,
    ):
        yield ElectrumGround(server)


def test_a_stuck_settlement_behind_an_electrum_server(full_electrum: ElectrumGround, tmp_path: Path) -> None:
    """The server passes the package on to its node, which refuses the settlement alone."""
    shell = opened(Traders(tmp_path / "folder", full_electrum, in_process=True))
    fill(full_electrum.node)
    full_electrum.settle_down()
    error = shell.fails(f"{SELLER} payee settle settlement.psbt", 8, "rejected")
    assert error["hint"] == "`mpchan bump CHANNEL --fee-rate R` pays for it with a child"
    done = shell.json(f"{SELLER} bump --fee-rate 20")
    assert {done["txid"], done["child_txid"]} <= full_electrum.mempool()
    block = full_electrum.node.call("getblock", full_electrum.node.mine(1)[0], 1)
    full_electrum.settle_down()
    assert {done["txid"], done["child_txid"]} <= set(block["tx"])
    assert shell.statuses() == ("closed", "closed")
