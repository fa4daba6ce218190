"""The payee's commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Union

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel import payee
from mpchan.channel.construction.base import Kind
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Credit
from mpchan.channel.rules import enforce
from mpchan.channel.taking import closes
from mpchan.channel.terms import Terms
from mpchan.durability import step
from mpchan.errors import ChainError, MpchanError, NotPossible, Refused, TooEarly, UsageError
from mpchan.party.check.payee_rules import (
    Request,
    funded_channels_rules,
    funding_rules,
    own_channel_rules,
    request_rules,
)
from mpchan.party.common import (
    earliest_spend,
    facts_if_any,
    gather_facts,
    in_phase,
    load_as,
    require_confirmed_funding,
    still_going,
    to_give_up,
)
from mpchan.party.offers.offering import (
    expires_at,
    least_warnings,
    new_offer,
    offered,
    relayed,
    set_rate,
    starting_terms,
    stated_by,
)
from mpchan.party.opening.brought import payee_channel_rules, receiving_rules, require_channel
from mpchan.party.opening.notes import is_shown, make_channel
from mpchan.party.sending import sending
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.account import settled
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.results.closing import Closed, SentAgain
    from mpchan.results.opening import FundingTaken, Offered, RefundSigned, Standing
    from mpchan.results.payments import Accepted
    from mpchan.wallet.opening import Opening

    Admit = Callable[[Union[Opening, None]], None]


_is = partial(in_phase, PayeeRecord)
_load = partial(load_as, PayeeRecord)


def offer(
    wallet: Wallet,
    chain: Chain,
    changes: Mapping[str, Any],
    *,
    like: str | None = None,
    address: str | None = None,
    expires_in: int | None = None,
    force: bool = False,
) -> Offered:
    """``payee offer``: new terms for one channel, with a key of their own.

    A fee rate that neither ``changes`` nor ``like`` nor wallet.toml names is the chain's estimate.

    Args:
        changes: keys of the offer's TOML text, over the wallet's usual terms.
        like: another own offer whose terms are the starting point.
        address: where to be paid instead of a fresh address of this wallet.
        expires_in: seconds for which it holds, 0 for ever; None for what wallet.toml says.
    """
    terms = {
        **starting_terms(wallet, changes, like),
        **changes,
        "expires": expires_at(wallet, chain, expires_in),
    }
    terms.update(stated_by(chain, terms))
    warnings = set_rate(terms, chain, wallet.config.limits)
    warnings += least_warnings(wallet, changes, like, terms, chain)
    with wallet.lock():
        own, outside = new_offer(wallet, terms, address=address, force=force, vouch=partial(relayed, chain))
    return offered(own.offer, [*warnings, *outside])


def sign_refund(wallet: Wallet, chain: Chain, psbt: Psbt, admit: Admit | None = None) -> RefundSigned:
    """``payee sign-refund``: check a refund request against the offer that it names, and sign it, once per outpoint.

    Args:
        admit: for a stranger's request, of which an opening is kept until the chain shows the funding: refuses it where
            there is no room. It is told the opening, or None where only a channel can keep the terms. Without it, for a
            request that a person takes by hand, the channel is made at once, of an earlier opening too.
    """
    from mpchan.party.fees import close_warnings
    from mpchan.results.opening import RefundSigned

    with wallet.lock(), ExitStack() as held:
        request = enforce(request_rules(wallet, chain, psbt))
        if request.given_up:
            for other in request.given_up:
                held.enter_context(wallet.channels.lock(other.terms.name))
            # as they stand now that nobody can change them any more
            request = enforce(request_rules(wallet, chain, psbt))
        terms = request.terms
        state = payee.Active(terms) if request.serves else payee.Abandoned(terms)
        record = request.known or PayeeRecord(request.key_index, state)
        reply = payee.signed_refund(terms, wallet.keys.key_of(record)).to_hex()
        opening = None if admit is None else _opening(wallet, request, admit)
        for other in request.given_up:
            if not wallet.channels.knows(other.terms.outpoint):
                wallet.channels.save(other, "refund-signed")
            wallet.channels.save(replace(other, state=payee.Abandoned(other.terms)), "abandoned")
        if opening is not None and request.opening is None:
            wallet.openings.add(opening)
        elif opening is None and (request.known is None or request.opening is not None):
            wallet.channels.save(record, "refund-signed", reply)
        if opening is None:
            wallet.channels.make_sure(terms.name)
        else:
            wallet.openings.make_sure()
    only = [] if request.serves else [f"refund-only: no payment is taken in channel {terms.channel_id}"]
    given_up = [
        f"given-up: channel {other.terms.channel_id} under the same offer is abandoned for this one"
        for other in request.given_up
    ]
    warnings = (*only, *given_up, *close_warnings(terms, chain))
    return RefundSigned(terms.channel_id, terms.capacity.sat, terms.refund_lock_time.value, reply, warnings)


def _opening(wallet: Wallet, request: Request, admit: Admit) -> Opening | None:
    """What is kept of a stranger's request; None where a channel is, or has to be."""
    if request.known is not None:
        return request.opening
    if request.shown or request.given_up or not request.serves:
        return None
    from mpchan.party.opening.terms import opening_of

    opening = opening_of(wallet, request.terms)
    admit(opening)
    return opening


