"""A channel that another wallet funds, on the embedded chain, whose engine judges every signature."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import foreign_wallet as foreign
from support.external import CAPACITY, External, name_of, refused, slugs_of
from support.foreign_wallet import (
    P2TR,
    P2WPKH,
    P2WSH,
    coin,
    finalized,
    partly_signed,
    payment,
    psbt_of,
    signed,
)
from support.party import balance_sat, psbt

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.descriptor import two_of_two_descriptor
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer as payer_protocol
from mpchan.channel.foreign_funding import Message
from mpchan.errors import StorageError
from mpchan.party import payer, views
from mpchan.units import Amount, OutPoint
from mpchan.values import replace


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[External]:
    with EmbeddedChain(chain_directory) as chain:
        yield External(tmp_path, chain)


# the plan -----------------------------------------------------------------------------------------


def test_a_plan_tells_where_to_pay(pair: External) -> None:
    plan = pair.plan()
    assert plan.capacity_sat == CAPACITY
    assert plan.amount_sat == CAPACITY + 338  # the close with both outputs, 169 vB at 2 sat/vB
    assert plan.amount_btc == "0.00100338"
    assert plan.uri == f"bitcoin:{plan.address}?amount=0.00100338&label=mpchan%20{plan.offer_id}"
    keys = [bytes.fromhex(key) for key in (plan.payer_pubkey, plan.payee_pubkey)]
    assert plan.descriptor == two_of_two_descriptor(*keys)


def test_another_script_with_the_same_program_is_no_plans(pair: External) -> None:
    script = address_to_script(pair.plan().address, REGTEST)
    assert pair.payer.plans.find(script) is not None
    assert pair.payer.plans.find(b"\x51" + script[1:]) is None


def test_the_same_plan_again(pair: External) -> None:
    plan = pair.plan()
    before = pair.files()
    pair.restart()
    assert pair.plan() == plan
    assert pair.files() == before


def test_another_amount_takes_the_place_of_the_first(pair: External) -> None:
    """The payer's key follows from the offer's: the address is the same, and what it is to be paid is another sum."""
    first, second = pair.plan(), pair.plan(CAPACITY + 1)
    assert (first.amount_sat, second.amount_sat) == (CAPACITY + 338, CAPACITY + 339)
    for key in ("address", "payer_pubkey", "payer_address"):
        assert first.to_dict()[key] == second.to_dict()[key]
    assert len(pair.payer.plans.files()) == 1
    assert pair.payer.keys.next_index("receive") == 1
    assert pair.plan() == first


def test_the_key_is_on_disk_before_the_address_is_told(
    pair: External, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpchan.wallet.plans import Plans

    def crash(self: Plans, plan: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Plans, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            pair.plan()
    pair.restart()
    assert pair.payer.keys.next_index("receive") == 1
    pair.plan()
    assert pair.payer.keys.next_index("receive") == 2


def test_a_payout_elsewhere(pair: External) -> None:
    address = views.fresh_address(pair.payee).address
    plan = pair.plan(address=address)
    assert plan.payer_address == address
    assert pair.plan() != plan
    assert pair.plan(address=address) == plan


def test_a_damaged_plan_is_named_and_left_alone(pair: External) -> None:
    output = pair.output()
    [path] = pair.payer.plans.files()
    path.write_text(path.read_text().replace(str(CAPACITY), str(CAPACITY + 1)))
    before = pair.files()
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], output)
    assert refused(lambda: pair.take(funding)) == ("plan-damaged", 7)
    assert pair.files() == before
    assert refused(lambda: pair.plan(CAPACITY + 5)) == ("payee-key", 4)  # it may have been paid


def test_the_offers_key_is_not_taken_for_a_second_offer(pair: External) -> None:
    pair.plan()
    key = pair.plan().payee_pubkey
    stolen = pair.offer()
    other = next(line for line in stolen.splitlines() if line.startswith("payee_pubkey"))
    assert refused(lambda: pair.plan(offer=stolen.replace(other, f'payee_pubkey = "{key}"'))) == (
        "payee-key",
        4,
    )


# the whole story ----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [P2WPKH, P2TR, P2WSH], ids=["p2wpkh", "p2tr", "p2wsh"])
def test_a_channel_to_its_settlement(pair: External, script: bytes) -> None:
    """The channel's output stands at index 1."""
    funding = payment(pair.chain, [coin(pair.chain, script)], pair.output())
    unsigned = psbt_of(pair.chain, funding)
    name = pair.open_with(unsigned, partly_signed(pair.chain, unsigned))
    assert name == f"{funding.txid}-1"
    assert pair.status(name) == ("funding", "opening") or pair.status(name)[0] == "funding"
    pair.chain.mine(1)
    assert pair.status(name) == ("open", "open")
    assert pair.warnings(name) == []
    pair.accept(pair.pay(name, 1_000))
    pair.accept(pair.pay(name, 1_000))
    pair.settle(pair.settlement(name, 5_000))
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 5_000
    assert balance_sat(pair.payer, pair.chain) == CAPACITY - 5_000


