"""A seller that is there but cannot deliver, and a buyer that wants no more: what is not paid comes back at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.cheats import data, refusing
from support.market.market import PRICE, Market, each_scheme, honest, piece_of, unheard
from support.market.processes import MIB, Shop, make_film, opened
from support.party import balance_sat

from mpchan.channel import payer
from mpchan.errors import NotPossible, TooEarly
from mpchan.market.standing import going_purchase
from mpchan.transport.base import Answer, Request


def stopped(market: Market, kind: str, count: int = 1) -> None:
    """The buyer ends, and the seller has answered the ``count``-th request of a kind."""
    market.bend = unheard(lambda request: request.kind == kind and len(market.asked(kind)) >= count)
    with pytest.raises(TooEarly):
        market.buy()
    market.bend = honest
    market.restart()


def changing(market: Market, at: int) -> None:
    """The file on sale is another one from the ``at``-th payment on; the seller has not taken that."""

    def bend(request: Request, answer: Answer) -> Answer:
        if request.kind == "update" and len(market.asked("update")) == at - 1:
            piece = piece_of(answer)
            answer = data(market, market.file.read_bytes()[piece.offset :][: piece.length])
            market.file.rename(market.file.with_name("put away"))
            market.file.write_bytes(os.urandom(market.sale.length))
        return answer

    market.bend = bend


def is_going(market: Market) -> bool:
    return going_purchase(market.pair.payer, market.sale.root, str(market.output)) is not None


@each_scheme
def test_a_file_that_is_gone(market: Market) -> None:
    """The patience ends, and the channel closes with what is paid: no lock time is waited for.

    The third payment was refused, and counts: the seller has its signature. With the file back, its piece comes first.
    """
    before = balance_sat(market.pair.payer, market.chain)
    changing(market, at=3)
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert (caught.value.slug, "(file-changed)" in caught.value.message) == ("seller-refused", True)
    assert "the close pays the other 2000 sat back; once a block holds it" in str(caught.value.hint)
    assert len({request.body for request in market.asked("update")}) == 3
    assert (
        market.asked("update")[-1] != market.asked("update")[2]
    )  # asked again, as long as the patience lasts
    market.chain.mine(1)
    assert market.pair.status(market.name) == ("closed", "closed")
    terms = market.pair.terms(market.name)
    fees = before - 3 * PRICE - balance_sat(market.pair.payer, market.chain)
    assert 0 < fees < 1_000
    assert market.received == 3 * PRICE
    assert terms.refund_lock_time.value > market.chain.tip().height + 30
    market.file.with_name("put away").replace(market.file)
    market.bend = honest
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert (
        caught.value.slug,
        "the same command buys the rest in another channel" in str(caught.value.hint),
    ) == ("channel-closed", True)
    assert market.lines[-1].asked[-1].kind == "piece"
    market.buy()
    assert market.is_whole()
    paid = [market.pair.payer_record(name).paid.sat for name in market.pair.payer.channels.names()]
    assert sorted(paid) == [2 * PRICE, 3 * PRICE]


def test_a_file_that_is_put_back_in_time(market: Market) -> None:
    """Nobody closes anything: it is the same purchase in the same channel."""
    market.patience = 30.0
    changing(market, at=3)
    bend = market.bend

    def mended(request: Request, answer: Answer) -> Answer:
        if len(market.asked("update")) == 4:
            market.file.with_name("put away").replace(market.file)
        return bend(request, answer)

    market.bend = mended
    assert market.buy().paid_sat == 5 * PRICE
    assert market.is_whole()
    assert market.paid == market.received == 5 * PRICE


@each_scheme
def test_a_settlement_that_the_seller_does_not_take(market: Market) -> None:
    """The error is the first one, and the refund is what remains; the next time the seller is asked again."""

    def bend(request: Request, answer: Answer) -> Answer:
        return refusing() if request.kind == "settlement" or len(market.asked("update")) > 2 else answer

    market.bend = bend
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert "the other 2000 sat come back from block" in str(caught.value.hint)
    assert isinstance(market.pair.payer_record(market.name).state, payer.Settling)
    market.bend = honest
    market.restart()
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert caught.value.slug == "channel-settling"
    assert "the close pays the other 2000 sat back" in str(caught.value.hint)
    market.chain.mine(1)
    assert market.pair.status(market.name) == ("closed", "closed")
    market.buy()
    assert market.is_whole()


@each_scheme
def test_nobody_is_asked_to_close_what_it_does_not_know(market: Market) -> None:
    """A payment may go on once the seller has its channel again, which a settlement would end."""
    stopped(market, "update", 2)
    market.bend = lambda request, answer: refusing("unknown-session")
    with pytest.raises(NotPossible):
        market.buy()
    assert market.asked("settlement") == []
    market.bend = honest
    market.buy()
    assert market.paid == 5 * PRICE


# buy --cancel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["offer", "refund"])
def test_cancelled_before_money_is_locked(market: Market, kind: str) -> None:
    stopped(market, kind)
    lines = len(market.lines)
    result = market.cancel()
    assert (result.channel, result.paid_sat, result.settlement_txid) == (None, 0, None)
    assert (market.lines[lines].asked, is_going(market)) == ([], False)
    assert all(
        isinstance(market.pair.payer_record(name).state, payer.Abandoned)
        for name in market.pair.payer.channels.names()
    )


@each_scheme
@pytest.mark.parametrize("paid", [0, 2])
def test_cancelled_when_money_is_locked(market: Market, paid: int) -> None:
    before = balance_sat(market.pair.payee, market.chain)
    if paid:
        stopped(market, "update", paid)
    else:
        market.stop_funded()
    market.chain.mine(1)
    result = market.cancel()
    assert (result.paid_sat, result.returned_sat) == (paid * PRICE, (5 - paid) * PRICE)
    assert is_going(market) is (paid > 0)
    market.chain.mine(1)
    assert market.pair.status(market.name) == ("closed", "closed")
    assert balance_sat(market.pair.payee, market.chain) - before == paid * PRICE
    if paid:  # the piece that is paid for and has not come
        with pytest.raises(NotPossible):
            market.buy()
    market.buy()
    assert market.is_whole()
    paid_in = [market.pair.payer_record(name).paid.sat for name in market.pair.payer.channels.names()]
    assert sum(paid_in) == 5 * PRICE


def test_cancelled_and_the_seller_is_away(market: Market) -> None:
    """The purchase stays, so that the same command asks again; the hint says how the money comes back without."""
    stopped(market, "update", 2)
    market.bend = unheard(lambda request: True)
    with pytest.raises(TooEarly) as caught:
        market.cancel()
    assert "the same command asks again; without the seller 3000 sat come back from block" in str(
        caught.value.hint
    )
    assert is_going(market)
    market.bend = honest
    assert market.cancel().returned_sat == 3 * PRICE


@each_scheme
def test_what_is_paid_for_is_asked_for_after_a_cancel(market: Market) -> None:
    """The second payment has not brought its piece. A second cancel gives that up."""
    stopped(market, "update", 2)
    market.cancel()
    market.chain.mine(1)
    market.bend = lambda request, answer: refusing()
    with pytest.raises(NotPossible):
        market.buy()
    assert [request.kind for request in market.lines[-1].asked] == ["piece"]
    market.bend = honest
    market.cancel()
    assert not is_going(market)
    market.buy()
    assert market.is_whole()
    paid = [market.pair.payer_record(name).paid.sat for name in market.pair.payer.channels.names()]
    assert sorted(paid) == [2 * PRICE, 4 * PRICE]


@each_scheme
def test_cancelled_by_a_seller_that_lies(market: Market) -> None:
    """It answers with the close, but does not send it: the purchase is not done, and no other channel is opened."""
    stopped(market, "update", 2)
    sent = market.chain.broadcast
    market.chain.broadcast = lambda transaction: None  # type: ignore[method-assign]
    market.cancel()
    market.chain.broadcast = sent  # type: ignore[method-assign]
    assert is_going(market)
    market.restart()
    with pytest.raises(NotPossible):
        market.buy()
    assert len(market.pair.payer.channels.names()) == 1


@pytest.fixture
def shop(tmp_path: Path, bare: Path) -> Iterator[Shop]:
    with opened(Shop(tmp_path, bare, "mailbox", make_film(tmp_path / "film.mkv", MIB), 8)) as shop:
        yield shop


def test_the_command(shop: Shop) -> None:
    """It says what is paid and what comes back; without a purchase it says so."""
    none = shop.buy("--cancel", "--json", "--patience", "1")
    assert none.ended() == 3  # no offer was ever there
    seller = shop.sell()
    none = shop.buy("--cancel", "--json")
    assert none.ended() == 5
    assert '"error": "no-purchase"' in none.err
    buyer = shop.buy()
    buyer.until(lambda: "waiting for confirmations" in buyer.err, "the wait for a block")
    buyer.kill()
    with shop.mining():
        cancelled = shop.buy("--cancel")
        cancelled.ends_well()
    assert "is cancelled: 0 sat are paid, 8,000 sat come back with the close of channel" in cancelled.out
    assert seller.events("settlement")
    assert len(shop.transactions()) == 2
