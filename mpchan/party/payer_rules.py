"""What a payer demands of an offer and of a signed refund beyond the protocol: of its own channels, and of the chain.

The commands enforce these rules, and ``verify`` explains them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.offer import Offer
from mpchan.channel.opening import offer_rules
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible
from mpchan.party.common import earliest_spend, tip_for
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

Going = Union[payer.Opening, payer.Secured, payer.Funded, payer.Settling, payer.Refunding]
"""A channel that was not given up."""


def opened_under(wallet: Wallet, offer: Offer) -> list[PayerRecord]:
    """The channels that were opened under this very offer; all but one of them are abandoned."""
    return [
        record
        for record in wallet.channels()
        if isinstance(record, PayerRecord) and record.terms.offer == offer
    ]


def new_offer_rules(wallet: Wallet, chain: Chain, offer: Offer, under: Collection[str]) -> Check[None]:
    """An offer that this payer takes, made with a key that it has never seen.

    Args:
        under: names of the channels that were opened under this very offer, and given up.
    """
    key = offer.payee_key.sec
    fresh = not wallet.knows_key(key, apart_from=under)
    yield Rule("payee-key", fresh, "the offer's key is known to this wallet already", found=key.hex())
    yield from offer_rules(offer, wallet.network.name, wallet.config.limits, chain.min_fee_rate())


def own_channel_rules(wallet: Wallet, name: str) -> Check[PayerRecord]:
    """In the channel that a message names, this wallet is the payer. Establishes the channel."""
    record = wallet.load_channel(name)
    text = f"role of this wallet in channel {name[:16]}"
    yield Rule("wrong-role", isinstance(record, PayerRecord), text, "payer", record.role)
    if not isinstance(record, PayerRecord):
        raise TypeError(BROKEN)
    return record


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
    if isinstance(state, (payer.Opening, payer.Secured)):
        yield from payer.time_left_rules(terms, tip_for(chain, terms.refund_lock_time.unit))
        yield from _unspent_rules(chain, terms, state.funding)
    return state


def _unspent_rules(chain: Chain, terms: Terms, funding: Transaction) -> Check[None]:
    """The coins of an unsigned funding are still there."""
    spender = foreign_spend(chain, terms, funding, confirmed=False)
    yield Rule(
        "coin-spent",
        spender is None,
        "a coin that this funding needs is spent by",
        found=spender or "",
        error=NotPossible,
        hint="give this opening up with `mpchan payer abandon` and open another",
    )


def foreign_spend(chain: Chain, terms: Terms, funding: Transaction, *, confirmed: bool) -> str | None:
    """A transaction other than the funding that spends one of its inputs."""
    for source in funding.inputs:
        seen = chain.output(source.outpoint, not_before=earliest_spend(terms))
        spend = None if seen is None else seen.spend
        if spend is not None and spend.txid != funding.txid and (spend.confirmations or not confirmed):
            return str(spend.txid)
    return None
