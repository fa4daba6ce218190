"""What makes a payee's offer: terms, an address, a key and a token of its own; and what is refused in one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.network import REGTEST, Network
from mpchan.chain.base import Chain
from mpchan.channel.construction.registry import all_chosen_terms, chosen_terms_of, own_terms_of
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import Offer, blocks_in_unit
from mpchan.errors import ChainError, ParseError, UsageError, mistyped
from mpchan.party.common import current_tip, now_of
from mpchan.results.opening import Offered
from mpchan.sale.manifest import MADE_OUT
from mpchan.sale.plan import ANYBODYS_KEY
from mpchan.units import Amount, FeeRate, Height, MedianTime
from mpchan.values import replace
from mpchan.wallet.config import offer_defaults
from mpchan.wallet.keys import Keys
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.wallet import Wallet

MIN_WINDOW_BLOCKS = 36
"""A shorter settle window, 6 h in seconds, needs ``--force``: a close must get into a block in it, whatever fees do, a
watcher must have run in it, and median time lags by hours."""


def expires_at(wallet: Wallet, chain: Chain, expires_in: int | None) -> int:
    """The Unix time at which an offer expires that holds so many seconds from now; 0 for never."""
    seconds = wallet.config.expires_in if expires_in is None else expires_in
    if not seconds:
        return 0
    try:
        return now_of(chain) + seconds
    except ChainError:  # an offer needs no chain
        return int(time.time()) + seconds


def relayed(chain: Chain, offer: Offer) -> Offer:
    """An offer whose refund, updates and settlement the backend's node relays, as far as it can be asked.

    One that cannot be asked now is asked again before the refund is signed.
    """
    try:
        chain.require_version(offer.transaction_version)
    except ChainError as error:
        if error.slug == "node-too-old":
            raise
    return offer


def least_warnings(
    wallet: Wallet, changes: Mapping[str, Any], like: str | None, terms: Mapping[str, Any], chain: Chain
) -> list[str]:
    """What people should know of the smallest channel that they ask for; of the built-in one ``accept`` tells."""
    from mpchan.party.fees import stake_warnings

    key = "min_capacity_sat"
    is_named = key in changes or like is not None or key in wallet.config.offer
    return stake_warnings(Amount(terms[key]), wallet, chain, "a smallest channel") if is_named else []


def new_offer(
    wallet: Wallet,
    terms: Mapping[str, Any],
    *,
    address: str | None = None,
    force: bool = False,
    vouch: Callable[[Offer], Offer] | None = None,
) -> tuple[OwnOffer, list[str]]:
    """Make an offer with an id and a key of its own, and keep it; what people should know about its address.

    Whoever calls this holds the wallet's lock. The address's index is on disk before the offer is.

    Args:
        terms: as ``Offer.terms`` names them, all but those that are the offer's own.
        vouch: makes of it the offer that is kept.
    """
    from mpchan.party.fees import outside_warning

    keys = wallet.fresh_keys()
    warnings: list[str] = []
    fresh = address is None
    if address is None:
        address = next_address(keys, wallet.network)
    elif address_to_script(address, wallet.network) not in keys.scripts():
        warnings.append(outside_warning(address))
    draft = drafted(wallet, terms, address, force=force)
    # where this is the wallet's first offer, what would be refused above leaves no file
    made = keys.own_offer(replace(draft, generation=wallet.offers.need_generation()))
    made = made if vouch is None else vouch(made)
    if fresh:
        keys.allocate("receive")
    wallet.offers.save(made)
    return OwnOffer(made), warnings


def next_address(keys: Keys, network: Network) -> str:
    """The address whose index ``keys.allocate("receive")`` takes next."""
    address = script_to_address(keys.script("receive", keys.next_index("receive")), network)
    assert address is not None  # a P2WPKH script has one
    return address


def drafted(wallet: Wallet, terms: Mapping[str, Any], address: str, *, force: bool = False) -> Offer:
    """An offer with an id of its own, whose key and token ``Keys.own_offer`` makes once it has its generation.

    Args:
        terms: as ``Offer.terms`` names them, all but those that are the offer's own.
        address: where its channels pay to.

    Raises:
        UsageError: these terms make no offer; ``short-window``.
        NotPossible: ``fee-rate-…``, the wallet's limits.
    """
    from mpchan.party.fees import require_within

    own = {
        "version": 2,
        "offer_id": os.urandom(16).hex(),
        "generation": _NO_GENERATION,
        "token": _NO_TOKEN,
        "network": wallet.network.name,
        "payee_pubkey": ANYBODYS_KEY,
        "payee_address": address,
    }
    draft = _checked({"expires": 0, **terms, **own})
    require_within(draft.fee_rate, wallet.config.limits, "an offer")
    require_window(draft, force=force)
    return draft


_NO_GENERATION = "0" * 16
_NO_TOKEN = "0" * 64
"""In the places of what follows from the rest of an offer, while that is put together."""


def offered(offer: Offer, warnings: Sequence[str] = ()) -> Offered:
    """The answer to ``payee offer``."""
    sec = offer.payee_key.sec.hex()
    return Offered(offer.offer_id, sec, offer.payee_address, offer.to_toml(), tuple(warnings))


_RATE = "fee_rate_sat_per_kvb"


def set_rate(terms: dict[str, Any], chain: Chain, limits: PayerLimits) -> list[str]:
    """Fill a fee rate in where none is named; what people should know about the rate.

    Raises:
        ChainError: out of reach.
        NotPossible: ``fee-rate-high``.
    """
    from mpchan.party.fees import estimated_rate, relay_warnings

    what = "a close under this offer"
    if _RATE in terms:
        named = terms[_RATE]
        return relay_warnings(FeeRate(named), chain, what)
    try:
        rate, warnings = estimated_rate(chain, limits, what)
    except ChainError as error:
        other = "or name the rate yourself with --fee-rate"
        error.hint = other if error.hint is None else f"{error.hint}; {other}"
        raise
    terms[_RATE] = rate.sat_per_kvb
    return warnings


_IDENTITY = (*("offer_id", "generation", "expires", "token", "network", "payee_pubkey", "payee_address"),)


def starting_terms(wallet: Wallet, changes: Mapping[str, Any], like: str | None) -> dict[str, Any]:
    """What a new offer has where ``changes`` say nothing else; the construction's own terms too."""
    scheme = changes.get("scheme")
    if like is None:
        terms = offer_defaults(wallet.config, changes.get("lock_time_unit"), scheme)
    else:
        earlier = wallet.offers.load(like).offer
        terms = {key: value for key, value in earlier.terms().items() if key not in _IDENTITY}
        if "sale" in terms:
            terms["sale"] = {key: value for key, value in terms["sale"].items() if key not in MADE_OUT}
        for term in own_terms_of(earlier.scheme):
            if term.of_tip or scheme not in (None, earlier.scheme):
                del terms[term.name]
        if scheme not in (None, earlier.scheme):
            terms.update({term.name: term.default for term in chosen_terms_of(scheme)})
    require_own_terms({**terms, **changes})
    return terms


