"""An ASGI middleware by which a service is paid by the request (ASGI 3.0; draft-httpauth-payment).

    app = Paid(app, "wallet", price=10)

A request that pays reaches the application with ``scope["mpchan"]``, a ``Paying``. The application may charge less, by
the header ``X-Mpchan-Charge`` in its answer (satoshi); an answer from 400 on costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Union

from mpchan.chain.base import Chain
from mpchan.errors import MpchanError
from mpchan.http.server.answers import refused, send_answer
from mpchan.http.server.asgi import App, Message, Receive, Scope, Send, asked_of, without_ours
from mpchan.http.server.cashier import Cashier
from mpchan.http.server.exchange import Exchange
from mpchan.http.server.kept import KeptAnswers
from mpchan.http.server.prices import PriceOf, price_function
from mpchan.http.server.serving import Counter
from mpchan.http.wire.problems import Problem
from mpchan.party.meter.base import AnyWallet
from mpchan.wallet.wallet import Wallet

USUAL_REALM = "mpchan"


class Paid:
    """The application behind its cash register.

    Args:
        app: any ASGI application.
        wallet: the payee's, or where it stands; or a ``Cashier``, which whoever made it starts and closes.
        price: for all requests, or what tells it of each; 0 and None are free, and get no challenge.
        realm: what the server calls itself.
        chain, passphrase, schemes, deposit: as ``Cashier`` has them.
    """

    def __init__(
        self,
        app: App,
        wallet: Union[AnyWallet, Cashier],
        price: PriceOf,
        *,
        realm: str = USUAL_REALM,
        schemes: Sequence[str] = (),
        chain: Callable[[Wallet], Chain] | None = None,
        passphrase: str | None = None,
        deposit: int | None = None,
    ) -> None:
        self._app = app
        self._price = price_function(price)
        self._owns = not isinstance(wallet, Cashier)
        self.cashier = (
            wallet
            if isinstance(wallet, Cashier)
            else Cashier(
                wallet, chain=chain, passphrase=passphrase, realm=realm, schemes=schemes, deposit=deposit
            )
        )
        self._counter = Counter(self.cashier, KeptAnswers())

    @property
    def address(self) -> str | None:
        """Of the server, as clients need it, with the pin of an own certificate; pages for browsers show it."""
        return self._counter.address

    @address.setter
    def address(self, address: str | None) -> None:
        self._counter.address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the server hands over, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        scope = without_ours(scope)
        try:
            price = self._price(asked_of(scope))
        except MpchanError as error:
            await send_answer(refused(Problem(error.slug, error.message, 400)), send)
            return
        if price is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            if self._owns and not self.cashier.is_there:
                await asyncio.to_thread(self.cashier.start)
            await Exchange(self._counter, self._app, price, scope, receive, send).run()
        else:  # the scheme is one of requests: nothing that lasts can be opened by it
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "paid by the request"})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and end with the server, whether or not the application has anything to do then."""
        seen: list[str] = []

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup" and self._owns:
                await asyncio.to_thread(self.cashier.start)
            seen.append(message["type"])
            return message

        async def tell(message: Message) -> None:
            seen.append(message["type"])
            if message["type"] == "lifespan.shutdown.complete":
                await self._end()
            await send(message)

        try:
            await self._app(scope, hear, tell)
        except MpchanError as error:
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        except Exception:
            if "lifespan.startup.complete" in seen:
                await self._end()
                raise
        if "lifespan.startup.complete" in seen or "lifespan.startup.failed" in seen:
            return
        if seen == ["lifespan.startup"]:  # it has heard that, and said nothing
            await send({"type": "lifespan.startup.complete"})
        while not seen or seen[-1] != "lifespan.shutdown":  # the application knows no lifespan
            try:
                await hear()
            except MpchanError as error:
                await send({"type": "lifespan.startup.failed", "message": error.message})
                return
            if seen[-1] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
        await self._end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _end(self) -> None:
        if self._owns:
            await asyncio.to_thread(self.cashier.close)
