"""Channels of two wallets on a real node: how they end, what Bitcoin Core says, and what reorganisations do."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chain.bitcoind import calls
from support.chain.node import MinedChain, Node, Refusal, needs_node
from support.party import Pair, balance_sat, psbt
from support.protocol import scheme_of, signed_message

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import ChainError, MpchanError, TooEarly
from mpchan.party import payer
from mpchan.party.common import earliest_spend
from mpchan.units import Amount, MedianTime
from mpchan.values import replace

pytestmark = needs_node

DEPTHS = pytest.mark.parametrize("depth", [1, 2, 6])
OPENING_TIME = 1_900_000_000
SECONDS = {
    "lock_time_unit": "seconds",
    "settle_window": 3_600,
    "min_refund_delay": 18_000,
    "max_refund_delay": 90_000,
}


@pytest.fixture
def pair(shared_node: Node, tmp_path: Path) -> Iterator[Pair]:
    """A payer with a coin, and a payee."""
    with MinedChain(shared_node, tmp_path / "seen") as chain:
        yield Pair(tmp_path, chain)


@pytest.fixture
def alone(node: Node, tmp_path: Path) -> Iterator[Pair]:
    """The same on a node of the test's own."""
    with MinedChain(node, tmp_path / "seen") as chain:
        yield Pair(tmp_path, chain)


def refused(call: Callable[[], object]) -> tuple[str, int]:
    """Slug and exit code of what must fail."""
    with pytest.raises(MpchanError) as error:
        call()
    return error.value.slug, error.value.exit_code


# the four ends ------------------------------------------------------------------------------------


def test_a_settlement(pair: Pair) -> None:
    name = pair.open()
    assert pair.status(name) == ("open", "open")
    for number in range(1, 4):
        receipt = pair.accept(pair.pay(name, 1_000))
        assert (receipt.update, receipt.paid_sat) == (number, 1_000 * number)
    done = pair.settle(pair.settlement(name, 5_000))
    assert (done.kind, done.broadcast, done.paid_sat) == ("settlement", True, 5_000)
    assert pair.status(name) == ("settling", "settling")
    assert pair.settle(name=name).txid == done.txid
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 5_000
    assert refused(lambda: pair.pay(name, 1_000)) == ("channel-closed", 5)
    again = pair.settle(name=name)
    assert (again.txid, again.hex) == (done.txid, done.hex)


def test_nothing_bought(pair: Pair) -> None:
    name = pair.open()
    pair.settle(pair.settlement(name))
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 0
    assert balance_sat(pair.payer, pair.chain) > 900_000


