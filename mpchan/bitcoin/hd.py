"""Hierarchical deterministic keys (BIP-0032)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from mpchan.bitcoin.base58 import base58check_decode, base58check_encode
from mpchan.bitcoin.network import NETWORKS, Network
from mpchan.bitcoin.script import hash160
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.errors import ParseError
from mpchan.units import checked_int
from mpchan.values import field, frozen

HARDENED = 0x8000_0000
"""Child numbers from here on are hardened: they derive from the private key alone."""

_MAX_CHILD = 0xFFFF_FFFF
_MAX_DEPTH = 0xFF
_NO_PARENT = bytes(4)


def parse_path(path: str | Sequence[int]) -> tuple[int, ...]:
    """Read a key path such as ``m/84'/1'/0'/0/5``; ``h`` or ``H`` mark hardened steps as well as ``'``.

    A sequence of child numbers (0 to 2**32 - 1, hardened from 2**31) is checked and returned.

    Raises:
        ParseError: ``malformed-path``, or ``malformed-number`` for a number in a sequence.
    """
    if not isinstance(path, str):
        return tuple(checked_int(number, 0, _MAX_CHILD, "child number") for number in path)
    numbers = []
    steps = path.split("/")
    for step in steps[1:] if steps[0] == "m" else steps:
        match = re.fullmatch(r"(0|[1-9][0-9]{0,9})(['hH]?)", step)
        if match is None or int(match[1]) >= HARDENED:
            raise ParseError("malformed-path", f"not a key path: {path!r:.80}")
        numbers.append(int(match[1]) + (HARDENED if match[2] else 0))
    return tuple(numbers)


@frozen
class ExtendedPublicKey:
    """A public key that has children: watches a branch without being able to spend.

    Attributes:
        chain_code: 32 bytes.
        depth: 0 for a master key.
        child_number: index under the parent, hardened from 2**31; 0 for a master key.
        parent_fingerprint: 4 bytes; zeros for a master key.
    """

    public_key: PublicKey
    chain_code: bytes
    depth: int
    child_number: int
    parent_fingerprint: bytes

    @property
    def fingerprint(self) -> bytes:
        """First 4 bytes of the HASH160 of the public key."""
        return hash160(self.public_key.sec)[:4]

    def child(self, index: int) -> ExtendedPublicKey:
        """The child number ``index``, 0 to 2**31 - 1 (BIP-0032, CKDpub).

        Raises:
            ParseError: ``malformed-path`` for a hardened child or one deeper than 255.
        """
        checked_int(index, 0, _MAX_CHILD, "child number")
        if index >= HARDENED:
            raise ParseError("malformed-path", f"child {index} is hardened and needs the private key")
        tweak, chain_code = _hash(self.chain_code, self.public_key.sec + index.to_bytes(4, "big"))
        return ExtendedPublicKey(
            public_key=self.public_key.add_tweak(tweak),
            chain_code=chain_code,
            depth=_next_depth(self.depth),
            child_number=index,
            parent_fingerprint=self.fingerprint,
        )

    def derive(self, path: str | Sequence[int]) -> ExtendedPublicKey:
        """The descendant at ``path``, relative to this key; errors as ``child`` and ``parse_path``."""
        key = self
        for index in parse_path(path):
            key = key.child(index)
        return key

    def to_base58(self, network: Network) -> str:
        """The BIP-0032 text: xpub on mainnet, tpub elsewhere."""
        return base58check_encode(
            network.xpub_version
            + _head(self.depth, self.parent_fingerprint, self.child_number)
            + self.chain_code
            + self.public_key.sec
        )


@frozen
class ExtendedKey:
    """A private key that has children. Its secrets are not in its repr, and it cannot be pickled.

    Attributes:
        chain_code: 32 bytes.
        depth: 0 for a master key.
        child_number: index under the parent, hardened from 2**31; 0 for a master key.
    """

    private_key: PrivateKey = field(repr=False)
    chain_code: bytes = field(repr=False)
    depth: int
    child_number: int
    # The parent's key stands for its fingerprint, which costs a point multiplication that a
    # wallet never needs: it derives down hardened steps by hashing alone.
    _parent: PrivateKey | bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> ExtendedKey:
        """The master key of a seed of 16 to 64 bytes (BIP-0032, "Master key generation").

        Raises:
            ParseError: ``malformed-seed``.
        """
        if type(seed) is not bytes or not 16 <= len(seed) <= 64:
            raise ParseError("malformed-seed", "a seed has 16 to 64 bytes")
        secret, chain_code = _hash(b"Bitcoin seed", seed)
        return cls(PrivateKey(secret), chain_code, 0, 0, _NO_PARENT)

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self.private_key.public_key

    @property
    def fingerprint(self) -> bytes:
        """First 4 bytes of the HASH160 of the public key."""
        return hash160(self.public_key.sec)[:4]

    @property
    def parent_fingerprint(self) -> bytes:
        """The parent's fingerprint, 4 bytes; zeros for a master key."""
        if isinstance(self._parent, bytes):
            return self._parent
        return hash160(self._parent.public_key.sec)[:4]

    def child(self, index: int) -> ExtendedKey:
        """The child number ``index``, hardened from 2**31 (BIP-0032, CKDpriv).

        Raises:
            ParseError: ``malformed-number``, or ``malformed-path`` for a child deeper than 255.
        """
        checked_int(index, 0, _MAX_CHILD, "child number")
        hardened = index >= HARDENED
        source = b"\0" + self.private_key.to_bytes() if hardened else self.public_key.sec
        tweak, chain_code = _hash(self.chain_code, source + index.to_bytes(4, "big"))
        return ExtendedKey(
            private_key=self.private_key.add_tweak(tweak),
            chain_code=chain_code,
            depth=_next_depth(self.depth),
            child_number=index,
            _parent=self.private_key,
        )

    def derive(self, path: str | Sequence[int]) -> ExtendedKey:
        """The descendant at ``path``, relative to this key; errors as ``child`` and ``parse_path``."""
        key = self
        for index in parse_path(path):
            key = key.child(index)
        return key

    def neuter(self) -> ExtendedPublicKey:
        """The public counterpart (BIP-0032, the function N)."""
        return ExtendedPublicKey(
            public_key=self.public_key,
            chain_code=self.chain_code,
            depth=self.depth,
            child_number=self.child_number,
            parent_fingerprint=self.parent_fingerprint,
        )

    def to_base58(self, network: Network) -> str:
        """The BIP-0032 text: xprv on mainnet, tprv elsewhere. It is the secret itself."""
        return base58check_encode(
            network.xprv_version
            + _head(self.depth, self.parent_fingerprint, self.child_number)
            + self.chain_code
            + b"\0"
            + self.private_key.to_bytes()
        )


