"""Tables for people, by rich, which is loaded only when a person is answered.

Colours appear in a terminal alone and never with NO_COLOR; what is piped is plain and as wide as it needs to be.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from mpchan.cli.files import is_terminal
from mpchan.cli.input.numbers import counted
from mpchan.errors import ParseError
from mpchan.units import lock_time_from_int

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from mpchan.results.channels import Channel, ChannelLine, ChannelList
    from mpchan.results.checks import Message, TaprootFields, Verdict
    from mpchan.results.coins import Balance

_PIPED_WIDTH = 400
_BRIEF = 23
_MAX_ROWS = 100
"""So many inputs and outputs are shown: a hostile file could hold tens of thousands."""

_STATUS_STYLE = {
    "open": "green",
    "closed": "dim",
    "refunded": "dim",
    "abandoned": "dim",
    "settling": "yellow",
    "refunding": "yellow",
}


def console(file: io.TextIOBase | None = None) -> Console:
    """A console on stdout that wraps nothing when it is piped."""
    from rich.console import Console

    terminal = is_terminal(sys.stdout)
    plain = not terminal or bool(os.environ.get("NO_COLOR"))  # rich would go on to write bold without colour
    return Console(
        file=file,  # type: ignore[arg-type]
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=terminal,
        color_system=None if plain else "auto",
        width=None if terminal else _PIPED_WIDTH,
    )


def text_of(renderable: RenderableType, most: int | None = None) -> str:
    """What is shown, as lines without an end.

    Args:
        most: columns, where that is less than there are.
    """
    buffer = io.StringIO()
    shown = console(buffer)
    shown.print(renderable, width=None if most is None else min(shown.width, most))
    return "\n".join(line.rstrip() for line in buffer.getvalue().strip("\n").split("\n"))


def sat(value: int | None) -> str:
    """An amount with separated thousands."""
    return "?" if value is None else f"{value:,} sat"


def lock(value: int | None) -> str:
    """A lock time in words."""
    if value is None:
        return "none yet"
    return "none: final at once" if value == 0 else str(lock_time_from_int(value))


def status_text(value: str) -> Text:
    """A channel's status in its colour."""
    from rich.text import Text

    return Text(value, style=_STATUS_STYLE.get(value, "cyan"))


