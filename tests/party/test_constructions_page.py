"""The figures of the guide's page on constructions are those of transactions that the consensus engine took."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.party import Pair

import mpchan
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer
from mpchan.channel.construction.registry import CONSTRUCTIONS, construction
from mpchan.units import Height

GUIDE = Path(mpchan.__file__).parent / "guide"
README = Path(__file__).parents[2] / "README.md"
README_ROW = "close and refund on the chain"


def cells(row: str, page: Path = GUIDE / "constructions.md") -> dict[str, str]:
    """A row of the page's table, by construction."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    tables = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    [head] = [cells for cells in tables if "`taproot`" in cells[2:]]
    [found] = [cells for cells in tables if cells[0] == row]
    return dict(zip((name.strip("`") for name in head[1:]), found[1:], strict=True))


def figure(row: str, scheme: str) -> int:
    found = re.match(r"\d+", cells(row)[scheme])
    assert found, row
    return int(found[0])


def test_the_table_has_every_construction() -> None:
    assert set(cells("close")) == set(CONSTRUCTIONS)


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_the_sizes_are_those_of_transactions_in_blocks(
    chain_directory: Path, tmp_path: Path, scheme: str
) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, scheme=scheme)
        closed, refunded = pair.open(100_000), pair.open(100_000)
        for name in (closed, refunded):
            pair.accept(pair.pay(name, 1000))
        state = pair.payer_record(closed).state
        assert isinstance(state, payer.Funded)
        assert state.funding is not None
        terms = state.terms
        close = Transaction.from_hex(pair.settle(pair.settlement(closed, 30_000)).hex)
        pair.mine_to(terms.refund_lock_time.value + 36)
        refund = Transaction.from_hex(pair.refund(refunded).hex)
        chain.mine(1)
        assert (pair.status(closed)[0], pair.status(refunded)[0]) == ("closed", "refunded")
    sizes = {
        "funding, one input and change": state.funding.vsize,
        "close": close.vsize,
        "refund": refund.vsize,
    }
    for row, size in sizes.items():
        written = figure(row, scheme)
        exact = row != "funding, one input and change" and "at most" not in cells(row)[scheme]
        assert size == written if exact else written - 1 <= size <= written, row  # DER: 71 or 72 bytes
    reserve = terms.funding_value - terms.capacity
    assert reserve == terms.offer.fee_rate.fee(figure("set aside for the close", scheme))


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_a_message_is_as_large_as_the_table_says(chain_directory: Path, tmp_path: Path, scheme: str) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, scheme=scheme)
        size = len(bytes.fromhex(pair.pay(pair.open(100_000), 1000)))
    told = cells("a payment, as a message")[scheme]
    found = re.search(r"[\d,]+", told)
    assert found
    written = int(found[0].replace(",", ""))
    assert abs(size - written) <= (25 if "about" in told else 1), size


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_so_many_updates_as_the_table_says(chain_directory: Path, tmp_path: Path, scheme: str) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, scheme=scheme)
        terms = pair.payer_record(pair.open(100_000)).terms
    most = construction(scheme).most_updates(terms.offer, terms.refund_lock_time)
    deadline = terms.schedule.deadline
    assert isinstance(deadline, Height)
    told = cells("number of updates")[scheme]
    if most is None:
        assert told == "no limit"
    else:
        assert "(`L_0` - 1) / `step`" in told
        assert most == (deadline.value - 1) // terms.offer.own_terms["step"]


def test_the_readme_and_the_protocol_say_the_same() -> None:
    row = cells(README_ROW, README)
    for scheme, text in row.items():
        assert text == f"{figure('close', scheme)} and {figure('refund', scheme)} vB"
    protocol = " ".join((GUIDE / "protocol.md").read_text().split())
    close, refund = figure("close", "taproot"), figure("refund", "taproot")
    assert f"a close has {close} vB and the refund {refund} vB" in protocol
    assert f"fee of a close of {figure('set aside for the close', 'taproot')} vB" in protocol
