"""The embedded chain and a real Bitcoin Core node, which must say the same of the same transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.chain.embedded import fund

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.embedded.index import Index
from mpchan.errors import ChainError, TooEarly
from mpchan.units import OutPoint

Call = Callable[..., Any]

OPTIONS = ("-maxtipage=4000000000", "-minrelaytxfee=0.00001", "-incrementalrelayfee=0.00001")
"""For the node: it accepts a tip from 2011 as recent, and asks for the fees of before Bitcoin Core 29.1."""

VALUE = 200_000
"""Of each coin that ``Both`` has."""

TAKEN = "taken"

SYNONYMS = {
    # ``sendrawtransaction`` uses the longer word
    "missing-inputs": "bad-txns-inputs-missingorspent",
    # the words up to Bitcoin Core 30
    "replacement-failed": "insufficient fee",
    "mempool-script-verify-flag-failed": "mandatory-script-verify-flag-failed",
}


def word_of(reason: str) -> str:
    """A refusal without its details, in the words of Bitcoin Core 31."""
    word = reason.partition(",")[0].partition(":")[0].partition(" (")[0]
    return SYNONYMS.get(word, word)


def hand_over(chain: EmbeddedChain, node: Call) -> None:
    """Give the node all blocks of the chain that it lacks."""
    index = Index(chain.directory / "index.sqlite3")
    try:
        for height in range(node("getblockcount") + 1, index.last_block().height + 1):
            assert node("submitblock", index.raw_block(height).hex()) is None
    finally:
        index.close()
    assert node("getbestblockhash") == chain.tip_hash()


class Both:
    """The same transactions to both, which must say the same and hold the same."""

    def __init__(self, chain: EmbeddedChain, node: Call) -> None:
        self.chain = chain
        self._node = node
        self.coins = iter(fund(chain, *[VALUE] * 40))
        hand_over(chain, node)

    def mine(self) -> int:
        """One block more for both; its height."""
        height = self.chain.mine(1).height
        hand_over(self.chain, self._node)
        return height

    def coin(self) -> OutPoint:
        return next(self.coins)

    def give(self, *transactions: Transaction) -> str:
        """What both say: ``taken``, or the word of the refusal."""
        one = len(transactions) == 1
        theirs = self._theirs(transactions[0]) if one else self._theirs_together(transactions)
        assert self._ours(*transactions) == theirs
        assert {str(txid) for txid in self.chain.mempool()} == set(self._node("getrawmempool"))
        return theirs

    def would_give(self, transaction: Transaction) -> bool:
        """Whether the node would take it."""
        [verdict] = self._node("testmempoolaccept", [transaction.to_hex()], 0)
        return bool(verdict["allowed"])

    def least(self, build: Callable[[int], Transaction], high: int) -> int:
        """The least fee at which the node takes such a transaction, found by halving."""
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.would_give(build(middle)) else (middle, high)
        return high

    def _theirs(self, transaction: Transaction) -> str:
        [verdict] = self._node("testmempoolaccept", [transaction.to_hex()], 0)
        if not verdict["allowed"]:
            return word_of(verdict["reject-reason"])
        self._node("sendrawtransaction", transaction.to_hex(), 0)
        return TAKEN

    def _theirs_together(self, transactions: tuple[Transaction, ...]) -> str:
        answer = self._node("submitpackage", [each.to_hex() for each in transactions], 0)
        return TAKEN if answer["package_msg"] == "success" else "refused"

    def _ours(self, *transactions: Transaction) -> str:
        try:
            if len(transactions) > 1:
                self.chain.broadcast_package(transactions)
            else:
                self.chain.broadcast(transactions[0])
        except TooEarly as error:
            return error.slug
        except ChainError as error:
            return word_of(error.message.partition(": ")[2]) if len(transactions) == 1 else "refused"
        return TAKEN
