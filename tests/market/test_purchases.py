"""What a buyer keeps of a purchase, and the words about what is at stake in it."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.market.market import PRICE, Market, honest, unheard
from support.protocol import make_funded, make_offer, make_opening, make_secured, make_terms

from mpchan.channel import payer
from mpchan.errors import Refused, StorageError, TooEarly
from mpchan.market.standing import stake_text
from mpchan.party import payer as payer_commands
from mpchan.sale.manifest import Sale
from mpchan.units import Amount, FeeRate
from mpchan.values import replace
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.store import canonical, checksum

SESSION = "00112233445566778899aabbccddeeff"
LENGTH = 64 << 10
CONTENT = [bytes([number]) * LENGTH for number in (1, 2, 3)] + [b"\x04" * 100]
SALE = Sale(
    "film", 3 * LENGTH + 100, LENGTH, Amount(PRICE), 0, tuple(sha256(piece).digest() for piece in CONTENT)
)
OFFER = make_offer(sale=SALE.to_table())
PURCHASE = Purchase(SESSION, OFFER, "/home/x/film", (1, 2, 4), (2, 4))

# purchases ----------------------------------------------------------------------------------------


@pytest.fixture
def purchases(tmp_path: Path) -> Purchases:
    return Purchases(tmp_path)


def path_of(purchases: Purchases) -> Path:
    [path] = purchases.files()
    return path


@pytest.mark.parametrize(
    "purchase",
    [
        PURCHASE,
        replace(PURCHASE, own=replace(OFFER, offer_id="1" * 16), done=True),
        replace(PURCHASE, bought=()),
        replace(PURCHASE, output="/tmp/\udcff\n\N{SNOWMAN}"),
    ],
)
def test_a_purchase_reads_back(purchases: Purchases, purchase: Purchase) -> None:
    assert purchases.files() == []
    purchases.save(purchase)
    assert purchases.load(path_of(purchases)) == purchase
    assert path_of(purchases).stat().st_mode & 0o777 == 0o600
    assert path_of(purchases).parent.stat().st_mode & 0o777 == 0o700
    found = purchases.unfinished(SALE.root, purchase.output)
    assert found == ([] if purchase.done else [purchase])


def test_another_purchase_is_another(purchases: Purchases) -> None:
    purchases.save(PURCHASE)
    other = replace(PURCHASE, session=SESSION[::-1], output="/home/x/other")
    purchases.save(other)
    assert purchases.unfinished(SALE.root, "/home/x/other") == [other]
    assert purchases.unfinished(SALE.root, "/home/x/film") == [PURCHASE]
    assert purchases.unfinished(SALE.root, "/home/x") == []
    assert purchases.unfinished(replace(SALE, hashes=SALE.hashes[::-1]).root, "/home/x/film") == []


def damaged(purchases: Purchases, text: bytes) -> None:
    """A purchase in these words is told from a good one, named, and left as it is."""
    path = path_of(purchases)
    path.write_bytes(text)
    for read in (lambda: purchases.load(path), lambda: purchases.unfinished(SALE.root, PURCHASE.output)):
        with pytest.raises(StorageError) as caught:
            read()
        assert (caught.value.slug, caught.value.exit_code) == ("purchase-damaged", 7)
        assert str(path) in caught.value.message
    assert path.read_bytes() == text


def test_a_purchase_that_is_cut_off_anywhere(purchases: Purchases) -> None:
    purchases.save(PURCHASE)
    whole = path_of(purchases).read_bytes()
    for end in [*range(0, len(whole) - 1, 7), *range(len(whole) - 60, len(whole) - 1)]:
        damaged(purchases, whole[:end])
    path_of(purchases).write_bytes(whole[:-1])  # a line feed is no loss
    assert purchases.load(path_of(purchases)) == PURCHASE


def test_a_purchase_with_a_bit_of_damage(purchases: Purchases) -> None:
    purchases.save(PURCHASE)
    whole = path_of(purchases).read_bytes()
    for at in range(0, len(whole) - 1, 5):
        damaged(purchases, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def enveloped(body: object, schema: object = 1) -> bytes:
    """A purchase with a good checksum, whatever it holds."""
    text = canonical(body)
    envelope = f'{{"schema": {json.dumps(schema)}, "checksum": "{checksum(text)}", "purchase": {text}}}\n'
    return envelope.encode()


BODY: dict[str, Any] = {
    "published": OFFER.to_dict(),
    "output": "/home/x/film",
    "wanted": "1-2,4",
    "bought": "2,4",
    "own": None,
    "done": False,
}


def test_what_no_purchase_holds(purchases: Purchases) -> None:
    """Also with a good checksum: a newer schema, other types, pieces that there are not."""
    purchases.save(PURCHASE)
    assert path_of(purchases).read_bytes() == enveloped(BODY)
    damaged(purchases, enveloped(BODY, schema=2))
    damaged(purchases, enveloped(BODY, schema="1"))
    body: Any
    for body in ([], None, 7, "text", {}, {**BODY, "published": make_offer().to_dict()}):
        damaged(purchases, enveloped(body))
    for key in BODY:
        damaged(purchases, enveloped({name: value for name, value in BODY.items() if name != key}))
        for value in (7, ["x"], {"x": 1}, "5-4", True) if key != "done" else (7, None, "yes"):
            if not (key == "output" and value == "5-4"):
                damaged(purchases, enveloped({**BODY, key: value}))
    for key in ("wanted", "bought"):
        damaged(purchases, enveloped({**BODY, key: "1-5"}))
    for text in (b"[]", b"7", b"\xff", b"[" * 100_000, b"9" * 100_000, b"x" * 16_000_001):
        damaged(purchases, text)


def test_a_file_that_is_named_by_no_session(purchases: Purchases) -> None:
    """It is none of the wallet's files."""
    purchases.save(PURCHASE)
    path = path_of(purchases)
    path.rename(path.with_name("notes.json"))
    assert purchases.files() == []
    assert purchases.unfinished(SALE.root, PURCHASE.output) == []


