"""The wallet's own offers, as a payee: the folder ``offers``, the generation, and what serves or is served already.

    offers/<offer_id>.toml   an offer as it was handed out
    offers/<offer_id>.json   of an offer of version 1: its key index, and the channel that it served

An offer of version 2 needs no file: its token says that this wallet made it, and its key follows from it. What stands
here is for people, and for what is published.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError, NotPossible, ParseError, StorageError
from mpchan.units import checked_key_index, is_hex
from mpchan.values import frozen, replace
from mpchan.wallet.layout import stored
from mpchan.wallet.storage import read_text, remove_durably, write_durably

if TYPE_CHECKING:
    from mpchan.sale.manifest import Sale
    from mpchan.wallet.records import Record
    from mpchan.wallet.wallet import Wallet

_MOST_ON_SALE = 8


@frozen
class OwnOffer:
    """An offer that this wallet made.

    Attributes:
        key_index: of the offer's key; None from version 2 on, where the key follows from the offer.
        void: whether it serves nobody, because it comes from a backup that this wallet was restored from, or because
            the channel that it served is missing.
    """

    offer: Offer
    key_index: int | None = None
    void: bool = False


class OwnOffers:
    """The offers of one wallet."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self._directory = wallet.directory / "offers"
        self._on_sale: dict[str, tuple[OwnOffer, Sale]] = {}

    @property
    def generation(self) -> str | None:
        """What tells this wallet's offers from those of an older copy of it; None before the first."""
        return read_generation(self._wallet.directory)

    def need_generation(self) -> str:
        """The same; drawn now where there is none, and durable on return. To be called under the wallet's lock."""
        return draw_generation(self._wallet.directory)

    # the files ------------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """The ids of all offers that are kept, sorted."""
        return [path.stem for path in self._files()]

    def _files(self) -> list[Path]:
        names = stored(self._wallet.directory, "offers", ".toml")
        return [self._directory / name for name in names]

    def _path(self, offer_id: str, suffix: str = "toml") -> Path:
        return self._directory / f"{offer_id}.{suffix}"

    def save(self, offer: Offer) -> None:
        """Write an offer down, for people, and for what is sold under it; durable on return."""
        write_durably(self._path(offer.offer_id), offer.to_toml().encode())

    def drop(self, offer_id: str) -> None:
        """Remove an offer of version 2, of which nothing is needed any more."""
        remove_durably(self._path(offer_id))

    def load(self, offer_id: str) -> OwnOffer:
        """Read one of the offers."""
        path = self._path(offer_id)
        if not offer_id.isalnum() or not path.exists():
            raise NotPossible("unknown-offer", f"this wallet made no offer {offer_id!r:.80}")
        try:
            offer = Offer.from_toml(read_text(path))
            own = self._counted(offer) if offer.version == 1 else self._derived(offer)
        except (ParseError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StorageError("offer-damaged", f"{path}: {error!s:.200}") from None
        if own.offer.offer_id != offer_id:
            raise StorageError("offer-damaged", f"{path}: holds another offer, {own.offer.offer_id!r:.40}")
        self._wallet.keys.key_of_offer(own)
        if offer.version > 1 and not self.made(offer):
            raise StorageError("offer-damaged", f"{path}: its token does not fit")
        return own

    def _counted(self, offer: Offer) -> OwnOffer:
        state = json.loads(read_text(self._path(offer.offer_id, "json")))
        if not isinstance(state, dict):
            raise TypeError("not a JSON object")
        used_by = state.get("used_by")
        lost = used_by is not None and not self._wallet.channels.has(str(used_by).replace(":", "-"))
        return OwnOffer(offer, checked_key_index(state["key_index"]), bool(state.get("void")) or lost)

    def _derived(self, offer: Offer) -> OwnOffer:
        return OwnOffer(offer, None, offer.generation != self.generation)

    def on_sale(self, offer_id: str) -> tuple[OwnOffer, Sale]:
        """A published offer, without the pieces' hashes, and what it sells with them; read once by each process."""
        if offer_id not in self._on_sale:
            from mpchan.sale.manifest import published_sale

            own = self.load(offer_id)
            sale = published_sale(own.offer)
            if len(self._on_sale) >= _MOST_ON_SALE:
                del self._on_sale[next(iter(self._on_sale))]
            self._on_sale[offer_id] = replace(own, offer=own.offer.without_pieces()), sale
        return self._on_sale[offer_id]

    # whose an offer is ----------------------------------------------------------------------------

    def made(self, offer: Offer) -> bool:
        """Whether an offer of version 2 is one that this wallet, or an older copy of it, has made, by its token."""
        return hmac.compare_digest(offer.token, self._wallet.keys.offer_token(offer))

    def for_keys(self, keys: tuple[bytes, bytes]) -> OwnOffer | None:
        """The offer whose key is one of ``keys`` (compressed), or None."""
        wanted = [key.hex() for key in keys]
        for path in self._files():
            own = self.load(path.stem) if _mentions(path, wanted) else None
            if own is not None and own.offer.payee_key.sec in keys:
                return own
        return None

    # what is served already -----------------------------------------------------------------------

    def served_by(self, offer: Offer) -> str | None:
        """The name of a channel in which this wallet is paid under an offer, or of an opening that may become one.

        A damaged channel is taken at its word.
        """
        opening = self._wallet.openings.under(offer.offer_id)
        if opening is not None:
            return opening.name
        serving = self._channels_that(
            offer.offer_id,
            lambda record: record.role == "payee" and record.terms.offer.offer_id == offer.offer_id,
        )
        return next(serving, None)

    def knows_key(self, key: bytes, *, apart_from: Collection[str] = ()) -> bool:
        """Whether a compressed key is one of those of any offer, channel or plan of this wallet, or opens one.

        Args:
            apart_from: names of channels, openings and plans that are not looked at.
        """
        opening = self._wallet.openings.of_payer(key)
        if opening is not None and opening.name not in apart_from:
            return True
        files = [*self._files(), *self._wallet.plans.files(), *self._wallet.awaited.files()]
        if any(
            _mentions(path, [key.hex()]) and self._has_key(path, key)
            for path in files
            if path.stem not in apart_from
        ):
            return True
        channels = self._channels_that(
            key.hex(), lambda record: key in (record.terms.payer_key.sec, record.terms.offer.payee_key.sec)
        )
        return any(name not in apart_from for name in channels)

    def _has_key(self, path: Path, key: bytes) -> bool:
        """Whether a file that mentions a key does so as its own key: others can stand in words of the other party.

        A damaged file is taken at its word.
        """
        try:
            if path.suffix == ".json":
                is_awaited = path in self._wallet.awaited.files()
                plan = (self._wallet.awaited if is_awaited else self._wallet.plans).load(path)
                return key in (plan.payer_key.sec, plan.offer.payee_key.sec)
            return self.load(path.stem).offer.payee_key.sec == key
        except MpchanError:
            return True

    def _channels_that(self, word: str, fits: Callable[[Record], bool]) -> Iterator[str]:
        """The names of the channels that fit; a damaged one is taken at its word.

        However many there are, none is opened that this process has read before: strangers make very many.

        Args:
            word: stands in the files of all that fit.
            fits: asks for nothing but the role and the terms.
        """
        files = self._wallet.channels
        for path in files.paths():
            name = path.stem
            record = files.read_before(name)
            if record is None and _mentions(path, [word]):
                try:
                    record = self._wallet.channels.load(name)
                except MpchanError:
                    yield name
            if record is not None and fits(record):
                yield name

    def channels_with_key(self, key: bytes) -> list[Record]:
        """The channels in whose script a compressed key stands."""
        paths = [path for path in self._wallet.channels.paths() if _mentions(path, [key.hex()])]
        records = [self._wallet.channels.load(path.stem) for path in paths]
        return [
            record
            for record in records
            if key in (record.terms.payer_key.sec, record.terms.offer.payee_key.sec)
        ]


def _mentions(path: Path, words: Collection[str]) -> bool:
    """Whether a file holds one of these words. A damaged file is searched too; one that cannot be read stops nobody."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return any(word.encode() in data for word in words)


# the generation -----------------------------------------------------------------------------------
#
# What tells this wallet's offers from those of a copy of it that is older: a file of its own, 16 hex digits drawn by
# chance, in no backup and not made from the words. A wallet that was restored draws another one before its first offer,
# so what the lost wallet may have signed under its offers since the backup is signed a second time by nobody.


GENERATION_FILE = "generation"
_BYTES = 8


def read_generation(directory: Path) -> str | None:
    """The wallet's generation, 16 lower-case hex digits; None before its first offer."""
    path = directory / GENERATION_FILE
    try:
        text = read_text(path).strip()
    except StorageError as error:
        if error.slug != "file-missing":
            raise
        return None
    except ParseError:
        text = ""
    if len(text) != 2 * _BYTES or not is_hex(text) or text != text.lower():
        raise StorageError(
            "generation-damaged",
            f"{path}: not {2 * _BYTES} lower-case hex digits",
            hint="move the file away: another one is made, and the offers that are out and unused become void",
        )
    return text


def draw_generation(directory: Path) -> str:
    """The wallet's generation; where there is none, one that is drawn now, durable on return. The wallet is held."""
    known = read_generation(directory)
    if known is not None:
        return known
    drawn = os.urandom(_BYTES).hex()
    write_durably(directory / GENERATION_FILE, f"{drawn}\n".encode(), mode=0o600)
    return drawn
