"""What the client answers to a challenge: ``Authorization: Payment`` (draft-httpauth-payment, "Credentials").

The payload says what is done, as ``action``:

    prepare   ask for the signed refund, where a construction signs it before the funding
    open      a funded channel, and the first voucher in it
    voucher   a signed total
    close     a signed total to close the channel with

A voucher's signature is the payer's under the update of that total, as the construction makes it: the server builds the
transaction itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from mpchan.bitcoin.signature import PublicKey
from mpchan.errors import MpchanError, ParseError
from mpchan.http.wire.challenge import Challenge, challenge_of
from mpchan.http.wire.encoding import (
    amount_of,
    bytes_of,
    from_base64url,
    object_in,
    text_of,
    to_base64url,
    to_text,
)
from mpchan.http.wire.fields import SCHEME
from mpchan.http.wire.session import channel_name, member, number_of
from mpchan.party.register.asks import Signed as Signed
from mpchan.units import MAX_LOCK_TIME
from mpchan.values import frozen

MAX_CREDENTIAL_BYTES = 7_680
"""A credential's header value is no longer."""

_MOST_SIGNATURE_BYTES = 80
_MOST_SCRIPT_BYTES = 64


def signed_table(signed: Signed) -> dict[str, Any]:
    """The members of a payload that hold a total."""
    table: dict[str, Any] = {
        "cumulativeAmount": str(signed.total),
        "signature": to_base64url(signed.signature),
    }
    if signed.number is not None:
        table["number"] = signed.number
    return table


def signed_in(table: dict[str, Any], *, zero: bool = False) -> Signed:
    """Read them; ValueError where they are none."""
    signature = from_base64url(text_of(table, "signature"))
    if not 0 < len(signature) <= _MOST_SIGNATURE_BYTES:
        raise ValueError(f"a signature of {len(signature)} bytes")
    return Signed(amount_of(table, "cumulativeAmount", zero=zero), number_of(table), signature)


@frozen
class Prepare:
    """A refund request, to be answered with the signed refund.

    Attributes:
        psbt: as ``payer open`` writes it, in binary.
    """

    psbt: bytes
    action = "prepare"

    def to_table(self) -> dict[str, Any]:
        """The payload."""
        return {"action": self.action, "psbt": to_base64url(self.psbt)}


@frozen
class Open:
    """A funded channel and its first voucher.

    Attributes:
        channel: ``txid:vout`` of the funding output.
        transaction: the funding, serialised with its witness; None where the payer has broadcast it.
        payer_key: 33 bytes.
        payer_script: scriptPubKey of the payer's share.
        refund_lock_time: L_refund, as nLockTime.
        offer_id, token: of the terms that it comes under, which stand in the challenge.
        first: the first voucher.
    """

    channel: str
    transaction: bytes | None
    payer_key: PublicKey
    payer_script: bytes
    refund_lock_time: int
    offer_id: str
    token: str
    first: Signed
    action = "open"

    def to_table(self) -> dict[str, Any]:
        """The payload."""
        table: dict[str, Any] = {
            "action": self.action,
            "type": "hash" if self.transaction is None else "transaction",
            "channelId": self.channel,
            "payerPubkey": self.payer_key.sec.hex(),
            "payerScript": self.payer_script.hex(),
            "refundLockTime": self.refund_lock_time,
            "offerId": self.offer_id,
            "token": self.token,
            **signed_table(self.first),
        }
        if self.transaction is not None:
            table["transaction"] = self.transaction.hex()
        return table

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Open:
        """Read the payload; ValueError where it is none."""
        kind = text_of(table, "type")
        if kind not in ("transaction", "hash"):
            raise ValueError(f"type is neither transaction nor hash: {kind!r:.40}")
        lock_time = table.get("refundLockTime")
        if type(lock_time) is not int or not 0 < lock_time <= MAX_LOCK_TIME:
            raise ValueError("refundLockTime is no nLockTime")
        return cls(
            channel_name(table, "channelId"),
            bytes_of(table, "transaction", MAX_CREDENTIAL_BYTES) if kind == "transaction" else None,
            PublicKey(bytes_of(table, "payerPubkey", 33)),
            bytes_of(table, "payerScript", _MOST_SCRIPT_BYTES),
            lock_time,
            _digits(table, "offerId", 16),
            _digits(table, "token", 32),
            signed_in(table),
        )


