"""Offers of files: the published one, and those that are made out to a buyer each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mpchan.bitcoin.script import dust_limit
from mpchan.chain.base import Chain
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import version_rules
from mpchan.channel.rules import enforce
from mpchan.channel.sale import (
    Sale,
    is_made_out_under,
    is_session,
    made_out_terms,
    pieces_from_text,
    published_sale,
    sale_of,
)
from mpchan.errors import NotPossible, ParseError, Refused, StorageError
from mpchan.party.common import Result
from mpchan.party.fees import relay_warnings, stake_warnings
from mpchan.party.payee import new_offer, offered, relayed, require_window, set_rate
from mpchan.units import Height, MedianTime
from mpchan.values import frozen, replace
from mpchan.wallet.config import offer_defaults
from mpchan.wallet.wallet import OwnOffer, Wallet

_OFFER_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}", re.ASCII)


@frozen
class Wish:
    """What a buyer asks for: an offer of its own.

    Attributes:
        offer_id: of the published offer.
        buyer: its session.
        pieces: those that it will pay for, as ``pieces_text`` writes them.
    """

    offer_id: str
    buyer: str
    pieces: str

    def to_bytes(self) -> bytes:
        """The request: JSON in UTF-8."""
        body = {"offer_id": self.offer_id, "buyer": self.buyer, "pieces": self.pieces}
        return json.dumps(body).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Wish:
        """Read a request.

        Raises:
            ParseError: ``malformed-request``.
        """
        table = read_table(data, ("offer_id", "buyer", "pieces"))
        values = [table[key] for key in ("offer_id", "buyer", "pieces")]
        texts = all(type(value) is str for value in values)
        if not texts or _OFFER_ID.fullmatch(values[0]) is None or not is_session(values[1]):
            raise ParseError(
                "malformed-request", "a wish holds an offer's id, a session and pieces, each as text"
            )
        return cls(*values)


def read_table(data: bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    """A request or an answer that is a JSON object with these very keys.

    Raises:
        ParseError: ``malformed-request``.
    """
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        raise ParseError("malformed-request", "not JSON in UTF-8") from None
    if not isinstance(table, dict) or set(table) != set(keys):
        raise ParseError("malformed-request", f"not a JSON object with the keys {', '.join(keys)}")
    return table


def published_offer(
    wallet: Wallet,
    chain: Chain,
    changes: Mapping[str, Any],
    sale: Sale,
    *,
    ways: Sequence[Mapping[str, Any]] = (),
    force: bool = False,
) -> tuple[OwnOffer, list[str]]:
    """The offer that tells everybody what is sold, and what people should know about it.

    It is the one that stands already, so that a seller who starts again goes on with the buyers that know it; its fee
    rate, where none is named, was the chain's estimate when it was made. Else it is a new one.

    Args:
        changes: keys of an offer's TOML text, over the wallet's usual terms.
        ways: how the seller can be reached, as ``[[ways]]`` says it.

    Raises:
        NotPossible: ``price-dust``, one piece costs less than a channel can pay at first.
        UsageError: as ``new_offer``.
        ChainError: out of reach; ``node-too-old``.
    """
    terms = {
        **offer_defaults(wallet.config, changes.get("lock_time_unit")),
        **changes,
        "min_capacity_sat": sale.price.sat,
        "max_capacity_sat": sale.whole_price.sat,
        "min_increment_sat": sale.price.sat,
        "ways": [dict(way) for way in ways],
        "sale": sale.to_table(),
    }
    stake = stake_warnings(sale.whole_price, wallet, chain, "a whole price")
    standing = _standing(wallet, terms)
    if standing is not None:
        require_window(standing.offer, force=force)
        relayed(chain, standing.offer)
        return standing, [*relay_warnings(standing.offer.fee_rate, chain, "a close under this offer"), *stake]
    warnings = [*set_rate(terms, chain, wallet.config.limits), *stake]
    with wallet.lock():
        own, outside = new_offer(
            wallet, terms, force=force, vouch=lambda offer: relayed(chain, _collectable(offer))
        )
    return own, [*warnings, *outside]


def room_warnings(chain: Chain, offer: Offer, pieces: int) -> list[str]:
    """What people should know where the lock times of an offer leave no room for a payment of each piece."""
    from mpchan.channel.sale_plan import updates_before

    kind = Height if offer.lock_time_unit == Height.unit else MedianTime
    possible = updates_before(offer, kind(kind.now(chain.tip()) + offer.default_refund_delay))
    if pieces <= possible:
        return []
    text = (
        f"one channel has room for {possible} payments now, and there are {pieces} pieces: a buyer has to take fewer "
        "at a time; --lock-time-unit seconds leaves room for all"
    )
    return [text]


def _standing(wallet: Wallet, terms: Mapping[str, Any]) -> OwnOffer | None:
    """The published offer with these very terms that still serves."""
    for own in published_offers(wallet):
        known = {"ways": [], **own.offer.terms()}
        serves = own.offer.version > 1 and not own.void
        if serves and all(known.get(key) == value for key, value in terms.items()):
            return own
    return None


def _collectable(offer: Offer) -> Offer:
    least = dust_limit(offer.payee_script)
    if offer.min_increment < least:
        raise NotPossible(
            "price-dust",
            f"a piece for {offer.min_increment} is below the dust limit of {least}, which a first payment must reach",
            hint="sell larger pieces for more: `mpchan plan` tells which",
        )
    return offer


def published_offers(wallet: Wallet) -> list[OwnOffer]:
    """The own offers that sell something and are made out to nobody, sorted by id."""
    return [own for own, sale in _offers_of_sales(wallet) if sale.buyer is None]


def made_out_offers(wallet: Wallet, root: bytes) -> Iterator[tuple[str, OwnOffer]]:
    """The offers of one file that were made out, under whatever published one, each with the buyer's session.

    They come one at a time: each holds the whole manifest, and there may be a thousand.

    Args:
        root: the file's Merkle root.
    """
    for own, sale in _offers_of_sales(wallet):
        if sale.buyer is not None and sale.root == root:
            yield sale.buyer, own


def _offers_of_sales(wallet: Wallet) -> Iterator[tuple[OwnOffer, Sale]]:
    """Own offers with a manifest; one that is damaged, or sells something else, is none of them."""
    for offer_id in wallet.offer_ids():
        try:
            own = wallet.load_offer(offer_id)
            sale = sale_of(own.offer)
        except (StorageError, NotPossible, ParseError):
            continue
        yield own, sale


def make_out(wallet: Wallet, published: OwnOffer, buyer: str, sold: tuple[int, ...]) -> OwnOffer:
    """An offer for one buyer, signed by the key of the published one; on disk when this returns.

    Raises:
        ParseError: ``malformed-sale``, such pieces are not sold.
    """
    terms = made_out_terms(published.offer, buyer, sold)
    key = wallet.offer_key_of(published)

    def vouch(offer: Offer) -> Offer:
        voucher = key.sign_voucher(offer)
        return replace(offer, sale={**(offer.sale or {}), "voucher": voucher.hex()})

    with wallet.lock():
        own, _ = new_offer(wallet, terms, force=True, vouch=vouch)
    return own


def offer_for(wallet: Wallet, data: bytes) -> Result:
    """``payee offer --for``: answer a buyer's wish by hand; the same wish again gets the same offer.

    Raises:
        ParseError: ``malformed-request``, ``malformed-pieces``, ``malformed-sale``.
        Refused: ``wish-changed``.
        NotPossible: ``unknown-offer``, ``nothing-sold``, ``made-out``.
    """
    wish = Wish.from_bytes(data)
    own = wallet.load_offer(wish.offer_id)
    enforce(version_rules(own.offer))
    made = (made for buyer, made in made_out_offers(wallet, sale_of(own.offer).root) if buyer == wish.buyer)
    return offered(answer_wish(wallet, own, wish, made).offer)


def answer_wish(wallet: Wallet, published: OwnOffer, wish: Wish, made: Iterable[OwnOffer]) -> OwnOffer:
    """The offer for a buyer: the one that it has already, or a new one.

    It has one already where that was made out under this published one, and is not void.

    Args:
        made: what was made out to this session, whatever was published then.

    Raises:
        ParseError: ``malformed-pieces``, ``malformed-sale``.
        Refused: ``other-sale``; ``wish-changed``, one session stands for one wish.
        NotPossible: ``nothing-sold``, ``made-out``.
    """
    if wish.offer_id != published.offer.offer_id:
        raise Refused("other-sale", f"offer {wish.offer_id!r:.40} is not on sale here")
    sold = pieces_from_text(wish.pieces, published_sale(published.offer).count)
    same: OwnOffer | None = None
    for own in made:
        if sale_of(own.offer).sold != sold:
            raise Refused("wish-changed", f"another wish of session {wish.buyer} was answered already")
        if not own.void and is_made_out_under(published.offer, own.offer):
            same = same or own
    return make_out(wallet, published, wish.buyer, sold) if same is None else same
