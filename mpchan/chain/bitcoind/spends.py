"""Who spends outputs in blocks, found without any index of the node.

The node forgets what is spent, so the blocks themselves have to be looked through: from the last one that is known not
to spend an output, else from where the caller says that it cannot have been spent before, to the tip. One look at a
block serves all the outputs that are asked about. What was looked through is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from mpchan.bitcoin.block import block_hash, block_transactions, parent_hash
from mpchan.bitcoin.tx import outpoint_to_bytes
from mpchan.chain.answer import Answer, Failure, words
from mpchan.chain.bitcoind.notes import Block, ConfirmedSpend, Note, Notes
from mpchan.chain.bitcoind.rpc import NOT_FOUND, Rpc, portions
from mpchan.chain.steady import moved
from mpchan.errors import ChainError, ParseError
from mpchan.units import LockTime, MedianTime, OutPoint, Txid

T = TypeVar("T")

# Bitcoin Core's RPCErrorCode
MISC_ERROR = -1
OUT_OF_RANGE = -8

_BLOCKS_PER_NOTE = 100
_FEW = 50
"""So many outputs are looked for in a block's bytes faster than its transactions are read."""
_DEEPEST_FORK = 10_000


class Spends:
    """The search. The chain is taken as the one that ends with the tip that the caller names.

    Every method raises ``ChainError``: ``chain-moving`` where that is no longer so, ``pruned`` where the node has
    deleted a block that must be looked through, and as ``Rpc``.
    """

    def __init__(self, rpc: Rpc, notes: Notes) -> None:
        self._rpc = rpc
        self._notes = notes

    def noted(self, outpoints: Iterable[OutPoint]) -> dict[OutPoint, tuple[ConfirmedSpend, int]]:
        """The spends that were found earlier, with their confirmations, where their blocks still count."""
        noted = [(outpoint, self._notes.get(outpoint).spend) for outpoint in outpoints]
        spends = {outpoint: spend for outpoint, spend in noted if spend is not None}
        depths = self._depths({spend.block for spend in spends.values()})
        return {
            outpoint: (spend, depths[spend.block])
            for outpoint, spend in spends.items()
            if depths[spend.block] > 0
        }

    def find(self, asked: Mapping[OutPoint, LockTime | None], tip: Block) -> dict[OutPoint, ConfirmedSpend]:
        """Those of these outputs that the chain up to ``tip`` spends; each block is read once for all of them.

        Args:
            asked: each with the height or median time before which no block spends it; None where that is not known.
        """
        starts: dict[OutPoint, int] = {}
        unknown = []
        for clear, outpoints in self._by_note(asked).items():
            start = None if clear is None else self.first_after(clear)
            if start is None:
                unknown += outpoints
            else:
                starts.update(dict.fromkeys(outpoints, start))
        if unknown:  # a block that is read for the earliest costs the others nothing
            start = self._first_height([asked[outpoint] for outpoint in unknown], tip)
            starts.update(dict.fromkeys(unknown, start))
        return self._look_through(starts, tip)

    def details(
        self, outpoint: OutPoint, spender: Txid, block: Block, before: Block | None
    ) -> ConfirmedSpend:
        """The spend by a transaction that stands in ``block``, with what the node remembers of the output."""
        reply = self._rpc.attempt("getrawtransaction", str(spender), 2, block.hash)
        if isinstance(reply, Failure):
            raise self._missing("getrawtransaction", reply, block, f"may say who spent {outpoint}")
        transaction = reply["hex"].transaction(spender)
        outpoints = [txin.outpoint for txin in transaction.inputs]
        if outpoint not in outpoints:
            raise moved()
        source = reply["vin"].item(outpoints.index(outpoint))
        if "prevout" not in source:
            raise self._pruned(block, f"says who spent {outpoint}", Failure(MISC_ERROR, "no undo data"))
        source = source["prevout"]
        output = source.output("value", "scriptPubKey", "hex")
        spend = ConfirmedSpend(block, transaction, output, source["height"].height())
        self._notes.put_spend(outpoint, Note(before or self._notes.get(outpoint).clear, spend))
        return spend

    # where to begin -------------------------------------------------------------------------------

    def _by_note(self, outpoints: Iterable[OutPoint]) -> dict[Block | None, list[OutPoint]]:
        """The outputs by the last block that is noted not to spend them."""
        found: dict[Block | None, list[OutPoint]] = {}
        for outpoint in outpoints:
            found.setdefault(self._notes.get(outpoint).clear, []).append(outpoint)
        return found

    def first_after(self, clear: Block) -> int | None:
        """The first height that a note on this block says nothing of: after a reorganisation that of the fork."""
        block = clear
        for _ in range(_DEEPEST_FORK):
            header = _of_height(self._rpc.found("getblockheader", block.hash), block)
            if header is None:
                break
            if header["confirmations"].integer(-1, 1 << 30) > 0:
                return block.height + 1
            if block.height == 0:
                break
            block = Block(block.height - 1, header["previousblockhash"].block_hash())
        return None

    def _depths(self, blocks: Iterable[Block]) -> dict[Block, int]:
        """How deep each block is in the chain; 0 or less where it is not part of it."""
        asked = sorted(blocks, key=lambda block: (block.height, block.hash))
        found = {}
        for part in portions(asked):
            replies = self._rpc.found_all("getblockheader", [[block.hash] for block in part])
            for block, reply in zip(part, replies, strict=True):
                header = _of_height(reply, block)
                found[block] = 0 if header is None else header["confirmations"].integer(-1, 1 << 30)
        return found

    def _first_height(self, bounds: Sequence[LockTime | None], tip: Block) -> int:
        """The first height at which one of these bounds lets a spend be."""
        times = [bound.value for bound in bounds if isinstance(bound, MedianTime)]
        # nothing can spend the genesis block's coin, and nothing else is in it
        others = [
            1 if bound is None else bound.value for bound in bounds if not isinstance(bound, MedianTime)
        ]
        return min([*others, *([self._height_of(min(times), tip)] if times else [])])

    def _height_of(self, median_time: int, tip: Block) -> int:
        low, high = 1, tip.height + 1  # median times never fall along a chain
        while low < high:
            middle = (low + high) // 2
            header = self._rpc.call("getblockheader", self._hash_at(middle))
            if header["mediantime"].time() < median_time:
                low = middle + 1
            else:
                high = middle
        return low

    # looking through blocks -----------------------------------------------------------------------

    def _look_through(self, starts: Mapping[OutPoint, int], tip: Block) -> dict[OutPoint, ConfirmedSpend]:
        found: dict[OutPoint, ConfirmedSpend] = {}
        coming = sorted((start, outpoint) for outpoint, start in starts.items() if start <= tip.height)[::-1]
        if not coming:
            return found
        looked: set[OutPoint] = set()
        before = self.block_at(coming[-1][0] - 1)
        try:
            while before.height < tip.height and (looked or coming):
                while coming and coming[-1][0] <= before.height + 1:
                    looked.add(coming.pop()[1])
                if not looked:
                    before = self.block_at(coming[-1][0] - 1)
                    continue
                block, spenders = self._spenders_in(looked, before)
                for outpoint, spender in spenders.items():
                    found[outpoint] = self.details(outpoint, spender, block, before)
                    looked.remove(outpoint)
                before = block
                if block.height % _BLOCKS_PER_NOTE == 0:
                    self._notes.put_clear(looked, before)
        finally:  # also when it is interrupted: the next search goes on from here
            self._notes.put_clear(looked, before)
        if looked and before.hash != tip.hash:
            raise moved()
        return found

    def block_at(self, height: int) -> Block:
        """The block of the chain at a height."""
        return Block(height, self._hash_at(height))

    def _spenders_in(
        self, outpoints: Collection[OutPoint], before: Block
    ) -> tuple[Block, dict[OutPoint, Txid]]:
        """The block after ``before``, and the transactions in it that spend any of these outputs."""
        said = f"may say who spent {next(iter(outpoints))}"
        return self.after(before, said, lambda raw: _spenders(raw, outpoints))

    def after(self, before: Block, said: str, read: Callable[[bytes], T]) -> tuple[Block, T]:
        """The block after ``before``, and what is read in its bytes.

        Args:
            said: what the block is looked at for, for a message.
        """
        block = self.block_at(before.height + 1)
        reply = self._rpc.attempt("getblock", block.hash, 0)
        if isinstance(reply, Failure):
            raise self._missing("getblock", reply, block, said)
        raw = reply.data()
        try:
            if block_hash(raw) != block.hash:
                raise ParseError("malformed-hex", "another block")
            if parent_hash(raw) != before.hash:
                raise moved()
            return block, read(raw)
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

    def _missing(self, method: str, failure: Failure, block: Block, said: str) -> ChainError:
        """Why the node does not show a block, or a transaction in it."""
        if failure.code == MISC_ERROR:
            return self._pruned(block, said, failure)
        return moved() if failure.code == NOT_FOUND else self._rpc.refused(method, failure)

    def _pruned(self, block: Block, said: str, failure: Failure) -> ChainError:
        return ChainError(
            "pruned",
            f"the node no longer has block {block.height}, which {said}: {words(failure.message)}",
            hint="ask a node that keeps its blocks, or raise this node's prune= and let it fetch them again",
        )


def _spenders(raw: bytes, outpoints: Collection[OutPoint]) -> dict[OutPoint, Txid]:
    """The transactions of a raw block that spend any of these outputs."""
    if len(outpoints) <= _FEW and not any(outpoint_to_bytes(outpoint) in raw for outpoint in outpoints):
        return {}  # nearly all blocks: there is no need to read their transactions one by one
    wanted = set(outpoints)
    return {
        txin.outpoint: transaction.txid
        for transaction in block_transactions(raw)
        for txin in transaction.inputs
        if txin.outpoint in wanted
    }


def _of_height(header: Answer | None, block: Block) -> Answer | None:
    """What the node says of a block; None where it does not know it, or at another height."""
    return header if header is not None and header["height"].height() == block.height else None
