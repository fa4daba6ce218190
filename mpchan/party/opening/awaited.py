"""Openings that any wallet funds by paying an address: where nothing is exchanged before the funding.

Whatever is paid to the address can be refunded without the payee (``arrivals``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.bitcoin.uri import payment_uri
from mpchan.chain.base import Chain, Coin
from mpchan.channel import payer
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Status
from mpchan.channel.offer import Offer
from mpchan.channel.opening import capacity_rules, refund_lock_time
from mpchan.channel.rules import enforce
from mpchan.channel.terms import smallest_capacity
from mpchan.errors import NotPossible, TooEarly, UsageError
from mpchan.party.check.payer_rules import new_offer_rules, opened_under
from mpchan.party.common import current_tip, from_now_on
from mpchan.party.fees import outside_warning
from mpchan.party.opening.arrivals import (
    Payment,
    arrival_warnings,
    arrivals,
    least_refunded,
    records_at,
    take,
    take_what_came,
)
from mpchan.party.opening.request import offer_is_taken
from mpchan.results.opening import Arrival, Payable, Standing
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.awaited import AwaitedFunding
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.storage import write_durably
from mpchan.wallet.wallet import Wallet

_OUTPUTS_AT_ONCE = 100


def open_by_address(
    wallet: Wallet,
    chain: Chain,
    offer: Offer,
    capacity: Amount | None,
    asked: Asked,
    refund_out: Path | None = None,
) -> Payable:
    """``payer open --external`` where nothing is exchanged: where to pay, and what has come.

    The address is on disk when this returns; the same call again tells the same one.

    Args:
        refund_out: also write the complete refund of what has come there.
    """
    with wallet.lock():
        opening = wallet.awaited.find(offer.offer_id)
        if opening is None:
            opening = _new(wallet, chain, offer, capacity, asked)
        else:
            opening = _opened_so(wallet, opening, offer, capacity, asked)
    small = take_what_came(wallet, chain, [opening])
    return answered(wallet, chain, opening, small, refund_out)


def _new(wallet: Wallet, chain: Chain, offer: Offer, capacity: Amount | None, asked: Asked) -> AwaitedFunding:
    """An opening whose keys and address are on disk when this returns."""
    records = opened_under(wallet, offer)
    for record in records:
        if not isinstance(record.state, payer.Abandoned):
            raise offer_is_taken(record)
    enforce(new_offer_rules(wallet, chain, offer, [record.terms.name for record in records]))
    tip = current_tip(chain, offer.lock_time_unit)
    refund_at = refund_lock_time(offer, tip, asked.refund_delay, wallet.config.limits)
    keys = wallet.fresh_keys()
    if asked.address is not None:
        script = address_to_script(asked.address, wallet.network)
    else:
        script = keys.script("receive", keys.next_index("receive"))
    enforce(capacity_rules(offer, capacity or smallest_capacity(offer, script), script))
    payer_key = keys.payer_key(offer.payee_key).public_key
    opening = AwaitedFunding(
        offer.without_pieces(),
        capacity,
        refund_at,
        payer_key,
        script,
        asked.address,
        asked.refund_delay,
        tip.height,
    )
    if asked.address is None:
        keys.allocate("receive")
    wallet.awaited.save(opening)
    return opening


def _opened_so(
    wallet: Wallet, opening: AwaitedFunding, offer: Offer, capacity: Amount | None, asked: Asked
) -> AwaitedFunding:
    """The opening that is there, for another amount where one is named; on disk when this returns."""
    if opening.offer != offer.without_pieces():
        raise UsageError(
            "wrong-offer", f"the opening under offer {offer.offer_id} is of an offer with other terms"
        )
    for option, now, then in (
        ("--refund-delay", asked.refund_delay, opening.refund_delay),
        ("--address", asked.address, opening.address),
    ):
        if now is not None and now != then:
            what = f"with {option} {then}" if then is not None else f"without {option}"
            raise NotPossible(
                "opened-otherwise",
                f"the opening under offer {offer.offer_id} was made {what}, and its address cannot change",
                hint="leave the option out, or ask the payee for another offer",
            )
    if capacity is not None:
        enforce(capacity_rules(offer, capacity, opening.payer_script))
    changed = replace(opening, capacity=capacity or opening.capacity, given_up=False)
    if changed != opening:
        wallet.awaited.save(changed)
    return changed


def give_up_opening(wallet: Wallet, chain: Chain, opening: AwaitedFunding) -> Standing | None:
    """``payer abandon`` of an opening to whose address nothing has come; None where it has its channel.

    What comes all the same is kept with its refund, and nothing more.
    """
    if chain.sends:
        take_what_came(wallet, chain, [opening])
    if any(record.is_going for record in records_at(wallet, opening.script_pubkey)):
        return None
    with wallet.lock():
        wallet.awaited.save(replace(opening, given_up=True))
    return Standing(opening.offer.offer_id, Status.ABANDONED.value)


# what the user tells of ---------------------------------------------------------------------------


def pays_awaited(wallet: Wallet, message: Psbt | Transaction) -> bool:
    """Whether a transaction, signed or not, pays to the address of an opening."""
    outputs = message.tx.outputs if isinstance(message, Psbt) else message.outputs
    scripts = {output.script_pubkey for output in outputs}
    return any(opening.script_pubkey in scripts for opening in wallet.awaited)


def take_funding(
    wallet: Wallet,
    chain: Chain,
    told: Txid | Transaction,
    offer: Offer | None,
    refund_out: Path | None = None,
) -> Payable:
    """``payer open --funding``: the payment in this transaction, which the chain need not show yet.

    Raises:
        NotPossible: ``no-plan``, it pays to no opening's address; ``below-dust``.
        TooEarly: ``funding-unseen``, the chain does not show a transaction of which the id alone is known.
    """
    openings = list(wallet.awaited) if offer is None else [_opening_under(wallet, offer)]
    by_script = {opening.script_pubkey: opening for opening in openings}
    outputs = told.outputs if isinstance(told, Transaction) else _outputs_of(chain, told)
    txid = told.txid if isinstance(told, Transaction) else told
    paid: dict[bytes, list[Payment]] = {}
    for vout, output in enumerate(outputs):
        if output is not None and output.script_pubkey in by_script:
            paid.setdefault(output.script_pubkey, []).append((OutPoint(txid, vout), output.value))
    if not paid:
        raise NotPossible(
            "no-plan",
            f"no output of transaction {txid} pays to the address of an opening of this wallet",
            hint="`mpchan payer open OFFER [AMOUNT] --external` tells where to pay",
        )
    script, payments = next(iter(paid.items()))
    for other in paid:
        if other != script:  # one transaction can fund several channels
            _take_named(wallet, chain, by_script[other], paid[other])
    return _taken(wallet, chain, by_script[script], payments, refund_out)


def _opening_under(wallet: Wallet, offer: Offer) -> AwaitedFunding:
    opening = wallet.awaited.find(offer.offer_id)
    if opening is None:
        raise NotPossible(
            "no-plan",
            f"no wallet is awaited to fund an opening under offer {offer.offer_id}",
            hint="`mpchan payer open OFFER [AMOUNT] --external` tells where to pay",
        )
    return opening


def _outputs_of(chain: Chain, txid: Txid) -> list[TxOut | None]:
    """The outputs of a transaction that the chain shows, without those that it knows nothing of."""
    found: list[TxOut | None] = []
    bound = from_now_on(chain.tip())
    while True:
        places = [OutPoint(txid, vout) for vout in range(len(found), len(found) + _OUTPUTS_AT_ONCE)]
        seen = chain.outputs(dict.fromkeys(places, bound))
        if not seen:
            break
        found += [seen[place].output if place in seen else None for place in places]
    if not found:
        raise TooEarly(
            "funding-unseen",
            f"the chain shows no unspent output of transaction {txid}",
            hint="once a block holds it, `mpchan payer open OFFER --external` finds it by itself",
        )
    return found


def take_again(wallet: Wallet, chain: Chain, outpoint: OutPoint) -> Payable | None:
    """``payer open --again`` where nothing is exchanged: a payment to a channel's address gets a refund at once.

    None where the output pays to no such address, or is not to be seen.

    Raises:
        NotPossible: ``below-dust``.
    """
    if wallet.channels.knows(outpoint):
        record = wallet.channels.load(outpoint.name)
        if not isinstance(record, PayerRecord) or construction_of(record.terms.offer).has_exchange:
            return None
        return answered(wallet, chain, _opening_of(wallet, record))
    seen = chain.output(outpoint, not_before=from_now_on(chain.tip()))
    opening = None if seen is None else _opening_at(wallet, seen.output.script_pubkey)
    if seen is None or opening is None:
        return None
    return _taken(wallet, chain, opening, [(outpoint, seen.output.value)], None)


def _opening_at(wallet: Wallet, script_pubkey: bytes) -> AwaitedFunding | None:
    for opening in wallet.awaited:
        if opening.script_pubkey == script_pubkey:
            return opening
    for record in records_at(wallet, script_pubkey):
        if not construction_of(record.terms.offer).has_exchange:
            return _opening_of(wallet, record)
    return None


def _opening_of(wallet: Wallet, record: PayerRecord) -> AwaitedFunding:
    """The opening to whose address a channel was paid, as far as it matters, whichever wallet has paid."""
    terms, asked = record.terms, record.asked
    opening = wallet.awaited.find(terms.offer.offer_id)
    if opening is not None and opening.script_pubkey == terms.funding_txout.script_pubkey:
        return opening
    return AwaitedFunding(
        terms.offer,
        None,
        terms.refund_lock_time,
        terms.payer_key,
        terms.payer_script,
        asked.address,
        asked.refund_delay,
        0,
        restored=record.restored,
    )


def _taken(
    wallet: Wallet, chain: Chain, opening: AwaitedFunding, payments: list[Payment], refund_out: Path | None
) -> Payable:
    if not _take_named(wallet, chain, opening, payments):
        outpoint, value = payments[0]
        raise NotPossible("below-dust", f"a refund of {value} at {outpoint} costs more than it gives back")
    return answered(wallet, chain, opening, refund_out=refund_out)


def _take_named(wallet: Wallet, chain: Chain, opening: AwaitedFunding, payments: list[Payment]) -> bool:
    """Keep those payments of which a refund is left; whether there are any."""
    worth = [payment for payment in payments if payment[1] >= least_refunded(opening)]
    if worth:
        with wallet.lock():
            take(wallet, chain, opening, worth, named=True)
    return bool(worth)


# the answer ---------------------------------------------------------------------------------------


def answered(
    wallet: Wallet,
    chain: Chain,
    opening: AwaitedFunding,
    small: Iterable[Coin] = (),
    refund_out: Path | None = None,
) -> Payable:
    """Where to pay, and what has come.

    Args:
        small: payments that are worth no refund.
        refund_out: also write the complete refund of what has come there.
    """
    offer = opening.offer
    arrived = arrivals(wallet, chain, opening, small)
    warnings = arrival_warnings(opening, arrived)
    if refund_out is not None:
        warnings += _write_refund(wallet, opening, arrived, refund_out)
    if opening.address is not None:
        warnings.append(outside_warning(opening.address))
    before = pay_before(opening)
    first = arrived[0] if arrived else None
    if (
        chain.sends
        and (first is None or first.what != "channel")
        and before <= opening.refund_at.now(chain.tip())
    ):
        warnings.append(
            f"too-late: the chain has reached {before}: pay nothing any more, ask for another offer"
        )
    script = opening.script_pubkey
    address = str(script_to_address(script, offer.network))
    amount = None if opening.capacity is None else opening.capacity + opening.reserve
    return Payable(
        offer_id=offer.offer_id,
        address=address,
        uri=payment_uri(address, amount, f"mpchan {offer.offer_id}"),
        descriptor=construction_of(offer).descriptor(offer, opening.payer_key, opening.refund_at),
        amount_sat=None if amount is None else amount.sat,
        least_sat=opening.least.sat,
        most_sat=opening.most.sat,
        refund_lock_time=opening.refund_at.value,
        pay_before=before,
        payer_address=script_to_address(opening.payer_script, offer.network),
        arrived=tuple(arrived),
        warnings=tuple(warnings),
    )


def pay_before(opening: AwaitedFunding) -> int:
    """From here on too little time is left for a payment in the channel, in the offer's unit."""
    offer = opening.offer
    return opening.refund_at.value - offer.settle_window - offer.confirmation_delay


def _write_refund(
    wallet: Wallet, opening: AwaitedFunding, arrived: Sequence[Arrival], target: Path
) -> list[str]:
    """Write the refund of the channel, else of what else has come; through a symbolic link, where that leads."""
    kept = [each for each in arrived if each.channel is not None]
    if not kept:
        return [f"nothing has come yet, so nothing is written to {target}: run the command again then"]
    record = wallet.channels.load(OutPoint.parse(kept[0].outpoint).name)
    funded = payer.ever_funded(record.state) if isinstance(record, PayerRecord) else None
    if funded is None:
        raise TypeError("what has come is kept with its refund")
    write_durably(target.resolve(), (funded.refund.to_hex() + "\n").encode())
    return []
