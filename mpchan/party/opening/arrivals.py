"""What comes to the addresses of openings that any wallet funds: each payment with its refund.

The refund is signed, and stored with a record of its own, as soon as the payment is known, whoever has sent it and
however much it is. One payment that the offer allows is the channel; in all the others nothing is ever paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpchan.bitcoin.script import dust_limit
from mpchan.chain.base import Chain, Coin
from mpchan.channel import payer
from mpchan.channel.terms import Terms, refund_fee
from mpchan.errors import StorageError
from mpchan.party.check.payer_rules import opened_under
from mpchan.party.common import gather_facts, load_as
from mpchan.party.opening.at_once import with_refund
from mpchan.results.opening import Arrival
from mpchan.units import Amount, ChainTip, Height, OutPoint
from mpchan.values import replace
from mpchan.wallet.awaited import AwaitedFunding
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.wallet import Wallet

_MOST_TOLD = 20
"""So many warnings; whoever knows the address can send any number of small payments."""

Payment = tuple[OutPoint, Amount]
"""An output at the address of an opening, and what it pays."""


def take_what_came(wallet: Wallet, chain: Chain, openings: Sequence[AwaitedFunding]) -> list[Coin]:
    """Sign and store the refunds of all that has come to the addresses of openings; what is worth none is returned.

    Raises:
        StorageError: ``passphrase-…``, the keys are closed; the message says what waits for them.
    """
    by_script = {opening.script_pubkey: opening for opening in openings}
    coins = chain.payments({script: opening.since for script, opening in by_script.items()})
    small: list[Coin] = []
    come: dict[bytes, list[Payment]] = {}
    for coin in coins:
        script = coin.output.script_pubkey
        if wallet.channels.knows(coin.outpoint):
            continue
        if coin.output.value < least_refunded(by_script[script]):
            small.append(coin)
        else:
            come.setdefault(script, []).append((coin.outpoint, coin.output.value))
    if come:
        with wallet.lock():
            for script, payments in come.items():
                take(wallet, chain, by_script[script], payments)
    return small


def take_first_payments(wallet: Wallet, chain: Chain) -> None:
    """Look for the payments to addresses to which none has come yet, before a command chooses among the channels.

    Raises:
        StorageError: as ``take_what_came``.
    """
    if not chain.sends:
        return
    openings = still_watched(wallet, chain.tip())
    take_what_came(wallet, chain, [each for each in openings if not records_at(wallet, each.script_pubkey)])


def still_watched(wallet: Wallet, tip: ChainTip) -> list[AwaitedFunding]:
    """The openings whose addresses are looked at without being asked for: until their refunds are final."""
    return [opening for opening in wallet.awaited if not opening.refund_at.is_final(tip)]


def least_refunded(opening: AwaitedFunding) -> Amount:
    """The smallest payment of which a refund is left."""
    return refund_fee(opening.offer, opening.payer_script) + dust_limit(opening.payer_script)


def take(
    wallet: Wallet, chain: Chain, opening: AwaitedFunding, payments: Iterable[Payment], *, named: bool = False
) -> None:
    """Keep payments to the address of an opening, each with its refund; the best of them first. The wallet is held.

    Args:
        named: whether the user tells of them, so that the chain need not show them yet.
    """
    fresh = [payment for payment in payments if not wallet.channels.knows(payment[0])]
    left = _unspent(chain, opening, fresh, named=named)
    for outpoint, value in sorted(left, key=lambda each: _rank(opening, each)):
        within = opening.least <= value <= opening.most
        serves = within and not opening.given_up and not _is_served(wallet, chain, opening)
        _keep(wallet, opening, outpoint, value, refund_only=not serves)


def _rank(opening: AwaitedFunding, payment: Payment) -> tuple[bool, int, OutPoint]:
    """What was asked for comes first, then what is largest."""
    outpoint, value = payment
    asked = None if opening.capacity is None else opening.capacity + opening.reserve
    return value != asked, -value.sat, outpoint


def _unspent(
    chain: Chain, opening: AwaitedFunding, payments: Sequence[Payment], *, named: bool
) -> list[Payment]:
    """Those that no block spends; after a restore the lost wallet's channel may have ended."""
    if not chain.sends or not payments:
        return list(payments)
    bound = Height(max(opening.since, 1))
    seen = chain.outputs({outpoint: bound for outpoint, _ in payments})
    left = []
    for outpoint, value in payments:
        status = seen.get(outpoint)
        if named if status is None else status.spend is None or not status.spend.confirmations:
            left.append((outpoint, value))
    return left


