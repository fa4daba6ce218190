"""A sale from its beginning to its end, and again after anything that may come between."""

from __future__ import annotations

import pytest
from support.market.market import PIECE, PRICE, Market, each_scheme, unheard
from support.party import balance_sat

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.construction.registry import CONSTRUCTIONS, construction
from mpchan.errors import NotPossible, TooEarly, UsageError
from mpchan.market.output import part_path
from mpchan.party.offers.selling import room_warnings
from mpchan.transport.base import Answer, Refusal, Request
from mpchan.wallet.purchases import Purchases


@each_scheme
def test_the_whole_file(market: Market) -> None:
    before = balance_sat(market.pair.payee, market.chain)
    quoted = market.quote()
    result = market.buy()
    assert market.is_whole()
    assert result.to_dict() == {
        "name": market.sale.name,
        "wanted": "1-5",
        "bought": "1-5",
        "price_sat": PRICE,
        "capacity_sat": 5 * PRICE,
        "reserve_sat": quoted.reserve.sat,
        "funding_fee_sat": quoted.funding_fee.sat,
        "output": str(market.output),
        "pieces": 5,
        "bytes": 5 * PIECE - 1,
        "merkle_root": market.sale.root.hex(),
        "channel": market.name[:16],
        "paid_sat": 5 * PRICE,
        "settlement_txid": str(market.chain.mempool()[0]),
    }
    market.chain.mine(1)
    assert balance_sat(market.pair.payee, market.chain) - before == 5 * PRICE
    assert market.pair.status(market.name) == ("closed", "closed")
    assert [step.number for step in market.steps if step.kind == "piece"] == [1, 2, 3, 4, 5]
    assert len(market.asked("update")) == 5
    assert not market.asked("piece")
    assert not part_path(market.output).exists()


def test_a_piece_is_paid_for_after_the_one_before_has_come(market: Market) -> None:
    market.buy()
    order = [(step.kind, step.number) for step in market.steps if step.kind in ("paid", "piece")]
    assert order == [(kind, number) for number in range(1, 6) for kind in ("paid", "piece")]


