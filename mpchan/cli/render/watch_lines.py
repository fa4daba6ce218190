"""What ``mpchan watch`` tells, line by line: JSON, or words for people."""

from __future__ import annotations

import select
import sys
import time
from typing import TextIO

from mpchan.cli.app import App
from mpchan.cli.files import not_emitted, print_output, silence
from mpchan.cli.input.numbers import counted
from mpchan.errors import StorageError
from mpchan.party.watch.watcher import Finding, Round
from mpchan.results.watching import ChannelSeen, DeadlineSeen, RoundDone

_AGAIN = "the watcher ends; start it again"


class Lines:
    """Tells what a watcher sees, as JSON lines or lines for people.

    A channel is told about in the first round and when something has changed. Where nobody reads any more, that is
    noted, and the round goes on: money first.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._told: dict[str, tuple[object, ...]] = {}
        self._round: tuple[object, ...] | None = None
        self.failure: StorageError | None = None

    def channel(self, finding: Finding) -> None:
        """After each channel."""
        key = _key(finding)
        if finding.sent is None and self._told.get(finding.name) == key:
            return
        self._told[finding.name] = key
        seen = finding.result(time.time())
        if self._app.json:
            self._print(seen.to_json())
        elif finding.alarm is not None or not self._app.quiet:
            self._print(f"{seen.time}  {channel_line(seen)}")

    def round(self, done: Round) -> None:
        """After each round."""
        told = {finding.name for finding in done.findings}
        if done.whole:
            self._told = {name: key for name, key in self._told.items() if name in told}
        if self.failure is None and reader_is_gone(sys.stdout):
            self.failure = not_emitted("standard output: nobody reads it any more", _AGAIN)
            silence(sys.stdout)
        alarms = tuple(sorted(alarm.slug for alarm in done.alarms))
        key = (alarms, done.tip if self._app.json else None)
        if self._round == key:
            return
        self._round = key
        told_now = done.result(time.time())
        if self._app.json:
            self._print(told_now.to_json())
        elif done.alarm is not None or not self._app.quiet:
            self._print(f"{told_now.time}  {round_line(told_now)}")

    def _print(self, line: str) -> None:
        if self.failure is not None:
            return
        try:
            print_output(line, _AGAIN)
        except StorageError as error:
            self.failure = error


def reader_is_gone(stream: TextIO | None) -> bool:
    """Whether a pipe has no reader any more; a watcher may have nothing to write there for days."""
    if stream is None:
        return False
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)  # errors and hang-ups are told without being asked for
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return False


def _key(finding: Finding) -> tuple[object, ...]:
    """What makes a channel worth telling about again: no numbers that change with every block."""
    depth = None
    if finding.facts is not None and finding.record is not None and finding.facts.funding is not None:
        depth = min(finding.facts.confirmations, finding.record.terms.offer.min_confirmations)
    counts = None if finding.record is None else finding.record.credit(finding.facts)
    return finding.status, finding.deed, depth, counts, None if finding.alarm is None else finding.alarm.slug


# words --------------------------------------------------------------------------------------------

WHAT = {"update": "claim", "last-update": "last update", "refund": "refund"}
"""What comes with a deadline, for people."""


def about(seconds: int) -> str:
    """A time to go, in the two largest units."""
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


def blocks_words(view: DeadlineSeen) -> str:
    """How many blocks away a deadline is."""
    blocks = view.blocks
    return counted(blocks, "block") if view.seconds else "now"


def deadline_words(view: DeadlineSeen) -> str:
    """``refund block 417 in 305 blocks, 2 d 2 h (2026-11-28 08:14 UTC)``."""
    clock = f"{view.at[:16].replace('T', ' ')} UTC"
    lock_time = f"block {view.lock_time}" if view.unit == "blocks" else f"time {view.lock_time}"
    what = f"{WHAT[view.what]} {lock_time}"
    if not view.seconds:
        return f"{what}, now"
    return f"{what} in {blocks_words(view)}, {about(view.seconds)} ({clock})"


def channel_line(view: ChannelSeen) -> str:
    """One channel on one line."""
    if view.alarm is not None:
        text = f"ALARM {view.alarm}: channel {view.channel}"
        text += "" if view.role is None else f" ({view.role})"
        text += f": {view.message}"
        text += f" ({view.hint})" if view.hint else ""
    else:
        text = f"channel {view.channel} ({view.role}) is {view.status}: {view.reason}"
    if view.txid is not None:
        text += f"; sent the {view.action} {view.txid}"
    return text if view.deadline is None else f"{text}; {deadline_words(view.deadline)}"


def sent_line(view: ChannelSeen) -> str:
    """What was sent in a channel, and why."""
    return f"sent the {view.action} {view.txid} of channel {view.channel}: {view.reason}"


def round_line(view: RoundDone) -> str:
    """The end of a round on one line."""
    if view.alarm is not None:
        hint = f" ({view.hint})" if view.hint else ""
        return f"ALARM {view.alarm}: {view.message}{hint}"
    return (
        f"block {view.height}: {counted(view.channels, 'channel')}, "
        f"{view.going} going, {counted(view.alarms, 'alarm')}"
    )
