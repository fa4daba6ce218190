"""Refunds that strangers ask a seller for: one line each, a channel once the chain shows the funding, and then some.

Whatever happens in between, no second refund is signed for an outpoint, an offer or a payer's key.
"""

from __future__ import annotations

import time

import pytest
from support.market.cheats import Forger
from support.market.market import PRICE, Market
from support.protocol import bent, message, scheme_of, signed_message, unsigned_message

from mpchan.bitcoin.tx import Transaction
from mpchan.channel.carried import with_offer
from mpchan.channel.payer import refund_request
from mpchan.channel.terms import Terms
from mpchan.errors import ChainError, NotPossible, Refused, StorageError
from mpchan.party import payee, payer
from mpchan.party.backup import restore
from mpchan.party.check.verify import verify
from mpchan.party.coins import send
from mpchan.party.common import read_psbt
from mpchan.party.history import history
from mpchan.party.meter.payee import Payee
from mpchan.party.offers.selling import offer_for, published_offer
from mpchan.party.opening.again import open_again
from mpchan.party.opening.notes import record_of
from mpchan.party.opening.round import DAY_SECONDS, OpeningRound
from mpchan.party.register import room
from mpchan.party.views import list_channels
from mpchan.party.watch.watcher import Watcher
from mpchan.transport.base import Message
from mpchan.units import Amount, ChainTip, FeeRate, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.backup import collect, pack
from mpchan.wallet.opening import MAX_LINE_BYTES
from mpchan.wallet.wallet import Wallet

ANN, BOB = "aa" * 16, "bb" * 16
ELSEWHERE = OutPoint(Txid(b"\x01" * 32), 0)


@pytest.fixture
def ann(market: Market) -> Forger:
    """A buyer whose refund is signed, and whose funding nobody has seen."""
    buyer = Forger(market, ANN)
    assert isinstance(buyer.ask("refund", buyer.opening().hex), Message)
    return buyer


def lines(market: Market) -> list[bytes]:
    """The openings, as the file has them."""
    path = market.pair.payee.directory / "openings" / "notes"
    return path.read_bytes().splitlines(keepends=True)[1:] if path.exists() else []


def request_of(market: Market, buyer: Forger) -> str:
    """The buyer's request for its refund."""
    return refund_request(market.pair.payer_record(buyer.name).state).to_hex()


def asking_under(terms: Terms) -> str:
    """A refund request for any terms."""
    return with_offer(unsigned_message(terms, scheme_of(terms).refund()), terms.offer).to_hex()


def reply_of(market: Market, buyer: Forger) -> str:
    """The seller's answer to it."""
    answer = buyer.ask("refund", request_of(market, buyer))
    assert isinstance(answer, Message), answer
    return answer.body.hex()


# what is kept -------------------------------------------------------------------------------------


