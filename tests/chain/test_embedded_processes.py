"""The embedded chain between processes: what a process loads, waits for, and leaves behind when it is killed."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.embedded import BITCOIN, OPEN_SCRIPT, assert_index_is_engine, fund, python, spend

from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import ChainError
from mpchan.units import Amount, OutPoint, Txid

PRELUDE = f"""
import sys
from pathlib import Path
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import ChainError
from mpchan.units import Amount, OutPoint, Txid
SCRIPT = bytes.fromhex({OPEN_SCRIPT.hex()!r})
"""


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(tmp_path / "chain") as opened:
        yield opened


# --- what is loaded -------------------------------------------------------------------------------


def test_questions_load_no_engine_and_the_class_alone_no_database(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, BITCOIN)
    chain.faucet(OPEN_SCRIPT, Amount(BITCOIN))
    code = (
        PRELUDE
        + """
chain = EmbeddedChain(Path(sys.argv[1]))
assert not {"pbk", "sqlite3", "importlib.metadata"} & sys.modules.keys()
outpoint = OutPoint.parse(sys.argv[2])
assert chain.tip().height == 111
assert chain.output(outpoint).confirmations == 1
assert len(chain.coins([SCRIPT])) == 2
assert len(chain.mempool()) == 1
assert chain.transaction(outpoint.txid)[1] == 1
assert len(chain.tip_hash()) == 64
chain.fee_rate(), chain.min_fee_rate()
chain.broadcast(chain.transaction(outpoint.txid)[0])
assert "pbk" not in sys.modules
assert "sqlite3" in sys.modules
"""
    )
    result = python(code, chain.directory, outpoint)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_engine_writes_nothing_on_the_terminal(tmp_path: Path) -> None:
    code = (
        PRELUDE
        + """
chain = EmbeddedChain(Path(sys.argv[1]))
chain.mine(2)
chain.faucet(SCRIPT, Amount(100_000))
from mpchan.bitcoin.tx import Transaction
(transaction, _) = chain.transaction(chain.mempool()[0])
assert chain.submit_block_with([transaction, transaction]) is not None
with chain.engine():
    chain.mine(2)
chain.reorganise(1)
for file in (chain.directory / "kernel" / "chainstate").iterdir():
    file.write_bytes(b"")
chain.mine(1)
"""
    )
    result = python(code, tmp_path / "chain")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_without_the_engine_questions_are_answered_and_the_rest_explains_itself(
    chain: EmbeddedChain, tmp_path: Path
) -> None:
    [outpoint] = fund(chain, BITCOIN)
    code = (
        PRELUDE
        + """
sys.modules["pbk"] = None  # as if it were not installed
missing = EmbeddedChain(Path(sys.argv[2]))
chain = EmbeddedChain(Path(sys.argv[1]))
assert chain.tip().height == 111
[coin] = chain.coins([SCRIPT])
(known, _) = chain.transaction(coin.outpoint.txid)
chain.broadcast(known)
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
new = Transaction(2, (TxIn(coin.outpoint, 0, b"", (b"\\x52",)),), (TxOut(Amount(50_000), SCRIPT),), 0)
for call in (
    missing.tip,
    lambda: missing.mine(1),
    lambda: chain.broadcast(new),
    lambda: chain.mine(1),
    lambda: chain.faucet(SCRIPT, Amount(100_000)),
    lambda: chain.submit_block_with([]),
    lambda: chain.reorganise(1),
    chain.engine_name,
):
    try:
        call()
    except ChainError as error:
        assert error.slug == "engine-missing", error.slug
        assert "`mpchan engine install`" in error.hint
    else:
        raise SystemExit("no error")
"""
    )
    result = python(code, chain.directory, tmp_path / "missing")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (tmp_path / "missing").exists()
    assert chain.mempool() == []
    assert chain.output(outpoint) is not None


# --- waiting for each other -----------------------------------------------------------------------


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    outputs = []
    for process in processes:
        stdout, stderr = process.communicate(timeout=120)
        assert (process.returncode, stderr) == (0, "")
        outputs.append(stdout)
    return outputs


def test_many_first_uses_at_once_make_one_chain(tmp_path: Path) -> None:
    code = """
import pbk
import time
while time.time() < float(sys.argv[2]):  # all at the same moment
    pass
chain = EmbeddedChain(Path(sys.argv[1]))
print(chain.tip_hash(), len(chain.coins([bytes.fromhex(sys.argv[3])])))
"""
    from mpchan.chain.embedded.blocks import MINER_SCRIPT

    begin = time.time() + 1.5
    directory = tmp_path / "chain"
    outputs = finish(*[start(code, directory, begin, MINER_SCRIPT.hex()) for _ in range(5)])
    with EmbeddedChain(directory) as chain:
        assert outputs == [f"{chain.tip_hash()} 110\n"] * 5
    assert_index_is_engine(directory)


def test_two_processes_mine_and_broadcast(chain: EmbeddedChain) -> None:
    code = """
chain = EmbeddedChain(Path(sys.argv[1]))
for _ in range(12):
    txid = chain.faucet(SCRIPT, Amount(100_000))
    assert chain.transaction(txid) is not None
    chain.mine(2)
    assert chain.transaction(txid)[1] > 0
"""
    chain.tip()
    finish(start(code, chain.directory), start(code, chain.directory))
    # nothing got lost, and nothing was counted twice
    assert chain.tip().height == 110 + 2 * 12 * 2
    assert len(chain.coins([OPEN_SCRIPT])) == 2 * 12
    assert_index_is_engine(chain.directory)


def test_busy_process_lets_others_in(chain: EmbeddedChain) -> None:
    greedy = """