def funding(
    wallet: Wallet, chain: Chain, transaction: Transaction, *, send: bool = False, by_hand: bool = True
) -> FundingTaken:
    """``payee funding``: take the funding transaction by file; it counts as no confirmation.

    Args:
        send: to the chain, too.
        by_hand: make a channel of an opening at once; else only where the chain shows the funding, which is sent to it.
    """
    results: list[FundingTaken] = []
    failures: list[MpchanError] = []
    # whoever knew the txid can have had a refund signed on another of its outputs, which is no channel's
    for name in enforce(funded_channels_rules(wallet, transaction)):
        try:
            if by_hand or _is_shown(wallet, chain, name, transaction):
                enforce(funding_rules(wallet, name, transaction))
                make_channel(wallet, name)
                results.append(_take_funding(wallet, chain, name, transaction, send=send))
            else:
                results.append(_taken(name, transaction))
        except (Refused, NotPossible) as error:
            failures.append(error)
    if not results:
        raise failures[0]
    return results[0]


def _is_shown(wallet: Wallet, chain: Chain, name: str, transaction: Transaction) -> bool:
    """Whether the chain shows the funding of an opening, to which it is sent; True for what is a channel already."""
    terms = enforce(funding_rules(wallet, name, transaction)).terms
    if wallet.channels.knows(terms.outpoint) or is_shown(chain, terms):
        return True
    with suppress(ChainError, TooEarly):  # the payer's wallet sends it too, and the chain will tell
        step("emit", chain.broadcast, transaction)
    return is_shown(chain, terms)


def _taken(name: str, transaction: Transaction) -> FundingTaken:
    from mpchan.results.opening import FundingTaken

    return FundingTaken(name[:16], str(transaction.txid))


def _take_funding(
    wallet: Wallet, chain: Chain, name: str, transaction: Transaction, *, send: bool
) -> FundingTaken:
    with sending(wallet, name) as out:
        if not send:
            out.require_disk()
        record = enforce(funding_rules(wallet, name, transaction))
        state = payee.take_funding(record.state, transaction)
        if state != record.state:
            out.note(replace(record, state=state), "funding", transaction.to_hex())
        terms = record.terms
        if send and chain.output(terms.outpoint, not_before=earliest_spend(terms)) is None:
            step("emit", chain.broadcast, transaction)
    if not send:
        out.require_disk()
    return out.told(f"the funding {transaction.txid}", _taken(name, transaction))


def send_funding_again(wallet: Wallet, chain: Chain, name: str) -> SentAgain:
    """Broadcast a funding that was handed over by file, where neither chain nor mempool holds it; for the watcher.

    Raises:
        NotPossible: ``not-funded``, no file was handed over.
    """
    from mpchan.results.closing import SentAgain

    record = _load(wallet, name)
    state = record.state
    transaction = None if isinstance(state, payee.Abandoned) else payee.active_of(state).funding
    if transaction is None:
        raise NotPossible("not-funded", "the funding was not handed over by file")
    taken = _take_funding(wallet, chain, name, transaction, send=True)
    return SentAgain(taken.channel, taken.funding_txid)


