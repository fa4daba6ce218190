"""Several servers: which one is asked, and when another one takes over.

When the first question comes, all of them are asked where their chain stands. The most work wins; among equals the
one that wallet.toml names first. So one honest server among them is enough to show that the others hold back blocks.
The one that is chosen answers until it fails or is caught lying; then the same question goes to the next. From time
to time all are asked again. Where none is up to date with what was seen before, the first of those that are behind
answers, and the tip says so. What is broadcast goes to all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from mpchan.bitcoin.block import Header
from mpchan.bitcoin.network import Network
from mpchan.chain.base import OutputStatus
from mpchan.chain.electrum.address import Server
from mpchan.chain.electrum.company import Company, at_once
from mpchan.chain.electrum.connection import Connection
from mpchan.chain.electrum.following import Behind, begin, follow
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.questions import Questions
from mpchan.chain.electrum.rules import RULES
from mpchan.chain.electrum.view import Seen, View
from mpchan.chain.lag import by_clock
from mpchan.chain.steady import moved
from mpchan.errors import ChainError, MpchanError
from mpchan.units import ChainTip, Lag, OutPoint
from mpchan.values import replace

T = TypeVar("T")

_ASK_ALL_AFTER_SECONDS = 600.0
_TELL_SECONDS = 10.0
PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds before each further look at a chain that may be changing: a server's parts take some time to agree again."""

_MAY_PASS = ("chain-moving", "proof-refused")
_FATAL = ("certificate-changed", "wrong-network", "proxy-missing")
"""What another server does not mend, or must not hide. Errors about a transaction are no errors of a server either."""

_OF_A_SERVER = (
    "unreachable", "malformed-answer", "rpc-error", "headers-refused", "node-behind", "node-too-old", "proof-refused",
    "chain-moving",
)  # fmt: skip


