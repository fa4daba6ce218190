"""The watcher beside the seller: in its own thread, heard by the other one alone, and ended with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.market.cheats import Forger
from support.market.market import Market

from mpchan.errors import ChainError
from mpchan.market.serving import serve
from mpchan.party.watch.watcher import Finding, Round, Watcher
from mpchan.transport.mailbox import MailboxInbox, MailboxLine

LIMIT_SECONDS = 30.0
ANN = "a" * 32
CHANNEL = "00" * 32 + "-0"


class Held:
    """A watcher whose rounds begin when they are let."""

    def __init__(self, rounds: list[Round]) -> None:
        self.may = threading.Event()
        self.began = threading.Event()
        self.threads: list[int] = []
        self._rounds = rounds

    def round(self, tell: Callable[[Finding], None]) -> Round:
        self.threads.append(threading.get_ident())
        self.began.set()
        assert self.may.wait(LIMIT_SECONDS)
        return self._rounds[0]

    @contextmanager
    def make(self, stop: Callable[[], bool]) -> Iterator[Watcher]:
        yield self  # type: ignore[misc]


EMPTY = Round(None, ())


def test_a_round_that_hangs_holds_up_no_buyer(market: Market, quick_path: Path) -> None:
    """The answer is there while the watcher has not come back from its first round."""
    held, answers, told = Held([EMPTY]), list[str](), list[tuple[int, Round]]()
    mailbox, wake = quick_path / "mailbox", threading.Event()
    inbox = MailboxInbox(mailbox, wake)

    def ask() -> None:
        assert held.began.wait(LIMIT_SECONDS)
        with MailboxLine(mailbox, ANN).ask(
            "offer", Forger(market, ANN).wish("1-5"), LIMIT_SECONDS
        ) as arrival:
            answers.append(arrival.kind)

    buyer = threading.Thread(target=ask)
    buyer.start()

    def stop() -> bool:
        if answers:
            held.may.set()
        return bool(told) or (not buyer.is_alive() and not answers)

    with closing(inbox):
        serve(
            market.seller,
            [inbox],
            held.make,
            interval=3600.0,
            wake=wake,
            stop=stop,
            tell_channel=lambda finding: None,
            tell_round=lambda done: told.append((threading.get_ident(), done)),
        )
    buyer.join()
    assert answers == ["message"]
    assert told == [(threading.get_ident(), EMPTY)], "told by the thread that serves"
    assert threading.get_ident() not in held.threads


@pytest.mark.parametrize("error", [ChainError("unreachable", "gone"), RuntimeError("a mistake")])
@pytest.mark.parametrize("when", ["at the beginning", "in a round"])
def test_what_ends_the_watcher_ends_the_sale(market: Market, error: Exception, when: str) -> None:
    """With the same error, and at once: nobody sells where nobody watches."""

    class Breaking:
        def round(self, tell: Callable[[Finding], None]) -> Round:
            raise error

    @contextmanager
    def make(stop: Callable[[], bool]) -> Iterator[Watcher]:
        if when == "at the beginning":
            raise error
        yield Breaking()  # type: ignore[misc]

    with pytest.raises(type(error)) as caught:
        serve(
            market.seller,
            [],
            make,
            interval=0.01,
            wake=threading.Event(),
            stop=lambda: False,
            tell_channel=lambda finding: None,
            tell_round=lambda done: None,
        )
    assert caught.value is error
    assert not [thread for thread in threading.enumerate() if thread.name == "watcher"]


def test_an_end_in_the_middle_of_a_round(market: Market) -> None:
    """The watcher is told between two channels, and waited for; so is one that an error of the seller's ends."""
    asked = threading.Event()

    class Long:
        def __init__(self, stop: Callable[[], bool]) -> None:
            self.stop = stop

        def round(self, tell: Callable[[Finding], None]) -> Round:
            asked.set()
            limit = time.monotonic() + LIMIT_SECONDS
            while not self.stop():
                assert time.monotonic() < limit
                time.sleep(0.001)
            tell(Finding(CHANNEL))
            return EMPTY

    @contextmanager
    def make(stop: Callable[[], bool]) -> Iterator[Watcher]:
        yield Long(stop)  # type: ignore[misc]

    findings: list[str] = []

    def run(stop: Callable[[], bool]) -> None:
        serve(
            market.seller,
            [],
            make,
            interval=0.01,
            wake=threading.Event(),
            stop=stop,
            tell_channel=lambda finding: findings.append(finding.name),
            tell_round=lambda done: None,
        )

    run(asked.is_set)
    assert findings == [CHANNEL], "what it did last is told"

    def breaks() -> bool:
        if asked.is_set():
            raise KeyboardInterrupt
        return False

    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run(breaks)
    assert not [thread for thread in threading.enumerate() if thread.name == "watcher"]
