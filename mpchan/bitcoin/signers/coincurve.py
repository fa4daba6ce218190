"""libsecp256k1 through coincurve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import coincurve
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT


class Coincurve:
    """Handles are coincurve's own keys; for Schnorr signatures libsecp256k1's key pair."""

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

    def combine(self, points: Sequence[Any], factors: Sequence[bytes]) -> bytes | None:
        first, *rest = [point.multiply(factor) for point, factor in zip(points, factors, strict=True)]
        try:
            sec: bytes = first.combine(rest).format()
        except ValueError:
            return None
        return sec

    def load_x_only(self, x: bytes) -> Any:
        try:
            return coincurve.PublicKeyXOnly(x)
        except ValueError:
            return None

    def load_key_pair(self, secret: bytes) -> Any:
        key_pair = ffi.new("secp256k1_keypair *")
        lib.secp256k1_keypair_create(GLOBAL_CONTEXT.ctx, key_pair, secret)
        return key_pair

    def sign_schnorr(self, key_pair: Any, digest: bytes, aux_rand: bytes) -> bytes:
        # PrivateKey.sign_schnorr would make the key pair each time, and verify the result
        signature = ffi.new("unsigned char[64]")
        lib.secp256k1_schnorrsig_sign32(GLOBAL_CONTEXT.ctx, signature, digest, key_pair, aux_rand)
        return bytes(ffi.buffer(signature))

    def verify_schnorr(self, x_only: Any, signature: bytes, message: bytes) -> bool:
        valid: bool = x_only.verify(signature, message)
        return valid


SIGNER = Coincurve
