"""Shared by the tests of the backend ``bitcoind``: play transactions, an account of a chain, a record of calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count

import pytest
from support.chain.node import MINER_SCRIPT, MINER_WITNESS_SCRIPT, Node, Refusal

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import script_to_p2wsh_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import OutputStatus, Spend
from mpchan.chain.bitcoind.rpc import Rpc
from mpchan.units import Amount, FeeRate, OutPoint
from mpchan.values import replace

LOCKABLE = 0xFFFF_FFFD

_fresh = count(1)
_blocks: dict[str, tuple[str, list[Transaction]]] = {}
_WITNESSES = {MINER_SCRIPT: MINER_WITNESS_SCRIPT}


def fresh_script() -> bytes:
    """A script that nobody else uses, and that anybody can spend: its witness script pushes a number."""
    witness_script = b"\x04" + next(_fresh).to_bytes(4, "little")
    script = script_to_p2wsh_script(witness_script)
    _WITNESSES[script] = witness_script
    return script


def spend(
    parent: Transaction,
    *amounts: int,
    vout: int = 0,
    script: bytes = MINER_SCRIPT,
    lock_time: int = 0,
    sequence: int = LOCKABLE,
) -> Transaction:
    """Spend one output of ``parent``."""
    witness = (_WITNESSES[parent.outputs[vout].script_pubkey],)
    source = TxIn(OutPoint(parent.txid, vout), sequence, b"", witness)
    return Transaction(2, (source,), tuple(TxOut(Amount(amount), script) for amount in amounts), lock_time)


FULL = "-maxmempool=5"
"""Option of a node whose mempool ``fill`` can fill: megabytes, the least that Bitcoin Core takes."""


def fill(node: Node) -> FeeRate:
    """Fill the mempool with large transactions of 2 to 5 sat/vB; the least rate that it takes from now on.

    The rate stays for hours, also when blocks have emptied the mempool.
    """
    size, count = 95_000, 60
    block_space = node.pay(fresh_script(), *[1_000_000] * count)
    node.mine_with([block_space])
    ballast = TxOut(
        Amount(0), b"\x6a\x4e" + size.to_bytes(4, "little") + bytes(size)
    )  # OP_RETURN OP_PUSHDATA4
    for vout in range(count):
        large = spend(block_space, 800_000 - 5_000 * vout, vout=vout)
        with suppress(Refusal):  # it is full earlier or later by the node's version
            node.call("sendrawtransaction", replace(large, outputs=(*large.outputs, ballast)).to_hex(), 0)
    info = node.call("getmempoolinfo")
    least = FeeRate(int(info["mempoolminfee"] * 10**8))
    assert least > FeeRate(2000), info
    return least


def first(transaction: Transaction) -> OutPoint:
    """Its first output."""
    return OutPoint(transaction.txid, 0)


def account(node: Node) -> dict[OutPoint, OutputStatus]:
    """Every output of chain and mempool with its spender, by reading all of them from the genesis block on."""
    found: list[tuple[int, Transaction]] = []
    block, depth = node.call("getbestblockhash"), 0
    while block != REGTEST.genesis_hash:
        depth += 1
        block, transactions = _block(node, block)
        found += [(depth, transaction) for transaction in transactions]
    found += [
        (0, Transaction.from_hex(node.call("getrawtransaction", txid))) for txid in node.call("getrawmempool")
    ]
    outputs: dict[OutPoint, OutputStatus] = {}
    for confirmations, transaction in found:
        for vout, output in enumerate(transaction.outputs):
            if not output.script_pubkey.startswith(b"\x6a"):
                outputs[OutPoint(transaction.txid, vout)] = OutputStatus(output, confirmations)
    for confirmations, transaction in found:
        for txin in transaction.inputs:
            made = outputs.get(txin.outpoint)
            if made is not None:
                spender = Spend(transaction.txid, confirmations, transaction)
                outputs[txin.outpoint] = OutputStatus(made.output, made.confirmations, spender)
    return outputs


def _block(node: Node, block: str) -> tuple[str, list[Transaction]]:
    """The block before it, and its transactions."""
    if block not in _blocks:
        said = node.call("getblock", block, 2)
        transactions = [Transaction.from_hex(tx["hex"]) for tx in said["tx"]]
        _blocks[block] = (said["previousblockhash"], transactions)
    return _blocks[block]


class Calls(Counter[str]):
    """How often each question was asked, and in how many messages all of them went."""

    messages = 0


@contextmanager
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Counts what the node is asked."""
    counted = Calls()
    attempt, attempt_all = Rpc.attempt, Rpc.attempt_all

    def counting(self: Rpc, method: str, *parameters: object, **options: float | None) -> object:
        counted[method] += 1
        counted.messages += 1
        return attempt(self, method, *parameters, **options)

    def counting_all(self: Rpc, method: str, calls: Sequence[Sequence[object]]) -> object:
        if len(calls) > 1:  # one alone is asked as such
            counted[method] += len(calls)
            counted.messages += 1
        return attempt_all(self, method, calls)

    with monkeypatch.context() as patch:
        patch.setattr(Rpc, "attempt", counting)
        patch.setattr(Rpc, "attempt_all", counting_all)
        yield counted
