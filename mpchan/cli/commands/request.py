"""What ``payer open --external`` shows to people: where to pay, how much, and in a terminal a QR code."""

from __future__ import annotations

import os
import sys
from itertools import zip_longest

from mpchan.cli.files import is_terminal
from mpchan.cli.input.numbers import counted
from mpchan.results.opening import Payable, Planned
from mpchan.units import lock_time_from_int

ADVICE = (
    "in your other wallet make a transaction that pays exactly this, from native segwit coins",
    "do NOT broadcast it: until the refund is yours, the money would depend on the payee alone",
    "never bump its fee there, not even later: a replacement voids the refund",
    "let its change go to an address of `mpchan address`: then `mpchan bump` helps should it get stuck",
    "next: export it as a PSBT and run `mpchan payer open --funding FILE`",
)

PAYABLE_ADVICE = (
    "pay it from any wallet, in one payment: its refund is stored once `mpchan watch` or this command sees it",
    "a fee may be raised by replacement: the new payment gets a refund of its own",
    "next: `mpchan wait OFFER_ID --for confirmed`, then `mpchan payer pay AMOUNT`",
)

_QUIET_ZONE = 4  # modules of light around the code (ISO/IEC 18004)
_HALF_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_WHITE_ON_BLACK = "\x1b[97;40m"
_RESET = "\x1b[0m"


def people(view: Planned) -> str:
    """The answer in words."""
    lines = [
        f"address     {view.address}",
        f"amount      {view.amount_btc} BTC ({view.amount_sat:,} sat)",
        f"descriptor  {view.descriptor}",
        f"uri         {view.uri}",
    ]
    if is_terminal(sys.stdout):
        lines += ["", *_coloured(qr_lines(view.uri.partition("&")[0])), ""]
    return "\n".join(lines)


def payable(view: Payable) -> str:
    """The same of an opening that any wallet funds by paying an address, and what has come."""
    amount = "any amount" if view.amount_sat is None else f"{view.amount_sat:,} sat"
    lines = [
        f"offer       {view.offer_id}",
        f"address     {view.address}",
        f"amount      {amount}, from {view.least_sat:,} to {view.most_sat:,} sat",
        f"pay before  {lock_time_from_int(view.pay_before)}",
        f"refund      {lock_time_from_int(view.refund_lock_time)}",
        f"descriptor  {view.descriptor}",
        f"uri         {view.uri}",
    ]
    for arrival in view.arrived:
        depth = (
            "not to be seen"
            if arrival.confirmations is None
            else counted(arrival.confirmations, "confirmation")
        )
        what = f"channel {arrival.channel}" if arrival.what == "channel" else arrival.what
        lines.append(f"arrived     {arrival.value_sat:,} sat at {arrival.outpoint}, {depth}: {what}")
    if not view.arrived and is_terminal(sys.stdout):
        lines += ["", *_coloured(qr_lines(view.uri.partition("label=")[0].rstrip("?&"))), ""]
    return "\n".join(lines)


def qr_lines(text: str) -> list[str]:
    """A QR code of half blocks, two modules to a character; what is light is drawn."""
    import segno

    rows = [
        [module == 0 for module in row]
        for row in segno.make_qr(text, error="l", boost_error=False).matrix_iter(border=_QUIET_ZONE)
    ]
    below = [*rows[1::2]]
    dark = [False] * len(rows[0])
    return [
        "".join(_HALF_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip_longest(rows[::2], below, fillvalue=dark)
    ]


def _coloured(lines: list[str]) -> list[str]:
    """In colours of its own, so that a light terminal does not turn it into its negative."""
    if os.environ.get("NO_COLOR"):
        return lines
    return [f"{_WHITE_ON_BLACK}{line}{_RESET}" for line in lines]
