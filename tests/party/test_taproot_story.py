"""The construction ``taproot`` from the offer to the close, both parties on one chain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import COIN, SHORT, Pair, psbt
from support.watch import look

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tapscript import parse_key_after, parse_two_keys
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer
from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError
from mpchan.party import payee as payee_commands
from mpchan.party import payer as payer_commands
from mpchan.party import views
from mpchan.party.check import fsck, verify
from mpchan.party.check.inspection import describe
from mpchan.party.sending import Leaving
from mpchan.results.checks import PsbtInput
from mpchan.results.opening import OpenedAtOnce
from mpchan.units import Amount, OutPoint
from mpchan.values import replace
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.wallet import Wallet

DAY = 24 * 3600


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme="taproot")


def refused(call: object) -> tuple[str, int]:
    with pytest.raises(MpchanError) as caught:
        call()  # type: ignore[operator]
    return caught.value.slug, caught.value.exit_code


def test_the_whole_story(pair: Pair) -> None:
    name = pair.open(100_000)
    assert not pair.payee.channels.names()
    first = pair.pay(name, 1000)
    result = verify.verify(pair.payee, pair.chain, psbt(first))
    assert (result.kind, result.accepted, result.error) == ("update", True, None)
    assert not pair.payee.channels.names()
    taken = pair.accept(first)
    assert (taken.update, taken.paid_sat, taken.lock_time, taken.duplicate) == (1, 1000, 0, False)
    assert pair.accept(first).duplicate
    second, third = pair.pay(name, 500), pair.pay(name, 700)
    assert pair.accept(third).paid_sat == 2200
    assert refused(lambda: pair.accept(second)) == ("paid-lower", 4)
    pair.terms(name)
    for wallet in (pair.payer, pair.payee):
        assert fsck.fsck(wallet).exit_code == 0
    shown = views.show(pair.payer, pair.chain, name)
    assert (shown.scheme, shown.updates, shown.latest_lock_time) == ("taproot", 3, 0)
    closed = pair.settle(pair.settlement(name, 3000))
    assert (closed.kind, closed.paid_sat, closed.broadcast) == ("settlement", 3000, True)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_the_payee_never_waits(pair: Pair) -> None:
    name = pair.open(100_000)
    pair.accept(pair.pay(name, 5000))
    closed = pair.settle(name=name)
    assert (closed.kind, closed.paid_sat, closed.broadcast) == ("update", 5000, True)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_the_refund_needs_the_payer_alone(pair: Pair) -> None:
    name = pair.open(100_000)
    terms = pair.payer_record(name).terms
    assert terms.refund_lock_time.value % 36 == 0
    pair.accept(pair.pay(name, 5000))
    pair.mine_to(terms.refund_lock_time.value - 1)
    assert refused(lambda: pair.refund(name)) == ("refund-locked", 6)
    pair.chain.mine(1)
    assert pair.refund(name).broadcast
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_an_offer_made_in_the_future_hides_no_channel(pair: Pair, unit: str) -> None:
    """From words and the offer alone the refund's lock time is looked for from there on."""
    delays: dict[str, object] = {"lock_time_unit": unit}
    if unit == "seconds":
        delays.update(
            {key: SHORT[key] * 600 for key in ("settle_window", "min_refund_delay", "max_refund_delay")}
        )
    offer = Offer.from_toml(pair.offer(**delays))
    lied = replace(offer, own_terms={"made_at": offer.own_terms["made_at"] + offer.max_refund_delay})
    before = pair.files()
    assert refused(lambda: pair.request(100_000, lied.to_toml())) == ("made-ahead", 4)
    assert pair.files() == before


def test_inspect_names_what_a_message_brings(pair: Pair) -> None:
    """Leaves, participants, signature and offer, without a wallet."""
    name = pair.open(100_000)
    terms = pair.payer_record(name).terms
    view = describe(psbt(pair.pay(name, 1000)), REGTEST)
    assert (view.offer_id, view.signatures) == (terms.offer.offer_id, 1)
    [spent] = view.inputs
    assert isinstance(spent, PsbtInput)
    fields = spent.taproot
    assert fields is not None
    assert sorted(fields.participants) == sorted(
        key.sec.hex() for key in (terms.payer_key, terms.offer.payee_key)
    )
    alone, together = (bytes.fromhex(script) for script in fields.leaf_scripts)
    assert parse_key_after(alone) == (terms.payer_key.x_only, terms.refund_lock_time)
    assert parse_two_keys(together) == (terms.payer_key.x_only, terms.offer.payee_key.x_only)
    assert [key[:64] for key in spent.tap_script_sigs] == [terms.payer_key.x_only.hex()]
    state = pair.payer_record(name).state
    assert isinstance(state, payer.Funded)
    assert describe(state.refund, REGTEST).signatures == 1


