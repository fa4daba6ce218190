"""The cash register: what is charged, what is in flight, what is left, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair
from support.shop import FIRST, SCHEMES, Shop

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee
from mpchan.errors import MpchanError, StorageError
from mpchan.party import payee as commands
from mpchan.party.register.asks import Ask, Repeated, Reserved, Short, Signed, Taken, Verdict
from mpchan.party.register.register import Register
from mpchan.units import Amount
from mpchan.wallet.account import Account


@pytest.fixture(params=SCHEMES)
def shop(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Shop]:
    with EmbeddedChain(chain_directory) as chain:
        found = Shop(Pair(tmp_path, chain, scheme=request.param))
        yield found
        found.register.close()


def numbers(verdict: Verdict) -> tuple[int, int, int]:
    assert not isinstance(verdict, MpchanError), verdict
    standing = verdict.standing
    return standing.accepted, standing.spent - FIRST, standing.reserved


def slug(verdict: Verdict) -> str:
    assert isinstance(verdict, MpchanError | Short)
    return verdict.slug


def test_a_request_is_reserved_served_and_charged(shop: Shop) -> None:
    """What was paid by hand was paid for something else, and no request uses it."""
    first = shop.ask(FIRST + 10)
    assert isinstance(first, Reserved)
    assert numbers(first) == (FIRST + 10, 0, 10)
    assert shop.account() == Account(FIRST, (shop.account().reserved[0],), FIRST + 10)
    shop.end(first, 10)
    second = shop.ask(FIRST + 20)
    assert numbers(second) == (FIRST + 20, 10, 10)
    shop.end(second, 0)
    shop.register.flush()
    assert shop.account() == Account(FIRST + 10, (), FIRST + 20)
    record = shop.pair.payee_record(shop.name)
    assert record.paid == Amount(FIRST + 20)


def test_many_requests_of_one_batch_stand_on_one_countersigned_total(shop: Shop) -> None:
    asks = [Ask(shop.name, shop.signed(FIRST + 10 * n), 10, f"k{n}", "ab" * 32) for n in range(1, 8)]
    verdicts = shop.register.take_many(asks)
    assert [numbers(verdict) for verdict in verdicts] == [(FIRST + 10 * n, 0, 10 * n) for n in range(1, 8)]
    assert shop.account().held == 70
    best = payee.best_of(shop.pair.payee_record(shop.name).state)
    assert best is not None
    assert best.paid == Amount(FIRST + 70)
    shop.pair.restart()
    closed = shop.pair.settle(name=shop.name) if shop.form.last is None else None
    assert closed is None or closed.paid_sat == FIRST + 70


def test_totals_overtake_each_other(shop: Shop) -> None:
    early, late = shop.signed(FIRST + 10), shop.signed(FIRST + 20)
    [verdict] = shop.register.take_many([Ask(shop.name, late, 10, "b", "cd" * 32)])
    assert isinstance(verdict, Reserved)
    [low] = shop.register.take_many([Ask(shop.name, early, 10, "a", "ab" * 32)])
    assert isinstance(low, Short)
    assert (low.slug, low.required, low.standing.accepted) == ("voucher-low", FIRST + 20, FIRST + 20)
    assert low.standing.signature == late.signature
    [again] = shop.register.take_many([Ask(shop.name, late, 10, "a", "ab" * 32)])
    assert numbers(again) == (FIRST + 20, 0, 20)


def test_an_equal_total_buys_nothing_without_a_key(shop: Shop) -> None:
    assert slug(shop.ask(FIRST, key="none")) == "balance-low"
    shop.end(shop.ask(FIRST + 10), 0)
    assert slug(shop.ask(FIRST + 10)) == "balance-low"
    assert isinstance(shop.ask(FIRST + 10, price=0), Taken)
    assert isinstance(shop.ask(FIRST + 10, key="one"), Reserved)


def test_what_is_left_has_to_pay_for_it(shop: Shop) -> None:
    assert isinstance(shop.ask(FIRST + 20, price=15, key="one"), Reserved)
    short = shop.ask(FIRST + 20, price=10, key="two")
    assert isinstance(short, Short)
    assert (short.slug, short.required) == ("balance-low", FIRST + 25)
    assert isinstance(shop.ask(FIRST + 25, price=10, key="two"), Reserved)


def test_a_key_is_charged_once(shop: Shop) -> None:
    first = shop.ask(FIRST + 10, key="k")
    flying = shop.ask(FIRST + 10, key="k")
    assert flying == Repeated(flying.standing, None)
    shop.end(first, 7)
    assert numbers(shop.ask(FIRST + 10, key="k")) == (FIRST + 10, 7, 0)
    for _ in range(2):
        shop.again()
        ended = shop.ask(FIRST + 10, key="k")
        assert isinstance(ended, Repeated)
        assert ended.charged == 7
    ask = Ask(shop.name, shop.signed(FIRST + 10), 10, "k", "ef" * 32)
    assert slug(shop.register.take_many([ask])[0]) == "key-reused"
    assert slug(shop.ask(FIRST + 10, key="\x00")) == "malformed-key"


def test_a_request_that_was_dropped_may_come_again(shop: Shop) -> None:
    shop.end(shop.ask(FIRST + 10, key="k"), 0)
    assert isinstance(shop.ask(FIRST + 10, key="k"), Reserved)


def test_an_end_counts_once(shop: Shop) -> None:
    """Not a second time for the same key, which is served again."""
    shop.end(shop.ask(FIRST + 10, key="k"), 0)
    shop.register.flush()
    assert isinstance(shop.ask(FIRST + 10, key="k"), Reserved)
    shop.register.flush()
    assert shop.account().held == 10


def test_what_a_process_has_left_in_flight_counts_as_charged(shop: Shop) -> None:
    shop.ask(FIRST + 10, key="k")
    shop.again()
    assert shop.account() == Account(FIRST + 10, (), FIRST + 10)
    repeated = shop.ask(FIRST + 10, key="k")
    assert isinstance(repeated, Repeated)
    assert repeated.charged == 10


def test_one_process_has_the_register(shop: Shop) -> None:
    with pytest.raises(StorageError) as error:
        Register(shop.pair.payee, chain=shop.pair.chain)
    assert error.value.slug == "locked"


def test_what_a_payer_must_not_send(shop: Shop) -> None:
    assert slug(shop.ask(shop.terms.capacity.sat + 1)) == "over-capacity"
    good = shop.signed(FIRST + 50)
    forged = Signed(FIRST + 60, good.number, good.signature)
    for bad in (
        forged,
        Signed(FIRST + 50, good.number, b"x" * 64),
        Signed(FIRST - 10, good.number, good.signature),
    ):
        [verdict] = shop.register.take_many([Ask(shop.name, bad, 10)])
        assert slug(verdict) == "bad-signature"
    before = shop.pair.files()
    [verdict] = shop.register.take_many([Ask("ab" * 32 + "-0", good, 10)])
    assert slug(verdict) == "unknown-channel"
    assert shop.pair.files() == before


def test_from_the_deadline_on_nothing_is_taken(shop: Shop) -> None:
    """What was signed for and not used buys nothing then either."""
    shop.end(shop.ask(FIRST + 10), 0)
    shop.register.flush()
    shop.pair.mine_to(shop.terms.schedule.deadline.value)
    shop.register._known.clear()
    before = shop.pair.payee_record(shop.name)
    assert slug(shop.ask(FIRST + 20)) == "past-deadline"
    assert slug(shop.ask(FIRST + 10, key="left over")) == "past-deadline"
    assert shop.pair.payee_record(shop.name) == before


@pytest.mark.parametrize("last", ["satoshi", "number"])
def test_what_is_left_over_buys_after_the_last_total(shop: Shop, last: str) -> None:
    """No total comes any more, but what this one pays for is not lost; from the deadline on it is."""
    total = shop.terms.capacity.sat if last == "satoshi" else FIRST + 500
    if last == "number" and shop.form.last is not None:
        shop.number = shop.form.last - 1
    shop.end(shop.ask(total, key="first"), 10)
    second = shop.ask(total, key="second")
    assert numbers(second) == (total, 10, 10)
    shop.end(second, 10)
    shop.register.flush()
    shop.pair.mine_to(shop.terms.schedule.deadline.value)
    shop.register._known.clear()
    assert slug(shop.ask(total, key="third")) == "past-deadline"


def test_what_a_request_costs_is_never_above_what_was_reserved(shop: Shop) -> None:
    shop.end(shop.ask(FIRST + 10), 11)
    with pytest.raises(ValueError, match="-1"):
        shop.register.outcome(shop.name, "key", -1)
    shop.register.flush()
    assert shop.account().spent == FIRST + 10


def test_what_is_paid_by_hand_meanwhile_is_no_requests(shop: Shop) -> None:
    first = shop.ask(FIRST + 10, key="k")
    total = shop.signed(FIRST + 300)
    message = shop.form.message(shop.number, total.total, total.signature)
    shop.pair.accept(message)
    shop.end(first, 10)
    assert slug(shop.ask(FIRST + 300, key="other")) == "balance-low"
    shop.register.flush()
    assert shop.account().spent == FIRST + 300
    shop.again()
    repeated = shop.ask(FIRST + 300, key="k")
    assert isinstance(repeated, Repeated)
    assert repeated.charged == 10


def test_too_many_requests_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The total of one that is refused is not taken, so nothing is served on the strength of it."""
    monkeypatch.setattr("mpchan.party.register.channel.MOST_IN_FLIGHT", 1)
    asks = [Ask(shop.name, shop.signed(FIRST + 10 * n), 10, f"k{n}", "ab" * 32) for n in (1, 2)]
    first, second = shop.register.take_many(asks)
    assert isinstance(first, Reserved)
    assert slug(second) == "too-many-requests"
    assert shop.pair.payee_record(shop.name).paid == Amount(FIRST + 10)


