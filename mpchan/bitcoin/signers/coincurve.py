"""libsecp256k1 through coincurve."""

from __future__ import annotations

from typing import Any

import coincurve
from coincurve._libsecp256k1 import ffi


class Coincurve:
    """Handles are coincurve's own keys."""

    package = "coincurve"
    exposed = 0

    def load_public(self, sec: bytes) -> Any:
        try:
            return coincurve.PublicKey(sec)
        except ValueError:
            return None

    def load_private(self, secret: bytes) -> Any:
        return coincurve.PrivateKey(secret)

    def public_sec(self, private: Any) -> bytes:
        sec: bytes = private.public_key.format()
        return sec

    def sign(self, private: Any, digest: bytes, extra_entropy: bytes | None) -> bytes:
        # NULL as nonce function: the library's own RFC 6979
        extra = ffi.NULL if extra_entropy is None else ffi.new("unsigned char[32]", extra_entropy)
        signature: bytes = private.sign(digest, hasher=None, custom_nonce=(ffi.NULL, extra))
        return signature

    def verify(self, public: Any, signature: bytes, r: int, s: int, digest: bytes) -> bool:
        valid: bool = public.verify(signature, digest, hasher=None)
        return valid

    def add(self, public: Any, tweak: bytes) -> bytes | None:
        try:
            sec: bytes = public.add(tweak).format()
        except ValueError:
            return None
        return sec


SIGNER = Coincurve
