"""How a taproot channel ends when the other party, or a server, does what it can: each party gets what is its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.encrypted import CHEAP
from support.leaves import STRANGERS_SCRIPT, by_leaf, taken_back, tree_of
from support.party import Pair, balance_sat, psbt
from support.protocol import STRANGER_SECRET
from support.watch import hours_later, look, seen

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import OutputStatus, Spend
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.channel.facts import Facts, Status
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError
from mpchan.party import payee, payer, syncing, views
from mpchan.party.backup import backup, restore
from mpchan.party.check import fsck, inspection, verify
from mpchan.party.history import history
from mpchan.party.watch.bump import bump
from mpchan.units import Amount, ChainTip, FeeRate, Height, LockTime, MedianTime, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain, chain.engine():
        yield Pair(tmp_path, chain, scheme="taproot")


def refused(call: object) -> MpchanError:
    with pytest.raises(MpchanError) as caught:
        call()  # type: ignore[operator]
    return caught.value


def paid(pair: Pair, amount: int = 50_000) -> str:
    name = pair.open()
    pair.accept(pair.pay(name, amount))
    return name


# a refund that is not the stored one --------------------------------------------------------------


def at_refund(pair: Pair, name: str) -> None:
    pair.mine_to(pair.payer_record(name).terms.refund_lock_time.value)


def another_refund(pair: Pair, name: str, fee: int = 5_000) -> Transaction:
    """To another script, with a later lock time and a higher fee than the stored one."""
    terms = pair.payer_record(name).terms
    output = TxOut(terms.funding_value - Amount(fee), STRANGERS_SCRIPT)
    return taken_back(terms, pair.payer_secret(name), output, lock_time=terms.refund_lock_time.value + 1)


def test_another_refund_where_nothing_was_paid(pair: Pair) -> None:
    name = pair.open()
    at_refund(pair, name)
    pair.chain.mine(1)
    pair.chain.broadcast(another_refund(pair, name))
    assert views.show(pair.payer, pair.chain, name).status == "refunding"
    error = refused(lambda: pair.refund(name))
    assert (error.slug, error.exit_code) == ("channel-refunding", 5)
    assert "another refund" in error.message
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "refunded"
    assert seen(look(pair.payer, pair.chain)) == ("refunded", "wait", False, None)


def test_another_refund_is_fought_like_the_stored_one(pair: Pair) -> None:
    """The payee's watcher, late as it is, outbids it with a child of its close."""
    name = paid(pair)
    at_refund(pair, name)
    pair.chain.mine(1)
    refund = another_refund(pair, name)
    pair.chain.broadcast(refund)
    assert pair.status(name) == ("refunding", "refunding")
    assert seen(look(pair.payee, pair.chain)) == ("settling", "update", True, "refund-seen")
    assert refund.txid not in pair.chain.mempool()
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) > 25_000


def test_another_refund_in_a_block_is_no_close(pair: Pair) -> None:
    """While it waits nobody here can verify it, for its other input; it is a refund as soon as a block has it."""
    name = paid(pair)
    pair.chain.faucet(STRANGERS_SCRIPT, Amount(20_000))
    pair.chain.mine(1)
    coin = pair.chain.coins([STRANGERS_SCRIPT])[-1]
    at_refund(pair, name)
    terms = pair.terms(name)
    output = TxOut(terms.funding_value + Amount(10_000), STRANGERS_SCRIPT)
    refund = taken_back(terms, pair.payer_secret(name), output, beside=[(coin.outpoint, coin.output)])
    pair.chain.broadcast(refund)
    assert pair.status(name) == ("open", "open")
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")
    assert seen(look(pair.payee, pair.chain)) == ("refunded", "wait", False, "refunded-unclaimed")
    assert seen(look(pair.payer, pair.chain)) == ("refunded", "wait", False, None)
    assert refused(lambda: pair.settle(name=name)).slug == "channel-refunded"
    assert refused(lambda: pair.accept(pair.pay(name, 1))).slug == "channel-refunded"


