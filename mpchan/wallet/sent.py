"""``sent/<txid>.json``: transactions that move the wallet's own coins out of it, outside of any channel.

A record is on disk before its transaction leaves, and stays. It tells which coins the transaction spends, so that no
other one does while it waits for a block; and it is what a command that was cut short goes on with.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import NotPossible, StorageError, UsageError
from mpchan.units import LOCK_TIME_THRESHOLD, Amount, OutPoint, Txid, checked_int
from mpchan.values import frozen
from mpchan.wallet.coins import OwnSpend
from mpchan.wallet.storage import remove_durably
from mpchan.wallet.store import Store, checked


@frozen
class Sent(OwnSpend):
    """One such transaction, signed.

    Attributes:
        script_pubkey: whom it pays.
        amount: that was asked for; None where it was all there is.
        height: of the chain's tip when it was made: no block up to this one spends its coins.
        answered: whether the command that made it has told its result.
        parent: the channel's transaction that it pays for (``mpchan bump``); None for a payment.
    """

    script_pubkey: bytes
    amount: Amount | None
    height: int
    answered: bool
    parent: Transaction | None = None

    @property
    def txid(self) -> Txid:
        """Of its transaction."""
        return self.transaction.txid

    @property
    def outpoints(self) -> list[OutPoint]:
        """What its inputs spend."""
        return [source.outpoint for source in self.transaction.inputs]


def _children(parent: Txid, records: Iterable[Sent]) -> list[Sent]:
    children = [sent for sent in records if sent.parent is not None and sent.parent.txid == parent]
    return sorted(children, key=lambda child: child.fee, reverse=True)


class SentTransactions:
    """All of one wallet. Whoever changes them holds the wallet's lock.

    Args:
        directory: of the wallet.
    """

    def __init__(self, directory: Path) -> None:
        self._store = Store(directory, "sent", "sent", lambda body: 1, "send-damaged", _DAMAGED)
        self._unwritten: dict[Txid, Sent] = {}

    def save(self, sent: Sent) -> None:
        """Write a record; durable on return."""
        self._store.write(str(sent.txid), _fields(sent))

    def keep_unwritten(self, sent: Sent) -> None:
        """Remember what must go out although no record of it could be written, as long as this process lives."""
        self._unwritten[sent.txid] = sent

    def all(self) -> dict[Txid, Sent]:
        """Every record.

        Raises:
            StorageError: ``send-damaged``: what a damaged record has spent is not known, so nothing may be spent.
        """
        return {record.txid: record for record in map(self._load, self._store.files())}

    def names(self) -> list[str]:
        """The txids of all records, sorted; whether they can be read is not asked."""
        return [path.stem for path in self._store.files()]

    def children_of(self, parent: Txid) -> list[Sent]:
        """Those that pay for this transaction, the one that pays most first: it replaces the others."""
        return _children(parent, self.all().values())

    def readable_children_of(self, parent: Txid) -> list[Sent]:
        """The same of the records that can be read: for what must go out whatever has become of the others."""
        readable = [*self._unwritten.values()]
        with suppress(StorageError):  # the folder itself
            for path in self._store.files():
                with suppress(StorageError):
                    readable.append(self._load(path))
        return _children(parent, readable)

    def find(self, prefix: str) -> Sent:
        """The one whose txid begins so.

        Raises:
            UsageError: ``ambiguous-send``.
            NotPossible: ``unknown-send``.
            StorageError: ``send-damaged``.
        """
        wanted = prefix.lower()
        found = [path for path in self._store.files() if wanted and path.name.startswith(wanted)]
        if not found:
            raise NotPossible("unknown-send", f"this wallet sent no transaction {prefix!r:.80}")
        if len(found) > 1:
            raise UsageError("ambiguous-send", f"{len(found)} transactions begin with {prefix!r:.80}")
        return self._load(found[0])

    def load(self, txid: Txid) -> Sent:
        """The record of one transaction."""
        return self._load(self._store.path(str(txid)))

    def forget(self, txid: Txid) -> None:
        """Remove a record; durable on return."""
        remove_durably(self._store.path(str(txid)))

    def _load(self, path: Path) -> Sent:
        def parse(body: dict[str, Any]) -> Sent:
            record = _record(body)
            if str(record.txid) != path.stem:
                raise ValueError("it is another transaction's")
            return record

        return self._store.read(path, parse)


_DAMAGED = (
    "it tells which coins a transaction spends: put it back from a backup, or move it away once that transaction is in "
    "a block or nobody can send it any more"
)


def _fields(sent: Sent) -> dict[str, Any]:
    return {
        "tx": sent.transaction.to_hex(),
        "spent": [[output.value.sat, output.script_pubkey.hex()] for output in sent.spent],
        "script": sent.script_pubkey.hex(),
        "amount_sat": None if sent.amount is None else sent.amount.sat,
        "change_vout": sent.change_vout,
        "height": sent.height,
        "answered": sent.answered,
        "parent_tx": None if sent.parent is None else sent.parent.to_hex(),
    }


def _record(body: dict[str, Any]) -> Sent:
    amount, parent, vout = body["amount_sat"], body["parent_tx"], body["change_vout"]
    transaction = Transaction.from_hex(body["tx"])
    return Sent(
        transaction,
        tuple(TxOut(Amount(value), bytes.fromhex(script)) for value, script in body["spent"]),
        None if vout is None else checked_int(vout, 0, len(transaction.outputs) - 1, "change_vout"),
        bytes.fromhex(body["script"]),
        None if amount is None else Amount(amount),
        checked_int(body["height"], 0, LOCK_TIME_THRESHOLD - 1, "height"),
        checked(body["answered"], bool),
        None if parent is None else Transaction.from_hex(parent),
    )
