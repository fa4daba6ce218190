"""The payee's offer: the terms on which it takes one channel, as a TOML text.

An offer in hand always makes sense: its limits do not contradict each other, its key is a point
on the curve and its address belongs to its network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import Network
from mpchan.bitcoin.signature import PublicKey
from mpchan.channel.canonical import canonical_form, from_canonical_form
from mpchan.channel.construction.registry import CONSTRUCTIONS, own_terms_of
from mpchan.errors import ParseError
from mpchan.units import (
    MAX_LOCK_TIME,
    MAX_MONEY_SAT,
    SECONDS_PER_BLOCK,
    Amount,
    FeeRate,
    checked_int,
    is_hex,
)
from mpchan.values import field, frozen, replace

OFFER_VERSIONS = (1, 2)
_TRANSACTION_VERSIONS = {1: 2, 2: 3}
"""By an offer's version, the version of refund, updates and settlement under it; 3 is that of BIP-0431."""

MAX_MEMO_LENGTH = 1000

_MARGIN_BLOCKS = 18
_MAX_DELAY_BLOCKS = 500_000
_ID_DIGITS = {1: 16, 2: 32}
_GENERATION_DIGITS, _TOKEN_DIGITS = 16, 64


def blocks_in_unit(blocks: int, unit: str) -> int:
    """A number of blocks in the offer's unit of lock times (600 s a block)."""
    return blocks if unit == "blocks" else blocks * SECONDS_PER_BLOCK


def margin(unit: str) -> int:
    """What delays get on top, so that a block found between two steps spoils nothing: 18 blocks or 3 h."""
    return blocks_in_unit(_MARGIN_BLOCKS, unit)


def refund_grid(scheme: str, unit: str) -> int:
    """L_refund is a multiple of this, in the unit; 1 where any lock time will do."""
    blocks = CONSTRUCTIONS[scheme].refund_grid_blocks
    return blocks_in_unit(blocks, unit) if blocks > 1 else 1


def _check_digits(name: str, text: str, digits: int) -> None:
    if len(text) != digits or not is_hex(text) or text != text.lower():
        raise ParseError("malformed-offer", f"{name} is not {digits} lower-case hex digits: {text!r:.80}")


