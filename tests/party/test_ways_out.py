"""How a channel ends, on a chain whose blocks Bitcoin Core's consensus engine judges (guide: protocol)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import COIN, Pair, balance_sat, is_complete, psbt
from support.protocol import outputs_of, payout, replace, scheme_of, unsigned_message

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee as payee_protocol
from mpchan.errors import MpchanError, NotPossible, TooEarly
from mpchan.party import payee, payer, views
from mpchan.party.common import gather_facts
from mpchan.units import Amount, Height, OutPoint

SECONDS = {
    "lock_time_unit": "seconds",
    "settle_window": 3600,
    "step": 60,
    "min_refund_delay": 20_000,
    "max_refund_delay": 40_000,
}
NO_BLOCK = "bad-txns-nonfinal"


@pytest.fixture(scope="module")
def chain(chain_directory: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield chain


@pytest.fixture
def pair(chain: EmbeddedChain, tmp_path: Path) -> Pair:
    return Pair(tmp_path, chain)


# both disappear, one by one -----------------------------------------------------------------------


@pytest.mark.parametrize("terms", [{}, SECONDS], ids=["blocks", "seconds"])
def test_payee_disappears_and_the_payer_gets_everything_back(pair: Pair, terms: dict[str, object]) -> None:
    name = pair.open(**terms)  # type: ignore[arg-type]
    agreed = pair.terms(name)
    pair.pay(name, 1000)  # never answered
    with pytest.raises(TooEarly):
        pair.refund(name)
    refund = pair.payer_record(name).state.refund
    while not agreed.refund_lock_time.is_final(pair.chain.tip()):
        # the engine and we agree at every block
        assert str(pair.chain.submit_block_with([refund])).startswith(NO_BLOCK)
        with pytest.raises(TooEarly):
            pair.refund(name)
        pair.chain.mine(1)
    result = pair.refund(name)
    assert (result.kind, result.broadcast) == ("refund", True)
    assert pair.status(name) == ("refunding", "refunding")
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")
    fees = COIN - balance_sat(pair.payer, pair.chain)
    funding = pair.payer_record(name).funding
    assert funding is not None
    funding_fee = COIN - sum(output.value.sat for output in funding.outputs)
    assert fees == funding_fee + 276  # 138 vB at 2 sat/vB


@pytest.mark.parametrize("terms", [{}, SECONDS], ids=["blocks", "seconds"])
def test_payer_disappears_and_the_payee_collects_the_latest_update(
    pair: Pair, terms: dict[str, object]
) -> None:
    name = pair.open(**terms)  # type: ignore[arg-type]
    for _ in range(3):
        pair.accept(pair.pay(name, 1000))
    best = payee_protocol.best_of(pair.payee_record(name).state)
    assert best is not None
    lock_time = scheme_of(pair.terms(name)).update_lock_time(3)
    while not lock_time.is_final(pair.chain.tip()):
        assert str(pair.chain.submit_block_with([best.transaction])).startswith(NO_BLOCK)
        with pytest.raises(TooEarly) as caught:
            pair.settle(name=name)
        assert str(lock_time) in caught.value.message
        pair.chain.mine(1)
    result = pair.settle(name=name)
    assert (result.kind, result.paid_sat, result.broadcast) == ("update", 3000, True)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 3000
    # what the payee can do until L_0 is over long before the payer could take the refund
    assert not pair.terms(name).refund_lock_time.is_final(pair.chain.tip())


@pytest.mark.parametrize("terms", [{}, SECONDS], ids=["blocks", "seconds"])
def test_the_latest_update_is_final_first_and_the_refund_last(pair: Pair, terms: dict[str, object]) -> None:
    """By the engine's own judgement: each on a fork of the same chain."""
    name = pair.open(**terms)  # type: ignore[arg-type]
    pair.accept(pair.pay(name, 1000))
    first = payee_protocol.best_of(pair.payee_record(name).state)
    pair.accept(pair.pay(name, 1000))
    second = payee_protocol.best_of(pair.payee_record(name).state)
    assert first is not None
    assert second is not None
    refund = pair.payer_record(name).state.refund
    while pair.chain.submit_block_with([second.transaction]) is not None:
        for later in (first.transaction, refund):
            assert str(pair.chain.submit_block_with([later])).startswith(NO_BLOCK)
        pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    with pytest.raises(NotPossible) as caught:
        pair.refund(name)
    assert caught.value.slug == "channel-closed"


# together -----------------------------------------------------------------------------------------


