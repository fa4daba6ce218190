"""A taproot channel on every backend: the story, both endings, and a funding that a reorganisation takes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.chain.electrum_server import eventually
from support.chain.grounds import COIN, Ground, Traders
from support.chain.story import BUYER, CAPACITY, FUNDING_FEE, SELLER
from support.judge import judge_wallet
from support.transcript import WALLETS

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel import payer
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

OFFER = (
    f"{SELLER} payee offer --scheme taproot --fee-rate 2 --settle-window 6 --min-refund-delay 25 "
    "--max-refund-delay 90 -o offer.toml"
)
OPEN = f"{BUYER} open offer.toml {CAPACITY} --funding-fee-rate 2 -o funding.hex"
REFUND_FEE = 2 * 126


@pytest.fixture
def traders(ground: Ground, tmp_path: Path) -> Traders:
    """Two wallets, and an offer of the seller's."""
    shell = Traders(tmp_path / "folder", ground, in_process=True)
    shell.init()
    shell.ok(OFFER)
    return shell


def opened(traders: Traders) -> dict[str, Any]:
    """The funding is in a block; what ``open`` said."""
    found: dict[str, Any] = traders.json(OPEN)
    mine(traders)
    return found


def mine(traders: Traders, count: int = 1) -> None:
    traders.ground.mine(count)
    traders.ground.settle_down()


def pay(traders: Traders, total: int) -> None:
    traders.ok(f"{BUYER} pay --total {total} -o update.psbt")
    traders.ok(f"{SELLER} payee accept update.psbt")


def ended(traders: Traders, buyer: int, seller: int) -> None:
    assert traders.sums() == (buyer, seller)
    for wallet in WALLETS:
        judge_wallet(traders.folder / wallet)


def funding_of(traders: Traders) -> Any:
    """The buyer's channel while it is funded."""
    wallet = Wallet.open(traders.folder / "buyer")
    record: Any = wallet.channels.load(wallet.channels.names()[0])
    return record.state


def test_a_claim_is_paid_in_the_next_block(traders: Traders) -> None:
    reserve = opened(traders)["funding_sat"] - CAPACITY
    pay(traders, 1_000)
    pay(traders, 3_000)
    assert traders.statuses() == ("open", "open")
    close = traders.json(f"{SELLER} settle")["txid"]
    assert close in traders.ground.mempool()
    mine(traders)
    assert traders.statuses() == ("closed", "closed")
    ended(traders, COIN - FUNDING_FEE - reserve - 3_000, 3_000)


def test_a_refund_at_its_time(traders: Traders) -> None:
    """A transaction of the payer's own making with the same leaf would do as well; here it is the stored one."""
    refund_at = opened(traders)["refund_lock_time"]
    mine(traders, refund_at - 1 - traders.ground.tip().height)
    traders.fails(f"{BUYER} refund", 6, "refund-locked")
    mine(traders)
    traders.ok(f"{BUYER} refund")
    eventually(lambda: traders.json(f"{BUYER} show")["status"], "refunding")
    mine(traders)
    assert traders.json(f"{BUYER} show")["status"] == "refunded"
    ended(traders, COIN - FUNDING_FEE - REFUND_FEE, 0)


def test_a_reorganisation_makes_the_funding_unconfirmed(traders: Traders) -> None:
    """Nothing is taken or sent before it is in a block again; what the seller holds is as good as before."""
    reserve = opened(traders)["funding_sat"] - CAPACITY
    pay(traders, 1_000)
    traders.ground.reorganise(1)
    traders.ground.settle_down()
    eventually(traders.statuses, ("funding", "funding"))
    traders.fails(f"{BUYER} pay 1", 6, "unconfirmed")
    traders.fails(f"{SELLER} settle", 6, "funding-unconfirmed")
    traders.ok(OPEN)
    mine(traders)
    pay(traders, 2_000)
    traders.ok(f"{SELLER} settle")
    mine(traders)
    ended(traders, COIN - FUNDING_FEE - reserve - 2_000, 2_000)


def test_a_reorganisation_replaces_the_funding(traders: Traders) -> None:
    """By another spend of its coin: the seller is told that its money is gone, the buyer gives the channel up."""
    traders.ground.mine()
    traders.ground.settle_down()
    channel = opened(traders)["channel"]
    pay(traders, 1_000)
    state = funding_of(traders)
    assert isinstance(state, payer.Funded)
    assert state.funding is not None
    keys = Wallet.open(traders.folder / "buyer").keys
    outputs = (TxOut(Amount(COIN - 1_000), keys.script("receive", 0)),)
    instead: Transaction = keys.sign_coins(
        replace(state.funding.without_witness(), outputs=outputs), state.spent
    )
    traders.ground.reorganise(1, [instead])
    traders.ground.settle_down()
    eventually(lambda: traders.ask(f"{SELLER} watch --once").code, 5)
    assert "funding-gone" in traders.run(f"{SELLER} watch --once --json").out
    assert "funding-void" in traders.run(f"{BUYER} watch --once --json").out
    traders.ok(f"{BUYER} payer abandon --channel {channel}")
    assert traders.json(f"{BUYER} balance")["confirmed_sat"] == COIN - 1_000
