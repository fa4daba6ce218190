"""The payee's side of a channel, as it stands in the wallet."""

from __future__ import annotations

from typing import Any

from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payee
from mpchan.channel.facts import Credit, Facts, Status
from mpchan.channel.terms import Terms
from mpchan.units import MAX_LOCK_TIME, Amount, checked_int, key_index_or_none
from mpchan.values import frozen
from mpchan.wallet.account import Account


@frozen
class PayeeRecord:
    """A channel in which this wallet is paid.

    Attributes:
        key_index: of the channel key; None where that follows from the terms (``channel.key_paths``).
        account: what was charged, where requests are paid in the channel; else None.
    """

    key_index: int | None
    state: payee.PayeeState
    account: Account | None = None
    role = "payee"

    @property
    def terms(self) -> Terms:
        """The channel's terms."""
        return payee.terms_of(self.state)

    @property
    def own_key(self) -> PublicKey:
        """The key of this wallet in the channel's script."""
        return self.terms.offer.payee_key

    @property
    def funding(self) -> Transaction | None:
        """What this wallet's own coins pay in: nothing, the payer's do."""
        return None

    @property
    def has_external_funding(self) -> bool:
        """Whether another wallet makes it for this one."""
        return False

    @property
    def is_going(self) -> bool:
        """Whether payments or a settlement may still flow."""
        return isinstance(self.state, (payee.Active, payee.Closing))

    @property
    def paid(self) -> Amount:
        """What counts as paid whatever the chain says."""
        return self.credit(None).paid

    def credit(self, facts: Facts | None) -> Credit:
        """What counts as paid, and what is pending."""
        return payee.credit(self.state, facts)

    @property
    def updates(self) -> int:
        """Number of the best update; 0 before the first."""
        best = payee.best_of(self.state)
        return 0 if best is None else best.number

    @property
    def latest_lock_time(self) -> int | None:
        """nLockTime of the best update, 0 once a settlement is held, None before both."""
        if isinstance(self.state, payee.Closing) and self.state.settlement is not None:
            return 0
        best = payee.best_of(self.state)
        return None if best is None else best.transaction.lock_time

    @property
    def own_way_out(self) -> int | None:
        """nLockTime of what this party can broadcast alone: a settlement or the best update."""
        return self.latest_lock_time

    def share(self, facts: Facts | None) -> Amount:
        """This party's share of the channel as it stands."""
        return self.credit(facts).paid

    def status(self, facts: Facts | None) -> Status:
        """Where the channel stands."""
        return payee.status(self.state, facts)

    def fields(self) -> dict[str, Any]:
        """The state as plain values."""
        account = {} if self.account is None else {"account": self.account.to_table()}
        return {**_fields(self.state), **account}

    @classmethod
    def from_fields(cls, terms: Terms, body: dict[str, Any]) -> PayeeRecord:
        """Read ``fields`` back; KeyError, TypeError, ValueError or ParseError where they make no state."""
        account = Account.from_table(body["account"]) if "account" in body else None
        return cls(key_index_or_none(body["key_index"]), _state(terms, body), account)


def _fields(state: payee.PayeeState) -> dict[str, Any]:
    if isinstance(state, payee.Abandoned):
        return {"phase": "abandoned"}
    active = payee.active_of(state)
    best = active.best
    fields: dict[str, Any] = {
        "phase": "active" if isinstance(state, payee.Active) else "closing",
        "funding_tx": None if active.funding is None else active.funding.to_hex(),
        "update": None
        if best is None
        else {"number": best.number, "paid_sat": best.paid.sat, "tx": best.transaction.to_hex()},
    }
    if isinstance(state, payee.Closing):
        held = state.settlement
        fields["settlement"] = (
            None if held is None else {"paid_sat": held.paid.sat, "tx": held.transaction.to_hex()}
        )
        if held is not None and held.late:
            fields["settlement"]["late"] = True
    return fields


def _state(terms: Terms, body: dict[str, Any]) -> payee.PayeeState:
    phase = body["phase"]
    if phase == "abandoned":
        return payee.Abandoned(terms)
    funding = None if body["funding_tx"] is None else Transaction.from_hex(body["funding_tx"])
    update, best = body["update"], None
    if update is not None:
        number = checked_int(update["number"], 1, MAX_LOCK_TIME, "update")
        best = payee.Update(number, Amount(update["paid_sat"]), Transaction.from_hex(update["tx"]))
    active = payee.Active(terms, funding, best)
    if phase == "active":
        return active
    if phase != "closing":
        raise ValueError(f"unknown phase {phase!r}")
    held, settlement = body["settlement"], None
    if held is not None:
        late = held.get("late", False)
        if type(late) is not bool:
            raise ValueError(f"late is {late!r:.20}")
        settlement = payee.Settlement(Amount(held["paid_sat"]), Transaction.from_hex(held["tx"]), late)
    return payee.Closing(active, settlement)
