"""Plain Python, for interpreters that no libsecp256k1 has a wheel for. Not in constant time."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import ecdsa
from ecdsa.ecdsa import Signature


class Ecdsa:
    """Handles are the library's own keys."""

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
        total = public.pubkey.point + self._curve.generator * int.from_bytes(tweak, "big")
        if total == ecdsa.ellipticcurve.INFINITY:
            return None
        x, y = int(total.x()), int(total.y())
        return bytes([2 + y % 2]) + x.to_bytes(32, "big")


SIGNER = Ecdsa