def test_a_first_payment_that_comes_too_early_is_taken_later(pair: Pair) -> None:
    """There is no channel yet that the payee could wait for: the hint says what it can do, and it is true."""
    opened = pair.request(100_000)
    name = f"{opened.funding_txid}-{opened.funding_vout}"
    record = pair.payer_record(name)
    assert isinstance(record.state, payer.Funded)
    early = replace(record.state, number=1, paid=Amount(1000))
    message = payer.update_message(early, pair.payer.keys.key_of(record)).to_hex()
    before = pair.files()
    with pytest.raises(MpchanError) as caught:
        pair.accept(message)
    assert (caught.value.slug, caught.value.exit_code) == ("unconfirmed", 6)
    assert caught.value.hint == "accept the same message again once the funding is confirmed"
    assert pair.files() == before
    pair.chain.mine(1)
    assert pair.accept(message).paid_sat == 1000


def test_no_step_of_an_exchange_is_there(pair: Pair) -> None:
    """Neither party can be led to sign for an opening that has none."""
    opened = pair.request(100_000)
    name = f"{opened.funding_txid}-{opened.funding_vout}"
    record = pair.payer_record(name)
    request = psbt(payer.refund_request(record.state).to_hex())
    before = pair.files()
    assert refused(lambda: payee_commands.sign_refund(pair.payee, pair.chain, request)) == (
        "no-opening-exchange",
        5,
    )
    assert refused(lambda: payer_commands.fund(pair.payer, pair.chain, request)) == ("no-opening-exchange", 5)
    funding = Transaction.from_hex(opened.hex)
    assert refused(lambda: payee_commands.funding(pair.payee, pair.chain, funding)) == ("no-channel-yet", 5)
    assert pair.files() == before


def test_the_same_opening_again_is_the_same(pair: Pair) -> None:
    offer = pair.offer()
    first = pair.request(100_000, offer)
    assert isinstance(first, OpenedAtOnce)
    assert first.broadcast
    files = pair.files()
    assert pair.request(100_000, offer) == first
    assert pair.files() == files
    assert refused(lambda: pair.request(50_000, offer)) == ("offer-used", 5)


def test_a_funding_that_got_lost_is_sent_again(pair: Pair) -> None:
    offer = pair.offer()
    leaving = Leaving(send=False, refund_out=pair.directory / "refund.hex")
    first = payer_commands.open_channel(pair.payer, pair.chain, offer, Amount(100_000), leaving=leaving)
    assert isinstance(first, OpenedAtOnce)
    assert not first.broadcast
    outpoint = OutPoint.parse(f"{first.funding_txid}:{first.funding_vout}")
    assert pair.chain.output(outpoint) is None
    refund = Transaction.from_hex((pair.directory / "refund.hex").read_text().strip())
    assert refund.inputs[0].outpoint == outpoint
    again = pair.request(100_000, offer)
    assert isinstance(again, OpenedAtOnce)
    assert again.broadcast
    assert pair.chain.output(outpoint) is not None


def test_a_funding_that_would_come_too_late_is_not_sent(pair: Pair) -> None:
    offer = pair.offer()
    leaving = Leaving(send=False)
    payer_commands.open_channel(pair.payer, pair.chain, offer, Amount(100_000), leaving=leaving)
    terms = pair.payer_record(pair.payer.channels.names()[0]).terms
    pair.mine_to(terms.schedule.deadline.value)
    assert refused(lambda: pair.request(100_000, offer)) == ("too-little-time", 5)
    assert pair.chain.output(terms.outpoint) is None


