"""Two real wallets, a real chain, and whatever order of events hypothesis thinks of.

Messages are delivered late, twice, out of order or never; blocks are found and replaced; programs are started
anew; either party may vanish at any moment. In the end the chain goes on until everybody who is still there
has used its way out. Then nobody who was there has lost anything that it did not give away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.judge import judge_wallet
from support.party import COIN, Pair, psbt
from support.protocol import scheme_of

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee as payee_protocol
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError
from mpchan.party import payee, payer, views
from mpchan.results.closing import Closed
from mpchan.results.payments import Accepted, Payment
from mpchan.units import Amount, Txid
from mpchan.wallet.wallet import Wallet

RARELY = st.sampled_from([False, False, False, True])
CHANNELS = 2
CAPACITY = 60_000
DUST = 294
OFFERS: dict[str, dict[str, object]] = {
    "blocks": {"settle_window": 4, "min_refund_delay": 23, "max_refund_delay": 41},
    "fast": {"settle_window": 6, "min_refund_delay": 25, "max_refund_delay": 60, "step": 15},
    "seconds": {
        "lock_time_unit": "seconds",
        "settle_window": 2400,
        "step": 7,
        "min_refund_delay": 14_000,
        "max_refund_delay": 24_800,
    },
}


R = TypeVar("R")


@dataclass
class Message:
    """What the payer sent."""

    hex: str
    number: int
    total: int

    @property
    def is_settlement(self) -> bool:
        return self.number == 0


@dataclass
class Channel:
    """What an honest onlooker knows of a channel."""

    name: str
    terms: Terms
    messages: list[Message] = field(default_factory=list)
    signed: int = 0
    """The highest total that the payer ever signed."""
    accepted: int = 0
    """The highest total that the payee ever said yes to."""
    late: int = 0
    """The total of a settlement that it took from L_0 on; 0 without one. It counts once it is in a block."""


class Parties(RuleBasedStateMachine):
    """The rules are commands; each either does what it says, or is refused and changes nothing."""

    def __init__(self, directory: Callable[[], Path], chain: EmbeddedChain) -> None:
        super().__init__()
        self.chain = chain
        self.pair = Pair(directory(), chain, coins=CHANNELS)
        self.channels: list[Channel] = []
        self.payer_is_here = self.payee_is_here = True

    # how rules try things -------------------------------------------------------------------------

    def attempt(self, call: Callable[[], R], kept: str = "") -> R | None:
        """The result; or None where it is refused, and then no file has changed.

        Args:
            kept: the slug of a refusal that comes after what was taken is on the disk.
        """
        before = self.pair.files()
        try:
            return call()
        except MpchanError as refusal:
            error = refusal
        # 4 to 6 and no other: nothing is wrong with files or chain
        assert error.exit_code in (4, 5, 6), error.message
        assert self.pair.files() == before or error.slug == kept, error.message
        return None

    def channel(self, pick: int) -> Channel:
        return self.channels[pick % len(self.channels)]

    def both_are_here(self) -> bool:
        return self.payer_is_here and self.payee_is_here

    # rules ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.both_are_here() and len(self.channels) < CHANNELS)
    @rule(kind=st.sampled_from(sorted(OFFERS)), fund=st.booleans(), blocks=st.sampled_from([1, 1, 1, 0]))
    def open(self, kind: str, fund: bool, blocks: int) -> None:
        self.chain.mine(1)  # a reorganisation may have unconfirmed the coins
        offer = str(payee.offer(self.pair.payee, self.pair.chain, OFFERS[kind]).toml)
        request = payer.open_channel(self.pair.payer, self.chain, offer, Amount(CAPACITY))
        reply = self.pair.sign_refund(request.hex)
        name = f"{request.funding_txid}-{request.funding_vout}"
        self.pair.fund(reply, send=fund)
        if not fund:
            self.pair.fund(reply)
        self.channels.append(Channel(name, self.pair.terms(name)))
        self.mine(blocks)

    @precondition(lambda self: self.both_are_here() and self.channels)
    @rule(pick=st.integers(0, 9))
    def open_again(self, pick: int) -> None:
        """In every phase the same request and the same signature, and nobody can still give the channel up."""
        channel = self.channel(pick)
        before = self.pair.files()
        offer, capacity = channel.terms.offer.to_toml(), channel.terms.capacity
        request = payer.open_channel(self.pair.payer, self.chain, offer, capacity)
        assert f"{request.funding_txid}-{request.funding_vout}" == channel.name
        assert request.refund_lock_time == channel.terms.refund_lock_time.value
        self.pair.sign_refund(request.hex)
        assert self.attempt(lambda: payer.abandon(self.pair.payer, self.chain, channel.name)) is None
        assert self.attempt(lambda: payee.abandon(self.pair.payee, self.chain, channel.name)) is None
        assert self.pair.files() == before

    @precondition(lambda self: self.payer_is_here and self.channels)
    @rule(
        pick=st.integers(0, 9),
        amount=st.sampled_from([294, 1000, 1001, 5000, 1, 293, 20_000, 59_800, 60_000]),
    )
    def pay(self, pick: int, amount: int) -> None:
        channel = self.channel(pick)
        result = self.attempt(lambda: payer.pay(self.pair.payer, self.chain, channel.name, Amount(amount)))
        if result is not None:
            assert result.paid_sat == channel.signed + amount
            self.note_update(channel, result)

    @precondition(lambda self: self.payer_is_here and self.channels)
    @rule(pick=st.integers(0, 9), more=st.sampled_from([294, 1000, 0, 1, 10_000, -1, 58_000]))
    def pay_up_to(self, pick: int, more: int) -> None:
        channel = self.channel(pick)
        total = max(0, channel.signed + more)
        result = self.attempt(
            lambda: payer.pay_up_to(self.pair.payer, self.chain, channel.name, Amount(total))
        )
        if result is not None:
            assert result.paid_sat == total
            self.note_update(channel, result)

    def note_update(self, channel: Channel, result: Payment) -> None:
        message = Message(result.hex, result.update, result.paid_sat)
        for other in channel.messages:
            if other.number == message.number:
                assert other == message  # never two different updates with one number
        channel.messages.append(message)
        channel.signed = max(channel.signed, message.total)
        assert channel.signed <= CAPACITY

    @precondition(lambda self: self.payer_is_here and self.channels)
    @rule(pick=st.integers(0, 9))
    def pay_last(self, pick: int) -> None:
        channel = self.channel(pick)
        result = self.attempt(lambda: payer.pay_last(self.pair.payer, self.chain, channel.name))
        updates = [message for message in channel.messages if not message.is_settlement]
        if result is not None:
            assert result.hex == max(updates, key=lambda message: message.number).hex
        else:
            assert not updates

    @precondition(lambda self: self.payer_is_here and self.channels)
    @rule(pick=st.integers(0, 9), more=st.sampled_from([None, 0, 1, 500, 60_000]), whim=RARELY)
    def settle_by_payer(self, pick: int, more: int | None, whim: bool) -> None:
        if whim:
            self.settlement(self.channel(pick), more)

    def settlement(self, channel: Channel, more: int | None) -> Message | None:
        """The payer's; None where it is refused."""
        total = None if more is None else Amount(channel.signed + more)
        result = self.attempt(lambda: payer.settle(self.pair.payer, self.chain, channel.name, total))
        if result is None:
            return None
        message = Message(result.hex, 0, result.paid_sat)
        assert all(other == message for other in channel.messages if other.is_settlement)
        assert channel.signed <= message.total <= CAPACITY
        channel.messages.append(message)
        channel.signed = message.total
        return message

    @precondition(lambda self: self.both_are_here() and self.channels)
    @rule(
        pick=st.integers(0, 9), more=st.sampled_from([0, 500, 60_000]), after=st.integers(0, 8), whim=RARELY
    )
    def settlement_held_back(self, pick: int, more: int, after: int, whim: bool) -> None:
        """The payer hands it over when the chain has come to L_0, to the refund or past it."""
        channel = self.channel(pick)
        message = self.settlement(channel, more) if whim else None
        if message is None:
            return
        while not self.is_over(channel):
            self.mine(1)
        self.mine(after)
        if self.payee_is_here:
            self.take(channel, message)

    @precondition(lambda self: self.payee_is_here and any(channel.messages for channel in self.channels))
    @rule(pick=st.integers(0, 9), which=st.integers(0, 99))
    def deliver(self, pick: int, which: int) -> None:
        """Any message of the past, also one that came before, or that a later one overtook."""
        channel = self.channel(pick)
        if channel.messages:
            self.take(channel, channel.messages[which % len(channel.messages)])

    @precondition(lambda self: self.payee_is_here and any(channel.messages for channel in self.channels))
    @rule(pick=st.integers(0, 9))
    def deliver_the_latest(self, pick: int) -> None:
        channel = self.channel(pick)
        if channel.messages:
            self.take(channel, channel.messages[-1])

    def take(self, channel: Channel, message: Message) -> None:
        must = self.must_be_taken(channel, message)
        result = self.attempt(lambda: self.pair.accept(message.hex))
        if result is None:
            assert not must
            return
        if (
            message.is_settlement
            and (channel.late or self.is_over(channel))
            and not self.counts(channel, message)
        ):
            self.took_late(channel, message, result)
            return
        assert (result.paid_sat, result.pending_sat) == (message.total, 0)
        if result.duplicate:
            assert result.received_sat == 0
            assert message.total <= max(channel.accepted, channel.late)
            return
        assert result.received_sat == message.total - channel.accepted
        assert result.received_sat > 0 or message.is_settlement
        channel.accepted = message.total

    def is_over(self, channel: Channel) -> bool:
        """Whether the chain has reached L_0, so that the refund may come before a settlement."""
        return scheme_of(channel.terms).deadline.reached(self.chain.tip())

    def counts(self, channel: Channel, message: Message) -> bool:
        """Whether the payee had the settlement before L_0, or a block has it."""
        spend = self.spend(channel)
        txid = scheme_of(channel.terms).settlement(Amount(message.total)).txid
        return message.total == channel.accepted or (spend is not None and spend == (txid, True))

    def spend(self, channel: Channel) -> tuple[Txid, bool] | None:
        """What spends the funding, and whether a block has that."""
        seen = self.chain.output(channel.terms.outpoint)
        spend = None if seen is None else seen.spend
        return None if spend is None else (spend.txid, spend.confirmations > 0)

    def took_late(self, channel: Channel, message: Message, result: Accepted | Closed) -> None:
        """Nothing above the best update counts, however often it comes."""
        channel.late = message.total
        assert result.paid_sat == channel.accepted
        assert isinstance(result, Closed) or result.received_sat == 0
        spend = self.spend(channel)
        void = spend is not None and spend[1]
        assert result.pending_sat == (0 if void else message.total - channel.accepted)

    def must_be_taken(self, channel: Channel, message: Message) -> bool:
        """An honest payer's new message in an open channel that has not come to L_0."""
        state = self.pair.payee_record(channel.name).state
        tip = self.chain.tip()
        best = payee_protocol.best_of(state)
        return (
            isinstance(state, payee_protocol.Active)
            and views.show(self.pair.payee, self.chain, channel.name).status == "open"
            and (message.is_settlement or not scheme_of(channel.terms).deadline.reached(tip))
            and (message.is_settlement or message.number > (best.number if best else 0))
            and message.total >= channel.accepted
        )

    @precondition(lambda self: self.payee_is_here and self.channels)
    @rule(pick=st.integers(0, 9), with_file=st.booleans())
    def settle_by_payee(self, pick: int, with_file: bool) -> None:
        channel = self.channel(pick)
        settlements = [message for message in channel.messages if message.is_settlement]
        was_late = self.is_over(channel)
        message = settlements[-1] if with_file and settlements else None
        if message is not None:
            result = self.attempt(
                lambda: payee.settle(self.pair.payee, self.chain, psbt(message.hex), channel.name),
                kept="funding-unconfirmed",
            )
        else:
            result = self.attempt(lambda: payee.settle(self.pair.payee, self.chain, None, channel.name))
        if result is None:
            held = payee_protocol.settlement_of(self.pair.payee_record(channel.name).state)
            if message is None or held is None or held.paid.sat != message.total:
                return
            if was_late and message.total > channel.accepted and not channel.late:
                channel.late = message.total
            elif not channel.late:
                channel.accepted = max(channel.accepted, message.total)
            return
        if message is not None and was_late and message.total > channel.accepted and not channel.late:
            channel.late = message.total
        if channel.late:
            assert result.paid_sat in (channel.accepted, channel.late)
            assert result.paid_sat + result.pending_sat <= channel.late
            return
        assert (result.paid_sat >= channel.accepted, result.pending_sat) == (True, 0)
        channel.accepted = result.paid_sat

    @precondition(lambda self: self.payer_is_here and self.channels)
    @rule(pick=st.integers(0, 9))
    def refund(self, pick: int) -> None:
        channel = self.channel(pick)
        result = self.attempt(lambda: self.pair.refund(channel.name))
        if result is not None:
            assert result.kind == "refund"

    @rule(blocks=st.integers(1, 9))
    def mine(self, blocks: int) -> None:
        for _ in range(blocks):
            self.chain.mine(1)
            self.watch()

    @rule(depth=st.integers(1, 2), whim=RARELY)
    def reorganise(self, depth: int, whim: bool) -> None:
        """The last blocks are replaced by a longer branch; their transactions wait again."""
        if not whim:
            return
        self.chain.reorganise(depth)
        self.watch()

    @rule()
    def restart(self) -> None:
        self.pair.restart()

    @precondition(lambda self: self.both_are_here() and self.channels)
    @rule(who=st.sampled_from(["payer", "payee"]), whim=RARELY)
    def vanish(self, who: str, whim: bool) -> None:
        if not whim:
            return
        if who == "payer":
            self.payer_is_here = False
        else:
            self.payee_is_here = False

    def watch(self) -> None:
        """A payee that is there closes at L_0 with what it has: settle_window is its time for that."""
        if not self.payee_is_here:
            return
        for channel in self.channels:
            if channel.accepted and scheme_of(channel.terms).deadline.reached(self.chain.tip()):
                self.attempt(lambda name=channel.name: payee.settle(self.pair.payee, self.chain, None, name))  # type: ignore[misc]

    # what always holds ----------------------------------------------------------------------------

    @invariant()
    def files_can_be_read(self) -> None:
        for directory in (self.pair.payer.directory, self.pair.payee.directory):
            wallet = Wallet.open(directory)
            assert len(wallet.channels.names()) == len(self.channels)
            for name in wallet.channels.names():
                wallet.channels.load(name)
            assert wallet.keys.next_index("receive") >= 0

    @invariant()
    def what_was_taken_can_be_collected(self) -> None:
        for channel in self.channels:
            record = self.pair.payee_record(channel.name)
            assert record.credit(None).paid.sat == channel.accepted
            assert payee_protocol.received_total(record.state).sat == max(channel.accepted, channel.late)
            assert self.pair.payer_record(channel.name).paid.sat == channel.signed
            assert channel.accepted <= channel.signed

    # the end --------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.pair.restart()
        self.everybody_leaves()
        fees = unspent = given = 0
        for channel in self.channels:
            paid, spent_fee, left = self.outcome(channel)
            given += paid
            fees += spent_fee
            unspent += left
            if self.payee_is_here:
                assert paid >= channel.accepted
            assert paid <= channel.signed
            if self.payer_is_here:
                assert left == 0
        ours, theirs = self.worth(self.pair.payer), self.worth(self.pair.payee)
        payers_children, payees_children = self.bumped(self.pair.payer), self.bumped(self.pair.payee)
        assert theirs + payees_children == given
        assert ours + theirs + payers_children + payees_children + fees + unspent == CHANNELS * COIN
        judge_wallet(self.pair.payer.directory, self.chain.directory)
        judge_wallet(self.pair.payee.directory, self.chain.directory)

    def everybody_leaves(self) -> None:
        """Block by block until the last refund is final and mined; who is there acts as soon as it can."""
        for _ in range(80):
            self.watch()
            for channel in self.channels:
                if self.payer_is_here:
                    self.attempt(lambda name=channel.name: self.pair.refund(name))  # type: ignore[misc]
                if self.payee_is_here and channel.accepted:
                    self.attempt(lambda name=channel.name: self.pair.settle(name=name))  # type: ignore[misc]
            self.chain.mine(1)
            ways = [self.chain.output(channel.terms.outpoint) for channel in self.channels]
            if all(seen is not None and seen.spend is not None and seen.spend.confirmations for seen in ways):
                return
            if not self.payer_is_here and not self.payee_is_here:
                return

    def outcome(self, channel: Channel) -> tuple[int, int, int]:
        """What the chain says: satoshi for the payee, fees of funding and close, and what nobody took."""
        funding = self.chain.transaction(channel.terms.outpoint.txid)
        assert funding is not None
        transaction, confirmations = funding
        assert confirmations
        assert channel.terms.funding_txout == transaction.outputs[channel.terms.outpoint.vout]
        coins = [self.chain.output(source.outpoint) for source in transaction.inputs]
        fee = sum(coin.output.value.sat for coin in coins if coin) - sum(
            output.value.sat for output in transaction.outputs
        )
        seen = self.chain.output(channel.terms.outpoint)
        assert seen is not None
        if seen.spend is None:
            return 0, fee, seen.output.value.sat
        close = self.chain.transaction(seen.spend.txid)
        assert close is not None
        spend, confirmations = close
        assert confirmations
        values = {output.script_pubkey: output.value.sat for output in spend.outputs}
        close_fee = seen.output.value.sat - sum(values.values())
        # the agreed fee, and a change that was dust at most
        assert close_fee < channel.terms.reserve.sat + DUST
        return values.get(channel.terms.offer.payee_script, 0), fee + close_fee, 0

    def bumped(self, wallet: Wallet) -> int:
        """What a wallet has paid by children to bring closes and refunds into a block; at most what they pay it."""
        seen = ((sent, self.chain.transaction(sent.txid)) for sent in wallet.sent.all().values())
        mined = [sent for sent, found in seen if found is not None and found[1]]
        assert all(sent.parent is not None and len(sent.spent) == 1 for sent in mined)
        return sum(sent.fee.sat for sent in mined)

    def worth(self, wallet: Wallet) -> int:
        """All coins of a wallet, which are confirmed in the end."""
        coins = self.chain.coins(wallet.keys.scripts())
        assert all(coin.confirmations for coin in coins)
        return sum(coin.output.value.sat for coin in coins)


def test_nobody_loses_what_it_did_not_give_away(
    chain_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        run_state_machine_as_test(
            lambda: Parties(lambda: tmp_path_factory.mktemp("parties"), chain),  # type: ignore[arg-type]
            settings=settings(
                max_examples=15,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