def test_the_refund_at_its_time(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    refund = pair.payer_record(name).state.refund
    lock_time = pair.terms(name).refund_lock_time.value
    assert refused(lambda: pair.refund(name)) == ("refund-locked", 6)
    for height in (pair.chain.tip().height, lock_time - 1):
        pair.mine_to(height)
        with pytest.raises(TooEarly) as error:
            pair.chain.broadcast(refund)  # as one who has only the refund's file, and asks the node itself
        assert (error.value.slug, error.value.exit_code) == ("non-final", 6)
        assert error.value.message == f"the node refuses transaction {refund.txid}: non-final"
        assert refused(lambda: pair.refund(name)) == ("refund-locked", 6)
    pair.mine_to(lock_time)
    assert pair.refund(name).broadcast is True
    assert pair.status(name) == ("refunding", "refunding")
    assert pair.refund(name).txid == str(refund.txid)
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


def test_the_payees_update_at_its_time(pair: Pair) -> None:
    name = pair.open()
    for _ in range(3):
        pair.accept(pair.pay(name, 1_000))
    best = pair.payee_record(name).state.best
    assert refused(lambda: pair.settle(name=name)) == ("update-locked", 6)
    pair.mine_to(best.transaction.lock_time - 1)
    assert refused(lambda: pair.settle(name=name)) == ("update-locked", 6)
    assert refused(lambda: pair.chain.broadcast(best.transaction)) == ("non-final", 6)
    pair.mine_to(best.transaction.lock_time)
    done = pair.settle(name=name)
    assert (done.kind, done.paid_sat, done.broadcast) == ("update", 3_000, True)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 3_000


def test_a_channel_in_seconds(alone: Pair) -> None:
    """The node's median time decides, to the second."""
    pair = alone
    node = pair.chain.node

    def pass_to(median_time: int) -> None:
        """Six blocks more than half of eleven carry this time."""
        node.call("setmocktime", median_time)
        node.mine(6)
        assert pair.chain.tip().median_time == median_time

    pass_to(OPENING_TIME)
    name = pair.open(**SECONDS)
    terms = pair.terms(name)
    assert isinstance(terms.refund_lock_time, MedianTime)
    assert terms.refund_lock_time.value >= OPENING_TIME + SECONDS["min_refund_delay"]
    pair.accept(pair.pay(name, 1_000))
    pair.accept(pair.pay(name, 1_000))
    best = pair.payee_record(name).state.best.transaction
    pass_to(best.lock_time)
    assert refused(lambda: pair.settle(name=name)) == ("update-locked", 6)
    assert refused(lambda: pair.chain.broadcast(best)) == ("non-final", 6)
    pass_to(best.lock_time + 1)
    assert pair.settle(name=name).broadcast is True
    node.mine(3)
    assert pair.status(name) == ("closed", "closed")
    with node.chain() as forgetful:
        status = forgetful.output(terms.outpoint, not_before=earliest_spend(terms))
    assert status is not None
    assert status.spend is not None
    assert (status.spend.txid, status.spend.confirmations) == (best.txid, 3)


def test_two_endings_in_conflict(pair: Pair) -> None:
    """The payee's close is in the mempool when the refund's time comes: the node keeps it, the payer sees why."""
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    refund = pair.payer_record(name).state.refund
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    close = pair.settle(name=name)
    slug, code = refused(lambda: pair.refund(name))
    assert (slug, code) == ("channel-settling", 5)
    with pytest.raises(ChainError) as error:
        pair.chain.broadcast(refund)
    assert (error.value.slug, error.value.exit_code) == ("rejected", 8)
    assert "insufficient fee" in error.value.message or "conflict" in error.value.message
    pair.chain.mine(1)
    with pytest.raises(ChainError) as error:
        pair.chain.broadcast(refund)
    assert error.value.message == f"the node refuses transaction {refund.txid}: missing-inputs"
    assert pair.status(name) == ("closed", "closed")
    assert pair.settle(name=name).txid == close.txid


def test_a_coin_that_was_spent_elsewhere(pair: Pair) -> None:
    """A funding that conflicts with what the chain holds is rejected in the node's words, and can be given up."""
    request = pair.request()
    signed = pair.sign_refund(request.hex)
    name = f"{request.funding_txid}-{request.funding_vout}"
    pair.fund(signed, send=False)
    state = pair.payer_record(name).state
    double = replace(state.funding, outputs=state.funding.outputs[1:])
    spent = [pair.chain.output(source.outpoint).output for source in state.funding.inputs]
    pair.chain.broadcast(pair.payer.keys.sign_coins(double.without_witness(), tuple(spent)))
    assert refused(lambda: pair.fund(signed)) == ("funding-conflict", 6)
    assert refused(lambda: payer.abandon(pair.payer, pair.chain, name)) == ("funding-conflict", 6)
    pair.chain.mine(1)
    assert refused(lambda: pair.fund(signed)) == ("funding-void", 5)
    assert payer.abandon(pair.payer, pair.chain, name).status == "abandoned"


# how much is asked --------------------------------------------------------------------------------


def test_a_channel_never_makes_the_node_show_old_blocks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the opening on it is known where to look; so also a pruned node will do."""
    pair.chain.mine(300)
    with calls(monkeypatch) as counted:
        request = pair.request()
        name = f"{request.funding_txid}-{request.funding_vout}"
        signed = pair.sign_refund(request.hex)
        pair.status(name)
        pair.fund(signed)
        pair.chain.mine(2)
        pair.accept(pair.pay(name, 1_000))
        pair.chain.mine(3)
        pair.settle(pair.settlement(name))
        pair.chain.mine(2)
        assert pair.status(name) == ("closed", "closed")
    assert counted["getblock"] < 20


def test_a_payment_asks_little(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    name = pair.open()
    pair.pay(name, 1_000)
    with pair.chain.node.chain(pair.directory / "seen") as fresh:
        pair.chain, before = fresh, pair.chain
        with calls(monkeypatch) as counted:
            pair.pay(name, 1_000)
        pair.chain = before
    assert dict(counted) == {"getblockhash": 1, "getblockchaininfo": 1, "gettxout": 1}


# reorganisations ----------------------------------------------------------------------------------


@DEPTHS
def test_a_funding_that_is_unconfirmed_again(alone: Pair, depth: int) -> None:
    pair, node = alone, alone.chain.node
    name = pair.open(min_confirmations=depth, min_refund_delay=31)
    pair.chain.mine(depth - 1)
    first, second = pair.pay(name, 1_000), pair.pay(name, 1_000)
    pair.accept(first)
    files = pair.payee.channels.load(name)
    node.drop(depth)
    pair.restart()
    assert refused(lambda: pair.accept(second)) == ("unconfirmed", 6)
    assert refused(lambda: pair.pay(name, 1_000)) == ("unconfirmed", 6)
    assert pair.status(name) == ("funding", "funding")
    assert pair.payee.channels.load(name) == files
    for missing in range(depth, 0, -1):
        assert refused(lambda: pair.accept(second)) == ("unconfirmed", 6), missing
        node.mine(1)
    assert pair.accept(second).paid_sat == 2_000
    assert pair.status(name) == ("open", "open")


@DEPTHS
def test_a_funding_that_is_gone_for_good(alone: Pair, depth: int) -> None:
    """The other branch holds a double spend: nothing more is delivered."""
    pair, node = alone, alone.chain.node
    name = pair.open(min_confirmations=depth, min_refund_delay=31)
    pair.chain.mine(depth - 1)
    message = pair.pay(name, 1_000)
    state = pair.payer_record(name).state
    node.drop(depth)
    coin = _funding_coin(pair, state.funding)
    double = Transaction(
        2, state.funding.without_witness().inputs, (TxOut(Amount(900_000), coin.script_pubkey),), 0
    )
    node.mine_with([pair.payer.keys.sign_coins(double, (coin,))])
    node.mine(depth)
    assert refused(lambda: pair.accept(message)) == ("funding-unseen", 6)
    assert refused(lambda: pair.settle(name=name))[1] in (5, 6)
    assert pair.status(name)[1] == "opening"


def _funding_coin(pair: Pair, funding: Transaction) -> TxOut:
    """The output that the funding spends, while both stand in the mempool or above."""
    status = pair.chain.output(funding.inputs[0].outpoint)
    assert status is not None
    return status.output


@DEPTHS
def test_a_close_that_was_reorganised_away(alone: Pair, depth: int) -> None:
    """Closed, then not any more, then closed again; or replaced by the other ending."""
    pair, node = alone, alone.chain.node
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    done = pair.settle(pair.settlement(name))
    node.mine(depth)
    assert pair.status(name) == ("closed", "closed")
    node.drop(depth)
    assert pair.status(name) == ("settling", "settling")
    assert balance_sat(pair.payee, pair.chain) == 0
    assert pair.settle(name=name).txid == done.txid
    node.mine(depth)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 1_000


@DEPTHS
def test_a_close_that_lost_against_the_refund(alone: Pair, depth: int) -> None:
    """A branch in which the payer's refund was first: the channel is refunded, whatever was seen before."""
    pair, node = alone, alone.chain.node
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    refund = pair.payer_record(name).state.refund
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.settle(name=name)
    node.mine(depth)
    assert pair.status(name) == ("closed", "closed")
    node.drop(depth)
    node.mine_with([refund])
    node.mine(depth)
    assert pair.status(name) == ("refunded", "refunded")


# Bitcoin Core reads our messages ------------------------------------------------------------------


def core(message: str) -> str:
    """A message as Bitcoin Core takes it: base64."""
    return base64.b64encode(bytes.fromhex(message)).decode()


@pytest.mark.parametrize("terms", [{}, SECONDS], ids=["blocks", "seconds"])
@pytest.mark.parametrize(("paid", "total"), [(7_000, 9_000), (7_000, 100_000), (0, 0)])
def test_bitcoin_core_makes_the_same_transactions_of_our_messages(
    pair: Pair, paid: int, total: int, terms: dict[str, object]
) -> None:
    """Both halves of refund, update and settlement, combined and finalised by the node.

    The settlement has two outputs, or the payee's alone, or the payer's alone.
    """
    node = pair.chain.node
    request = pair.request(**terms)
    name = f"{request.funding_txid}-{request.funding_vout}"
    agreed = pair.payer_record(name).terms
    payer_key = pair.payer.keys.key_of(pair.payer_record(name))
    signed = pair.sign_refund(request.hex)
    pair.fund(signed)
    pair.chain.mine(1)
    payee_key = pair.payee.keys.key_of(pair.payee_record(name))
    scheme = scheme_of(agreed)

    own_refund = signed_message(agreed, scheme.refund(), agreed.payer_key, payer_key.sign_refund(agreed))
    judge(node, request.hex, signed, own_refund.to_hex(), pair.payer_record(name).state.refund)

    if paid:
        update = pair.pay(name, paid)
        pair.accept(update)
        amount = Amount(paid)
        countersigned = signed_message(
            agreed,
            scheme.update(1, amount),
            agreed.offer.payee_key,
            payee_key.sign_update(agreed, 1, amount),
        )
        judge(node, None, update, countersigned.to_hex(), pair.payee_record(name).state.best.transaction)

    settlement = pair.settlement(name, total)
    close = Transaction.from_hex(pair.settle(settlement).hex)
    amount = Amount(total)
    countersigned = signed_message(
        agreed, scheme.settlement(amount), agreed.offer.payee_key, payee_key.sign_settlement(agreed, amount)
    )
    judge(node, None, settlement, countersigned.to_hex(), close)
    assert len(close.outputs) == (1 if total in (0, 100_000) else 2)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def judge(node: Node, empty: str | None, first: str, second: str, complete: Transaction) -> None:
    """One half of the signatures, the other one, and what both make."""
    for message, keys in ((empty, 0), (first, 1), (second, 1)):
        if message is None:
            continue
        decoded = node.call("decodepsbt", core(message))
        assert decoded["tx"]["txid"] == str(complete.txid)
        [source] = decoded["inputs"]
        assert source["witness_script"]["type"] == "multisig"
        assert source["sighash"] == "ALL"
        assert len(source.get("partial_signatures", {})) == keys
        assert decoded["fee"] > 0
        [analysed] = node.call("analyzepsbt", core(message))["inputs"]
        assert (analysed["has_utxo"], analysed["is_final"], analysed["next"]) == (True, False, "signer")
        assert len(analysed["missing"]["signatures"]) == 2 - keys
        assert node.call("finalizepsbt", core(message))["complete"] is False
        assert psbt(message).to_hex() == message
    messages = [core(message) for message in (empty, first, second) if message is not None]
    for order in (messages, messages[::-1]):
        combined = node.call("combinepsbt", order)
        assert node.call("analyzepsbt", combined)["next"] == "finalizer"
        assert node.call("finalizepsbt", combined) == {"hex": complete.to_hex(), "complete": True}
    decoded = node.call("decoderawtransaction", complete.to_hex())
    assert (decoded["txid"], decoded["vsize"]) == (str(complete.txid), complete.vsize)


def test_bitcoin_core_calls_an_early_refund_non_final(pair: Pair) -> None:
    """In its mempool, at its door and in a block; and not any more when its time has come."""
    node = pair.chain.node
    name = pair.open()
    refund = pair.payer_record(name).state.refund
    lock_time = pair.terms(name).refund_lock_time.value
    for height in (node.height, lock_time - 1):
        pair.mine_to(height)
        [verdict] = node.call("testmempoolaccept", [refund.to_hex()])
        assert (verdict["allowed"], verdict["reject-reason"]) == (False, "non-final")
        with pytest.raises(Refusal, match=r"^non-final"):
            node.call("sendrawtransaction", refund.to_hex())
        with pytest.raises(Refusal, match="bad-txns-nonfinal"):
            node.mine_with([refund])
        assert refused(lambda: pair.chain.broadcast(refund)) == ("non-final", 6)
    pair.mine_to(lock_time)
    [verdict] = node.call("testmempoolaccept", [refund.to_hex()])
    assert verdict["allowed"] is True
    node.mine_with([refund])
    assert pair.status(name) == ("refunded", "refunded")
