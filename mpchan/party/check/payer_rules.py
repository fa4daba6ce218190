"""What a payer demands of an offer and of a signed refund beyond the protocol: of its own channels, and of the chain.

The commands enforce these rules, and ``verify`` explains them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.facts import current_rules
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import lasting_rules, version_rules
from mpchan.channel.opening import offer_rules
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible, TooEarly, UsageError
from mpchan.party.common import now_by, now_of, role_rules, tip_for
from mpchan.party.opening.funding import find_conflict, is_sent, refuse_conflict, sent_transaction
from mpchan.units import FeeRate
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.channel.foreign_funding import Message

Going = Union[payer.Opening, payer.Secured, payer.Funded, payer.Settling, payer.Refunding]
"""A channel that was not given up."""


def opened_under(wallet: Wallet, offer: Offer) -> list[PayerRecord]:
    """The channels that were opened under this very offer; all but one of them are abandoned."""
    return [
        record
        for record in wallet.channels.readable()
        if isinstance(record, PayerRecord) and record.terms.offer == offer
    ]


def new_offer_rules(wallet: Wallet, chain: Chain, offer: Offer, under: Collection[str]) -> Check[None]:
    """An offer that this payer takes, made with a key that it has never seen.

    Args:
        under: names of the channels that were opened under this very offer, and given up.
    """
    key = offer.payee_key.sec
    planned = [plan.name for plan in wallet.plans if plan.offer == offer]
    awaited = [each.offer.offer_id for each in wallet.awaited if each.offer == offer]
    fresh = not wallet.offers.knows_key(key, apart_from=[*under, *planned, *awaited])
    yield Rule("payee-key", fresh, "the offer's key is known to this wallet already", found=key.hex())
    yield from version_rules(offer)
    yield from offer_rules(offer, wallet.network.name, wallet.config.limits, chain.min_fee_rate())
    yield from lasting_rules(offer, now_of(chain))
    chain.require_version(offer.transaction_version)


def own_channel_rules(wallet: Wallet, name: str) -> Check[PayerRecord]:
    """In the channel that a message names, this wallet is the payer. Establishes the channel."""
    return (yield from role_rules(PayerRecord, wallet.channels.load(name), name))


def reply_rules(chain: Chain, record: PayerRecord, psbt: Psbt) -> Check[Going]:
    """The payee's answer is our refund with its signature, and the funding can still be sent in time.

    Establishes the channel's phase.
    """
    state, terms = record.state, record.terms
    yield from payer.refund_reply_rules(terms, psbt)
    given_up = isinstance(state, payer.Abandoned)
    yield Rule("channel-abandoned", not given_up, "this opening was abandoned", error=NotPossible)
    if isinstance(state, payer.Abandoned):
        raise TypeError(BROKEN)
    elsewhere = (
        record.has_external_funding or record.restored
    )  # it may have left without this wallet's knowing
    if isinstance(state, (payer.Opening, payer.Secured)) and not (elsewhere and is_sent(chain, terms)):
        tip = tip_for(chain, terms.refund_lock_time.unit)
        yield from current_rules(tip)
        chain.require_version(terms.offer.transaction_version)
        yield from payer.time_left_rules(terms, tip)
        if state.funding is not None:
            yield from lasting_rules(terms.offer, now_by(tip))
            yield from _unspent_rules(chain, terms, state.funding)
    return state


def signed_elsewhere_rules(
    chain: Chain, limit: FeeRate, state: Going, signed: Message | None
) -> Check[Transaction | None]:
    """Where another wallet funds the channel, its signatures are there and right.

    Establishes the complete funding, which the chain itself has where it was broadcast too early; None where this
    wallet signs, or has what that one signed already.

    Args:
        limit: the most that the funding may pay.
        signed: what that wallet hands out; None for nothing.
    """
    opening = isinstance(state, (payer.Opening, payer.Secured))
    known = state if isinstance(state, (payer.Opening, payer.Secured)) else payer.funded_of(state)
    terms, funding = known.terms, known.funding
    text = "this wallet signs the funding itself: leave --funding out"
    yield Rule("own-funding", known.external or signed is None, text, error=UsageError)
    if opening and not known.external:
        return None
    if is_sent(chain, terms):  # where it came too early, what counts now is that the refund gets complete
        if not opening or funding is None:
            return None
        return sent_transaction(chain, terms, funding) or funding
    if funding is None:
        text = "the chain does not show the funding any more, and this wallet never had it"
        yield Rule("funding-unseen", not opening, text, found=terms.outpoint, error=TooEarly)
        return None
    if not opening:
        conflict = find_conflict(chain, terms, funding)
        if conflict is not None:
            refuse_conflict(conflict, funding)
    yield Rule(
        "funding-needed",
        signed is not None or not opening,
        "another wallet makes this channel's funding, and only that wallet can sign it",
        error=NotPossible,
        hint="sign it there without broadcasting, then `mpchan payer fund REFUND --funding FILE`",
    )
    if signed is None:
        return None
    from mpchan.channel.foreign_funding import Rates, signed_rules

    rates = Rates(chain.min_fee_rate(), limit)
    complete = yield from signed_rules(signed, funding.without_witness(), known.spent, rates)
    return complete


def _unspent_rules(chain: Chain, terms: Terms, funding: Transaction) -> Check[None]:
    """The coins of an unsigned funding are still there."""
    conflict = find_conflict(chain, terms, funding)
    yield Rule(
        "coin-spent",
        conflict is None,
        "a coin that this funding needs is spent by",
        found="" if conflict is None else conflict.txid,
        error=NotPossible,
        hint="give this opening up with `mpchan payer abandon` and open another",
    )
