"""Own coins on a real node: Bitcoin Core judges what ``send`` makes, and a restored wallet finds its coins there."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from support.chain.node import MinedChain, Node, needs_node
from support.party import new_wallet
from test_bitcoind_cli import Program

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import Transaction
from mpchan.errors import NotPossible
from mpchan.party import coins, views
from mpchan.party.holdings import scan
from mpchan.results.coins import Sent
from mpchan.units import Amount, FeeRate
from mpchan.values import replace
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.wallet import Wallet

pytestmark = needs_node

KINDS = {
    "p2wpkh": b"\x00\x14" + bytes(20),
    "p2wsh": b"\x00\x20" + bytes(32),
    "p2tr": b"\x51\x20" + bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
    "p2pkh": b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
    "p2sh": b"\xa9\x14" + bytes(20) + b"\x87",
}
SHOP = KINDS["p2wpkh"]


@pytest.fixture
def chain(shared_node: Node, tmp_path: Path) -> Iterator[MinedChain]:
    with MinedChain(shared_node, tmp_path / "seen") as opened:
        yield opened
        opened.mine(1)


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return new_wallet(tmp_path / "wallet")


def fresh(wallet: Wallet) -> bytes:
    return address_to_script(views.fresh_address(wallet).address, REGTEST)


def sat(value: Decimal) -> int:
    return int(value * 100_000_000)


def judged(node: Node, result: Sent, rate: FeeRate) -> None:
    """The node's own account of a transaction in its mempool: fee and size are what was said, the rate is kept."""
    entry = node.call("getmempoolentry", result.txid)
    transaction = Transaction.from_hex(result.hex)
    assert sat(entry["fees"]["base"]) == result.fee_sat
    assert entry["vsize"] == transaction.vsize
    least = rate.fee(entry["vsize"]).sat
    # a signature may be a byte or two shorter than was counted for; without a change the rest goes to the fee too
    most = rate.fee(entry["vsize"] + len(transaction.inputs)).sat
    if not result.change_sat and len(transaction.outputs) == 1:
        most += rate.fee(31).sat + 680
    assert least <= result.fee_sat <= most


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [1000, 2345, 50_000])
def test_what_is_sent_is_what_the_node_sees(
    shared_node: Node, chain: MinedChain, wallet: Wallet, kind: str, rate: int
) -> None:
    """First as a question (``testmempoolaccept``), then in the mempool, with one input and with several."""
    for amount in (1_000_000, 30_000, 40_000, 50_000):
        shared_node.pay(fresh(wallet), amount)
    shared_node.mine(1)
    script = KINDS[kind]
    for amount in (dust_limit(script).sat, 700_000, 60_000, None):  # type: ignore[assignment]
        given = None if amount is None else Amount(amount)
        held = coins.send(wallet, chain, script, given, fee_rate=FeeRate(rate), sends=False)
        [verdict] = shared_node.call("testmempoolaccept", [held.hex])
        assert verdict["allowed"], verdict
        assert sat(verdict["fees"]["base"]) == held.fee_sat
        sent = coins.resend(wallet, chain, held.txid)
        assert sent == replace(held, broadcast=True)
        judged(shared_node, sent, FeeRate(rate))
    assert views.balance(wallet, chain).to_dict() == {
        "confirmed_sat": 0,
        "unconfirmed_sat": 0,
        "in_channels_sat": 0,
    }
    paid = [output for output in Transaction.from_hex(sent.hex).outputs if output.script_pubkey == script]
    assert [output.value.sat for output in paid] == [sent.amount_sat]


def test_many_inputs(shared_node: Node, chain: MinedChain, wallet: Wallet) -> None:
    """More than 252 of them, whose number takes three bytes."""
    shared_node.pay(fresh(wallet), *[2_000] * 300)
    shared_node.mine(1)
    sent = coins.send(wallet, chain, SHOP, Amount(540_000), fee_rate=FeeRate(1000))
    assert len(Transaction.from_hex(sent.hex).inputs) > 252
    judged(shared_node, sent, FeeRate(1000))