def test_a_refund_with_an_annex_is_no_close(pair: Pair) -> None:
    """No node relays it, and a miner who is paid for it puts it into a block."""
    name = paid(pair)
    at_refund(pair, name)
    terms, tip = pair.terms(name), pair.chain.tip()
    refund = another_refund(pair, name)
    assert terms.lock.takes_back(refund)
    refund = refund.with_witness(0, (*refund.inputs[0].witness, b"\x50 whatever"))
    facts = Facts(tip, terms.funding_txout, 50, refund.txid, 1, spending=refund)
    for record in (pair.payer_record(name), pair.payee_record(name)):
        assert record.status(facts) is Status.REFUNDED
    close = pair.payee_record(name).state.best.transaction
    assert not terms.lock.takes_back(close)
    annexed = close.with_witness(0, (*close.inputs[0].witness, b"\x50"))
    assert not terms.lock.takes_back(annexed)


def test_a_settlement_of_what_is_paid_is_one_whenever_it_is_sent_again(pair: Pair) -> None:
    """It is the latest update to the last byte; the same command gives the same answer."""
    name = paid(pair)
    message = pair.settlement(name)
    first = pair.settle(message)
    assert (first.kind, first.paid_sat) == ("settlement", 50_000)
    assert pair.settle(message) == first
    assert pair.settle(name=name) == first
    pair.chain.mine(1)
    assert pair.settle(message) == first


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_a_refund_so_early_that_there_is_no_l_0(pair: Pair, unit: str) -> None:
    """The payer alone has chosen it, and funded its address."""
    seconds = {
        "lock_time_unit": "seconds",
        "settle_window": 90_000,
        "min_refund_delay": 250_000,
        "max_refund_delay": 600_000,
    }
    blocks = {"settle_window": 144, "min_refund_delay": 300, "max_refund_delay": 800}
    text = pair.offer(**(seconds if unit == "seconds" else blocks))
    offer = Offer.from_toml(text).without_pieces()
    refund_at: LockTime = MedianTime(500_018_400) if unit == "seconds" else Height(36)
    key, script, value = STRANGER_SECRET.public_key, STRANGERS_SCRIPT, Amount(90_000)
    nowhere = Terms(offer, OutPoint(Txid(bytes(32)), 0), value, key, script, refund_at)
    pair.chain.faucet(nowhere.lock.script_pubkey, value)
    pair.chain.mine(1)
    [coin] = pair.chain.coins([nowhere.lock.script_pubkey])
    terms = replace(nowhere, outpoint=coin.outpoint)
    update = terms.schedule.build(terms.schedule.update(1, Amount(5_000)))
    message = terms.lock.message(update, key, terms.lock.sign_checked(STRANGER_SECRET, update)).to_hex()
    error = refused(lambda: pair.accept(message))
    assert (error.slug, error.exit_code) == ("past-deadline", 5)
    assert verify.verify(pair.payee, pair.chain, psbt(message)).error == "past-deadline"
    assert not pair.payee.channels.names()


# what a server makes up ---------------------------------------------------------------------------


def made_up(pair: Pair, name: str) -> dict[str, Transaction]:
    """Spends that nobody signed; all pay the payee more than it has."""
    terms = pair.terms(name)
    tree = tree_of(terms)
    script = terms.offer.payee_script
    bare = Transaction(3, (TxIn(terms.outpoint, 0xFFFF_FFFD),), (TxOut(Amount(90_000), script),), 0)
    beside = replace(bare, inputs=(*bare.inputs, TxIn(OutPoint(terms.outpoint.txid, 7), 0xFFFF_FFFD)))
    close = pair.payee_record(name).state.best.transaction.inputs[0].witness
    stolen = [STRANGER_SECRET, STRANGER_SECRET]
    return {
        "no witness": bare,
        "an annex": bare.with_witness(0, (bytes(64), b"\x50")),
        "the key path, with SIGHASH_SINGLE": bare.with_witness(0, (bytes(64) + b"\x03",)),
        "the signatures of another update": bare.with_witness(0, close),
        "a stranger's signatures": by_leaf(terms, tree.close, bare, stolen),
        "leaf R before its time": taken_back(terms, pair.payer_secret(name), *bare.outputs),
        "leaf R with no lock time": taken_back(terms, pair.payer_secret(name), *bare.outputs, lock_time=0),
        "beside an input that nobody knows": by_leaf(
            terms, tree.close, beside, stolen, [TxOut(Amount(1), script)]
        ),
    }


