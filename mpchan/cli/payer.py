"""``mpchan payer …``: the commands of the side that pays."""

from __future__ import annotations

from pathlib import Path

import click

from mpchan.chain.base import Chain
from mpchan.channel.terms import Terms
from mpchan.cli.app import (
    AMOUNT,
    FEE_RATE,
    App,
    chain_options,
    channel_option,
    check_address,
    check_stream_options,
    common_options,
    example,
    file_argument,
    on_error_option,
    output_option,
    pass_app,
)
from mpchan.cli.files import AGAIN, check_refund_out, confirmed, read_input, read_text_input
from mpchan.cli.numbers import WholeNumber
from mpchan.errors import NotPossible, StorageError, UsageError
from mpchan.party import payer
from mpchan.party.common import Result, read_psbt, with_warnings
from mpchan.units import Amount, FeeRate, OutPoint, lock_time_from_int
from mpchan.wallet.wallet import Wallet


@click.command(
    "open",
    epilog=example(
        "mpchan payer open offer.toml 100000 -o request.psbt\n"
        "mpchan payer open offer.toml 100000 --external\n"
        "mpchan payer open --funding funding.psbt -o request.psbt\n"
        "mpchan payer open --again TXID:VOUT -o request.psbt"
    ),
)
@click.argument("offer", required=False, type=click.Path(allow_dash=True))
@click.argument("amount", required=False, type=AMOUNT)
@click.option("--external", is_flag=True, help="Another wallet funds it: tells where to pay, and how much.")
@click.option(
    "--funding",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="What that wallet made: a PSBT, or a transaction.",
)
@click.option(
    "--again",
    metavar="TXID:VOUT",
    help="Ask for the refund of what a channel's address was paid, replaced, too early or twice.",
)
@click.option(
    "--refund-delay",
    type=WholeNumber(min=1),
    metavar="N",
    help="Blocks or seconds until the refund; else the offer's.",
)
@click.option(
    "--funding-fee-rate", type=FEE_RATE, help="Of the funding, in sat/vB; else the chain's estimate."
)
@click.option(
    "--address", metavar="ADDRESS", help="Where your share goes, instead of a fresh address of this wallet."
)
@output_option
@chain_options
@common_options
@pass_app
def open_channel(
    app: App,
    offer: str | None,
    amount: Amount | None,
    external: bool,
    funding: str | None,
    again: str | None,
    refund_delay: int | None,
    funding_fee_rate: FeeRate | None,
    address: str | None,
    output: Path | None,
) -> None:
    """Open a channel of AMOUNT under OFFER: writes a request.

    It asks the payee for its signature on your refund. Nothing is signed or sent yet. The same command again gives the
    same request.

    With --external this wallet needs no coins: another wallet makes the funding without broadcasting it, and --funding
    takes it from there.

    With --again the money is in a block already, where no refund can spend it: the funding was replaced, left too
    early, or was not the one that was agreed. The payee can sign a refund of that too; `mpchan payer fund` takes it.
    """
    outpoint = None if again is None else OutPoint.parse(again)
    _check_open_usage(
        [
            form
            for form, is_given in (
                ("--external", external),
                ("--funding", funding is not None),
                ("--again", again is not None),
            )
            if is_given
        ],
        {
            "OFFER": offer,
            "AMOUNT": amount,
            "--refund-delay": refund_delay,
            "--funding-fee-rate": funding_fee_rate,
            "--address": address,
            "--output": output,
        },
    )
    app.check_output(output, *(name for name in (offer, funding) if name is not None))
    text = None if offer is None else read_text_input(offer)
    wallet = app.wallet(signs=True)
    if address is not None:
        check_address(address, wallet.network)
    if outpoint is not None:
        from mpchan.party.again import open_again

        _emit_request(app, open_again(wallet, app.chain(wallet), outpoint, refund_delay), output)
    elif funding is not None:
        _open_funding(app, wallet, funding, text, amount, refund_delay, output)
    elif text is None or amount is None:
        raise TypeError("checked above")
    elif external:
        _plan(app, wallet, text, amount, address)
    else:
        result = payer.open_channel(
            wallet,
            app.chain(wallet),
            text,
            amount,
            refund_delay=refund_delay,
            funding_fee_rate=funding_fee_rate,
            address=address,
        )
        _emit_request(app, result, output)


_NEEDS = {"--external": ("OFFER", "AMOUNT"), "--funding": (), "--again": ()}
_EXCLUDES = {
    "--external": ("--refund-delay", "--funding-fee-rate", "--output"),
    "--funding": ("--funding-fee-rate", "--address"),
    "--again": ("OFFER", "AMOUNT", "--funding-fee-rate", "--address"),
}


