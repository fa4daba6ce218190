"""``sent/<txid>.json``: transactions that move the wallet's own coins out of it, outside of any channel.

A record is on disk before its transaction leaves, and stays. It tells which coins the transaction spends, so that no
other one does while it waits for a block; and it is what a command that was cut short goes on with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import NotPossible, ParseError, StorageError, UsageError
from mpchan.units import LOCK_TIME_THRESHOLD, Amount, OutPoint, Txid, checked_int
from mpchan.values import frozen
from mpchan.wallet.layout import stored
from mpchan.wallet.records import canonical, checksum
from mpchan.wallet.storage import make_directory, read_text, remove_durably, write_durably

SENT_SCHEMA = 1


@frozen
class Sent:
    """One such transaction, signed.

    Attributes:
        spent: the outputs that its inputs spend, in their order.
        script_pubkey: whom it pays.
        amount: that was asked for; None where it was all there is.
        change_vout: the index of the change among its outputs; None where there is none.
        height: of the chain's tip when it was made: no block up to this one spends its coins.
        answered: whether the command that made it has told its result.
        parent: the channel's transaction that it pays for (``mpchan bump``); None for a payment.
    """

    transaction: Transaction
    spent: tuple[TxOut, ...]
    script_pubkey: bytes
    amount: Amount | None
    change_vout: int | None
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

    @property
    def change(self) -> Amount:
        """What comes back to the wallet's change address; 0 where nothing does."""
        return Amount(0) if self.change_vout is None else self.transaction.outputs[self.change_vout].value

    @property
    def fee(self) -> Amount:
        """What its inputs hold more than its outputs."""
        return _total(self.spent) - _total(self.transaction.outputs)

    @property
    def paid(self) -> Amount:
        """What it pays out."""
        return _total(self.transaction.outputs) - self.change


def _children(parent: Txid, records: Iterable[Sent]) -> list[Sent]:
    children = [sent for sent in records if sent.parent is not None and sent.parent.txid == parent]
    return sorted(children, key=lambda child: child.fee, reverse=True)


class SentTransactions:
    """All of one wallet. Whoever changes them holds the wallet's lock.

    Args:
        directory: of the wallet.
    """

    def __init__(self, directory: Path) -> None:
        self._home = directory
        self._directory = directory / "sent"
        self._unwritten: dict[Txid, Sent] = {}

    def save(self, sent: Sent) -> None:
        """Write a record; durable on return."""
        text = canonical(_fields(sent))
        make_directory(self._directory)
        envelope = f'{{"schema": {SENT_SCHEMA}, "checksum": "{checksum(text)}", "sent": {text}}}\n'
        write_durably(self._path(str(sent.txid)), envelope.encode())

    def keep_unwritten(self, sent: Sent) -> None:
        """Remember what must go out although no record of it could be written, as long as this process lives."""
        self._unwritten[sent.txid] = sent

    def all(self) -> dict[Txid, Sent]:
        """Every record.

        Raises:
            StorageError: ``send-damaged``: what a damaged record has spent is not known, so nothing may be spent.
        """
        return {record.txid: record for record in map(self._load, self._files())}

    def names(self) -> list[str]:
        """The txids of all records, sorted; whether they can be read is not asked."""
        return [path.name[:-5] for path in self._files()]

    def children_of(self, parent: Txid) -> list[Sent]:
        """Those that pay for this transaction, the one that pays most first: it replaces the others.

        Raises:
            StorageError: ``send-damaged``.
        """
        return _children(parent, self.all().values())

    def readable_children_of(self, parent: Txid) -> list[Sent]:
        """The same of the records that can be read: for what must go out whatever has become of the others."""
        readable = [*self._unwritten.values()]
        with suppress(StorageError):  # the folder itself
            for path in self._files():
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
        found = [path for path in self._files() if wanted and path.name.startswith(wanted)]
        if not found:
            raise NotPossible("unknown-send", f"this wallet sent no transaction {prefix!r:.80}")
        if len(found) > 1:
            raise UsageError("ambiguous-send", f"{len(found)} transactions begin with {prefix!r:.80}")
        return self._load(found[0])

    def load(self, txid: Txid) -> Sent:
        """The record of one transaction.

        Raises:
            StorageError: ``send-damaged``, ``file-missing``.
        """
        return self._load(self._path(str(txid)))

    def forget(self, txid: Txid) -> None:
        """Remove a record; durable on return.

        Raises:
            StorageError: ``write-failed``, ``write-unsure``.
        """
        remove_durably(self._path(str(txid)))

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _files(self) -> list[Path]:
        return [self._directory / name for name in stored(self._home, "sent", ".json")]

    def _load(self, path: Path) -> Sent:
        try:
            envelope = json.loads(read_text(path))
            body = envelope["sent"]
            if envelope["schema"] != SENT_SCHEMA or envelope["checksum"] != checksum(canonical(body)):
                raise ValueError("checksum or schema does not fit")
            record = _record(body)
            if str(record.txid) != path.stem:
                raise ValueError("it is another transaction's")
        except (ParseError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StorageError(
                "send-damaged",
                f"{path}: {error!s:.200}",
                hint="it tells which coins a transaction spends: put it back from a backup, or move it away once "
                "that transaction is in a block or nobody can send it any more",
            ) from None
        return record


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
        bytes.fromhex(body["script"]),
        None if amount is None else Amount(amount),
        None if vout is None else checked_int(vout, 0, len(transaction.outputs) - 1, "change_vout"),
        checked_int(body["height"], 0, LOCK_TIME_THRESHOLD - 1, "height"),
        _flag(body["answered"]),
        None if parent is None else Transaction.from_hex(parent),
    )


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"neither true nor false: {value!r:.80}")
    return value


def _total(outputs: tuple[TxOut, ...]) -> Amount:
    return Amount(sum(output.value.sat for output in outputs))
