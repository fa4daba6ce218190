"""The thread that owns a payee's wallet, and how requests reach it from an event loop.

Requests of any number of connections wait in one queue. What waits is judged together: the requests of one channel
become durable with one fsync, and each is answered when that has returned. Everything else that needs the wallet is
done between two such batches, one thing at a time, so that strangers who ask for challenges do not hold up who pays.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import Any, TypeVar, Union

from mpchan.chain.base import Chain
from mpchan.durability import step
from mpchan.errors import MpchanError, StorageError
from mpchan.http.server.challenges import Challenges
from mpchan.http.server.desk import Desk, Tell
from mpchan.party.meter.base import AnyWallet, chain_of, opened
from mpchan.party.register.asks import Ask, Reserved, Verdict
from mpchan.party.register.register import Register
from mpchan.wallet.wallet import Wallet

T = TypeVar("T")

Judged = tuple[Ask, "asyncio.Future[Verdict]", Union[Verdict, BaseException]]

_FLUSH_SECONDS = 1.0
"""After so long without a request what has ended is written down all the same."""

_MOST_AT_ONCE = 512
"""Requests that become durable together, at the most."""


class Cashier:
    """The payee's side of a server. ``start`` it, and ``close`` it in the end.

    Args:
        chain: opens the wallet's backend, in the thread that uses it; None for the one that the wallet names.
        passphrase: of encrypted keys.
        realm, schemes, deposit, server: as ``Challenges`` has them.
        tell: is told of each channel that is opened or closed, in that thread.

    Attributes:
        challenges: to check credentials with, from any thread; there once it has started.
        failure: what has ended it by itself.
    """

    challenges: Challenges

    def __init__(
        self,
        wallet: AnyWallet,
        *,
        chain: Callable[[Wallet], Chain] | None = None,
        passphrase: str | None = None,
        realm: str,
        schemes: Sequence[str] = (),
        deposit: int | None = None,
        server: str | None = None,
        tell: Tell = lambda event: None,
    ) -> None:
        self._wallet = wallet
        self._tell = tell
        self._open_chain = chain_of if chain is None else chain
        self._passphrase = passphrase
        self._realm = realm
        self._terms: dict[str, Any] = {"schemes": schemes, "deposit": deposit, "server": server}
        self._waiting = threading.Condition()
        self._asks: deque[tuple[Ask, asyncio.Future[Verdict]]] = deque()
        self._outcomes: deque[tuple[str, str, int]] = deque()
        self._tasks: deque[tuple[Callable[[Desk], Any], Future[Any]]] = deque()
        self._ending = False
        self._began: Future[None] = Future()
        self._thread: threading.Thread | None = None
        self._spent: dict[str, int] = {}
        self.failure: BaseException | None = None

    # from outside ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the wallet; nothing where that was done.

        Raises:
            MpchanError: the wallet or its backend cannot be had.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cashier", daemon=True)
            self._thread.start()
        self._began.result()

    @property
    def is_there(self) -> bool:
        """Whether it has started."""
        return self._began.done() and self._began.exception() is None

    @property
    def has_ended(self) -> bool:
        """Whether it answers no more, for whatever reason."""
        return self._ending

    def close(self) -> None:
        """Answer what waits, write down what has ended, and let the wallet go."""
        with self._waiting:
            self._ending = True
            self._waiting.notify()
        if self._thread is not None:
            self._thread.join()

    async def ask(self, ask: Ask) -> Verdict:
        """The verdict on one request, which is on the disk then."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        with self._waiting:
            self._require_open()
            self._asks.append((ask, future))
            self._waiting.notify()
        try:
            verdict = await future
        except asyncio.CancelledError:
            judged = future.done() and not future.cancelled() and future.exception() is None
            granted = future.result() if judged else None
            if isinstance(granted, Reserved):  # nobody waits any more, so nothing is served
                self.end(ask.channel, granted.key, 0)
            raise
        standing = getattr(verdict, "standing", None)
        if standing is not None:
            self._note(standing.channel, standing.spent)
        return verdict

    def submit(self, act: Callable[[Desk], T]) -> Future[T]:
        """Let something be done in the thread that owns the wallet."""
        future: Future[T] = Future()
        with self._waiting:
            self._require_open()
            self._tasks.append((act, future))
            self._waiting.notify()
        return future

    async def do(self, act: Callable[[Desk], T]) -> T:
        """The same, for an event loop."""
        return await asyncio.wrap_future(self.submit(act))

    def end(self, channel: str, key: str, charged: int) -> int:
        """A request has ended that was granted; what is spent in its channel now, in satoshi.

        Args:
            channel: the name of its files.
            charged: satoshi; 0 where it was not served.
        """
        self._spent[channel] = self._spent.get(channel, 0) + charged
        with self._waiting:
            self._outcomes.append((channel, key, charged))
        return self._spent[channel]

    def spent(self, channel: str) -> int:
        """What is spent in a channel, as far as it was told; satoshi."""
        return self._spent.get(channel, 0)

    def _note(self, channel: str, spent: int) -> None:
        """What the books say is behind of what has ended since; it is ahead where somebody has paid by hand."""
        self._spent[channel] = max(spent, self._spent.get(channel, 0))

    def _require_open(self) -> None:
        if self._thread is None:
            raise RuntimeError("a cashier has to be started")
        if self._ending:
            raise StorageError("server-ending", "the server is ending")

    # the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            given = self._wallet
            wallet = (
                given.for_another_thread() if isinstance(given, Wallet) else opened(given, self._passphrase)
            )
            chain = self._open_chain(wallet)
            with closing(chain), Register(wallet, chain=chain) as register:
                self.challenges = Challenges(wallet, chain, realm=self._realm, **self._terms)
                desk = Desk(wallet, chain, register, self.challenges, self._tell)
                self._began.set_result(None)
                while self._turn(desk):
                    pass
        except BaseException as error:  # noqa: BLE001  # whoever waits raises it
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        if not self._began.done():
            self._began.set_exception(error)
        with self._waiting:
            self._ending = True
            asks, tasks = list(self._asks), list(self._tasks)
            self._asks.clear()
            self._tasks.clear()
        for _, future in tasks:
            future.set_exception(error)
        self._deliver([(ask, future, error) for ask, future in asks])

    def _turn(self, desk: Desk) -> bool:
        """One batch, and one other thing; False in the end."""
        with self._waiting:
            if not self._asks and not self._tasks and not self._ending:
                self._waiting.wait(_FLUSH_SECONDS)
            asks = [self._asks.popleft() for _ in range(min(len(self._asks), _MOST_AT_ONCE))]
            outcomes = list(self._outcomes)
            self._outcomes.clear()
            task = self._tasks.popleft() if self._tasks else None
            ending = self._ending and not self._asks and not self._tasks
        for outcome in outcomes:
            desk.register.outcome(*outcome)
        if asks:
            self._judge(desk, asks)
        if task is not None:
            _perform(desk, *task)
        if not asks and task is None and desk.register.has_outcomes:
            with suppress(StorageError):  # the next request tries again, and so does the end
                desk.register.flush()
        return not ending

    def _judge(self, desk: Desk, asks: Sequence[tuple[Ask, asyncio.Future[Verdict]]]) -> None:
        """Each channel by itself: what fails in one is nothing to the others."""
        of_channel: dict[str, list[tuple[Ask, asyncio.Future[Verdict]]]] = {}
        for ask, future in asks:
            of_channel.setdefault(ask.channel, []).append((ask, future))
        for group in of_channel.values():
            verdicts: Sequence[Union[Verdict, BaseException]]
            try:
                verdicts = desk.register.take_many([ask for ask, _ in group])
            except Exception as error:  # noqa: BLE001  # a mistake with one channel must not end the others' service
                verdicts = [error] * len(group)
            self._deliver([(*each, verdict) for each, verdict in zip(group, verdicts, strict=True)])

    def _deliver(self, judged: Sequence[Judged]) -> None:
        """Hand the verdicts over in the loop that waits for them."""
        if judged:
            with suppress(RuntimeError):  # that loop has ended
                step("emit", judged[0][1].get_loop().call_soon_threadsafe, self._hand_over, judged)

    def _hand_over(self, judged: Sequence[Judged]) -> None:
        for ask, future, verdict in judged:
            if future.done():  # nobody waits any more, so nothing is served
                if isinstance(verdict, Reserved):
                    self.end(ask.channel, verdict.key, 0)
            elif isinstance(verdict, BaseException) and not isinstance(verdict, MpchanError):
                future.set_exception(verdict)
            else:
                future.set_result(verdict)


def _perform(desk: Desk, act: Callable[[Desk], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(act(desk))
    except Exception as error:  # noqa: BLE001  # whoever waits raises it
        future.set_exception(error)
