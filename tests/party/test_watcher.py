"""The watcher on the embedded chain: it sends at its time, sees what others send, survives what goes wrong."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.party import Pair, balance_sat, snapshot
from support.protocol import scheme_of
from support.watch import hours_later, look, one, seen, watcher

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import OutputStatus
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.embedded.mempool import reject
from mpchan.chain.manual import ManualChain
from mpchan.channel.watch.base import BURIED, REMEMBERED
from mpchan.errors import ChainError, MpchanError
from mpchan.party import payer, views
from mpchan.party.watch.watcher import STUBBORN_ROUNDS, Round, Watcher
from mpchan.units import Amount, ChainTip, LockTime, OutPoint
from mpchan.values import replace
from mpchan.wallet.channel_files import ChannelFiles

SECONDS = {
    "lock_time_unit": "seconds",
    "settle_window": 3_600,
    "min_refund_delay": 18_000,
    "max_refund_delay": 90_000,
}
DEPTHS = pytest.mark.parametrize("depth", [1, 2, 6])


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    """A payer with a coin, and a payee."""
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain)


def payee_sees(pair: Pair) -> tuple[str | None, str, bool, str | None]:
    return seen(look(pair.payee, pair.chain))


def payer_sees(pair: Pair) -> tuple[str | None, str, bool, str | None]:
    return seen(look(pair.payer, pair.chain))


# the payee ----------------------------------------------------------------------------------------


def test_the_payee_is_told_of_every_step(pair: Pair) -> None:
    request = pair.request()
    assert payer_sees(pair) == ("opening", "wait", False, None)
    reply = pair.sign_refund(request.hex)
    assert payee_sees(pair) == ("opening", "wait", False, None)
    pair.fund(reply)
    assert payee_sees(pair) == payer_sees(pair) == ("funding", "wait", False, None)
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("open", "wait", False, None)
    assert "1 confirmation" in one(look(pair.payer, pair.chain)).why


def test_a_settlement_that_was_accepted_is_broadcast(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.accept(pair.settlement(name, 3000))
    assert payee_sees(pair) == ("settling", "settlement", True, None)
    assert payee_sees(pair) == ("settling", "wait", False, None)
    assert payer_sees(pair) == ("settling", "wait", False, None)
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)
    assert balance_sat(pair.payee, pair.chain) == 3000


@pytest.mark.parametrize("terms", [{}, SECONDS], ids=["blocks", "seconds"])
def test_the_latest_update_is_claimed_at_l0(pair: Pair, terms: dict[str, object]) -> None:
    """Block by block: not before it is final, at the latest at L_0, and the payer watches in vain."""
    name = pair.open(**terms)
    for _ in range(3):
        pair.accept(pair.pay(name, 1000))
    deadline = scheme_of(pair.terms(name)).deadline
    best = pair.payee_record(name).state.best.transaction
    while True:
        finding = one(look(pair.payee, pair.chain))
        assert payer_sees(pair)[1:] == ("wait", False, None)
        if finding.sent is not None:
            break
        assert finding.deed.value == "wait"
        assert not deadline.is_final(pair.chain.tip())
        pair.chain.mine(1)
    assert (finding.status, finding.sent) == ("settling", str(best.txid))
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)
    assert balance_sat(pair.payee, pair.chain) == 3000


def test_a_silent_payer_is_not_waited_for(pair: Pair) -> None:
    """Final, but L_0 is far: the channel goes on until nothing was heard for claim_after."""
    name = pair.open(step=10, max_refund_delay=80, min_refund_delay=60)
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(pair.payee_record(name).latest_lock_time)
    assert payee_sees(pair) == ("open", "wait", False, None)
    late = hours_later(49)
    pair.accept(pair.pay(name, 1000))
    assert seen(look(pair.payee, pair.chain, clock=hours_later(47))) == ("open", "wait", False, None)
    assert seen(look(pair.payee, pair.chain, clock=late)) == ("settling", "update", True, None)
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 2000


def test_the_policy_of_wallet_toml(pair: Pair) -> None:
    path = pair.payee.directory / "wallet.toml"
    name = pair.open(step=10, max_refund_delay=80, min_refund_delay=60)
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(pair.payee_record(name).latest_lock_time)
    assert payee_sees(pair) == ("open", "wait", False, None)
    path.write_text(path.read_text().replace("# near_blocks = 6", "near_blocks = 10"))
    assert payee_sees(pair) == ("settling", "update", True, None)


def test_the_refund_is_fought(pair: Pair) -> None:
    """The payee was away for the whole settle window. Its update, which the mempool refuses alone, gets a child."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert payer_sees(pair) == ("refunding", "refund", True, None)
    done = look(pair.payee, pair.chain)
    assert seen(done) == ("settling", "update", True, "refund-seen")
    assert "a child pays" in one(done).why
    assert done.exit_code == 5
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)


