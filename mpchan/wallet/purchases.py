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
from pathlib import Path
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


class Purchases:
    """The purchases of one wallet.

    Args:
        directory: of the wallet.
    """

    def __init__(self, directory: Path) -> None:
        self._store = Store(directory, "purchases", "purchase", lambda body: 1, "purchase-damaged")

    def save(self, purchase: Purchase) -> None:
        """Write a purchase; durable on return."""
        body = {
            "published": purchase.published.to_dict(),
            "output": purchase.output,
            "wanted": pieces_text(purchase.wanted),
            "bought": pieces_text(purchase.bought),
            "own": None if purchase.own is None else purchase.own.to_dict(),
            "done": purchase.done,
        }
        self._store.write(purchase.session, body)

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
        make_directory(self._store.directory)
        name = sha256(os.fsencode(output)).hexdigest()[:32]
        with locked(self._store.directory / f"{name}.lock", timeout=_LOCK_SECONDS):
            yield

    def files(self) -> list[Path]:
        """Their files, sorted; none where there never was a purchase."""
        return self._store.files()

    def load(self, path: Path) -> Purchase:
        """Read one of ``files``."""

        def parse(body: dict[str, Any]) -> Purchase:
            published = Offer.from_dict(body["published"])
            count = sale_of(published).count
            return Purchase(
                path.stem,
                published,
                checked(body["output"], str),
                pieces_from_text(body["wanted"], count),
                pieces_from_text(body["bought"], count) if body["bought"] else (),
                None if body["own"] is None else Offer.from_dict(body["own"]),
                checked(body["done"], bool),
            )

        return self._store.read(path, parse)