def test_a_damaged_purchase_holds_up_no_other(purchases: Purchases) -> None:
    """Only a new one, since it might be that."""
    purchases.save(PURCHASE)
    purchases.save(replace(PURCHASE, session="0" * 32, output="/home/x/other"))
    (path_of_session(purchases, "0" * 32)).write_text("{}")
    assert purchases.unfinished(SALE.root, "/home/x/film") == [PURCHASE]
    with pytest.raises(StorageError):
        purchases.unfinished(SALE.root, "/home/x/new")


def path_of_session(purchases: Purchases, session: str) -> Path:
    [path] = [path for path in purchases.files() if path.stem == session]
    return path


def test_one_process_fills_a_file(purchases: Purchases, tmp_path: Path) -> None:
    """Another output has another lock, whatever its name is."""
    code = (
        "import sys, pathlib; from mpchan.wallet.purchases import Purchases\n"
        "with Purchases(pathlib.Path(sys.argv[1])).lock('/home/x/film'): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        with pytest.raises(StorageError) as caught, purchases.lock("/home/x/film"):
            pass
        assert (caught.value.slug, caught.value.exit_code) == ("locked", 7)
        with purchases.lock("/home/x/../x/film"), purchases.lock("/\udcff" * 1000):
            pass
        process.stdin.close()
        process.wait()
        with purchases.lock("/home/x/film"):
            pass


# a purchase that goes on, and one that does not -----------------------------------------------------


def stopped(market: Market, kind: str) -> None:
    """A purchase that ends at the first request of a kind."""
    market.bend = unheard(lambda request: request.kind == kind)
    with pytest.raises(TooEarly):
        market.buy()
    market.bend = honest
    market.restart()


def own_pieces(market: Market, *numbers: int) -> None:
    """Pieces that come into the file from elsewhere."""
    part, data = market.output.with_name(market.output.name + ".mpchan-part"), market.file.read_bytes()
    with part.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * 1000)
            file.write(data[(number - 1) * 1000 : number * 1000])


@pytest.mark.parametrize("kind", ["offer", "refund"])
def test_what_has_come_meanwhile_is_not_paid_for(market: Market, kind: str) -> None:
    """No money is locked yet, so it is another purchase, of the rest; the opening gives its coins back."""
    stopped(market, kind)
    session = market.quote().purchase.session
    own_pieces(market, 1, 4)
    result = market.buy()
    assert (result.paid_sat, market.is_whole()) == (3 * PRICE, True)
    assert market.asked("offer")[-1].session != session
    states = [market.pair.payer_record(name).state for name in market.pair.payer.channels.names()]
    assert sum(isinstance(state, payer.Abandoned) for state in states) == (kind == "refund")
    assert sum(isinstance(state, payer.Settling) for state in states) == 1


@pytest.mark.parametrize("kind", ["offer", "refund"])
def test_nothing_is_locked_for_what_is_all_there(market: Market, kind: str) -> None:
    stopped(market, kind)
    own_pieces(market, 1, 2, 3, 4, 5)
    result = market.buy()
    assert (result.paid_sat, result.channel, market.is_whole()) == (0, None, True)
    assert (market.asked("funding"), market.chain.mempool()) == ([], [])


