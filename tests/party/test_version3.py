"""Version 3 on the embedded chain: children, what waits for the funding, and a watcher that pays for what is held up.

The offers here mean version 3, whatever their own version is: see ``version3``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair
from support.pins import child_of, heir_of, version3
from support.protocol import scheme_of
from support.watch import look, one, seen

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain, mempool
from mpchan.channel import offer
from mpchan.errors import ChainError, MpchanError
from mpchan.party.coins import send
from mpchan.party.watch.bump import bump
from mpchan.units import Amount, FeeRate, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

__all__ = ["version3"]


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path, version3: None) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain)


@pytest.fixture
def plain(chain_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Channels of version 2."""
    monkeypatch.setattr(offer, "_TRANSACTION_VERSIONS", {1: 2, 2: 2})
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain)


def refused(pair: Pair, transaction: Transaction) -> str:
    with pytest.raises(ChainError) as caught:
        pair.chain.broadcast(transaction)
    return caught.value.message.partition(": ")[2]


def closed(pair: Pair, total: int = 60_000) -> tuple[str, Transaction]:
    """A channel whose settlement waits in the mempool."""
    name = pair.open()
    done = pair.settle(pair.settlement(name, total))
    return name, Transaction.from_hex(done.hex)


def claimed(pair: Pair, paid: int = 40_000) -> tuple[str, Transaction]:
    """A channel at L_0, whose update the watcher has just sent."""
    name = pair.open()
    pair.accept(pair.pay(name, paid))
    pair.mine_to(scheme_of(pair.terms(name)).deadline.value)
    assert seen(look(pair.payee, pair.chain))[1:] == ("update", True, None)
    return name, pair.payee_record(name).state.active.best.transaction


def confirmations(pair: Pair, transaction: Transaction) -> int:
    found = pair.chain.transaction(transaction.txid)
    return 0 if found is None else found[1]


# children -----------------------------------------------------------------------------------------


def test_children_have_the_version_of_their_parent(pair: Pair) -> None:
    """That of the funding too: it is of version 2."""
    request = pair.request()
    pair.fund(pair.sign_refund(request.hex))
    name = f"{request.funding_txid}-0"
    assert Transaction.from_hex(bump(pair.payer, pair.chain, name, FeeRate(9_000)).hex).version == 2
    pair.chain.mine(1)
    close = Transaction.from_hex(pair.settle(pair.settlement(name, 60_000)).hex)
    done = bump(pair.payee, pair.chain, name, FeeRate(9_000))
    child = Transaction.from_hex(done.hex)
    assert (close.version, child.version) == (3, 3)
    pair.chain.mine(1)
    assert confirmations(pair, child) == 1


def test_children_in_an_older_channel_keep_version_2(plain: Pair) -> None:
    name, close = closed(plain)
    child = Transaction.from_hex(bump(plain.payee, plain.chain, name, FeeRate(9_000)).hex)
    assert (close.version, child.version) == (2, 2)


def test_a_child_has_room_for_a_dozen_more_coins(pair: Pair) -> None:
    """1,000 virtual bytes; what that cannot pay is refused, and names why."""
    for _ in range(16):
        give(pair, pair.payee, 15_000)
    name, _ = closed(pair, 1_000)
    with pytest.raises(MpchanError) as caught:
        bump(pair.payee, pair.chain, name, FeeRate(190_000))
    assert caught.value.slug == "not-enough-funds"
    assert "no room for more coins" in (caught.value.hint or "")
    done = bump(pair.payee, pair.chain, name, FeeRate(160_000))
    child = Transaction.from_hex(done.hex)
    assert len(child.inputs) == 12
    assert 850 < child.vsize <= 1_000
    assert child.txid in pair.chain.mempool()


def give(pair: Pair, wallet: Wallet, amount: int) -> None:
    from mpchan.bitcoin.address import address_to_script
    from mpchan.party import views

    script = address_to_script(views.fresh_address(wallet).address, wallet.network)
    pair.chain.faucet(script, Amount(amount))
    pair.chain.mine(1)


def test_payouts_of_a_close_cannot_be_spent_by_other_wallets_before_it_is_confirmed(pair: Pair) -> None:
    _, close = closed(pair)
    assert refused(pair, child_of(pair.payee, close, 500, version=2)).startswith("TRUC-violation")
    script = close.outputs[1].script_pubkey
    with pytest.raises(MpchanError) as caught:
        send(pair.payee, pair.chain, script, Amount(10_000))
    assert caught.value.slug == "not-enough-funds"


