"""``mpchan payee sell``: put a file on sale and serve its buyers."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from mpchan.chain.base import Chain
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.commands.watch import (
    INTERRUPTED,
    INTERVAL_SECONDS,
    REGTEST_INTERVAL_SECONDS,
    Ending,
    ending,
    watching,
)
from mpchan.cli.files import written
from mpchan.cli.input.numbers import AMOUNT, SIZE, Seconds, WholeNumber
from mpchan.cli.input.terms import plain_terms, terms_options
from mpchan.cli.render.sale_lines import SaleLines, renewed_line, selling_line
from mpchan.errors import ParseError, UsageError, system_reason
from mpchan.market.hashing import FileHashes, Progress, cached_hashes
from mpchan.market.place import require_own_place
from mpchan.market.seller import Seller
from mpchan.market.serving import serve
from mpchan.party.offers.selling import published_offer, room_warnings
from mpchan.party.watch.beside import MakeWatcher
from mpchan.party.watch.watcher import PATIENCE_SECONDS, require_backend
from mpchan.sale.manifest import MAX_PIECES, Sale, tcp_way
from mpchan.transport.base import Inbox
from mpchan.units import Amount
from mpchan.wallet.offers import OwnOffer
from mpchan.wallet.storage import write_durably
from mpchan.wallet.wallet import Wallet

USUAL_PIECES = 100
HASHES = "hashes"
OFFER_NAME = "offer.toml"


@options.command(
    "mpchan payee sell film.mkv --price-per-piece 1000 --mailbox /mnt/film",
    "mpchan payee sell a.iso --price-per-piece 1000 --listen [::]:7420 -o a.toml",
)
@click.argument("file", type=options.FILE)
@click.option("--price-per-piece", "price", type=AMOUNT, required=True, help="What a piece costs.")
@click.option("--pieces", type=WholeNumber(1, MAX_PIECES), metavar="N", help="How many; 100 unless told.")
@click.option("--piece-size", type=SIZE, metavar="SIZE", help="Bytes of a piece instead, such as 1G.")
@click.option(
    "--free-pieces",
    type=WholeNumber(0, MAX_PIECES),
    metavar="N",
    default=0,
    help="So many from the first one on are samples.",
)
@click.option(
    "--mailbox",
    type=options.FOLDER,
    metavar="DIR",
    help="A folder that buyers see too; the offer is laid there.",
)
@click.option("--listen", metavar="HOST:PORT", help="Serve buyers that connect there (TLS).")
@click.option("--buyers", type=WholeNumber(min=1), metavar="N", help="End once so many buyers have settled.")
@click.option(
    "--interval",
    type=Seconds(min=0.05, max=86_400),
    metavar="S",
    help="Seconds between two looks after the channels; 1 on regtest, else 30.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="Where buyers pay to; else one of this wallet, and the next one once a close has paid to it.",
)
@terms_options
@click.option("-o", "--output", type=options.FILE, help="Also write the offer there.")
def sell(
    app: App,
    /,
    file: Path,
    price: Amount,
    pieces: int | None,
    piece_size: int | None,
    free_pieces: int,
    mailbox: Path | None,
    listen: str | None,
    buyers: int | None,
    interval: float | None,
    address: str | None,
    force: bool,
    output: Path | None,
    **terms: object,
) -> int:
    """Sell FILE piece by piece, to many buyers at once.

    Every buyer gets an offer and a channel of its own, and a piece for each payment of its price. Channels are looked
    after as `mpchan watch` does. Stop it at any moment: the same command goes on with the same buyers. The published
    offer holds for 24 hours and is renewed after 12.

    Each line on stdout is an event; with --json an object. With -q people hear of alarms alone.
    """
    gc.enable()  # this command may run for days
    _check_usage(pieces, piece_size, mailbox, listen, output)
    app.check_output(output, str(file))
    _require_text(file.name)
    wallet = app.wallet(signs=True)
    hashes = _hashed(app, wallet, file, pieces, piece_size)
    sale = Sale(file.name, hashes.length, hashes.piece_length, price, free_pieces, hashes.hashes)
    with ExitStack() as stack, ending() as end:
        if mailbox is not None:
            require_own_place(wallet, mailbox / OFFER_NAME, sale)
        wake = threading.Event()
        inboxes, ways = _inboxes(stack, wallet, mailbox, listen, wake)
        chain = app.chain(wallet)
        require_backend(chain)
        # for a channel that the watcher holds, or another command: others wait too
        wallet.channels.patience = PATIENCE_SECONDS
        published = Published(app, wallet, chain, sale, mailbox, output)
        publish = partial(published.publish, plain_terms(terms), ways=ways, address=address, force=force)
        own = publish()
        app.say(f"the offer is in {published}: buyers run `mpchan payer buy {published} --output FILE`")
        lines = SaleLines(app)
        seller = Seller(wallet, chain, own, file.resolve(), hashes, lines.event)
        lines.published(selling_line(sale, own.offer.offer_id), "selling", own.offer)

        def renew() -> OwnOffer:
            new = publish()
            lines.published(renewed_line(new.offer), "renewed", new.offer)
            return new

        watcher = partial(watching, app, wallet)
        _serve(seller, inboxes, watcher, wake, lines, end, renew, buyers=buyers, interval=interval)
    if lines.failure is not None:
        raise lines.failure
    return INTERRUPTED if end.signal == signal.SIGINT else 0


def _serve(
    seller: Seller,
    inboxes: Sequence[Inbox],
    watcher: MakeWatcher,
    wake: threading.Event,
    lines: SaleLines,
    end: Ending,
    renew: Callable[[], OwnOffer],
    *,
    buyers: int | None,
    interval: float | None,
) -> None:
    """Until a signal comes, nobody reads the lines any more, or so many buyers have settled."""

    def enough() -> bool:
        served = buyers is not None and lines.settled >= buyers and not any(box.busy() for box in inboxes)
        return served or end.has_come() or lines.failure is not None

    usual = REGTEST_INTERVAL_SECONDS if seller.wallet.network.name == "regtest" else INTERVAL_SECONDS
    serve(
        seller,
        inboxes,
        watcher,
        interval=interval or usual,
        wake=wake,
        stop=enough,
        tell_channel=lines.channel,
        tell_round=lines.round,
        renew=renew,
    )


def _check_usage(
    pieces: int | None, piece_size: int | None, mailbox: Path | None, listen: str | None, output: Path | None
) -> None:
    hint = "see `mpchan payee sell --help`"
    if pieces is not None and piece_size is not None:
        raise UsageError("usage", "give --pieces or --piece-size, not both", hint=hint)
    if mailbox is None and listen is None:
        raise UsageError("usage", "give --mailbox, --listen, or both", hint=hint)
    if mailbox is None and output is None:
        raise UsageError("usage", "without a mailbox, -o names a file for the offer", hint=hint)
    if listen is not None:
        from mpchan.transport.tcp import parse_address

        parse_address(listen)


def _require_text(name: str) -> None:
    """Said before an hour is spent on hashing."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(
            "usage",
            f"buyers are told the name of the file, which is no text in UTF-8: {name!r:.100}",
            hint="rename it, or sell a link to it that has another name",
        ) from None


