"""What a payee demands of a message beyond the protocol: of its own offers and channels, and of the chain.

The commands enforce these rules, and ``verify`` explains them.
"""

from __future__ import annotations

from collections.abc import Collection

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.facts import current_rules
from mpchan.channel.messages import envelope_rules
from mpchan.channel.refund_request import (
    is_within_limits,
    refund_delay_rules,
    refund_request_rules,
    requested_keys_rules,
    value_rules,
)
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.scheme import scheme_of
from mpchan.channel.terms import Terms
from mpchan.party.common import ENDED, from_now_on, gather_facts, tip_for
from mpchan.units import ChainTip
from mpchan.values import frozen
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import OwnOffer, Wallet, channel_name


@frozen
class Request:
    """A refund request that this wallet signs.

    Attributes:
        own: the offer that it names.
        known: the channel whose very refund is asked for again; None for a new one.
        serves: whether payments are taken in the channel; else nothing but its refund is ever signed.
        given_up: channels under the same offer whose place this one takes; nothing is held of them.
    """

    own: OwnOffer
    terms: Terms
    known: PayeeRecord | None
    serves: bool = True
    given_up: tuple[PayeeRecord, ...] = ()


def request_rules(wallet: Wallet, chain: Chain, psbt: Psbt) -> Check[Request]:
    """A refund request under an unused offer of this wallet, or the very one that was signed before.

    Or one for money that the chain shows on the offer's own address, where no refund that was signed could spend it.
    """
    keys = yield from requested_keys_rules(psbt)
    own = wallet.offer_for_keys(keys)
    shown = " and ".join(key.hex() for key in keys)
    yield Rule("unknown-offer", own is not None, "no offer of this wallet has one of the keys", found=shown)
    if own is None:
        raise TypeError(BROKEN)
    if wallet.has_channel(psbt.tx.inputs[0].outpoint):
        known = yield from _signed_before_rules(wallet, own, psbt)
        return Request(own, known.terms, known)
    terms = yield from refund_request_rules(psbt, own.offer)
    tip = tip_for(chain, own.offer.lock_time_unit)
    if not (is_within_limits(terms) and _is_unused(own, psbt)) and _lies_there(chain, terms, tip):
        request = yield from _returned_rules(wallet, chain, own, terms)
        yield from current_rules(tip)
        yield from refund_delay_rules(terms, tip)
        return request
    yield from value_rules(terms)
    yield from _unused_rules(wallet, own, terms, psbt)
    yield from current_rules(tip)
    chain.require_version(own.offer.transaction_version)
    yield from refund_delay_rules(terms, tip)
    yield from _free_rules(chain, terms, tip)
    return Request(own, terms, None)


def _is_unused(own: OwnOffer, psbt: Psbt) -> bool:
    """Whether the offer serves no channel; a run that was cut short may have marked it with this request."""
    mark = (own.used_by, own.refund_txid)
    return own.used_by is None or mark == (psbt.tx.inputs[0].outpoint, str(psbt.tx.txid))


def _lies_there(chain: Chain, terms: Terms, tip: ChainTip) -> bool:
    """Whether a block holds the outpoint, with the channel's script, and nothing spends it; nobody's word counts."""
    if chain.stated_confirmations is not None:
        return False
    facts = gather_facts(chain, terms, tip)
    return facts.funding == terms.funding_txout and facts.confirmations > 0 and facts.spent_by is None


def _returned_rules(wallet: Wallet, chain: Chain, own: OwnOffer, terms: Terms) -> Check[Request]:
    """Money on the offer's address that no channel's refund spends goes back to the payer, or makes a channel instead.

    One offer has one channel: payments are taken in this one only where nothing was ever held of another, which is
    given up then. And of no other that still goes on anything is held: its payer has to close it first.
    """
    yield from _not_void_rules(own)
    under = wallet.channels_with_key(own.offer.payee_key.sec)
    others = [record for record in under if isinstance(record, PayeeRecord)]
    offer_id, outpoint = own.offer.offer_id, own.used_by
    text = f"offer {offer_id} serves the channel on {outpoint} already, which another payer has opened"
    same = all(other.terms.payer_key == terms.payer_key for other in others)
    yield Rule("offer-used", same, text, hint=_another(offer_id))
    yield from _payer_key_rules(wallet, terms, [other.terms.name for other in others])
    held = [other for other in others if payee.holds_anything(other.state)]
    for other in held:
        ended = other.status(gather_facts(chain, other.terms)) in ENDED
        yield Rule(
            "offer-used",
            ended,
            f"channel {other.terms.channel_id} under the same offer goes on, and a payment of it is held",
            hint="once its close is in a block (`mpchan payee settle`), this refund can be signed",
        )
    serves = not held and is_within_limits(terms)
    given_up = [other for other in others if serves and not isinstance(other.state, payee.Abandoned)]
    return Request(own, terms, None, serves, tuple(given_up))


