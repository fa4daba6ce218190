"""The requests of one channel that are judged together and become durable with one fsync.

A request's line holds its total and signature, if these are new, and the request among those in flight. It is on the
disk before the request is served. That it has ended, and what it has cost, is a line that the next fsync carries. Of
several totals the last is countersigned and kept complete; the lines before it stand only together with that.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from mpchan.channel import payee
from mpchan.channel.construction.base import REFUND, Form, Meant
from mpchan.channel.facts import Facts
from mpchan.channel.rules import enforce
from mpchan.channel.taking import Incoming
from mpchan.errors import MpchanError, NotPossible, Refused, StorageError
from mpchan.party.meter.base import RecentFacts
from mpchan.party.register.asks import Ask, Repeated, Reserved, Short, Signed, Standing, Taken, Verdict
from mpchan.party.register.keys import LASTING, Ended, Keys
from mpchan.units import Amount
from mpchan.values import frozen, replace
from mpchan.wallet.account import MAX_KEY_LENGTH, Account, Reservation
from mpchan.wallet.channel_files import SNAPSHOT_SELDOM
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet

MOST_IN_FLIGHT = 256
"""Requests of one channel that are served at once."""


@frozen
class Outcome:
    """A request in flight has ended.

    Attributes:
        charged: satoshi; 0 where it was not served.
    """

    key: str
    charged: int


class Known:
    """What is known of one channel from batch to batch."""

    def __init__(self, form: Form | None, facts: RecentFacts, keys: Keys) -> None:
        self.form = form
        self.facts = facts
        self.keys = keys


class Requests:
    """One batch; the channel is held.

    Args:
        record: as it stands.
    """

    def __init__(self, wallet: Wallet, record: PayeeRecord, known: Known) -> None:
        self._files = wallet.channels
        self._key = wallet.keys.key_of(record)
        self._known = known
        self._record = record
        self._terms = record.terms
        self._batch = self._files.batch(record.terms.name)
        self._state: payee.PayeeState = record.state
        best = payee.best_of(record.state)
        self._number, self._paid = (0, 0) if best is None else (best.number, best.paid.sat)
        self._account = (record.account or Account()).with_paid(self._paid)
        self._signed: Signed | None = None  # taken in this batch, not countersigned yet
        self._pending: list[tuple[str, Account, Signed | None]] = []
        self._facts: Facts | None = None
        self._ended: dict[str, Ended] = {}  # in this batch

    # what comes in --------------------------------------------------------------------------------

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what requests have cost that were in flight."""
        for outcome in outcomes:
            found = [each for each in self._account.reserved if each.key == outcome.key]
            if found:
                charged = min(outcome.charged, found[0].amount)  # never more than the payer was told
                self._account = self._account.end(outcome.key, charged)
                if charged:
                    self._ended[outcome.key] = Ended(found[0].digest, charged, int(time.time()))
                self._pending.append(("charged" if charged else "dropped", self._account, None))

    def ask(self, ask: Ask) -> Verdict:
        """The verdict on one request; it holds once ``commit`` has returned."""
        try:
            return self._judged(ask)
        except StorageError:
            raise
        except MpchanError as error:
            return error

    def _judged(self, ask: Ask) -> Verdict:
        seen = self._seen(ask)
        if seen is not None:
            return seen
        if ask.price and len(self._account.reserved) >= MOST_IN_FLIGHT:
            raise NotPossible("too-many-requests", f"{MOST_IN_FLIGHT} requests of the channel are in flight")
        new = self._take(ask)
        if isinstance(new, Short):
            return new
        if not ask.price:
            self._note_total(new)
            return Taken(self.standing())
        required = self._account.spent + self._account.held + ask.price
        if self._paid < required or (not new and ask.key is None):
            self._note_total(new)
            return Short(self.standing(), "balance-low", max(required, self._paid))
        if not new:
            self._require_open()
        key = secrets.token_hex(16) if ask.key is None else _stored_key(ask)
        self._account = self._account.reserve(Reservation(key, ask.digest, ask.price))
        self._pending.append(("requested", self._account, self._signed if new else None))
        return Reserved(self.standing(), key, ask.price)

    def _note_total(self, new: bool) -> None:
        """Keep a total that came without a request that could be served."""
        if new:
            self._pending.append(("accepted", self._account, self._signed))

    def _seen(self, ask: Ask) -> Repeated | None:
        """What is known of a request by its key, if anything."""
        if ask.key is None:
            return None
        if not 0 < len(ask.key) <= MAX_KEY_LENGTH or not ask.key.isprintable() or not ask.key.isascii():
            raise Refused("malformed-key", f"no Idempotency-Key: {ask.key!r:.80}")
        key = _stored_key(ask)
        flying = [each for each in self._account.reserved if each.key == key]
        ended = self._ended.get(key) or self._known.keys.find(key)
        if not flying and ended is None:
            return None
        digest = flying[0].digest if flying else ended.digest if ended is not None else ""
        if digest != ask.digest:
            raise NotPossible("key-reused", "the Idempotency-Key was used for another request")
        self._require_payers(ask.signed)
        return Repeated(self.standing(), None if flying or ended is None else ended.charged)

    # totals ---------------------------------------------------------------------------------------

    def _take(self, ask: Ask) -> bool | Short:
        """Take the total of a request; whether it is a new one."""
        signed = ask.signed
        if signed.total <= self._paid:
            self._require_payers(signed)
            if signed.total < self._paid:
                required = self._account.spent + self._account.held + ask.price
                return Short(self.standing(), "voucher-low", max(self._paid, required))
            return False
        self._require_payers(signed)
        least = self._terms.offer.min_increment.sat
        if signed.total - self._paid < least and signed.total <= self._terms.capacity.sat:
            return Short(self.standing(), "delta-too-small", self._paid + least)
        self._require_taking(signed)
        self._number = self._number + 1 if signed.number is None else signed.number
        self._paid, self._signed = signed.total, replace(signed, number=self._number)
        self._account = replace(self._account, accepted=self._paid)
        return True

    def _require_open(self) -> None:
        """What is left over buys nothing in a channel that would not take its own total any more.

        That may be the last one there is: all of the capacity, or the last number.
        """
        terms, total = self._terms, self._paid
        if not isinstance(self._state, payee.Active):
            total -= 1  # its own total is a repetition there, which is taken at any time
        before = max(0, self._paid - terms.offer.min_increment.sat)
        self._enforce(self._number - 1, before, terms.schedule.update(self._number, Amount(total)))

    def _require_payers(self, signed: Signed) -> None:
        """The total is the payer's word, whatever it is worth.

        Raises:
            Refused: ``bad-signature``, ``over-capacity``, ``below-dust``.
        """
        form, terms = self._known.form, self._terms
        if signed.total > terms.capacity.sat:
            raise Refused("over-capacity", f"a total of {signed.total} sat is above {terms.capacity}")
        if signed.total < terms.payee_dust.sat:
            raise Refused(
                "below-dust", f"a total of {signed.total} sat is below {terms.payee_dust}, the least there is"
            )
        numbered = form is not None and form.last is not None
        number = signed.number if numbered else 1
        if form is None or number is None or (numbered and not 1 <= number <= (form.last or 0)):
            raise Refused("update-number", f"no update of this channel has the number {signed.number}")
        if not form.verify(terms.payer_key, number, signed.total, signed.signature):
            raise Refused("bad-signature", "the signature is not the payer's under this total")

    def _require_taking(self, signed: Signed) -> None:
        """The channel takes an update of this number and total now, by the rules of ``payee accept``."""
        schedule = self._terms.schedule
        numbered = self._known.form is not None and self._known.form.last is not None
        number = signed.number if numbered and signed.number is not None else self._number + 1
        meant = schedule.update(number, Amount(signed.total))
        self._enforce(self._number, self._paid, meant)

    def _enforce(self, number: int, paid: int, meant: Meant) -> None:
        """The rules of ``payee accept`` for an update, where the best one has this number and total (satoshi)."""
        refund = self._terms.schedule.build(REFUND)
        state = self._state
        if isinstance(state, payee.Active):
            best = payee.Update(number, Amount(paid), refund) if paid else None
            state = replace(state, best=best)
        if self._facts is None:
            self._facts = self._known.facts.latest()
        enforce(payee.standing_rules(state, Incoming(meant, refund, b""), self._facts))

    # what goes out --------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """Where the channel stands after what was judged so far."""
        signed = self._signed
        best = payee.best_of(self._state)
        if signed is None and best is not None:
            signature = self._terms.lock.signature_in(best.transaction, self._terms.payer_key)
            signed = Signed(best.paid.sat, best.number, signature)
        return Standing(
            channel=self._terms.name,
            accepted=self._paid,
            spent=self._account.spent,
            reserved=self._account.held,
            deposit=self._terms.capacity.sat,
            number=None if signed is None else signed.number,
            signature=None if signed is None else signed.signature,
        )

    def commit(self) -> None:
        """Make it durable."""
        if not self._pending:
            return
        record = self._written()
        self._files.commit(self._terms.name, self._batch, record, snapshot_every=SNAPSHOT_SELDOM)
        for key, ended in self._ended.items():
            self._known.keys.add(key, ended.digest, ended.charged, ended.time)

    def _written(self) -> PayeeRecord:
        """The record after all; its lines stand in the batch."""
        last = max((at for at, (_, _, signed) in enumerate(self._pending) if signed is not None), default=-1)
        for at, (event, account, signed) in enumerate(self._pending):
            table = account.to_table()
            if signed is None:
                self._batch.add_request(event, table, more=at < last)
                continue
            update: dict[str, Any] = {"number": signed.number, "paid_sat": signed.total}
            if at == last:
                self._countersign(signed)
                best = payee.best_of(self._state)
                update["tx"] = "" if best is None else best.transaction.to_hex()
            self._batch.add_request(event, table, update, signed.signature, more=at < last)
        return replace(self._record, account=self._account, state=self._state)

    def _countersign(self, signed: Signed) -> None:
        if not isinstance(self._state, payee.Active):
            raise TypeError("only an open channel takes totals")
        number, paid = signed.number or 0, Amount(signed.total)
        best = payee.countersigned(self._terms, number, paid, signed.signature, self._key)
        self._state, self._signed = replace(self._state, best=best), None


def _stored_key(ask: Ask) -> str:
    """A key as the account has it: one that lasts is told apart by how it begins."""
    return f"{LASTING}{ask.key}" if ask.lasting else f"key/{ask.key}"
