"""``mpchan payee export-latest`` and ``mpchan payer sync``: after a payer went back to an older copy of its wallet."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import AGAIN, DONE, read_input
from mpchan.errors import UsageError
from mpchan.party import syncing
from mpchan.party.common import read_psbt, still_going
from mpchan.results.closing import Synced


@options.command("mpchan payee export-latest -o latest.psbt", name="export-latest")
@options.named_channel
@options.output
def export_latest(app: App, channel: str | None, output: Path | None) -> None:
    """Give the payer its own latest update or settlement back.

    A payer whose wallet is an older copy knows nothing of what it paid since. What is written is what it once sent,
    with its signature alone; your own signature never leaves this way.
    """
    app.check_output(output)
    wallet = app.wallet()
    result = syncing.export_latest(wallet, channel, still_going(app.chain(wallet)))
    what = f"update {result.update}" if result.kind == "update" else "the settlement"
    app.emit(
        result,
        result.hex,
        output,
        f"{what} of channel {result.channel}, {result.paid_sat} sat in all, as the payer sent it",
        "next: the payer runs `mpchan payer sync FILE` on this message",
    )


@options.command("mpchan payer sync latest.psbt", "mpchan payer sync --nothing-newer")
@options.file_if_any
@click.option("--nothing-newer", is_flag=True, help="On your word: you have paid nothing since the backup.")
@options.channel
def sync(app: App, file: str | None, nothing_newer: bool, channel: str | None) -> None:
    """Take back what you have signed and this wallet does not know of.

    FILE comes from the payee's `mpchan payee export-latest`. Your own signature on it is verified, so the payee can
    make nothing up, and number and total never go backwards. One that gives back less than the latest costs you
    nothing: it only has to refuse your next payment. A channel that was restored from a backup takes no payment before
    that, or before your word that nothing is newer.
    """
    if (file is None) is not nothing_newer:
        raise UsageError(
            "usage", "give one of a file and --nothing-newer", hint="see `mpchan payer sync --help`"
        )
    if file is not None and channel is not None:
        raise UsageError("usage", "the file names its channel, --channel does not go with it")
    psbt = None if file is None else read_psbt(read_input(file))
    wallet = app.wallet()
    result = syncing.nothing_newer(wallet, channel) if psbt is None else syncing.sync(wallet, psbt)
    app.report(result, _people, DONE if nothing_newer else AGAIN)
    app.warn(result.warnings)


def _people(view: Synced) -> str:
    state = f"{view.paid_sat} sat in all, {view.remaining_sat} left"
    what = f"update {view.update}" if view.kind == "update" else "the settlement"
    now = "is brought up to" if view.changed else "stands at"
    return f"channel {view.channel} {now} {what}: {state}"
