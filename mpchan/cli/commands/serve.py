"""``mpchan payee serve``: a web service that is paid by the request."""

from __future__ import annotations

import gc
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpchan.channel.construction.registry import for_connections
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.commands.fetch import missing_http
from mpchan.cli.commands.watch import (
    INTERRUPTED,
    INTERVAL_SECONDS,
    REGTEST_INTERVAL_SECONDS,
    ending,
    watching,
)
from mpchan.cli.files import read_text_input
from mpchan.cli.input.numbers import AMOUNT, Seconds
from mpchan.cli.render.service_lines import ServiceLines
from mpchan.errors import UsageError
from mpchan.party.watch.beside import WatcherBeside
from mpchan.party.watch.watcher import PATIENCE_SECONDS, Finding, require_backend
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.http.certificates import Certificate
    from mpchan.http.server.desk import ChannelEvent
    from mpchan.http.server.prices import PriceOf

USUAL_ADDRESS = "127.0.0.1:8402"
_WILDCARDS = ("0.0.0.0", "::")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PAUSE_SECONDS = 0.5


@options.command(
    "mpchan payee serve --upstream http://127.0.0.1:8000 --price 10",
    "mpchan payee serve --upstream http://127.0.0.1:8000 --prices p.toml",
)
@click.option(
    "--upstream", metavar="URL", required=True, help="The web service that requests are passed on to."
)
@click.option("--price", type=AMOUNT, help="What every request costs.")
@click.option(
    "--prices", type=options.INPUT, metavar="FILE", help="Prices by path and method, [[price]] in TOML."
)
@click.option(
    "--listen", metavar="HOST:PORT", default=USUAL_ADDRESS, help=f"Where; {USUAL_ADDRESS} unless told."
)
@click.option("--url", metavar="URL", help="The address that clients use, where it is another one.")
@click.option("--realm", metavar="NAME", default="mpchan", help="What the service calls itself to clients.")
@click.option(
    "--scheme",
    type=click.Choice([*for_connections(), "both"]),
    default=for_connections()[0],
    help=f"The constructions of channels that it takes; {for_connections()[0]} unless told.",
)
@click.option("--deposit", type=AMOUNT, help="What a client is asked to lock; 100 requests' worth at least.")
@click.option("--certificate", type=options.FILE, help="A certificate of an authority (PEM), with --key.")
@click.option("--key", type=options.FILE, help="Its key (PEM).")
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy in front that says who its clients are.",
)
@click.option("--plain", is_flag=True, help="No TLS: on the loopback alone, as behind a proxy.")
@click.option(
    "--interval",
    type=Seconds(min=0.05, max=86_400),
    metavar="S",
    help="Seconds between two looks after the channels; 1 on regtest, else 30.",
)
def serve(
    app: App,
    upstream: str,
    price: Amount | None,
    prices: str | None,
    listen: str,
    url: str | None,
    realm: str,
    scheme: str,
    deposit: Amount | None,
    certificate: Path | None,
    key: Path | None,
    proxies: tuple[str, ...],
    plain: bool,
    interval: float | None,
) -> int:
    """Let a web service be paid by the request.

    Who does not pay is answered 402, with what it costs in the "Payment" scheme. Requests that are paid for go to the
    service behind --upstream, with headers X-Mpchan-… that say how. It may charge less by X-Mpchan-Charge in its
    answer, and what it answers with 400 or above costs nothing. Channels are looked after as `mpchan watch` does. Stop
    it at any moment: the same command goes on with the same channels.

    Without --certificate it has one of its own, which clients know by the fingerprint in the address that it shows.
    Each line on stdout is an event; with --json an object. With -q people hear of alarms alone.
    """
    gc.enable()  # this command may run for days
    host, port = _address(listen)
    _check_usage(host, url, certificate, key, plain)
    price_of = _price(price, prices)
    wallet = app.wallet(signs=True)
    require_backend(app.chain(wallet))
    wallet.channels.patience = PATIENCE_SECONDS
    happening = _Happening()
    with ExitStack() as stack, ending() as end:
        try:
            from mpchan.http.listening.server import Listening
            from mpchan.http.server.cashier import Cashier
            from mpchan.http.server.paid import Paid
            from mpchan.http.server.upstream import Upstream
        except ImportError as error:
            raise missing_http(error) from None
        own = None if plain else _certificate(wallet, certificate, key)
        service = Upstream(upstream)
        schemes = for_connections() if scheme == "both" else (scheme,)
        asked = None if deposit is None else deposit.sat
        cashier = Cashier(
            wallet, chain=app.chain, realm=realm, schemes=schemes, deposit=asked, tell=happening.tell
        )
        cashier.start()
        stack.callback(cashier.close)
        paid = Paid(service, cashier, price_of)
        listening = Listening(paid, host, port, own, trusted=proxies)
        paid.address = _public(url, host, listening.port, own)
        stack.enter_context(listening)
        lines = ServiceLines(app)
        lines.started(paid.address)
        usual = REGTEST_INTERVAL_SECONDS if wallet.network.name == "regtest" else INTERVAL_SECONDS
        make = partial(watching, app, wallet)
        with WatcherBeside(make, interval=interval or usual, wake=happening.wake) as beside:
            _follow(
                beside, happening, lines, lambda: end.has_come() or listening.has_ended or cashier.has_ended
            )
    failure = cashier.failure or lines.failure
    if failure is not None:
        raise failure
    return INTERRUPTED if end.signal == signal.SIGINT else 0


