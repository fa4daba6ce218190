"""The default construction, ``decrementing``: every update is final before the one that it replaces.

    L_refund              the refund
    L_0 = L_refund - settle_window
    L_k = L_0 - k * step  update k, k >= 1

The settlement has nLockTime 0. nSequence is 0xfffffffd (BIP-0125 signals replaceability; what matters is that it
is not 0xffffffff, which would switch the lock time off, and that bit 31 is set, so that BIP-0068
does not apply), and the version is that which the offer's own version means, in all of them.
"""

from __future__ import annotations

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import MAX_REPLACEABLE, Transaction, TxIn, TxOut
from mpchan.channel.terms import Terms, refund_fee
from mpchan.errors import NotPossible
from mpchan.units import Amount, LockTime
from mpchan.values import frozen


@frozen
class Decrementing:
    """The transactions of one channel in this construction."""

    terms: Terms

    def _spend(self, outputs: tuple[TxOut, ...], lock_time: int) -> Transaction:
        source = TxIn(self.terms.outpoint, MAX_REPLACEABLE)
        return Transaction(self.terms.offer.transaction_version, (source,), outputs, lock_time)

    def _close_outputs(self, paid: Amount) -> tuple[TxOut, ...]:
        """Payer first, then payee; a zero output and the payer's dust are left out and go to the fee."""
        terms = self.terms
        outputs = []
        change = terms.capacity - paid
        if change and change >= dust_limit(terms.payer_script):
            outputs.append(TxOut(change, terms.payer_script))
        if paid:
            outputs.append(TxOut(paid, terms.offer.payee_script))
        return tuple(outputs)

    @property
    def deadline(self) -> LockTime:
        """L_0."""
        lock_time = self.terms.refund_lock_time
        return type(lock_time)(lock_time.value - self.terms.offer.settle_window)

    @property
    def last_update(self) -> int:
        """The highest k whose L_k is not below 1 (blocks) or 500,000,000 (seconds)."""
        deadline = self.deadline
        return (deadline.value - deadline.lowest) // self.terms.offer.step

    def update_lock_time(self, number: int) -> LockTime:
        """L_k = L_0 - k * step."""
        if number > self.last_update:
            raise NotPossible(
                "out-of-updates",
                f"no lock time is left for update {number}, the channel has room for {self.last_update}",
                hint="close the channel with `mpchan payer settle`; its --total can carry a last payment",
            )
        deadline = self.deadline
        return type(deadline)(deadline.value - number * self.terms.offer.step)

    def update_number(self, lock_time: int) -> int | None:
        """k where ``lock_time`` is exactly L_k, k >= 1; else None."""
        number, rest = divmod(self.deadline.value - lock_time, self.terms.offer.step)
        return number if rest == 0 and 1 <= number <= self.last_update else None

    def refund(self) -> Transaction:
        """One output: F less the refund's fee, to the payer, from L_refund on."""
        terms = self.terms
        value = terms.funding_value - refund_fee(terms.offer, terms.payer_script)
        return self._spend((TxOut(value, terms.payer_script),), terms.refund_lock_time.value)

    def update(self, number: int, paid: Amount) -> Transaction:
        """Update k: C - paid to the payer, paid to the payee, from L_k on."""
        return self._spend(self._close_outputs(paid), self.update_lock_time(number).value)

    def settlement(self, paid: Amount) -> Transaction:
        """The final balance with nLockTime 0."""
        return self._spend(self._close_outputs(paid), 0)
