"""``payer open --again``: a way back for money that lies in a channel's 2-of-2, where no refund could spend it.

A funding that was replaced has another txid than its refund spends; one that left too early may have a request that is
too old by now; an address can be paid twice, or another amount than was agreed. In each case the payee can sign a
refund of what is there, under the same offer and for the same keys, once a block holds it.
"""

from __future__ import annotations

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import TxOut
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.construction.refund_first import refund_delay_rules
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import is_current
from mpchan.channel.opening import refund_lock_time
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms, is_within_limits, refund_fee
from mpchan.errors import NotPossible, Refused, TooEarly
from mpchan.party.common import (
    ENDED,
    counted_spend,
    current_tip,
    facts_if_any,
    from_now_on,
)
from mpchan.party.opening.awaited import take_again
from mpchan.party.opening.funding import find_conflict
from mpchan.party.opening.request import opened
from mpchan.party.payer import give_up, load
from mpchan.results.opening import Opened, Payable
from mpchan.units import ChainTip, OutPoint
from mpchan.values import frozen
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.wallet import Wallet


@frozen
class _Lock:
    """What all that pays to one channel's address has in common, whatever transaction does.

    Attributes:
        key_index, address, restored: as of ``PayerRecord`` and ``Asked``.
    """

    offer: Offer
    payer_key: PublicKey
    payer_script: bytes
    key_index: int | None
    address: str | None
    restored: bool


def open_again(
    wallet: Wallet, chain: Chain, outpoint: OutPoint, refund_delay: int | None = None
) -> Opened | Payable:
    """Ask for the refund of an output that pays to a channel's address, and that no refund spends yet.

    Openings under the same offer are given up for it. The same call again gives the same request, unless the payee
    would find that too old by now. Where nothing is exchanged, the refund is signed and stored at once.

    Raises:
        TooEarly: ``funding-unseen``, ``unconfirmed``.
        NotPossible: ``no-plan``; ``output-spent``; ``below-dust``; ``offer-used``, another channel under this offer has
            its funding; ``funding-early``, likewise, without its refund; ``refund-delay``.
        UsageError: ``wrong-role``.
        ChainError: out of reach, ``node-behind``.
    """
    taken = take_again(wallet, chain, outpoint)
    if taken is not None:
        return taken
    with wallet.lock():
        known = load(wallet, outpoint.name) if wallet.channels.knows(outpoint) else None
        if known is not None and payer.ever_funded(known.state) is not None:
            return _answer(wallet, known)
        output = _unspent(chain, outpoint)
        lock = _lock_of(wallet, output)
        tip = current_tip(chain, lock.offer.lock_time_unit)
        if known is not None and _still_serves(known, tip):
            return _answer(wallet, known)
        lock_time = refund_lock_time(lock.offer, tip, refund_delay, wallet.config.limits)
        terms = Terms(lock.offer, outpoint, output.value, lock.payer_key, lock.payer_script, lock_time)
        _require_worth(terms)
        _make_room(wallet, chain, terms)
        state = payer.Opening(terms, None, (), external=True)
        record = PayerRecord(lock.key_index, state, Asked(refund_delay, None, lock.address), lock.restored)
        wallet.channels.save(record, "opened", opened(wallet, record).hex)
        return _answer(wallet, record)


def _answer(wallet: Wallet, record: PayerRecord) -> Opened:
    wallet.channels.make_sure(record.terms.name)
    terms, why = record.terms, None
    if not is_within_limits(terms):
        why = f"the offer allows no channel of {terms.funding_value}"
    elif not is_current(terms.offer) and isinstance(record.state, payer.Opening):
        why = f"no channel begins any more under an offer of version {terms.offer.version}"
    text = f"refund-only: {why}: its refund can be signed, and the payee takes no payment in it"
    return opened(wallet, record, [] if why is None else [text])


def _unspent(chain: Chain, outpoint: OutPoint) -> TxOut:
    """The output, which a block holds and nothing spends."""
    tip = chain.tip()
    seen = chain.output(outpoint, not_before=from_now_on(tip))
    if seen is None:
        raise TooEarly("funding-unseen", f"the chain shows no unspent output {outpoint}")
    spend = counted_spend(outpoint, seen, tip)
    if spend is not None:
        raise NotPossible("output-spent", f"{spend.txid} spends {outpoint}: nothing is left to be refunded")
    if not seen.confirmations:
        raise TooEarly(
            "unconfirmed",
            f"{outpoint} is in no block yet, and could still be replaced",
            hint="the payee signs for it once a block holds it: run the command again then",
        )
    return seen.output


def _lock_of(wallet: Wallet, output: TxOut) -> _Lock:
    """The channel or plan whose address an output pays to."""
    for record in wallet.channels.readable():
        terms = record.terms
        if isinstance(record, PayerRecord) and terms.funding_txout.script_pubkey == output.script_pubkey:
            address = record.asked.address
            return _Lock(
                terms.offer, terms.payer_key, terms.payer_script, record.key_index, address, record.restored
            )
    plan = wallet.plans.find(output.script_pubkey)
    if plan is None:
        raise NotPossible(
            "no-plan",
            "this output pays to no channel that was opened or planned in this wallet",
            hint="is it TXID:VOUT of the payment to the channel's address, and not of its change?",
        )
    return _Lock(plan.offer, plan.payer_key, plan.payer_script, plan.key_index, plan.address, plan.restored)


def _still_serves(record: PayerRecord, tip: ChainTip) -> bool:
    """Whether the payee, should it not have signed yet, finds the request of an opening in time."""
    if not isinstance(record.state, (payer.Opening, payer.Secured)):
        return False
    try:
        enforce(refund_delay_rules(record.terms, tip))
    except Refused:
        return isinstance(record.state, payer.Secured)
    return True


def _require_worth(terms: Terms) -> None:
    least = refund_fee(terms.offer, terms.payer_script) + dust_limit(terms.payer_script)
    if terms.funding_value < least:
        raise NotPossible("below-dust", f"a refund of {terms.funding_value} costs more than it gives back")


def _is_void(chain: Chain, record: PayerRecord) -> bool:
    """Whether a block holds what took a coin of a funding that was never paid in."""
    if not isinstance(record.state, payer.Funded) or record.funding is None:
        return False
    conflict = find_conflict(chain, record.terms, record.funding)
    return conflict is not None and conflict.confirmed


def _make_room(wallet: Wallet, chain: Chain, terms: Terms) -> None:
    """Give up what else was begun under the offer; what its payee could still have updates of must have ended."""
    script = terms.funding_txout.script_pubkey
    for other in list(wallet.channels.readable()):
        if not isinstance(other, PayerRecord) or other.terms.outpoint == terms.outpoint:
            continue
        if other.terms.funding_txout.script_pubkey != script:
            continue
        facts = facts_if_any(chain, other.terms)
        if other.status(facts) in ENDED:
            continue
        if isinstance(other.state, (payer.Opening, payer.Secured)) or _is_void(chain, other):
            give_up(wallet, chain, other.terms.name)
        elif facts is not None and facts.funding is not None:
            raise NotPossible(
                "offer-used",
                f"channel {other.terms.channel_id} under the same offer has its funding, and has not ended",
                hint="close it first (`mpchan payer settle`, or `mpchan payer refund` at its time), and come back then",
            )
