"""Whether a transaction that somebody shows could ever be mined as the spend of an output.

What a block holds has been judged by the network. What only waits, by the word of one server, has been judged by
nobody here: its id says nothing of its witness, and a lock time that has not come keeps it out of every block. So a
spend that no block holds counts only where the lock takes its witness and the next block could hold it.
"""

from __future__ import annotations

from mpchan.bitcoin.serialize import MAX_UINT32
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.bitcoin.witness import is_native_segwit, judge_witness
from mpchan.errors import Refused
from mpchan.units import ChainTip, OutPoint, lock_time_from_int


def may_be_mined(
    tx: Transaction, outpoint: OutPoint, output: TxOut, tip: ChainTip, *, verified: bool = False
) -> bool:
    """Whether the block after ``tip`` could hold ``tx`` as the spend of an output, as far as that can be told here.

    Args:
        outpoint, output: what it is said to spend.
        verified: whether what ``lock_accepts`` cannot tell is taken for a no.
    """
    index = _input_of(tx, outpoint)
    if index is None or not is_final(tx, tip):
        return False
    accepted = lock_accepts(tx, index, output)
    return accepted is True if verified else accepted is not False


def is_final(tx: Transaction, tip: ChainTip) -> bool:
    """Whether the block after ``tip`` may hold it, by its nLockTime (Bitcoin Core: ``IsFinalTx``)."""
    if not tx.lock_time or all(source.sequence == MAX_UINT32 for source in tx.inputs):
        return True
    return lock_time_from_int(tx.lock_time).is_final(tip)


def lock_accepts(tx: Transaction, index: int, output: TxOut) -> bool | None:
    """Whether the witness of input ``index`` opens what it spends, by the rules that nodes relay by.

    P2WPKH and k-of-n multisig in P2WSH are judged with whatever sighash type, taproot's key path and the two leaves of
    ``tapscript`` with DEFAULT or ALL.

    Returns:
        None for others, and where a taproot signature covers outputs that are not known here.
    """
    source = tx.inputs[index]
    if not is_native_segwit(output.script_pubkey):
        return None
    if source.script_sig or not source.witness:
        return False
    spent = [output if at == index else None for at in range(len(tx.inputs))]
    try:
        return judge_witness(tx, index, spent, only_all=False) or None
    except Refused:
        return False


def _input_of(tx: Transaction, outpoint: OutPoint) -> int | None:
    return next((index for index, source in enumerate(tx.inputs) if source.outpoint == outpoint), None)
