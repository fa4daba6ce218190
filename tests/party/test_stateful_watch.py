"""The same two wallets and the same accidents, with a watcher for each; nobody gives a command to end a channel.

The watchers look after every block or, while they are lazy, only now and then, the payee's at least once in a settle
window. Blocks are replaced, mempools forget, parties vanish, programs are started anew. In the end everybody who has a
watcher has what it is owed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from support.protocol import scheme_of
from test_stateful import CHANNELS, OFFERS, RARELY, Channel, Parties

from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import payee
from mpchan.party.watch.watcher import Round, Watcher
from mpchan.wallet.wallet import Wallet

HARMLESS = {
    None,
    "refund-seen",
    "refunded-unclaimed",
    "funding-unconfirmed",
    "funding-gone",
    "claim-late",
    "close-unconfirmed",
    "funding-late",
    "rejected",
    "bump-capped",  # of a close that pays next to nothing, and whose time is up
}
"""Alarms that the accidents above explain; a bug, a foreign spend or a damaged file is no accident."""


class Watched(Parties):  # type: ignore[misc]
    """As ``Parties``; the ends are the watchers' work."""

    def __init__(self, directory: Callable[[], Path], chain: EmbeddedChain) -> None:
        super().__init__(directory, chain)
        self.chain.mine(2)  # so deep that no accident here takes the payer's first coins away
        self.lazy = False
        self.start_watchers()

    def start_watchers(self) -> None:
        """With wallets that were opened anew."""
        self.watchers = {
            name: Watcher(Wallet.open(wallet.directory), self.chain)
            for name, wallet in (("payer", self.pair.payer), ("payee", self.pair.payee))
        }

    def look(self, who: str) -> Round:
        done = self.watchers[who].round(lambda finding: None)
        assert done.whole
        assert {alarm.slug for alarm in done.alarms} <= HARMLESS
        return done

    @precondition(lambda self: self.both_are_here() and len(self.channels) < CHANNELS)
    @rule(kind=st.sampled_from(sorted(OFFERS)), fund=st.booleans(), blocks=st.sampled_from([1, 1, 1, 0]))
    def open(self, kind: str, fund: bool, blocks: int) -> None:
        """The funding is handed over as a file too, as the samples do it: so the payee can bring it back alone."""
        super().open(kind, fund, blocks)
        name = self.channels[-1].name
        payee.funding(self.pair.payee, self.chain, self.pair.payer_record(name).state.funding)

    @rule()
    def restart(self) -> None:
        super().restart()
        self.start_watchers()

    @rule(lazy=st.booleans())
    def change_pace(self, lazy: bool) -> None:
        self.lazy = lazy

    @rule(who=st.sampled_from(["payer", "payee"]))
    def look_now(self, who: str) -> None:
        if self.payer_is_here if who == "payer" else self.payee_is_here:
            self.look(who)

    @rule(whim=RARELY)
    def forget(self, whim: bool) -> None:
        """The mempool loses everything."""
        if not whim:
            return
        with self.chain._writing() as index:
            for txid in reversed(index.mempool()):
                index.evict(txid)
        self.watch()

    def watch(self) -> None:
        """After every block."""
        tip = self.chain.tip()
        urgent = any(scheme_of(channel.terms).deadline.reached(tip) for channel in self.channels)
        if self.payee_is_here and (urgent or not self.lazy):
            self.look("payee")
        if self.payer_is_here and not self.lazy:
            self.look("payer")

    def everybody_leaves(self) -> None:
        """The watchers alone bring every channel to its end."""
        self.start_watchers()
        self.lazy = False
        for _ in range(90):
            self.watch()
            self.chain.mine(1)
            ways = [self.chain.output(channel.terms.outpoint) for channel in self.channels]
            if all(seen is not None and seen.spend is not None and seen.spend.confirmations for seen in ways):
                return
            if not self.payer_is_here and not self.payee_is_here:
                return

    def outcome(self, channel: Channel) -> tuple[int, int, int]:
        """As before; but a mempool that forgets a funding that nobody has a use for any more has undone it."""
        funding = self.chain.transaction(channel.terms.outpoint.txid)
        if funding is not None:
            return super().outcome(channel)  # type: ignore[no-any-return]
        assert not (self.payee_is_here and channel.accepted)
        assert not (self.payer_is_here and channel.signed)
        return 0, 0, 0


def test_watchers_bring_everybody_what_it_is_owed(
    chain_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        run_state_machine_as_test(
            lambda: Watched(lambda: tmp_path_factory.mktemp("parties"), chain),  # type: ignore[arg-type]
            settings=settings(
                max_examples=15,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )


def test_a_settlement_that_comes_past_the_refund_is_paid_for(
    chain_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two of the ways there that hypothesis found, by hand: with everything to lose, and with dust at stake."""
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        state = Watched(lambda: tmp_path_factory.mktemp("parties"), chain)
        state.open(kind="fast", fund=False, blocks=1)
        state.settlement_held_back(pick=0, more=0, after=5, whim=True)
        state.deliver_the_latest(pick=0)
        state.teardown()
        state = Watched(lambda: tmp_path_factory.mktemp("parties"), chain)
        state.open(kind="fast", fund=True, blocks=1)
        state.pay_up_to(more=294, pick=5)
        state.mine(blocks=8)
        state.settlement_held_back(pick=7, more=500, after=4, whim=True)
        state.teardown()
        state = Watched(lambda: tmp_path_factory.mktemp("parties"), chain)
        state.open(kind="fast", fund=True, blocks=1)
        state.pay_up_to(more=294, pick=5)
        state.mine(blocks=8)
        state.settlement_held_back(pick=4, more=0, after=1, whim=True)
        state.pay(amount=59800, pick=0)
        state.open(blocks=1, fund=False, kind="blocks")
        state.teardown()
