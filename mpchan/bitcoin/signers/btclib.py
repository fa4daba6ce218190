"""libsecp256k1 through btclib-secp256k1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from btclib_secp256k1 import dsa, keys, lib, ssa, xonly
from btclib_secp256k1.context import ctx


class Btclib:
    """Private keys are their bytes, public keys the library's parsed points."""

    package = "btclib-secp256k1"
    exposed = 0

    def load_public(self, sec: bytes) -> Any:
        try:
            return keys.parse(sec)
        except ValueError:
            return None

    def load_private(self, secret: bytes) -> Any:
        return secret

    def public_sec(self, private: Any) -> bytes:
        sec: bytes = keys.pubkey_from_prvkey(private)
        return sec

    def sign(self, private: Any, digest: bytes, extra_entropy: bytes | None) -> bytes:
        # its own check multiplies a point more than ours, which knows the public key; and an attempt whose R is high
        # is thrown away
        signature: bytes = dsa.sign(digest, private, extra_entropy, verify=False)
        return signature

    def verify(self, public: Any, signature: bytes, r: int, s: int, digest: bytes) -> bool:
        # dsa.verify would parse the public key each time, which costs a square root
        return bool(lib.secp256k1_ecdsa_verify(ctx, dsa.parse_der(signature), digest, public))

    def add(self, public: Any, tweak: bytes) -> bytes | None:
        try:
            sec: bytes = keys.pubkey_tweak_add(keys.serialize(public), tweak)
        except ValueError:
            return None
        return sec

    def combine(self, points: Sequence[Any], factors: Sequence[bytes]) -> bytes | None:
        return keys.pubkey_tweak_mul_sum([keys.serialize(point) for point in points], factors)

    def load_x_only(self, x: bytes) -> Any:
        try:
            return xonly.parse(x)
        except ValueError:
            return None

    def load_key_pair(self, secret: bytes) -> Any:
        return ssa.Signer(secret)

    def sign_schnorr(self, key_pair: Any, digest: bytes, aux_rand: bytes) -> bytes:
        signature: bytes = key_pair.sign(digest, aux_rand, verify=False)
        return signature

    def verify_schnorr(self, x_only: Any, signature: bytes, message: bytes) -> bool:
        return bool(lib.secp256k1_schnorrsig_verify(ctx, signature, message, len(message), x_only))


SIGNER = Btclib
