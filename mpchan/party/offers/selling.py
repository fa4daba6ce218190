"""Offers of files: the published one, and those that are made out to a buyer each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpchan.bitcoin.script import dust_limit
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import expired_rules, version_rules
from mpchan.channel.rules import enforce
from mpchan.errors import NotPossible, ParseError, Refused, StorageError
from mpchan.party.common import now_of
from mpchan.party.fees import relay_warnings, stake_warnings
from mpchan.party.offers.made_out import make_out
from mpchan.party.offers.offering import (
    new_offer,
    offered,
    relayed,
    require_window,
    set_rate,
    starting_terms,
    stated_by,
)
from mpchan.party.opening.terms import published_for
from mpchan.results.opening import Offered
from mpchan.sale.manifest import (
    Sale,
    is_session,
    pieces_from_text,
    published_sale,
    sale_of,
)
from mpchan.units import Height, MedianTime
from mpchan.values import frozen, replace
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record

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
    address: str | None = None,
    force: bool = False,
    now: float | None = None,
) -> tuple[OwnOffer, list[str]]:
    """The offer that tells everybody what is sold, and what people should know about it.

    It holds for a day. For half of that it is the one that stands already, so that a seller who starts again goes on
    with the buyers that know it; then it is renewed, with the chain's fee rate of that time unless one is named. Its
    key stays the same. One that has expired is removed once no opening needs it.

    Args:
        changes: keys of an offer's TOML text, over the wallet's usual terms.
        ways: how the seller can be reached, as ``[[ways]]`` says it.
        address: where all buyers pay to; None for one of this wallet, which changes once a close has paid to it.
        now: Unix time; None for now.

    Raises:
        NotPossible: ``price-dust``, one piece costs less than a channel can pay at first.
        UsageError: as ``new_offer``.
        ChainError: out of reach; ``node-too-old``.
    """
    now = now_of(chain) if now is None else now
    terms = {
        **starting_terms(wallet, changes, None),
        **changes,
        "min_capacity_sat": sale.price.sat,
        "max_capacity_sat": sale.whole_price.sat,
        "min_increment_sat": sale.price.sat,
        "ways": [dict(way) for way in ways],
        "sale": sale.to_table(),
    }
    stake = stake_warnings(sale.whole_price, wallet, chain, "a whole price")
    earlier = [own for own in published_offers(wallet) if sale_of(own.offer).root == sale.root]
    payout = address or _unused_payout(wallet, earlier)
    standing = [own for own in earlier if _stands(own, {**terms, "payee_address": payout}, now)]
    if standing:
        offer = standing[0].offer
        require_window(offer, force=force)
        relayed(chain, offer)
        return standing[0], [*relay_warnings(offer.fee_rate, chain, "a close under this offer"), *stake]
    warnings = [*set_rate(terms, chain, wallet.config.limits), *stake]
    terms.update(stated_by(chain, terms), expires=int(now) + OFFER_SECONDS)
    with wallet.lock():
        own, outside = new_offer(
            wallet,
            terms,
            address=payout,
            force=force,
            vouch=lambda offer: relayed(chain, _collectable(offer)),
        )
    _drop_expired(wallet, earlier, now)
    return own, [*warnings, *outside]


def _drop_expired(wallet: Wallet, published: Iterable[OwnOffer], now: float) -> None:
    for own in published:
        offer = own.offer
        if offer.version > 1 and offer.expires <= now and not wallet.openings.names_published(offer.offer_id):
            wallet.offers.drop(offer.offer_id)


OFFER_SECONDS = 24 * 3600
RENEWAL_SECONDS = 12 * 3600
"""A sale's offer holds for a day, and another is published after half of it: a buyer has 12 hours at least to fund."""


def needs_renewal(offer: Offer, now: float) -> bool:
    """Whether half of a published offer's time is over; or it holds for so long that a wrong clock must have said so.

    Args:
        now: Unix time, not before the chain's median time.
    """
    return not RENEWAL_SECONDS < offer.expires - now <= OFFER_SECONDS + RENEWAL_SECONDS


def _unused_payout(wallet: Wallet, earlier: Sequence[OwnOffer]) -> str | None:
    """The address of this wallet in the latest published offer to whose address no close has paid yet.

    However many strangers ask for offers, so they leave no gap of unused addresses before those that hold money.
    """
    used = {
        record.terms.offer.payee_script
        for record in wallet.channels.readable()
        if isinstance(record.state, payee.Closing)
    }
    for own in sorted(earlier, key=lambda own: own.offer.expires, reverse=True):
        script = own.offer.payee_script
        if script not in used and script in wallet.keys.scripts():
            return own.offer.payee_address
    return None