# the end ------------------------------------------------------------------------------------------


def closing(shop: Shop, total: int) -> Signed:
    return Signed(total, None, shop.key.sign_settlement(shop.terms, Amount(total)))


def test_a_payer_closes_at_what_was_charged(shop: Shop) -> None:
    first = shop.ask(FIRST + 500, price=400)
    assert shop.register.close_channel(shop.name, closing(shop, FIRST + 500)) is None
    shop.end(first, 400)
    for total in (FIRST + 500, FIRST + 399, FIRST + 401, 400):
        short = shop.register.close_channel(shop.name, closing(shop, total))
        assert isinstance(short, Short)
        assert short.required == FIRST + 400
    shop.end(shop.ask(FIRST + 900, price=200), 200)
    closed = shop.register.close_channel(shop.name, closing(shop, FIRST + 600))
    assert not isinstance(closed, Short)
    assert closed is not None
    assert (closed.paid_sat, closed.broadcast) == (FIRST + 600, True)
    assert slug(shop.ask(FIRST + 1000)).startswith("channel-")
    left_over = Ask(shop.name, shop.signed(FIRST + 900, shop.number - 1), 10, "left over")
    [refused] = shop.register.take_many([left_over])
    assert slug(refused).startswith("channel-")
    shop.pair.chain.mine(6)
    shop.pair.restart()
    assert shop.pair.status(shop.name) == ("closed", "closed")


def test_nobody_else_closes_below_what_was_signed(shop: Shop) -> None:
    shop.end(shop.ask(FIRST + 900, price=600), 600)
    shop.register.flush()
    total = FIRST + 600
    message = shop.terms.lock.message(
        shop.terms.schedule.build(_settlement(total)), shop.terms.payer_key, closing(shop, total).signature
    )
    with pytest.raises(MpchanError) as error:
        shop.pair.settle(message.to_hex())
    assert error.value.slug == "paid-lower"


def test_no_close_at_what_was_charged_while_a_request_is_in_flight(shop: Shop) -> None:
    """Not even where nobody has asked the register."""
    shop.ask(FIRST + 500, price=400)
    signature = closing(shop, FIRST).signature
    message = shop.terms.lock.message(
        shop.terms.schedule.build(_settlement(FIRST)), shop.terms.payer_key, signature
    )
    with pytest.raises(MpchanError) as error:
        commands.settle(shop.pair.payee, shop.pair.chain, message, at_spent=True)
    assert error.value.slug == "paid-lower"


def _settlement(total: int):  # type: ignore[no-untyped-def]
    from mpchan.channel.construction.base import settlement

    return settlement(Amount(total))
