"""Openings that any wallet funds by paying an address: what comes there, and how each of it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import SHORT, Pair, psbt, snapshot

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError
from mpchan.party import backup, payer, views
from mpchan.party.check import fsck
from mpchan.party.opening.again import open_again
from mpchan.party.opening.awaited import open_by_address, take_funding
from mpchan.party.opening.recover import recover
from mpchan.party.syncing import export_latest, nothing_newer, sync
from mpchan.party.watch.watcher import Watcher
from mpchan.results.opening import Payable
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.payer_record import Asked
from mpchan.wallet.wallet import Wallet


class Awaiting(Pair):
    """A payer whose wallet has no coin, a payee, and strangers who pay addresses."""

    def __init__(self, directory: Path, chain: EmbeddedChain) -> None:
        super().__init__(directory, chain, coins=0, scheme="taproot")
        self.offer_text = self.offer()

    @property
    def offer_id(self) -> str:
        return Offer.from_toml(self.offer_text).offer_id

    def look(self, capacity: int | None = None, **options: object) -> Payable:
        amount = None if capacity is None else Amount(capacity)
        offer = Offer.from_toml(self.offer_text)
        return open_by_address(self.payer, self.chain, offer, amount, Asked(), **options)  # type: ignore[arg-type]

    def stranger_pays(self, amount: int, address: str | None = None) -> OutPoint:
        script = address_to_script(address or self.look().address, REGTEST)
        return paid(self.chain, script, amount)

    def whats(self) -> list[str]:
        return [arrival.what for arrival in self.look().arrived]

    def refunded(self, name: str) -> bool:
        terms = self.payer_record(name).terms
        self.mine_to(terms.refund_lock_time.value)
        done = payer.refund(self.payer, self.chain, name)
        self.chain.mine(1)
        return done.broadcast and views.show(self.payer, self.chain, name).status == "refunded"


def paid(chain: EmbeddedChain, script: bytes, amount: int) -> OutPoint:
    """Money from somewhere, which waits in the mempool."""
    txid = chain.faucet(script, Amount(amount))
    scripts = [output.script_pubkey for output in transaction_of(chain, txid).outputs]
    return OutPoint(txid, scripts.index(script))


def transaction_of(chain: EmbeddedChain, txid: Txid) -> Transaction:
    found = chain.transaction(txid)
    assert found is not None
    return found[0]


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Awaiting]:
    with EmbeddedChain(chain_directory) as chain:
        yield Awaiting(tmp_path, chain)


def refused(call: object) -> tuple[str, int]:
    with pytest.raises(MpchanError) as caught:
        call()  # type: ignore[operator]
    return caught.value.slug, caught.value.exit_code


def slugs(view: Payable) -> list[str]:
    return [warning.partition(":")[0] for warning in view.warnings]


def test_a_stranger_pays_and_the_channel_is_there(pair: Awaiting) -> None:
    first = pair.look(100_000)
    assert first.arrived == ()
    assert first.amount_sat is not None
    assert f"amount=0.00{first.amount_sat}" in first.uri
    files = snapshot(pair.payer.directory)
    pair.chain.mine(35)  # L_refund stays what it was; one more may be too late to pay
    assert pair.look(100_000) == first
    assert snapshot(pair.payer.directory) == files
    outpoint = pair.stranger_pays(first.amount_sat)
    [arrival] = pair.look().arrived
    assert (arrival.what, arrival.outpoint, arrival.confirmations) == ("channel", str(outpoint), 0)
    record = pair.payer_record(outpoint.name)
    assert (record.terms.capacity.sat, record.has_external_funding) == (100_000, True)
    pair.chain.mine(1)
    assert pair.accept(pair.pay(outpoint.name, 5_000)).paid_sat == 5_000
    assert views.show(pair.payer, pair.chain, pair.offer_id).channel == arrival.channel
    assert fsck.fsck(pair.payer).exit_code == 0
    assert pair.settle(name=outpoint.name).broadcast
    pair.chain.mine(1)
    assert pair.status(outpoint.name) == ("closed", "closed")


def test_a_payment_is_the_first_look_at_what_came(pair: Awaiting) -> None:
    """Nobody need run another command first; and a payment by the offer's id finds its channel too."""
    address = pair.look(50_000).address
    assert refused(lambda: payer.pay(pair.payer, pair.chain, None, Amount(1_000))) == ("no-channel", 5)
    outpoint = pair.stranger_pays(pair.look().most_sat, address)
    pair.chain.mine(1)
    assert payer.pay(pair.payer, pair.chain, None, Amount(1_000)).channel == outpoint.name[:16]
    assert payer.settle(pair.payer, pair.chain, pair.offer_id).channel == outpoint.name[:16]


