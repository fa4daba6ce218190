"""Shared by the tests of the watcher: rounds, and what they saw."""

from __future__ import annotations

import time
from typing import Any

from mpchan.chain.base import Chain
from mpchan.party.watch.watcher import Round, Sight, Watcher
from mpchan.wallet.wallet import Wallet


def watcher(wallet: Wallet, chain: Chain, **options: Any) -> Watcher:
    """A watcher that starts now: with a wallet that was opened anew."""
    return Watcher(Wallet.open(wallet.directory), chain, **options)


def look(wallet: Wallet, chain: Chain, **options: Any) -> Round:
    """One round of a watcher that starts now."""
    return watcher(wallet, chain, **options).round(lambda sight: None)


def one(done: Round) -> Sight:
    """What a round saw of the only channel."""
    [sight] = done.sights
    return sight


def seen(done: Round) -> tuple[str | None, str, bool, str | None]:
    """Of the only channel: status, deed, whether something was sent, and the alarm."""
    sight = one(done)
    alarm = None if sight.alarm is None else sight.alarm.slug
    return sight.status, sight.deed.value, sight.sent is not None, alarm


def hours_later(hours: float) -> Any:
    """A clock that is ahead."""
    return lambda: time.time() + 3600 * hours
