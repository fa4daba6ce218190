"""What a node says of a package of transactions (``submitpackage``).

Bitcoin Core takes packages on every network since version 26, which names the first refusal as an error of the whole
request; later versions tell the result of each transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.answer import Failure
from mpchan.chain.bitcoind.rpc import METHOD_NOT_FOUND, Reply
from mpchan.chain.reasons import Refusals

_MISC_ERROR = -1
_TAKEN = "success"
_FAILED = " failed: "


def is_unable(failure: Failure) -> bool:
    """Whether the node takes no packages at all: it is too old, or takes them on regtest only."""
    return failure.code == METHOD_NOT_FOUND or (failure.code == _MISC_ERROR and "regtest" in failure.message)


def refusals(transactions: Sequence[Transaction], reply: Reply) -> Refusals:
    """What the node did not take."""
    if isinstance(reply, Failure):
        return _refusal(transactions, reply.message)
    message = reply["package_msg"].text()
    if message == _TAKEN:
        return []
    results = reply["tx-results"]
    found = []
    for transaction in transactions:
        wtxid = str(transaction.wtxid)
        if wtxid in results and "error" in results[wtxid]:
            found.append((transaction, results[wtxid]["error"].text()))
    return found or [(transactions[-1], message)]


def _refusal(transactions: Sequence[Transaction], message: str) -> Refusals:
    """``TXID failed: REASON``, or a reason that the package has as a whole."""
    named, failed, reason = message.partition(_FAILED)
    if failed:
        for transaction in transactions:
            if named == str(transaction.txid):
                return [(transaction, reason)]
    return [(transactions[-1], message)]