def _hashed(app: App, wallet: Wallet, file: Path, pieces: int | None, piece_size: int | None) -> FileHashes:
    """The pieces' hashes; told while it takes its time."""
    try:
        length = os.stat(file).st_size
    except OSError as error:
        raise ParseError("unreadable-file", f"{file!s:.200}: {system_reason(error)}") from None
    piece_length = piece_size or max(1, -(-length // (pieces or USUAL_PIECES)))
    count = -(-length // piece_length)
    if count > MAX_PIECES:
        raise UsageError(
            "too-many-pieces",
            f"{length} bytes in pieces of {piece_length} are {count} pieces, more than {MAX_PIECES}",
            hint="make the pieces larger",
        )
    with progress_bar(app, "hashing", length) as progress:
        return cached_hashes(wallet.directory / HASHES, file, min(piece_length, length or 1), progress)


@contextmanager
def progress_bar(app: App, title: str, length: int) -> Iterator[Progress | None]:
    """A bar on standard error, in a terminal alone."""
    if not app.shows_progress:
        yield None
        return
    from mpchan.cli.render.progress import bar

    with bar(title, length) as progress:
        yield progress


def _inboxes(
    stack: ExitStack, wallet: Wallet, mailbox: Path | None, listen: str | None, wake: threading.Event
) -> tuple[list[Inbox], list[dict[str, Any]]]:
    """Where requests come in, and what the offer's ``[[ways]]`` says of where the seller listens."""
    inboxes: list[Inbox] = []
    if mailbox is not None:
        from mpchan.transport.mailbox import MailboxInbox

        inboxes.append(MailboxInbox(mailbox, wake))
        stack.callback(inboxes[-1].close)
    if listen is None:
        return inboxes, []
    from mpchan.http.certificates import own_certificate
    from mpchan.transport.tcp import TcpInbox, parse_address

    certificate = own_certificate(wallet.directory)
    inboxes.append(TcpInbox(parse_address(listen), certificate, wake))
    stack.callback(inboxes[-1].close)
    return inboxes, [tcp_way(listen, certificate.fingerprint)]


class Published:
    """The offer for everybody, and its places."""

    def __init__(
        self, app: App, wallet: Wallet, chain: Chain, sale: Sale, mailbox: Path | None, output: Path | None
    ) -> None:
        self._app = app
        self._wallet = wallet
        self._chain = chain
        self._sale = sale
        self._mailbox = None if mailbox is None else mailbox / OFFER_NAME
        self._output = output

    def __str__(self) -> str:
        return str(self._output or self._mailbox)

    def publish(self, terms: Mapping[str, Any], **options: Any) -> OwnOffer:
        """The offer, which is in its places when this returns; people are told what they should know."""
        if self._mailbox is not None:
            require_own_place(self._wallet, self._mailbox, self._sale)
        own, warnings = published_offer(self._wallet, self._chain, terms, self._sale, **options)
        self._app.warn([*warnings, *room_warnings(self._chain, own.offer, len(self._sale.sold))])
        text = own.offer.to_toml()
        if self._mailbox is not None:
            write_durably(self._mailbox, text.encode(), mode=0o644)
        if self._output is not None:
            with written(self._output, text):
                pass
        return own
