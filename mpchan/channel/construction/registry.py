"""The constructions by name. What stands here is known without loading the construction's module."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from mpchan.channel.construction.base import Construction, OwnTerm
from mpchan.values import frozen

if TYPE_CHECKING:
    from mpchan.channel.offer import Offer

DEFAULT = "decrementing"
ONE_MESSAGE = "taproot"


@frozen
class Entry:
    """Where a construction is.

    Attributes:
        place: ``module:NAME`` of its ``Construction``.
        own_terms: what its offers have besides the common terms.
        refund_grid_blocks: L_refund is a multiple of so many blocks, or of that many times 600 s.
        first_offer_version: no offer of an older version has it.
    """

    place: str
    own_terms: tuple[OwnTerm, ...] = ()
    refund_grid_blocks: int = 1
    first_offer_version: int = 1


CONSTRUCTIONS: dict[str, Entry] = {
    "decrementing": Entry(
        "mpchan.channel.construction.decrementing:DECREMENTING",
        (OwnTerm("step", 1, "Between the lock times of two updates."),),
    ),
    "taproot": Entry(
        "mpchan.channel.construction.taproot:TAPROOT",
        (
            OwnTerm(
                "made_at", 1, "Where the chain stood when the offer was made.", is_delay=False, of_tip=True
            ),
        ),
        refund_grid_blocks=36,
        first_offer_version=2,
    ),
}

_loaded: dict[str, Construction] = {}


def construction(name: str) -> Construction:
    """A construction by its name; KeyError for one that is not known."""
    place = CONSTRUCTIONS[name].place
    if place not in _loaded:
        module, _, attribute = place.partition(":")
        _loaded[place] = getattr(import_module(module), attribute)
    return _loaded[place]


def default() -> str:
    """The construction of new offers."""
    return DEFAULT


def for_connections() -> tuple[str, ...]:
    """All of them, the best for who is connected first: its channels are opened by one message."""
    return (ONE_MESSAGE, *(name for name in CONSTRUCTIONS if name != ONE_MESSAGE))


def all_constructions() -> Iterator[Construction]:
    """Every one, the default first; for what tells no construction by itself."""
    yield construction(DEFAULT)
    yield from (construction(name) for name in CONSTRUCTIONS if name != DEFAULT)


def construction_of(offer: Offer) -> Construction:
    """The construction that an offer names; an ``Offer`` never holds an unknown one."""
    return construction(offer.scheme)


def own_terms_of(name: str) -> tuple[OwnTerm, ...]:
    """The terms that offers of a construction have of their own."""
    return CONSTRUCTIONS[name].own_terms


def chosen_terms_of(name: str) -> tuple[OwnTerm, ...]:
    """Those of them that a payee can choose."""
    return tuple(term for term in own_terms_of(name) if not term.of_tip)


def all_chosen_terms() -> tuple[OwnTerm, ...]:
    """Those of all constructions; each name once."""
    found = {term.name: term for name in CONSTRUCTIONS for term in chosen_terms_of(name)}
    return tuple(found.values())