def _check_open_usage(forms: list[str], given: dict[str, object]) -> None:
    """Which options go with which of the four forms of the command.

    Raises:
        UsageError: ``usage``.
    """
    hint = "see `mpchan payer open --help`"
    if forms == ["--external", "--funding"]:
        raise UsageError("usage", "give --external first, and --funding once the funding is made", hint=hint)
    if len(forms) > 1:
        raise UsageError("usage", f"{forms[0]} does not go with {forms[-1]}", hint=hint)
    form = "".join(forms)
    for name in _NEEDS.get(form, ("OFFER", "AMOUNT")):
        if given[name] is None:
            raise UsageError("usage", f"missing argument '{name}'", hint=hint)
    for name in _EXCLUDES.get(form, ()):
        if given[name] is not None:
            raise UsageError("usage", f"{form} does not go with {name}", hint=hint)


def _emit_request(app: App, result: Result, output: Path | None) -> None:
    app.emit(
        result,
        output,
        f"channel {result['channel']} of {result['capacity_sat']} sat, "
        f"refund at {lock_time_from_int(result['refund_lock_time'])}",
        "next: the payee runs `mpchan payee sign-refund FILE` on this message",
    )


def _plan(app: App, wallet: Wallet, text: str, amount: Amount, address: str | None) -> None:
    from mpchan.cli import request
    from mpchan.party.external import plan_channel

    result = plan_channel(wallet, app.chain(wallet), text, amount, address=address)
    app.answer(result, request.people)
    for line in request.ADVICE:
        app.say(line)
    app.warn(result)


def _open_funding(
    app: App,
    wallet: Wallet,
    file: str,
    text: str | None,
    amount: Amount | None,
    refund_delay: int | None,
    output: Path | None,
) -> None:
    from mpchan.bitcoin.message import decode_message
    from mpchan.party.external import open_funding

    result = open_funding(
        wallet,
        app.chain(wallet),
        decode_message(read_input(file)),
        offer_text=text,
        capacity=amount,
        refund_delay=refund_delay,
    )
    _emit_request(app, result, output)


@click.command(epilog=example("mpchan payer fund signed-refund.psbt --refund-out refund.hex -o funding.hex"))
@file_argument
@click.option(
    "--funding",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="The funding, signed by the wallet that made it.",
)
@click.option("--no-broadcast", is_flag=True, help="Only write the signed funding; you broadcast it.")
@click.option(
    "--refund-out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the complete refund there.",
)
@click.option("--yes", is_flag=True, help="Do not ask on mainnet.")
@output_option
@chain_options
@common_options
@pass_app
def fund(
    app: App,
    file: str,
    funding: str | None,
    no_broadcast: bool,
    refund_out: Path | None,
    yes: bool,
    output: Path | None,
) -> None:
    """Store the refund that the payee signed, then fund the channel.

    The payee's signature is verified and the refund stored before the funding is signed and broadcast. A funding that
    another wallet made is signed there, and handed over with --funding.

    Your seed words alone do not recover the money of an open channel: the refund does, and so does a backup. Keep a
    copy of the refund (--refund-out), or a new `mpchan backup`, away from this machine.
    """
    from mpchan.bitcoin.message import decode_message

    sources = [file] if funding is None else [file, funding]
    app.check_output(output, *sources)
    app.check_output(refund_out, *sources, follows=True)
    check_refund_out(refund_out, "funding", [output] if output is not None else [])
    psbt = read_psbt(read_input(file))
    signed = None if funding is None else decode_message(read_input(funding))
    wallet = app.wallet(signs=True)

    def confirm(terms: Terms) -> None:
        if wallet.network.name == "mainnet" and not yes:
            _ask(app, terms)

    def act() -> Result:
        return payer.fund(
            wallet,
            app.chain(wallet),
            psbt,
            signed=signed,
            send=not no_broadcast,
            refund_out=refund_out,
            confirm=confirm,
        )

    with app.sent(act) as result:
        if result["hex"] is None:
            _report_returned(app, result, output)
            return
        app.emit(
            result,
            output,
            f"channel {result['channel']}: the refund is stored, the funding {result['funding_txid']} is signed"
            + (
                " and broadcast"
                if result["broadcast"]
                else "; broadcast it yourself, and never bump its fee by replacement"
            ),
            *(
                ["never bump its fee in the wallet that signed it: a replacement voids the refund"]
                if signed
                else []
            ),
            "seed words alone do not recover an open channel, the refund does: keep a copy of it (--refund-out)",
            "next: wait with `mpchan wait CHANNEL --for confirmed`, then `mpchan payer pay AMOUNT`",
        )


