"""``mpchan payee …``: the commands of the side that is paid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpchan.cli import options
from mpchan.cli.app import App, check_address
from mpchan.cli.files import read_input, read_message_bytes
from mpchan.cli.input.numbers import AMOUNT, Duration
from mpchan.cli.input.terms import plain_terms, terms_options
from mpchan.errors import UsageError
from mpchan.party import payee
from mpchan.party.common import read_psbt, read_transaction
from mpchan.units import lock_time_from_int

if TYPE_CHECKING:
    from mpchan.results.closing import Closed
    from mpchan.results.payments import Accepted, Superseded


@options.command("mpchan payee offer --max-capacity 0.01btc --memo 'big file' -o offer.toml")
@click.option(
    "--like", metavar="OFFER_ID", help="The same terms as an earlier offer of yours, with a new key."
)
@click.option("--min-capacity", "min_capacity_sat", type=AMOUNT, help="Smallest channel.")
@click.option("--max-capacity", "max_capacity_sat", type=AMOUNT, help="Largest channel.")
@terms_options
@click.option("--min-increment", "min_increment_sat", type=AMOUNT, help="Smallest payment.")
@click.option(
    "--address", metavar="ADDRESS", help="Where you are paid, instead of a fresh address of this wallet."
)
@click.option(
    "--expires-in",
    type=Duration(),
    metavar="DURATION",
    help="For how long it holds, such as 12h or 2d; 0 for ever.",
)
@click.option(
    "--for",
    "wish",
    type=options.INPUT,
    metavar="FILE",
    help="Answer the request of a buyer of a file on sale; nothing else goes with it.",
)
@options.tip
@options.output
def offer(
    app: App,
    /,
    like: str | None,
    address: str | None,
    expires_in: int | None,
    wish: str | None,
    force: bool,
    output: Path | None,
    **terms: object,
) -> None:
    """Make an offer for one channel, for the payer: its TOML.

    What you leave out comes from wallet.toml, the fee rate else from the chain. An offer serves one channel and has a
    key of its own. With --for it is one for a buyer of a file that `mpchan payee sell` has put on sale.
    """
    changes = plain_terms(terms)
    app.check_output(output, *([wish] if wish is not None else []))
    others = (like, address, expires_in)
    if wish is not None and (changes or force or any(other is not None for other in others)):
        raise UsageError("usage", "the request says it all: nothing goes with --for")
    asked = None if wish is None else read_message_bytes(wish)
    wallet = app.wallet(signs=True)
    if address is not None:
        check_address(address, wallet.network)
    if asked is not None:
        from mpchan.party.offers.selling import offer_for

        result = offer_for(wallet, asked)
    else:
        result = payee.offer(
            wallet,
            app.chain(wallet),
            changes,
            like=like,
            address=address,
            expires_in=expires_in,
            force=force,
        )
    app.emit(
        result,
        result.toml,
        output,
        f"offer {result.offer_id}, paid to {result.payee_address}",
        "next: the payer runs `mpchan payer open OFFER AMOUNT` on this text",
        again=f"the offer is kept in {wallet.directory / 'offers' / result.offer_id}.toml",
    )


@options.command("mpchan payee sign-refund request.psbt -o signed-refund.psbt", name="sign-refund")
@options.file
@options.output
@options.chain
def sign_refund(app: App, file: str, output: Path | None) -> None:
    """Sign the refund that a payer asks for: writes it.

    The request is checked against your offer. One refund is signed for a channel, ever; the same request again gets the
    same answer.
    """
    app.check_output(output, file)
    psbt = read_psbt(read_input(file))
    wallet = app.wallet(signs=True)
    result = payee.sign_refund(wallet, app.chain(wallet), psbt)
    app.emit(
        result,
        result.hex,
        output,
        f"signed the refund of channel {result.channel}: {result.capacity_sat} sat, "
        f"refund at {lock_time_from_int(result.refund_lock_time)}",
        "next: the payer runs `mpchan payer fund FILE` on this message",
    )


@options.command("mpchan payee funding funding.hex")
@options.file
@click.option("--broadcast", is_flag=True, help="Also broadcast it.")
@options.chain
def funding(app: App, file: str, broadcast: bool) -> None:
    """Take the funding transaction as a file.

    It is checked against the refund and kept. It counts as no confirmation.
    """
    transaction = read_transaction(read_input(file))
    wallet = app.wallet()
    with app.sent(lambda: payee.funding(wallet, app.chain(wallet), transaction, send=broadcast)) as result:
        app.report(
            result,
            lambda view: f"channel {view.channel} is funded by {view.funding_txid}, once confirmed",
        )


@options.command("mpchan payee accept update.psbt", "mpchan payee accept --stream --json < updates")
@click.argument("file", type=options.INPUT, metavar="FILE", required=False)
@click.option("--stream", is_flag=True, help="Read messages from stdin, one a line; write a result for each.")
@click.option(
    "--skip-superseded", is_flag=True, help="With --stream: of the updates that wait, verify the newest only."
)
@options.on_error
@options.chain
def accept(app: App, file: str | None, stream: bool, skip_superseded: bool, on_error: str | None) -> int:
    """Verify an update, countersign it and keep it. Deliver for the total that it reports as paid.

    With --stream one process takes thousands a second. A line that comes out is a payment that is on the disk. A
    channel is held for a moment at a time, and other commands and a watcher work in between. --skip-superseded loses
    nothing: the newest update pays no less than those before it, and they are reported as superseded by it.
    """
    if stream == (file is not None):
        text = "a FILE does not go with --stream" if stream else "missing argument 'FILE'"
        raise UsageError("usage", text, hint="see `mpchan payee accept --help`")
    if stream:
        from mpchan.cli.commands.stream import accept as accept_stream

        return accept_stream(app, _streamed, skip_superseded=skip_superseded, stop=on_error != "continue")
    options.check_stream_options(
        {"--skip-superseded": skip_superseded, "--on-error": on_error}, "payee accept"
    )
    psbt = read_psbt(read_input(str(file)))
    wallet = app.wallet(signs=True)
    result = payee.accept(wallet, app.chain(wallet), psbt)
    app.report(result, _accepted)
    app.warn(result.warnings)
    return 0


def _streamed(view: Accepted | Superseded) -> str:
    """One line, and no more, for a message of a stream."""
    from mpchan.results.payments import Superseded

    if isinstance(view, Superseded):
        what = "an update" if view.update is None else f"update {view.update}"
        return f"{what} was not verified: update {view.superseded_by} supersedes it"
    text = _accepted(view).partition("\n")[0]
    count = view.superseded
    return (
        f"{text}; supersedes {count} that {'was' if count == 1 else 'were'} not verified" if count else text
    )


def _accepted(view: Accepted) -> str:
    is_update = view.kind == "update"
    what = f"update {view.update}" if is_update else "the settlement"
    if view.duplicate:
        return f"{what} of channel {view.channel} is held already: {view.paid_sat} sat in all{_pending(view)}"
    text = (
        f"{what} of channel {view.channel}: {view.received_sat} sat received, "
        f"{view.paid_sat} in all, {view.remaining_sat} left{_pending(view)}"
    )
    return text if is_update else text + "\nnext: `mpchan payee settle` broadcasts it"


def _pending(view: Accepted | Closed) -> str:
    """Of a settlement that came from L_0 on."""
    pending = view.pending_sat
    return f"; {pending} more count once it is confirmed, deliver nothing for them before" if pending else ""


@options.command("mpchan payee settle settlement.psbt", "mpchan payee settle --channel 0123abcd")
@options.file_if_any
@options.channel
@options.output
@options.chain
def settle(app: App, file: str | None, channel: str | None, output: Path | None) -> None:
    """Close the channel on the chain.

    With FILE, the payer's settlement is countersigned and broadcast. Without FILE your held settlement goes out, else
    your best update once its lock time has come.
    """
    app.check_output(output, *([file] if file is not None else []))
    psbt = None if file is None else read_psbt(read_input(file))
    wallet = app.wallet(signs=psbt is not None)
    with app.sent(lambda: payee.settle(wallet, app.chain(wallet), psbt, channel)) as result:
        app.emit(
            result,
            result.hex,
            output,
            f"{result.kind} {result.txid} of channel {result.channel}: {result.paid_sat} sat for you"
            + _pending(result)
            + (", broadcast" if result.broadcast else "; broadcast it yourself"),
        )


@options.command("mpchan payee abandon --channel 0123abcd")
@options.channel
@options.chain
def abandon(app: App, channel: str | None) -> None:
    """Give up an opening whose funding never came. The signed refund stays remembered."""
    wallet = app.wallet()
    result = payee.abandon(wallet, app.chain(wallet), channel)
    app.report(result, lambda view: f"channel {view.channel} is {view.status}")
