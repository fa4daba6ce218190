"""The register beside a model of its three numbers, whatever order of requests, ends, crashes and failures comes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from support.party import Pair
from support.shop import FIRST, SCHEMES, Board, Shop

from mpchan import durability
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee
from mpchan.errors import StorageError
from mpchan.party.register.asks import Ask, Repeated, Reserved, Short, Signed, Taken, Verdict
from mpchan.results.closing import Closed
from mpchan.units import Amount
from mpchan.wallet.account import settled

LEAST = 5
"""The least increment, in satoshi."""

CAPACITY = 3_000
KEYS = (None, None, "a", "b", "c")
DIGESTS = ("ab" * 32, "cd" * 32)


@dataclass
class Model:
    """What an onlooker with pencil and paper knows of the channel; all in satoshi."""

    accepted: int = FIRST
    spent: int = FIRST
    flying: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By the register's key: digest and most."""
    ended: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By the register's key: digest and what it has cost, where it has cost something."""

    @property
    def held(self) -> int:
        return sum(most for _, most in self.flying.values())

    def end(self, key: str, charged: int) -> None:
        digest, most = self.flying.pop(key)
        if charged := min(charged, most):
            self.spent += charged
            self.ended[key] = digest, charged

    def ask(self, ask: Ask) -> tuple[object, ...]:
        """What the verdict has to be."""
        total, key = ask.signed.total, None if ask.key is None else f"key/{ask.key}"
        known = None if key is None else self.flying.get(key) or self.ended.get(key)
        if known is not None and known[0] != ask.digest:
            return ("error", "key-reused")
        if total > CAPACITY:
            return ("error", "over-capacity")
        if known is not None:
            return ("repeated", None if key in self.flying else known[1])
        need = self.spent + self.held + ask.price
        new = total > self.accepted
        if total < self.accepted:
            return ("short", "voucher-low", max(self.accepted, need))
        if new and total - self.accepted < LEAST:
            return ("short", "delta-too-small", self.accepted + LEAST)
        self.accepted = total
        if not ask.price:
            return ("taken",)
        if total < need or (not new and key is None):
            return ("short", "balance-low", max(need, total))
        return ("reserved", ask.price)


def told(verdict: Verdict) -> tuple[object, ...]:
    """A verdict as the model says it."""
    if isinstance(verdict, Reserved):
        return ("reserved", verdict.amount)
    if isinstance(verdict, Repeated):
        return ("repeated", verdict.charged)
    if isinstance(verdict, Taken):
        return ("taken",)
    if isinstance(verdict, Short):
        return ("short", verdict.slug, verdict.required)
    return ("error", verdict.slug)


RISES = st.sampled_from([-30, -5, 0, 0, 1, 4, 5, 10, 10, 20, 60, 600])
ONE = st.tuples(
    RISES, st.sampled_from([0, 1, 10, 10, 25]), st.sampled_from(KEYS), st.sampled_from((0, 0, 0, 1))
)


