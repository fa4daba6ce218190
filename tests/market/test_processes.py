"""Real ``mpchan payee sell`` and ``mpchan payer buy``, each a process of its own, over both ways."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.processes import INTERRUPT, LATER, PRICE, TERMINATE, WAYS, Program, Shop, opened

from mpchan.bitcoin.tx import Transaction
from mpchan.channel.offer import Offer
from mpchan.market.output import part_path

EITHER = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def shop(way: str, tmp_path: Path, bare: Path, film: Path) -> Iterator[Shop]:
    """64 MiB in 16 pieces."""
    with opened(Shop(tmp_path, bare, way, film, 16)) as shop:
        yield shop


@pytest.fixture
def long_shop(way: str, tmp_path: Path, bare: Path, film: Path) -> Iterator[Shop]:
    """64 MiB in 128 pieces, so that a sale can be met in its middle."""
    with opened(Shop(tmp_path, bare, way, film, 128)) as shop:
        yield shop


def after(seller: Program, payments: int) -> None:
    """Wait until so many payments were made since the seller's start."""
    seller.until(lambda: len(seller.events("update")) >= payments, f"payment {payments}")


# the whole, and some of it ------------------------------------------------------------------------


@pytest.fixture
def taproot_shop(way: str, tmp_path: Path, bare: Path, film: Path) -> Iterator[Shop]:
    """The same in a construction without an exchange, which wallet.toml names."""
    with opened(Shop(tmp_path, bare, way, film, 16, scheme="taproot")) as shop:
        yield shop


@EITHER
def test_a_whole_file_where_nothing_is_exchanged(taproot_shop: Shop) -> None:
    """The seller learns of the channel by its first payment; the refund has its copy before the money leaves."""
    shop = taproot_shop
    seller = shop.sell()
    refund = shop.folder / "refund.hex"
    with shop.mining():
        buyer = shop.buy("--refund-out", str(refund))
        buyer.ends_well()
    assert shop.is_whole()
    shop.check_end()
    assert [event.amount_sat for event in shop.accepted()] == [PRICE] * 16
    assert {line["event"] for line in seller.lines()} >= {"offer", "update", "settlement"}
    assert not {line["event"] for line in seller.lines()} & {"refund", "funding", "refused"}
    assert Transaction.from_hex(refund.read_text().strip()).inputs[0].witness
    assert seller.ended(TERMINATE) == 0


@EITHER
def test_a_whole_file(shop: Shop) -> None:
    """Every payment is one update, and two transactions are all that the chain sees."""
    seller = shop.sell()
    with shop.mining():
        buyer = shop.buy()
        buyer.ends_well()
    assert shop.is_whole()
    shop.check_end()
    accepted = shop.accepted()
    assert [event.amount_sat for event in accepted] == [PRICE] * 16
    assert accepted[-1].paid_sat == 16 * PRICE
    assert seller.ended(TERMINATE) == 0


@EITHER
def test_an_offer_that_is_renewed_in_the_middle(long_shop: Shop) -> None:
    """Thirteen hours pass at once: the seller publishes another offer, and the buyer ends in its own channel."""
    shop, hours = long_shop, long_shop.folder / "hours"
    hours.write_text("0")
    shop.commands["seller"] = [sys.executable, str(LATER), str(hours)]
    seller = shop.sell("--interval", "0.05")
    before = Offer.from_toml(shop.offer.read_text())
    with shop.mining():
        buyer = shop.buy()
        after(seller, 5)
        hours.write_text("13")
        [renewed] = seller.until(lambda: seller.events("renewed"), "another offer")
        paid = len(seller.events("update"))
        assert buyer.is_running
        buyer.ends_well()
    assert len(seller.events("update")) > paid
    published = Offer.from_toml(shop.offer.read_text())
    assert published.offer_id == renewed["offer_id"] != before.offer_id
    assert published.expires - before.expires > 12 * 3600
    assert shop.is_whole()
    shop.check_end()
    assert seller.ended(TERMINATE) == 0


