"""The libraries that sign and verify, one module for each, and the choice between those that are installed.

btclib     libsecp256k1 through btclib-secp256k1: CPython 3.11 and later
coincurve  libsecp256k1 through coincurve: CPython 3.10 to 3.13
ecdsa      plain Python, on every interpreter

All make the same bytes: ECDSA with RFC 6979 nonces of SHA-256 and low S (BIP-0146), Schnorr signatures with the nonces
of BIP-0340. The first that is installed is used, the fastest before the slowest; ``MPCHAN_SIGNER`` set to one of these
names forces that one. None is imported before its first use.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

from mpchan.errors import UsageError

NAMES = ("btclib", "coincurve", "ecdsa")
"""From the fastest to the one that is always there."""


class Signer(Protocol):
    """What a library has to do; handles are its own parsed keys, opaque to the rest.

    Whatever is passed in is in its range already: secrets and tweaks below the order, digests of 32 bytes.
    """

    package: str
    """The distribution's name in the package index."""
    exposed: int
    """How many signatures it has made whose timing tells of the key."""

    def load_public(self, sec: bytes) -> Any:
        """The handle of a compressed key, or None where no such point exists."""

    def load_private(self, secret: bytes) -> Any:
        """The handle of a private key."""

    def public_sec(self, private: Any) -> bytes:
        """The compressed public key."""

    def sign(self, private: Any, digest: bytes, extra_entropy: bytes | None) -> bytes:
        """DER with low S; RFC 6979 with ``extra_entropy`` as its section 3.6 says. The result is not verified."""

    def verify(self, public: Any, signature: bytes, r: int, s: int, digest: bytes) -> bool:
        """Whether a signature that is strict DER with r and s in range is right."""

    def add(self, public: Any, tweak: bytes) -> bytes | None:
        """The compressed sum of the point and tweak times the generator; None at infinity."""

    def combine(self, points: Sequence[Any], factors: Sequence[bytes]) -> bytes | None:
        """The compressed sum of the points (``load_public``), each times its factor, never 0; None at infinity."""

    def load_x_only(self, x: bytes) -> Any:
        """The handle of the point with this x and an even y (BIP-0340, ``lift_x``), or None where there is none."""

    def load_key_pair(self, secret: bytes) -> Any:
        """The handle of a private key that makes Schnorr signatures."""

    def sign_schnorr(self, key_pair: Any, digest: bytes, aux_rand: bytes) -> bytes:
        """64 bytes (BIP-0340, "Default Signing"), without its last step: the result is not verified."""

    def verify_schnorr(self, x_only: Any, signature: bytes, message: bytes) -> bool:
        """Whether 64 bytes are the key's signature over a message of any length (BIP-0340, "Verification")."""


def load(name: str) -> Signer:
    """The signer of one of ``NAMES``.

    Raises:
        ImportError: its library is not installed.
    """
    made: Signer = import_module(f"mpchan.bitcoin.signers.{name}").SIGNER()
    return made


def installed() -> list[str]:
    """Which of ``NAMES`` can be loaded, the fastest first."""
    found = []
    for name in NAMES:
        try:
            load(name)
        except ImportError:
            continue
        found.append(name)
    return found


@lru_cache(maxsize=1)
def signer() -> Signer:
    """The library of this process, chosen once.

    Raises:
        UsageError: ``unknown-signer`` or ``missing-signer`` for what ``MPCHAN_SIGNER`` asks for.
    """
    wanted = os.environ.get("MPCHAN_SIGNER", "")
    if wanted and wanted not in NAMES:
        raise UsageError(
            "unknown-signer",
            f"unknown signer in MPCHAN_SIGNER: {wanted!r:.80}",
            hint=f"set it to {', '.join(NAMES[:-1])} or {NAMES[-1]}, or leave it unset",
        )
    if wanted:
        try:
            return load(wanted)
        except ImportError:
            raise UsageError(
                "missing-signer",
                f"MPCHAN_SIGNER asks for {wanted}, which is not installed",
                hint=f"leave it unset, or set it to what is installed: {', '.join(installed())}",
            ) from None
    for name in NAMES[:-1]:
        try:
            return load(name)
        except ImportError:
            continue
    return load(NAMES[-1])


def signer_name() -> str:
    """The package in use and its version, such as ``btclib-secp256k1 0.8.0.13``."""
    from importlib.metadata import version

    package = signer().package
    return f"{package} {version(package)}"


def exposed_signatures() -> int:
    """How many signatures this process has made whose timing tells of the key to who can measure it."""
    # where nothing was signed, no signer need be loaded to say so
    return signer().exposed if signer.cache_info().currsize else 0
