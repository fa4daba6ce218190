"""The history of a channel: a file that only grows, one line for each event, each chained to the one before.

    {"sha256":"<64 hex digits>","line":{"changes":{…},"event":"paid","message":"<hex>","sequence":7,"time":1700000000}}

``changes`` holds the channel's values that differ from those after the line before, whole; ``gone``, where it
stands, the names that the channel has no more. All lines folded, one after the other, give the channel as it is; the
first one holds it whole. ``message`` is what left for the other party or came from it, where the event has one. Among
many payments in a row a line holds ``signature`` in its place, the payer's: the message follows from that, the terms
and ``changes`` (``records.message_in``).

A line with ``"more":true`` stands only together with the lines behind it, up to the next one without. So many payments
that become durable together need the payee's signature once: the last line of them holds the update complete.

``sha256`` is taken over the digest of the line before (its 64 digits) and the text of ``line``; before the first line
stands the digest of the channel's name. A line that was changed, left out, moved or brought from another channel
does not fit.

A process that is killed while it appends leaves an unfinished line at the end, without its line feed; a machine that
loses its power may leave one whose bytes are partly zeros, which no text of JSON holds. Such a line was never
acknowledged: nothing that depends on it has left, so it counts as not written. Neither do lines with ``more`` at the
end, whose last one is missing. Anything else that does not fit is damage.

A journal that has grown long is closed and goes on in a new file. That begins with a line of the event ``continued``,
chained like any other, which holds the channel whole, and under ``before`` the digest that it is chained to: so it can
be read without the closed ones. Those keep the history, and nothing else depends on them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from mpchan.durability import AnyPath, done_reading, reading
from mpchan.errors import AsStorageError, ParseError
from mpchan.units import MAX_LOCK_TIME, Amount, checked_int
from mpchan.values import frozen, replace
from mpchan.wallet.storage import MAX_FILE_BYTES
from mpchan.wallet.store import canonical

CONTINUED = "continued"
"""The event with which a journal goes on in a new file."""

_HEAD = b'{"sha256":"'
_MIDDLE = b'","line":'
_TAIL = b"}\n"
_CONTINUES = b'{"before":'
_MORE = ',"more":true'
_DIGEST_END = len(_HEAD) + 64
_LINE_START = _DIGEST_END + len(_MIDDLE)

Body = dict[str, Any]
"""A channel's values, as a state file holds them."""


@frozen
class Position:
    """Where a line of a journal ends.

    Attributes:
        sequence: the line's number, from 1; 0 before the first line.
        digest: the line's SHA-256, in hex.
        start: offset of its first byte.
        end: offset of the byte behind it.
    """

    sequence: int
    digest: str
    start: int
    end: int


@frozen
class Entry:
    """One event.

    Attributes:
        time: when it was written, in seconds since 1970 by this machine's clock, which may have been wrong.
        event: what happened, in kebab-case.
        changes: the values that differ from before.
        gone: names of values that the channel has no more.
        message: what left or arrived, in hex, or None.
        signature: the payer's under the update in ``changes``, in hex, where the message follows from it.
        more: whether the entry stands only together with the next one.
        before: digest of the last line of the file before, where this is the first of one that goes on.
    """

    sequence: int
    time: int
    event: str
    changes: Mapping[str, Any]
    gone: tuple[str, ...] = ()
    message: str | None = None
    signature: str | None = None
    more: bool = False
    before: str | None = None


def beginning(name: str) -> Position:
    """Before the first line of a channel's journal."""
    return Position(0, sha256(name.encode()).hexdigest(), 0, 0)


def difference(before: Body, after: Body) -> tuple[Body, tuple[str, ...]]:
    """What an entry says of the step from one state to the next: the changed values, and the names that are gone."""
    changes = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return changes, tuple(sorted(before.keys() - after.keys()))


def fold(body: Body, entry: Entry) -> Body:
    """The channel's values after an entry."""
    gone = set(entry.gone)
    return {**{key: value for key, value in body.items() if key not in gone}, **entry.changes}


def written(after: Position, entry: Entry) -> tuple[bytes, Position]:
    """An entry as a line, and where that ends."""
    line = {
        "before": entry.before,
        "changes": entry.changes,
        "event": entry.event,
        "gone": list(entry.gone) or None,
        "message": entry.message,
        "more": entry.more or None,
        "sequence": entry.sequence,
        "signature": entry.signature,
        "time": entry.time,
    }
    return _framed(after, canonical({key: value for key, value in line.items() if value is not None}))


def continuation(after: Position, body: Body, now: int) -> tuple[bytes, Position]:
    """The first line of a new file, behind the last one of the file before; and where it ends in the new file.

    Args:
        body: the channel whole.
        now: seconds since 1970.
    """
    start = Position(after.sequence, after.digest, 0, 0)
    return written(start, Entry(after.sequence + 1, now, CONTINUED, body, before=after.digest))


def payment_written(
    after: Position,
    event: str,
    number: int,
    paid_sat: int,
    signature: str,
    now: int,
    *,
    more: bool = False,
    spent_sat: int | None = None,
) -> tuple[bytes, Position]:
    """The line of one payment among many; the same bytes as ``written`` makes, in a tenth of the time.

    Args:
        event: nothing in it needs escaping.
        number, paid_sat: of the latest update, all that changes but ``spent_sat``.
        signature: the payer's, in hex.
        now: seconds since 1970.
        more: as in ``Entry``.
        spent_sat: what has been charged; None where that has not changed.
    """
    sequence = after.sequence + 1
    spent = "" if spent_sat is None else f'"spent_sat":{spent_sat},'
    text = (
        f'{{"changes":{{{spent}"update":{{"number":{number},"paid_sat":{paid_sat}}}}},"event":"{event}"'
        f'{_MORE if more else ""},"sequence":{sequence},"signature":"{signature}","time":{now}}}'
    )
    return _framed(after, text)


