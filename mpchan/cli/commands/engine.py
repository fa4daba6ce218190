"""``mpchan engine``: which consensus engine the embedded chain uses, and how it comes into this environment."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.chain.embedded.kernel import engine_name, load_engine
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.errors import ChainError
from mpchan.results.wallets import Engine
from mpchan.values import replace


def show(app: App) -> None:
    """Say which engine is in use; ``engine-missing`` where there is none."""
    app.answer(_engine(), lambda view: f"{view.engine}, in {view.directory}")


@options.command("mpchan engine install")
@click.option("--yes", is_flag=True, help="Do not ask.")
def install(app: App, yes: bool) -> None:
    """Fetch the engine, where it is not there yet.

    pip downloads py-bitcoinkernel (2.6 MB) from the index that it is configured for, for this platform and whatever
    Python this is, and puts it beside mpchan. A file whose SHA-256 is not the one that mpchan names is refused.
    No other command of mpchan asks a package index for anything.
    """
    try:
        here = _engine()
    except ChainError:
        app.report(_installed(app, yes), lambda view: f"installed {view.engine}, in {view.directory}")
    else:
        app.report(
            replace(here, installed=False),
            lambda view: f"{view.engine} is there already, in {view.directory}",
        )


def _installed(app: App, yes: bool) -> Engine:
    from mpchan.chain.embedded import installing

    directory = installing.target_directory()
    installing.need_pip()
    question = f"download Bitcoin Core's engine (2.6 MB) from pip's package index into {directory}?"
    if not yes:
        app.require_yes(question, "the installation")
    installing.install(directory)
    return replace(_engine(), installed=True)


def _engine() -> Engine:
    return Engine(engine_name(), str(Path(load_engine().__file__).parents[1]))