def test_without_an_amount_the_uri_names_none(pair: Awaiting) -> None:
    view = pair.look()
    assert view.amount_sat is None
    assert "amount=" not in view.uri
    outpoint = pair.stranger_pays(view.least_sat)
    assert pair.whats() == ["channel"]
    assert pair.payer_record(outpoint.name).terms.capacity.sat == 1_000


@pytest.mark.parametrize(("over", "what"), [(-1, "too-little"), (1, "too-much")])
def test_another_amount_than_the_offer_allows_comes_back(pair: Awaiting, over: int, what: str) -> None:
    pair.offer_text = pair.offer(max_capacity_sat=50_000)
    view = pair.look()
    amount = view.least_sat + over if over < 0 else view.most_sat + over
    outpoint = pair.stranger_pays(amount)
    pair.chain.mine(1)
    found = pair.look()
    assert [arrival.what for arrival in found.arrived] == [what]
    assert slugs(found) == [what]
    assert refused(lambda: pair.pay(outpoint.name, 500)) == ("refund-only", 5)
    # the address waits for a payment that fits
    assert pair.stranger_pays(view.least_sat).name in {
        OutPoint.parse(arrival.outpoint).name for arrival in pair.look().arrived if arrival.what == "channel"
    }
    before = views.balance(pair.payer, pair.chain).confirmed_sat
    assert pair.refunded(outpoint.name)
    assert views.balance(pair.payer, pair.chain).confirmed_sat - before == found.arrived[0].refund_sat


def test_a_second_payment_comes_back_and_is_no_channel(pair: Awaiting) -> None:
    view = pair.look(20_000)
    assert view.amount_sat is not None
    first = pair.stranger_pays(view.amount_sat)
    pair.look()
    second = pair.stranger_pays(view.amount_sat)
    pair.chain.mine(1)
    assert pair.whats() == ["channel", "second"]
    assert refused(lambda: pair.pay(second.name, 500)) == ("refund-only", 5)
    assert refused(lambda: payer.settle(pair.payer, pair.chain, second.name)) == ("refund-only", 5)
    paid = payer.pay(pair.payer, pair.chain, None, Amount(700))  # there is one channel to mean
    assert paid.channel == pair.payer_record(first.name).terms.channel_id
    assert fsck.fsck(pair.payer).exit_code == 0
    assert pair.refunded(second.name)


def test_of_two_at_once_the_one_that_was_asked_for_is_the_channel(pair: Awaiting) -> None:
    view = pair.look(20_000)
    assert view.amount_sat is not None
    pair.stranger_pays(view.amount_sat + 5_000, view.address)
    asked = pair.stranger_pays(view.amount_sat, view.address)
    found = pair.look()
    assert next((arrival.what, arrival.outpoint) for arrival in found.arrived) == ("channel", str(asked))


def test_dust_again_and_again_makes_no_record(pair: Awaiting) -> None:
    """A stranger who knows the address cannot fill the wallet, nor keep the channel from coming."""
    view = pair.look(20_000)
    for _ in range(12):
        pair.stranger_pays(330, view.address)
    pair.chain.mine(1)
    found = pair.look()
    assert {arrival.what for arrival in found.arrived} == {"dust"}
    assert not pair.payer.channels.names()
    assert view.amount_sat is not None
    pair.stranger_pays(view.amount_sat)
    assert pair.whats()[:2] == ["channel", "dust"]


def test_a_payment_that_is_named_before_the_chain_shows_it(pair: Awaiting, chain_directory: Path) -> None:
    view = pair.look(20_000)
    assert view.amount_sat is not None
    outpoint = pair.stranger_pays(view.amount_sat)
    transaction = transaction_of(pair.chain, outpoint.txid)
    for told in (transaction, outpoint.txid):
        found = take_funding(pair.payer, pair.chain, told, None)
        assert [arrival.outpoint for arrival in found.arrived] == [str(outpoint)]
    other = pair.chain.faucet(pair.payer.keys.script("receive", 0), Amount(1_000))
    assert refused(lambda: take_funding(pair.payer, pair.chain, other, None)) == ("no-plan", 5)
    unknown = Txid(bytes(32))
    assert refused(lambda: take_funding(pair.payer, pair.chain, unknown, None)) == ("funding-unseen", 6)


