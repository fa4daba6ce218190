"""What a payee demands of a message beyond the protocol: of its own offers and channels, and of the chain.

The commands enforce these rules, and ``verify`` explains them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.carried import carried_offer
from mpchan.channel.construction.base import REFUND
from mpchan.channel.construction.refund_first import (
    proof_rules,
    refund_delay_rules,
    refund_request_rules,
    requested_keys_rules,
)
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import current_rules
from mpchan.channel.messages import message_rules
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import expired_rules, has_expired, is_current, version_rules
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.terms import Terms, is_within_limits, value_rules
from mpchan.errors import NotPossible
from mpchan.party.common import ENDED, exchange_rules, from_now_on, gather_facts, now_by, role_rules, tip_for
from mpchan.party.opening.notes import names_funded_by, opening_at, record_of
from mpchan.units import ChainTip, OutPoint
from mpchan.values import frozen
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.opening import Opening


@frozen
class Request:
    """A refund request that this wallet signs.

    Attributes:
        known: the channel whose very refund is asked for again; None for a new one.
        opening: where no more than that is kept of it.
        shown: whether the chain shows the funding of a new one.
        serves: whether payments are taken in the channel; else nothing but its refund is ever signed.
        key_index: of the key that signs; None where that follows from the offer.
        given_up: channels under the same offer whose place this one takes; nothing is held of them.
    """

    terms: Terms
    known: PayeeRecord | None
    key_index: int | None = None
    serves: bool = True
    given_up: tuple[PayeeRecord, ...] = ()
    opening: Opening | None = None
    shown: bool = False


def request_rules(wallet: Wallet, chain: Chain, psbt: Psbt) -> Check[Request]:
    """A refund request under an unused offer of this wallet, or the very one that was signed before.

    Or one for money that the chain shows on the offer's own address, where no refund that was signed could spend it.
    What was signed before is signed again, whatever has become of its offer since.
    """
    carried = carried_offer(psbt)
    yield from exchange_rules(carried)
    keys = yield from requested_keys_rules(psbt)
    outpoint = psbt.tx.inputs[0].outpoint
    opening = opening_at(wallet, outpoint)
    if opening is not None or wallet.channels.knows(outpoint):
        known = yield from _signed_before_rules(wallet, opening, carried, psbt)
        return Request(known.terms, known, known.key_index, opening=opening)
    own = yield from own_offer_rules(wallet, carried, keys)
    offer = own.offer.without_pieces()
    terms = yield from refund_request_rules(psbt, offer)
    fresh = is_within_limits(terms) and wallet.offers.served_by(offer) is None
    if fresh:  # what needs no chain comes first
        yield from value_rules(terms)
        yield from unused_rules(wallet, terms)
    tip = tip_for(chain, offer.lock_time_unit)
    forgotten = 0 < offer.expires <= wallet.openings.mark
    ended = has_expired(offer, now_by(tip)) or forgotten or not is_current(offer)
    if (ended or not fresh) and _lies_there(chain, terms, tip):
        request = yield from _returned_rules(wallet, chain, terms, own.key_index, ended=ended)
        yield from proof_rules(psbt, terms)
        yield from current_rules(tip)
        yield from refund_delay_rules(terms, tip)
        return request
    if not is_current(offer):
        yield from version_rules(offer, terms.outpoint if _is_paid(chain, terms, tip) else None)
    if not fresh:
        yield from value_rules(terms)
        yield from unused_rules(wallet, terms)
    yield from current_rules(tip)
    yield from expired_rules(offer, now_by(tip))
    text = f"offer {offer.offer_id} expired, and what was signed under such offers is forgotten"
    yield Rule("offer-expired", not forgotten, text)
    chain.require_version(offer.transaction_version)
    yield from refund_delay_rules(terms, tip)
    shown = yield from _free_rules(chain, psbt, terms, tip)
    return Request(terms, None, own.key_index, shown=shown)


def _is_paid(chain: Chain, terms: Terms, tip: ChainTip) -> bool:
    """Whether the chain shows the outpoint with the channel's script, in a block or not."""
    return (
        chain.stated_confirmations is None and gather_facts(chain, terms, tip).funding == terms.funding_txout
    )


