"""The payee's commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.limits import PayerLimits
from mpchan.channel.messages import envelope_rules
from mpchan.channel.offer import Offer
from mpchan.channel.refund_request import refund_request_rules, requested_keys
from mpchan.channel.rules import enforce
from mpchan.channel.scheme import scheme_of
from mpchan.channel.terms import Terms
from mpchan.errors import ChainError, MpchanError, NotPossible, ParseError, Refused, UsageError
from mpchan.party.common import (
    Result,
    broadcast,
    earliest_spend,
    facts_if_any,
    from_now_on,
    gather_facts,
    named_by,
    spent_outpoint,
    still_going,
    tip_for,
    to_give_up,
    with_warnings,
)
from mpchan.units import ChainTip, FeeRate, OutPoint
from mpchan.values import replace
from mpchan.wallet.config import offer_defaults
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import OwnOffer, Wallet, channel_name

if TYPE_CHECKING:
    from mpchan.wallet.records import Record

MIN_SECONDS_WINDOW = 6 * 3600
"""A shorter settle window in seconds needs ``--force``: median time lags and can be bent by miners by hours."""


def _load(wallet: Wallet, name: str, *, wrong: type[MpchanError] = UsageError) -> PayeeRecord:
    """The channel, which must be one in which this wallet is the payee.

    Args:
        wrong: what is raised in the other role; ``Refused`` where the counterparty's message named the channel.
    """
    record = wallet.load_channel(name)
    if not isinstance(record, PayeeRecord):
        raise wrong("wrong-role", f"in channel {name[:16]} this wallet is the payer")
    return record


def offer(
    wallet: Wallet,
    chain: Chain,
    changes: Mapping[str, Any],
    *,
    like: str | None = None,
    address: str | None = None,
    force: bool = False,
) -> Result:
    """``payee offer``: new terms for one channel, with a key of their own.

    A fee rate that neither ``changes`` nor ``like`` nor wallet.toml names is the chain's estimate.

    Args:
        changes: keys of the offer's TOML text, over the wallet's usual terms.
        like: another own offer whose terms are the starting point.
        address: where to be paid instead of a fresh address of this wallet.
    """
    from mpchan.party.fees import outside_warning, require_within

    terms = {**_start(wallet, changes, like), **changes}
    warnings = _set_rate(terms, chain, wallet.config.limits)
    with wallet.lock():
        keys = wallet.fresh_keys()
        index = keys.next_index("channel")
        if address is None:
            script = keys.script("receive", keys.next_index("receive"))
            address = script_to_address(script, wallet.network)
            kinds = ["channel", "receive"]
        else:
            script = address_to_script(address, wallet.network)
            if script not in keys.scripts():
                warnings.append(outside_warning(address))
            kinds = ["channel"]
        table = {
            "version": 1,
            "offer_id": wallet.new_offer_id(),
            "network": wallet.network.name,
            "scheme": "decrementing",
            "payee_pubkey": keys.channel_key(index).public_key.sec.hex(),
            "payee_address": address,
            **terms,
        }
        new = _checked(table)
        require_within(new.fee_rate, wallet.config.limits, "an offer")
        _check_window(new, wallet, force)
        keys.allocate(*kinds)
        wallet.save_offer(OwnOffer(new, index))
    result = {
        "offer_id": new.offer_id,
        "payee_pubkey": new.payee_key.sec.hex(),
        "payee_address": new.payee_address,
        "toml": new.to_toml(),
    }
    return with_warnings(result, warnings)


_RATE = "fee_rate_sat_per_kvb"


def _set_rate(terms: dict[str, Any], chain: Chain, limits: PayerLimits) -> list[str]:
    """Fill a fee rate in where none is named; what people should know about the rate.

    Raises:
        ChainError: out of reach.
        NotPossible: ``fee-rate-high``.
    """
    from mpchan.party.fees import estimated_rate, relay_warnings

    what = "a close under this offer"
    if _RATE in terms:
        named = terms[_RATE]
        return relay_warnings(FeeRate(named), chain, what)
    try:
        rate, warnings = estimated_rate(chain, limits, what)
    except ChainError as error:
        other = "or name the rate yourself with --fee-rate"
        hint = other if error.hint is None else f"{error.hint}; {other}"
        raise ChainError(error.slug, error.message, hint=hint) from error
    terms[_RATE] = rate.sat_per_kvb
    return warnings


_IDENTITY = ("version", "offer_id", "network", "scheme", "payee_pubkey", "payee_address", "sale")


def _start(wallet: Wallet, changes: Mapping[str, Any], like: str | None) -> dict[str, Any]:
    if like is None:
        return offer_defaults(wallet.config, changes.get("lock_time_unit"))
    table = wallet.load_offer(like).offer.to_dict()
    return {key: value for key, value in table.items() if key not in _IDENTITY}


def _checked(table: Mapping[str, Any]) -> Offer:
    """The offer, or why these terms make none: a mistake on the command line or in wallet.toml."""
    try:
        return Offer.from_dict(table)
    except ParseError as error:
        raise UsageError(error.slug, error.message, hint=error.hint) from None


def _check_window(new: Offer, wallet: Wallet, force: bool) -> None:
    short = new.lock_time_unit == "seconds" and new.settle_window < MIN_SECONDS_WINDOW
    if short and wallet.network.name != "regtest" and not force:
        raise UsageError(
            "short-window",
            f"settle_window of {new.settle_window} s is below {MIN_SECONDS_WINDOW} s",
            hint="median time can lag by hours; --force if you know better",
        )


def sign_refund(wallet: Wallet, chain: Chain, psbt: Psbt) -> Result:
    """``payee sign-refund``: check a refund request against the offer that it names, and sign it, once per outpoint."""
    keys = requested_keys(psbt)
    outpoint = spent_outpoint(psbt)
    with wallet.lock():
        own = wallet.offer_for_keys(keys)
        if wallet.has_channel(outpoint):
            terms, index = _signed_before(wallet, psbt, own)
        else:
            tip = tip_for(chain, own.offer.lock_time_unit)
            terms = enforce(refund_request_rules(psbt, own.offer, tip))
            _require_unused(wallet, own, terms, psbt)
            _require_free(chain, terms, tip)
            index = own.key_index
            wallet.save_offer(replace(own, used_by=outpoint, refund_txid=str(psbt.tx.txid)))
            wallet.save_channel(PayeeRecord(index, payee.Active(terms)))
        reply = payee.signed_refund(terms, wallet.keys.channel_key(index))
    return {
        "channel": terms.channel_id,
        "capacity_sat": terms.capacity.sat,
        "refund_lock_time": terms.refund_lock_time.value,
        "hex": reply.to_hex(),
    }


def _signed_before(wallet: Wallet, psbt: Psbt, own: OwnOffer) -> tuple[Terms, int]:
    """The channel whose very refund this request asks for again."""
    record = wallet.load_channel(channel_name(psbt.tx.inputs[0].outpoint))
    terms = record.terms
    same = (
        isinstance(record, PayeeRecord) and scheme_of(terms).refund() == psbt.tx and terms.offer == own.offer
    )
    if not same:
        raise Refused(
            "outpoint-signed", f"another refund was signed, or another channel stands, on {terms.outpoint}"
        )
    enforce(envelope_rules(psbt, terms, None))
    return terms, record.key_index


def _require_unused(wallet: Wallet, own: OwnOffer, terms: Terms, psbt: Psbt) -> None:
    """Offer, outpoint and payer key are fresh; a run that was cut short may have marked the offer with this request."""
    mark: tuple[OutPoint | None, str | None] = (own.used_by, own.refund_txid)
    if own.used_by is not None and mark != (terms.outpoint, str(psbt.tx.txid)):
        raise Refused(
            "offer-used",
            f"offer {own.offer.offer_id} serves the channel on {own.used_by} already",
            hint=f"make another with `mpchan payee offer --like {own.offer.offer_id}`",
        )
    if wallet.knows_key(terms.payer_key.sec):
        raise Refused(
            "payer-key-used", f"payer key {terms.payer_key.sec.hex()} is used in another channel or offer"
        )


def _require_free(chain: Chain, terms: Terms, tip: ChainTip) -> None:
    """The outpoint holds the channel's output or nothing. The former is unspent: we have signed nothing yet."""
    seen = chain.output(terms.outpoint, not_before=from_now_on(tip))
    if seen is not None and seen.output != terms.funding_txout:
        raise Refused(
            "outpoint-taken", f"the chain has another output at {terms.outpoint} than the channel's"
        )


