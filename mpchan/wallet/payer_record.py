"""The payer's side of a channel, as it stands in the wallet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel import payer
from mpchan.channel.facts import Credit, Facts, Status
from mpchan.channel.terms import Terms
from mpchan.units import MAX_LOCK_TIME, Amount, FeeRate, checked_int, key_index_or_none
from mpchan.values import frozen
from mpchan.wallet.purpose import Purpose


@frozen
class Asked:
    """What the command that opened a channel asked for; None where it left the choice to the wallet."""

    refund_delay: int | None = None
    funding_fee_rate: FeeRate | None = None
    address: str | None = None


@frozen
class PayerRecord:
    """A channel in which this wallet pays.

    Attributes:
        key_index: of the channel key; None where that follows from the terms (``channel.key_paths``).
        asked: by the command that opened it, so that the same command again is told from another one.
        restored: whether it comes from a backup, so that the lost wallet may have signed more than this one knows of.
        purpose: what it was opened for, where that is kept.
        spent: what the payee has charged of what is paid, by its receipts; never above that.
    """

    key_index: int | None
    state: payer.PayerState
    asked: Asked = Asked()
    restored: bool = False
    purpose: Purpose | None = None
    spent: Amount = Amount(0)
    role = "payer"

    @property
    def terms(self) -> Terms:
        """The channel's terms."""
        return payer.terms_of(self.state)

    @property
    def own_key(self) -> PublicKey:
        """The key of this wallet in the channel's script."""
        return self.terms.payer_key

    @property
    def funding(self) -> Transaction | None:
        """The funding, in every phase in which it may yet be mined; None where that is over, one way or the other."""
        state = self.state
        if isinstance(state, payer.Abandoned):
            return None
        if isinstance(state, (payer.Opening, payer.Secured)):
            return state.funding
        return payer.funded_of(state).funding

    @property
    def has_external_funding(self) -> bool:
        """Whether another wallet makes the funding."""
        state = self.state
        if isinstance(state, payer.Abandoned):
            return False
        if isinstance(state, (payer.Opening, payer.Secured)):
            return state.external
        return payer.funded_of(state).external

    @property
    def is_going(self) -> bool:
        """Whether payments or a settlement may still flow."""
        return isinstance(self.state, (payer.Funded, payer.Settling)) and not self.is_refund_only

    @property
    def is_refund_only(self) -> bool:
        """Whether it is no channel of its offer, but other money at its address, in which nothing is ever paid."""
        funded = payer.ever_funded(self.state)
        return funded is not None and funded.refund_only

    @property
    def paid(self) -> Amount:
        """What is signed away so far."""
        return payer.paid_total(self.state)

    @property
    def updates(self) -> int:
        """Number of the latest update; 0 before the first."""
        funded = payer.ever_funded(self.state)
        return 0 if funded is None else funded.number

    @property
    def latest_lock_time(self) -> int | None:
        """nLockTime of the latest update, 0 once the settlement was handed over, None before both."""
        if isinstance(self.state, payer.Settling):
            return 0
        funded = payer.ever_funded(self.state)
        return None if funded is None or not funded.number else payer.latest_lock_time(funded)

    @property
    def own_way_out(self) -> int | None:
        """nLockTime of what this party can broadcast alone: the refund."""
        return self.terms.refund_lock_time.value

    def credit(self, facts: Facts | None) -> Credit:
        """What is signed away counts as paid, whether the payee collects it or not."""
        return Credit(self.paid)

    def share(self, facts: Facts | None = None) -> Amount:
        """This party's share of the channel as it stands; where the refund alone counts, what that gives back."""
        if self.is_refund_only:
            return self.terms.funding_value - self.terms.refund_fee
        return self.terms.capacity - self.paid

    def status(self, facts: Facts | None) -> Status:
        """Where the channel stands."""
        return payer.status(self.state, facts)

    def fields(self) -> dict[str, Any]:
        """The state as plain values."""
        rate = self.asked.funding_fee_rate
        asked = {
            "refund_delay": self.asked.refund_delay,
            "funding_fee_rate_sat_per_kvb": None if rate is None else rate.sat_per_kvb,
            "address": self.asked.address,
        }
        more: dict[str, Any] = {"restored": True} if self.restored else {}
        if self.purpose is not None:
            more.update(purpose=self.purpose.to_table(), spent_sat=self.spent.sat)
        return {"asked": asked, **more, **_fields(self.state)}

    @classmethod
    def from_fields(cls, terms: Terms, body: dict[str, Any]) -> PayerRecord:
        """Read ``fields`` back; KeyError, TypeError, ValueError or ParseError where they make no state."""
        asked = body["asked"]
        rate = asked["funding_fee_rate_sat_per_kvb"]
        opened = Asked(asked["refund_delay"], None if rate is None else FeeRate(rate), asked["address"])
        restored = "restored" in body and _flag(body, "restored")
        purpose = Purpose.from_table(body["purpose"]) if "purpose" in body else None
        spent = Amount(body["spent_sat"]) if purpose is not None else Amount(0)
        state = _state(terms, body)
        return cls(key_index_or_none(body["key_index"]), state, opened, restored, purpose, spent)


