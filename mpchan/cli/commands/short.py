"""``mpchan settle``: the one short form that is the payer's in one channel and the payee's in another."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.input.numbers import AMOUNT
from mpchan.errors import UsageError
from mpchan.party.common import still_going
from mpchan.units import Amount


@options.command(
    "mpchan settle -o settlement.psbt    # the payer", "mpchan settle settlement.psbt       # the payee"
)
@options.file_if_any
@click.option("--total", type=AMOUNT, help="Payer: the final total.")
@options.channel
@options.output
@options.chain
def settle(
    app: App,
    file: str | None,
    total: Amount | None,
    channel: str | None,
    output: Path | None,
) -> None:
    """Close a channel, in the role that this wallet has in it.

    The payer writes the settlement; the payee countersigns and broadcasts it (FILE), or what it holds.
    """
    role = "payee" if file is not None else _role(app, channel)
    if role == "payee":
        if total is not None:
            raise UsageError(
                "usage", "--total is the payer's option", hint="see `mpchan payee settle --help`"
            )
        from mpchan.cli.commands.payee import settle as payee_settle

        click.get_current_context().invoke(payee_settle, file=file, channel=channel, output=output)
    else:
        from mpchan.cli.commands.payer import settle as payer_settle

        click.get_current_context().invoke(payer_settle, total=total, channel=channel, output=output)


def _role(app: App, channel: str | None) -> str:
    wallet = app.wallet()
    going = still_going(app.chain(wallet))
    name = wallet.channels.find(channel, lambda record: record.is_going, "open", going)
    return wallet.channels.load(name).role
