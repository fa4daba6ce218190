"""Shared by the tests of fundings that another wallet makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import TxOut
from mpchan.channel.foreign_funding import Message
from mpchan.errors import MpchanError
from mpchan.party import views
from mpchan.party.opening.external import open_funding, plan_channel
from mpchan.results.base import Result
from mpchan.results.opening import Opened, Planned
from mpchan.units import Amount
from support.party import Pair

CAPACITY = 100_000


class External(Pair):
    """A payer without a coin of its own, a payee, and another wallet that has the coins."""

    def __init__(self, directory: Path, chain: Any) -> None:
        super().__init__(directory, chain, coins=0)
        self.offer_text = self.offer()

    def plan(self, capacity: int = CAPACITY, offer: str | None = None, address: str | None = None) -> Planned:
        text = self.offer_text if offer is None else offer
        return plan_channel(self.payer, self.chain, text, Amount(capacity), address=address)

    def output(self) -> TxOut:
        """What the plan says is to be paid."""
        plan = self.plan()
        return TxOut(Amount(plan.amount_sat), address_to_script(plan.address, REGTEST))

    def take(self, message: Message, **options: object) -> Opened:
        return open_funding(self.payer, self.chain, message, **options)  # type: ignore[arg-type]

    def open_with(self, message: Message, complete: Message, **options: object) -> str:
        """The whole opening; the channel's name."""
        request = self.take(message)
        self.fund(self.sign_refund(request.hex), signed=complete, **options)
        return name_of(request)

    def warnings(self, name: str) -> list[str]:
        return slugs_of(views.show(self.payer, self.chain, name))


def slugs_of(view: Result) -> list[str]:
    """The stable names of an answer's warnings."""
    return [warning.partition(":")[0] for warning in view.people_should_know()]


def name_of(request: Opened) -> str:
    return f"{request.funding_txid}-{request.funding_vout}"


def refused(call: Callable[[], object]) -> tuple[str, int]:
    """Slug and exit code of what must fail."""
    with pytest.raises(MpchanError) as error:
        call()
    return error.value.slug, error.value.exit_code