def test_after_an_abandon_what_comes_is_refunded(pair: Awaiting) -> None:
    view = pair.look(20_000)
    given_up = payer.abandon(pair.payer, pair.chain, pair.offer_id)
    assert (given_up.channel, given_up.status) == (pair.offer_id, "abandoned")
    assert view.amount_sat is not None
    outpoint = pair.stranger_pays(view.amount_sat, view.address)
    pair.chain.mine(1)
    Watcher(pair.payer, pair.chain, once=True).round(lambda finding: None)
    assert refused(lambda: pair.pay(outpoint.name, 500)) == ("refund-only", 5)
    assert pair.refunded(outpoint.name)


def test_the_watcher_finds_it_and_takes_the_refund(pair: Awaiting) -> None:
    view = pair.look(20_000)
    assert view.amount_sat is not None
    outpoint = pair.stranger_pays(view.amount_sat)
    watcher = Watcher(pair.payer, pair.chain, once=True)
    assert watcher.round(lambda finding: None).exit_code == 0
    assert pair.payer.channels.knows(outpoint)
    pair.mine_to(view.refund_lock_time)
    assert watcher.round(lambda finding: None).exit_code == 0
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, outpoint.name).status == "refunded"


def test_many_small_payments_are_told_in_few_words(pair: Awaiting) -> None:
    view = pair.look(20_000)
    for _ in range(22):
        pair.stranger_pays(330, view.address)
    found = pair.look()
    assert (len(found.arrived), len(found.warnings)) == (22, 21)


def test_a_payment_that_never_comes_is_given_up_and_counts_should_it_come_back(pair: Awaiting) -> None:
    """Named by its file, and never sent; the refund stays with what was given up."""
    view = pair.look(20_000)
    assert view.amount_sat is not None
    never = pair.stranger_pays(view.amount_sat, view.address)
    transaction = transaction_of(pair.chain, never.txid)
    other = replace(transaction, lock_time=transaction.lock_time + 1)
    outpoint = OutPoint(other.txid, never.vout)
    take_funding(pair.payer, pair.chain, other, None)
    assert pair.payer.channels.names() == [outpoint.name]
    assert payer.abandon(pair.payer, pair.chain, outpoint.name).status == "abandoned"
    assert refused(lambda: pair.pay(outpoint.name, 500))[0] == "channel-abandoned"
    assert [(each.what, each.confirmations) for each in pair.look().arrived] == [
        ("channel", 0),
        ("replaced", None),
    ]


def test_one_transaction_pays_into_two_channels(pair: Awaiting) -> None:
    """Each has its refund, also where no chain shows anything yet."""
    first = pair.look(20_000)
    pair.offer_text = pair.offer()
    second = pair.look(30_000)
    assert first.amount_sat is not None
    assert second.amount_sat is not None
    outpoint = pair.stranger_pays(first.amount_sat, first.address)
    transaction = transaction_of(pair.chain, outpoint.txid)
    also = TxOut(Amount(second.amount_sat), address_to_script(second.address, REGTEST))
    batch = replace(transaction, outputs=(*transaction.outputs, also))
    take_funding(pair.payer, pair.chain, batch, None)
    assert sorted(pair.payer.channels.names()) == [
        OutPoint(batch.txid, vout).name for vout in (outpoint.vout, len(transaction.outputs))
    ]


def test_a_named_payment_that_is_not_there_gives_way_to_what_comes(pair: Awaiting) -> None:
    view = pair.look(20_000)
    assert view.amount_sat is not None
    come = pair.stranger_pays(view.amount_sat, view.address)
    transaction = transaction_of(pair.chain, come.txid)
    other = replace(transaction, lock_time=transaction.lock_time + 1)
    take_funding(pair.payer, pair.chain, other, None)
    assert [(each.what, each.outpoint == str(come)) for each in pair.look().arrived] == [
        ("channel", True),
        ("replaced", False),
    ]


def test_what_only_comes_back_counts_with_what_its_refund_gives(pair: Awaiting) -> None:
    view = pair.look()
    pair.stranger_pays(view.least_sat - 1)
    [arrival] = pair.look().arrived
    pair.chain.mine(1)
    assert views.balance(pair.payer, pair.chain).in_channels_sat == arrival.refund_sat


