"""A channel's life as command lines, each of which may be run again: what it did is done, and it says the same."""

from __future__ import annotations

from support.chain.grounds import COIN, Traders

CAPACITY = 100_000
TERMS = "--fee-rate 2 --settle-window 6 --min-refund-delay 25 --max-refund-delay 60"
OPEN = f"open offer.toml {CAPACITY} --funding-fee-rate 2"

FUNDING_FEE = 306
"""One input and two outputs of P2WPKH and P2WSH: 153 vB at 2 sat/vB."""

RESERVE = 338
"""A close with both outputs: 169 vB."""

REFUND_FEE = 276
"""138 vB."""

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"

OFFER = f"{SELLER} payee offer {TERMS} -o offer.toml"
OPENING = (f"{BUYER} {OPEN} -o request.psbt", f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
FUNDING = (
    f"{BUYER} payer fund signed.psbt -o funding.hex",
    f"{SELLER} payee funding funding.hex",
)
CONFIRMED = (f"{BUYER} wait --for confirmed --timeout 0", f"{SELLER} wait --for confirmed --timeout 0")
PAYING = tuple(
    command
    for number, total in ((1, 1000), (2, 3000))
    for command in (
        f"{BUYER} pay --total {total} -o update-{number}.psbt",
        f"{SELLER} payee accept update-{number}.psbt",
    )
)
SETTLING = (
    f"{BUYER} settle --total {CAPACITY} -o settlement.psbt",
    f"{SELLER} payee settle settlement.psbt -o close.hex",
)
CLAIMING = (f"{SELLER} settle -o close.hex",)
REFUNDING = (f"{BUYER} refund -o refund-again.hex",)
LOOKING = tuple(
    f"{who} {command}"
    for who in (BUYER, SELLER)
    for command in ("wait --for closed --timeout 0", "show", "list", "balance")
)

ENDINGS = {
    "settlement": (SETTLING, "closed", (COIN - FUNDING_FEE - CAPACITY - RESERVE, CAPACITY)),
    "update": (CLAIMING, "closed", (COIN - FUNDING_FEE - RESERVE - 3000, 3000)),
    "refund": (REFUNDING, "refunded", (COIN - FUNDING_FEE - REFUND_FEE, 0)),
}
"""How a channel ends after ``PAYING``: the commands, the status then, and what buyer and seller have."""


def ripen(shell: Traders, ending: str) -> None:
    """Mine until this ending is final."""
    shown = shell.json(f"{SELLER} show")
    lock_times = {"settlement": 0, "update": shown["latest_lock_time"], "refund": shown["refund_lock_time"]}
    missing = lock_times[ending] - shell.ground.tip().height
    if missing > 0:
        shell.ground.mine(missing)
        shell.ground.settle_down()


EXTERNAL = (
    f"{BUYER} payer open --funding funding.hex -o request.psbt",
    f"{SELLER} payee sign-refund request.psbt -o signed.psbt",
    f"{BUYER} payer fund signed.psbt --funding funding.hex",
)
"""A channel that another wallet funds, once ``external`` has planned it."""


def external(shell: Traders) -> None:
    """A plan of the buyer under ``offer.toml``, and the seller's own wallet signs its funding into ``funding.hex``."""
    shell.ground.pay(shell.json(f"{SELLER} address")["address"], COIN)
    shell.ground.mine()
    shell.ground.settle_down()
    plan = shell.json(f"{BUYER} payer open offer.toml {CAPACITY} --external")
    shell.ok(f"{SELLER} send {plan['address']} {plan['amount_sat']} --no-broadcast -o funding.hex")