def pairs(rows: Iterable[tuple[str, RenderableType]] = ()) -> Table:
    """Two columns: names, and what they stand for."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def balance(view: Balance) -> str:
    """``mpchan balance``."""
    rows = [
        ("confirmed", view.confirmed_sat),
        ("unconfirmed", view.unconfirmed_sat),
        ("in channels", view.in_channels_sat),
    ]
    more = [("of these reserved", view.reserved_sat), ("immature", view.immature_sat)]
    rows += [(what, value) for what, value in more if value]
    return text_of(pairs((what, sat(value)) for what, value in rows))


def channels(view: ChannelList) -> str:
    """``mpchan list``: the channels, and the addresses that other wallets are to pay."""
    lines = [
        f"awaited: offer {line.offer_id}, to {line.address} before {lock(line.pay_before)}"
        for line in view.awaited
    ]
    return "\n".join([_channels(view) if view.channels or not lines else "", *lines]).strip("\n")


def _channels(view: ChannelList) -> str:
    """A table, or one channel below the other where a row does not fit the terminal."""
    pending = any(channel.pending_sat for channel in view.channels)
    rows = [_row(channel, pending) for channel in view.channels]
    if not rows:
        return "no channels yet"
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(
            name, no_wrap=True, justify="left" if name in ("channel", "role", "status") else "right"
        )
    for row in rows:
        table.add_row(*row.values())
    terminal = console()
    unbounded = terminal.options.update(width=_PIPED_WIDTH)
    if terminal.measure(table, options=unbounded).maximum <= terminal.width:
        return text_of(table)
    return "\n\n".join(text_of(pairs(row.items())) for row in rows)


def _row(view: ChannelLine, pending: bool) -> dict[str, RenderableType]:
    return {
        "channel": view.channel,
        "role": view.role,
        "status": status_text(view.status),
        "paid": f"{view.paid_sat:,}",
        **({"pending": f"{view.pending_sat:,}"} if pending else {}),
        "left": f"{view.remaining_sat:,}",
        "updates": f"{view.updates:,}",
        "refund at": lock(view.refund_lock_time),
    }


def channel(view: Channel) -> str:
    """``mpchan show``."""
    table = pairs()
    funding = view.funding
    confirmations = funding.confirmations
    table.add_row("channel", view.channel)
    table.add_row("role", view.role)
    table.add_row("status", status_text(view.status))
    table.add_row("network", f"{view.network}, {view.scheme}")
    table.add_row("capacity", sat(view.capacity_sat))
    table.add_row("paid", sat(view.paid_sat))
    if view.pending_sat:
        table.add_row("pending", f"{sat(view.pending_sat)}, until the settlement is confirmed")
    if view.charged_sat is not None:
        flying = f", {sat(view.reserved_sat)} in flight" if view.reserved_sat else ""
        table.add_row("charged", f"{sat(view.charged_sat)} for requests{flying}")
    if view.origin is not None:
        table.add_row("server", view.origin)
    table.add_row("left", sat(view.remaining_sat))
    table.add_row("updates", str(view.updates))
    table.add_row("funding", f"{funding.txid}:{funding.vout}")
    seen = "not seen on the chain" if confirmations is None else counted(confirmations, "confirmation")
    table.add_row("", f"{sat(funding.value_sat)}, {seen}")
    table.add_row("refund", lock(view.refund_lock_time))
    table.add_row("latest", lock(view.latest_lock_time))
    table.add_row("payer", view.payer_address or "")
    table.add_row("", view.payer_pubkey)
    table.add_row("payee", view.payee_address)
    table.add_row("", view.payee_pubkey)
    return text_of(table)


def message(view: Message) -> str:
    """``mpchan inspect``."""
    from mpchan.results.checks import PsbtInput

    table = pairs()
    kind = "PSBT (lacks signatures)" if view.kind == "psbt" else "complete transaction"
    table.add_row("kind", kind)
    table.add_row("txid", view.txid)
    table.add_row("version", str(view.version))
    table.add_row("lock time", lock(view.lock_time))
    table.add_row("size", f"{view.vsize} vB")
    for number, source in enumerate(view.inputs[:_MAX_ROWS]):
        table.add_row(f"input {number}", f"{source.txid}:{source.vout}")
        value = source.value_sat if isinstance(source, PsbtInput) else None
        table.add_row("", ("" if value is None else f"{sat(value)}, ") + f"nSequence {source.sequence:#010x}")
        if isinstance(source, PsbtInput) and source.taproot is not None:
            _add_taproot(table, source.taproot)
    _say_more(table, len(view.inputs), "input")
    for number, output in enumerate(view.outputs[:_MAX_ROWS]):
        table.add_row(f"output {number}", f"{sat(output.value_sat)} to {output.address or output.script}")
    _say_more(table, len(view.outputs), "output")
    table.add_row("signatures", str(view.signatures))
    if view.offer_id is not None:
        table.add_row("offer", view.offer_id)
    return text_of(table)


def _add_taproot(table: Table, view: TaprootFields) -> None:
    """How what an input spends can be spent."""
    for script in view.leaf_scripts[:_MAX_ROWS]:
        table.add_row("leaf", _leaf(script))
    for key in view.participants[:_MAX_ROWS]:
        table.add_row("participant", key)


def _leaf(script: str) -> str:
    """Who spends by a leaf, where it is one of a channel; else the script itself."""
    from mpchan.bitcoin.tapscript import parse_key_after, parse_two_keys

    data = bytes.fromhex(script)
    with suppress(ParseError):
        keys = " and ".join(key.hex()[:16] + "…" for key in parse_two_keys(data))
        return f"{keys} together, at any time"
    with suppress(ParseError):
        key, lock_time = parse_key_after(data)
        return f"{key.hex()[:16]}… alone, from {lock_time} on"
    return _brief(script)


def verdict(view: Verdict) -> str:
    """``mpchan verify``: the rules in order, and in the last line what they come to."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column("expected", overflow="fold")
    table.add_column("found", overflow="fold")
    table.add_column("", no_wrap=True)
    for rule in view.rules:
        mark = Text("ok", style="green") if rule.ok else Text("broken", style="bold red")
        table.add_row(rule.rule, _brief(rule.expected), _brief(rule.found), mark)
    rows = [text_of(table)] if view.rules else []
    return "\n".join([*rows, _conclusion(view)])


def _brief(value: str | None) -> str:
    """A long value by its ends; the last line has more of it."""
    if value is None:
        return ""
    return value if len(value) <= _BRIEF else f"{value[: _BRIEF - 9]}…{value[-8:]}"


def _conclusion(view: Verdict) -> str:
    kind = view.kind.replace("-", " ")
    where = f" of channel {view.channel}" if view.channel else ""
    if view.accepted:
        return f"this wallet would take the {kind}{where}"
    opening = "refused" if view.accepted is False else "cannot tell"
    return f"the {kind}{where}: {opening} by {view.error} (exit {view.exit_code}): {view.message}"


def _say_more(table: Table, count: int, what: str) -> None:
    if count > _MAX_ROWS:
        table.add_row("", f"and {counted(count - _MAX_ROWS, f'more {what}')}, which --json shows")
