"""The table of ``mpchan plan``: within 80 columns, also where it is piped."""

from __future__ import annotations

from collections.abc import Iterator

from mpchan.channel.construction.registry import all_chosen_terms
from mpchan.cli.input.numbers import counted
from mpchan.cli.render.tables import lock, pairs, sat, text_of
from mpchan.cli.render.watch_lines import about
from mpchan.results.sales import SalePlanned
from mpchan.units import SECONDS_PER_BLOCK, FeeRate

_COLUMNS = 80
_SECONDS = {"blocks": SECONDS_PER_BLOCK, "seconds": 1}


def plan(view: SalePlanned) -> str:
    """``mpchan plan``."""
    return text_of(pairs((*_sale(view), *_channel(view), *_times(view), *_risks(view))), _COLUMNS)


def _sale(view: SalePlanned) -> Iterator[tuple[str, str]]:
    yield "file", _bytes(view.length)
    text = f"{view.pieces:,} of {_bytes(view.piece_length)}"
    if view.last_piece_length != view.piece_length:
        text += f", the last one of {_bytes(view.last_piece_length)}"
    yield "pieces", text
    price = f"{sat(view.price_sat)}, {sat(view.price_per_piece_sat)} a piece"
    free = view.free_pieces
    if free:
        price += ", the first piece is free" if free == 1 else f", the first {free:,} pieces are free"
    yield "price", price


def _channel(view: SalePlanned) -> Iterator[tuple[str, str]]:
    yield (
        "channel",
        f"{sat(view.capacity_sat)}; {sat(view.locked_sat)} are locked, with the close's fee",
    )
    yield "fee rate", f"{FeeRate(view.fee_rate_sat_per_kvb)}, of all of these:"
    yield "funding", f"{_fee(view, view.funding_fee_sat)}; of one P2WPKH input, with change"
    yield "close", _fee(view, view.close_fee_sat)
    yield "or refund", _fee(view, view.refund_fee_sat)


def _times(view: SalePlanned) -> Iterator[tuple[str, str]]:
    refund, deadline = view.refund_lock_time, view.deadline
    least = "at least " if view.payer_locked_at_most > view.refund_delay else ""
    text = f"{least}{_span(view, view.refund_delay)} after opening"
    yield "refund", text if refund is None else f"{text}: {lock(refund)}"
    text = f"{_span(view, view.settle_window)} before the refund"
    text += "" if deadline is None else f": {lock(deadline)}"
    yield "pay until", f"{text}; `mpchan payee sell` stops a little earlier (near_{view.lock_time_unit})"
    possible = view.updates_possible
    room = "" if possible is None else f", room for {possible:,}"
    own = "".join(f", the {name} is {_unit(view, value)}" for name, value in _own_delays(view))
    yield "updates", f"{view.updates:,}{own}{room}"
    speed = f"at least {_bytes(view.least_bytes_per_second)} a second"
    yield "to sell in", f"{_span(view, view.time_for_payments)}: {speed}"


def _risks(view: SalePlanned) -> Iterator[tuple[str, str]]:
    text = f"{sat(view.payer_risk_sat)} at worst: one piece that never comes, funding and close"
    yield "payer loses", text
    text = f"{_span(view, view.payer_locked_at_most)} after opening for its refund, where the payee is gone"
    yield "payer waits", text
    text = (
        f"{sat(view.payee_risk_sat)} of what it delivers: payments come first. What was paid is lost where it "
        "sleeps through the settle window, which `mpchan watch` does not, or where a reorganisation takes the funding"
    )
    yield "payee loses", text
    text = "not at all: it can close at any time"
    if view.payee_waits_at_most:
        text = f"{_span(view, view.payee_waits_at_most)} after the first payment, where the payer is gone"
        text += "".join(
            f"; {_unit(view, value)} less after each further one" for _, value in _own_delays(view)
        )
    yield "payee waits", text


def _own_delays(view: SalePlanned) -> list[tuple[str, int]]:
    """The delays that the plan's construction has of its own."""
    found = [(term.name, getattr(view, term.name, None)) for term in all_chosen_terms() if term.is_delay]
    return [(name, value) for name, value in found if value is not None]


def _fee(view: SalePlanned, fee: int) -> str:
    """A fee, and its share of the price."""
    whole = view.price_sat
    hundredths = (10_000 * fee + whole // 2) // whole
    share = f"{hundredths // 100:,}.{hundredths % 100:02} %" if hundredths else "less than 0.01 %"
    return f"{sat(fee)}, {share} of the price"


def _unit(view: SalePlanned, number: int) -> str:
    """So many blocks or seconds."""
    return counted(number, view.lock_time_unit.removesuffix("s"))


def _span(view: SalePlanned, number: int) -> str:
    """The same, with about how long that is."""
    return f"{_unit(view, number)} ({about(number * _SECONDS[view.lock_time_unit])})"


def _bytes(number: int) -> str:
    """A size, with what it is about in the largest unit that it reaches."""
    power = min((number.bit_length() - 1) // 10, 6)
    if power < 1:
        return counted(number, "byte")
    tenths = 10 * number >> 10 * power
    words = f"{tenths // 10:,}{f'.{tenths % 10}' if tenths % 10 else ''}"
    return f"{counted(number, 'byte')} ({words} {'KMGTPE'[power - 1]}iB)"
