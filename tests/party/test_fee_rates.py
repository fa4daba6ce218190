"""The fee rate of offers and fundings: the given one, else the chain's estimate; wallet.toml's limits always hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import Pair, new_wallet, psbt

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import ChainConfig
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.channel.limits import PayerLimits
from mpchan.errors import ChainError, MpchanError, NotPossible
from mpchan.party import payee, payer
from mpchan.party.meter.payee import Payee
from mpchan.results.opening import Offered
from mpchan.units import Amount, FeeRate
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

RATE = "fee_rate_sat_per_kvb"
THEIRS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


class Feed(EmbeddedChain):
    """The embedded chain on a day on which it says these rates; None where it does not answer."""

    estimate: int | None = 2000
    least = 1000

    def fee_rate(self) -> FeeRate:
        if self.estimate is None:
            raise ChainError("unreachable", "nobody answers")
        return FeeRate(self.estimate)

    def min_fee_rate(self) -> FeeRate:
        if self.estimate is None:
            raise ChainError("unreachable", "nobody answers", hint="is it on?")
        return FeeRate(self.least)


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with Feed(chain_directory) as chain:
        yield Pair(tmp_path, chain)


def says(pair: Pair, estimate: int | None, least: int = 1000) -> None:
    assert isinstance(pair.chain, Feed)
    pair.chain.estimate, pair.chain.least = estimate, least


def limit(wallet: Wallet, low: int, high: int) -> None:
    limits = PayerLimits(min_fee_rate=FeeRate(low), max_fee_rate=FeeRate(high))
    wallet.config = replace(wallet.config, limits=limits)


def offered(wallet: Wallet, made: Offered) -> int:
    return wallet.offers.load(made.offer_id).offer.fee_rate.sat_per_kvb


def funding_rate(pair: Pair, **options: object) -> tuple[float, list[str]]:
    """What the funding of a new channel pays, by its signed size, and the warnings."""
    offer = pair.offer()
    made = payer.open_channel(pair.payer, pair.chain, offer, Amount(100_000), **options)  # type: ignore[arg-type]
    signed = Transaction.from_hex(pair.fund(pair.sign_refund(made.hex), send=False).hex)  # type: ignore[arg-type]
    state = pair.payer_record(f"{made.funding_txid}-0").state
    fee = sum(output.value.sat for output in state.spent) - sum(out.value.sat for out in signed.outputs)  # type: ignore[misc]
    return fee * 1000 / signed.vsize, list(made.warnings)


@pytest.mark.parametrize(
    ("estimate", "least", "expected", "warned"),
    [
        (7_777, 1000, 7_777, False),
        (500, 1000, 2_000, False),  # the wallet's least
        (4_000, 6_000, 6_000, False),  # nothing below it is relayed
        (50_001, 1000, 50_000, True),  # the wallet's most
        (50_000, 1000, 50_000, False),
    ],
)
def test_without_a_rate_the_estimate_counts_within_the_limits(
    pair: Pair, estimate: int, least: int, expected: int, warned: bool
) -> None:
    says(pair, estimate, least)
    limit(pair.payee, 2_000, 50_000)
    made = payee.offer(pair.payee, pair.chain, {})
    assert offered(pair.payee, made) == expected
    assert ["max_fee_rate" in warning for warning in made.warnings] == [True] * warned
    limit(pair.payer, 2_000, 50_000)
    says(pair, estimate, min(least, 2_000))  # the play offer of 2000 has to be relayed
    rate, warnings = funding_rate(pair)
    best = max(2_000, min(estimate, 50_000))
    assert best <= rate <= best * 1.02
    assert ["max_fee_rate" in warning for warning in warnings] == [True] * warned


def test_where_the_chain_relays_nothing_that_the_limits_allow(pair: Pair) -> None:
    says(pair, 9_000, 9_000)
    limit(pair.payee, 1000, 8_999)
    limit(pair.payer, 1000, 8_999)
    before = pair.files()
    with pytest.raises(NotPossible) as caught:
        payee.offer(pair.payee, pair.chain, {})
    assert caught.value.slug == "fee-rate-high"
    assert "max_fee_rate" in (caught.value.hint or "")
    assert pair.files() == before


@pytest.mark.parametrize(("rate", "slug"), [(1_999, "fee-rate-low"), (50_001, "fee-rate-high")])
def test_the_own_limits_hold_for_given_rates_too(pair: Pair, rate: int, slug: str) -> None:
    limit(pair.payee, 2_000, 50_000)
    before = pair.files()
    with pytest.raises(NotPossible) as caught:
        payee.offer(pair.payee, pair.chain, {RATE: rate})
    assert caught.value.slug == slug
    assert pair.files() == before
    offer = pair.offer()
    limit(pair.payer, 2_000, 50_000)
    before = pair.files()
    with pytest.raises(NotPossible) as caught:
        payer.open_channel(pair.payer, pair.chain, offer, Amount(100_000), funding_fee_rate=FeeRate(rate))
    assert caught.value.slug == slug
    assert pair.files() == before


@pytest.mark.parametrize("rate", [2_000, 50_000])
def test_rates_at_the_limits_are_taken(pair: Pair, rate: int) -> None:
    limit(pair.payee, 2_000, 50_000)
    limit(pair.payer, 2_000, 50_000)
    assert offered(pair.payee, payee.offer(pair.payee, pair.chain, {RATE: rate})) == rate
    paid, _ = funding_rate(pair, funding_fee_rate=FeeRate(rate))
    assert rate <= paid <= rate * 1.02


def test_a_given_rate_needs_no_chain(pair: Pair) -> None:
    first = payee.offer(pair.payee, pair.chain, {RATE: 3_000})
    says(pair, None)
    assert not payee.offer(pair.payee, pair.chain, {RATE: 3_000}).warnings
    again = payee.offer(pair.payee, pair.chain, {}, like=first.offer_id)
    assert offered(pair.payee, again) == 3_000
    pair.payee.config = replace(pair.payee.config, offer={RATE: 4_000})
    assert offered(pair.payee, payee.offer(pair.payee, pair.chain, {})) == 4_000


def test_without_a_rate_and_a_chain_there_is_no_offer(pair: Pair) -> None:
    says(pair, None)
    before = pair.files()
    with pytest.raises(ChainError) as caught:
        payee.offer(pair.payee, pair.chain, {})
    assert caught.value.slug == "unreachable"
    assert caught.value.hint == "is it on?; or name the rate yourself with --fee-rate"
    assert pair.files() == before


def test_a_given_rate_that_is_not_relayed_now_is_said(pair: Pair) -> None:
    """It may be again when the channel closes, so it is the payee's choice."""
    says(pair, 5_000, 3_001)
    made = payee.offer(pair.payee, pair.chain, {RATE: 3_000})
    assert list(made.warnings) == [
        "the chain relays nothing below 3.001 sat/vB now, a close under this offer pays 3 sat/vB"
    ]
    assert not payee.offer(pair.payee, pair.chain, {RATE: 3_001}).warnings