def extended_key_from_base58(text: str, network: Network) -> ExtendedKey | ExtendedPublicKey:
    """Read an xprv or xpub (tprv or tpub on the test networks).

    Raises:
        ParseError: ``wrong-network``, or ``malformed-extended-key``; neither repeats the text, which
            may be a secret.
    """
    try:
        payload = base58check_decode(text)
    except ParseError as error:
        raise _malformed(error.message) from None
    if len(payload) != 78:
        raise _malformed(f"{len(payload)} bytes instead of 78")
    version, depth, parent = payload[:4], payload[4], payload[5:9]
    child_number, chain_code, key = int.from_bytes(payload[9:13], "big"), payload[13:45], payload[45:]
    if version not in (network.xprv_version, network.xpub_version):
        raise _foreign_version(version, network)
    if depth == 0 and (parent != _NO_PARENT or child_number):
        raise _malformed("a master key has no parent")
    public = version == network.xpub_version
    if (key[0] == 0) is public:
        raise _malformed("the version does not fit the kind of key")
    try:
        if public:
            return ExtendedPublicKey(PublicKey(key), chain_code, depth, child_number, parent)
        return ExtendedKey(PrivateKey(key[1:]), chain_code, depth, child_number, parent)
    except ParseError:
        # the cause may show bytes of a secret under a wrong version
        raise _malformed("no valid key inside") from None


def _malformed(reason: str) -> ParseError:
    return ParseError("malformed-extended-key", f"not an extended key: {reason}")


def _foreign_version(version: bytes, network: Network) -> ParseError:
    owners = [n.name for n in NETWORKS.values() if version in (n.xprv_version, n.xpub_version)]
    if not owners:
        return _malformed(f"unknown version {version.hex()}")
    return ParseError("wrong-network", f"an extended key of {' or '.join(owners)}, not of {network.name}")


def _hash(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    """HMAC-SHA512 in its two halves: a number to add, and a chain code."""
    digest = hmac.digest(key, data, "sha512")
    return digest[:32], digest[32:]


def _head(depth: int, parent_fingerprint: bytes, child_number: int) -> bytes:
    return bytes([depth]) + parent_fingerprint + child_number.to_bytes(4, "big")


def _next_depth(depth: int) -> int:
    if depth >= _MAX_DEPTH:
        raise ParseError("malformed-path", f"a key path has at most {_MAX_DEPTH} steps")
    return depth + 1
