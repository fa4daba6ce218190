"""What a message carries beside its transaction: proprietary fields of the PSBT with the identifier ``mpchan``.

    subtype 0   the offer, in its canonical form: the payee need not have kept it
    subtype 1   in a refund request the payer's signature, in an update that opens a channel the payer's scriptPubKey

Both are global fields (BIP-0174, "Proprietary Use Type").
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.channel.offer import Offer

_IDENTIFIER, _OFFER, _MORE = b"mpchan", 0, 1


def with_offer(psbt: Psbt, offer: Offer) -> Psbt:
    """A message that brings its offer along; one of version 1 does not."""
    if offer.version == 1:
        return psbt
    return psbt.with_proprietary(_IDENTIFIER, _OFFER, offer.canonical())


def carried_offer(psbt: Psbt) -> Offer | None:
    """The offer that a message brings along; None where it brings none.

    Raises:
        ParseError: as ``Offer.from_canonical``.
    """
    data = psbt.global_fields.proprietary(_IDENTIFIER, _OFFER)
    return None if data is None else Offer.from_canonical(data)


def carries(psbt: Psbt, offer: Offer) -> bool:
    """Whether a message brings this very offer along."""
    return psbt.global_fields.proprietary(_IDENTIFIER, _OFFER) == offer.canonical()


def with_more(psbt: Psbt, data: bytes) -> Psbt:
    """A message with what stands in subtype 1."""
    return psbt.with_proprietary(_IDENTIFIER, _MORE, data)


def carried_more(psbt: Psbt) -> bytes | None:
    """What stands in subtype 1; None where nothing does."""
    return psbt.global_fields.proprietary(_IDENTIFIER, _MORE)
