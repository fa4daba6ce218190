"""Schnorr signatures over secp256k1 (BIP-0340): the hash with a tag, and verifying under an x-only key.

Making them is up to ``PrivateKey.sign_schnorr`` of ``signature``.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Any

from mpchan.bitcoin import signers

X_ONLY_SIZE = 32
"""Of a public key without the sign of its y, which is always taken as even."""

SIGNATURE_SIZE = 64
"""The x of the nonce's point and the number s, each of 32 bytes; without a sighash byte."""


def tagged_hash(tag: str, data: bytes) -> bytes:
    """SHA-256 of ``tag_prefix`` and ``data`` (BIP-0340, "Design")."""
    return sha256(tag_prefix(tag) + data).digest()


def tag_prefix(tag: str) -> bytes:
    """The tag's SHA-256 twice, 64 bytes: what is hashed before the data."""
    return sha256(tag.encode()).digest() * 2


def verify_schnorr(x_only_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (64 bytes) is that of a 32-byte x-only key over ``message`` (BIP-0340, "Verification").

    False, never an error, for bytes of any other length or content.
    """
    if len(x_only_key) != X_ONLY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    point = _x_only_point(x_only_key)
    return point is not None and signers.signer().verify_schnorr(point, signature, message)


@lru_cache(maxsize=256)
def _x_only_point(key: bytes) -> Any:
    """The parsed key; a channel meets the same few keys again and again."""
    return signers.signer().load_x_only(key)
