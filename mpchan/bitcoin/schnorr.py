"""Verifying Schnorr signatures (BIP-0340), in plain integers.

mpchan makes none: it only reads those that another wallet put on a funding's taproot inputs, a few in a channel's
life. Nothing here is secret, so neither speed nor timing asks for a library.
"""

from __future__ import annotations

from hashlib import sha256

from mpchan.bitcoin.signature import ORDER

FIELD = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_FFFFFC2F
"""The prime p of secp256k1: coordinates lie in 0 .. p - 1."""

_GENERATOR = (
    0x79BE667E_F9DCBBAC_55A06295_CE870B07_029BFCDB_2DCE28D9_59F2815B_16F81798,
    0x483ADA77_26A3C465_5DA4FBFC_0E1108A8_FD17B448_A6855419_9C47D08F_FB10D4B8,
)

Point = tuple[int, int] | None
"""Affine coordinates; None is the point at infinity."""


def tagged_hash(tag: str, data: bytes) -> bytes:
    """SHA-256 of the tag's hash twice and ``data`` (BIP-0340, "Design")."""
    prefix = sha256(tag.encode()).digest()
    return sha256(prefix + prefix + data).digest()


def verify_schnorr(x_only_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (64 bytes) is that of a 32-byte x-only key over ``message`` (BIP-0340, "Verification").

    False, never an error, for anything else.
    """
    if len(x_only_key) != 32 or len(signature) != 64:
        return False
    point = _lift_x(int.from_bytes(x_only_key, "big"))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if point is None or r >= FIELD or s >= ORDER:
        return False
    digest = tagged_hash("BIP0340/challenge", signature[:32] + x_only_key + message)
    challenge = int.from_bytes(digest, "big") % ORDER
    result = _add(_multiply(_GENERATOR, s), _multiply(point, ORDER - challenge))
    return result is not None and result[1] % 2 == 0 and result[0] == r


def _lift_x(x: int) -> Point:
    """The point with this x and an even y; None where there is none."""
    if x >= FIELD:
        return None
    square = (pow(x, 3, FIELD) + 7) % FIELD
    y = pow(square, (FIELD + 1) // 4, FIELD)
    if y * y % FIELD != square:
        return None
    return x, y if y % 2 == 0 else FIELD - y


def _add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and a[1] != b[1]:
        return None
    if a == b:
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, FIELD) % FIELD
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, FIELD) % FIELD
    x = (slope * slope - a[0] - b[0]) % FIELD
    return x, (slope * (a[0] - x) - a[1]) % FIELD


def _multiply(point: Point, factor: int) -> Point:
    result: Point = None
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    return result
