"""Plain Python, for interpreters that no libsecp256k1 has a wheel for. Not in constant time."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import ecdsa
from ecdsa.ecdsa import Signature

from mpchan.bitcoin.schnorr import tagged_hash


class Ecdsa:
    """Handles are the library's own keys; for Schnorr signatures the secret whose point has an even y, and its x."""

    package = "ecdsa"

    def __init__(self) -> None:
        self._curve: Any = ecdsa.SECP256k1
        self.exposed = 0

    def load_public(self, sec: bytes) -> Any:
        try:
            return ecdsa.VerifyingKey.from_string(sec, curve=self._curve)
        except ecdsa.MalformedPointError:
            return None

    def load_private(self, secret: bytes) -> Any:
        return ecdsa.SigningKey.from_string(secret, curve=self._curve)

    def public_sec(self, private: Any) -> bytes:
        sec: bytes = private.verifying_key.to_string("compressed")
        return sec

    def sign(self, private: Any, digest: bytes, extra_entropy: bytes | None) -> bytes:
        self.exposed += 1
        signature: bytes = private.sign_digest_deterministic(
            digest,
            hashfunc=sha256,  # of RFC 6979's HMAC; SHA-1 unless told
            sigencode=ecdsa.util.sigencode_der_canonize,  # "canonize": s becomes order - s where high
            extra_entropy=extra_entropy or b"",
        )
        return signature

    def verify(self, public: Any, signature: bytes, r: int, s: int, digest: bytes) -> bool:
        valid: bool = public.pubkey.verifies(int.from_bytes(digest, "big"), Signature(r, s))
        return valid

    def add(self, public: Any, tweak: bytes) -> bytes | None:
        return _compressed(public.pubkey.point + self._curve.generator * _number(tweak))

    def combine(self, points: Sequence[Any], factors: Sequence[bytes]) -> bytes | None:
        total: Any = ecdsa.ellipticcurve.INFINITY
        for point, factor in zip(points, factors, strict=True):
            total = point.pubkey.point * _number(factor) + total
        return _compressed(total)

    def load_x_only(self, x: bytes) -> Any:
        return self.load_public(b"\x02" + x)

    def load_key_pair(self, secret: bytes) -> Any:
        point = self._curve.generator * _number(secret)
        return self._with_even_y(_number(secret), point), _bytes(point.x())

    def sign_schnorr(self, key_pair: Any, digest: bytes, aux_rand: bytes) -> bytes:
        self.exposed += 1
        secret, x = key_pair
        masked = _bytes(secret ^ _number(tagged_hash("BIP0340/aux", aux_rand)))
        nonce = _number(tagged_hash("BIP0340/nonce", masked + x + digest)) % self._curve.order
        point = self._curve.generator * nonce
        r = _bytes(point.x())
        s = self._with_even_y(nonce, point) + self._challenge(r, x, digest) * secret
        return r + _bytes(s % self._curve.order)

    def verify_schnorr(self, x_only: Any, signature: bytes, message: bytes) -> bool:
        public = x_only.pubkey.point
        r, s = signature[:32], _number(signature[32:])
        if s >= self._curve.order:
            return False
        challenge = self._challenge(r, _bytes(public.x()), message)
        point = self._curve.generator.mul_add(s, public, self._curve.order - challenge)
        if point == ecdsa.ellipticcurve.INFINITY:
            return False
        return bool(point.y() % 2 == 0 and point.x() == _number(r))

    def _with_even_y(self, number: int, point: Any) -> int:
        """The number, or its negative modulo the order, that gives the point with the same x and an even y."""
        even: int = number if point.y() % 2 == 0 else self._curve.order - number
        return even

    def _challenge(self, r: bytes, x: bytes, message: bytes) -> int:
        digest: int = _number(tagged_hash("BIP0340/challenge", r + x + message)) % self._curve.order
        return digest


def _compressed(point: Any) -> bytes | None:
    if point == ecdsa.ellipticcurve.INFINITY:
        return None
    return bytes([2 + int(point.y()) % 2]) + _bytes(point.x())


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _bytes(number: Any) -> bytes:
    return int(number).to_bytes(32, "big")  # int(): gmpy2's numbers, where it is installed, have no to_bytes


SIGNER = Ecdsa