def test_a_refund_that_is_too_dear_to_fight(pair: Pair) -> None:
    """What the payee holds goes out all the same: another miner may not have seen the refund."""
    name = pair.open()
    pair.accept(pair.pay(name, 500))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert payer_sees(pair) == ("refunding", "refund", True, None)
    done = look(pair.payee, pair.chain)
    assert seen(done) == ("refunding", "update", False, "refund-seen")
    assert "insufficient fee" in one(done).why
    update = pair.payee_record(name).state.active.best.transaction
    assert pair.chain.submit_block_with([update]) is None
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)


def test_a_refund_that_dropped_out_is_used(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 400))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert payer_sees(pair)[1] == "refund"
    assert payee_sees(pair)[3] == "refund-seen"
    forget(pair)
    assert payee_sees(pair) == ("settling", "update", True, "claim-late")
    assert payer_sees(pair)[:1] == ("settling",)


def test_a_refund_that_nobody_fights(pair: Pair) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value - 1)
    assert payer_sees(pair) == payee_sees(pair) == ("open", "wait", False, None)
    pair.chain.mine(1)
    assert payer_sees(pair) == ("refunding", "refund", True, None)
    assert payee_sees(pair) == ("refunding", "wait", False, None)
    pair.chain.mine(1)
    assert payer_sees(pair) == payee_sees(pair) == ("refunded", "wait", False, None)