def _fields(state: payer.PayerState) -> dict[str, Any]:
    if isinstance(state, payer.Abandoned):
        return {**({} if state.funded is None else _fields(state.funded)), "phase": "abandoned"}
    if isinstance(state, (payer.Opening, payer.Secured)):
        fields: dict[str, Any] = {
            "phase": "opening",
            "funding_tx": _hex(state.funding),
            "spent": _outputs(state.spent),
            "external": state.external,
        }
        if isinstance(state, payer.Secured):
            fields.update(phase="secured", refund_tx=state.refund.to_hex())
        return fields
    funded = payer.funded_of(state)
    fields = {
        "phase": "funded",
        "funding_tx": _hex(funded.funding),
        "spent": _outputs(funded.spent),
        "external": funded.external,
        **({"refund_only": True} if funded.refund_only else {}),
        "sends": funded.sends,
        "refund_tx": funded.refund.to_hex(),
        "update": {"number": funded.number, "paid_sat": funded.paid.sat},
    }
    if isinstance(state, (payer.Settling, payer.Refunding)):
        phase = "settling" if isinstance(state, payer.Settling) else "refunding"
        fields.update(phase=phase, settlement_sat=None if state.total is None else state.total.sat)
    return fields


def _hex(funding: Transaction | None) -> str | None:
    return None if funding is None else funding.to_hex()


def _outputs(outputs: Sequence[TxOut]) -> list[list[Any]]:
    return [[output.value.sat, output.script_pubkey.hex()] for output in outputs]


def _state(terms: Terms, body: dict[str, Any]) -> payer.PayerState:
    phase = body["phase"]
    if phase == "abandoned" and "funding_tx" not in body:
        return payer.Abandoned(terms)
    funding = None if body["funding_tx"] is None else Transaction.from_hex(body["funding_tx"])
    spent = tuple(TxOut(Amount(value), bytes.fromhex(script)) for value, script in body["spent"])
    external = _flag(body, "external")
    if phase in ("opening", "secured"):
        if phase == "opening":
            return payer.Opening(terms, funding, spent, external)
        return payer.Secured(terms, funding, spent, Transaction.from_hex(body["refund_tx"]), external)
    update = body["update"]
    funded = payer.Funded(
        terms,
        funding,
        spent,
        Transaction.from_hex(body["refund_tx"]),
        _flag(body, "sends"),
        checked_int(update["number"], 0, MAX_LOCK_TIME, "update"),
        Amount(update["paid_sat"]),
        external,
        "refund_only" in body and _flag(body, "refund_only"),
    )
    if phase == "funded":
        return funded
    if phase == "abandoned":
        return payer.Abandoned(terms, funded)
    total = None if body["settlement_sat"] is None else Amount(body["settlement_sat"])
    if phase == "settling" and total is not None:
        return payer.Settling(funded, total)
    if phase == "refunding":
        return payer.Refunding(funded, total)
    raise ValueError(f"unknown phase {phase!r}")


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body[name]
    if type(value) is not bool:
        raise ValueError(f"{name} is {value!r:.20}")
    return value
