"""``mpchan payer fetch``: ask a server, and pay for the answer."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.body import body_written
from mpchan.cli.files import confirmed, is_terminal, read_input
from mpchan.cli.input.numbers import AMOUNT
from mpchan.errors import NotPossible, ParseError, UsageError
from mpchan.results.web import ChannelClosed, Fetched
from mpchan.units import Amount

if TYPE_CHECKING:
    from mpchan.http.client.blocking import Client, Response
    from mpchan.http.client.purse import Purse
    from mpchan.party.spending.limits import Question

_HTTP_FAILED = 8
_PART_BYTES = 65_536
_BUDGET = re.compile(r"(.+)/day", re.ASCII)


@options.command(
    "mpchan payer fetch https://api.example/weather --deposit 50000",
    "mpchan payer fetch https://api.example/ask -d @question.json -o answer",
    "mpchan payer fetch --close https://api.example/",
)
@click.argument("url", metavar="URL")
@click.option("-o", "--output", type=options.FILE, help="Write the answer's body there; else to stdout.")
@click.option("-X", "--request", "method", metavar="METHOD", help="GET, or POST with --data, unless told.")
@click.option("-H", "--header", "headers", multiple=True, metavar="LINE", help="A header, NAME: VALUE.")
@click.option("-d", "--data", metavar="DATA", help="A body to send; @FILE for that of a file, @- for stdin.")
@click.option("--deposit", type=AMOUNT, help="Agree to a channel of so much, where one is needed.")
@click.option("--max-price", type=AMOUNT, help="Pay no more for the answer.")
@click.option("--budget", metavar="N/day", help="Spend no more in a day (UTC) with this wallet.")
@click.option("--prepay", type=AMOUNT, help="Authorise so much on top of the price, for a stream.")
@click.option("--pin", metavar="SHA256", help="The fingerprint of the server's certificate.")
@click.option("--fail", is_flag=True, help="Exit 8 where the server answers 400 or above.")
@click.option("--open-only", is_flag=True, help="Open the channel, and ask for nothing yet.")
@click.option(
    "--close", "closes", is_flag=True, help="Close the channel with this server at what was charged."
)
def fetch(
    app: App,
    url: str,
    output: Path | None,
    method: str | None,
    headers: tuple[str, ...],
    data: str | None,
    deposit: Amount | None,
    max_price: Amount | None,
    budget: str | None,
    prepay: Amount | None,
    pin: str | None,
    fail: bool,
    open_only: bool,
    closes: bool,
) -> int:
    """Ask URL as curl does, and pay where that is asked for.

    A server asks for it by status 402 and the "Payment" scheme.
    The first request to a server opens a channel, the next ones pay in it. Before money is locked, and where a limit in
    [spending] of wallet.toml does not allow something, a person at a terminal is asked; elsewhere it is refused, and
    nothing is signed. A request is paid for once, however often it has to be sent.

    A server with a certificate of its own is known by its pin: `https://…#pin-sha256=…`, as it shows its address.
    """
    if closes and open_only:
        raise UsageError(
            "usage", "give --close or --open-only, not both", hint="see `mpchan payer fetch --help`"
        )
    if app.json and output is None and not (closes or open_only):
        raise UsageError("usage", "with --json the answer's body needs a file", hint="add --output FILE")
    app.check_output(output)
    lines = _headers(headers)
    body = None if data is None else _data(data)
    per_day = None if budget is None else _per_day(budget)
    client, purse = _opened(app, url, deposit, max_price, per_day, pin)
    with purse, client:
        if closes:
            app.report(_closed(client, url), _closed_line)
            return 0
        asked = "HEAD" if open_only else method or ("GET" if body is None else "POST")
        ahead = 0 if prepay is None else prepay.sat
        response = client.request(asked, url, headers=lines, body=body, ahead=ahead)
        _write(app, response, output)
        result = _result(response, output)
    if app.json:
        app.answer(result, _line)
    else:
        app.say(_line(result))
    return _HTTP_FAILED if fail and response.status >= 400 else 0


def _opened(
    app: App,
    url: str,
    deposit: Amount | None,
    max_price: Amount | None,
    budget: int | None,
    pin: str | None,
) -> tuple[Client, Purse]:
    try:
        from mpchan.http.certificates import read_pin
        from mpchan.http.client.blocking import Client
        from mpchan.http.client.demands import require_encrypted
        from mpchan.http.client.purse import Purse
    except ImportError as error:
        raise missing_http(error) from None
    require_encrypted(url)
    fingerprint = None if pin is None else read_pin(pin)
    wallet = app.wallet(signs=True)
    purse = Purse(
        wallet,
        chain=app.chain,
        ask=_asks if not app.json and is_terminal(sys.stdin) else None,
        deposit=None if deposit is None else deposit.sat,
        max_price=None if max_price is None else max_price.sat,
        budget=budget,
        warn=app.warn,
    )
    return Client(purse, pin=fingerprint, tell=app.say), purse


def missing_http(error: ImportError) -> NotPossible:
    """What to say where the extra is not installed."""
    return NotPossible(
        "http-missing",
        f"HTTP needs packages that are not installed: {error.name}",
        hint="pip install 'mpchan[http]'",
    )


def _asks(question: Question) -> bool:
    return confirmed(f"{question.text()}: agree?")


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise UsageError("usage", f"not a header, NAME: VALUE: {line!r:.80}")
        found[name] = value.strip()
    return found


def _data(text: str) -> bytes:
    return read_input(text[1:]) if text.startswith("@") else text.encode(errors="surrogateescape")


def _per_day(text: str) -> int:
    match = _BUDGET.fullmatch(text)
    try:
        if match is not None:
            return Amount.parse(match[1]).sat
    except ParseError:
        pass
    raise UsageError("usage", f"not a budget: {text!r:.40}", hint="write it as 5000/day")


def _closed(client: Client, url: str) -> ChannelClosed:
    closed = client.close_channel(url)
    return ChannelClosed(url, closed.channel, closed.spent, closed.returned, closed.txid)


def _closed_line(result: ChannelClosed) -> str:
    return (
        f"channel {result.channel} is closed by {result.txid}: {result.paid_sat:,} sat were charged, "
        f"{result.returned_sat:,} come back"
    )


def _write(app: App, response: Response, output: Path | None) -> None:
    with body_written(output) as write:
        for part in response.parts(_PART_BYTES):
            write(part)


def _result(response: Response, output: Path | None) -> Fetched:
    paid = response.paid
    return Fetched(
        url=response.url,
        http_status=response.status,
        channel=None if paid is None else paid.channel,
        charged_sat=0 if paid is None else paid.charged,
        spent_sat=None if paid is None else paid.spent,
        remaining_sat=None if paid is None else paid.remaining,
        file=None if output is None else str(output),
    )


def _line(result: Fetched) -> str:
    if result.channel is None:
        return f"{result.http_status}, and nothing was paid"
    return (
        f"{result.http_status}, {result.charged_sat:,} sat; {result.spent_sat:,} in all in channel {result.channel}, "
        f"{result.remaining_sat:,} left"
    )