def _lies_there(chain: Chain, terms: Terms, tip: ChainTip) -> bool:
    """Whether a block holds the outpoint, with the channel's script, and nothing spends it; nobody's word counts."""
    if chain.stated_confirmations is not None:
        return False
    facts = gather_facts(chain, terms, tip)
    return facts.funding == terms.funding_txout and facts.confirmations > 0 and facts.spent_by is None


def _returned_rules(
    wallet: Wallet, chain: Chain, terms: Terms, key_index: int | None, *, ended: bool
) -> Check[Request]:
    """Money on the offer's address that no channel's refund spends goes back to the payer, or makes a channel instead.

    One offer has one channel: payments are taken in this one only where nothing was ever held of another, and the
    chain shows no funding of it; it is given up then. And of no other that still goes on anything is held: its payer
    has to close it first. Nobody signs a request: whoever has seen that of a channel could pay a little to its address,
    and have this one given up for it, while its payer's money is in there.

    Args:
        ended: whether no channel may begin under the offer any more, for its age or its version.
    """
    offer = terms.offer
    under = wallet.offers.channels_with_key(offer.payee_key.sec)
    # its voucher is outside of the token, so anybody can alter that
    others = [
        record
        for record in under
        if isinstance(record, PayeeRecord) and record.terms.offer.offer_id == offer.offer_id
    ]
    opening = wallet.openings.under(offer.offer_id)
    if opening is not None and not wallet.channels.knows(opening.outpoint):
        others.append(record_of(wallet, opening))
    text = f"offer {offer.offer_id} serves a channel already, which another payer has opened"
    same = all(other.terms.payer_key == terms.payer_key for other in others)
    yield Rule("offer-used", same, text, hint=_another(offer.offer_id))
    yield from _payer_key_rules(wallet, terms, [other.terms.name for other in others])
    held = [other for other in others if payee.holds_anything(other.state)]
    for other in held:
        is_over = other.status(gather_facts(chain, other.terms)) in ENDED
        yield Rule(
            "offer-used",
            is_over,
            f"channel {other.terms.channel_id} under the same offer goes on, and a payment of it is held",
            hint="once its close is in a block (`mpchan payee settle`), this refund can be signed",
        )
    funded = any(
        not isinstance(other.state, payee.Abandoned) and _is_funded(chain, other) for other in others
    )
    serves = not held and not funded and not ended and is_within_limits(terms)
    given_up = [other for other in others if serves and not isinstance(other.state, payee.Abandoned)]
    return Request(terms, None, key_index, serves, tuple(given_up))


def _is_funded(chain: Chain, record: PayeeRecord) -> bool:
    """Whether chain or mempool hold a channel's money, which nothing has spent."""
    facts = gather_facts(chain, record.terms)
    return facts.funding == record.terms.funding_txout and facts.spent_by is None


def _signed_before_rules(
    wallet: Wallet, opening: Opening | None, carried: Offer | None, psbt: Psbt
) -> Check[PayeeRecord]:
    """The channel on this outpoint, or the opening, is the one whose very refund this request asks for again."""
    outpoint = psbt.tx.inputs[0].outpoint
    record = wallet.channels.load(outpoint.name) if opening is None else record_of(wallet, opening)
    terms = record.terms
    same = isinstance(record, PayeeRecord) and terms.schedule.build(REFUND) == psbt.tx
    text = "another refund was signed, or another channel stands, on the outpoint"
    yield Rule("outpoint-signed", same and carried in (None, terms.offer), text, found=outpoint)
    yield from message_rules(psbt, terms, None)
    if not isinstance(record, PayeeRecord):
        raise TypeError(BROKEN)
    return record


def own_offer_rules(
    wallet: Wallet, carried: Offer | None, keys: tuple[bytes, bytes], *, restored: bool = False
) -> Check[OwnOffer]:
    """The offer that a message brings, or names by its key alone, is one that this wallet made and stands by.

    Args:
        restored: whether one from before the wallet was restored will do.
    """
    if carried is None:
        found = wallet.offers.for_keys(keys)
        shown = " and ".join(key.hex() for key in keys)
        text = "the request brings no offer, and none of this wallet has one of its keys"
        yield Rule("unknown-offer", found is not None, text, found=shown)
        if found is None:
            raise TypeError(BROKEN)
        own = found
    else:
        own = OwnOffer(carried, None, carried.generation != wallet.offers.generation)
    offer = own.offer
    name = offer.network.name
    yield Rule(
        "wrong-network", name == wallet.network.name, "network of the offer", wallet.network.name, name
    )
    made = carried is None or wallet.offers.made(carried)
    if not made and offer.offer_id in wallet.offers.ids():
        wallet.offers.load(
            offer.offer_id
        )  # where our own copy does not fit our keys, these are of another wallet
    text = "this wallet made no such offer: its token is another"
    yield Rule("unknown-offer", made, text, found=offer.offer_id)
    yield Rule(
        "offer-void",
        restored or not own.void,
        f"offer {offer.offer_id} was made before this wallet was restored, and may have served a channel since",
        hint=f"make another with `mpchan payee offer`; --like {offer.offer_id} takes its terms over",
    )
    return own


