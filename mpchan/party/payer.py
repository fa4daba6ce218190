"""The payer's commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Facts
from mpchan.channel.offer import Offer
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible, UsageError
from mpchan.party.common import (
    current_tip,
    exchange_rules,
    facts_if_any,
    from_now_on,
    gather_facts,
    in_phase,
    load_as,
    named_by,
    require_confirmed_funding,
    still_going,
    to_give_up,
)
from mpchan.party.opening.funding import early_text, find_conflict, is_sent, refuse_conflict, require_possible
from mpchan.party.sending import LEAVES, Leaving, hand_over, sending
from mpchan.units import Amount, FeeRate
from mpchan.values import replace
from mpchan.wallet.payer_record import Asked, PayerRecord
from mpchan.wallet.storage import write_durably
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.channel.foreign_funding import Message
    from mpchan.channel.signing import ChannelKey
    from mpchan.results.closing import Refunded, SentAgain, SettlementSigned
    from mpchan.results.opening import Funded, Opened, Standing
    from mpchan.results.payments import Payment
    from mpchan.wallet.purpose import Purpose
    from mpchan.wallet.records import Record


def _find(wallet: Wallet, chain: Chain, prefix: str | None, phases: Sequence[type], what: str) -> str:
    """The channel that a payer's command means, which another wallet may have paid in just now.

    See ``ChannelFiles.find``.
    """
    if wallet.awaited.files():
        from mpchan.party.opening.arrivals import take_first_payments

        take_first_payments(wallet, chain)
    return wallet.channels.find(prefix, _is(*phases), what, still_going(chain))


load = partial(load_as, PayerRecord)


def _is(*phases: type) -> Callable[[Record], bool]:
    """Which channels a command can mean that names none."""
    fits = in_phase(PayerRecord, *phases)
    return lambda record: fits(record) and not (isinstance(record, PayerRecord) and record.is_refund_only)


def open_channel(
    wallet: Wallet,
    chain: Chain,
    offer_text: str,
    capacity: Amount,
    *,
    refund_delay: int | None = None,
    funding_fee_rate: FeeRate | None = None,
    address: str | None = None,
    purpose: Purpose | None = None,
    leaving: Leaving = LEAVES,
) -> Opened:
    """``payer open``: choose coins, build the funding, ask for the refund. Nothing is signed.

    Where nothing is exchanged before the funding, refund and funding are signed at once, and the funding is sent.
    The same call again gives the same answer again, however far the channel has come.

    Args:
        purpose: what it is for; kept from the first moment on.
        leaving: what is said of a funding that leaves at once.

    Raises:
        UsageError: ``usage``, something is said of it where it does not.
    """
    from mpchan.channel.opening import refund_lock_time
    from mpchan.party.check.payer_rules import new_offer_rules, opened_under
    from mpchan.party.fees import outside_warning, rate_for
    from mpchan.party.opening.at_once import open_at_once
    from mpchan.party.opening.request import opened, opened_for_another, opened_so, prepared

    offer = Offer.from_toml(offer_text)
    at_once = not construction_of(offer).has_exchange
    if not at_once and (leaving.refund_out is not None or not leaving.send):
        raise UsageError("usage", "the funding of such a channel leaves with `mpchan payer fund`, not now")
    limits, asked = wallet.config.limits, Asked(refund_delay, funding_fee_rate, address)
    with wallet.lock():
        earlier = opened_under(wallet, offer)
        going = next((each for each in earlier if not isinstance(each.state, payer.Abandoned)), None)
        if going is not None:
            return _opened_again(wallet, chain, opened_so(going, capacity, asked, external=False), leaving)
        awaited = wallet.awaited.find(offer.offer_id) if at_once else None
        if awaited is not None and not awaited.given_up:
            raise opened_for_another(offer)
        enforce(new_offer_rules(wallet, chain, offer, [record.terms.name for record in earlier]))
        rate, warnings = rate_for(chain, limits, funding_fee_rate, "the funding", "funding-fee-rate")
        tip = current_tip(chain, offer.lock_time_unit)
        lock_time = refund_lock_time(offer, tip, refund_delay, limits)
        record = prepared(wallet, chain, offer, capacity, lock_time, rate, asked)
        record = replace(record, purpose=purpose)
        # nobody can have seen this outpoint: a backend that has to look through blocks learns where to begin
        chain.output(record.terms.outpoint, not_before=from_now_on(tip))
        if at_once:
            answer: Opened = open_at_once(wallet, chain, record, leaving)
            warnings += answer.warnings
        else:
            answer = opened(wallet, record)
            wallet.channels.save(record, "opened", answer.hex)
        if record.terms.payer_script not in wallet.keys.scripts():
            warnings.append(outside_warning(address))
        return replace(answer, warnings=tuple(warnings))


def _opened_again(wallet: Wallet, chain: Chain, record: PayerRecord, leaving: Leaving) -> Opened:
    """The answer to the command that has opened this channel before."""
    from mpchan.channel.offer_rules import version_rules
    from mpchan.party.opening.at_once import open_at_once
    from mpchan.party.opening.request import opened

    offer = record.terms.offer
    if not construction_of(offer).has_exchange:
        return open_at_once(wallet, chain, record, leaving)
    if isinstance(record.state, payer.Opening):
        enforce(version_rules(offer))
    request = opened(wallet, record)
    wallet.channels.make_sure(record.terms.name)
    return request


def fund(
    wallet: Wallet,
    chain: Chain,
    psbt: Psbt,
    *,
    signed: Message | None = None,
    send: bool = True,
    refund_out: Path | None = None,
    confirm: Callable[[Terms], None] | None = None,
) -> Funded:
    """``payer fund``: verify the signed refund, store it complete, and only then sign and send the funding.

    Args:
        signed: the funding as another wallet signed it, where that wallet funds the channel.
        refund_out: also write the complete refund there, before the funding can leave.
        confirm: asked before anything is signed or sent; it raises to stop.
    """
    from mpchan.party.check.payer_rules import own_channel_rules, reply_rules, signed_elsewhere_rules
    from mpchan.party.fees import close_warnings
    from mpchan.results.opening import Funded

    name = named_by(wallet, psbt)
    with sending(wallet, name) as out:
        record = enforce(own_channel_rules(wallet, name))
        terms = record.terms
        enforce(exchange_rules(terms.offer))
        state = enforce(reply_rules(chain, record, psbt))
        if isinstance(state, (payer.Opening, payer.Secured)):
            out.require_disk()  # a funding leaves after its refund and itself are on the disk
        limit = wallet.config.limits.max_fee_rate
        elsewhere = enforce(signed_elsewhere_rules(chain, limit, state, signed))
        locks = isinstance(state, (payer.Opening, payer.Secured)) and state.funding is not None
        if locks and confirm is not None:
            confirm(terms)
        if isinstance(state, payer.Opening):
            state = payer.secure(state, psbt, wallet.keys.key_of(record))
            wallet.channels.save(replace(record, state=state), "secured", payer.refund_reply(state).to_hex())
        refund = state.refund if isinstance(state, payer.Secured) else payer.funded_of(state).refund
        if refund_out is not None:
            # through a symbolic link: the copy belongs where that leads, perhaps on another disk
            write_durably(refund_out.resolve(), (refund.to_hex() + "\n").encode())
        sends = send and chain.sends and _funding_here(state)
        before = state
        state = _signed(wallet, record, state, elsewhere, sends=sends)
        funding = payer.funded_of(state).funding
        message = None if funding is None else funding.to_hex()
        if isinstance(before, payer.Secured):
            wallet.channels.save(replace(record, state=state), "funded", message)
        elif state != before:
            out.note(replace(record, state=state), "funded", message)
        if sends and funding is not None:
            send_funding(wallet, chain, terms, funding)
    if not sends:
        out.require_disk()
    txid = str(terms.outpoint.txid)
    result = out.told(f"the funding {txid}", Funded(terms.channel_id, txid, sends, message))
    return replace(result, warnings=tuple(close_warnings(terms, chain)))


def _signed(
    wallet: Wallet,
    record: PayerRecord,
    state: payer.Secured | payer.Funded | payer.Settling | payer.Refunding,
    elsewhere: Transaction | None,
    *,
    sends: bool,
) -> payer.Funded | payer.Settling | payer.Refunding:
    """The channel with its signed funding, which another wallet has signed, or this one signs now."""
    if isinstance(state, payer.Secured):
        complete = elsewhere
        if complete is None:
            wallet.keys.key_of(record)  # the coins' keys are of the same seed
        if complete is None and state.funding is not None:
            complete = wallet.keys.sign_coins(state.funding, state.spent)
        return payer.fund(state, complete, sends=sends)
    if isinstance(state, payer.Funded):
        return replace(state, funding=elsewhere or state.funding, sends=state.sends or sends)
    return state


def _funding_here(state: payer.Secured | payer.Funded | payer.Settling | payer.Refunding) -> bool:
    """Whether this wallet has the funding; not one that a block held before it was heard of."""
    known = state if isinstance(state, payer.Secured) else payer.funded_of(state)
    return known.funding is not None


def send_funding_again(wallet: Wallet, chain: Chain, name: str) -> SentAgain:
    """Broadcast a funding that neither chain nor mempool holds any more; for the watcher.

    Raises:
        NotPossible: ``not-funded``, the funding is unsigned, or was never here.
    """
    from mpchan.results.closing import SentAgain

    with sending(wallet, name) as out:
        record = load(wallet, name)
        funded = payer.ever_funded(record.state)
        if funded is None or funded.funding is None:
            raise NotPossible("not-funded", "this wallet has no signed funding to send")
        funding = funded.funding
        send_funding(wallet, chain, record.terms, funding)
    return out.told(f"the funding {funding.txid}", SentAgain(record.terms.channel_id, str(funding.txid)))


def funding_conflict(chain: Chain, record: PayerRecord) -> str | None:
    """The transaction, in a block or in the mempool, that spends a coin which this channel's funding needs."""
    found = None if record.funding is None else find_conflict(chain, record.terms, record.funding)
    return None if found is None else str(found.txid)