def test_the_nodes_own_dust_limits(shared_node: Node, chain: MinedChain, wallet: Wallet) -> None:
    """A satoshi less than what is sent is what the node calls dust."""
    shared_node.pay(fresh(wallet), 100_000)
    shared_node.mine(1)
    for script in KINDS.values():
        least = dust_limit(script)
        with pytest.raises(NotPossible) as caught:
            coins.send(wallet, chain, script, least - Amount(1))
        assert caught.value.slug == "below-dust"
        held = coins.send(wallet, chain, script, least, sends=False)
        record = wallet.sent.find(held.txid)
        raw = bytes.fromhex(held.hex)
        exact = least.sat.to_bytes(8, "little") + bytes([len(script)]) + script
        below = (least.sat - 1).to_bytes(8, "little") + bytes([len(script)]) + script
        assert raw.count(exact) == 1
        changed = Transaction.from_bytes(raw.replace(exact, below)).without_witness()
        [verdict] = shared_node.call(
            "testmempoolaccept", [wallet.keys.sign_coins(changed, record.spent).to_hex()]
        )
        assert verdict["reject-reason"] == "dust"
        coins.forget(wallet, chain, held.txid)


def test_a_balance_in_every_state(node: Node, tmp_path: Path, wallet: Wallet) -> None:
    """Mined coins are immature for 100 blocks; a coin that the mempool spends is gone; a change counts once."""
    with MinedChain(node, tmp_path / "seen") as chain:
        node.mine(1, fresh(wallet))
        reward = 50 * 100_000_000
        empty = {"confirmed_sat": 0, "unconfirmed_sat": 0, "in_channels_sat": 0}
        assert views.balance(wallet, chain).to_dict() == {**empty, "immature_sat": reward}
        with pytest.raises(NotPossible) as caught:
            coins.send(wallet, chain, SHOP, Amount(10_000))
        assert f"{reward} sat are immature" in caught.value.message
        node.mine(99)
        assert views.balance(wallet, chain).to_dict() == {**empty, "immature_sat": reward}
        node.mine(1)
        assert views.balance(wallet, chain).to_dict() == {**empty, "confirmed_sat": reward}
        held = coins.send(wallet, chain, SHOP, Amount(10_000), sends=False)
        assert views.balance(wallet, chain).to_dict() == {
            **empty,
            "confirmed_sat": reward,
            "reserved_sat": reward,
        }
        coins.resend(wallet, chain, held.txid)
        assert views.balance(wallet, chain).to_dict() == {**empty, "unconfirmed_sat": held.change_sat}
        node.mine(1)
        assert views.balance(wallet, chain).to_dict() == {**empty, "confirmed_sat": held.change_sat}
        node.drop(1)  # a reorganisation: the send waits in the mempool again
        assert views.balance(wallet, chain).to_dict() == {**empty, "unconfirmed_sat": held.change_sat}


def test_what_a_block_put_in_the_place_of_a_send_frees_its_coins(
    shared_node: Node, chain: MinedChain, wallet: Wallet
) -> None:
    for _ in range(2):
        shared_node.pay(fresh(wallet), 100_000)
    shared_node.mine(1)
    held = coins.send(wallet, chain, SHOP, Amount(150_000), sends=False)
    record = wallet.sent.find(held.txid)
    first = record.transaction.without_witness()
    output = first.outputs[0]
    conflict = Transaction(2, first.inputs[:1], (type(output)(Amount(99_000), KINDS["p2tr"]),), 0)
    conflict = wallet.keys.sign_coins(conflict, record.spent[:1])
    assert views.balance(wallet, chain).reserved_sat == 200_000
    shared_node.mine_with([conflict])
    assert views.balance(wallet, chain).to_dict() == {
        "confirmed_sat": 100_000,
        "unconfirmed_sat": 0,
        "in_channels_sat": 0,
    }
    assert coins.send(wallet, chain, SHOP, None).broadcast


