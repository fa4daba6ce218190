"""``mpchan plan``: what follows from selling a file, before anything is made or promised."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from typing import Any

import click

from mpchan.bitcoin.network import REGTEST
from mpchan.chain.base import Chain
from mpchan.chain.manual import ManualChain
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import Offer, blocks_in_unit, margin, refund_grid
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.input.numbers import AMOUNT, FEE_RATE, SIZE, TIP, WholeNumber
from mpchan.cli.input.terms import own_terms_options
from mpchan.errors import ChainError, ParseError, UsageError, mistyped, system_reason
from mpchan.party.common import tip_for
from mpchan.party.fees import estimated_rate, relay_warnings, require_within
from mpchan.party.offers.offering import require_own_terms, short_window
from mpchan.sale.plan import (
    ANYBODYS_FUNDING,
    ANYBODYS_SCRIPT,
    Cut,
    SalePlan,
    even_piece_length,
    planned_offer,
    share_of_price,
)
from mpchan.units import Amount, ChainTip, FeeRate
from mpchan.values import replace
from mpchan.wallet.coins import spend_vsize
from mpchan.wallet.config import ChainConfig, Config, offer_defaults
from mpchan.wallet.wallet import Wallet

ASSUMED_RATE = FeeRate(2000)
"""Where no chain can say what fees are."""

_RATE = "fee_rate_sat_per_kvb"
_CLOSE = "a close under this offer"
_DELAY = WholeNumber(min=1)


@options.command(
    "mpchan plan 100G --price 0.01btc", "mpchan plan film.mkv --price-per-piece 1000 --pieces 50"
)
@click.argument("what", metavar="FILE|SIZE")
@click.option("--price", "total", type=AMOUNT, help="Of the whole file.")
@click.option("--price-per-piece", "price", type=AMOUNT, help="What a piece costs instead.")
@click.option("--pieces", type=WholeNumber(min=1), metavar="N", help="How many; 100 unless told.")
@click.option("--piece-size", type=SIZE, metavar="SIZE", help="Bytes of a piece instead, such as 1G.")
@click.option(
    "--free-pieces",
    type=WholeNumber(min=0),
    metavar="N",
    default=0,
    help="So many from the first one on are samples.",
)
@click.option(
    "--fee-rate", type=FEE_RATE, help="Of all transactions, in sat/vB; else wallet.toml's or the chain's."
)
@click.option(
    "--lock-time-unit",
    type=click.Choice(["blocks", "seconds"]),
    help="Of the delay, the window and the step; seconds suit many payments.",
)
@click.option("--refund-delay", type=_DELAY, metavar="N", help="From opening until the refund.")
@click.option(
    "--settle-window", type=_DELAY, metavar="N", help="Time that you have to close before the refund."
)
@own_terms_options
@click.option("--min-confirmations", type=WholeNumber(1, 1000), metavar="N", help="Of the funding.")
@click.option(
    "--tip", type=TIP, metavar="HEIGHT[:MEDIAN_TIME]", help="Where the chain stands, instead of asking it."
)
def plan(
    app: App,
    /,
    what: str,
    total: Amount | None,
    price: Amount | None,
    pieces: int | None,
    piece_size: int | None,
    free_pieces: int,
    fee_rate: FeeRate | None,
    refund_delay: int | None,
    tip: ChainTip | None,
    **terms: object,
) -> None:
    """Plan the sale of a file: channel, fees, times, risks.

    FILE is not read, only its length counts. A SIZE is a number of bytes such as 1000, 500MB or 1.5GiB. K, M, G, T and
    P are powers of 1024, as for dd and truncate, and KiB is the same as K; KB, MB, GB, TB and PB are powers of 1000. A
    file whose name looks like a size is written ./100G.

    Terms that you leave out are those of `mpchan payee sell`: from wallet.toml, else built in. The wallet's chain is
    asked for fees and height. No wallet is needed: without one the terms are those of a new wallet on regtest. Nothing
    is made, and a warning is no failure.
    """
    length = _length(what)
    cut = _cut(length, pieces, piece_size, free_pieces)
    each = _price(cut, total, price)
    given = {key: value for key, value in terms.items() if value is not None}
    if fee_rate is not None:
        given[_RATE] = fee_rate.sat_per_kvb
    from mpchan.cli.render import sale

    made, notes = _planned(app, cut, each, given, refund_delay, tip)
    if pieces is not None and pieces != cut.pieces:
        notes.append(
            f"{length} bytes do not make {pieces} pieces of one length: "
            f"they make {cut.pieces} of {cut.piece_length} bytes"
        )
    try:
        result = made.result
    except ParseError as error:
        raise mistyped(error) from None
    result = replace(result, warnings=(*notes, *result.warnings))
    app.answer(result, sale.plan)
    app.warn(result.warnings)
    if made.can_be_sold:
        file = "FILE" if _as_size(what) is not None else shlex.quote(what)
        app.say(f"next: {_selling(file, made, given, refund_delay)}")


# what is sold -------------------------------------------------------------------------------------


def _as_size(what: str) -> int | None:
    """The number of bytes that a text names; None where it names a file."""
    try:
        return SIZE.convert(what, None, None)
    except click.UsageError:
        return None


def _length(what: str) -> int:
    """The length of a file, or the size itself."""
    size = _as_size(what)
    if size is not None:
        return size
    try:
        status = os.stat(what)
    except (OSError, ValueError) as error:
        raise ParseError(
            "unreadable-file",
            f"{what!s:.200}: {system_reason(error)}",
            hint="a size is a number of bytes such as 1000, 64M, 1GiB or 1GB",
        ) from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ParseError("unreadable-file", f"{what!s:.200}: is {kind}")
    if not status.st_size:
        raise ParseError("unreadable-file", f"{what!s:.200}: is empty")
    return status.st_size


def _cut(length: int, pieces: int | None, piece_size: int | None, free_pieces: int) -> Cut:
    if pieces is not None and piece_size is not None:
        raise UsageError("usage", "give --pieces or --piece-size, not both", hint="see `mpchan plan --help`")
    if piece_size is not None:
        piece_length = min(piece_size, length)
    else:
        piece_length = even_piece_length(length) if pieces is None else even_piece_length(length, pieces)
    try:
        return Cut(length, piece_length, free_pieces)
    except ParseError as error:
        raise mistyped(error) from None


def _price(cut: Cut, total: Amount | None, price: Amount | None) -> Amount:
    """Of one piece."""
    if total is not None and price is None:
        return share_of_price(total, cut.paid_pieces)
    if price is not None and total is None:
        return price
    raise UsageError("usage", "give one of --price and --price-per-piece", hint="see `mpchan plan --help`")


# terms --------------------------------------------------------------------------------------------


def _planned(
    app: App,
    cut: Cut,
    price: Amount,
    given: Mapping[str, Any],
    refund_delay: int | None,
    tip: ChainTip | None,
) -> tuple[SalePlan, list[str]]:
    """The plan under these terms and the wallet's, and what people should know of where they are from."""
    wallet = app.wallet_if_any()
    config = Config(REGTEST, ChainConfig()) if wallet is None else wallet.config
    terms = {**offer_defaults(config, given.get("lock_time_unit"), given.get("scheme")), **given}
    require_own_terms(terms)
    unit = terms["lock_time_unit"]
    if refund_delay is not None:
        # so that it is what a payer asks for by default
        terms["min_refund_delay"] = max(1, refund_delay - margin(unit))
        grid = refund_grid(terms["scheme"], unit)
        farthest = refund_delay + grid if grid > 1 else refund_delay
        terms["max_refund_delay"] = max(terms["max_refund_delay"], farthest)
    chain, known, notes = _asked(app, wallet, unit, tip)
    notes += _set_rate(terms, chain, config.limits)
    offer = _offer(terms, config, cut, price)
    require_within(offer.fee_rate, config.limits, "an offer")
    short = short_window(offer)
    if short is not None:
        notes.append(f"{short}; an offer needs --force for it")
    funding_vsize = spend_vsize(1, [ANYBODYS_FUNDING, ANYBODYS_SCRIPT])
    return SalePlan(cut, price, offer, funding_vsize, known), notes


