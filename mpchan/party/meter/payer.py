"""The payer's meter: payment after payment in one channel, many of them made durable by one fsync.

The path of one payment: the amount is held against what is left; the channel's form gives the digest; the key signs
it; the form gives the message; the journal's line is chained to the one before. All lines of a batch are appended at
once and synced once, and only then does the caller see any of their messages. Whatever is out of the ordinary, an
amount too many or a channel that closes, goes the way of ``payer pay``, whose rules give the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Union

from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.construction.base import Form
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Facts
from mpchan.errors import MpchanError
from mpchan.party import payer as commands
from mpchan.party.meter.base import AT_ONCE, AnyWallet, Meter, RecentFacts, Run, in_batches, one_by_one
from mpchan.results.payments import Payment
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.payer_record import PayerRecord

if TYPE_CHECKING:
    from mpchan.results.closing import SettlementSigned

Request = Union[int, Amount, MpchanError]
"""An amount in satoshi; or why there is none, which is handed back in its place."""


class Payer(Meter):
    """One channel in which a wallet pays, for programs that pay often.

    It serves one thread at a time. The channel is held for a batch and no longer, so other commands work in between,
    and nothing is lost when the process ends in whatever way.

    Args:
        wallet: open, or its directory.
        channel: any unique beginning of its id; None for the only one that is open.
        chain: None for the one that the wallet names.
        passphrase: of a directory's encrypted keys.

    Raises:
        UsageError, NotPossible, StorageError, ChainError: as ``mpchan payer pay`` has them before it pays.
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
        self.name = commands.find_funded(self.wallet, self._chain, channel)
        self._form: Form | None = None
        self._record: PayerRecord | None = None
        self._recent = RecentFacts(self._ask)
        self._spent = 0

    def pay(self, amount: int | Amount) -> Payment:
        """The next update, durable on return.

        Args:
            amount: satoshi.

        Raises:
            MpchanError: as ``mpchan payer pay AMOUNT``.
        """
        return _only(self.pay_many([amount]))

    def pay_up_to(self, total: int | Amount) -> Payment:
        """The update that brings the total there; the latest again where it is reached. Safe to repeat.

        Raises:
            MpchanError: as ``mpchan payer pay --total``.
        """
        return _only(self.pay_many([total], totals=True))

    def last(self) -> Payment:
        """The latest update again, the same bytes.

        Raises:
            MpchanError: as ``mpchan payer pay --last``.
        """
        return commands.pay_last(self.wallet, self._chain, self.name)

    def pay_many(
        self, requests: Iterable[Request], *, totals: bool = False, stop: bool = True
    ) -> list[Payment | MpchanError]:
        """One update for each request, in their order; all of them are durable on return.

        Args:
            requests: amounts, or errors that are handed back.
            totals: they are running totals, each safe to repeat.
            stop: leave out what follows the first error.

        Returns:
            for each request what ``pay`` returns or raises.

        Raises:
            StorageError: the wallet itself fails. Of the last requests none need have happened, so what counts is
                what ``last`` says.
        """
        return in_batches(requests, AT_ONCE, lambda some: self._pay_batch(some, totals, stop), stop=stop)

    def note_spent(self, spent: int) -> None:
        """What the payee has charged in all, by its receipts; it becomes durable with the next payment.

        Args:
            spent: satoshi; less than before changes nothing.
        """
        self._spent = max(self._spent, spent)

    def write_spent(self) -> None:
        """Make that durable now.

        Raises:
            StorageError: the wallet itself fails.
        """
        with self.wallet.channels.lock(self.name, in_turn=True):
            record = commands.load(self.wallet, self.name)
            if record.purpose is not None and self._spent > record.spent.sat:
                self.wallet.channels.save(replace(record, spent=Amount(self._spent)), "charged")

    def settle(self, total: int | Amount | None = None) -> SettlementSigned:
        """The final balance, for the payee to countersign and broadcast: ``mpchan payer settle``.

        Args:
            total: satoshi; more than what is paid includes a last payment.
        """
        amount = total if total is None or isinstance(total, Amount) else Amount(total)
        return commands.settle(self.wallet, self._chain, self.name, amount)

    def _names(self) -> Iterable[str]:
        return (self.name,)

    def _pay_batch(
        self, requests: Sequence[Request], totals: bool, stop: bool
    ) -> list[Payment | MpchanError]:
        with self.wallet.channels.lock(self.name, in_turn=True):
            run = self._run()
            results = one_by_one(requests, lambda request: run.pay(request, totals), stop=stop)
            run.commit()
        return results

    def _run(self) -> _Run:
        record = commands.load(self.wallet, self.name)
        if self._record is None or record.terms != self._record.terms:
            self._form = construction_of(record.terms.offer).form(record.terms)
        self._record = record
        return _Run(self, record)

    def _ask(self) -> Facts:
        if self._record is None:
            raise TypeError("the channel was not read yet")
        return commands.facts_of(self._chain, self._record)


