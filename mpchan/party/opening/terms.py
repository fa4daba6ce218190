"""The terms of an opening: what of them is kept, and how they are rebuilt of that.

Whatever is rebuilt must be what was signed: a digest of the offer and the funding's script stand in the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from mpchan.bitcoin.signature import PublicKey
from mpchan.channel.offer import OFFER_VERSIONS, Offer
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible, ParseError, StorageError
from mpchan.party.offers.made_out import made_out
from mpchan.sale.manifest import MAX_PIECES, Sale, is_session, made_out_id, pieces_from_text
from mpchan.units import lock_time_from_int
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.opening import PREFIX_BYTES, Opening
from mpchan.wallet.openings import LOST
from mpchan.wallet.wallet import Wallet

_DIGEST_BYTES = 4


def opening_of(wallet: Wallet, terms: Terms) -> Opening | None:
    """What is kept of a refund that is about to be signed; None where its terms do not follow from so little.

    They do where its offer answers a wish under a published offer of this wallet, unless very many single pieces of a
    large file are wished for.
    """
    offer, sale = terms.offer, terms.offer.sale or {}
    session, text = sale.get("buyer"), sale.get("sold")
    if offer.version != OFFER_VERSIONS[-1] or type(session) is not str or type(text) is not str:
        return None
    try:
        sold = pieces_from_text(text, MAX_PIECES)
        published = _published(wallet, offer.offer_id, session, sold) if is_session(session) else None
        if published is None or made_out(wallet, *published, session, sold) != offer:
            return None
    except (ParseError, NotPossible):
        return None
    opening = Opening(
        outpoint=terms.outpoint,
        offer_id=offer.offer_id,
        published=bytes.fromhex(published[0].offer.offer_id)[:PREFIX_BYTES],
        session=session,
        sold=sold,
        payer_key=terms.payer_key.sec,
        funding_script=terms.funding_txout.script_pubkey,
        value=terms.funding_value,
        lock_time=terms.refund_lock_time.value,
        expires=offer.expires,
        payer_script=terms.payer_script,
        digest=_digest(offer),
    )
    return None if opening.to_line() is None else opening


def _published(
    wallet: Wallet, offer_id: str, session: str, sold: Sequence[int], prefix: bytes = b""
) -> tuple[OwnOffer, Sale] | None:
    """The published offer of this wallet under which the answer to a wish has an id, and what it sells."""
    for own_id in wallet.offers.ids():
        possible = len(own_id) == len(offer_id) and own_id.startswith(prefix.hex())
        if possible and made_out_id(own_id, session, sold) == offer_id:
            return wallet.offers.on_sale(own_id)
    return None


def _digest(offer: Offer) -> bytes:
    return sha256(offer.canonical()).digest()[:_DIGEST_BYTES]


def terms_of(wallet: Wallet, opening: Opening) -> Terms:
    """The terms under which an opening's refund was signed.

    Raises:
        StorageError: ``openings-damaged``, they do not follow from what is here; as ``Wallet.keys``.
    """
    published = published_for(wallet, opening)
    try:
        offer = made_out(wallet, *published, opening.session, opening.sold)
        terms = Terms(
            offer,
            opening.outpoint,
            opening.value,
            PublicKey(opening.payer_key),
            opening.payer_script,
            lock_time_from_int(opening.lock_time),
        )
    except (ParseError, NotPossible) as error:
        raise _unfit(wallet, opening, error.message) from None
    if _digest(offer) != opening.digest or terms.funding_txout.script_pubkey != opening.funding_script:
        raise _unfit(wallet, opening, "what is rebuilt is another offer")
    return terms


def published_for(wallet: Wallet, opening: Opening) -> tuple[OwnOffer, Sale]:
    """The published offer that an opening's terms follow from, and what it sells."""
    try:
        found = _published(wallet, opening.offer_id, opening.session, opening.sold, opening.published)
    except (ParseError, NotPossible) as error:
        raise _unfit(wallet, opening, error.message) from None
    if found is None:
        raise _unfit(
            wallet, opening, f"the published offer {opening.published.hex()}… is not in the folder offers"
        )
    return found


def _unfit(wallet: Wallet, opening: Opening, why: str) -> StorageError:
    text = f"{wallet.openings.path}: the terms of {opening.name[:16]} cannot be rebuilt: {why}"
    return StorageError("openings-damaged", text, hint=LOST)
