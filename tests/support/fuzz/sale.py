"""Targets: what a sale reads. The manifest of an offer, a buyer's wish, and the file of a purchase."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

from support.fuzz.driver import Target
from support.fuzz.files import bent_envelope, envelope, folder, laid, sealing, text_of
from support.fuzz.mutations import bent_bytes, bent_json, bent_toml
from support.fuzz.world import world

from mpchan.channel.offer import Offer
from mpchan.errors import NotPossible, ParseError, StorageError
from mpchan.party.offers.selling import Wish
from mpchan.sale.manifest import Sale, pieces_from_text, pieces_text, sale_of
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.purchases import Purchase, Purchases

_SESSION = "00112233445566778899aabbccddeeff"


def _recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + _recursive_root(leaves[:split]) + _recursive_root(leaves[split:])).digest()


def manifest(data: bytes) -> None:
    """What is taken is what stands there, its root is the RFC's, and its pieces make up the file."""
    offer = Offer.from_toml(text_of(data))
    sale = sale_of(offer)
    assert Sale.from_table(json.loads(json.dumps(sale.to_table()))) == sale
    assert sale.to_table() == offer.sale
    assert sale.root == _recursive_root(list(sale.hashes))
    assert sum(map(sale.length_of, range(1, sale.count + 1))) == sale.length
    assert all(0 < sale.length_of(number) <= sale.piece_length for number in range(1, sale.count + 1))
    assert not any(map(sale.is_free, sale.sold))


def sold(data: bytes) -> None:
    """Whatever is taken are rising numbers, and is read the same from the one way to write them."""
    numbers = pieces_from_text(text_of(data), 5_000)
    assert numbers
    assert list(numbers) == sorted(set(numbers))
    assert pieces_from_text(pieces_text(numbers), 5_000) == numbers
    assert len(pieces_text(numbers)) <= len(data)


def wish(data: bytes) -> None:
    """What is taken says the same again when it is written."""
    found = Wish.from_bytes(data)
    assert Wish.from_bytes(found.to_bytes()) == found
    assert json.loads(data) == json.loads(found.to_bytes())


def purchase(data: bytes) -> None:
    """What is read from a file is written as the same purchase."""
    purchases = Purchases(folder("purchases"))
    path = laid(_purchase_path(), data)
    found = purchases.load(path)
    purchases.save(found)
    assert purchases.load(path) == found


def _sale(**changes: object) -> Sale:
    hashes = tuple(sha256(bytes([number])).digest() for number in range(7))
    return replace(Sale("film", 6_500, 1_000, Amount(1_000), 1, hashes), **changes)


def _offer(sale: Sale) -> Offer:
    return replace(Offer.from_toml(world().messages["offer"].decode()), sale=sale.to_table())


def _purchase_path() -> Path:
    return folder("purchases") / "purchases" / f"{_SESSION}.json"


def _manifest_seeds() -> list[bytes]:
    made_out = _sale(buyer=_SESSION, sold=(3, 4, 7), voucher=b"\x30\x06")
    listening = _sale(address="127.0.0.1:7420", certificate="ab" * 32)
    return [_offer(sale).to_toml().encode() for sale in (_sale(), made_out, listening)]


def _purchase_seeds() -> list[bytes]:
    published = _offer(_sale())
    sale_of(published)
    made = [
        Purchase(_SESSION, published, os.path.join(os.sep, "home", "me", "film"), (1, 2, 5), (2, 5)),
        Purchase(_SESSION, published, "/film", (1,), (), published, done=True),
    ]
    purchases = Purchases(folder("purchases"))
    texts = []
    for each in made:
        purchases.save(each)
        texts.append(_purchase_path().read_bytes())
    return texts


SALES = [
    Target("sale", manifest, _manifest_seeds, bent_toml, (ParseError, NotPossible)),
    Target("pieces", sold, lambda: [b"1", b"3-7,12", b"1-5000", b"1,3,5-6"], bent_bytes, (ParseError,)),
    Target("wish", wish, lambda: [Wish("0" * 16, _SESSION, "3-7,12").to_bytes()], bent_json, (ParseError,)),
    Target(
        "purchase",
        purchase,
        _purchase_seeds,
        sealing(bent_envelope, envelope("purchase")),
        (StorageError,),
    ),
]
