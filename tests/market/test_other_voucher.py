"""The voucher is outside of the token: an offer with another one is the same offer, and serves no second channel."""

from __future__ import annotations

import pytest
from support.market.market import Market
from support.party import psbt

from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payer as payer_protocol
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError
from mpchan.party import payee, payer
from mpchan.party.coins import send
from mpchan.party.offers.selling import make_out  # type: ignore[attr-defined]
from mpchan.units import Height, OutPoint
from mpchan.values import replace


def test_another_voucher_makes_no_other_offer(market: Market) -> None:
    pair = market.pair
    offer = make_out(pair.payee, market.own, "ab" * 16, (1, 2, 3, 4, 5))
    request = payer.open_channel(pair.payer, pair.chain, offer.to_toml(), offer.min_capacity)
    pair.fund(pair.sign_refund(request.hex))
    pair.chain.mine(1)
    # another payer key, the same offer but for the voucher, and money that lies there
    forged = replace(offer, sale={**(offer.sale or {}), "voucher": "00"})
    key = PrivateKey(bytes(31) + b"\x0b").public_key
    record = pair.payer_record(f"{request.funding_txid}-0")
    terms = record.terms
    lock = Height(pair.chain.tip().height + offer.default_refund_delay)
    made = Terms(forged, terms.outpoint, terms.funding_value, key, terms.payer_script, lock)
    funding = send(pair.payer, pair.chain, made.funding_txout.script_pubkey, made.funding_value)
    pair.chain.mine(1)
    tx = Transaction.from_hex(funding.hex)
    vout = next(
        at for at, out in enumerate(tx.outputs) if out.script_pubkey == made.funding_txout.script_pubkey
    )
    second = replace(made, outpoint=OutPoint(tx.txid, vout))
    state = payer_protocol.Opening(second, None, (), external=True)
    before = pair.files()
    with pytest.raises(MpchanError) as caught:
        payee.sign_refund(pair.payee, pair.chain, psbt(payer_protocol.refund_request(state).to_hex()))
    assert (caught.value.slug, pair.files()) == ("offer-used", before)
