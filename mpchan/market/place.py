"""The offer's place in a mailbox: it belongs to one sale of one wallet, and may still be on its way to a buyer."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from mpchan import durability
from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError, NotPossible, ParseError
from mpchan.sale.manifest import Sale, sale_of
from mpchan.units import MAX_MESSAGE_BYTES
from mpchan.wallet.wallet import Wallet

_HINT = "a mailbox for each sale: give another --mailbox, or move that file away"
STILL_SECONDS = 3.0
"""An offer that cannot be read, and has not changed for so long, is not being copied."""

_PAUSE_SECONDS = 0.05
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def require_own_place(wallet: Wallet, path: Path, sale: Sale) -> None:
    """What stands in the offer's place may be replaced by this wallet's offer of this sale.

    An offer of another seller, or of another file, is what its buyers go on with: both sales would break.

    Raises:
        NotPossible: ``other-sale``.
    """
    try:
        data = _content(path)
        offer = None if data is None else Offer.from_toml(data.decode())
        sold = None if offer is None else sale_of(offer)
    except (OSError, ValueError, MpchanError):
        raise NotPossible(
            "other-sale", f"{path} is no offer that can be read, and may be another seller's", hint=_HINT
        ) from None
    if offer is None or sold is None:
        return
    if not _is_own(wallet, offer):
        raise NotPossible("other-sale", f"{path} is an offer of another wallet", hint=_HINT)
    if sold.root != sale.root:
        raise NotPossible(
            "other-sale", f"{path} offers another file, or other pieces of it: {sold.name!r:.80}", hint=_HINT
        )


def _content(path: Path) -> bytes | None:
    """What is in a file, as far as it may be an offer; None where there is none."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_MESSAGE_BYTES + 1)
    finally:
        durability.done_reading(descriptor)


def _is_own(wallet: Wallet, offer: Offer) -> bool:
    if offer.version > 1:
        return wallet.offers.made(offer)
    try:
        return wallet.offers.load(offer.offer_id).offer.payee_key == offer.payee_key
    except MpchanError:
        return False


def offer_in_place(path: Path, read: Callable[[], Offer]) -> Offer:
    """The offer in a mailbox, which whoever carries that may still be copying: it is waited for while it changes."""
    stamp, since = None, time.monotonic()
    while True:
        now = _stamp(path)
        if now != stamp:
            stamp, since = now, time.monotonic()
        try:
            offer = read()
            sale_of(offer)
        except (ParseError, NotPossible) as error:  # a part of one may be an offer that sells nothing
            if time.monotonic() - since >= STILL_SECONDS:
                error.hint = (
                    error.hint or "if it is still being copied into the mailbox, run the command again"
                )
                raise
        else:
            return offer
        time.sleep(_PAUSE_SECONDS)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
