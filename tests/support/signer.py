"""Any of the libraries that sign and verify, in the place of the one that this process would choose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpchan.bitcoin import schnorr, signature, signers

SIGNERS = signers.installed()
"""All of them make the same bytes, so each test of one is a test of all that are here."""


@contextmanager
def using(name: str) -> Iterator[None]:
    """Run a block with one of the signers."""
    chosen = signers.load(name)
    before, signers.signer = signers.signer, lambda: chosen  # type: ignore[assignment]
    forget_points()
    try:
        yield
    finally:
        signers.signer = before
        forget_points()


def forget_points() -> None:
    """No parsed key of one library may meet another."""
    signature._point.cache_clear()
    schnorr._x_only_point.cache_clear()
