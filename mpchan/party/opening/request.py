"""What makes an opening, and what one is answered with: coins, rate, and the channel that an offer serves already."""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.offer import Offer
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms, funding_output
from mpchan.errors import NotPossible
from mpchan.results.opening import Opened
from mpchan.units import Amount, FeeRate, LockTime, OutPoint
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.wallet import Wallet


def prepared(
    wallet: Wallet,
    chain: Chain,
    offer: Offer,
    capacity: Amount,
    lock_time: LockTime,
    rate: FeeRate,
    asked: Asked,
) -> PayerRecord:
    """A new opening; the indexes of its keys are on disk when this returns."""
    from mpchan.bitcoin.address import address_to_script
    from mpchan.channel.opening import capacity_rules
    from mpchan.party.holdings import holdings
    from mpchan.wallet.coins import build_funding, require_fee_within

    keys = wallet.fresh_keys()
    address = asked.address
    kinds = ["change"] if address is not None else ["change", "receive"]
    payer_script = (
        keys.script("receive", keys.next_index("receive"))
        if address is None
        else address_to_script(address, wallet.network)
    )
    enforce(capacity_rules(offer, capacity, payer_script))
    payer_key = keys.payer_key(offer.payee_key).public_key
    output = funding_output(offer, capacity, payer_key, payer_script, lock_time)
    change_script = keys.script("change", keys.next_index("change"))
    held = holdings(wallet, chain, keys)
    try:
        # confirmed coins alone: should an unconfirmed one be replaced, so would be the funding that the refund spends
        funding, spent = build_funding(held.confirmed, output, change_script, rate)
    except NotPossible as error:
        raise held.not_enough(error, held.confirmed) from None
    require_fee_within(funding, spent, wallet.config.limits.max_fee_rate)
    terms = Terms(offer, OutPoint(funding.txid, 0), output.value, payer_key, payer_script, lock_time)
    keys.allocate(*kinds)
    return PayerRecord(None, payer.Opening(terms, funding, spent), asked)


_FOR_ANOTHER = "the same command again gives the same request; for another, `mpchan payer abandon` it first"


def opened_so(record: PayerRecord, capacity: Amount, asked: Asked, *, external: bool) -> PayerRecord:
    """The channel that an offer serves already, when it was opened by the very same command."""
    terms = record.terms
    if terms.capacity != capacity:
        raise offer_is_taken(record)
    for option, now, then in (
        ("--refund-delay", asked.refund_delay, record.asked.refund_delay),
        ("--funding-fee-rate", asked.funding_fee_rate, record.asked.funding_fee_rate),
        ("--address", asked.address, record.asked.address),
    ):
        if now != then:
            raise NotPossible(
                "opened-otherwise",
                f"channel {terms.channel_id} was opened {_with(option, then)}, not {_with(option, now)}",
                hint=_FOR_ANOTHER,
            )
    if external != record.has_external_funding:
        whose = "another" if record.has_external_funding else "this"
        raise NotPossible(
            "opened-otherwise",
            f"channel {terms.channel_id} was opened with a funding of {whose} wallet",
            hint=_FOR_ANOTHER,
        )
    return record


def opened_for_another(offer: Offer) -> NotPossible:
    """The error of a funding by this wallet, where another one is told where to pay."""
    return NotPossible(
        "opened-otherwise",
        f"another wallet is awaited to fund the opening under offer {offer.offer_id}",
        hint=f"`mpchan payer open OFFER --external` tells what has come; or give it up with "
        f"`mpchan payer abandon --channel {offer.offer_id}`",
    )


def _with(option: str, value: object) -> str:
    return f"without {option}" if value is None else f"with {option} {value}"


def offer_is_taken(record: PayerRecord, hint: str | None = None) -> NotPossible:
    """The error of a second channel under one offer."""
    terms = record.terms
    return NotPossible(
        "offer-used",
        f"offer {terms.offer.offer_id} serves channel {terms.channel_id} of {terms.capacity} already",
        hint=hint
        or "an offer serves one channel: ask the payee for another, or `mpchan payer abandon` the first",
    )


def opened(wallet: Wallet, record: PayerRecord, warnings: Sequence[str] = ()) -> Opened:
    """The answer to an opening: the request for the refund. What another wallet pays may lie there before it."""
    terms = record.terms
    foreign = record.has_external_funding or isinstance(record.state, payer.Abandoned)
    key = wallet.keys.key_of(record) if foreign else None
    return Opened(
        channel=terms.channel_id,
        capacity_sat=terms.capacity.sat,
        funding_txid=str(terms.outpoint.txid),
        funding_vout=terms.outpoint.vout,
        funding_sat=terms.funding_value.sat,
        refund_lock_time=terms.refund_lock_time.value,
        hex=payer.refund_request(record.state, key).to_hex(),
        warnings=tuple(warnings),
    )
