"""A channel's state as a JSON text, with a schema number and a checksum.

    {"schema": 2, "checksum": "<sha256 of the rest, canonical>", "channel": {…}, "journal": {…}}

``channel`` is the state after the line of the channel's journal at which ``journal`` points: what the journal holds
behind it is yet to be folded in. The canonical form is JSON with sorted keys and no spaces. Transactions stand as raw
hex, amounts as integer satoshi, keys and scripts as hex. The schema is 1 where the channel's key has an index, as those
of older channels have, and 2 where ``key_index`` is null: an older program, which would look for one, then says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Union

from mpchan.bitcoin.signature import PublicKey
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint, lock_time_from_int
from mpchan.wallet.journal import Body, Entry, Position
from mpchan.wallet.store import canonical, checksum

if TYPE_CHECKING:
    from mpchan.wallet.payee_record import PayeeRecord
    from mpchan.wallet.payer_record import PayerRecord

    Record = Union[PayerRecord, PayeeRecord]

SCHEMA = 2
"""The newest that is read."""

_COUNTED_SCHEMA = 1
_HEADS = {schema: f'{{"schema": {schema}, "checksum": "' for schema in (_COUNTED_SCHEMA, SCHEMA)}
_HEAD_LENGTH = len(_HEADS[SCHEMA])
_CHANNEL, _JOURNAL, _TAIL = '", "channel": ', ', "journal": ', "}\n"


def body_of(record: Record) -> Body:
    """A channel as plain values."""
    return {
        "role": record.role,
        "key_index": record.key_index,
        **_terms_fields(record.terms),
        **record.fields(),
    }


def record_of(body: Body) -> Record:
    """Read ``body_of`` back.

    Raises:
        ParseError: ``channel-damaged``.
    """
    try:
        terms = _terms(body)
        return _record_class(body["role"]).from_fields(terms, body)
    except (ParseError, KeyError, TypeError, ValueError) as error:
        raise ParseError("channel-damaged", f"not a channel file: {error!s:.200}") from None


def message_in(entry: Entry, terms: Terms) -> str | None:
    """What left for the other party or came from it with a line of the journal, in hex; None where nothing did.

    Of a payment whose line holds no more than the payer's signature, the message is built again, the same bytes.

    Args:
        terms: of the channel.
    """
    if entry.signature is None:
        return entry.message
    update, schedule = entry.changes["update"], terms.schedule
    transaction = schedule.build(schedule.update(update["number"], Amount(update["paid_sat"])))
    return terms.lock.message(transaction, terms.payer_key, bytes.fromhex(entry.signature)).to_hex()


def dump(body: Body, position: Position) -> str:
    """The text of a state file.

    Args:
        position: of the journal's line after which the channel stands so.
    """
    journal = {
        "sequence": position.sequence,
        "sha256": position.digest,
        "start": position.start,
        "end": position.end,
    }
    channel, place = canonical(body), canonical(journal)
    total = checksum(_covered(channel, place))
    return f"{_HEADS[_schema_of(body)]}{total}{_CHANNEL}{channel}{_JOURNAL}{place}{_TAIL}"


def _schema_of(body: Body) -> int:
    return SCHEMA if body.get("key_index") is None else _COUNTED_SCHEMA


def load(text: str) -> tuple[Body, Position]:
    """Read a state file's text.

    Raises:
        ParseError: ``channel-schema`` for a newer schema, ``channel-damaged`` for all else, checksum included.
    """
    quick = _as_dumped(text)
    if quick is not None:
        schema, body, journal = quick
    else:
        try:
            envelope = json.loads(text)
            schema, body, journal = envelope["schema"], envelope["channel"], envelope.get("journal")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ParseError("channel-damaged", "not a channel file") from None
        if type(schema) is int and schema > SCHEMA:
            raise ParseError(
                "channel-schema", f"written by a newer mpchan (schema {schema}, this one reads {SCHEMA})"
            )
        total = checksum(_covered(canonical(body), canonical(journal)))
        if envelope.get("checksum") != total:
            raise ParseError("channel-damaged", "checksum does not fit")
    try:
        if not isinstance(body, dict) or type(schema) is not int or schema != _schema_of(body):
            raise TypeError("no channel of this schema")
        position = _position(journal)
    except (KeyError, TypeError, ValueError) as error:
        raise ParseError("channel-damaged", f"not a channel file: {error!s:.200}") from None
    return body, position


def _as_dumped(text: str) -> tuple[int, Any, Any] | None:
    """Schema and parts of a text that ``dump`` has made, where the checksum fits the parts as they are; else None."""
    schema = next((schema for schema, head in _HEADS.items() if text.startswith(head)), None)
    start = _HEAD_LENGTH + 64 + len(_CHANNEL)
    middle = text.rfind(_JOURNAL)
    if schema is None or not text.startswith(_CHANNEL, _HEAD_LENGTH + 64) or middle < start:
        return None
    channel, journal = text[start:middle], text[middle + len(_JOURNAL) : -len(_TAIL)]
    if (
        text[-len(_TAIL) :] != _TAIL
        or checksum(_covered(channel, journal)) != text[_HEAD_LENGTH : _HEAD_LENGTH + 64]
    ):
        return None
    try:
        return schema, json.loads(channel), json.loads(journal)
    except (ValueError, RecursionError):
        return None


def _position(journal: dict[str, Any]) -> Position:
    numbers = [journal[key] for key in ("sequence", "start", "end")]
    digest = journal["sha256"]
    if any(type(number) is not int or number < 0 for number in numbers) or not isinstance(digest, str):
        raise ValueError("no line of a journal")
    return Position(numbers[0], digest, numbers[1], numbers[2])


def _covered(channel: str, journal: str) -> str:
    return f"{channel}{journal}"


def _record_class(role: str) -> type[PayerRecord] | type[PayeeRecord]:
    """The record of a role; the other role's protocol is not even loaded."""
    if role == "payer":
        from mpchan.wallet.payer_record import PayerRecord

        return PayerRecord
    if role == "payee":
        from mpchan.wallet.payee_record import PayeeRecord

        return PayeeRecord
    raise ValueError(f"unknown role {role!r}")


def _terms_fields(terms: Terms) -> dict[str, Any]:
    return {
        "offer": terms.offer.without_pieces().to_dict(),
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
