"""The backend ``bitcoind`` on a real node that has neither a wallet nor an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.bitcoind import LOCKABLE, calls, first, fresh_script, spend
from support.chain.node import FEE, MINER_SCRIPT, Node, needs_node, running

from mpchan.bitcoin.script import script_to_p2wsh_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import Chain, Coin, OutputStatus, Spend
from mpchan.chain.bitcoind import BitcoindChain
from mpchan.errors import ChainError, TooEarly
from mpchan.units import Amount, FeeRate, Height, MedianTime, OutPoint, Txid

pytestmark = needs_node


@pytest.fixture
def chain(shared_node: Node, tmp_path: Path) -> Iterator[BitcoindChain]:
    """The backend with notes of its own."""
    with shared_node.chain(tmp_path / "seen") as opened:
        yield opened


@pytest.fixture
def own(node: Node, tmp_path: Path) -> Iterator[BitcoindChain]:
    """The backend on a node of the test's own."""
    with node.chain(tmp_path / "seen") as opened:
        yield opened


def slug_of(error: pytest.ExceptionInfo[ChainError] | pytest.ExceptionInfo[TooEarly]) -> tuple[str, int]:
    return error.value.slug, error.value.exit_code


# tip and fees -------------------------------------------------------------------------------------


def test_it_is_a_chain_backend(chain: BitcoindChain) -> None:
    backend: Chain = chain
    assert backend.sends
    assert backend.stated_confirmations is None


def test_the_tip_is_the_nodes(shared_node: Node, chain: BitcoindChain) -> None:
    for _ in range(3):
        shared_node.mine()
        header = shared_node.call("getblockheader", shared_node.call("getbestblockhash"))
        tip = chain.tip()
        assert (tip.height, tip.median_time) == (header["height"], header["mediantime"])


def test_fee_rates_come_from_the_node(tmp_path: Path) -> None:
    with running(tmp_path / "dear", "-minrelaytxfee=0.00007777", ripe=False) as node, node.chain() as chain:
        assert chain.min_fee_rate() == FeeRate(7777)
        assert chain.fee_rate() == FeeRate(7777), "no estimate, and the fallback is not even relayed"
    with running(tmp_path / "cheap", ripe=False) as node, node.chain() as chain:
        assert chain.min_fee_rate() == FeeRate(100)
        assert chain.fee_rate() == FeeRate(5000)


# outputs ------------------------------------------------------------------------------------------


def test_the_life_of_an_output(shared_node: Node, chain: BitcoindChain) -> None:
    """Unknown, in the mempool, in a block, spent in the mempool, spent in a block."""
    script = fresh_script()
    funding = shared_node.pay(script, 50_000)
    output = TxOut(Amount(50_000), script)
    assert chain.output(first(funding)) == OutputStatus(output, 0)
    shared_node.mine(3)
    assert chain.output(first(funding)) == OutputStatus(output, 3)
    close = spend(funding, 49_000)
    chain.broadcast(close)
    assert chain.output(first(funding)) == OutputStatus(output, 3, Spend(close.txid, 0, close))
    shared_node.mine(2)
    assert chain.output(first(funding)) == OutputStatus(output, 5, Spend(close.txid, 2, close))
    assert chain.output(OutPoint(funding.txid, 2)) is None
    assert chain.output(OutPoint(funding.txid, 0xFFFF_FFFF)) is None
    assert chain.output(OutPoint(Txid(b"\x01" * 32), 0)) is None


def test_made_and_spent_in_the_mempool(shared_node: Node, chain: BitcoindChain) -> None:
    script = fresh_script()
    funding = shared_node.pay(script, 50_000)
    close = spend(funding, 49_000)
    chain.broadcast(close)
    status = OutputStatus(TxOut(Amount(50_000), script), 0, Spend(close.txid, 0, close))
    assert chain.output(first(funding)) == status
    assert chain.output(OutPoint(funding.txid, 7)) is None
    shared_node.mine()
    assert chain.output(first(funding)) == OutputStatus(status.output, 1, Spend(close.txid, 1, close))


def test_a_spend_is_found_without_notes_and_without_a_lower_bound(shared_node: Node) -> None:
    script = fresh_script()
    funding = shared_node.pay(script, 50_000)
    shared_node.mine(2)
    close = spend(funding, 20_000, 29_000)
    shared_node.mine_with([close])
    shared_node.mine(4)
    expected = OutputStatus(TxOut(Amount(50_000), script), 7, Spend(close.txid, 5, close))
    with shared_node.chain() as forgetful:
        assert forgetful.output(first(funding)) == expected


def test_a_coinbase_that_is_spent(shared_node: Node, chain: BitcoindChain) -> None:
    [coinbase] = shared_node.call("getblock", shared_node.call("getblockhash", 1), 1)["tx"]
    shared_node.pay(fresh_script(), *[1000] * 3)
    status = chain.output(OutPoint(Txid.from_hex(coinbase), 0))
    assert status is not None
    assert status.output == TxOut(Amount(50 * 100_000_000), MINER_SCRIPT)
    # it was the first coin of the tests of this process, spent in the mempool or in a block by now
    assert status.confirmations == shared_node.height
    assert status.spend is not None