def send_funding(wallet: Wallet, chain: Chain, terms: Terms, funding: Transaction) -> None:
    if not is_sent(chain, terms):
        wallet.channels.make_sure(
            terms.name
        )  # unlike a close, a funding rests on what is beside it on the disk: the refund
        hand_over(wallet, chain, funding)


def abandon(wallet: Wallet, chain: Chain, prefix: str | None) -> Standing:
    """``payer abandon``: give up an opening whose funding never left; its coins are free again."""
    opening = None if prefix is None else wallet.awaited.find(prefix.lower())
    if opening is not None:
        from mpchan.party.opening.awaited import give_up_opening

        given_up = give_up_opening(wallet, chain, opening)
        if given_up is not None:
            return given_up
    fits = to_give_up(wallet, _is(payer.Opening, payer.Secured), _is(payer.Abandoned))
    return give_up(wallet, chain, wallet.channels.find(prefix, fits, "being opened", still_going(chain)))


def give_up(wallet: Wallet, chain: Chain, name: str) -> Standing:
    """The same of a channel by its name."""
    from mpchan.results.opening import Standing

    with wallet.channels.lock(name):
        record = load(wallet, name)
        state = payer.abandon(
            record.state, funding_is_void=_is_void(chain, record), may_be_signed=record.restored
        )
        if state != record.state:
            wallet.channels.save(replace(record, state=state), "abandoned")
        facts = None if state.funded is None else facts_if_any(chain, record.terms)
        return Standing(record.terms.channel_id, payer.status(state, facts).value)


