"""The index against the engine: they agree, and find back to each other after any accident."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_tools import BITCOIN, FEE, OPEN_SCRIPT, assert_index_is_engine, fund, spend

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import ChainError, NotPossible
from mpchan.units import Amount, OutPoint


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(tmp_path / "chain") as opened:
        yield opened


def live(chain: EmbeddedChain) -> None:
    """Some history: payments, families, spends within one block, empty blocks, an unconfirmed rest."""
    outpoints = fund(chain, *[BITCOIN] * 4)
    for outpoint in outpoints[:3]:
        parent = spend(outpoint, BITCOIN // 2, BITCOIN // 4)
        chain.broadcast(parent)
        chain.broadcast(spend(OutPoint(parent.txid, 1), BITCOIN // 4 - FEE))
    chain.mine(3)
    chain.faucet(OPEN_SCRIPT, Amount(3 * BITCOIN))
    chain.mine(1)
    chain.broadcast(spend(outpoints[3], BITCOIN - FEE))


def test_new_chain(chain: EmbeddedChain) -> None:
    chain.tip()
    assert_index_is_engine(chain.directory)


def test_history(chain: EmbeddedChain) -> None:
    live(chain)
    assert_index_is_engine(chain.directory)
    assert len(chain.mempool()) == 1


def test_comparison_can_fail(chain: EmbeddedChain) -> None:
    import sqlite3

    live(chain)
    database = sqlite3.connect(chain.directory / "index.sqlite3")
    for damage in (
        "UPDATE outputs SET value = value + 1 WHERE vout = 0 AND spender IS NULL",
        "UPDATE outputs SET spender = NULL",
        "UPDATE blocks SET raw = x'00' WHERE height = 100",
        "UPDATE transactions SET height = height + 1 WHERE height = 100",
    ):
        database.execute("BEGIN")
        database.execute(damage)
        database.commit()
        with pytest.raises(AssertionError):
            assert_index_is_engine(chain.directory)
    database.close()


def test_engine_open_for_many_calls(chain: EmbeddedChain) -> None:
    with EmbeddedChain(chain.directory) as other, chain.engine(), other.engine():
        live(chain)
        assert other.tip() == chain.tip()
        other.mine(1)
        assert chain.mempool() == []
        assert other.tip() == chain.tip()
    assert_index_is_engine(chain.directory)


# --- the engine's own answer ----------------------------------------------------------------------


def test_refusals_in_the_engines_words_leave_the_chain_usable(chain: EmbeddedChain) -> None:
    first, second = fund(chain, 100_000, 100_000)
    before = chain.tip_hash()
    refused = {
        "bad-txns-nonfinal, non-final transaction": [spend(first, 99_000, lock_time=150)],
        "bad-txns-inputs-missingorspent": [spend(first, 99_000), spend(first, 98_000)],
        "bad-txns-in-belowout": [spend(first, 100_001)],
        "block-script-verify-flag-failed": [spend(first, 99_000, witness_script=b"\x51")],
        "bad-txns-duplicate": [spend(second, 99_000), spend(first, 99_000), spend(first, 99_000)],
    }
    for _ in range(2):  # a second time the engine is asked anew, not its memory
        for word, transactions in refused.items():
            reason = chain.submit_block_with(transactions)
            assert reason is not None
            assert reason.startswith(word)
            assert chain.tip_hash() == before
    parent = spend(first, 99_000)
    assert chain.submit_block_with([parent, spend([OutPoint(parent.txid, 0), second], 198_000)]) is None
    chain.mine(5)
    assert chain.tip().height == 117
    assert_index_is_engine(chain.directory)


# --- one of the two is behind, ahead or gone ------------------------------------------------------


def test_engine_behind(chain: EmbeddedChain, tmp_path: Path) -> None:
    chain.tip()
    shutil.copytree(chain.directory / "kernel", tmp_path / "old")
    live(chain)
    before = (chain.tip_hash(), chain.mempool())
    shutil.rmtree(chain.directory / "kernel")
    (tmp_path / "old").rename(chain.directory / "kernel")
    chain.mine(0)
    assert (chain.tip_hash(), chain.mempool()) == before
    assert_index_is_engine(chain.directory)


def test_engine_ahead(chain: EmbeddedChain, tmp_path: Path) -> None:
    [outpoint] = fund(chain, BITCOIN)
    waiting = spend(outpoint, BITCOIN - FEE)
    chain.broadcast(waiting)
    chain.close()
    shutil.copy(chain.directory / "index.sqlite3", tmp_path / "old")
    live(chain)
    hash_ahead = chain.tip_hash()
    chain.close()
    (tmp_path / "old").rename(chain.directory / "index.sqlite3")
    assert chain.tip().height == 111
    assert chain.mempool() == [waiting.txid]
    # a mempool needs no engine, so nothing is noticed yet
    chain.faucet(OPEN_SCRIPT, Amount(BITCOIN))
    chain.mine(0)
    assert chain.tip_hash() == hash_ahead
    # what the index had in its mempool stands in a block that only the engine had
    found = chain.transaction(waiting.txid)
    assert found is not None
    assert found[1] > 0
    assert_index_is_engine(chain.directory)


def test_engine_gone(chain: EmbeddedChain) -> None:
    live(chain)
    shutil.rmtree(chain.directory / "kernel")
    chain.mine(1)
    assert_index_is_engine(chain.directory)


@pytest.mark.parametrize("part", ["chainstate", "blocks/index"])
def test_engine_damaged(chain: EmbeddedChain, part: str) -> None:
    live(chain)
    for file in (chain.directory / "kernel" / part).iterdir():
        file.write_bytes(b"\xff" * 100)
    chain.mine(1)
    assert_index_is_engine(chain.directory)


def test_index_gone(chain: EmbeddedChain) -> None:
    live(chain)
    before = chain.tip_hash()
    chain.close()
    (chain.directory / "index.sqlite3").unlink()
    assert chain.tip_hash() == before
    assert chain.mempool() == []
    assert_index_is_engine(chain.directory)


def test_mining_is_all_or_nothing(chain: EmbeddedChain, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpchan.chain.embedded import mining

    before = chain.tip()
    built = []

    def build_two(*arguments: object, **options: object) -> object:
        built.append(1)
        if len(built) > 2:
            raise KeyboardInterrupt
        return build_block(*arguments, **options)  # type: ignore[arg-type]

    build_block = mining.build_block
    monkeypatch.setattr(mining, "build_block", build_two)
    with chain.engine():
        with pytest.raises(KeyboardInterrupt):
            chain.mine(5)
        assert chain.tip() == before
        # the engine, still open, has two blocks more; they come back when it is next used
        assert chain.mine(0).height == before.height + 2
    assert_index_is_engine(chain.directory)


# --- reorganisations ------------------------------------------------------------------------------


def test_reorganisation_brings_transactions_back_to_the_mempool(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, BITCOIN)
    parent = spend(outpoint, BITCOIN - FEE)
    child = spend(OutPoint(parent.txid, 0), BITCOIN - 2 * FEE)
    waiting = spend(OutPoint(child.txid, 0), BITCOIN - 3 * FEE)
    chain.broadcast(parent)
    chain.mine(1)
    chain.broadcast(child)
    chain.mine(1)
    chain.broadcast(waiting)
    old = chain.tip_hash()
    assert chain.reorganise(2).height == 114
    assert chain.tip_hash() != old
    assert chain.mempool() == [parent.txid, child.txid, waiting.txid]
    assert_index_is_engine(chain.directory)
    chain.mine(1)
    assert chain.mempool() == []
    assert_index_is_engine(chain.directory)


def test_reorganisation_with_a_double_spend(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, BITCOIN)
    honest = spend(outpoint, BITCOIN - FEE)
    chain.broadcast(honest)
    chain.mine(2)
    waiting = spend(OutPoint(honest.txid, 0), BITCOIN - 2 * FEE)
    chain.broadcast(waiting)
    rival = spend(outpoint, BITCOIN // 2)
    chain.reorganise(2, [rival])
    assert chain.transaction(honest.txid) is None
    assert chain.transaction(waiting.txid) is None
    assert chain.transaction(rival.txid) == (rival, 3)
    assert chain.mempool() == []
    assert_index_is_engine(chain.directory)


def test_reorganisations_again_and_again(chain: EmbeddedChain) -> None:
    live(chain)
    for depth in (1, 1, 3, 7, 2):
        before = chain.tip().height
        assert chain.reorganise(depth).height == before + 1
        chain.mine(1)
        assert_index_is_engine(chain.directory)


def test_branch_of_empty_blocks_is_another_one(chain: EmbeddedChain) -> None:
    chain.mine(3)
    old = chain.tip_hash()
    old_coinbases = [chain.block_transactions(height)[0].txid for height in (111, 112, 113)]
    chain.reorganise(3)
    assert chain.tip_hash() != old
    assert [chain.transaction(txid) for txid in old_coinbases] == [None] * 3
    assert_index_is_engine(chain.directory)


def test_refused_branch_changes_nothing(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, BITCOIN)
    before = chain.tip_hash()
    # the branch forks off below the coin that it spends
    with pytest.raises(ChainError, match="bad-txns-inputs-missingorspent"):
        chain.reorganise(1, [spend(outpoint, BITCOIN - FEE)])
    assert chain.tip_hash() == before
    for depth in (0, 112):
        with pytest.raises(NotPossible):
            chain.reorganise(depth)
    chain.mine(1)
    assert_index_is_engine(chain.directory)
