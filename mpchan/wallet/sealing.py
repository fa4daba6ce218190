"""Bytes sealed with a passphrase: scrypt (RFC 7914) makes the key, ChaCha20-Poly1305 (RFC 8439) encrypts.

What is sealed is a table that TOML and JSON can hold:

    kdf = "scrypt"
    n, r, p                         scrypt's cost parameters: they grow with the machines, so each table has its own
    salt = "…"                      16 bytes in hex, new for each sealing
    aead = "chacha20-poly1305"
    nonce = "…"                     12 bytes in hex, new for each sealing
    ciphertext = "…"                hex; its last 16 bytes are the tag

    key = scrypt(P, salt, n, r, p), 32 bytes, P being the passphrase in NFKD and UTF-8
    ciphertext = ChaCha20-Poly1305(key, nonce, data, associated data)

The associated data are the caller's: what stands in clear beside the table and must not be changed either. A key serves
one sealing only, because each has a salt of its own.

A passphrase is normalised as BIP-0039 does it, because one and the same é leaves one keyboard as one code point and
another as two.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from typing import Any

from mpchan.errors import ParseError, StorageError
from mpchan.units import checked_int
from mpchan.values import frozen

SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
MAX_PASSPHRASE_BYTES = 1024

_KDF, _AEAD = "scrypt", "chacha20-poly1305"
_NAMES = ("kdf", "n", "r", "p", "salt", "aead", "nonce", "ciphertext")
_KEY_BYTES = 32
_MAX_BLOCKS = 1 << 21
"""Of 128 bytes each: a damaged or hostile table can ask for 256 MiB and no more."""

_MAX_MIXES = 1 << 24
"""And for some twenty times the work of the usual cost."""


@frozen
class Cost:
    """What one guess costs: ``128 * r * (n + p)`` bytes of memory, and time in proportion to ``n * r * p``.

    Attributes:
        n: a power of two from 2 on.
        r: block size, from 1 on.
        p: so many passes, from 1 on.

    Raises:
        ParseError: ``malformed-seal``, also for more than a wallet may ask of a machine.
    """

    n: int
    r: int
    p: int

    def __post_init__(self) -> None:
        try:
            checked_int(self.n, 2, _MAX_BLOCKS, "n")
            checked_int(self.r, 1, _MAX_BLOCKS, "r")
            checked_int(self.p, 1, _MAX_MIXES, "p")
        except ParseError as error:
            raise _malformed(f"scrypt's {error.message}") from None
        if self.n & (self.n - 1):
            raise _malformed(f"scrypt's n is {self.n}, no power of two")
        if self.r * (self.n + self.p) > _MAX_BLOCKS or self.n * self.r * self.p > _MAX_MIXES:
            raise _malformed(
                f"scrypt's cost n={self.n} r={self.r} p={self.p} is beyond what a wallet may ask for"
            )


USUAL_COST = Cost(1 << 15, 8, 3)
"""32 MiB and about a quarter of a second, one of the equal minimums of OWASP's "Password Storage Cheat Sheet". The one
with little memory and more passes lets many commands run at once, and small machines too."""


def seal(data: bytes, passphrase: str, bound: bytes = b"", cost: Cost = USUAL_COST) -> dict[str, Any]:
    """Encrypt ``data``; only the passphrase, with the same ``bound``, opens the table that this returns."""
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    key = scrypt(passphrase_bytes(passphrase), salt, cost)
    return {
        "kdf": _KDF,
        "n": cost.n,
        "r": cost.r,
        "p": cost.p,
        "salt": salt.hex(),
        "aead": _AEAD,
        "nonce": nonce.hex(),
        "ciphertext": encrypt(key, nonce, data, bound).hex(),
    }


def open_sealed(table: Mapping[str, Any], passphrase: str, bound: bytes = b"") -> bytes:
    """The data of a sealed table.

    Raises:
        ParseError: ``malformed-seal``.
        StorageError: ``passphrase-wrong``, which no one can tell from a table or ``bound`` that somebody has changed;
            ``passphrase-unusable``; ``no-memory``.
    """
    cost, salt, nonce, ciphertext = _parsed(table)
    key = scrypt(passphrase_bytes(passphrase), salt, cost)
    return decrypt(key, nonce, ciphertext, bound)


def check_sealed(table: Mapping[str, Any]) -> None:
    """Whether this is a sealed table, as far as can be seen without its passphrase."""
    _parsed(table)


def _parsed(table: Mapping[str, Any]) -> tuple[Cost, bytes, bytes, bytes]:
    if set(table) != set(_NAMES):
        raise _malformed(f"keys differ from {', '.join(_NAMES)}")
    for name, known in (("kdf", _KDF), ("aead", _AEAD)):
        if table[name] != known:
            raise _malformed(f"{name} is not {known}")
    cost = Cost(table["n"], table["r"], table["p"])
    salt, nonce = _bytes(table, "salt", SALT_BYTES), _bytes(table, "nonce", NONCE_BYTES)
    return cost, salt, nonce, _bytes(table, "ciphertext", None)


def _bytes(table: Mapping[str, Any], name: str, length: int | None) -> bytes:
    try:
        value = bytes.fromhex(table[name])
    except (TypeError, ValueError):
        raise _malformed(f"{name} is not hex") from None
    if len(value) < TAG_BYTES if length is None else len(value) != length:
        raise _malformed(f"{name} has {len(value)} bytes")
    return value


def _malformed(reason: str) -> ParseError:
    return ParseError("malformed-seal", f"not sealed with a passphrase: {reason}")


def passphrase_bytes(passphrase: str) -> bytes:
    """What scrypt takes: NFKD, UTF-8.

    Raises:
        StorageError: ``passphrase-unusable``: empty, too long, or no text. It is never repeated.
    """
    try:
        data = unicodedata.normalize("NFKD", passphrase).encode()
    except UnicodeEncodeError:
        raise StorageError("passphrase-unusable", "the passphrase is not UTF-8 text") from None
    if not data:
        raise StorageError("passphrase-unusable", "the passphrase is empty")
    if len(data) > MAX_PASSPHRASE_BYTES:
        raise StorageError(
            "passphrase-unusable", f"the passphrase is longer than {MAX_PASSPHRASE_BYTES} bytes"
        )
    return data


# the library, with its arguments in order ---------------------------------------------------------


def scrypt(secret: bytes, salt: bytes, cost: Cost, length: int = _KEY_BYTES) -> bytes:
    """scrypt (RFC 7914): ``length`` bytes."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    try:
        return Scrypt(salt=salt, length=length, n=cost.n, r=cost.r, p=cost.p).derive(secret)
    except MemoryError:
        raise StorageError(
            "no-memory",
            f"the passphrase needs {128 * cost.r * (cost.n + cost.p) >> 20} MiB of memory to be tried",
        ) from None


def encrypt(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439, section 2.8): the ciphertext with its tag of 16 bytes behind."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(nonce, data, associated)


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """The reverse of ``encrypt``.

    Raises:
        StorageError: ``passphrase-wrong``, where the tag does not fit.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, associated)
    except InvalidTag:
        raise StorageError("passphrase-wrong", "the passphrase is wrong") from None
