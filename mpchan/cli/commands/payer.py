"""``mpchan payer …``: the commands of the side that pays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpchan.chain.base import Chain
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import AGAIN, read_input
from mpchan.cli.input.numbers import AMOUNT
from mpchan.errors import StorageError, UsageError
from mpchan.party import payer
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.results.closing import Refunded
    from mpchan.results.payments import Payment


@options.command(
    "mpchan payer pay 1000 -o update.psbt",
    "mpchan payer pay --total 5000 -o update.psbt",
    "mpchan payer pay --stream < amounts > updates",
)
@click.argument("amount", type=AMOUNT, required=False)
@click.option("--total", type=AMOUNT, help="Pay up to this running total; safe to repeat.")
@click.option("--last", is_flag=True, help="Write the latest update again.")
@click.option("--stream", is_flag=True, help="Read amounts from stdin, one a line; write an update for each.")
@click.option("--totals", is_flag=True, help="With --stream: the lines are running totals, safe to repeat.")
@options.on_error
@options.channel
@options.output
@options.chain
def pay(
    app: App,
    amount: Amount | None,
    total: Amount | None,
    last: bool,
    stream: bool,
    totals: bool,
    on_error: str | None,
    channel: str | None,
    output: Path | None,
) -> int:
    """Pay AMOUNT more: writes the next update for the payee. It is never broadcast.

    Scripts use --total: repeated after a crash it pays nothing twice.

    With --stream one process makes thousands of payments a second. A line that comes out is a payment that is on the
    disk. The channel is held for a moment at a time, and other commands work in between.
    """
    if [amount is not None, total is not None, last, stream].count(True) != 1:
        raise UsageError(
            "usage", "give one of AMOUNT, --total, --last and --stream", hint="see `mpchan payer pay --help`"
        )
    if stream:
        if output is not None:
            raise UsageError("usage", "--output does not go with --stream", hint="redirect standard output")
        from mpchan.cli.commands.stream import pay as pay_stream

        return pay_stream(app, channel, totals=totals, stop=on_error != "continue")
    options.check_stream_options({"--totals": totals, "--on-error": on_error}, "payer pay")
    app.check_output(output)
    wallet = app.wallet(signs=True)
    if amount is not None:
        result = _pay_once(wallet, app.chain(wallet), channel, amount)
    elif total is not None:
        result = payer.pay_up_to(wallet, app.chain(wallet), channel, total)
    else:
        result = payer.pay_last(wallet, app.chain(wallet), channel)
    app.emit(
        result,
        result.hex,
        output,
        f"update {result.update} of channel {result.channel}: {result.amount_sat} sat now, "
        f"{result.paid_sat} in all, {result.remaining_sat} left",
        again=AGAIN if amount is None else "the payment is kept: `mpchan payer pay --last` writes it again",
    )
    return 0


def _pay_once(wallet: Wallet, chain: Chain, channel: str | None, amount: Amount) -> Payment:
    """``pay AMOUNT`` is the one payment that counts twice when it is repeated: where it may count, that is said."""
    try:
        return payer.pay(wallet, chain, channel, amount)
    except StorageError as error:
        if error.slug != "write-unsure":
            raise
        hint = "the payment may count or not: look at the total of `mpchan payer pay --last` before you pay again"
        raise StorageError(error.slug, error.message, hint=hint) from error


@options.command("mpchan payer settle --total 100000 -o settlement.psbt")
@click.option("--total", type=AMOUNT, help="Final total; more than what is paid includes a last payment.")
@options.channel
@options.output
@options.chain
def settle(app: App, total: Amount | None, channel: str | None, output: Path | None) -> None:
    """Close the channel: writes the settlement for the payee.

    It is the final balance; the payee countersigns and broadcasts it. With nothing paid it cancels the channel, and
    all of it comes back to you.
    """
    app.check_output(output)
    wallet = app.wallet(signs=True)
    result = payer.settle(wallet, app.chain(wallet), channel, total)
    app.emit(
        result,
        result.hex,
        output,
        f"settlement of channel {result.channel}: {result.paid_sat} sat to the payee",
        "next: the payee runs `mpchan payee settle FILE`; should it not, `mpchan payer refund` works at its time",
    )


@options.command("mpchan payer refund --channel 0123abcd", "mpchan payer refund refund.hex")
@options.file_if_any
@click.option(
    "--address", metavar="ADDR", help="Where a FILE of the payee's pays, where that is not this wallet."
)
@options.channel
@options.output
@options.chain
def refund(app: App, file: str | None, address: str | None, channel: str | None, output: Path | None) -> None:
    """Take everything back: broadcasts the refund, at its time.

    It is done when it is confirmed: `mpchan wait CHANNEL --for closed`.

    With FILE it is the copy that `mpchan payer fund --refund-out` has written. That needs nothing of the wallet that
    made it: any wallet on the same network will do, and on the embedded chain ($MPCHAN_REGTEST), or with --tip, none.

    Or FILE is what the payee's `mpchan payee sign-refund` has written: then it takes a wallet that was made of the
    payer's seed words, and nothing else.
    """
    if file is not None and channel is not None:
        raise UsageError("usage", "the file names its channel, --channel does not go with it")
    if file is None and address is not None:
        raise UsageError("usage", "--address goes with a file that the payee has signed")
    app.check_output(output, *([file] if file is not None else []))
    with app.sent(
        lambda: _refund_from_file(app, file, address) if file is not None else _refund(app, channel)
    ) as result:
        app.emit(
            result,
            result.hex,
            output,
            f"refund {result.txid} of channel {result.channel}"
            + (
                " is broadcast; it is done once it is confirmed"
                if result.broadcast
                else ": broadcast it yourself"
            ),
        )


def _refund(app: App, channel: str | None) -> Refunded:
    wallet = app.wallet()
    return payer.refund(wallet, app.chain(wallet), channel)


def _refund_from_file(app: App, file: str, address: str | None) -> Refunded:
    from mpchan.bitcoin.message import decode_message
    from mpchan.bitcoin.tx import Transaction
    from mpchan.party.opening.bare_refund import refund_from_file, refund_from_reply

    message = decode_message(read_input(file))
    if not isinstance(message, Transaction):
        wallet = app.wallet(signs=True)
        return refund_from_reply(wallet, app.chain(wallet), message, address=address)
    if address is not None:
        raise UsageError("usage", "this refund is complete: --address does not go with it")
    known = app.wallet_if_any()
    return refund_from_file(known, app.chain(known) if known is not None else app.bare_chain(), message)


@options.command("mpchan payer abandon")
@options.channel
@options.chain
def abandon(app: App, channel: str | None) -> None:
    """Give up an opening whose funding was never signed.

    Its coins are free again.
    """
    wallet = app.wallet()
    result = payer.abandon(wallet, app.chain(wallet), channel)
    app.report(result, lambda view: f"channel {view.channel} is {view.status}")
