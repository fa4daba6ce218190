"""The wallet's own coins: ``address``, ``balance``, ``send``, ``scan``."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.cli import options
from mpchan.cli.app import App, check_address
from mpchan.cli.files import DONE
from mpchan.cli.input.numbers import AMOUNT, FEE_RATE, WholeNumber
from mpchan.errors import ChainError, MpchanError, UsageError
from mpchan.results.coins import Scanned, Sent
from mpchan.units import Amount, FeeRate
from mpchan.wallet.wallet import Wallet


@options.command("mpchan address")
def address(app: App) -> None:
    """A fresh address of this wallet, to receive coins."""
    from mpchan.party import views

    app.answer(views.fresh_address(app.wallet()), lambda view: view.address)


@options.command("mpchan balance --json")
@options.chain
def balance(app: App) -> None:
    """The wallet's coins, and its share of its channels."""
    from mpchan.cli.render import tables
    from mpchan.party import views

    wallet = app.wallet()
    problems: list[MpchanError] = []
    view = views.balance(wallet, app.chain(wallet), lambda name, error: problems.append(error))
    app.answer(view, tables.balance)
    app.name_unreadable(problems)


@options.command("mpchan send ADDRESS 50000 --fee-rate 2", "mpchan send ADDRESS --all -o sent.hex")
@click.argument("address", metavar="[ADDRESS]", required=False)
@click.argument("amount", type=AMOUNT, metavar="[AMOUNT]", required=False)
@click.option("--all", "everything", is_flag=True, help="All that can be spent, instead of AMOUNT.")
@click.option("--fee-rate", type=FEE_RATE, help="In sat/vB; else the chain's estimate.")
@click.option("--no-broadcast", is_flag=True, help="Only write the signed transaction; you broadcast it.")
@click.option("--resend", metavar="TXID", help="Broadcast again what was sent before.")
@click.option("--forget", metavar="TXID", help="Give up what never left; its coins are free again.")
@click.option("--yes", is_flag=True, help="Do not ask on mainnet.")
@options.output
@options.chain
def send(
    app: App,
    address: str | None,
    amount: Amount | None,
    everything: bool,
    fee_rate: FeeRate | None,
    no_broadcast: bool,
    resend: str | None,
    forget: str | None,
    yes: bool,
    output: Path | None,
) -> None:
    """Send AMOUNT of the wallet's coins to ADDRESS.

    It spends confirmed coins, and change of its own that is not confirmed yet where these do not suffice. Coins that a
    channel or an earlier send needs are left alone, and with --all also those that are not worth their fee.

    Repeat the command when it fails: until it has told its result, it goes on with the same transaction. Its coins stay
    reserved until it is in a block, or another transaction has spent them. What has fallen out of the mempool is sent
    again by --resend, with any unique beginning of its TXID.
    """
    forms = [address is not None, resend is not None, forget is not None]
    new = address is not None
    idle = everything or no_broadcast or fee_rate is not None
    if forms.count(True) != 1 or (new and (amount is not None) == everything) or (idle and not new):
        raise UsageError(
            "usage",
            "give ADDRESS with AMOUNT or --all, or --resend, or --forget",
            hint="see `mpchan send --help`",
        )
    app.check_output(output)
    if forget is not None:
        _forget(app, forget)
    elif resend is not None:
        _resend(app, resend, output)
    elif address is not None:
        _send(app, address, amount, fee_rate, not no_broadcast, yes, output)


def _send(
    app: App,
    address: str,
    amount: Amount | None,
    fee_rate: FeeRate | None,
    sends: bool,
    yes: bool,
    output: Path | None,
) -> None:
    from mpchan.party import coins

    wallet = app.wallet(signs=True)
    script = check_address(address, wallet.network)

    def confirm(paid: Amount, fee: Amount) -> None:
        text = f"This sends {paid} of real money to {address}, and pays a fee of {fee}. Go on?"
        if wallet.network.name == "mainnet" and not yes:
            app.require_yes(text, "sending on mainnet")

    chain = app.chain(wallet)
    coins.send(
        wallet,
        chain,
        script,
        amount,
        fee_rate=fee_rate,
        sends=sends,
        confirm=confirm,
        tell=lambda result: _tell(app, result, output),
    )


def _resend(app: App, txid: str, output: Path | None) -> None:
    from mpchan.party import coins

    wallet = app.wallet()
    coins.resend(wallet, app.chain(wallet), txid, lambda result: _tell(app, result, output))


def _forget(app: App, txid: str) -> None:
    from mpchan.party import coins

    wallet = app.wallet()
    result = coins.forget(wallet, app.chain(wallet), txid)
    app.report(result, lambda view: f"{view.txid} is forgotten, its coins are free again", DONE)
    app.say("destroy every copy of it: whoever has one can still send it")


def _tell(app: App, result: Sent, output: Path | None) -> None:
    app.emit(
        result,
        result.hex,
        output,
        f"{result.amount_sat} sat in {result.txid}, "
        f"fee {result.fee_sat} sat, change {result.change_sat} sat"
        + ("" if result.broadcast else "; broadcast it yourself, or with `mpchan send --resend`"),
    )


@options.command("mpchan scan --gap-limit 100")
@click.option(
    "--gap-limit",
    type=WholeNumber(1, 10_000),
    metavar="N",
    default=20,
    show_default=True,
    help="So many unused addresses in a row end the search.",
)
@options.chain
def scan(app: App, gap_limit: int) -> None:
    """Look for used addresses of this wallet, after a restore.

    It asks the chain for the wallet's addresses one after the other, until so many in a row were never used
    (BIP-0044). New addresses then come after the last used one. A Bitcoin Core node knows unspent coins only: with it,
    addresses whose coins are all spent count as unused, so give a larger limit. On mainnet it may take it minutes.
    """
    from mpchan.party.holdings import scan as find

    wallet = app.wallet()
    app.report(find(wallet, app.chain(wallet), gap_limit), scanned)


def scanned(view: Scanned) -> str:
    """What a search has found, for people."""
    number = view.found
    return (
        f"found {number} used address{'' if number == 1 else 'es'} with {view.coins_sat} sat; "
        f"next are receive {view.receive} and change {view.change}"
    )


def scanned_if_possible(app: App, wallet: Wallet, warnings: list[str]) -> Scanned | None:
    """What a search of the chain finds for a wallet that was just restored, which it is without the search too."""
    from mpchan.party.holdings import scan

    try:
        return scan(wallet, app.chain(wallet))
    except ChainError as error:
        warnings.append(
            f"the chain was not searched, run `mpchan scan` before anything else: {error.message}"
        )
        return None
