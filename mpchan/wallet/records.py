"""A channel's state as a JSON text, with a schema number and a checksum.

    {"schema": 1, "checksum": "<sha256 of the canonical channel>", "channel": {…}}

The canonical form is JSON with sorted keys and no spaces. Transactions stand as raw hex, amounts as integer
satoshi, keys and scripts as hex.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Union

from mpchan.bitcoin.signature import PublicKey
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint, lock_time_from_int

if TYPE_CHECKING:
    from mpchan.wallet.payee_record import PayeeRecord
    from mpchan.wallet.payer_record import PayerRecord

    Record = Union[PayerRecord, PayeeRecord]

SCHEMA = 1


def dump(record: Record) -> str:
    """The file's text."""
    body = {
        "role": record.role,
        "key_index": record.key_index,
        **_terms_fields(record.terms),
        **record.fields(),
    }
    text = canonical(body)
    return f'{{"schema": {SCHEMA}, "checksum": "{checksum(text)}", "channel": {text}}}\n'


def load(text: str) -> Record:
    """Read a file's text.

    Raises:
        ParseError: ``channel-schema`` for a newer schema, ``channel-damaged`` for all else, checksum included.
    """
    try:
        envelope = json.loads(text)
        schema, body = envelope["schema"], envelope["channel"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ParseError("channel-damaged", "not a channel file") from None
    if type(schema) is int and schema > SCHEMA:
        raise ParseError(
            "channel-schema", f"written by a newer mpchan (schema {schema}, this one reads {SCHEMA})"
        )
    if schema != SCHEMA or envelope.get("checksum") != checksum(canonical(body)):
        raise ParseError("channel-damaged", "checksum does not fit")
    try:
        terms = _terms(body)
        return _record_class(body["role"]).from_fields(terms, body)
    except (ParseError, KeyError, TypeError, ValueError) as error:
        raise ParseError("channel-damaged", f"not a channel file: {error!s:.200}") from None


def _record_class(role: str) -> type[PayerRecord] | type[PayeeRecord]:
    """The record of a role; the other role's protocol is not even loaded."""
    if role == "payer":
        from mpchan.wallet.payer_record import PayerRecord

        return PayerRecord
    if role == "payee":
        from mpchan.wallet.payee_record import PayeeRecord

        return PayeeRecord
    raise ValueError(f"unknown role {role!r}")


def canonical(body: object) -> str:
    """The one text that a checksum is made of."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def checksum(text: str) -> str:
    """SHA-256 of a canonical text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _terms_fields(terms: Terms) -> dict[str, Any]:
    return {
        "offer": terms.offer.to_dict(),
        "outpoint": str(terms.outpoint),
        "funding_value_sat": terms.funding_value.sat,
        "payer_pubkey": terms.payer_key.sec.hex(),
        "payer_script": terms.payer_script.hex(),
        "refund_lock_time": terms.refund_lock_time.value,
    }


def _terms(body: dict[str, Any]) -> Terms:
    return Terms(
        Offer.from_dict(body["offer"]),
        OutPoint.parse(body["outpoint"]),
        Amount(body["funding_value_sat"]),
        PublicKey.from_hex(body["payer_pubkey"]),
        bytes.fromhex(body["payer_script"]),
        lock_time_from_int(body["refund_lock_time"]),
    )