def test_samples_come_before_any_money_is_locked(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("samples")
    with EmbeddedChain(directory / "chain") as chain, chain.engine():
        market = Market(directory, chain, free=2)
        assert market.quote().capacity.sat == 3 * PRICE
        result = market.buy()
        assert (result.paid_sat, market.is_whole()) == (3 * PRICE, True)
        kinds = [request.kind for request in market.lines[0].asked]
        assert kinds[:3] == ["piece", "piece", "offer"]
        assert kinds.count("piece") == 2


def test_samples_alone_need_no_channel(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("samples")
    with EmbeddedChain(directory / "chain") as chain, chain.engine():
        market = Market(directory, chain, free=2)
        result = market.buy("1-2")
        assert (result.channel, result.paid_sat, result.settlement_txid) == (None, 0, None)
        assert market.output.read_bytes()[: 2 * PIECE] == market.file.read_bytes()[: 2 * PIECE]
        assert not market.pair.payer.channels.names()
        assert not market.pair.payee.channels.names()


@each_scheme
def test_what_is_told_is_what_is_locked(market: Market) -> None:
    """Price, reserve, and until when at the longest: as the channel then has it."""
    found, tip = market.quote(), market.chain.tip()
    market.buy()
    terms = market.pair.terms(market.name)
    assert (found.refund_at, found.capacity + found.reserve) == (
        str(terms.refund_lock_time),
        terms.funding_value,
    )
    assert found.locked_at_most == f"{terms.refund_lock_time.value - tip.height} blocks"
    [session] = {request.session for request in market.asked("update")}
    assert market.seller.session_of(market.name) == session


@each_scheme
def test_some_pieces(market: Market) -> None:
    """Only what was wanted is paid and there; the rest is a hole, and can be bought later into the same file."""
    result = market.buy("2-3,5")
    assert (result.pieces, result.paid_sat) == (3, 3 * PRICE)
    got, sold = market.output.read_bytes(), market.file.read_bytes()
    assert len(got) == len(sold)
    for number in range(1, 6):
        start = (number - 1) * PIECE
        wanted = sold[start : start + PIECE] if number in (2, 3, 5) else bytes(PIECE)
        assert got[start : start + PIECE] == wanted
    market.chain.mine(1)
    rest = market.quote()
    assert (rest.held, rest.purchase.bought) == ({2, 3, 5}, (1, 4))  # type: ignore[comparison-overlap]
    result = market.buy()
    assert (market.is_whole(), result.paid_sat) == (True, 2 * PRICE)


def test_what_is_there_already_costs_nothing(market: Market) -> None:
    market.output.write_bytes(market.file.read_bytes())
    result = market.buy()
    assert (result.paid_sat, result.channel, market.asked("offer")) == (0, None, [])
    assert market.is_whole()


def test_another_file_is_not_overwritten(market: Market) -> None:
    for content in (b"my thesis", b"x" * (5 * PIECE - 1)):
        market.output.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            market.buy()
        assert caught.value.slug == "output-exists"
        assert market.output.read_bytes() == content


@each_scheme
def test_a_finished_purchase_begun_again_pays_nothing(market: Market) -> None:
    market.buy()
    market.chain.mine(1)
    market.restart()
    again = market.buy()
    assert (again.paid_sat, again.channel) == (0, None)
    assert len(market.pair.payer.channels.names()) == 1


class Broken(Exception):
    """The buyer's program ends here."""


REQUESTS = [
    (name, kind)
    for name in CONSTRUCTIONS
    for kind in ("offer", "refund", "funding", "update", "settlement")
    if construction(name).has_exchange or kind not in ("refund", "funding")
]


@pytest.mark.parametrize(("scheme", "kind"), REQUESTS, indirect=["scheme"])
@pytest.mark.parametrize("answered", [False, True])
def test_broken_off_anywhere_it_goes_on(market: Market, kind: str, answered: bool) -> None:
    """The third request of a kind, or the only one, is not answered, or its answer is lost; both sides start again."""
    count = 0
    seller_answer = market.seller.answer

    def bend(request: Request, answer: Answer) -> Answer:
        nonlocal count
        count += request.kind == kind
        if request.kind == kind and count == (3 if kind == "update" else 1):
            raise Broken
        return answer

    if answered:
        market.bend = bend
    else:
        market.seller.answer = lambda request: (bend(request, Refusal(b"")), seller_answer(request))[1]  # type: ignore[method-assign]
    with pytest.raises(Broken):
        market.buy()
    market.bend = lambda request, answer: answer
    market.restart()
    if market.pair.payer.channels.names():
        market.chain.mine(1)
    market.buy()
    assert market.is_whole()
    assert (market.paid, market.received) == (5 * PRICE, 5 * PRICE)
    assert market.delivered() == {1, 2, 3, 4, 5}
    assert len(market.pair.payer.channels.names()) == len(market.pair.payee.channels.names()) == 1
    assert len(market.pair.payee.offers.ids()) == 1  # the published one: this buyer's is kept in its channel
    purchases = Purchases(market.pair.payer.directory)
    assert all(purchases.load(path).done for path in purchases.files())


@each_scheme
def test_the_money_waits_while_the_seller_is_away(market: Market) -> None:
    """It says what is at stake, and the same command goes on."""
    market.bend = unheard(lambda request: request.kind == "update" and len(market.asked("update")) >= 3)
    with pytest.raises(TooEarly) as caught:
        market.buy()
    assert caught.value.slug == "peer-silent"
    assert "1000 sat are lost at most" in str(caught.value.hint)
    assert "the other 2000 sat come back from block" in str(caught.value.hint)
    assert "mpchan payer refund --channel" in str(caught.value.hint)
    assert market.paid == 3 * PRICE
    market.bend = lambda request, answer: answer
    market.buy()
    assert (market.is_whole(), market.paid) == (True, 5 * PRICE)


@each_scheme
def test_a_silent_seller_before_anything_is_locked(market: Market) -> None:
    def bend(request: Request, answer: Answer) -> Answer:
        raise TooEarly("peer-silent", "no answer")

    market.bend = bend
    with pytest.raises(TooEarly) as caught:
        market.buy()
    assert "nothing is paid and nothing is locked" in str(caught.value.hint)
    assert market.pair.payer.channels.names() == []


@each_scheme
def test_two_wishes_at_once_are_told_apart(market: Market) -> None:
    """A purchase that goes on is not mixed with another one into the same file."""
    market.bend = lambda request, answer: Refusal(
        b'{"error": "x", "message": "y", "hint": null, "exit_code": 5}'
    )
    with pytest.raises(NotPossible):
        market.buy("2-3")
    with pytest.raises(UsageError) as caught:
        market.buy("4")
    assert caught.value.slug == "other-purchase"
    market.bend = lambda request, answer: answer
    assert market.buy().pieces == 2


def test_an_opening_that_waited_too_long_is_given_up_and_made_anew(market: Market) -> None:
    """The seller was away for so long that it signs no such refund any more; no coin stays reserved for it."""
    market.bend = lambda request, answer: (
        Refusal(b'{"error": "x", "message": "y", "exit_code": 5}') if request.kind == "refund" else answer
    )
    with pytest.raises(NotPossible):
        market.buy()
    [stale] = market.pair.payer.channels.names()
    market.chain.mine(19)
    market.bend = lambda request, answer: answer
    assert market.buy().paid_sat == 5 * PRICE
    assert market.is_whole()
    assert market.pair.payer_record(stale).status(None).value == "abandoned"


def test_more_pieces_than_the_lock_times_have_room_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Said before anything is locked; some of them can be had."""
    directory = tmp_path_factory.mktemp("many")
    with EmbeddedChain(directory / "chain") as chain, chain.engine():
        market = Market(directory, chain, pieces=10, step=20)
        [warning] = room_warnings(chain, market.published, 10)
        assert "room for 7 payments now, and there are 10 pieces" in warning
        with pytest.raises(NotPossible) as caught:
            market.buy()
        assert caught.value.slug == "out-of-updates"
        assert not market.pair.payer.channels.names()
        assert room_warnings(chain, market.published, 7) == []
        assert market.buy("1-7").paid_sat == 7 * PRICE
