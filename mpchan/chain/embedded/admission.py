"""What the embedded chain takes into its mempool, one by one or as a package, and what leaves for it.

Everything here runs within ``Index.writing``.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import mempool
from mpchan.chain.embedded.clusters import Chunk, Members, chunks, cluster, improves, is_too_large
from mpchan.chain.embedded.index import Index
from mpchan.chain.embedded.kernel import failing_input
from mpchan.chain.embedded.mempool import Candidate, check, reject, within_topology


class _TooCheap(Exception):
    """Nothing but the fee speaks against it, and a child may yet pay that."""


def admit(index: Index, transaction: Transaction) -> None:
    """Put a transaction in the mempool once policy and the engine's script check allow it.

    What it replaces leaves, with all that spend from it.
    """
    try:
        _enter(index, [transaction])
    except _TooCheap as why:
        reject(transaction, str(why))


def admit_package(index: Index, transactions: Sequence[Transaction]) -> None:
    """Put transactions in the mempool of which the last may pay for those before it, which it spends.

    As in Bitcoin Core, each is tried alone first. Those whose fee is too low then come together, and pay the least fee
    rate, and for what they replace, as a whole.

    Raises:
        TooEarly: ``non-final``.
        ChainError: ``rejected``, ``engine-missing``; the caller undoes what was put in by then.
    """
    waiting: list[Transaction] = []
    for transaction in transactions:
        held_up = {each.txid for each in waiting}
        try:
            if any(txin.outpoint.txid in held_up for txin in transaction.inputs):
                raise _TooCheap  # its parent is not there yet
            _enter(index, [transaction])
        except _TooCheap:
            waiting.append(transaction)
    if waiting:
        try:
            _enter(index, waiting)
        except _TooCheap as why:
            reject(transactions[-1], str(why))


def readmit(index: Index, transaction: Transaction) -> None:
    """Put back what a reorganisation has taken out of a block, at any fee and in any company.

    A child that pays for it may come next.
    """
    candidate = check(transaction, index)
    if candidate.replaces:
        reject(transaction, "txn-mempool-conflict")
    _require_scripts(candidate)
    index.add(transaction)


def _enter(index: Index, transactions: Sequence[Transaction]) -> None:
    """Put transactions in the mempool together, or leave it as it was.

    Raises:
        _TooCheap: only the fee is missing.
    """
    alone = len(transactions) == 1
    before: Members = {}  # the clusters that are touched, as they were
    leaving: Members = {}
    candidates: list[Candidate] = []
    with index.attempt():
        for transaction in transactions:
            candidate = check(transaction, index)
            if alone:
                _require_fee([candidate])
            candidate = within_topology(candidate, index, evicts_sibling=alone)
            before = {**cluster(index, [*candidate.replaces, *candidate.parents]), **before}
            leaving.update({each.txid: before[each.txid] for each in candidate.replaces})
            for replaced in candidate.replaces:
                index.evict(replaced.txid)
            _require_scripts(candidate)
            index.add(transaction)
            candidates.append(candidate)
        if not alone:
            _require_fee(candidates)
        coming = {candidate.transaction.txid for candidate in candidates}
        before = {txid: member for txid, member in before.items() if txid not in coming}
        left = [member.transaction for txid, member in before.items() if txid not in leaving]
        if leaving:
            _require_better(
                candidates, leaving, chunks(before), chunks(cluster(index, [*transactions, *left]))
            )
        if is_too_large(cluster(index, transactions)):
            reject(transactions[-1], "too-large-cluster")


def _require_fee(candidates: Sequence[Candidate]) -> None:
    fee, least = _whole(candidates).fee, mempool.MIN_FEE_RATE.fee(_vsize(candidates)).sat
    if fee < least:
        raise _TooCheap(f"min relay fee not met, {fee} < {least}")


def _require_better(
    candidates: Sequence[Candidate], leaving: Members, old: Sequence[Chunk], new: Sequence[Chunk]
) -> None:
    """What replaces others pays more than they did, and miners are better off with it (BIP-0125, as Core has it)."""
    whole, transaction = _whole(candidates), candidates[-1].transaction
    least = (
        sum(member.chunk.fee for member in leaving.values())
        + mempool.INCREMENTAL_FEE_RATE.fee(_vsize(candidates)).sat
    )
    why = f"insufficient fee, rejecting replacement {transaction.txid}"
    if whole.fee < least:
        raise _TooCheap(f"{why}, {whole.fee} < {least}")
    if len(candidates) > 1:
        parent, child = candidates[0], candidates[-1]
        needed = {candidate.transaction.txid for candidate in candidates}
        in_mempool = [
            each for candidate in candidates for each in candidate.parents if each.txid not in needed
        ]
        if len(candidates) > 2 or in_mempool:
            reject(transaction, "package RBF failed: package must be 1-parent-1-child")
        # by sizes that are rounded up, unlike all else here
        if whole.fee * parent.transaction.vsize <= parent.fee * _vsize(candidates):
            raise _TooCheap(f"package RBF failed: {child.transaction.txid} pays less than its parent")
    if not improves(new, old):
        raise _TooCheap(f"{why}, the feerate diagram is no better")


def _whole(candidates: Sequence[Candidate]) -> Chunk:
    fee = sum(candidate.fee for candidate in candidates)
    return Chunk(fee, sum(candidate.transaction.weight for candidate in candidates))


def _vsize(candidates: Sequence[Candidate]) -> int:
    return sum(candidate.transaction.vsize for candidate in candidates)


def _require_scripts(candidate: Candidate) -> None:
    failing = failing_input(candidate.transaction, candidate.spent)
    if failing is not None:
        reject(candidate.transaction, f"mandatory-script-verify-flag-failed, input {failing}")
