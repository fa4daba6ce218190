"""The payee's meter: message after message, many of them made durable by one fsync.

The path of one message: it is digit for digit what the channel's form gives with its number, total and signature;
number and total go on from what is held; the signature is the payer's, over our own digest; the journal's line is
chained to the one before. The newest update alone is countersigned and kept complete, in the last line; those before it
stand only together with that (``journal``), so that whatever part of a batch reaches the disk, what is held is
complete. All lines are appended at once and synced once, and only then is any of it acknowledged. A message that
differs in any way goes the way of ``payee accept``, whose rules give the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.construction.base import REFUND, Form
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Facts
from mpchan.channel.rules import enforce
from mpchan.channel.taking import Incoming
from mpchan.errors import MpchanError, StorageError, UsageError
from mpchan.party import payee as commands
from mpchan.party.check.payee_rules import own_channel_rules
from mpchan.party.common import gather_facts, read_psbt
from mpchan.party.meter.base import AT_ONCE, AnyWallet, Meter, RecentFacts, Run, in_batches, one_by_one
from mpchan.party.opening.brought import payee_channel_rules, require_channel
from mpchan.results.payments import Accepted, Superseded
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.payee_record import PayeeRecord

if TYPE_CHECKING:
    from mpchan.results.closing import Closed

QUEUED = 1024
"""Messages that are looked at together for the newest one, at the most."""


Message = Union[str, bytes, MpchanError]
"""A message as ``payee accept`` takes it from a file; or why there is none, which is handed back in its place."""

Answer = Union[Accepted, Superseded, MpchanError]


class Payee(Meter):
    """The channels in which a wallet is paid, for programs that are paid often.

    It serves one thread at a time. A channel is held for a batch and no longer, so other commands and a watcher work in
    between, and nothing is lost when the process ends in whatever way.

    Args:
        wallet: open, or its directory.
        channel: any unique beginning of the id of the only channel whose messages are taken; None for all.
        chain: None for the one that the wallet names.
        passphrase: of a directory's encrypted keys.

    Raises:
        UsageError, NotPossible, StorageError: the wallet or the channel is not there.
    """

    def __init__(
        self,
        wallet: AnyWallet,
        channel: str | None = None,
        *,
        chain: Chain | None = None,
        passphrase: str | None = None,
    ) -> None:
        super().__init__(wallet, chain, passphrase)
        self._only = (
            None if channel is None else self.wallet.channels.find(channel, lambda record: True, "known")
        )
        self._known: dict[str, _Known] = {}
        self._unpaid: list[str] = []
        self._latest: str | None = self._only

    def accept(self, message: str | bytes) -> Accepted:
        """Verify an update or a settlement, countersign it and keep it; durable on return. Nothing is broadcast.

        Args:
            message: hex, base64 or binary.

        Raises:
            MpchanError: as ``mpchan payee accept``.
        """
        [answer] = self.accept_many([message])
        if isinstance(answer, MpchanError):
            raise answer
        if isinstance(answer, Superseded):
            raise TypeError("one message alone is verified")
        return answer

    def accept_many(
        self, messages: Iterable[Message], *, skip_superseded: bool = False, stop: bool = True
    ) -> list[Answer]:
        """Take messages in their order; what is taken is durable on return.

        Args:
            skip_superseded: verify the newest update alone, as long as that is taken: it pays no less than those
                before it.
            stop: leave out what follows the first refused message.

        Returns:
            for each message what ``accept`` returns or raises, or ``Superseded``.

        Raises:
            StorageError: the wallet itself fails. Of the last messages none need have been kept, and none was
                acknowledged.
        """
        most = QUEUED if skip_superseded else AT_ONCE
        return in_batches(messages, most, lambda some: self._batch(some, skip_superseded, stop), stop=stop)

    def settle(self, settlement: str | bytes | None = None, channel: str | None = None) -> Closed:
        """Close a channel on the chain, with the payer's settlement or with what is held: ``mpchan payee settle``.

        Args:
            settlement: hex, base64 or binary; None for what is held.
            channel: any unique beginning of its id, where no settlement names it.
        """
        psbt = None if settlement is None else read(settlement)
        return commands.settle(self.wallet, self._chain, psbt, channel or self._only)

    def warnings(self) -> list[str]:
        """What people should know of channels that have had their first payment here, each told once."""
        told: list[str] = []
        for name in list(self._unpaid):
            with suppress(MpchanError):  # whatever is wrong now: what was taken has been taken
                state = enforce(own_channel_rules(self.wallet, name)).state
                best = payee.best_of(state)
                if best is not None:
                    self._unpaid.remove(name)
                    told += commands.first_warnings(
                        self.wallet, self._chain, payee.terms_of(state), best.paid
                    )
        return told

    def _names(self) -> Iterable[str]:
        return self._known

    def _batch(self, messages: Sequence[Message], skip_superseded: bool, stop: bool) -> list[Answer]:
        """The answers to the first messages, as far as these belong to one channel; none where that changes."""
        name, self._latest = self._latest, None
        if name is None:
            try:
                message = read(messages[0])
                name = self.named_by(message)
                require_channel(self.wallet, self._chain, name, message)
            except StorageError:
                raise
            except MpchanError as error:
                return [error]
        with self.wallet.channels.lock(name, in_turn=True):
            run = self._run(name)
            answers = run.newest(messages, stop) if skip_superseded else run.each(messages, stop)
            run.commit()
        if answers:
            self._latest = name
        return answers

    def named_by(self, psbt: Psbt) -> str:
        """The name of the channel that a message belongs to.

        Raises:
            Refused: ``unknown-channel``, ``input-count``.
            UsageError: ``wrong-channel``, it is not the only one whose messages are taken.
        """
        name = enforce(payee_channel_rules(self.wallet, psbt))
        if self._only not in (None, name):
            raise UsageError("wrong-channel", f"the message belongs to channel {name[:16]}, to no other")
        return name

    def _run(self, name: str) -> _Run:
        record = enforce(own_channel_rules(self.wallet, name))
        known = self._known.get(name)
        if known is None or known.record.terms != record.terms:
            known = self._known[name] = _Known(self._chain, record)
            if payee.best_of(record.state) is None:
                self._unpaid.append(name)
        known.record = record
        return _Run(self, known)


def read(message: Message) -> Psbt:
    """A message by the rules of a single one.

    Raises:
        ParseError: malformed; or the error in its place.
    """
    if isinstance(message, MpchanError):
        raise message
    return read_psbt(message.encode() if isinstance(message, str) else message)


class _Known:
    """What is known of one channel from batch to batch."""

    def __init__(self, chain: Chain, record: PayeeRecord) -> None:
        self.record = record
        self.form: Form | None = construction_of(record.terms.offer).form(record.terms)
        self.facts = RecentFacts(lambda: gather_facts(chain, record.terms))


Found = tuple[Union[int, None], int, bytes]
"""Number (None where the construction has none), total in satoshi and signature of a message that the form gives."""


class _Run(Run):
    """One batch of messages to one channel, which is held."""

    def __init__(self, meter: Payee, known: _Known) -> None:
        super().__init__(meter.wallet, known.record, known.form)
        self._meter = meter
        self._known = known
        self._hold(known.record.state)
        self._newest: tuple[int, int, bytes] | None = None  # taken, and not countersigned yet

    def _hold(self, state: payee.PayeeState) -> None:
        best = payee.best_of(state)
        self._state: payee.PayeeState = state
        self._number, self._paid = (0, 0) if best is None else (best.number, best.paid.sat)

    def _look(self) -> None:
        self._facts = self._known.facts.latest()
        if self._form is not None and isinstance(self._state, payee.Active):
            self._free = _takes(self._state, self._facts)

    def found(self, message: Message) -> Found | None:
        """What a message says that is digit for digit what the channel's form gives."""
        if self._form is None or isinstance(message, MpchanError):
            return None
        try:
            return self._form.read(message if isinstance(message, str) else message.decode("ascii"))
        except UnicodeDecodeError:
            return None

    # many messages --------------------------------------------------------------------------------

    def each(self, messages: Sequence[Message], stop: bool) -> list[Answer]:
        """One after the other, up to the first that belongs to another channel, and not for too long."""
        return list(one_by_one(messages, self._own, stop=stop))

    def _own(self, message: Message) -> Accepted | None:
        """Take a message of this channel; None for one of another."""
        found, psbt = self.found(message), None
        if found is None:
            psbt = read(message)
            if self._meter.named_by(psbt) != self._terms.name:
                return None
        return self.take(found, psbt, message)

    def newest(self, messages: Sequence[Message], stop: bool) -> list[Answer]:
        """The update that pays most, first, as far as messages are updates in the usual form; else one as ``each``.

        What came before it is superseded by it once it is taken, where its number is lower too, if it has one.
        """
        read: list[tuple[Message, Found]] = []
        for message in messages:
            found = self.found(message)
            if found is None:
                break
            read.append((message, found))
        if not read:
            return self.each(messages[:1], stop)
        answers: dict[int, Answer] = {}
        end, pool = len(read), list(range(len(read)))
        while pool:
            newest = max(pool, key=lambda at: (read[at][1][1], read[at][1][0] or 0, at))
            older = [at for at in pool if at < newest and _is_later(read[newest][1], read[at][1])]
            for at in sorted({at for at in pool if at <= newest} - set(older)):
                answers[at] = answer = self._answer(*read[at], len(older) if at == newest else 0)
                if stop and isinstance(answer, MpchanError):
                    end = at
                    break
            taken = answers.get(newest)
            if isinstance(taken, Accepted):
                channel = self._terms.channel_id
                answers.update({at: Superseded(channel, read[at][1][0], taken.update) for at in older})
            pool = [at for at in pool if at not in answers and at < end]
        return [answers[at] for at in range(min(end + 1, len(read)))]

    def _answer(self, message: Message, found: Found, superseded: int) -> Answer:
        try:
            return self.take(found, None, message, superseded)
        except StorageError:
            raise
        except MpchanError as error:
            return error

    # one message ----------------------------------------------------------------------------------

    def take(self, found: Found | None, psbt: Psbt | None, message: Message, superseded: int = 0) -> Accepted:
        """Take one message; it is not kept before ``commit`` returns."""
        self._prepare()
        form = self._form
        if found is None or form is None or not self._goes_on(*found[:2]):
            return self._take_plainly(read(message) if psbt is None else psbt, superseded)
        number, paid, signature = self._number + 1 if found[0] is None else found[0], *found[1:]
        if not form.verify(self._terms.payer_key, number, paid, signature):
            return self._take_plainly(read(message), superseded)
        if self._newest is not None:
            self._batch.add_payment("accepted", *self._newest, more=True)
        self._newest = number, paid, signature
        received = paid - self._paid
        self._number, self._paid = number, paid
        return Accepted(
            self._channel,
            number,
            received,
            paid,
            0,
            self._capacity - paid,
            form.lock_time(number),
            False,
            superseded,
        )

    def _goes_on(self, number: int | None, paid: int) -> bool:
        """Whether number and total go on from what is held, while the channel takes updates at all."""
        later = number is None or number > self._number
        return self._free and later and paid - self._paid >= self._least

    def _take_plainly(self, psbt: Psbt, superseded: int) -> Accepted:
        """By the rules of a single message, which refuse what has to be refused."""
        before = self._now()
        after, receipt = payee.accept(before, psbt, self._facts, self._key)
        if not receipt.duplicate:
            self._batch.add(replace(self._record, state=after), *commands.taken(after))
            self._hold(after)
            self._free = self._free and isinstance(after, payee.Active)
        return commands.accepted(self._terms, receipt, superseded=superseded)

    def _now(self) -> payee.PayeeState:
        if self._newest is not None and isinstance(self._state, payee.Active):
            number, paid, signature = self._newest
            best = payee.countersigned(self._terms, number, Amount(paid), signature, self._key)
            self._state, self._newest = replace(self._state, best=best), None
            self._batch.add(replace(self._record, state=self._state), "accepted", signature=signature.hex())
        return self._state


def _is_later(newer: Found, older: Found) -> bool:
    """Whether an update comes after another one by their numbers; of updates without, by the total alone."""
    return newer[0] is None or older[0] is None or older[0] < newer[0]


def _takes(state: payee.Active, facts: Facts) -> bool:
    """Whether an update that goes on from what is held passes all rules: then every such update does."""
    terms = state.terms
    number, paid = (0, Amount(0)) if state.best is None else (state.best.number, state.best.paid)
    more = paid + terms.offer.min_increment
    try:
        likely = Incoming(terms.schedule.update(number + 1, more), terms.schedule.build(REFUND), b"")
        enforce(payee.standing_rules(state, likely, facts))
    except MpchanError:
        return False
    return True
