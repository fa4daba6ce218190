"""Every command is idempotent, and gives the same bytes again (guide: protocol, "What each party keeps")."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import SHORT, Pair, new_wallet, psbt

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import SIGNET
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError, NotPossible, Refused, UsageError
from mpchan.party import payee, payer, views
from mpchan.units import Amount, FeeRate
from mpchan.values import replace
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.wallet import Wallet


@pytest.fixture(scope="module")
def chain(chain_directory: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield chain


@pytest.fixture
def pair(chain: EmbeddedChain, tmp_path: Path) -> Pair:
    return Pair(tmp_path, chain)


def slug_of(call: object, *arguments: object) -> tuple[str, int]:
    with pytest.raises(MpchanError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.slug, caught.value.exit_code


def test_every_step_twice_is_every_step_once(pair: Pair) -> None:
    offer = pair.offer()

    def twice(step: object) -> object:
        first = step()  # type: ignore[operator]
        after = pair.files()
        pair.restart()
        assert step() == first  # type: ignore[operator]
        assert pair.files() == after
        return first

    request = twice(lambda: pair.request(offer=offer))
    name = f"{request.funding_txid}-{request.funding_vout}"  # type: ignore[attr-defined]
    reply = twice(lambda: pair.sign_refund(request.hex))  # type: ignore[attr-defined]
    twice(lambda: pair.fund(str(reply)))
    pair.chain.mine(1)
    update = twice(lambda: payer.pay_up_to(pair.payer, pair.chain, name, Amount(1000)).hex)
    assert payer.pay_last(pair.payer, pair.chain, name).hex == update
    assert pair.accept(str(update)).received_sat == 1000
    after = pair.files()
    duplicate = pair.accept(str(update))
    assert (duplicate.received_sat, duplicate.paid_sat, duplicate.duplicate) == (0, 1000, True)
    assert pair.files() == after
    settlement = twice(lambda: pair.settlement(name, 3000))
    twice(lambda: pair.settle(str(settlement)))
    twice(lambda: pair.settle(name=name))
    pair.chain.mine(1)
    twice(lambda: pair.settle(name=name))
    # even the opening steps still answer the same
    assert pair.request(offer=offer) == request
    assert pair.sign_refund(request.hex) == reply
    assert pair.fund(str(reply)).hex == pair.fund(str(reply)).hex
    assert pair.status(name) == ("closed", "closed")


def test_pay_amount_is_the_one_that_pays_again(pair: Pair) -> None:
    name = pair.open()
    assert pair.pay(name, 1000) != pair.pay(name, 1000)
    assert pair.payer_record(name).paid == Amount(2000)


def test_a_total_is_paid_once(pair: Pair) -> None:
    name = pair.open()
    first = payer.pay_up_to(pair.payer, pair.chain, name, Amount(1000))
    again = payer.pay_up_to(pair.payer, pair.chain, name, Amount(1000))
    assert (first.amount_sat, again.amount_sat) == (1000, 0)
    assert replace(first, amount_sat=0) == again
    assert slug_of(payer.pay_up_to, pair.payer, pair.chain, name, Amount(999)) == ("total-below-paid", 5)
    assert pair.payer_record(name).updates == 1


def test_the_same_offer_opens_one_channel(pair: Pair) -> None:
    pair.coin()
    offer = pair.offer()
    first = pair.request(offer=offer)
    before = pair.files()
    assert pair.request(offer=offer) == first
    assert slug_of(pair.request, 100_001, offer) == ("offer-used", 5)
    assert pair.files() == before
    pair.fund(pair.sign_refund(first.hex))
    assert pair.request(offer=offer) == first
    pair.chain.mine(1)


def test_another_opening_under_the_same_offer_is_not_answered_with_the_first(pair: Pair) -> None:
    """Whoever asks for another refund or payout must not believe that it has it."""
    mine, other = (views.fresh_address(pair.payer).address for _ in range(2))
    asked = {"refund_delay": 50, "funding_fee_rate": FeeRate(5000), "address": mine}
    offer = pair.offer()

    def open_again(**options: object) -> object:
        return payer.open_channel(pair.payer, pair.chain, offer, Amount(100_000), **options)  # type: ignore[arg-type]

    first = open_again(**asked)
    pair.restart()
    before = pair.files()
    assert open_again(**asked) == first
    changes = {
        "refund_delay": (51, None),
        "funding_fee_rate": (FeeRate(5001), None),
        "address": (other, None),
    }
    for option, values in changes.items():
        for value in values:
            again = {**asked, option: value}
            assert slug_of(lambda again=again: open_again(**again)) == ("opened-otherwise", 5)
    assert pair.files() == before


def test_the_same_opening_again_asks_the_chain_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = pair.offer()
    first = pair.request(offer=offer)
    monkeypatch.setattr(EmbeddedChain, "min_fee_rate", lambda self: FeeRate(2001))
    assert pair.request(offer=offer) == first


def test_giving_up_twice_is_giving_up_once(pair: Pair) -> None:
    given_up = []
    for _ in range(3):  # a new opening is the one that is meant from then on
        pair.sign_refund(pair.request().hex)
        one = payer.abandon(pair.payer, pair.chain, None), payee.abandon(pair.payee, pair.chain, None)
        after = pair.files()
        assert (
            payer.abandon(pair.payer, pair.chain, None),
            payee.abandon(pair.payee, pair.chain, None),
        ) == one
        assert pair.files() == after
        given_up.append(one[0].channel)
    assert len(set(given_up)) == 3


def test_a_signed_refund_is_remembered_after_an_opening_was_given_up(pair: Pair) -> None:
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    name = pair.payer.channels.names()[0]
    payer.abandon(pair.payer, pair.chain, name)
    payee.abandon(pair.payee, pair.chain, name)
    after = pair.files()
    assert pair.sign_refund(request.hex) == reply
    assert slug_of(pair.fund, reply) == ("channel-abandoned", 5)
    assert payer.abandon(pair.payer, pair.chain, name).status == "abandoned"
    assert payee.abandon(pair.payee, pair.chain, name).status == "abandoned"
    assert pair.files() == after


def test_fund_sends_again_what_the_chain_has_not(pair: Pair) -> None:
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    by_hand = pair.fund(reply, send=False)
    assert by_hand.broadcast is False
    assert pair.chain.mempool() == []
    sent = pair.fund(reply)
    assert (sent.hex, sent.broadcast) == (by_hand.hex, True)
    assert len(pair.chain.mempool()) == 1
    pair.chain.mine(1)


def test_20_the_funding_by_file(pair: Pair) -> None:
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    funding = Transaction.from_hex(pair.fund(reply, send=False).hex)  # type: ignore[arg-type]
    name = pair.payee.channels.names()[0]
    taken = payee.funding(pair.payee, pair.chain, funding)
    assert taken.to_dict() == {"channel": name[:16], "funding_txid": str(funding.txid)}
    assert pair.status(name)[1] == "funding"
    with pytest.raises(MpchanError) as caught:
        pair.accept(pair.settlement(name))
    assert caught.value.exit_code == 6  # by file it counts as no confirmation
    after = pair.files()
    assert payee.funding(pair.payee, pair.chain, funding) == taken
    assert pair.files() == after
    payee.funding(pair.payee, pair.chain, funding, send=True)
    assert pair.chain.mempool() == [funding.txid]
    other = Transaction(2, funding.inputs, funding.outputs, 1)
    assert slug_of(payee.funding, pair.payee, pair.chain, other) == ("unknown-channel", 4)
    pair.chain.mine(1)


# whose is what ------------------------------------------------------------------------------------


def test_messages_do_not_fit_the_other_role(pair: Pair) -> None:
    name = pair.open()
    update, settlement = pair.pay(name, 1000), pair.settlement(name)
    before = pair.files()
    for message in (update, settlement):
        assert slug_of(payee.accept, pair.payer, pair.chain, psbt(message)) == ("wrong-role", 4)
        assert slug_of(payer.fund, pair.payee, pair.chain, psbt(message)) == ("wrong-role", 4)
    assert slug_of(payee.settle, pair.payer, pair.chain, psbt(settlement)) == ("wrong-role", 4)
    assert slug_of(payer.pay, pair.payee, pair.chain, name, Amount(1)) == ("wrong-role", 2)
    assert slug_of(payee.settle, pair.payer, pair.chain, None, name) == ("wrong-role", 2)
    assert pair.files() == before


def test_a_key_in_the_words_of_an_offer_is_not_used_by_it(pair: Pair) -> None:
    """A payee that names a competitor's key in its memo, or in what it sells, keeps nobody from paying there."""
    pair.coin()
    competitor = new_wallet(pair.directory / "competitor")
    wanted = payee.offer(competitor, pair.chain, SHORT).toml
    key = Offer.from_toml(wanted).payee_key.sec.hex()
    hostile = pair.offer(memo=key) + f'\n[sale]\npayee_pubkey = "{key}"\npayer_pubkey = "{key}"\n'
    pair.request(offer=hostile)
    request = payer.open_channel(pair.payer, pair.chain, wanted, Amount(100_000))
    reply = payee.sign_refund(competitor, pair.chain, psbt(request.hex))
    pair.fund(reply.hex)
    # the same among one's own offers
    own = [pair.offer(memo=key) for key in (key, "")]
    for number in range(4):
        own.append(pair.offer(memo=f"{number} {Offer.from_toml(own[-1]).payee_key.sec.hex()}"))
    for text in own:
        pair.coin()
        pair.sign_refund(pair.request(offer=text).hex)