def _framed(after: Position, line: str) -> tuple[bytes, Position]:
    """A line with its digest, from its canonical text."""
    text = line.encode()
    digest = _digest(after, text)
    data = b"".join((_HEAD, digest.encode(), _MIDDLE, text, _TAIL))
    return data, Position(after.sequence + 1, digest, after.end, after.end + len(data))


def entries(path: AnyPath, after: Position) -> Iterator[tuple[Entry, Position]]:
    """The entries behind a position, one by one; what was never finished at the end is left out.

    Raises:
        ParseError: ``channel-damaged``, naming the line.
        StorageError: ``file-missing``, ``read-failed``.
    """
    with AsStorageError("read-failed", path, missing="file-missing"), reading(path) as file:
        yield from _entries(file, after)


def ends_with(path: AnyPath, position: Position) -> bool:
    """Whether a journal ends with the very line that a state file includes, so that there is nothing to fold in.

    A quick look, for who looks at very many: whatever it is that cannot be told, the answer is no.
    """
    length = position.end - position.start
    if not 0 < length < MAX_FILE_BYTES:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        raw = os.pread(descriptor, length + 1, position.start)
    except OSError:
        return False
    finally:
        done_reading(descriptor)
    return len(raw) == length and _stands(raw, position)


def _entries(file: BinaryIO, after: Position) -> Iterator[tuple[Entry, Position]]:
    after = _place(file, after)
    together: list[tuple[Entry, Position]] = []
    while raw := file.readline(MAX_FILE_BYTES):
        if raw[-1:] != b"\n" or (b"\0" in raw and not file.read(1)):
            if len(raw) == MAX_FILE_BYTES:
                raise _damaged(after.sequence + 1, f"is longer than {MAX_FILE_BYTES} bytes")
            return
        entry = _parsed(raw, after)
        after = Position(
            entry.sequence, raw[len(_HEAD) : _DIGEST_END].decode(), after.end, after.end + len(raw)
        )
        together.append((entry, after))
        if not entry.more:
            yield from together
            together = []


def _place(file: BinaryIO, after: Position) -> Position:
    """Go to where reading goes on: behind a line in this file, or at its beginning where it follows that line."""
    file.seek(after.start)
    stands = after.sequence and _stands(file.readline(after.end - after.start), after)
    if stands:
        return after
    file.seek(0)
    start = _continues(file)
    if start is not None and (not after.sequence or start == replace(after, start=0, end=0)):
        file.seek(0)
        return start
    if after.sequence:
        raise _damaged(after.sequence, "is not the one that the state file was written after, or is missing")
    file.seek(0)
    return after


def _continues(file: BinaryIO) -> Position | None:
    """Behind which line a file goes on whose first line says so; None for any other."""
    raw = file.readline(MAX_FILE_BYTES)
    if not continues_another(raw) or raw[-1:] != b"\n":
        return None
    try:
        line = json.loads(raw[_LINE_START : -len(_TAIL)])
        sequence, before = line["sequence"], line["before"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(sequence) is not int or sequence < 2 or not isinstance(before, str):
        return None
    return Position(sequence - 1, before, 0, 0)


def continues_another(line: bytes) -> bool:
    """Whether a journal's first line says that the file goes on where another one ends."""
    return line.startswith(_CONTINUES, _LINE_START)


def continues(path: Path) -> Position | None:
    """Behind which line a journal's file goes on, where it is not the channel's first; None where it is."""
    with AsStorageError("read-failed", path, missing="file-missing"), reading(path) as file:
        return _continues(file)


def _stands(raw: bytes, position: Position) -> bool:
    """Whether the journal holds the line that a state file, or this process, has read up to."""
    whole = len(raw) == position.end - position.start and raw[-1:] == b"\n"
    return whole and raw[len(_HEAD) : _DIGEST_END] == position.digest.encode()


def _parsed(raw: bytes, after: Position) -> Entry:
    number = after.sequence + 1
    text = raw[_LINE_START : -len(_TAIL)]
    fits = (
        raw[: len(_HEAD)] == _HEAD
        and raw[_DIGEST_END:_LINE_START] == _MIDDLE
        and raw[-len(_TAIL) :] == _TAIL
        and raw[len(_HEAD) : _DIGEST_END] == _digest(after, text).encode()
    )
    if not fits:
        raise _damaged(number, "does not fit its digest and the line before")
    try:
        line = json.loads(text)
        entry = Entry(
            line["sequence"],
            line["time"],
            line["event"],
            line["changes"],
            tuple(line.get("gone", ())),
            line.get("message"),
            line.get("signature"),
            line.get("more", False),
            line.get("before"),
        )
        if entry.signature is not None:
            update = entry.changes["update"]
            Amount(update["paid_sat"])
            checked_int(update["number"], 1, MAX_LOCK_TIME, "update")
            bytes.fromhex(entry.signature)
    except (ParseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _damaged(number, "is not an event") from None
    if entry.sequence != number:
        raise _damaged(number, f"has the number {entry.sequence!r:.20}")
    types = (type(entry.time), type(entry.event), type(entry.more))
    if not isinstance(entry.changes, dict) or types != (int, str, bool):
        raise _damaged(number, "is not an event")
    return entry


def _digest(after: Position, text: bytes) -> str:
    return sha256(after.digest.encode() + text).hexdigest()


def _damaged(number: int, what: str) -> ParseError:
    return ParseError("channel-damaged", f"line {number} of the journal {what}")
