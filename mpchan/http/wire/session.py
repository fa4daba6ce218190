"""The ``request`` of a challenge: what one unit costs, under which terms, and where the channel stands.

It follows draft-tempo-session ("Request Schema"); the channel's own are under ``methodDetails``. Amounts are satoshi,
as decimal digits in strings. A channel is named by its funding output, ``txid:vout``.
"""

from __future__ import annotations

import re
from typing import Any

from mpchan.bitcoin.network import MAINNET, REGTEST, SIGNET, TESTNET4, Network
from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError, ParseError
from mpchan.http.wire.encoding import (
    amount_of,
    bytes_of,
    from_base64url,
    object_in,
    text_of,
    to_base64url,
    to_text,
)
from mpchan.units import OutPoint
from mpchan.values import frozen

CURRENCY = "sat"

_PATH = re.compile(r"/(?!/)(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2}){1,500}", re.ASCII)
"""A path (RFC 3986, section 3.3) without what readers of URLs take differently: blank, backslash, query, fragment."""

_NETWORKS = {
    f"bip122:{network.genesis_hash[:32]}": network for network in (MAINNET, TESTNET4, SIGNET, REGTEST)
}
"""By their names of CAIP-2, namespace ``bip122``: the first 32 hex digits of the genesis block's hash."""


def network_id(network: Network) -> str:
    """The CAIP-2 name of a network."""
    return next(name for name, known in _NETWORKS.items() if known == network)


@frozen
class SaleLink:
    """Where the manifest of what is sold can be had, on the same origin and free of charge.

    Attributes:
        url: a path on the origin, such as ``/.well-known/mpchan/offers/<id>``.
        sha256: of the manifest as it is served.
        length: of the manifest, in bytes.
        pieces: how many there are.
        merkle_root: of the pieces' hashes.
    """

    url: str
    sha256: bytes
    length: int
    pieces: int
    merkle_root: bytes

    def to_table(self) -> dict[str, Any]:
        """The member ``sale``."""
        return {
            "url": self.url,
            "sha256": self.sha256.hex(),
            "length": self.length,
            "pieces": self.pieces,
            "merkleRoot": self.merkle_root.hex(),
        }

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> SaleLink:
        """Read the member; ValueError where it is none."""
        url = text_of(table, "url")
        if _PATH.fullmatch(url) is None:
            raise ValueError(f"sale.url is no path of this origin: {url!r:.80}")
        hashes = [bytes_of(table, name, 32) for name in ("sha256", "merkleRoot")]
        if any(len(found) != 32 for found in hashes):
            raise ValueError("a hash of 32 bytes is missing in sale")
        length, pieces = (_count(table, name) for name in ("length", "pieces"))
        return cls(url, hashes[0], length, pieces, hashes[1])


@frozen
class Snapshot:
    """Where a channel stands in the server's books; nothing of it is believed but the payer's own signature.

    Attributes:
        channel: ``txid:vout``.
        accepted: the highest total that the payer has signed, as far as the server has it.
        spent: what was charged.
        required: the least total that the request needs; None where none is asked for.
        deposit: what can be paid in all.
        number: of the latest update, where the construction numbers them.
        signature: the payer's under the accepted total; None before the first.
    """

    channel: str
    accepted: int
    spent: int
    required: int | None
    deposit: int
    number: int | None = None
    signature: bytes | None = None

    def to_table(self) -> dict[str, Any]:
        """The member ``sessionSnapshot``."""
        table: dict[str, Any] = {
            "channelId": self.channel,
            "acceptedCumulative": str(self.accepted),
            "spent": str(self.spent),
            "deposit": str(self.deposit),
        }
        if self.required is not None:
            table["requiredCumulative"] = str(self.required)
        if self.number is not None:
            table["number"] = self.number
        if self.signature is not None:
            table["signature"] = to_base64url(self.signature)
        return table

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Snapshot:
        """Read the member; ValueError where it is none."""
        required = (
            amount_of(table, "requiredCumulative", zero=True) if "requiredCumulative" in table else None
        )
        return cls(
            channel_name(table, "channelId"),
            amount_of(table, "acceptedCumulative", zero=True),
            amount_of(table, "spent", zero=True),
            required,
            amount_of(table, "deposit"),
            number_of(table),
            from_base64url(text_of(table, "signature")) if "signature" in table else None,
        )


