"""The channels of a purchase, as the wallet has them."""

from __future__ import annotations

from mpchan.channel import payer
from mpchan.errors import MpchanError
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet


def opened_for(wallet: Wallet, purchase: Purchase) -> list[PayerRecord]:
    """The channels that were opened under the offer that was made out to a purchase; all but one are abandoned.

    Raises:
        StorageError: as ``Wallet.load_channel``, where there is none, but a channel that cannot be read may be it.
    """
    if purchase.own is None:
        return []
    unreadable: list[MpchanError] = []
    found = [
        record
        for record in wallet.channels(lambda _, error: unreadable.append(error))
        if isinstance(record, PayerRecord) and record.terms.offer == purchase.own
    ]
    if not found and unreadable:
        raise unreadable[0]
    return found


def live_channel(wallet: Wallet, purchase: Purchase) -> PayerRecord | None:
    """The channel of a purchase that was not abandoned; None where there is none.

    Raises:
        StorageError: as ``opened_for``.
    """
    for record in opened_for(wallet, purchase):
        if not isinstance(record.state, payer.Abandoned):
            return record
    return None


def going_purchase(wallet: Wallet, root: bytes, output: str) -> Purchase | None:
    """The purchase of a file into a place that is not done; None where there is none.

    Of several it is the one that has a channel: other versions began one under each published offer.

    Args:
        root: Merkle root of what is bought.
        output: absolute path.

    Raises:
        StorageError: as ``Purchases.unfinished`` and ``opened_for``.
    """
    unfinished = Purchases(wallet.directory).unfinished(root, output)
    for purchase in unfinished:
        if is_begun(live_channel(wallet, purchase)):
            return purchase
    return unfinished[0] if unfinished else None


def is_begun(record: PayerRecord | None) -> bool:
    """Whether a channel is there, and its money may be locked."""
    return record is not None and not isinstance(
        record.state, (payer.Opening, payer.Secured, payer.Abandoned)
    )
