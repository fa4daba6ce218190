"""Making Schnorr signatures (BIP-0340), which mpchan only reads, with the libsecp256k1 that is installed."""

from __future__ import annotations


def sign_schnorr(secret: bytes, message: bytes) -> bytes:
    """64 bytes over a message of 32."""
    made: bytes
    try:
        from btclib_secp256k1 import ssa
    except ImportError:
        import coincurve

        made = coincurve.PrivateKey(secret).sign_schnorr(message)
    else:
        made = ssa.sign(message, secret)
    return made
