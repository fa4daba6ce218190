"""New blocks, and the agreement of engine and index.

Everything here runs within ``Index.writing`` and with the directory held.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import urandom

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import MAX_REPLACEABLE, Transaction, TxIn, TxOut
from mpchan.chain.base import Coin
from mpchan.chain.embedded.admission import readmit
from mpchan.chain.embedded.blocks import (
    BLOCK_INTERVAL,
    MAX_BLOCK_WEIGHT,
    MINER_SCRIPT,
    MINER_WITNESS_SCRIPT,
    Block,
    build_block,
)
from mpchan.chain.embedded.index import BlockRecord, Index
from mpchan.chain.embedded.kernel import Kernel
from mpchan.chain.embedded.mempool import is_final
from mpchan.errors import ChainError, MpchanError, NotPossible
from mpchan.units import MAX_MONEY_SAT, Amount, FeeRate, OutPoint

_RESERVED_WEIGHT = 8_000
"""Kept free for header and coinbase, as Bitcoin Core does."""

_TIME_OFFSET = 68  # of a header: version (4), parent (32), merkle root (32)


def append(index: Index, kernel: Kernel, transactions: Sequence[Transaction]) -> str | None:
    """Mine one block that holds exactly these transactions after its coinbase.

    Returns:
        None when the block stands on top of the chain; else the engine's reason, and nothing has changed.
    """
    parent = index.last_block()
    fees = _fees(index, transactions)
    reason = None
    # a block that was refused once is refused unread; then another block with the same content is asked about
    for extra_nonce in (b"", urandom(8)):
        # fees go unclaimed: what the branch spends may not be in the index
        block = _build_on(parent, transactions, fees=fees, extra_nonce=extra_nonce)
        reason = kernel.submit(block.raw)
        if reason is None:
            if kernel.tip_hash != block.hash:
                raise ChainError("engine-failed", f"the consensus engine leaves block {block.height} aside")
            index.connect(block)
            return None
        if not reason.startswith("duplicate-invalid"):
            break
    return reason


def mine_block(index: Index, kernel: Kernel) -> None:
    """Mine one block with what the mempool holds, as much as fits.

    A mempool transaction that the engine refuses in a block is dropped, with those that spend from it: whatever
    is in the mempool, the chain goes on.
    """
    selected = _select(index)
    while True:
        reason = append(index, kernel, selected)
        if reason is None:
            return
        if not selected:
            raise ChainError("engine-failed", f"the consensus engine refuses an empty block: {reason}")
        # the reason mostly names the culprit; a parent that it names as well stands before it
        named = [transaction for transaction in selected if str(transaction.txid) in reason]
        if named or len(selected) == 1:
            index.evict((named or selected)[-1].txid)
            selected = _select(index)
        else:
            # too much for one block, or a culprit without a name: it is found by halving
            selected = selected[: len(selected) // 2]


def reorganise(index: Index, kernel: Kernel, depth: int, transactions: Sequence[Transaction]) -> None:
    """Replace the last ``depth`` blocks by ``depth + 1`` others, the first of them holding ``transactions``.

    What stood in the replaced blocks goes back to the mempool where it is still good.

    Raises:
        ChainError: ``rejected`` with the engine's reason when it does not take the branch; the chain stays as it is.
        NotPossible: ``reorganisation-too-deep``.
    """
    tip = index.last_block()
    if not 1 <= depth <= tip.height:
        raise NotPossible("reorganisation-too-deep", f"cannot replace {depth} of {tip.height} blocks")
    parent = index.block(tip.height - depth)
    for number in range(depth + 1):
        # the tip's hash, to be another block than the one that is replaced
        # fees go unclaimed: what the branch spends may not be in the index
        block = _build_on(parent, transactions if number == 0 else (), fees=Amount(0), extra_nonce=tip.hash)
        reason = kernel.submit(block.raw)
        if reason is not None:
            raise ChainError("rejected", f"the chain refuses the new branch: {reason}")
        parent = BlockRecord(block.height, block.hash, block.time, 0)
    follow(index, kernel)


def follow(index: Index, kernel: Kernel) -> None:
    """Make engine and index agree, whichever was ahead when a process ended before its time.

    Raises:
        ChainError: ``chain-index`` when the engine refuses what the index holds.
    """
    tip = index.last_block()
    if kernel.tip_hash == tip.hash:
        return
    for height in range(_fork_height(index, kernel) + 1, tip.height + 1):
        reason = kernel.submit(index.raw_block(height))
        if reason is not None:
            raise ChainError(
                "chain-index", f"the consensus engine refuses block {height} of the index: {reason}"
            )
    fork_height = _fork_height(index, kernel)
    returned: list[Transaction] = []
    if fork_height < tip.height:
        returned = _disconnect_to(index, fork_height)
    for height in range(fork_height + 1, kernel.height + 1):
        raw, transactions = kernel.block_at(height)
        time = int.from_bytes(raw[_TIME_OFFSET : _TIME_OFFSET + 4], "little")
        index.connect(Block(kernel.hash_at(height), height, time, transactions, raw))
    for transaction in returned:
        _try_to_admit(index, transaction)


def create(index: Index, kernel: Kernel, blocks: int) -> None:
    """Fill an empty index: the genesis block, then at least ``blocks`` more."""
    genesis, _ = kernel.block_at(0)
    time = int.from_bytes(genesis[_TIME_OFFSET : _TIME_OFFSET + 4], "little")
    index.set_up(genesis, kernel.hash_at(0), time)
    # the engine may have been here before an index was lost
    follow(index, kernel)
    while index.last_block().height < blocks:
        mine_block(index, kernel)


def _build_on(
    parent: BlockRecord,
    transactions: Sequence[Transaction],
    *,
    fees: Amount,
    extra_nonce: bytes,
) -> Block:
    time = parent.time + BLOCK_INTERVAL
    return build_block(parent.hash, parent.height + 1, time, transactions, fees=fees, extra_nonce=extra_nonce)


def _select(index: Index) -> list[Transaction]:
    """What the next block can hold of the mempool, parents before their children."""
    waiting = index.mempool_transactions()
    if not waiting:
        return []
    tip = index.last_block().tip
    room = MAX_BLOCK_WEIGHT - _RESERVED_WEIGHT
    selected = []
    left_out = set()
    for transaction in waiting:
        weight = transaction.weight
        orphaned = any(txin.outpoint.txid in left_out for txin in transaction.inputs)
        if orphaned or weight > room or not is_final(transaction, tip):
            left_out.add(transaction.txid)
        else:
            room -= weight
            selected.append(transaction)
    return selected


def _fees(index: Index, transactions: Sequence[Transaction]) -> Amount:
    """What a block of these transactions may claim; nothing for one that cannot be good."""
    made: dict[OutPoint, int] = {}
    total = 0
    for transaction in transactions:
        incoming = 0
        for txin in transaction.inputs:
            record = index.output(txin.outpoint)
            incoming += made.get(txin.outpoint, 0) if record is None else record.output.value.sat
        outgoing = sum(output.value.sat for output in transaction.outputs)
        total += max(0, incoming - outgoing)
        txid = transaction.txid
        made.update({OutPoint(txid, vout): out.value.sat for vout, out in enumerate(transaction.outputs)})
    # nonsense that spends one output many times is for the engine to refuse
    return Amount(min(total, MAX_MONEY_SAT // 2))


def _fork_height(index: Index, kernel: Kernel) -> int:
    """The highest block that index and engine's best chain share."""
    height = min(index.last_block().height, kernel.height)
    while kernel.hash_at(height) != index.block(height).hash:
        height -= 1
    return height


