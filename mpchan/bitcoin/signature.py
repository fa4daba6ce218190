"""Keys over secp256k1, and their signatures: ECDSA for segwit version 0, Schnorr (BIP-0340) for taproot.

The library that is installed (``signers``) computes; which one it is cannot be seen from the bytes. ECDSA has RFC 6979
nonces with SHA-256, low S (BIP-0146), low R ground as Bitcoin Core's ``CKey::Sign`` does; Schnorr signatures have
the nonces of BIP-0340 with zeros for its auxiliary randomness.

ECDSA signatures here are strict DER (BIP-0066), Schnorr signatures 64 bytes; both without the sighash byte that may
follow them in a transaction.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn

from mpchan.bitcoin import signers
from mpchan.bitcoin.schnorr import verify_schnorr
from mpchan.errors import ParseError, StorageError
from mpchan.values import frozen

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Order of the group: private keys, r and s lie in 1 .. ORDER - 1."""

_NO_AUX_RAND = bytes(32)  # it would harden against side channels, but no two signatures would be alike
_MAX_DER_BYTES = 72  # two integers of 33 bytes and their headers


# --- signatures -----------------------------------------------------------------------------------


def parse_der(signature: bytes) -> tuple[int, int]:
    """The numbers r and s of a strict DER signature without sighash byte (BIP-0066).

    Only the form is checked; either number may still be 0, or too large for the curve.

    Raises:
        ParseError: ``malformed-signature``.
    """
    if (
        type(signature) is not bytes
        or not 8 <= len(signature) <= _MAX_DER_BYTES
        or signature[0] != 0x30
        or signature[1] != len(signature) - 2
    ):
        raise _malformed_signature(signature)
    r, end = _parse_der_integer(signature, 2)
    s, end = _parse_der_integer(signature, end)
    if end != len(signature):
        raise _malformed_signature(signature)
    return r, s


def _parse_der_integer(signature: bytes, start: int) -> tuple[int, int]:
    """The integer that begins at ``start``, and the position behind it."""
    header = signature[start : start + 2]
    if len(header) < 2 or header[0] != 0x02:
        raise _malformed_signature(signature)
    end = start + 2 + header[1]
    body = signature[start + 2 : end]
    negative_or_padded = body[:1] >= b"\x80" or (len(body) > 1 and body[0] == 0 and body[1] < 0x80)
    if not body or negative_or_padded:
        raise _malformed_signature(signature)
    return int.from_bytes(body, "big"), end


def _malformed_signature(signature: object) -> ParseError:
    shown = signature.hex() if isinstance(signature, bytes) else repr(signature)
    return ParseError("malformed-signature", f"not a strict DER signature: {shown:.80}")


def is_low_s(s: int) -> bool:
    """Whether s is in the lower half of the order, as relay demands (BIP-0146)."""
    return s <= ORDER // 2


# --- public keys ----------------------------------------------------------------------------------


@frozen
class PublicKey:
    """A point on the curve, in compressed form (SEC 1, 2.3.3).

    Attributes:
        sec: 33 bytes, 02 or 03 and the x coordinate, most significant byte first.

    Raises:
        ParseError: ``malformed-public-key`` for another length or form (uncompressed and hybrid keys
            included), or when no point has this x.
    """

    sec: bytes

    def __post_init__(self) -> None:
        if type(self.sec) is not bytes or len(self.sec) != 33 or self.sec[0] not in (2, 3):
            shown = self.sec.hex() if isinstance(self.sec, bytes) else repr(self.sec)
            raise ParseError("malformed-public-key", f"not a compressed public key: {shown:.80}")
        if _point(self.sec) is None:
            raise ParseError("malformed-public-key", f"no point on the curve: {self.sec.hex()}")

    @classmethod
    def from_hex(cls, text: str) -> PublicKey:
        """Read 66 hex digits; raises as the class does."""
        try:
            # fromhex alone would skip white space
            data = bytes.fromhex(text) if isinstance(text, str) and len(text) == 66 else None
        except ValueError:
            data = None
        if data is None or len(data) != 33:
            raise ParseError("malformed-public-key", f"not a compressed public key: {text!r:.80}")
        return cls(data)

    @property
    def x_only(self) -> bytes:
        """The 32 bytes under which Schnorr signatures verify (BIP-0340): x alone, y taken as even."""
        return self.sec[1:]

    def verify(self, signature: bytes, digest: bytes) -> bool:
        """Whether ``signature`` (no sighash byte) is this key's over the 32-byte ``digest``.

        False, never an error, for anything but strict DER with r and s in range and a low S.

        Raises:
            ParseError: ``malformed-digest`` when the digest has another length.
        """
        _check_digest(digest)
        try:
            r, s = parse_der(signature)
        except ParseError:
            return False
        if not (0 < r < ORDER and s > 0 and is_low_s(s)):
            return False
        return signers.signer().verify(_point(self.sec), signature, r, s, digest)

    def require_signed(self, signature: bytes, digest: bytes) -> None:
        """Refuse a signature of our own that is not valid.

        Args:
            signature: strict DER, without a sighash byte.

        Raises:
            StorageError: ``own-signature``.
        """
        if not self.verify(signature, digest):
            raise broken_signature()

    def require_signed_schnorr(self, signature: bytes, digest: bytes) -> None:
        """As ``require_signed``, for a Schnorr signature of our own.

        Raises:
            StorageError: ``own-signature``.
        """
        if not verify_schnorr(self.x_only, signature, digest):
            raise broken_signature()

    def add_tweak(self, tweak: bytes) -> PublicKey:
        """The point plus ``tweak`` times the generator (BIP-0032, CKDpub).

        Raises:
            ParseError: ``malformed-tweak`` when the tweak is not below the order or the sum is no
                point; nobody will ever see it for a tweak that is a hash.
        """
        _check_tweak(tweak)
        total = signers.signer().add(_point(self.sec), tweak)
        if total is None:
            raise ParseError("malformed-tweak", "the tweaked key is the point at infinity")
        return PublicKey(total)

    def __str__(self) -> str:
        return self.sec.hex()


