"""What a payer keeps of a channel in which it pays for requests: what it is for, and what was charged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import NotPossible, TooEarly
from mpchan.party import payer
from mpchan.party.meter.payer import Payer
from mpchan.results.opening import OpenedAtOnce
from mpchan.units import Amount, OutPoint
from mpchan.wallet.past import history
from mpchan.wallet.purpose import Purpose
from mpchan.wallet.records import body_of

PURPOSE = Purpose("https://shop.example:8402", "shop", challenge={"id": "x", "request": "y"})


@pytest.fixture(params=("decrementing", "taproot"))
def pair(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme=request.param)


def opened(pair: Pair, purpose: Purpose | None = PURPOSE) -> str:
    """A channel whose funding is signed, and in no block."""
    text = pair.offer()
    request = payer.open_channel(pair.payer, pair.chain, text, Amount(100_000), purpose=purpose)
    if not isinstance(request, OpenedAtOnce):
        pair.fund(pair.sign_refund(request.hex))
    return OutPoint.parse(f"{request.funding_txid}:{request.funding_vout}").name


def test_a_channel_keeps_what_it_is_for(pair: Pair) -> None:
    name = opened(pair)
    pair.restart()
    assert pair.payer_record(name).purpose == PURPOSE
    assert pair.payer_record(name).spent == Amount(0)


def test_without_a_purpose_nothing_is_written_of_it(pair: Pair) -> None:
    body = body_of(pair.payer_record(opened(pair, None)))
    assert not body.keys() & {"purpose", "spent_sat"}


def test_what_was_charged_stands_in_the_line_of_the_next_payment(pair: Pair) -> None:
    """And nothing is written for it before; the state after it is the one that the files give."""
    name = opened(pair)
    pair.chain.mine(1)
    with Payer(pair.payer, name, chain=pair.chain) as meter:
        meter.pay(1_000)
        journal = pair.payer.channels.journal_path(name)
        before = journal.read_bytes()
        meter.note_spent(400)
        meter.note_spent(300)
        assert journal.read_bytes() == before
        assert pair.payer_record(name).spent == Amount(0)
        meter.pay(10)
        meter.pay(10)
    pair.restart()
    record = pair.payer_record(name)
    assert (record.paid, record.spent, record.updates) == (Amount(1_020), Amount(400), 3)
    changes = [entry.changes for entry, _ in history(journal, name) if entry.event == "paid"]
    assert [each.get("spent_sat") for each in changes] == [None, 400, None]


def test_what_was_charged_is_written_without_a_payment_too(pair: Pair) -> None:
    name = opened(pair)
    pair.chain.mine(1)
    with Payer(pair.payer, name, chain=pair.chain) as meter:
        meter.pay(1_000)
        meter.note_spent(400)
        meter.write_spent()
        meter.write_spent()
    pair.restart()
    assert pair.payer_record(name).spent == Amount(400)
    journal = pair.payer.channels.journal_path(name)
    assert [entry.event for entry, _ in history(journal, name)].count("charged") == 1


def test_the_first_payment_may_leave_with_the_funding(pair: Pair) -> None:
    """It is the only one that does, and repeated it is the same bytes, whatever is asked for."""
    name = opened(pair)
    with pytest.raises(TooEarly):
        pair.pay(name, 1_000)
    first = payer.pay_ahead(pair.payer, pair.chain, name, Amount(1_000))
    pair.restart()
    again = payer.pay_ahead(pair.payer, pair.chain, name, Amount(5_000))
    assert (again.hex, again.paid_sat, again.amount_sat) == (first.hex, 1_000, 0)
    with pytest.raises(TooEarly):
        pair.pay(name, 1_000)
    pair.chain.mine(1)
    pair.accept(first.hex)


def test_the_first_payment_keeps_the_other_rules(pair: Pair) -> None:
    name = opened(pair)
    for total, slug in ((1, "below-dust"), (100_001, "over-capacity")):
        with pytest.raises(NotPossible) as error:
            payer.pay_ahead(pair.payer, pair.chain, name, Amount(total))
        assert error.value.slug == slug
    deadline = pair.payer_record(name).terms.schedule.deadline
    pair.chain.mine(deadline.value - pair.chain.tip().height)
    with pytest.raises(NotPossible) as error:
        payer.pay_ahead(pair.payer, pair.chain, name, Amount(1_000))
    assert error.value.slug == "past-deadline"
