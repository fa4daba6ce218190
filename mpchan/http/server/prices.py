"""What a request costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Union

from mpchan.http.wire.session import SaleLink
from mpchan.values import field, frozen


@frozen
class Asked:
    """A request, as far as a price may depend on it.

    Attributes:
        method: upper case; a HEAD is asked for as the GET that it stands for.
        path: decoded, as the application gets it.
        raw_path: as it came.
        query: behind the question mark, as it came.
        headers: by lower-case name; of a name that stands there more than once the last value.
    """

    method: str
    path: str
    raw_path: str = ""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@frozen
class Price:
    """What one request costs.

    Attributes:
        amount: satoshi a unit.
        unit: what a unit is, as the challenge says it.
        per_bytes: of a price by length: so many bytes of the answer's body are a unit, a part of them another one. None
            for a price of the request as a whole.
        most: satoshi that such a request may cost at the most: what is longer costs no more.
        once: whether the challenge is for this method and path alone.
        deposit: satoshi that a channel should be worth, as the challenge suggests it; None for the server's usual.
        terms: what its offers have instead of the wallet's usual terms, as ``Offer.terms`` names them.
        sale: where the manifest stands, of a piece of a file.
        lasting: by what name the request is charged once as long as the channel lasts; None where its client names it.
        description: for people.
    """

    amount: int
    unit: str = "request"
    per_bytes: int | None = None
    most: int | None = None
    once: bool = False
    deposit: int | None = None
    terms: Mapping[str, Any] = field(default_factory=dict)
    sale: SaleLink | None = None
    lasting: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        if type(self.amount) is not int or self.amount < 1:
            raise ValueError(f"a price is a whole number of satoshi from 1 on, not {self.amount!r:.40}")
        if self.per_bytes is not None and (self.per_bytes < 1 or (self.most or 0) < self.amount):
            raise ValueError("a price by length says for how many bytes, and what it comes to at the most")

    @property
    def reserved(self) -> int:
        """Satoshi that are reserved for one request before it is served: it never costs more."""
        return self.amount if self.most is None else self.most

    def of_length(self, length: int) -> int:
        """What an answer of so many bytes costs, in satoshi."""
        if self.per_bytes is None:
            return self.amount
        return min(self.reserved, -(-length // self.per_bytes) * self.amount)


PriceOf = Union[Callable[[Asked], Union[Price, int, None]], Price, int]
"""A price for all, or what tells it of each request; None for a free one."""


def price_function(price: PriceOf) -> Callable[[Asked], Price | None]:
    """What tells the price of each request.

    Raises:
        ValueError: it is none.
    """
    if callable(price):
        return lambda asked: _price(price(asked))
    fixed = _price(price)
    return lambda asked: fixed


def _price(price: Price | int | None) -> Price | None:
    if price is None or isinstance(price, Price):
        return price
    return None if price == 0 else Price(price)