def _stands(own: OwnOffer, terms: Mapping[str, Any], now: float) -> bool:
    """Whether a published offer has these very terms, and more than half of its time is left.

    One that holds for much longer was made when the clock was wrong.
    """
    known = {"ways": [], **own.offer.terms()}
    serves = own.offer.version > 1 and not own.void and not needs_renewal(own.offer, now)
    return serves and all(known.get(key) == value for key, value in terms.items())


def room_warnings(chain: Chain, offer: Offer, pieces: int) -> list[str]:
    """What people should know where the lock times of an offer leave no room for a payment of each piece."""
    kind = Height if offer.lock_time_unit == Height.unit else MedianTime
    refund_at = kind(kind.now(chain.tip()) + offer.default_refund_delay)
    possible = construction_of(offer).most_updates(offer, refund_at)
    if possible is None or pieces <= possible:
        return []
    text = (
        f"one channel has room for {possible} payments now, and there are {pieces} pieces: a buyer has to take fewer "
        "at a time; --lock-time-unit seconds leaves room for all"
    )
    return [text]


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


def _offers_of_sales(wallet: Wallet) -> Iterator[tuple[OwnOffer, Sale]]:
    """Own offers with a manifest; one that is damaged, or sells something else, is none of them."""
    for offer_id in wallet.offers.ids():
        try:
            own = wallet.offers.load(offer_id)
            sale = sale_of(own.offer)
        except (StorageError, NotPossible, ParseError):
            continue
        yield own, sale


def offer_for(wallet: Wallet, data: bytes) -> Offered:
    """``payee offer --for``: answer a buyer's wish by hand; the same wish again gets the same offer. Nothing is kept.

    Raises:
        ParseError: ``malformed-request``, ``malformed-pieces``, ``malformed-sale``, ``offer-version``.
        Refused: ``wish-changed``, ``offer-used``, ``offer-void``, ``offer-expired``.
        NotPossible: ``unknown-offer``, ``nothing-sold``, ``made-out``.
    """
    wish = Wish.from_bytes(data)
    own = wallet.offers.load(wish.offer_id)
    general = published_sale(own.offer)
    begun = [
        sale
        for record in wallet.channels.readable()
        if (sale := sold_in(record, general)) and sale.buyer == wish.buyer
    ]
    for opening in wallet.openings.of_session(wish.buyer):
        _, sale = published_for(wallet, opening)
        if sale.root == general.root:
            begun.append(replace(sale, buyer=wish.buyer, sold=opening.sold))
    return offered(answer_wish(wallet, own, wish, begun, int(time.time())))


def sold_in(record: Record, general: Sale) -> Sale | None:
    """What a channel sells to its buyer, where this wallet is paid in it and it is this file; else None.

    Args:
        general: the file, as it is on sale now. A channel's own sale may differ in price and in what is free.
    """
    sale = record.terms.offer.sale or {}
    if record.role != "payee" or sale.get("merkle_root") != general.root.hex() or "buyer" not in sale:
        return None
    try:
        return sale_of(record.terms.offer, general)
    except ParseError:
        return None


def answer_wish(wallet: Wallet, published: OwnOffer, wish: Wish, begun: Collection[Sale], now: int) -> Offer:
    """The offer for a buyer.

    Args:
        begun: what the channels of this session sell, since it stands for one wish.
        now: Unix time.

    Raises:
        ParseError: ``malformed-pieces``, ``malformed-sale``, ``offer-version``.
        Refused: ``wish-changed``, ``offer-used``, ``offer-void``, ``offer-expired``.
        NotPossible: ``nothing-sold``, ``made-out``.
    """
    offer = published.offer
    enforce(version_rules(offer))
    if published.void:
        raise Refused(
            "offer-void", f"offer {offer.offer_id} was made before this wallet was restored", hint=_NEWER
        )
    enforce(expired_rules(offer, now))
    sold = pieces_from_text(wish.pieces, published_sale(offer).count)
    if any(sale.sold != sold for sale in begun):
        raise wish_changed(wish.buyer)
    if begun and not construction_of(offer).has_exchange:
        # money would be locked under it next, be it by a buyer whose wallet was restored from before it opened this one
        raise Refused("offer-used", f"session {wish.buyer} has its channel already")
    return make_out(wallet, published, wish.buyer, sold)


def wish_changed(session: str) -> Refused:
    """A session stands for one wish from the beginning of its channel on."""
    return Refused("wish-changed", f"session {session} has begun a channel for another wish")


_NEWER = "take the offer that the seller publishes now"
