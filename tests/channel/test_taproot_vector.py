"""A taproot channel's message, byte for byte, and the close that another library has made of it."""

from __future__ import annotations

import json
from pathlib import Path

from support.judge import ENGINE, Judge, channel_output
from support.protocol import PAYEE, PAYER, PAYER_SCRIPT, make_offer

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.construction.base import Kind, Meant
from mpchan.channel.messages import complete_rules
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms, funding_output
from mpchan.units import Amount, Height, OutPoint, Txid

VECTOR = json.loads(Path(__file__).with_name("taproot_close.json").read_text())
"""``close`` is what @scure/btc-signer 2.4.1 makes of ``message`` with the payee's key."""

PAID = Amount(20_000)


def fixed_terms() -> Terms:
    offer = make_offer(version=2, scheme="taproot", own_terms={"made_at": 1000})
    output = funding_output(offer, Amount(100_000), PAYER.public_key, PAYER_SCRIPT, Height(2016))
    outpoint = OutPoint(Txid(bytes(range(32))), 1)
    return Terms(offer, outpoint, output.value, PAYER.public_key, PAYER_SCRIPT, Height(2016))


def test_the_message() -> None:
    """What is sent never changes: payees of other versions, and other programs, read it."""
    terms = fixed_terms()
    update = terms.schedule.build(Meant(Kind.UPDATE, None, PAID))
    message = terms.lock.message(update, PAYER.public_key, PAYER.sign_update(terms, 1, PAID))
    assert message.to_hex() == VECTOR["message"]
    assert Psbt.from_bytes(bytes.fromhex(VECTOR["message"])).to_hex() == VECTOR["message"]


def test_another_librarys_close() -> None:
    """The same transaction, 180 vB, with the payer's signature that was sent and a good one of the payee's key."""
    terms = fixed_terms()
    close, update = (
        Transaction.from_hex(VECTOR["close"]),
        terms.schedule.build(Meant(Kind.UPDATE, None, PAID)),
    )
    enforce(complete_rules(terms, update, close))
    assert close.vsize == 180
    assert terms.lock.signature_in(close, PAYER.public_key) == PAYER.sign_update(terms, 1, PAID)
    keys = (PAYER.public_key.sec, PAYEE.public_key.sec)
    if ENGINE:
        Judge().check(close, [channel_output(terms.funding_value.sat, *keys, refund_at=2016)])
