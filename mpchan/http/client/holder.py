"""What the thread that owns a payer's wallet does: it chooses channels, opens them, and signs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Union

from mpchan.chain.base import Chain
from mpchan.channel import payer as protocol
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError, NotPossible, Refused, StorageError
from mpchan.http.client.books import Book
from mpchan.http.client.demands import Demand
from mpchan.http.client.errand import Charged, Closed, Errand, Step
from mpchan.http.client.opening import Opener, signed_in
from mpchan.http.wire.credential import Close, Open, Signed, Voucher
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import Snapshot
from mpchan.party import payer, syncing
from mpchan.party.common import facts_if_any, read_psbt
from mpchan.party.meter.payer import Payer
from mpchan.party.spending.limits import Limits
from mpchan.units import Amount, OutPoint
from mpchan.wallet.account import settled
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet


class _Channel:
    """A channel that requests are paid in, as this process knows it."""

    def __init__(self, wallet: Wallet, chain: Chain, record: PayerRecord) -> None:
        terms = record.terms
        self.name = terms.name
        self.terms = terms
        self.meter = Payer(wallet, self.name, chain=chain)
        least = terms.payee_dust.sat, terms.offer.min_increment.sat
        self.book = Book(record.paid.sat, record.spent.sat, terms.capacity.sat, least)
        self.is_stale = record.restored
        self.form = construction_of(terms.offer).form(terms)


_MOST_FREE = 1_000
"""Paths that were served without a receipt, of which that is remembered."""

Use = tuple[str, str, Union[str, None]]
"""What a channel is used for: origin, realm, and the file, where it is for one."""


class Holder:
    """What the thread does; as ``Purse`` has it."""

    def __init__(
        self,
        wallet: Wallet,
        chain: Chain,
        limits: Limits,
        deposit: int | None,
        warn: Callable[[Sequence[str]], None],
    ) -> None:
        self.wallet = wallet
        self._chain = chain
        self._limits = limits
        self._opener = Opener(wallet, chain, limits, deposit, warn)
        self._channels: dict[Use, list[_Channel]] = {}
        self._dead: set[str] = set()
        self._disowned: dict[str, set[str]] = {}
        self._asked: dict[tuple[str, str], Demand] = {}
        self._free: dict[tuple[str, str], None] = {}

    def close(self) -> None:
        """Write down what was charged."""
        try:
            for channels in self._channels.values():
                for channel in channels:
                    with suppress(StorageError):
                        channel.meter.write_spent()
                    channel.meter.close()
            self._limits.close()
        finally:
            self._chain.close()

    # requests -------------------------------------------------------------------------------------

    def begin(self, errand: Errand) -> Step | None:
        """A voucher, where one was asked for before below this path and a channel is there."""
        demand = self._asked.get((errand.origin, errand.space))
        if (errand.origin, errand.path) in self._free:
            return None
        if demand is None or (demand.challenge.expires_at() or 0) <= time.time():
            return None
        use = _use(errand, [demand])
        fits = [each for each in self._channels.get(use, ()) if self._serves(each, demand)]
        return self._voucher_in(errand, fits[:1], [demand])

    def answer(self, errand: Errand, demands: Sequence[Demand]) -> Step:
        """A voucher in a channel that is there, or the first step of one that is opened."""
        self._asked[errand.origin, errand.space] = demands[0]
        self._free.pop((errand.origin, errand.path), None)
        return self._voucher_in(errand, self._usable(errand, demands), demands) or self._open(errand, demands)

    def _voucher_in(
        self, errand: Errand, channels: Sequence[_Channel], demands: Sequence[Demand]
    ) -> Step | None:
        """A voucher in the first of these channels that takes one."""
        for channel in channels:
            demand = _of_scheme(demands, channel.terms)
            if self._serves(channel, demand):
                try:
                    return self._voucher(errand, channel, demand)
                except NotPossible as error:
                    if not _is_over(error):
                        raise
                    self._dead.add(channel.name)
        return None

    def resynced(self, errand: Errand, snapshot: Snapshot, demands: Sequence[Demand]) -> Step:
        """The server's word counts as far as our own signature stands under it, and costs one price at most."""
        step = errand.step
        if step is None or OutPoint.parse(snapshot.channel).name != step.channel:
            raise Refused(
                "other-channel", f"the server speaks of channel {snapshot.channel}, which was not used"
            )
        if isinstance(step.payload, Open):  # the server has taken the channel, and its answer was lost
            self._opener.taken(step.channel)
            self._usable(errand, [step.demand])
        channel = self._used(errand)
        if channel is None:
            raise NotPossible("not-funded", f"channel {snapshot.channel} is not open any more")
        self._asked[errand.origin, errand.space] = demands[0]
        if snapshot.accepted > channel.book.paid or channel.is_stale:
            self._take_back(channel, snapshot)
        channel.book.learn(snapshot.spent)
        demand = _of_scheme(demands, channel.terms)
        try:
            found = self._voucher(errand, channel, demand)
        except NotPossible as error:
            if not _is_over(error):
                raise
            return self.elsewhere(errand, demands)
        if found.total <= min(step.total, snapshot.accepted):  # it has that already
            raise _not_enough(errand, channel, demand, snapshot)
        return found

    def elsewhere(self, errand: Errand, demands: Sequence[Demand]) -> Step:
        """Another channel, or a new one; the server's word that it takes nothing more in one frees no money."""
        if errand.step is not None:
            name = errand.step.channel
            self._dead.add(name)
            self._release(errand, None)
            if isinstance(payer.load(self.wallet, name).state, (protocol.Opening, protocol.Secured)):
                payer.give_up(self.wallet, self._chain, name)
            self._disowned.setdefault(errand.origin, set()).add(name)
        return self.answer(errand, demands)

    def ended(self, errand: Errand, receipt: Receipt | None, *, taken: bool) -> Charged | None:
        """Take in what a request has cost."""
        step = errand.step
        if step is None:
            return None
        if taken and isinstance(step.payload, Open):
            self._opener.taken(step.channel)
        spent = None
        if receipt is not None and OutPoint.parse(receipt.channel).name == step.channel:
            spent = receipt.spent
            if isinstance(step.payload, Open):
                self._usable(errand, [step.demand])
        self._release(errand, spent)
        if taken and receipt is None and isinstance(step.payload, Voucher):
            self._note_free(errand)
        channel = self._used(errand)
        if spent is None or channel is None:
            return None
        charged = max(0, channel.book.spent - errand.spent_before)
        return Charged(channel.terms.channel_id, charged, channel.book.spent, channel.book.left)

    def _note_free(self, errand: Errand) -> None:
        """What was served without a receipt is asked for without a voucher from now on, until it is asked for."""
        if len(self._free) >= _MOST_FREE:
            del self._free[next(iter(self._free))]
        self._free[errand.origin, errand.path] = None

    def _release(self, errand: Errand, spent: int | None) -> None:
        channel = self._used(errand)
        if channel is not None:
            channel.book.ended(errand.key, spent)
            channel.meter.note_spent(channel.book.spent)

    # channels -------------------------------------------------------------------------------------

    def _used(self, errand: Errand) -> _Channel | None:
        """The channel in which the errand pays, as far as it is at hand."""
        step = errand.step
        if step is None:
            return None
        known = self._channels.get(_use(errand, [step.demand]), ())
        return next((each for each in known if each.name == step.channel), None)

    def _serves(self, channel: _Channel, demand: Demand) -> bool:
        return channel.name not in self._dead and channel.book.left >= demand.request.amount

    def _usable(self, errand: Errand, demands: Sequence[Demand]) -> list[_Channel]:
        """The channels of this use, with those that have come since; the one with the least left first."""
        known = self._channels.setdefault(_use(errand, demands), [])
        if not any(self._serves(each, demands[0]) for each in known):
            names = {each.name for each in known}
            known += [
                _Channel(self.wallet, self._chain, record)
                for record in self._of(errand, demands)
                if record.terms.name not in names
                and isinstance(record.state, protocol.Funded)
                and not record.is_refund_only
                and record.purpose is not None
                and record.purpose.challenge is None
            ]
        return sorted(known, key=lambda each: each.book.left)

    def _of(self, errand: Errand, demands: Sequence[Demand]) -> list[PayerRecord]:
        """The channels that were opened for what is asked here."""
        return [
            record
            for record in self.wallet.channels.readable()
            if isinstance(record, PayerRecord)
            and record.purpose is not None
            and (record.purpose.origin, record.purpose.realm, record.purpose.what) == _use(errand, demands)
            and record.terms.name not in self._dead
        ]

    def _voucher(self, errand: Errand, channel: _Channel, demand: Demand) -> Step:
        """The payment for a request, which is on the disk then."""
        price = demand.request.amount
        self._limits.allow_price(errand.origin, price)
        needed = channel.book.needed(errand.key, price, errand.ahead)
        try:
            self._limits.take(errand.origin, needed.rise)
            if channel.is_stale:  # shows who asks, and pays nothing
                message = payer.pay_last(self.wallet, self._chain, channel.name).hex
            else:
                message = channel.meter.pay_up_to(needed.total).hex
        except MpchanError:
            channel.book.ended(errand.key, None)
            raise
        signed = signed_in(channel.form, message)
        channel.book.signed(errand.key, signed.total)
        errand.spent_before = channel.book.spent
        errand.step = Step(channel.name, demand, Voucher(str(channel.terms.outpoint), signed), signed.total)
        return errand.step

    def _take_back(self, channel: _Channel, snapshot: Snapshot) -> None:
        """A later total that this wallet's own key has signed, as another program or a lost copy of it has.

        Raises:
            Refused: ``foreign-signature``.
        """
        terms = channel.terms
        meant = terms.schedule.update(snapshot.number or 1, Amount(snapshot.accepted))
        try:
            message = terms.lock.message(
                terms.schedule.build(meant), terms.payer_key, snapshot.signature or b""
            )
            syncing.sync(self.wallet, message)
        except MpchanError as error:
            raise Refused(
                "foreign-signature",
                f"the server says that {snapshot.accepted} sat are signed for, which this wallet did not sign: "
                f"{error.message}",
            ) from None
        channel.is_stale = False
        channel.book.paid = max(channel.book.paid, payer.load(self.wallet, channel.name).paid.sat)

    # opening and closing --------------------------------------------------------------------------

    def _open(self, errand: Errand, demands: Sequence[Demand]) -> Step:
        """Go on with a channel that was begun, or begin one."""
        over = (protocol.Abandoned, protocol.Refunding, protocol.Settling)
        begun = [
            record
            for record in self._of(errand, demands)
            if record.purpose is not None
            and record.purpose.challenge is not None
            and not isinstance(record.state, over)
        ]
        if begun:
            errand.step = self._opener.resume(errand, begun[0])
        else:
            errand.step = self._opener.begin(errand, demands, self._locked(errand.origin))
        return errand.step

    def _locked(self, origin: str) -> int:
        """What is left in channels that a server takes nothing more in, though nothing on the chain ends them."""
        left = 0
        for name in self._disowned.get(origin, ()):
            record = payer.load(self.wallet, name)
            terms = record.terms
            facts = facts_if_any(self._chain, terms)
            is_over = facts is not None and (
                facts.spent_by is not None or terms.schedule.deadline.reached(facts.tip)
            )
            if isinstance(record.state, protocol.Funded) and not is_over:
                left += terms.capacity.sat - record.paid.sat
        return left

    def fund(self, errand: Errand, psbt: bytes) -> Step:
        """The funding leaves, its refund being on the disk."""
        if errand.step is None:
            raise TypeError("a refund comes to who has asked for it")
        errand.step = self._opener.fund(errand, errand.step, read_psbt(psbt.hex().encode()))
        return errand.step

    def closing(self, errand: Errand, demands: Sequence[Demand], spent: int | None) -> Step:
        """A voucher that pays nothing, so that the server says what it has charged; then the settlement of that."""
        record = self._closable(errand, demands)
        terms, demand = record.terms, _of_scheme(demands, record.terms)
        is_open = isinstance(record.state, protocol.Funded)
        channel = _Channel(self.wallet, self._chain, record)
        if is_open and spent is None:
            signed = signed_in(channel.form, payer.pay_last(self.wallet, self._chain, terms.name).hex)
            errand.step = Step(terms.name, demand, Voucher(str(terms.outpoint), signed), signed.total)
            return errand.step
        total = record.paid.sat
        if is_open:
            channel.meter.note_spent(min(spent or 0, total))
            channel.meter.write_spent()
            total = settled(min(max(spent or 0, record.spent.sat), total), terms.payee_dust.sat)
        message = payer.settle(self.wallet, self._chain, terms.name, Amount(total), at_spent=True).hex
        signature = terms.lock.signature_from(read_psbt(message.encode()), terms.payer_key)
        payload = Close(str(terms.outpoint), Signed(total, None, signature))
        errand.step = Step(terms.name, demand, payload, total)
        return errand.step

    def _closable(self, errand: Errand, demands: Sequence[Demand]) -> PayerRecord:
        """The channel that a close means: one that is open, or else one whose close may have got lost."""
        found = [
            record
            for record in self._of(errand, demands)
            if isinstance(record.state, (protocol.Funded, protocol.Settling)) and record.updates
        ]
        for record in sorted(found, key=lambda each: isinstance(each.state, protocol.Settling)):
            facts = facts_if_any(self._chain, record.terms)
            if facts is None or facts.spent_by is None:
                return record
        raise NotPossible(
            "no-channel", f"no channel with {errand.origin} is open in which something was paid"
        )

    def closed(self, errand: Errand, receipt: Receipt) -> Closed:
        """What the server says of the close."""
        step = errand.step
        if step is None or receipt.tx_hash is None or OutPoint.parse(receipt.channel).name != step.channel:
            raise Refused("malformed-answer", "the server does not say by what it has closed the channel")
        terms = payer.load(self.wallet, step.channel).terms
        self._dead.add(step.channel)
        returned = terms.capacity.sat - step.total
        return Closed(terms.channel_id, step.total, returned, receipt.tx_hash)


