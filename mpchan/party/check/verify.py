"""``verify``: whether this wallet would take a message, rule by rule.

The rules are the very generators that the commands enforce. Nothing is changed and no lock is needed: what is read from
the wallet is read whole, as another command left it.
"""

from __future__ import annotations

import re
from typing import Any, Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payee, payer
from mpchan.channel.construction.base import Kind
from mpchan.channel.construction.registry import all_constructions
from mpchan.channel.offer import Offer
from mpchan.channel.opening import default_delay_rules
from mpchan.channel.rules import Check, Rule, explain
from mpchan.channel.taking import incoming_rules
from mpchan.errors import ChainError, MpchanError, NotPossible, ParseError, StorageError, TooEarly, UsageError
from mpchan.party.check import payee_rules, payer_rules
from mpchan.party.common import channel_rules, gather_facts
from mpchan.party.opening.brought import brought_offer, receiving_rules
from mpchan.party.opening.notes import opening_at, record_of
from mpchan.results.checks import Verdict, VerifiedRule
from mpchan.units import MAX_MESSAGE_BYTES
from mpchan.values import field, frozen
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

Message = Union[Offer, Psbt, Transaction]

_TOML_LINE = re.compile(rb"^[ \t]*[A-Za-z_]+[ \t]*=[ \t]*[^\s=]", re.MULTILINE)
"""``key = value``: no hex and no base64 holds such a line."""


def read_message(data: bytes) -> Message:
    """An offer, a message that lacks a signature, or a complete transaction.

    Raises:
        ParseError: as ``Offer.from_toml`` and ``decode_message``.
    """
    from mpchan.bitcoin.message import decode_message, too_large

    if b"\0" not in data and _TOML_LINE.search(data):
        if len(data) > MAX_MESSAGE_BYTES:
            raise too_large("offer")
        try:
            return Offer.from_toml(data.decode())
        except UnicodeDecodeError:
            raise ParseError("not-utf8", "offer is not UTF-8 text") from None
    return decode_message(data)


def verify(wallet: Wallet, chain: Chain, message: Message, prefix: str | None = None) -> Verdict:
    """``verify FILE``: the verdict, with every rule up to the first that is broken.

    Args:
        prefix: of the channel that the message has to belong to; None for any.

    Returns:
        ``accepted`` is None where the chain could not be asked, or the keys are encrypted and a token needs them, and
        no rule before was broken. ``exit_code`` is that of the broken rule, or of what could not be asked.

    Raises:
        StorageError: the wallet's own files are damaged.
        UsageError, NotPossible: ``prefix`` names no channel, or several.
    """
    question = _question(wallet, chain, message)
    check = question.check
    if prefix is not None:
        if isinstance(message, Offer):
            raise UsageError("usage", "an offer belongs to no channel yet: leave --channel out")
        wanted = wallet.channels.find(prefix, lambda record: True, "known")
        check = _of_channel(question, wanted)
    rules: list[Rule] = []
    trouble: MpchanError | None = None
    try:
        for rule in explain(check):
            if rule not in rules:  # a check that is part of two others is shown once
                rules.append(rule)
    except (ChainError, UsageError, NotPossible, TooEarly) as error:
        trouble = error
    except StorageError as error:
        if error.slug != "passphrase-needed":
            raise
        trouble = error
    return _verdict(question, rules, trouble)


@frozen
class _Question:
    """What is asked of a message.

    Attributes:
        kind: refund-request, signed-refund, update, settlement, funding or offer.
        names: of the channels that it can belong to.
        notes: what people should know besides; the check adds to them.
    """

    kind: str
    names: tuple[str, ...]
    check: Check[Any]
    notes: list[str] = field(default_factory=list)


def _verdict(question: _Question, rules: list[Rule], trouble: MpchanError | None) -> Verdict:
    broken = next((rule.failure() for rule in rules if not rule.ok), trouble)
    # the chain cannot be asked, or is not up to date, or nobody told where it stands; or no key is at hand
    undecided = isinstance(broken, ChainError) or isinstance(trouble, (UsageError, StorageError))
    accepted = None if undecided else broken is None
    return Verdict(
        kind=question.kind,
        channel=question.names[0][:16] if question.names else None,
        accepted=accepted,
        rules=tuple(_shown(rule) for rule in rules),
        error=None if broken is None else broken.slug,
        message=None if broken is None else broken.message,
        hint=None if broken is None else broken.hint,
        exit_code=0 if broken is None else broken.exit_code,
        warnings=tuple(question.notes),
    )


def _shown(rule: Rule) -> VerifiedRule:
    expected, found = rule.shown
    return VerifiedRule(rule.slug, rule.ok, expected or None, found or None)


# which rules --------------------------------------------------------------------------------------


