"""Handing transactions to a server, and what its node says about them.

Servers pass on Bitcoin Core's reason inside a text of their own, each in another way, some with the whole transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.answer import Failure, words
from mpchan.chain.electrum.questions import Questions
from mpchan.chain.electrum.view import View
from mpchan.chain.reasons import KNOWN_ALREADY, NO_INPUTS, NOT_YET, refusal, telling
from mpchan.errors import ChainError

_IN_CHAIN_ALREADY = ("transaction already in block chain", "transaction outputs already in utxo set")
_PREFACE = r"^the (transaction|tx package) was rejected by network rules\.?"
_LONG_HEX = r"\[?[0-9A-Fa-f]{100,}\]?"
_FIRST_CODE_OF_NODES = -99
"""Below are the codes of JSON-RPC itself, and of servers that have no time for us."""


def broadcast(server: Questions, view: View, transaction: Transaction) -> None:
    """Hand over one transaction; one that is known already is fine."""
    reply = server.broadcast(transaction)
    if isinstance(reply, Failure):
        if reply.code < _FIRST_CODE_OF_NODES:
            raise server.connection.refused("blockchain.transaction.broadcast", reply)
        _judge(view, transaction, reply.message)
    elif reply.txid() != transaction.txid:
        raise ChainError(
            "malformed-answer", f"the server {server.name} took another transaction: {reply.txid()}"
        )
    view.note_sent(transaction)


def broadcast_package(server: Questions, view: View, transactions: Sequence[Transaction]) -> None:
    """Hand over parents and, last, their child together; known ones are fine.

    Raises:
        TooEarly: ``non-final``.
        ChainError: ``rejected``; ``no-packages`` where the server takes none and does not know the parents; as
            ``View``.
    """
    *parents, child = transactions
    known = server.transactions([parent.txid for parent in parents])
    unknown = [parent for parent, found in zip(parents, known, strict=True) if found is None]
    if not unknown:
        try:
            broadcast(server, view, child)
            return
        except ChainError:
            # the server's node may remember parents from blocks that were replaced, and have them no more
            unknown = [parent for parent in parents if view.confirmations(parent) is None]
            if not unknown:
                raise
    if not server.takes_packages:
        raise ChainError(
            "no-packages",
            f"the server {server.name} takes no transactions that only together pay enough",
            hint="name a server with protocol 1.6 in chain.electrum of wallet.toml, or ask a node of your own",
        )
    reply = server.broadcast_package([*unknown, child])
    if isinstance(reply, Failure):
        if reply.code < _FIRST_CODE_OF_NODES:
            raise server.connection.refused("blockchain.transaction.broadcast_package", reply)
        _judge(view, child, reply.message)
    elif not reply["success"].flag():
        errors = reply["errors"].items() if "errors" in reply else []
        if not errors:
            raise ChainError("rejected", f"the server {server.name} refuses the package and says no reason")
        reasons = {error["txid"].txid(): error["error"].text() for error in errors}
        if not set(reasons) <= {each.txid for each in transactions}:
            raise reply.malformed("about the package")
        told = [(each, reasons[each.txid]) for each in transactions if each.txid in reasons]
        refused = [(each, reason) for each, reason in told if not _is_known(reason)]
        if refused:
            _judge(view, *telling(refused))


def _judge(view: View, transaction: Transaction, text: str) -> None:
    """Raise what a refusal is; return where the node only says that it knows the transaction."""
    reason = " ".join(re.sub(_PREFACE, "", re.sub(_LONG_HEX, "", text)).split())
    if _is_known(reason):
        return
    if _names(reason, *NO_INPUTS) and view.confirmations(transaction):
        return  # its inputs are gone because it has spent them itself
    not_yet = next((word for word in NOT_YET if _names(reason, word)), None)
    raise refusal("the server", transaction, words(reason), not_yet, reason)


def _is_known(reason: str) -> bool:
    return _names(reason, *KNOWN_ALREADY, *_IN_CHAIN_ALREADY)


def _names(text: str, *reasons: str) -> bool:
    """Whether a text holds one of these reasons as a word of its own."""
    return any(
        re.search(rf"(?<![\w-]){re.escape(reason)}(?![\w-])", text, re.IGNORECASE) for reason in reasons
    )