def test_46_a_wallet_does_not_pay_itself(pair: Pair) -> None:
    offer = payee.offer(pair.payer, pair.chain, {}).toml
    before = pair.files()
    assert slug_of(payer.open_channel, pair.payer, pair.chain, offer, Amount(100_000)) == ("payee-key", 4)
    assert pair.files() == before


def test_a_wallet_can_be_payer_here_and_payee_there(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 50_000))
    pair.settle(pair.settlement(name))
    pair.chain.mine(1)
    # the former payee pays the former payer, out of what it has earned
    offer = payee.offer(pair.payer, pair.chain, {"settle_window": 6, "min_refund_delay": 25}).toml
    request = payer.open_channel(pair.payee, pair.chain, offer, Amount(20_000))
    reply = payee.sign_refund(pair.payer, pair.chain, psbt(request.hex))
    payer.fund(pair.payee, pair.chain, psbt(reply.hex))
    pair.chain.mine(1)
    update = payer.pay(pair.payee, pair.chain, None, Amount(7000))
    assert payee.accept(pair.payer, pair.chain, psbt(update.hex)).paid_sat == 7000
    assert len(pair.payer.channels.names()) == len(pair.payee.channels.names()) == 2


def test_15_an_offer_serves_one_channel(pair: Pair) -> None:
    pair.coin()
    offer = pair.offer()
    pair.sign_refund(pair.request(offer=offer).hex)
    other = new_wallet(pair.directory / "another payer")
    script = address_to_script(views.fresh_address(other).address, other.network)
    pair.chain.faucet(script, Amount(1_000_000))
    pair.chain.mine(1)
    request = payer.open_channel(other, pair.chain, offer, Amount(100_000))
    before = pair.files()
    with pytest.raises(Refused) as caught:
        payee.sign_refund(pair.payee, pair.chain, psbt(request.hex))
    assert caught.value.slug == "offer-used"
    assert "--like" in (caught.value.hint or "")
    assert pair.files() == before


