"""A funding that another wallet makes, from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from external_tools import External
from foreign_wallet import P2WPKH, coin, payment, psbt_of, signed
from hostile_tools import Desk

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.values import replace


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(External(tmp_path, chain), tmp_path)


def _funding(desk: Desk, fee: int) -> Transaction:
    pair = desk.pair
    assert isinstance(pair, External)
    return payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output(), fee=fee)


FEES = [
    ("70 a fee below what nodes relay", 50, "funding-fee"),
    ("70 a fee above the limit", 60_000, "funding-fee-high"),
]


@pytest.mark.parametrize(("case", "fee", "slug"), FEES)
def test_a_fee_out_of_bounds_is_refused_at_the_opening(desk: Desk, case: str, fee: int, slug: str) -> None:
    funding = _funding(desk, fee)
    for message in (psbt_of(desk.pair.chain, funding), funding, signed(desk.pair.chain, funding)):
        path = desk.file(message)
        refused = desk.refused_writing(desk.payer, "payer", "open", "--funding", path)
        assert (refused.slug, refused.exit_code) == (slug, 4)


def test_70_a_change_that_was_forgotten(desk: Desk) -> None:
    """The whole coin but for the channel goes to the miner; the error says how much that is, and where the limit is."""
    funding = _funding(desk, 0)
    channel = funding.outputs[1]
    path = desk.file(replace(funding, outputs=(channel,)))
    refused = desk.refused_writing(desk.payer, "payer", "open", "--funding", path)
    assert (refused.slug, refused.exit_code) == ("funding-fee-high", 4)
    assert str(1_000_000 - channel.value.sat) in refused.message
    assert "max_fee_rate" in str(refused.hint)


def test_70_the_signed_one_is_judged_by_its_very_size(desk: Desk) -> None:
    """What the opening allows for signatures that are yet to come is no allowance for those that are there."""
    pair = desk.pair
    bare = len(_funding(desk, 0).to_bytes(include_witness=False))
    funding = _funding(desk, 200 * (bare + 110))
    opened = desk.done(desk.payer, "payer", "open", "--funding", desk.file(psbt_of(pair.chain, funding)))
    reply = desk.folder / "reply"
    reply.write_text(pair.sign_refund(opened["hex"]))
    path = desk.file(signed(pair.chain, funding))
    refused = desk.refused_writing(desk.payer, "payer", "fund", reply, "--funding", path)
    assert (refused.slug, refused.exit_code) == ("funding-fee-high", 4)
