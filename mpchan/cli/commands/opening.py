"""``mpchan payer open`` and ``payer fund``: how a channel begins, whichever wallet pays it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from mpchan.bitcoin.psbt import Psbt
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.terms import Terms
from mpchan.cli import options
from mpchan.cli.app import App, check_address
from mpchan.cli.files import check_refund_out, read_input, read_text_input
from mpchan.cli.input.numbers import AMOUNT, FEE_RATE, WholeNumber
from mpchan.errors import ParseError, UsageError
from mpchan.party import payer
from mpchan.party.common import read_psbt
from mpchan.party.sending import Leaving
from mpchan.results.opening import Funded, Opened, OpenedAtOnce, Payable
from mpchan.units import Amount, FeeRate, OutPoint, Txid, lock_time_from_int
from mpchan.values import replace
from mpchan.wallet.payer_record import Asked
from mpchan.wallet.wallet import Wallet

_LEAVING_OPTIONS = (
    click.option("--no-broadcast", is_flag=True, help="Only write the signed funding; you broadcast it."),
    click.option("--refund-out", type=options.FILE, help="Also write the complete refund there."),
    click.option("--yes", is_flag=True, help="Do not ask on mainnet."),
)


def _leaving_options(command: options.F) -> options.F:
    """Of a command with which a funding leaves."""
    for option in reversed(_LEAVING_OPTIONS):
        command = option(command)
    return command


def _confirm(app: App, wallet: Wallet, yes: bool) -> Callable[[Terms], None]:
    """Asks before real money is locked, and says beforehand what could become of it."""

    def confirm(terms: Terms) -> None:
        made_out = terms.offer.sale is not None and "buyer" in terms.offer.sale
        if not construction_of(terms.offer).has_exchange and not made_out:
            app.say(
                "this offer is for one payer: should another one have paid under it first, "
                f"your money waits for its refund at {terms.refund_lock_time}"
            )
        if wallet.network.name == "mainnet" and not yes:
            locked = f"{terms.funding_value} of real money until {terms.refund_lock_time}"
            app.require_yes(f"This locks {locked} at the latest. Go on?", "funding on mainnet")

    return confirm


@options.command(
    "mpchan payer open offer.toml 100000 -o request.psbt",
    "mpchan payer open offer.toml 100000 --external",
    "mpchan payer open offer.toml --funding TXID",
    "mpchan payer open --funding funding.psbt -o request.psbt",
    "mpchan payer open --again TXID:VOUT -o request.psbt",
    name="open",
)
@click.argument("offer", required=False, type=options.INPUT)
@click.argument("amount", required=False, type=AMOUNT)
@click.option("--external", is_flag=True, help="Another wallet funds it: tells where to pay, and how much.")
@click.option(
    "--funding",
    type=options.INPUT,
    metavar="FILE|TXID",
    help="What that wallet made: a PSBT, or a transaction; under taproot its id will do.",
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
@_leaving_options
@options.output
@options.chain
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
    no_broadcast: bool,
    refund_out: Path | None,
    yes: bool,
    output: Path | None,
) -> None:
    """Open a channel of AMOUNT under OFFER.

    Writes a request for the payee's signature on your refund. Nothing is signed or sent yet. The same command again
    gives the same request.

    Under an offer with the scheme taproot the payee is asked nothing: your refund is signed and stored, then the
    funding is signed and broadcast; writes that. --no-broadcast, --refund-out and --yes are for it.

    With --external this wallet needs no coins: another wallet makes the funding without broadcasting it, and --funding
    takes it from there. Under taproot any wallet just pays the address, and AMOUNT may be left out; the same command
    again tells what has come.

    With --again the money is in a block already, where no refund can spend it: the funding was replaced, left too
    early, or was not the one that was agreed. The payee can sign a refund of that too; `mpchan payer fund` takes it.
    """
    outpoint = None if again is None else OutPoint.parse(again)
    given: dict[str, object] = {"OFFER": offer, "AMOUNT": amount, "--refund-delay": refund_delay}
    given |= {"--funding-fee-rate": funding_fee_rate, "--address": address}
    _check_open_usage(
        {"--external": external, "--funding": funding is not None, "--again": again is not None},
        {**given, "--no-broadcast": no_broadcast or None, "--refund-out": refund_out, "--output": output},
    )
    _check_files(app, output, refund_out, [name for name in (offer, funding) if name is not None])
    text = None if offer is None else read_text_input(offer)
    wallet = app.wallet(signs=True)
    if address is not None:
        check_address(address, wallet.network)
    if outpoint is not None:
        _open_again(app, wallet, outpoint, refund_delay, output)
    elif funding is not None:
        _open_funding(app, wallet, funding, text, amount, refund_delay, output, refund_out)
    elif text is None:
        raise TypeError("checked above")
    elif external:
        _await(app, wallet, text, amount, Asked(refund_delay, None, address), refund_out)
    elif amount is None:
        raise TypeError("checked above")
    else:
        leaving = Leaving(not no_broadcast, refund_out, _confirm(app, wallet, yes))
        _open(app, wallet, text, amount, Asked(refund_delay, funding_fee_rate, address), leaving, output)


def _check_files(app: App, output: Path | None, refund_out: Path | None, sources: Sequence[str]) -> None:
    app.check_output(output, *sources)
    app.check_output(refund_out, *sources, follows=True)
    check_refund_out(refund_out, "funding", [output] if output is not None else [])


def _open(
    app: App, wallet: Wallet, text: str, amount: Amount, asked: Asked, leaving: Leaving, output: Path | None
) -> None:
    def act() -> Opened:
        return payer.open_channel(
            wallet,
            app.chain(wallet),
            text,
            amount,
            refund_delay=asked.refund_delay,
            funding_fee_rate=asked.funding_fee_rate,
            address=asked.address,
            leaving=leaving,
        )

    with app.sent(act) as result:
        if isinstance(result, OpenedAtOnce):
            _emit_at_once(app, result, output)
        else:
            _emit_request(app, result, output)


def _emit_at_once(app: App, result: OpenedAtOnce, output: Path | None) -> None:
    done = "signed and broadcast" if result.broadcast else "signed; broadcast it yourself"
    app.emit(
        result,
        result.hex,
        output,
        f"channel {result.channel} of {result.capacity_sat} sat: the refund is stored, for "
        f"{lock_time_from_int(result.refund_lock_time)}; the funding {result.funding_txid} is {done}",
        "your seed words and this offer recover it, whatever else is lost: keep the offer",
        "next: wait with `mpchan wait CHANNEL --for confirmed`, then `mpchan payer pay AMOUNT`",
    )


_LEAVING = ("--no-broadcast", "--refund-out")
_NEEDS = {"--external": ("OFFER",), "--funding": (), "--again": ()}
_EXCLUDES = {
    "--external": ("--funding-fee-rate", "--output", "--no-broadcast"),
    "--funding": ("--funding-fee-rate", "--address", "--no-broadcast"),
    "--again": ("OFFER", "AMOUNT", "--funding-fee-rate", "--address", *_LEAVING),
}


def _check_open_usage(named: dict[str, bool], given: dict[str, object]) -> None:
    """Which options go with which of the four forms of the command."""
    forms = [form for form, is_named in named.items() if is_named]
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


def _emit_request(app: App, result: Opened, output: Path | None) -> None:
    app.emit(
        result,
        result.hex,
        output,
        f"channel {result.channel} of {result.capacity_sat} sat, "
        f"refund at {lock_time_from_int(result.refund_lock_time)}",
        "next: the payee runs `mpchan payee sign-refund FILE` on this message",
    )


def _open_again(
    app: App, wallet: Wallet, outpoint: OutPoint, refund_delay: int | None, output: Path | None
) -> None:
    from mpchan.party.opening.again import open_again

    result = open_again(wallet, app.chain(wallet), outpoint, refund_delay)
    if isinstance(result, Payable):
        _tell_payable(app, result, output)
    else:
        _emit_request(app, result, output)


def _await(
    app: App, wallet: Wallet, text: str, amount: Amount | None, asked: Asked, refund_out: Path | None
) -> None:
    """Of a funding by another wallet: where that pays."""
    from mpchan.channel.offer import Offer
    from mpchan.cli.commands import request
    from mpchan.party.opening.external import plan_channel

    offer = Offer.from_toml(text)
    if not construction_of(offer).has_exchange:
        from mpchan.party.opening.awaited import open_by_address

        _tell_payable(app, open_by_address(wallet, app.chain(wallet), offer, amount, asked, refund_out))
        return
    hint = "see `mpchan payer open --help`"
    if amount is None:
        raise UsageError("usage", "missing argument 'AMOUNT'", hint=hint)
    _require_exchange_usage("--external", asked.refund_delay, refund_out)
    result = plan_channel(wallet, app.chain(wallet), text, amount, address=asked.address)
    app.answer(result, request.people)
    for line in request.ADVICE:
        app.say(line)
    app.warn(result.warnings)


def _require_exchange_usage(form: str, refund_delay: int | None, refund_out: Path | None) -> None:
    """Where the refund is asked for later, nothing is known of it yet."""
    for name, value in (("--refund-delay", refund_delay), ("--refund-out", refund_out)):
        if value is not None:
            raise UsageError(
                "usage", f"{form} does not go with {name}", hint="see `mpchan payer open --help`"
            )


def _tell_payable(app: App, result: Payable, output: Path | None = None) -> None:
    from mpchan.cli.commands import request

    app.answer(result, request.payable)
    if not result.arrived:
        for line in request.PAYABLE_ADVICE:
            app.say(line)
    if output is not None:
        app.say(f"mpchan: warning: nothing is written to {output}: the payee has nothing to sign")
    app.warn(result.warnings)


def _open_funding(
    app: App,
    wallet: Wallet,
    file: str,
    text: str | None,
    amount: Amount | None,
    refund_delay: int | None,
    output: Path | None,
    refund_out: Path | None,
) -> None:
    from mpchan.bitcoin.message import decode_message
    from mpchan.channel.offer import Offer
    from mpchan.party.opening.awaited import pays_awaited, take_funding
    from mpchan.party.opening.external import open_funding

    txid = _txid(file)
    if txid is not None and Path(file).exists():
        txid = None
    message = None if txid is not None else decode_message(read_input(file), either_version=True)
    if message is None or pays_awaited(wallet, message):
        told = message.finalize().extract() if isinstance(message, Psbt) else message or txid
        offer = None if text is None else Offer.from_toml(text)
        if told is None:
            raise TypeError("a transaction, or its id")
        _tell_payable(app, take_funding(wallet, app.chain(wallet), told, offer, refund_out), output)
        return
    _require_exchange_usage("--funding", None, refund_out)
    result = open_funding(
        wallet,
        app.chain(wallet),
        message,
        offer_text=text,
        capacity=amount,
        refund_delay=refund_delay,
    )
    _emit_request(app, result, output)


def _txid(text: str) -> Txid | None:
    """A transaction's id, where that is what was typed."""
    try:
        return Txid.from_hex(text)
    except ParseError:
        return None


