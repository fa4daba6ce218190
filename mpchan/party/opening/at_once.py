"""``payer open`` where nothing is exchanged before the funding: the refund and the funding are signed at once.

The refund needs no signature of the payee, so nothing is asked of it. What leaves, the funding, leaves after the
complete refund and itself are on the disk.
"""

from __future__ import annotations

from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.construction.base import REFUND
from mpchan.channel.offer_rules import lasting_rules
from mpchan.channel.rules import Check, enforce
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms
from mpchan.party.common import current_tip, now_by
from mpchan.party.fees import close_warnings
from mpchan.party.opening.funding import is_sent
from mpchan.party.payer import send_funding
from mpchan.party.sending import Leaving, sending
from mpchan.results.opening import OpenedAtOnce
from mpchan.values import replace
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.storage import write_durably
from mpchan.wallet.wallet import Wallet


def open_at_once(wallet: Wallet, chain: Chain, record: PayerRecord, leaving: Leaving) -> OpenedAtOnce:
    """Sign refund and funding of an opening, store both, and send the funding; of a channel that has begun, again.

    The wallet is held.
    """
    terms = record.terms
    with sending(wallet, terms.name) as out:
        if isinstance(record.state, payer.Opening):
            out.require_disk()
            if leaving.confirm is not None:
                leaving.confirm(terms)
            record = _signed(wallet, record)
            fresh = True
        else:
            fresh = False
        state = record.state
        if isinstance(state, (payer.Opening, payer.Secured, payer.Abandoned)):
            raise TypeError("a channel without an exchange is funded, or was given up")
        funded = payer.funded_of(state)
        if leaving.refund_out is not None:
            # through a symbolic link: the copy belongs where that leads, perhaps on another disk
            write_durably(leaving.refund_out.resolve(), (funded.refund.to_hex() + "\n").encode())
        funding = funded.funding
        if funding is None:
            raise TypeError("this wallet has made the funding")
        sends = leaving.send and chain.sends
        message = funding.to_hex()
        if sends and not fresh and not is_sent(chain, terms):
            enforce(_in_time_rules(chain, terms))
        if isinstance(state, payer.Funded) and sends and not state.sends:
            record = replace(record, state=replace(state, sends=True))
        if fresh:
            wallet.channels.save(record, "funded", message)
        elif record.state != state:
            out.note(record, "funded", message)
        if sends:
            send_funding(wallet, chain, terms, funding)
    if not sends:
        out.require_disk()
    result = OpenedAtOnce(
        channel=terms.channel_id,
        capacity_sat=terms.capacity.sat,
        funding_txid=str(terms.outpoint.txid),
        funding_vout=terms.outpoint.vout,
        funding_sat=terms.funding_value.sat,
        refund_lock_time=terms.refund_lock_time.value,
        broadcast=sends,
        hex=message,
        warnings=tuple(close_warnings(terms, chain)),
    )
    return out.told(f"the funding {terms.outpoint.txid}", result)


def _in_time_rules(chain: Chain, terms: Terms) -> Check[None]:
    """Of a funding that stayed here: its channel can still be paid in."""
    tip = current_tip(chain, terms.refund_lock_time.unit)
    yield from payer.time_left_rules(terms, tip)
    yield from lasting_rules(terms.offer, now_by(tip))


def with_refund(state: payer.Opening, key: ChannelKey) -> payer.Secured:
    """An opening with its complete refund, which takes no signature of the payee."""
    terms = state.terms
    refund = terms.lock.complete(terms.schedule.build(REFUND), {terms.payer_key: key.sign_refund(terms)})
    return payer.Secured(terms, state.funding, state.spent, refund, state.external)


def _signed(wallet: Wallet, record: PayerRecord) -> PayerRecord:
    """An opening with its refund and its funding signed: a channel. Nothing of it is written down yet."""
    state = record.state
    if not isinstance(state, payer.Opening):
        raise TypeError("only an opening is signed")
    secured = with_refund(state, wallet.keys.key_of(record))
    funding = None if state.funding is None else wallet.keys.sign_coins(state.funding, state.spent)
    return replace(record, state=payer.fund(secured, funding, sends=False))
