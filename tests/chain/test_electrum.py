"""The backend ``electrum`` on a real ElectrumX: what it says is what a reading of the whole chain says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.chain.bitcoind import account, first, fresh_script, spend
from support.chain.electrum_server import ElectrumServer, eventually, node_options, serving
from support.chain.node import FEE, running

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import Chain, Coin, OutputStatus, Spend
from mpchan.chain.electrum import ElectrumChain, connection, following, headers, pool
from mpchan.chain.electrum.rules import RULES
from mpchan.errors import ChainError, MpchanError, TooEarly
from mpchan.units import Amount, FeeRate, OutPoint, Txid
from mpchan.values import replace


@pytest.fixture
def chain(electrum: ElectrumServer, tmp_path: Path) -> Iterator[ElectrumChain]:
    """The backend with files of its own."""
    with electrum.chain(tmp_path) as opened:
        yield opened


def refusal(chain: ElectrumChain, *transactions: Transaction) -> MpchanError:
    with pytest.raises(MpchanError) as caught:
        send(chain, *transactions)
    return caught.value


def send(chain: ElectrumChain, *transactions: Transaction) -> None:
    """One transaction alone, several as a package."""
    if len(transactions) == 1:
        chain.broadcast(transactions[0])
    else:
        chain.broadcast_package(transactions)


# tip and fees -------------------------------------------------------------------------------------


def test_it_is_a_chain_backend(chain: ElectrumChain) -> None:
    backend: Chain = chain
    assert backend.sends
    assert backend.stated_confirmations is None


def test_the_tip_is_the_nodes(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    with electrum.node.chain() as node:
        for count in (0, 1, 3, 20):
            electrum.node.mine(count)
            electrum.settle()
            assert chain.tip() == node.tip()


def test_fee_rates_are_the_nodes_within_bounds(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    with electrum.node.chain() as node:
        assert chain.min_fee_rate() == node.min_fee_rate()
    assert chain.fee_rate() >= chain.min_fee_rate()


def test_a_node_that_relays_for_more(electrum: ElectrumServer, tmp_path: Path) -> None:
    options = [*node_options(), "-minrelaytxfee=0.00007777"]
    with running(tmp_path / "node", *options, ripe=False) as node:
        node.mine()
        with serving(node, tmp_path / "server") as server, server.chain() as chain:
            assert chain.min_fee_rate() == FeeRate(7777)
            assert chain.fee_rate() == FeeRate(7777), "no estimate, and the fallback is not even relayed"


# outputs ------------------------------------------------------------------------------------------


def test_the_life_of_an_output(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    """Unknown, in the mempool, in a block, spent in the mempool, spent in a block."""
    node, script = electrum.node, fresh_script()
    funding = node.pay(script, 50_000)
    output = TxOut(Amount(50_000), script)
    electrum.settle()
    assert chain.output(first(funding)) == OutputStatus(output, 0)
    node.mine(3)
    electrum.settle()
    assert chain.output(first(funding)) == OutputStatus(output, 3)
    close = spend(funding, 49_000)
    chain.broadcast(close)
    electrum.settle()
    assert chain.output(first(funding)) == OutputStatus(output, 3, Spend(close.txid, 0, close))
    node.mine(2)
    electrum.settle()
    assert chain.output(first(funding)) == OutputStatus(output, 5, Spend(close.txid, 2, close))


def test_what_was_just_sent_is_there_at_once(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    """Though the server's index of scripts takes its time."""
    funding = electrum.node.pay(fresh_script(), 50_000)
    close = spend(funding, 49_000, script=fresh_script())
    chain.broadcast(close)
    assert chain.output(first(close)) == OutputStatus(close.outputs[0], 0)


