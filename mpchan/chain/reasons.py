"""Bitcoin Core's words for why it refuses a transaction, as ``testmempoolaccept`` and servers pass them on."""

from __future__ import annotations

KNOWN_ALREADY = ("txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data-in-mempool")
NOT_YET = ("non-final", "non-BIP68-final")
TOO_CHEAP = "fee not met"
"""What "min relay fee not met" and "mempool min fee not met" end with."""

NO_INPUTS = ("missing-inputs", "bad-txns-inputs-missingorspent")
