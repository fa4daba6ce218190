"""``purchases/<session>.json``: what this wallet buys, piece by piece.

A purchase keeps what no channel can: the session under which the seller knows this buyer, the published offer, the
offer that the seller made out to it, and where the file goes. What was paid stands in the channel, what has arrived in
the file itself. The session is on disk before the seller hears of it, so that whatever happens, the same command goes
on with the same channel. A purchase is known by the Merkle root of what is bought and by where it goes: the seller may
publish another offer meanwhile, with another rate or under a restored wallet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from mpchan.channel.offer import Offer
from mpchan.errors import StorageError
from mpchan.sale.manifest import pieces_from_text, pieces_text, sale_of
from mpchan.values import frozen
from mpchan.wallet.storage import locked, make_directory
from mpchan.wallet.store import Store, checked

_LOCK_SECONDS = 1.0


@frozen
class Purchase:
    """One file, or some of its pieces, on the way to this wallet's user.

    Attributes:
        session: 32 hex digits, picked by this wallet.
        published: the offer that tells everybody what is sold, as it stood when this was agreed to.
        output: absolute path of the file.
        wanted: numbers of all pieces that are to be in the file in the end, rising.
        bought: those among them that are paid for.
        own: the offer that was made out to this session; None before the seller has answered.
        done: nothing is left to do.
    """

    session: str
    published: Offer
    output: str
    wanted: tuple[int, ...]
    bought: tuple[int, ...]
    own: Offer | None = None
    done: bool = False


class Purchases(Store[Purchase]):
    """The purchases of one wallet."""

    folder, kind, slug = "purchases", "purchase", "purchase-damaged"

    def unfinished(self, root: bytes, output: str) -> list[Purchase]:
        """The purchases of a file into a place that are not done, under whatever offer they were begun.

        Args:
            root: the Merkle root of what is bought.

        Raises:
            StorageError: ``purchase-damaged``, there is none, but one cannot be read, and it may be this one.
        """
        unreadable: StorageError | None = None
        found: list[Purchase] = []
        for path in self.files():
            try:
                purchase = self.load(path)
            except StorageError as error:
                unreadable = error
                continue
            same = (sale_of(purchase.published).root, purchase.output) == (root, output)
            if same and not purchase.done:
                found.append(purchase)
        if not found and unreadable is not None:
            raise unreadable
        return found

    @contextmanager
    def lock(self, output: str) -> Iterator[None]:
        """Be the only process that fills a file.

        Args:
            output: absolute path of the file.
        """
        make_directory(self.directory)
        name = sha256(os.fsencode(output)).hexdigest()[:32]
        with locked(self.directory / f"{name}.lock", timeout=_LOCK_SECONDS):
            yield

    def _name(self, value: Purchase) -> str:
        return value.session

    def _to_table(self, value: Purchase) -> dict[str, Any]:
        return {
            "published": value.published.to_dict(),
            "output": value.output,
            "wanted": pieces_text(value.wanted),
            "bought": pieces_text(value.bought),
            "own": None if value.own is None else value.own.to_dict(),
            "done": value.done,
        }

    def _from_table(self, body: dict[str, Any], name: str) -> Purchase:
        published = Offer.from_dict(body["published"])
        count = sale_of(published).count
        return Purchase(
            name,
            published,
            checked(body["output"], str),
            pieces_from_text(body["wanted"], count),
            pieces_from_text(body["bought"], count) if body["bought"] else (),
            None if body["own"] is None else Offer.from_dict(body["own"]),
            checked(body["done"], bool),
        )