def test_what_is_not_there(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    funding = electrum.node.pay(fresh_script(), 50_000)
    assert chain.output(OutPoint(Txid(bytes(32)), 0)) is None
    assert chain.output(OutPoint(funding.txid, 2)) is None
    assert chain.output(OutPoint(funding.txid, 0xFFFF_FFFF)) is None
    unsent = spend(funding, 40_000)
    assert chain.output(first(unsent)) is None


def test_an_output_that_nobody_can_spend(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    funding = electrum.node.pay(fresh_script(), 50_000)
    marker = spend(funding, 0, script=b"\x6a\x04mark")
    chain.broadcast(marker)
    electrum.node.mine()
    electrum.settle()
    with electrum.node.chain() as node:
        assert chain.output(first(marker)) == node.output(first(marker)) is None


def test_coinbases_ripen(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    node, script = electrum.node, fresh_script()
    [block] = node.mine(1, script)
    [txid] = node.call("getblock", block)["tx"][:1]
    outpoint = OutPoint(Txid.from_hex(txid), 0)
    with node.chain() as other:
        for count in (0, 1, 98, 1):
            node.mine(count)
            electrum.settle()
            assert chain.output(outpoint) == other.output(outpoint)
            assert chain.coins([script]) == other.coins([script])
        status = chain.output(outpoint)
    assert status is not None
    assert status.confirmations == 101
    assert status.mature


def test_a_spend_among_many_of_one_script(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    """More transactions than are fetched at once."""
    node, script = electrum.node, fresh_script()
    fundings = [node.pay(script, 5_000, 6_000) for _ in range(24)]
    node.mine()
    close = spend(fundings[17], 5_500, vout=1)
    node.call("sendrawtransaction", close.to_hex())
    electrum.settle()
    truth = account(node)
    for funding in fundings[15:19]:
        for vout in (0, 1):
            outpoint = OutPoint(funding.txid, vout)
            assert chain.output(outpoint) == truth[outpoint]
    assert len(chain.coins([script])) == 47


def test_a_transaction_of_64_bytes_proves_nothing(
    electrum: ElectrumServer, chain: ElectrumChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one, in a block, with a true proof: it could be a node of the tree as well (CVE-2017-12842)."""
    monkeypatch.setattr(pool, "PAUSES", (0.01,))
    node = electrum.node
    funding = node.pay(fresh_script(), 50_000)
    node.mine()
    small = spend(funding, 49_000, script=b"\x51\x51\x51\x51")
    assert len(small.to_bytes(include_witness=False)) == 64
    node.mine_with([small])
    electrum.settle()
    assert account(node)[first(small)].confirmations == 1
    for outpoint in (first(small), first(funding)):
        with pytest.raises(ChainError) as caught:
            chain.output(outpoint)
        assert caught.value.slug == "proof-refused"
        assert "64 bytes" in caught.value.message


# coins --------------------------------------------------------------------------------------------


def test_coins_are_those_of_the_node(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    """Confirmed, waiting, spent by what waits, of several scripts, and of one that nobody paid to."""
    node, scripts = electrum.node, [fresh_script() for _ in range(3)]
    confirmed = node.pay(scripts[0], 10_000, 20_000, 30_000)
    node.pay(scripts[1], 40_000)
    node.mine(2)
    waiting = node.pay(scripts[0], 50_000)
    node.call("sendrawtransaction", spend(confirmed, 19_000, vout=1, script=scripts[1]).to_hex())
    electrum.settle()
    with node.chain() as other:
        coins = chain.coins(scripts)
        assert coins == other.coins(scripts)
    assert len(coins) == 5
    assert Coin(first(waiting), waiting.outputs[0], 0) in coins
    assert chain.coins([]) == chain.coins([scripts[2]]) == []
    assert chain.used_scripts(scripts) == set(scripts[:2])
    assert chain.used_scripts([]) == set()


def test_a_script_is_used_though_nothing_is_left(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    script = fresh_script()
    funding = electrum.node.pay(script, 10_000)
    electrum.node.call("sendrawtransaction", spend(funding, 9_000).to_hex())
    electrum.node.mine()
    electrum.settle()
    assert chain.coins([script]) == []
    assert chain.used_scripts([script, fresh_script()]) == {script}


# broadcasts ---------------------------------------------------------------------------------------


def test_what_is_known_is_fine(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    """In the mempool, in a block with its outputs unspent, in one with all of them spent."""
    funding = electrum.node.pay(fresh_script(), 50_000)
    close = spend(funding, 49_000, script=fresh_script())
    chain.broadcast(close)
    chain.broadcast(close)
    electrum.node.mine()
    electrum.settle()
    chain.broadcast(close)
    chain.broadcast(spend(close, 48_000))
    electrum.node.mine()
    electrum.settle()
    chain.broadcast(close)
    chain.broadcast(funding)


def test_what_is_refused_says_the_nodes_reason(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    funding = electrum.node.pay(fresh_script(), 50_000)
    electrum.node.mine()
    electrum.settle()
    lock_time = electrum.node.height + 10
    early = refusal(chain, spend(funding, 40_000, lock_time=lock_time))
    assert (type(early), early.slug, early.exit_code) == (TooEarly, "non-final", 6)
    assert early.hint == f"it is locked until block {lock_time}"
    for wrong, reason in (
        (spend(funding, 51_000), "bad-txns-in-belowout"),
        (spend(funding, 100), "min relay fee not met|dust"),
        (spend(spend(funding, 40_000, script=fresh_script()), 30_000), "bad-txns-inputs-missingorspent"),
    ):
        error = refusal(chain, wrong)
        if reason.startswith("bad"):
            assert (error.slug, error.exit_code) == ("rejected", 8)
            assert reason in error.message
            assert wrong.to_hex() not in error.message
    chain.broadcast(spend(funding, 40_000))
    electrum.node.mine()
    electrum.settle()
    error = refusal(chain, spend(funding, 30_000))
    assert error.slug == "rejected"
    assert "missingorspent" in error.message


# packages -----------------------------------------------------------------------------------------


def test_a_parent_that_pays_nothing_goes_in_with_its_child(
    electrum: ElectrumServer, chain: ElectrumChain
) -> None:
    funding = electrum.node.pay(fresh_script(), 100_000)
    electrum.node.mine()
    electrum.settle()
    parent = spend(funding, 100_000, script=fresh_script())
    child = spend(parent, 90_000)
    assert refusal(chain, parent).slug == "rejected"
    for _ in range(2):
        chain.broadcast_package([parent, child])
        assert {str(parent.txid), str(child.txid)} <= set(electrum.node.call("getrawmempool"))
    electrum.node.mine()
    electrum.settle()
    chain.broadcast_package([parent, child])


def test_a_package_with_a_parent_that_is_known(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    funding = electrum.node.pay(fresh_script(), 100_000)
    waiting = spend(funding, 99_000, script=fresh_script())
    chain.broadcast(waiting)
    chain.broadcast_package([funding, waiting, spend(waiting, 90_000)])
    alone = electrum.node.pay(fresh_script(), 100_000)
    chain.broadcast_package([spend(alone, 90_000)])


def test_a_package_that_is_refused(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    funding = electrum.node.pay(fresh_script(), 100_000)
    electrum.node.mine()
    electrum.settle()
    parent = spend(funding, 100_000, script=fresh_script())
    poor = refusal(chain, parent, spend(parent, 99_999))
    assert (poor.slug, poor.exit_code) == ("rejected", 8)
    locked = spend(funding, 100_000, script=fresh_script(), lock_time=electrum.node.height + 50)
    assert refusal(chain, locked, spend(locked, 90_000)).slug == "non-final"


# older servers ------------------------------------------------------------------------------------


@pytest.fixture
def old(electrum: ElectrumServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ElectrumChain]:
    """The backend, which agrees with the server on protocol 1.4."""
    monkeypatch.setattr(connection, "MAX_PROTOCOL", "1.4")
    with electrum.chain() as opened:
        yield opened


def test_protocol_1_4(electrum: ElectrumServer, old: ElectrumChain) -> None:
    """Headers come as one text, the relay fee by a question of its own, and packages are not taken."""
    node, script = electrum.node, fresh_script()
    funding = node.pay(script, 100_000)
    node.mine(2)
    electrum.settle()
    assert next(iter(old._pool._servers.values())).connection.protocol == ()
    with node.chain() as other:
        assert old.tip() == other.tip()
        assert next(iter(old._pool._servers.values())).connection.protocol == (1, 4)
        assert old.min_fee_rate() == FeeRate(100)
        assert old.fee_rate() >= FeeRate(100)
        assert old.coins([script]) == other.coins([script])
    assert old.output(first(funding)) == account(node)[first(funding)]
    parent = spend(funding, 100_000, script=fresh_script())
    child = spend(parent, 90_000)
    error = refusal(old, parent, child)
    assert (error.slug, error.exit_code) == ("no-packages", 8)
    node.call("submitpackage", [parent.to_hex(), child.to_hex()])
    old.broadcast_package([parent, child])
    node.mine()
    electrum.settle()
    old.broadcast_package([parent, child])


# a chain that begins at a checkpoint --------------------------------------------------------------


def test_a_chain_that_begins_at_a_checkpoint(
    electrum: ElectrumServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More headers than one answer holds, and coins that are older than the first of them."""
    node, script = electrum.node, fresh_script()
    old = node.pay(script, 50_000)
    period, size = 40, 25
    node.mine(period)
    recent = node.pay(script, 60_000)
    checkpoint = (node.height // period + 1) * period + 20
    node.mine(checkpoint + period + 5 - node.height)
    electrum.settle()
    known = (checkpoint, node.call("getblockhash", checkpoint))
    monkeypatch.setattr(headers, "PERIOD", period)
    monkeypatch.setattr(following, "MAX_HEADERS", size)
    monkeypatch.setattr(pool, "RULES", {"regtest": replace(RULES["regtest"], checkpoint=known)})
    monkeypatch.setattr(following, "RULES", pool.RULES)  # type: ignore[attr-defined]
    with electrum.chain(tmp_path) as chain, node.chain() as other:
        assert chain.tip() == other.tip()
        assert (tmp_path / "seen" / "headers").stat().st_size < 80 * 100, (
            "nothing before the checkpoint's period"
        )
        for funding in (recent, old):
            assert chain.output(first(funding)) == account(node)[first(funding)]
        assert chain.coins([script]) == other.coins([script])
        node.mine()
        electrum.settle()
        assert chain.tip() == other.tip()
    with electrum.chain(tmp_path) as chain:
        assert chain.output(first(old)) == account(node)[first(old)]
    wrong = replace(RULES["regtest"], checkpoint=(checkpoint, "00" * 32))
    monkeypatch.setattr(pool, "RULES", {"regtest": wrong})
    monkeypatch.setattr(following, "RULES", pool.RULES)  # type: ignore[attr-defined]
    with electrum.chain(tmp_path) as chain, pytest.raises(ChainError) as caught:
        chain.tip()
    assert caught.value.slug == "headers-refused"


# reorganisations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_reorganisations(electrum: ElectrumServer, chain: ElectrumChain, tmp_path: Path, depth: int) -> None:
    """A funding and its spend lose their blocks, come back in others, and lose those too."""
    node, script = electrum.node, fresh_script()
    funding = node.pay(script, 50_000)
    node.mine(1)
    close = spend(funding, 40_000)
    node.call("sendrawtransaction", close.to_hex())
    node.mine(depth)
    electrum.settle()
    for mined in ([], [funding], [funding, close]):
        assert chain.output(first(funding)) == account(node)[first(funding)]
        node.drop(depth + 1)
        node.mine_with([parent for parent in mined if not _confirmed(node, parent)])
        for _ in range(depth + 1):
            node.mine_with([])
        electrum.settle()
        assert chain.output(first(funding)) == account(node)[first(funding)]
        with electrum.chain(tmp_path) as later, node.chain() as other:
            assert later.output(first(funding)) == account(node)[first(funding)]
            assert later.tip() == chain.tip() == other.tip()
    node.mine()
    electrum.settle()


def _confirmed(node: object, transaction: Transaction) -> bool:
    found = node.call("getrawtransaction", str(transaction.txid), True)  # type: ignore[attr-defined]
    return bool(found.get("confirmations", 0))


@pytest.mark.parametrize("seed", range(2))
def test_random_histories(electrum: ElectrumServer, chain: ElectrumChain, seed: int) -> None:
    """Blocks come and go: the answers are those of a reading of the whole chain."""
    node, chance = electrum.node, random.Random(seed)
    transactions = [node.pay(fresh_script(), 9_000_000, 9_000_000) for _ in range(3)]
    for _ in range(12):
        step = chance.random()
        if step < 0.3:
            node.mine(chance.randint(1, 3))
        elif step < 0.5:
            depth = chance.randint(1, 3)
            node.drop(depth)
            node.mine(depth + 1)
        else:
            parent = chance.choice(transactions)
            value = parent.outputs[vout := chance.randrange(2)].value.sat
            close = spend(
                parent, value // 2 - FEE // 2, value // 2 - FEE // 2, vout=vout, script=fresh_script()
            )
            with suppress(ChainError):  # a coin that is spent already
                chain.broadcast(close)
                transactions.append(close)
        electrum.settle()
        truth = account(node)
        for transaction in chance.sample(transactions, 3):
            for vout in range(len(transaction.outputs)):
                outpoint = OutPoint(transaction.txid, vout)
                assert chain.output(outpoint) == truth.get(outpoint)
    node.mine()
    electrum.settle()


# the file of headers ------------------------------------------------------------------------------


def test_headers_are_kept_and_a_damaged_file_costs_time_only(
    electrum: ElectrumServer, chain: ElectrumChain, tmp_path: Path
) -> None:
    tip = chain.tip()
    path = tmp_path / "seen" / "headers"
    whole = path.read_bytes()
    assert len(whole) >= 80 * (tip.height + 1)
    flipped = whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:]
    for damaged in (
        flipped,
        b"",
        whole[:-1],
        whole[:-80],
        whole[:100],
        whole + bytes(80),
        whole.replace(b"m", b"M", 1),
    ):
        path.write_bytes(damaged)
        with electrum.chain(tmp_path) as later:
            assert later.tip() == tip
        assert path.read_bytes() == whole
    path.unlink()
    path.mkdir()
    with electrum.chain(tmp_path) as later:
        assert later.tip() == tip


def test_a_server_that_restarts_between_two_questions(electrum: ElectrumServer, tmp_path: Path) -> None:
    with serving(electrum.node, tmp_path / "server") as server, server.chain() as chain:
        assert chain.tip() == electrum.chain().tip()
        server.stop()
        with pytest.raises(ChainError) as caught:
            chain.tip()
        assert caught.value.slug == "unreachable"
        server.start()
        eventually(chain.tip, electrum.chain().tip())


def test_a_package_with_a_parent_that_left_the_chain(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    """The server's node shows it still, from a block that was replaced; it is handed over again with its child."""
    node = electrum.node
    funding = node.pay(fresh_script(), 100_000)
    node.mine()
    node.mine()
    # free of charge, so that no mempool takes it alone; and too early again below the replaced blocks
    parent = spend(funding, 100_000, script=fresh_script(), lock_time=node.height)
    node.mine_with([parent])
    electrum.settle()
    node.drop(2)
    node.mine(3)
    electrum.settle()
    assert node.call("getrawmempool") == []
    assert electrum.ask("blockchain.transaction.get", str(parent.txid)) == parent.to_hex()
    child = spend(parent, 90_000)
    chain.broadcast_package([parent, child])
    assert set(node.call("getrawmempool")) == {str(parent.txid), str(child.txid)}
    node.mine()


def test_what_left_the_chain_for_good_is_gone(electrum: ElectrumServer, chain: ElectrumChain) -> None:
    """A server's node still shows the transaction of a replaced block, whose coin another one has spent by then."""
    node = electrum.node
    coin = node.pay(fresh_script(), 50_000)
    node.mine()
    replaced = spend(coin, 49_000, script=fresh_script())
    node.mine_with([replaced])
    electrum.settle()
    assert chain.output(first(replaced)) == OutputStatus(replaced.outputs[0], 1)
    node.drop(1)
    node.mine_with([spend(coin, 48_000)])
    node.mine()
    electrum.settle()
    assert electrum.ask("blockchain.transaction.get", str(replaced.txid)) == replaced.to_hex()
    for asked in (chain, electrum.chain()):
        eventually(lambda asked=asked: asked.output(first(replaced)), None)  # type: ignore[misc]
        with node.chain() as other:
            assert other.output(first(replaced)) is None
