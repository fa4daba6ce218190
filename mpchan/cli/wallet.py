"""The wallet's own commands: ``init``, ``list``, ``show``, ``inspect``, ``wait``."""

from __future__ import annotations

import gc
import math
import os

import click

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.network import NETWORKS, REGTEST, Network
from mpchan.cli.app import (
    App,
    chain_options,
    channel_argument,
    channel_option,
    common_options,
    example,
    file_argument,
    one_channel,
    pass_app,
)
from mpchan.cli.files import read_input
from mpchan.errors import MpchanError, ParseError, StorageError, UsageError
from mpchan.party import views
from mpchan.party.common import Result
from mpchan.wallet.config import BACKENDS, ChainConfig
from mpchan.wallet.wallet import Wallet


@click.command(epilog=example("mpchan init\nmpchan --wallet ~/seller init --network signet --chain none"))
@click.option(
    "--network",
    type=click.Choice(list(NETWORKS)),
    default="regtest",
    show_default=True,
    help="Of all its coins and channels.",
)
@click.option(
    "--chain", "backend", type=click.Choice(BACKENDS), help="Default: embedded on regtest, else none."
)
@click.option("--rpc-url", metavar="URL", help="bitcoind: where its JSON-RPC listens, http://HOST:PORT.")
@click.option(
    "--rpc-cookie",
    metavar="FILE",
    help="bitcoind: its cookie file; or $MPCHAN_RPC_USER and …_PASSWORD.",
)
@click.option(
    "--electrum",
    metavar="HOST:PORT[:s]",
    multiple=True,
    help="Electrum server, :s for TLS; may be repeated, in the order of preference.",
)
@click.option("--proxy", metavar="URL", help="electrum: a SOCKS5 proxy such as Tor's, socks5://HOST:PORT.")
@common_options
@pass_app
def init(
    app: App,
    network: str,
    backend: str | None,
    rpc_url: str | None,
    rpc_cookie: str | None,
    electrum: tuple[str, ...],
    proxy: str | None,
) -> None:
    """Make a new wallet with new keys."""
    chosen = backend or ("embedded" if network == "regtest" else "none")
    if chosen == "embedded" and network != "regtest":
        raise UsageError("usage", f"the embedded chain is regtest only, not {network}")
    for option, value, owner in (
        ("--rpc-url", rpc_url, "bitcoind"),
        ("--rpc-cookie", rpc_cookie, "bitcoind"),
        ("--electrum", electrum or None, "electrum"),
        ("--proxy", proxy, "electrum"),
    ):
        if value is not None and chosen != owner:
            raise UsageError("usage", f"{option} belongs to --chain {owner}, not to {chosen}")
    if rpc_url is not None:
        _check_url(rpc_url)
    cookie = None if rpc_cookie is None else os.path.abspath(rpc_cookie)
    chain = ChainConfig(chosen, None, rpc_url, cookie, electrum, proxy)
    exposed = _exposed_servers(chain) if chosen == "electrum" else []
    wallet = Wallet.create(app.wallet_directory.absolute(), NETWORKS[network], chain)
    result = {"wallet": str(wallet.directory), "network": network, "chain": chosen}
    app.report(result, lambda view: f"made a {network} wallet in {view['wallet']} (chain: {chosen})")
    if network == "mainnet":
        app.say("keep keys.toml safe: it holds the keys, not encrypted")
    for server in exposed if network != "regtest" else ():
        app.say(
            f"warning: what {server} is asked can be read and changed on the way; servers with TLS end in :s"
        )


def _exposed_servers(chain: ChainConfig) -> list[str]:
    """The servers that are asked in clear, beyond this network; exit 2 where the settings are none."""
    from mpchan.chain.electrum.address import read_config

    try:
        servers, _ = read_config(chain)
    except ParseError as error:
        raise UsageError("usage", error.message, hint=error.hint) from None
    return [str(server) for server in servers if server.is_exposed]


def _check_url(url: str) -> None:
    """Exit 2 where it is none, or holds a password: it is about to be written to wallet.toml."""
    from mpchan.chain.bitcoind.endpoint import Endpoint

    try:
        Endpoint.parse(url)
    except ParseError as error:
        raise UsageError(error.slug, error.message, hint=error.hint) from None


@click.command("list", epilog=example("mpchan list"))
@chain_options
@common_options
@pass_app
def list_channels(app: App) -> None:
    """All channels of this wallet."""
    wallet = app.wallet()
    problems: list[MpchanError] = []
    view = views.list_channels(wallet, app.chain(wallet), lambda name, error: problems.append(error))

    def people(result: Result) -> str:
        from mpchan.cli import render

        return render.channels(result)

    app.answer(view, people)
    app.name_unreadable(problems)


@click.command(epilog=example("mpchan show 0123abcd"))
@channel_argument
@channel_option
@chain_options
@common_options
@pass_app
def show(app: App, name: str | None, channel: str | None) -> None:
    """One channel whole; CHANNEL is any unique beginning of its id."""
    channel = one_channel(name, channel)
    wallet = app.wallet()

    def people(view: Result) -> str:
        from mpchan.cli import render

        return render.channel(view)

    app.answer(views.show(wallet, app.chain(wallet), channel), people)


@click.command(epilog=example("mpchan inspect update.psbt"))
@file_argument
@click.option(
    "--network", type=click.Choice(list(NETWORKS)), help="For addresses; else the wallet's, else regtest."
)
@common_options
@pass_app
def inspect(app: App, file: str, network: str | None) -> None:
    """Decode any message or transaction, with or without a wallet."""
    from mpchan.party.inspection import describe

    def people(view: Result) -> str:
        from mpchan.cli import render

        return render.message(view)

    app.answer(describe(decode_message(read_input(file)), _network(app, network)), people)


def _network(app: App, name: str | None) -> Network:
    if name is not None:
        return NETWORKS[name]
    try:
        return app.wallet().network
    except StorageError as error:
        if error.slug != "no-wallet":
            raise
        return REGTEST


@click.command(epilog=example("mpchan wait 0123abcd --for confirmed --timeout 3600"))
@channel_argument
@channel_option
@click.option(
    "--for",
    "goal",
    type=click.Choice(["confirmed", "final", "closed"]),
    required=True,
    help="What to wait for.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds; exit 6 when they are over."
)
@chain_options
@common_options
@pass_app
def wait(app: App, name: str | None, channel: str | None, goal: str, timeout: float | None) -> None:
    """Block until a channel has come so far, for scripts.

    confirmed: the funding is as deep as the offer asks. final: you can end the channel alone, by the refund or by what
    you hold. closed: a closing transaction or the refund is in a block.
    """
    channel = one_channel(name, channel)
    if timeout is not None and math.isnan(timeout):
        raise UsageError("usage", "--timeout is not a number of seconds")
    gc.enable()  # this command may run for days
    wallet = app.wallet()
    result = views.wait(wallet, app.chain(wallet), channel, goal, timeout)
    app.report(result, lambda view: f"channel {view['channel']} is {view['status']}")