def _only(results: list[Payment | MpchanError]) -> Payment:
    [result] = results
    if isinstance(result, MpchanError):
        raise result
    return result


class _Run(Run):
    """One batch of payments; the channel is held."""

    def __init__(self, meter: Payer, record: PayerRecord) -> None:
        super().__init__(meter.wallet, record, meter._form)
        self._recent = meter._recent
        self._spent = meter._spent if record.purpose is not None else 0
        self._state: payer.PayerState = record.state
        if isinstance(record.state, payer.Funded):
            self._number, self._paid = record.state.number, record.state.paid.sat
        self._signed: tuple[int, int, bytes] | None = None

    def _look(self) -> None:
        commands.require_synced(self._record)
        self._facts = self._recent.latest()
        if self._form is not None and isinstance(self._state, payer.Funded):
            likely = Amount(min(self._capacity, max(self._least, self._form.dust)))
            self._free = _passes(self._state, likely, self._facts)

    def pay(self, request: Request, totals: bool) -> Payment:
        """The next payment; it has not happened before ``commit`` returns."""
        if isinstance(request, MpchanError):
            raise request
        wanted = request.sat if isinstance(request, Amount) else Amount(request).sat
        self._prepare()
        amount = wanted - self._paid if totals else wanted
        total = self._paid + amount
        form = self._form
        if (
            form is None
            or not self._free
            or not self._least <= amount
            or not form.dust <= total <= self._capacity
            or (form.last is not None and self._number >= form.last)
        ):
            return self._pay_plainly(Amount(wanted), totals)
        number = self._number + 1
        signature = self._key.sign_update_in(form, number, total)
        message = form.message(number, total, signature)
        self._batch.add_payment("paid", number, total, signature, spent_sat=self._newly_spent())
        self._number, self._paid = number, total
        self._signed = number, total, signature
        left = self._capacity - total
        return Payment(self._channel, number, amount, total, left, form.lock_time(number), message)

    def _pay_plainly(self, wanted: Amount, totals: bool) -> Payment:
        """By the rules of a single payment, which refuse what has to be refused."""
        before = self._now()
        after = (payer.pay_up_to if totals else payer.pay)(before, wanted, self._facts)
        known = payer.ever_funded(before)
        answer = commands.payment(after, known, self._key)
        if known is None or after.number != known.number:
            self._newly_spent()
            self._batch.add(replace(self._record, state=after), "paid", answer.hex)
            self._state, self._number, self._paid = after, after.number, after.paid.sat
        return answer

    def _newly_spent(self) -> int | None:
        """What has been charged, where the record does not have it yet; it has it then."""
        if self._spent <= self._record.spent.sat:
            return None
        self._record = replace(self._record, spent=Amount(self._spent))
        return self._spent

    def _now(self) -> payer.PayerState:
        if isinstance(self._state, payer.Funded) and self._state.number != self._number:
            self._state = replace(self._state, number=self._number, paid=Amount(self._paid))
        return self._state

    def commit(self) -> None:
        """Make the batch durable, once the newest of our own signatures in it has proved good."""
        if self._signed is not None and self._form is not None:
            self._key.require_update_in(self._form, *self._signed)
        super().commit()


def _passes(state: payer.Funded, amount: Amount, facts: Facts) -> bool:
    """Whether a payment passes all rules: then every amount does that fits what is left."""
    try:
        payer.pay(state, amount, facts)
    except MpchanError:
        return False
    return True