def abandon(wallet: Wallet, chain: Chain, prefix: str | None) -> Standing:
    """``payee abandon``: give up an opening whose funding never came; the signed refund stays remembered."""
    from mpchan.results.opening import Standing

    fits = to_give_up(wallet, _is(payee.Active), _is(payee.Abandoned))
    name = wallet.channels.find(prefix, fits, "being opened", still_going(chain))
    with wallet.channels.lock(name):
        record = _load(wallet, name)
        state = payee.abandon(record.state, facts_if_any(chain, record.terms))
        if state != record.state:
            wallet.channels.save(replace(record, state=state), "abandoned")
        return Standing(record.terms.channel_id, payee.status(state, None).value)


def accept(wallet: Wallet, chain: Chain, psbt: Psbt) -> Accepted:
    """``payee accept``: verify an update (or a settlement), countersign and keep it; nothing is broadcast."""
    name = enforce(payee_channel_rules(wallet, psbt))
    require_channel(wallet, chain, name, psbt)
    with wallet.channels.lock(name):
        record = enforce(own_channel_rules(wallet, name))
        terms = record.terms
        key = wallet.keys.key_of(record)
        state, receipt = payee.accept(record.state, psbt, gather_facts(chain, terms), key)
        if not receipt.duplicate:
            wallet.channels.save(replace(record, state=state), *taken(state))
        warnings = _pending_warnings(chain, terms, receipt.pending)
        if not receipt.duplicate and payee.best_of(record.state) is None and receipt.number:
            warnings = [*warnings, *first_warnings(wallet, chain, terms, receipt.paid)]
        return accepted(terms, receipt, warnings=warnings)


def accepted(
    terms: Terms, receipt: payee.Receipt, *, superseded: int = 0, warnings: Sequence[str] = ()
) -> Accepted:
    """The answer to a message that was taken, or was before."""
    from mpchan.results.payments import Accepted

    return Accepted(
        channel=terms.channel_id,
        update=receipt.number,
        received_sat=receipt.received.sat,
        paid_sat=receipt.paid.sat,
        pending_sat=receipt.pending.sat,
        remaining_sat=(terms.capacity - receipt.paid).sat,
        lock_time=receipt.lock_time,
        duplicate=receipt.duplicate,
        superseded=superseded,
        kind=receipt.kind.value,
        warnings=tuple(warnings),
    )


def first_warnings(wallet: Wallet, chain: Chain, terms: Terms, paid: Amount) -> list[str]:
    """What people should know of a channel that has its first payment; never again: no payment waits for a fee rate."""
    from mpchan.party.fees import close_warnings, stake_warnings

    stake = stake_warnings(paid, wallet, chain, f"a total in channel {terms.channel_id}")
    return [*_word_warnings(chain, terms), *close_warnings(terms, chain), *stake]


def _word_warnings(chain: Chain, terms: Terms) -> list[str]:
    """What the user's word has to stand for where a payment is the first to tell of its funding, and no chain does."""
    if chain.stated_confirmations is None or construction_of(terms.offer).has_exchange:
        return []
    funding = terms.funding_txout
    address = script_to_address(funding.script_pubkey, terms.offer.network)
    text = f"only the payer says so far that {terms.outpoint} pays exactly {funding.value} to {address}"
    return [f"not-looked-up: {text}: deliver nothing before you have seen that, and that nothing spends it"]


def taken(state: payee.PayeeState) -> tuple[str, str | None]:
    """What the history says of a message that was just taken: the event, and the message in hex."""
    held = state.settlement if isinstance(state, payee.Closing) else payee.best_of(state)
    if held is None:
        raise TypeError("nothing was taken")
    message = payee.payers_message(payee.terms_of(state), held).to_hex()
    return ("accepted" if isinstance(held, payee.Update) else "settlement", message)


