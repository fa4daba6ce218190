"""What the embedded chain lets into its mempool, in Bitcoin Core's reject words.

The scripts are left to the engine; everything here is read from the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from mpchan.bitcoin.script import dust_limit, is_p2tr, is_unspendable
from mpchan.bitcoin.serialize import MAX_UINT32
from mpchan.bitcoin.taproot import ANNEX_TAG
from mpchan.bitcoin.tx import MAX_REPLACEABLE, NULL_OUTPOINT, TRUC_VERSION, Transaction, TxOut
from mpchan.chain.base import COINBASE_MATURITY
from mpchan.chain.embedded.index import Index, OutputRecord
from mpchan.errors import ChainError, TooEarly
from mpchan.units import MAX_MONEY_SAT, ChainTip, FeeRate, Txid, lock_time_from_int
from mpchan.values import frozen, replace

MIN_FEE_RATE = FeeRate(1000)
"""Nothing below it is relayed."""

INCREMENTAL_FEE_RATE = FeeRate(1000)
"""What a replacement pays on top of all that it replaces, for its own size."""

MAX_WEIGHT = 400_000
"""Bitcoin Core's limit for a standard transaction."""

MIN_STRIPPED_SIZE = 65
"""Fewer bytes without witnesses are not relayed: at 64 one could pass for a node of the merkle tree."""

MAX_TAPSCRIPT_ITEM_SIZE = 80
"""More bytes in an item that a script of taproot takes are not relayed."""

MAX_VERSION = TRUC_VERSION

# BIP-0068, "Specification"
_SEQUENCE_DISABLED = 1 << 31
_SEQUENCE_IN_TIME = 1 << 22
_SEQUENCE_MASK = 0xFFFF
_SEQUENCE_GRANULARITY = 9


@frozen
class Candidate:
    """A transaction that may go into the mempool as far as neither fee nor scripts speak against it.

    Attributes:
        spent: the outputs that it spends, in input order.
        fee: in satoshi.
        replaces: the transactions of the mempool that would have to leave, each with all that spend from it.
        parents: the transactions of the mempool that it spends from.
    """

    transaction: Transaction
    spent: tuple[TxOut, ...]
    fee: int
    replaces: tuple[Transaction, ...]
    parents: tuple[Transaction, ...]


def check(transaction: Transaction, index: Index) -> Candidate:
    """Judge everything about ``transaction`` but its fee and its scripts.

    Raises:
        TooEarly: ``non-final``, for a lock time of the transaction or of an input (BIP-0068).
        ChainError: ``rejected``.
    """
    _check_form(transaction)
    records = _check_inputs(transaction, index)
    spent = tuple(record.output for record in records)
    fee = _fee(transaction, spent)
    if fee < 0:
        reject(transaction, "bad-txns-in-belowout")
    if not 1 <= transaction.version <= MAX_VERSION:
        reject(transaction, "version")
    for output in transaction.outputs:
        limit = dust_limit(output.script_pubkey)
        if output.value < limit:
            reject(transaction, f"dust, an output of {output.value} where {limit} is the least")
    _check_taproot_witnesses(transaction, spent)
    _check_final(transaction, index.last_block().tip)
    _check_relative_locks(transaction, records, index)
    return Candidate(
        transaction, spent, fee, _conflicts(transaction, records, index), tuple(index.parents(transaction))
    )


def fee_of(transaction: Transaction, index: Index) -> int:
    """The fee of a transaction in the mempool, in satoshi."""
    records = [index.output(txin.outpoint) for txin in transaction.inputs]
    return _fee(transaction, [record.output for record in records if record is not None])


def _fee(transaction: Transaction, spent: Sequence[TxOut]) -> int:
    return sum(output.value.sat for output in spent) - sum(output.value.sat for output in transaction.outputs)


def reject(transaction: Transaction, reason: str) -> NoReturn:
    """Raise the refusal of ``transaction``.

    Raises:
        ChainError: ``rejected``, always.
    """
    raise ChainError("rejected", f"the chain refuses transaction {transaction.txid}: {reason}")


