"""``openings/<offer_id>.json``: openings that any wallet funds, by paying an address.

Where nothing is exchanged before the funding, the address follows from the offer, the payer's key and L_refund. What
comes there becomes a channel when it is seen; the file stays, also after the opening was given up, since the address
may be paid again.
"""

from __future__ import annotations

from typing import Any

from mpchan.bitcoin.signature import PublicKey
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.offer import Offer
from mpchan.channel.terms import close_reserve, smallest_capacity
from mpchan.units import LOCK_TIME_THRESHOLD, Amount, LockTime, checked_int, lock_time_from_int
from mpchan.values import frozen
from mpchan.wallet.store import Store, checked


@frozen
class AwaitedFunding:
    """An opening whose funding some other wallet sends.

    Attributes:
        capacity: what the channel is to have; None where any amount that the offer allows will do.
        refund_at: L_refund.
        payer_script: scriptPubKey that gets the payer's share.
        address: where that goes, if it is not this wallet's; None for one of its own.
        refund_delay: as the command asked for it; None for the offer's.
        since: height of the tip when the address was made: no block up to that pays to it.
        given_up: whether what comes all the same is only refunded.
        restored: whether it comes from a backup, so that the lost wallet may have paid in its channel since.
    """

    offer: Offer
    capacity: Amount | None
    refund_at: LockTime
    payer_key: PublicKey
    payer_script: bytes
    address: str | None
    refund_delay: int | None
    since: int
    given_up: bool = False
    restored: bool = False

    @property
    def script_pubkey(self) -> bytes:
        """Of the address."""
        return construction_of(self.offer).funding_script(self.offer, self.payer_key, self.refund_at)

    @property
    def reserve(self) -> Amount:
        """What a funding needs on top of the capacity."""
        return close_reserve(self.offer, self.payer_script)

    @property
    def least(self) -> Amount:
        """The smallest funding that makes a channel."""
        return smallest_capacity(self.offer, self.payer_script) + self.reserve

    @property
    def most(self) -> Amount:
        """The largest one."""
        return self.offer.max_capacity + self.reserve


class AwaitedFundings(Store[AwaitedFunding]):
    """Those of one wallet, by their offers' ids."""

    folder, kind, slug = "openings", "opening", "opening-damaged"

    def find(self, offer_id: str) -> AwaitedFunding | None:
        """The opening under an offer; None where there is none, or that is no offer's id."""
        path = self.path(offer_id)
        return self.load(path) if path in self.files() else None

    def _name(self, value: AwaitedFunding) -> str:
        return value.offer.offer_id

    def _to_table(self, value: AwaitedFunding) -> dict[str, Any]:
        return {
            "offer": value.offer.without_pieces().to_dict(),
            "capacity_sat": None if value.capacity is None else value.capacity.sat,
            "refund_lock_time": value.refund_at.value,
            "payer_pubkey": value.payer_key.sec.hex(),
            "payer_script": value.payer_script.hex(),
            "address": value.address,
            "refund_delay": value.refund_delay,
            "since": value.since,
            "given_up": value.given_up,
            "restored": value.restored,
        }

    def _from_table(self, body: dict[str, Any], name: str) -> AwaitedFunding:
        offer = Offer.from_dict(body["offer"])
        if construction_of(offer).has_exchange:
            raise ValueError("such an offer has no address before its funding")
        return AwaitedFunding(
            offer,
            None if body["capacity_sat"] is None else Amount(body["capacity_sat"]),
            lock_time_from_int(body["refund_lock_time"]),
            PublicKey.from_hex(body["payer_pubkey"]),
            bytes.fromhex(body["payer_script"]),
            None if body["address"] is None else checked(body["address"], str),
            None if body["refund_delay"] is None else checked(body["refund_delay"], int),
            checked_int(body["since"], 0, LOCK_TIME_THRESHOLD - 1, "block height"),
            checked(body["given_up"], bool),
            checked(body["restored"], bool),
        )
