"""A chain that changes while it is looked at: what was found so far may not fit together, so one looks again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mpchan.errors import ChainError

T = TypeVar("T")

_ATTEMPTS = 5


def moved() -> ChainError:
    """The chain is another one than a moment ago: what was found so far may not fit together."""
    return ChainError(
        "chain-moving", "the chain changed while it was looked at, again and again", hint="try again"
    )


def steady(look: Callable[[], T]) -> T:
    """Look again where the chain changed meanwhile.

    Raises:
        ChainError: ``chain-moving`` where it never holds still.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return look()
        except ChainError as error:
            if error.slug != "chain-moving":
                raise
    return look()
