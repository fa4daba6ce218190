"""``mpchan demo``: the story of the design, told with the commands that a user types; and a self-test."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import print_output
from mpchan.cli.input.terms import SCHEME
from mpchan.durability import make_directory
from mpchan.errors import StorageError, UsageError

if TYPE_CHECKING:
    from mpchan.cli.demo.show import Transcript
    from mpchan.results.demo import DemoPlayed

_REGTEST = "MPCHAN_REGTEST"


@options.command("mpchan demo", "mpchan demo --scheme taproot --cheat", "mpchan demo --dir ~/try-mpchan")
@click.option(
    "--cheat", is_flag=True, help="Also play the bad endings, and show what the chain says to them."
)
@SCHEME
@click.option(
    "--dir",
    "directory",
    type=options.FOLDER,
    metavar="DIR",
    help="Keep both wallets and their chain there; a new or an empty folder.",
)
def demo(app: App, cheat: bool, scheme: str | None, directory: Path | None) -> None:
    """Watch both parties: 100 payments, 2 transactions on the chain.

    Everything is play money on a private chain of its own, judged by Bitcoin Core's engine. Your wallet and
    your chain are not touched. Should anything go otherwise than told, the demo ends with exit code 1.
    """
    from mpchan.chain.embedded.kernel import load_engine
    from mpchan.cli.demo.show import Transcript
    from mpchan.cli.demo.stage import heeding_interrupts

    load_engine()  # before anything is made
    show = Transcript(silent=app.quiet or app.json)
    with heeding_interrupts() as interrupts, _place(directory) as place, _own_chain(place):
        result = _play(place, show, interrupts, kept=directory, cheat=cheat, scheme=scheme)
    if app.json:
        print_output(result.to_json())


def _play(
    place: Path,
    show: Transcript,
    interrupts: Sequence[int],
    *,
    kept: Path | None,
    cheat: bool,
    scheme: str | None,
) -> DemoPlayed:
    """Play everything in ``place``."""
    from mpchan.chain.embedded import EmbeddedChain
    from mpchan.cli.demo.playing import play_all
    from mpchan.cli.demo.stage import Stage
    from mpchan.cli.demo.story import CAPACITY_SAT, UNIT_SAT, UNITS, tell
    from mpchan.results.demo import BothCoins, DemoPlayed, StepDone

    show.title(f"A file in {UNITS} pieces, paid piece by piece")
    show.say(
        f"A payer buys it from a payee for {UNIT_SAT:,} sat a piece; neither has to trust the other for more than "
        f"one. The commands below are run for you in {place}{'' if kept else ', which is gone afterwards'}."
    )
    with EmbeddedChain(place / "chain") as chain, chain.engine():
        stage = Stage(place, chain, show, scheme, interrupts)
        ending = tell(stage)
        cheats = play_all(stage) if cheat else []
        engine = chain.engine_name()
    if kept is not None:
        _say_goodbye(show, place)
    elif not cheat:
        chosen = "" if scheme is None else f" --scheme {scheme}"
        show.scene(f"And if one of them cheats, or disappears? See `mpchan demo{chosen} --cheat`")
    return DemoPlayed(
        directory=None if kept is None else str(place),
        engine=engine,
        unit_sat=UNIT_SAT,
        payments=UNITS,
        capacity_sat=CAPACITY_SAT,
        channel=ending.channel,
        transactions_on_chain=len(ending.transactions),
        transactions=ending.transactions,
        balances=BothCoins(ending.payer, ending.payee),
        fees_sat=ending.fees_sat,
        cheats=tuple(cheats),
        steps=tuple(StepDone(step.command, step.exit_code) for step in stage.steps),
    )


def _say_goodbye(show: Transcript, place: Path) -> None:
    show.scene("The wallets are yours to play with")
    show.command(["cd", str(place)])
    show.command(["export", f"{_REGTEST}={place / 'chain'}"])
    show.command(["mpchan", "--wallet", "payer", "list"])


@contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    """An empty folder for the demo: the user's own, which stays, or a temporary one, which does not."""
    if directory is None:
        with _temporary() as place:
            yield place
        return
    try:
        make_directory(directory, parents=True)
        empty = not any(directory.iterdir())
    except OSError as error:
        raise StorageError("write-failed", f"no folder for the demo: {error!s:.200}") from error
    if not empty:
        raise UsageError(
            "demo-directory", f"{directory} is not empty", hint="name a new folder, the demo makes it"
        )
    yield directory.resolve()


@contextmanager
def _temporary() -> Iterator[Path]:
    import tempfile

    try:
        made = tempfile.TemporaryDirectory(prefix="mpchan-demo-")
    except OSError as error:
        raise StorageError("write-failed", f"no temporary folder for the demo: {error!s:.200}") from error
    with made as name:
        yield Path(name).resolve()


@contextmanager
def _own_chain(place: Path) -> Iterator[None]:
    """The demo's own embedded chain for all commands meanwhile, never the user's."""
    before = os.environ.get(_REGTEST)
    os.environ[_REGTEST] = str(place / "chain")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_REGTEST]
        else:
            os.environ[_REGTEST] = before
