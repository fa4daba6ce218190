"""The two forms of ``keys.toml``: plain, or with the secrets sealed by a passphrase.

    version = 1                     version = 2
    entropy = "…"                   account = "tpub…"
    seed = "…"                      next_channel, next_receive, next_change
    checksum = "…"                  checksum = "…"
    next_channel = 0                [encrypted]
    next_receive = 0                kdf = "scrypt" …
    next_change = 0

``entropy`` is that of the BIP-0039 words and ``seed`` the 64 bytes made from them, so that no command needs the word
list. Sealed are the bytes seed || entropy, as ``sealing`` describes, with the associated data

    "mpchan keys 2\n" <network> "\n" <account>

in UTF-8. ``account`` is the BIP-0032 text of the extended public key m/84'/coin'/0': it makes addresses and finds the
wallet's coins, and cannot spend. It stands in clear, so that nobody needs the passphrase to look; who has the file
learns the wallet's addresses, and no more. The indexes are in clear too: they move on without the passphrase.

The checksum tells damage from a wrong passphrase. In version 1 it is the first 8 bytes, in hex, of
SHA-256("mpchan keys" || entropy || seed); in version 2 those of SHA-256 of the table without it, as JSON with sorted
keys and no spaces. It is no protection from who can write the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mpchan.bitcoin.hd import ExtendedPublicKey, extended_key_from_base58
from mpchan.bitcoin.network import Network
from mpchan.errors import ParseError
from mpchan.units import checked_key_index
from mpchan.values import field, frozen
from mpchan.wallet.store import canonical, checksum

KINDS = ("channel", "receive", "change")
PLAIN_VERSION, ENCRYPTED_VERSION = 1, 2

_SEED_BYTES = 64
_NEXT = tuple(f"next_{kind}" for kind in KINDS)
_PLAIN_HEADER = "# SECRET: whoever has this file has the wallet's money. Do not edit.\n"
_ENCRYPTED_HEADER = "# The wallet's keys, encrypted with a passphrase. Do not edit.\n"


@frozen
class Secret:
    """What must be known to spend.

    Attributes:
        entropy: of the words, 16 to 32 bytes.
        seed: made from them, 64 bytes.
    """

    entropy: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """What is sealed."""
        return self.seed + self.entropy

    @classmethod
    def from_bytes(cls, data: bytes) -> Secret:
        """The reverse; the data are genuine, because they were sealed."""
        return cls(data[_SEED_BYTES:], data[:_SEED_BYTES])


@frozen
class Locked:
    """The secrets as they lie in an encrypted file.

    Attributes:
        account: extended public key of m/84'/coin'/0'.
        sealed: the table that ``sealing`` made.
    """

    account: ExtendedPublicKey
    sealed: dict[str, Any]


Indexes = dict[str, int]
"""The next index of each kind of key."""


def bound_to(account: ExtendedPublicKey, network: Network) -> bytes:
    """What a sealed secret belongs to; under anything else it does not open."""
    return f"mpchan keys {ENCRYPTED_VERSION}\n{network.name}\n{account.to_base58(network)}".encode()


def plain_text(secret: Secret, indexes: Indexes) -> str:
    """The file that anyone who has it can spend with."""
    return _PLAIN_HEADER + _toml(
        {
            "version": PLAIN_VERSION,
            "entropy": secret.entropy.hex(),
            "seed": secret.seed.hex(),
            "checksum": _plain_checksum(secret),
            **_named(indexes),
        }
    )


def encrypted_text(locked: Locked, indexes: Indexes, network: Network) -> str:
    """The file that needs its passphrase."""
    table = {
        "version": ENCRYPTED_VERSION,
        "account": locked.account.to_base58(network),
        **_named(indexes),
        "encrypted": locked.sealed,
    }
    return _ENCRYPTED_HEADER + _toml({**table, "checksum": checksum(canonical(table))[:16]})


def parse_keys(text: str, network: Network) -> tuple[Secret | Locked, Indexes]:
    """What a file holds.

    Raises:
        ParseError: ``keys-damaged``, or what is wrong with one of its values.
    """
    import tomli

    try:
        table = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError, ValueError):
        raise ParseError("keys-damaged", "not valid TOML") from None
    if table.get("version") == ENCRYPTED_VERSION:
        return _locked(table, network), _indexes(table)
    return _secret(table), _indexes(table)


def _secret(table: Mapping[str, Any]) -> Secret:
    _check_names(table, ("version", "entropy", "seed", "checksum", *_NEXT))
    if table["version"] != PLAIN_VERSION:
        raise ParseError("keys-damaged", "unknown version")
    try:
        secret = Secret(bytes.fromhex(table["entropy"]), bytes.fromhex(table["seed"]))
    except (TypeError, ValueError):
        raise ParseError("keys-damaged", "entropy or seed is not hex") from None
    if table["checksum"] != _plain_checksum(secret) or len(secret.seed) != _SEED_BYTES:
        raise ParseError("keys-damaged", "checksum does not fit")
    return secret


def _locked(table: Mapping[str, Any], network: Network) -> Locked:
    from mpchan.wallet.sealing import check_sealed

    _check_names(table, ("version", "account", "encrypted", "checksum", *_NEXT))
    try:
        fits = (
            table["checksum"]
            == checksum(canonical({key: table[key] for key in table if key != "checksum"}))[:16]
        )
    except (TypeError, ValueError, RecursionError):  # dates and the like, which no checksum is ever made of
        fits = False
    if not fits:
        raise ParseError("keys-damaged", "checksum does not fit")
    if not isinstance(table["account"], str) or not isinstance(table["encrypted"], dict):
        raise ParseError("keys-damaged", "account or encrypted is of another type")
    account = extended_key_from_base58(table["account"], network)
    if not isinstance(account, ExtendedPublicKey):
        raise ParseError("keys-damaged", "account is no public key")
    check_sealed(table["encrypted"])
    return Locked(account, table["encrypted"])


def _check_names(table: Mapping[str, Any], names: tuple[str, ...]) -> None:
    if set(table) != set(names):
        raise ParseError("keys-damaged", f"keys differ from {', '.join(names)}")


def _indexes(table: Mapping[str, Any]) -> Indexes:
    try:
        return {kind: checked_key_index(table[name]) for kind, name in zip(KINDS, _NEXT, strict=True)}
    except ParseError:  # its words would repeat the value, which in a muddled file may be the seed
        raise ParseError("keys-damaged", "an index is no number of a key") from None


def _named(indexes: Indexes) -> dict[str, int]:
    return {name: indexes[kind] for kind, name in zip(KINDS, _NEXT, strict=True)}


def _plain_checksum(secret: Secret) -> str:
    return hashlib.sha256(b"mpchan keys" + secret.entropy + secret.seed).hexdigest()[:16]


def _toml(table: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(table)