@frozen
class SessionRequest:
    """What one unit costs, and under which terms.

    Attributes:
        amount: satoshi a unit.
        unit_type: what a unit is: ``request`` or ``piece``.
        suggested_deposit: satoshi; what the server would lock for the usual use.
        recipient: the address that is paid in the end.
        offer: the terms of a channel to be opened; it sells nothing.
        sale: where the manifest of what is sold can be had.
        min_voucher_delta: by so many satoshi at least a voucher pays more than the one before.
        channel: that is known to the server, where the request named it.
        snapshot: of that channel.
    """

    amount: int
    unit_type: str
    suggested_deposit: int | None
    recipient: str
    offer: Offer
    sale: SaleLink | None = None
    min_voucher_delta: int = 1
    channel: str | None = None
    snapshot: Snapshot | None = None

    @property
    def network(self) -> Network:
        """Of the channel."""
        return self.offer.network

    @property
    def scheme(self) -> str:
        """The channel's construction."""
        return self.offer.scheme

    def encode(self) -> str:
        """The parameter ``request``: canonical JSON as base64url."""
        details: dict[str, Any] = {
            "network": network_id(self.offer.network),
            "scheme": self.offer.scheme,
            "terms": self.offer.to_dict(),
            "minVoucherDelta": str(self.min_voucher_delta),
        }
        if self.sale is not None:
            details["sale"] = self.sale.to_table()
        if self.channel is not None:
            details["channelId"] = self.channel
        if self.snapshot is not None:
            details["sessionSnapshot"] = self.snapshot.to_table()
        table: dict[str, Any] = {
            "amount": str(self.amount),
            "currency": CURRENCY,
            "unitType": self.unit_type,
            "recipient": self.recipient,
            "methodDetails": details,
        }
        if self.suggested_deposit is not None:
            table["suggestedDeposit"] = str(self.suggested_deposit)
        return to_text(table)

    @classmethod
    def decode(cls, text: str) -> SessionRequest:
        """Read the parameter.

        Raises:
            ParseError: ``malformed-challenge``; ``unknown-scheme`` and the others of ``Offer.from_dict`` for its terms.
        """
        try:
            return cls._from_table(object_in(text))
        except (ValueError, TypeError, KeyError) as error:
            raise ParseError("malformed-challenge", f"request: {error!s:.200}") from None

    @classmethod
    def _from_table(cls, table: dict[str, Any]) -> SessionRequest:
        details = member(table, "methodDetails")
        if text_of(table, "currency") != CURRENCY:
            raise ValueError(f"currency is not {CURRENCY}: {table['currency']!r:.40}")
        network = _NETWORKS.get(text_of(details, "network"))
        offer = Offer.from_dict(member(details, "terms"))
        if offer.version == 1 or offer.sale is not None:
            raise ValueError("terms of version 1, or that sell something")
        if network != offer.network or text_of(details, "scheme") != offer.scheme:
            raise ValueError("network or scheme is not that of the terms")
        if text_of(table, "recipient") != offer.payee_address:
            raise ValueError("the recipient is not the address in the terms")
        unit = text_of(table, "unitType")
        if not 0 < len(unit) <= 40 or not unit.isascii() or not unit.isprintable():
            raise ValueError(f"unitType is no word: {unit!r:.50}")
        channel = channel_name(details, "channelId") if "channelId" in details else None
        snapshot = (
            Snapshot.from_table(member(details, "sessionSnapshot")) if "sessionSnapshot" in details else None
        )
        return cls(
            amount_of(table, "amount"),
            unit,
            amount_of(table, "suggestedDeposit") if "suggestedDeposit" in table else None,
            offer.payee_address,
            offer,
            SaleLink.from_table(member(details, "sale")) if "sale" in details else None,
            amount_of(details, "minVoucherDelta"),
            channel,
            snapshot,
        )


def member(table: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that is an object; ValueError where it is none."""
    value = table.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    return value


def channel_name(table: dict[str, Any], name: str) -> str:
    """A member that names a channel by its funding output; ValueError where it is none."""
    text = text_of(table, name)
    try:
        outpoint = OutPoint.parse(text)
    except MpchanError:
        raise ValueError(f"{name} is no txid:vout: {text!r:.80}") from None
    if str(outpoint) != text:
        raise ValueError(f"{name} is no txid:vout: {text!r:.80}")
    return text


def number_of(table: dict[str, Any]) -> int | None:
    """The member ``number``, an update's own where its construction numbers them; ValueError for anything else."""
    return _count(table, "number") if "number" in table else None


def _count(table: dict[str, Any], name: str) -> int:
    value = table.get(name)
    if type(value) is not int or not 0 < value < 1 << 53:
        raise ValueError(f"{name} is no number from 1 on")
    return value
