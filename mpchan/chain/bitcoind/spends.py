"""Who spends an output in a block, found without any index of the node.

The node forgets what is spent, so the blocks themselves have to be looked through: from the last one that is known not
to spend the output, else from where the caller says that it cannot have been spent before, to the tip. What was looked
through is noted.
"""

from __future__ import annotations

from mpchan.bitcoin.block import block_hash, block_transactions, parent_hash
from mpchan.bitcoin.tx import outpoint_to_bytes
from mpchan.chain.answer import Answer, Failure, words
from mpchan.chain.bitcoind.notes import Block, ConfirmedSpend, Note, Notes
from mpchan.chain.bitcoind.rpc import Rpc
from mpchan.chain.steady import moved
from mpchan.errors import ChainError, ParseError
from mpchan.units import LockTime, MedianTime, OutPoint, Txid

# Bitcoin Core's RPCErrorCode
MISC_ERROR = -1
NOT_FOUND = -5
OUT_OF_RANGE = -8

_BLOCKS_PER_NOTE = 100
_DEEPEST_FORK = 10_000


class Spends:
    """The search. The chain is taken as the one that ends with the tip that the caller names.

    Every method raises ``ChainError``: ``chain-moving`` where that is no longer so, ``pruned`` where the node has
    deleted a block that must be looked through, and as ``Rpc``.
    """

    def __init__(self, rpc: Rpc, notes: Notes) -> None:
        self._rpc = rpc
        self._notes = notes

    def noted(self, outpoint: OutPoint) -> tuple[ConfirmedSpend, int] | None:
        """The spend that was found earlier, with its confirmations, where its block still counts."""
        spend = self._notes.get(outpoint).spend
        if spend is None:
            return None
        header = self._header(spend.block)
        confirmations = 0 if header is None else header["confirmations"].integer(-1, 1 << 30)
        return (spend, confirmations) if confirmations > 0 else None

    def find(self, outpoint: OutPoint, not_before: LockTime | None, tip: Block) -> ConfirmedSpend | None:
        """The spend in the chain up to ``tip``; None where there is none.

        Args:
            not_before: no block below this height, or whose median time is earlier, spends the output.
        """
        start = self._after_note(outpoint)
        if start is None:
            start = self._first_height(not_before, tip)
        return self._look_through(outpoint, start, tip)

    def details(
        self, outpoint: OutPoint, spender: Txid, block: Block, before: Block | None
    ) -> ConfirmedSpend:
        """The spend by a transaction that stands in ``block``, with what the node remembers of the output."""
        reply = self._rpc.attempt("getrawtransaction", str(spender), 2, block.hash)
        if isinstance(reply, Failure):
            raise self._missing("getrawtransaction", reply, block, outpoint)
        transaction = reply["hex"].transaction(spender)
        outpoints = [txin.outpoint for txin in transaction.inputs]
        if outpoint not in outpoints:
            raise moved()
        source = reply["vin"].item(outpoints.index(outpoint))
        if "prevout" not in source:
            raise self._pruned(block, outpoint, Failure(MISC_ERROR, "no undo data"))
        source = source["prevout"]
        output = source.output("value", "scriptPubKey", "hex")
        spend = ConfirmedSpend(block, transaction, output, source["height"].height())
        self._notes.put(outpoint, Note(before or self._notes.get(outpoint).clear, spend))
        return spend

    # where to begin -------------------------------------------------------------------------------

    def _after_note(self, outpoint: OutPoint) -> int | None:
        """The first height that the note says nothing of: after a reorganisation that of the fork."""
        block = self._notes.get(outpoint).clear
        for _ in range(_DEEPEST_FORK):
            header = None if block is None else self._header(block)
            if block is None or header is None:
                break
            if header["confirmations"].integer(-1, 1 << 30) > 0:
                return block.height + 1
            if block.height == 0:
                break
            block = Block(block.height - 1, header["previousblockhash"].block_hash())
        return None

    def _header(self, block: Block) -> Answer | None:
        """What the node says of a block; None where it does not know it, or at another height."""
        reply = self._rpc.attempt("getblockheader", block.hash)
        if isinstance(reply, Failure):
            if reply.code == NOT_FOUND:
                return None
            raise self._rpc.refused("getblockheader", reply)
        return reply if reply["height"].height() == block.height else None

    def _first_height(self, not_before: LockTime | None, tip: Block) -> int:
        if not_before is None:
            return 1  # nothing can spend the genesis block's coin, and nothing else is in it
        if not isinstance(not_before, MedianTime):
            return not_before.value
        low, high = 1, tip.height + 1  # median times never fall along a chain
        while low < high:
            middle = (low + high) // 2
            header = self._rpc.call("getblockheader", self._hash_at(middle))
            if header["mediantime"].time() < not_before.value:
                low = middle + 1
            else:
                high = middle
        return low

    # looking through blocks -----------------------------------------------------------------------

    def _look_through(self, outpoint: OutPoint, start: int, tip: Block) -> ConfirmedSpend | None:
        before = Block(start - 1, self._hash_at(start - 1)) if start <= tip.height + 1 else tip
        found = None
        try:
            for height in range(start, tip.height + 1):
                block, spender = self._spender_in(outpoint, before)
                if spender is not None:
                    found = self.details(outpoint, spender, block, before)
                    return found
                before = block
                if (height - start) % _BLOCKS_PER_NOTE == _BLOCKS_PER_NOTE - 1:
                    self._notes.put(outpoint, Note(before))
        finally:
            if found is None:  # also when it is interrupted: the next search goes on from here
                self._notes.put(outpoint, Note(before))
        if before.height == tip.height and before.hash != tip.hash:
            raise moved()
        return None

    def _spender_in(self, outpoint: OutPoint, before: Block) -> tuple[Block, Txid | None]:
        """The block after ``before``, and the transaction in it that spends the output."""
        block = Block(before.height + 1, self._hash_at(before.height + 1))
        reply = self._rpc.attempt("getblock", block.hash, 0)
        if isinstance(reply, Failure):
            raise self._missing("getblock", reply, block, outpoint)
        raw = reply.data()
        try:
            if block_hash(raw) != block.hash:
                raise ParseError("malformed-hex", "another block")
            if parent_hash(raw) != before.hash:
                raise moved()
            return block, _spender(raw, outpoint)
        except ParseError as error:
            raise ChainError(
                "malformed-answer", f"the node's block {block.hash} cannot be read: {error.message}"
            ) from None

    def _hash_at(self, height: int) -> str:
        reply = self._rpc.attempt("getblockhash", height)
        if isinstance(reply, Failure):
            if reply.code == OUT_OF_RANGE:
                raise moved()
            raise self._rpc.refused("getblockhash", reply)
        return reply.block_hash()

    def _missing(self, method: str, failure: Failure, block: Block, outpoint: OutPoint) -> ChainError:
        """Why the node does not show a block, or a transaction in it."""
        if failure.code == MISC_ERROR:
            return self._pruned(block, outpoint, failure)
        return moved() if failure.code == NOT_FOUND else self._rpc.refused(method, failure)

    def _pruned(self, block: Block, outpoint: OutPoint, failure: Failure) -> ChainError:
        return ChainError(
            "pruned",
            f"the node no longer has block {block.height}, which may say who spent {outpoint}: "
            f"{words(failure.message)}",
            hint="ask a node that keeps its blocks, or raise this node's prune= and let it fetch them again",
        )


def _spender(raw: bytes, outpoint: OutPoint) -> Txid | None:
    """The transaction of a raw block that spends ``outpoint``.

    Raises:
        ParseError: the block is malformed.
    """
    if outpoint_to_bytes(outpoint) not in raw:
        return None  # nearly all blocks: there is no need to read their transactions one by one
    for transaction in block_transactions(raw):
        if any(txin.outpoint == outpoint for txin in transaction.inputs):
            return transaction.txid
    return None
