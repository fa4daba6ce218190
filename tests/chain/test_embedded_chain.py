"""The embedded chain's answers: what is there, what is spent, what the miner does."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.embedded import BITCOIN, FEE, OPEN_SCRIPT, fund, spend

from mpchan.chain.base import Chain
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import ChainError, MpchanError, NotPossible, ParseError
from mpchan.units import Amount, ChainTip, OutPoint, Txid

GENESIS_TIME = 1_296_688_602
GENESIS_COINBASE = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(tmp_path / "chain") as opened:
        yield opened


def test_first_question_makes_a_chain_with_money(chain: EmbeddedChain) -> None:
    assert not chain.directory.exists()
    # block times step by 600 s, so the median of 11 is the time of the sixth from the top
    assert chain.tip() == ChainTip(110, GENESIS_TIME + 105 * 600)
    assert stat.S_IMODE(chain.directory.stat().st_mode) == 0o700
    assert chain.mempool() == []
    chain.faucet(OPEN_SCRIPT, Amount(499 * BITCOIN))


def test_every_method_makes_the_chain(tmp_path: Path) -> None:
    nothing = OutPoint(Txid(bytes(32)), 0)
    calls = [
        lambda chain: chain.tip_hash(),
        lambda chain: chain.output(nothing),
        lambda chain: chain.coins([OPEN_SCRIPT]),
        lambda chain: chain.used_scripts([OPEN_SCRIPT]),
        lambda chain: chain.transaction(nothing.txid),
        lambda chain: chain.mempool(),
        lambda chain: chain.mine(0),
        lambda chain: chain.faucet(OPEN_SCRIPT, Amount(BITCOIN)),
        lambda chain: chain.submit_block_with([]),
        lambda chain: chain.engine().__enter__(),
    ]
    for number, call in enumerate(calls):
        with EmbeddedChain(tmp_path / str(number)) as chain:
            call(chain)
            assert chain.tip().height >= 110


def test_two_chains_start_alike_and_share_nothing(tmp_path: Path) -> None:
    with EmbeddedChain(tmp_path / "a") as one, EmbeddedChain(tmp_path / "b") as other:
        assert one.tip_hash() == other.tip_hash()
        one.mine(1)
        assert (one.tip().height, other.tip().height) == (111, 110)


def test_it_is_a_chain_backend(chain: EmbeddedChain) -> None:
    backend: Chain = chain
    assert backend.min_fee_rate().sat_per_kvb == 1000
    assert backend.fee_rate() >= backend.min_fee_rate()


def test_engine_name(chain: EmbeddedChain) -> None:
    assert chain.engine_name() == "Bitcoin Core kernel via py-bitcoinkernel 0.1.0a5"


def test_mining_counts_and_steps_the_clock(chain: EmbeddedChain) -> None:
    before = chain.tip()
    assert chain.mine(3) == ChainTip(before.height + 3, before.median_time + 1800)
    assert chain.mine(0) == chain.tip()
    for count in (-1, True, 1.0):
        with pytest.raises(ParseError):
            chain.mine(count)  # type: ignore[arg-type]


def test_faucet_pays_exactly_and_waits_for_a_block(chain: EmbeddedChain) -> None:
    txid = chain.faucet(OPEN_SCRIPT, Amount(12_345))
    assert chain.mempool() == [txid]
    [coin] = chain.coins([OPEN_SCRIPT])
    assert (coin.outpoint, coin.output.value.sat, coin.confirmations) == (OutPoint(txid, 0), 12_345, 0)
    chain.mine(2)
    assert chain.mempool() == []
    assert chain.coins([OPEN_SCRIPT])[0].confirmations == 2


def test_faucet_lives_on_its_own_change(chain: EmbeddedChain) -> None:
    # more payments in a row than there are mature coins
    txids = [chain.faucet(OPEN_SCRIPT, Amount(20 * BITCOIN)) for _ in range(20)]
    assert chain.mempool() == txids
    chain.mine(1)
    assert chain.mempool() == []
    assert sum(coin.output.value.sat for coin in chain.coins([OPEN_SCRIPT])) == 400 * BITCOIN


def test_faucet_prefers_confirmed_coins(chain: EmbeddedChain) -> None:
    # the change of each payment is larger than any other coin that is left
    payments = [chain.transaction(chain.faucet(OPEN_SCRIPT, Amount(BITCOIN))) for _ in range(10)]
    makers = {txin.outpoint.txid for found in payments if found for txin in found[0].inputs}
    assert makers.isdisjoint(chain.mempool())
    assert len(makers) == 10


def test_faucet_joins_coins(chain: EmbeddedChain) -> None:
    txid = chain.faucet(OPEN_SCRIPT, Amount(120 * BITCOIN))
    found = chain.transaction(txid)
    assert found is not None
    assert len(found[0].inputs) == 3


def test_empty_faucet_says_so_and_fills_again(chain: EmbeddedChain) -> None:
    with pytest.raises(NotPossible) as raised:
        chain.faucet(OPEN_SCRIPT, Amount(500 * BITCOIN))
    assert raised.value.slug == "faucet-empty"
    chain.mine(1)
    chain.faucet(OPEN_SCRIPT, Amount(500 * BITCOIN))


def test_faucet_refuses_dust(chain: EmbeddedChain) -> None:
    with pytest.raises(ChainError, match="dust"):
        chain.faucet(OPEN_SCRIPT, Amount(329))
    chain.faucet(OPEN_SCRIPT, Amount(330))


def test_subsidy_runs_dry_but_the_chain_does_not(chain: EmbeddedChain) -> None:
    from mpchan.chain.embedded.blocks import subsidy

    # the engine checks each of these amounts as an upper bound; that it is reached shows in the sum
    assert [subsidy(height).sat for height in (149, 150, 300, 4949, 4950)] == [
        50 * BITCOIN,
        25 * BITCOIN,
        12 * BITCOIN + BITCOIN // 2,
        1,
        0,
    ]
    chain.mine(200)
    assert chain.submit_block_with([]) is None


def test_coins_in_outpoint_order_of_the_asked_scripts_only(chain: EmbeddedChain) -> None:
    outpoints = fund(chain, 10_000, 20_000, 30_000)
    assert [coin.outpoint for coin in chain.coins([OPEN_SCRIPT, b"\x51"])] == sorted(outpoints)
    assert chain.coins([]) == []
    assert chain.coins([b"\x51"]) == []


def test_outpoint_order_across_scripts(chain: EmbeddedChain) -> None:
    scripts = [b"\x00\x14" + bytes([number]) * 20 for number in range(20)]
    outpoints = [OutPoint(chain.faucet(script, Amount(10_000)), 0) for script in scripts]
    assert [coin.outpoint for coin in chain.coins(scripts)] == sorted(outpoints)


def test_many_scripts(chain: EmbeddedChain) -> None:
    fund(chain, 10_000)
    scripts = [b"\x00\x14" + number.to_bytes(20, "big") for number in range(3000)]
    assert len(chain.coins([*scripts, OPEN_SCRIPT])) == 1


def test_coinbase_matures_with_its_hundredth_block(chain: EmbeddedChain) -> None:
    from mpchan.chain.embedded.blocks import MINER_SCRIPT

    maturity = {coin.confirmations: coin.mature for coin in chain.coins([MINER_SCRIPT])}
    assert maturity == {confirmations: confirmations > 100 for confirmations in range(1, 111)}


def test_used_scripts_stay_used(chain: EmbeddedChain) -> None:
    """From the mempool on, and also when all that they ever held is spent."""
    scripts = [b"\x00\x14" + bytes([number]) * 20 for number in range(3)]
    assert chain.used_scripts([OPEN_SCRIPT, *scripts]) == set()
    [coin] = fund(chain, BITCOIN)
    chain.broadcast(spend(coin, BITCOIN - FEE, script=scripts[0]))
    assert chain.used_scripts([OPEN_SCRIPT, *scripts, scripts[0]]) == {OPEN_SCRIPT, scripts[0]}
    chain.mine(1)
    many = [b"\x00\x14" + number.to_bytes(20, "big") for number in range(1200)]
    assert chain.used_scripts([*many, scripts[0], *scripts]) == {scripts[0]}
    assert chain.used_scripts([]) == set()


def test_output_and_coins_through_the_life_of_a_coin(chain: EmbeddedChain) -> None:
    outpoint = OutPoint(chain.faucet(OPEN_SCRIPT, Amount(50_000)), 0)
    status = chain.output(outpoint)
    assert status is not None
    assert (status.output.value.sat, status.confirmations, status.spend) == (50_000, 0, None)
    assert chain.output(OutPoint(outpoint.txid, 7)) is None
    chain.mine(1)
    spender = spend(outpoint, 49_000)
    chain.broadcast(spender)
    for confirmations in (0, 1, 2):
        status = chain.output(outpoint)
        assert status is not None
        assert status.confirmations == confirmations + 1
        assert status.spend is not None
        assert status.spend.txid == spender.txid
        assert status.spend.confirmations == confirmations
        assert status.spend.transaction == spender
        [coin] = chain.coins([OPEN_SCRIPT])
        assert (coin.outpoint, coin.confirmations) == (OutPoint(spender.txid, 0), confirmations)
        assert chain.transaction(spender.txid) == (spender, confirmations)
        chain.mine(1)


def test_unknown_transactions_and_the_genesis_coinbase(chain: EmbeddedChain) -> None:
    # by consensus the genesis block's reward is no coin
    for text in ("00" * 32, GENESIS_COINBASE):
        assert chain.transaction(Txid.from_hex(text)) is None
        assert chain.output(OutPoint(Txid.from_hex(text), 0)) is None


def test_child_waits_on_when_only_its_parent_is_mined(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    parent = spend(outpoint, 99_000)
    child = spend(OutPoint(parent.txid, 0), 98_000)
    chain.broadcast(parent)
    chain.broadcast(child)
    assert chain.submit_block_with([parent]) is None
    assert chain.mempool() == [child.txid]
    status = chain.output(OutPoint(parent.txid, 0))
    assert status is not None
    assert status.spend is not None
    assert (status.confirmations, status.spend.txid, status.spend.confirmations) == (1, child.txid, 0)
    chain.mine(1)
    assert chain.mempool() == []


def test_transactions_of_a_block(chain: EmbeddedChain) -> None:
    from mpchan.chain.embedded.blocks import MINER_SCRIPT

    [outpoint] = fund(chain, 100_000)
    transaction = spend(outpoint, 99_000)
    chain.broadcast(transaction)
    height = chain.mine(1).height
    coinbase, *rest = chain.block_transactions(height)
    assert coinbase.outputs[0].script_pubkey == MINER_SCRIPT
    assert rest == [transaction]
    for missing in (-1, height + 1):
        with pytest.raises(ParseError):
            chain.block_transactions(missing)


def test_first_block_takes_families_in_order(chain: EmbeddedChain) -> None:
    [outpoint] = fund(chain, 100_000)
    family = []
    for generation in range(1, 40):
        family.append(spend(outpoint, 100_000 - generation * FEE))
        outpoint = OutPoint(family[-1].txid, 0)
        chain.broadcast(family[-1])
    assert chain.mempool() == [transaction.txid for transaction in family]
    chain.mine(2)
    assert chain.mempool() == []
    assert {chain.transaction(transaction.txid)[1] for transaction in family} == {2}  # type: ignore[index]


def test_miner_earns_the_fees(chain: EmbeddedChain) -> None:
    from mpchan.chain.embedded.blocks import MINER_SCRIPT

    [outpoint] = fund(chain, 100_000)
    chain.broadcast(spend(outpoint, 58_000))
    chain.mine(1)
    newest = [coin for coin in chain.coins([MINER_SCRIPT]) if coin.confirmations == 1]
    assert [coin.output.value.sat for coin in newest] == [50 * BITCOIN + 42_000]


def test_blocks_stay_within_the_weight_limit(chain: EmbeddedChain) -> None:
    outpoints = fund(chain, *[10 * BITCOIN] * 12)
    for outpoint in outpoints:
        # 9 outputs of 10,011 bytes, four weight units each: 11 such transactions fit into a block, 12 do not
        chain.broadcast(spend(outpoint, *[BITCOIN] * 9, script=bytes(10_000)))
    last = chain.mempool()[-1]
    chain.mine(1)
    assert chain.mempool() == [last]
    chain.mine(1)
    assert chain.mempool() == []


def test_no_branch_goes_behind_the_first_block(chain: EmbeddedChain) -> None:
    before = chain.tip()
    for depth in (-1, 0, before.height + 1):
        with pytest.raises(NotPossible) as caught:
            chain.reorganise(depth)
        assert caught.value.slug == "reorganisation-too-deep"
        assert caught.value.message == f"cannot replace {depth} of {before.height} blocks"
    assert chain.tip() == before
    assert chain.reorganise(before.height).height == before.height + 1


def test_closed_chain_opens_again(chain: EmbeddedChain) -> None:
    chain.mine(1)
    chain.close()
    chain.close()
    assert chain.tip().height == 111


def test_unusable_places(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "index.sqlite3").write_bytes(b"not a database, but long enough to be read as one" * 100)
    for directory, slug in (
        (blocked, "chain-directory"),
        (blocked / "x", "chain-directory"),
        (foreign, "chain-index"),
    ):
        with pytest.raises(ChainError) as raised, EmbeddedChain(directory) as chain:
            chain.tip()
        assert raised.value.slug == slug


def test_index_of_another_version_is_left_alone(chain: EmbeddedChain) -> None:
    import sqlite3

    chain.tip()
    chain.close()
    database = sqlite3.connect(chain.directory / "index.sqlite3")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(MpchanError, match="version 99"):
        chain.tip()
