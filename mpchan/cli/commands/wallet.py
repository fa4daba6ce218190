"""What the wallet tells: ``list``, ``show``, ``inspect``, ``wait``."""

from __future__ import annotations

import gc
import json

import click

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.network import NETWORKS, REGTEST, Network
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import read_input
from mpchan.cli.input.numbers import Seconds
from mpchan.cli.render import tables
from mpchan.errors import MpchanError, StorageError
from mpchan.party import views


@options.command("mpchan list", name="list")
@options.chain
def list_channels(app: App) -> None:
    """All channels of this wallet."""
    wallet = app.wallet()
    problems: list[MpchanError] = []
    view = views.list_channels(wallet, app.chain(wallet), lambda name, error: problems.append(error))
    app.answer(view, tables.channels)
    app.warn(view.warnings)
    app.name_unreadable(problems)


@options.command("mpchan show 0123abcd", "mpchan show 0123abcd --descriptor")
@click.option("--descriptor", is_flag=True, help="What Bitcoin Core's importdescriptors takes to watch it.")
@options.named_channel
@options.chain
def show(app: App, descriptor: bool, channel: str | None) -> None:
    """One channel whole; CHANNEL is any unique beginning of its id.

    Its offer's id will do too; of an opening that another wallet funds that is all there is until the payment has come.
    """
    wallet = app.wallet()
    if descriptor:
        found = views.descriptors(wallet, app.chain(wallet), channel)
        app.answer(found, lambda view: json.dumps(view.to_dict()["descriptors"]))
        return
    awaited = None if channel is None else views.show_awaited(wallet, app.chain(wallet), channel)
    if awaited is not None:
        from mpchan.cli.commands.request import payable

        app.answer(awaited, payable)
        app.warn(awaited.warnings)
        return
    view = views.show(wallet, app.chain(wallet), channel)
    app.answer(view, tables.channel)
    app.warn(view.warnings)


@options.command("mpchan inspect update.psbt")
@options.file
@click.option(
    "--network", type=click.Choice(list(NETWORKS)), help="For addresses; else the wallet's, else regtest."
)
def inspect(app: App, file: str, network: str | None) -> None:
    """Decode any message or transaction, with or without a wallet."""
    from mpchan.party.check.inspection import describe

    message = decode_message(read_input(file), either_version=True)
    app.answer(describe(message, _network(app, network)), tables.message)


def _network(app: App, name: str | None) -> Network:
    if name is not None:
        return NETWORKS[name]
    try:
        return app.wallet().network
    except StorageError as error:
        if error.slug != "no-wallet":
            raise
        return REGTEST


@options.command("mpchan wait 0123abcd --for confirmed --timeout 3600")
@options.named_channel
@click.option(
    "--for",
    "goal",
    type=click.Choice(["confirmed", "final", "closed"]),
    required=True,
    help="What to wait for.",
)
@click.option("--timeout", type=Seconds(min=0), metavar="S", help="Seconds; exit 6 when they are over.")
@options.chain
def wait(app: App, channel: str | None, goal: str, timeout: float | None) -> None:
    """Block until a channel has come so far, for scripts.

    confirmed: the funding is as deep as the offer asks. final: you can end the channel alone, by the refund or by what
    you hold. closed: a closing transaction or the refund is in a block.
    """
    gc.enable()  # this command may run for days
    wallet = app.wallet()
    result = views.wait(wallet, app.chain(wallet), channel, goal, timeout)
    app.report(result, lambda view: f"channel {view.channel} is {view.status}")