def test_a_channel_to_its_refund(pair: External) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH), coin(pair.chain, P2TR)], pair.output())
    name = pair.open_with(psbt_of(pair.chain, funding), signed(pair.chain, funding))
    pair.chain.mine(1)
    pair.accept(pair.pay(name, 1_000))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")
    assert balance_sat(pair.payer, pair.chain) == CAPACITY + 338 - 276


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        ("psbt", "partly"),
        ("whole", "finalized"),
        ("partly", "raw-signed"),
        ("finalized", "partly"),
        ("raw", "finalized"),
        ("raw-signed", "raw-signed"),
        ("raw", "partly"),
    ],
)
def test_every_form_that_wallets_export(pair: External, taken: str, given: str) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2TR), coin(pair.chain, P2WPKH)], pair.output())
    complete = signed(pair.chain, funding)
    plain = psbt_of(pair.chain, funding)
    forms: dict[str, Message] = {
        "psbt": plain,
        "whole": psbt_of(pair.chain, funding, whole=True),
        "partly": partly_signed(pair.chain, plain),
        "finalized": finalized(plain, complete),
        "raw": funding,
        "raw-signed": complete,
    }
    request = pair.take(forms[taken])
    assert slugs_of(request) == (["signed-already"] if taken in ("finalized", "raw-signed") else [])
    result = pair.fund(pair.sign_refund(request.hex), signed=forms[given])
    assert (result.broadcast, Transaction.from_hex(result.hex).txid) == (True, funding.txid)  # type: ignore[arg-type]
    pair.chain.mine(1)
    assert pair.status(name_of(request)) == ("open", "open")


def test_every_step_again(pair: External) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    complete = signed(pair.chain, funding)
    request = pair.take(funding)
    before = pair.files()
    pair.restart()
    assert pair.take(psbt_of(pair.chain, funding)) == request
    assert pair.files() == before
    reply = pair.sign_refund(request.hex)
    first = pair.fund(reply, signed=complete, send=False)
    assert first.broadcast is False
    assert pair.chain.output(OutPoint(funding.txid, 1)) is None
    second = pair.fund(reply)
    assert (second.broadcast, second.hex) == (True, first.hex)
    before = pair.files()
    assert pair.fund(reply, signed=complete) == second
    assert pair.files() == before
    assert pair.plan().capacity_sat == CAPACITY
    assert pair.take(funding) == request
    assert refused(lambda: pair.take(funding, refund_delay=50)) == ("opened-otherwise", 5)


def test_the_refund_is_stored_before_the_funding_leaves(
    pair: External, monkeypatch: pytest.MonkeyPatch
) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    request = pair.take(funding)
    reply = pair.sign_refund(request.hex)

    def crash(self: EmbeddedChain, transaction: Transaction) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedChain, "broadcast", crash)
        with pytest.raises(KeyboardInterrupt):
            pair.fund(reply, signed=signed(pair.chain, funding))
    pair.restart()
    state = pair.payer_record(name_of(request)).state
    assert isinstance(state, payer_protocol.Funded)
    assert (state.external, state.sends) == (True, True)
    assert pair.fund(reply).broadcast is True


def test_the_file_keeps_what_the_funding_is(pair: External) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    name = pair.open_with(funding, signed(pair.chain, funding))
    text = (pair.payer.directory / "channels" / f"{name}.json").read_text()
    assert json.loads(text)["channel"]["external"] is True
    record = pair.payer_record(name)
    pair.restart()
    assert pair.payer_record(name) == record


# giving up ----------------------------------------------------------------------------------------


def test_an_opening_is_given_up_and_taken_up_again(pair: External) -> None:
    """The terms stay what they were: the payee may have signed their refund, and signs no other."""
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    request = pair.take(funding)
    reply = pair.sign_refund(request.hex)
    payer.abandon(pair.payer, pair.chain, name_of(request))
    assert refused(lambda: pair.fund(reply, signed=funding)) == ("channel-abandoned", 5)
    pair.chain.mine(3)
    again = pair.take(funding)
    assert again == request
    assert pair.fund(reply, signed=signed(pair.chain, funding)).broadcast is True


