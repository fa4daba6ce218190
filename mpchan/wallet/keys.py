"""``keys.toml``: the seed, and how many keys of each kind are in use.

Coins stand on the BIP-0084 paths, channel keys on ``m/7420'/coin'/0'/i'``. An index is on disk before
its key is first used, so no crash ever hands out one key twice.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpchan.bitcoin.bip84 import change_path, receive_path
from mpchan.bitcoin.hd import ExtendedKey
from mpchan.bitcoin.network import Network
from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.signing import ChannelKey
from mpchan.errors import ParseError, StorageError
from mpchan.units import checked_int
from mpchan.wallet.storage import read_text, write_durably

KEYS_VERSION = 1
ENTROPY_BYTES = 16
_PURPOSE_CHANNEL = 7420
_HARDENED = 1 << 31
RESTORE_STEP = 1_000
"""The channel keys of a restored wallet begin at a multiple of this."""

_RESTORE_STEPS = 1_000_000
_KINDS = ("channel", "receive", "change")


class Keys:
    """The keys of one wallet. Whoever calls ``allocate`` holds the wallet's lock.

    The file keeps the words' entropy and, so that no command needs the word list, the BIP-0039 seed made from them.
    """

    def __init__(self, path: Path, network: Network, table: dict[str, Any]) -> None:
        self._path = path
        self._network = network
        self._entropy: bytes = table["entropy"]
        self._seed: bytes = table["seed"]
        self._next: dict[str, int] = {kind: table[f"next_{kind}"] for kind in _KINDS}
        self._master = ExtendedKey.from_seed(self._seed)
        self._branches: dict[str, ExtendedKey] = {}
        self._scripts: dict[bytes, tuple[str, int]] = {}
        self._scanned = {"receive": 0, "change": 0}
        self._channel_keys: dict[int, ChannelKey] = {}

    def __repr__(self) -> str:
        return f"Keys({str(self._path)!r})"

    @classmethod
    def create(cls, path: Path, network: Network) -> Keys:
        """Make a new seed from the system's randomness and write the file (mode 0600).

        Raises:
            StorageError: ``wallet-exists``, ``write-failed``.
        """
        return cls._made(path, network, os.urandom(ENTROPY_BYTES), 0)

    @classmethod
    def restore(cls, path: Path, network: Network, words: str) -> Keys:
        """Write the file (mode 0600) of a wallet whose words somebody kept.

        Words tell no index. A channel key that comes a second time could sign a second refund for a funding that the
        lost wallet has signed for, so the new ones begin somewhere else: at a multiple of 1,000, picked by chance, so
        that they are others after each restoration. Indexes of coins are for the scan to find.

        Raises:
            ParseError: ``malformed-words``.
            StorageError: ``wallet-exists``, ``write-failed``.
        """
        from mpchan.bitcoin.seed_words import words_to_entropy

        steps = 1 + int.from_bytes(os.urandom(8), "big") % _RESTORE_STEPS
        return cls._made(path, network, words_to_entropy(words), steps * RESTORE_STEP)

    @classmethod
    def _made(cls, path: Path, network: Network, entropy: bytes, next_channel: int) -> Keys:
        from mpchan.bitcoin.seed_words import entropy_to_words, words_to_seed

        if path.exists():
            raise StorageError("wallet-exists", f"{path} exists and holds keys")
        indexes = {f"next_{kind}": next_channel if kind == "channel" else 0 for kind in _KINDS}
        seed = words_to_seed(entropy_to_words(entropy))
        keys = cls(path, network, {"entropy": entropy, "seed": seed, **indexes})
        keys._save()
        return keys

    @classmethod
    def load(cls, path: Path, network: Network) -> Keys:
        """Read the file.

        Raises:
            StorageError: ``keys-permissions`` when others may read it, ``keys-damaged``, ``file-missing``.
        """
        import tomli

        _check_permissions(path)
        try:
            return cls(path, network, _checked(tomli.loads(read_text(path))))
        except (tomli.TOMLDecodeError, RecursionError, ValueError, ParseError) as error:
            reason = error.message if isinstance(error, ParseError) else "not valid TOML"
            raise StorageError(
                "keys-damaged", f"{path}: {reason}", hint="restore the wallet from a backup"
            ) from None

    def _save(self) -> None:
        import tomli_w

        table = {
            "version": KEYS_VERSION,
            "entropy": self._entropy.hex(),
            "seed": self._seed.hex(),
            "checksum": _checksum(self._entropy, self._seed),
            **{f"next_{kind}": self._next[kind] for kind in _KINDS},
        }
        write_durably(self._path, (_HEADER + tomli_w.dumps(table)).encode(), mode=0o600)

    def seed_words(self) -> str:
        """The words that the seed is made of (BIP-0039). They are the money: for ``init --show-words`` alone."""
        from mpchan.bitcoin.seed_words import entropy_to_words

        return entropy_to_words(self._entropy)

    def come_from(self, words: str) -> bool:
        """Whether these are the words of this seed.

        Raises:
            ParseError: ``malformed-words``.
        """
        from mpchan.bitcoin.seed_words import words_to_entropy

        return words_to_entropy(words) == self._entropy

    def next_index(self, kind: str) -> int:
        """The index that ``allocate`` takes next, to prepare with; it must not leave before it is allocated."""
        return self._next[kind]

    def allocate(self, *kinds: str) -> None:
        """Take the next index of each of ``channel``, ``receive`` or ``change``; on disk when this returns."""
        for kind in kinds:
            self._next[kind] += 1
        self._save()

    def advance(self, **indexes: int) -> None:
        """Move the next index of some kinds on to at least these; on disk when this returns."""
        for kind, index in indexes.items():
            self._next[kind] = max(self._next[kind], index)
        self._save()

    def channel_key(self, index: int) -> ChannelKey:
        """The channel key ``m/7420'/coin'/0'/index'``."""
        if index not in self._channel_keys:
            path = (_PURPOSE_CHANNEL, self._network.coin_type, 0, index)
            private_key = self._master.derive([step + _HARDENED for step in path]).private_key
            self._channel_keys[index] = ChannelKey(private_key)
        return self._channel_keys[index]

    def script(self, kind: str, index: int) -> bytes:
        """The P2WPKH scriptPubKey of a ``receive`` or ``change`` key."""
        return key_to_p2wpkh_script(self._coin_key(kind, index).public_key.sec)

    def _coin_key(self, kind: str, index: int) -> PrivateKey:
        *branch, last = (receive_path if kind == "receive" else change_path)(self._network, index)
        if kind not in self._branches:
            self._branches[kind] = self._master.derive(branch)
        return self._branches[kind].child(last).private_key

    def scripts(self) -> dict[bytes, tuple[str, int]]:
        """Every scriptPubKey handed out so far, with the kind and index of its key."""
        for kind, done in self._scanned.items():
            for index in range(done, self._next[kind]):
                self._scripts[self.script(kind, index)] = (kind, index)
            self._scanned[kind] = self._next[kind]
        return self._scripts

    def sign_funding(self, funding: Transaction, spent: Sequence[TxOut]) -> Transaction:
        """Sign every input of a funding transaction; all of them spend this wallet's own P2WPKH outputs.

        Args:
            spent: the outputs that the inputs spend, in their order.

        Raises:
            StorageError: ``foreign-coin`` for an output that is not this wallet's.
        """
        return self._sign_inputs(funding, spent)

    def sign_spend(self, transaction: Transaction, spent: Sequence[TxOut]) -> Transaction:
        """Sign every input of a transaction that moves this wallet's own coins outside of any channel.

        Args:
            spent: the outputs that the inputs spend, in their order.

        Raises:
            StorageError: ``foreign-coin`` for an output that is not this wallet's.
        """
        return self._sign_inputs(transaction, spent)

    def _sign_inputs(self, transaction: Transaction, spent: Sequence[TxOut]) -> Transaction:
        scripts = self.scripts()
        signed = transaction
        for index, output in enumerate(spent):
            if output.script_pubkey not in scripts:
                raise StorageError("foreign-coin", f"input {index} spends no coin of this wallet")
            key = self._coin_key(*scripts[output.script_pubkey])
            code = p2wpkh_script_code(output.script_pubkey)
            digest = segwit_v0_sighash(transaction, index, code, output.value, SIGHASH_ALL)
            signature = key.sign(digest) + bytes([SIGHASH_ALL])
            signed = signed.with_witness(index, (signature, key.public_key.sec))
        return signed


_HEADER = "# SECRET: whoever has this file has the wallet's money. Do not edit.\n"


def _checksum(entropy: bytes, seed: bytes) -> str:
    return hashlib.sha256(b"mpchan keys" + entropy + seed).hexdigest()[:16]


def _check_permissions(path: Path) -> None:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        raise StorageError("file-missing", f"{path}: {(error.strerror or str(error)).lower()}") from error
    if mode & 0o077:
        raise StorageError(
            "keys-permissions", f"{path} is readable by others (mode {mode:04o})", hint=f"chmod 600 {path}"
        )


def _checked(table: dict[str, Any]) -> dict[str, Any]:
    names = ("version", "entropy", "seed", "checksum", *(f"next_{kind}" for kind in _KINDS))
    if set(table) != set(names):
        raise ParseError("keys-damaged", f"keys differ from {', '.join(names)}")
    if table["version"] != KEYS_VERSION:
        raise ParseError("keys-damaged", "unknown version")
    try:
        entropy, seed = bytes.fromhex(table["entropy"]), bytes.fromhex(table["seed"])
    except (TypeError, ValueError):
        raise ParseError("keys-damaged", "entropy or seed is not hex") from None
    if table["checksum"] != _checksum(entropy, seed) or len(seed) != 64:
        raise ParseError("keys-damaged", "checksum does not fit")
    indexes = {
        f"next_{kind}": checked_int(table[f"next_{kind}"], 0, _HARDENED - 1, f"next_{kind}")
        for kind in _KINDS
    }
    return {"entropy": entropy, "seed": seed, **indexes}
