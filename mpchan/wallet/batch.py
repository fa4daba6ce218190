"""Lines for one channel's journal that are written with one append and become durable with one fsync."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mpchan.wallet.journal import Body, Entry, Position, difference, update_written, written
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

    def add(self, record: Record, event: str, message: str | None) -> None:
        """Any event: the line says what differs from before."""
        body = body_of(record)
        changes, gone = difference(self.body, body)
        entry = Entry(self.position.sequence + 1, self._now, event, changes, gone, message)
        self._append(*written(self.position, entry))
        self.body = body
        self.changes_more = self.changes_more or bool(gone or changes.keys() - {"update"})

    def add_update(self, event: str, update: dict[str, Any], text: str, message: str) -> None:
        """A payment: nothing but the latest update changes.

        Args:
            update: its values, all different from before.
            text: the same as canonical JSON.
            message: in hex.
        """
        self._append(*update_written(self.position, f'{{"update":{text}}}', event, message, self._now))
        self.body = {**self.body, "update": update}

    def _append(self, line: bytes, position: Position) -> None:
        self.lines.append(line)
        self.position = position