class Counter(RuleBasedStateMachine):
    """The rules are what may happen to a register."""

    def __init__(self, directory: Callable[[], Path], chain: EmbeddedChain, scheme: str) -> None:
        super().__init__()
        self.shop = Shop(Pair(directory(), chain, scheme=scheme), capacity=CAPACITY, min_increment_sat=LEAST)
        self.model = Model()
        self.words = {FIRST: self.shop.signed(FIRST)}
        self.ending: list[tuple[str, int]] = []  # told to the register, perhaps not written down

    def _asks(self, wishes: list[tuple[int, int, str | None, int]]) -> list[Ask]:
        asks, highest = [], self.model.accepted
        for rise, price, key, digest in wishes:
            total = highest + rise
            if total not in self.words and total < self.shop.total:
                total = max(word for word in self.words if word <= max(total, FIRST))
            signed = self.words.get(total) or self.shop.signed(total)
            self.words[total] = signed
            if total <= CAPACITY:
                highest = max(highest, total)
            asks.append(Ask(self.shop.name, signed, price, key, DIGESTS[digest]))
        return asks

    def _written_down(self) -> None:
        for key, charged in self.ending:
            self.model.end(key, charged)
        self.ending.clear()

    @rule(wishes=st.lists(ONE, min_size=1, max_size=4))
    def requests(self, wishes: list[tuple[int, int, str | None, int]]) -> None:
        """Some requests of the same moment."""
        asks = self._asks(wishes)
        self._written_down()
        for ask, verdict in zip(asks, self.shop.register.take_many(asks), strict=True):
            assert told(verdict) == self.model.ask(ask), (ask.signed.total, ask.price, ask.key)
            if isinstance(verdict, Reserved):
                self.model.flying[verdict.key] = ask.digest, ask.price

    @rule(which=st.integers(0, 9), charged=st.sampled_from([0, 0, 3, 10, 30]))
    def served(self, which: int, charged: int) -> None:
        """A request in flight ends."""
        flying = [key for key in self.model.flying if key not in dict(self.ending)]
        if flying:
            key = flying[which % len(flying)]
            self.shop.register.outcome(self.shop.name, key, charged)
            self.ending.append((key, charged))

    @rule()
    def flush(self) -> None:
        self.shop.register.flush()
        self._written_down()

    @rule()
    def crash(self) -> None:
        """What is in flight, or was told and not written down, counts as served in full."""
        self.shop.again()
        self.ending = [(key, most) for key, (_, most) in self.model.flying.items()]
        self._written_down()

    @rule(wishes=st.lists(ONE, min_size=1, max_size=3), at=st.integers(0, 3))
    def full_disk(self, wishes: list[tuple[int, int, str | None, int]], at: int) -> None:
        """A write or a sync of a batch fails: none of it was granted, and nothing has changed."""
        asks, board = self._asks(wishes), Board(lambda kind: kind in ("write", "sync"))
        board.error = at
        before = self.shop.pair.payee_record(self.shop.name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durability, "step", board)
            try:
                verdicts = self.shop.register.take_many(asks)
            except StorageError:
                assert self.shop.pair.payee_record(self.shop.name) == before
                return
        self._written_down()
        for ask, verdict in zip(asks, verdicts, strict=True):
            assert told(verdict) == self.model.ask(ask)
            if isinstance(verdict, Reserved):
                self.model.flying[verdict.key] = ask.digest, ask.price

    @rule(rise=st.sampled_from([5, 40]))
    def by_hand(self, rise: int) -> None:
        """Somebody takes a payment with ``payee accept`` meanwhile: it is no request's."""
        total = max(self.model.accepted, self.shop.total) + rise
        if total > CAPACITY:
            return
        signed = self.words[total] = self.shop.signed(total)
        self.shop.pair.accept(self.shop.form.message(self.shop.number, total, signed.signature))
        self.model.spent += total - self.model.accepted
        self.model.accepted = total

    @invariant()
    def the_disk_agrees(self) -> None:
        """What is on the disk is what the model says, but for ends that were not written down."""
        record, model = self.shop.pair.payee_record(self.shop.name), self.model
        best = payee.best_of(record.state)
        assert best is not None
        assert best.paid.sat == model.accepted
        account = record.account
        if account is not None:
            account = account.with_paid(model.accepted)
            assert (account.spent, account.held) == (model.spent, model.held)
            assert {each.key for each in account.reserved} == set(model.flying)
        assert model.spent + model.held <= model.accepted

    def teardown(self) -> None:
        """The payer closes at what was charged, and at nothing else."""
        register, name = self.shop.register, self.shop.name
        self.flush()
        if self.model.flying:
            assert register.close_channel(name, self._closing(self.model.spent)) is None
        self.crash()
        register = self.shop.register
        terms = self.shop.terms
        total = settled(self.model.spent, terms.payee_dust.sat)
        short = register.close_channel(name, self._closing(total - 1))
        assert isinstance(short, Short)
        assert short.required == total
        closed = register.close_channel(name, self._closing(total))
        assert isinstance(closed, Closed)
        assert closed.paid_sat == self.model.spent
        register.close()

    def _closing(self, total: int) -> Signed:
        return Signed(total, None, self.shop.key.sign_settlement(self.shop.terms, Amount(total)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_register_and_the_model_agree(scheme: str, tmp_path: Path, chain_directory: Path) -> None:
    numbers = itertools.count()

    def directory() -> Path:
        path = tmp_path / str(next(numbers))
        path.mkdir()
        return path

    with EmbeddedChain(chain_directory) as chain:
        run_state_machine_as_test(
            lambda: Counter(directory, chain, scheme),  # type: ignore[arg-type]  # it is only called
            settings=settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