class Pool:
    """The servers of one wallet, and the chain of headers that they make up together.

    Args:
        servers: in the order of preference.
        connect: makes a connection to one, which is not open yet.
        headers: the file of the chain; None keeps it in memory.
    """

    def __init__(
        self,
        network: Network,
        servers: Sequence[Server],
        connect: Callable[[Server], Connection],
        headers: Path | None,
    ) -> None:
        self._network = network
        self._connect = connect
        self._servers = {server: Questions(connect(server)) for server in servers}
        self._file = headers
        self._chain: HeaderChain | None = None
        self._current: Server | None = None
        self._behind: Behind | None = None  # how the current one is, where no other is better
        self._company = Company()
        self._chosen_at = 0.0
        self._is_late = False
        self.seen = Seen()

    def close(self) -> None:
        """Close all connections; the next question opens what it needs."""
        self._current = None
        self._company.close()
        for server in self._servers.values():
            server.close()

    def tip(self) -> ChainTip:
        """The last block of the chain of headers, and how the servers are behind."""
        if self._is_late or self._company.is_ahead:
            self._current = None  # another one may know more by now
        tip = self.ask(self._tip)
        self._is_late = tip.lag is not None
        return tip

    def _tip(self, chain: HeaderChain, server: Questions, view: View) -> ChainTip:
        tip = ChainTip(chain.height, chain.median_time())
        if self._behind is not None:
            hint = self._behind.hint or ""
            return replace(tip, lag=Lag(self._behind.message, tip.height, tip.median_time, hint))
        return replace(tip, lag=by_clock(f"the server {server.name}", self._network, tip, chain.tip.time))

    def outputs(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, OutputStatus]:
        """What is known of these outputs: by the server that is asked, and by the others where it shows no more."""
        if not outpoints:
            return {}
        return self.ask(
            lambda chain, server, view: self._company.add_to(view.outputs(outpoints), outpoints, chain)
        )

    def ask(self, look: Callable[[HeaderChain, Questions, View], T]) -> T:
        """What ``look`` finds with the chain and a server that is up to date with it.

        Raises:
            ChainError: what ``look`` raises, or why no server can be used.
        """
        errors: dict[Server, ChainError] = {}
        if len(self._servers) > 1 and time.monotonic() - self._chosen_at > _ASK_ALL_AFTER_SECONDS:
            self._current = None
        while True:
            server = self._current or self._choose(errors)
            try:
                return self._steadily(self._servers[server], look)
            except ChainError as error:
                self._current = None
                self._servers[server].close()
                if error.slug not in _OF_A_SERVER:
                    raise
                errors[server] = error

    def _steadily(self, server: Questions, look: Callable[[HeaderChain, Questions, View], T]) -> T:
        """Look again where the chain may have changed meanwhile."""

        def once() -> T:
            chain = self._follow_current(server)
            return look(chain, server, View(chain, server, self.seen))

        return _patiently(once)

    def tell_others(self, send: Callable[[Questions], object]) -> None:
        """Send something to the servers that are not asked now, too; whether they take it makes no difference.

        So that one server cannot hold back a transaction. It takes a limited time, on connections of their own.
        """
        others = [server for server in self._servers if server != self._current]

        def tell(server: Server) -> None:
            questions = Questions(self._connect(server))
            try:
                self._check_network(questions)
                send(questions)
            except MpchanError:
                return  # another server has it
            finally:
                questions.close()

        at_once([partial(tell, server) for server in others], _TELL_SECONDS)

    # choosing -------------------------------------------------------------------------------------

    def _choose(self, errors: dict[Server, ChainError]) -> Server:
        """The server whose chain has the most work, of those without an error so far; adds the errors of others."""
        asked = [server for server in self._servers if server not in errors]
        errors.update(self._open(asked))
        tips: dict[Server, Header] = {}
        for server in reversed(asked):  # of chains with equal work that of the first one named is kept
            if server not in errors:
                try:
                    tips[server] = _patiently(partial(self._follow, self._servers[server])).tip
                except ChainError as error:
                    errors[server] = error
        for found in errors.values():
            if found.slug in _FATAL:
                raise found
        behind = {server: error for server, error in errors.items() if isinstance(error, Behind)}
        best = [server for server in asked if self._chain is not None and tips.get(server) == self._chain.tip]
        left = best or [server for server in self._servers if server in behind]
        if not left:
            raise _together(list(errors.values()))
        self._current, self._chosen_at = left[0], time.monotonic()
        self._behind = None if best else behind[left[0]]
        self._take_others([server for server in self._servers if server in tips or server in behind])
        return left[0]

    def _take_others(self, usable: Sequence[Server]) -> None:
        """Those that can be used, but for the current one, are asked besides it, on the connections that are open."""
        self._company.close()
        others = []
        for server, questions in self._servers.items():
            if server != self._current and server in usable:
                others.append(questions)
                self._servers[server] = Questions(self._connect(server))
            elif server != self._current:
                questions.close()
        self._company = Company(others)

    def _open(self, servers: Sequence[Server]) -> dict[Server, ChainError]:
        """Connect to all of them at once, and see that they are of this network; the errors."""
        errors: dict[Server, ChainError] = {}
        others: list[MpchanError] = []

        def check(server: Server) -> None:
            try:
                self._check_network(self._servers[server])
            except ChainError as error:
                errors[server] = error
            except MpchanError as error:
                others.append(error)

        at_once([partial(check, server) for server in servers])
        if others:
            raise others[0]
        return errors

    def _check_network(self, server: Questions) -> None:
        found = Header.from_bytes(server.first_header())
        if str(found) != self._network.genesis_hash:
            raise ChainError(
                "wrong-network",
                f"the server {server.name} is not of {self._network}: its genesis block is {found}",
                hint="set chain.electrum in wallet.toml to servers of the wallet's network",
            )

    def _follow_current(self, server: Questions) -> HeaderChain:
        """As ``_follow``; where the server was chosen although it is behind, the chain that was seen before."""
        try:
            chain = self._follow(server)
        except Behind as error:
            if self._behind is None or self._chain is None:
                raise
            self._behind = error
            return self._chain
        self._behind = None
        return chain

    def _follow(self, server: Questions) -> HeaderChain:
        """The chain of headers, up to the server's tip."""
        before = self._chain
        if self._chain is None and self._file is not None:
            self._chain = before = HeaderChain.load(RULES[self._network.name], self._file)
        if self._chain is None:
            self._chain = begin(self._network, server)
        self._chain = follow(self._chain, server)
        if self._chain is not before and self._file is not None:
            self._chain.save(self._file)
        return self._chain


def _patiently(look: Callable[[], T]) -> T:
    """Look again where what was found may be due to a chain that changes."""
    for pause in PAUSES:
        try:
            return look()
        except ChainError as error:
            if error.slug not in _MAY_PASS:
                raise
        time.sleep(pause)
    return look()


def _together(errors: Sequence[ChainError]) -> ChainError:
    """Why none of the servers can be used, as one error."""
    if not errors:
        return moved()
    telling = [error for error in errors if error.slug != "unreachable"] or list(errors)
    message = "; ".join(error.message for error in errors)
    return ChainError(telling[0].slug, message, hint=telling[0].hint)
