"""The wallet directory as a whole.

    wallet.toml                    settings, for people
    keys.toml                      the seed, plain or encrypted; mode 0600
    offers/<offer_id>.toml         the payee's own offers, as they are handed out
    offers/<offer_id>.json         of an offer of version 1: its key index, and the channel that it served
    channels/<txid>-<vout>.journal one channel: all that happened in it
    channels/<txid>-<vout>.json    the same channel as it stood at some line of its journal
    channels/names                 the names of all channels, to find one by the beginning of its id
    sent/<txid>.json               a transaction that moves own coins outside of any channel
    generation                     tells this wallet's offers from those of an older copy of it; in no backup
    plans/<script>.json            a channel that another wallet is going to fund
    openings/<offer_id>.json       an opening that any wallet funds by paying an address
    openings/notes                 refunds that were signed for strangers whose fundings no chain has shown yet
    wallet.lock, channels/*.lock   locks between processes, always empty
    channels/*.queue               who waits for such a lock, always empty

The wallet's lock guards keys, offers and the choice of coins; a channel's lock guards that channel. Where both
are needed, the wallet's comes first.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan.bitcoin.network import Network
from mpchan.errors import ParseError, StorageError
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.config import ChainConfig, Config, config_text
from mpchan.wallet.keys import Keys
from mpchan.wallet.offers import OwnOffers
from mpchan.wallet.seed_file import Unlocker, no_passphrase
from mpchan.wallet.storage import close_to_others, locked, make_directory, read_text, write_durably

if TYPE_CHECKING:
    from mpchan.wallet.awaited import AwaitedFundings
    from mpchan.wallet.openings import Openings
    from mpchan.wallet.plans import Plans
    from mpchan.wallet.sent import SentTransactions


def wallet_exists(directory: Path) -> StorageError:
    """The refusal to make a wallet where one stands."""
    return StorageError(
        "wallet-exists",
        f"{directory} holds a wallet already",
        hint="its settings are in wallet.toml there; a new one goes elsewhere, by --wallet",
    )


class Wallet:
    """One wallet directory, open. Make it with ``create`` or ``open``."""

    def __init__(self, directory: Path, config: Config, unlocker: Unlocker = no_passphrase) -> None:
        self._unlocker = unlocker
        self.directory = directory
        self.config = config

    @property
    def network(self) -> Network:
        """The network of all its coins and channels."""
        return self.config.network

    @cached_property
    def keys(self) -> Keys:
        """The keys, as they stood on disk at the first use; see ``fresh_keys``."""
        return Keys.load(self.directory / "keys.toml", self.network, self._unlocker)

    def for_another_thread(self) -> Wallet:
        """The same wallet in objects of its own, as another process would have it; its keys are as open as these."""
        other = Wallet(self.directory, self.config, self._unlocker)
        other.keys.stay_unlocked(self.keys)
        return other

    def fresh_keys(self) -> Keys:
        """The keys read again; to be called under ``lock`` before ``allocate``.

        Raises:
            StorageError: as ``Keys.load``; ``passphrase-changed``.
        """
        before: Keys | None = self.__dict__.pop("keys", None)
        if before is not None:
            self.keys.stay_unlocked(before)
        return self.keys

    @classmethod
    def create(
        cls,
        directory: Path,
        network: Network,
        chain: ChainConfig,
        words: str | None = None,
        passphrase: str | None = None,
        unlocker: Unlocker = no_passphrase,
    ) -> Wallet:
        """Make a new wallet, with new keys or with those of seed words.

        Args:
            passphrase: where the keys are to be encrypted.
            unlocker: asked where an earlier attempt has left keys that are encrypted already.

        Raises:
            ParseError: ``malformed-words``, nothing is made then; ``malformed-config`` for a name that is not UTF-8.
            StorageError: ``wallet-exists``, ``directory-permissions``, ``write-failed``, ``passphrase-unusable``;
                ``passphrase-wrong``, where it is not that of keys that are encrypted already.
        """
        if words is not None:
            from mpchan.bitcoin.seed_words import words_to_entropy

            words_to_entropy(words)
        text = config_text(network, chain)
        config = Config.from_toml(text)
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise ParseError("malformed-config", f"wallet.toml would not be UTF-8: {error!s:.200}") from None
        make_directory(directory)
        if not (directory / "wallet.toml").exists():
            close_to_others(directory)
        with locked(directory / "wallet.lock"):
            if (directory / "wallet.toml").exists():
                raise wallet_exists(directory)
            make_directory(directory / "offers")
            make_directory(directory / "channels")
            keys_path = directory / "keys.toml"
            if keys_path.exists():  # an earlier init was cut short after the keys: they may be known already
                keys = _left_keys(keys_path, network, words, passphrase, unlocker)
            elif words is not None:
                keys = Keys.restore(keys_path, network, words, passphrase)
            else:
                keys = Keys.create(keys_path, network, passphrase)
            write_durably(directory / "wallet.toml", data, mode=0o600)
        wallet = cls(directory, config, unlocker)
        wallet.__dict__["keys"] = keys
        return wallet

    @classmethod
    def open(cls, directory: Path, unlocker: Unlocker = no_passphrase) -> Wallet:
        """Open an existing wallet.

        Args:
            unlocker: asked for the passphrase when the first secret is needed.

        Raises:
            StorageError: ``no-wallet``, ``read-failed``.
            ParseError: ``malformed-config``.
        """
        path = directory / "wallet.toml"
        try:
            text = read_text(path)
        except StorageError as error:
            if error.slug != "file-missing":
                raise
            raise StorageError(
                "no-wallet",
                f"there is no wallet in {directory}",
                hint="make one with `mpchan init`, or name another with --wallet",
            ) from None
        return cls(directory, Config.from_toml(text, source=path), unlocker)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the wallet: for keys, offers and the choice of coins."""
        return locked(self.directory / "wallet.lock")

    @cached_property
    def sent(self) -> SentTransactions:
        """The transactions that moved own coins outside of any channel."""
        from mpchan.wallet.sent import SentTransactions

        return SentTransactions(self.directory)

    @cached_property
    def plans(self) -> Plans:
        """The channels that other wallets are going to fund."""
        from mpchan.wallet.plans import Plans

        return Plans(self.directory)

    @cached_property
    def awaited(self) -> AwaitedFundings:
        """The openings that any wallet funds by paying an address."""
        from mpchan.wallet.awaited import AwaitedFundings

        return AwaitedFundings(self.directory)

    @cached_property
    def channels(self) -> ChannelFiles:
        """Both files of each channel."""
        return ChannelFiles(self.directory / "channels", self.network)

    @cached_property
    def offers(self) -> OwnOffers:
        """The offers that this wallet made, and what they serve."""
        return OwnOffers(self)

    @cached_property
    def openings(self) -> Openings:
        """The refunds that were signed for strangers whose fundings no chain has shown yet."""
        from mpchan.wallet.openings import Openings

        return Openings(self.directory)


def _left_keys(
    path: Path, network: Network, words: str | None, passphrase: str | None, unlocker: Unlocker
) -> Keys:
    """Keys that an earlier ``create`` has left, encrypted where that is asked for."""
    keys = Keys.load(path, network, unlocker)
    if passphrase is not None:
        keys.unlock(passphrase)
    if words is not None and not keys.come_from(words):
        raise StorageError("wallet-exists", f"{path} holds the keys of other words")
    if passphrase is not None and not keys.are_encrypted:
        keys.encrypt(passphrase)
    return keys
