"""``mpchan watch``: look after all channels, for days or once."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Protocol

import click

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import print_output
from mpchan.cli.input.numbers import Seconds
from mpchan.cli.render.watch_lines import Lines
from mpchan.errors import MpchanError, StorageError
from mpchan.party.watch.watcher import Finding, Round, Watcher
from mpchan.wallet.wallet import Wallet

INTERVAL_SECONDS = 30.0
REGTEST_INTERVAL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""Between two attempts to reach a chain that is out of reach; or the interval, where that is longer."""

INTERRUPTED = 130
TERMINATED = 143


class Ending:
    """Set by the first SIGINT or SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._event = threading.Event()

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.signal = number
        self._event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def has_come(self) -> bool:
        """Whether the watcher is to end."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep; True when the end came."""
        return self._event.wait(seconds)


@contextmanager
def ending() -> Iterator[Ending]:
    """Take note of SIGINT and SIGTERM. A background job that ignores one goes on to do so."""
    noted = Ending()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, noted.note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Teller(Protocol):
    """Who tells people or programs what the watcher sees.

    Attributes:
        failure: why nobody can be told any more; the round goes on all the same, money first.
    """

    failure: StorageError | None

    def channel(self, finding: Finding) -> None:
        """After each channel."""

    def round(self, done: Round) -> None:
        """After each round."""


@options.command(
    "mpchan watch", "mpchan watch --once || echo 'a channel needs you'", "mpchan watch --json >> watch.log"
)
@click.option("--once", is_flag=True, help="One round and no more, for cron and systemd timers.")
@click.option(
    "--interval",
    type=Seconds(min=0.05, max=86_400),
    metavar="S",
    help="Seconds between two rounds; 1 on regtest, else 30.",
)
def watch(app: App, once: bool, interval: float | None) -> int:
    """Look after every channel, until you stop it or once.

    Paid channels are claimed: a settlement at once, the latest update when it is final and L_0 is near or no payment
    came for claim_after (wallet.toml). Refunds are taken at their lock time. What fell out of the mempool is sent
    again. What pays too little gets a child that pays for it, which takes the keys: a passphrase is read as
    MPCHAN_PASSPHRASE_FD or _FILE say, and never asked for. What needs a person is an ALARM with a slug.

    Exit code of --once: 0, nothing needs a person; else the highest of the alarms': 5 or 6, look at a channel; 7, its
    file or the keys; 8, the chain is out of reach or refuses a transaction. Without --once: 0 after SIGTERM, 130 after
    Ctrl-C.
    With --json each line is an object: "event" is "channel" or "round". With -q people hear of alarms alone.
    """
    gc.enable()  # this command may run for days
    wallet = app.wallet(asks=False)
    usual = REGTEST_INTERVAL_SECONDS if wallet.network.name == "regtest" else INTERVAL_SECONDS
    with ending() as end:
        watcher = Watcher(wallet, app.chain(wallet), once=once, stop=end.has_come, trouble=_open_keys(wallet))
        if once:
            return _once(app, watcher, end)
        if app.json or app.quiet or not (sys.stdout is not None and sys.stdout.isatty()):
            _follow(watcher, end, Lines(app), interval or usual)
        else:
            from mpchan.cli.render.watch import live

            with live(wallet.network.name) as shown:
                _follow(watcher, end, shown, interval or usual)
    return INTERRUPTED if end.signal == signal.SIGINT else 0


@contextmanager
def watching(app: App, wallet: Wallet, stop: Callable[[], bool]) -> Iterator[Watcher]:
    """A watcher with its own wallet and chain, for the thread that calls this."""
    own = wallet.for_another_thread()
    with closing(app.chain(own)) as chain:
        yield Watcher(own, chain, stop=stop)


def _open_keys(wallet: Wallet) -> MpchanError | None:
    """Open the keys with the passphrase that was given, if any, rather than when every block counts.

    Returns:
        Why they do not open: no reason not to watch, but one for an alarm.
    """
    from mpchan.cli.input.asking import passphrase_is_given

    if not passphrase_is_given():
        return None
    try:
        wallet.keys.need_secret()
    except MpchanError as error:
        return error
    return None


def _once(app: App, watcher: Watcher, end: Ending) -> int:
    if app.json or app.quiet:
        teller = Lines(app)
        done = watcher.round(teller.channel)
        teller.round(done)
        if teller.failure is not None:
            raise teller.failure
    else:
        from mpchan.cli.render.watch import round_table

        done = watcher.round(lambda finding: None)
        print_output(round_table(done, watcher.clock()), "what was due is done")
    if end.signal is not None:  # the round was cut short: a 0 would say too much
        return INTERRUPTED if end.signal == signal.SIGINT else TERMINATED
    return done.exit_code


def _follow(watcher: Watcher, end: Ending, teller: Teller, interval: float) -> None:
    """Round after round; slower and slower while the chain is out of reach."""
    failures = 0
    while not end.has_come():
        done = watcher.round(teller.channel)
        teller.round(done)
        if teller.failure is not None:
            raise teller.failure
        failures = 0 if done.whole else failures + 1
        end.wait(min(interval * 2 ** min(failures, 16), max(interval, LONGEST_PAUSE_SECONDS)))
