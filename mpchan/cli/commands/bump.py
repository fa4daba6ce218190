"""``mpchan bump``: helps a transaction of a channel that is stuck, in either role."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.input.numbers import FEE_RATE
from mpchan.units import FeeRate


@options.command("mpchan bump 0123abcd --fee-rate 20")
@options.named_channel
@click.option(
    "--fee-rate",
    "rate",
    type=FEE_RATE,
    required=True,
    help="What the stuck transaction and its child pay together, in sat/vB.",
)
@click.option("--no-broadcast", is_flag=True, help="Only write the child; you broadcast it.")
@options.output
@options.chain
def bump(app: App, channel: str | None, rate: FeeRate, no_broadcast: bool, output: Path | None) -> None:
    """Pay for a funding, settlement, update or refund that is stuck.

    None of them may be replaced: a replaced funding voids the refund. So a child spends your output of it and pays for
    both. The same command again sends the same child again; a higher rate replaces it.
    """
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
