"""The wallet as a whole: made, saved, restored, encrypted; and what the program says of itself, its guide included."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.results.coins import Scanned
from mpchan.values import frozen


@frozen
class WalletMade(Result):
    """A new wallet.

    Attributes:
        chain: the backend
        encrypted: whether the keys are
        words: the seed words, with --show-words
    """

    wallet: str
    network: str
    chain: str
    encrypted: bool = False
    words: str | None = None


@frozen
class WalletOfWords(Result):
    """A wallet that was restored from seed words.

    Attributes:
        chain: the backend
        scan: the addresses that were found; null where the chain could not be searched
        encrypted: whether the keys are
    """

    wallet: str
    network: str
    chain: str
    scan: Scanned | None
    encrypted: bool = False
    warnings: tuple[str, ...] = ()


@frozen
class Encrypted(Result):
    """How the keys are stored now.

    Attributes:
        encrypted: whether they are
    """

    wallet: str
    encrypted: bool


@frozen
class BackedUp(Result):
    """A backup that was written.

    Attributes:
        file: its path
        encrypted: whether it is, with the passphrase of the keys
        time: when it was made, in seconds since 1970
        channels: how many it holds
        offers: how many it holds
        bytes: its size
        left_out: the wallet's files that are not in it
    """

    file: str
    encrypted: bool
    time: int
    channels: int
    offers: int
    bytes: int
    left_out: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@frozen
class Restored(Result):
    """A wallet that was restored from a backup.

    Attributes:
        time: when the backup was made, in seconds since 1970
        channels: how many it holds
        void_offers: how many unused offers serve nobody any more
        to_sync: the short ids of channels that take no payment before they are synced
        scan: the addresses that were found; null where the chain could not be searched
    """

    wallet: str
    network: str
    time: int
    channels: int
    void_offers: int
    to_sync: tuple[str, ...]
    scan: Scanned | None
    warnings: tuple[str, ...] = ()


@frozen
class ChainState(Result):
    """The embedded chain.

    Attributes:
        height: of the tip
        tip: its hash, as block explorers show it
        median_time: of the tip, in seconds since 1970
        mempool: the txids of what waits for a block
    """

    height: int
    tip: str
    median_time: int
    mempool: tuple[str, ...]


@frozen
class PlayMoney(Result):
    """Coins of the embedded chain's faucet."""

    txid: str


@frozen
class Engine(Result):
    """The consensus engine of the embedded chain.

    Attributes:
        engine: its name and version
        directory: where it is installed
        installed: whether it was installed now, with ``engine install``
    """

    engine: str
    directory: str
    installed: bool | None = None


@frozen
class Version(Result):
    """The program.

    Attributes:
        version: of mpchan
        signer: the package that signs
        engine: the consensus engine of the embedded chain, or none
    """

    version: str
    signer: str
    engine: str


@frozen
class Topic(Result):
    """One page of the guide.

    Attributes:
        topic: its name
        about: a line about it
    """

    topic: str
    about: str


@frozen
class Topics(Result):
    """The pages of the guide.

    Attributes:
        topics: each with topic and about
    """

    topics: tuple[Topic, ...]


@frozen
class Page(Result):
    """A page of the guide.

    Attributes:
        topic: its name
        about: a line about it
        markdown: its text
    """

    topic: str
    about: str
    markdown: str
