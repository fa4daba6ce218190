"""mpchan: one-directional micropayment channels on Bitcoin, for payer and payee.

Programs that pay or are paid often use ``Payer`` and ``Payee``; the errors are those of ``mpchan.errors``. Nothing is
loaded before it is asked for.

    with mpchan.Payer("wallet", "0123abcd") as payer:
        send(payer.pay(1000).hex)

    with mpchan.Payee("wallet") as payee:
        deliver(payee.accept(message).paid_sat)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpchan.party.meter.payee import Payee
    from mpchan.party.meter.payer import Payer
    from mpchan.results.payments import Accepted, Payment, Superseded

__all__ = ["Accepted", "Payee", "Payer", "Payment", "Superseded", "__version__"]

__version__ = "0.1.0"

_HOMES = {
    "Accepted": "results.payments",
    "Payee": "party.meter.payee",
    "Payer": "party.meter.payer",
    "Payment": "results.payments",
    "Superseded": "results.payments",
}


def __getattr__(name: str) -> Any:
    """Load a class at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mpchan.{_HOMES[name]}"), name)
