"""How a taproot channel ends when the other party, or a server, does what it can: each party gets what is its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.leaves import STRANGERS_SCRIPT, by_leaf, taken_back, tree_of
from support.party import Pair, balance_sat
from support.protocol import STRANGER_SECRET
from support.watch import look, seen

from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import OutputStatus, Spend
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import MpchanError
from mpchan.party import views
from mpchan.units import Amount, LockTime, OutPoint
from mpchan.values import replace


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain, scheme="taproot")


def refused(call: object) -> MpchanError:
    with pytest.raises(MpchanError) as caught:
        call()  # type: ignore[operator]
    return caught.value


def paid(pair: Pair, amount: int = 50_000) -> str:
    name = pair.open()
    pair.accept(pair.pay(name, amount))
    return name


# a refund that is not the stored one --------------------------------------------------------------


def at_refund(pair: Pair, name: str) -> None:
    pair.mine_to(pair.payer_record(name).terms.refund_lock_time.value)


def another_refund(pair: Pair, name: str, fee: int = 5_000) -> Transaction:
    """To another script, with a later lock time and a higher fee than the stored one."""
    terms = pair.payer_record(name).terms
    output = TxOut(terms.funding_value - Amount(fee), STRANGERS_SCRIPT)
    return taken_back(terms, pair.payer_secret(name), output, lock_time=terms.refund_lock_time.value + 1)


def test_another_refund_where_nothing_was_paid(pair: Pair) -> None:
    name = pair.open()
    at_refund(pair, name)
    pair.chain.mine(1)
    pair.chain.broadcast(another_refund(pair, name))
    assert views.show(pair.payer, pair.chain, name).status == "refunding"
    error = refused(lambda: pair.refund(name))
    assert (error.slug, error.exit_code) == ("channel-refunding", 5)
    assert "another refund" in error.message
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "refunded"
    assert seen(look(pair.payer, pair.chain)) == ("refunded", "wait", False, None)


def test_another_refund_is_fought_like_the_stored_one(pair: Pair) -> None:
    """The payee's watcher, late as it is, outbids it with a child of its close."""
    name = paid(pair)
    at_refund(pair, name)
    pair.chain.mine(1)
    refund = another_refund(pair, name)
    pair.chain.broadcast(refund)
    assert pair.status(name) == ("refunding", "refunding")
    assert seen(look(pair.payee, pair.chain)) == ("settling", "update", True, "refund-seen")
    assert refund.txid not in pair.chain.mempool()
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) > 25_000


def test_another_refund_in_a_block_is_no_close(pair: Pair) -> None:
    """While it waits nobody here can verify it, for its other input; it is a refund as soon as a block has it."""
    name = paid(pair)
    pair.chain.faucet(STRANGERS_SCRIPT, Amount(20_000))
    pair.chain.mine(1)
    coin = pair.chain.coins([STRANGERS_SCRIPT])[-1]
    at_refund(pair, name)
    terms = pair.terms(name)
    output = TxOut(terms.funding_value + Amount(10_000), STRANGERS_SCRIPT)
    refund = taken_back(terms, pair.payer_secret(name), output, beside=[(coin.outpoint, coin.output)])
    pair.chain.broadcast(refund)
    assert pair.status(name) == ("open", "open")
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")
    assert seen(look(pair.payee, pair.chain)) == ("refunded", "wait", False, "refunded-unclaimed")
    assert seen(look(pair.payer, pair.chain)) == ("refunded", "wait", False, None)
    assert refused(lambda: pair.settle(name=name)).slug == "channel-refunded"
    assert refused(lambda: pair.accept(pair.pay(name, 1))).slug == "channel-refunded"


# what a server makes up ---------------------------------------------------------------------------


def made_up(pair: Pair, name: str) -> dict[str, Transaction]:
    """Spends that nobody signed; all pay the payee more than it has."""
    terms = pair.terms(name)
    tree = tree_of(terms)
    script = terms.offer.payee_script
    bare = Transaction(3, (TxIn(terms.outpoint, 0xFFFF_FFFD),), (TxOut(Amount(90_000), script),), 0)
    beside = replace(bare, inputs=(*bare.inputs, TxIn(OutPoint(terms.outpoint.txid, 7), 0xFFFF_FFFD)))
    close = pair.payee_record(name).state.best.transaction.inputs[0].witness
    stolen = [STRANGER_SECRET, STRANGER_SECRET]
    return {
        "no witness": bare,
        "an annex": bare.with_witness(0, (bytes(64), b"\x50")),
        "the key path, with SIGHASH_SINGLE": bare.with_witness(0, (bytes(64) + b"\x03",)),
        "the signatures of another update": bare.with_witness(0, close),
        "a stranger's signatures": by_leaf(terms, tree.close, bare, stolen),
        "leaf R before its time": taken_back(terms, pair.payer_secret(name), *bare.outputs),
        "leaf R with no lock time": taken_back(terms, pair.payer_secret(name), *bare.outputs, lock_time=0),
        "beside an input that nobody knows": by_leaf(
            terms, tree.close, beside, stolen, [TxOut(Amount(1), script)]
        ),
    }


def test_67_what_a_server_makes_up_holds_up_no_close(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    name = paid(pair)
    pair.mine_to(pair.terms(name).schedule.deadline.value - 6)
    true, funding = EmbeddedChain.outputs, pair.terms(name).outpoint
    for shown in made_up(pair, name).values():
        spend = Spend(shown.txid, 0, shown)

        def outputs(
            chain: EmbeddedChain, asked: Mapping[OutPoint, LockTime | None], spend: Spend = spend
        ) -> dict[OutPoint, OutputStatus]:
            found = true(chain, asked)
            return {
                each: replace(status, spend=spend) if each == funding else status
                for each, status in found.items()
            }

        monkeypatch.setattr(EmbeddedChain, "outputs", outputs)
        assert pair.status(name) == ("open", "open")
    assert seen(look(pair.payee, pair.chain))[1:] == ("update", True, None)
