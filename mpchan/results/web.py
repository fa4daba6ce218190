"""Paying and being paid over HTTP."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class Fetched(Result):
    """An answer of a server, and what it cost.

    Attributes:
        url: that has given the answer, after redirects
        http_status: of the answer
        channel: the short id of the channel that it was paid in; null where nothing was paid
        charged_sat: what it cost, in satoshi, by the server's receipt
        spent_sat: what was charged in the channel in all, in satoshi; null where nothing was paid
        remaining_sat: what is left to be paid, in satoshi; null where nothing was paid
        file: where the answer's body was written; null for standard output
    """

    url: str
    http_status: int
    channel: str | None
    charged_sat: int
    spent_sat: int | None
    remaining_sat: int | None
    file: str | None


@frozen
class ChannelClosed(Result):
    """A channel with a server was closed at what was charged in it.

    Attributes:
        url: that was asked for it
        paid_sat: what was charged, and is paid, in satoshi
        returned_sat: what comes back with the close, in satoshi
        txid: of the close
    """

    url: str
    channel: str
    paid_sat: int
    returned_sat: int
    txid: str


@frozen
class ServiceStarted(Result):
    """A service is paid from now on.

    Attributes:
        event: serving
        url: where clients find it, with the fingerprint of its certificate where that is an own one
    """

    time: str
    event: str
    url: str


@frozen
class ServiceChannel(Result):
    """A channel of a client of a service was opened or closed.

    Attributes:
        event: opened or closed
        txid: of the funding, or of the close
    """

    time: str
    event: str
    channel: str
    paid_sat: int
    txid: str