@EITHER
def test_some_pieces_of_a_file(shop: Shop) -> None:
    """What was not wanted stays a hole; then the rest, in a channel of its own."""
    wanted = {3, 4, 5, 6, 7, 12}
    shop.sell()
    with shop.mining():
        shop.buy("--pieces", "3-7,12").ends_well()
        assert shop.right_pieces() == wanted
        assert (shop.paid(), shop.received()) == (6 * PRICE, 6 * PRICE)
        status = shop.output().stat()
        assert status.st_size == len(shop.data)
        assert status.st_blocks * 512 < 8 * shop.sale.piece_length
        shop.buy().ends_well()
    assert shop.is_whole()
    assert (shop.paid(), shop.received()) == (16 * PRICE, 16 * PRICE)
    assert len(shop.wallet("buyer").channels.names()) == 2


@EITHER
def test_samples_are_free(way: str, tmp_path: Path, bare: Path, film: Path) -> None:
    """They come before any money is locked, and without a channel where nothing else is wanted."""
    with opened(Shop(tmp_path, bare, way, film, 16, options=("--free-pieces", "2"))) as shop:
        shop.sell()
        shop.buy("--pieces", "1-2").ends_well()
        assert shop.right_pieces() == {1, 2}
        assert (shop.wallet("buyer").channels.names(), shop.transactions()) == ([], [])
        with shop.mining():
            shop.buy().ends_well()
        assert shop.is_whole()
        shop.check_end()
        assert len(shop.accepted()) == 14


# stopped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "number", "code"), [("mailbox", TERMINATE, 0), ("tcp", INTERRUPT, 130)], ids=["sigterm", "ctrl-c"]
)
def test_a_seller_that_is_stopped_goes_on_with_its_buyers(long_shop: Shop, number: int, code: int) -> None:
    shop, first = long_shop, long_shop.sell()
    with shop.mining():
        buyer = shop.buy()
        after(first, 5)
        assert first.ended(number) == code
        assert buyer.is_running
        shop.check_debt()
        second = shop.sell()
        buyer.ends_well()
    assert second.ended(number) == code
    told = [event["offer_id"] for seller in (first, second) for event in seller.events("selling")]
    assert len(told) == 2
    assert len(set(told)) == 1
    sessions = [{event["session"] for event in seller.events("update")} for seller in (first, second)]
    assert sessions[0] == sessions[1]
    assert len(sessions[0]) == 1
    assert shop.is_whole()
    shop.check_end()
    assert len(shop.accepted()) == 128


@EITHER
def test_a_buyer_that_is_stopped_goes_on(long_shop: Shop) -> None:
    shop, seller = long_shop, long_shop.sell()
    with shop.mining():
        buyer = shop.buy()
        after(seller, 5)
        assert buyer.ended(INTERRUPT) == 130
        shop.check_debt()
        assert re.search(
            r"mpchan: hint: .*(nothing is lost|1000 sat are lost at most, the price of one piece); the other \d+ sat "
            r"come back from block \d+ on with `mpchan payer refund --channel [0-9a-f]{16}`; the same command goes on",
            buyer.err,
        )
        assert part_path(shop.output()).exists()
        assert not shop.output().exists()
        shop.buy().ends_well()
    assert shop.is_whole()
    shop.check_end()
    assert len(shop.accepted()) == 128


@pytest.mark.parametrize("way", ["mailbox"])
def test_a_buyer_that_is_stopped_before_anything_is_paid(shop: Shop) -> None:
    """Nobody mines: the money is locked, and nothing of it is at stake."""
    shop.sell()
    buyer = shop.buy()
    buyer.until(lambda: "waiting for confirmations" in buyer.err, "the wait for a block")
    assert buyer.ended(INTERRUPT) == 130
    assert "nothing is lost; the other 16000 sat come back from block" in buyer.err
    with shop.mining():
        shop.buy(yes=False).ends_well()  # it was agreed to before
    shop.check_end()