def test_like_makes_the_same_terms_with_another_key(pair: Pair) -> None:
    first = payee.offer(pair.payee, pair.chain, {"settle_window": 7, "min_refund_delay": 99, "memo": "x"})
    again = payee.offer(pair.payee, pair.chain, {"step": 2}, like=first.offer_id)
    one, two = (pair.payee.offers.load(made.offer_id).offer.to_dict() for made in (first, again))
    different = {key for key in one if one[key] != two[key]}
    assert different == {"offer_id", "token", "payee_pubkey", "payee_address", "decrementing"}
    assert slug_of(lambda: payee.offer(pair.payee, pair.chain, {}, like="0" * 16)) == ("unknown-offer", 5)
    assert slug_of(lambda: payee.offer(pair.payee, pair.chain, {}, like="../keys")) == ("unknown-offer", 5)


# what the payer takes -----------------------------------------------------------------------------


def test_fee_rates_of_an_offer_by_the_payers_limits(pair: Pair) -> None:
    pair.payee.config = replace(
        pair.payee.config, limits=PayerLimits(min_fee_rate=FeeRate(1), max_fee_rate=FeeRate(10**6))
    )
    before = pair.files()
    for rate, slug in ((999, "fee-rate-low"), (200_001, "fee-rate-high")):
        offer = payee.offer(pair.payee, pair.chain, {"fee_rate_sat_per_kvb": rate}).toml
        assert slug_of(payer.open_channel, pair.payer, pair.chain, offer, Amount(100_000)) == (slug, 4)
    after = pair.files()
    assert {path for path in after if "/payer/" in path} == {path for path in before if "/payer/" in path}
    keys = str(pair.payer.directory / "keys.toml")
    assert after[keys] == before[keys]


