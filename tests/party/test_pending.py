"""A settlement that comes so late that the refund may win: nothing that it pays on top counts before it is confirmed.

It came at L_refund, `accept` said "499000 sat received", the goods went out, and the refund took it all back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import pytest
from support.party import Pair, balance_sat, psbt
from support.protocol import scheme_of

import mpchan
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.errors import MpchanError, NotPossible
from mpchan.party import payee, payer, views
from mpchan.party.backup import backup, restore
from mpchan.party.check.verify import verify
from mpchan.party.history import history
from mpchan.party.syncing import export_latest
from mpchan.party.watch.watcher import Watcher
from mpchan.results.channels import Channel, ChannelLine, HistoryEvent
from mpchan.results.closing import Closed
from mpchan.results.payments import Accepted
from mpchan.results.watching import ChannelSeen
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

CAPACITY = 500_000
TOTAL = 499_000
SECONDS = {
    "lock_time_unit": "seconds",
    "settle_window": 3600,
    "min_refund_delay": 16_000,
    "max_refund_delay": 40_000,
}
UNITS: dict[str, dict[str, Any]] = {"blocks": {}, "seconds": SECONDS}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(tmp_path / "chain") as chain:
        yield Pair(tmp_path, chain)


class Late:
    """A channel in which 1,000 sat or nothing were paid, and a settlement that the payer signed in time, held back."""

    def __init__(self, pair: Pair, best: int, **terms: Any) -> None:
        self.pair = pair
        self.best = best
        self.name = pair.open(CAPACITY, **terms)
        if best:
            pair.accept(pair.pay(self.name, best))
        self.message = pair.settlement(self.name, TOTAL)
        self.pending = TOTAL - best
        terms_ = pair.terms(self.name)
        self.l0, self.l_refund = scheme_of(terms_).deadline, terms_.refund_lock_time

    def reach(self, moment: str) -> None:
        """``L_0 - 1``, ``L_0`` and the like: the block after which the chain has come so far."""
        chain = self.pair.chain
        lock_time = self.l0 if moment.startswith("L_0") else self.l_refund
        if lock_time.unit == "blocks":
            return self.pair.mine_to(lock_time.value + int(moment.partition(" ")[2].replace(" ", "") or 0))
        while not lock_time.reached(chain.tip()):
            chain.mine(1)
        if moment.endswith("- 1"):
            chain.reorganise(1)  # its blocks are earlier by a second or two
        return None


MOMENTS = ["L_0", "L_refund - 1", "L_refund", "L_refund + 3"]


Told = Union[Accepted, Closed, ChannelLine, Channel, ChannelSeen, HistoryEvent]


def numbers(result: Told) -> tuple[int | None, int | None]:
    return result.paid_sat, result.pending_sat


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("best", [0, 1000])
@pytest.mark.parametrize("moment", ["L_0", "L_refund"])
def test_nothing_above_the_best_update_counts(pair: Pair, unit: str, best: int, moment: str) -> None:
    late = Late(pair, best, **UNITS[unit])
    late.reach(moment)
    first = pair.accept(late.message)
    assert first.to_dict() == {
        "channel": first.channel,
        "update": 1 if best else 0,
        "received_sat": 0,
        "paid_sat": best,
        "pending_sat": late.pending,
        "remaining_sat": CAPACITY - best,
        "lock_time": 0,
        "kind": "settlement",
        "duplicate": False,
    }
    before = pair.files()
    assert pair.accept(late.message) == replace(first, duplicate=True)
    assert pair.files() == before


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_is_told_by_hand_in_the_views_and_by_a_watcher(pair: Pair, moment: str, tmp_path: Path) -> None:
    """All that tells a payee's total tells the same."""
    late = Late(pair, 1000)
    late.reach(moment)
    wallet, chain = pair.payee, pair.chain
    said = verify(wallet, chain, psbt(late.message))
    assert (said.accepted, len(said.warnings)) == (True, 1)
    assert f"{late.pending} sat" in said.warnings[0]
    assert numbers(pair.accept(late.message)) == (1000, late.pending)

    def told(wallet: Wallet) -> None:
        shown = views.show(wallet, chain, late.name)
        assert (*numbers(shown), shown.remaining_sat) == (1000, late.pending, CAPACITY - 1000)
        [listed] = views.list_channels(wallet, chain, lambda *_: None).channels
        assert numbers(listed) == (1000, late.pending)
        assert listed.to_dict().items() <= shown.to_dict().items()
        assert views.balance(wallet, chain).in_channels_sat == 1000
        *_, event = history(wallet, late.name).events
        assert (event.amount_sat, *numbers(event)) == (0, 1000, late.pending)

    told(wallet)
    exported = export_latest(wallet, late.name)
    assert (exported.kind, exported.hex) == ("settlement", late.message)  # it is the payer's own word
    backup(wallet, tmp_path / "backup")
    restore((tmp_path / "backup").read_bytes(), tmp_path / "again")
    told(Wallet.open(tmp_path / "again"))

    done = Watcher(wallet, chain, once=True).round(lambda finding: None)
    [line] = [finding.result(0.0) for finding in done.findings]
    assert (line.action, *numbers(line)) == ("settlement", 1000, late.pending)
    settled = payee.settle(wallet, chain, None, late.name)
    assert (settled.broadcast, *numbers(settled)) == (True, 1000, late.pending)
    assert numbers(views.show(wallet, chain, late.name)) == (1000, late.pending)

    chain.mine(1)
    counted = pair.accept(late.message)
    assert (counted.received_sat, counted.duplicate, *numbers(counted)) == (0, True, TOTAL, 0)
    assert counted.remaining_sat == CAPACITY - TOTAL
    assert numbers(views.show(wallet, chain, late.name)) == (TOTAL, 0)
    assert numbers(views.list_channels(wallet, chain, lambda *_: None).channels[0]) == (TOTAL, 0)
    assert numbers(payee.settle(wallet, chain, psbt(late.message))) == (TOTAL, 0)
    # near the refund the watcher bids for the close with a child, of the payout itself
    assert TOTAL // 2 < balance_sat(wallet, chain) <= TOTAL


