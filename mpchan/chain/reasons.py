"""Bitcoin Core's words for why it refuses a transaction, as ``testmempoolaccept`` and servers pass them on."""

from __future__ import annotations

from mpchan.bitcoin.tx import Transaction

KNOWN_ALREADY = ("txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data-in-mempool")
NOT_YET = ("non-final", "non-BIP68-final")
TOO_CHEAP = "fee not met"
"""What "min relay fee not met" and "mempool min fee not met" end with."""

NO_INPUTS = ("missing-inputs", "bad-txns-inputs-missingorspent")

Refusals = list[tuple[Transaction, str]]
"""Transactions of a package that were not taken, each with the reason, in the package's order."""


def telling(found: Refusals) -> tuple[Transaction, str]:
    """The refusal that explains the others: parents that pay too little alone are what a package is for."""
    for transaction, reason in found:
        if TOO_CHEAP not in reason:
            return transaction, reason
    return found[-1]