def _keep(
    wallet: Wallet, opening: AwaitedFunding, outpoint: OutPoint, value: Amount, *, refund_only: bool
) -> None:
    """A record of a payment, with its refund signed; durable on return."""
    key, script = opening.payer_key, opening.payer_script
    terms = Terms(opening.offer, outpoint, value, key, script, opening.refund_at)
    asked = Asked(opening.refund_delay, None, opening.address)
    record = PayerRecord(None, payer.Opening(terms, None, (), external=True), asked, opening.restored)
    try:
        signing = wallet.keys.key_of(record)
        secured = with_refund(payer.Opening(terms, None, (), external=True), signing)
    except StorageError as error:
        came = f"{value} came to the address of offer {opening.offer.offer_id}"
        text = f"{came}, and its refund is not signed yet: {error.message}"
        raise StorageError(error.slug, text, hint=error.hint) from None
    state = replace(payer.fund(secured, None, sends=False), refund_only=refund_only)
    wallet.channels.save(replace(record, state=state), "paid-in")


def _is_served(wallet: Wallet, chain: Chain, opening: AwaitedFunding) -> bool:
    """Whether another payment is the opening's channel; one that is not to be seen any more gives way."""
    for found in opened_under(wallet, opening.offer):
        if isinstance(found.state, payer.Abandoned) or found.is_refund_only:
            continue
        with wallet.channels.lock(found.terms.name):
            record = load_as(PayerRecord, wallet, found.terms.name)
            state = record.state
            if not isinstance(state, payer.Funded) or not state.external or state.paid or not chain.sends:
                return True
            if gather_facts(chain, record.terms).funding is not None:
                return True
            gone = payer.abandon(state, funding_is_void=True)
            wallet.channels.save(replace(record, state=gone), "replaced")
    return False


def records_at(wallet: Wallet, script_pubkey: bytes) -> list[PayerRecord]:
    """The channels, and other payments, at one address in which this wallet is the payer."""
    return [
        record
        for record in wallet.channels.readable()
        if isinstance(record, PayerRecord) and record.terms.funding_txout.script_pubkey == script_pubkey
    ]


# what it is ---------------------------------------------------------------------------------------


def arrivals(
    wallet: Wallet, chain: Chain, opening: AwaitedFunding, small: Iterable[Coin] = ()
) -> list[Arrival]:
    """What has come to the address of an opening, the channel first."""
    found = [arrival_of(chain, opening, record) for record in records_at(wallet, opening.script_pubkey)]
    found += [dust_arrival(opening, coin) for coin in small]
    return sorted(found, key=lambda arrival: (arrival.what != "channel", arrival.what == "dust"))


def dust_arrival(opening: AwaitedFunding, coin: Coin) -> Arrival:
    """A payment that is worth no refund."""
    return Arrival(
        channel=None,
        outpoint=str(coin.outpoint),
        value_sat=coin.output.value.sat,
        refund_sat=0,
        refund_lock_time=opening.refund_at.value,
        confirmations=coin.confirmations,
        what="dust",
    )


def arrival_of(chain: Chain, opening: AwaitedFunding, record: PayerRecord) -> Arrival:
    """A payment that is kept with its refund."""
    terms, state = record.terms, record.state
    facts = gather_facts(chain, terms) if chain.sends else None
    if isinstance(state, payer.Abandoned):
        what = "replaced"
    elif terms.funding_value < opening.least:
        what = "too-little"
    elif terms.funding_value > opening.most:
        what = "too-much"
    elif record.is_refund_only:
        what = "given-up" if opening.given_up else "second"
    else:
        what = "channel"
    return Arrival(
        channel=terms.channel_id,
        outpoint=str(terms.outpoint),
        value_sat=terms.funding_value.sat,
        refund_sat=(terms.funding_value - terms.refund_fee).sat,
        refund_lock_time=terms.refund_lock_time.value,
        confirmations=None if facts is None or facts.funding is None else facts.confirmations,
        what=what,
    )


def arrival_warnings(opening: AwaitedFunding, arrived: Iterable[Arrival]) -> list[str]:
    """What is wrong with each payment, after its stable name, and what becomes of it."""
    back = f"`mpchan payer refund` takes it back from {opening.refund_at} on"
    why = {
        "too-little": f"is below the {opening.least} that a channel needs; {back}",
        "too-much": f"is above the {opening.most} that the offer allows; {back}",
        "second": f"is no second channel, nothing is paid in it; {back}",
        "given-up": f"came after the opening was given up; {back}",
        "dust": "is less than its refund would cost: it is lost",
        "replaced": "is not to be seen any more, another payment has taken its place, with a refund of its own",
    }
    told = [each for each in arrived if each.what in why]
    warnings = [
        f"{each.what}: the payment of {Amount(each.value_sat)} at {each.outpoint} {why[each.what]}"
        for each in told[:_MOST_TOLD]
    ]
    if len(told) > _MOST_TOLD:
        warnings.append(f"{len(told) - _MOST_TOLD} more payments that are no channel")
    return warnings