@EITHER
def test_a_seller_that_vanishes(long_shop: Shop) -> None:
    shop, seller = long_shop, long_shop.sell()
    with shop.mining():
        buyer = shop.buy("--patience", "1")
        after(seller, 5)
        seller.kill()
        assert buyer.ended() == 6
        shop.check_debt()
        assert re.search(
            r"mpchan: hint: .*it is safe to try again; 1000 sat are lost at most, the price of one piece; the other "
            r"\d+ sat come back from block \d+ on with `mpchan payer refund --channel [0-9a-f]{16}`; the same",
            buyer.err,
        )
        shop.sell()
        shop.buy().ends_well()
    assert shop.is_whole()
    shop.check_end()


@EITHER
def test_a_seller_that_never_was_there(shop: Shop) -> None:
    """Only its offer."""
    shop.sell().kill()
    buyer = shop.buy("--patience", "1")
    assert buyer.ended() == 6
    assert "nothing is paid and nothing is locked; the same command goes on" in buyer.err
    assert buyer.out == ""
    assert shop.wallet("buyer").channels.names() == []


# what they tell -----------------------------------------------------------------------------------


@EITHER
def test_every_line_is_an_object(shop: Shop) -> None:
    """The seller's events one by one, and the one answer of the buyer."""
    seller = shop.sell("--buyers", "1")
    with shop.mining():
        buyer = shop.buy("--json")
        buyer.ends_well()
        seller.ends_well()
    kinds = [line["event"] for line in seller.lines() if "session" in line]
    assert kinds == ["offer", "refund", "funding", *["update"] * 16, "settlement"]
    assert [line["piece"] for line in seller.events("update")] == list(range(1, 17))
    assert {line["error"] for line in seller.events("update")} == {None}
    others = [line["event"] for line in seller.lines() if "session" not in line]
    assert others[0] == "selling"
    assert set(others[1:]) <= {"channel", "round"}
    assert seller.err == ""
    [answer] = buyer.lines()
    assert buyer.err == ""
    [channel] = shop.wallet("buyer").channels.names()
    assert answer == {
        "name": shop.film.name,
        "wanted": "1-16",
        "bought": "1-16",
        "price_sat": PRICE,
        "capacity_sat": 16 * PRICE,
        "reserve_sat": answer["reserve_sat"],
        "funding_fee_sat": answer["funding_fee_sat"],
        "output": str(shop.output()),
        "pieces": 16,
        "bytes": len(shop.data),
        "merkle_root": shop.sale.root.hex(),
        "channel": channel[:16],
        "paid_sat": 16 * PRICE,
        "settlement_txid": answer["settlement_txid"],
    }
    assert answer["settlement_txid"] in shop.transactions()


@EITHER
def test_a_failure_is_an_object_too(shop: Shop) -> None:
    shop.sell().kill()
    buyer = shop.buy("--json", "--patience", "0.1")
    assert buyer.ended() == 6
    error = json.loads(buyer.err)
    assert (buyer.out, error["error"], error["exit_code"]) == ("", "peer-silent", 6)
    assert "nothing is paid" in error["hint"]
    unsure = shop.buy("--json", yes=False)
    assert unsure.ended() == 5
    assert json.loads(unsure.err)["error"] == "not-confirmed"


@EITHER
def test_two_buyers_and_the_seller_ends(way: str, tmp_path: Path, bare: Path, film: Path) -> None:
    """By itself, when both have all that they are to get."""
    with opened(Shop(tmp_path, bare, way, film, 16, buyers=2)) as shop:
        seller = shop.sell("--buyers", "2")
        with shop.mining():
            both = [shop.buy(name=name) for name in shop.buyers]
            for buyer in both:
                buyer.ends_well()
            seller.ends_well()
        assert all(shop.is_whole(name) for name in shop.buyers)
        assert [shop.paid(name) for name in shop.buyers] == [16 * PRICE] * 2
        assert len(shop.transactions()) == 4
        assert shop.confirmed_sat("seller") == shop.received() == 32 * PRICE
        assert len({event["session"] for event in seller.events("settlement")}) == 2