def _disconnect_to(index: Index, height: int) -> list[Transaction]:
    """Take off what is above ``height``, and empty the mempool; all that was in either, oldest first."""
    waiting = index.mempool_transactions()
    for transaction in waiting:
        index.evict(transaction.txid)
    returned: list[Transaction] = []
    while index.last_block().height > height:
        returned[:0] = index.disconnect()
    return returned + waiting


def _try_to_admit(index: Index, transaction: Transaction) -> None:
    if index.transaction(transaction.txid) is not None:
        return
    try:
        readmit(index, transaction)
    except MpchanError as error:
        # the new branch leaves no room for it; anything else is a failure of the chain itself
        if error.slug not in ("rejected", "non-final"):
            raise


# play money ---------------------------------------------------------------------------------------


_FEE_RATE = FeeRate(2000)

_INPUT_VSIZE = 42
"""Of one of the miner's inputs: 41 bytes, and a quarter of a witness of 3 bytes (count, length, OP_1)."""


def payment(index: Index, script_pubkey: bytes, amount: Amount) -> Transaction:
    """A transaction of the miner's coins with ``amount`` to ``script_pubkey``; the change goes back.

    Raises:
        NotPossible: ``faucet-empty``.
    """
    coins = sorted(filter(_is_worth_spending, index.coins([MINER_SCRIPT])), key=_preference)
    empty = _transaction([], TxOut(amount, script_pubkey), dust_limit(MINER_SCRIPT))
    # two bytes of marker and flag, and the longer counts of many inputs
    overhead = empty.vsize + 3
    chosen: list[Coin] = []
    total = 0
    for coin in coins:
        chosen.append(coin)
        total += coin.output.value.sat
        change = total - amount.sat - _FEE_RATE.fee(overhead + len(chosen) * _INPUT_VSIZE).sat
        if change >= 0:
            return _transaction(chosen, TxOut(amount, script_pubkey), Amount(change))
    raise NotPossible(
        "faucet-empty",
        f"the faucet cannot pay {amount}: it holds {total} sat in {len(coins)} coins",
        hint="mine more blocks",
    )


def _is_worth_spending(coin: Coin) -> bool:
    return coin.mature and coin.output.value >= dust_limit(MINER_SCRIPT)


def _preference(coin: Coin) -> tuple[bool, int]:
    """Confirmed ones first, then the larger."""
    return coin.confirmations == 0, -coin.output.value.sat


def _transaction(coins: list[Coin], output: TxOut, change: Amount) -> Transaction:
    inputs = tuple([TxIn(coin.outpoint, MAX_REPLACEABLE, b"", (MINER_WITNESS_SCRIPT,)) for coin in coins])
    # change that would be dust is left to the fee
    back = (TxOut(change, MINER_SCRIPT),) if change >= dust_limit(MINER_SCRIPT) else ()
    return Transaction(2, inputs, (output, *back), 0)
