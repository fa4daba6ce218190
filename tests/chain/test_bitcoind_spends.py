"""Who spent an output: found in blocks without an index, noted, and true after every reorganisation."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chain.bitcoind import account, calls, first, fresh_script, spend
from support.chain.node import Node, needs_node, running

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.answer import Answer
from mpchan.chain.base import OutputStatus, Spend
from mpchan.chain.bitcoind import BitcoindChain
from mpchan.chain.bitcoind.notes import Block, Notes
from mpchan.chain.bitcoind.rpc import Rpc
from mpchan.errors import ChainError
from mpchan.units import Height, LockTime, OutPoint, Txid

pytestmark = needs_node

TABLE = "unspent.json"
"""What is noted of all outputs that nothing spends."""

RECENT = 60
"""No output that a test asks for is older by more blocks than that, and a shared node may have very many of them."""

DEPTHS = pytest.mark.parametrize("depth", [1, 2, 6])


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """Where the notes are."""
    return tmp_path / "seen"


def asked(node: Node, seen: Path | None, outpoint: OutPoint, bound: int = 0) -> OutputStatus | None:
    """What a new process would find out, which asks from a height on; of what is recent, if not told."""
    with node.chain(seen) as chain:
        return chain.output(outpoint, not_before=Height(bound or node.height - RECENT))


def closed(node: Node, blocks: int = 3) -> tuple[Transaction, Transaction]:
    """An output, and its spend below that many blocks less one."""
    funding = node.pay(fresh_script(), 50_000)
    node.mine(2)
    close = spend(funding, 49_000)
    node.mine_with([close])
    node.mine(blocks - 1)
    return funding, close


# notes --------------------------------------------------------------------------------------------


def test_a_spend_that_was_found_is_not_looked_for_again(
    shared_node: Node, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    funding, close = closed(shared_node)
    with calls(monkeypatch) as counted:
        found = asked(shared_node, seen, first(funding))
    assert counted["getblock"] >= RECENT - 3
    shared_node.mine(2)
    with calls(monkeypatch) as counted:
        again = asked(shared_node, seen, first(funding))
    assert counted["getblock"] == 0
    assert sum(counted.values()) == 2, "the network, and whether the block still counts"
    assert found is not None
    assert again == OutputStatus(found.output, found.confirmations + 2, Spend(close.txid, 5, close))


def test_no_block_is_looked_through_twice(
    shared_node: Node, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for an output that nobody has ever seen."""
    nowhere = OutPoint(spend(shared_node.pay(fresh_script(), 50_000), 49_000).txid, 0)
    for mined, expected in ((0, RECENT + 1), (0, 0), (1, 1), (5, 5), (0, 0)):
        shared_node.mine(mined)
        with calls(monkeypatch) as counted:
            assert asked(shared_node, seen, nowhere) is None
        assert counted["getblock"] == expected


