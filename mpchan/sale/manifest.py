"""What is sold under an offer: its table ``[sale]``, the manifest of one file that is paid piece by piece.

    name          of the file, for people; never a path
    length        of the file, in bytes
    piece_length  of every piece but the last one, which may be shorter
    price_sat     of one piece
    free_pieces   so many from the first one on are samples, and cost nothing
    merkle_root   over the pieces' hashes (RFC 6962, section 2.1)
    pieces        SHA-256 of each piece, in order
    address       HOST:PORT where the seller listens, if it does; in offers of version 1 alone
    certificate   SHA-256 of the TLS certificate that it shows there (DER); as address

From version 2 on, where the seller listens stands in the offer's ``[[ways]]``, with the kind ``tcp``.

An offer that is made out to one buyer has three keys more:

    buyer         the session of the buyer, which the buyer picked: 32 hex digits
    sold          the pieces that are paid for, in the order of their payments: ``3-7,12``
    voucher       the signature of the published offer's key under this one

So which piece a payment pays for stands in the terms of the channel: payment k is for the k-th piece of ``sold``, and a
piece is delivered where the total covers it. Nothing else has to be remembered by anybody. Pieces count from 1.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from mpchan.bitcoin.schnorr import tagged_hash
from mpchan.channel.offer import Offer
from mpchan.channel.rules import Check, Rule
from mpchan.errors import NotPossible, ParseError
from mpchan.units import MAX_MONEY_SAT, Amount, checked_int, is_hex
from mpchan.values import field, frozen, replace

MAX_PIECES = 5_000
"""Of one file: so many hashes still fit into an offer."""

MAX_LENGTH = 1 << 60
MAX_NAME_LENGTH = 255
SESSION_DIGITS = 32

_DIGEST_DIGITS = 64
_REQUIRED = ("name", "length", "piece_length", "price_sat", "free_pieces", "merkle_root")
_ADDRESS = ("address", "certificate")
MADE_OUT = ("buyer", "sold", "voucher")
"""What the sale of an offer that was made out to one buyer has besides."""

_SPAN = re.compile(r"([1-9][0-9]{0,3})(?:-([1-9][0-9]{0,3}))?", re.ASCII)
VOUCHER_TAG = "mpchan/voucher"


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962, section 2.1.

    A leaf is hashed behind a byte 0x00 and a node behind 0x01, so that none passes for the other.

    Args:
        leaves: data of the leaves in order; here the SHA-256 of each piece.

    Returns:
        32 bytes; for no leaves the SHA-256 of nothing.
    """
    if not leaves:
        return sha256().digest()
    level = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(level) > 1:  # an odd one out goes up as it is: the largest power of two stands to the left
        paired = [sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


@lru_cache(8)
def _root_of(hashes: tuple[bytes, ...]) -> bytes:
    """The same of one file's pieces, which very many sales have in common."""
    return tree_hash(hashes)


def pieces_from_text(text: str, count: int) -> tuple[int, ...]:
    """Read ``3-7,12``: rising numbers and spans from 1 to ``count``, as people write them.

    Raises:
        ParseError: ``malformed-pieces``.
    """
    numbers: list[int] = []
    for part in text.split(",", count):
        match = _SPAN.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        above = numbers[-1] if numbers else 0
        if not above < first <= last <= count:
            raise ParseError(
                "malformed-pieces",
                f"not a list of pieces: {text!r:.80}",
                hint=f"rising numbers and spans from 1 to {count}, such as 3-7,12",
            )
        numbers.extend(range(first, last + 1))
    return tuple(numbers)


def pieces_text(numbers: Sequence[int]) -> str:
    """Rising numbers in the one way in which offers and requests write them: as few spans as can be."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


@frozen
class Sale:
    """The manifest of one file, checked.

    Attributes:
        length: bytes of the file.
        piece_length: bytes of a piece; the last one holds the rest.
        price: of one piece.
        hashes: SHA-256 of each piece, 32 bytes.
        certificate: fingerprint, 64 lower-case hex digits; stands if and only if ``address`` does.
        buyer: session to which the offer is made out; None in a published one.
        sold: numbers of the pieces that are paid for, in the order of payment.
        voucher: signature (DER), or None.
        root: Merkle root over the hashes.

    Raises:
        ParseError: ``malformed-sale``, ``malformed-pieces``, ``malformed-number``.
    """

    name: str
    length: int
    piece_length: int
    price: Amount
    free_pieces: int
    hashes: tuple[bytes, ...]
    address: str | None = None
    certificate: str | None = None
    buyer: str | None = None
    sold: tuple[int, ...] = ()
    voucher: bytes | None = None
    root: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_int(self.length, 1, MAX_LENGTH, "length of the file")
        checked_int(self.piece_length, 1, self.length, "piece_length")
        checked_int(self.price.sat, 1, MAX_MONEY_SAT, "price_sat")
        count = -(-self.length // self.piece_length)
        if not 1 <= count <= MAX_PIECES or len(self.hashes) != count:
            raise _malformed(
                f"{self.length} bytes in pieces of {self.piece_length} are {count} pieces, of which "
                f"{len(self.hashes)} hashes stand there; at most {MAX_PIECES} are possible"
            )
        checked_int(self.free_pieces, 0, count - 1, "free_pieces")
        named = 0 < len(self.name) <= MAX_NAME_LENGTH and self.name.isprintable() and "/" not in self.name
        if not named:
            raise _malformed(f"name is no printable file name of at most {MAX_NAME_LENGTH} characters")
        if (self.address is None) != (self.certificate is None):
            raise _malformed("address and certificate stand together or not at all")
        address = "-" if self.address is None else self.address
        if not (0 < len(address) <= MAX_NAME_LENGTH and address.isprintable()):
            raise _malformed(f"address is no printable text of at most {MAX_NAME_LENGTH} characters")
        if self.voucher is not None and self.buyer is None:
            raise _malformed("voucher stands in an offer that is made out to nobody")
        sold = self.sold or tuple(range(self.free_pieces + 1, count + 1))
        if sold[0] <= self.free_pieces or sold[-1] > count or list(sold) != sorted(set(sold)):
            raise _malformed(f"sold names pieces that are not for sale: {pieces_text(sold):.80}")
        object.__setattr__(self, "sold", sold)
        object.__setattr__(self, "root", _root_of(self.hashes))

    @property
    def count(self) -> int:
        """How many pieces the file has."""
        return len(self.hashes)

    def start_of(self, number: int) -> int:
        """Where a piece begins in the file, in bytes."""
        return (number - 1) * self.piece_length

    def length_of(self, number: int) -> int:
        """Bytes of a piece."""
        return min(self.piece_length, self.length - self.start_of(number))

    def is_free(self, number: int) -> bool:
        """Whether a piece is a sample."""
        return 1 <= number <= self.free_pieces

    def price_of(self, pieces: int) -> Amount:
        """What so many pieces cost."""
        return Amount(self.price.sat * pieces)

    @property
    def whole_price(self) -> Amount:
        """What all pieces in ``sold`` cost."""
        return self.price_of(len(self.sold))

    def paid_pieces(self, paid: Amount) -> tuple[int, ...]:
        """The pieces that a total pays for, in the order of their payments."""
        return self.sold[: paid.sat // self.price.sat]

    def to_table(self) -> dict[str, Any]:
        """The table ``[sale]`` as plain values."""
        table: dict[str, Any] = {
            "name": self.name,
            "length": self.length,
            "piece_length": self.piece_length,
            "price_sat": self.price.sat,
            "free_pieces": self.free_pieces,
            "merkle_root": self.root.hex(),
            "pieces": [digest.hex() for digest in self.hashes],
        }
        if self.address is not None:
            table.update(address=self.address, certificate=self.certificate)
        if self.buyer is not None:
            table.update(buyer=self.buyer, sold=pieces_text(self.sold))
        if self.voucher is not None:
            table["voucher"] = self.voucher.hex()
        return table

    @classmethod
    def from_table(cls, table: Mapping[str, Any], known: Sale | None = None) -> Sale:
        """Read ``to_table`` back; an offer's ``[sale]`` is the other party's.

        Args:
            known: a sale of the same file, for a table that comes without the pieces' hashes.

        Raises:
            ParseError: ``malformed-sale``, ``malformed-pieces``, ``malformed-number``.
        """
        unknown = [key for key in table if key not in (*_REQUIRED, "pieces", *_ADDRESS, *MADE_OUT)]
        missing = [key for key in _REQUIRED if key not in table]
        if unknown or missing:
            raise _malformed(f"unknown key {unknown[0]!r:.80}" if unknown else f"lacks the key {missing[0]}")
        hashes = _hashes(table, known)
        buyer, sold = _text(table, "buyer"), _text(table, "sold")
        if (buyer is None) != (sold is None) or (buyer is not None and not is_session(buyer)):
            raise _malformed("buyer is no session of 32 hex digits, or sold does not stand beside it")
        numbers = () if sold is None else pieces_from_text(sold, len(hashes))
        if sold is not None and pieces_text(numbers) != sold:
            raise _malformed(f"sold is not written as {pieces_text(numbers):.80}")
        voucher, certificate = _text(table, "voucher"), _text(table, "certificate")
        if voucher is not None and (not is_hex(voucher) or not 0 < len(voucher) <= 2 * 72):
            raise _malformed("voucher is no signature in hex")
        sale = cls(
            _text(table, "name") or "",
            checked_int(table["length"], 1, MAX_LENGTH, "length"),
            checked_int(table["piece_length"], 1, MAX_LENGTH, "piece_length"),
            Amount(checked_int(table["price_sat"], 1, MAX_MONEY_SAT, "price_sat")),
            checked_int(table["free_pieces"], 0, MAX_PIECES, "free_pieces"),
            hashes,
            _text(table, "address"),
            None if certificate is None else _digest(certificate, "certificate").hex(),
            buyer,
            numbers,
            None if voucher is None else bytes.fromhex(voucher),
        )
        if _digest(table["merkle_root"], "merkle_root") != sale.root:
            raise _malformed(f"merkle_root is not that of the pieces, which is {sale.root.hex()}")
        return sale


def _malformed(what: str) -> ParseError:
    return ParseError("malformed-sale", f"sale of an offer: {what}")


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and type(value) is not str:
        raise _malformed(f"{key} must be a string, not {value!r:.80}")
    return value


def _digest(value: object, what: str) -> bytes:
    if type(value) is not str or len(value) != _DIGEST_DIGITS or not is_hex(value) or value != value.lower():
        raise _malformed(f"{what} is not 64 lower-case hex digits: {value!r:.80}")
    return bytes.fromhex(value)


def _hashes(table: Mapping[str, Any], known: Sale | None) -> tuple[bytes, ...]:
    """The hashes that a table lists; where it lists none, those of a known sale of the same root."""
    if "pieces" not in table and known is not None and table["merkle_root"] == known.root.hex():
        return known.hashes
    listed = table.get("pieces")
    if "pieces" not in table:
        raise _malformed("lacks the key pieces")
    if type(listed) is not list or not 1 <= len(listed) <= MAX_PIECES:
        raise _malformed(f"pieces is no list of 1 to {MAX_PIECES} hashes")
    return tuple(_digest(item, "a hash in pieces") for item in listed)


def is_session(text: str) -> bool:
    """Whether a text is the session of a buyer: 32 lower-case hex digits."""
    return len(text) == SESSION_DIGITS and is_hex(text) and text == text.lower()


def sale_of(offer: Offer, known: Sale | None = None) -> Sale:
    """What an offer sells.

    Args:
        known: a sale of the same file, for an offer that comes without the pieces' hashes.

    Raises:
        NotPossible: ``nothing-sold``, the offer has no ``[sale]``.
        ParseError: as ``Sale.from_table``.
    """
    if offer.sale is None:
        raise NotPossible("nothing-sold", f"offer {offer.offer_id} sells no file: it has no table [sale]")
    if offer.version > 1 and any(key in offer.sale for key in _ADDRESS):
        raise _malformed("where the seller listens stands in [[ways]]")
    return Sale.from_table(offer.sale, known)


_TCP = "tcp"


def tcp_way(address: str, certificate: str) -> dict[str, Any]:
    """The entry of ``[[ways]]`` that says where a seller listens.

    Args:
        address: HOST:PORT.
        certificate: SHA-256 of the TLS certificate (DER), 64 lower-case hex digits.
    """
    return {"kind": _TCP, "address": address, "certificate": certificate}


def listening_at(offer: Offer) -> tuple[str, str] | None:
    """Where the seller listens, and the fingerprint of its certificate; None where the offer says nothing of it.

    Raises:
        ParseError: ``malformed-sale``; as ``sale_of``.
    """
    if offer.version == 1:
        sale = sale_of(offer)
        return None if sale.address is None else (sale.address, sale.certificate or "")
    for way in offer.ways:
        if way["kind"] == _TCP:
            address, certificate = _text(way, "address") or "", way.get("certificate")
            if not (0 < len(address) <= MAX_NAME_LENGTH and address.isprintable()):
                raise _malformed(f"address is no printable text of at most {MAX_NAME_LENGTH} characters")
            return address, _digest(certificate, "certificate").hex()
    return None


def published_sale(offer: Offer) -> Sale:
    """What an offer sells to everybody.

    Raises:
        NotPossible: ``made-out``, the offer is for one buyer; ``nothing-sold``.
        ParseError: as ``Sale.from_table``.
    """
    sale = sale_of(offer)
    if sale.buyer is not None:
        raise NotPossible(
            "made-out", f"offer {offer.offer_id} is made out to buyer {sale.buyer}, and to nobody else"
        )
    return sale


# an offer made out to one buyer -------------------------------------------------------------------

_OWN_KEYS = ("offer_id", "token", "payee_pubkey", "payee_address")
"""What an offer that is made out to a buyer has of its own."""


def made_out_terms(
    published: Offer, buyer: str, sold: Sequence[int], general: Sale | None = None
) -> dict[str, Any]:
    """The terms of an offer that is made out to a buyer, but for its keys of its own and its voucher.

    Its capacity is what the pieces cost, and every payment is at least one piece's price.

    Args:
        sold: numbers of the pieces, rising; none of them free.
        general: what the published offer sells, where that is known: then the pieces' hashes are left out.

    Raises:
        ParseError: ``malformed-sale``, where such pieces are not sold; ``malformed-number``.
        NotPossible: ``nothing-sold``, ``made-out``.
    """
    known = published_sale(published) if general is None else general
    table = known.to_table()
    hashes = {"pieces": table.pop("pieces")} if general is None else {}
    sale = Sale.from_table({**table, "buyer": buyer, "sold": pieces_text(sold)}, known)
    price = sale.whole_price.sat
    terms = published.terms()
    return {
        **{key: value for key, value in terms.items() if key not in _OWN_KEYS},
        "min_capacity_sat": price,
        "max_capacity_sat": price,
        "min_increment_sat": sale.price.sat,
        "sale": {**table, **hashes, "buyer": buyer, "sold": pieces_text(sold)},
    }


def made_out_id(published_id: str, buyer: str, sold: Sequence[int]) -> str:
    """The id of the offer that answers a wish: 32 lower-case hex digits.

    They are the first 16 bytes of HMAC-SHA256. Its key is the id of the published offer, 16 bytes; its message is the
    session, 16 bytes, and behind it the pieces as ``pieces_text`` writes them, in ASCII. So the same wish has the same
    offer, of which nobody needs to keep a record.
    """
    wish = bytes.fromhex(buyer) + pieces_text(sold).encode()
    return hmac.digest(bytes.fromhex(published_id), wish, "sha256")[:16].hex()


def is_made_out_under(published: Offer, offer: Offer) -> bool:
    """Whether an offer carries the voucher of this very published one's key."""
    voucher = sale_of(offer).voucher
    return voucher is not None and published.payee_key.verify(
        voucher, tagged_hash(VOUCHER_TAG, voucher_text(offer))
    )


def _without_voucher(offer: Offer) -> dict[str, Any]:
    return {key: value for key, value in (offer.sale or {}).items() if key != "voucher"}


def voucher_text(offer: Offer) -> bytes:
    """What a voucher signs, as a hash tagged ``mpchan/voucher``: all of the offer but the voucher itself.

    It is the offer's canonical form; in version 1 its whole table, as JSON with sorted keys and no spaces.
    """
    if offer.version == 1:
        table = {**offer.to_dict(), "sale": _without_voucher(offer)}
        return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    return replace(offer, sale=_without_voucher(offer)).canonical()


def made_out_rules(published: Offer, offer: Offer, buyer: str, sold: Sequence[int]) -> Check[Sale]:
    """An offer that answers a buyer's wish is the published one, made out to this buyer, and vouched for.

    Establishes what it sells.
    """
    sale = sale_of(offer)
    expected, found = made_out_terms(published, buyer, sold), offer.terms()
    found["sale"] = _without_voucher(offer)
    for key in (*expected, *(name for name in found if name not in (*expected, *_OWN_KEYS))):
        value, theirs = expected.get(key), found.get(key)
        if key == "sale" and isinstance(value, dict) and theirs != value:
            differing = [name for name in value if found[key].get(name) != value[name]]
            name = differing[0] if differing else "its keys"
            yield Rule(
                "offer-differs", False, f"{name} of the sale is not as published", found=found[key].get(name)
            )
        yield Rule("offer-differs", theirs == value, f"{key} of the offer", value, theirs)
    fresh = offer.payee_key != published.payee_key and offer.offer_id != published.offer_id
    yield Rule("offer-differs", fresh, "the offer is the published one itself, not one for this buyer")
    if offer.version > 1:
        own_id = made_out_id(published.offer_id, buyer, sold)
        yield Rule("offer-differs", offer.offer_id == own_id, "id of the offer", own_id, offer.offer_id)
    text = "the offer is not signed by the key of the published one"
    yield Rule("not-vouched", is_made_out_under(published, offer), text, found=offer.offer_id)
    return sale
