"""What has been paid to scripts, as a node without any index tells it: block by block, each read once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chain.node import Node, needs_node

from mpchan.bitcoin.taproot import p2tr_script
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.bitcoind import rpc as rpc_module
from mpchan.chain.bitcoind.coins import Needles
from mpchan.errors import ChainError

pytestmark = needs_node

FEW, MANY = 1, 60
"""Scripts that are looked for in a block's bytes, and those for which its transactions are read."""


def script(number: int) -> bytes:
    return p2tr_script(number.to_bytes(32, "big"))


def outpoints(transaction: Transaction, wanted: bytes) -> list[str]:
    found = [vout for vout, output in enumerate(transaction.outputs) if output.script_pubkey == wanted]
    return [f"{transaction.txid}:{vout}" for vout in found]


class Blocks:
    """Counts the blocks that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        real = rpc_module.Rpc.attempt

        def attempt(rpc: rpc_module.Rpc, method: str, *parameters: object, **options: object) -> object:
            self.read += method == "getblock"
            return real(rpc, method, *parameters, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(rpc_module.Rpc, "attempt", attempt)


def test_words_that_begin_alike() -> None:
    """The beginning may stand in a text before the word, and overlap with it."""
    needles = Needles(["5120aa", "512051", "0014bb"])
    assert needles.stand_in("5120ab5120aa")
    assert needles.stand_in("51205120aa")
    assert needles.stand_in("0014bb")
    assert not needles.stand_in("5120ab0014ba5120a")


@pytest.mark.parametrize("count", [FEW, MANY])
def test_found_once_a_block_holds_them(node: Node, tmp_path: Path, count: int) -> None:
    since = node.height
    wanted = {script(number): since for number in range(1, count + 1)}
    with node.chain(tmp_path) as chain:
        assert chain.payments(wanted) == []
        paid = node.pay(script(1), 7_000, 8_000)
        assert chain.payments(wanted) == []
        node.mine(3)
        found = chain.payments(wanted)
        assert [str(coin.outpoint) for coin in found] == sorted(outpoints(paid, script(1)))
        assert {coin.output.value.sat for coin in found} == {7_000, 8_000}
        assert {coin.confirmations for coin in found} == {3}
        # another height to begin at hides nothing that was found
        assert chain.payments({script(1): node.height}) == found
    with node.chain() as fresh:
        assert fresh.payments({script(1): node.height}) == []


def test_each_block_is_read_once(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since = node.height
    node.pay(script(1), 7_000)
    node.mine(5)
    counted = Blocks(monkeypatch)
    with node.chain(tmp_path) as chain:
        found = chain.payments({script(1): since, script(2): since + 3})
        assert (len(found), counted.read) == (1, 5)
        assert chain.payments({script(1): since}) == found
    assert counted.read == 5
    with node.chain(tmp_path) as another:  # as the next command has it
        assert another.payments({script(2): since}) == []
        assert another.payments({script(1): since}) == found
        assert counted.read == 5
        (tmp_path / "payments.json").write_text('{"checksum": "damaged"')
    with node.chain(tmp_path) as after_damage:
        assert after_damage.payments({script(1): since}) == found
        assert counted.read == 10


def test_a_reorganisation_takes_it_back(node: Node, tmp_path: Path) -> None:
    since = node.height
    with node.chain(tmp_path) as chain:
        first = node.pay(script(1), 7_000)
        node.mine(1)
        second = node.pay(script(1), 9_000)
        node.mine(2)
        assert len(chain.payments({script(1): since})) == 2
        node.drop(2)
        node.mine_with(())
        assert [coin.outpoint.txid for coin in chain.payments({script(1): since})] == [first.txid]
        node.mine_with((second,))
        found = chain.payments({script(1): since})
        assert {coin.outpoint.txid: coin.confirmations for coin in found} == {first.txid: 3, second.txid: 1}


def test_a_block_that_is_pruned_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    since = node.height
    node.mine(2)
    real = rpc_module.Rpc.attempt

    def attempt(rpc: rpc_module.Rpc, method: str, *parameters: object, **options: object) -> object:
        if method == "getblock":
            from mpchan.chain.answer import Failure

            return Failure(-1, "Block not available (pruned data)")
        return real(rpc, method, *parameters, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rpc_module.Rpc, "attempt", attempt)
    with node.chain(tmp_path) as chain, pytest.raises(ChainError) as caught:
        chain.payments({script(1): since})
    assert caught.value.slug == "pruned"
    assert "the address of an opening" in caught.value.message