@frozen
class Offer:
    """A payee's terms for one channel.

    Attributes:
        offer_id: lower-case hex digits: 32, in version 1 16.
        payee_key: compressed key, made for this offer alone.
        payee_script: scriptPubKey of ``payee_address``.
        fee_rate: of refund, updates and settlement.
        lock_time_unit: ``blocks`` or ``seconds``; the delays below are in this unit.
        min_refund_delay, max_refund_delay: of L_refund from the tip (or median time) at opening.
        settle_window: between L_0 and L_refund.
        own_terms: what offers of this scheme alone have.
        min_confirmations: of the funding before the first update counts.
        sale: the table ``[sale]`` as it came, for what is sold.
        version: of the offer, 1 or 2; what follows stands in version 2 alone.
        generation: of the payee's wallet, 16 lower-case hex digits.
        expires: Unix time from which on the payee signs nothing new under it; 0 for never.
        token: what the payee knows its own offer by, 64 lower-case hex digits; see ``token_text``.
        ways: how the payee can be reached, each a table with its ``kind``.

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
    own_terms: Mapping[str, int]
    min_increment: Amount
    min_confirmations: int
    memo: str = ""
    sale: Mapping[str, Any] | None = None
    version: int = 1
    generation: str = ""
    expires: int = 0
    token: str = ""
    ways: tuple[Mapping[str, Any], ...] = ()
    payee_script: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "payee_script", address_to_script(self.payee_address, self.network))
        if type(self.version) is not int or self.version not in OFFER_VERSIONS:
            raise unknown_version(self.version)
        self._check_own()
        require_scheme(self.scheme)
        if self.version < CONSTRUCTIONS[self.scheme].first_offer_version:
            text = f"no offer of version {self.version} has the scheme {self.scheme}"
            raise ParseError("malformed-offer", text)
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
        for name in ("min_refund_delay", "max_refund_delay", "settle_window"):
            checked_int(getattr(self, name), 1, min(longest, MAX_LOCK_TIME), name)
        for term in own_terms_of(self.scheme):
            most = min(longest, MAX_LOCK_TIME) if term.is_delay else MAX_MONEY_SAT
            checked_int(self.own_terms[term.name], 1, most, term.name)
        checked_int(self.min_confirmations, 1, 1000, "min_confirmations")
        checked_int(self.fee_rate.sat_per_kvb, 1, 100_000_000, "fee_rate_sat_per_kvb")
        checked_int(self.min_increment.sat, 1, MAX_MONEY_SAT, "min_increment_sat")
        self._check_limits()

    def _check_own(self) -> None:
        """What an offer has of its own, by its version."""
        _check_digits("offer_id", self.offer_id, _ID_DIGITS[self.version])
        if self.version == 1:
            if self.generation or self.expires or self.token or self.ways:
                raise ParseError("malformed-offer", "offer of version 1 with what only version 2 has")
            return
        _check_digits("generation", self.generation, _GENERATION_DIGITS)
        _check_digits("token", self.token, _TOKEN_DIGITS)
        checked_int(self.expires, 0, MAX_LOCK_TIME, "expires")

    def _check_limits(self) -> None:
        least = self.settle_window + self.confirmation_delay + self.margin
        if self.min_refund_delay < least:
            raise ParseError(
                "offer-limits",
                f"min_refund_delay {self.min_refund_delay} is below {least} {self.lock_time_unit}: "
                f"settle_window {self.settle_window} + confirmations {self.confirmation_delay} + margin {self.margin}",
            )
        grid = self.refund_grid
        most = self.min_refund_delay + self.margin + (grid if grid > 1 else 0)
        if self.max_refund_delay < most:
            raise ParseError(
                "offer-limits",
                f"max_refund_delay {self.max_refund_delay} is below min_refund_delay {self.min_refund_delay}"
                f" + margin {self.margin}{f' + {grid}' if grid > 1 else ''} {self.lock_time_unit}",
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
        return _TRANSACTION_VERSIONS[self.version]

    @property
    def margin(self) -> int:
        """The margin in the offer's unit: 18 blocks or 3 h."""
        return margin(self.lock_time_unit)

    @property
    def refund_grid(self) -> int:
        """L_refund is a multiple of this, in the offer's unit; 1 where any lock time will do."""
        return refund_grid(self.scheme, self.lock_time_unit)

    @property
    def confirmation_delay(self) -> int:
        """How long ``min_confirmations`` take in the offer's unit, a block counting 600 s."""
        return blocks_in_unit(self.min_confirmations, self.lock_time_unit)

    @property
    def default_refund_delay(self) -> int:
        """What a payer asks for unless told otherwise: the least, with the margin on top."""
        return min(self.max_refund_delay, self.min_refund_delay + self.margin)

    @property
    def key_name(self) -> bytes:
        """What the payee's key is derived by: the Merkle root where a sale is published, else the offer's id.

        So an offer that is published again, with another rate or expiry, keeps its key.
        """
        sale = self.sale or {}
        root = sale.get("merkle_root")
        if type(root) is str and len(root) == 64 and is_hex(root) and "buyer" not in sale:
            return bytes.fromhex(root)
        return bytes.fromhex(self.offer_id)

    def to_dict(self) -> dict[str, Any]:
        """The offer as the plain table that its TOML text holds."""
        from mpchan.channel.offer_tables import offer_to_table

        return offer_to_table(self)

    def terms(self) -> dict[str, Any]:
        """The same as one flat table without the version, by the names that options and wallet.toml have."""
        from mpchan.channel.offer_tables import flat_terms

        table = flat_terms(self.to_dict())
        del table["version"]
        return table

    def to_toml(self) -> str:
        """The text that travels to the payer."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def without_pieces(self) -> Offer:
        """The same offer as a wallet keeps it with each channel: for the pieces' hashes the Merkle root stands.

        They stand where the file is on sale or on order. An offer of version 1 is kept as it came.
        """
        if self.version == 1 or self.sale is None or "pieces" not in self.sale:
            return self
        return replace(self, sale={key: value for key, value in self.sale.items() if key != "pieces"})

    def canonical(self) -> bytes:
        """The canonical form, of version 2: all but ``sale.pieces``, for which the Merkle root stands."""
        return canonical_form(self._table_without("pieces"))

    def token_text(self) -> bytes:
        """What an offer's token is made over: the canonical form without ``token`` and ``sale.voucher``."""
        table = self._table_without("pieces", "voucher")
        del table["token"]
        return canonical_form(table)

    def _table_without(self, *of_sale: str) -> dict[str, Any]:
        table = self.to_dict()
        if self.sale is not None:
            table["sale"] = {key: value for key, value in self.sale.items() if key not in of_sale}
        return table

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
        from mpchan.channel.offer_tables import offer_from_table

        return offer_from_table(table)

    @classmethod
    def from_terms(cls, terms: Mapping[str, Any]) -> Offer:
        """An offer of version 2 from one flat table, as ``terms`` gives it; errors as in ``from_toml``."""
        from mpchan.channel.offer_tables import nested, offer_from_table

        return offer_from_table(nested(terms))

    @classmethod
    def from_canonical(cls, data: bytes) -> Offer:
        """Read the canonical form of an offer of version 2. What it sells comes without the pieces' hashes.

        Raises:
            ParseError: as ``from_toml``; ``malformed-offer`` for any other way to write the same.
        """
        offer = cls.from_dict(from_canonical_form(data))
        if offer.version == 1 or offer.canonical() != data:
            raise ParseError("malformed-offer", "not the canonical form of an offer")
        return offer

    def __eq__(self, other: object) -> bool:
        """Two offers of version 2 are the same where their canonical forms are."""
        if not isinstance(other, Offer):
            return NotImplemented
        return self is other or (self.offer_id == other.offer_id and self._compared() == other._compared())

    def __hash__(self) -> int:
        return hash((self.offer_id, self.payee_key))

    def _compared(self) -> dict[str, Any]:
        return self.to_dict() if self.version == 1 else self._table_without("pieces")


def require_scheme(name: object) -> None:
    """Refuse a construction that this program does not know."""
    if name not in CONSTRUCTIONS:
        raise ParseError("unknown-scheme", f"offer of an unknown scheme: {name!r:.80}")


def unknown_version(version: object) -> ParseError:
    """The error of an offer that this program cannot read."""
    return ParseError("offer-version", f"offer of an unknown version: {version!r:.80}")
