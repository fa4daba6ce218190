"""What the wallet tells: ``list``, ``show``, ``inspect``, ``wait``."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING

import click

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.network import NETWORKS, REGTEST, Network
from mpchan.cli.app import (
    App,
    chain_options,
    channel_argument,
    channel_option,
    command,
    common_options,
    example,
    file_argument,
    one_channel,
    pass_app,
)
from mpchan.cli.files import read_input
from mpchan.cli.input.numbers import Seconds
from mpchan.errors import MpchanError, StorageError
from mpchan.party import views

if TYPE_CHECKING:
    from mpchan.results.channels import Channel, ChannelList
    from mpchan.results.checks import Message


@command("list", epilog=example("mpchan list"))
@chain_options
@common_options
@pass_app
def list_channels(app: App) -> None:
    """All channels of this wallet."""
    wallet = app.wallet()
    problems: list[MpchanError] = []
    view = views.list_channels(wallet, app.chain(wallet), lambda name, error: problems.append(error))

    def people(result: ChannelList) -> str:
        from mpchan.cli.render import tables as render

        return render.channels(result)

    app.answer(view, people)
    app.warn(view.warnings)
    app.name_unreadable(problems)


@command(epilog=example("mpchan show 0123abcd\nmpchan show 0123abcd --descriptor"))
@channel_argument
@click.option("--descriptor", is_flag=True, help="What Bitcoin Core's importdescriptors takes to watch it.")
@channel_option
@chain_options
@common_options
@pass_app
def show(app: App, name: str | None, descriptor: bool, channel: str | None) -> None:
    """One channel whole; CHANNEL is any unique beginning of its id."""
    channel = one_channel(name, channel)
    wallet = app.wallet()

    def people(view: Channel) -> str:
        from mpchan.cli.render import tables as render

        return render.channel(view)

    if descriptor:
        found = views.descriptors(wallet, app.chain(wallet), channel)
        app.answer(found, lambda view: json.dumps(view.to_dict()["descriptors"]))
        return
    view = views.show(wallet, app.chain(wallet), channel)
    app.answer(view, people)
    app.warn(view.warnings)


@command(epilog=example("mpchan inspect update.psbt"))
@file_argument
@click.option(
    "--network", type=click.Choice(list(NETWORKS)), help="For addresses; else the wallet's, else regtest."
)
@common_options
@pass_app
def inspect(app: App, file: str, network: str | None) -> None:
    """Decode any message or transaction, with or without a wallet."""
    from mpchan.party.check.inspection import describe

    def people(view: Message) -> str:
        from mpchan.cli.render import tables as render

        return render.message(view)

    app.answer(
        describe(decode_message(read_input(file), either_version=True), _network(app, network)), people
    )


def _network(app: App, name: str | None) -> Network:
    if name is not None:
        return NETWORKS[name]
    try:
        return app.wallet().network
    except StorageError as error:
        if error.slug != "no-wallet":
            raise
        return REGTEST


@command(epilog=example("mpchan wait 0123abcd --for confirmed --timeout 3600"))
@channel_argument
@channel_option
@click.option(
    "--for",
    "goal",
    type=click.Choice(["confirmed", "final", "closed"]),
    required=True,
    help="What to wait for.",
)
@click.option("--timeout", type=Seconds(min=0), metavar="S", help="Seconds; exit 6 when they are over.")
@chain_options
@common_options
@pass_app
def wait(app: App, name: str | None, channel: str | None, goal: str, timeout: float | None) -> None:
    """Block until a channel has come so far, for scripts.

    confirmed: the funding is as deep as the offer asks. final: you can end the channel alone, by the refund or by what
    you hold. closed: a closing transaction or the refund is in a block.
    """
    channel = one_channel(name, channel)
    gc.enable()  # this command may run for days
    wallet = app.wallet()
    result = views.wait(wallet, app.chain(wallet), channel, goal, timeout)
    app.report(result, lambda view: f"channel {view.channel} is {view.status}")