def test_a_refund_that_was_secured_outlives_giving_up(pair: External, tmp_path: Path) -> None:
    """The other wallet has signed, so it can still send: a crash, or a full disk for the copy, came between."""
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    request = pair.take(funding)
    name, reply = name_of(request), pair.sign_refund(request.hex)
    complete = signed(pair.chain, funding)
    with pytest.raises(StorageError):
        pair.fund(reply, signed=complete, refund_out=tmp_path / "missing" / "refund.hex")
    assert isinstance(pair.payer_record(name).state, payer_protocol.Secured)
    assert payer.abandon(pair.payer, pair.chain, name).status == "abandoned"
    assert pair.status(name)[0] == "abandoned"
    pair.chain.broadcast(complete)
    pair.chain.mine(1)
    pair.restart()
    assert pair.status(name) == ("open", "open")
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


def test_a_plan_does_no_harm(pair: External) -> None:
    """The same offer can still be opened with coins of one's own; then the plan's funding is refused."""
    output = pair.output()
    pair.coin()
    request = payer.open_channel(pair.payer, pair.chain, pair.offer_text, Amount(CAPACITY))
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], output)
    assert refused(lambda: pair.take(funding)) == ("offer-used", 5)
    assert refused(lambda: pair.plan(CAPACITY + 1)) == ("offer-used", 5)
    payer.abandon(pair.payer, pair.chain, name_of(request))
    pair.take(funding)


def test_coins_of_an_external_funding_are_reserved(pair: External) -> None:
    outpoint = coin(pair.chain, P2WPKH)
    request = pair.take(payment(pair.chain, [outpoint], pair.output()))
    assert outpoint in pair.payer.channels.reserved_outpoints()
    payer.abandon(pair.payer, pair.chain, name_of(request))
    assert outpoint not in pair.payer.channels.reserved_outpoints()


def test_two_openings_under_one_offer(pair: External) -> None:
    first = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    second = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    request = pair.take(first)
    assert refused(lambda: pair.take(second)) == ("offer-used", 5)
    payer.abandon(pair.payer, pair.chain, name_of(request))
    pair.take(second)
    assert refused(lambda: pair.take(first)) == ("offer-used", 5)


def test_an_opening_with_own_coins_is_not_answered_with_another_wallets(pair: External) -> None:
    pair.take(payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output()))
    before = pair.files()
    assert refused(lambda: pair.request(CAPACITY, offer=pair.offer_text)) == ("opened-otherwise", 5)
    assert pair.files() == before


# too early, or replaced ---------------------------------------------------------------------------


def test_a_funding_that_was_broadcast_too_early(pair: External) -> None:
    """Before anybody asked for the refund: it is asked for all the same, and the danger is said."""
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    complete = signed(pair.chain, funding)
    pair.chain.broadcast(complete)
    pair.chain.mine(2)
    request = pair.take(psbt_of(pair.chain, funding))
    name = name_of(request)
    assert slugs_of(request) == ["funding-early"]
    assert views.show(pair.payer, pair.chain, name).status == "opening"
    assert pair.warnings(name) == ["funding-early"]
    assert refused(lambda: payer.abandon(pair.payer, pair.chain, name)) == ("funding-early", 5)
    result = pair.fund(pair.sign_refund(request.hex))  # the chain itself has the signatures
    assert result.hex == complete.to_hex()
    assert pair.status(name) == ("open", "open")
    assert pair.warnings(name) == []
    pair.settle(pair.settlement(name, 1_000))


def test_too_early_between_the_request_and_the_reply(pair: External) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2TR)], pair.output())
    request = pair.take(funding)
    name = name_of(request)
    assert pair.warnings(name) == []
    reply = pair.sign_refund(request.hex)
    pair.chain.broadcast(signed(pair.chain, funding))
    assert pair.warnings(name) == ["funding-early"]
    assert slugs_of(pair.take(funding)) == ["funding-early"]
    pair.mine_to(pair.payer_record(name).terms.refund_lock_time.value - 3)  # too late for payments
    assert pair.fund(reply).broadcast is True
    assert isinstance(pair.payer_record(name).state, payer_protocol.Funded)
    pair.chain.mine(3)
    pair.refund(name)