def test_a_funding_that_never_left_is_given_up_with_its_coins_and_comes_back_with_its_refund(
    pair: Pair,
) -> None:
    """Nobody can be harmed: nothing was paid, and the refund needs the payer alone."""
    offer = pair.offer()
    opened = payer_commands.open_channel(
        pair.payer, pair.chain, offer, Amount(100_000), leaving=Leaving(send=False)
    )
    [name] = pair.payer.channels.names()
    assert views.balance(pair.payer, pair.chain).reserved_sat
    pair.mine_to(pair.payer_record(name).terms.schedule.deadline.value)
    with pytest.raises(MpchanError) as caught:
        pair.request(100_000, offer)
    assert "mpchan payer abandon" in str(caught.value.hint)
    [finding] = look(pair.payer, pair.chain).findings
    assert finding.alarm is not None
    assert finding.alarm.slug == "funding-late"
    assert "mpchan payer abandon" in str(finding.alarm.hint)
    assert "its coins" not in str(finding.alarm.hint)
    assert payer_commands.abandon(pair.payer, pair.chain, name).status == "abandoned"
    assert not views.balance(pair.payer, pair.chain).reserved_sat
    # whoever has the funding's file sends it all the same
    pair.chain.broadcast(Transaction.from_hex(opened.hex))
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "open"
    pair.mine_to(pair.payer_record(name).terms.refund_lock_time.value)
    assert pair.refund(name).broadcast


def test_a_copy_that_may_have_paid_gives_nothing_up(pair: Pair) -> None:
    """What the lost wallet has signed is in nobody's files but the payee's."""
    payer_commands.open_channel(
        pair.payer, pair.chain, pair.offer(), Amount(100_000), leaving=Leaving(send=False)
    )
    [name] = pair.payer.channels.names()
    pair.payer.channels.save(replace(pair.payer_record(name), restored=True), "restored")
    assert refused(lambda: payer_commands.abandon(pair.payer, pair.chain, name)) == ("funding-signed", 5)


def test_a_funding_that_left_is_not_given_up(pair: Pair) -> None:
    name = pair.open()
    assert refused(lambda: payer_commands.abandon(pair.payer, pair.chain, name)) == ("funding-signed", 5)
    waiting = pair.request(50_000, pair.offer()).channel
    assert refused(lambda: payer_commands.abandon(pair.payer, pair.chain, waiting)) == ("funding-signed", 5)


def test_an_offer_serves_the_first_channel_that_pays(pair: Pair) -> None:
    pair.coin()
    offer = pair.offer()
    name = pair.request(100_000, offer)
    other = Wallet.create(pair.directory / "other", REGTEST, ChainConfig())
    pair.chain.faucet(address_to_script(views.fresh_address(other).address, REGTEST), Amount(COIN))
    pair.chain.mine(1)
    theirs = payer_commands.open_channel(other, pair.chain, offer, Amount(100_000))
    pair.chain.mine(1)
    first = payer_commands.pay(other, pair.chain, None, Amount(1000)).hex
    second = pair.pay(f"{name.funding_txid}-{name.funding_vout}", 1000)
    assert pair.accept(first).channel == theirs.channel
    before = pair.files()
    assert refused(lambda: pair.accept(second)) == ("offer-used", 4)
    assert pair.files() == before


def test_an_offer_that_expired_serves_a_funding_from_before(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payer locked its money while the offer held: it is honoured, and a later one is not."""
    pair.coin()
    names = []
    for mined in (True, False):
        terms = {**SHORT, "scheme": "taproot"}
        offer = payee_commands.offer(pair.payee, pair.chain, terms, expires_in=DAY).toml
        opened = pair.request(100_000, offer)
        names.append(f"{opened.funding_txid}-{opened.funding_vout}")
        if mined:
            pair.chain.mine(1)
    later = time.time() + 2 * DAY
    monkeypatch.setattr("mpchan.party.common.time.time", lambda: later)
    assert pair.accept(pair.pay(names[0], 1000)).paid_sat == 1000
    before = pair.files()
    record = pair.payer_record(names[1])
    assert isinstance(record.state, payer.Funded)
    paid = replace(record.state, number=1, paid=Amount(1000))
    message = payer.update_message(paid, pair.payer.keys.key_of(record)).to_hex()
    assert refused(lambda: pair.accept(message)) == ("offer-expired", 4)
    assert {path: data for path, data in pair.files().items() if "/payee/" in path} == {
        path: data for path, data in before.items() if "/payee/" in path
    }
    # once a block holds it, that block's median time decides: at the very moment of the expiry it still counts
    pair.chain.mine(1)
    expires = record.terms.offer.expires
    for moment, taken in ((expires + 1, False), (expires, True)):
        with monkeypatch.context() as patch:
            patch.setattr(EmbeddedChain, "median_time_at", lambda chain, height, moment=moment: moment)
            if taken:
                assert pair.accept(message).paid_sat == 1000
            else:
                assert refused(lambda: pair.accept(message)) == ("offer-expired", 4)
