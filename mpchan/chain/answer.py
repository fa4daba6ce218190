"""What a node or a server answers, read with suspicion: every value is checked where it is taken out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import ChainError, ParseError
from mpchan.units import LOCK_TIME_THRESHOLD, MAX_LOCK_TIME, Amount, FeeRate, OutPoint, Txid, is_hex
from mpchan.values import frozen

if TYPE_CHECKING:
    from typing_extensions import Self

_BITCOIN = r"([0-9]{1,8})(?:\.([0-9]{1,8}))?"


class Decimal(str):
    """A JSON number with a fraction, as its text: money never becomes a float."""

    __slots__ = ()


def read_json(data: bytes) -> Any:
    """Read JSON, its fractions as ``Decimal``."""
    try:
        return json.loads(data, parse_float=Decimal)
    except RecursionError:
        raise ValueError("nested too deep") from None


def words(text: str) -> str:
    """Another program's words as a part of our own sentence."""
    shown = "".join([character if character.isprintable() else "?" for character in text[:200]])
    return shown.strip().rstrip(".…")


@frozen
class Failure:
    """The other side's own refusal of a request.

    Attributes:
        code: of a node Bitcoin Core's ``RPCErrorCode``; of a server its own.
    """

    code: int
    message: str


class Answer:
    """One value of an answer.

    Every method that reads raises ``ChainError`` (``malformed-answer``) where the value is not what it must be.
    """

    __slots__ = ("_value", "_where")

    source: ClassVar[str] = "the node"
    doubt: ClassVar[str] = "is it Bitcoin Core that listens there?"

    def __init__(self, value: Any, where: str) -> None:
        self._value = value
        self._where = where

    def malformed(self, expected: str) -> ChainError:
        """The error of a value that is not what was expected."""
        return ChainError(
            "malformed-answer",
            f"{self.source}'s answer to {self._where} is not {expected}: {self._value!r:.80}",
            hint=self.doubt,
        )

    def __getitem__(self, key: str) -> Self:
        """A member of an object."""
        if not isinstance(self._value, dict) or key not in self._value:
            raise self.malformed(f"an object with {key}")
        return type(self)(self._value[key], f"{self._where} {key}")

    def __contains__(self, key: str) -> bool:
        """Whether an object has such a member."""
        if not isinstance(self._value, dict):
            raise self.malformed("an object")
        return key in self._value

    @property
    def is_null(self) -> bool:
        """Whether there is nothing."""
        return self._value is None

    def items(self) -> list[Self]:
        """The elements of an array."""
        if not isinstance(self._value, list):
            raise self.malformed("a list")
        return [type(self)(value, f"{self._where} {index}") for index, value in enumerate(self._value)]

    def item(self, index: int) -> Self:
        """One element of an array."""
        items = self.items()
        if index >= len(items):
            raise self.malformed(f"a list of more than {index}")
        return items[index]

    def only(self) -> Self:
        """The one element of an array."""
        return self.exactly(1)[0]

    def exactly(self, count: int) -> list[Self]:
        """The elements of an array that must have so many."""
        items = self.items()
        if len(items) != count:
            raise self.malformed(f"a list of {'one' if count == 1 else count}")
        return items

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``."""
        if type(self._value) is not int or not low <= self._value <= high:
            raise self.malformed(f"a number of {low} to {high}")
        return self._value

    def height(self) -> int:
        """A block height, or a number of blocks."""
        return self.integer(0, LOCK_TIME_THRESHOLD - 1)

    def time(self) -> int:
        """Seconds since 1970."""
        return self.integer(0, MAX_LOCK_TIME)

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self._value, bool):
            raise self.malformed("true or false")
        return self._value

    def text(self) -> str:
        """A string."""
        if not isinstance(self._value, str) or isinstance(self._value, Decimal):
            raise self.malformed("a text")
        return self._value

    def hex(self) -> str:
        """Hex digits, in lower case."""
        text = self.text()
        if not is_hex(text):
            raise self.malformed("hex")
        return text.lower()

    def data(self) -> bytes:
        """The bytes that hex digits stand for."""
        try:
            return bytes.fromhex(self.text())
        except ValueError:
            raise self.malformed("hex") from None

    def block_hash(self) -> str:
        """A block's hash in display hex."""
        text = self.hex()
        if len(text) != 64:
            raise self.malformed("a block hash")
        return text

    def txid(self) -> Txid:
        """A transaction id in display hex."""
        return Txid.from_hex(self.block_hash())

    def outpoint(self) -> OutPoint:
        """An object with ``txid`` and ``vout``."""
        return OutPoint(self["txid"].txid(), self["vout"].integer(0, MAX_LOCK_TIME))

    def output(self, value: str, *script: str) -> TxOut:
        """An object with an amount and a script, under these names."""
        place: Answer = self
        for key in script:
            place = place[key]
        return TxOut(self[value].amount(), place.data())

    def amount(self) -> Amount:
        """An amount in bitcoin."""
        text = str(self._value) if type(self._value) in (int, Decimal) else ""
        match = re.fullmatch(_BITCOIN, text, re.ASCII)
        if match is None:
            raise self.malformed("an amount of bitcoin")
        try:
            return Amount(int(match[1] + (match[2] or "").ljust(8, "0")))
        except ParseError:
            raise self.malformed("an amount of bitcoin") from None

    def fee_rate(self) -> FeeRate:
        """A fee rate in bitcoin per 1000 virtual bytes."""
        return FeeRate(self.amount().sat)

    def transaction(self, txid: Txid) -> Transaction:
        """A whole transaction in hex, which must have this id."""
        try:
            transaction = Transaction.from_bytes(self.data())
        except ParseError:
            raise self.malformed("a transaction") from None
        if transaction.txid != txid:
            raise self.malformed(f"transaction {txid}")
        return transaction
