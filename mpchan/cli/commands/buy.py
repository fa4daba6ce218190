"""``mpchan payer buy``: buy a file piece by piece."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mpchan.channel.offer import Offer
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.commands.sell import progress_bar
from mpchan.cli.files import check_refund_out, read_text_input
from mpchan.cli.input.numbers import Seconds, counted
from mpchan.cli.render.buy_lines import BuyLines, News
from mpchan.errors import NotPossible, StorageError, UsageError
from mpchan.market.asking import Asking, Step
from mpchan.market.buyer import Buyer
from mpchan.market.output import Output, part_path
from mpchan.market.place import offer_in_place
from mpchan.market.quote import Quote, quote
from mpchan.market.standing import going_purchase
from mpchan.results.sales import Bought, PurchaseCancelled
from mpchan.sale.manifest import listening_at, sale_of
from mpchan.transport.base import Line
from mpchan.transport.folder import REQUESTS
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchases
from mpchan.wallet.wallet import Wallet

USUAL_PATIENCE = 600.0
_REGTEST_PAUSE, _PAUSE = 0.25, 5.0


@options.command(
    "mpchan payer buy /mnt/film/offer.toml --output film.mkv",
    "mpchan payer buy offer.toml --mailbox /mnt/film --output film.mkv",
    "mpchan payer buy offer.toml --mailbox /mnt/film --output film.mkv --cancel",
)
@click.argument("offer", type=options.INPUT)
@click.option(
    "--output",
    "-o",
    type=options.FILE,
    required=True,
    help="Where the file goes; until it is whole, FILE.mpchan-part.",
)
@click.option("--pieces", metavar="LIST", help="Only these, such as 3-7,12; else all.")
@click.option(
    "--mailbox",
    type=options.FOLDER,
    metavar="DIR",
    help="The folder that the seller sees too; else the one that OFFER lies in.",
)
@click.option("--connect", metavar="HOST:PORT", help="Where the seller listens; else as the offer says.")
@click.option(
    "--patience",
    type=Seconds(min=0.1, max=10_000_000),
    metavar="S",
    default=USUAL_PATIENCE,
    help="Seconds in which the seller must answer well; 600 unless told.",
)
@click.option(
    "--refund-out",
    type=options.FILE,
    help="Also write the complete refund there, before the money is locked.",
)
@click.option(
    "--cancel", is_flag=True, help="End the purchase where it stands: the seller closes the channel."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def buy(
    app: App,
    offer: str,
    output: Path,
    pieces: str | None,
    mailbox: Path | None,
    connect: str | None,
    patience: float,
    refund_out: Path | None,
    cancel: bool,
    yes: bool,
) -> None:
    """Buy the file of OFFER, a piece for each payment.

    Shows what it will cost and asks. Then it opens a channel, pays for a piece, takes it, checks it, pays for the next,
    and settles. A piece that does not match is refused, and nothing more is paid.

    Stop it at any moment: the same command goes on where it stopped, and pays for nothing twice. At most one piece is
    ever paid for that is not there. The rest comes back with `mpchan payer refund`, at its time; at once where a seller
    that cannot deliver closes the channel, which is asked of it when the patience ends, and with --cancel.
    """
    gc.enable()  # this command may run for days
    app.check_output(output, offer)
    app.check_output(refund_out, offer, follows=True)
    check_refund_out(refund_out, "file", [output, part_path(output)])
    published = _published(offer)
    sale, folder = sale_of(published), mailbox or _mailbox_of(offer, connect)
    listening = listening_at(published)
    _check_way(listening, folder, connect)
    way = str(folder or connect or (listening or ("",))[0])
    wallet = app.wallet(signs=True)
    purchases, place = Purchases(wallet.directory), output.resolve()
    if cancel:
        with purchases.lock(str(place)):
            cancelled = _cancel(app, wallet, published, place, folder, connect, patience)
        app.report(cancelled, lambda view: _cancelled(view, output))
        return

    def quoted() -> Quote:
        with progress_bar(app, "looking at what is there", sale.length) as progress:
            return quote(wallet, app.chain(wallet), published, place, pieces, progress or _unseen)

    agreed = None
    if not yes and not purchases.unfinished(sale.root, str(place)):
        # a question holds no lock, and a no leaves nothing
        agreed = quoted()
        _agree(app, agreed, way, asks=True)
    with purchases.lock(str(place)):
        found = quoted()
        if agreed is None:
            _agree(app, found, way, asks=not yes)
        else:
            _require_same(agreed, found)
        line = _line(found.purchase.session, listening, folder, connect)
        try:
            delivered = _buy(app, wallet, found, line, patience, refund_out)
        finally:
            line.close()
    app.report(found.bought(*delivered), lambda view: _bought(view, output))


def _agree(app: App, found: Quote, way: str, *, asks: bool) -> None:
    """Show what it comes to, and ask where there is something to pay that was not agreed to before."""
    _show(app, found, way)
    if asks and found.purchase.bought and not found.goes_on:
        app.require_yes("Buy?", "the purchase")


def _require_same(agreed: Quote, found: Quote) -> None:
    """What was agreed to is still so, now that nobody else can work on the file."""
    if (agreed.purchase.wanted, agreed.purchase.bought) != (found.purchase.wanted, found.purchase.bought):
        raise StorageError(
            "locked",
            f"another command has worked on {found.purchase.output} meanwhile",
            hint="run the command again",
        )


def _unseen(done: int) -> None:
    return


def _published(offer: str) -> Offer:
    """The offer that was given; one in a mailbox is waited for while it is being copied there."""

    def read() -> Offer:
        return Offer.from_toml(read_text_input(offer))

    lies_in_mailbox = offer != "-" and (Path(offer).parent / REQUESTS).is_dir()
    return offer_in_place(Path(offer), read) if lies_in_mailbox else read()


def _mailbox_of(offer: str, connect: str | None) -> Path | None:
    """The folder of an offer that lies in a mailbox, where nothing else is said."""
    folder = Path(offer).parent
    return folder if connect is None and (folder / REQUESTS).is_dir() else None


def _check_way(listening: tuple[str, str] | None, mailbox: Path | None, connect: str | None) -> None:
    """There is one way to the seller."""
    if mailbox is not None and connect is not None:
        raise UsageError("usage", "give --mailbox or --connect, not both")
    if mailbox is None and listening is None:
        raise UsageError(
            "no-way",
            "the offer names no place to connect to",
            hint="give --mailbox, the folder that the seller sees too",
        )
    if mailbox is None and listening is not None:
        from mpchan.transport.tcp import parse_address

        parse_address(connect or listening[0])


def _line(session: str, listening: tuple[str, str] | None, mailbox: Path | None, connect: str | None) -> Line:
    """The way to the seller, which was checked.

    Args:
        listening: what the offer that was given says: where the seller is now, also where an older one was agreed to.
    """
    if mailbox is not None:
        from mpchan.transport.mailbox import MailboxLine

        return MailboxLine(mailbox, session)
    from mpchan.transport.tcp import TcpLine, parse_address

    address, certificate = listening or ("", "")
    return TcpLine(parse_address(connect or address), certificate, session)


def _show(app: App, found: Quote, way: str) -> None:
    """What it will cost, for people."""
    sale, purchase = found.sale, found.purchase
    there = f", {len(found.held):,} of them there already" if found.held else ""
    app.say(
        f"{sale.name!r}: {sale.length:,} bytes in {counted(sale.count, 'piece')} of {sale.piece_length:,}"
    )
    app.say(f"from      {way}")
    app.say(f"wanted    {counted(len(purchase.wanted), 'piece')}{there}")
    if not purchase.bought:
        return
    app.say(f"price     {len(purchase.bought):,} x {sale.price.sat:,} = {found.capacity.sat:,} sat")
    if found.goes_on:
        app.say("the channel is funded: this goes on")
        return
    app.say(
        f"fees      about {found.funding_fee.sat:,} sat to open, {found.reserve.sat:,} sat to close, "
        f"at {found.purchase.published.fee_rate}"
    )
    app.say(
        f"locked    {(found.capacity + found.reserve).sat:,} sat, until {found.refund_at} at the longest "
        f"({found.locked_at_most})"
    )
    app.say(f"at stake  {sale.price.sat:,} sat, one piece, should the seller cheat or vanish")


def _buy(
    app: App, wallet: Wallet, found: Quote, line: Line, patience: float, refund_out: Path | None
) -> tuple[PayerRecord | None, str | None]:
    purchase, held = found.purchase, set(found.held)
    with Output(Path(purchase.output), found.sale) as output, _telling(app, found) as tell:
        if purchase.own is None:
            Purchases(wallet.directory).save(purchase)
        if held != set(purchase.wanted):
            output.claim()
        buyer = Buyer(
            wallet,
            app.chain(wallet),
            purchase,
            Asking(line, tell, patience=patience, pause=min(patience, _pause(wallet))),
            output,
            held,
            refund_out,
        )
        try:
            return buyer.run()
        except KeyboardInterrupt:
            app.say(f"mpchan: hint: {buyer.stake()}")
            raise


def _cancel(
    app: App,
    wallet: Wallet,
    published: Offer,
    place: Path,
    folder: Path | None,
    connect: str | None,
    patience: float,
) -> PurchaseCancelled:
    from mpchan.market.closing import cancel

    sale = sale_of(published)
    going = going_purchase(wallet, sale.root, str(place))
    if going is None:
        raise NotPossible(
            "no-purchase", f"no purchase of {sale.name!r} into {place} is going on", hint="see `mpchan list`"
        )
    news, line = News(), _line(going.session, listening_at(published), folder, connect)

    def tell(step: Step) -> None:
        said = news.line(step)
        if said is not None:
            app.say(said)

    try:
        asking = Asking(line, tell, patience=patience, pause=min(patience, _pause(wallet)))
        return cancel(wallet, app.chain(wallet), going, asking)
    finally:
        line.close()


def _cancelled(view: PurchaseCancelled, output: Path) -> str:
    if view.channel is None:
        return f"the purchase of {output} is cancelled: nothing was locked"
    return (
        f"the purchase of {output} is cancelled: {view.paid_sat:,} sat are paid, {view.returned_sat:,} sat come "
        f"back with the close of channel {view.channel}"
    )


def _pause(wallet: Wallet) -> float:
    """Seconds between two looks."""
    return _REGTEST_PAUSE if wallet.network.name == "regtest" else _PAUSE


@contextmanager
def _telling(app: App, found: Quote) -> Iterator[Callable[[Step], None]]:
    """Who is told of every step: a bar in a terminal, else lines for people."""
    if not app.shows_progress:
        yield BuyLines(app.say, found).step
        return
    from mpchan.cli.render.progress import purchase_bar

    with purchase_bar(found) as step:
        yield step


def _bought(view: Bought, output: Path) -> str:
    whose = "" if view.channel is None else f" in channel {view.channel}"
    text = f"{output} is whole: {counted(view.pieces, 'piece')}, {view.bytes:,} bytes, all verified"
    paid = f"\npaid {view.paid_sat:,} sat{whose}" if view.paid_sat else ""
    return f"{text}{paid}"
