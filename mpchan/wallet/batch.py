"""Lines for one channel's journal that are written with one append and become durable with one fsync."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mpchan.wallet.journal import Body, Entry, Position, difference, payment_written, written
from mpchan.wallet.records import body_of

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


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
        self.changes_more = self.changes_more or bool(gone or changes.keys() - {"update"})

    def add_payment(
        self, event: str, number: int, paid_sat: int, signature: bytes, *, more: bool = False
    ) -> None:
        """A payment: nothing but the latest update changes, and its number and total are all there is of it.

        Args:
            signature: the payer's.
            more: whether the line stands only together with the next one, which tells what else there is of the update.
        """
        line = payment_written(self.position, event, number, paid_sat, signature.hex(), self._now, more=more)
        self._append(*line)
        self.body = {**self.body, "update": {"number": number, "paid_sat": paid_sat}}

    def _append(self, line: bytes, position: Position) -> None:
        self.lines.append(line)
        self.position = position