def _report_returned(app: App, result: Result, output: Path | None) -> None:
    """Of a funding that a block held before: there is nothing to sign, to send or to write to a file."""
    if output is not None:
        result = with_warnings(result, [f"nothing is written to {output}: a block holds the funding already"])
    app.report(
        result,
        lambda view: (
            f"channel {view['channel']}: the refund is stored; a block holds the funding {view['funding_txid']} already"
        ),
    )
    app.say(
        "`mpchan payer refund` takes the money back at its time; keep a copy of the refund (--refund-out)"
    )
    app.warn(result)


def _ask(app: App, terms: Terms) -> None:
    text = (
        f"This locks {terms.funding_value} of real money until {terms.refund_lock_time} at the latest. Go on?"
    )
    if app.json or not confirmed(text):
        raise NotPossible(
            "not-confirmed", "funding on mainnet was not confirmed", hint="answer y, or add --yes"
        )


@click.command(
    epilog=example(
        "mpchan payer pay 1000 -o update.psbt\n"
        "mpchan payer pay --total 5000 -o update.psbt\n"
        "mpchan payer pay --stream < amounts > updates"
    )
)
@click.argument("amount", type=AMOUNT, required=False)
@click.option("--total", type=AMOUNT, help="Pay up to this running total; safe to repeat.")
@click.option("--last", is_flag=True, help="Write the latest update again.")
@click.option("--stream", is_flag=True, help="Read amounts from stdin, one a line; write an update for each.")
@click.option("--totals", is_flag=True, help="With --stream: the lines are running totals, safe to repeat.")
@on_error_option
@channel_option
@output_option
@chain_options
@common_options
@pass_app
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
        from mpchan.cli.stream import pay as pay_stream

        return pay_stream(app, channel, totals=totals, stop=on_error != "continue")
    check_stream_options({"--totals": totals, "--on-error": on_error}, "payer pay")
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
        output,
        f"update {result['update']} of channel {result['channel']}: {result['amount_sat']} sat now, "
        f"{result['paid_sat']} in all, {result['remaining_sat']} left",
        again=AGAIN if amount is None else "the payment is kept: `mpchan payer pay --last` writes it again",
    )
    return 0


def _pay_once(wallet: Wallet, chain: Chain, channel: str | None, amount: Amount) -> Result:
    """``pay AMOUNT`` is the one payment that counts twice when it is repeated: where it may count, that is said."""
    try:
        return payer.pay(wallet, chain, channel, amount)
    except StorageError as error:
        if error.slug != "write-unsure":
            raise
        hint = "the payment may count or not: look at the total of `mpchan payer pay --last` before you pay again"
        raise StorageError(error.slug, error.message, hint=hint) from error


@click.command(epilog=example("mpchan payer settle --total 100000 -o settlement.psbt"))
@click.option("--total", type=AMOUNT, help="Final total; more than what is paid includes a last payment.")
@channel_option
@output_option
@chain_options
@common_options
@pass_app
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
        output,
        f"settlement of channel {result['channel']}: {result['paid_sat']} sat to the payee",
        "next: the payee runs `mpchan payee settle FILE`; should it not, `mpchan payer refund` works at its time",
    )


@click.command(epilog=example("mpchan payer refund --channel 0123abcd\nmpchan payer refund refund.hex"))
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@click.option(
    "--address", metavar="ADDR", help="Where a FILE of the payee's pays, where that is not this wallet."
)
@channel_option
@output_option
@chain_options
@common_options
@pass_app
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
            output,
            f"refund {result['txid']} of channel {result['channel']}"
            + (
                " is broadcast; it is done once it is confirmed"
                if result["broadcast"]
                else ": broadcast it yourself"
            ),
        )


def _refund(app: App, channel: str | None) -> Result:
    wallet = app.wallet()
    return payer.refund(wallet, app.chain(wallet), channel)


def _refund_from_file(app: App, file: str, address: str | None) -> Result:
    from mpchan.bitcoin.message import decode_message
    from mpchan.bitcoin.tx import Transaction
    from mpchan.party.bare_refund import refund_from_file, refund_from_reply

    message = decode_message(read_input(file))
    if not isinstance(message, Transaction):
        wallet = app.wallet(signs=True)
        return refund_from_reply(wallet, app.chain(wallet), message, address=address)
    if address is not None:
        raise UsageError("usage", "this refund is complete: --address does not go with it")
    known = app.wallet_if_any()
    return refund_from_file(known, app.chain(known) if known is not None else app.bare_chain(), message)


@click.command(epilog=example("mpchan payer abandon"))
@channel_option
@chain_options
@common_options
@pass_app
def abandon(app: App, channel: str | None) -> None:
    """Give up an opening whose funding was never signed.

    Its coins are free again.
    """
    wallet = app.wallet()
    result = payer.abandon(wallet, app.chain(wallet), channel)
    app.report(result, lambda view: f"channel {view['channel']} is {view['status']}")