class _Happening:
    """What the service's own thread tells, for the one that prints."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self._events: queue.SimpleQueue[ChannelEvent] = queue.SimpleQueue()

    def tell(self, event: ChannelEvent) -> None:
        """From that thread."""
        self._events.put(event)
        self.wake.set()

    def told(self) -> Iterator[ChannelEvent]:
        """What has come since."""
        while not self._events.empty():
            yield self._events.get_nowait()


def _follow(
    beside: WatcherBeside, happening: _Happening, lines: ServiceLines, ends: Callable[[], bool]
) -> None:
    """Tell what happens until it is to end, or nobody reads the lines any more."""
    while True:
        over = ends() or lines.failure is not None
        for event in happening.told():
            lines.service(event)
        for seen in beside.seen():
            if isinstance(seen, Finding):
                lines.channel(seen)
            else:
                lines.round(seen)
        if over:
            return
        happening.wake.wait(_PAUSE_SECONDS)
        happening.wake.clear()


def _address(text: str) -> tuple[str, int]:
    from mpchan.transport.tcp import parse_address

    return parse_address(text)


def _check_usage(host: str, url: str | None, certificate: Path | None, key: Path | None, plain: bool) -> None:
    hint = "see `mpchan payee serve --help`"
    if (certificate is None) != (key is None):
        raise UsageError("usage", "--certificate and --key go together", hint=hint)
    if plain and certificate is not None:
        raise UsageError("usage", "--plain has no use for a certificate", hint=hint)
    if plain and host not in _LOOPBACK:
        raise UsageError("usage", f"--plain listens on the loopback alone, not on {host}", hint=hint)
    if host in _WILDCARDS and url is None:
        raise UsageError(
            "usage",
            f"{host} is no address that clients can use",
            hint="name the one that they do: --url https://NAME:PORT",
        )
    if url is not None and not url.startswith(("https://", "http://")):
        raise UsageError("usage", f"not a URL: {url!r:.100}", hint="write https://NAME:PORT")


def _price(price: Amount | None, prices: str | None) -> PriceOf:
    if (price is None) == (prices is None):
        raise UsageError("usage", "give one of --price and --prices", hint="see `mpchan payee serve --help`")
    try:
        from mpchan.http.server.price_list import PriceList, require_plain
        from mpchan.http.server.prices import Asked, Price
    except ImportError as error:
        raise missing_http(error) from None
    if prices is not None:
        return PriceList(read_text_input(prices))
    if price is None or not price:
        raise UsageError("usage", "a price is at least 1 sat", hint="free paths stand in --prices")
    fixed = Price(price.sat)

    def one(asked: Asked) -> Price:
        require_plain(asked)
        return fixed

    return one


def _certificate(wallet: Wallet, certificate: Path | None, key: Path | None) -> Certificate:
    from mpchan.http.certificates import given_certificate, own_certificate

    if certificate is None or key is None:
        return own_certificate(wallet.directory)
    return given_certificate(certificate, key)


def _public(url: str | None, host: str, port: int, certificate: Certificate | None) -> str:
    """The address as clients get it."""
    from mpchan.http.certificates import pinned_url

    shown = f"[{host}]" if ":" in host else host
    if url is not None and (certificate is None or url.startswith("http:")):
        return url
    found = url or f"{'http' if certificate is None else 'https'}://{shown}:{port}/"
    return found if certificate is None else pinned_url(found, certificate)
