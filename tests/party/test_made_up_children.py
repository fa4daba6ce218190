"""67. A server shows a child of the other party's output of a close, which nobody ever sent and no node would take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import Pair
from support.watch import look

from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import OutputStatus, Spend
from mpchan.chain.embedded import EmbeddedChain, mempool
from mpchan.units import Amount, FeeRate, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

MADE_UP = OutPoint(Txid(b"\x07" * 32), 0)


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain)


class Lying:
    """A chain that shows a child, and the coin that pays for it."""

    def __init__(self, chain: EmbeddedChain, child: Transaction, coin: TxOut) -> None:
        self._chain, self._child, self._coin = chain, child, coin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    def output(self, outpoint: OutPoint, **words: Any) -> OutputStatus | None:
        if outpoint == MADE_UP:
            return OutputStatus(self._coin, 0)
        seen = self._chain.output(outpoint, **words)
        if seen is not None and outpoint == self._child.inputs[0].outpoint:
            return replace(seen, spend=Spend(self._child.txid, 0, self._child))
        return seen


def child_fee(wallet: Wallet, parent: Transaction) -> int:
    children = Wallet.open(wallet.directory).sent.children_of(parent.txid)
    return max((child.fee.sat for child in children), default=0)


def made_up(pair: Pair, close: Transaction, fee: int, padding: int) -> Lying:
    """A child with this fee, for which a coin pays that is nowhere."""
    [(vout, change)] = [(at, out) for at, out in enumerate(close.outputs) if out.value == Amount(100_000)]
    coin = TxOut(Amount(2_000_000_000), change.script_pubkey)
    left = TxOut(coin.value + change.value - Amount(fee), change.script_pubkey)
    sources = (TxIn(OutPoint(close.txid, vout), 0xFFFF_FFFD), TxIn(MADE_UP, 0xFFFF_FFFD))
    outputs = (left, TxOut(Amount(0), b"\x6a" + bytes(padding))) if padding else (left,)
    child = pair.payer.keys.sign_coins(Transaction(3, sources, outputs, 0), [change, coin])
    return Lying(pair.chain, child, coin)


def closed(pair: Pair) -> Transaction:
    message = pair.settlement(pair.open(900_000), 800_000)
    return Transaction.from_hex(pair.settle(message).hex)


def test_one_that_seems_to_pay_for_all_is_not_relied_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    close = closed(pair)
    monkeypatch.setattr(mempool, "MIN_FEE_RATE", FeeRate(20_000))
    look(pair.payee, made_up(pair, close, 1_500_000_000, 0))
    assert 5_000 < child_fee(pair.payee, close) < 20_000


def test_one_that_no_node_relays_is_not_bid_against(pair: Pair) -> None:
    close = closed(pair)
    look(pair.payee, made_up(pair, close, 99_000, 90_000))
    assert child_fee(pair.payee, close) < 1_000
