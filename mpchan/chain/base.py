"""What the rest of mpchan asks of a chain: a narrow interface that every backend fills.

A backend answers questions about outputs and scripts, takes transactions, and nothing else. It
never decides anything about a channel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mpchan.bitcoin.network import Network
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.units import ChainTip, FeeRate, LockTime, OutPoint, Txid
from mpchan.values import frozen

if TYPE_CHECKING:
    from typing_extensions import Self

COINBASE_MATURITY = 100
"""So many blocks must stand above a coinbase before its outputs can be spent."""

TARGET_BLOCKS = 3
"""In so many blocks a transaction at the estimated fee rate should be."""

FALLBACK_RATE = FeeRate(5000)
"""Where a backend has no estimate: it has seen too few blocks."""


@frozen
class Coin:
    """An unspent output, spent by nothing in the mempool either.

    Attributes:
        confirmations: 0 while it is only in the mempool.
        mature: False for a coinbase output that has fewer than 100 blocks above it.
    """

    outpoint: OutPoint
    output: TxOut
    confirmations: int
    mature: bool = True


@frozen
class Spend:
    """The transaction that spends an output.

    Attributes:
        confirmations: 0 while it is only in the mempool.
        transaction: the whole spender where the backend can say it.
    """

    txid: Txid
    confirmations: int
    transaction: Transaction | None = None


@frozen
class OutputStatus:
    """What the chain knows of one output.

    Attributes:
        confirmations: of the transaction that made it; 0 while only in the mempool.
        spend: who spends it, in a block or in the mempool; None while unspent.
        mature: False for an unspent coinbase output that has fewer than 100 blocks above it.
    """

    output: TxOut
    confirmations: int
    spend: Spend | None = None
    mature: bool = True


@frozen
class Backend:
    """One kind of backend.

    Attributes:
        module: of ``mpchan.chain``; its function ``opened`` takes an ``Asked`` and gives the ``Chain``.
        settings: the keys of ``[chain]`` in wallet.toml that are its own, as ``ChainConfig`` names them.
        is_private: whether its chain is this machine's alone, on regtest: no block comes unless the user mines it.
    """

    module: str
    settings: tuple[str, ...] = ()
    is_private: bool = False


BACKENDS = {
    "embedded": Backend("embedded", ("directory",), is_private=True),
    "bitcoind": Backend("bitcoind", ("rpc_url", "rpc_cookie")),
    "electrum": Backend("electrum", ("electrum", "proxy")),
    "none": Backend("manual"),
}
"""By the name that wallet.toml and ``--chain`` have for it."""


@frozen
class ChainConfig:
    """Which backend is asked, and where it is; from wallet.toml.

    Attributes:
        directory: of the embedded chain; None for the usual one.
        rpc_url, rpc_cookie: of bitcoind.
        electrum: servers in the order of preference, ``HOST:PORT`` or ``HOST:PORT:s`` (TLS).
        proxy: for the Electrum servers, ``socks5://HOST:PORT``.
    """

    backend: str = "embedded"
    directory: str | None = None
    rpc_url: str | None = None
    rpc_cookie: str | None = None
    electrum: tuple[str, ...] = ()
    proxy: str | None = None

    @property
    def is_private(self) -> bool:
        """As ``Backend`` has it."""
        return BACKENDS[self.backend].is_private


@frozen
class Asked:
    """What ``open_chain`` was asked for, as it explains it."""

    config: ChainConfig
    network: Network
    directory: Path
    tip: ChainTip | None
    confirmations: int | None
    create: bool


class Chain(Protocol):
    """One chain, seen through one backend.

    Every method raises ``ChainError`` (exit 8) when the backend is out of reach.
    """

    @property
    def sends(self) -> bool:
        """Whether ``broadcast`` reaches a network; False where the user does it by hand."""

    @property
    def stated_confirmations(self) -> int | None:
        """How deep a channel's funding is on the user's word alone; None where the backend is asked."""

    def close(self) -> None:
        """Close what is open; the next question opens it again."""

    def tip(self) -> ChainTip:
        """The best block's height and median time past."""

    def median_time_at(self, height: int) -> int | None:
        """The median time past of the block at a height up to the tip; None where the backend cannot say it."""

    def output(self, outpoint: OutPoint, *, not_before: LockTime | None = None) -> OutputStatus | None:
        """What is known of ``outpoint``; None when neither chain nor mempool ever held it.

        Args:
            not_before: no block below this height, or whose median time is earlier, holds a transaction that spends
                it. A backend that must look through blocks for one begins there.
        """

    def outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        """What ``output`` would say of each of these; without those of which it would say None.

        For whoever looks after many: each block is looked at once for all of them, and what is asked of a server goes
        out together. All answers are of the same tip.

        Args:
            asked: each with its ``not_before``.
        """

    def appeared(self, openings: Mapping[OutPoint, bytes]) -> set[OutPoint]:
        """Which of these outputs, each with the scriptPubKey that it would have, chain or mempool show by now.

        For fundings that strangers have announced, most of which never come: of 100,000 that nobody has sent, a call
        costs a fraction of a second but for the first one, as long as one object is asked about about the same ones
        again and again. So ask once a round, about all of them. Nothing about them is kept on the disk.

        It may be late: a backend whose servers bear only so many questions asks about some hundred of them at each
        call, in turn. And of an output that was spent in a block before it was first asked about nothing needs to be
        said. So ask ``outputs`` about what was found here before it is used, and about what is to be thrown away.
        """

    def payments(self, scripts: Mapping[bytes, int]) -> list[Coin]:
        """The outputs that pay to these scriptPubKeys, in outpoint order, as far as a watcher can ask every round.

        An unspent one is told once a block holds it; a backend that keeps an index of scripts tells it at once. One
        that is spent may be told or not: so ask ``outputs`` before it is used.

        Args:
            scripts: each with a height; no block up to this one pays to it. A backend that must look through blocks
                begins there.
        """

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """The unspent outputs that pay to any of these scriptPubKeys, in outpoint order."""

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        """Which of these scriptPubKeys any output, on the chain or in the mempool, ever paid to.

        A backend that knows unspent outputs alone says those, and its own text says so.
        """

    def broadcast(self, transaction: Transaction) -> None:
        """Hand a complete transaction to the network; one that is known already is fine.

        Raises:
            TooEarly: ``non-final``, its nLockTime has not come (exit 6).
            ChainError: ``rejected``, with the backend's own reason; ``node-too-old`` where that is the transaction's
                version (exit 8).
        """

    def broadcast_package(self, transactions: Sequence[Transaction]) -> None:
        """Hand over transactions that only together pay enough; those that are known already are fine.

        Args:
            transactions: the parents first, and the child that pays for them last.

        Raises:
            TooEarly: ``non-final``, the nLockTime of one has not come (exit 6).
            ChainError: ``rejected``, with the backend's own reason; ``no-packages`` where it takes one transaction at
                a time only (exit 8).
        """

    def require_version(self, version: int) -> None:
        """Make sure that the backend's node relays transactions of this version, as far as it can be asked.

        For whoever begins what will need one later. What is held is sent without asking: the node says it then.

        Raises:
            ChainError: ``node-too-old``.
        """

    def fee_rate(self) -> FeeRate:
        """The rate that gets a transaction into one of the next blocks."""

    def min_fee_rate(self) -> FeeRate:
        """The lowest rate that the backend relays."""

    def incremental_fee_rate(self) -> FeeRate:
        """What a replacement adds to the fees of what it replaces, for its own size, to be relayed."""


class Connected:
    """A backend that asks somebody: what is open is closed with it, or when nobody holds it any more."""

    sends = True
    stated_confirmations = None

    def close(self) -> None:
        """Close what is open; the next question opens it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        """As ``Chain`` has it."""
        raise NotImplementedError

    def output(self, outpoint: OutPoint, *, not_before: LockTime | None = None) -> OutputStatus | None:
        """As ``Chain`` has it."""
        return self.outputs({outpoint: not_before}).get(outpoint)
