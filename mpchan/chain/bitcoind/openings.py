"""Fundings that strangers have announced: which of very many outputs have come to be.

Nearly all of them never come. So the node is asked about each once; from then on what is new, the ids of the
transactions in new blocks and in the mempool, is compared with what is waited for. Only memory holds any of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from mpchan.chain.answer import Failure
from mpchan.chain.bitcoind.notes import Block
from mpchan.chain.bitcoind.rpc import Rpc, granted, portions, spenders
from mpchan.units import DAY_BLOCKS, OutPoint

FEW = 500
"""About so many the node is asked each time: its mempool may be longer than that."""


class Openings:
    """What was asked about, and up to which block. Methods raise as ``Rpc`` does."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._asked: set[OutPoint] = set()
        self._front: Block | None = None

    def appeared(self, wanted: Collection[OutPoint], tip: Block) -> set[OutPoint]:
        """Those of these outputs that a block up to ``tip``, or the mempool, holds.

        Args:
            tip: as the node said it before this question.
        """
        waiting = self._asked.intersection(wanted)
        fresh = self._fresh_transactions(tip) if len(wanted) > FEW and waiting else None
        if fresh is None:
            possible = set(wanted)
        else:
            possible = {outpoint for outpoint in wanted if outpoint not in waiting}
            by_txid = defaultdict(list)
            for outpoint in waiting:
                by_txid[str(outpoint.txid)].append(outpoint)
            for txid in by_txid.keys() & fresh:
                possible.update(by_txid[txid])
        found = self._existing(sorted(possible))
        self._asked, self._front = set(wanted) - found, tip
        return found

    def _fresh_transactions(self, tip: Block) -> set[str] | None:
        """The ids of all transactions that wait, or came into blocks since the last time; None where that is not known.

        The blocks come last: what leaves the mempool for a block above ``tip`` meanwhile is found the next time.
        """
        front, fresh = self._front, {item.hex() for item in self._rpc.call("getrawmempool").items()}
        if front is None or tip.height - front.height > DAY_BLOCKS:
            return None  # the node is asked about every output instead
        block = tip
        while block.height > front.height:
            reply = self._rpc.attempt("getblock", block.hash, 1)
            if isinstance(reply, Failure):
                return None  # pruned, or of a branch that is gone
            if reply["height"].height() != block.height:
                raise reply.malformed(f"block {block.height}")
            fresh.update(item.hex() for item in reply["tx"].items())
            block = Block(block.height - 1, reply["previousblockhash"].block_hash())
        return fresh if block == front else None

    def _existing(self, outpoints: Sequence[OutPoint]) -> set[OutPoint]:
        """Those that are unspent, or that only the mempool spends."""
        found: set[OutPoint] = set()
        for part in portions(outpoints):
            questions = [[str(outpoint.txid), outpoint.vout, True] for outpoint in part]
            replies = zip(part, granted(self._rpc, "gettxout", questions), strict=True)
            found.update(outpoint for outpoint, reply in replies if not reply.is_null)
        missing = [outpoint for outpoint in outpoints if outpoint not in found]
        found.update(
            outpoint for outpoint, answer in spenders(self._rpc, missing) if "spendingtxid" in answer
        )
        return found
