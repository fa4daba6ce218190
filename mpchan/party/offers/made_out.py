"""Offers that are made out to one buyer each: what follows from a published offer, a session and a wish.

None is kept anywhere: the same wish gives the same offer again.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.channel.offer import Offer
from mpchan.sale.manifest import VOUCHER_TAG, Sale, made_out_id, made_out_terms, published_sale, voucher_text
from mpchan.values import replace
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.wallet import Wallet


def make_out(wallet: Wallet, published: OwnOffer, buyer: str, sold: Sequence[int]) -> Offer:
    """An offer for one buyer, vouched for by the key of the published one.

    It pays to the address of the published one: however many strangers ask, no address is used up.
    """
    general = published_sale(published.offer)
    offer = made_out(wallet, published, general, buyer, sold)
    return replace(offer, sale={**general.to_table(), **(offer.sale or {})})


def made_out(wallet: Wallet, published: OwnOffer, general: Sale, buyer: str, sold: Sequence[int]) -> Offer:
    """The same without the pieces' hashes, as a wallet keeps it."""
    offer = published.offer
    draft = Offer.from_terms(
        {
            **made_out_terms(offer, buyer, sold, general),
            "version": offer.version,
            "offer_id": made_out_id(offer.offer_id, buyer, sold),
            "token": offer.token,
            "payee_pubkey": offer.payee_key.sec.hex(),
            "payee_address": offer.payee_address,
        }
    )
    own = wallet.keys.own_offer(draft)
    voucher = wallet.keys.key_of_offer(published).sign_tagged(VOUCHER_TAG, voucher_text(own))
    return replace(own, sale={**(own.sale or {}), "voucher": voucher.hex()})
