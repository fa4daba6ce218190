"""The backend ``none``: the user's word about the chain counts, so it must say all that the decision needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.party import SHORT, Pair, psbt
from support.protocol import scheme_of

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.errors import MpchanError
from mpchan.party import payee, payer, views
from mpchan.units import Amount, ChainTip

SECONDS = {
    "lock_time_unit": "seconds",
    "settle_window": 3600,
    "min_refund_delay": 20_000,
    "max_refund_delay": 40_000,
}


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain)


def slug_of(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(MpchanError) as caught:
        call()
    return caught.value.slug, caught.value.exit_code


def test_a_channel_in_seconds_needs_the_median_time(pair: Pair) -> None:
    """A tip stated by its height alone would stand at the epoch: no deadline in seconds would ever come."""
    name = pair.open(**SECONDS)  # type: ignore[arg-type]
    message = pair.pay(name, 1000)
    deadline = scheme_of(pair.terms(name)).deadline.value
    height = ManualChain(ChainTip(500, 0), 1)
    before = pair.files()
    assert slug_of(lambda: payee.accept(pair.payee, height, psbt(message))) == ("tip-needed", 2)
    assert slug_of(lambda: payer.pay(pair.payer, height, name, Amount(1000))) == ("tip-needed", 2)
    assert slug_of(lambda: payee.settle(pair.payee, height, None, name)) == ("tip-needed", 2)
    assert slug_of(lambda: payer.refund(pair.payer, height, name)) == ("tip-needed", 2)
    late = ManualChain(ChainTip(500, deadline), 1)
    assert slug_of(lambda: payee.accept(pair.payee, late, psbt(message))) == ("past-deadline", 5)
    assert pair.files() == before
    in_time = ManualChain(ChainTip(0, deadline - 1), 1)
    assert payee.accept(pair.payee, in_time, psbt(message)).received_sat == 1000


def test_opening_in_seconds_needs_the_median_time(pair: Pair) -> None:
    request = pair.request(**SECONDS)  # type: ignore[arg-type]
    height = ManualChain(ChainTip(500, 0))
    before = pair.files()
    assert slug_of(lambda: payee.sign_refund(pair.payee, height, psbt(request.hex))) == ("tip-needed", 2)
    assert pair.files() == before
    tip = pair.chain.tip()
    reply = str(payee.sign_refund(pair.payee, ManualChain(tip), psbt(request.hex)).hex)
    after = pair.files()
    assert slug_of(lambda: payer.fund(pair.payer, height, psbt(reply))) == ("tip-needed", 2)
    assert pair.files() == after
    result = payer.fund(pair.payer, ManualChain(tip), psbt(reply))
    assert result.broadcast is False


def test_a_channel_in_blocks_needs_the_height_alone(pair: Pair) -> None:
    name = pair.open()
    here = ManualChain(ChainTip(pair.chain.tip().height, 0), 1)
    message = str(payer.pay(pair.payer, here, name, Amount(1000)).hex)
    assert payee.accept(pair.payee, here, psbt(message)).paid_sat == 1000


def test_without_a_stated_tip_nothing_is_decided(pair: Pair) -> None:
    name = pair.open()
    message = pair.pay(name, 1000)
    before = pair.files()
    silent = ManualChain()
    assert slug_of(lambda: payee.accept(pair.payee, silent, psbt(message))) == ("tip-needed", 2)
    assert slug_of(lambda: payer.pay(pair.payer, silent, name, Amount(1000))) == ("tip-needed", 2)
    assert pair.files() == before
    assert views.show(pair.payee, silent, name).status == "opening"


def test_without_stated_confirmations_nothing_counts(pair: Pair) -> None:
    name = pair.open()
    message = pair.pay(name, 1000)
    tip = pair.chain.tip()
    assert slug_of(lambda: payee.accept(pair.payee, ManualChain(tip), psbt(message)))[1] == 6
    assert slug_of(lambda: payee.accept(pair.payee, ManualChain(tip, 0), psbt(message))) == ("unconfirmed", 6)
    assert payee.accept(pair.payee, ManualChain(tip, 1), psbt(message)).paid_sat == 1000


def test_nothing_is_broadcast(pair: Pair) -> None:
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    tip = pair.chain.tip()
    settlement = psbt(pair.settlement(name))
    result = payee.settle(pair.payee, ManualChain(tip, 1), settlement)
    assert result.broadcast is False
    assert pair.chain.mempool() == []
    # the user takes it to the network by hand; or this wallet does, once it can
    again = payee.settle(pair.payee, pair.chain, settlement)
    assert (again.hex, again.broadcast) == (result.hex, True)
    pair.chain.mine(1)


def test_a_payer_alone_tells_of_a_taproot_funding(chain_directory: Path, tmp_path: Path) -> None:
    """It can say of any output that it pays what it likes, so the user is told what to look up, once."""
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, scheme="taproot")
        told = ManualChain(chain.tip(), 1)
        offer = payee.offer(pair.payee, told, {**SHORT, **pair.scheme}).toml
        name = pair.open_under(offer, 100_000)
        first, second = pair.pay(name, 1000), pair.pay(name, 1000)
        terms = pair.payer_record(name).terms
        address = str(script_to_address(terms.funding_txout.script_pubkey, REGTEST))
        [warning, *_] = payee.accept(pair.payee, told, psbt(first)).warnings
        assert warning.startswith("not-looked-up: ")
        assert all(word in warning for word in (str(terms.outpoint), str(terms.funding_value), address))
        assert not any(
            "not-looked-up" in each for each in payee.accept(pair.payee, told, psbt(second)).warnings
        )
        other = pair.open_under(pair.offer(), 50_000)
        seen = pair.accept(pair.pay(other, 1000)).warnings
        assert not any("not-looked-up" in each for each in seen)