def test_an_output_that_is_seen_unspent_moves_the_search(
    shared_node: Node, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    funding = shared_node.pay(fresh_script(), 50_000)
    shared_node.mine(1)
    for _ in range(30):
        assert asked(shared_node, seen, first(funding)) is not None
        shared_node.mine(1)
    close = spend(funding, 49_000)
    shared_node.mine_with([close])
    with calls(monkeypatch) as counted:
        status = asked(shared_node, seen, first(funding))
    assert status is not None
    assert status.spend == Spend(close.txid, 1, close)
    assert 1 <= counted["getblock"] <= 8


def test_an_unspent_output_is_not_noted_at_every_question(shared_node: Node, seen: Path) -> None:
    """Nor does a question that changes nothing write a file."""
    funding = shared_node.pay(fresh_script(), 50_000)
    texts = set()
    for _ in range(12):
        shared_node.mine(1)
        for _ in range(2):
            asked(shared_node, seen, first(funding))
            texts.add((seen / TABLE).read_text())
    assert len(texts) == 2


def test_a_search_that_was_broken_off_goes_on(
    shared_node: Node, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_node.mine(30)
    funding, close = closed(shared_node)
    start = shared_node.height - 25
    looked_at: list[object] = []
    attempt = Rpc.attempt

    def failing(self: Rpc, method: str, *parameters: object, **options: float | None) -> object:
        if method == "getblock":
            looked_at.append(parameters[0])
            if len(looked_at) == 10:
                raise KeyboardInterrupt
        return attempt(self, method, *parameters, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Rpc, "attempt", failing)
        with pytest.raises(KeyboardInterrupt):
            asked(shared_node, seen, first(funding), start)
        status = asked(shared_node, seen, first(funding), start)
    assert status is not None
    assert status.spend == Spend(close.txid, 3, close)
    assert looked_at[9] == looked_at[10]
    assert len(set(looked_at)) == len(looked_at) - 1


def _write(text: str | bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode()) and None  # type: ignore[return-value]


def _edit(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def edited(path: Path) -> None:
        envelope = json.loads(path.read_text())
        change(envelope)
        path.write_text(json.dumps(envelope))

    return edited


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: path.unlink(),
    "empty": _write(""),
    "no JSON": _write("{"),
    "no object": _write("[1, 2]"),
    "null": _write("null"),
    "not UTF-8": _write(b"\xff\xfe\x00"),
    "too deep": _write("[" * 100_000),
    "half": lambda path: path.write_text(path.read_text()[:-20]) and None,  # type: ignore[dict-item]
    "no checksum": _edit(lambda envelope: envelope.pop("checksum")),
    "other height": _edit(lambda envelope: envelope["note"]["clear"].__setitem__(0, 5)),
    "other spend": _edit(lambda envelope: envelope["note"].__setitem__("spend", None)),
    "other value": _edit(lambda envelope: envelope["note"]["spend"].__setitem__("value_sat", 50_001)),
    "other outpoint": _edit(lambda envelope: envelope["note"].__setitem__("outpoint", "00" * 32 + ":0")),
    "a folder": _folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_note_is_only_slow(shared_node: Node, seen: Path, damage: str) -> None:
    funding, _ = closed(shared_node)
    expected = asked(shared_node, seen, first(funding))
    path = seen / f"{funding.txid}-0.json"
    DAMAGES[damage](path)
    for _ in range(2):
        assert asked(shared_node, seen, first(funding)) == expected


TABLE_DAMAGES: dict[str, Callable[[Path], None]] = {
    **{name: damage for name, damage in DAMAGES.items() if "other" not in name},
    "other height": _edit(lambda envelope: envelope["clear"][0].__setitem__(0, 5)),
    "other outpoint": _edit(lambda envelope: envelope["clear"][0][2].append("00" * 32 + ":0")),
    "null in place of a block": _edit(lambda envelope: envelope["clear"].append(None)),
}


@pytest.mark.parametrize("damage", TABLE_DAMAGES)
def test_a_damaged_table_is_only_slow(
    shared_node: Node, seen: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = first(spend(shared_node.pay(fresh_script(), 50_000), 49_000))
    for expected in (RECENT + 1, 0):
        with calls(monkeypatch) as counted:
            assert asked(shared_node, seen, nowhere) is None
        assert counted["getblock"] == expected
    TABLE_DAMAGES[damage](seen / TABLE)
    for expected in (RECENT + 1, RECENT + 1 if damage == "a folder" else 0):
        with calls(monkeypatch) as counted:
            assert asked(shared_node, seen, nowhere) is None
        assert counted["getblock"] == expected


def test_a_table_with_a_checksum_that_says_nonsense(shared_node: Node, seen: Path) -> None:
    """Whoever can write it can make a look slow, and no more."""
    funding, _ = closed(shared_node)
    expected = asked(shared_node, seen, first(funding))
    for clear in (  # type: ignore[var-annotated]
        [[1, "00" * 32, [str(first(funding))]]],
        [["1", 2, "x"]],
        [[-1, "00" * 32, []]],
        {},
        [[1]],
        None,
    ):
        text = json.dumps(clear, sort_keys=True, separators=(",", ":"))
        checksum = hashlib.sha256(text.encode()).hexdigest()
        (seen / TABLE).write_text(json.dumps({"checksum": checksum, "clear": clear}))
        (seen / f"{funding.txid}-0.json").unlink(missing_ok=True)
        assert asked(shared_node, seen, first(funding)) == expected


def test_the_table_keeps_the_newest_of_very_many(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpchan.chain.bitcoind.notes.MOST", 10)
    outpoints = [OutPoint(Txid(bytes([number]) * 32), 0) for number in range(30)]
    for number, outpoint in enumerate(outpoints):
        Notes(seen).put_clear([outpoint], Block(number, "00" * 32))
    kept = [number for number, outpoint in enumerate(outpoints) if Notes(seen).get(outpoint).clear]
    assert kept == list(range(20, 30))


def test_two_processes_keep_what_the_other_has_noted(seen: Path) -> None:
    outpoints = [OutPoint(Txid(bytes([number]) * 32), 0) for number in range(3)]
    one, other = Notes(seen), Notes(seen)
    one.put_clear(outpoints[:2], Block(1, "00" * 32))
    other.put_clear(outpoints[2:], Block(2, "00" * 32))
    one.put_clear(outpoints[:1], Block(3, "00" * 32))
    assert [Notes(seen).get(outpoint).clear for outpoint in outpoints] == [
        Block(3, "00" * 32),
        Block(1, "00" * 32),
        Block(2, "00" * 32),
    ]


def test_a_note_of_an_earlier_version_counts(
    shared_node: Node, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a file for each output."""
    nowhere = first(spend(shared_node.pay(fresh_script(), 50_000), 49_000))
    seen.mkdir()
    note = {
        "clear": [shared_node.height - 2, shared_node.call("getblockhash", shared_node.height - 2)],
        "outpoint": str(nowhere),
        "spend": None,
    }
    checksum = hashlib.sha256(json.dumps(note, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (seen / f"{nowhere.txid}-0.json").write_text(json.dumps({"checksum": checksum, "note": note}))
    with calls(monkeypatch) as counted:
        assert asked(shared_node, seen, nowhere) is None
    assert counted["getblock"] == 2


# one look for many --------------------------------------------------------------------------------


def test_a_block_is_read_once_for_all(shared_node: Node, seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand outputs that nobody has seen: new processes read each new block once, with few messages."""
    outpoints = [OutPoint(Txid(number.to_bytes(32, "big")), 0) for number in range(1, 1001)]
    start = Height(shared_node.height - RECENT)
    for mined, expected in ((0, RECENT + 1), (0, 0), (1, 1), (5, 5)):
        shared_node.mine(mined)
        with calls(monkeypatch) as counted, shared_node.chain(seen) as chain:
            assert chain.outputs(dict.fromkeys(outpoints, start)) == {}
        assert counted["getblock"] == expected
        assert counted.messages <= 12 + 2 * expected
    with shared_node.chain(seen) as chain:
        for mined in (1, 3):
            chain.outputs(dict.fromkeys(outpoints, start))
            shared_node.mine(mined)
            with calls(monkeypatch) as counted:
                assert chain.outputs(dict.fromkeys(outpoints, start)) == {}
            assert counted["getblock"] == mined
    assert [path.name for path in seen.iterdir()] == [TABLE]


@pytest.mark.parametrize("others", [0, 200])
def test_many_at_once_are_as_one_by_one(shared_node: Node, seen: Path, others: int) -> None:
    """Spent in one block and in several, in the mempool, unspent, never there; from bounds of their own."""
    script = fresh_script()
    funding = shared_node.pay(script, *[50_000] * 8)
    shared_node.mine(2)
    closes = [spend(funding, 49_000 - vout, vout=vout) for vout in range(6)]
    shared_node.mine_with(closes[:3])
    shared_node.mine_with([])
    shared_node.mine_with(closes[3:5])
    shared_node.mine(1)
    shared_node.call("sendrawtransaction", closes[5].to_hex())
    height = shared_node.height
    asked_for: dict[OutPoint, LockTime | None] = {
        OutPoint(funding.txid, vout): [None, Height(1), Height(height - 5), Height(height - 4)][vout % 4]
        for vout in range(9)
    }
    asked_for[OutPoint(funding.txid, 0xFFFF_FFFF)] = None
    asked_for.update(
        {OutPoint(Txid(bytes([number]) * 32), 0): Height(height + 5) for number in range(others)}
    )
    truth = account(shared_node)
    for _ in range(2):
        with shared_node.chain(seen) as chain:
            found = chain.outputs(asked_for)
        assert found == {outpoint: truth[outpoint] for outpoint in asked_for if outpoint in truth}
    shared_node.mine(1)


def test_notes_that_belong_to_another_output_do_not_count(shared_node: Node, seen: Path) -> None:
    """One file copied over another, checksum and all."""
    funding, _ = closed(shared_node)
    other, _ = closed(shared_node)
    expected = asked(shared_node, seen, first(funding))
    asked(shared_node, seen, first(other))
    paths = [seen / f"{transaction.txid}-0.json" for transaction in (funding, other)]
    paths[0].write_bytes(paths[1].read_bytes())
    assert asked(shared_node, seen, first(funding)) == expected


def test_notes_are_private_and_nothing_is_left_beside_them(shared_node: Node, seen: Path) -> None:
    funding, _ = closed(shared_node)
    asked(shared_node, seen, first(funding))
    asked(shared_node, seen, first(shared_node.pay(fresh_script(), 50_000)))
    assert {path.name for path in seen.iterdir()} == {f"{funding.txid}-0.json", TABLE}
    assert seen.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_notes_that_cannot_be_written(shared_node: Node, seen: Path) -> None:
    seen.mkdir(mode=0o500)
    funding, close = closed(shared_node)
    status = asked(shared_node, seen, first(funding))
    assert status is not None
    assert status.spend == Spend(close.txid, 3, close)


def test_a_file_in_place_of_the_notes(shared_node: Node, seen: Path) -> None:
    seen.write_text("no folder")
    funding, close = closed(shared_node)
    for _ in range(2):
        status = asked(shared_node, seen, first(funding))
        assert status is not None
        assert status.spend == Spend(close.txid, 3, close)


def test_notes_of_another_chain(shared_node: Node, node: Node, seen: Path) -> None:
    """The node was set up anew: the blocks that the notes name are unknown to it."""
    script = fresh_script()
    funding = node.pay(script, 50_000)
    node.mine(200)
    assert asked(node, seen, first(funding), 1) is not None
    assert asked(shared_node, seen, first(funding)) is None
    text = (seen / TABLE).read_text()
    assert shared_node.call("getbestblockhash") in text


# nodes with more or with less than they need ------------------------------------------------------


def test_a_node_with_indexes_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "node", "-txindex=1", "-txospenderindex=1") as node:
        funding, _ = closed(node)
        unconfirmed = node.pay(fresh_script(), 50_000)
        pending = spend(unconfirmed, 49_000)
        node.call("sendrawtransaction", pending.to_hex())
        status = _indexed(node, first(funding), monkeypatch)
        with node.chain() as chain:
            assert status == account(node)[first(funding)] == chain.output(first(funding))
            assert chain.output(first(unconfirmed)) == account(node)[first(unconfirmed)]
            assert chain.output(OutPoint(funding.txid, 9)) is None
        node.drop(4)
        with node.chain() as chain:
            assert chain.output(first(funding)) == account(node)[first(funding)]


def _indexed(node: Node, outpoint: OutPoint, monkeypatch: pytest.MonkeyPatch) -> OutputStatus | None:
    """The answer once the index has caught up with the blocks: then no block is looked through."""
    for _ in range(200):
        with calls(monkeypatch) as counted:
            status = asked(node, None, outpoint)
        if not counted["getblock"]:
            return status
    raise AssertionError("the index is not used")


def test_pruned_blocks(tmp_path: Path) -> None:
    """What was noted in time is still known; what is gone is said."""
    with running(tmp_path / "node", "-fastprune", "-prune=1") as node:
        funding, close = closed(node)
        known = asked(node, tmp_path / "seen", first(funding), 1)
        late = node.pay(fresh_script(), 50_000)
        node.mine(800)
        assert asked(node, tmp_path / "late", first(late), 1) is not None
        assert node.call("pruneblockchain", 400) > 200
        with pytest.raises(ChainError) as error:
            asked(node, None, first(funding), 1)
        assert (error.value.slug, error.value.exit_code) == ("pruned", 8)
        assert str(first(funding)) in error.value.message
        again = asked(node, tmp_path / "seen", first(funding), 1)
        assert known is not None
        assert known.spend is not None
        assert again is not None
        assert again.spend is not None
        assert again.spend.transaction == known.spend.transaction == close
        last = spend(late, 49_000)
        node.mine_with([last])
        found = asked(node, tmp_path / "late", first(late), 1)
        assert found is not None
        assert found.spend == Spend(last.txid, 1, last)
        assert asked(node, None, first(late), 700) == found


# reorganisations ----------------------------------------------------------------------------------


@pytest.fixture
def chain(node: Node, seen: Path) -> Iterator[BitcoindChain]:
    """The backend on a node of the test's own."""
    with node.chain(seen) as opened:
        yield opened


@DEPTHS
def test_an_output_whose_block_is_gone(node: Node, chain: BitcoindChain, seen: Path, depth: int) -> None:
    """In the mempool again; after a conflict nowhere; in the other branch, and back in the first one."""
    funding = node.pay(fresh_script(), 50_000)
    node.mine(depth)
    made = chain.output(first(funding))
    assert made is not None
    assert made.confirmations == depth
    blocks = node.drop(depth)
    for status in (chain.output(first(funding)), asked(node, seen, first(funding))):
        assert status == OutputStatus(made.output, 0)
    conflict = spend(Transaction(2, (), (made.output,), 0), 1)  # the same coin, spent otherwise
    conflict = Transaction(2, funding.inputs, conflict.outputs, 0)
    node.mine_with([conflict])
    node.mine(depth)
    for status in (chain.output(first(funding)), asked(node, seen, first(funding))):
        assert status is None
    node.drop(depth + 1)
    node.call("reconsiderblock", blocks[0])
    node.mine(1)
    for status in (chain.output(first(funding)), asked(node, seen, first(funding))):
        assert status == OutputStatus(made.output, depth + 1)


@DEPTHS
def test_a_spend_whose_block_is_gone(node: Node, chain: BitcoindChain, seen: Path, depth: int) -> None:
    funding, close = closed(node, depth)
    found = chain.output(first(funding))
    assert found is not None
    assert found.spend == Spend(close.txid, depth, close)
    node.drop(depth)
    pending = OutputStatus(found.output, 2, Spend(close.txid, 0, close))
    for status in (chain.output(first(funding)), asked(node, seen, first(funding))):
        assert status == pending
    other = spend(funding, 20_000, 28_000)
    node.mine_with([other])  # another spend is confirmed in its place
    node.mine(depth)
    for status in (chain.output(first(funding)), asked(node, seen, first(funding))):
        assert status == OutputStatus(found.output, 3 + depth, Spend(other.txid, 1 + depth, other))
    node.drop(depth + 1)
    for status in (chain.output(first(funding)), asked(node, seen, first(funding))):
        assert status == OutputStatus(found.output, 2, Spend(other.txid, 0, other))


@DEPTHS
def test_the_same_spend_in_another_block(node: Node, chain: BitcoindChain, seen: Path, depth: int) -> None:
    funding, close = closed(node, depth)
    assert chain.output(first(funding)) is not None
    node.drop(depth)
    node.mine_with([])
    node.mine(depth)
    for status in (chain.output(first(funding)), asked(node, seen, first(funding))):
        assert status is not None
        assert status.spend == Spend(close.txid, depth, close)
        assert status.confirmations == depth + 3


@DEPTHS
def test_a_spend_in_a_block_that_replaces_one_that_was_looked_through(
    node: Node, seen: Path, depth: int
) -> None:
    """The note speaks of blocks that no longer count, and the search begins again where the branches part."""
    funding = node.pay(fresh_script(), 50_000)
    close = spend(funding, 49_000)
    node.mine(1)
    node.mine(depth)
    assert asked(node, seen, first(funding)) is not None
    assert asked(node, seen, first(close)) is None
    node.drop(depth)
    node.mine_with([close])
    last = spend(close, 48_000)
    node.mine_with([last])
    node.mine(depth)
    for outpoint, spender in ((first(funding), close), (first(close), last)):
        status = asked(node, seen, outpoint)
        assert status is not None
        assert status.spend is not None
        assert status.spend.txid == spender.txid
        assert status == account(node)[outpoint]


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(node: Node, seen: Path, seed: int) -> None:
    """Blocks come and go, transactions are replaced: the answers are those of a reading of the whole chain."""
    chance = random.Random(seed)
    transactions = [node.pay(fresh_script(), 90_000, 90_000) for _ in range(3)]
    dropped: list[str] = []
    everything: dict[OutPoint, LockTime | None] = {}
    with node.chain(seen) as steady:
        for _ in range(25):
            step = chance.random()
            if step < 0.3:
                node.mine(chance.randint(1, 4))
            elif step < 0.4:
                dropped.append(node.drop(chance.randint(1, 6))[0])
                node.mine(chance.randint(0, 7))
            elif step < 0.48 and dropped:
                node.call("reconsiderblock", dropped.pop(chance.randrange(len(dropped))))
            else:
                parent = chance.choice(transactions)
                vout = chance.randrange(len(parent.outputs))
                value = chance.randint(500, max(1_000, parent.outputs[vout].value.sat))
                close = spend(parent, value, vout=vout, script=fresh_script())
                try:
                    steady.broadcast(close)
                except ChainError:
                    continue
                transactions.append(close)
            truth = account(node)
            for transaction in chance.sample(transactions, min(4, len(transactions))):
                for vout in range(len(transaction.outputs)):
                    outpoint = OutPoint(transaction.txid, vout)
                    everything[outpoint] = Height(1)
                    assert steady.output(outpoint) == truth.get(outpoint)
                    assert asked(node, seen, outpoint, 1) == truth.get(outpoint)
            known = {outpoint: truth[outpoint] for outpoint in everything if outpoint in truth}
            with node.chain(seen) as fresh:
                assert steady.outputs(everything) == fresh.outputs(everything) == known


def test_a_block_that_comes_while_it_is_looked_at(
    node: Node, chain: BitcoindChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two questions: the answer is that of a moment, never a mixture."""
    script = fresh_script()
    funding = node.pay(script, 50_000)
    node.mine(2)
    close = spend(funding, 49_000)
    attempt = Rpc.attempt
    for nth in range(1, 12):
        node.call("sendrawtransaction", close.to_hex())
        before = account(node)[first(funding)]
        asked_for = iter(range(100))

        def moving(self: Rpc, method: str, *parameters: object, **options: float | None) -> object:
            if next(asked_for) == nth:  # noqa: B023
                node.mine(1)
            return attempt(self, method, *parameters, **options)

        with monkeypatch.context() as patch, node.chain() as fresh:
            patch.setattr(Rpc, "attempt", moving)
            status = fresh.output(first(funding), not_before=Height(node.height - 3))
        assert status in (before, account(node)[first(funding)]), nth
        if node.height > 112:
            node.drop(node.height - 112)


def test_another_branch_while_blocks_are_looked_through(
    node: Node, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the spend in place of a block that was looked through already."""
    funding = node.pay(fresh_script(), 50_000)
    node.mine(2)
    start = node.height + 1
    node.mine(8)
    close = spend(funding, 49_000)
    node.call("sendrawtransaction", close.to_hex())
    looked_at: list[object] = []
    attempt = Rpc.attempt

    def moving(self: Rpc, method: str, *parameters: object, **options: float | None) -> object:
        if method == "gettxspendingprevout" and not looked_at:
            node.mine(1)
        if method == "getblockhash" and parameters[0] == start + 5 and len(looked_at) == 5:
            node.drop(9)
            node.mine(12)
        if method == "getblock":
            looked_at.append(parameters[0])
        return attempt(self, method, *parameters, **options)

    with monkeypatch.context() as patch, node.chain(seen) as chain:
        patch.setattr(Rpc, "attempt", moving)
        status = chain.output(first(funding), not_before=Height(start))
    assert len(looked_at) > 5, "the search was under way"
    assert status == account(node)[first(funding)] == asked(node, seen, first(funding), start)
    assert status is not None
    assert status.spend == Spend(close.txid, 12, close)


def test_a_node_that_answers_in_an_order_of_its_own(
    node: Node, chain: BitcoindChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that keeps an index of spends tells first of those that its mempool spends."""
    fundings = [node.pay(fresh_script(), 50_000) for _ in range(2)]
    node.mine(1)
    closes = [spend(funding, 49_000) for funding in fundings]
    for close in closes:
        node.call("sendrawtransaction", close.to_hex())
    attempt = Rpc.attempt

    def turned(self: Rpc, method: str, *parameters: object, **options: float | None) -> object:
        reply = attempt(self, method, *parameters, **options)
        if method == "gettxspendingprevout":
            assert isinstance(reply, Answer)
            reply = Answer([item._value for item in reversed(reply.items())], method)
        return reply

    monkeypatch.setattr(Rpc, "attempt", turned)
    found = chain.outputs({first(funding): None for funding in fundings})
    assert [found[first(funding)].spend for funding in fundings] == [
        Spend(close.txid, 0, close) for close in closes
    ]


def test_a_chain_that_never_holds_still(
    node: Node, chain: BitcoindChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = first(spend(node.pay(fresh_script(), 50_000), 49_000))
    attempt = Rpc.attempt

    def moving(self: Rpc, method: str, *parameters: object, **options: float | None) -> object:
        if method in ("gettxspendingprevout", "getrawmempool"):
            node.mine(1)
        return attempt(self, method, *parameters, **options)

    monkeypatch.setattr(Rpc, "attempt", moving)
    for question in (lambda: chain.output(nowhere), lambda: chain.coins([fresh_script()])):
        with pytest.raises(ChainError) as error:
            question()
        assert (error.value.slug, error.value.exit_code) == ("chain-moving", 8)
