"""Who leaves for a newcomer: by the rule alone, without a connection."""

from __future__ import annotations

from dataclasses import dataclass

from mpchan.transport.places import place_for


@dataclass(frozen=True)
class Guest:
    source: str
    since: float
    busy: bool = False
    paid: bool = False


def crowd(source: str, count: int, *, since: float = 0.0, busy: bool = False) -> list[Guest]:
    return [Guest(source, since + number / 1000, busy) for number in range(count)]


def test_where_there_is_room() -> None:
    assert place_for("a", [], 1) == (True, None)
    assert place_for("a", crowd("b", 100) + crowd("a", 99), 200) == (True, None)


def test_one_source_gets_half() -> None:
    """More than that it gets in the place of its own oldest, though there is room."""
    guests = [*crowd("a", 99, since=10), Guest("a", 3), Guest("b", 1)]
    assert place_for("a", guests, 200) == (True, Guest("a", 3))
    assert place_for("b", guests, 200) == (True, None)


def test_a_source_that_has_its_share_takes_no_place_of_another() -> None:
    guests = [Guest("a", number, busy=True, paid=True) for number in range(100)] + crowd("b", 99)
    assert place_for("a", guests, 200) == (False, None)
    assert place_for("b", [*guests, Guest("b", 200)], 200) == (True, Guest("b", 0))


def test_whoever_holds_most_gives_one_up() -> None:
    """Even one that is busy, before another's oldest: who reads slowly would else keep all others out."""
    slow = [*crowd("a", 100, since=50, busy=True), *crowd("b", 99, since=60, busy=True)]
    assert place_for("c", [*slow, Guest("h", 1)], 200) == (True, Guest("a", 50, busy=True))


def test_among_many_sources_the_oldest_that_has_not_paid_and_does_nothing() -> None:
    """What a household holds makes no difference."""
    idle = [Guest(f"s{number}", 100 + number) for number in range(180)]
    home = [Guest("h", 1, busy=True), Guest("h", 2, paid=True), Guest("h", 3, busy=True, paid=True)]
    oldest = Guest("t", 50)
    guests = [*idle, *home, oldest, *(Guest(f"u{number}", 300) for number in range(16))]
    assert len(guests) == 200
    assert place_for("n", guests, 200) == (True, oldest)


def test_the_order_in_which_they_leave() -> None:
    """Idle and unpaid, busy and unpaid, idle and paid; never the one that is busy with what it paid for."""
    order = [
        Guest("a", 9),
        Guest("b", 10),
        Guest("c", 2, busy=True),
        Guest("d", 1, paid=True),
        Guest("e", 0, busy=True, paid=True),
    ]
    for first in range(4):
        left = order[first:]
        assert place_for("n", reversed(left), len(left)) == (True, left[0])
    assert place_for("n", order[4:], 1) == (False, None)


def test_one_place_is_somebodys() -> None:
    assert place_for("n", [Guest("a", 1)], 1) == (True, Guest("a", 1))
    assert place_for("a", [Guest("a", 1)], 1) == (True, Guest("a", 1))