@frozen
class Voucher:
    """A signed total of a channel that is open."""

    channel: str
    signed: Signed
    action = "voucher"

    def to_table(self) -> dict[str, Any]:
        """The payload."""
        return {"action": self.action, "channelId": self.channel, **signed_table(self.signed)}


@frozen
class Close:
    """A signed total to close the channel with: what was spent."""

    channel: str
    signed: Signed
    action = "close"

    def to_table(self) -> dict[str, Any]:
        """The payload."""
        return {"action": self.action, "channelId": self.channel, **signed_table(self.signed)}


Payload = Union[Prepare, Open, Voucher, Close]


@frozen
class Credential:
    """An answer to a challenge.

    Attributes:
        challenge: what is repeated of it, as it came, whatever else stood there.
        source: who pays, where the client says so.
    """

    challenge: Mapping[str, str]
    payload: Payload
    source: str | None = None

    def answered(self) -> Challenge:
        """The challenge that it repeats.

        Raises:
            ParseError: ``malformed-credential``.
        """
        try:
            return challenge_of(self.challenge)
        except ParseError as error:
            raise _malformed(error.message) from None

    def header(self) -> str:
        """The value of ``Authorization``.

        Raises:
            ParseError: ``credential-too-long``.
        """
        table: dict[str, Any] = {"challenge": dict(self.challenge), "payload": self.payload.to_table()}
        if self.source is not None:
            table["source"] = self.source
        text = f"{SCHEME} {to_text(table)}"
        if len(text) > MAX_CREDENTIAL_BYTES:
            raise ParseError(
                "credential-too-long",
                f"a credential of {len(text)} bytes is longer than {MAX_CREDENTIAL_BYTES}",
            )
        return text

    @classmethod
    def from_header(cls, value: str) -> Credential:
        """Read the value of ``Authorization``.

        Raises:
            ParseError: ``malformed-credential``, ``action-unsupported``.
        """
        if len(value) > MAX_CREDENTIAL_BYTES:
            raise _malformed(f"{len(value)} bytes are more than {MAX_CREDENTIAL_BYTES}")
        if not is_payment(value):
            raise _malformed("not of the scheme Payment")
        try:
            table = object_in(value[len(SCHEME) :].strip(" "))
            challenge = member(table, "challenge")
            if not all(type(item) is str for item in challenge.values()):
                raise ValueError("challenge has a member that is no string")
            payload = _payload(member(table, "payload"))
            source = text_of(table, "source") if "source" in table else None
        except ParseError:
            raise
        except (ValueError, MpchanError) as error:
            raise _malformed(str(error)) from None
        found = cls(challenge, payload, source)
        found.answered()
        return found


def is_payment(value: str) -> bool:
    """Whether a value of ``Authorization`` is of this scheme."""
    name, space, _ = value.partition(" ")
    return bool(space) and name.lower() == SCHEME.lower()


def _payload(table: dict[str, Any]) -> Payload:
    action = text_of(table, "action")
    try:
        if action == Prepare.action:
            psbt = from_base64url(text_of(table, "psbt"))
            if not psbt:
                raise ValueError("psbt is empty")
            return Prepare(psbt)
        if action == Open.action:
            return Open.from_table(table)
        if action == Voucher.action:
            return Voucher(channel_name(table, "channelId"), signed_in(table))
        if action == Close.action:
            return Close(channel_name(table, "channelId"), signed_in(table, zero=True))
    except MpchanError as error:
        raise ValueError(error.message) from None
    if action == "topUp":
        raise ParseError(
            "action-unsupported",
            "topUp: the funding of a channel is what it is; open another channel for more",
        )
    raise ParseError("action-unsupported", f"no action of this method: {action!r:.40}")


def _digits(table: dict[str, Any], name: str, size: int) -> str:
    """A member that names so many bytes in hex."""
    found = bytes_of(table, name, size)
    if len(found) != size:
        raise ValueError(f"{name} has {len(found)} bytes, not {size}")
    return found.hex()


def _malformed(what: str) -> ParseError:
    return ParseError("malformed-credential", f"Authorization: {what:.300}")