def _is_void(chain: Chain, record: PayerRecord) -> bool:
    """Whether a block holds a transaction that took a coin of the funding, or nothing is lost should that come late."""
    state, terms, funding = record.state, record.terms, record.funding
    unsure = isinstance(state, (payer.Opening, payer.Secured)) and (state.external or record.restored)
    if isinstance(state, (payer.Opening, payer.Secured)) and unsure and is_sent(chain, terms):
        raise NotPossible("funding-early", early_text(terms))
    if not isinstance(state, payer.Funded) or is_sent(chain, terms):
        return False
    if not construction_of(terms.offer).has_exchange and not state.paid and not record.restored:
        return True  # should it come after all, its refund needs nobody else
    if funding is None:
        return False
    conflict = find_conflict(chain, terms, funding)
    if conflict is not None and not conflict.confirmed:
        refuse_conflict(conflict, funding)
    return conflict is not None


def facts_of(chain: Chain, record: PayerRecord) -> Facts:
    """The chain's view of a channel whose funding is there, or can still get there."""
    facts = gather_facts(chain, record.terms)
    require_possible(chain, record, facts)
    return facts


# paying -------------------------------------------------------------------------------------------


def find_funded(wallet: Wallet, chain: Chain, prefix: str | None) -> str:
    """The channel that a payment means."""
    return _find(wallet, chain, prefix, (payer.Funded,), "open")


def pay(wallet: Wallet, chain: Chain, prefix: str | None, amount: Amount) -> Payment:
    """``payer pay AMOUNT``: the next update."""
    return _pay(wallet, chain, prefix, amount, payer.pay)


def pay_up_to(wallet: Wallet, chain: Chain, prefix: str | None, total: Amount) -> Payment:
    """``payer pay --total``: the update that brings the total there; the latest again where it is reached."""
    return _pay(wallet, chain, prefix, total, payer.pay_up_to)


def pay_ahead(wallet: Wallet, chain: Chain, name: str, total: Amount) -> Payment:
    """The first payment of a channel, which goes to the payee with the funding; once it is made, that one again."""
    return _pay(wallet, chain, name, total, payer.pay_ahead)


