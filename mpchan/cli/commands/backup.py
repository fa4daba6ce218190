"""``mpchan backup`` and ``mpchan restore``."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.cli import options
from mpchan.cli.app import App, unlock
from mpchan.cli.commands.coins import scanned_if_possible
from mpchan.cli.files import DONE
from mpchan.cli.input.numbers import counted
from mpchan.results.wallets import BackedUp, Restored
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

_ONE_ONLY = (
    "never use two copies of one wallet: if the old one still lives, delete one of the two before you go on"
)


@options.command("mpchan backup -o /media/stick/mpchan.backup")
@click.option(
    "-o", "--output", type=options.FILE, required=True, help="Write there; an older backup is replaced."
)
def backup(app: App, output: Path) -> None:
    """Write the whole wallet to one file.

    It holds keys, offers, channels and settings. Seed words alone do not recover the money of open channels; this file
    does, as they stood when it was made. Whoever has it has the wallet's money, unless the keys are encrypted: then so
    is the backup, with the same passphrase.

    Make a new one after each opening: a channel that was opened later is not in it, and then only its refund (`mpchan
    payer fund --refund-out`) brings the payer's money back.
    """
    app.check_output(output, follows=True)
    from mpchan.party.backup import backup as make
    from mpchan.party.backup import require_place

    require_place(output, app.wallet_directory)

    wallet = app.wallet()
    result = make(wallet, output, _passphrase(wallet))
    app.report(result, _made)
    app.warn(result.warnings)


def _passphrase(wallet: Wallet) -> str | None:
    """That of the keys, asked for before any lock is taken; None where they are not encrypted."""
    if not wallet.keys.are_encrypted:
        return None
    found: list[str] = []

    def attempt(passphrase: str) -> None:
        wallet.keys.unlock(passphrase)
        found.append(passphrase)

    unlock(attempt)
    return found[0]


def _made(view: BackedUp) -> str:
    return (
        f"{view.file}: {counted(view.channels, 'channel')} and {counted(view.offers, 'offer')}; "
        + ("encrypted with the passphrase; " if view.encrypted else "keep it secret; ")
        + "keep it away from this machine"
    )


@options.command("mpchan --wallet ~/new restore /media/stick/mpchan.backup")
@click.argument("file", type=options.FILE, metavar="FILE")
def restore(app: App, file: Path) -> None:
    """Make a wallet of a backup again.

    It takes a new or empty directory. Use it where the old wallet is lost, never beside it: two copies of one wallet
    lose money.

    What was signed after the backup is not in it. So the offers that were unused are void, and channels in which you
    pay take no payment before `mpchan payer sync`; channels in which you are paid go on at once.

    Seed words alone (`mpchan init --restore`) do not recover the money of open channels.
    """
    from mpchan.party.backup import restore as make
    from mpchan.wallet.backup import read_backup

    result = make(read_backup(file), app.wallet_directory, unlock)
    warnings = list(result.warnings)
    # addresses that were used after the backup
    scan = scanned_if_possible(app, Wallet.open(app.wallet_directory), warnings)
    result = replace(result, scan=scan, warnings=tuple(warnings))
    app.report(result, _restored, DONE)
    app.warn(result.warnings)
    app.say(_ONE_ONLY)


def _restored(view: Restored) -> str:
    lines = [f"restored a {view.network} wallet in {view.wallet}: {counted(view.channels, 'channel')}"]
    if view.void_offers:
        lines.append(f"void, so make new ones: {counted(view.void_offers, 'unused offer')}")
    for channel in view.to_sync:
        lines.append(f"channel {channel}: run `mpchan payer sync` before you pay on")
    return "\n".join(lines)
