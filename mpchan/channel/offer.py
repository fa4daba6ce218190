"""The payee's offer: the terms on which it takes one channel, as a TOML text.

An offer in hand always makes sense: its limits do not contradict each other, its key is a point
on the curve and its address belongs to its network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import Network, network_from_name
from mpchan.bitcoin.signature import PublicKey
from mpchan.errors import ParseError
from mpchan.units import MAX_LOCK_TIME, MAX_MONEY_SAT, Amount, FeeRate, checked_int, is_hex
from mpchan.values import field, frozen

OFFER_VERSION = 1
TRANSACTION_VERSIONS = {1: 2, 2: 3}
"""By an offer's version, the version of refund, updates and settlement under it; 3 is that of BIP-0431."""

MAX_OFFER_BYTES = 400_000
MAX_MEMO_LENGTH = 1000
SECONDS_PER_BLOCK = 600
"""A block counts this many seconds where confirmations are weighed against a delay in seconds."""

_MARGIN_BLOCKS = 18
_MAX_DELAY_BLOCKS = 500_000
_SCHEMES = ("decrementing",)
_MAX_SALE_DEPTH = 10


def blocks_in_unit(blocks: int, unit: str) -> int:
    """A number of blocks in the offer's unit of lock times (600 s a block)."""
    return blocks if unit == "blocks" else blocks * SECONDS_PER_BLOCK


def margin(unit: str) -> int:
    """What delays get on top, so that a block found between two steps spoils nothing: 18 blocks or 3 h."""
    return blocks_in_unit(_MARGIN_BLOCKS, unit)