def test_lost_money_is_remembered_for_a_week(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    pair.chain.mine(REMEMBERED - 1)
    assert payee_sees(pair) == ("refunded", "wait", False, "refunded-unclaimed")
    pair.chain.mine(1)
    assert payee_sees(pair) == ("refunded", "wait", False, None)


def test_a_spend_by_a_copy_of_the_wallet(pair: Pair, tmp_path: Path) -> None:
    """An older backup closes with an older update: the other copy says so, and puts what it holds in its place."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    old = pair.payee_record(name).state.best.transaction
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(old.lock_time)
    pair.chain.broadcast(old)
    assert payee_sees(pair) == ("settling", "update", True, "foreign-spend")
    assert payer_sees(pair) == ("settling", "wait", False, None)
    assert old.txid not in pair.chain.mempool()
    pair.chain.mine(1)
    assert payee_sees(pair) == ("closed", "wait", False, None)


# the payer ----------------------------------------------------------------------------------------


def test_a_refund_in_seconds_waits_for_the_median_time(pair: Pair) -> None:
    name = pair.open(**SECONDS)
    lock_time = pair.terms(name).refund_lock_time
    while not lock_time.is_final(pair.chain.tip()):
        assert payer_sees(pair) == ("open", "wait", False, None)
        pair.chain.mine(1)
    assert payer_sees(pair) == ("refunding", "refund", True, None)


def test_a_settlement_that_the_payee_never_sends_is_no_hindrance(pair: Pair) -> None:
    name = pair.open()
    pair.settlement(name, 5000)
    assert payer_sees(pair) == ("settling", "wait", False, None)
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert payer_sees(pair) == ("refunding", "refund", True, None)


def test_an_opening_that_is_too_late(pair: Pair) -> None:
    pair.request()
    assert payer_sees(pair) == ("opening", "wait", False, None)
    pair.chain.mine(60)
    done = look(pair.payer, pair.chain)
    assert seen(done) == ("opening", "wait", False, "too-little-time")
    assert "abandon" in str(one(done).alarm.hint)
    payer.abandon(pair.payer, pair.chain, None)
    assert payer_sees(pair) == ("abandoned", "wait", False, None)


def test_a_funding_that_was_never_sent(pair: Pair) -> None:
    """With --no-broadcast it is the user's; where the wallet sends, it sends again."""
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    pair.fund(reply, send=False)
    assert payer_sees(pair) == ("funding", "wait", False, None)
    pair.fund(reply)
    assert payer_sees(pair) == ("funding", "wait", False, None)
    forget(pair)
    assert payer_sees(pair) == ("funding", "funding", True, None)
    assert payer_sees(pair) == ("funding", "wait", False, None)
    pair.chain.mine(1)
    assert payer_sees(pair) == ("open", "wait", False, None)


def test_a_funding_that_was_replaced(pair: Pair) -> None:
    request = pair.request()
    name = f"{request.funding_txid}-{request.funding_vout}"
    pair.fund(pair.sign_refund(request.hex), send=False)
    state = pair.payer_record(name).state
    double = replace(state.funding, outputs=state.funding.outputs[1:]).without_witness()
    pair.chain.broadcast(pair.payer.keys.sign_coins(double, state.spent))
    done = look(pair.payer, pair.chain)
    assert seen(done) == ("funding", "wait", False, "funding-void")
    assert done.exit_code == 5
    pair.chain.mine(1)
    assert payer_sees(pair) == ("funding", "wait", False, "funding-void")
    payer.abandon(pair.payer, pair.chain, name)
    assert payer_sees(pair) == ("abandoned", "wait", False, None)
    # the other spend is reorganised away, and the funding is mined after all
    pair.chain.reorganise(1, [state.funding])
    assert payer_sees(pair) == ("open", "wait", False, None)
    # a payment in it is written down before it leaves, however it is asked for
    paid = payer.pay_up_to(pair.payer, pair.chain, name, Amount(1000))
    assert (paid.update, paid.amount_sat, pair.payer_record(name).updates) == (1, 1000, 1)
    assert payer.pay(pair.payer, pair.chain, name, Amount(10)).update == 2
    pair.mine_to(state.terms.refund_lock_time.value)
    assert payer_sees(pair) == ("refunding", "refund", True, None)


# what falls out, and what is reorganised away -----------------------------------------------------


def forget(pair: Pair) -> None:
    """The mempool loses everything, as that of a node that starts anew without it."""
    with pair.chain._writing() as index:
        for txid in reversed(index.mempool()):
            index.evict(txid)
    assert pair.chain.mempool() == []


def replaced(pair: Pair, depth: int) -> None:
    """So many blocks are replaced by a longer branch that holds nothing, and the mempool has forgotten everything."""
    pair.chain.reorganise(depth)
    forget(pair)


@DEPTHS
def test_a_settlement_that_is_reorganised_away(pair: Pair, depth: int) -> None:
    """Once with its funding left, once with the funding gone as well."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.chain.mine(1)
    pair.accept(pair.settlement(name, 2000))
    assert payee_sees(pair) == ("settling", "settlement", True, None)
    pair.chain.mine(depth)
    assert payee_sees(pair) == ("closed", "wait", False, None)
    replaced(pair, depth)
    assert payee_sees(pair) == ("settling", "settlement", True, None)
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)

    replaced(pair, pair.chain.tip().height - funding_height(pair, name) + 1)
    assert payee_sees(pair) == ("settling", "wait", False, "funding-gone")
    assert payer_sees(pair)[1:] == ("funding", True, None)
    assert payee_sees(pair)[1:] == ("wait", False, "funding-unconfirmed")  # no node would relay the close
    pair.chain.mine(1)
    assert payee_sees(pair)[1:3] == ("settlement", True)
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("closed", "wait", False, None)
    assert balance_sat(pair.payee, pair.chain) == 2000


def funding_height(pair: Pair, name: str) -> int:
    """Of the highest block that holds the funding."""
    _, confirmations = pair.chain.transaction(pair.terms(name).outpoint.txid)
    return int(pair.chain.tip().height - confirmations + 1)


@DEPTHS
def test_an_update_and_a_refund_that_are_reorganised_away(pair: Pair, depth: int) -> None:
    """Each is sent again by the one who sent it, even where the branch's lock time lags behind."""
    name = pair.open(settle_window=20, min_refund_delay=40)
    pair.accept(pair.pay(name, 1000))
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
    assert payee_sees(pair) == ("settling", "update", True, None)
    pair.chain.mine(depth)
    assert payee_sees(pair) == ("closed", "wait", False, None)
    replaced(pair, depth)
    assert payee_sees(pair) == ("settling", "update", True, None)
    pair.chain.mine(1)

    pair.coin()
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert look(pair.payer, pair.chain).findings
    pair.chain.mine(depth)
    assert pair.status(name) == ("refunded", "refunded")
    replaced(pair, depth)
    sent = [finding for finding in look(pair.payer, pair.chain).findings if finding.sent is not None]
    assert [finding.deed.value for finding in sent] == ["refund"]
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


@DEPTHS
def test_a_funding_that_becomes_unconfirmed_again(pair: Pair, depth: int) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    message = pair.pay(name, 1000)
    pair.chain.mine(depth - 1)
    pair.chain.reorganise(depth)
    assert payee_sees(pair) == ("funding", "wait", False, "funding-unconfirmed")
    assert payer_sees(pair) == ("funding", "wait", False, None)
    with pytest.raises(MpchanError) as error:
        pair.accept(message)
    assert (error.value.slug, error.value.exit_code) == ("unconfirmed", 6)
    forget(pair)
    assert payee_sees(pair) == ("opening", "wait", False, "funding-gone")
    assert payer_sees(pair) == ("funding", "funding", True, None)
    pair.chain.mine(1)
    assert payee_sees(pair) == payer_sees(pair) == ("open", "wait", False, None)
    assert pair.accept(message).paid_sat == 2000


def test_a_payee_that_has_the_funding_needs_no_payer(pair: Pair) -> None:
    """Paid, handed the funding by file, and left alone: a reorganisation costs it nothing."""
    from mpchan.party import payee

    name = pair.open()
    payee.funding(pair.payee, pair.chain, pair.payer_record(name).state.funding)
    pair.accept(pair.pay(name, 1000))
    pair.accept(pair.settlement(name, 2000))
    replaced(pair, pair.chain.tip().height - funding_height(pair, name) + 1)
    assert payee_sees(pair)[1:] == ("funding", True, None)
    assert payee_sees(pair)[1:] == ("wait", False, "funding-unconfirmed")
    pair.chain.mine(1)
    assert payee_sees(pair)[1:3] == ("settlement", True)
    pair.chain.mine(1)
    assert balance_sat(pair.payee, pair.chain) == 2000


# one bad channel, and the rest --------------------------------------------------------------------


def two_settled(pair: Pair) -> tuple[str, str]:
    """Two channels whose settlements are held."""
    pair.coin()
    names = []
    for _ in range(2):
        name = pair.open()
        pair.accept(pair.pay(name, 1000))
        pair.accept(pair.settlement(name, 2000))
        names.append(name)
    first, second = sorted(names)
    return first, second


def told(done: Round) -> list[tuple[str | None, bool]]:
    """Alarm, and whether something was sent, of each channel."""
    return [
        (None if finding.alarm is None else finding.alarm.slug, finding.sent is not None)
        for finding in done.findings
    ]


@pytest.mark.parametrize("harm", ["damaged", "newer", "directory", "gone"])
def test_a_bad_file_stops_no_other_channel(pair: Pair, harm: str) -> None:
    first, _ = two_settled(pair)
    path = pair.payee.directory / "channels" / f"{first}.json"
    text = path.read_text()
    if harm == "damaged":
        path.write_text(text.replace("2000", "3000"))
    elif harm == "newer":
        path.write_text(re.sub('"schema": [12]', '"schema": 3', text))
    else:
        path.unlink()
        if harm == "directory":
            path.mkdir()
        else:
            path.symlink_to("nowhere")
            path.with_suffix(".journal").unlink()
    slug = {"damaged": "channel-damaged", "newer": "channel-schema", "gone": "file-missing"}.get(
        harm, "read-failed"
    )
    done = look(pair.payee, pair.chain)
    assert told(done) == [(slug, False), (None, True)]
    assert done.exit_code == 7
    assert done.findings[0].result(0.0).channel == first[:16]
    assert done.findings[0].result(0.0).role is None


class Harmed(EmbeddedChain):
    """A chain that fails where it is told to."""

    bad: str | None = None
    dead = False
    error = ChainError("pruned", "the node no longer has block 7")

    def tip(self) -> ChainTip:
        if self.dead:
            raise ChainError("unreachable", "cannot reach a node")
        return super().tip()

    def output(self, outpoint: OutPoint, *, not_before: LockTime | None = None) -> OutputStatus | None:
        if f"{outpoint.txid}-{outpoint.vout}" == self.bad:
            raise self.error
        return super().outputs({outpoint: not_before}).get(outpoint)

    def outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        found = {outpoint: self.output(outpoint) for outpoint in asked}
        return {outpoint: status for outpoint, status in found.items() if status is not None}

    def broadcast(self, transaction: Transaction) -> None:
        source = transaction.inputs[0].outpoint
        if f"broadcast {source.txid}-{source.vout}" == self.bad:
            reject(transaction, "min relay fee not met")
        super().broadcast(transaction)


@pytest.fixture
def harmed(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    """The same on a chain that can be made to fail."""
    with Harmed(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain)


@pytest.mark.parametrize("prefix", ["", "broadcast "])
def test_a_question_or_a_broadcast_that_fails_stops_no_other_channel(harmed: Pair, prefix: str) -> None:
    first, _ = two_settled(harmed)
    harmed.chain.bad = prefix + first
    done = look(harmed.payee, harmed.chain)
    assert told(done) == [("rejected" if prefix else "pruned", False), (None, True)]
    assert (done.exit_code, done.alarm, done.whole) == (8, None, True)
    harmed.chain.bad = None
    assert told(look(harmed.payee, harmed.chain)) == [(None, True), (None, False)]


def test_a_mistake_of_ours_stops_no_other_channel(harmed: Pair) -> None:
    first, _ = two_settled(harmed)
    harmed.chain.bad, harmed.chain.error = first, ZeroDivisionError("oh")
    done = look(harmed.payee, harmed.chain)
    assert told(done) == [("bug", False), (None, True)]
    assert done.exit_code == 1


def test_a_chain_out_of_reach_ends_the_round(harmed: Pair) -> None:
    two_settled(harmed)
    harmed.chain.dead = True
    done = look(harmed.payee, harmed.chain)
    assert (done.findings, done.tip, done.exit_code) == ((), None, 8)
    assert done.result(0.0).alarm == "unreachable"
    harmed.chain.dead = False

    class Dying(Harmed):
        def output(self, outpoint: OutPoint, *, not_before: LockTime | None = None) -> OutputStatus | None:
            self.dead = True
            raise ChainError("unreachable", "cannot reach a node")

    with Dying(harmed.chain.directory) as dying:
        done = look(harmed.payee, dying)
        assert (done.findings, done.exit_code, done.whole) == ((), 8, False)
        assert done.result(0.0).alarm == "unreachable"
    assert told(look(harmed.payee, harmed.chain)) == [(None, True), (None, True)]


def test_a_chain_that_goes_out_of_reach_in_a_round_ends_it(harmed: Pair) -> None:
    two_settled(harmed)

    class Dying(Harmed):
        def broadcast(self, transaction: Transaction) -> None:
            self.dead = True
            raise ChainError("unreachable", "cannot reach a node")

    with Dying(harmed.chain.directory) as dying:
        done = look(harmed.payee, dying)
        assert told(done) == [("unreachable", False)]  # the second one was not even tried
        assert (done.exit_code, done.whole) == (8, False)
    assert told(look(harmed.payee, harmed.chain)) == [(None, True), (None, True)]


def test_a_locked_channel_waits_for_the_next_round(pair: Pair) -> None:
    first, _ = two_settled(pair)
    pair.payee.channels.patience = 0.01
    watching = watcher(pair.payee, pair.chain)
    watching._wallet.channels.patience = 0.01
    with pair.payee.channels.lock(first):
        for number in range(1, STUBBORN_ROUNDS + 1):
            done = watching.round(lambda finding: None)
            stubborn = "locked" if number >= STUBBORN_ROUNDS else None
            assert told(done) == [(stubborn, False), (None, number == 1)]
            assert done.findings[0].why.startswith("put off: ")
        hasty = watcher(pair.payee, pair.chain, once=True)
        hasty._wallet.channels.patience = 0.01
        assert told(hasty.round(lambda finding: None))[0] == ("locked", False)
    assert told(watching.round(lambda finding: None)) == [(None, True), (None, False)]


def test_two_watchers_at_once_do_no_harm(pair: Pair) -> None:
    """Both decide by the same facts, then both act."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.accept(pair.settlement(name, 2000))
    one_of_them, other = (watcher(pair.payee, pair.chain) for _ in range(2))
    decided = threading.Barrier(2, timeout=60)

    def late(act: Callable[..., object]) -> Callable[..., object]:
        def acting(*arguments: object) -> object:
            decided.wait()
            return act(*arguments)

        return acting

    results: list[Round] = []

    def run(watching: Watcher) -> None:
        watching._act = late(watching._act)  # type: ignore[method-assign]
        with EmbeddedChain(pair.chain.directory) as watching._chain:
            results.append(watching.round(lambda finding: None))

    threads = [threading.Thread(target=run, args=(watching,)) for watching in (one_of_them, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(seen(done)[3], seen(done)[1]) for done in results] == [(None, "settlement")] * 2
    assert len({one(done).sent for done in results}) == 1
    assert len(pair.chain.mempool()) == 1


# what it costs, and what it leaves alone ----------------------------------------------------------


def test_a_channel_that_is_fine_is_left_alone(pair: Pair) -> None:
    """No file changes, and nothing is sent."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    before = pair.files()
    for _ in range(3):
        assert payee_sees(pair) == payer_sees(pair) == ("open", "wait", False, None)
    assert pair.files() == before
    assert pair.chain.mempool() == []


def test_the_watcher_needs_no_keys(pair: Pair) -> None:
    """All that it sends is complete on the disk."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.accept(pair.settlement(name, 2000))
    (pair.payee.directory / "keys.toml").rename(pair.directory / "keys.toml")
    assert payee_sees(pair) == ("settling", "settlement", True, None)


def test_what_has_ended_is_not_asked_about(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    pair.settle(pair.settlement(name))
    pair.chain.mine(BURIED)
    asked: list[OutPoint] = []
    outputs = EmbeddedChain.outputs

    def noting(
        self: EmbeddedChain, those: Mapping[OutPoint, LockTime | None]
    ) -> dict[OutPoint, OutputStatus]:
        asked.extend(those)
        return outputs(self, those)

    monkeypatch.setattr(EmbeddedChain, "outputs", noting)
    watching = watcher(pair.payee, pair.chain)
    for _ in range(3):
        assert seen(watching.round(lambda finding: None)) == ("closed", "wait", False, None)
    assert len(asked) == 1
    pair.payee.channels.save(pair.payee_record(name), "nothing")  # whoever writes the file wakes it up
    watching.round(lambda finding: None)
    assert len(asked) == 2
    assert snapshot(pair.payee.directory)


def test_a_file_that_has_not_changed_is_not_read_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the chain is asked about all channels in one question."""
    names = [pair.open() for _ in range(3)]
    pair.accept(pair.pay(names[0], 1000))
    read: list[str] = []
    questions: list[int] = []
    load, outputs = ChannelFiles.load, EmbeddedChain.outputs
    monkeypatch.setattr(ChannelFiles, "load", lambda self, name: (read.append(name), load(self, name))[1])
    monkeypatch.setattr(
        EmbeddedChain, "outputs", lambda self, asked: (questions.append(len(asked)), outputs(self, asked))[1]
    )
    monkeypatch.setattr(EmbeddedChain, "output", None)
    watching = watcher(pair.payee, pair.chain)
    for _ in range(3):
        watching.round(lambda finding: None)
    assert sorted(read) == sorted(names)
    assert questions == [3, 3, 3]
    pair.payee.channels.save(pair.payee_record(names[1]), "nothing")
    read.clear()
    watching.round(lambda finding: None)
    assert read == [names[1]]


def test_a_payment_in_the_same_tick_of_the_clock_is_seen(pair: Pair) -> None:
    """Times of files stand still for milliseconds, or for seconds; what was read must not count for longer."""
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    watching = watcher(pair.payee, pair.chain)
    watching.round(lambda finding: None)
    files = pair.payee.channels
    paths = [files.journal_path(name), files.state_path(name)]
    times = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    pair.accept(pair.settlement(name, 2000))
    for path in paths:
        if path.exists():
            os.utime(path, ns=(times[path], times[path]))
    assert seen(watching.round(lambda finding: None))[1:3] == ("settlement", True)


def test_a_round_stops_between_two_channels(pair: Pair) -> None:
    first, second = two_settled(pair)
    looked: list[str] = []
    watching = watcher(pair.payee, pair.chain, stop=lambda: bool(looked))
    done = watching.round(lambda finding: looked.append(finding.name))
    assert (looked, done.whole) == ([first], False)
    assert told(done) == [(None, True)]
    assert views.show(pair.payee, pair.chain, second).status == "settling"


def test_a_wallet_that_asks_no_chain_cannot_watch(pair: Pair) -> None:
    with pytest.raises(ChainError) as error:
        watcher(pair.payee, ManualChain(ChainTip(1, 0), 1))
    assert (error.value.slug, error.value.exit_code) == ("no-backend", 8)
