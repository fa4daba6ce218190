"""What a paid answer brings: ``Payment-Receipt`` (draft-tempo-session, "Receipt Generation")."""

from __future__ import annotations

from typing import Any

from mpchan.errors import ParseError
from mpchan.http.wire.challenge import INTENT, METHOD, timestamp
from mpchan.http.wire.encoding import amount_of, bytes_of, object_in, text_of, to_text
from mpchan.http.wire.session import channel_name
from mpchan.values import frozen

_SUCCESS = "success"
MAX_RECEIPT_BYTES = 2_048


@frozen
class Receipt:
    """Where the server's books stand after a request.

    Attributes:
        challenge_id: of the challenge that was answered.
        channel: ``txid:vout``; also the receipt's ``reference``.
        accepted, spent: satoshi, as in ``Snapshot``.
        timestamp: RFC 3339.
        units: what this request has used, in the challenge's unit.
        tx_hash: of the transaction that closes the channel.
    """

    challenge_id: str
    channel: str
    accepted: int
    spent: int
    timestamp: str
    units: int | None = None
    tx_hash: str | None = None

    def to_table(self) -> dict[str, Any]:
        """The JSON object."""
        table: dict[str, Any] = {
            "method": METHOD,
            "intent": INTENT,
            "status": _SUCCESS,
            "timestamp": self.timestamp,
            "reference": self.channel,
            "challengeId": self.challenge_id,
            "channelId": self.channel,
            "acceptedCumulative": str(self.accepted),
            "spent": str(self.spent),
        }
        if self.units is not None:
            table["units"] = self.units
        if self.tx_hash is not None:
            table["txHash"] = self.tx_hash
        return table

    def header(self) -> str:
        """The header's value."""
        return to_text(self.to_table())

    @classmethod
    def from_header(cls, text: str) -> Receipt:
        """Read the header's value.

        Raises:
            ParseError: ``malformed-receipt``.
        """
        try:
            if len(text) > MAX_RECEIPT_BYTES:
                raise ValueError(f"{len(text)} bytes are more than {MAX_RECEIPT_BYTES}")
            return cls._from_table(object_in(text))
        except (ValueError, ParseError) as error:
            raise ParseError("malformed-receipt", f"Payment-Receipt: {error!s:.200}") from None

    @classmethod
    def _from_table(cls, table: dict[str, Any]) -> Receipt:
        for name, value in (("method", METHOD), ("intent", INTENT), ("status", _SUCCESS)):
            if table.get(name) != value:
                raise ValueError(f"{name} is not {value}: {table.get(name)!r:.40}")
        units = table.get("units")
        if units is not None and (type(units) is not int or units < 0):
            raise ValueError(f"units is no number: {units!r:.40}")
        channel = channel_name(table, "channelId")
        accepted, spent = (amount_of(table, name, zero=True) for name in ("acceptedCumulative", "spent"))
        if table.get("reference") != channel or spent > accepted:
            raise ValueError("it refers to something else, or more was spent than accepted")
        challenge_id, time = text_of(table, "challengeId"), text_of(table, "timestamp")
        timestamp(time)
        if not challenge_id or ("txHash" in table and len(bytes_of(table, "txHash", 32)) != 32):
            raise ValueError("it names no challenge, or no transaction")
        return cls(challenge_id, channel, accepted, spent, time, units, table.get("txHash"))
