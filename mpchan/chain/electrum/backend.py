"""Electrum servers as the rest of mpchan sees a chain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from mpchan.bitcoin.network import Network
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import FALLBACK_RATE, TARGET_BLOCKS, ChainConfig, Coin, Connected, OutputStatus
from mpchan.chain.electrum.address import Proxy, Server, read_config
from mpchan.chain.electrum.certificates import Certificates
from mpchan.chain.electrum.connection import ANSWER_SECONDS, Connection
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.pool import Pool
from mpchan.chain.electrum.questions import Questions
from mpchan.chain.electrum.sending import broadcast, broadcast_package
from mpchan.chain.electrum.view import View
from mpchan.chain.lag import refuse
from mpchan.errors import ChainError
from mpchan.units import ChainTip, FeeRate, LockTime, OutPoint

MAX_RATE = FeeRate(1_000_000)
"""No estimate is believed above this: blocks never asked for more for long."""

LOWEST_MIN_RATE, HIGHEST_MIN_RATE = FeeRate(100), FeeRate(200_000)
"""A server's word on the lowest rate counts between what nodes relay at least and what a full mempool ever wanted."""

LEAST_STEP = FeeRate(1000)
"""What a replacement adds where a server does not tell: Bitcoin Core's default up to version 29."""

OPENINGS_AT_ONCE = 200
"""Servers count what they are asked, and turn away whom that makes too expensive."""


class ElectrumChain(Connected):
    """The chain as Electrum servers show it, on any network. One object serves one thread.

    Every confirmation is proven against a chain of headers that is checked here: see ``View`` for what is proven and
    what has to be believed, ``HeaderChain`` and ``Pool`` for why nobody makes up headers cheaply and how a server
    that holds back blocks is noticed. Fee rates are a server's word, and are taken only within bounds.

    Args:
        network: of the wallet; a server of another one is refused.
        directory: of the wallet, where certificates and headers are kept; None keeps them in memory.
        seconds: how long the answers to one exchange may take.

    Raises:
        ChainError: any method: ``unreachable``, ``certificate-changed``, ``wrong-network``, ``proxy-missing``,
            ``malformed-answer``, ``rpc-error``, ``headers-refused``, ``proof-refused``, ``chain-moving``.
    """

    def __init__(
        self,
        network: Network,
        servers: Sequence[Server],
        proxy: Proxy | None = None,
        directory: Path | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        certificates = Certificates(None if directory is None else directory / "certificates")
        connect = partial(Connection, proxy=proxy, certificates=certificates, seconds=seconds)
        headers = None if directory is None else directory / "seen" / "headers"
        self._pool = Pool(network, servers, connect, headers)
        self._asked_openings: set[OutPoint] = set()

    @classmethod
    def from_config(cls, config: ChainConfig, network: Network, directory: Path | None) -> ElectrumChain:
        """The servers that wallet.toml names."""
        servers, proxy = read_config(config)
        return cls(network, servers, proxy, directory)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        if hasattr(self, "_pool"):
            self._pool.close()

    # --- the questions of every backend -----------------------------------------------------------

    def tip(self) -> ChainTip:
        """Height and median time past of the last block whose header was checked here, and how servers are behind."""
        return self._pool.tip()

    def median_time_at(self, height: int) -> int | None:
        """Of a block whose header is checked here, and those of the ten before it."""
        return self._pool.ask(lambda chain, server, view: chain.median_time_at(height))

    def outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        """Those that a server knows, each confirmation proven; every kind of question goes out for all together.

        Of what waits in the mempool only that counts as a spend which the next block could hold.
        """
        return self._pool.outputs(asked)

    def appeared(self, openings: Mapping[OutPoint, bytes]) -> set[OutPoint]:
        """Those of ``OPENINGS_AT_ONCE`` at a time, in turn, that the server knows; those that are new are first."""
        turn = [outpoint for outpoint in openings if outpoint not in self._asked_openings]
        if not turn:
            self._asked_openings, turn = set(), list(openings)
        turn = turn[:OPENINGS_AT_ONCE]
        scripts = {openings[outpoint] for outpoint in turn}
        used = self._pool.ask(lambda chain, server, view: view.used_scripts(scripts)) if scripts else set()
        self._asked_openings.update(turn)
        self._asked_openings.intersection_update(openings)
        return set(self.outputs({outpoint: None for outpoint in turn if openings[outpoint] in used}))

    def payments(self, scripts: Mapping[bytes, int]) -> list[Coin]:
        """Those that nothing spends: a server has an index of scripts."""
        return self.coins(scripts) if scripts else []

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """The outputs of these scripts that neither chain nor mempool spends, in outpoint order, their depth proven."""
        return self._pool.ask(lambda chain, server, view: view.coins(scripts))

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        """Those that any output on the chain or in the mempool ever paid to, on the server's word."""
        refuse(self.tip().lag)  # a script that is taken for unused would be told to somebody a second time
        return self._pool.ask(lambda chain, server, view: view.used_scripts(scripts))

    def broadcast(self, transaction: Transaction) -> None:
        """Hand ``transaction`` to a server, whose node judges it, and to all others."""
        self._hand_over(
            lambda chain, server, view: broadcast(server, view, transaction),
            lambda server: server.broadcast(transaction),
        )

    def broadcast_package(self, transactions: Sequence[Transaction]) -> None:
        """Hand over parents that pay too little and, last, the child that pays for them; known ones are fine.

        Servers take packages since protocol 1.6. With an older one this works where the parents are known already.
        """
        self._hand_over(
            lambda chain, server, view: broadcast_package(server, view, transactions),
            lambda server: server.broadcast_package(transactions),
        )

    def _hand_over(
        self, hand: Callable[[HeaderChain, Questions, View], None], tell: Callable[[Questions], object]
    ) -> None:
        """To the server that is asked, whose verdict is ours; and to the others, lest that one holds it back."""
        try:
            self._pool.ask(hand)
        except ChainError as error:
            if error.slug in ("rejected", "node-too-old"):  # a lie would look the same
                self._pool.tell_others(tell)
            raise
        self._pool.tell_others(tell)

    def require_version(self, version: int) -> None:
        """A server's node cannot be asked; it says so when it refuses such a transaction."""

    def fee_rate(self) -> FeeRate:
        """The server's estimate for one of the next blocks, at least ``min_fee_rate`` and at most ``MAX_RATE``."""
        estimate = self._pool.ask(lambda chain, server, view: server.estimate(TARGET_BLOCKS))
        return min(max(estimate or FALLBACK_RATE, self.min_fee_rate()), MAX_RATE)

    def min_fee_rate(self) -> FeeRate:
        """The lowest rate that the server's node relays, within bounds: ``LOWEST_MIN_RATE`` to ``HIGHEST_MIN_RATE``."""
        rates = self._pool.ask(lambda chain, server, view: server.min_rates())
        return min(max([LOWEST_MIN_RATE, *rates]), HIGHEST_MIN_RATE)

    def incremental_fee_rate(self) -> FeeRate:
        """What the server's node wants on top from a replacement, within the same bounds."""
        rate = self._pool.ask(lambda chain, server, view: server.incremental_rate())
        return min(max(rate or LEAST_STEP, LOWEST_MIN_RATE), HIGHEST_MIN_RATE)