def settle(
    wallet: Wallet,
    chain: Chain,
    psbt: Psbt | None,
    prefix: str | None = None,
    *,
    contest: bool = False,
    at_spent: bool = False,
) -> Closed:
    """``payee settle``: close the channel on the chain, with the payer's settlement or with what is held.

    Args:
        contest: as in ``channel.payee.close``.
        at_spent: a settlement of what was charged is taken, though more was signed for, while no request is in flight.

    Raises:
        TooEarly: ``funding-unconfirmed``; the payer's settlement is kept, unless it is what brings its channel.
    """
    if psbt is None:
        name = wallet.channels.find(prefix, _is(payee.Active, payee.Closing), "open", still_going(chain))
    else:
        name = enforce(payee_channel_rules(wallet, psbt))
        if prefix is not None and wallet.channels.find(prefix, _is(payee.Active), "open") != name:
            raise UsageError(
                "wrong-channel", f"the file belongs to channel {name[:16]}, not to {prefix!r:.80}"
            )
        _require_closing(enforce(receiving_rules(wallet, chain, psbt)).terms, psbt)
        require_channel(wallet, chain, name, psbt, closing=True)
    with sending(wallet, name) as out:
        record = _load(wallet, name) if psbt is None else enforce(own_channel_rules(wallet, name))
        facts = gather_facts(chain, record.terms)
        state = record.state
        if psbt is not None:
            spent = _spent(record) if at_spent else None
            state, _ = payee.accept(state, psbt, facts, wallet.keys.key_of(record), closing=True, spent=spent)
        if psbt is not None and state != record.state:
            out.require_disk()  # what is countersigned only now leaves after it is on the disk
            state, closing = payee.close(state, facts, contest=contest)
            wallet.channels.save(replace(record, state=state), *taken(state))
            require_confirmed_funding(chain, record.terms, facts)  # it is kept all the same
        else:
            state, closing = payee.close(state, facts, contest=contest)
            require_confirmed_funding(chain, record.terms, facts)
            if state != record.state:
                out.note(replace(record, state=state), "claimed")
        sent = out.close(chain, closing.transaction, facts)
    counts = payee.credit(state, facts) if isinstance(closing, payee.Settlement) else Credit(closing.paid)
    result = _closed(chain, record.terms, closing, counts, broadcast=sent)
    return out.told(f"the {result.kind} {result.txid}", result)


def _closed(
    chain: Chain,
    terms: Terms,
    closing: payee.Settlement | payee.Update,
    counts: Credit,
    *,
    broadcast: bool,
) -> Closed:
    from mpchan.results.closing import Closed

    return Closed(
        channel=terms.channel_id,
        txid=str(closing.transaction.txid),
        kind="settlement" if isinstance(closing, payee.Settlement) else "update",
        paid_sat=counts.paid.sat,
        pending_sat=counts.pending.sat,
        broadcast=broadcast,
        hex=closing.transaction.to_hex(),
        warnings=tuple(_pending_warnings(chain, terms, counts.pending)),
    )


def _spent(record: PayeeRecord) -> Amount | None:
    """The total of a close at what was charged, while no request is in flight; None where there is no account of it."""
    account = record.account
    if account is None or account.reserved:
        return None
    best = payee.best_of(record.state)
    spent = account.with_paid(0 if best is None else best.paid.sat).spent
    return Amount(settled(spent, record.terms.payee_dust.sat))


def _require_closing(terms: Terms, psbt: Psbt) -> None:
    """The message can close the channel now; whether it is good is for the channel's rules to say."""
    meant = terms.schedule.read(psbt)
    if not closes(terms, meant):
        is_refund = meant is not None and meant.kind is Kind.REFUND
        raise NotPossible(
            "not-a-settlement",
            f"this is {'the refund' if is_refund else 'an update'} (nLockTime {psbt.tx.lock_time}), not a settlement",
            hint=None if is_refund else "take it with `mpchan payee accept`",
        )


def _pending_warnings(chain: Chain, terms: Terms, pending: Amount) -> list[str]:
    """What people should know of a settlement whose confirmation nobody will see."""
    if not pending or chain.sends:
        return []
    depth = terms.offer.min_confirmations
    text = (
        f"this wallet asks no chain, so {pending} stay pending in it: they count once the settlement has {depth} "
        f"confirmation{'' if depth == 1 else 's'}, wherever you look that up"
    )
    return [f"pending: {text}"]