def pay_last(wallet: Wallet, chain: Chain, prefix: str | None) -> Payment:
    """``payer pay --last``: the latest update again, the same bytes."""
    name = _find(wallet, chain, prefix, (payer.Funded, payer.Settling, payer.Refunding), "funded")
    with wallet.channels.lock(name):
        record = load(wallet, name)
        state = payer.latest_update(record.state)
        return payment(state, state, wallet.keys.key_of(record))


def _pay(
    wallet: Wallet,
    chain: Chain,
    prefix: str | None,
    wanted: Amount,
    decide: Callable[[payer.PayerState, Amount, Facts], payer.Funded],
) -> Payment:
    """Sign a new update, and let it out once it is written down; the latest again where none is needed."""
    name = find_funded(wallet, chain, prefix)
    with wallet.channels.lock(name):
        record = load(wallet, name)
        require_synced(record)
        before = payer.ever_funded(record.state)
        state = decide(record.state, wanted, facts_of(chain, record))
        answer = payment(state, before, wallet.keys.key_of(record))
        if before is None or state.number != before.number:
            wallet.channels.save(replace(record, state=state), "paid", answer.hex)
        return answer


def require_synced(record: PayerRecord) -> None:
    """Nothing new is signed while the lost wallet may have signed something else in its place.

    Raises:
        NotPossible: ``needs-sync``.
    """
    if record.restored and not isinstance(record.state, payer.Settling):
        raise NotPossible(
            "needs-sync",
            f"channel {record.terms.channel_id} comes from a backup: you may have paid more than it knows of",
            hint="the payee runs `mpchan payee export-latest`, and you `mpchan payer sync FILE`; if you know that you "
            "have paid nothing since the backup: `mpchan payer sync --nothing-newer`",
        )


def payment(state: payer.Funded, before: payer.Funded | None, key: ChannelKey) -> Payment:
    """The answer to a payment: what is new in it, and its message."""
    from mpchan.results.payments import Payment

    terms = state.terms
    return Payment(
        channel=terms.channel_id,
        update=state.number,
        amount_sat=state.paid.sat - (0 if before is None else before.paid.sat),
        paid_sat=state.paid.sat,
        remaining_sat=(terms.capacity - state.paid).sat,
        lock_time=payer.latest_lock_time(state),
        hex=payer.update_message(state, key).to_hex(),
    )


# closing ------------------------------------------------------------------------------------------


def settle(
    wallet: Wallet, chain: Chain, prefix: str | None, total: Amount | None = None, *, at_spent: bool = False
) -> SettlementSigned:
    """``payer settle``: the final balance, for the payee to countersign and broadcast.

    Args:
        at_spent: as in ``channel.payer.settle``.
    """
    from mpchan.results.closing import SettlementSigned

    name = _find(wallet, chain, prefix, (payer.Funded, payer.Settling), "open")
    with wallet.channels.lock(name):
        record = load(wallet, name)
        require_synced(record)
        facts = facts_of(chain, record)
        state = payer.settle(record.state, total, facts, at_spent=at_spent)
        message = payer.settlement_message(state, wallet.keys.key_of(record)).to_hex()
        if state != record.state:
            wallet.channels.save(replace(record, state=state), "settlement", message)
        late = state.total > state.funded.paid and record.terms.schedule.deadline.reached(facts.tip)
        warnings = (_LATE,) if late else ()
        return SettlementSigned(record.terms.channel_id, state.total.sat, 0, message, warnings)


_LATE = (
    "late: the chain has reached L_0, so the payee counts what this settlement pays on top only once it is confirmed; "
    "your refund may come first"
)


def refund(wallet: Wallet, chain: Chain, prefix: str | None) -> Refunded:
    """``payer refund``: broadcast the refund once its lock time has come.

    Raises:
        TooEarly: ``refund-locked``, ``funding-unconfirmed``.
    """
    from mpchan.results.closing import Refunded

    def suitable(record: Record) -> bool:
        return isinstance(record, PayerRecord) and payer.ever_funded(record.state) is not None

    name = wallet.channels.find(prefix, suitable, "funded", still_going(chain))
    with sending(wallet, name) as out:
        record = load(wallet, name)
        facts = facts_of(chain, record)
        state = payer.take_refund(record.state, facts)
        require_confirmed_funding(chain, record.terms, facts)
        transaction = state.funded.refund
        if state != record.state:
            out.note(replace(record, state=state), "refund", transaction.to_hex())
        sent = out.close(chain, transaction, facts)
    result = Refunded(record.terms.channel_id, str(transaction.txid), "refund", sent, transaction.to_hex())
    return out.told(f"the refund {transaction.txid}", result)
