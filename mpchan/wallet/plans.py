"""``plans/<script>.json``: channels that another wallet is going to fund.

Before that wallet has made its transaction there is no funding outpoint, so no channel. A plan keeps what its address
is made of. It reserves nothing and binds nobody; a plan that is never funded does no harm. Its file is named by the
witness program of the channel's output. This wallet's key in there follows from the offer's, so a later plan under one
offer takes the place of the one before, whose address is the same.
"""

from __future__ import annotations

from typing import Any

from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import TxOut
from mpchan.channel.offer import Offer
from mpchan.channel.terms import funding_output
from mpchan.units import Amount, key_index_or_none
from mpchan.values import frozen
from mpchan.wallet.store import Store, checked

PLAN_SCHEMA = 2
"""Of a plan without a key index; it is 1 of one that has an index, as older plans have."""

_COUNTED_SCHEMA = 1
_SCRIPT_SIZE = 2 + 32  # version, length and a witness program of 32 bytes


@frozen
class Plan:
    """A channel that lacks nothing but its funding.

    Attributes:
        key_index: of the channel key; None where that follows from the offer (``channel.key_paths``).
        payer_script: scriptPubKey that gets the payer's share.
        address: where that goes, if it is not this wallet's; None for one of its own.
        restored: whether it comes from a backup, so that the lost wallet may have opened its channel since.
    """

    offer: Offer
    capacity: Amount
    key_index: int | None
    payer_key: PublicKey
    payer_script: bytes
    address: str | None
    restored: bool = False

    @property
    def output(self) -> TxOut:
        """The output that funds it."""
        return funding_output(self.offer, self.capacity, self.payer_key, self.payer_script)

    @property
    def name(self) -> str:
        """The name of its file, without the suffix."""
        return _name(self.output.script_pubkey)


class Plans(Store[Plan]):
    """The plans of one wallet; a damaged one is found by its address only."""

    folder, kind, slug = "plans", "plan", "plan-damaged"

    def find(self, script_pubkey: bytes) -> Plan | None:
        """The plan whose address has this scriptPubKey."""
        if len(script_pubkey) != _SCRIPT_SIZE:
            return None
        path = self.path(_name(script_pubkey))
        plan = self.load(path) if path.exists() else None
        # another version of witness program may have the same 32 bytes
        return plan if plan is not None and plan.output.script_pubkey == script_pubkey else None

    def _name(self, value: Plan) -> str:
        return value.name

    def _to_table(self, value: Plan) -> dict[str, Any]:
        return {
            "offer": value.offer.to_dict(),
            "capacity_sat": value.capacity.sat,
            "key_index": value.key_index,
            "payer_pubkey": value.payer_key.sec.hex(),
            "payer_script": value.payer_script.hex(),
            "address": value.address,
            **({"restored": True} if value.restored else {}),
        }

    def _from_table(self, body: dict[str, Any], name: str) -> Plan:
        return Plan(
            Offer.from_dict(body["offer"]),
            Amount(body["capacity_sat"]),
            key_index_or_none(body["key_index"]),
            PublicKey.from_hex(body["payer_pubkey"]),
            bytes.fromhex(body["payer_script"]),
            None if body["address"] is None else checked(body["address"], str),
            bool(body.get("restored")),
        )

    def _schema_of(self, body: dict[str, Any]) -> int:
        return PLAN_SCHEMA if body["key_index"] is None else _COUNTED_SCHEMA


def _name(script_pubkey: bytes) -> str:
    return script_pubkey[2:].hex()
