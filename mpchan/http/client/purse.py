"""The payer's wallet, as programs that ask over HTTP use it: it chooses channels, opens them, and signs.

One thread owns the wallet; whoever calls waits for it. What leaves here is on the disk before. A channel is used for
the origin that it was opened for and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mpchan.chain.base import Chain
from mpchan.http.client.demands import Demand
from mpchan.http.client.errand import Charged, Closed, Errand, Step
from mpchan.http.client.holder import Holder
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import Snapshot
from mpchan.party.meter.base import AnyWallet, chain_of, opened
from mpchan.party.spending.limits import Ask, Limits
from mpchan.wallet.wallet import Wallet

T = TypeVar("T")


class Purse:
    """A payer's wallet for requests; close it in the end.

    Args:
        chain: opens the wallet's backend, in the thread that uses it; None for the one that the wallet names.
        passphrase: of encrypted keys.
        ask: who is asked where a limit does not allow something; None for nobody.
        deposit, max_price, budget: as ``Limits`` has them.
        warn: is told what people should know.

    Raises:
        MpchanError: the wallet or its backend cannot be had.
    """

    def __init__(
        self,
        wallet: AnyWallet,
        *,
        chain: Callable[[Wallet], Chain] | None = None,
        passphrase: str | None = None,
        ask: Ask | None = None,
        deposit: int | None = None,
        max_price: int | None = None,
        budget: int | None = None,
        warn: Callable[[Sequence[str]], None] = lambda warnings: None,
    ) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="purse")

        def open_it() -> Holder:
            own = wallet.for_another_thread() if isinstance(wallet, Wallet) else opened(wallet, passphrase)
            own.keys.need_secret()
            limits = Limits(own, ask=ask, deposit=deposit, max_price=max_price, budget=budget)
            return Holder(own, (chain or chain_of)(own), limits, deposit, warn)

        try:
            self._holder = self.call(open_it)
        except BaseException:
            self._thread.shutdown()
            raise
        self.network = self._holder.wallet.network

    def call(self, act: Callable[[], T]) -> T:
        """Let something be done by the thread that owns the wallet."""
        return self._thread.submit(act).result()

    def __enter__(self) -> Purse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write down what was charged, and let the wallet go."""
        try:
            self.call(self._holder.close)
        finally:
            self._thread.shutdown()

    def begin(self, errand: Errand) -> Step | None:
        """What to send along with the first try: a voucher, where this origin has asked for one below this path."""
        return self.call(lambda: self._holder.begin(errand))

    def answer(self, errand: Errand, demands: Sequence[Demand]) -> Step:
        """What to send where a request is to be paid for.

        Raises:
            MpchanError: it is not paid, and nothing was signed for it.
        """
        return self.call(lambda: self._holder.answer(errand, demands))

    def fund(self, errand: Errand, psbt: bytes) -> Step:
        """The opening of a channel whose refund the server has signed."""
        return self.call(lambda: self._holder.fund(errand, psbt))

    def resynced(self, errand: Errand, snapshot: Snapshot, demands: Sequence[Demand]) -> Step:
        """What to send after the server has shown where the channel stands in its books."""
        return self.call(lambda: self._holder.resynced(errand, snapshot, demands))

    def elsewhere(self, errand: Errand, demands: Sequence[Demand]) -> Step:
        """What to send where the server takes nothing more in the channel that was tried."""
        return self.call(lambda: self._holder.elsewhere(errand, demands))

    def ended(self, errand: Errand, receipt: Receipt | None, *, taken: bool) -> Charged | None:
        """The request is over; what it has cost, if the server says so.

        Args:
            taken: whether the server has taken the credential, so that a channel that was opened is known to it.
        """
        return self.call(lambda: self._holder.ended(errand, receipt, taken=taken))

    def closing(self, errand: Errand, demands: Sequence[Demand], spent: int | None) -> Step:
        """The settlement of a channel with this origin at what was charged in it.

        Args:
            spent: what the server says to have charged; None before it has said that.

        Raises:
            NotPossible: ``no-channel``.
        """
        return self.call(lambda: self._holder.closing(errand, demands, spent))

    def closed(self, errand: Errand, receipt: Receipt) -> Closed:
        """The server has closed the channel.

        Raises:
            Refused: ``malformed-answer``, it does not say by what.
        """
        return self.call(lambda: self._holder.closed(errand, receipt))
