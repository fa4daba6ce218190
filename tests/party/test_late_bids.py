"""What a watcher does not pay: for nothing at stake, or for blocks that came before it offered anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import Pair
from support.pins import child_of
from support.protocol import scheme_of
from support.watch import look, watcher

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain, mempool
from mpchan.units import ChainTip, FeeRate, Lag
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

LONG = {"settle_window": 144, "min_refund_delay": 163, "max_refund_delay": 400}


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain)


def children_fee(wallet: Wallet, parent: Transaction) -> int:
    """What the dearest child pays that a wallet has made for a transaction."""
    children = Wallet.open(wallet.directory).sent.children_of(parent.txid)
    return max((child.fee.sat for child in children), default=0)


def test_a_payer_does_not_give_its_change_for_a_close_that_comes_late(pair: Pair) -> None:
    name = pair.open(900_000, **LONG)
    pair.accept(pair.pay(name, 20_000))
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value + 73)
    close = Transaction.from_hex(pair.settle(name=name).hex)  # pays the very estimate
    look(pair.payer, pair.chain)
    assert children_fee(pair.payer, close) < 1_000


def test_a_payer_does_not_give_all_of_its_change_in_the_last_quarter(pair: Pair) -> None:
    name = pair.open(100_000, **LONG)
    pair.accept(pair.pay(name, 20_000))
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value + 110)
    close = Transaction.from_hex(pair.settle(name=name).hex)
    look(pair.payer, pair.chain)
    assert children_fee(pair.payer, close) < 1_000


def test_a_late_refund_does_not_pay_for_the_blocks_before_it_was_sent(pair: Pair) -> None:
    name = pair.open(900_000, **LONG)
    pair.mine_to(pair.terms(name).refund_lock_time.value + 200)
    watching = watcher(pair.payer, pair.chain)
    for _ in range(3):
        watching.round(lambda finding: None)
    refund = pair.payer_record(name).state.funded.refund
    assert children_fee(pair.payer, refund) < 1_000


def test_a_late_close_does_not_pay_before_a_block_comes(pair: Pair) -> None:
    name = pair.open(900_000, **LONG)
    pair.accept(pair.pay(name, 800_000))
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value + 30)
    watching = watcher(pair.payee, pair.chain)
    for _ in range(3):
        watching.round(lambda finding: None)
    close = pair.payee_record(name).state.active.best.transaction
    assert children_fee(pair.payee, close) < 1_000


class Behind:
    """A chain that is behind its network, by this machine's clock alone."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain = chain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    def tip(self) -> ChainTip:
        tip = self._chain.tip()
        return replace(tip, lag=Lag("the clock says so", tip.height + 10_000, tip.median_time))


def test_a_clock_that_is_ahead_makes_nobody_pay(pair: Pair) -> None:
    """86. The close goes out long before L_0, and pays what any other does."""
    name = pair.open(900_000, settle_window=144, min_refund_delay=320, max_refund_delay=400, step=40)
    for amount in (700_000, 1_000, 1_000):
        pair.accept(pair.pay(name, amount))
    best = pair.payee_record(name).state.best
    pair.mine_to(best.transaction.lock_time)
    assert scheme_of(pair.terms(name)).deadline.value - pair.chain.tip().height > 100
    watching = watcher(pair.payee, Behind(pair.chain))
    for _ in range(2):
        [finding] = watching.round(lambda finding: None).findings
    assert finding.status == "settling"
    assert children_fee(pair.payee, best.transaction) < 1_000


class Dear(Behind):
    """A chain whose server says that fees are as high as it is ever believed."""

    def tip(self) -> ChainTip:
        return self._chain.tip()

    def fee_rate(self) -> FeeRate:
        return FeeRate(1_000_000)


@pytest.mark.parametrize("role", ["payee", "payer"])
def test_an_estimate_above_the_limit_is_not_believed_at_once(pair: Pair, role: str) -> None:
    """`max_bump_fee_rate` is for what blocks have shown; before that the limit is that of all else, 200 sat/vB."""
    name = pair.open(900_000)
    chain: Any = Dear(pair.chain)
    if role == "payee":
        close = Transaction.from_hex(pair.settle(pair.settlement(name, 800_000)).hex)
        look(pair.payee, chain)
        fee = children_fee(pair.payee, close)
    else:
        pair.mine_to(pair.terms(name).refund_lock_time.value)
        look(pair.payer, chain)
        fee = children_fee(pair.payer, pair.payer_record(name).state.funded.refund)
    assert 40_000 < fee < 56_000


def test_a_child_that_comes_late_is_answered_from_then_on(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close has waited at the estimate for ten blocks: nobody pays for those when something gets in the way."""
    name = pair.open(900_000, **LONG)
    message = pair.settlement(name, 800_000)
    monkeypatch.setattr(mempool, "MIN_FEE_RATE", FeeRate(3_000))
    pair.accept(message)
    watching = watcher(pair.payee, pair.chain)
    watching.round(lambda finding: None)
    close = pair.payee_record(name).state.settlement.transaction
    assert 0 < children_fee(pair.payee, close) < 2_000
    for _ in range(10):
        assert pair.chain.submit_block_with([]) is None
        watching.round(lambda finding: None)
    pair.chain.broadcast(child_of(pair.payer, close, 2_500))
    rounds = []
    for _ in range(3):
        watching.round(lambda finding: None)
        rounds.append(children_fee(pair.payee, close))
        assert pair.chain.submit_block_with([]) is None
    assert rounds[0] < 8_000  # what it takes to outbid it, if it has to be
