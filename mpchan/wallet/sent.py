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


_DAMAGED = (
    "it tells which coins a transaction spends: put it back from a backup, or move it away once that transaction is in "
    "a block or nobody can send it any more"
)


class SentTransactions(Store[Sent]):
    """All of one wallet. Whoever changes them holds the wallet's lock."""

    folder, kind, slug, hint = "sent", "sent", "send-damaged", _DAMAGED

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._unwritten: dict[Txid, Sent] = {}

    def keep_unwritten(self, sent: Sent) -> None:
        """Remember what must go out although no record of it could be written, as long as this process lives."""
        self._unwritten[sent.txid] = sent

    def all(self) -> dict[Txid, Sent]:
        """Every record.

        Raises:
            StorageError: ``send-damaged``: what a damaged record has spent is not known, so nothing may be spent.
        """
        return {record.txid: record for record in map(self.load, self.files())}

    def names(self) -> list[str]:
        """The txids of all records, sorted; whether they can be read is not asked."""
        return [path.stem for path in self.files()]

    def children_of(self, parent: Txid) -> list[Sent]:
        """Those that pay for this transaction, the one that pays most first: it replaces the others."""
        return _children(parent, self.all().values())

    def readable_children_of(self, parent: Txid) -> list[Sent]:
        """The same of the records that can be read: for what must go out whatever has become of the others."""
        readable = [*self._unwritten.values()]
        with suppress(StorageError):  # the folder itself
            readable += self
        return _children(parent, readable)

    def find(self, prefix: str) -> Sent:
        """The one whose txid begins so.

        Raises:
            UsageError: ``ambiguous-send``.
            NotPossible: ``unknown-send``.
            StorageError: ``send-damaged``.
        """
        wanted = prefix.lower()
        found = [path for path in self.files() if wanted and path.name.startswith(wanted)]
        if not found:
            raise NotPossible("unknown-send", f"this wallet sent no transaction {prefix!r:.80}")
        if len(found) > 1:
            raise UsageError("ambiguous-send", f"{len(found)} transactions begin with {prefix!r:.80}")
        return self.load(found[0])

    def forget(self, txid: Txid) -> None:
        """Remove a record; durable on return."""
        remove_durably(self.path(str(txid)))

    def _name(self, value: Sent) -> str:
        return str(value.txid)

    def _to_table(self, value: Sent) -> dict[str, Any]:
        return {
            "tx": value.transaction.to_hex(),
            "spent": [[output.value.sat, output.script_pubkey.hex()] for output in value.spent],
            "script": value.script_pubkey.hex(),
            "amount_sat": None if value.amount is None else value.amount.sat,
            "change_vout": value.change_vout,
            "height": value.height,
            "answered": value.answered,
            "parent_tx": None if value.parent is None else value.parent.to_hex(),
        }

    def _from_table(self, body: dict[str, Any], name: str) -> Sent:
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