@frozen
class Offer:
    """A payee's terms for one channel.

    Attributes:
        offer_id: 16 lower-case hex digits.
        payee_key: compressed key, made for this offer alone.
        payee_script: scriptPubKey of ``payee_address``.
        fee_rate: of refund, updates and settlement.
        lock_time_unit: ``blocks`` or ``seconds``; the delays below are in this unit.
        min_refund_delay, max_refund_delay: of L_refund from the tip (or median time) at opening.
        settle_window: between L_0 and L_refund.
        step: between the lock times of two updates.
        min_confirmations: of the funding before the first update counts.
        sale: the table ``[sale]`` as it came, for what is sold.
        version: of the offer, 1 or 2.

    Raises:
        ParseError: ``offer-limits`` where the limits contradict each other, ``malformed-offer`` and
            ``malformed-number`` for values that no offer can have.
    """

    offer_id: str
    network: Network
    scheme: str
    payee_key: PublicKey
    payee_address: str
    min_capacity: Amount
    max_capacity: Amount
    fee_rate: FeeRate
    lock_time_unit: str
    min_refund_delay: int
    max_refund_delay: int
    settle_window: int
    step: int
    min_increment: Amount
    min_confirmations: int
    memo: str = ""
    sale: Mapping[str, Any] | None = None
    version: int = OFFER_VERSION
    payee_script: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "payee_script", address_to_script(self.payee_address, self.network))
        if type(self.version) is not int or self.version not in TRANSACTION_VERSIONS:
            raise _unknown_version(self.version)
        if len(self.offer_id) != 16 or not is_hex(self.offer_id) or self.offer_id != self.offer_id.lower():
            raise ParseError(
                "malformed-offer", f"offer_id is not 16 lower-case hex digits: {self.offer_id!r:.80}"
            )
        if self.scheme not in _SCHEMES:
            raise ParseError("unknown-scheme", f"offer of an unknown scheme: {self.scheme!r:.80}")
        if self.lock_time_unit not in ("blocks", "seconds"):
            raise ParseError(
                "malformed-offer",
                f"lock_time_unit is neither blocks nor seconds: {self.lock_time_unit!r:.80}",
            )
        if len(self.memo) > MAX_MEMO_LENGTH or not self.memo.isprintable():
            raise ParseError(
                "malformed-offer", f"memo is not a line of at most {MAX_MEMO_LENGTH} printable characters"
            )
        longest = blocks_in_unit(_MAX_DELAY_BLOCKS, self.lock_time_unit)
        for name in ("min_refund_delay", "max_refund_delay", "settle_window", "step"):
            checked_int(getattr(self, name), 1, min(longest, MAX_LOCK_TIME), name)
        checked_int(self.min_confirmations, 1, 1000, "min_confirmations")
        checked_int(self.fee_rate.sat_per_kvb, 1, 100_000_000, "fee_rate_sat_per_kvb")
        checked_int(self.min_increment.sat, 1, MAX_MONEY_SAT, "min_increment_sat")
        self._check_limits()

    def _check_limits(self) -> None:
        least = self.settle_window + self.confirmation_delay + self.margin
        if self.min_refund_delay < least:
            raise ParseError(
                "offer-limits",
                f"min_refund_delay {self.min_refund_delay} is below {least} {self.lock_time_unit}: "
                f"settle_window {self.settle_window} + confirmations {self.confirmation_delay} + margin {self.margin}",
            )
        if self.max_refund_delay < self.min_refund_delay + self.margin:
            raise ParseError(
                "offer-limits",
                f"max_refund_delay {self.max_refund_delay} is below min_refund_delay {self.min_refund_delay}"
                f" + margin {self.margin} {self.lock_time_unit}",
            )
        if not Amount(1) <= self.min_capacity <= self.max_capacity:
            raise ParseError(
                "offer-limits",
                f"min_capacity_sat {self.min_capacity.sat} is not within 1 to max_capacity_sat {self.max_capacity.sat}",
            )
        if self.min_increment > self.max_capacity:
            raise ParseError(
                "offer-limits",
                f"min_increment_sat {self.min_increment.sat} is above max_capacity_sat {self.max_capacity.sat}",
            )

    @property
    def transaction_version(self) -> int:
        """Of refund, updates and settlement; a channel keeps that of its offer to its end."""
        return TRANSACTION_VERSIONS[self.version]

    @property
    def margin(self) -> int:
        """The margin in the offer's unit: 18 blocks or 3 h."""
        return margin(self.lock_time_unit)

    @property
    def confirmation_delay(self) -> int:
        """How long ``min_confirmations`` take in the offer's unit, a block counting 600 s."""
        return blocks_in_unit(self.min_confirmations, self.lock_time_unit)

    @property
    def default_refund_delay(self) -> int:
        """What a payer asks for unless told otherwise: the least, with the margin on top."""
        return min(self.max_refund_delay, self.min_refund_delay + self.margin)

    def to_dict(self) -> dict[str, Any]:
        """The offer as the plain table that its TOML text holds."""
        table: dict[str, Any] = {"version": self.version}
        for key, (attribute, _) in _KEYS.items():
            value = getattr(self, attribute)
            if isinstance(value, Network):
                value = value.name
            elif isinstance(value, PublicKey):
                value = value.sec.hex()
            elif isinstance(value, Amount):
                value = value.sat
            elif isinstance(value, FeeRate):
                value = value.sat_per_kvb
            table[key] = value
        if self.sale is not None:
            table["sale"] = dict(self.sale)
        return table

    def to_toml(self) -> str:
        """The text that travels to the payer."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Offer:
        """Read an offer's text.

        Raises:
            ParseError: ``malformed-toml``, ``malformed-offer`` (missing, unknown or mistyped keys),
                ``offer-version``, ``unknown-scheme``, ``unknown-network``, ``wrong-network``, ``offer-limits``,
                ``malformed-…``.
        """
        import tomli

        try:
            return cls.from_dict(tomli.loads(text))
        except (tomli.TOMLDecodeError, RecursionError, ValueError) as error:
            raise ParseError("malformed-toml", f"offer is not valid TOML: {error!s:.200}") from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Offer:
        """Read the plain table of an offer; errors as in ``from_toml``."""
        if "version" not in table:
            raise ParseError("malformed-offer", "offer lacks the key version")
        version = table["version"]
        if type(version) is not int or version != OFFER_VERSION:
            raise _unknown_version(version)
        unknown = [key for key in table if key not in _KEYS and key not in ("version", "sale")]
        if unknown:
            raise ParseError("malformed-offer", f"offer holds an unknown key: {unknown[0]!r:.80}")
        values: dict[str, Any] = {}
        for key, (attribute, kind) in _KEYS.items():
            if key not in table:
                raise ParseError("malformed-offer", f"offer lacks the key {key}")
            value = table[key]
            if kind is str:
                if type(value) is not str:
                    raise ParseError("malformed-offer", f"{key} must be a string, not {value!r:.80}")
                values[attribute] = value
            else:
                values[attribute] = kind(checked_int(value, 0, MAX_MONEY_SAT, key))
        values["network"] = network_from_name(values["network"])
        values["payee_key"] = PublicKey.from_hex(values["payee_key"])
        sale = table.get("sale")
        if sale is not None and not isinstance(sale, Mapping):
            raise ParseError("malformed-offer", f"sale must be a table, not {sale!r:.80}")
        _check_plain(sale, _MAX_SALE_DEPTH)
        return cls(**values, sale=sale)


def _unknown_version(version: object) -> ParseError:
    return ParseError("offer-version", f"offer of an unknown version: {version!r:.80}")


def _check_plain(value: object, depth: int) -> None:
    """Refuse in ``[sale]`` what no channel file could hold: dates, endless or huge numbers, bottomless nesting."""
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int) and value.bit_length() < 64:
        return
    if isinstance(value, float) and value - value == 0:  # finite
        return
    if isinstance(value, (list, dict)) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, depth - 1)
        return
    raise ParseError(
        "malformed-offer",
        f"sale holds a {type(value).__name__} where text, a number of 64 bits or a shallow table can stand",
    )


_KEYS: dict[str, tuple[str, Any]] = {
    "offer_id": ("offer_id", str),
    "network": ("network", str),
    "scheme": ("scheme", str),
    "payee_pubkey": ("payee_key", str),
    "payee_address": ("payee_address", str),
    "min_capacity_sat": ("min_capacity", Amount),
    "max_capacity_sat": ("max_capacity", Amount),
    "fee_rate_sat_per_kvb": ("fee_rate", FeeRate),
    "lock_time_unit": ("lock_time_unit", str),
    "min_refund_delay": ("min_refund_delay", int),
    "max_refund_delay": ("max_refund_delay", int),
    "settle_window": ("settle_window", int),
    "step": ("step", int),
    "min_increment_sat": ("min_increment", Amount),
    "min_confirmations": ("min_confirmations", int),
    "memo": ("memo", str),
}
"""Keys of the TOML text: attribute and type, in the order of the text."""