# --- private keys ---------------------------------------------------------------------------------


class PrivateKey:
    """A secret number from 1 to the order - 1, of 32 bytes; immutable, never shown, never pickled.

    Raises:
        ParseError: ``malformed-private-key``, without the bytes.
    """

    __slots__ = ("_handle", "_key_pair", "_public_key", "_secret")
    _secret: bytes
    _handle: Any
    _key_pair: Any
    _public_key: PublicKey | None

    def __init__(self, secret: bytes) -> None:
        if type(secret) is not bytes or len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < ORDER:
            raise ParseError("malformed-private-key", "a private key is 32 bytes, 1 to the order - 1")
        object.__setattr__(self, "_secret", secret)
        object.__setattr__(self, "_handle", None)
        object.__setattr__(self, "_key_pair", None)
        object.__setattr__(self, "_public_key", None)

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies; costs one point multiplication, once."""
        if self._public_key is None:
            object.__setattr__(self, "_public_key", PublicKey(signers.signer().public_sec(self._loaded())))
        return self._public_key  # type: ignore[return-value]

    def to_bytes(self) -> bytes:
        """The secret, 32 bytes, for the wallet's own storage."""
        return self._secret

    def sign(self, digest: bytes) -> bytes:
        """Strict DER signature (no sighash byte) over a 32-byte digest: 71 bytes at most.

        The nonce is RFC 6979's. When r comes out with its top bit set, a 32-byte little-endian
        counter, from 1, is added to the nonce's input until it does not: Bitcoin Core's bytes.
        """
        _check_digest(digest)
        signer, handle = signers.signer(), self._loaded()
        signature = signer.sign(handle, digest, None)
        counter = 0
        while signature[3] > 32:  # the length of r: 33 bytes mean a high one
            counter += 1
            signature = signer.sign(handle, digest, counter.to_bytes(32, "little"))
        return signature

    def sign_checked(self, digest: bytes) -> bytes:
        """As ``sign``, and verified before anybody gets it: a processor or a memory can fail.

        Raises:
            StorageError: ``own-signature``.
        """
        signature = self.sign(digest)
        self.public_key.require_signed(signature, digest)
        return signature

    def sign_schnorr(self, digest: bytes) -> bytes:
        """Schnorr signature (64 bytes, no sighash byte) over a 32-byte digest, valid under ``public_key.x_only``.

        The same digest always has the same signature.

        Raises:
            ParseError: ``malformed-digest``.
        """
        _check_digest(digest)
        if self._key_pair is None:
            object.__setattr__(self, "_key_pair", signers.signer().load_key_pair(self._secret))
        return signers.signer().sign_schnorr(self._key_pair, digest, _NO_AUX_RAND)

    def sign_schnorr_checked(self, digest: bytes) -> bytes:
        """As ``sign_schnorr``, and verified before anybody gets it, as BIP-0340 recommends.

        Raises:
            StorageError: ``own-signature``.
        """
        signature = self.sign_schnorr(digest)
        self.public_key.require_signed_schnorr(signature, digest)
        return signature

    def add_tweak(self, tweak: bytes) -> PrivateKey:
        """The key plus ``tweak``, modulo the order (BIP-0032, CKDpriv); no point multiplication.

        Raises:
            ParseError: ``malformed-tweak`` when the tweak is not below the order or the sum is 0;
                nobody will ever see it for a tweak that is a hash.
        """
        total = (_check_tweak(tweak) + int.from_bytes(self._secret, "big")) % ORDER
        if not total:
            raise ParseError("malformed-tweak", "the tweaked key is 0")
        return PrivateKey(total.to_bytes(32, "big"))

    def _loaded(self) -> Any:
        if self._handle is None:
            object.__setattr__(self, "_handle", signers.signer().load_private(self._secret))
        return self._handle

    # without a __hash__ beside it: a hash of the secret would leak some of it
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        from hmac import compare_digest

        return compare_digest(self._secret, other._secret)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a private key is immutable: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a private key is immutable: {name}")

    def __repr__(self) -> str:
        return "PrivateKey(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled or copied")


def broken_signature() -> StorageError:
    """The ``own-signature`` error of a signature of our own that does not verify."""
    return StorageError(
        "own-signature",
        f"the signature that {signers.signer_name()} has just made is not valid: nothing was kept of it",
        hint="run the command again; if it fails again, this machine cannot be trusted with keys",
    )


def _check_digest(digest: bytes) -> None:
    if type(digest) is not bytes or len(digest) != 32:
        raise ParseError("malformed-digest", "a digest to sign or verify has 32 bytes")


def _check_tweak(tweak: bytes) -> int:
    number = int.from_bytes(tweak, "big")
    if len(tweak) != 32 or number >= ORDER:
        raise ParseError("malformed-tweak", "a tweak is 32 bytes, below the order")
    return number


@lru_cache(maxsize=256)
def _point(sec: bytes) -> Any:
    """The parsed public key; a channel meets the same few keys again and again."""
    return signers.signer().load_public(sec)