def test_a_settlement_pays_at_once(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 5000))
    height = pair.chain.tip().height
    result = pair.settle(pair.settlement(name, 7000))
    assert (result.kind, result.paid_sat, result.broadcast) == ("settlement", 7000, True)
    assert pair.status(name) == ("settling", "settling")
    pair.chain.mine(1)
    assert pair.chain.tip().height == height + 1
    assert balance_sat(pair.payee, pair.chain) == 7000
    assert pair.status(name) == ("closed", "closed")
    total = balance_sat(pair.payer, pair.chain) + 7000
    funding = pair.payer_record(name).funding
    assert funding is not None
    assert COIN - total == COIN - sum(output.value.sat for output in funding.outputs) + 338


def test_nothing_paid_is_a_cancellation(pair: Pair) -> None:
    name = pair.open()
    result = pair.settle(pair.settlement(name))
    assert outputs_of(Transaction.from_hex(result.hex)) == [(100_000, pair.terms(name).payer_script)]
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 0


def test_accept_broadcasts_nothing(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 5000))
    pair.accept(pair.settlement(name))
    assert pair.chain.mempool() == []
    assert pair.status(name) == ("settling", "settling")
    assert pair.settle(name=name).kind == "settlement"
    pair.chain.mine(1)


def test_the_whole_capacity_can_be_paid(pair: Pair) -> None:
    name = pair.open(capacity=50_000)
    pair.accept(pair.pay(name, 49_999))
    pair.accept(pair.pay(name, 1))
    with pytest.raises(NotPossible):
        pair.pay(name, 1)
    pair.settle(pair.settlement(name))
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 50_000


@pytest.mark.parametrize("kind", ["p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr"])
def test_every_kind_of_address_is_paid(pair: Pair, kind: str) -> None:
    """By the engine, and at the agreed fee above the least that is relayed."""
    ours, theirs = (script_to_address(payout(kind, who), REGTEST) for who in ("payer", "payee"))
    assert ours is not None
    assert theirs is not None
    offer = payee.offer(
        pair.payee, pair.chain, {"settle_window": 6, "min_refund_delay": 25}, address=theirs
    ).toml
    request = payer.open_channel(pair.payer, pair.chain, offer, Amount(100_000), address=ours)
    pair.fund(pair.sign_refund(request.hex))
    pair.chain.mine(1)
    name = f"{request.funding_txid}-{request.funding_vout}"
    pair.accept(pair.pay(name, 40_000))
    result = pair.settle(pair.settlement(name))
    pair.chain.mine(1)
    assert outputs_of(Transaction.from_hex(result.hex)) == [
        (60_000, payout(kind, "payer")),
        (40_000, payout(kind, "payee")),
    ]
    assert pair.status(name) == ("closed", "closed")


# late and out of order ----------------------------------------------------------------------------


def test_messages_lost_doubled_and_late(pair: Pair) -> None:
    name = pair.open()
    messages = [pair.pay(name, 1000) for _ in range(5)]
    assert pair.accept(messages[1]).received_sat == 2000  # the first was lost
    assert pair.accept(messages[1]).duplicate is True
    before = pair.files()
    with pytest.raises(MpchanError) as caught:
        pair.accept(messages[0])
    assert (caught.value.slug, caught.value.exit_code) == ("update-number", 4)
    assert pair.files() == before
    receipt = pair.accept(messages[4])
    assert (receipt.update, receipt.received_sat, receipt.paid_sat) == (5, 3000, 5000)
    pair.settle(pair.settlement(name))
    again = pair.accept(messages[4])
    assert again.duplicate is True
    with pytest.raises(MpchanError) as caught:
        pair.accept(messages[3])
    assert (caught.value.slug, caught.value.exit_code) == ("channel-settling", 5)
    pair.chain.mine(1)