@pytest.mark.parametrize("best", [0, 1000])
def test_before_the_deadline_it_counts_at_once_and_for_good(pair: Pair, best: int) -> None:
    """There is the settle window left to get it into a block."""
    late = Late(pair, best)
    late.reach("L_0 - 1")
    first = pair.accept(late.message)
    assert (first.received_sat, *numbers(first)) == (late.pending, TOTAL, 0)
    for moment in MOMENTS:
        late.reach(moment)
        again = pair.accept(late.message)
        assert (again.duplicate, again.received_sat, *numbers(again)) == (True, 0, TOTAL, 0)
        assert numbers(views.show(pair.payee, pair.chain, late.name)) == (TOTAL, 0)


@pytest.mark.parametrize("moment", MOMENTS)
def test_settle_with_the_file(pair: Pair, moment: str) -> None:
    late = Late(pair, 0)
    late.reach(moment)
    result = pair.settle(late.message)
    assert (result.kind, result.broadcast, *numbers(result)) == ("settlement", True, 0, TOTAL)
    again = pair.settle(late.message)
    assert (again.hex, *numbers(again)) == (result.hex, 0, TOTAL)
    pair.chain.mine(1)
    assert numbers(pair.settle(late.message)) == (TOTAL, 0)
    assert numbers(pair.settle(name=late.name)) == (TOTAL, 0)


@pytest.mark.parametrize("best", [0, 1000])
def test_the_refund_takes_it_back_and_nothing_was_said_to_be_paid(pair: Pair, best: int) -> None:
    late = Late(pair, best)
    late.reach("L_refund")
    pair.accept(late.message)
    pair.refund(late.name)
    assert numbers(views.show(pair.payee, pair.chain, late.name)) == (best, late.pending)
    pair.chain.mine(1)
    shown = views.show(pair.payee, pair.chain, late.name)
    assert (shown.status, *numbers(shown)) == ("refunded", best, 0)
    assert numbers(pair.accept(late.message)) == (best, 0)
    over = Watcher(pair.payee, pair.chain, once=True).round(lambda finding: None)
    assert [alarm.slug for alarm in over.alarms] == (["refunded-unclaimed"] if best else [])
    if best:
        assert "and 1000 sat that were paid" in over.alarms[0].message


def test_as_deep_as_the_offer_says(pair: Pair) -> None:
    late = Late(pair, 0, min_confirmations=1)
    late.reach("L_0")
    pair.settle(late.message)
    assert numbers(pair.accept(late.message)) == (0, TOTAL)
    pair.chain.mine(1)
    assert numbers(pair.accept(late.message)) == (TOTAL, 0)
    pair.chain.reorganise(1)
    assert numbers(pair.accept(late.message)) == (0, TOTAL)


def test_three_confirmations_where_the_offer_wants_three(pair: Pair) -> None:
    request = pair.request(CAPACITY, min_confirmations=3, min_refund_delay=30)
    pair.fund(pair.sign_refund(request.hex))
    name = f"{request.funding_txid}-0"
    pair.chain.mine(3)
    message = pair.settlement(name, TOTAL)
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
    pair.settle(message)
    for depth in range(4):
        assert numbers(pair.accept(message)) == ((TOTAL, 0) if depth == 3 else (0, TOTAL)), depth
        pair.chain.mine(1)


