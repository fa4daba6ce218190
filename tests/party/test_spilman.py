"""A second construction, which stands in the tests alone, goes through everything that has no business with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import spilman
from support.market.market import Market
from support.party import Pair, psbt

import mpchan
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import MpchanError
from mpchan.party import payee, payer, syncing, views
from mpchan.party.backup import backup, restore
from mpchan.party.check import fsck, verify
from mpchan.party.watch import bump
from mpchan.party.watch.watcher import Finding, Watcher
from mpchan.units import Amount, FeeRate
from mpchan.wallet.wallet import Wallet


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    spilman.register(monkeypatch)
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain)


def refused(call: object) -> tuple[str, int]:
    with pytest.raises(MpchanError) as caught:
        call()  # type: ignore[operator]
    return caught.value.slug, caught.value.exit_code


def verdict(pair: Pair, wallet: Wallet, message: str) -> tuple[str, bool | None, str | None]:
    result = verify.verify(wallet, pair.chain, psbt(message))
    return result.kind, result.accepted, result.error


def test_the_whole_story(pair: Pair) -> None:
    name = pair.open(100_000)
    assert pair.payer_record(name).terms.offer.to_dict().get("step") is None
    first = pair.pay(name, 1000)
    assert verdict(pair, pair.payee, first) == ("update", True, None)
    assert (pair.accept(first).update, pair.accept(first).duplicate) == (1, True)
    second, third = pair.pay(name, 500), pair.pay(name, 700)
    taken = pair.accept(third)
    assert (taken.update, taken.paid_sat, taken.received_sat, taken.lock_time) == (
        2,
        2200,
        1200,
        0,
    )
    assert refused(lambda: pair.accept(second)) == ("paid-lower", 4)
    assert verdict(pair, pair.payee, second) == ("update", False, "paid-lower")
    for wallet in (pair.payer, pair.payee):
        assert fsck.fsck(wallet).exit_code == 0
    shown = views.show(pair.payer, pair.chain, name)
    assert (shown.scheme, shown.updates, shown.latest_lock_time) == ("spilman", 3, 0)
    listed = views.list_channels(pair.payee, pair.chain, lambda *_: None).channels
    assert [(channel.paid_sat, channel.updates) for channel in listed] == [(2200, 2)]
    settlement = pair.settlement(name, 3000)
    closed = pair.settle(settlement)
    assert (closed.kind, closed.paid_sat, closed.broadcast) == ("settlement", 3000, True)
    pair.chain.mine(1)
    assert [
        pair.payer_record(name).status(None).value,
        views.show(pair.payee, pair.chain, name).status,
    ] == [
        "settling",
        "closed",
    ]


def test_the_payee_closes_whenever_it_likes(pair: Pair) -> None:
    """With its latest update, or with any that pays no less; and takes no other afterwards."""
    name = pair.open(100_000)
    pair.accept(pair.pay(name, 1000))
    later = pair.pay(name, 500)
    closed = pair.settle(name=name)
    assert (closed.kind, closed.paid_sat) == ("update", 1000)
    assert refused(lambda: pair.accept(later)) == ("channel-settling", 5)
    other = pair.open(50_000)
    pair.accept(pair.pay(other, 1000))
    assert pair.settle(pair.pay(other, 500)).paid_sat == 1500


def test_an_update_closes_nothing_by_being_taken(pair: Pair) -> None:
    """What the payer made as its settlement is an update of that total, for whoever accepts it."""
    name = pair.open(100_000)
    pair.accept(pair.pay(name, 1000))
    taken = pair.accept(pair.settlement(name, 4000))
    assert (taken.update, taken.paid_sat, taken.lock_time) == (2, 4000, 0)
    assert views.show(pair.payee, pair.chain, name).status == "open"
    assert pair.settle(name=name).paid_sat == 4000


def test_after_l_0_only_a_close_is_taken(pair: Pair) -> None:
    name = pair.open(100_000)
    pair.accept(pair.pay(name, 1000))
    late = pair.pay(name, 500)
    terms = pair.terms(name)
    pair.mine_to(terms.schedule.deadline.value)
    assert refused(lambda: pair.accept(late)) == ("past-deadline", 5)
    assert refused(lambda: pair.pay(name, 1)) == ("past-deadline", 5)
    closed = pair.settle(late)
    assert (closed.paid_sat, closed.pending_sat) == (1000, 500)


def test_the_refund_comes_at_its_time(pair: Pair) -> None:
    name = pair.open(100_000)
    assert refused(lambda: pair.refund(name)) == ("refund-locked", 6)
    terms = pair.terms(name)
    pair.mine_to(terms.refund_lock_time.value)
    assert pair.refund(name).broadcast is True
    assert bump.bump(pair.payer, pair.chain, name, FeeRate(9000)).kind == "refund"
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "refunded"


def test_the_watcher_closes_before_l_0(pair: Pair) -> None:
    name = pair.open(100_000)
    pair.accept(pair.pay(name, 1000))
    terms = pair.terms(name)
    pair.mine_to(terms.schedule.deadline.value - 7)
    seen: list[Finding] = []
    watcher = Watcher(pair.payee, pair.chain)
    watcher.round(seen.append)
    pair.chain.mine(1)
    watcher.round(seen.append)
    assert [(finding.deed.value, finding.sent is not None, finding.alarm) for finding in seen] == [
        ("wait", False, None),
        ("update", True, None),
    ]


def test_streams_and_single_commands_agree(pair: Pair) -> None:
    """There is no form: each payment goes the plain way, many to one fsync."""
    name = pair.open(100_000)
    with mpchan.Payer(pair.payer, name, chain=pair.chain) as paying:
        made = [each for each in paying.pay_many([1000, 5, 7]) if not isinstance(each, MpchanError)]
        assert [(each.update, each.paid_sat, each.lock_time) for each in made] == [
            (1, 1000, 0),
            (2, 1005, 0),
            (3, 1012, 0),
        ]
        assert paying.last().hex == made[-1].hex
    with mpchan.Payee(pair.payee, name, chain=pair.chain) as taking:
        answers = taking.accept_many([each.hex for each in made])
        assert [answer.paid_sat for answer in answers] == [1000, 1005, 1012]
        skipped = [payer.pay(pair.payer, pair.chain, name, Amount(10)).hex for _ in range(3)]
        assert [
            getattr(answer, "paid_sat", None) for answer in taking.accept_many(skipped, skip_superseded=True)
        ] == [1022, 1032, 1042]


def test_a_restored_payer_syncs_by_the_total(pair: Pair, tmp_path: Path) -> None:
    name = pair.open(100_000)
    pair.accept(pair.pay(name, 1000))
    backup(pair.payer, tmp_path / "payer.backup")
    pair.accept(pair.pay(name, 500))
    restore((tmp_path / "payer.backup").read_bytes(), tmp_path / "again")
    again = Wallet.open(tmp_path / "again")
    assert refused(lambda: payer.pay(again, pair.chain, name, Amount(1))) == ("needs-sync", 5)
    latest = syncing.export_latest(pair.payee, name)
    assert (latest.kind, latest.paid_sat) == ("update", 1500)
    synced = syncing.sync(again, psbt(latest.hex))
    assert (synced.paid_sat, synced.changed) == (1500, True)
    message = payer.pay(again, pair.chain, name, Amount(250)).hex
    assert payee.accept(pair.payee, pair.chain, psbt(message)).paid_sat == 1750


@pytest.mark.parametrize("pieces", [3])
def test_a_file_is_sold(
    chain_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    spilman.register(monkeypatch)
    with EmbeddedChain(chain_directory) as chain:
        market = Market(tmp_path, chain, pieces=pieces)
        market.buy()
        assert market.is_whole()
