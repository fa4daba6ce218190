"""The terms of an offer as options: of ``payee offer`` and of ``payee sell``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from mpchan.channel.construction.registry import CONSTRUCTIONS, all_chosen_terms
from mpchan.cli.input.numbers import FEE_RATE, WholeNumber
from mpchan.cli.options import F
from mpchan.units import Amount, FeeRate

_DELAY = WholeNumber(min=1)
_OWN = tuple(
    click.option("--" + term.name.replace("_", "-"), type=_DELAY, metavar="N", help=term.help)
    for term in all_chosen_terms()
)
"""The terms that the constructions have of their own."""

SCHEME = click.option(
    "--scheme",
    type=click.Choice(list(CONSTRUCTIONS)),
    help="The construction of the channel; `mpchan guide constructions` tells when to use which.",
)

_OPTIONS = (
    SCHEME,
    click.option(
        "--fee-rate",
        "fee_rate_sat_per_kvb",
        type=FEE_RATE,
        help="Of refund, updates and settlement, in sat/vB; else the chain's estimate.",
    ),
    click.option(
        "--lock-time-unit",
        type=click.Choice(["blocks", "seconds"]),
        help="Of the delays, the window and the step; seconds suit many payments.",
    ),
    click.option("--min-refund-delay", type=_DELAY, metavar="N", help="Least time until the refund."),
    click.option("--max-refund-delay", type=_DELAY, metavar="N", help="Most time until the refund."),
    click.option(
        "--settle-window", type=_DELAY, metavar="N", help="Time that you have to close before the refund."
    ),
    *_OWN,
    click.option("--min-confirmations", type=WholeNumber(1, 1000), metavar="N", help="Of the funding."),
    click.option("--memo", metavar="TEXT", help="A line for the payer."),
    click.option("--force", is_flag=True, help="Allow a settle window below 36 blocks or 6 h."),
)


def terms_options(command: F) -> F:
    """The terms that every offer has; they arrive under the keys of its TOML text, ``force`` apart."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def own_terms_options(command: F) -> F:
    """The construction, and the constructions' own terms alone."""
    for option in reversed((SCHEME, *_OWN)):
        command = option(command)
    return command


def plain_terms(terms: Mapping[str, object]) -> dict[str, Any]:
    """The options that were given, with the values that the offer's TOML text holds."""
    return {key: _plain(value) for key, value in terms.items() if value is not None}


def _plain(value: object) -> Any:
    if isinstance(value, Amount):
        return value.sat
    return value.sat_per_kvb if isinstance(value, FeeRate) else value
