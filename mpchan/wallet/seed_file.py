"""``keys.toml`` at work: the seed, its passphrase, and how many keys of each kind are in use.

An index is on disk before its key is first used, so no crash ever hands out one key twice; keys that follow from what
both parties know need none.

Where the file is encrypted, the public key of the BIP-0084 account makes addresses and finds coins. The passphrase is
asked for when the first key is needed to sign, and not again in this process. Python cannot wipe memory: secrets stay
there until the process ends.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mpchan.bitcoin.bip84 import account_path
from mpchan.bitcoin.hd import ExtendedKey, ExtendedPublicKey
from mpchan.bitcoin.network import Network
from mpchan.errors import ParseError, StorageError, system_reason
from mpchan.wallet.keys_file import (
    KINDS,
    Indexes,
    Locked,
    Secret,
    bound_to,
    encrypted_text,
    parse_keys,
    plain_text,
)
from mpchan.wallet.storage import discard_leftovers, read_text, write_durably

if TYPE_CHECKING:
    from typing_extensions import Self

    from mpchan.wallet.sealing import Cost

ENTROPY_BYTES = 16
_HARDENED = 1 << 31
RESTORE_STEP = 1_000
"""The channel keys of a restored wallet begin at a multiple of this."""

_RESTORE_STEPS = 1_000_000
_BACKUP_STEPS = 100_000

Unlocker = Callable[[Callable[[str], None]], None]
"""Finds the passphrase: calls what it is given with one, which raises ``passphrase-wrong`` or returns."""


def no_passphrase(attempt: Callable[[str], None]) -> NoReturn:
    """The unlocker where nobody can be asked.

    Raises:
        StorageError: ``passphrase-needed``.
    """
    raise StorageError("passphrase-needed", "the keys are encrypted, and there is no passphrase")


class SeedFile:
    """The file, open. Whoever calls ``allocate``, ``encrypt`` or ``store_plain`` holds the wallet's lock."""

    def __init__(
        self,
        path: Path,
        network: Network,
        held: Secret | Locked,
        indexes: Indexes,
        unlocker: Unlocker = no_passphrase,
    ) -> None:
        self._path = path
        self._network = network
        self._locked = held if isinstance(held, Locked) else None
        self._secret = held if isinstance(held, Secret) else None
        self._next = indexes
        self._unlocker = unlocker
        self._master: ExtendedKey | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    @classmethod
    def create(cls, path: Path, network: Network, passphrase: str | None = None) -> Self:
        """Make a new seed from the system's randomness and write the file (mode 0600).

        Args:
            passphrase: where the file is to be encrypted; nothing plain is ever written then.
        """
        return cls._made(path, network, os.urandom(ENTROPY_BYTES), 0, passphrase)

    @classmethod
    def restore(cls, path: Path, network: Network, words: str, passphrase: str | None = None) -> Self:
        """Write the file (mode 0600) of a wallet whose words somebody kept.

        Words tell no index. A channel key that comes a second time could sign a second refund for a funding that the
        lost wallet has signed for, so the new ones begin somewhere else: at a multiple of 1,000, picked by chance, so
        that they are others after each restoration. Indexes of coins are for the scan to find.
        """
        from mpchan.bitcoin.seed_words import words_to_entropy

        steps = 1 + int.from_bytes(os.urandom(8), "big") % _RESTORE_STEPS
        return cls._made(path, network, words_to_entropy(words), steps * RESTORE_STEP, passphrase)

    @classmethod
    def _made(
        cls, path: Path, network: Network, entropy: bytes, next_channel: int, passphrase: str | None
    ) -> Self:
        from mpchan.bitcoin.seed_words import entropy_to_words, words_to_seed

        if path.exists():
            raise StorageError("wallet-exists", f"{path} exists and holds keys")
        indexes = {**dict.fromkeys(KINDS, 0), "channel": next_channel}
        seed = words_to_seed(entropy_to_words(entropy))
        keys = cls(path, network, Secret(entropy, seed), indexes)
        if passphrase is None:
            keys._save()
        else:
            keys.encrypt(passphrase)
        return keys

    @classmethod
    def load(cls, path: Path, network: Network, unlocker: Unlocker = no_passphrase) -> Self:
        """Read the file; the passphrase of an encrypted one is not asked for yet."""
        _check_permissions(path)
        try:
            held, indexes = parse_keys(read_text(path), network)
        except ParseError as error:
            raise StorageError(
                "keys-damaged", f"{path}: {error.message}", hint="restore the wallet from a backup"
            ) from None
        return cls(path, network, held, indexes, unlocker)

    def _save(self) -> None:
        if self._locked is not None:
            text = encrypted_text(self._locked, self._next, self._network)
        else:
            text = plain_text(self._opened(), self._next)
        write_durably(self._path, text.encode(), mode=0o600)

    # the passphrase -------------------------------------------------------------------------------

    @property
    def are_encrypted(self) -> bool:
        """Whether the file is."""
        return self._locked is not None

    def unlock(self, passphrase: str) -> None:
        """Open the secrets of an encrypted file; where they are open, check the passphrase all the same."""
        from mpchan.wallet.sealing import open_sealed

        if self._locked is not None:
            bound = bound_to(self._locked.account, self._network)
            self._secret = Secret.from_bytes(open_sealed(self._locked.sealed, passphrase, bound))

    def need_secret(self) -> None:
        """Ask for the passphrase now, if need be: a person who types it should not hold a lock meanwhile.

        Raises:
            StorageError: ``passphrase-needed``, ``passphrase-wrong`` and others of whoever is asked.
        """
        self._opened()

    def _opened(self) -> Secret:
        if self._secret is None:
            self._unlocker(self.unlock)
        if self._secret is None:
            no_passphrase(self.unlock)
        return self._secret

    def stay_unlocked(self, before: SeedFile) -> None:
        """Take over what the same file was opened to a moment ago.

        Raises:
            StorageError: ``passphrase-changed``, where somebody has set another passphrase since.
        """
        if self._locked is None or before._secret is None:
            return
        if self._locked != before._locked:
            raise StorageError(
                "passphrase-changed",
                f"{self._path}: the passphrase was changed meanwhile",
                hint="run the command again",
            )
        self._secret = before._secret

    def encrypt(self, passphrase: str, cost: Cost | None = None) -> None:
        """Write the file encrypted, with a new salt, instead of what it was; durable on return.

        What a killed process has left of an older file goes too.

        Args:
            cost: of one guess; None for the usual one.
        """
        from mpchan.wallet.sealing import USUAL_COST, seal

        secret, account = self._opened(), self._account()
        bound = bound_to(account, self._network)
        before = self._locked
        self._locked = Locked(account, seal(secret.to_bytes(), passphrase, bound, cost or USUAL_COST))
        self._save_or(before)
        discard_leftovers(self._path)

    def store_plain(self) -> None:
        """Write the file without encryption; durable on return."""
        self.need_secret()
        before, self._locked = self._locked, None
        self._save_or(before)

    def _save_or(self, before: Locked | None) -> None:
        try:
            self._save()
        except StorageError:
            self._locked = before
            raise

    # words ----------------------------------------------------------------------------------------

    def seed_words(self) -> str:
        """The words that the seed is made of (BIP-0039). They are the money: for ``init --show-words`` alone."""
        from mpchan.bitcoin.seed_words import entropy_to_words

        return entropy_to_words(self._opened().entropy)

    def come_from(self, words: str) -> bool:
        """Whether these are the words of this seed."""
        from mpchan.bitcoin.seed_words import words_to_entropy

        return words_to_entropy(words) == self._opened().entropy

    # indexes --------------------------------------------------------------------------------------

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

    def move_past_lost_channels(self) -> None:
        """Leave out the channel keys that a lost wallet may have handed out after its backup; durable on return.

        At least 1,000 of them, and by chance up to 100,000 times as many: the same backup can be restored again.
        """
        left = (_HARDENED - self._next["channel"]) // RESTORE_STEP
        most = max(1, min(_BACKUP_STEPS, left // 2))  # so that there is always room for another restoration
        steps = 1 + int.from_bytes(os.urandom(8), "big") % most
        self.advance(channel=self._next["channel"] + steps * RESTORE_STEP)

    # what follows from it -------------------------------------------------------------------------

    def _root(self) -> ExtendedKey:
        if self._master is None:
            self._master = ExtendedKey.from_seed(self._opened().seed)
        return self._master

    def _account(self) -> ExtendedPublicKey:
        """The public key of ``m/84'/coin'/0'``."""
        if self._locked is not None:
            return self._locked.account
        return self._root().derive(account_path(self._network)).neuter()


def _check_permissions(path: Path) -> None:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        raise StorageError("file-missing", f"{path}: {system_reason(error)}") from error
    if mode & 0o077:
        raise StorageError(
            "keys-permissions",
            f"{path} is readable by others (mode {mode:04o})",
            hint=f"chmod 600 {path}; a file system that knows no permissions is mounted with umask=077",
        )
