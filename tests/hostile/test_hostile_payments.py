"""What the payer does not do, whoever asks: fund without a refund, pay too much, too late, or twice.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hostile import Desk, environment, mpchan
from support.party import Pair
from support.protocol import message, scheme_of, signed
from support.transcript import program

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.payer import Opening
from mpchan.party.common import read_psbt
from mpchan.units import Amount
from mpchan.wallet.keys import Keys


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain), folder)


# 45: no refund, no funding ------------------------------------------------------------------------

TRIES: dict[str, tuple[tuple[str, ...], str, int]] = {
    "45 fund with the request itself": (("payer", "fund", "REQUEST", "-o", "OUT"), "missing-signature", 4),
    "45 fund with the refund signed by the payer": (
        ("payer", "fund", "OWN", "-o", "OUT"),
        "missing-signature",
        4,
    ),
    "45 fund with an unsigned settlement": (("payer", "fund", "CLOSE", "-o", "OUT"), "missing-signature", 4),
    "45 pay": (("payer", "pay", "1000", "-o", "OUT", "--channel", "ID"), "not-funded", 5),
    "45 pay a total": (("payer", "pay", "--total", "1000", "-o", "OUT", "--channel", "ID"), "not-funded", 5),
    "45 pay the last again": (("payer", "pay", "--last", "-o", "OUT", "--channel", "ID"), "no-update", 5),
    "45 settle": (("payer", "settle", "-o", "OUT", "--channel", "ID"), "not-funded", 5),
    "45 refund": (("payer", "refund", "-o", "OUT", "--channel", "ID"), "not-funded", 5),
}


@pytest.mark.parametrize("name", TRIES)
def test_45_nothing_signs_the_funding_before_the_refund_is_held(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unthinkable(*_: object) -> Transaction:
        raise AssertionError("the funding would be signed")

    monkeypatch.setattr(Keys, "sign_coins", unthinkable)
    words, slug, code = TRIES[name]
    pair = desk.pair
    request = pair.request()
    channel = f"{request.funding_txid}-0"
    terms = pair.payer_record(channel).terms
    files = {
        "REQUEST": request.hex,
        "OWN": signed(terms, scheme_of(terms).refund(), pair.payer_secret(channel)).to_hex(),
        "CLOSE": message(terms, scheme_of(terms).settlement(Amount(0))).to_hex(),
    }
    for stem, content in files.items():
        (desk.folder / stem).write_text(content)
    places = {stem: str(desk.folder / stem) for stem in (*files, "OUT")}
    error = desk.refused(desk.payer, *(places.get(word, channel if word == "ID" else word) for word in words))
    assert (error.slug, error.exit_code) == (slug, code), error.message
    assert not (desk.folder / "OUT").exists()
    assert isinstance(pair.payer_record(channel).state, Opening)
    assert pair.chain.output(terms.outpoint) is None


# 48: what a payment cannot be ---------------------------------------------------------------------

AMOUNTS: dict[str, tuple[tuple[str, ...], str, int]] = {
    "48 a satoshi above the capacity": (("100001",), "over-capacity", 5),
    "48 all the money of the world": (("21000000btc",), "over-capacity", 5),
    "48 zero": (("0",), "zero-payment", 5),
    "48 below dust": (("293",), "below-dust", 5),
    "48 negative": (("-1",), "usage", 2),
    "48 negative, as an argument": (("--", "-1"), "malformed-amount", 2),
    "48 a fraction": (("1.5",), "malformed-amount", 2),
    "48 a fraction of a satoshi": (("0.000000001btc",), "malformed-amount", 2),
    "48 an exponent": (("1e3",), "malformed-amount", 2),
    "48 more than there will ever be": (("2100000000000001",), "malformed-number", 2),
    "48 digits of another script": (("٣",), "malformed-amount", 2),
    "48 words": (("lots",), "malformed-amount", 2),
    "48 nothing": (("",), "malformed-amount", 2),
    "48 a total above the capacity": (("--total", "100001"), "over-capacity", 5),
    "48 a total below dust": (("--total", "293"), "below-dust", 5),
    "48 a negative total": (("--total=-1",), "malformed-amount", 2),
    "48 a total of zero": (("--total", "0"), "zero-payment", 5),
}


@pytest.fixture(scope="module")
def opened(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path_factory.mktemp("pair"), chain)
        pair.open()
        yield Desk(pair, tmp_path_factory.mktemp("desk"))


@pytest.mark.parametrize("name", AMOUNTS)
def test_hostile_payment_is_refused(opened: Desk, name: str) -> None:
    words, slug, code = AMOUNTS[name]
    target = opened.folder / "out"
    error = opened.refused(opened.payer, "payer", "pay", "-o", target, *words)
    assert (error.slug, error.exit_code) == (slug, code), error.message
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "first", "total", "slug"),
    [
        ("48 a settlement above the capacity", 0, 100_001, "over-capacity"),
        ("48 a settlement below what is paid", 1000, 999, "total-below-paid"),
        ("48 a settlement below dust", 0, 293, "below-dust"),
        ("48 a total below what is paid", 1000, -999, "total-below-paid"),
    ],
)
def test_hostile_total_is_refused(desk: Desk, name: str, first: int, total: int, slug: str) -> None:
    channel = desk.pair.open()
    if first:
        desk.pair.pay(channel, first)
    command = ("pay", "--total", str(-total)) if total < 0 else ("settle", "--total", str(total))
    error = desk.refused_writing(desk.payer, "payer", *command)
    assert (error.slug, error.exit_code) == (slug, 5), name


# 49 to 53 -----------------------------------------------------------------------------------------


def test_49_two_payments_at_once(desk: Desk) -> None:
    """Each has a number of its own; and the payee takes them all."""
    pair = desk.pair
    channel = pair.open()
    words = [str(program()), "--wallet", str(desk.payer), "payer", "pay", "1000", "--json"]
    running = [
        subprocess.Popen(words, env=environment(desk.chain), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    updates = []
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, b"")
        updates.append(json.loads(out))
    assert sorted(update["update"] for update in updates) == [1, 2, 3, 4]
    assert sorted(update["paid_sat"] for update in updates) == [1000, 2000, 3000, 4000]
    assert {update["update"]: update["paid_sat"] // 1000 for update in updates} == {n: n for n in range(1, 5)}
    for update in sorted(updates, key=lambda update: int(update["update"])):
        assert desk.done(desk.payee, "payee", "accept", desk.file(update["hex"]))["received_sat"] == 1000
    assert pair.payer_record(channel).paid == Amount(4000)


@pytest.mark.parametrize(
    "words",
    [("pay", "1000"), ("pay", "--total", "9000"), ("settle", "--total", "9000")],
    ids=["pay", "total", "settle"],
)
@pytest.mark.parametrize("after", ["settlement", "refund"])
def test_50_no_payment_after_the_end_has_begun(desk: Desk, after: str, words: tuple[str, ...]) -> None:
    pair = desk.pair
    channel = pair.open()
    pair.pay(channel, 1000)
    if after == "settlement":
        pair.settlement(channel)
        slugs = ["settlement-handed-over" if words[0] == "settle" else "channel-settling"]
    else:
        pair.mine_to(pair.terms(channel).refund_lock_time.value)
        pair.refund(channel)
        slugs = ["channel-refunding", "channel-refunded"]
    for slug in slugs:
        error = desk.refused_writing(desk.payer, "payer", *words, "--channel", channel)
        assert (error.slug, error.exit_code) == (slug, 5), error.message
        pair.chain.mine(1)


def test_51_no_payment_at_the_deadline(desk: Desk) -> None:
    pair = desk.pair
    channel = pair.open()
    deadline = scheme_of(pair.terms(channel)).deadline.value
    pair.mine_to(deadline - 1)
    update = desk.done(desk.payer, "payer", "pay", "1000")
    assert desk.done(desk.payee, "payee", "accept", desk.file(update["hex"]))["paid_sat"] == 1000
    pair.mine_to(deadline)
    for words in (("1000",), ("--total", "2000")):
        error = desk.refused_writing(desk.payer, "payer", "pay", *words)
        assert (error.slug, error.exit_code) == ("past-deadline", 5)
    assert desk.done(desk.payer, "payer", "pay", "--last")["hex"] == update["hex"]


def test_52_a_refund_before_its_time(desk: Desk) -> None:
    pair = desk.pair
    channel = pair.open()
    lock_time = pair.terms(channel).refund_lock_time.value
    for left in (30, 1):
        pair.mine_to(lock_time - left)
        error = desk.refused_writing(desk.payer, "payer", "refund")
        assert (error.slug, error.exit_code) == ("refund-locked", 6)
        assert error.message == (
            f"the refund is locked until block {lock_time}, the chain stands at {lock_time - left}"
        )
        assert error.hint == f"{left} block{'' if left == 1 else 's'} to go"
    pair.mine_to(lock_time)
    assert desk.done(desk.payer, "payer", "refund")["broadcast"] is True


def test_53_a_refund_is_done_when_a_block_holds_it(desk: Desk) -> None:
    pair = desk.pair
    channel = pair.open()
    pair.mine_to(pair.terms(channel).refund_lock_time.value)
    sent = desk.done(desk.payer, "payer", "refund")
    assert desk.done(desk.payer, "show", channel)["status"] == "refunding"
    error = desk.refused(desk.payer, "wait", channel, "--for", "closed", "--timeout", "0")
    assert (error.slug, error.exit_code) == ("timeout", 6)
    before = desk.done(desk.payer, "balance")["confirmed_sat"]
    pair.chain.mine(1)
    assert desk.done(desk.payer, "show", channel)["status"] == "refunded"
    ended = mpchan(desk.payer, desk.chain, "wait", channel, "--for", "closed", "--timeout", "0")
    assert ended.json == {"channel": sent["channel"], "status": "refunded"}
    back = desk.done(desk.payer, "balance")["confirmed_sat"] - before
    assert back == Transaction.from_hex(sent["hex"]).outputs[0].value.sat


def test_44_a_reply_from_another_opening(desk: Desk) -> None:
    """The payee's good signature, for the refund of the opening that was given up before."""
    pair = desk.pair
    first = pair.request()
    reply = read_psbt(pair.sign_refund(first.hex).encode())
    desk.done(desk.payer, "payer", "abandon", "--channel", first.channel)
    path = desk.file(reply)
    error = desk.refused_writing(desk.payer, "payer", "fund", path)
    assert (error.slug, error.exit_code) == ("channel-abandoned", 5)
    assert desk.judged(desk.payer, path)["error"] == "channel-abandoned"
