"""A client that pays, against a server that is paid: requests over TLS, whatever comes between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.web.buying import Both, buying, text

from mpchan.errors import NotPossible
from mpchan.http.client.blocking import Client
from mpchan.units import Amount

PRICE = 10


@pytest.fixture(params=("decrementing", "taproot"))
def both(request: pytest.FixtureRequest, tmp_path: Path, chain_directory: Path) -> Iterator[Both]:
    with buying(tmp_path, chain_directory, request.param, PRICE) as found:
        yield found


def test_a_first_request_opens_a_channel_and_the_next_ones_pay_in_it(both: Both) -> None:
    with both.purse() as purse, both.client(purse) as client:
        for count in range(1, 6):
            response = client.request("POST", both.url, body=b"%d" % count)
            assert (response.status, text(response)) == (200, f"hello {count}")
            assert response.receipt is not None
            assert response.receipt.spent == PRICE * count
    assert both.waits >= 1
    [record] = both.records()
    assert record.spent == Amount(5 * PRICE)
    assert [each.amount for each in both.service.served] == [PRICE] * 5


def test_another_process_goes_on_with_the_channel(both: Both) -> None:
    for _ in range(3):
        with both.purse() as purse, both.client(purse) as client:
            assert text(client.request("GET", both.url)) == "hello "
    [record] = both.records()
    assert record.spent == Amount(3 * PRICE)
    assert record.paid.sat <= max(3 * PRICE, record.terms.payee_dust.sat)


def test_a_channel_is_closed_at_what_was_charged(both: Both) -> None:
    """What was signed in advance and never used comes back; and the wallets' files fit."""
    with both.purse() as purse, both.client(purse) as client:
        for _ in range(3):
            text(client.request("GET", both.url))
        closed = client.close_channel(both.url)
    [record] = both.records()
    dust = record.terms.payee_dust.sat
    assert (closed.spent, closed.returned) == (dust, record.terms.capacity.sat - dust)
    assert closed.channel == record.terms.channel_id
    both.pair.chain.mine(1)
    [coin] = both.pair.chain.coins([record.terms.offer.payee_script])
    assert (str(coin.outpoint.txid), coin.output.value) == (closed.txid, Amount(dust))


def test_a_used_up_channel_gives_way_to_another(tmp_path: Path, chain_directory: Path) -> None:
    with buying(tmp_path, chain_directory, "taproot", 4_000) as both:
        for _ in range(2):
            both.pair.coin()
        with both.purse(deposit=10_000) as purse, both.client(purse) as client:
            for _ in range(5):
                assert text(client.request("GET", both.url)) == "hello "
        assert sorted(record.spent.sat for record in both.records()) == [4_000, 8_000, 8_000]


def test_a_channel_past_its_deadline_gives_way_to_another(both: Both) -> None:
    """And its money, which comes back by its refund, is no deposit that somebody would have to agree to again."""
    both.pair.coin()
    with both.purse() as purse, both.client(purse) as client:
        assert text(client.request("GET", both.url)) == "hello "
        deadline = both.record().terms.schedule.deadline
        while not deadline.reached(both.pair.chain.tip()):
            both.pair.chain.mine(1)
        assert text(client.request("GET", both.url)) == "hello "
    assert [record.spent.sat for record in both.records()] == [PRICE, PRICE]
    assert len(both.service.served) == 2


def test_two_programs_share_a_channel(both: Both) -> None:
    """Each learns what the other one has signed from the server, by its own signature."""
    with both.purse() as purse, both.client(purse) as first:
        assert text(first.request("GET", both.url)) == "hello "
        with both.purse(deposit=None) as another, both.client(another) as second:
            for _ in range(3):
                for client in (first, second):
                    assert text(client.request("GET", both.url)) == "hello "
    record = both.record()
    assert record.spent.sat == 7 * PRICE
    assert record.paid.sat == max(7 * PRICE, record.terms.payee_dust.sat)


def test_what_is_free_is_asked_for_without_a_voucher(tmp_path: Path, chain_directory: Path) -> None:
    """Below a path that is paid for a first request brings one all the same; until the path has a price after all."""
    prices = {"/free": None}
    with (
        buying(tmp_path, chain_directory, "taproot", lambda asked: prices.get(asked.path, PRICE)) as both,
        both.purse() as purse,
        both.client(purse) as client,
    ):
        place, _, pin = both.url.partition("#")
        text(client.request("GET", both.url))
        both.between.asked.clear()
        for _ in range(3):
            assert text(client.request("GET", f"{place}free#{pin}")) == "hello "
        assert ["authorization" in each for each in both.between.asked] == [True, False, False]
        prices["/free"] = PRICE  # type: ignore[assignment]
        for _ in range(2):
            assert text(client.request("GET", f"{place}free#{pin}")) == "hello "
        assert ["authorization" in each for each in both.between.asked[3:]] == [False, True, True]
        assert both.record().paid.sat == both.record().terms.payee_dust.sat
    assert both.record().spent.sat == 3 * PRICE


def test_a_second_channel_is_closed_after_the_first(both: Both) -> None:
    both.pair.coin()
    for _ in range(2):
        with both.purse() as purse, both.client(purse) as client:
            assert text(client.request("GET", both.url)) == "hello "
            closed = client.close_channel(both.url)
            both.pair.chain.mine(1)
        assert closed.channel in {record.terms.channel_id for record in both.records()}
    assert [record.state.total.sat for record in both.records()] == [
        both.records()[0].terms.payee_dust.sat
    ] * 2
    with both.purse() as purse, both.client(purse) as client, pytest.raises(NotPossible) as error:
        client.close_channel(both.url)
    assert error.value.slug == "no-channel"


def test_a_channel_that_was_begun_goes_on_within_the_limits_of_the_call(both: Both) -> None:
    """A program was stopped while it waited; the next one may pay less for a request than that."""

    def stopped(seconds: float) -> None:
        raise KeyboardInterrupt

    with both.purse() as purse, Client(purse, wait=stopped) as client, pytest.raises(KeyboardInterrupt):
        client.request("GET", both.url)
    both.pair.chain.mine(1)
    with both.purse(max_price=PRICE - 1) as purse, both.client(purse) as client:
        with pytest.raises(NotPossible) as error:
            client.request("GET", both.url)
        assert error.value.slug == "price-too-high"
    assert both.service.served == []
    with both.purse() as purse, both.client(purse) as client:
        assert text(client.request("GET", both.url)) == "hello "
