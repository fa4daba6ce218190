"""What a payer is asked before it signs for more than its limits say, or what is refused where nobody can be asked."""

from __future__ import annotations

import time
from collections.abc import Callable

from mpchan.errors import NotPossible
from mpchan.party.spending.day import DaysBudget
from mpchan.values import frozen, replace
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.spending import SpendingLimits
from mpchan.wallet.wallet import Wallet


@frozen
class Question:
    """What a limit does not allow by itself.

    Attributes:
        what: ``deposit``, ``another`` (deposit, where the server takes nothing more in a channel that holds money yet),
            ``call`` or ``payee``.
        origin: that asks for it.
        sat: what is asked for.
        limit: satoshi; None where none was named.
        setting: what would allow it.
    """

    what: str
    origin: str
    sat: int
    limit: int | None
    setting: str

    def text(self) -> str:
        """In words."""
        subject = {
            "deposit": f"a channel of {self.sat} sat for {self.origin}",
            "another": f"a channel for {self.origin}, which takes nothing more in another one: {self.sat} sat in both",
            "call": f"a request of {self.origin} that costs {self.sat} sat",
            "payee": f"{self.sat} sat for {self.origin} in all",
        }[self.what]
        limit = "which no limit allows yet" if self.limit is None else f"above the limit of {self.limit} sat"
        return f"{subject}, {limit}"


_LOOK_SECONDS = 1.0

Ask = Callable[[Question], bool]
"""Whether somebody agrees; it may take its time."""


class Limits:
    """The limits of a wallet, as one program has them.

    Args:
        ask: who is asked where a limit does not allow it; None for nobody: it is refused.
        deposit, max_price: satoshi that the user has agreed to for this call.
        budget: satoshi a day; it lowers what the wallet says, and never raises it.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        wallet: Wallet,
        *,
        ask: Ask | None = None,
        deposit: int | None = None,
        max_price: int | None = None,
        budget: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._wallet = wallet
        self._ask = ask
        self._limits: SpendingLimits = wallet.config.spending
        self._deposit = deposit
        self._max_price = max_price
        per_day = [each for each in (self._limits.per_day_sat, budget) if each is not None]
        self._day = DaysBudget(wallet, min(per_day, default=None), clock)
        # by origin: satoshi, and when the wallet was looked at
        self._given: dict[str, tuple[int, float]] = {}
        self._agreed: set[Question] = set()

    def allow_price(self, origin: str, price: int) -> None:
        """A request may cost so much.

        Raises:
            NotPossible: ``price-too-high``, above what this call allows; ``limit-needed``.
        """
        if self._max_price is not None and price > self._max_price:
            raise NotPossible(
                "price-too-high",
                f"{origin} asks for {price} sat, more than {self._max_price}",
                hint="--max-price allows more",
            )
        limit = self._limits.per_call_sat
        if limit is not None and price > limit and self._max_price is None:
            self._require(Question("call", origin, price, limit, "per_call_sat"), "--max-price")

    def allow_deposit(self, origin: str, sat: int, locked: int = 0) -> None:
        """A channel may hold so much.

        Args:
            locked: satoshi that are left in channels with this origin in which the server takes nothing more. One word
                for a deposit is none for another one beside it: what a server says must not lock one after the other.

        Raises:
            NotPossible: ``limit-needed``.
        """
        if self._deposit is not None and sat + locked <= self._deposit:
            return
        limit = self._limits.per_deposit_sat
        if locked and (limit is None or sat + locked > limit):
            self._require(Question("another", origin, sat + locked, limit, "per_deposit_sat"), None)
            return
        if limit is None or sat > limit:
            self._require(Question("deposit", origin, sat, limit, "per_deposit_sat"), f"--deposit {sat}")

    def take(self, origin: str, rise: int) -> None:
        """So much more may be signed away to an origin; it counts from now on.

        Raises:
            NotPossible: ``limit-needed``.
            StorageError: the wallet fails.
        """
        if not rise:
            return
        limit = self._limits.per_payee_sat
        given = 0
        if limit is not None:
            given = self._given_to(origin)
            if given + rise > limit:
                self._require(Question("payee", origin, given + rise, limit, "per_payee_sat"), None)
        self._day.take(rise)
        if limit is not None:
            self._given[origin] = given + rise, self._given[origin][1]

    def _given_to(self, origin: str) -> int:
        """What is signed away to an origin by now, in all its channels, by this program and others beside it.

        The others' is as old as ``_LOOK_SECONDS`` at the most.
        """
        given, looked = self._given.get(origin, (0, 0.0))
        if not looked or time.monotonic() - looked >= _LOOK_SECONDS:
            found = sum(
                record.paid.sat
                for record in self._wallet.channels.readable()
                if isinstance(record, PayerRecord)
                and record.purpose is not None
                and record.purpose.origin == origin
            )
            given, looked = max(given, found), time.monotonic()
            self._given[origin] = given, looked
        return given

    def close(self) -> None:
        """What was taken of today's budget and not used serves other programs."""
        self._day.give_back()

    def _require(self, question: Question, option: str | None) -> None:
        asked = replace(question, sat=0) if question.what == "payee" else question
        if asked in self._agreed:
            return
        if self._ask is not None and self._ask(question):
            self._agreed.add(asked)
            return
        ways = f"raise {question.setting} in [spending] of wallet.toml"
        raise NotPossible(
            "limit-needed",
            question.text(),
            hint=ways if option is None else f"{option} allows it for this call; or {ways}",
        )