chain = EmbeddedChain(Path(sys.argv[1]))
print("up", flush=True)
while True:
    chain.mine(1)
"""
    chain.mine(1)
    process = start(greedy, chain.directory)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        for _ in range(10):
            chain.mine(1)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    chain.mine(1)
    assert_index_is_engine(chain.directory)


# who waits for the lock stands in the queue, so that a busy process cannot keep it from others
@pytest.mark.parametrize("held", ["lock", "queue"])
def test_held_chain_answers_questions_and_refuses_changes_in_time(chain: EmbeddedChain, held: str) -> None:
    chain.tip()
    holder = os.open(chain.directory / held, os.O_RDWR)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with EmbeddedChain(chain.directory, lock_timeout=0.02) as waiting:
            assert waiting.tip().height == 110
            assert waiting.coins([OPEN_SCRIPT]) == []
            for call in (lambda: waiting.mine(1), lambda: waiting.faucet(OPEN_SCRIPT, Amount(BITCOIN))):
                with pytest.raises(ChainError) as raised:
                    call()
                assert raised.value.slug == "chain-locked"
    finally:
        os.close(holder)
    assert chain.mine(1).height == 111


def test_questions_do_not_wait_for_a_writer(chain: EmbeddedChain) -> None:
    import sqlite3

    chain.mine(1)
    writer = sqlite3.connect(chain.directory / "index.sqlite3", isolation_level=None)
    try:
        writer.execute("BEGIN EXCLUSIVE")
        assert chain.tip().height == 111
        assert chain.coins([OPEN_SCRIPT]) == []
    finally:
        writer.close()


def test_questions_while_another_process_writes(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, BITCOIN)
    chain.broadcast(spend(outpoint, BITCOIN // 2))
    process = start("EmbeddedChain(Path(sys.argv[1])).mine(300)", chain.directory)
    seen = set()
    while process.poll() is None:
        status = chain.output(outpoint)
        assert status is not None
        assert status.spend is not None
        # the block of the fund and its 300 successors come at once or not at all
        assert status.confirmations == status.spend.confirmations + 1
        seen.add(status.confirmations)
    finish(process)
    assert seen <= {1, 301}
    status = chain.output(outpoint)
    assert status is not None
    assert status.confirmations == 301


# --- killed ---------------------------------------------------------------------------------------

WORK = """
import pbk  # it takes longer than all the rest, and nothing happens meanwhile

chain = EmbeddedChain(Path(sys.argv[1]))
print("tip", chain.tip().height, chain.tip_hash(), flush=True)
while True:
    print("paid", chain.faucet(SCRIPT, Amount(100_000)), flush=True)
    chain.mine(3)
    print("tip", chain.tip().height, chain.tip_hash(), flush=True)
"""


def test_killed_at_any_moment_and_going_on(tmp_path: Path) -> None:
    directory = tmp_path / "chain"
    moments = random.Random(1)
    promised: list[list[str]] = []
    for attempt in range(12):
        process = start(WORK, directory)
        if attempt > 1:  # the first two die around the making of the chain
            assert process.stdout is not None
            promised.append(process.stdout.readline().split())
            time.sleep(moments.uniform(0, 0.15))
        else:
            time.sleep(moments.uniform(0.2, 0.4))
        process.send_signal(signal.SIGKILL)
        stdout, stderr = process.communicate()
        assert stderr == ""
        promised += [line.split() for line in stdout.splitlines()]
        if attempt % 2:  # sometimes the next one meets what two have left behind
            with EmbeddedChain(directory) as chain:
                chain.mine(1)
                check_promises(chain, promised)
            assert_index_is_engine(directory)
    assert len(promised) >= 10


def check_promises(chain: EmbeddedChain, promised: list[list[str]]) -> None:
    """What a killed process had said is still so."""
    assert chain.mempool() == []
    for kind, *facts in promised:
        if kind == "paid":
            assert chain.output(OutPoint(Txid.from_hex(facts[0]), 0)) is not None
        else:
            assert hash_at(chain, int(facts[0])) == facts[1]


def hash_at(chain: EmbeddedChain, height: int) -> str:
    from mpchan.chain.embedded.index import Index

    index = Index(chain.directory / "index.sqlite3")
    try:
        return index.block(height).hash[::-1].hex()
    finally:
        index.close()


def test_two_threads_with_a_chain_each(tmp_path: Path) -> None:
    """As a seller and its watcher have them: both change it at once, and both see all of it."""
    directory = tmp_path / "chain"
    with EmbeddedChain(directory) as chain:
        height = chain.tip().height
    failures: list[BaseException] = []

    def work(script: bytes) -> None:
        try:
            with EmbeddedChain(directory) as own:
                for _ in range(5):
                    own.faucet(script, Amount(10_000))
                    own.mine(1)
        except BaseException as error:  # noqa: BLE001 (told below)
            failures.append(error)

    scripts = [b"\x00\x14" + bytes([number]) * 20 for number in (1, 2)]
    threads = [threading.Thread(target=work, args=(script,)) for script in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with EmbeddedChain(directory) as chain:
        assert chain.tip().height == height + 10
        chain.mine(1)
        assert {len(chain.coins([script])) for script in scripts} == {5}


def test_a_chain_that_is_found_out_of_use_in_another_thread(tmp_path: Path) -> None:
    """As the garbage collector does it: nothing is said of it, and the index can be opened again."""
    made: list[EmbeddedChain] = []

    def use() -> None:
        made.append(EmbeddedChain(tmp_path / "chain"))
        heights.append(made[0].tip().height)

    heights: list[int] = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    made.clear()
    gc.collect()
    with EmbeddedChain(tmp_path / "chain") as chain:
        assert [chain.tip().height] == heights