def is_final(transaction: Transaction, tip: ChainTip) -> bool:
    """Whether the block after ``tip`` may hold ``transaction``, by its nLockTime (BIP-0113)."""
    if transaction.lock_time == 0 or all(txin.sequence == MAX_UINT32 for txin in transaction.inputs):
        return True
    return lock_time_from_int(transaction.lock_time).is_final(tip)


def _check_form(transaction: Transaction) -> None:
    """What needs no chain."""
    if not transaction.inputs:
        reject(transaction, "bad-txns-vin-empty")
    if not transaction.outputs:
        reject(transaction, "bad-txns-vout-empty")
    if sum(output.value.sat for output in transaction.outputs) > MAX_MONEY_SAT:
        reject(transaction, "bad-txns-txouttotal-toolarge")
    outpoints = [txin.outpoint for txin in transaction.inputs]
    if len(set(outpoints)) < len(outpoints):
        reject(transaction, "bad-txns-inputs-duplicate")
    if NULL_OUTPOINT in outpoints:
        reject(transaction, "coinbase" if len(outpoints) == 1 else "bad-txns-prevout-null")
    weight = transaction.weight
    if weight > MAX_WEIGHT:
        reject(transaction, f"tx-size, {weight} weight units where {MAX_WEIGHT} are the most")
    stripped_size = len(transaction.to_bytes(include_witness=False))
    if stripped_size < MIN_STRIPPED_SIZE:
        reject(transaction, "tx-size-small")


def _check_inputs(transaction: Transaction, index: Index) -> list[OutputRecord]:
    records = []
    for txin in transaction.inputs:
        record = index.output(txin.outpoint)
        if record is None or is_unspendable(record.output.script_pubkey):
            reject(transaction, f"bad-txns-inputs-missingorspent, there is no output {txin.outpoint}")
        records.append(record)
    for record in records:
        if record.spender is not None and record.spender_height is None and not _signals(record.spender):
            reject(transaction, f"txn-mempool-conflict, an input is spent by {record.spender.txid}")
    for record in records:
        if record.spender is not None and record.spender_height is not None:
            reject(transaction, f"bad-txns-inputs-missingorspent, an input is spent by {record.spender.txid}")
    next_height = index.last_block().height + 1
    for record in records:
        if record.coinbase and record.height is not None and next_height - record.height < COINBASE_MATURITY:
            depth = next_height - record.height
            reject(transaction, f"bad-txns-premature-spend-of-coinbase, at depth {depth}")
    return records


def _signals(transaction: Transaction) -> bool:
    """Whether a transaction says that it may be replaced (BIP-0125, "Summary"); version 3 always does (BIP-0431)."""
    return transaction.version == TRUC_VERSION or any(
        txin.sequence <= MAX_REPLACEABLE for txin in transaction.inputs
    )


def _conflicts(
    transaction: Transaction, records: Sequence[OutputRecord], index: Index
) -> tuple[Transaction, ...]:
    """The transactions of the mempool that spend what this one spends, and all that spend from them."""
    found: dict[Txid, Transaction] = {}
    for record in records:
        if record.spender is not None:
            found.update({conflict.txid: conflict for conflict in index.with_descendants(record.spender)})
    for txin in transaction.inputs:
        if txin.outpoint.txid in found:
            reject(transaction, f"bad-txns-spends-conflicting-tx, {txin.outpoint.txid} would be replaced")
    return tuple(found.values())


def _check_taproot_witnesses(transaction: Transaction, spent: Sequence[TxOut]) -> None:
    """What is not relayed though blocks may hold it (Bitcoin Core: ``IsWitnessStandard``)."""
    for txin, output in zip(transaction.inputs, spent, strict=True):
        if not is_p2tr(output.script_pubkey) or len(txin.witness) < 2:
            continue
        *items, _, last = txin.witness  # what a script takes, the script, and its control block
        if last.startswith(ANNEX_TAG) or any(len(item) > MAX_TAPSCRIPT_ITEM_SIZE for item in items):
            reject(transaction, "bad-witness-nonstandard")


