"""``history``: what happened in a channel, line by line of its journal."""

from __future__ import annotations

from collections.abc import Iterator

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.terms import Terms
from mpchan.errors import ParseError, StorageError
from mpchan.results.channels import History, HistoryEvent
from mpchan.wallet.channel_files import REPAIR
from mpchan.wallet.journal import Body, Entry, fold
from mpchan.wallet.past import history as all_entries
from mpchan.wallet.records import message_in, record_of
from mpchan.wallet.wallet import Wallet


def history(wallet: Wallet, prefix: str | None) -> History:
    """A channel's events, oldest first. The whole chain of lines has been checked before the first one.

    No event shows a complete update: what a payee took is shown as the payer sent it.

    Raises:
        UsageError, NotPossible: ``prefix`` names no channel, or several.
        StorageError: ``channel-damaged``, ``read-failed``.
    """
    name = wallet.channels.find(prefix, lambda record: True, "known")
    for _ in _entries(wallet, name):
        pass
    return History(name[:16], _events(wallet, name))


def _entries(wallet: Wallet, name: str) -> Iterator[Entry]:
    path = wallet.channels.journal_path(name)
    try:
        for entry, _ in all_entries(path, name):
            yield entry
    except ParseError as error:
        raise StorageError(error.slug, f"{path}: {error.message}", hint=REPAIR) from None
    except StorageError as error:
        if error.slug != "file-missing":
            raise
        raise StorageError("channel-damaged", f"{path} is missing", hint=REPAIR) from None


def _events(wallet: Wallet, name: str) -> Iterator[HistoryEvent]:
    body: Body = {}
    total = 0
    terms: Terms | None = None
    for entry in _entries(wallet, name):
        body = fold(body, entry)
        before, total = total, _total(body, total)
        if entry.before is not None:
            before = (
                total  # the payments before it stand in a file of their own, which may not be there any more
            )
        terms = terms or record_of(body).terms
        message = message_in(entry, terms)
        transaction = _transaction(entry, message, body)
        update = body.get("update")
        yield HistoryEvent(
            sequence=entry.sequence,
            time=entry.time,
            event=entry.event,
            amount_sat=total - before,
            paid_sat=total,
            pending_sat=_pending(body),
            update=0 if update is None else update["number"],
            lock_time=None if transaction is None else transaction.lock_time,
            txid=None if transaction is None else str(transaction.txid),
            hex=message,
        )


def _total(body: Body, before: int) -> int:
    """What the payee has in all, by the latest update or a settlement that came in time."""
    if body.get("phase") == "abandoned":
        return before
    settlement = body.get("settlement")
    if settlement is not None and not settlement.get("late"):
        return int(settlement["paid_sat"])
    if body.get("settlement_sat") is not None:
        return int(body["settlement_sat"])
    update = body.get("update")
    return 0 if update is None else int(update["paid_sat"])


def _pending(body: Body) -> int:
    """What a late settlement pays on top: that it was confirmed later is in the chain, and in no journal."""
    settlement, update = body.get("settlement"), body.get("update")
    if settlement is None or not settlement.get("late"):
        return 0
    return int(settlement["paid_sat"]) - (0 if update is None else int(update["paid_sat"]))


def _transaction(entry: Entry, text: str | None, body: Body) -> Transaction | None:
    """What an event is about: the transaction in its message, or the update that was claimed with none."""
    if text is not None:
        message = decode_message(text.encode())
        return message.tx if isinstance(message, Psbt) else message
    if entry.event == "claimed" and body.get("update") is not None:
        return Transaction.from_hex(body["update"]["tx"])
    return None