def test_what_the_node_has_is_not_forgotten(shared_node: Node, chain: MinedChain, wallet: Wallet) -> None:
    """Also where every output of it is spent."""
    shared_node.pay(fresh(wallet), 100_000)
    shared_node.mine(1)
    to_itself = coins.send(wallet, chain, fresh(wallet), None)
    shared_node.mine(1)
    coins.send(wallet, chain, SHOP, None)
    shared_node.mine(3)
    with pytest.raises(NotPossible) as caught:
        coins.forget(wallet, chain, to_itself.txid)
    assert caught.value.slug == "already-sent"


# restoring ----------------------------------------------------------------------------------------


def test_a_wallet_with_35_addresses_is_found_again(
    shared_node: Node, chain: MinedChain, wallet: Wallet, tmp_path: Path
) -> None:
    """By unspent coins, of receive and change addresses, some of them in the mempool; not beyond the gap limit."""
    scripts = [fresh(wallet) for _ in range(80)]
    paid = [*range(0, 10), 28, 47, *range(48, 58)]  # 18 and 18 unused between
    for index in paid:
        shared_node.pay(scripts[index], 100_000 + index)
        if index % 5 == 0:
            shared_node.mine(1)
    shared_node.mine(1)
    for number in range(13):
        coins.send(wallet, chain, SHOP, Amount(10_000 + number), fee_rate=FeeRate(1000))
        if number % 3 == 0:
            shared_node.mine(1)
    held = views.balance(wallet, chain)
    unspent = {coin.output.script_pubkey for coin in chain.coins(wallet.keys.scripts())}
    shared_node.pay(scripts[57 + 21], 777_777)  # 20 unused addresses before it
    beyond = 777_777

    again = Wallet.create(tmp_path / "again", REGTEST, ChainConfig(), wallet.keys.seed_words())
    result = scan(again, chain)
    last_change = max(index + 1 for index in range(20) if wallet.keys.script("change", index) in unspent)
    assert result.to_dict() == {
        "receive": 58,
        "change": last_change,
        "found": len(unspent),  # a node knows no others
        "coins_sat": held.confirmed_sat + held.unconfirmed_sat,
    }
    again = Wallet.open(again.directory)
    assert views.balance(again, chain) == held
    assert scan(again, chain, 21).coins_sat == result.coins_sat + beyond
    assert scan(again, chain).receive == 79


def test_the_commands_on_a_node(shared_node: Node, tmp_path: Path) -> None:
    """``init --show-words``, ``send``, ``init --restore`` and ``scan``, each a process of its own."""
    program = Program(tmp_path / "folder", shared_node)
    where = f"--chain bitcoind --rpc-url {shared_node.url} --rpc-cookie {shared_node.cookie}"
    words = program.json(f"--wallet buyer init --show-words {where}")["words"]
    program.coin("buyer", 500_000)
    shop = program.json("--wallet buyer address")["address"]
    sent = program.json(f"--wallet buyer send {shop} 100000 --fee-rate 3")
    judged(shared_node, Sent(**sent), FeeRate(3000))
    assert program.json(f"--wallet buyer send --resend {sent['txid'][:12]}") == sent
    shared_node.mine(1)
    restored = program.json(f"--wallet again init --restore {where}", stdin=words)
    assert restored["scan"] == {
        "receive": 2,
        "change": 1,
        "found": 2,  # of the first one a node knows nothing any more: its coin is spent
        "coins_sat": 500_000 - sent["fee_sat"],
    }
    assert program.json("--wallet again scan --gap-limit 5") == restored["scan"]
    assert program.json("--wallet again balance")["confirmed_sat"] == 500_000 - sent["fee_sat"]
