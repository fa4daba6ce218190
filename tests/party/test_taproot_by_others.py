"""Libraries that others wrote read a taproot channel's messages, close it, and take the refund from words and offer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.other_libraries import Words, close_by_embit, own_payee_path
from support.party import Pair, psbt

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import views

pytest.importorskip("embit")


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain, scheme="taproot")


def test_embit_closes_with_the_payees_words(pair: Pair) -> None:
    name = pair.open()
    payment = pair.pay(name, 20_000)
    pair.accept(payment)
    offer = pair.terms(name).offer
    path = own_payee_path(offer.generation, offer.offer_id)
    made = close_by_embit(pair.payee.keys.seed_words(), path, psbt(payment).to_bytes())
    assert Transaction.from_hex(made).txid == pair.payee_record(name).state.best.transaction.txid
    pair.chain.broadcast(Transaction.from_hex(made))
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_embit_takes_the_refund_from_words_and_offer_alone(pair: Pair) -> None:
    text = pair.offer()
    request = pair.request(offer=text)
    name = f"{request.funding_txid}-{request.funding_vout}"
    pair.chain.mine(1)
    pair.accept(pair.pay(name, 1_000))

    def find(script: bytes) -> tuple[bytes, int, int] | None:
        for coin in pair.chain.coins([script]):
            return bytes.fromhex(str(coin.outpoint.txid)), coin.outpoint.vout, coin.output.value.sat
        return None

    words = Words(pair.payer.keys.seed_words(), text)
    refund = Transaction.from_hex(words.refund(find, fee=2 * 126))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.chain.broadcast(refund)
    assert pair.status(name) == ("refunding", "refunding")
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")
    assert views.balance(pair.payer, pair.chain).confirmed_sat > 990_000