def test_26_after_l_0_a_settlement_still_serves(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    late = pair.pay(name, 1000)
    deadline = scheme_of(pair.terms(name)).deadline
    assert isinstance(deadline, Height)
    pair.mine_to(deadline.value)
    for call in (lambda: pair.accept(late), lambda: pair.pay(name, 1000)):
        with pytest.raises(NotPossible) as caught:
            call()
        assert caught.value.slug == "past-deadline"
    closing = pair.settle(pair.settlement(name, 3000))
    assert (closing.paid_sat, closing.pending_sat) == (1000, 2000)
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 3000


def test_50_no_payment_after_a_settlement_or_a_refund(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.settlement(name)
    for call in (
        lambda: payer.pay(pair.payer, pair.chain, name, Amount(1000)),
        lambda: payer.pay_up_to(pair.payer, pair.chain, name, Amount(5000)),
        lambda: payer.settle(pair.payer, pair.chain, name, Amount(5000)),
    ):
        with pytest.raises(NotPossible) as caught:
            call()
        assert caught.value.slug in ("channel-settling", "settlement-handed-over")
    # the payee never comes: the refund is the way out of a settlement that was handed over, too
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    for call in (
        lambda: payer.pay(pair.payer, pair.chain, name, Amount(1000)),
        lambda: payer.settle(pair.payer, pair.chain, name),
    ):
        with pytest.raises(NotPossible) as caught:
            call()
        assert caught.value.slug == "channel-refunding"
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


def test_payee_comes_late_but_before_the_refund_is_mined(pair: Pair) -> None:
    """Past L_refund both could be mined: who comes first wins, and the other is told."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(pair.terms(name).refund_lock_time.value + 3)
    pair.settle(name=name)
    with pytest.raises(NotPossible) as caught:
        pair.refund(name)
    assert caught.value.slug == "channel-settling"
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 1000


def test_53_a_refund_is_reported_when_it_is_confirmed(pair: Pair) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    assert views.show(pair.payer, pair.chain, name).status == "refunding"
    with pytest.raises(TooEarly):
        views.wait(pair.payer, pair.chain, name, "closed", 0)
    pair.chain.mine(1)
    assert views.wait(pair.payer, pair.chain, name, "closed", 0).status == "refunded"


# reorganisations ----------------------------------------------------------------------------------


def test_19_a_funding_that_is_reorganised_away_counts_no_more(pair: Pair) -> None:
    name = pair.open(min_confirmations=2, min_refund_delay=30)
    with pytest.raises(TooEarly):
        pair.pay(name, 1000)
    pair.chain.mine(1)
    first, second = pair.pay(name, 1000), pair.pay(name, 1000)
    pair.accept(first)
    pair.chain.reorganise(2)  # back in the mempool; three empty blocks instead
    with pytest.raises(TooEarly) as caught:
        pair.accept(second)
    assert (caught.value.slug, caught.value.exit_code) == ("unconfirmed", 6)
    with pytest.raises(TooEarly):
        pair.pay(name, 1000)
    assert pair.status(name) == ("funding", "funding")
    pair.chain.mine(2)
    assert pair.accept(second).paid_sat == 2000


def test_a_funding_that_was_replaced_on_another_branch(pair: Pair) -> None:
    """Whoever holds the payer's keys double spends the funding: the payee has delivered nothing by then."""
    name = pair.open()
    message = pair.pay(name, 1000)
    funding = pair.payer_record(name).funding
    assert funding is not None
    coin = pair.chain.output(funding.inputs[0].outpoint)
    assert coin is not None
    elsewhere = pair.payer.keys.script("receive", 0)
    double = replace(
        funding.without_witness(),
        outputs=(replace(funding.outputs[0], script_pubkey=elsewhere),),
    )
    pair.chain.reorganise(1, [pair.payer.keys.sign_coins(double, [coin.output])])
    with pytest.raises(TooEarly) as caught:
        pair.accept(message)
    assert caught.value.slug == "funding-unseen"
    before = pair.files()
    for call in (
        lambda: pair.fund(pair.sign_refund(payer_request(pair, name))),
        lambda: pair.pay(name, 1000),
        lambda: pair.settlement(name),
        lambda: pair.refund(name),
    ):
        with pytest.raises(NotPossible) as refused:
            call()
        assert refused.value.slug == "funding-void"
    assert pair.files() == before
    assert payer.abandon(pair.payer, pair.chain, name).status == "abandoned"
    assert payee.abandon(pair.payee, pair.chain, name).status == "abandoned"


def payer_request(pair: Pair, name: str) -> str:
    terms = pair.terms(name)
    return unsigned_message(terms, scheme_of(terms).refund()).to_hex()


def test_a_settlement_that_is_reorganised_away_is_sent_again(pair: Pair) -> None:
    name = pair.open()
    pair.settle(pair.settlement(name, 1000))
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    pair.chain.reorganise(1)
    assert pair.status(name) == ("settling", "settling")
    assert pair.settle(name=name).broadcast is True
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 1000


def test_facts_tell_a_miners_reward(pair: Pair) -> None:
    """A channel that a miner funds by its block's reward: no update counts before that can be spent at all."""
    name = pair.open()
    terms = pair.terms(name)
    pair.chain.mine(1)
    height = pair.chain.tip().height
    reward = pair.chain.block_transactions(height)[0].txid
    fresh = gather_facts(pair.chain, replace(terms, outpoint=OutPoint(reward, 0)))
    assert (fresh.confirmations, fresh.mature) == (1, False)
    assert gather_facts(pair.chain, terms).mature
    pair.chain.mine(99)
    assert not gather_facts(pair.chain, replace(terms, outpoint=OutPoint(reward, 0))).mature
    pair.chain.mine(1)
    assert gather_facts(pair.chain, replace(terms, outpoint=OutPoint(reward, 0))).mature


# what never leaves --------------------------------------------------------------------------------


def test_62_only_a_broadcast_carries_the_payees_signature_of_a_payment(pair: Pair) -> None:
    """Every message that leaves the payee in a channel's life, looked at: no order hands out a complete update."""
    offer = pair.offer()
    request = pair.request(offer=offer)
    reply = pair.sign_refund(request.hex)
    pair.fund(reply)
    pair.chain.mine(1)
    name = pair.payer.channels.names()[0]
    ours = pair.terms(name).offer.payee_key.sec
    left = [offer, str(pair.accept(pair.pay(name, 1000))), str(pair.accept(pair.pay(name, 1000)))]
    left.append(str(views.show(pair.payee, pair.chain, name)))
    left.append(str(views.list_channels(pair.payee, pair.chain, lambda *_: None)))
    with pytest.raises(TooEarly) as early:
        pair.settle(name=name)
    left.append(early.value.message)
    best = payee_protocol.best_of(pair.payee_record(name).state)
    assert best is not None
    for signature in best.transaction.inputs[0].witness[1:3]:
        assert all(signature.hex() not in text for text in left)
    assert all(best.transaction.to_hex() not in text for text in left)
    # the refund's signature is in its PSBT alone, which is no complete transaction
    assert not is_complete(reply)
    assert list(psbt(reply).inputs[0].partial_sigs) == [ours]
    result = pair.settle(pair.settlement(name))
    assert is_complete(result.hex)
    assert result.broadcast is True
    pair.chain.mine(1)


def test_what_the_payer_sends_is_never_complete(pair: Pair) -> None:
    name = pair.open()
    for message in (pair.pay(name, 1000), pair.pay(name, 1000), pair.settlement(name)):
        assert not is_complete(message)
        fields = psbt(message).inputs[0]
        assert list(fields.partial_sigs) == [pair.terms(name).payer_key.sec]
        assert not fields.is_final


def test_a_funding_that_was_given_up_as_void_comes_back(pair: Pair) -> None:
    """Another spend of its coin was in a block, and is not any more: the money is in the channel after all."""
    request = pair.request()
    funding = Transaction.from_hex(pair.fund(pair.sign_refund(request.hex), send=False).hex)  # type: ignore[arg-type]
    (name,) = pair.payer.channels.names()
    spent = pair.payer_record(name).state.spent
    elsewhere = replace(
        funding.without_witness(), outputs=(replace(spent[0], value=spent[0].value - Amount(1000)),)
    )
    pair.chain.broadcast(pair.payer.keys.sign_coins(elsewhere, spent))
    pair.chain.mine(1)
    assert payer.abandon(pair.payer, pair.chain, name).status == "abandoned"
    with pytest.raises(NotPossible) as caught:
        payer.refund(pair.payer, pair.chain, None)
    assert caught.value.slug == "not-funded"
    pair.chain.reorganise(1, [funding])
    assert pair.status(name) == ("open", "open")
    assert payer.abandon(pair.payer, pair.chain, name).status == "open"
    pair.accept(pair.pay(name, 1000))
    pair.restart()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    payer.refund(pair.payer, pair.chain, None)
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


@pytest.mark.parametrize("way", ["refund", "claim", "settle"])
def test_a_damaged_record_of_a_send_holds_up_nobodys_money(pair: Pair, way: str) -> None:
    """What cannot be read may only be a child that helps; the channel's own transaction goes out all the same."""
    name = pair.open()
    message = pair.pay(name, 5_000)
    pair.accept(message)
    for wallet in (pair.payer, pair.payee):
        (wallet.directory / "sent").mkdir()
        (wallet.directory / "sent" / ("ab" * 32 + ".json")).write_text("torn")
    if way == "refund":
        pair.mine_to(pair.terms(name).refund_lock_time.value)
        assert pair.refund(name).broadcast
        return
    if way == "claim":
        pair.mine_to(psbt(message).tx.lock_time)
    assert pair.settle(pair.settlement(name) if way == "settle" else None, name).broadcast
