"""A buyer that vanishes, comes late, or ends otherwise than it should; and a file that changes while it is on sale."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.market.cheats import Forger, body_of, fair
from support.market.market import PIECE, PRICE, Market, each_scheme
from support.party import balance_sat

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import NotPossible, TooEarly
from mpchan.market.asking import Step
from mpchan.market.seller import Seller
from mpchan.market.serving import serve
from mpchan.party.watch.watcher import Round
from mpchan.transport.base import Answer, Message, Refusal, Request
from mpchan.transport.mailbox import MailboxInbox, MailboxLine

ANN, BOB = "aa" * 16, "bb" * 16


@pytest.fixture
def ann(market: Market) -> Forger:
    """A buyer with a channel for all five pieces, of which it has paid for three."""
    buyer = Forger(market, ANN)
    buyer.open()
    assert [buyer.pay(number) for number in (1, 2, 3)] == [1, 2, 3]
    return buyer


def deadline(ann: Forger) -> int:
    """L_0."""
    return ann.terms.schedule.deadline.value


# time ---------------------------------------------------------------------------------------------


@each_scheme
def test_a_buyer_that_vanishes(market: Market, ann: Forger) -> None:
    """The seller serves on, and its watcher has the money in a block before L_0."""
    before = balance_sat(market.pair.payee, market.chain)
    rounds: list[Round] = []
    mined = 0

    def tick() -> bool:
        """A block after each round."""
        nonlocal mined
        if len(rounds) > mined:
            mined = len(rounds)
            market.chain.mine(1)
        return market.chain.tip().height >= deadline(ann)

    serve(
        market.seller,
        [],
        market.watching,
        interval=0.0,
        wake=threading.Event(),
        stop=tick,
        tell_channel=lambda finding: None,
        tell_round=rounds.append,
    )
    assert [error.slug for done in rounds for error in done.alarms] == []
    assert market.pair.status(ann.name) == ("closed", "closed")
    assert balance_sat(market.pair.payee, market.chain) - before == 3 * PRICE
    fair(market)
    ann.refused("update", ann.update(4, 4 * PRICE), "near-deadline", "channel-closed")
    assert ann.piece(3) == 3  # it is paid for


@each_scheme
def test_near_the_deadline_nothing_is_taken(market: Market, ann: Forger) -> None:
    """What was paid for is delivered again, and a settlement is taken: it costs nobody anything."""
    near = market.pair.payee.config.watch.near_blocks
    market.pair.mine_to(deadline(ann) - near - 1)
    assert ann.pay(4) == 4
    market.chain.mine(1)
    update = ann.update(5, 5 * PRICE)
    for _ in range(2):
        ann.refused("update", update, "near-deadline")
        assert ann.pay(4) == 4
        assert ann.piece(1) == 1
        ann.refused("piece", body_of(5), "piece-unpaid")
        market.pair.mine_to(deadline(ann))
    assert ann.received == 4 * PRICE
    assert isinstance(ann.ask("settlement", ann.settlement(4 * PRICE)), Message)


@each_scheme
def test_a_buyer_stops_paying_near_the_deadline(market: Market) -> None:
    """The other way round: it may be that nothing is delivered any more."""

    def bend(request: Request, answer: Answer) -> Answer:
        if request.kind == "update" and len(market.asked("update")) == 2:
            market.pair.mine_to(market.pair.terms(market.name).schedule.deadline.value - 6)
        return answer

    market.bend = bend
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert caught.value.slug == "near-deadline"
    assert (market.paid, market.received) == (2 * PRICE, 2 * PRICE)
    assert "nothing is lost; the close pays the other 3000 sat back" in str(caught.value.hint)


class Reorganiser(list[Step]):
    """Hears of the buyer's wait for confirmations; from then on no block holds the funding."""

    def __init__(self, market: Market) -> None:
        super().__init__()
        self._market = market

    def append(self, step: Step) -> None:
        """Is told of each step."""
        super().append(step)
        chain = self._market.chain
        if step.kind == "confirming" and step.number:
            chain.reorganise(1)
            near = self._market.pair.payer_record(self._market.name).terms.schedule.deadline.value - 6
            while chain.tip().height < near:
                chain.submit_block_with([])


