"""The wallet's keys: derived from the seed in ``keys.toml``, which also counts how many of each kind are in use.

Coins stand on the BIP-0084 paths, channel keys where ``channel.key_paths`` says. An index is on disk before its key is
first used, so no crash ever hands out one key twice; keys that follow from what both parties know need none.

Where the file is encrypted, the public key of the BIP-0084 account makes addresses and finds coins. The passphrase is
asked for when the first key is needed to sign, and not again in this process. Python cannot wipe memory: secrets stay
there until the process ends.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mpchan.bitcoin.bip84 import account_path, coin_steps
from mpchan.bitcoin.hd import ExtendedKey, ExtendedPublicKey
from mpchan.bitcoin.network import Network
from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.key_paths import counted_path, payee_path, payer_path, token_path
from mpchan.channel.offer import Offer
from mpchan.channel.signing import ChannelKey
from mpchan.errors import ParseError, StorageError, system_reason
from mpchan.values import replace
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
    from mpchan.wallet.offers import OwnOffer
    from mpchan.wallet.plans import Plan
    from mpchan.wallet.records import Record
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


class Keys:
    """The keys of one wallet. Whoever calls ``allocate``, ``encrypt`` or ``store_plain`` holds the wallet's lock."""

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
        self._branches: dict[str, ExtendedKey] = {}
        self._public_branches: dict[str, ExtendedPublicKey] = {}
        self._scripts: dict[bytes, tuple[str, int]] = {}
        self._scanned = {"receive": 0, "change": 0}
        self._channel_keys: dict[tuple[int, ...], ChannelKey] = {}

    def __repr__(self) -> str:
        return f"Keys({str(self._path)!r})"

    @classmethod
    def create(cls, path: Path, network: Network, passphrase: str | None = None) -> Keys:
        """Make a new seed from the system's randomness and write the file (mode 0600).

        Args:
            passphrase: where the file is to be encrypted; nothing plain is ever written then.
        """
        return cls._made(path, network, os.urandom(ENTROPY_BYTES), 0, passphrase)

    @classmethod
    def restore(cls, path: Path, network: Network, words: str, passphrase: str | None = None) -> Keys:
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
    ) -> Keys:
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
    def load(cls, path: Path, network: Network, unlocker: Unlocker = no_passphrase) -> Keys:
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

    def stay_unlocked(self, before: Keys) -> None:
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

    # keys -----------------------------------------------------------------------------------------

    def channel_key(self, index: int) -> ChannelKey:
        """The channel key number ``index`` of older channels."""
        return self._channel_key(counted_path(self._network, index))

    def payee_key(self, generation: bytes, name: bytes) -> ChannelKey:
        """The key of an offer of this wallet; arguments as those of ``key_paths.payee_path``."""
        return self._channel_key(payee_path(self._network, generation, name))

    def payer_key(self, payee_key: PublicKey) -> ChannelKey:
        """The key with which this wallet pays in a channel with this key of the payee."""
        return self._channel_key(payer_path(self._network, payee_key))

    def key_of(self, record: Record) -> ChannelKey:
        """The key that signs for this wallet in a channel: the one that stands in the channel's script.

        Raises:
            StorageError: ``wrong-keys``, keys.toml holds those of another wallet.
        """
        index, offer = record.key_index, record.terms.offer
        if index is not None:
            key = self.channel_key(index)
        else:
            key = self.payer_key(offer.payee_key) if record.role == "payer" else self.offer_key(offer)
        return self._fitting(key, record.own_key, f"channel {record.terms.channel_id}")

    def key_of_offer(self, own: OwnOffer) -> ChannelKey:
        """The key of an offer of this wallet; errors as ``key_of``."""
        index, offer = own.key_index, own.offer
        key = self.offer_key(offer) if index is None else self.channel_key(index)
        return self._fitting(key, offer.payee_key, f"offer {offer.offer_id}")

    def key_of_plan(self, plan: Plan) -> ChannelKey:
        """The key of a plan of this wallet; errors as ``key_of``."""
        index, payee_key = plan.key_index, plan.offer.payee_key
        key = self.payer_key(payee_key) if index is None else self.channel_key(index)
        return self._fitting(key, plan.payer_key, f"plan {plan.name}")

    def _fitting(self, key: ChannelKey, stated: PublicKey, what: str) -> ChannelKey:
        if key.public_key != stated:
            raise StorageError(
                "wrong-keys",
                f"{self._path}: these are not the keys of {what}, its key would be {key.public_key}, not {stated}",
                hint="put this wallet's own keys.toml back; nothing was signed",
            )
        return key

    def offer_key(self, offer: Offer) -> ChannelKey:
        """The key that an offer of version 2 has, if this wallet made it."""
        return self.payee_key(bytes.fromhex(offer.generation), offer.key_name)

    def own_offer(self, draft: Offer) -> Offer:
        """An offer of version 2 with this wallet's key and token, whatever stands in their places."""
        keyed = replace(draft, payee_key=self.offer_key(draft).public_key)
        return replace(keyed, token=self.offer_token(keyed))

    def offer_token(self, offer: Offer) -> str:
        """The token that this wallet gives an offer of version 2, whatever stands there: 64 lower-case hex digits.

        HMAC-SHA256 over ``Offer.token_text``; its key are the 32 bytes of the private key at
        ``key_paths.token_path``, and behind them the 8 of the offer's generation.
        """
        secret = self._root().derive(token_path(self._network)).private_key.to_bytes()
        return hmac.digest(secret + bytes.fromhex(offer.generation), offer.token_text(), "sha256").hex()

    def _channel_key(self, path: tuple[int, ...]) -> ChannelKey:
        if path not in self._channel_keys:
            self._channel_keys[path] = ChannelKey(self._root().derive(path).private_key)
        return self._channel_keys[path]

    def _root(self) -> ExtendedKey:
        if self._master is None:
            self._master = ExtendedKey.from_seed(self._opened().seed)
        return self._master

    def _account(self) -> ExtendedPublicKey:
        """The public key of ``m/84'/coin'/0'``."""
        if self._locked is not None:
            return self._locked.account
        return self._root().derive(account_path(self._network)).neuter()

    def script(self, kind: str, index: int) -> bytes:
        """The P2WPKH scriptPubKey of a ``receive`` or ``change`` key; no secret is needed for it."""
        *branch, last = coin_steps(kind, index)
        if kind not in self._public_branches:
            self._public_branches[kind] = self._account().derive(branch)
        return key_to_p2wpkh_script(self._public_branches[kind].child(last).public_key.sec)

    def _coin_key(self, kind: str, index: int) -> PrivateKey:
        *branch, last = (*account_path(self._network), *coin_steps(kind, index))
        if kind not in self._branches:
            self._branches[kind] = self._root().derive(branch)
        return self._branches[kind].child(last).private_key

    def scripts(self) -> dict[bytes, tuple[str, int]]:
        """Every scriptPubKey handed out so far, with the kind and index of its key."""
        for kind, done in self._scanned.items():
            for index in range(done, self._next[kind]):
                self._scripts[self.script(kind, index)] = (kind, index)
            self._scanned[kind] = self._next[kind]
        return self._scripts

    def sign_coins(self, transaction: Transaction, spent: Sequence[TxOut]) -> Transaction:
        """Sign every input of a transaction that spends this wallet's own P2WPKH coins alone.

        Args:
            spent: the outputs that the inputs spend, in their order.

        Raises:
            StorageError: ``foreign-coin`` for an output that is not this wallet's.
        """
        scripts = self.scripts()
        signed = transaction
        for index, output in enumerate(spent):
            if output.script_pubkey not in scripts:
                raise StorageError(
                    "foreign-coin", f"input {index} spends no coin of the keys in {self._path}"
                )
            key = self._coin_key(*scripts[output.script_pubkey])
            code = p2wpkh_script_code(output.script_pubkey)
            digest = segwit_v0_sighash(transaction, index, code, output.value, SIGHASH_ALL)
            signature = key.sign_checked(digest) + bytes([SIGHASH_ALL])
            signed = signed.with_witness(index, (signature, key.public_key.sec))
        return signed


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