def test_a_wallet_that_asks_no_chain_says_what_it_guesses(tmp_path: Path) -> None:
    wallet = new_wallet(tmp_path / "wallet")
    made = payee.offer(wallet, ManualChain(), {})
    assert offered(wallet, made) == 2_000
    assert list(made.warnings) == [
        "this wallet asks no chain what fees are now: a close under this offer pays 2 sat/vB"
    ]


def test_an_address_outside_of_the_wallet_is_said(pair: Pair) -> None:
    made = payee.offer(pair.payee, pair.chain, {RATE: 2_000}, address=THEIRS)
    [warning] = made.warnings
    assert warning.startswith(f"{THEIRS} is outside of this wallet")
    own = payee.offer(pair.payee, pair.chain, {RATE: 2_000}).payee_address
    assert not payee.offer(pair.payee, pair.chain, {RATE: 2_000}, address=own).warnings
    opened = payer.open_channel(pair.payer, pair.chain, pair.offer(), Amount(100_000), address=THEIRS)
    [warning] = opened.warnings
    assert warning.startswith(f"{THEIRS} is outside of this wallet")


def test_a_stake_that_is_too_small_to_defend_is_said_once(pair: Pair) -> None:
    """1,170 virtual bytes at the chain's estimate: of the smallest channel on offer, and of the first payment."""
    pair.payee.config = replace(pair.payee.config, chain=ChainConfig("bitcoind"))
    says(pair, 5_000)
    small, enough = ({"min_capacity_sat": least} for least in (5_849, 5_850))
    assert "cannot be defended" in str(payee.offer(pair.payee, pair.chain, small))
    assert not payee.offer(pair.payee, pair.chain, enough).warnings
    name = pair.open(fee_rate_sat_per_kvb=5_000)
    assert "cannot be defended" in pair.accept(pair.pay(name, 1_000)).warnings[0]
    assert not pair.accept(pair.pay(name, 1_000)).warnings


def test_a_stream_says_it_once_per_channel(pair: Pair) -> None:
    name = pair.open()
    with Payee(pair.payee, chain=pair.chain) as meter:
        assert meter.warnings() == []
        says(pair, 9_000, 9_000)
        first, second = (pair.pay(name, 1_000) for _ in range(2))
        assert isinstance(meter.accept_many(["no message"])[0], MpchanError)
        assert meter.warnings() == []
        meter.accept(first)
        [warning] = meter.warnings()
        assert "the chain relays nothing below 9 sat/vB now" in warning
        meter.accept(second)
        assert meter.warnings() == []
    with Payee(pair.payee, chain=pair.chain) as again:
        again.accept(pair.pay(name, 1_000))
        assert again.warnings() == []


def test_an_agreed_rate_that_nobody_relays_any_more_is_said(pair: Pair) -> None:
    """As soon as somebody commits to it: when the refund is signed, the channel funded, the first payment taken."""
    request = pair.request()
    says(pair, 9_000, 9_000)
    words = "the chain relays nothing below 9 sat/vB now"
    signed = payee.sign_refund(pair.payee, pair.chain, psbt(request.hex))
    assert words in signed.warnings[0]
    assert words in pair.fund(signed.hex, send=False).warnings[0]
    says(pair, 2_000)
    pair.coin()
    name = pair.open()
    says(pair, 9_000, 9_000)
    assert words in pair.accept(pair.pay(name, 1_000)).warnings[0]
    assert not pair.accept(pair.pay(name, 1_000)).warnings