def funding(wallet: Wallet, chain: Chain, transaction: Transaction, *, send: bool = False) -> Result:
    """``payee funding``: take the funding transaction by file; it counts as no confirmation."""
    names = [name for name in wallet.channel_names() if name.startswith(str(transaction.txid))]
    if not names:
        raise Refused("unknown-channel", f"no channel of this wallet is funded by {transaction.txid}")
    results = [_take_funding(wallet, chain, name, transaction, send=send) for name in names]
    return results[0]


def _take_funding(wallet: Wallet, chain: Chain, name: str, transaction: Transaction, *, send: bool) -> Result:
    with wallet.channel_lock(name):
        record = _load(wallet, name, wrong=Refused)
        state = payee.take_funding(record.state, transaction)
        if state != record.state:
            wallet.save_channel(replace(record, state=state))
        terms = record.terms
        if send and chain.output(terms.outpoint, not_before=earliest_spend(terms)) is None:
            chain.broadcast(transaction)
        return {"channel": record.terms.channel_id, "funding_txid": str(transaction.txid)}


def abandon(wallet: Wallet, chain: Chain, prefix: str | None) -> Result:
    """``payee abandon``: give up an opening whose funding never came; the signed refund stays remembered."""
    fits = to_give_up(wallet, _is(payee.Active), _is(payee.Abandoned))
    name = wallet.find_channel(prefix, fits, "being opened", still_going(chain))
    with wallet.channel_lock(name):
        record = _load(wallet, name)
        state = payee.abandon(record.state, facts_if_any(chain, record.terms))
        if state != record.state:
            wallet.save_channel(replace(record, state=state))
        return {"channel": record.terms.channel_id, "status": payee.status(state, None).value}