# while the funding is in no block -----------------------------------------------------------------


def test_a_cancel_before_the_funding_is_confirmed_waits_for_its_block(pair: Pair) -> None:
    """Settle says so, the settlement is kept, and the watcher sends it in the first round after the block."""
    request = pair.request()
    pair.fund(pair.sign_refund(request.hex))
    name = f"{request.funding_txid}-0"
    message = pair.settlement(name)
    for again in (message, message, None):
        with pytest.raises(MpchanError) as caught:
            pair.settle(again) if again else pair.settle(name=name)
        assert (caught.value.slug, caught.value.exit_code) == ("funding-unconfirmed", 6)
    with pytest.raises(MpchanError) as caught:
        bump(pair.payee, pair.chain, name, FeeRate(9_000))
    assert (caught.value.slug, caught.value.exit_code) == ("funding-unconfirmed", 6)
    assert seen(look(pair.payee, pair.chain)) == ("settling", "wait", False, None)
    pair.chain.mine(1)
    assert seen(look(pair.payee, pair.chain)) == ("settling", "settlement", True, None)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_an_older_channel_is_cancelled_at_once(plain: Pair) -> None:
    request = plain.request()
    plain.fund(plain.sign_refund(request.hex))
    message = plain.settlement(f"{request.funding_txid}-0")
    assert plain.settle(message).broadcast is True
    plain.chain.mine(1)
    assert plain.status(f"{request.funding_txid}-0") == ("closed", "closed")


def test_a_payment_is_not_taken_before_the_funding_is_confirmed(pair: Pair) -> None:
    """Only a settlement that pays nothing may come so early."""
    request = pair.request()
    pair.fund(pair.sign_refund(request.hex))
    name = f"{request.funding_txid}-0"
    with pytest.raises(MpchanError) as caught:
        pair.settlement(name, 1_000)
    assert caught.value.slug == "unconfirmed"


def test_a_refund_waits_for_the_funding_that_a_reorganisation_took_out(pair: Pair) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    with pair.chain.engine():
        depth = pair.chain.output(pair.terms(name).outpoint).confirmations
        pair.chain.reorganise(depth, [])
    assert pair.chain.output(pair.terms(name).outpoint).confirmations == 0
    before = pair.files()
    with pytest.raises(MpchanError) as caught:
        pair.refund(name)
    assert (caught.value.slug, caught.value.exit_code) == ("funding-unconfirmed", 6)
    assert pair.files() == before
    assert seen(look(pair.payer, pair.chain))[1:] == ("wait", False, None)
    pair.chain.mine(1)
    assert seen(look(pair.payer, pair.chain)) == ("refunding", "refund", True, None)


# pins ---------------------------------------------------------------------------------------------


def test_the_pin_of_version_2_works_and_of_version_3_does_not(plain: Pair) -> None:
    """63 children of the payer keep the payee's own out."""
    name, close = closed(plain)
    child = child_of(plain.payer, close, 200, version=2)
    for _ in range(63):
        plain.chain.broadcast(child)
        child = heir_of(plain.payer, child, 12 * 11)
    with pytest.raises(ChainError) as caught:
        bump(plain.payee, plain.chain, name, FeeRate(20_000))
    assert "too-large-cluster" in caught.value.message


@pytest.mark.parametrize(("fee", "vsize"), [(300, 110), (2_500, 990), (8_700, 983)])
@pytest.mark.parametrize("attacker", ["payer", "payee"])
def test_a_bump_takes_the_place_of_a_child_that_holds_the_close_up(
    pair: Pair, attacker: str, fee: int, vsize: int
) -> None:
    """63. Neither party can keep the other's child out, whatever it puts there."""
    name, close = closed(pair)
    theirs, ours = (pair.payer, pair.payee) if attacker == "payer" else (pair.payee, pair.payer)
    pinned = child_of(theirs, close, fee, vsize=vsize)
    pair.chain.broadcast(pinned)
    assert refused(pair, heir_of(theirs, pinned, 300)).startswith("TRUC-violation")
    done = bump(ours, pair.chain, name, FeeRate(20_000))
    child = Transaction.from_hex(done.hex)
    assert pair.chain.mempool() == [close.txid, child.txid]
    assert done.fee_rate_sat_per_kvb >= 20_000
    assert done.fee_sat >= fee + child.vsize
    pair.chain.mine(1)
    assert (confirmations(pair, close), confirmations(pair, child)) == (1, 1)