def unused_rules(wallet: Wallet, terms: Terms) -> Check[None]:
    """Offer and payer key are fresh."""
    offer_id = terms.offer.offer_id
    name = wallet.offers.served_by(terms.offer)
    text = f"offer {offer_id} serves channel {(name or '')[:16]} already"
    yield Rule("offer-used", name is None, text, hint=_another(offer_id))
    yield from _payer_key_rules(wallet, terms)


def _payer_key_rules(wallet: Wallet, terms: Terms, apart_from: Collection[str] = ()) -> Check[None]:
    key = terms.payer_key.sec
    fresh = not wallet.offers.knows_key(key, apart_from=apart_from)
    yield Rule("payer-key-used", fresh, "payer key is used in another channel or offer", found=key.hex())


def _another(offer_id: str) -> str:
    return f"make another with `mpchan payee offer --like {offer_id}`"


def _free_rules(chain: Chain, psbt: Psbt, terms: Terms, tip: ChainTip) -> Check[bool]:
    """The outpoint holds the channel's output or nothing. The former is unspent: we have signed nothing yet.

    Establishes which.
    """
    seen = chain.output(terms.outpoint, not_before=from_now_on(tip))
    free = seen is None or seen.output == terms.funding_txout
    text = "the chain has another output than the channel's at the outpoint"
    yield Rule("outpoint-taken", free, text, found=terms.outpoint)
    if seen is not None:
        yield from proof_rules(psbt, terms)
    return seen is not None


def own_channel_rules(wallet: Wallet, name: str) -> Check[PayeeRecord]:
    """In the channel that a message names, or that an opening may become, this wallet is the payee. Establishes it."""
    opening = opening_at(wallet, OutPoint.parse(name))
    record = wallet.channels.load(name) if opening is None else record_of(wallet, opening)
    return (yield from role_rules(PayeeRecord, record, name))


def funded_by(wallet: Wallet, transaction: Transaction) -> list[str]:
    """The names of the channels whose funding has this txid, and of the openings that may become such."""
    channels = [name for name in wallet.channels.names() if name.startswith(str(transaction.txid))]
    return [*channels, *names_funded_by(wallet, transaction)]


def funded_channels_rules(wallet: Wallet, transaction: Transaction) -> Check[list[str]]:
    """A transaction funds a channel of this wallet. Establishes the names of all that it could fund."""
    names = funded_by(wallet, transaction)
    yield Rule(
        "no-channel-yet",
        bool(names) or not _waits_for_a_payment(wallet),
        "no channel of this wallet has this funding, though the first payment of an offer that is out may bring one",
        found=transaction.txid,
        error=NotPossible,
        hint="the funding is not needed: `mpchan payee accept` takes that payment once the chain shows it",
    )
    yield Rule(
        "unknown-channel", bool(names), "no channel of this wallet has this funding", found=transaction.txid
    )
    return names


def _waits_for_a_payment(wallet: Wallet) -> bool:
    """Whether an offer of this wallet serves no channel yet, which nothing but its first payment will tell of."""
    offers = (wallet.offers.load(offer_id).offer for offer_id in wallet.offers.ids())
    return any(
        not construction_of(offer).has_exchange and wallet.offers.served_by(offer) is None for offer in offers
    )


def funding_rules(wallet: Wallet, name: str, transaction: Transaction) -> Check[PayeeRecord]:
    """A transaction, handed over by file, is the funding of one channel. Establishes the channel."""
    record = yield from own_channel_rules(wallet, name)
    yield from payee.funding_file_rules(record.state, transaction)
    return record