def _asked(
    app: App, wallet: Wallet | None, unit: str, tip: ChainTip | None
) -> tuple[Chain | None, ChainTip | None, list[str]]:
    """The wallet's chain, where it can be asked; its tip, where that is known; and why not."""
    known = None if tip is None else tip_for(ManualChain(tip), unit)
    if wallet is None:
        return None, known, []
    chain = app.chain(wallet)
    if known is not None:
        return chain, known, []
    try:
        return chain, tip_for(chain, unit), []
    except UsageError:  # a wallet that asks no chain, and was told nothing
        return chain, None, []
    except ChainError as error:
        return None, None, [f"the chain cannot be asked where it stands: {error.message}"]


def _set_rate(terms: dict[str, Any], chain: Chain | None, limits: PayerLimits) -> list[str]:
    """Fill a fee rate in where none is named; what people should know about the rate."""
    if _RATE in terms:
        return [] if chain is None else relay_warnings(FeeRate(terms[_RATE]), chain, _CLOSE)
    reason = "no chain is asked what fees are now"
    if chain is not None:
        try:
            rate, notes = estimated_rate(chain, limits, _CLOSE)
        except ChainError as error:
            reason = f"the chain cannot be asked what fees are now: {error.message}"
        else:
            terms[_RATE] = rate.sat_per_kvb
            return notes
    rate = min(max(ASSUMED_RATE, limits.min_fee_rate), limits.max_fee_rate)
    terms[_RATE] = rate.sat_per_kvb
    return [f"{reason}; {rate} is a guess, --fee-rate names another"]


def _offer(terms: Mapping[str, Any], config: Config, cut: Cut, price: Amount) -> Offer:
    """The offer of these terms, or why they make none."""
    try:
        return planned_offer(terms, config.network, cut, price)
    except ParseError as error:
        if error.slug != "offer-limits":
            raise mistyped(error) from None
        unit = terms["lock_time_unit"]
        least = (
            terms["settle_window"]
            + blocks_in_unit(terms["min_confirmations"], unit)
            + margin(unit)  # of the offer's least delay
            + margin(unit)  # that a payer puts on top
        )
        raise mistyped(error, f"with --refund-delay {least} or more these terms make an offer") from None


def _selling(file: str, made: SalePlan, given: Mapping[str, Any], refund_delay: int | None) -> str:
    """The command that sells so."""
    cut, offer = made.cut, made.offer
    words = ["mpchan payee sell", file, f"--price-per-piece {made.price.sat}"]
    even = even_piece_length(cut.length, cut.pieces) == cut.piece_length
    words.append(f"--pieces {cut.pieces}" if even else f"--piece-size {cut.piece_length}")
    if cut.free_pieces:
        words.append(f"--free-pieces {cut.free_pieces}")
    for key, value in given.items():
        option = "--" + key.replace("_", "-")
        words.append(f"--fee-rate {_sat_per_vb(value)}" if key == _RATE else f"{option} {value}")
    if refund_delay is not None:
        words.append(f"--min-refund-delay {offer.min_refund_delay}")
        words.append(f"--max-refund-delay {offer.max_refund_delay}")
    return " ".join([*words, "--mailbox DIR"])


def _sat_per_vb(sat_per_kvb: int) -> str:
    return str(FeeRate(sat_per_kvb)).removesuffix(" sat/vB")
