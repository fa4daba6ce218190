"""Lines for one channel's journal that are written with one append and become durable with one fsync."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpchan.wallet.journal import Body, Entry, Position, difference, payment_written, written
from mpchan.wallet.records import body_of

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


_OF_PAYMENTS = {"account", "spent_sat", "update"}
"""What payments change; the state file may lie behind by these."""


class Batch:
    """What is to be written. Nothing of it has happened before ``ChannelFiles.commit`` returns.

    Attributes:
        start: of the line behind which the batch begins.
        body: the channel's values after the last line so far.
        position: of that line.
        lines: the lines, as the journal will hold them.
        changes_more: whether more changes than the latest update, so that a new state file is due.
    """

    __slots__ = ("_now", "body", "changes_more", "lines", "position", "start")

    def __init__(self, body: Body, position: Position) -> None:
        self.start = self.position = position
        self.body = body
        self.lines: list[bytes] = []
        self.changes_more = False
        self._now = int(time.time())

    def add(
        self, record: Record, event: str, message: str | None = None, signature: str | None = None
    ) -> None:
        """Any event: the line says what differs from before.

        Args:
            message, signature: as in ``journal.Entry``.
        """
        body = body_of(record)
        changes, gone = difference(self.body, body)
        sequence = self.position.sequence + 1
        self._append(
            *written(self.position, Entry(sequence, self._now, event, changes, gone, message, signature))
        )
        self.body = body
        self.changes_more = self.changes_more or bool(gone or changes.keys() - _OF_PAYMENTS)

    def add_payment(
        self,
        event: str,
        number: int,
        paid_sat: int,
        signature: bytes,
        *,
        more: bool = False,
        spent_sat: int | None = None,
    ) -> None:
        """A payment: nothing but the latest update changes, and its number and total are all there is of it.

        Args:
            signature: the payer's.
            more: whether the line stands only together with the next one, which tells what else there is of the update.
            spent_sat: what has been charged, which stands in the line too; None where that has not changed.
        """
        line = payment_written(
            *(self.position, event, number, paid_sat, signature.hex(), self._now),
            more=more,
            spent_sat=spent_sat,
        )
        self._append(*line)
        self.body = {**self.body, "update": {"number": number, "paid_sat": paid_sat}}
        if spent_sat is not None:
            self.body["spent_sat"] = spent_sat

    def add_request(
        self,
        event: str,
        account: Mapping[str, Any],
        update: Mapping[str, Any] | None = None,
        signature: bytes | None = None,
        *,
        more: bool = False,
    ) -> None:
        """A paid request, or its end: the account changes, and perhaps the latest update.

        Args:
            account: after it.
            update: as the record has it; without its transaction where ``more`` says so.
            signature: the payer's under the update.
            more: as in ``add_payment``.
        """
        changes = {"account": account} if update is None else {"account": account, "update": update}
        signed = None if signature is None else signature.hex()
        entry = Entry(self.position.sequence + 1, self._now, event, changes, signature=signed, more=more)
        self._append(*written(self.position, entry))
        self.body = {**self.body, **changes}

    def _append(self, line: bytes, position: Position) -> None:
        self.lines.append(line)
        self.position = position
