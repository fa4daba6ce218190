"""What a payee demands of the funding, and of a message before it looks at what it holds.

An update and a settlement are checked by rebuilding them from the terms, the number and the total.
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.facts import Facts
from mpchan.channel.messages import envelope_rules, paid_in, same_transaction_rules, signature_rules
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.scheme import scheme_of
from mpchan.channel.terms import Terms
from mpchan.errors import TooEarly
from mpchan.units import Amount
from mpchan.values import frozen


@frozen
class Incoming:
    """An update or a settlement (number 0) that the terms allow and the payer signed."""

    number: int
    paid: Amount
    transaction: Transaction
    signature: bytes


def incoming_rules(psbt: Psbt, terms: Terms) -> Check[Incoming]:
    """The message is an update or a settlement of this channel, signed by the payer."""
    yield from envelope_rules(psbt, terms, terms.payer_key)
    transaction = psbt.tx
    scheme = scheme_of(terms)
    number = 0
    if transaction.lock_time:
        found = scheme.update_number(transaction.lock_time)
        yield Rule(
            "lock-time",
            found is not None,
            "nLockTime belongs to no update of this channel",
            found=transaction.lock_time,
        )
        number = found or 0
    paid = paid_in(transaction, terms)
    yield Rule("payee-script", paid is not None or number == 0, "no output pays to the payee's script")
    paid = Amount(0) if paid is None else paid
    dust = terms.payee_dust
    yield Rule(
        "below-dust", paid >= dust or (number == 0 and not paid), "paid total", f"at least {dust}", paid
    )
    yield Rule("over-capacity", paid <= terms.capacity, "paid total", f"at most {terms.capacity}", paid)
    rebuilt = scheme.update(number, paid) if number else scheme.settlement(paid)
    yield from same_transaction_rules(rebuilt, transaction)
    signature = psbt.inputs[0].partial_sigs[terms.payer_key.sec]
    yield from signature_rules(terms, rebuilt, terms.payer_key, signature)
    return Incoming(number, paid, rebuilt, signature)


def funding_output_rules(terms: Terms, script: bytes, value: Amount) -> Check[None]:
    """The funding output has the channel's script and value."""
    expected = terms.funding_txout
    same = script == expected.script_pubkey
    yield Rule(
        "funding-script",
        same,
        "script of the funding output",
        expected.script_pubkey.hex(),
        script[:100].hex(),
    )
    yield Rule("funding-value", value == expected.value, "value of the funding output", expected.value, value)


def funding_rules(terms: Terms, facts: Facts, *, first: bool, pays: bool) -> Check[None]:
    """The chain shows the agreed funding, unspent, and buried deep enough for what pays something."""
    hint = "wait for it with `mpchan wait --for confirmed`"
    if facts.funding is None:
        yield Rule("funding-unseen", False, "the chain does not show the funding", error=TooEarly, hint=hint)
        raise TypeError(BROKEN)
    yield from funding_output_rules(terms, facts.funding.script_pubkey, facts.funding.value)
    if first:
        yield Rule(
            "funding-spent",
            facts.spent_by is None,
            "the funding is spent already",
            found=facts.spent_by or "",
        )
    # a miner can pay its reward into a channel; with a short settle window the refund could then be as early as any
    # update, which no block may hold before the reward has 100 blocks above it
    yield Rule(
        "funding-immature",
        facts.mature,
        "the funding is a block's reward, which nothing can spend before it has 100 blocks above it",
        error=TooEarly,
    )
    needed, found = terms.offer.min_confirmations if pays else 0, facts.confirmations
    yield Rule(
        "unconfirmed",
        found >= needed,
        "confirmations of the funding",
        f"at least {needed}",
        found,
        error=TooEarly,
        hint=hint,
    )
