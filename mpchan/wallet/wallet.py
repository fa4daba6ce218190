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
    openings/notes                 refunds that were signed for strangers whose fundings no chain has shown yet
    wallet.lock, channels/*.lock   locks between processes, always empty
    channels/*.queue               who waits for such a lock, always empty

The wallet's lock guards keys, offers and the choice of coins; a channel's lock guards that channel. Where both
are needed, the wallet's comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan.bitcoin.network import Network
from mpchan.channel.signing import ChannelKey
from mpchan.errors import MpchanError, NotPossible, ParseError, StorageError, UsageError
from mpchan.units import OutPoint
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.config import ChainConfig, Config, config_text
from mpchan.wallet.keys import Keys, Unlocker, no_passphrase
from mpchan.wallet.offers import OwnOffer, OwnOffers
from mpchan.wallet.storage import (
    LOCK_TIMEOUT_SECONDS,
    close_to_others,
    locked,
    make_directory,
    read_text,
    write_durably,
)

if TYPE_CHECKING:
    from mpchan.bitcoin.signature import PublicKey
    from mpchan.channel.signing import ChannelKey
    from mpchan.wallet.openings import Openings
    from mpchan.wallet.plans import Plan, Plans
    from mpchan.wallet.records import Record
    from mpchan.wallet.sent import SentTransactions


def channel_name(outpoint: OutPoint) -> str:
    """The name of a channel's file, without its suffix."""
    return f"{outpoint.txid}-{outpoint.vout}"


def wallet_exists(directory: Path) -> StorageError:
    """The refusal to make a wallet where one stands."""
    return StorageError(
        "wallet-exists",
        f"{directory} holds a wallet already",
        hint="its settings are in wallet.toml there; a new one goes elsewhere, by --wallet",
    )


class Wallet:
    """One wallet directory, open. Make it with ``create`` or ``open``.

    Attributes:
        patience: seconds to wait for a channel that another process holds.
    """

    def __init__(self, directory: Path, config: Config, unlocker: Unlocker = no_passphrase) -> None:
        self._unlocker = unlocker
        self.directory = directory
        self.patience = LOCK_TIMEOUT_SECONDS
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
    def offers(self) -> OwnOffers:
        """The offers that this wallet made, and what they serve."""
        return OwnOffers(self)

    @cached_property
    def openings(self) -> Openings:
        """The refunds that were signed for strangers whose fundings no chain has shown yet."""
        from mpchan.wallet.openings import Openings

        return Openings(self.directory)

    # whose keys these are -------------------------------------------------------------------------

    def channel_key_of(self, record: Record) -> ChannelKey:
        """The key that signs for this wallet in a channel: the one that stands in the channel's script.

        Raises:
            StorageError: ``wrong-keys``, keys.toml holds those of another wallet; as ``keys`` has it.
        """
        key = self.keys.key_of(record)
        return self._own_key(key, record.own_key, f"channel {record.terms.channel_id}")

    def offer_key_of(self, own: OwnOffer) -> ChannelKey:
        """The key of an offer of this wallet; errors as ``channel_key_of``."""
        index, offer = own.key_index, own.offer
        key = self.keys.offer_key(offer) if index is None else self.keys.channel_key(index)
        return self._own_key(key, own.offer.payee_key, f"offer {own.offer.offer_id}")

    def plan_key_of(self, plan: Plan) -> ChannelKey:
        """The key of a plan of this wallet; errors as ``channel_key_of``."""
        index, payee_key = plan.key_index, plan.offer.payee_key
        key = self.keys.payer_key(payee_key) if index is None else self.keys.channel_key(index)
        return self._own_key(key, plan.payer_key, f"plan {plan.name}")

    def _own_key(self, key: ChannelKey, stated: PublicKey, what: str) -> ChannelKey:
        if key.public_key != stated:
            raise StorageError(
                "wrong-keys",
                f"{self.directory / 'keys.toml'}: these are not the keys of {what}, its key would be "
                f"{key.public_key}, not {stated}",
                hint="put this wallet's own keys.toml back; nothing was signed",
            )
        return key

    # channels -------------------------------------------------------------------------------------

    @cached_property
    def channel_files(self) -> ChannelFiles:
        """The files of all channels."""
        return ChannelFiles(self.directory / "channels")

    def channel_lock(
        self, name: str, *, in_turn: bool = False, sure: bool = True
    ) -> AbstractContextManager[None]:
        """Hold one channel.

        Args:
            in_turn: let all go first that wait for it, where this process takes it again and again.
            sure: False for who calls ``make_sure`` itself.
        """
        return self.channel_files.lock(name, self.patience, in_turn=in_turn, sure=sure)

    def channel_names(self) -> list[str]:
        """The names of all channels, sorted."""
        return self.channel_files.names()

    def channels_oldest_first(self) -> list[str]:
        """The names of all channels, in the order in which they began."""
        from mpchan.wallet.names import oldest_first

        return oldest_first(self.channel_files)

    def has_channel(self, outpoint: OutPoint) -> bool:
        """Whether a channel with this funding outpoint is known."""
        return self.channel_files.has(channel_name(outpoint))

    def load_channel(self, name: str) -> Record:
        """Read a channel. The files are read every time; what was read before is not parsed again.

        Raises:
            StorageError: ``channel-damaged``, ``channel-schema``, ``file-missing``; the files stay as they are.
        """
        record = self.channel_files.load(name)
        if record.terms.offer.network != self.network:
            path = self.channel_files.state_path(name)
            raise StorageError("channel-damaged", f"{path}: holds a channel of another network")
        return record

    def save_channel(
        self, record: Record, event: str, message: str | None = None, *, sent: bool = False
    ) -> None:
        """Write down that a channel has changed; durable on return.

        Args:
            event: what happened, in kebab-case, for its history.
            message: what leaves for the other party after this, or came from it, in hex. Never a complete update.
            sent: it is the note of what goes out whether it is noted or not.
        """
        self.channel_files.save(record, event, message, self.patience, sent=sent)

    def make_sure(self, name: str | None = None) -> None:
        """Make durable what another process may have left half-way: of one channel, or of all that are held.

        To be called before something leaves that rests on a state which this process has not written itself.
        """
        self.channel_files.make_sure(name)

    def channels(self, damaged: Callable[[str, MpchanError], None] | None = None) -> Iterator[Record]:
        """All readable channels; each unreadable one is told to ``damaged`` and left alone."""
        for name in self.channel_names():
            try:
                yield self.load_channel(name)
            except StorageError as error:
                if damaged is not None:
                    damaged(name, error)

    def find_channel(
        self,
        prefix: str | None,
        suitable: Callable[[Record], bool],
        what: str,
        prefer: Callable[[Record], bool] | None = None,
    ) -> str:
        """The name of the channel with a unique ``prefix``, or of the only suitable one where it is None.

        Args:
            suitable: which channels are candidates when none is named.
            what: what such a channel is, for the message.
            prefer: decides where several are suitable; it may ask the chain.

        Raises:
            UsageError: ``ambiguous-channel``.
            NotPossible: ``unknown-channel``, ``no-channel``.
            StorageError: as ``load_channel``, where none is suitable but one is unreadable: it may be the one.
        """
        if prefix is None:
            unreadable: list[MpchanError] = []
            readable = self.channels(lambda _, error: unreadable.append(error))
            fitting = [record for record in readable if suitable(record)]
            if prefer is not None and len(fitting) > 1:
                fitting = [record for record in fitting if prefer(record)] or fitting
            names = [record.terms.name for record in fitting]
            if not names and unreadable:
                raise unreadable[0]
            if not names:
                raise NotPossible(
                    "no-channel", f"this wallet has no channel that is {what}", hint="see `mpchan list`"
                )
        else:
            wanted = prefix.lower().replace(":", "-")
            names = self.channel_files.beginning_with(wanted) if wanted else []
            if not names:
                raise NotPossible(
                    "unknown-channel", f"no channel begins with {prefix!r:.80}", hint="see `mpchan list`"
                )
        if len(names) > 1:
            shown = ", ".join(name[:16] for name in names[:4]) + (", …" if len(names) > 4 else "")
            raise UsageError(
                "ambiguous-channel",
                f"{len(names)} channels fit: {shown}",
                hint="name one with --channel and more digits",
            )
        return names[0]

    def reserved_outpoints(self) -> set[OutPoint]:
        """Coins that a funding of this wallet spends or is about to spend.

        An unreadable channel reserves nothing: should its funding not have left, a conflict only ends that opening.
        """
        reserved: set[OutPoint] = set()
        for record in self.channels():
            if record.funding is not None:
                reserved.update(source.outpoint for source in record.funding.inputs)
        return reserved


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