def test_an_opening_that_was_given_up_by_hand(market: Market) -> None:
    stopped(market, "refund")
    payer_commands.abandon(market.pair.payer, market.chain, None)
    market.buy()
    assert (market.is_whole(), len(market.pair.payer.channels.names())) == (True, 2)


def test_a_refund_that_was_taken_by_hand(market: Market) -> None:
    """What was paid for is not paid back, but what is missing can be bought."""
    market.bend = unheard(lambda request: len(market.asked("update")) > 2)
    with pytest.raises(TooEarly):
        market.buy()
    market.bend = honest
    first = market.name
    market.pair.mine_to(market.pair.terms(first).refund_lock_time.value)
    market.pair.refund(first)
    market.chain.mine(1)
    market.pair.restart()
    assert market.quote().purchase.bought == (3, 4, 5)
    assert market.buy().paid_sat == 3 * PRICE
    assert market.is_whole()


def test_what_the_chain_costs_now_holds_up_no_purchase_that_goes_on(market: Market) -> None:
    """A new one would be refused; this one's fees were settled when its money was locked."""
    stopped(market, "update")
    wallet = market.pair.payer
    wallet.config = replace(wallet.config, limits=replace(wallet.config.limits, max_fee_rate=FeeRate(1000)))
    found = market.quote()
    assert found.goes_on
    assert found.funding_fee.sat == 0
    assert found.refund_at == str(market.pair.terms(market.name).refund_lock_time)
    assert market.buy().paid_sat == 5 * PRICE
    market.output = market.output.with_name("another")
    with pytest.raises(Refused) as caught:
        market.quote()
    assert caught.value.slug == "fee-rate-high"


# what is at stake ---------------------------------------------------------------------------------

TERMS = make_terms(capacity=Amount(5 * PRICE))
ON = "the same command goes on where it stopped"


def stake(state: payer.PayerState | None, held: int, hint: str | None = None, *, closed: bool = False) -> str:
    record = None if state is None else PayerRecord(0, state)
    return stake_text(hint, record, Amount(PRICE), held, closed=closed)


def paid(pieces: int) -> payer.Funded:
    return replace(make_funded(TERMS), number=pieces, paid=Amount(pieces * PRICE))


def test_before_anything_is_locked() -> None:
    assert stake(None, 0) == f"nothing is paid and nothing is locked; {ON}"
    assert stake(None, 0, "wait") == f"wait; nothing is paid and nothing is locked; {ON}"
    for state in (make_opening(TERMS), make_secured(TERMS)):
        assert stake(state, 0) == (
            f"nothing is paid and nothing is locked: {ON}, or `mpchan payer abandon` frees the coins"
        )


def test_once_money_is_locked() -> None:
    """The sums are those of the channel: what is paid, less the pieces that are there; and the rest."""
    back = (
        f"come back from {TERMS.refund_lock_time} on with `mpchan payer refund --channel {TERMS.channel_id}`"
    )
    assert stake(paid(0), 0) == f"nothing is lost; the other 5000 sat {back}; {ON}"
    assert stake(paid(3), 3) == f"nothing is lost; the other 2000 sat {back}; {ON}"
    assert stake(paid(3), 4) == f"nothing is lost; the other 2000 sat {back}; {ON}"
    one = "1000 sat are lost at most, the price of one piece"
    assert stake(paid(3), 2) == f"{one}; the other 2000 sat {back}; {ON}"
    assert stake(paid(5), 4, "wait") == f"wait; {one}; {ON}"
    # the file has been deleted; the seller may still deliver what is paid for
    three = "3000 sat are lost at most, the price of 3 pieces"
    assert stake(paid(3), 0) == f"{three}; the other 2000 sat {back}; {ON}"


def test_once_the_seller_has_closed() -> None:
    rest = "the close pays the other 2000 sat back; once a block holds it, the same command buys the rest in another "
    rest += "channel"
    assert stake(paid(3), 3, closed=True) == f"nothing is lost; {rest}"
    assert stake(paid(3), 2, closed=True) == f"1000 sat are lost at most, the price of one piece; {rest}"


def test_a_channel_that_cannot_be_read_hides_no_error(market: Market) -> None:
    """The error is that of the channel's file, and the hint does not pretend to know the sums."""
    market.bend = unheard(lambda request: len(market.asked("update")) > 2)
    with pytest.raises(TooEarly):
        market.buy()
    for path in (market.pair.payer.directory / "channels").glob("*.json"):
        path.write_text("{}")
    market.pair.restart()
    with pytest.raises(StorageError) as caught:
        market.buy()
    assert caught.value.slug == "channel-damaged"
    assert "fsck" in str(caught.value.hint)