def test_a_rate_that_the_backend_does_not_relay(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedChain, "min_fee_rate", lambda self: FeeRate(2001))
    assert slug_of(pair.request) == ("fee-rate-low", 4)


def test_an_offer_of_another_network(pair: Pair) -> None:
    other = Wallet.create(pair.directory / "signet", SIGNET, ChainConfig("none"))
    offer = payee.offer(other, ManualChain(), {}).toml
    assert slug_of(payer.open_channel, pair.payer, pair.chain, offer, Amount(100_000)) == ("wrong-network", 4)


@pytest.mark.parametrize("capacity", [999, 100_000_001])
def test_a_capacity_outside_the_offer(pair: Pair, capacity: int) -> None:
    offer = pair.offer()
    before = pair.files()
    assert slug_of(pair.request, capacity, offer) == ("capacity", 5)
    assert pair.files() == before


def test_too_little_time_left_to_fund(pair: Pair) -> None:
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    terms = pair.terms(pair.payer.channels.names()[0])
    pair.mine_to(terms.refund_lock_time.value - 6 - 1)  # the window of 6, one confirmation
    before = pair.files()
    assert slug_of(pair.fund, reply) == ("too-little-time", 5)
    assert pair.files() == before


def test_short_windows_need_force(tmp_path: Path) -> None:
    """Median time lags and can be bent by miners: not on a chain with real money."""
    wallet = Wallet.create(tmp_path / "wallet", SIGNET, ChainConfig("none"))
    terms = {"lock_time_unit": "seconds", "settle_window": 6 * 3600 - 1}
    before = os.listdir(wallet.directory / "offers")
    with pytest.raises(UsageError) as caught:
        payee.offer(wallet, ManualChain(), terms)
    assert caught.value.slug == "short-window"
    assert os.listdir(wallet.directory / "offers") == before
    payee.offer(wallet, ManualChain(), terms, force=True)
    payee.offer(wallet, ManualChain(), {**terms, "settle_window": 6 * 3600})
    with pytest.raises(UsageError) as caught:
        payee.offer(wallet, ManualChain(), {"settle_window": 35})  # blocks
    assert caught.value.slug == "short-window"
    regtest = new_wallet(tmp_path / "regtest")
    payee.offer(regtest, ManualChain(), terms)


# naming a channel ---------------------------------------------------------------------------------


def test_a_channel_is_named_by_any_unique_beginning(pair: Pair) -> None:
    pair.coin()
    pair.coin()
    names = [pair.open() for _ in range(2)]
    first = names[0]
    for prefix in (first, first[:16], first[:64] + ":0", first.upper()[:20]):
        pair.pay(prefix, 1000)
    assert pair.payer_record(first).paid == Amount(4000)
    assert slug_of(payer.pay, pair.payer, pair.chain, None, Amount(1000)) == ("ambiguous-channel", 2)
    assert slug_of(payer.pay, pair.payer, pair.chain, "", Amount(1000)) == ("unknown-channel", 5)
    assert slug_of(payer.pay, pair.payer, pair.chain, "zz", Amount(1000)) == ("unknown-channel", 5)
    pair.settlement(names[0])
    pair.pay(None, 1000)  # type: ignore[arg-type]  # only one is left that can
    assert pair.payer_record(names[1]).paid == Amount(1000)


def test_without_a_channel_nothing_can_be_done(pair: Pair) -> None:
    for call in (
        lambda: payer.pay(pair.payer, pair.chain, None, Amount(1)),
        lambda: payer.settle(pair.payer, pair.chain, None),
        lambda: payer.refund(pair.payer, pair.chain, None),
        lambda: payee.settle(pair.payee, pair.chain, None),
        lambda: views.show(pair.payer, pair.chain, None),
    ):
        with pytest.raises(NotPossible) as caught:
            call()
        assert caught.value.slug == "no-channel"