def _signed_before_rules(wallet: Wallet, own: OwnOffer, psbt: Psbt) -> Check[PayeeRecord]:
    """The channel on this outpoint is the one whose very refund this request asks for again."""
    outpoint = psbt.tx.inputs[0].outpoint
    record = wallet.load_channel(channel_name(outpoint))
    terms = record.terms
    same = (
        isinstance(record, PayeeRecord) and scheme_of(terms).refund() == psbt.tx and terms.offer == own.offer
    )
    text = "another refund was signed, or another channel stands, on the outpoint"
    yield Rule("outpoint-signed", same, text, found=outpoint)
    yield from envelope_rules(psbt, terms, None)
    if not isinstance(record, PayeeRecord):
        raise TypeError(BROKEN)
    return record


def _unused_rules(wallet: Wallet, own: OwnOffer, terms: Terms, psbt: Psbt) -> Check[None]:
    """Offer and payer key are fresh; a run that was cut short may have marked the offer with this request."""
    yield from _not_void_rules(own)
    offer_id = own.offer.offer_id
    yield Rule(
        "offer-used",
        _is_unused(own, psbt),
        f"offer {offer_id} serves the channel on {own.used_by} already",
        hint=_another(offer_id),
    )
    yield from _payer_key_rules(wallet, terms)


def _not_void_rules(own: OwnOffer) -> Check[None]:
    offer_id = own.offer.offer_id
    text = f"offer {offer_id} comes from a backup, and may have served a channel since"
    yield Rule("offer-void", not own.void, text, hint=_another(offer_id))


def _payer_key_rules(wallet: Wallet, terms: Terms, apart_from: Collection[str] = ()) -> Check[None]:
    key = terms.payer_key.sec
    fresh = not wallet.knows_key(key, apart_from=apart_from)
    yield Rule("payer-key-used", fresh, "payer key is used in another channel or offer", found=key.hex())


def _another(offer_id: str) -> str:
    return f"make another with `mpchan payee offer --like {offer_id}`"


def _free_rules(chain: Chain, terms: Terms, tip: ChainTip) -> Check[None]:
    """The outpoint holds the channel's output or nothing. The former is unspent: we have signed nothing yet."""
    seen = chain.output(terms.outpoint, not_before=from_now_on(tip))
    free = seen is None or seen.output == terms.funding_txout
    text = "the chain has another output than the channel's at the outpoint"
    yield Rule("outpoint-taken", free, text, found=terms.outpoint)


def own_channel_rules(wallet: Wallet, name: str) -> Check[PayeeRecord]:
    """In the channel that a message names, this wallet is the payee. Establishes the channel."""
    record = wallet.load_channel(name)
    text = f"role of this wallet in channel {name[:16]}"
    yield Rule("wrong-role", isinstance(record, PayeeRecord), text, "payee", record.role)
    if not isinstance(record, PayeeRecord):
        raise TypeError(BROKEN)
    return record


def funded_by(wallet: Wallet, transaction: Transaction) -> list[str]:
    """The names of the channels whose funding has this txid."""
    return [name for name in wallet.channel_names() if name.startswith(str(transaction.txid))]


def funded_channels_rules(wallet: Wallet, transaction: Transaction) -> Check[list[str]]:
    """A transaction funds a channel of this wallet. Establishes the names of all that it could fund."""
    names = funded_by(wallet, transaction)
    yield Rule(
        "unknown-channel", bool(names), "no channel of this wallet has this funding", found=transaction.txid
    )
    return names


def funding_rules(wallet: Wallet, name: str, transaction: Transaction) -> Check[PayeeRecord]:
    """A transaction, handed over by file, is the funding of one channel. Establishes the channel."""
    record = yield from own_channel_rules(wallet, name)
    yield from payee.funding_file_rules(record.state, transaction)
    return record
