"""The channels of a purchase, as the wallet has them."""

from __future__ import annotations

from mpchan.channel import payer
from mpchan.errors import MpchanError
from mpchan.units import Amount
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet


def opened_for(wallet: Wallet, purchase: Purchase) -> list[PayerRecord]:
    """The channels that were opened under the offer that was made out to a purchase; all but one are abandoned.

    Raises:
        StorageError: as ``ChannelFiles.load``, where there is none, but a channel that cannot be read may be it.
    """
    if purchase.own is None:
        return []
    unreadable: list[MpchanError] = []
    found = [
        record
        for record in wallet.channels.readable(lambda _, error: unreadable.append(error))
        if isinstance(record, PayerRecord) and record.terms.offer == purchase.own
    ]
    if not found and unreadable:
        raise unreadable[0]
    return found


def live_channel(wallet: Wallet, purchase: Purchase) -> PayerRecord | None:
    """The channel of a purchase that was not abandoned; None where there is none."""
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


# what is at stake, in words -----------------------------------------------------------------------


_ON = "the same command goes on where it stopped"


def back_text(hint: str | None, record: PayerRecord) -> str:
    """The hint where a seller did not take the settlement: how what is not paid comes back all the same."""
    said, terms = f"{hint}; " if hint else "", record.terms
    back = (terms.capacity - record.paid).sat
    if not back:
        return f"{said}all of it is paid: nothing comes back"
    return (
        f"{said}the same command asks again; without the seller {back} sat come back from {terms.refund_lock_time} on "
        f"with `mpchan payer refund --channel {terms.channel_id}`"
    )


def stake_text(
    hint: str | None, record: PayerRecord | None, price: Amount, held: int, *, closed: bool = False
) -> str:
    """The hint that comes with an error of a purchase.

    Args:
        hint: of the error itself.
        record: the channel; None before there is one.
        price: of one piece.
        held: how many of the pieces that are paid for have arrived, and are right.
        closed: whether the seller has closed the channel.
    """
    said = f"{hint}; " if hint else ""
    if record is None:
        return f"{said}nothing is paid and nothing is locked; {_ON}"
    if isinstance(record.state, (payer.Opening, payer.Secured)):
        return (
            f"{said}nothing is paid and nothing is locked: {_ON}, or `mpchan payer abandon` frees the coins"
        )
    delivered = price.sat * held
    owed = max(0, record.paid.sat - delivered)
    count = owed // price.sat
    whole = "the price of one piece" if count == 1 else f"the price of {count} pieces"
    lost = f"{owed} sat are lost at most, {whole}" if owed else "nothing is lost"
    terms = record.terms
    back = (terms.capacity - record.paid).sat
    if closed:
        rest = "once a block holds it, the same command buys the rest in another channel"
        return f"{said}{lost}; the close pays the other {back} sat back; {rest}"
    if not back:
        return f"{said}{lost}; {_ON}"
    return (
        f"{said}{lost}; the other {back} sat come back from {terms.refund_lock_time} on with "
        f"`mpchan payer refund --channel {terms.channel_id}`; {_ON}"
    )
