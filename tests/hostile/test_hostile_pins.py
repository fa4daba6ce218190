"""A close that is held up, and one at a rate that nobody relays any more.

The numbers are those of the list in ``support.hostile.LINES``. Here both parties use the embedded chain;
``tests/chain/test_pins_on_nodes.py`` plays the same on real nodes, with miners that take more than any estimate says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair, balance_sat
from support.pins import child_of, heir_of, version3
from support.watch import look

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain, mempool
from mpchan.errors import ChainError
from mpchan.party import views
from mpchan.party.watch.bump import bump
from mpchan.units import FeeRate
from mpchan.wallet.wallet import Wallet

__all__ = ["version3"]


@pytest.fixture(params=["decrementing", "taproot"])
def pair(
    chain_directory: Path, tmp_path: Path, version3: None, request: pytest.FixtureRequest
) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain, scheme=request.param)


def paid_to_l0(pair: Pair, paid: int) -> str:
    """A channel at L_0, in which so much was paid."""
    name = pair.open()
    pair.accept(pair.pay(name, paid))
    pair.mine_to(pair.terms(name).schedule.deadline.value)
    return name


def as_many_as_possible(pair: Pair, wallet: Wallet, child: Transaction) -> str:
    """A child, its child and so on, up to the first that is refused; why it was."""
    try:
        for _ in range(70):
            pair.chain.broadcast(child)
            child = heir_of(wallet, child, 150)
    except ChainError as error:
        return error.message
    return "nothing was refused"


@pytest.mark.parametrize(
    "attack", ["63 as many children as are taken", "63 one of the largest size", "63 a child of version 2"]
)
@pytest.mark.parametrize("attacker", ["payer", "payee"])
@pytest.mark.parametrize("answer", ["bump", "watch"])
def test_a_close_that_is_held_up_is_confirmed_in_the_settle_window(
    pair: Pair, attack: str, attacker: str, answer: str
) -> None:
    """Its price stays within half of what is at stake."""
    name = paid_to_l0(pair, 50_000)
    pair.settle(name=name)
    close = pair.payee_record(name).state.active.best.transaction
    theirs, ours = (pair.payer, pair.payee) if attacker == "payer" else (pair.payee, pair.payer)
    child = child_of(theirs, close, 1_500)
    if "largest" in attack:
        child = child_of(theirs, close, 8_700, vsize=983)
    elif "version" in attack:
        child = child_of(theirs, close, 8_700, version=2)
    assert "TRUC-violation" in as_many_as_possible(pair, theirs, child)
    before = balance_sat(ours, pair.chain)
    if answer == "bump":
        bump(ours, pair.chain, name, FeeRate(20_000))
    else:
        while not pair.terms(name).refund_lock_time.is_final(pair.chain.tip()):
            assert pair.chain.submit_block_with([]) is None
            look(ours, pair.chain)
    paying = pair.chain.mempool()
    assert len(paying) == 2
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(ours, pair.chain) - before >= 25_000


@pytest.mark.parametrize("role", ["64 the payee's close", "64 the payer's refund"])
def test_what_nobody_relays_any_more_is_brought_into_a_block(
    pair: Pair, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is at the keyboard."""
    name = paid_to_l0(pair, 50_000) if "payee" in role else pair.open()
    wallet = pair.payee if "payee" in role else pair.payer
    if "payer" in role:
        pair.mine_to(pair.payer_record(name).terms.refund_lock_time.value)
    monkeypatch.setattr(mempool, "MIN_FEE_RATE", FeeRate(20_000))
    done = look(wallet, pair.chain)
    assert done.exit_code == 0
    assert len(pair.chain.mempool()) == 2
    pair.chain.mine(1)
    assert views.show(wallet, pair.chain, name).status == ("closed" if "payee" in role else "refunded")