def test_where_no_chain_is_asked_it_stays_pending(pair: Pair) -> None:
    """Nobody can state what becomes of a settlement; the answer says what to look up."""
    late = Late(pair, 1000)
    late.reach("L_0")
    blind = ManualChain(pair.chain.tip(), 50)
    for accept in (True, True, False):
        if accept:
            result: Accepted | Closed = payee.accept(pair.payee, blind, psbt(late.message))
        else:
            result = payee.settle(pair.payee, blind, psbt(late.message))
        assert numbers(result) == (1000, late.pending)
        [warning] = result.warnings
        assert warning.startswith(
            "pending: this wallet asks no chain, so 498000 sat stay pending in it: they count once"
        )
    pair.settle(name=late.name)
    pair.chain.mine(1)
    assert numbers(payee.accept(pair.payee, blind, psbt(late.message))) == (1000, late.pending)
    assert numbers(views.show(pair.payee, ManualChain(), late.name)) == (1000, late.pending)
    assert numbers(pair.accept(late.message)) == (TOTAL, 0)


def test_the_payer_is_told(pair: Pair) -> None:
    """Whoever pays so late waits for the goods as well."""
    name = pair.open(CAPACITY)
    pair.pay(name, 1000)
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
    result = payer.settle(pair.payer, pair.chain, name, Amount(2000))
    assert [text.partition(":")[0] for text in result.warnings] == ["late"]


# streams ------------------------------------------------------------------------------------------


def test_a_stream_takes_a_late_settlement_as_pending(pair: Pair) -> None:
    late = Late(pair, 1000)
    late.reach("L_0")
    with mpchan.Payee(pair.payee, chain=pair.chain) as meter:
        for duplicate in (False, True):
            taken = meter.accept(late.message)
            assert (taken.received_sat, taken.paid_sat, taken.pending_sat) == (0, 1000, late.pending)
            assert (taken.remaining_sat, taken.duplicate) == (CAPACITY - 1000, duplicate)
            assert json.loads(taken.to_json()) == taken.to_dict()
            assert list(taken.to_dict()) == list(pair.accept(late.message).to_dict())
    pair.settle(name=late.name)
    pair.chain.mine(1)
    with mpchan.Payee(pair.payee, chain=pair.chain) as meter:
        assert (meter.accept(late.message).paid_sat, meter.accept(late.message).pending_sat) == (TOTAL, 0)


@pytest.mark.parametrize("unit", UNITS)
def test_streams_stop_at_the_deadline(pair: Pair, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides go on for as long as the chain has not come there, and not a payment longer."""
    from mpchan.party.meter import base as common

    monkeypatch.setattr(common, "MAX_AGE_SECONDS", 0.0)
    name = pair.open(CAPACITY, **UNITS[unit])
    deadline = scheme_of(pair.terms(name)).deadline
    sent = []
    with (
        mpchan.Payer(pair.payer, name, chain=pair.chain) as pays,
        mpchan.Payee(pair.payee, name, chain=pair.chain) as takes,
    ):
        while not deadline.reached(pair.chain.tip()):
            sent.append(pays.pay(500).hex)
            assert takes.accept(sent[-1]).paid_sat == 500 * len(sent)
            held_back = pays.pay(500).hex
            sent.append(held_back)
            if not deadline.reached(_next(pair.chain)):
                takes.accept(held_back)
            pair.chain.mine(1)
        before = pair.files()
        for refused in (
            lambda: takes.accept(held_back),
            lambda: pays.pay(500),
            lambda: pays.pay_up_to(400_000),
        ):
            with pytest.raises(NotPossible) as caught:
                refused()
            assert caught.value.slug == "past-deadline"
        for mode in ({}, {"skip_superseded": True}):
            [answer] = takes.accept_many([held_back], stop=False, **mode)
            assert isinstance(answer, MpchanError)
            assert answer.slug == "past-deadline"
        assert pair.files() == before
        assert pays.last().hex == held_back


def _next(chain: EmbeddedChain) -> Any:
    """The tip after one more block, whose median time is later by 600 s."""
    tip = chain.tip()
    return type(tip)(tip.height + 1, tip.median_time + 600)


def test_a_settlement_after_our_update_was_sent_is_pending(pair: Pair) -> None:
    """Gone from our mempool, the update can still be mined: the payer has seen it, with our signature.

    It counted at once, the goods went out, and the update took all of it back.
    """
    name = pair.open(CAPACITY, step=10)
    for amount in (1_000, 100):
        pair.accept(pair.pay(name, amount))
    update = pair.payee_record(name).state.best.transaction
    pair.mine_to(update.lock_time)
    assert not scheme_of(pair.terms(name)).deadline.reached(pair.chain.tip())
    pair.settle(name=name)
    with pair.chain._writing() as index:
        index.evict(update.txid)
    result = pair.accept(pair.settlement(name, TOTAL))
    assert (result.received_sat, *numbers(result)) == (0, 1_100, TOTAL - 1_100)
    pair.restart()
    assert numbers(views.show(pair.payee, pair.chain, name)) == (1_100, TOTAL - 1_100)
    pair.chain.broadcast(update)
    pair.chain.mine(1)
    assert numbers(views.show(pair.payee, pair.chain, name)) == (1_100, 0)
    assert balance_sat(pair.payee, pair.chain) == 1_100
