"""A funding is never replaced (guide: protocol): a replacement would void the refund."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.party import COIN, Pair
from support.protocol import replace

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer as payer_protocol
from mpchan.errors import NotPossible
from mpchan.party import payer
from mpchan.units import Amount, FeeRate


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with EmbeddedChain(chain_directory) as chain:
        yield Pair(tmp_path, chain)


def unsent_channel(pair: Pair) -> str:
    """A channel whose signed funding is in the user's hands, and not on the chain."""
    request = pair.request()
    pair.fund(pair.sign_refund(request.hex), send=False)
    return f"{request.funding_txid}-{request.funding_vout}"


def funding_of(pair: Pair, name: str) -> Transaction:
    funding = pair.payer_record(name).funding
    assert funding is not None
    return funding


def test_funding_does_not_signal_replacement(pair: Pair) -> None:
    """BIP-0125: every nSequence is above 0xfffffffd."""
    funding = funding_of(pair, unsent_channel(pair))
    assert [source.sequence for source in funding.inputs] == [0xFFFFFFFE]


def test_every_input_is_native_segwit_and_signed_outside_the_txid(pair: Pair) -> None:
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    unsigned = pair.payer_record(pair.payer.channels.names()[0]).state
    assert isinstance(unsigned, payer_protocol.Opening)
    assert all(output.script_pubkey[:2] == b"\x00\x14" for output in unsigned.spent)
    signed = Transaction.from_hex(pair.fund(reply).hex)  # type: ignore[arg-type]
    assert all(source.script_sig == b"" and len(source.witness) == 2 for source in signed.inputs)
    assert signed.without_witness() == unsigned.funding
    assert signed.txid == unsigned.funding.txid


@pytest.mark.parametrize("phase", ["opening", "secured", "funded", "settling", "refunding"])
def test_its_coins_are_taken_in_every_phase(pair: Pair, phase: str) -> None:
    """Also after a settlement was handed over: its funding may be mined any time."""
    if phase == "opening":
        pair.request()
    else:
        name = unsent_channel(pair)
        record = pair.payer_record(name)
        funded = record.state
        assert isinstance(funded, payer_protocol.Funded)
        if phase == "secured":
            coin = pair.chain.output(funded.funding.inputs[0].outpoint)
            assert coin is not None
            unsigned = funded.funding.without_witness()
            state = payer_protocol.Secured(record.terms, unsigned, (coin.output,), funded.refund)
            pair.payer.channels.save(replace(record, state=state), "changed")
        elif phase == "settling":
            pair.settlement(name)
        elif phase == "refunding":
            pair.payer.channels.save(replace(record, state=payer_protocol.Refunding(funded, None)), "changed")
    pair.restart()
    with pytest.raises(NotPossible) as caught:
        pair.request()
    assert caught.value.slug == "not-enough-funds"


def test_a_second_channel_takes_other_coins(pair: Pair) -> None:
    first = unsent_channel(pair)
    pair.coin()
    second = unsent_channel(pair)
    inputs = [funding_of(pair, name).inputs[0].outpoint for name in (first, second)]
    assert len(set(inputs)) == 2


def test_coins_of_an_opening_that_was_given_up_are_free_again(pair: Pair) -> None:
    first = pair.request()
    payer.abandon(pair.payer, pair.chain, None)
    second = pair.request()
    assert first.funding_txid != second.funding_txid


def test_no_unconfirmed_coin_is_spent(pair: Pair) -> None:
    """What is not confirmed can be replaced by whoever sent it."""
    script = pair.payer.keys.script("receive", 0)
    pair.chain.faucet(script, Amount(50 * COIN))
    with pytest.raises(NotPossible) as caught:
        pair.request(10 * COIN)
    assert caught.value.slug == "not-enough-funds"
    pair.chain.mine(1)
    pair.request(10 * COIN)


def test_a_change_below_dust_goes_to_the_fundings_fee(pair: Pair) -> None:
    """One coin of 1,000,000: capacity, reserve of 338 and a fee of 1 sat/vB leave 679, or 680."""
    with_change = 153  # one P2WPKH input, a P2WSH and a P2WPKH output
    for rest, outputs in ((679, 1), (680, 2)):
        capacity = COIN - 338 - with_change - rest
        offer = pair.offer(max_capacity_sat=10 * COIN)
        result = payer.open_channel(
            pair.payer, pair.chain, offer, Amount(capacity), funding_fee_rate=FeeRate(1000)
        )
        name = f"{result.funding_txid}-{result.funding_vout}"
        funding = funding_of(pair, name)
        assert len(funding.outputs) == outputs
        assert funding.outputs[0] == pair.payer_record(name).terms.funding_txout
        if outputs == 2:
            assert funding.outputs[1].value == Amount(680)
        payer.abandon(pair.payer, pair.chain, name)


def test_a_coin_that_another_program_spent_meanwhile(pair: Pair) -> None:
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    name = pair.payer.channels.names()[0]
    opening = pair.payer_record(name).state
    assert isinstance(opening, payer_protocol.Opening)
    elsewhere = replace(
        opening.funding, outputs=(replace(opening.funding.outputs[0], script_pubkey=b"\x00\x14" + bytes(20)),)
    )
    pair.chain.broadcast(pair.payer.keys.sign_coins(elsewhere, opening.spent))  # type: ignore[arg-type]
    before = pair.files()
    with pytest.raises(NotPossible) as caught:
        pair.fund(reply)
    assert caught.value.slug == "coin-spent"
    assert pair.files() == before
    pair.chain.mine(1)
