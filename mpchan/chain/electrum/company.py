"""What the servers that are not asked now say of an output: one server's silence is not believed.

Only an account that shows more than another one counts for more, and a confirmation in it is proven. So a server that
hides a funding or a spend, or does not know of its block, is outvoted by any other one; and one that cannot be reached,
or lies, adds nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from mpchan.chain.base import OutputStatus
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.questions import Questions
from mpchan.chain.electrum.view import Seen, View
from mpchan.errors import MpchanError
from mpchan.units import OutPoint
from mpchan.values import replace

ASK_SECONDS = 10.0
"""The others have so long to answer, all of them at once; who does not is left out until all are chosen from again."""


class Company:
    """The servers that stand beside the one that is asked.

    Args:
        servers: each with a connection that nobody else uses.

    Attributes:
        is_ahead: whether one of them spoke of a block that the chain of headers does not have yet.
    """

    def __init__(self, servers: Iterable[Questions] = ()) -> None:
        self._servers = {server: Seen() for server in servers}
        self.is_ahead = False

    def close(self) -> None:
        """Close the connections; nobody is asked any more."""
        for server in self._servers:
            server.close()
        self._servers = {}

    def add_to(
        self, own: Mapping[OutPoint, OutputStatus], outpoints: Collection[OutPoint], chain: HeaderChain
    ) -> dict[OutPoint, OutputStatus]:
        """One server's account of these outputs with what the others know besides."""
        found = dict(own)
        # where it is proven to have been spent, nothing can be added to that
        open_to = [outpoint for outpoint in outpoints if not _is_proven_spent(found.get(outpoint))]
        if not self._servers or not open_to:
            return found
        accounts = [own, *self._accounts(lambda view: view.outputs(open_to), chain)]
        for outpoint in open_to:
            status = agreed(account.get(outpoint) for account in accounts)
            if status is not None:
                found[outpoint] = status
        return found

    def _accounts(
        self, look: Callable[[View], dict[OutPoint, OutputStatus]], chain: HeaderChain
    ) -> list[dict[OutPoint, OutputStatus]]:
        """What each of the others says; those that fail are asked no more."""
        found: dict[Questions, dict[OutPoint, OutputStatus]] = {}

        def ask(server: Questions, seen: Seen) -> None:
            try:
                found[server] = look(View(chain, server, seen))
            except MpchanError as error:
                if error.slug == "chain-moving":
                    self.is_ahead, found[server] = True, {}
                else:
                    server.close()

        tasks = [partial(ask, server, seen) for server, seen in self._servers.items()]
        at_once(tasks, ASK_SECONDS)
        accounts = dict(found)
        self._servers = {server: seen for server, seen in self._servers.items() if server in accounts}
        return list(accounts.values())


def _is_proven_spent(status: OutputStatus | None) -> bool:
    return status is not None and status.spend is not None and status.spend.confirmations > 0


def agreed(accounts: Iterable[OutputStatus | None]) -> OutputStatus | None:
    """Several servers' accounts of one output as one: the deepest confirmation, and the spend that is surest.

    All of them are of one transaction, whose id is the hash of what each has shown, so they differ in nothing else.
    """
    known = [account for account in accounts if account is not None]
    if not known:
        return None
    deepest = max(known, key=lambda account: account.confirmations)
    spends = [account.spend for account in known if account.spend is not None]
    return replace(deepest, spend=max(spends, key=lambda spend: spend.confirmations, default=None))


def at_once(tasks: Sequence[Callable[[], None]], seconds: float | None = None) -> None:
    """Run tasks beside each other, in threads; one alone that may take as long as it wants runs in this one.

    Args:
        seconds: to wait for them all; those that are not done by then go on, and nobody waits for them.
    """
    if seconds is None and len(tasks) == 1:
        tasks[0]()
        return
    threads = [threading.Thread(target=task, daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    limit = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        thread.join(None if limit is None else max(0.0, limit - time.monotonic()))
