"""The construction ``taproot`` from the offer to the close, both parties on one chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair, psbt

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import MpchanError
from mpchan.party import views
from mpchan.party.check import fsck, verify


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain, scheme="taproot")


def refused(call: object) -> tuple[str, int]:
    with pytest.raises(MpchanError) as caught:
        call()  # type: ignore[operator]
    return caught.value.slug, caught.value.exit_code


def test_the_whole_story(pair: Pair) -> None:
    name = pair.open(100_000)
    assert not pair.payee.channels.names()
    first = pair.pay(name, 1000)
    result = verify.verify(pair.payee, pair.chain, psbt(first))
    assert (result.kind, result.accepted, result.error) == ("update", True, None)
    assert not pair.payee.channels.names()
    taken = pair.accept(first)
    assert (taken.update, taken.paid_sat, taken.lock_time, taken.duplicate) == (1, 1000, 0, False)
    assert pair.accept(first).duplicate
    second, third = pair.pay(name, 500), pair.pay(name, 700)
    assert pair.accept(third).paid_sat == 2200
    assert refused(lambda: pair.accept(second)) == ("paid-lower", 4)
    pair.terms(name)
    for wallet in (pair.payer, pair.payee):
        assert fsck.fsck(wallet).exit_code == 0
    shown = views.show(pair.payer, pair.chain, name)
    assert (shown.scheme, shown.updates, shown.latest_lock_time) == ("taproot", 3, 0)
    closed = pair.settle(pair.settlement(name, 3000))
    assert (closed.kind, closed.paid_sat, closed.broadcast) == ("settlement", 3000, True)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_the_payee_never_waits(pair: Pair) -> None:
    name = pair.open(100_000)
    pair.accept(pair.pay(name, 5000))
    closed = pair.settle(name=name)
    assert (closed.kind, closed.paid_sat, closed.broadcast) == ("update", 5000, True)
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


def test_the_refund_needs_the_payer_alone(pair: Pair) -> None:
    name = pair.open(100_000)
    terms = pair.payer_record(name).terms
    assert terms.refund_lock_time.value % 36 == 0
    pair.accept(pair.pay(name, 5000))
    pair.mine_to(terms.refund_lock_time.value - 1)
    assert refused(lambda: pair.refund(name)) == ("refund-locked", 6)
    pair.chain.mine(1)
    assert pair.refund(name).broadcast
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")
