"""Openings: refunds that were signed for strangers, until the chain shows a funding.

Whoever asks a seller for a refund leaves one line in ``openings/notes``. The line gives back the channel's terms, given
the published offer that the buyer's wish answers; so the same request gets the same signature again, and no other one
for the outpoint, the offer or the payer's key gets any. A channel is made of it when the chain first shows the funding:
by whatever message needs it, or in a watcher's round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.terms import Terms
from mpchan.party.common import gather_facts
from mpchan.units import OutPoint
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.opening import Opening


def record_of(wallet: Wallet, opening: Opening) -> PayeeRecord:
    """The channel that an opening may become."""
    from mpchan.party.opening.terms import terms_of

    return PayeeRecord(None, payee.Active(terms_of(wallet, opening)))


def opening_at(wallet: Wallet, outpoint: OutPoint) -> Opening | None:
    """The opening on an outpoint on which no channel stands."""
    return None if wallet.channels.knows(outpoint) else wallet.openings.find(outpoint)


def names_funded_by(wallet: Wallet, transaction: Transaction) -> list[str]:
    """The names of the openings that a transaction may fund."""
    places = wallet.openings.of_funding(transaction.txid)
    return [place.name for place in places if not wallet.channels.knows(place)]


def make_channel(wallet: Wallet, name: str) -> None:
    """Make a channel of an opening, durable on return; nothing where there is none, or the channel is there."""
    outpoint = OutPoint.parse(name)
    if opening_at(wallet, outpoint) is None:
        return
    with wallet.lock():
        opening = opening_at(wallet, outpoint)
        if opening is None:
            return
        record = record_of(wallet, opening)
        reply = payee.signed_refund(record.terms, wallet.keys.key_of(record)).to_hex()
        wallet.channels.save(record, "refund-signed", reply)


def is_shown(chain: Chain, terms: Terms) -> bool:
    """Whether the chain shows the agreed funding, be it in the mempool."""
    return gather_facts(chain, terms).funding == terms.funding_txout