def test_a_damaged_opening_is_named(pair: Awaiting) -> None:
    pair.look()
    [path] = (pair.payer.directory / "openings").glob("*.json")
    path.write_text(path.read_text().replace('"given_up":false', '"given_up":true'))
    assert refused(lambda: pair.look()) == ("opening-damaged", 7)
    checked = fsck.fsck(pair.payer)
    assert checked.exit_code == 7
    assert [subject.name for subject in checked.subjects if not subject.ok] == [pair.offer_id]


def test_list_tells_what_is_awaited(pair: Awaiting) -> None:
    view = pair.look(20_000)

    def listed() -> tuple[list[str], int]:
        told = views.list_channels(pair.payer, pair.chain, lambda name, error: pytest.fail(str(error)))
        return [line.offer_id for line in told.awaited], len(told.channels)

    assert listed() == ([pair.offer_id], 0)
    assert views.show_awaited(pair.payer, pair.chain, pair.offer_id) == view
    assert view.amount_sat is not None
    pair.stranger_pays(view.amount_sat)
    assert listed() == ([], 1)


def test_own_coins_do_not_fund_what_another_wallet_is_awaited_for(pair: Awaiting) -> None:
    pair.coin()
    pair.look(20_000)
    assert refused(lambda: pair.request(20_000, pair.offer_text)) == ("opened-otherwise", 5)
    payer.abandon(pair.payer, pair.chain, pair.offer_id)
    assert pair.request(20_000, pair.offer_text).channel


def test_another_offer_under_the_same_id_or_key_is_refused(pair: Awaiting) -> None:
    """Somebody else's copy of the offer, with a limit or made_at altered."""
    pair.look()
    for altered in (
        pair.offer_text.replace("made_at = ", "made_at = 9"),
        pair.offer_text.replace("settle_window = 6", "settle_window = 1"),
    ):
        assert altered != pair.offer_text
        offer = Offer.from_toml(altered)
        assert refused(lambda offer=offer: open_by_address(pair.payer, pair.chain, offer, None, Asked())) == (
            "wrong-offer",
            2,
        )
    renamed = Offer.from_toml(pair.offer_text.replace(pair.offer_id, "0" * 32))
    assert refused(lambda: open_by_address(pair.payer, pair.chain, renamed, None, Asked())) == (
        "payee-key",
        4,
    )


def test_paid_twice_where_this_wallet_funded_it(pair: Awaiting) -> None:
    pair.coin()
    name = pair.open(20_000)
    terms = pair.payer_record(name).terms
    second = paid(pair.chain, terms.funding_txout.script_pubkey, 7_000)
    told = open_again(pair.payer, pair.chain, second)
    assert isinstance(told, Payable)
    assert [arrival.what for arrival in told.arrived] == ["channel", "second"]
    assert open_again(pair.payer, pair.chain, second) == told
    pair.accept(pair.pay(name, 600))
    assert pair.refunded(second.name)


def test_a_backup_brings_the_opening_along(pair: Awaiting, tmp_path: Path) -> None:
    view = pair.look(20_000)
    backup.backup(pair.payer, tmp_path / "backup.json")
    restored_to = tmp_path / "restored"
    backup.restore((tmp_path / "backup.json").read_bytes(), restored_to)
    assert view.amount_sat is not None
    outpoint = pair.stranger_pays(view.amount_sat)
    pair.look()
    pair.chain.mine(1)
    pair.accept(pair.pay(outpoint.name, 5_000))
    pair.payer = Wallet.open(restored_to)
    assert pair.whats() == ["channel"]
    assert refused(lambda: pair.pay(outpoint.name, 500)) == ("needs-sync", 5)
    latest = export_latest(pair.payee, outpoint.name).hex

    assert sync(pair.payer, psbt(latest)).paid_sat == 5_000
    assert pair.accept(pair.pay(outpoint.name, 500)).paid_sat == 5_500


def words_alone(pair: Pair, directory: Path) -> Wallet:
    return Wallet.create(directory, REGTEST, ChainConfig(), pair.payer.keys.seed_words())


