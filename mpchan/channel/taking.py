"""What a payee demands of the funding, and of a message before it looks at what it holds.

An update and a settlement are checked by rebuilding them from the terms, the number and the total.
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.construction.base import Kind, Meant, settlement
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Facts
from mpchan.channel.messages import message_rules, same_transaction_rules
from mpchan.channel.outputs import paid_in
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.terms import Terms
from mpchan.errors import TooEarly
from mpchan.units import Amount
from mpchan.values import frozen


@frozen
class Incoming:
    """An update or a settlement that the terms allow and the payer signed.

    Attributes:
        meant: which of the two, and its total.
        transaction: unsigned, built from our own terms.
        signature: the payer's, as the message carries it; verified.
    """

    meant: Meant
    transaction: Transaction
    signature: bytes

    @property
    def is_update(self) -> bool:
        """Whether it is an update; else it is a settlement."""
        return self.meant.kind is Kind.UPDATE

    @property
    def number(self) -> int | None:
        """Of an update, where the construction numbers them."""
        return self.meant.number

    @property
    def paid(self) -> Amount:
        """To the payee, in all."""
        return self.meant.paid


def closes(terms: Terms, meant: Meant | None) -> bool:
    """Whether a message can close the channel at once: a settlement, or an update that is final at any time."""
    if meant is None or meant.kind is Kind.REFUND:
        return False
    return meant.kind is Kind.SETTLEMENT or terms.schedule.final_at(meant) is None


def incoming_rules(psbt: Psbt, terms: Terms, *, closing: bool = False) -> Check[Incoming]:
    """The message is an update or a settlement of this channel, signed by the payer.

    Args:
        closing: it came to close the channel: what is final at any time is taken for a settlement.
    """
    signature = yield from message_rules(psbt, terms, terms.payer_key)
    transaction, schedule = psbt.tx, terms.schedule
    meant = schedule.read(psbt)
    known = meant is not None and meant.kind is not Kind.REFUND
    if meant is None or meant.kind is not Kind.SETTLEMENT:
        text = "nLockTime belongs to no update of this channel"
        yield Rule("lock-time", known, text, found=transaction.lock_time)
    if meant is None:
        raise TypeError(BROKEN)
    if closing and closes(terms, meant):
        meant = settlement(meant.paid)
    is_update, paid = meant.kind is Kind.UPDATE, meant.paid
    is_paid = paid_in(transaction, terms) is not None
    yield Rule("payee-script", is_paid or not is_update, "no output pays to the payee's script")
    dust = terms.payee_dust
    worth = paid >= dust or (not is_update and not paid)
    yield Rule("below-dust", worth, "paid total", f"at least {dust}", paid)
    yield Rule("over-capacity", paid <= terms.capacity, "paid total", f"at most {terms.capacity}", paid)
    rebuilt = schedule.build(meant)
    yield from same_transaction_rules(rebuilt, transaction)
    yield from terms.lock.signature_rules(rebuilt, terms.payer_key, signature)
    return Incoming(meant, rebuilt, signature)


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


_WAIT = "wait for it with `mpchan wait --for confirmed`"


def funding_rules(terms: Terms, facts: Facts, *, first: bool, pays: bool) -> Check[None]:
    """The chain shows the agreed funding, unspent, and buried deep enough for what pays something."""
    # what the first payment brings is no channel here yet that a command could wait for
    brought = first and not construction_of(terms.offer).has_exchange
    hint = "accept the same message again once the funding is confirmed" if brought else _WAIT
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
