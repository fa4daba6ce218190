"""A channel that any wallet funds by paying an address, and its way back from words and offer, on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chain.grounds import Ground, Traders
from support.chain.story import BUYER, SELLER

from mpchan.wallet.wallet import Wallet

TERMS = "--scheme taproot --fee-rate 2 --settle-window 6 --min-refund-delay 25 --max-refund-delay 80"
LOOK = f"{BUYER} payer open offer.toml --external"
AGAIN = "mpchan --wallet again"


@pytest.fixture
def awaiting(ground: Ground, tmp_path: Path) -> Traders:
    """An offer in ``offer.toml``, and an address under it; the buyer has no coin."""
    shell = Traders(tmp_path / "folder", ground, in_process=True)
    for wallet in ("buyer", "seller"):
        shell.ok(f"mpchan --wallet {wallet} init {ground.init}")
    shell.ok(f"{SELLER} payee offer {TERMS} -o offer.toml")
    view = shell.json(f"{BUYER} payer open offer.toml 50000 --external")
    shell.names["n:offer"] = view["offer_id"]
    shell.names["address:channel"] = view["address"]
    return shell


def pay(shell: Traders, amount: int) -> str:
    """Somebody pays; the txid, which waits."""
    before = shell.ground.mempool()
    shell.ground.pay(shell.names["address:channel"], amount)
    shell.ground.settle_down()
    [txid] = shell.ground.mempool() - before
    return txid


def whats(shell: Traders, command: str = LOOK) -> list[tuple[str, int | None]]:
    return [(each["what"], each["confirmations"]) for each in shell.json(command)["arrived"]]


def restored_from_words(shell: Traders) -> None:
    """The wallet ``again``, with the buyer's words and nothing else."""
    words = Wallet.open(shell.folder / "buyer").keys.seed_words()
    shell.in_process = False
    shell.ok(f"{AGAIN} init {shell.ground.init} --restore", stdin=words.encode())
    shell.in_process = True


def test_paid_and_closed(awaiting: Traders) -> None:
    shell = awaiting
    amount = shell.json(LOOK)["amount_sat"]
    txid = pay(shell, amount)
    if shell.ground.name == "bitcoind":  # a node tells it once a block holds it
        assert whats(shell) == []
        assert whats(shell, f"{BUYER} payer open offer.toml --funding {txid}") == [("channel", 0)]
    assert whats(shell) == [("channel", 0)]
    shell.ground.mine()
    shell.ground.settle_down()
    assert whats(shell, f"{BUYER} payer open --funding {txid}") == [("channel", 1)]
    assert (
        shell.json(f"{BUYER} wait {shell.names['n:offer']} --for confirmed --timeout 0")["status"] == "open"
    )
    shell.ok(f"{BUYER} pay 20000 -o update.psbt")
    shell.ok(f"{SELLER} payee accept update.psbt")
    shell.ok(f"{SELLER} settle -o close.hex")
    shell.play("$ mine 1")
    assert shell.statuses() == ("closed", "closed")
    assert shell.sums() == (30_000, 20_000)


def test_seen_in_a_block_by_watch_and_reorganised(awaiting: Traders) -> None:
    """A payment that a reorganisation sends back to the mempool is the same payment again in another block."""
    shell = awaiting
    pay(shell, shell.json(LOOK)["least_sat"])
    shell.ground.mine(2)
    shell.ground.settle_down()
    assert len(shell.json(f"{BUYER} list")["channels"]) == 1
    shell.ground.reorganise(2)
    shell.ground.settle_down()
    assert shell.run(f"{BUYER} watch --once --json").code == 0
    assert whats(shell) == [("channel", 0)]
    shell.ground.mine()
    shell.ground.settle_down()
    assert whats(shell) == [("channel", 1)]
    second = pay(shell, 7_000)
    shell.ground.mine()
    shell.ground.settle_down()
    assert shell.run(f"{BUYER} watch --once --json").code == 0
    assert whats(shell) == [("channel", 2), ("second", 1)]
    refund = shell.json(f"{BUYER} show {second}")["refund_lock_time"]
    shell.ground.mine(refund - shell.ground.tip().height)
    shell.ground.settle_down()
    assert shell.run(f"{BUYER} watch --once --json").code == 0
    shell.play("$ mine 1")
    assert {line["status"] for line in shell.json(f"{BUYER} list")["channels"]} == {"refunded"}


def test_words_and_offer_bring_it_back(awaiting: Traders) -> None:
    shell = awaiting
    amount = shell.json(LOOK)["amount_sat"]
    pay(shell, amount)
    shell.ground.mine()
    second = pay(shell, 7_000)  # waits still
    third = pay(shell, 330)
    shell.ok(LOOK)
    shell.ok(f"{BUYER} pay 20000 -o update.psbt")
    shell.ok(f"{SELLER} payee accept update.psbt")
    restored_from_words(shell)
    recover = f"{AGAIN} payer recover offer.toml"
    found = shell.json(recover)
    told = {
        each["outpoint"].partition(":")[0]: (each["what"], each["value_sat"]) for each in found["arrived"]
    }
    assert len(told) == 3
    assert (told.pop(second), told.pop(third)) == (("second", 7_000), ("dust", 330))
    assert list(told.values()) == [("channel", amount)]
    assert shell.json(recover) == found
    [channel] = [each["channel"] for each in found["arrived"] if each["what"] == "channel"]
    refused = shell.run(f"{AGAIN} pay 100 -c {channel} --json")
    assert (refused.code, "needs-sync" in refused.err) == (5, True)
    shell.ground.mine()
    refund = found["arrived"][0]["refund_lock_time"]
    shell.ground.mine(refund - shell.ground.tip().height)
    shell.ground.settle_down()
    for each in found["arrived"]:
        if each["channel"] is not None:
            shell.ok(f"{AGAIN} payer refund -c {each['channel']}")
    shell.play("$ mine 1")
    back = sum(each["refund_sat"] for each in found["arrived"])
    assert shell.json(f"{AGAIN} balance")["confirmed_sat"] == back
