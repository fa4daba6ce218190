"""mpchan: one-directional micropayment channels on Bitcoin, for payer and payee.

``Wallet`` makes offers, opens, funds, watches and refunds; ``Payee`` takes payments and closes, ``Payer`` pays in one
channel. Their methods are what the commands do, and return the commands' answers, whose fields are the keys of
``--json``; the errors are those of ``mpchan.errors``. Nothing is loaded before it is asked for.

    seller, buyer = mpchan.Wallet("seller"), mpchan.Wallet("buyer")
    opened = buyer.open(seller.offer(memo="a file").toml, 100_000)
    buyer.fund(seller.sign_refund(opened.hex).hex)
    buyer.wait("confirmed", opened.channel)

    with buyer.payer() as payer, seller.payee() as payee:
        deliver(payee.accept(payer.pay(1000).hex).paid_sat)
        payee.settle(payer.settle().hex)

All of this is stable from version 1.0 on; until then the changelog says what changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpchan import errors
    from mpchan.party.api import Wallet
    from mpchan.party.meter.payee import Payee
    from mpchan.party.meter.payer import Payer
    from mpchan.results.payments import Accepted, Payment, Superseded

__all__ = ["Accepted", "Payee", "Payer", "Payment", "Superseded", "Wallet", "__version__", "errors"]

__version__ = "0.1.0"

_HOMES = {
    "Accepted": "results.payments",
    "Payee": "party.meter.payee",
    "Payer": "party.meter.payer",
    "Payment": "results.payments",
    "Superseded": "results.payments",
    "Wallet": "party.api",
}


def __getattr__(name: str) -> Any:
    """Load a class, or the errors, at the first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name not in _HOMES:
        return import_module(f"mpchan.{name}")
    return getattr(import_module(f"mpchan.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """What there is, loaded or not."""
    return __all__