def test_a_bump_that_the_other_partys_child_makes_needless(pair: Pair) -> None:
    name, close = closed(pair)
    pair.chain.broadcast(child_of(pair.payer, close, 20_000))
    before = pair.files()
    with pytest.raises(MpchanError) as caught:
        bump(pair.payee, pair.chain, name, FeeRate(20_000))
    assert (caught.value.slug, pair.files()) == ("bump-needless", before)


def test_a_bump_never_pays_above_the_limit_to_outbid(pair: Pair) -> None:
    name, close = closed(pair)
    pair.chain.broadcast(child_of(pair.payer, close, 39_000, vsize=983))
    pair.payee.config = replace(
        pair.payee.config, limits=replace(pair.payee.config.limits, max_bump_fee_rate=FeeRate(110_000))
    )
    before = pair.files()
    with pytest.raises(MpchanError) as caught:
        bump(pair.payee, pair.chain, name, FeeRate(36_000))
    assert (caught.value.slug, pair.files()) == ("fee-rate-high", before)


# the watcher --------------------------------------------------------------------------------------


def test_the_watcher_raises_what_no_block_takes_from_l0_on(pair: Pair) -> None:
    """64. By half a block; what miners take is in no estimate. The blocks here are empty."""
    name, close = claimed(pair)
    rates = []
    while not pair.terms(name).refund_lock_time.is_final(pair.chain.tip()):
        assert pair.chain.submit_block_with([]) is None
        finding = one(look(pair.payee, pair.chain))
        assert (finding.status, finding.deed.value) == ("settling", "bump")
        assert finding.alarm is None or finding.alarm.slug == "close-unconfirmed"
        rates.append(rate(pair, close, finding.sent))
    assert [round(each / 1000) for each in rates] == [3, 4, 7, 10, 15, 23]
    pair.chain.mine(1)
    assert confirmations(pair, close) == 1


def rate(pair: Pair, close: Transaction, txid: str | None) -> int:
    """What close and child pay together, in sat/kvB."""
    assert txid is not None
    found = pair.chain.transaction(Txid.from_hex(txid))
    assert found is not None
    [output] = found[0].outputs
    fee = pair.chain.output(OutPoint(close.txid, 1)).output.value.sat - output.value.sat
    return (fee + 338) * 1000 // (169 + CHILD)


CHILD = 110


def test_a_watcher_that_wakes_up_late_does_not_pay_for_the_blocks_that_it_slept_through(pair: Pair) -> None:
    """It first offers its close at the estimate; a block that comes without it then is a reason to pay for all."""
    name = pair.open(settle_window=144, min_refund_delay=163, max_refund_delay=400)
    pair.accept(pair.pay(name, 40_000))
    deadline = scheme_of(pair.terms(name)).deadline.value
    pair.mine_to(deadline + 60)
    assert seen(look(pair.payee, pair.chain)) == ("settling", "update", True, None)
    close = pair.payee_record(name).state.active.best.transaction
    assert pair.chain.mempool() == [close.txid]
    assert pair.chain.submit_block_with([]) is None
    half = rate(pair, close, one(look(pair.payee, pair.chain)).sent)
    assert half == (20_000 + 338) * 1000 // (169 + CHILD)  # of what is at stake, until time presses
    assert seen(look(pair.payee, pair.chain)) == ("settling", "wait", False, "bump-capped")
    while pair.chain.tip().height < deadline + 108:
        assert pair.chain.submit_block_with([]) is None
    late = one(look(pair.payee, pair.chain))
    assert (late.deed.value, late.sent is not None) == ("bump", True)
    assert rate(pair, close, late.sent) > 130_000  # all that is at stake, now that time presses


