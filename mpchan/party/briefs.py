"""A channel in short, straight from the values in its files: for ``list``, which may have to show very many.

To make a channel of these values, its offer, keys and transactions all have to be parsed. For a line of the list the
numbers are enough, as long as nothing out of the ordinary has happened; ``views.short_view`` is for whatever has.
"""

from __future__ import annotations

from typing import Any, Union

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import NETWORKS
from mpchan.chain.base import Chain, OutputStatus
from mpchan.channel.facts import Status
from mpchan.channel.terms import close_fee
from mpchan.errors import ParseError, UsageError
from mpchan.party.common import earliest, tip_for
from mpchan.results.channels import ChannelLine
from mpchan.units import Amount, ChainTip, FeeRate, OutPoint, lock_time_from_int

Body = dict[str, Any]
"""A channel's values, as a state file holds them."""

_GOING = {"funded": "payer", "active": "payee"}
_CLOSING = {"settling": "payer", "closing": "payee"}

_KEYS = {
    *("role", "key_index", "offer", "outpoint", "funding_value_sat", "payer_pubkey", "payer_script"),
    *("refund_lock_time", "phase", "update", "funding_tx"),
}


class Briefs:
    """The short views of many channels, by one look at the chain's tip."""

    def __init__(self, network: str, chain: Chain) -> None:
        self._network = network
        self._reserves: dict[tuple[object, ...], Amount] = {}
        self._chain = chain
        self._tips: dict[str, Union[ChainTip, None]] = {}

    def view(self, name: str, body: Body) -> ChannelLine | None:
        """As ``list`` shows it; None where the whole channel has to be looked at."""
        try:
            own = body["outpoint"].replace(":", "-") == name and body["offer"]["network"] == self._network
            return self._view(body) if own else None
        except (ParseError, KeyError, TypeError, ValueError, AttributeError):
            return None  # whoever looks at the whole of it says what is wrong

    def _view(self, body: Body) -> ChannelLine | None:
        phase, role = body["phase"], body["role"]
        if role not in (_GOING.get(phase), _CLOSING.get(phase)) or not body.keys() >= _KEYS:
            return None
        capacity = self._capacity(body)
        status = None if capacity is None else self._status(body)
        if capacity is None or status is None:
            return None
        update = body["update"] or {"number": 0, "paid_sat": 0}
        paid = Amount(update["paid_sat"]).sat
        if phase == "settling":
            paid = Amount(body["settlement_sat"]).sat
        if phase == "closing" and body["settlement"] is not None:
            if "late" in body["settlement"]:
                return None  # whether it counts is for the chain to say
            paid = Amount(body["settlement"]["paid_sat"]).sat
        return ChannelLine(
            channel=body["outpoint"][:16],
            role=role,
            status=status.value,
            capacity_sat=capacity,
            paid_sat=paid,
            pending_sat=0,
            remaining_sat=capacity - paid,
            updates=update["number"],
            refund_lock_time=body["refund_lock_time"],
        )

    def _capacity(self, body: Body) -> int | None:
        """What the payer can spend; None where an address of this kind does not show the size of its script."""
        offer = body["offer"]
        network = NETWORKS[offer["network"]]
        address, rate = offer["payee_address"], offer["fee_rate_sat_per_kvb"]
        if not address.startswith(f"{network.bech32_hrp}1"):
            return None
        key = (offer["scheme"], rate, len(address), len(body["payer_script"]))
        if key not in self._reserves:  # segwit addresses of one length have scripts of one length (BIP-0173)
            scripts = bytes.fromhex(body["payer_script"]), address_to_script(address, network)
            self._reserves[key] = close_fee(offer["scheme"], FeeRate(rate), *scripts)
        return (Amount(body["funding_value_sat"]) - self._reserves[key]).sat

    def _status(self, body: Body) -> Status | None:
        """By the channel's phase and the chain; None where it takes more to tell."""
        offer = body["offer"]
        lock_time = lock_time_from_int(body["refund_lock_time"])
        going = body["phase"] in _GOING
        if self._chain.stated_confirmations is not None or self._tip(lock_time.unit) is None:
            return None
        seen = self._chain.output(
            OutPoint.parse(body["outpoint"]), not_before=earliest(lock_time, offer["max_refund_delay"])
        )
        if seen is not None and seen.spend is not None:
            return _spent(seen, body)
        if not going:
            return Status.SETTLING
        if seen is None:
            return Status.OPENING if body["role"] == "payee" and not body["funding_tx"] else Status.FUNDING
        return Status.OPEN if seen.confirmations >= offer["min_confirmations"] else Status.FUNDING

    def _tip(self, unit: str) -> ChainTip | None:
        if unit not in self._tips:
            try:
                self._tips[unit] = tip_for(self._chain, unit)
            except UsageError:
                self._tips[unit] = None
        return self._tips[unit]


def _spent(seen: OutputStatus, body: Body) -> Status | None:
    """In a block, what has another lock time than the refund is none; else it takes a closer look."""
    spend = seen.spend
    if spend is None or not spend.confirmations or spend.transaction is None:
        return None
    return None if spend.transaction.lock_time == body["refund_lock_time"] else Status.CLOSED
