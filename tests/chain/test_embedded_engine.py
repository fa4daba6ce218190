"""The index against the engine: they agree, and find back to each other after any accident."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.embedded import BITCOIN, FEE, OPEN_SCRIPT, assert_index_is_engine, fund, spend

from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.embedded.chain import INITIAL_BLOCKS
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

    build_block = mining.build_block  # type: ignore[attr-defined]
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


# --- a machine that has no more to give -----------------------------------------------------------

LIMITED = """
import resource, sys
from pathlib import Path
from mpchan.chain.embedded import EmbeddedChain, kernel
from mpchan.errors import ChainError
kernel._DESCRIPTORS = int(sys.argv[4])
limit = int(sys.argv[3])
resource.setrlimit(getattr(resource, sys.argv[2]), (limit, limit))
with EmbeddedChain(Path(sys.argv[1])) as chain:
    try:
        chain.mine(1)
    except ChainError as error:
        print(error.slug, error.exit_code, error.message, error.hint, sep="|")
"""


def limited(chain: EmbeddedChain, kind: str, limit: int, descriptors: int = 16) -> list[str]:
    """Mine a block in a process with such a limit: the error that it ends with."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(chain.directory), kind, str(limit), str(descriptors)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().split("|")


def test_a_disk_error_of_the_engine_is_no_judgement(chain: EmbeddedChain) -> None:
    """The file of blocks cannot grow, the index can: the transaction that would have been mined still waits."""
    chain.mine(400)
    chain.faucet(OPEN_SCRIPT, Amount(BITCOIN))
    waiting, tip = chain.mempool(), chain.tip_hash()
    chain.close()
    slug, code, message, hint = limited(chain, "RLIMIT_FSIZE", 60_000)
    assert (slug, code) == ("engine-failed", "8")
    assert "write new block to disk" in message
    assert "space" in hint
    assert (chain.mempool(), chain.tip_hash()) == (waiting, tip)
    chain.mine(1)
    assert chain.mempool() == []
    assert_index_is_engine(chain.directory)


@pytest.mark.parametrize(("limit", "descriptors"), [(8, 16), (16, 16), (13, 0), (15, 0)])
def test_too_many_open_files_cost_no_data(chain: EmbeddedChain, limit: int, descriptors: int) -> None:
    """It is said before the engine ends the process; and where the engine itself fails, its data stay."""
    live(chain)
    chain.mine(1)
    chain.close()
    before = sorted(path.name for path in (chain.directory / "kernel").rglob("*.dat"))
    slug, code, message, hint = limited(chain, "RLIMIT_NOFILE", limit, descriptors)
    assert (slug, code) == ("engine-failed", "8")
    assert ("too many open files" in message) == ("ulimit" in hint) == bool(descriptors)
    assert not (chain.directory / "kernel.damaged").exists()
    assert sorted(path.name for path in (chain.directory / "kernel").rglob("*.dat")) == before
    chain.mine(1)
    assert_index_is_engine(chain.directory)


def test_damaged_data_are_put_aside(chain: EmbeddedChain) -> None:
    """Nothing is deleted but what an earlier accident has left."""
    live(chain)
    for number in range(2):
        chain.close()
        for file in (chain.directory / "kernel" / "chainstate").iterdir():
            file.write_bytes(b"%d" % number * 100)
        chain.mine(1)
        assert {path.name for path in chain.directory.iterdir() if path.is_dir()} == {
            "kernel",
            "kernel.damaged",
        }
        [damaged] = {
            file.read_bytes() for file in (chain.directory / "kernel.damaged" / "chainstate").iterdir()
        }
        assert damaged == b"%d" % number * 100
        assert_index_is_engine(chain.directory)


def test_a_damaged_index_has_a_hint_that_is_true(chain: EmbeddedChain) -> None:
    chain.faucet(OPEN_SCRIPT, Amount(BITCOIN))
    chain.mine(5)
    tip = chain.tip()
    chain.close()
    index = chain.directory / "index.sqlite3"
    index.write_bytes(b"no database" * 100)
    with pytest.raises(ChainError) as caught:
        chain.tip()
    assert (caught.value.slug, caught.value.exit_code) == ("chain-index", 8)
    found = re.fullmatch(
        r"move (.*)\* elsewhere: `MPCHAN_REGTEST=(.*) mpchan (.*)` makes it again .*", caught.value.hint or ""
    )
    assert found is not None
    for path in chain.directory.glob(f"{Path(found[1]).name}*"):
        path.rename(chain.directory / f"old-{path.name}")
    done = subprocess.run(
        [sys.executable, "-m", "mpchan", *found[3].split()],
        env={**os.environ, "MPCHAN_REGTEST": found[2]},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert chain.tip().height == tip.height + 1


def test_a_chain_that_is_gone_is_not_made_anew(chain: EmbeddedChain, tmp_path: Path) -> None:
    """By whoever only asks; and what is said to make one does."""
    directory = tmp_path / "it's gone"
    with EmbeddedChain(directory, create=False) as asking:
        for ask in (asking.tip, asking.mempool, lambda: asking.mine(1), lambda: asking.appeared({})):
            with pytest.raises(ChainError) as caught:
                ask()
            assert (caught.value.slug, caught.value.exit_code) == ("chain-missing", 8)
            assert not directory.exists()
        found = re.search("`(.*)`", caught.value.hint or "")
        assert found is not None
        command = f"{shlex.quote(sys.executable)} -m mpchan".join(found[1].split("mpchan", 1))
        assert subprocess.run(command, shell=True, capture_output=True, check=False).returncode == 0
        assert asking.tip().height == INITIAL_BLOCKS + 1
