"""What a payee demands of a message beyond the protocol: of its own offers and channels, and of the chain.

The commands enforce these rules, and ``verify`` explains them.
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.facts import current_rules
from mpchan.channel.messages import envelope_rules
from mpchan.channel.refund_request import refund_delay_rules, refund_request_rules, requested_keys_rules
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.scheme import scheme_of
from mpchan.channel.terms import Terms
from mpchan.party.common import from_now_on, tip_for
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
    """

    own: OwnOffer
    terms: Terms
    known: PayeeRecord | None


def request_rules(wallet: Wallet, chain: Chain, psbt: Psbt) -> Check[Request]:
    """A refund request under an unused offer of this wallet, or the very one that was signed before."""
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
    yield from _unused_rules(wallet, own, terms, psbt)
    tip = tip_for(chain, own.offer.lock_time_unit)
    yield from current_rules(tip)
    chain.require_version(own.offer.transaction_version)
    yield from refund_delay_rules(terms, tip)
    yield from _free_rules(chain, terms, tip)
    return Request(own, terms, None)


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
    offer_id = own.offer.offer_id
    yield Rule(
        "offer-void",
        not own.void,
        f"offer {offer_id} comes from a backup, and may have served a channel since",
        hint=f"make another with `mpchan payee offer --like {offer_id}`",
    )
    mark = (own.used_by, own.refund_txid)
    yield Rule(
        "offer-used",
        own.used_by is None or mark == (terms.outpoint, str(psbt.tx.txid)),
        f"offer {offer_id} serves the channel on {own.used_by} already",
        hint=f"make another with `mpchan payee offer --like {offer_id}`",
    )
    key = terms.payer_key.sec
    fresh = not wallet.knows_key(key)
    yield Rule("payer-key-used", fresh, "payer key is used in another channel or offer", found=key.hex())


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
