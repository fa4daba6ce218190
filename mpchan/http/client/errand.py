"""One request of a program, as far as its payment goes."""

from __future__ import annotations

import hashlib
import secrets

from mpchan.http.client.demands import Demand
from mpchan.http.wire.credential import Credential, Payload
from mpchan.values import frozen


@frozen
class Step:
    """What is sent next.

    Attributes:
        channel: the name of its files.
        demand: the challenge that it answers.
        payload: what is sent.
        total: satoshi that are signed for with it; 0 where nothing is signed yet.
    """

    channel: str
    demand: Demand
    payload: Payload
    total: int = 0

    def authorization(self) -> str:
        """The value of ``Authorization``."""
        return Credential(self.demand.challenge.echo(), self.payload).header()


@frozen
class Charged:
    """What a request has cost, as far as the server's receipts tell; all in satoshi.

    Attributes:
        channel: the short id of the channel.
        charged: for this request.
        spent: in the channel in all.
        remaining: what is left to be paid in it.
    """

    channel: str
    charged: int
    spent: int
    remaining: int


@frozen
class Closed:
    """A channel that the server has closed at what was charged.

    Attributes:
        channel: its short id.
        spent: satoshi that were charged, and are paid.
        returned: satoshi that come back.
        txid: of the close.
    """

    channel: str
    spent: int
    returned: int
    txid: str


class Errand:
    """What is known of a request while it is under way.

    Args:
        origin: of the server.
        space: below what path of it the request lies.
        path: of the request.
        key: its ``Idempotency-Key``; None for a new one.
        ahead: satoshi that are authorised on top of the price, for what is charged as it goes.
        what: what the channel is for, where it serves one file and nothing else.

    Attributes:
        step: what was sent last; None before the first.
        spent_before: what was charged in its channel before it, in satoshi.
    """

    def __init__(
        self,
        origin: str,
        space: str,
        *,
        path: str = "",
        key: str | None = None,
        ahead: int = 0,
        what: str | None = None,
    ) -> None:
        self.origin = origin
        self.space = space
        self.path = path
        self.key = secrets.token_hex(16) if key is None else key
        self.ahead = ahead
        self.what = what
        self.step: Step | None = None
        self.spent_before = 0


def key_after(key: str | None, url: str) -> str | None:
    """The ``Idempotency-Key`` of the request that a redirect leads to: another, the same at every repetition."""
    return None if key is None else hashlib.sha256(f"{key}\n{url}".encode()).hexdigest()[:32]