def test_a_stranger_leaves_one_line(market: Market, ann: Forger) -> None:
    """And no channel; the same request gets the same answer, before a restart and after it."""
    [line] = lines(market)
    assert len(line) <= MAX_LINE_BYTES
    assert market.pair.payee.channels.names() == []
    assert not list((market.pair.payee.directory / "channels").iterdir())
    before, reply = market.pair.files(), reply_of(market, ann)
    market.restart()
    assert reply_of(market, ann) == reply
    assert market.pair.files() == before
    opening = market.pair.payee.openings.find(OutPoint.parse(ann.name))
    assert opening is not None
    record = record_of(market.pair.payee, opening)
    assert record.terms == market.pair.payer_record(ann.name).terms
    assert (opening.session, opening.sold, opening.expires) == (
        ANN,
        (1, 2, 3, 4, 5),
        market.own.offer.expires,
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_no_second_refund(market: Market, ann: Forger, restarted: bool) -> None:
    """For the outpoint, under the offer, or for the payer's key; by hand as well."""
    terms = market.pair.payer_record(ann.name).terms
    if restarted:
        market.restart()
    request = refund_request(market.pair.payer_record(ann.name).state)
    later = message(terms, bent(request.tx, lock_time=request.tx.lock_time + 1))
    elsewhere = replace(terms, outpoint=ELSEWHERE)
    bob = Forger(market, BOB)
    under_bob = asking_under(replace(elsewhere, offer=bob.offer()))
    ann.refused("refund", with_offer(later, terms.offer), "outpoint-signed")
    ann.refused("refund", asking_under(elsewhere), "offer-used")
    bob.refused("refund", under_bob, "payer-key-used")
    ann.refused("offer", ann.wish("1-4"), "wish-changed")
    bob.refused("refund", request_of(market, ann), "other-session")
    for asked, slug in (
        (with_offer(later, terms.offer).to_hex(), "outpoint-signed"),
        (asking_under(elsewhere), "offer-used"),
        (under_bob, "payer-key-used"),
    ):
        with pytest.raises(Refused) as caught:
            payee.sign_refund(market.pair.payee, market.chain, read_psbt(bytes.fromhex(asked)))
        assert caught.value.slug == slug
    with pytest.raises(Refused) as caught:
        offer_for(market.pair.payee, ann.wish("1-4"))
    assert caught.value.slug == "wish-changed"
    assert len(lines(market)) == 1


def test_messages_before_the_funding_is_seen(market: Market, ann: Forger) -> None:
    """They are refused as ever, and leave nothing: no channel, no lock file."""
    record = market.pair.payer_record(ann.name)
    terms = record.terms
    key = market.pair.payer.keys.key_of(record)

    update = scheme_of(terms).update(1, Amount(PRICE))
    good = signed_message(terms, update, terms.payer_key, key.sign_update(terms, 1, Amount(PRICE)))
    ann.refused("update", good, "funding-unseen")
    ann.refused("update", message(terms, update), "missing-signature")
    ann.refused("piece", b'{"piece": 1}', "piece-unpaid")
    for take in (
        lambda: payee.accept(market.pair.payee, market.chain, good),
        lambda: Payee(market.pair.payee, chain=market.chain).accept(good.to_hex()),
    ):
        with pytest.raises(Exception, match="the chain does not show the funding"):
            take()
    assert not list((market.pair.payee.directory / "channels").iterdir())


# from a line to a channel -------------------------------------------------------------------------


def opened(market: Market, ann: Forger, blocks: int = 1, *, tell: bool = True) -> None:
    """The buyer funds its channel, and perhaps tells the seller of it."""
    funded = market.pair.fund(reply_of(market, ann))
    if tell:
        assert isinstance(ann.ask("funding", funded.hex), Message)  # type: ignore[arg-type]
    market.chain.mine(blocks)


def test_the_funding_makes_the_channel(market: Market, ann: Forger) -> None:
    """With the history that it has when it is signed by hand, and the same refund again."""
    reply = reply_of(market, ann)
    opened(market, ann, 0)
    assert market.pair.payee.channels.names() == [ann.name]
    market.chain.mine(1)
    events = [event.event for event in history(market.pair.payee, ann.name[:16]).events]
    assert events == ["refund-signed", "funding"]
    assert next(iter(history(market.pair.payee, ann.name[:16]).events)).hex == reply
    assert reply_of(market, ann) == reply
    assert ann.pay(1) == 1
    market.restart()
    assert ann.pay(2) == 2
    ann.refused("offer", ann.wish("1-4"), "wish-changed")
    assert reply_of(market, ann) == reply


@pytest.mark.parametrize("how", ["update", "settlement", "by hand", "stream", "watcher"])
def test_whatever_comes_first_makes_the_channel(market: Market, ann: Forger, how: str) -> None:
    """The seller was never told of the funding."""
    opened(market, ann, tell=False)
    assert market.pair.payee.channels.names() == []
    market.restart()
    record = market.pair.payer_record(ann.name)
    if how in ("update", "by hand", "stream"):
        update = payer.pay_up_to(market.pair.payer, market.chain, ann.name, Amount(PRICE)).hex
        if how == "update":
            assert ann.number_of(ann.ask("update", update)) == 1
        elif how == "by hand":
            payee.accept(market.pair.payee, market.chain, read_psbt(bytes.fromhex(update)))
        else:
            with Payee(market.pair.payee, chain=market.chain) as meter:
                assert meter.accept(update).received_sat == PRICE
    elif how == "settlement":
        assert isinstance(ann.ask("settlement", market.pair.settlement(ann.name, 0)), Message)
    else:
        Watcher(market.pair.payee, market.chain, once=True).round(lambda finding: None)
    assert market.pair.payee.channels.names() == [ann.name]
    assert market.pair.payee_record(ann.name).terms == record.terms
    [shown] = list_channels(market.pair.payee, market.chain, lambda *_: None).channels
    assert shown.channel == ann.name[:16]


def test_the_seller_sends_the_funding_too(market: Market, ann: Forger) -> None:
    """The buyer's own wallet could not; what does not fit is never sent."""
    funded = market.pair.fund(reply_of(market, ann), send=False)
    assert not market.chain.mempool()
    other = market.pair.payer_record(ann.name).funding
    assert other is not None
    wrong = replace(other, outputs=tuple(reversed(other.outputs)))
    ann.refused("funding", wrong.to_hex(), "other-session")
    assert not market.chain.mempool()
    assert isinstance(ann.ask("funding", funded.hex), Message)  # type: ignore[arg-type]
    assert [str(txid) for txid in market.chain.mempool()] == [ann.name[:64]]
    assert market.pair.payee.channels.names() == [ann.name]


def test_a_funding_that_the_chain_does_not_take_makes_no_channel(
    market: Market, ann: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    funded = market.pair.fund(reply_of(market, ann), send=False)

    def reject(transaction: object) -> None:
        raise ChainError("rejected", "min relay fee not met")

    with monkeypatch.context() as patch:
        patch.setattr(market.chain, "broadcast", reject)
        assert isinstance(ann.ask("funding", funded.hex), Message)  # type: ignore[arg-type]
    assert market.pair.payee.channels.names() == []
    assert isinstance(ann.ask("funding", funded.hex), Message)  # type: ignore[arg-type]
    assert market.pair.payee.channels.names() == [ann.name]


@pytest.mark.parametrize("first", ["sign-refund", "funding"])
def test_by_hand_the_channel_is_made_at_once(market: Market, ann: Forger, first: str) -> None:
    reply = reply_of(market, ann)
    request = read_psbt(bytes.fromhex(request_of(market, ann)))
    if first == "sign-refund":
        assert payee.sign_refund(market.pair.payee, market.chain, request).hex == reply
    else:
        funded = market.pair.fund(reply, send=False)
        transaction = market.pair.payer_record(ann.name).funding
        assert transaction is not None
        assert payee.funding(market.pair.payee, market.chain, transaction).channel == ann.name[:16]
        assert funded.hex == transaction.to_hex()
    assert market.pair.payee.channels.names() == [ann.name]
    assert payee.sign_refund(market.pair.payee, market.chain, request).hex == reply
    assert reply_of(market, ann) == reply


def test_a_watcher_without_keys_leaves_it(
    market: Market, ann: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is owed in it yet; who takes a payment has the keys."""
    opened(market, ann, tell=False)
    market.pair.payee.keys.encrypt("secret")
    sealed = Wallet.open(market.pair.payee.directory)
    done = Watcher(sealed, market.chain, once=True).round(lambda finding: None)
    assert (done.alarms, sealed.channels.names()) == ([], [])
    opener = Wallet.open(market.pair.payee.directory, lambda unlock: unlock("secret"))
    Watcher(opener, market.chain, once=True).round(lambda finding: None)
    assert opener.channels.names() == [ann.name]


def test_another_output_at_the_outpoint_makes_no_channel(market: Market, ann: Forger) -> None:
    """The chain shows something there, but not the agreed output."""
    terms = market.pair.payer_record(ann.name).terms
    seen = market.chain.appeared
    market.chain.appeared = lambda openings: set(openings)  # type: ignore[method-assign]
    try:
        rounds = OpeningRound(market.pair.payee, market.chain, time.time)
        rounds.look(market.chain.tip())
    finally:
        market.chain.appeared = seen  # type: ignore[method-assign]
    assert not market.pair.payee.channels.knows(terms.outpoint)


def test_wishes_that_no_line_holds(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel is made at once, of which there are only so many in an hour; others are served meanwhile."""
    monkeypatch.setattr("mpchan.wallet.opening.MAX_LINE_BYTES", 240)
    monkeypatch.setattr(room, "MOST_LARGE", 2)
    for _ in range(4):
        market.pair.coin()
    crowd = [Forger(market, f"{number:032x}") for number in range(4)]
    requests = [one.opening().hex for one in crowd]
    for one, request in zip(crowd[:2], requests, strict=False):
        assert isinstance(one.ask("refund", request), Message)
    assert sorted(market.pair.payee.channels.names()) == sorted(one.name for one in crowd[:2])
    assert lines(market) == []
    crowd[2].refused("refund", requests[2], "too-many-offers")
    market.restart()
    crowd[2].refused("refund", requests[2], "too-many-offers")
    monkeypatch.setattr("mpchan.wallet.opening.MAX_LINE_BYTES", MAX_LINE_BYTES)
    assert isinstance(crowd[3].ask("refund", requests[3]), Message)
    assert len(lines(market)) == 1


# forgetting ---------------------------------------------------------------------------------------


def tip_at(market: Market, seconds: int) -> ChainTip:
    """The chain's tip as it is so long after the published offer's expiry."""
    return ChainTip(market.chain.tip().height, market.own.offer.expires + seconds)


def clock_at(market: Market, seconds: float) -> OpeningRound:
    """Rounds whose clock stands so."""
    return OpeningRound(
        market.pair.payee, market.chain, clock=lambda: float(market.own.offer.expires + seconds)
    )


def test_an_old_opening_is_forgotten_and_stays_void(market: Market, ann: Forger) -> None:
    """After a day, asked twice; the mark then refuses what is not known any more, whatever the clock says."""
    request, rounds = request_of(market, ann), clock_at(market, DAY_SECONDS)
    early = clock_at(market, DAY_SECONDS - 1)
    for _ in range(3):
        early.look(tip_at(market, DAY_SECONDS))
        rounds.look(tip_at(market, DAY_SECONDS - 1))
    rounds.look(tip_at(market, DAY_SECONDS))
    assert len(lines(market)) == 1
    rounds.look(tip_at(market, DAY_SECONDS))
    assert lines(market) == []
    assert market.pair.payee.openings.mark == market.own.offer.expires
    ann.refused("refund", request, "offer-expired")
    elsewhere = replace(market.pair.payer_record(ann.name).terms, outpoint=ELSEWHERE)
    ann.refused("refund", asking_under(elsewhere), "offer-expired")
    market.restart()
    ann.refused("refund", request, "offer-expired")
    assert market.own.offer.expires > time.time()  # it is not the clock that refuses


@pytest.mark.parametrize("year", [1970, 2075])
def test_a_wrong_clock_forgets_nothing(market: Market, ann: Forger, year: int) -> None:
    """Nor does a chain that is behind, or alone in the future."""
    then = (year - 1970) * 31_557_600
    for clock, seconds in ((then, 0), (time.time(), 40 * 31_557_600)):
        rounds = OpeningRound(market.pair.payee, market.chain, clock=lambda clock=clock: float(clock))  # type: ignore[misc]
        for _ in range(3):
            rounds.look(tip_at(market, seconds))
    assert len(lines(market)) == 1
    assert market.pair.payee.openings.mark == 0
    assert reply_of(market, ann)


def test_a_funding_that_came_is_not_forgotten(market: Market, ann: Forger) -> None:
    """Not even between the two questions."""
    rounds = clock_at(market, DAY_SECONDS)
    rounds.look(tip_at(market, DAY_SECONDS))
    opened(market, ann, tell=False)
    for _ in range(3):
        rounds.look(tip_at(market, DAY_SECONDS))
    assert market.pair.payee.channels.names() == [ann.name]
    assert market.pair.payee.openings.mark == 0
    market.restart()
    assert ann.pay(1) == 1


def test_channels_are_left_out_by_and_by(market: Market, ann: Forger) -> None:
    """Without a mark, and the session is known as before."""
    opened(market, ann)
    assert len(lines(market)) == 1
    OpeningRound(market.pair.payee, market.chain, time.time).look(market.chain.tip())
    assert (lines(market), market.pair.payee.openings.mark) == ([], 0)
    ann.refused("offer", ann.wish("1-4"), "wish-changed")
    assert ann.pay(1) == 1


def test_a_published_offer_stays_while_a_line_needs_it(market: Market, ann: Forger) -> None:
    first = market.own.offer
    later = float(first.expires + 1)
    published_offer(market.pair.payee, market.chain, market_terms(market), market.sale, now=later)
    assert first.offer_id in market.pair.payee.offers.ids()
    market.restart()
    assert reply_of(market, ann)
    rounds = clock_at(market, DAY_SECONDS)
    for _ in range(2):
        rounds.look(tip_at(market, DAY_SECONDS))
    published_offer(
        market.pair.payee, market.chain, market_terms(market), market.sale, now=later + DAY_SECONDS
    )
    assert first.offer_id not in market.pair.payee.offers.ids()


def market_terms(market: Market) -> dict[str, object]:
    """The terms that the market publishes under."""
    from support.party import SHORT

    return dict(SHORT)


# copies and damage --------------------------------------------------------------------------------


def test_a_restored_seller_signs_the_same_and_nothing_new(market: Market, ann: Forger) -> None:
    reply, request = reply_of(market, ann), request_of(market, ann)
    market.pair.coin()
    bob = Forger(market, BOB)
    new = bob.opening().hex
    made, _ = collect(market.pair.payee)
    assert "openings/notes" in made.files
    restore(pack(made), market.directory / "again")
    market.pair.payee = Wallet.open(market.directory / "again")
    market.own = replace(market.own, void=True)
    market.seller = market.new_seller()
    assert reply_of(market, ann) == reply
    with pytest.raises(Refused) as caught:
        payee.sign_refund(market.pair.payee, market.chain, read_psbt(bytes.fromhex(new)))
    assert caught.value.slug == "offer-void"
    assert payee.sign_refund(market.pair.payee, market.chain, read_psbt(bytes.fromhex(request))).hex == reply
    funded = market.pair.fund(reply)
    assert isinstance(ann.ask("funding", funded.hex), Message)  # type: ignore[arg-type]
    market.chain.mine(1)
    assert ann.pay(1) == 1


def test_an_opening_that_no_key_can_rebuild(market: Market, ann: Forger) -> None:
    """Without its passphrase an encrypted wallet cannot tell; the rules that need no key come first all the same."""
    ann.ask("refund", ann.opening().hex)
    request = read_psbt(refund_request(market.pair.payer_record(ann.name).state).to_hex().encode())
    seller, chain = market.pair.payee, market.pair.chain
    with pytest.raises(NotPossible, match="not a settlement") as caught:  # and no channel is made for it
        payee.settle(seller, chain, request)
    assert (caught.value.slug, caught.value.hint) == ("not-a-settlement", None)
    seller.fresh_keys().encrypt("correct horse")
    verdict = verify(Wallet.open(seller.directory), chain, request)
    assert (verdict.kind, verdict.accepted, verdict.error) == ("refund-request", None, "passphrase-needed")
    assert verdict.rules


def test_a_damaged_line_stops_what_is_new_and_nothing_else(market: Market, ann: Forger) -> None:
    """What was signed by it cannot be told any more, so nothing is signed for the first time."""
    market.pair.coin()
    bob = Forger(market, BOB)
    request = bob.opening().hex
    reply = reply_of(market, ann)
    path = market.pair.payee.openings.path
    whole = path.read_bytes()
    path.write_bytes(whole + b"A" * 200 + b"\n")
    for _ in range(2):
        assert "the seller cannot do it now" in str(market.seller.answer(bob.request("refund", request)))
        assert market.events[-1].error is not None
        assert market.events[-1].error.slug == "openings-damaged"
        assert reply_of(market, ann) == reply
        market.restart()
    path.write_bytes(whole)
    assert isinstance(bob.ask("refund", request), Message)
    path.write_bytes(b"{" + whole)
    for act in (lambda: market.pair.payee.openings.find(ELSEWHERE), lambda: market.pair.payee.openings.mark):
        with pytest.raises(StorageError) as caught:
            act()
        assert caught.value.slug == "openings-damaged"


def test_whoever_has_a_channel_is_served_whatever_the_openings_are(market: Market, ann: Forger) -> None:
    """Also by a seller that starts with them; a watcher's round says what is wrong, and looks after the channels."""
    opened(market, ann)
    path = market.pair.payee.openings.path
    path.write_bytes(b"rubbish" + path.read_bytes())
    for number in (1, 2):
        assert ann.pay(number) == number
        assert ann.piece(1) == 1
        assert market.seller.session_of(ann.name) == ANN
        market.restart()
    done = Watcher(market.pair.payee, market.chain, once=True).round(lambda finding: None)
    assert [alarm.slug for alarm in done.alarms] == ["openings-damaged"]
    assert [finding.name for finding in done.findings] == [ann.name]


def test_without_its_published_offer_a_line_is_no_terms(market: Market, ann: Forger) -> None:
    """It still keeps everybody else from the outpoint, the offer and the key."""
    (market.pair.payee.directory / "offers" / f"{market.own.offer.offer_id}.toml").unlink()
    market.pair.restart()
    with pytest.raises(StorageError) as caught:
        payee.sign_refund(market.pair.payee, market.chain, read_psbt(bytes.fromhex(request_of(market, ann))))
    assert caught.value.slug == "openings-damaged"
    assert "is not in the folder offers" in caught.value.message


# room ---------------------------------------------------------------------------------------------


def test_room_is_shared_out(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """One source is refused while 20 others could each still have as much."""
    monkeypatch.setattr(room, "MOST_OPENINGS", 40)
    sources = ["192.0.2.1"] * 4 + ["192.0.2.2"]
    crowd = [Forger(market, f"{number:032x}") for number in range(5)]
    for _ in range(4):
        market.pair.coin()
    told = []
    for one, source in zip(crowd, sources, strict=True):
        request = replace(one.request("refund", one.opening().hex), source=source)
        told.append(isinstance(market.seller.answer(request), Message))
    assert told == [True, True, False, False, True]
    assert [event.error.slug for event in market.events if event.error] == ["too-many-offers"] * 2
    assert len(lines(market)) == 3


def test_a_mailbox_leaves_half_to_others(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_OPENINGS", 4)
    crowd = [Forger(market, f"{number:032x}") for number in range(4)]
    for _ in range(3):
        market.pair.coin()
    requests = [one.request("refund", one.opening().hex) for one in crowd]
    told = [isinstance(market.seller.answer(request), Message) for request in requests[:3]]
    assert told == [True, True, False]
    elsewhere = replace(requests[3], source="192.0.2.9")
    assert isinstance(market.seller.answer(elsewhere), Message)


def test_no_opening_is_given_up_by_hand(market: Market, ann: Forger) -> None:
    """It holds nothing, and is forgotten by itself."""
    with pytest.raises(NotPossible) as caught:
        payee.abandon(market.pair.payee, market.chain, ann.name[:16])
    assert caught.value.slug == "unknown-channel"


def test_money_that_came_elsewhere_takes_the_place_of_a_line(market: Market, ann: Forger) -> None:
    """The opening becomes an abandoned channel, whose outpoint never gets another refund; the other one opens."""
    market.pair.coin(1_000_000)
    terms = market.pair.payer_record(ann.name).terms
    paid = send(
        market.pair.payer,
        market.chain,
        terms.funding_txout.script_pubkey,
        terms.funding_value,
        fee_rate=FeeRate(2_000),
    )
    market.chain.mine(1)
    funding = Transaction.from_hex(paid.hex)
    vout = [output.script_pubkey for output in funding.outputs].index(terms.funding_txout.script_pubkey)
    payer.abandon(market.pair.payer, market.chain, ann.name)
    again = open_again(market.pair.payer, market.chain, OutPoint(funding.txid, vout))
    reply = ann.ask("refund", again.hex)
    assert isinstance(reply, Message), reply
    first, name = ann.name, f"{funding.txid}-{vout}"
    assert sorted(market.pair.payee.channels.names()) == sorted([first, name])
    events = [event.event for event in history(market.pair.payee, first[:16]).events]
    assert events == ["refund-signed", "abandoned"]
    assert ann.ask("refund", again.hex) == reply
    payer.fund(market.pair.payer, market.chain, read_psbt(reply.body))
    ann.name = name
    assert ann.pay(1) == 1
