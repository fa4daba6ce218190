"""``mpchan bump``: helps a transaction of a channel that is stuck, in either role."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.cli.app import (
    FEE_RATE,
    App,
    chain_options,
    channel_argument,
    channel_option,
    command,
    common_options,
    example,
    one_channel,
    output_option,
    pass_app,
)
from mpchan.units import FeeRate


@command(epilog=example("mpchan bump 0123abcd --fee-rate 20"))
@channel_argument
@channel_option
@click.option(
    "--fee-rate",
    "rate",
    type=FEE_RATE,
    required=True,
    help="What the stuck transaction and its child pay together, in sat/vB.",
)
@click.option("--no-broadcast", is_flag=True, help="Only write the child; you broadcast it.")
@output_option
@chain_options
@common_options
@pass_app
def bump(
    app: App, name: str | None, channel: str | None, rate: FeeRate, no_broadcast: bool, output: Path | None
) -> None:
    """Pay for a funding, settlement, update or refund that is stuck.

    None of them may be replaced: a replaced funding voids the refund. So a child spends your output of it and pays for
    both. The same command again sends the same child again; a higher rate replaces it.
    """
    channel = one_channel(name, channel)
    app.check_output(output)
    from mpchan.party.watch import bump as party

    wallet = app.wallet(signs=True)
    with app.sent(
        lambda: party.bump(wallet, app.chain(wallet), channel, rate, sends=not no_broadcast)
    ) as result:
        together = FeeRate(result.fee_rate_sat_per_kvb)
        app.emit(
            result,
            result.hex,
            output,
            f"{result.child_txid} pays {result.fee_sat} sat for itself and the {result.kind} of channel "
            f"{result.channel}: {together} together" + (", broadcast" if result.broadcast else ""),
        )