def _check_final(transaction: Transaction, tip: ChainTip) -> None:
    if is_final(transaction, tip):
        return
    lock_time = lock_time_from_int(transaction.lock_time)
    if lock_time.unit == "blocks":
        wait = f"until the tip has height {lock_time.value}; it has {tip.height}"
    else:
        wait = f"until the median time is above {lock_time.value}; it is {tip.median_time}"
    raise TooEarly("non-final", f"non-final: transaction {transaction.txid} must wait {wait}")


def _check_relative_locks(transaction: Transaction, records: list[OutputRecord], index: Index) -> None:
    """BIP-0068: an input's nSequence can demand an age of the output that it spends."""
    if transaction.version < 2:
        return
    tip = index.last_block()
    for txin, record in zip(transaction.inputs, records, strict=True):
        if txin.sequence & _SEQUENCE_DISABLED:
            continue
        age = txin.sequence & _SEQUENCE_MASK
        made_at = tip.height + 1 if record.height is None else record.height
        if txin.sequence & _SEQUENCE_IN_TIME:
            # the clock starts at the median time before the block that made the output
            start = index.block(made_at - 1).median_time
            wait, unit = start + (age << _SEQUENCE_GRANULARITY) - tip.median_time, "s of median time"
        else:
            wait, unit = made_at + age - (tip.height + 1), "blocks"
        if wait > 0:
            raise TooEarly(
                "non-final",
                f"non-BIP68-final: transaction {transaction.txid} must wait another {wait} {unit}",
            )


# version 3 (BIP-0431) -----------------------------------------------------------------------------


MAX_VSIZE = 10_000
MAX_CHILD_VSIZE = 1_000


def within_topology(candidate: Candidate, index: Index, *, evicts_sibling: bool) -> Candidate:
    """The candidate, which may also replace the child that its parent has already ("sibling eviction")."""
    _require_one_version(candidate)
    if candidate.transaction.version != TRUC_VERSION:
        return candidate
    _require_size(candidate, MAX_VSIZE, "tx")
    if not candidate.parents:
        return candidate
    _require_size(candidate, MAX_CHILD_VSIZE, "child tx")
    parent = candidate.parents[0]
    if len(candidate.parents) > 1 or index.parents(parent):
        _violation(candidate, "tx would have too many ancestors")
    leaving = {each.txid for each in candidate.replaces}
    siblings = [child for child in index.children(parent) if child.txid not in leaving]
    if not siblings:
        return candidate
    # more than one is there only where a reorganisation put back what was in blocks
    alone = len(siblings) == 1 and len(index.parents(siblings[0])) == 1 and not index.children(siblings[0])
    if not (alone and evicts_sibling):
        _violation(candidate, f"tx {parent.txid} would exceed descendant count limit")
    return replace(candidate, replaces=(*candidate.replaces, *siblings))


def _require_one_version(candidate: Candidate) -> None:
    ours = candidate.transaction.version
    for parent in candidate.parents:
        if ours != TRUC_VERSION and parent.version == TRUC_VERSION:
            _violation(candidate, f"non-version=3 tx cannot spend from version=3 tx {parent.txid}")
        if ours == TRUC_VERSION and parent.version != TRUC_VERSION:
            _violation(candidate, f"version=3 tx cannot spend from non-version=3 tx {parent.txid}")


def _require_size(candidate: Candidate, most: int, what: str) -> None:
    vsize = candidate.transaction.vsize
    if vsize > most:
        _violation(candidate, f"version=3 {what} is too big: {vsize} > {most} virtual bytes")


def _violation(candidate: Candidate, why: str) -> None:
    reject(candidate.transaction, f"TRUC-violation, {why}")
