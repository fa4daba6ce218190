"""``mpchan payer recover``: the way back of whoever has lost everything but seed words and offer."""

from __future__ import annotations

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import read_text_input
from mpchan.results.opening import Arrival, Recovered
from mpchan.units import lock_time_from_int


@options.command("mpchan payer recover offer.toml")
@click.argument("offer", type=options.INPUT)
@options.chain
def recover(app: App, offer: str) -> None:
    """Find a channel's money by seed words and OFFER alone.

    For a wallet that was made with `mpchan init --restore`, of channels with the scheme taproot. Whatever lies at one
    of the addresses that the offer leaves possible is kept with its refund, which `mpchan payer refund` or
    `mpchan watch` sends at its time. Nothing is paid in such a channel until it is synced (`mpchan payer sync`).
    """
    from mpchan.party.opening.recover import recover as find

    text = read_text_input(offer)
    wallet = app.wallet(signs=True)
    result = find(wallet, app.chain(wallet), text)
    app.report(result, _people)
    app.warn(result.warnings)


def _people(view: Recovered) -> str:
    if not view.arrived:
        return f"nothing lies at any of the {view.looked_for} addresses that offer {view.offer_id} leaves"
    return "\n".join(_line(arrival) for arrival in view.arrived)


def _line(arrival: Arrival) -> str:
    if arrival.channel is None:
        return f"{arrival.value_sat:,} sat at {arrival.outpoint}: less than a refund costs"
    return (
        f"channel {arrival.channel}: {arrival.value_sat:,} sat at {arrival.outpoint}; "
        f"{arrival.refund_sat:,} sat come back from {lock_time_from_int(arrival.refund_lock_time)} on"
    )