def test_a_funding_that_no_block_holds_is_waited_for_until_it_is_of_no_use(
    quick_path: Path, chain: EmbeddedChain
) -> None:
    market = Market(quick_path, chain, min_confirmations=2, min_refund_delay=26)
    market.steps = Reorganiser(market)
    with pytest.raises(NotPossible) as caught:
        market.buy()
    assert caught.value.slug == "near-deadline"
    assert (market.paid, market.asked("update")) == (0, [])
    assert "nothing is lost; the other 5000 sat come back" in str(caught.value.hint)


@each_scheme
def test_a_funding_without_confirmation(market: Market) -> None:
    ann = Forger(market, ANN)
    ann.open(blocks=0)
    ann.refused("update", ann.update(1, PRICE), "unconfirmed")
    ann.refused("piece", body_of(1), "piece-unpaid", "unknown-session")
    market.chain.mine(1)
    assert ann.pay(1) == 1


def test_a_funding_that_is_another_transaction(market: Market) -> None:
    """Of another channel even; and the right one with nothing in its witness is no confirmation."""
    market.pair.coin()
    other = market.pair.open(20_000)
    ann = Forger(market, ANN)
    opening = ann.opening()
    reply = ann.ask("refund", opening.hex)
    assert isinstance(reply, Message)
    foreign = market.pair.payer_record(other).funding
    assert foreign is not None
    ann.refused("funding", foreign.to_hex(), "other-session")
    unsigned = market.pair.payer_record(ann.name).funding
    assert unsigned is not None
    ann.ask("funding", unsigned.without_witness().to_hex())
    ann.refused("update", ann.update(1, PRICE), "funding-unseen")


# settlements --------------------------------------------------------------------------------------


@each_scheme
def test_a_settlement_for_less(market: Market, ann: Forger) -> None:
    for paid in (0, PRICE, 2 * PRICE):
        ann.refused("settlement", ann.settlement(paid), "paid-lower")
    for paid in (2 * PRICE + 999, 3 * PRICE + 1, 4 * PRICE + 500):
        ann.refused("settlement", ann.settlement(paid), "uneven-payment")
    closing = ann.ask("settlement", ann.settlement(3 * PRICE))
    assert isinstance(closing, Message)
    assert ann.ask("settlement", ann.settlement(3 * PRICE)) == closing
    ann.refused("settlement", ann.settlement(4 * PRICE), "channel-settling")
    ann.refused("update", ann.update(4, 4 * PRICE), "channel-settling")
    market.chain.mine(1)
    assert [ann.piece(number) for number in (1, 2, 3)] == [1, 2, 3]
    ann.refused("piece", body_of(4), "piece-unpaid")


@each_scheme
@pytest.mark.parametrize("late", [False, True])
def test_a_settlement_that_pays(market: Market, ann: Forger, late: bool) -> None:
    """Nothing keeps the refund away from it: what it pays for is delivered when a block holds it."""
    if late:
        market.pair.mine_to(ann.terms.refund_lock_time.value - 1)
    assert isinstance(ann.ask("settlement", ann.settlement(5 * PRICE)), Message)
    told = market.events[-1].result("")
    amounts = (3 * PRICE, 2 * PRICE) if late else (5 * PRICE, 0)
    assert (told.event, told.paid_sat, told.pending_sat) == ("settlement", *amounts)
    assert ann.piece(3) == 3
    for number in (4, 5):
        ann.refused("piece", body_of(number), "settlement-unconfirmed")
    market.chain.mine(1)
    assert [ann.piece(number) for number in (4, 5)] == [4, 5]