@options.command("mpchan payer fund signed-refund.psbt --refund-out refund.hex -o funding.hex")
@options.file
@click.option(
    "--funding", type=options.INPUT, metavar="FILE", help="The funding, signed by the wallet that made it."
)
@_leaving_options
@options.output
@options.chain
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
    _check_files(app, output, refund_out, sources)
    psbt = read_psbt(read_input(file))
    signed = None if funding is None else decode_message(read_input(funding), either_version=True)
    wallet = app.wallet(signs=True)

    def act() -> Funded:
        return payer.fund(
            wallet,
            app.chain(wallet),
            psbt,
            signed=signed,
            send=not no_broadcast,
            refund_out=refund_out,
            confirm=_confirm(app, wallet, yes),
        )

    with app.sent(act) as result:
        if result.hex is None:
            _report_returned(app, result, output)
        else:
            _emit_funding(app, result, result.hex, output, elsewhere=signed is not None)


def _emit_funding(app: App, result: Funded, message: str, output: Path | None, *, elsewhere: bool) -> None:
    done = " and broadcast"
    if not result.broadcast:
        done = "; broadcast it yourself, and never bump its fee by replacement"
    never = "never bump its fee in the wallet that signed it: a replacement voids the refund"
    app.emit(
        result,
        message,
        output,
        f"channel {result.channel}: the refund is stored, the funding {result.funding_txid} is signed{done}",
        *([never] if elsewhere else []),
        "seed words alone do not recover an open channel, the refund does: keep a copy of it (--refund-out)",
        "next: wait with `mpchan wait CHANNEL --for confirmed`, then `mpchan payer pay AMOUNT`",
    )


def _report_returned(app: App, result: Funded, output: Path | None) -> None:
    """Of a funding that a block held before: there is nothing to sign, to send or to write to a file."""
    if output is not None:
        more = f"nothing is written to {output}: a block holds the funding already"
        result = replace(result, warnings=(more,))
    app.report(
        result,
        lambda view: (
            f"channel {view.channel}: the refund is stored; a block holds the funding {view.funding_txid} already"
        ),
    )
    app.say(
        "`mpchan payer refund` takes the money back at its time; keep a copy of the refund (--refund-out)"
    )
    app.warn(result.warnings)
