"""The backend ``none``: nothing is asked. The user says where the chain stands, and broadcasts by hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Asked, Coin, OutputStatus
from mpchan.errors import ChainError, UsageError
from mpchan.units import ChainTip, FeeRate, LockTime, OutPoint
from mpchan.values import frozen


@frozen
class ManualChain:
    """What the user says of the chain.

    Attributes:
        stated_tip: from ``--tip``, or None.
        stated_confirmations: of the channel's funding, from ``--confirmations``, or None.
    """

    stated_tip: ChainTip | None = None
    stated_confirmations: int | None = None
    sends: bool = False

    def close(self) -> None:
        """Nothing is open."""

    def tip(self) -> ChainTip:
        """The tip that was stated.

        Raises:
            UsageError: ``tip-needed``.
        """
        if self.stated_tip is None:
            raise UsageError(
                "tip-needed",
                "this wallet asks no chain, so the command needs to be told where it stands",
                hint="add --tip HEIGHT, or --tip HEIGHT:MEDIAN_TIME",
            )
        return self.stated_tip

    def median_time_at(self, height: int) -> int | None:
        """Nothing is known."""
        return None

    def output(self, outpoint: OutPoint, *, not_before: LockTime | None = None) -> OutputStatus | None:
        """Nothing is known."""
        return None

    def outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        """Nothing is known."""
        return {}

    def appeared(self, openings: Mapping[OutPoint, bytes]) -> set[OutPoint]:
        """Nothing is known."""
        return set()

    def payments(self, scripts: Mapping[bytes, int]) -> list[Coin]:
        """Nothing is known."""
        return []

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """Nothing is known."""
        raise ChainError(
            "no-backend",
            "this wallet asks no chain, so it knows no coins",
            hint="set chain.backend in wallet.toml",
        )

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        """Nothing is known."""
        raise ChainError("no-backend", "this wallet asks no chain, so it knows no used addresses")

    def broadcast(self, transaction: Transaction) -> None:
        """Nothing is sent."""
        raise ChainError("no-backend", "this wallet asks no chain, so it broadcasts nothing")

    def broadcast_package(self, transactions: Sequence[Transaction]) -> None:
        """Nothing is sent."""
        raise ChainError("no-backend", "this wallet asks no chain, so it broadcasts nothing")

    def require_version(self, version: int) -> None:
        """Nobody can be asked."""

    def fee_rate(self) -> FeeRate:
        """A guess: twice the lowest that nodes relay by default."""
        return FeeRate(2000)

    def min_fee_rate(self) -> FeeRate:
        """The lowest that nodes relay by default."""
        return FeeRate(1000)

    def incremental_fee_rate(self) -> FeeRate:
        """Bitcoin Core's default up to version 29."""
        return FeeRate(1000)


def opened(asked: Asked) -> ManualChain:
    """As ``Backend`` has it."""
    return ManualChain(asked.tip, asked.confirmations)