def require_own_terms(terms: Mapping[str, Any]) -> None:
    """Refuse a term of another construction than the offer's.

    Raises:
        UsageError: ``foreign-term``.
    """
    own = chosen_terms_of(terms["scheme"])
    for term in all_chosen_terms():
        if term.name in terms and term not in own:
            raise UsageError("foreign-term", f"{term.name} is no term of the scheme {terms['scheme']}")


def stated_by(chain: Chain, terms: Mapping[str, Any]) -> dict[str, int]:
    """The terms of the construction's own that say where the chain stands as the offer is made.

    Raises:
        ChainError: out of reach.
        UsageError: ``tip-needed``.
    """
    stated = [term.name for term in own_terms_of(terms["scheme"]) if term.of_tip]
    if not stated:
        return {}
    unit = terms["lock_time_unit"]
    now = (Height if unit == Height.unit else MedianTime).now(current_tip(chain, unit))
    return dict.fromkeys(stated, now)


def _checked(terms: Mapping[str, Any]) -> Offer:
    """The offer, or why these terms make none: a mistake on the command line or in wallet.toml."""
    try:
        return Offer.from_terms(terms)
    except ParseError as error:
        raise mistyped(error) from None


def short_window(offer: Offer) -> str | None:
    """What is wrong with a settle window that is too short to close in, in words; None for one that is not."""
    least = blocks_in_unit(MIN_WINDOW_BLOCKS, offer.lock_time_unit)
    if offer.settle_window >= least or offer.network == REGTEST:
        return None
    return (
        f"a settle window of {offer.settle_window} {offer.lock_time_unit} is below {least}: a close may not get into a "
        "block in it before the refund is final"
    )


def require_window(offer: Offer, *, force: bool) -> None:
    """Refuse a settle window that is too short to close in.

    Raises:
        UsageError: ``short-window``.
    """
    text = short_window(offer)
    if text is not None and not force:
        raise UsageError("short-window", text, hint="--force if you know better")
