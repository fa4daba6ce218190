"""Fee rates of offers and fundings from a real node, whether it can estimate any or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.bitcoind import FULL, calls, fill
from support.chain.node import MinedChain, Node, Refusal, needs_node, running
from support.party import Pair

from mpchan import Payee, Payer
from mpchan.chain.base import FALLBACK_RATE
from mpchan.errors import NotPossible, Refused
from mpchan.party import payee, payer
from mpchan.results.opening import Offered
from mpchan.units import Amount, FeeRate

pytestmark = needs_node


@pytest.fixture
def pair(shared_node: Node, tmp_path: Path) -> Iterator[Pair]:
    with MinedChain(shared_node, tmp_path / "seen") as chain:
        yield Pair(tmp_path, chain)  # type: ignore[arg-type]


def rate_of(pair: Pair, made: Offered) -> FeeRate:
    return pair.payee.offers.load(made.offer_id).offer.fee_rate


def test_an_offer_and_a_funding_take_what_the_node_says(pair: Pair) -> None:
    said = pair.chain.fee_rate()
    limits = pair.payee.config.limits
    expected = min(max(said, limits.min_fee_rate), limits.max_fee_rate)
    made = payee.offer(pair.payee, pair.chain, {})
    assert rate_of(pair, made) == expected
    funded = payer.open_channel(pair.payer, pair.chain, str(made.toml), Amount(100_000))
    hexed = pair.fund(pair.sign_refund(funded.hex)).hex
    node = pair.chain.node  # type: ignore[attr-defined]
    [entry] = node.call("testmempoolaccept", [hexed], 0)
    vsize = node.call("decoderawtransaction", hexed)["vsize"]
    fee = int(node.call("getmempoolentry", funded.funding_txid)["fees"]["base"] * 10**8)
    assert entry["reject-reason"] == "txn-already-in-mempool"
    assert expected.fee(vsize).sat <= fee <= expected.fee(vsize + 1).sat
    node.mine(1)


def test_a_node_that_estimates_no_fees_is_no_reason_to_stop(tmp_path: Path) -> None:
    with running(tmp_path / "node", "-blocksonly") as node, MinedChain(node, tmp_path / "seen") as chain:
        with pytest.raises(Refusal, match="Fee estimation disabled"):
            node.call("estimatesmartfee", 3)
        assert chain.fee_rate() == max(FALLBACK_RATE, chain.min_fee_rate())


def test_a_node_whose_mempool_is_full_raises_what_an_offer_needs(tmp_path: Path) -> None:
    with running(tmp_path / "node", FULL) as node, MinedChain(node, tmp_path / "seen") as chain:
        pair = Pair(tmp_path, chain)  # type: ignore[arg-type]
        least = fill(node)
        said = payee.offer(pair.payee, chain, {"fee_rate_sat_per_kvb": 1_000})
        assert "relays nothing below" in said.warnings[0]
        with pytest.raises(Refused) as refused:
            payer.open_channel(pair.payer, chain, said.toml, Amount(100_000))
        assert refused.value.slug == "fee-rate-low"
        made = payee.offer(pair.payee, chain, {})
        assert rate_of(pair, made) >= FeeRate(least.sat_per_kvb - 100)
        with pytest.raises(NotPossible) as low:
            payer.open_channel(pair.payer, chain, made.toml, Amount(100_000), funding_fee_rate=FeeRate(1_500))
        assert low.value.slug == "funding-fee-rate"
        assert payer.open_channel(pair.payer, chain, made.toml, Amount(100_000)).capacity_sat == 100_000


def test_a_node_that_relays_nothing_within_the_limits(tmp_path: Path) -> None:
    """max_fee_rate is 200 sat/vB."""
    options = ("-minrelaytxfee=0.00300000",)
    with running(tmp_path / "node", *options) as node, MinedChain(node, tmp_path / "seen") as chain:
        pair = Pair(tmp_path, chain, coins=0)  # type: ignore[arg-type]
        before = pair.files()
        with pytest.raises(NotPossible) as error:
            payee.offer(pair.payee, chain, {})
        assert error.value.slug == "fee-rate-high"
        assert pair.files() == before


def test_no_payment_asks_for_a_rate(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are made and taken on one tip; what one might be told of it, it is told once."""
    made = payee.offer(pair.payee, pair.chain, {})
    funded = payer.open_channel(pair.payer, pair.chain, str(made.toml), Amount(100_000))
    pair.fund(pair.sign_refund(funded.hex))
    pair.chain.mine(6)
    paying, paid = Payer(pair.payer, chain=pair.chain), Payee(pair.payee, chain=pair.chain)
    with calls(monkeypatch) as asked, paying, paid:
        for _ in range(20):
            paid.accept(paying.pay(1000).hex)
    assert max(asked["estimatesmartfee"], asked["getmempoolinfo"]) <= 1
    assert asked["getblockchaininfo"] > 1, "the chain itself was asked"
