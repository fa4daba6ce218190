"""What a payer's channel was opened for, where that was a service that is paid by the request, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpchan.values import frozen

_MOST_CHARACTERS = 8_192
"""Of each text in it; a challenge comes in the header of an answer, and is no longer."""


@frozen
class Purpose:
    """What a channel is for; nothing else is ever paid in it.

    Attributes:
        origin: of the server: scheme, host and port, as ``https://shop.example:8402``.
        realm: what the server calls itself.
        what: the file that is bought; None for a service.
        challenge: the parameters of the challenge that the channel was opened under, while the server has not taken
            the channel; None once it has.
    """

    origin: str
    realm: str
    what: str | None = None
    challenge: Mapping[str, str] | None = None

    def to_table(self) -> dict[str, Any]:
        """As plain values, for the record and the journal."""
        table: dict[str, Any] = {"origin": self.origin, "realm": self.realm}
        if self.what is not None:
            table["what"] = self.what
        if self.challenge is not None:
            table["challenge"] = dict(self.challenge)
        return table

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Purpose:
        """Read ``to_table`` back; KeyError, TypeError or ValueError where it is none."""
        what, challenge = table.get("what"), table.get("challenge")
        if challenge is not None:
            challenge = {_text(name): _text(value) for name, value in challenge.items()}
        return cls(
            _text(table["origin"]), _text(table["realm"]), None if what is None else _text(what), challenge
        )


def _text(value: object) -> str:
    if type(value) is not str or len(value) > _MOST_CHARACTERS:
        raise ValueError(f"no text of a purpose: {value!r:.80}")
    return value
