"""The web's way to be paid and to pay: status 402 and the "Payment" authentication scheme over a payment channel.

certificates  the own certificate, or one of an authority, and how an address names it
wire          what passes between client and server: values and their bytes, without I/O and without a wallet
listening     where requests come in: HTTP/1.1 over TLS, with bounds for strangers
server        an ASGI middleware that is paid by the request, and what it rests on
client        a core that pays for requests, whoever sends them, and thin sides for what does

Nothing here is imported by what does not speak HTTP, and its libraries (the extra ``http``) by nothing else.

What programs need of it can be had from here, and is loaded at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpchan.http.client.blocking import Client
    from mpchan.http.client.for_httpx2 import PaymentAuth
    from mpchan.http.client.for_requests import PaymentAdapter
    from mpchan.http.client.purse import Purse
    from mpchan.http.server.paid import Paid
    from mpchan.http.server.price_list import PriceList
    from mpchan.http.server.prices import Price

__all__ = ["Client", "Paid", "PaymentAdapter", "PaymentAuth", "Price", "PriceList", "Purse"]

_HOMES = {
    "Client": "client.blocking",
    "Paid": "server.paid",
    "PaymentAdapter": "client.for_requests",
    "PaymentAuth": "client.for_httpx2",
    "Price": "server.prices",
    "PriceList": "server.price_list",
    "Purse": "client.purse",
}


def __getattr__(name: str) -> Any:
    """Load a class at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mpchan.http.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """What there is, loaded or not."""
    return __all__
