"""A settlement that the payer holds back until its refund is near, from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Desk
from support.party import Pair
from support.protocol import scheme_of

from mpchan.chain.embedded import EmbeddedChain

TOTAL = 499_000


class Held:
    """A channel whose settlement has not been handed over yet."""

    def __init__(self, desk: Desk) -> None:
        pair = desk.pair
        self.name = pair.open(500_000)
        pair.accept(pair.pay(self.name, 1000))
        self.path = desk.folder / "settlement.psbt"
        self.path.write_text(pair.settlement(self.name, TOTAL))
        terms = pair.terms(self.name)
        self.deadline, self.refund = scheme_of(terms).deadline.value, terms.refund_lock_time.value


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with EmbeddedChain(tmp_path / "chain") as chain:
        yield Desk(Pair(tmp_path, chain), tmp_path)


CASES = [
    ("65 a settlement at L_0", 0, False),
    ("65 a settlement just before the refund", -1, True),
    ("65 a settlement when the refund is final", 0, True),
    ("65 a settlement later than the refund", 4, True),
]


@pytest.mark.parametrize(("case", "after", "of_refund"), CASES)
@pytest.mark.parametrize("command", ["accept", "settle"])
def test_a_late_settlement_is_pending(
    desk: Desk, case: str, after: int, of_refund: bool, command: str
) -> None:
    held = Held(desk)
    desk.pair.mine_to((held.refund if of_refund else held.deadline) + after)
    answer = desk.done(desk.payee, "payee", command, held.path)
    assert answer.get("received_sat", 0) == 0
    assert (answer["paid_sat"], answer["pending_sat"]) == (1000, TOTAL - 1000)
    assert _numbers(desk.done(desk.payee, "show", held.name)) == (1000, TOTAL - 1000)
    assert _numbers(desk.done(desk.payee, "list")["channels"][0]) == (1000, TOTAL - 1000)
    again = desk.done(desk.payee, "payee", "accept", held.path)
    assert (again["received_sat"], again["duplicate"], *_numbers(again)) == (0, True, 1000, TOTAL - 1000)


def _numbers(view: dict[str, Any]) -> tuple[int, int]:
    return view["paid_sat"], view["pending_sat"]


def test_65_the_refund_wins(desk: Desk) -> None:
    """What was told as received adds up to what the payee could collect, and no more."""
    held = Held(desk)
    desk.pair.mine_to(held.refund)
    told = [desk.done(desk.payee, "payee", "accept", held.path) for _ in range(2)]
    desk.done(desk.payer, "payer", "refund")
    desk.pair.chain.mine(1)
    told.append(desk.done(desk.payee, "payee", "accept", held.path))
    assert [answer["received_sat"] for answer in told] == [0, 0, 0]
    assert [_numbers(answer) for answer in told] == [(1000, TOTAL - 1000)] * 2 + [(1000, 0)]
    assert _numbers(desk.done(desk.payee, "show")) == (1000, 0)


def test_65_the_settlement_wins(desk: Desk) -> None:
    held = Held(desk)
    desk.pair.mine_to(held.refund)
    assert _numbers(desk.done(desk.payee, "payee", "settle", held.path)) == (1000, TOTAL - 1000)
    desk.pair.chain.mine(1)
    told = desk.done(desk.payee, "payee", "accept", held.path)
    assert (told["received_sat"], told["duplicate"], *_numbers(told)) == (0, True, TOTAL, 0)
    assert told["remaining_sat"] == 1000


def test_65_one_block_earlier_it_counts(desk: Desk) -> None:
    held = Held(desk)
    desk.pair.mine_to(held.deadline - 1)
    answer = desk.done(desk.payee, "payee", "accept", held.path)
    assert (answer["received_sat"], *_numbers(answer)) == (TOTAL - 1000, TOTAL, 0)