def test_67_what_a_server_makes_up_holds_up_no_close(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    name = paid(pair)
    pair.mine_to(pair.terms(name).schedule.deadline.value - 6)
    true, funding = EmbeddedChain.outputs, pair.terms(name).outpoint
    for shown in made_up(pair, name).values():
        spend = Spend(shown.txid, 0, shown)

        def outputs(
            chain: EmbeddedChain, asked: Mapping[OutPoint, LockTime | None], spend: Spend = spend
        ) -> dict[OutPoint, OutputStatus]:
            found = true(chain, asked)
            return {
                each: replace(status, spend=spend) if each == funding else status
                for each, status in found.items()
            }

        monkeypatch.setattr(EmbeddedChain, "outputs", outputs)
        assert pair.status(name) == ("open", "open")
    assert seen(look(pair.payee, pair.chain))[1:] == ("update", True, None)


# the watcher --------------------------------------------------------------------------------------


def test_the_watcher_closes_near_l_0_and_not_before(pair: Pair) -> None:
    """An update is final at any time, so that silence is no reason, unless wallet.toml says it is."""
    name = paid(pair)
    deadline = pair.terms(name).schedule.deadline.value
    silent = look(pair.payee, pair.chain, clock=hours_later(10_000))
    assert seen(silent) == ("open", "wait", False, None)
    pair.mine_to(deadline - 7)
    assert seen(look(pair.payee, pair.chain)) == ("open", "wait", False, None)
    pair.chain.mine(1)
    assert seen(look(pair.payee, pair.chain)) == ("settling", "update", True, None)
    assert seen(look(pair.payer, pair.chain)) == ("settling", "wait", False, None)
    pair.chain.mine(1)
    for wallet in (pair.payee, pair.payer):
        assert seen(look(wallet, pair.chain)) == ("closed", "wait", False, None)
    assert balance_sat(pair.payee, pair.chain) == 50_000


def test_the_watcher_closes_for_want_of_payments_where_it_is_told_to(pair: Pair) -> None:
    path = pair.payee.directory / "wallet.toml"
    path.write_text(path.read_text().replace("# claim_after =", "claim_after ="))
    paid(pair)
    assert seen(look(pair.payee, pair.chain, clock=hours_later(47)))[1] == "wait"
    assert seen(look(pair.payee, pair.chain, clock=hours_later(49)))[1:] == ("update", True, None)


def test_the_watcher_needs_no_keys(pair: Pair) -> None:
    """Neither the payee's for its close nor the payer's for its refund: both are complete on the disk."""
    name = paid(pair)
    other = pair.open()
    for wallet in (pair.payer, pair.payee):
        (wallet.directory / "keys.toml").unlink()
    pair.mine_to(pair.payer_record(name).terms.schedule.deadline.value)
    assert seen(look(pair.payee, pair.chain))[1:3] == ("update", True)
    pair.chain.mine(1)
    pair.mine_to(pair.payer_record(other).terms.refund_lock_time.value)
    done = look(pair.payer, pair.chain)
    assert [finding.deed.value for finding in done.findings if finding.sent] == ["refund"]
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, other).status == "refunded"


# late, and from an older copy ----------------------------------------------------------------------