def test_an_early_funding_in_a_block_may_have_any_inputs(pair: External) -> None:
    """What a block holds cannot change any more: better a refund than none."""
    outpoint = coin(pair.chain, foreign.P2SH_ANYONES)
    funding = payment(pair.chain, [outpoint], pair.output())
    [source] = funding.inputs
    complete = replace(funding, inputs=(replace(source, script_sig=b"\x01" + foreign.ANYONES),))
    assert refused(lambda: pair.take(complete)) == ("script-sig", 4)
    pair.chain.broadcast(complete)
    assert refused(lambda: pair.take(complete)) == ("script-sig", 4)
    pair.chain.mine(1)
    request = pair.take(complete)
    pair.fund(pair.sign_refund(request.hex))
    assert pair.status(name_of(request)) == ("open", "open")


@pytest.mark.parametrize("phase", ["opening", "funded"])
def test_a_coin_of_the_funding_is_spent_elsewhere(pair: External, phase: str) -> None:
    """As a bumped fee does it: the other transaction pays the channel too, and its money has no refund."""
    outpoint, output = coin(pair.chain, P2WPKH), pair.output()
    funding = payment(pair.chain, [outpoint], output)
    bumped = signed(pair.chain, payment(pair.chain, [outpoint], output, fee=5_000))
    request = pair.take(funding)
    name = name_of(request)
    reply = pair.sign_refund(request.hex)
    if phase == "funded":
        pair.fund(reply, signed=signed(pair.chain, funding), send=False)
    pair.chain.broadcast(bumped)
    before = pair.files()
    assert pair.warnings(name) == ["funding-conflict"]
    again = pair.fund, (reply,), {"signed": signed(pair.chain, funding)}
    call = lambda: again[0](*again[1], **again[2])  # type: ignore[arg-type]  # noqa: E731
    assert refused(call) == (("coin-spent", 5) if phase == "opening" else ("funding-conflict", 6))
    if phase == "funded":
        for step in (lambda: pair.pay(name, 1_000), lambda: pair.settlement(name), lambda: pair.refund(name)):
            assert refused(step) == ("funding-conflict", 6)
        assert refused(lambda: payer.abandon(pair.payer, pair.chain, name)) == ("funding-conflict", 6)
    pair.chain.mine(1)
    assert pair.warnings(name) == ["funding-void"]
    [warning] = views.show(pair.payer, pair.chain, name).warnings
    assert str(bumped.txid) in warning
    assert f"depends on the payee alone until `mpchan payer open --again {bumped.txid}:1`" in warning
    assert refused(call) == (("coin-spent", 5) if phase == "opening" else ("funding-void", 5))
    if phase == "funded":
        for step in (lambda: pair.pay(name, 1_000), lambda: pair.settlement(name), lambda: pair.refund(name)):
            assert refused(step) == ("funding-void", 5)
    assert pair.files() == before
    assert payer.abandon(pair.payer, pair.chain, name).status == "abandoned"


def test_of_two_conflicts_the_confirmed_one_is_told(pair: External) -> None:
    coins = [coin(pair.chain, P2WPKH), coin(pair.chain, P2WPKH)]
    request = pair.take(payment(pair.chain, coins, pair.output()))
    buried, waiting = (signed(pair.chain, payment(pair.chain, [outpoint])) for outpoint in reversed(coins))
    pair.chain.broadcast(buried)
    pair.chain.mine(1)
    pair.chain.broadcast(waiting)
    [warning] = views.show(pair.payer, pair.chain, name_of(request)).warnings
    assert warning.startswith(f"funding-void: transaction {buried.txid} has replaced the funding ")


def test_a_payment_elsewhere_is_not_called_the_same_address(pair: External) -> None:
    outpoint = coin(pair.chain, P2WPKH)
    request = pair.take(payment(pair.chain, [outpoint], pair.output()))
    pair.chain.broadcast(signed(pair.chain, payment(pair.chain, [outpoint])))
    [warning] = views.show(pair.payer, pair.chain, name_of(request)).warnings
    assert warning.startswith("funding-conflict: ")
    assert "same address" not in warning
    assert " is about to replace the funding " in warning


def test_replacement_is_warned_of_until_it_is_confirmed(pair: External) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output(), sequence=0xFFFFFFFD)
    request = pair.take(funding)
    assert slugs_of(request) == ["signals-replacement"]
    pair.fund(pair.sign_refund(request.hex), signed=signed(pair.chain, funding))
    assert pair.warnings(name_of(request)) == ["signals-replacement"]
    pair.chain.mine(1)
    assert pair.warnings(name_of(request)) == []


def test_the_names_agree(pair: External) -> None:
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    request = pair.take(funding)
    assert pair.payer.channels.names() == [OutPoint(funding.txid, 1).name]
    assert isinstance(psbt(request.hex), Psbt)
