"""Bitcoin Core's words for why it refuses a transaction, as ``testmempoolaccept`` and servers pass them on."""

from __future__ import annotations

import re

from mpchan.bitcoin.tx import TRUC_VERSION, Transaction
from mpchan.errors import ChainError, TooEarly
from mpchan.units import lock_time_from_int

WAITING_ALREADY = ("txn-already-in-mempool", "txn-same-nonwitness-data-in-mempool")
KNOWN_ALREADY = (*WAITING_ALREADY, "txn-already-known")
NOT_YET = ("non-final", "non-BIP68-final")
TOO_CHEAP = "fee not met"
"""What "min relay fee not met" and "mempool min fee not met" end with."""

NO_INPUTS = ("missing-inputs", "bad-txns-inputs-missingorspent")

_OF_VERSION = re.compile(r"version(?![\w-])", re.ASCII)

Refusals = list[tuple[Transaction, str]]
"""Transactions of a package that were not taken, each with the reason, in the package's order."""


def is_of_version(reason: str, transaction: Transaction) -> bool:
    """Whether a node refuses a transaction because it is too old to know its version."""
    return transaction.version >= TRUC_VERSION and _OF_VERSION.match(reason) is not None


def too_old(message: str) -> ChainError:
    """The error of a node that does not relay what mpchan makes today."""
    return ChainError("node-too-old", message, hint="Bitcoin Core 28 and newer relay it")


def refusal(
    who: str, transaction: Transaction, told: str, not_yet: str | None, reason: str
) -> TooEarly | ChainError:
    """The error that a refusal is, of a transaction that the node does not have.

    Args:
        who: refuses it, for the message.
        told: why, in the node's words.
        not_yet: which of ``NOT_YET`` that is, if any.
        reason: begins with the node's word where that is the version.
    """
    message = f"{who} refuses transaction {transaction.txid}: {told}"
    if not_yet is not None:
        locked = not_yet == "non-final" and transaction.lock_time > 0
        hint = f"it is locked until {lock_time_from_int(transaction.lock_time)}" if locked else None
        return TooEarly("non-final", message, hint=hint)
    if is_of_version(reason, transaction):
        return too_old(f"{message}: it is too old for transactions of version {transaction.version}")
    return ChainError("rejected", message)


def telling(found: Refusals) -> tuple[Transaction, str]:
    """The refusal that explains the others: parents that pay too little alone are what a package is for."""
    for transaction, reason in found:
        if TOO_CHEAP not in reason:
            return transaction, reason
    return found[-1]
