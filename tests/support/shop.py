"""A channel with its first payment, and the cash register of its payee."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpchan.channel.construction.registry import construction_of
from mpchan.channel.signing import ChannelKey
from mpchan.party.register.asks import Ask, Reserved, Signed, Verdict
from mpchan.party.register.register import Register
from mpchan.wallet.account import Account
from support.party import Pair

SCHEMES = ("decrementing", "taproot")
FIRST = 1_000


class Shop:
    """A channel with its first payment, and the register of its payee."""

    def __init__(self, pair: Pair, **offer: Any) -> None:
        self.pair = pair
        self.name = pair.open(**offer)
        pair.accept(pair.pay(self.name, FIRST))
        self.register = Register(pair.payee, chain=pair.chain)
        form = construction_of(self.terms.offer).form(self.terms)
        assert form is not None
        self.form = form
        self.total, self.number = FIRST, 1

    @property
    def terms(self):  # type: ignore[no-untyped-def]
        return self.pair.payee_record(self.name).terms

    @property
    def key(self) -> ChannelKey:
        return self.pair.payer.keys.key_of(self.pair.payer_record(self.name))

    def signed(self, total: int, number: int | None = None) -> Signed:
        """The payer's word for a total."""
        if total > self.total:
            self.total, self.number = total, self.number + 1
        number = self.number if number is None else number
        signature = self.key.sign_update_in(self.form, number, total)
        numbered = self.form.last is not None
        return Signed(total, number if numbered else None, signature)

    def ask(self, total: int, price: int = 10, key: str | None = None, number: int | None = None) -> Verdict:
        ask = Ask(self.name, self.signed(total, number), price, key, "ab" * 32)
        [verdict] = self.register.take_many([ask])
        return verdict

    def end(self, verdict: Verdict, charged: int) -> None:
        assert isinstance(verdict, Reserved)
        self.register.outcome(self.name, verdict.key, charged)

    def account(self) -> Account:
        account = self.pair.payee_record(self.name).account
        assert account is not None
        return account

    def again(self) -> None:
        """The process has gone, and another one begins."""
        self.register._mine.close()
        self.pair.restart()
        self.register = Register(self.pair.payee, chain=self.pair.chain)


class Died(BaseException):
    """The process is gone; no clean-up of its own reaches the disk."""


class Board:
    """In the place of ``step``: counts, and fails at a step or from one on.

    Args:
        counts: the kinds that do.
    """

    def __init__(self, counts: Callable[[str], bool] = lambda kind: True) -> None:
        self.counts = counts
        self.kinds: list[str] = []
        self.fatal: int | None = None
        self.error: int | None = None

    def __call__(self, kind: str, act: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.counts(kind):
            return act(*args, **kwargs)
        at = len(self.kinds)
        self.kinds.append(kind)
        if self.fatal is not None and at >= self.fatal and kind not in ("close", "unlock"):
            raise Died
        if at == self.error:
            raise OSError(28, "No space left on device")
        return act(*args, **kwargs)