def test_recovered_from_words_and_offer(pair: Awaiting, tmp_path: Path) -> None:
    views.fresh_address(
        pair.payer
    )  # so that the refund of the recovered channel first pays to another address

    view = pair.look(20_000)
    assert view.amount_sat is not None
    outpoint = pair.stranger_pays(view.amount_sat)
    second = pair.stranger_pays(view.least_sat)
    pair.stranger_pays(330)
    pair.look()
    pair.chain.mine(1)
    pair.accept(pair.pay(outpoint.name, 5_000))
    pair.payer = words_alone(pair, tmp_path / "words")
    found = recover(pair.payer, pair.chain, pair.offer_text)
    assert found.looked_for < 300
    assert [(each.what, each.outpoint) for each in found.arrived][:2] == [
        ("channel", str(outpoint)),
        ("second", str(second)),
    ]
    assert [each.what for each in found.arrived][2:] == ["dust"]
    assert {each.refund_lock_time for each in found.arrived} == {view.refund_lock_time}
    files = snapshot(pair.payer.directory / "channels")
    assert recover(pair.payer, pair.chain, pair.offer_text) == found
    assert snapshot(pair.payer.directory / "channels") == files
    assert refused(lambda: pair.pay(outpoint.name, 500)) == ("needs-sync", 5)
    assert fsck.fsck(pair.payer).exit_code == 0
    # the payee gives back what was signed, and payments go on
    assert sync(pair.payer, psbt(export_latest(pair.payee, outpoint.name).hex)).paid_sat == 5_000
    assert pair.accept(pair.pay(outpoint.name, 500)).paid_sat == 5_500
    assert fsck.fsck(pair.payer).exit_code == 0
    assert pair.refunded(second.name)
    assert pair.refunded(outpoint.name)


def test_recovered_beside_a_larger_payment_of_a_stranger(pair: Awaiting, tmp_path: Path) -> None:
    """Words and offer do not tell which of the two was the channel; what was paid in does."""
    view = pair.look(20_000)
    assert view.amount_sat is not None
    name = pair.stranger_pays(view.amount_sat).name
    pair.look()
    pair.chain.mine(1)
    pair.accept(pair.pay(name, 5_000))
    other = pair.stranger_pays(60_000).name
    pair.chain.mine(1)
    pair.payer = words_alone(pair, tmp_path / "words")
    whats = {each.value_sat: each.what for each in recover(pair.payer, pair.chain, pair.offer_text).arrived}
    assert whats == {60_000: "channel", view.amount_sat: "second"}
    latest = export_latest(pair.payee, name).hex
    assert sync(pair.payer, psbt(latest)).paid_sat == 5_000
    assert not sync(pair.payer, psbt(latest)).changed
    assert pair.accept(pair.pay(name, 500)).paid_sat == 5_500
    assert pair.payer_record(other).is_refund_only
    assert fsck.fsck(pair.payer).exit_code == 0
    pair.settle(pair.settlement(name))
    assert pair.refunded(other)


@pytest.mark.parametrize("unit", ["blocks", "seconds"])
def test_recovered_and_never_paid(pair: Awaiting, tmp_path: Path, unit: str) -> None:
    pair.coin()
    if unit == "seconds":
        delays = ("settle_window", "min_refund_delay", "max_refund_delay")
        pair.offer_text = pair.offer(lock_time_unit=unit, **{key: SHORT[key] * 600 for key in delays})
    opened = pair.request(20_000, pair.offer_text)
    name = f"{opened.funding_txid}-{opened.funding_vout}"
    pair.chain.mine(1)
    pair.payer = words_alone(pair, tmp_path / "words")
    [arrival] = recover(pair.payer, pair.chain, pair.offer_text).arrived
    assert arrival.what == "channel"
    terms = pair.payer_record(name).terms
    assert (terms.refund_lock_time.unit, terms.refund_lock_time.value) == (unit, opened.refund_lock_time)
    nothing_newer(pair.payer, name)
    assert pair.accept(pair.pay(name, 700)).paid_sat == 700


def test_what_takes_the_payees_signature_is_not_recovered(chain_directory: Path, tmp_path: Path) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        text = pair.offer()
        assert refused(lambda: recover(pair.payer, chain, text)) == ("needs-refund", 5)


def test_an_offer_that_was_altered_leaves_no_endless_search(pair: Awaiting) -> None:
    altered = pair.offer_text.replace("max_refund_delay = 80", "max_refund_delay = 500000")
    assert altered != pair.offer_text
    found = recover(pair.payer, pair.chain, altered)
    assert found.looked_for == 5_000
    assert len(found.warnings) == 1
    greedy = pair.offer_text.replace("fee_rate_sat_per_kvb = 2000", "fee_rate_sat_per_kvb = 900000")
    assert greedy != pair.offer_text
    assert refused(lambda: recover(pair.payer, pair.chain, greedy)) == ("fee-rate-high", 4)
