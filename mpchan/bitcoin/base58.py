"""Base58check: the text form of old addresses and of BIP-0032 extended keys.

Errors here never repeat the text, because it may be a private key.
"""

from __future__ import annotations

from hashlib import sha256

from mpchan.errors import ParseError

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: digit for digit, character in enumerate(_ALPHABET)}
_CHECKSUM_BYTES = 4
_MAX_LENGTH = 128
"""Longer than any text in use (an extended key has 111); decoding takes quadratic time."""


def _checksum(payload: bytes) -> bytes:
    return sha256(sha256(payload).digest()).digest()[:_CHECKSUM_BYTES]


def base58check_encode(payload: bytes) -> str:
    """Text of ``payload`` followed by the first 4 bytes of its double SHA-256."""
    data = payload + _checksum(payload)
    number = int.from_bytes(data, "big")
    characters: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        characters.append(_ALPHABET[digit])
    leading_zeros = len(data) - len(data.lstrip(b"\0"))
    return _ALPHABET[0] * leading_zeros + "".join(reversed(characters))


def base58check_decode(text: str) -> bytes:
    """The payload of a base58check text, without its checksum.

    Raises:
        ParseError: ``malformed-base58`` for a wrong character, checksum or length (at most 128).
    """
    if not isinstance(text, str) or not text:
        raise ParseError("malformed-base58", "not a base58check text")
    if len(text) > _MAX_LENGTH:
        raise ParseError("malformed-base58", f"{len(text)} characters of base58, over {_MAX_LENGTH}")
    number = 0
    for position, character in enumerate(text):
        digit = _DIGITS.get(character)
        if digit is None:
            raise ParseError("malformed-base58", f"character {position + 1} is not base58")
        number = number * 58 + digit
    leading_zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    data = bytes(leading_zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if _checksum(payload) != checksum:
        raise ParseError("malformed-base58", "wrong base58check checksum")
    return payload
