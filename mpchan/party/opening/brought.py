"""Channels that their first payment brings: where nothing is exchanged before the funding, the payee hears of it then.

The message carries the offer and all that makes the channel. What it says is judged like a refund request: the offer is
one of this wallet's that serves nobody yet, its terms allow such a channel, and the chain shows its money.
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.carried import carried_offer
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Facts, current_rules
from mpchan.channel.messages import single_input_rules
from mpchan.channel.offer import Offer
from mpchan.channel.rules import BROKEN, Check, Rule, enforce
from mpchan.channel.terms import Terms, value_rules
from mpchan.channel.watch.base import held_back
from mpchan.errors import ParseError, TooEarly
from mpchan.party.check.payee_rules import own_channel_rules, own_offer_rules, unused_rules
from mpchan.party.common import gather_facts, now_by, tip_for
from mpchan.party.opening.notes import make_channel, opening_at, record_of
from mpchan.units import ChainTip, OutPoint
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet


def brought_offer(wallet: Wallet, psbt: Psbt) -> Offer | None:
    """The offer under which a message brings its channel; None for one of a channel that is known, or that brings none.

    Whether this wallet made the offer is for ``receiving_rules`` to say.
    """
    if not psbt.tx.inputs or _is_known(wallet, psbt.tx.inputs[0].outpoint):
        return None
    try:
        offer = carried_offer(psbt)
    except ParseError:
        return None
    return None if offer is None or construction_of(offer).has_exchange else offer


def _is_known(wallet: Wallet, outpoint: OutPoint) -> bool:
    return wallet.channels.knows(outpoint) or wallet.openings.find(outpoint) is not None


def payee_channel_rules(wallet: Wallet, psbt: Psbt) -> Check[str]:
    """The message spends the funding of a channel, or of an opening, of this wallet, or brings its channel.

    Establishes the channel's name.
    """
    yield from single_input_rules(psbt)
    outpoint = psbt.tx.inputs[0].outpoint
    known = _is_known(wallet, outpoint) or brought_offer(wallet, psbt) is not None
    yield Rule("unknown-channel", known, "this wallet has no channel on what is spent", found=outpoint)
    return outpoint.name


def receiving_rules(wallet: Wallet, chain: Chain, psbt: Psbt) -> Check[PayeeRecord]:
    """The channel that a message belongs to, that an opening may become, or that the message brings."""
    name = yield from payee_channel_rules(wallet, psbt)
    offer = brought_offer(wallet, psbt)
    if offer is None:
        return (yield from own_channel_rules(wallet, name))
    return (yield from _brought_rules(wallet, chain, psbt, offer))


def _brought_rules(wallet: Wallet, chain: Chain, psbt: Psbt, carried: Offer) -> Check[PayeeRecord]:
    """A message under an unused offer of this wallet, be that of an older copy, brings a channel that it allows.

    A payee's signature in such a channel cannot hurt it, so an offer from before a restore serves as well as any.
    """
    own = yield from own_offer_rules(wallet, carried, (b"", b""), restored=True)
    offer = own.offer.without_pieces()
    terms = yield from construction_of(offer).opening_rules(psbt, offer)
    yield from value_rules(terms)
    yield from unused_rules(wallet, terms)
    tip = tip_for(chain, offer.lock_time_unit)
    yield from current_rules(tip)
    yield from _refund_not_late_rules(terms, tip)
    yield from _expiry_rules(chain, terms, tip)
    return PayeeRecord(None, payee.Active(terms))


def _refund_not_late_rules(terms: Terms, tip: ChainTip) -> Check[None]:
    """No payer asks for more time than the offer gives it."""
    lock_time = terms.refund_lock_time
    most = lock_time.now(tip) + terms.offer.max_refund_delay
    late = lock_time.value > most
    yield Rule("refund-late", not late, "lock time of the refund", f"at most {most}", lock_time.value)


def _expiry_rules(chain: Chain, terms: Terms, tip: ChainTip) -> Check[None]:
    """The offer holds still, or did when a block took the funding in."""
    offer = terms.offer
    if not 0 < offer.expires <= now_by(tip):
        return
    confirmations = gather_facts(chain, terms, tip).confirmations
    height = tip.height - confirmations + 1
    funded_at = chain.median_time_at(height) if confirmations else None
    in_time = funded_at is not None and funded_at <= offer.expires
    text = f"offer {offer.offer_id} expired at Unix time {offer.expires}, and its funding is not older"
    hint = f"make another with `mpchan payee offer --like {offer.offer_id}`"
    yield Rule("offer-expired", in_time, text, found="" if funded_at is None else funded_at, hint=hint)


def require_channel(wallet: Wallet, chain: Chain, name: str, psbt: Psbt, *, closing: bool = False) -> None:
    """Make the channel that a message belongs to, where it is not there yet; durable on return.

    It is made of an opening whose funding the chain shows, or of a message that brings it and that will be taken.

    Args:
        closing: as in ``taking.incoming_rules``.

    Raises:
        MpchanError: as ``channel.payee.accept`` refuses the message; as ``receiving_rules``.
    """
    outpoint = OutPoint.parse(name)
    if wallet.channels.knows(outpoint):
        return
    opening = opening_at(wallet, outpoint)
    if opening is not None:
        record = record_of(wallet, opening)
        facts = gather_facts(chain, record.terms)
        if facts.funding != record.terms.funding_txout:
            enforce(payee.accept_rules(record.state, psbt, facts))
            raise TypeError(BROKEN)
        make_channel(wallet, name)
        return
    with wallet.lock():
        record = enforce(receiving_rules(wallet, chain, psbt))
        if wallet.channels.knows(outpoint):
            return
        facts = gather_facts(chain, record.terms)
        incoming, _ = enforce(payee.accept_rules(record.state, psbt, facts, closing=closing))
        if not incoming.paid:
            _require_block(chain, record.terms, facts)
        wallet.channels.save(record, "brought")


def _require_block(chain: Chain, terms: Terms, facts: Facts) -> None:
    """A settlement that pays nothing brings no channel while its funding can still be taken away: that costs nothing.

    Raises:
        TooEarly: ``funding-unconfirmed``.
    """
    if chain.sends and held_back(terms, facts):
        raise TooEarly(
            "funding-unconfirmed",
            "the funding is not in a block yet, and nothing is kept of a channel that has paid nothing",
            hint="give the settlement again once a block holds the funding",
        )
