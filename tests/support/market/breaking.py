"""A sale in one process that breaks off at one step of the buyer's or the seller's: as by a kill, or by a bad disk."""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from support.market.market import PIECE, PRICE, DirectLine, Market

import mpchan
from mpchan import durability
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import ChainError, MpchanError, TooEarly
from mpchan.market import output, own_channel
from mpchan.market.output import part_path
from mpchan.transport.base import Answer, Request
from mpchan.wallet.purchases import Purchases

PIECES, FREE = 4, 1
LIMIT_SECONDS = 10
OTHER_ERRORS = {
    "commit": ("chain-index", "cannot use the index: disk I/O error"),
    "engine": ("engine-failed", "the consensus engine cannot process a block"),
    "emit": ("unreachable", "the chain does not answer"),
}
"""What steps raise that are no calls of the system."""


RELEASING = ("close", "unlock")
"""Steps by which a program lets go of what the system takes from it when it dies, whatever it was at."""


class Died(BaseException):
    """A program ends here; nothing can catch it."""


@dataclass(frozen=True)
class Fault:
    """What happens at one step.

    Attributes:
        side: ``buyer`` or ``seller``.
        at: the step's number among those of its side; the first is 1.
        kind: of the step.
        how: ``kill``, or the name of an error.
        when: ``before`` the step or ``after`` it.
    """

    side: str
    at: int
    kind: str
    how: str
    when: str


class Steps:
    """In the place of ``durability.step``: counts the steps of each side, and lets one of them fail.

    Attributes:
        side: whose step the next one is; None for a third party's.
        dead: whether that program has ended: nothing that it does counts any more.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, list[str]] = {"buyer": [], "seller": []}
        self.side: str | None = None
        self.fault: Fault | None = None
        self.dead = False

    @contextmanager
    def of(self, side: str | None) -> Iterator[None]:
        """Who acts until the end of the block."""
        before, self.side = self.side, side
        try:
            yield
        finally:
            self.side = before

    def step(self, kind: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """One step."""
        if self.side is None:
            return act(*arguments, **options)
        if self.dead:
            if kind in RELEASING:
                act(*arguments, **options)
            raise Died
        self.kinds[self.side].append(kind)
        fault = self.fault
        if fault is None or (fault.side, fault.at) != (self.side, len(self.kinds[self.side])):
            return act(*arguments, **options)
        assert kind == fault.kind, "another step than before"
        if fault.when == "after":
            result = act(*arguments, **options)
            if kind in ("create", "lock-file"):
                os.close(result)
        if fault.how == "kill":
            if fault.when == "before" and kind in RELEASING:
                act(*arguments, **options)
            self.dead = True
            raise Died
        if kind in OTHER_ERRORS:
            raise ChainError(*OTHER_ERRORS[kind])
        number = getattr(errno, fault.how)
        raise OSError(number, os.strerror(number))


class Inline:
    """In the place of a pool of threads: so the steps have one order."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def submit(self, act: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do it now."""
        future: Future[Any] = Future()
        try:
            future.set_result(act(*arguments))
        except BaseException as error:  # noqa: BLE001 (told by the future)
            future.set_exception(error)
        return future

    def shutdown(self, *, wait: bool) -> None:
        """Nothing is left to be done."""


class Clock:
    """In the place of the buyer's ``time``: whenever it waits, a third party mines what there is to be mined."""

    def __init__(self, chain: EmbeddedChain, steps: Steps) -> None:
        self._chain = chain
        self._steps = steps
        self.monotonic = time.monotonic

    def sleep(self, seconds: float) -> None:
        """A moment."""
        with self._steps.of(None):
            if self._chain.mempool():
                self._chain.mine(1)


class FragileLine(DirectLine):
    """A line to a seller that may die of a request; one that has died is started again, and the buyer hears nothing.

    One whose disk has failed answers that it has, answers one request more, and is then started again.
    """

    breaking: Breaking
    shaken = 0

    def mine(self) -> None:
        """Nobody's step but a third party's."""
        with self.breaking.counted.of(None):
            super().mine()

    @contextmanager
    def ask(self, kind: str, body: bytes, patience: float, length: int | None = None) -> Iterator[Any]:
        """As a line that breaks."""
        if self.breaking.is_shaken:
            self.shaken += 1
        if self.shaken == 2:
            self.breaking.restart_seller()
        try:
            with super().ask(kind, body, patience, length) as arrival:
                yield arrival
        except Died:
            if self.breaking.dead_side != "seller":
                raise
            self.breaking.restart_seller()
            raise TooEarly("peer-silent", "no answer came") from None


