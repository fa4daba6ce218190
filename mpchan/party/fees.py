"""The fee rate of what this wallet offers and funds: the user's word, else the chain's estimate.

The limits in wallet.toml hold for both.
"""

from __future__ import annotations

from mpchan.chain.base import Chain
from mpchan.channel.limits import PayerLimits
from mpchan.channel.terms import Terms
from mpchan.channel.watch.bidding import DEFENCE_VSIZE
from mpchan.errors import ChainError, NotPossible
from mpchan.units import Amount, FeeRate
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

_LIMIT_HINT = "the limits are min_fee_rate and max_fee_rate in wallet.toml"
_BUMP_HINT = "the limits are min_fee_rate and max_bump_fee_rate in wallet.toml"


def require_within(rate: FeeRate, limits: PayerLimits, what: str, hint: str = _LIMIT_HINT) -> None:
    """Refuse a rate outside the wallet's own limits.

    Raises:
        NotPossible: ``fee-rate-low``, ``fee-rate-high``.
    """
    if rate < limits.min_fee_rate:
        raise NotPossible(
            "fee-rate-low", f"{what} at {rate} is below this wallet's {limits.min_fee_rate}", hint=hint
        )
    if rate > limits.max_fee_rate:
        raise NotPossible(
            "fee-rate-high",
            f"{what} at {rate} is above this wallet's {limits.max_fee_rate}",
            hint=hint,
        )


def require_bump_within(rate: FeeRate, limits: PayerLimits) -> None:
    """Refuse a bump outside of the wallet's limits, which has a highest rate of its own."""
    require_within(rate, replace(limits, max_fee_rate=limits.max_bump_fee_rate), "a bump", _BUMP_HINT)


def estimated_rate(chain: Chain, limits: PayerLimits, what: str) -> tuple[FeeRate, list[str]]:
    """The chain's estimate within the wallet's limits, and what people should know about it.

    An estimate above the limit is no reason to stop: what pays less only waits longer, and ``mpchan bump`` helps.

    Raises:
        NotPossible: ``fee-rate-high`` where the chain relays nothing that the limits allow.
        ChainError: out of reach.
    """
    least = chain.min_fee_rate()
    estimate = max(chain.fee_rate(), least)
    if least > limits.max_fee_rate:
        raise NotPossible(
            "fee-rate-high",
            f"the chain relays nothing below {least}, above this wallet's {limits.max_fee_rate}",
            hint=_LIMIT_HINT,
        )
    rate = min(max(estimate, limits.min_fee_rate), limits.max_fee_rate)
    warnings = []
    if not chain.sends:
        warnings.append(f"this wallet asks no chain what fees are now: {what} pays {rate}")
    if rate < estimate:
        warnings.append(
            f"the chain's estimate is {estimate}, but {what} pays {rate}, the max_fee_rate in wallet.toml: "
            "it may wait long for a block"
        )
    return rate, warnings


def rate_for(
    chain: Chain, limits: PayerLimits, given: FeeRate | None, what: str, slug: str = "fee-rate-low"
) -> tuple[FeeRate, list[str]]:
    """The rate of a transaction of this wallet, and what people should know about it.

    Args:
        given: the user's word; None for the chain's estimate.
        what: the rate is for, such as ``the funding``.
        slug: of a rate that the chain does not relay.

    Raises:
        NotPossible: with that slug; ``fee-rate-low``, ``fee-rate-high``.
    """
    if given is None:
        return estimated_rate(chain, limits, what)
    least, one = chain.min_fee_rate(), what.replace("the", "a")
    if given < least:
        raise NotPossible(slug, f"{one} at {given} is not relayed, the least is {least}")
    require_within(given, limits, one)
    return given, []


def relay_warnings(rate: FeeRate, chain: Chain, what: str) -> list[str]:
    """What people should know where the chain would not relay such a rate now; nothing where it cannot be asked."""
    try:
        least = chain.min_fee_rate()
    except ChainError:
        return []
    return [f"the chain relays nothing below {least} now, {what} pays {rate}"] if rate < least else []


def close_warnings(terms: Terms, chain: Chain) -> list[str]:
    """What people should know of the rate that was agreed on for the close, as soon as it is too late to change it."""
    if not chain.sends:
        return []
    return relay_warnings(terms.offer.fee_rate, chain, f"a close of channel {terms.channel_id}")


def stake_warnings(stake: Amount, wallet: Wallet, chain: Chain, what: str) -> list[str]:
    """What people should know of a stake so small that to get its close past a child that holds it up costs more.

    Nothing where the chain cannot be asked, nor on the private chain, where blocks are never full.
    """
    if not chain.sends or wallet.config.chain.is_private:
        return []
    try:
        estimate = max(chain.fee_rate(), chain.min_fee_rate())
    except ChainError:
        return []
    needed = estimate.fee(DEFENCE_VSIZE)
    if stake >= needed:
        return []
    text = (
        f"{what} of {stake} cannot be defended: should the other party hold up the close, to get it into a block can "
        f"cost {needed} now, at {estimate}"
    )
    return [text]


def outside_warning(address: object) -> str:
    """What people should know of a payout to another wallet's address."""
    return f"{address} is outside of this wallet: should the close get stuck, `mpchan bump` cannot help it from here"