def test_the_outpoint_in_a_block_that_does_not_spend_it(shared_node: Node, chain: BitcoindChain) -> None:
    """The 36 bytes stand in an output's script as well; only an input spends."""
    script = fresh_script()
    funding = shared_node.pay(script, 50_000, 50_000)
    shared_node.mine()
    outpoint = first(funding)
    data = b"\x6a\x24" + outpoint.txid.wire + outpoint.vout.to_bytes(4, "little")
    decoy = spend(funding, 0, vout=1, script=data)
    shared_node.mine_with([decoy])
    shared_node.mine()
    close = spend(funding, 49_000)
    shared_node.mine_with([close])
    status = chain.output(outpoint, not_before=Height(1))
    assert status is not None
    assert status.spend == Spend(close.txid, 1, close)


def test_blocks_are_looked_through_from_the_lower_bound_on(shared_node: Node) -> None:
    funding = shared_node.pay(fresh_script(), 50_000)
    shared_node.mine(2)
    close = spend(funding, 49_000)
    block = shared_node.mine_with([close])
    shared_node.mine(3)
    header = shared_node.call("getblockheader", block)
    height, median_time = header["height"], header["mediantime"]
    for bound in (None, Height(1), Height(height), MedianTime(median_time), MedianTime(500_000_000)):
        with shared_node.chain() as chain:
            status = chain.output(first(funding), not_before=bound)
            assert status is not None, bound
            assert status.spend == Spend(close.txid, 4, close), bound
    later = shared_node.call("getblockheader", shared_node.call("getblockhash", height + 1))["mediantime"]
    for wrong in (Height(height + 1), Height(height + 4), Height(height + 100), MedianTime(later + 10_000)):
        with shared_node.chain() as chain:
            assert chain.output(first(funding), not_before=wrong) is None, "the caller's word is taken"


# coins --------------------------------------------------------------------------------------------


def test_coins_of_scripts(shared_node: Node, chain: BitcoindChain) -> None:
    scripts = [fresh_script() for _ in range(3)]
    assert chain.coins(scripts) == []
    assert chain.coins([]) == []
    confirmed = shared_node.pay(scripts[0], 10_000, 20_000)
    shared_node.pay(fresh_script(), 30_000)
    shared_node.mine(4)
    unconfirmed = shared_node.pay(scripts[1], 40_000)
    chain.broadcast(spend(confirmed, 9_000, vout=0))
    change = spend(confirmed, 15_000, vout=1, script=scripts[2])
    chain.broadcast(change)
    chain.broadcast(spend(change, 14_000, script=scripts[1]))
    expected = [
        Coin(first(unconfirmed), TxOut(Amount(40_000), scripts[1]), 0),
        Coin(first(spend(change, 14_000, script=scripts[1])), TxOut(Amount(14_000), scripts[1]), 0),
    ]
    assert chain.coins(scripts) == sorted(expected, key=lambda coin: coin.outpoint)
    shared_node.mine(2)
    found = chain.coins(list(reversed(scripts)))
    assert [(coin.outpoint, coin.confirmations) for coin in found] == sorted(
        (coin.outpoint, 2) for coin in expected
    )


