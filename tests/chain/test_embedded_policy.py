"""What the embedded chain lets into its mempool, at the exact boundaries, beside what the engine itself says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.chain.embedded import (
    BITCOIN,
    FEE,
    FINAL,
    LOCKABLE,
    OPEN_SCRIPT,
    assert_index_is_engine,
    fund,
    spend,
)

from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxIn
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.embedded.blocks import MINER_SCRIPT, MINER_WITNESS_SCRIPT
from mpchan.chain.embedded.index import Index
from mpchan.errors import ChainError, TooEarly
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import replace

Ask = Callable[[EmbeddedChain, Transaction], str | None]
"""Hands a transaction to the chain; None when it is taken, else the reason."""


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(tmp_path / "chain") as opened, opened.engine():
        yield opened
    # whatever a test did
    assert_index_is_engine(tmp_path / "chain")


def ask_mempool(chain: EmbeddedChain, transaction: Transaction) -> str | None:
    before = chain.mempool()
    try:
        chain.broadcast(transaction)
    except (ChainError, TooEarly) as error:
        refusal = error
    else:
        assert chain.mempool() == [*before, transaction.txid]
        return None
    assert chain.mempool() == before
    assert (refusal.slug, refusal.exit_code) in (("non-final", 6), ("rejected", 8))
    return refusal.message.removeprefix(f"the chain refuses transaction {transaction.txid}: ")


def ask_engine(chain: EmbeddedChain, transaction: Transaction) -> str | None:
    before = chain.tip_hash()
    reason = chain.submit_block_with([transaction])
    assert (chain.tip_hash() == before) == (reason is not None)
    return reason


both_ways = pytest.mark.parametrize(
    ("ask", "word"),
    [(ask_mempool, "non-final"), (ask_engine, "bad-txns-nonfinal")],
    ids=["mempool", "engine"],
)


# --- lock times -----------------------------------------------------------------------------------


@both_ways
def test_height_lock_opens_exactly_when_the_tip_has_it(chain: EmbeddedChain, ask: Ask, word: str) -> None:
    [outpoint] = fund(chain, 100_000)
    locked = spend(outpoint, 99_000, lock_time=chain.tip().height + 2)
    for _ in range(2):
        reason = ask(chain, locked)
        assert reason is not None
        assert reason.startswith(word)
        chain.mine(1)
    assert chain.tip().height == locked.lock_time
    assert ask(chain, locked) is None


@both_ways
def test_time_lock_opens_when_the_median_time_is_past_it(chain: EmbeddedChain, ask: Ask, word: str) -> None:
    [outpoint] = fund(chain, 100_000)
    locked = spend(outpoint, 99_000, lock_time=chain.tip().median_time + 600)
    for _ in range(2):
        reason = ask(chain, locked)
        assert reason is not None
        assert reason.startswith(word)
        chain.mine(1)
    # equal was not enough; now it is one block later
    assert chain.tip().median_time == locked.lock_time + 600
    assert ask(chain, locked) is None


@both_ways
def test_time_lock_one_second_below_the_median(chain: EmbeddedChain, ask: Ask, word: str) -> None:
    [outpoint] = fund(chain, 100_000)
    assert ask(chain, spend(outpoint, 99_000, lock_time=chain.tip().median_time)) is not None
    assert ask(chain, spend(outpoint, 99_000, lock_time=chain.tip().median_time - 1)) is None


@both_ways
def test_lock_time_needs_an_input_that_is_not_final(chain: EmbeddedChain, ask: Ask, word: str) -> None:
    pair = fund(chain, 100_000, 100_000)
    locked = spend(pair, 199_000, lock_time=400_000_000, sequence=FINAL)
    one_open = replace(locked, inputs=(locked.inputs[0], replace(locked.inputs[1], sequence=FINAL - 1)))
    reason = ask(chain, one_open)
    assert reason is not None
    assert reason.startswith(word)
    assert ask(chain, locked) is None


def test_too_early_says_when_and_where_the_tip_is(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    with pytest.raises(TooEarly, match=r"until the tip has height 200; it has 111"):
        chain.broadcast(spend(outpoint, 99_000, lock_time=200))
    median = chain.tip().median_time
    with pytest.raises(TooEarly, match=rf"until the median time is above 2000000000; it is {median}"):
        chain.broadcast(spend(outpoint, 99_000, lock_time=2_000_000_000))


@both_ways
@pytest.mark.parametrize("age", [3, 1 << 22 | 4], ids=["blocks", "time"])
def test_relative_lock(chain: EmbeddedChain, ask: Ask, word: str, age: int) -> None:
    [outpoint] = fund(chain, 100_000)
    aged = spend(outpoint, 99_000, sequence=age)
    waited = 0
    while (reason := ask(chain, aged)) is not None:
        assert "non-BIP68-final" in reason
        chain.mine(1)
        waited += 1
    # the third block after the coin's own comes when the tip is two above it; 4 * 512 s count from the median time
    # of the block before the coin's, and 4 blocks of 600 s cover them
    assert waited == (2 if age == 3 else 3)


def test_relative_lock_binds_neither_version_1_nor_bit_31(chain: EmbeddedChain) -> None:
    first, second = fund(chain, 100_000, 100_000)
    chain.broadcast(spend(first, 99_000, sequence=50, version=1))
    chain.broadcast(spend(second, 99_000, sequence=1 << 31 | 50))
    chain.mine(1)
    assert chain.mempool() == []


def test_relative_lock_on_an_unconfirmed_coin(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    parent = spend(outpoint, 99_000)
    chain.broadcast(parent)
    for age in (1, 1 << 22 | 1):
        with pytest.raises(TooEarly, match="non-BIP68-final"):
            chain.broadcast(spend(OutPoint(parent.txid, 0), 98_000, sequence=age))
    chain.broadcast(spend(OutPoint(parent.txid, 0), 98_000, sequence=0))
    chain.mine(1)
    assert chain.mempool() == []


# --- inputs ---------------------------------------------------------------------------------------


def test_missing_inputs(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    for missing in (OutPoint(Txid(b"\x01" * 32), 0), OutPoint(outpoint.txid, 2)):
        for ask in (ask_mempool, ask_engine):
            reason = ask(chain, spend([outpoint, missing], 99_000))
            assert reason is not None
            assert reason.startswith("bad-txns-inputs-missingorspent")


def test_output_that_nothing_can_spend_is_missing(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    data_script = b"\x6a\x04play"
    burning = spend(outpoint, 50_000, script=data_script)
    chain.broadcast(burning)
    chain.mine(1)
    assert chain.coins([data_script]) == []
    for ask in (ask_mempool, ask_engine):
        reason = ask(chain, spend(OutPoint(burning.txid, 0), 49_000))
        assert reason is not None
        assert reason.startswith("bad-txns-inputs-missingorspent")


def test_spent_in_a_block(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    chain.broadcast(spend(outpoint, 99_000))
    chain.mine(1)
    for ask in (ask_mempool, ask_engine):
        reason = ask(chain, spend(outpoint, 98_000))
        assert reason is not None
        assert reason.startswith("bad-txns-inputs-missingorspent")


def test_first_in_the_mempool_stays_unless_it_signals(chain: EmbeddedChain) -> None:
    """As a funding does not (BIP-0125)."""
    [outpoint] = fund(chain, 100_000)
    first = spend(outpoint, 99_000, sequence=0xFFFF_FFFE)
    chain.broadcast(first)
    reason = ask_mempool(chain, spend(outpoint, 50_000))
    assert reason is not None
    assert reason.startswith("txn-mempool-conflict")
    chain.mine(1)
    assert chain.transaction(first.txid) == (first, 1)


def test_mempool_conflict_is_named_before_one_in_the_chain(chain: EmbeddedChain) -> None:
    in_chain, in_mempool = fund(chain, 100_000, 100_000)
    chain.broadcast(spend(in_chain, 99_000))
    chain.mine(1)
    chain.broadcast(spend(in_mempool, 99_000, sequence=FINAL))
    reason = ask_mempool(chain, spend([in_chain, in_mempool], 198_000))
    assert reason is not None
    assert reason.startswith("txn-mempool-conflict")


def test_what_is_known_already_is_fine(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    transaction = spend(outpoint, 99_000)
    for _ in range(2):
        chain.broadcast(transaction)
        assert chain.mempool() == [transaction.txid]
    chain.mine(1)
    chain.broadcast(transaction)
    assert chain.mempool() == []


def test_coinbase_at_depth_99_and_100(chain: EmbeddedChain) -> None:
    # the block after height 110 is the hundredth after the one at height 11
    coins = {coin.confirmations: coin.outpoint for coin in chain.coins([MINER_SCRIPT])}
    young, ripe = (
        spend(coins[confirmations], BITCOIN, witness_script=MINER_WITNESS_SCRIPT)
        for confirmations in (99, 100)
    )
    for ask in (ask_mempool, ask_engine):
        reason = ask(chain, young)
        assert reason is not None
        assert reason.startswith("bad-txns-premature-spend-of-coinbase")
    assert ask_mempool(chain, ripe) is None
    chain.mine(1)
    assert chain.mempool() == []
    assert ask_engine(chain, young) is None


# --- amounts and form -----------------------------------------------------------------------------


def test_outputs_above_inputs(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    for ask in (ask_mempool, ask_engine):
        reason = ask(chain, spend(outpoint, 100_001))
        assert reason is not None
        assert reason.startswith("bad-txns-in-belowout")


def test_fee_of_exactly_the_least(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    size = spend(outpoint, 99_000).vsize
    reason = ask_mempool(chain, spend(outpoint, 100_000 - size + 1))
    assert reason == f"min relay fee not met, {size - 1} < {size}"
    assert ask_mempool(chain, spend(outpoint, 100_000 - size)) is None


def test_dust_of_exactly_the_least(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    reason = ask_mempool(chain, spend(outpoint, 90_000, 329))
    assert reason is not None
    assert reason.startswith("dust")
    assert ask_mempool(chain, spend(outpoint, 90_000, 330)) is None


@pytest.mark.parametrize("version", [0, 4, 0xFFFF_FFFF])
def test_unknown_version(chain: EmbeddedChain, version: int) -> None:
    [outpoint] = fund(chain, 100_000)
    assert ask_mempool(chain, spend(outpoint, 99_000, version=version)) == "version"
    assert ask_engine(chain, spend(outpoint, 99_000, version=version)) is None


@pytest.mark.parametrize("version", [1, 2, 3])
def test_known_version(chain: EmbeddedChain, version: int) -> None:
    [outpoint] = fund(chain, 100_000)
    assert ask_mempool(chain, spend(outpoint, 99_000, version=version)) is None


def test_malformed(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    null = OutPoint(Txid(bytes(32)), 0xFFFF_FFFF)
    cases = {
        "bad-txns-vin-empty": spend([], 1_000),
        "bad-txns-vout-empty": spend(outpoint),
        "bad-txns-inputs-duplicate": spend([outpoint, outpoint], 99_000),
        "coinbase": spend(null, 99_000),
        "bad-txns-prevout-null": spend([outpoint, null], 99_000),
        "bad-txns-txouttotal-toolarge": spend(outpoint, 21 * 10**14, 1),
        "tx-size-small": spend(outpoint, 0, script=b"\x6a"),
        "tx-size": spend(outpoint, *[5_000] * 10, script=bytes(10_000)),
    }
    for reason, transaction in cases.items():
        answer = ask_mempool(chain, transaction)
        assert answer is not None
        assert answer.partition(",")[0] == reason
    for reason in ("bad-txns-vout-empty", "bad-txns-inputs-duplicate", "bad-txns-txouttotal-toolarge"):
        answer = ask_engine(chain, cases[reason])
        assert answer is not None
        assert answer.startswith(reason)


# --- scripts --------------------------------------------------------------------------------------


def test_script_that_is_not_satisfied(chain: EmbeddedChain) -> None:
    pair = fund(chain, 100_000, 100_000)
    good = spend(pair, 199_000)
    bad = good.with_witness(1, (b"\x53",))
    assert ask_mempool(chain, bad) == "mandatory-script-verify-flag-failed, input 1"
    reason = ask_engine(chain, bad)
    assert reason is not None
    assert "script-verify-flag-failed (Witness program hash mismatch), input 1" in reason
    assert ask_mempool(chain, good) is None


def signed(key: PrivateKey, outpoint: OutPoint, claimed: int, paid: int) -> Transaction:
    """A P2WPKH spend whose signature claims that the spent output holds ``claimed``."""
    unsigned = replace(spend(outpoint, paid), inputs=(TxIn(outpoint, LOCKABLE),))
    code = p2wpkh_script_code(key_to_p2wpkh_script(key.public_key.sec))
    digest = segwit_v0_sighash(unsigned, 0, code, Amount(claimed))
    return unsigned.with_witness(0, (key.sign(digest) + b"\x01", key.public_key.sec))


def test_signature_for_another_amount(chain: EmbeddedChain) -> None:
    key = PrivateKey(bytes(31) + b"\x07")
    [outpoint] = fund(chain, 100_000, script=key_to_p2wpkh_script(key.public_key.sec))
    for claimed in (99_999, 100_001):
        reason = ask_mempool(chain, signed(key, outpoint, claimed, 99_000))
        assert reason == "mandatory-script-verify-flag-failed, input 0"
    right = signed(key, outpoint, 100_000, 99_000)
    # an altered output voids it as well
    altered = replace(right, outputs=(replace(right.outputs[0], value=Amount(98_999)),))
    assert ask_mempool(chain, altered) == "mandatory-script-verify-flag-failed, input 0"
    assert ask_engine(chain, altered) is not None
    assert ask_mempool(chain, right) is None
    chain.mine(1)
    assert chain.transaction(right.txid) == (right, 1)


# --- a mempool that holds what it should not ------------------------------------------------------


def smuggle(chain: EmbeddedChain, *transactions: Transaction) -> None:
    """Put transactions in the mempool past every check."""
    index = Index(chain.directory / "index.sqlite3")
    with index.writing():
        for transaction in transactions:
            index.add(transaction)
    index.close()


def test_bad_apples_are_dropped_and_the_rest_goes_into_the_first_block(chain: EmbeddedChain) -> None:
    outpoints = fund(chain, *[100_000] * 6)
    good = [spend(outpoint, 99_000) for outpoint in outpoints[:4]]
    unsatisfied = spend(outpoints[4], 99_000, witness_script=b"\x51")
    child = spend(OutPoint(unsatisfied.txid, 0), 98_000)
    inflating = spend(outpoints[5], 100_001)
    smuggle(chain, good[0], unsatisfied, good[1], child, good[2], inflating, good[3])
    chain.mine(1)
    assert chain.mempool() == []
    for transaction in good:
        assert chain.transaction(transaction.txid) == (transaction, 1)
    for transaction in (unsatisfied, child, inflating):
        assert chain.transaction(transaction.txid) is None
    # their coins are free again
    chain.broadcast(spend(outpoints[4:], 199_000))
    chain.mine(1)
    assert chain.mempool() == []


def test_bad_child_does_not_take_its_parent_along(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    parent = spend(outpoint, 99_000)
    smuggle(chain, parent, spend(OutPoint(parent.txid, 0), 98_000, witness_script=b"\x51"))
    chain.mine(1)
    assert chain.mempool() == []
    assert chain.transaction(parent.txid) == (parent, 1)


def test_what_is_not_final_waits_with_its_children(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    early = spend(outpoint, 99_000, lock_time=chain.tip().height + 1)
    child = spend(OutPoint(early.txid, 0), 98_000)
    smuggle(chain, early, child)
    chain.mine(1)
    assert chain.mempool() == [early.txid, child.txid]
    chain.mine(1)
    assert chain.mempool() == []


def test_more_signature_checks_than_a_block_may_hold(chain: EmbeddedChain) -> None:
    # each output counts 10,000 OP_CHECKSIG, four times each; a block may hold 80,000
    outpoints = fund(chain, *[BITCOIN] * 5)
    heavy = [spend(outpoint, BITCOIN // 2, script=b"\xac" * 10_000) for outpoint in outpoints]
    for transaction in heavy:
        chain.broadcast(transaction)
    chain.mine(4)
    assert chain.mempool() == []
    assert all(chain.transaction(transaction.txid) for transaction in heavy)


def test_culprit_without_a_name_is_found_by_halving(chain: EmbeddedChain) -> None:
    outpoints = fund(chain, *[BITCOIN] * 5)
    good = [spend(outpoint, BITCOIN // 2) for outpoint in outpoints[:4]]
    # three such outputs in one transaction can stand in no block, and the engine names none for it
    culprit = spend(outpoints[4], *[BITCOIN // 8] * 3, script=b"\xac" * 10_000)
    for transaction in (good[0], good[1], culprit, good[2], good[3]):
        chain.broadcast(transaction)
    chain.mine(5)
    assert chain.mempool() == []
    assert chain.transaction(culprit.txid) is None
    assert all(chain.transaction(transaction.txid) for transaction in good)


def test_block_clears_what_it_contradicts_from_the_mempool(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    waiting = spend(outpoint, 99_000)
    child = spend(OutPoint(waiting.txid, 0), 98_000)
    chain.broadcast(waiting)
    chain.broadcast(child)
    rival = spend(outpoint, 50_000)
    assert chain.submit_block_with([rival]) is None
    assert chain.mempool() == []
    assert chain.transaction(child.txid) is None
    assert [coin.outpoint for coin in chain.coins([OPEN_SCRIPT])] == [OutPoint(rival.txid, 0)]


def test_lock_time_stays_open_in_the_mempool(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    chain.broadcast(spend(outpoint, 100_000 - FEE, lock_time=chain.tip().height))
    chain.mine(1)
    assert chain.mempool() == []