def accept(wallet: Wallet, chain: Chain, psbt: Psbt) -> Result:
    """``payee accept``: verify an update (or a settlement), countersign and keep it; nothing is broadcast."""
    name = named_by(wallet, psbt)
    with wallet.channel_lock(name):
        record = _load(wallet, name, wrong=Refused)
        terms = record.terms
        key = wallet.keys.channel_key(record.key_index)
        state, receipt = payee.accept(record.state, psbt, gather_facts(chain, terms), key)
        if not receipt.duplicate:
            wallet.save_channel(replace(record, state=state))
        return {
            "channel": terms.channel_id,
            "update": receipt.number,
            "received_sat": receipt.received.sat,
            "paid_sat": receipt.paid.sat,
            "remaining_sat": (terms.capacity - receipt.paid).sat,
            "lock_time": receipt.lock_time,
            "duplicate": receipt.duplicate,
        }


def settle(wallet: Wallet, chain: Chain, psbt: Psbt | None, prefix: str | None = None) -> Result:
    """``payee settle``: close the channel on the chain, with the payer's settlement or with what is held."""
    if psbt is None:
        name = wallet.find_channel(prefix, _is(payee.Active, payee.Closing), "open", still_going(chain))
    else:
        name = named_by(wallet, psbt)
        if prefix is not None and wallet.find_channel(prefix, _is(payee.Active), "open") != name:
            raise UsageError(
                "wrong-channel", f"the file belongs to channel {name[:16]}, not to {prefix!r:.80}"
            )
        if psbt.tx.lock_time:
            raise NotPossible(
                "not-a-settlement",
                f"this is an update (nLockTime {psbt.tx.lock_time}), not a settlement",
                hint="take it with `mpchan payee accept`",
            )
    with wallet.channel_lock(name):
        record = _load(wallet, name, wrong=UsageError if psbt is None else Refused)
        facts = gather_facts(chain, record.terms)
        state = record.state
        if psbt is not None:
            state, _ = payee.accept(state, psbt, facts, wallet.keys.channel_key(record.key_index))
        state, closing = payee.close(state, facts)
        if state != record.state:
            wallet.save_channel(replace(record, state=state))
        sent = broadcast(chain, closing.transaction, facts)
        return {
            "channel": record.terms.channel_id,
            "txid": str(closing.transaction.txid),
            "kind": "settlement" if isinstance(closing, payee.Settlement) else "update",
            "paid_sat": closing.paid.sat,
            "broadcast": sent,
            "hex": closing.transaction.to_hex(),
        }


def _is(*phases: type) -> Any:
    def suitable(record: Record) -> bool:
        return isinstance(record, PayeeRecord) and isinstance(record.state, phases)

    return suitable