@each_scheme
def test_a_late_settlement_in_the_place_of_an_update(
    market: Market, ann: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the chain come to L_0 between two looks at it, it is kept, and no piece goes out for it."""
    monkeypatch.setattr(Seller, "_require_time", lambda seller, record: None)
    market.pair.mine_to(ann.terms.refund_lock_time.value - 1)
    for _ in range(2):
        answer = ann.ask("update", ann.settlement(5 * PRICE))
        assert isinstance(answer, Refusal)
        slug = "settlement-unconfirmed" if market.exchanges else "past-deadline"
        assert json.loads(answer.body)["error"] == slug
    assert isinstance(ann.ask("settlement", ann.settlement(5 * PRICE)), Message)
    market.chain.mine(1)
    assert [ann.piece(number) for number in (4, 5)] == [4, 5]


@each_scheme
def test_a_settlement_that_pays_and_loses_to_the_refund(market: Market, ann: Forger) -> None:
    """Without an update before it, all pieces would be free."""
    bob = Forger(market, BOB)
    market.pair.coin()
    bob.open()
    market.pair.mine_to(bob.terms.refund_lock_time.value)
    market.pair.refund(bob.name)
    bob.refused("settlement", bob.settlement(5 * PRICE), "channel-refunding")
    market.chain.mine(1)
    for number in range(1, 6):
        bob.refused("piece", body_of(number), "piece-unpaid", "unknown-session")


# the file -----------------------------------------------------------------------------------------


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, PIECE)


def swap(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


CHANGES: list[Callable[[Path], None]] = [overwrite, grow, shrink, swap, os.unlink]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes(market: Market, ann: Forger, change: Callable[[Path], None]) -> None:
    """No money is taken for it, and nothing begun."""
    market.pair.coin()
    bob, eve = Forger(market, BOB), Forger(market, "ee" * 16)
    opening = bob.opening()
    keep = market.file.with_name("keep")
    os.link(market.file, keep)
    content, times = market.file.read_bytes(), market.file.stat()
    change(market.file)
    ann.refused("update", ann.update(4, 4 * PRICE), "file-changed")
    ann.refused("update", ann.update(3, 3 * PRICE), "file-changed")
    ann.refused("piece", body_of(1), "file-changed")
    bob.refused("refund", opening.hex, "file-changed")
    eve.refused("offer", eve.wish("1-5"), "file-changed")
    assert ann.received == 3 * PRICE
    with keep.open("r+b") as file:
        file.write(content)
        file.truncate()
    os.utime(keep, ns=(times.st_atime_ns, times.st_mtime_ns))
    keep.replace(market.file)
    assert ann.pay(4) == 4


# a mailbox that others write into ------------------------------------------------------------------


def test_a_mailbox_in_trouble_stops_neither_the_watcher_nor_the_sale(market: Market, tmp_path: Path) -> None:
    """First a folder lies in the place of an answer, then the mailbox is gone for some time."""
    mailbox, away = tmp_path / "mailbox", tmp_path / "away"
    wake = threading.Event()
    inbox = MailboxInbox(mailbox, wake)
    with (
        pytest.raises(TooEarly),
        MailboxLine(mailbox, ANN).ask("offer", Forger(market, ANN).wish("1-5"), 0.001),
    ):
        pass
    (mailbox / "to-payer" / f"{ANN}-000001-message.hex").mkdir()
    rounds: list[Round] = []
    kinds: list[str] = []

    def ask() -> None:
        with MailboxLine(mailbox, BOB).ask("offer", Forger(market, BOB).wish("1-5"), 60.0) as arrival:
            kinds.append(arrival.kind)

    other_buyer = threading.Thread(target=ask)

    def stop() -> bool:
        alarms = [len(done.alarms) for done in rounds]
        if sum(alarms) == 1 and mailbox.exists():
            mailbox.rename(away)
        elif sum(alarms) == 3 and away.exists():
            away.rename(mailbox)
            other_buyer.start()
        return (bool(kinds) and alarms[-1] == 0) or len(rounds) > 1_000

    serve(
        market.seller,
        [inbox],
        market.watching,
        interval=0.02,
        wake=wake,
        stop=stop,
        tell_channel=lambda finding: None,
        tell_round=rounds.append,
    )
    other_buyer.join()
    inbox.close()
    assert kinds == ["message"]
    assert {error.slug for done in rounds for error in done.alarms} == {"mailbox-unusable"}
    assert rounds[-1].alarms == []
    assert all(done.tip is not None and done.whole for done in rounds)
