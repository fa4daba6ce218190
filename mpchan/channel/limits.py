"""What a wallet agrees to at most; from wallet.toml."""

from __future__ import annotations

from mpchan.units import FeeRate
from mpchan.values import frozen


@frozen
class PayerLimits:
    """What a wallet agrees to at most, whatever an offer says or the chain estimates.

    Attributes:
        min_fee_rate, max_fee_rate: of offers that it makes or takes, and of all that it pays for itself but bumps.
        max_refund_delay_blocks, max_refund_delay_seconds: how long the refund of a payer may be away.
        max_bump_fee_rate: what a transaction of a channel and the child that pays for it pay together at most.
    """

    min_fee_rate: FeeRate = FeeRate(1000)
    max_fee_rate: FeeRate = FeeRate(200_000)
    max_refund_delay_blocks: int = 4320
    max_refund_delay_seconds: int = 4320 * 600
    max_bump_fee_rate: FeeRate = FeeRate(1_000_000)

    def max_refund_delay(self, unit: str) -> int:
        """The limit in the offer's unit."""
        return self.max_refund_delay_blocks if unit == "blocks" else self.max_refund_delay_seconds


@frozen
class WatchPolicy:
    """When a watcher closes a payee's channel with the latest update; from wallet.toml.

    Attributes:
        claim_after: seconds without any payment after which an update that is final is sent; None for two days where
            updates become final with time, and for never where they are final at any time.
        near_blocks, near_seconds: so long before L_0 it is sent in any case, once it is final.
    """

    claim_after: int | None = None
    near_blocks: int = 6
    near_seconds: int = 3600

    def near(self, unit: str) -> int:
        """The margin before L_0 in the unit of the channel's lock times."""
        return self.near_blocks if unit == "blocks" else self.near_seconds
