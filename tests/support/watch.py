"""Shared by the tests of the watcher: rounds, and what they saw."""

from __future__ import annotations

import time
from typing import Any

from mpchan.chain.base import Chain
from mpchan.party.watch.watcher import Finding, Round, Watcher
from mpchan.wallet.wallet import Wallet


def watcher(wallet: Wallet, chain: Chain, **options: Any) -> Watcher:
    """A watcher that starts now: with a wallet that was opened anew."""
    return Watcher(Wallet.open(wallet.directory), chain, **options)


def look(wallet: Wallet, chain: Chain, **options: Any) -> Round:
    """One round of a watcher that starts now."""
    return watcher(wallet, chain, **options).round(lambda finding: None)


def one(done: Round) -> Finding:
    """What a round saw of the only channel."""
    [finding] = done.findings
    return finding


def seen(done: Round) -> tuple[str | None, str, bool, str | None]:
    """Of the only channel: status, deed, whether something was sent, and the alarm."""
    finding = one(done)
    alarm = None if finding.alarm is None else finding.alarm.slug
    return finding.status, finding.deed.value, finding.sent is not None, alarm


def hours_later(hours: float) -> Any:
    """A clock that is ahead."""
    return lambda: time.time() + 3600 * hours
