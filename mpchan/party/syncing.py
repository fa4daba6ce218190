"""A payer's own latest signature, given back by the payee: ``payee export-latest`` and ``payer sync``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mpchan.bitcoin.psbt import Psbt
from mpchan.channel import payer, syncing
from mpchan.channel.carried import carried_more
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.rules import enforce
from mpchan.channel.syncing import latest_message, sync_rules
from mpchan.channel.taking import incoming_rules
from mpchan.errors import Refused, StorageError
from mpchan.party.check.payer_rules import opened_under, own_channel_rules
from mpchan.party.common import load_as, named_by
from mpchan.party.opening.at_once import with_refund
from mpchan.results.closing import Exported, Synced
from mpchan.values import replace
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


def export_latest(
    wallet: Wallet, prefix: str | None, going: Callable[[Record], bool] | None = None
) -> Exported:
    """``payee export-latest``: what the payer has signed last, the settlement before any update.

    It bears the payer's signature alone, in the very bytes that the payer once sent.

    Raises:
        NotPossible: ``no-update``, nothing is held.
        UsageError: ``wrong-role``.
        StorageError: ``channel-damaged``, what is held does not bear the payer's signature.
    """

    def suitable(record: Record) -> bool:
        return isinstance(record, PayeeRecord) and record.latest_lock_time is not None

    name = wallet.channels.find(prefix, suitable, "paid in, so that there is something to give back", going)
    with wallet.channels.lock(name):
        record = load_as(PayeeRecord, wallet, name)
    try:
        incoming, message = latest_message(record.state)
    except Refused as error:
        raise StorageError("channel-damaged", f"channel {name[:16]}: {error.message}") from None
    return Exported(
        channel=record.terms.channel_id,
        kind=incoming.meant.kind.value,
        update=record.updates,
        paid_sat=incoming.paid.sat,
        lock_time=incoming.transaction.lock_time,
        hex=message.to_hex(),
    )


def sync(wallet: Wallet, psbt: Psbt) -> Synced:
    """``payer sync FILE``: take back what this payer's own key has signed, where it is later than what is known.

    Raises:
        Refused: it is not signed by this payer, or not what the terms allow.
        NotPossible: ``not-funded``, ``out-of-updates``.
    """
    name = named_by(wallet, psbt)
    with wallet.channels.lock(name):
        record = _as_signed(wallet, enforce(own_channel_rules(wallet, name)), psbt)
        synced = enforce(sync_rules(record.state, psbt))
        state = synced.state
        if isinstance(state, payer.Funded) and state.refund_only and state.number:
            state = replace(state, refund_only=False)  # what is paid in is the offer's channel
        after = replace(record, state=state, restored=False)
        if after != record:
            found = synced.incoming
            message = after.terms.lock.message(found.transaction, after.terms.payer_key, found.signature)
            wallet.channels.save(after, "synced", message.to_hex())
        warnings = (_contradiction(after, synced),) if synced.conflict else ()
    _leave_to_refunds(wallet, after)
    return _view(after, warnings, changed=after.state != record.state)


def _leave_to_refunds(wallet: Wallet, served: PayerRecord) -> None:
    """Nothing is paid any more in what was found again under the same offer, and taken for its channel by its value."""
    if construction_of(served.terms.offer).has_exchange or not served.updates:
        return
    for other in opened_under(wallet, served.terms.offer):
        name = other.terms.name
        if name == served.terms.name or not other.restored:
            continue
        with wallet.channels.lock(name):
            record = load_as(PayerRecord, wallet, name)
            state = record.state
            if isinstance(state, payer.Funded) and not state.number and not state.refund_only:
                wallet.channels.save(replace(record, state=replace(state, refund_only=True)), "synced")


def _as_signed(wallet: Wallet, record: PayerRecord, psbt: Psbt) -> PayerRecord:
    """A channel that was found again by its address has a fresh script for its refund; its own payments tell the first.

    Only what this payer's own key has signed is believed.
    """
    state, terms, script = record.state, record.terms, carried_more(psbt)
    found_again = record.restored and isinstance(state, payer.Funded) and not state.number
    if not found_again or not isinstance(state, payer.Funded) or script in (None, terms.payer_script):
        return record
    if script is None or construction_of(terms.offer).has_exchange:
        return record
    terms = replace(terms, payer_script=script)
    enforce(incoming_rules(psbt, terms))
    secured = with_refund(payer.Opening(terms, None, ()), wallet.keys.key_of(record))
    return replace(record, state=replace(state, terms=terms, refund=secured.refund))


def nothing_newer(wallet: Wallet, prefix: str | None) -> Synced:
    """``payer sync --nothing-newer``: the user's word that the lost wallet signed nothing after the backup.

    Raises:
        UsageError: ``wrong-role``.
    """

    def suitable(record: Record) -> bool:
        return isinstance(record, PayerRecord) and record.restored

    name = wallet.channels.find(prefix, suitable, "restored from a backup and not synced yet")
    with wallet.channels.lock(name):
        record = load_as(PayerRecord, wallet, name)
        if record.restored:
            wallet.channels.save(replace(record, restored=False), "nothing-newer")
        return _view(record, changed=False)


def _view(record: PayerRecord, warnings: tuple[str, ...] = (), *, changed: bool) -> Synced:
    return Synced(
        channel=record.terms.channel_id,
        kind="settlement" if isinstance(record.state, payer.Settling) else "update",
        update=record.updates,
        paid_sat=record.paid.sat,
        remaining_sat=record.share().sat,
        changed=changed,
        warnings=warnings,
    )


def _contradiction(record: PayerRecord, synced: syncing.Synced) -> str:
    found = synced.incoming
    what = f"update {found.number}" if found.is_update else "a settlement"
    return (
        f"sync-conflict: {what} of {found.paid} and what this wallet knew of were both signed by you, as two copies "
        f"of a wallet do; the payee can use either, so {record.paid} count as paid; never use two copies"
    )