@pytest.mark.parametrize("best", [0, 1_000])
def test_a_payment_that_comes_after_l_0_is_pending(pair: Pair, best: int) -> None:
    """Be it the first: ``accept`` refuses it and says what takes it, and that counts nothing before a block has it."""
    name = pair.open()
    if best:
        pair.accept(pair.pay(name, best))
    late = pair.pay(name, 5_000)
    pair.mine_to(pair.payer_record(name).terms.schedule.deadline.value)
    error = refused(lambda: pair.accept(late))
    assert (error.slug, error.exit_code) == ("past-deadline", 5)
    assert "`mpchan payee settle` FILE" in (error.hint or "")
    closed = pair.settle(late)
    assert (closed.paid_sat, closed.pending_sat, closed.broadcast) == (best, 5_000, True)
    assert views.show(pair.payee, pair.chain, name).pending_sat == 5_000
    pair.chain.mine(1)
    shown = views.show(pair.payee, pair.chain, name)
    assert (shown.status, shown.paid_sat, shown.pending_sat) == ("closed", best + 5_000, 0)


def test_an_older_copy_of_the_payer_goes_on_after_a_sync(pair: Pair, tmp_path: Path) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1_000))
    backup(pair.payer, tmp_path / "payer.backup")
    pair.accept(pair.pay(name, 500))
    restore((tmp_path / "payer.backup").read_bytes(), tmp_path / "again")
    pair.payer = Wallet.open(tmp_path / "again")
    assert refused(lambda: pair.pay(name, 1)).slug == "needs-sync"
    latest = syncing.export_latest(pair.payee, name)
    synced = syncing.sync(pair.payer, psbt(latest.hex))
    assert (synced.paid_sat, synced.changed) == (1_500, True)
    assert pair.accept(pair.pay(name, 250)).paid_sat == 1_750
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert pair.refund(name).broadcast


def test_an_older_copy_of_the_payee_takes_what_it_had_and_what_is_new(pair: Pair, tmp_path: Path) -> None:
    """A channel that the copy knows nothing of, too: a payee's signature cannot hurt it here."""
    held = pair.open()
    pair.accept(pair.pay(held, 1_000))
    offer = pair.offer()
    backup(pair.payee, tmp_path / "payee.backup")
    pair.coin()
    request = pair.request(offer=offer)
    fresh = f"{request.funding_txid}-{request.funding_vout}"
    pair.chain.mine(1)
    pair.accept(pair.pay(fresh, 2_000))
    restore((tmp_path / "payee.backup").read_bytes(), tmp_path / "again")
    pair.payee = Wallet.open(tmp_path / "again")
    assert pair.accept(pair.pay(held, 500)).paid_sat == 1_500
    assert pair.accept(pair.pay(fresh, 500)).paid_sat == 2_500
    for name in (held, fresh):
        assert pair.settle(name=name).broadcast


# what a wallet has stored with a bad signature -----------------------------------------------------


def test_fsck_signs_again(pair: Pair) -> None:
    """The payer its refund, for which it needs nobody; the payee its close, with the payer's signature that it has."""
    name = paid(pair)
    payers, payees = pair.payer_record(name), pair.payee_record(name)
    refund, best = payers.state.refund, payees.state.best
    lost = refund.with_witness(0, (bytes(64), *refund.inputs[0].witness[1:]))
    pair.payer.channels.save(replace(payers, state=replace(payers.state, refund=lost)), "note")
    witness = best.transaction.inputs[0].witness
    bad = best.transaction.with_witness(0, (bytes(64), *witness[1:]))
    state = replace(payees.state, best=replace(best, transaction=bad))
    pair.payee.channels.save(replace(payees, state=state), "note")
    for wallet in (pair.payer, pair.payee):
        assert fsck.fsck(wallet).exit_code == 7
        assert fsck.fsck(wallet, repair=True).exit_code == 0
        assert fsck.fsck(wallet).exit_code == 0
    assert pair.payer_record(name).state.refund == refund
    assert pair.payee_record(name).state.best == best


# what is told ---------------------------------------------------------------------------------------