def test_used_scripts_are_those_of_unspent_outputs_and_of_the_mempool(
    shared_node: Node, chain: BitcoindChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search for any number of scripts; what only spent outputs paid to is not known to a node."""
    held, pending, passing, gone, never = (fresh_script() for _ in range(5))
    shared_node.pay(held, 10_000)
    spent = shared_node.pay(gone, 10_000)
    shared_node.mine(1)
    shared_node.mine_with([spend(spent, 9_000)])
    shared_node.pay(pending, 10_000)
    within = shared_node.pay(passing, 10_000)
    chain.broadcast(spend(within, 9_000))
    others = [fresh_script() for _ in range(100)]
    with calls(monkeypatch) as counted:
        assert chain.used_scripts([held, pending, passing, gone, never, *others]) == {held, pending, passing}
    assert counted["scantxoutset"] == 1
    assert chain.used_scripts([]) == set()
    shared_node.mine(1)
    assert chain.used_scripts([held, pending, passing, gone]) == {held, pending}


def test_unspent_and_spent_coins_side_by_side(shared_node: Node, chain: BitcoindChain) -> None:
    script = fresh_script()
    funding = shared_node.pay(script, *range(10_000, 10_010))
    shared_node.mine()
    for vout in (0, 3, 9):
        chain.broadcast(spend(funding, 9_000, vout=vout))
    assert [coin.outpoint.vout for coin in chain.coins([script])] == [1, 2, 4, 5, 6, 7, 8]


def test_coinbase_maturity(own: BitcoindChain, node: Node) -> None:
    script = fresh_script()
    node.mine(1, script)
    for confirmations, mature in ((1, False), (99, False), (100, False), (101, True)):
        node.mine(confirmations - own.coins([script])[0].confirmations)
        [coin] = own.coins([script])
        assert (coin.confirmations, coin.mature) == (confirmations, mature)
    # at depth 100 the node itself would take the spend into the next block; one more is the cautious answer
    assert own.output(coin.outpoint) == OutputStatus(coin.output, 101)


def test_another_search_for_coins_is_waited_for(shared_node: Node, tmp_path: Path) -> None:
    """A node does one at a time."""
    from threading import Thread

    script = fresh_script()
    shared_node.pay(script, 10_000)
    shared_node.mine()
    found: list[int] = []

    def ask() -> None:
        with shared_node.chain() as chain:
            found.extend(len(chain.coins([script])) for _ in range(20))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 80


# broadcast ----------------------------------------------------------------------------------------


def test_what_is_known_already_is_fine(shared_node: Node, chain: BitcoindChain) -> None:
    funding = shared_node.pay(fresh_script(), 50_000)
    close = spend(funding, 49_000)
    for _ in range(2):
        chain.broadcast(funding)
        chain.broadcast(close)
    assert str(close.txid) in shared_node.call("getrawmempool")
    shared_node.mine()
    chain.broadcast(close)
    chain.broadcast(funding)
    last = spend(close, 48_000)
    chain.broadcast(last)
    chain.broadcast(close)
    shared_node.mine()
    for transaction in (funding, close, last):  # of `close` no output is left
        chain.broadcast(transaction)
        with shared_node.chain() as forgetful:
            forgetful.broadcast(transaction)


def test_the_same_transaction_with_another_witness_is_known(shared_node: Node, chain: BitcoindChain) -> None:
    """Its txid is in the mempool, and that is what counts."""
    script = script_to_p2wsh_script(b"\x75\x51")  # OP_DROP OP_1: anything may stand before it
    funding = shared_node.pay(script, 50_000)
    source = TxIn(first(funding), LOCKABLE)
    close = Transaction(2, (source,), (TxOut(Amount(49_000), MINER_SCRIPT),), 0)
    chain.broadcast(close.with_witness(0, (b"one", b"\x75\x51")))
    chain.broadcast(close.with_witness(0, (b"two", b"\x75\x51")))


def test_too_early_with_the_nodes_own_word(shared_node: Node, chain: BitcoindChain) -> None:
    funding = shared_node.pay(fresh_script(), 50_000)
    shared_node.mine()
    height = chain.tip().height
    with pytest.raises(TooEarly) as error:
        chain.broadcast(spend(funding, 49_000, lock_time=height + 1))
    assert slug_of(error) == ("non-final", 6)
    assert error.value.message.endswith(": non-final")
    assert error.value.hint == f"it is locked until block {height + 1}"
    with pytest.raises(TooEarly) as error:
        chain.broadcast(spend(funding, 49_000, lock_time=chain.tip().median_time))
    assert slug_of(error) == ("non-final", 6)
    with pytest.raises(TooEarly) as error:
        chain.broadcast(spend(funding, 49_000, sequence=5))
    assert slug_of(error) == ("non-final", 6)
    assert "non-BIP68-final" in error.value.message
    chain.broadcast(spend(funding, 49_000, lock_time=height))


def test_a_rejection_carries_the_nodes_reason(shared_node: Node, chain: BitcoindChain) -> None:
    funding = shared_node.pay(fresh_script(), 50_000, 50_000, 50_000)
    shared_node.mine()
    chain.broadcast(spend(funding, 40_000, vout=1))
    shared_node.mine()
    chain.broadcast(spend(funding, 40_000, vout=2))
    good = spend(funding, 49_000)
    cases = {
        "min relay fee not met": spend(funding, 50_000 - 1),
        "dust": spend(funding, 300, 40_000),
        "bad-txns-in-belowout": spend(funding, 50_001),
        "missing-inputs": spend(funding, 40_001, vout=1),
        "insufficient fee": spend(funding, 40_001, vout=2),
        "witness": good.with_witness(0, (b"\x51",)),
        "tx-size-small": Transaction(2, good.inputs, (TxOut(Amount(0), b"\x6a"),), 0),
    }
    for word, transaction in cases.items():
        with pytest.raises(ChainError) as error:
            chain.broadcast(transaction)
        assert slug_of(error) == ("rejected", 8), word
        start, _, reason = error.value.message.partition(": ")
        assert start == f"the node refuses transaction {transaction.txid}"
        assert word in reason.lower(), error.value.message
    chain.broadcast(good)


def test_a_fee_above_the_nodes_own_caution_is_no_reason(shared_node: Node, chain: BitcoindChain) -> None:
    """Fees of a channel are agreed beforehand; ``maxfeerate`` must not hold up a refund."""
    funding = shared_node.pay(fresh_script(), 40_000_000)
    chain.broadcast(spend(funding, FEE))