def _use(errand: Errand, demands: Sequence[Demand]) -> Use:
    return errand.origin, demands[0].challenge.realm, errand.what


def _of_scheme(demands: Sequence[Demand], terms: Terms) -> Demand:
    """The challenge of a channel's construction, or any: a voucher is good under each."""
    scheme = terms.offer.scheme
    return next((each for each in demands if each.request.scheme == scheme), demands[0])


def _not_enough(errand: Errand, channel: _Channel, demand: Demand, snapshot: Snapshot) -> NotPossible:
    """Why a server that has all that is signed for a request does not serve it."""
    price, spent = demand.request.amount, channel.book.spent
    if snapshot.required is not None and spent + price <= snapshot.accepted:
        ahead = snapshot.required - spent - price
        return NotPossible(
            "prepay-needed",
            f"{errand.origin} wants {ahead} sat authorised on top of the {price} sat that it asks for",
            hint=f"--prepay {ahead} does, where what is charged is known only in the end",
        )
    return NotPossible(
        "required-too-high",
        f"{errand.origin} says that {snapshot.spent} of {snapshot.accepted} sat are charged, "
        f"and wants more signed than the {price} sat of this request",
        hint="it says to have charged for what it did not deliver; `mpchan payer settle` ends the channel",
    )


def _is_over(error: NotPossible) -> bool:
    """Whether a channel takes no payment any more, so that another one may."""
    over = "past-deadline", "out-of-updates", "over-capacity", "refund-only", "not-funded"
    return error.slug.startswith("channel-") or error.slug in over