def test_encrypted_keys(pair: Pair) -> None:
    """Without the passphrase the first payment's token cannot be judged; a later one needs no key to be judged."""
    held = paid(pair, 1_000)
    pair.coin()
    first, later = psbt(pair.pay(pair.open(), 5_000)), psbt(pair.pay(held, 500))
    pair.payee.keys.encrypt("correct horse", CHEAP)
    pair.payee = Wallet.open(pair.payee.directory)
    before = pair.files()
    said = verify.verify(pair.payee, pair.chain, first)
    assert (said.accepted, said.error, said.exit_code) == (None, "passphrase-needed", 7)
    assert verify.verify(pair.payee, pair.chain, later).accepted is True
    assert refused(lambda: pair.accept(first.to_hex())).slug == "passphrase-needed"
    assert refused(lambda: pair.accept(later.to_hex())).slug == "passphrase-needed"
    assert pair.files() == before
    pair.mine_to(pair.payee_record(held).terms.schedule.deadline.value)
    done = look(pair.payee, pair.chain)
    assert [finding.deed.value for finding in done.findings if finding.sent] == ["update"]


def test_every_view_of_both_parties(pair: Pair) -> None:
    name = paid(pair, 1_000)
    message = pair.pay(name, 500)
    described = inspection.describe(psbt(message), REGTEST)
    [signer] = described.inputs[0].tap_script_sigs
    assert (described.signatures, signer[:64]) == (1, pair.terms(name).payer_key.x_only.hex())
    refund, close = pair.payer_record(name).state.refund, pair.payee_record(name).state.best.transaction
    assert [inspection.describe(each, REGTEST).signatures for each in (refund, close)] == [1, 2]
    pair.accept(message)
    for wallet in (pair.payer, pair.payee):
        [line] = views.list_channels(wallet, pair.chain, lambda *_: None).channels
        shown = views.show(wallet, pair.chain, name)
        assert (line.paid_sat, shown.paid_sat, shown.status, shown.scheme) == (
            1_500,
            1_500,
            "open",
            "taproot",
        )
        told = [event.event for event in history(wallet, name).events]
        assert told[0] in ("opened", "funded", "brought"), told
        assert len(told) >= 3


# bumps, and where no chain is asked ------------------------------------------------------------------


def test_the_payer_bumps_its_funding_and_its_refund(pair: Pair) -> None:
    request = pair.request()
    name = f"{request.funding_txid}-{request.funding_vout}"
    assert bump(pair.payer, pair.chain, name, FeeRate(9_000)).kind == "funding"
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "open"
    pair.mine_to(pair.payer_record(name).terms.refund_lock_time.value)
    pair.refund(name)
    assert bump(pair.payer, pair.chain, name, FeeRate(9_000)).kind == "refund"
    assert len(pair.chain.mempool()) == 2
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "refunded"


def test_where_the_user_says_what_the_chain_shows(pair: Pair) -> None:
    """The first payment is taken on the user's word, and close and refund are made for others to send."""
    name = pair.open()
    message = pair.pay(name, 5_000)
    terms = pair.payer_record(name).terms
    now = pair.chain.tip()
    early = ManualChain(now, 0)
    assert refused(lambda: payee.accept(pair.payee, early, psbt(message))).slug == "unconfirmed"
    assert not pair.payee.channels.names()
    stated = ManualChain(now, 1)
    assert payee.accept(pair.payee, stated, psbt(message)).paid_sat == 5_000
    closed = payee.settle(pair.payee, stated, None, name)
    assert (closed.paid_sat, closed.broadcast) == (5_000, False)
    locked = ManualChain(ChainTip(terms.refund_lock_time.value - 1, now.median_time), 1)
    assert refused(lambda: payer.refund(pair.payer, locked, name)).slug == "refund-locked"
    final = ManualChain(ChainTip(terms.refund_lock_time.value, now.median_time), 1)
    refund = payer.refund(pair.payer, final, name)
    assert not refund.broadcast
    assert not pair.chain.mempool()
    pair.chain.broadcast(Transaction.from_hex(closed.hex))
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
