"""What must be true of a wallet's openings, and what can be done where a line of them is damaged."""

from __future__ import annotations

from collections.abc import Iterator

from mpchan import durability
from mpchan.channel.rules import Rule
from mpchan.errors import AsStorageError, StorageError
from mpchan.party.opening.terms import published_for, terms_of
from mpchan.wallet.generation import FILE
from mpchan.wallet.recovery import set_aside
from mpchan.wallet.wallet import Wallet


def opening_rules(wallet: Wallet, has_keys: bool) -> Iterator[Rule]:
    """No offer and no payer's key stands in two openings, and the terms of each follow from what is there.

    Of all under one published offer the first is rebuilt whole, of the others that the offer is there is looked at.
    """
    offers: set[str] = set()
    payers: set[bytes] = set()
    rebuilt: set[bytes] = set()
    for opening in wallet.openings.all():
        fresh = opening.offer_id not in offers and opening.payer_key not in payers
        text = f"opening {opening.name[:16]} stands under an offer, or a payer's key, of another one"
        yield Rule("opening-twice", fresh, text, error=StorageError)
        offers.add(opening.offer_id)
        payers.add(opening.payer_key)
        try:
            if has_keys and opening.published not in rebuilt:
                rebuilt.add(opening.published)
                terms_of(wallet, opening)
            elif has_keys:
                published_for(wallet, opening)
        except StorageError as error:
            yield Rule(error.slug, False, error.message, error=StorageError)


def mend_openings(wallet: Wallet) -> str:
    """Go on without the lines that cannot be read; what was done. The wallet is held.

    What was signed by them is not known any more. So another generation comes first: all offers that are out and unused
    are void from then on, and nothing is signed twice.

    Raises:
        StorageError: ``write-failed``, ``read-failed``.
    """
    path = wallet.directory / FILE
    with AsStorageError("write-failed", path):
        if path.exists():
            durability.unlink(path)
            durability.sync_directory(path.parent)
    aside = set_aside(wallet.openings.path)
    kept, lost = wallet.openings.mend()
    return (
        f"kept {kept} openings and left {lost} damaged lines out: the offers that were out and unused are void now"
        f"{aside}"
    )