class Breaking(Market):
    """A market whose steps are counted."""

    def __init__(self, directory: Path, chain: EmbeddedChain, scheme: str | None) -> None:
        self.counted = Steps()
        super().__init__(directory, chain, pieces=PIECES, free=FREE, scheme=scheme)
        self.patience = 5.0

    def new_seller(self) -> Any:
        """A seller whose steps are its own."""
        made = super().new_seller()
        answer = made.answer

        def counted(request: Request) -> Answer:
            with self.counted.of("seller"):
                return answer(request)

        made.answer = counted  # type: ignore[method-assign]
        return made

    def line(self, session: str) -> DirectLine:
        """A line to a seller that can die."""
        made = FragileLine(lambda: self.seller, session, self.chain, lambda *both: self.bend(*both))
        made.breaking = self
        self.lines.append(made)
        return made

    @property
    def dead_side(self) -> str | None:
        """Whose program has ended."""
        fault = self.counted.fault
        return fault.side if fault is not None and self.counted.dead else None

    @property
    def is_shaken(self) -> bool:
        """Whether the seller's disk has failed since its start."""
        fault = self.counted.fault
        return (
            fault is not None
            and fault.side == "seller"
            and fault.how != "kill"
            and len(self.counted.kinds["seller"]) >= fault.at
        )

    def restart_seller(self) -> None:
        """The seller's program ends and starts again; the buyer's goes on."""
        payer = self.pair.payer
        self.counted.dead, self.counted.fault = False, None
        with self.counted.of(None):
            self.restart()
        self.pair.payer = payer

    def buys(self) -> Any:
        """The buyer's whole run."""
        with self.counted.of("buyer"):
            return self.buy()

    # what must hold -------------------------------------------------------------------------------

    def check_debt(self) -> None:
        """At most one piece is paid for that is not there."""
        paid = sum(self.pair.payer_record(name).paid.sat for name in self.pair.payer.channels.names())
        assert paid - PRICE * len(self.right_pieces() - {1}) <= PRICE

    def right_pieces(self) -> set[int]:
        """The pieces that are in the buyer's file."""
        path = part_path(self.output) if part_path(self.output).exists() else self.output
        data, sold = path.read_bytes() if path.exists() else b"", self.file.read_bytes()
        starts = [(number, (number - 1) * PIECE) for number in range(1, PIECES + 1)]
        return {
            number for number, start in starts if data[start : start + PIECE] == sold[start : start + PIECE]
        }

    def check_end(self) -> None:
        """As if nothing had happened."""
        price = PRICE * (PIECES - FREE)
        assert self.is_whole()
        assert not part_path(self.output).exists()
        assert (self.paid, self.received) == (price, price)
        assert self.pair.payee.channels.names() == [self.name]
        self.chain.mine(1)
        assert self.pair.status(self.name) == ("closed", "closed")
        assert self.pair.payee.offers.ids() == [self.own.offer.offer_id]
        purchases = Purchases(self.pair.payer.directory)
        assert all(purchases.load(path).done for path in purchases.files())


@contextmanager
def breaking_market(bare: Path, place: Path, scheme: str | None = None) -> Iterator[Breaking]:
    """A market in a folder of its own, whose every step passes through it."""
    directory = place / "case"
    shutil.copytree(bare, directory / "chain", ignore=shutil.ignore_patterns("kernel"))
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            EmbeddedChain(directory / "chain") as chain,
            chain.engine(),
        ):
            market = Breaking(directory, chain, scheme)
            real = durability.step
            load_all()
            for name, module in list(sys.modules.items()):
                if name.startswith("mpchan") and getattr(module, "step", None) is real:
                    patch.setattr(module, "step", market.counted.step)
            patch.setattr(output, "ThreadPoolExecutor", Inline)
            patch.setattr(output, "_SYNC_SECONDS", 0)
            patch.setattr(own_channel, "time", Clock(chain, market.counted))
            with in_time():
                yield market
    finally:
        shutil.rmtree(directory)


@lru_cache(1)
def load_all() -> None:
    """Modules know the step by a name of their own; none may come later and keep one that is not the real one."""
    for module in pkgutil.walk_packages(mpchan.__path__, "mpchan."):
        if module.name != "mpchan.__main__":
            with suppress(ModuleNotFoundError):  # a signer that is not installed has no steps
                importlib.import_module(module.name)


@contextmanager
def in_time() -> Iterator[None]:
    """A sale that waits for ever fails."""

    def ring(*_: Any) -> None:
        raise AssertionError("it does not end")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def straight(bare: Path, place: Path, scheme: str | None = None) -> dict[str, list[str]]:
    """The kinds of all steps of a sale in which nothing happens, by side."""
    with breaking_market(bare, place, scheme) as market:
        market.buys()
        market.check_end()
        return market.counted.kinds


def break_off(bare: Path, place: Path, fault: Fault, scheme: str | None = None) -> MpchanError | None:
    """One sale with one fault, after which both programs start again; the error that it ended with."""
    with breaking_market(bare, place, scheme) as market:
        market.counted.fault = fault
        found: MpchanError | None = None
        try:
            market.buys()
        except Died:
            assert market.dead_side == fault.side
        except MpchanError as error:
            found = error
        assert len(market.counted.kinds[fault.side]) >= fault.at, "there were fewer steps than before"
        market.counted.dead, market.counted.fault = False, None
        market.restart()
        market.check_debt()
        market.buys()
        market.check_end()
        return found


# which of them ------------------------------------------------------------------------------------


def faults(kinds: dict[str, list[str]], how: str) -> list[Fault]:
    """A fault before and after every step of both sides."""
    both = (("before", how), ("after", how)) if how == "kill" else (("before", "ENOSPC"), ("after", "EIO"))
    return [
        Fault(side, at, kind, name, when)
        for side, steps in kinds.items()
        for at, kind in enumerate(steps, 1)
        for when, name in both
    ]


def of_each_kind(found: list[Fault]) -> list[Fault]:
    """Of every kind of step of each side one, before it or after it in turn."""
    chosen: dict[tuple[str, str], Fault] = {}
    for fault in found:
        if fault.when == ("before", "after")[len(chosen) % 2]:
            chosen.setdefault((fault.side, fault.kind), fault)
    return list(chosen.values())