def test_before_l0_the_watcher_pays_the_estimate_and_no_more(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = pair.open()
    message = pair.settlement(name, 60_000)
    pair.accept(message)
    monkeypatch.setattr(mempool, "MIN_FEE_RATE", FeeRate(5_000))
    finding = one(look(pair.payee, pair.chain))
    assert (finding.deed.value, finding.status, finding.alarm) == ("settlement", "settling", None)
    close = pair.payee_record(name).state.settlement.transaction
    assert len(pair.chain.mempool()) == 2  # together, at once: alone it is refused
    for _ in range(3):
        assert pair.chain.submit_block_with([]) is None
        assert seen(look(pair.payee, pair.chain)) == ("settling", "wait", False, None)
    pair.chain.mine(1)
    assert confirmations(pair, close) == 1


def test_the_watcher_outbids_a_child_that_pays_too_little_and_leaves_one_that_pays(pair: Pair) -> None:
    _, close = closed(pair)
    large = child_of(pair.payer, close, 1_000, vsize=900)
    pair.chain.broadcast(large)
    assert (338 + 1_000) / (169 + large.vsize) < 2
    assert seen(look(pair.payee, pair.chain)) == ("settling", "bump", True, None)
    assert large.txid not in pair.chain.mempool()
    enough = child_of(pair.payer, close, 1_500)
    pair.chain.broadcast(enough)
    assert seen(look(pair.payee, pair.chain)) == ("settling", "wait", False, None)
    assert enough.txid in pair.chain.mempool()


def test_two_automatic_bidders_end_at_their_caps(pair: Pair) -> None:
    """Payee and payer outbid each other, none above half of its stake, and all of it only at the end."""
    name, close = claimed(pair, 60_000)
    stakes = {output.script_pubkey: output.value.sat for output in close.outputs}
    highest = 0
    while not pair.terms(name).refund_lock_time.is_final(pair.chain.tip()):
        assert pair.chain.submit_block_with([]) is None
        for wallet in (pair.payer, pair.payee, pair.payer, pair.payee):
            look(wallet, pair.chain)
            for txid in set(pair.chain.mempool()) - {close.txid}:
                found = pair.chain.transaction(txid)
                assert found is not None
                [output] = found[0].outputs
                paid = stakes[output.script_pubkey] - output.value.sat
                assert paid <= stakes[output.script_pubkey] // 2
                highest = max(highest, paid)
        assert len(pair.chain.mempool()) == 2
    assert highest > 1_000
    pair.chain.mine(1)
    assert confirmations(pair, close) == 1


def test_the_cap_is_half_of_the_stake_and_all_of_it_at_the_end(pair: Pair) -> None:
    name, _ = claimed(pair, 2_000)
    fees = []
    refund = pair.terms(name).refund_lock_time
    while not refund.is_final(pair.chain.tip()):
        assert pair.chain.submit_block_with([]) is None
        finding = one(look(pair.payee, pair.chain))
        if finding.sent is not None:
            found = pair.chain.transaction(Txid.from_hex(finding.sent))
            assert found is not None
            left = refund.value - pair.chain.tip().height
            fees.append((left, 2_000 - found[0].outputs[0].value.sat))
    assert max(fee for left, fee in fees if left > 1) <= 1_000
    assert fees[-1] == (1, 2_000 - 294) or fees[-1] == (0, 2_000 - 294)
    assert one(look(pair.payee, pair.chain)).alarm is not None


def test_the_refund_is_contested_with_a_child(pair: Pair) -> None:
    """The payee was away for the whole settle window: close and child take the place of the refund and its child."""
    name = pair.open()
    pair.accept(pair.pay(name, 40_000))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    bump(pair.payer, pair.chain, name, FeeRate(20_000))
    refund, child = pair.chain.mempool()
    assert seen(look(pair.payee, pair.chain)) == ("settling", "update", True, "refund-seen")
    assert not {refund, child} & set(pair.chain.mempool())
    assert seen(look(pair.payer, pair.chain))[1:] == ("wait", False, None)  # never bid against a close
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_the_refund_is_paid_for_and_never_bid_against_a_close(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    monkeypatch.setattr(mempool, "MIN_FEE_RATE", FeeRate(10_000))
    assert seen(look(pair.payer, pair.chain)) == ("refunding", "refund", True, None)
    assert len(pair.chain.mempool()) == 2
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


def test_a_child_without_a_note_is_known_by_where_it_pays(pair: Pair) -> None:
    """The disk was full when the watcher made it."""
    name, close = closed(pair)
    child = child_of(pair.payee, close, 900)
    pair.chain.broadcast(child)
    done = bump(pair.payee, pair.chain, name, FeeRate(20_000))
    assert done.fee_sat > 900
    assert Transaction.from_hex(done.hex).inputs[0].outpoint == child.inputs[0].outpoint
