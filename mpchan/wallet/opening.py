"""One opening as a line of ``openings/notes``: a refund that was signed, and all that gives back its channel's terms.

What was signed under an offer that answers a buyer's wish needs little room, because the offer follows from the
published one, the session and the pieces. In the order of the line's bytes, each number big-endian:

    1  version, 1                            4  nLockTime of the refund
    36 outpoint, in wire order               4  when the offer expires
    16 the offer's id                        1  length of the payer's script
    4  of the published offer's id           …  that script
    16 session                               …  the pieces, see ``packed_pieces``
    33 the payer's key, compressed           4  of SHA-256 of the offer's canonical form
    32 witness program of the funding        4  of SHA-256 of all that
    8  value of the funding

The line is their base64 without padding.
"""

from __future__ import annotations

import binascii
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256

from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import frozen

MAX_LINE_BYTES = 300
"""With the line feed."""

PREFIX_BYTES = 4
"""Of the published offer's id."""

_VERSION = 1
_HEAD = struct.Struct(">B32s4s16s4s16s33s32sQIIB")
_SUM = 4
_MAX_PIECE = 1 << 14
_PROGRAM = b"\x00\x20"
"""In front of the witness program in a P2WSH scriptPubKey (BIP-0141)."""


@frozen
class Opening:
    """A refund that was signed for a buyer, whose funding no chain has shown yet.

    Attributes:
        offer_id: of the offer that answers the buyer's wish, 32 hex digits.
        published: the first bytes of the id of the published offer.
        session: of the buyer, 32 hex digits.
        sold: numbers of the pieces that the buyer pays for, rising.
        payer_key: compressed, 33 bytes.
        funding_script: scriptPubKey of the funding, P2WSH.
        value: of the funding.
        lock_time: nLockTime of the refund.
        expires: Unix time, of the offer.
        payer_script: scriptPubKey of the refund.
        digest: the first bytes of the SHA-256 of the offer's canonical form.
    """

    outpoint: OutPoint
    offer_id: str
    published: bytes
    session: str
    sold: tuple[int, ...]
    payer_key: bytes
    funding_script: bytes
    value: Amount
    lock_time: int
    expires: int
    payer_script: bytes
    digest: bytes

    @property
    def name(self) -> str:
        """That of the channel which it may become."""
        return self.outpoint.name

    def to_line(self) -> bytes | None:
        """The line with its line feed; None where it would be too long: then it is no matter of a note."""
        head = _HEAD.pack(
            _VERSION,
            self.outpoint.txid.wire,
            self.outpoint.vout.to_bytes(4, "little"),
            bytes.fromhex(self.offer_id),
            self.published,
            bytes.fromhex(self.session),
            self.payer_key,
            self.funding_script[len(_PROGRAM) :],
            self.value.sat,
            self.lock_time,
            self.expires,
            len(self.payer_script),
        )
        data = head + self.payer_script + packed_pieces(self.sold) + self.digest
        line = b64encode(data + _check_sum(data)).rstrip(b"=") + b"\n"
        return line if len(line) <= MAX_LINE_BYTES else None

    @classmethod
    def from_line(cls, line: bytes) -> Opening:
        """Read ``to_line`` back."""
        data = checked_data(line)
        try:
            (
                _,
                txid,
                vout,
                offer_id,
                published,
                session,
                payer_key,
                program,
                value,
                lock_time,
                expires,
                length,
            ) = _HEAD.unpack_from(data)
            end = _HEAD.size + length
            opening = cls(
                OutPoint(Txid(txid), int.from_bytes(vout, "little")),
                offer_id.hex(),
                published,
                session.hex(),
                unpacked_pieces(data[end : -2 * _SUM]),
                payer_key,
                _PROGRAM + program,
                Amount(value),
                lock_time,
                expires,
                data[_HEAD.size : end],
                data[-2 * _SUM : -_SUM],
            )
        except (ParseError, struct.error, ValueError) as error:
            raise ParseError("openings-damaged", f"no opening: {error!s:.200}") from None
        if opening.to_line() != line:
            raise ParseError("openings-damaged", "another way to write an opening")
        return opening


def checked_data(line: bytes) -> bytes:
    """The bytes of a line whose check sum fits."""
    text = line[:-1]
    try:
        data = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    good = len(data) > _HEAD.size + 2 * _SUM and line[-1:] == b"\n" and data[0] == _VERSION
    if not good or data[-_SUM:] != _check_sum(data[:-_SUM]):
        raise ParseError("openings-damaged", "a line that is no opening")
    return data


def key_fields(data: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes, int]:
    """Of ``checked_data`` the fields by which an opening is found, as bytes: there may be very many.

    Returns:
        outpoint (wire order), the offer's id, the published one's first bytes, session, payer's key and funding script;
        and when the offer expires.
    """
    expires = int.from_bytes(data[150:154], "big")
    return data[1:37], data[37:53], data[53:57], data[57:73], data[73:106], _PROGRAM + data[106:138], expires


def _check_sum(data: bytes) -> bytes:
    return sha256(data).digest()[:_SUM]


# pieces -------------------------------------------------------------------------------------------

_SPANS, _BITS = b"\x00", b"\x01"


def packed_pieces(numbers: Sequence[int]) -> bytes:
    """Rising numbers in the shorter of two forms.

    A byte 0x00, and for each span how many numbers are left out before it and how many follow its first one, each in
    groups of seven bits, the lowest first, with the highest bit of a byte set where another follows. Or a byte 0x01,
    and a bit for each number from 1 on, the lowest bit of a byte first.
    """
    spans = b"".join(_varint(left_out) + _varint(more) for left_out, more in _spans(numbers))
    bits = bytearray(-(-numbers[-1] // 8))
    for number in numbers:
        bits[(number - 1) // 8] |= 1 << (number - 1) % 8
    return min(_SPANS + spans, _BITS + bytes(bits), key=len)


def _spans(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of each span how many numbers are left out before it, and how many follow its first."""
    end, first, last = 0, numbers[0], numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first - end - 1, last - first
            end, first = last, number
        last = number
    yield first - end - 1, last - first


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def unpacked_pieces(data: bytes) -> tuple[int, ...]:
    """Read ``packed_pieces`` back.

    Raises:
        ValueError: it is none of its forms.
    """
    kind, rest = data[:1], data[1:]
    numbers: list[int] = []
    if kind == _BITS:
        numbers = [8 * at + bit + 1 for at, byte in enumerate(rest) for bit in range(8) if byte >> bit & 1]
    elif kind == _SPANS:
        values = list(_varints(rest))
        if len(values) % 2:
            raise ValueError("half a span of pieces")
        for left_out, more in zip(values[::2], values[1::2], strict=True):
            first = (numbers[-1] if numbers else 0) + left_out + 1
            if first + more > _MAX_PIECE:
                raise ValueError("pieces beyond any file's")
            numbers.extend(range(first, first + more + 1))
    if not numbers:
        raise ValueError("no pieces")
    return tuple(numbers)


def _varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
        elif shift > 14:
            raise ValueError("a number of too many bytes")
    if shift:
        raise ValueError("a number that does not end")
