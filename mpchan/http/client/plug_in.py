"""Credentials by challenge: for software that speaks the scheme by itself and asks a plug-in what to answer.

Such an SDK sends, waits and repeats as it likes, and asks again for what it was told a moment ago. One challenge is
answered once here: the same total, the same signature. Each request should bring an ``Idempotency-Key`` of its own, so
that a total that was signed before can pay for it.
"""

from __future__ import annotations

import threading

from mpchan.errors import MpchanError, NotPossible, ParseError
from mpchan.http.client.demands import Demand, demands_in, origin_of, space_of
from mpchan.http.client.errand import Charged, Errand, Step
from mpchan.http.client.purse import Purse
from mpchan.http.wire.credential import Prepare
from mpchan.http.wire.receipt import Receipt
from mpchan.units import OutPoint

_MOST_OPEN = 1_000
"""Challenges that were answered and of which no end was told, at the most; the oldest is taken for ended then."""


class PlugIn:
    """What answers the challenges of one server; any thread may ask.

    Args:
        url: of the server, wherever on it; a channel is used for its origin alone.
    """

    def __init__(self, purse: Purse, url: str) -> None:
        self._purse = purse
        self._origin, self._space = origin_of(url), space_of(url)
        self._lock = threading.Lock()
        self._errands: dict[str, Errand] = {}

    def can_pay(self, www_authenticate: str) -> bool:
        """Whether this wallet can pay what a value of ``WWW-Authenticate`` asks for."""
        try:
            demands_in([www_authenticate], self._purse.network)
        except MpchanError:
            return False
        return True

    def credential(self, www_authenticate: str) -> str:
        """The value of ``Authorization`` that answers a challenge; the same one however often it is asked for.

        Raises:
            NotPossible: ``nothing-payable``; ``limit-needed`` and others of ``Purse.answer``; ``exchange-needed``, the
                channel is to be opened by a construction that reads the server's answers.
        """
        with self._lock:
            demand = demands_in([www_authenticate], self._purse.network)[0]
            name = demand.challenge.id
            errand = self._errands.get(name)
            if errand is None or errand.step is None:
                errand = self._answered(demand)
                self._errands[name] = errand
                self._forget_oldest()
            return _step(errand).authorization()

    def _answered(self, demand: Demand) -> Errand:
        """An errand of its own; with a snapshot, which follows on a voucher that did not do, that of the voucher."""
        snapshot = demand.request.snapshot
        if snapshot is not None:
            channel = OutPoint.parse(snapshot.channel).name
            for errand in reversed(self._errands.values()):
                if _step(errand).channel == channel:
                    self._purse.resynced(errand, snapshot, [demand])
                    return errand
        errand = Errand(self._origin, self._space)
        try:
            step = self._purse.answer(errand, [demand])
            if isinstance(step.payload, Prepare):
                raise NotPossible(
                    "exchange-needed",
                    f"a channel with {self._origin} is opened by an exchange that a plug-in has no part in",
                    hint="open it first: `mpchan payer fetch --open-only URL`",
                )
        except BaseException:
            self._purse.ended(errand, None, taken=False)
            raise
        return errand

    def ended(self, challenge_id: str, receipt: str | None) -> Charged | None:
        """The request that a challenge was for is over; what it has cost, if the server says so.

        Args:
            receipt: the value of ``Payment-Receipt``; None where the answer brought none.
        """
        with self._lock:
            errand = self._errands.get(challenge_id)
            if errand is None:
                return None
            self._errands = {name: each for name, each in self._errands.items() if each is not errand}
            try:
                read = None if receipt is None else Receipt.from_header(receipt)
            except ParseError:  # nothing rests on it
                read = None
            return self._purse.ended(errand, read, taken=read is not None)

    def _forget_oldest(self) -> None:
        while len(self._errands) > _MOST_OPEN:
            oldest = self._errands.pop(next(iter(self._errands)))
            if oldest not in self._errands.values():
                self._purse.ended(oldest, None, taken=False)


def _step(errand: Errand) -> Step:
    if errand.step is None:
        raise TypeError("an errand that was answered has a step")
    return errand.step
