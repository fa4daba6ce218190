"""``plans/<script>.json``: channels that another wallet is going to fund.

Before that wallet has made its transaction there is no funding outpoint, so no channel. A plan keeps what its address
is made of. It reserves nothing and binds nobody; a plan that is never funded does no harm. Its file is named by the
witness program of the channel's output. This wallet's key in there follows from the offer's, so a later plan under one
offer takes the place of the one before, whose address is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mpchan.bitcoin.script import is_p2wsh
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import TxOut
from mpchan.channel.offer import Offer
from mpchan.channel.terms import funding_output
from mpchan.errors import ParseError, StorageError
from mpchan.units import Amount, key_index_or_none
from mpchan.values import frozen
from mpchan.wallet.layout import stored
from mpchan.wallet.records import canonical, checksum
from mpchan.wallet.storage import make_directory, read_text, write_durably

PLAN_SCHEMA = 2
"""Of a plan without a key index; it is 1 of one that has an index, as older plans have."""

_COUNTED_SCHEMA = 1


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


class Plans:
    """The plans of one wallet.

    Args:
        directory: of the wallet.
    """

    def __init__(self, directory: Path) -> None:
        self._home = directory
        self._directory = directory / "plans"

    def save(self, plan: Plan) -> None:
        """Write a plan; durable on return."""
        body = {
            "offer": plan.offer.to_dict(),
            "capacity_sat": plan.capacity.sat,
            "key_index": plan.key_index,
            "payer_pubkey": plan.payer_key.sec.hex(),
            "payer_script": plan.payer_script.hex(),
            "address": plan.address,
            **({"restored": True} if plan.restored else {}),
        }
        text = canonical(body)
        make_directory(self._directory)
        schema = _schema_of(body)
        envelope = f'{{"schema": {schema}, "checksum": "{checksum(text)}", "plan": {text}}}\n'
        write_durably(self._path(plan.name), envelope.encode())

    def find(self, script_pubkey: bytes) -> Plan | None:
        """The plan whose address has this scriptPubKey.

        Raises:
            StorageError: ``plan-damaged``; the file stays as it is.
        """
        if not is_p2wsh(script_pubkey) or not self._path(_name(script_pubkey)).exists():
            return None
        return self.load(self._path(_name(script_pubkey)))

    def __iter__(self) -> Iterator[Plan]:
        """All readable plans, in no order that means anything; a damaged one is found by its address only."""
        for path in self.files():
            try:
                yield self.load(path)
            except StorageError:
                continue

    def files(self) -> list[Path]:
        """Their files, sorted; none where there never was a plan."""
        return [self._directory / name for name in stored(self._home, "plans", ".json")]

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def load(self, path: Path) -> Plan:
        """Read one of ``files``.

        Raises:
            StorageError: ``plan-damaged``; the file stays as it is.
        """
        try:
            envelope = json.loads(read_text(path))
            body = envelope["plan"]
            if envelope["schema"] != _schema_of(body) or envelope["checksum"] != checksum(canonical(body)):
                raise ValueError("checksum or schema does not fit")
            plan = Plan(
                Offer.from_dict(body["offer"]),
                Amount(body["capacity_sat"]),
                key_index_or_none(body["key_index"]),
                PublicKey.from_hex(body["payer_pubkey"]),
                bytes.fromhex(body["payer_script"]),
                _text(body["address"]),
                bool(body.get("restored")),
            )
            if plan.name != path.stem:
                raise ValueError("it is another plan's")
        except (ParseError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StorageError("plan-damaged", f"{path}: {error!s:.200}") from None
        return plan


def _schema_of(body: dict[str, Any]) -> int:
    return PLAN_SCHEMA if body["key_index"] is None else _COUNTED_SCHEMA


def _name(script_pubkey: bytes) -> str:
    return script_pubkey[2:].hex()


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"no text: {value!r:.80}")