def _question(wallet: Wallet, chain: Chain, message: Message) -> _Question:
    if isinstance(message, Offer):
        return _Question("offer", (), _offer_rules(wallet, chain, message))
    if isinstance(message, Transaction):
        names = tuple(_fitting_first(wallet, message))
        return _Question("funding", names, _funding_rules(wallet, message))
    of_a_channel = any(each.is_message(message) for each in all_constructions())
    names = (message.tx.inputs[0].outpoint.name,) if of_a_channel else ()
    kind = _kind(wallet, message)
    if kind in ("update", "settlement"):
        notes: list[str] = []
        return _Question(kind, names, _incoming_rules(wallet, chain, message, notes), notes)
    rules = payee_rules.request_rules if kind == "refund-request" else _reply_rules
    check: Check[Any] = rules(wallet, chain, message)
    return _Question(kind, names, check)


def _kind(wallet: Wallet, psbt: Psbt) -> str:
    """The kind follows from the content: what the channel's schedule reads in it, and no signature is a request.

    Of a channel that is not known nothing can be read but whether anybody has signed.
    """
    outpoint = psbt.tx.inputs[0].outpoint if psbt.tx.inputs else None
    record = None
    if outpoint is not None and wallet.channels.knows(outpoint):
        record = wallet.channels.load(outpoint.name)
    elif outpoint is not None and (opening := opening_at(wallet, outpoint)) is not None:
        try:
            record = record_of(wallet, opening)
        except StorageError as error:
            if error.slug != "passphrase-needed":  # which leaves a rule undecided, and the kind nearly so
                raise
    if isinstance(record, PayerRecord):
        return "signed-refund"
    unsigned = not any(fields.has_signature for fields in psbt.inputs)
    if record is None and brought_offer(wallet, psbt) is not None:
        return Kind.UPDATE.value
    if record is None:
        return "refund-request" if unsigned else next(all_constructions()).likely_kind(psbt.tx).value
    meant = record.terms.schedule.read(psbt)
    if unsigned and (meant is None or meant.kind is Kind.REFUND):
        return "refund-request"
    return Kind.SETTLEMENT.value if meant is not None and meant.kind is Kind.SETTLEMENT else Kind.UPDATE.value


def _of_channel(question: _Question, wanted: str) -> Check[Any]:
    """The user named the channel that the message has to belong to."""
    names = question.names
    if names:
        found = ", ".join(name[:16] for name in names)
        yield Rule(
            "wrong-channel",
            wanted in names,
            "channel of the message",
            wanted[:16],
            found,
            error=UsageError,
        )
    return (yield from question.check)


def _offer_rules(wallet: Wallet, chain: Chain, offer: Offer) -> Check[None]:
    records = payer_rules.opened_under(wallet, offer)
    serving = next((record for record in records if not isinstance(record.state, payer.Abandoned)), None)
    yield Rule(
        "offer-used",
        serving is None,
        "the offer serves a channel already",
        found="" if serving is None else serving.terms.channel_id,
        error=NotPossible,
        hint="an offer serves one channel: ask the payee for another",
    )
    given_up = [record.terms.name for record in records]
    yield from payer_rules.new_offer_rules(wallet, chain, offer, given_up)
    yield from default_delay_rules(offer, wallet.config.limits)


def _reply_rules(wallet: Wallet, chain: Chain, psbt: Psbt) -> Check[None]:
    name = yield from channel_rules(wallet, psbt)
    record = yield from payer_rules.own_channel_rules(wallet, name)
    state = yield from payer_rules.reply_rules(chain, record, psbt)
    if not record.has_external_funding:  # else the funding is a message of its own
        yield from payer_rules.signed_elsewhere_rules(chain, wallet.config.limits.max_fee_rate, state, None)


def _incoming_rules(wallet: Wallet, chain: Chain, psbt: Psbt, notes: list[str]) -> Check[None]:
    record = yield from receiving_rules(wallet, chain, psbt)
    incoming = yield from incoming_rules(psbt, record.terms)
    receipt = yield from payee.standing_rules(record.state, incoming, gather_facts(chain, record.terms))
    if receipt.pending:
        notes.append(f"pending: {receipt.pending} of it count only once the settlement is confirmed")


def _funding_rules(wallet: Wallet, transaction: Transaction) -> Check[None]:
    yield from payee_rules.funded_channels_rules(wallet, transaction)
    yield from payee_rules.funding_rules(wallet, _fitting_first(wallet, transaction)[0], transaction)


def _fitting_first(wallet: Wallet, transaction: Transaction) -> list[str]:
    """The channels that a transaction may fund: one that it does fund comes before what was claimed on its outputs."""

    def refused(name: str) -> bool:
        return not all(rule.ok for rule in explain(payee_rules.funding_rules(wallet, name, transaction)))

    return sorted(payee_rules.funded_by(wallet, transaction), key=refused)
