"""What a wallet can tell about itself: channels, balance, waiting. Nothing here changes a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.chain.base import Chain
from mpchan.channel.facts import Facts, Status
from mpchan.channel.terms import Terms
from mpchan.channel.watch.base import SETTLE_SOON
from mpchan.errors import MpchanError, NotPossible, StorageError, TooEarly, UsageError
from mpchan.party.common import (
    earliest_spend,
    facts_if_any,
    gather_facts,
    still_going,
)
from mpchan.party.opening.funding import warnings_about
from mpchan.results.channels import (
    AwaitedLine,
    Channel,
    ChannelLine,
    ChannelList,
    Descriptor,
    Descriptors,
    FundingOutput,
)
from mpchan.units import SECONDS_PER_BLOCK, Amount, ChainTip, MedianTime, lock_time_from_int
from mpchan.values import replace
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.chain.base import Coin
    from mpchan.results.coins import Balance, FreshAddress
    from mpchan.results.opening import Payable, Standing
    from mpchan.wallet.awaited import AwaitedFunding
    from mpchan.wallet.records import Record

_SLOW_BLOCK_SECONDS = 2 * SECONDS_PER_BLOCK


def short_view(record: Record, facts: Facts | None) -> ChannelLine:
    """One channel as ``list`` shows it."""
    terms, counts = record.terms, record.credit(facts)
    return ChannelLine(
        channel=terms.channel_id,
        role=record.role,
        status=record.status(facts).value,
        capacity_sat=terms.capacity.sat,
        paid_sat=counts.paid.sat,
        pending_sat=counts.pending.sat,
        remaining_sat=(terms.capacity - counts.paid).sat,
        updates=record.updates,
        refund_lock_time=terms.refund_lock_time.value,
    )


def full_view(record: Record, facts: Facts | None, warnings: Sequence[str] = ()) -> Channel:
    """One channel as ``show`` shows it."""
    terms = record.terms
    offer = terms.offer
    seen = facts is not None and facts.funding is not None
    short = short_view(record, facts)
    outpoint = terms.outpoint
    confirmations = facts.confirmations if seen and facts is not None else None
    return Channel(
        channel=short.channel,
        role=short.role,
        status=short.status,
        scheme=offer.scheme,
        network=offer.network.name,
        capacity_sat=short.capacity_sat,
        paid_sat=short.paid_sat,
        pending_sat=short.pending_sat,
        remaining_sat=short.remaining_sat,
        updates=short.updates,
        funding=FundingOutput(str(outpoint.txid), outpoint.vout, terms.funding_value.sat, confirmations),
        refund_lock_time=short.refund_lock_time,
        latest_lock_time=record.latest_lock_time,
        payer_pubkey=terms.payer_key.sec.hex(),
        payee_pubkey=offer.payee_key.sec.hex(),
        payer_address=script_to_address(terms.payer_script, offer.network),
        payee_address=offer.payee_address,
        **_requests(record),
        warnings=tuple(warnings),
    )


def _requests(record: Record) -> dict[str, Any]:
    """What a channel says of requests that are paid in it, by the names of ``Channel``."""
    if isinstance(record, PayerRecord):
        purpose = record.purpose
        return {} if purpose is None else {"origin": purpose.origin, "charged_sat": record.spent.sat}
    account = record.account
    return {} if account is None else {"charged_sat": account.spent, "reserved_sat": account.held}


def show_awaited(wallet: Wallet, chain: Chain, offer_id: str) -> Payable | None:
    """``show`` of an opening that any wallet funds; None for what is none, or once its channel has come."""
    opening = wallet.awaited.find(offer_id.lower())
    if opening is None:
        return None
    from mpchan.party.opening.awaited import answered

    small, waiting = _look(wallet, chain, [opening])
    answer = answered(wallet, chain, opening, small)
    if any(arrival.what == "channel" for arrival in answer.arrived):
        return None
    return replace(answer, warnings=(*answer.warnings, *waiting))


def show(wallet: Wallet, chain: Chain, prefix: str | None) -> Channel:
    """``show``: one channel whole; the only one where none is named."""
    record = wallet.channels.load(
        wallet.channels.find(prefix, lambda record: True, "known", still_going(chain))
    )
    facts = facts_if_any(chain, record.terms)
    return full_view(record, facts, [*_behind(facts), *_aside(record), *warnings_about(chain, record, facts)])


def _aside(record: Record) -> list[str]:
    """What a payment is that is not its offer's channel."""
    if not isinstance(record, PayerRecord) or not record.is_refund_only:
        return []
    at = record.terms.refund_lock_time
    return [f"refund-only: nothing is paid in it; `mpchan payer refund` takes it back from {at} on"]


def _look(wallet: Wallet, chain: Chain, openings: Sequence[AwaitedFunding]) -> tuple[list[Coin], list[str]]:
    """Keep what has come to the addresses of openings.

    What is worth no refund, and, in words, what waits for the keys.
    """
    from mpchan.party.opening.arrivals import take_what_came

    try:
        return take_what_came(wallet, chain, openings), []
    except StorageError as error:
        if not error.slug.startswith("passphrase-"):
            raise
        return [], [
            f"{error.message}; run `mpchan payer open OFFER --external`, or `mpchan watch` with the keys"
        ]


def _behind(facts: Facts | None) -> list[str]:
    lag = None if facts is None else facts.tip.lag
    return [] if lag is None else [f"node-behind: {lag.why}: what is shown may be out of date"]


def descriptors(wallet: Wallet, chain: Chain, prefix: str | None) -> Descriptors:
    """``show --descriptor``: what Bitcoin Core's ``importdescriptors`` takes to watch a channel's output."""
    record = wallet.channels.load(
        wallet.channels.find(prefix, lambda record: True, "known", still_going(chain))
    )
    terms = record.terms
    facts = facts_if_any(chain, terms)
    request = Descriptor(
        desc=terms.lock.descriptor,
        timestamp=0 if facts is None else _time_before(terms, facts.tip),
        label=f"mpchan {terms.channel_id}",
        active=False,
        internal=False,
    )
    return Descriptors((request,))


def _time_before(terms: Terms, tip: ChainTip) -> int:
    """A time (seconds since 1970) before which no block holds the funding: from there on a wallet has to look.

    Heights are turned into time by twice the usual 600 s a block. On a private chain blocks keep no pace, and looking
    through all of them is cheap.
    """
    earliest = earliest_spend(terms)
    if earliest is None or terms.offer.network == REGTEST:
        return 0
    if isinstance(earliest, MedianTime):
        return earliest.value
    return max(0, tip.median_time - _SLOW_BLOCK_SECONDS * max(0, tip.height - earliest.value))


_GOING = (Status.FUNDING.value, Status.OPEN.value)


def list_channels(wallet: Wallet, chain: Chain, damaged: Callable[[str, MpchanError], None]) -> ChannelList:
    """``list``: every channel in short, the oldest first; unreadable ones are told to ``damaged``."""
    from mpchan.party.briefs import Briefs

    awaited, warnings = _awaited(wallet, chain)
    briefs = Briefs(wallet.network.name, chain)
    views: list[ChannelLine] = []
    for name in wallet.channels.oldest_first():
        try:
            body = wallet.channels.body(name)
            view = briefs.view(name, body)
            if view is None:
                record = wallet.channels.load(name)
                view = short_view(record, facts_if_any(chain, record.terms))
        except StorageError as error:
            damaged(name, error)
        else:
            views.append(view)
            back_only = body["role"] == "payer" and body.get("funding_tx") is None  # by `payer open --again`
            if body["offer"]["version"] == 1 and view.status in _GOING and not back_only:
                warnings.append(f"channel {view.channel}: {SETTLE_SOON}")
    return ChannelList(tuple(views), len(wallet.openings), tuple(awaited), tuple(warnings))


def _awaited(wallet: Wallet, chain: Chain) -> tuple[list[AwaitedLine], list[str]]:
    """The openings that other wallets are still to fund, after a look at what has come; and what waits for the keys."""
    from mpchan.party.opening.arrivals import still_watched
    from mpchan.party.opening.awaited import answered

    if not wallet.awaited.files():
        return [], []
    try:
        openings = still_watched(wallet, chain.tip())
    except UsageError:  # nobody says where the chain stands
        openings = list(wallet.awaited)
    _, warnings = _look(wallet, chain, openings)
    lines = []
    for opening in openings:
        answer = answered(wallet, chain, opening)
        if opening.given_up or any(arrival.what == "channel" for arrival in answer.arrived):
            continue
        lines.append(
            AwaitedLine(
                offer_id=answer.offer_id,
                address=answer.address,
                amount_sat=answer.amount_sat,
                refund_lock_time=answer.refund_lock_time,
                pay_before=answer.pay_before,
            )
        )
    return lines, warnings


def fresh_address(wallet: Wallet) -> FreshAddress:
    """``address``: a receiving address that nobody was told before; its index is on disk."""
    from mpchan.results.coins import FreshAddress

    with wallet.lock():
        keys = wallet.fresh_keys()
        script = keys.script("receive", keys.next_index("receive"))
        keys.allocate("receive")
    return FreshAddress(str(script_to_address(script, wallet.network)))


_ENDED = (Status.CLOSED, Status.REFUNDED, Status.ABANDONED, Status.OPENING)


def balance(
    wallet: Wallet, chain: Chain, damaged: Callable[[str, MpchanError], None] | None = None
) -> Balance:
    """``balance``: the wallet's coins, and its share of its open channels.

    Args:
        damaged: is told of each channel that cannot be read, and is missing in the sum.
    """
    from mpchan.party.holdings import holdings, total
    from mpchan.results.coins import Balance

    held = holdings(wallet, chain, wallet.keys)
    reserved = [coin for coin in held.reserved if coin.confirmations]
    reserved_unconfirmed = [coin for coin in held.reserved if not coin.confirmations]
    unconfirmed = [*held.own_unconfirmed, *held.foreign_unconfirmed, *reserved_unconfirmed]
    in_channels = Amount(0)
    for record in wallet.channels.readable(damaged):
        facts = facts_if_any(chain, record.terms)
        if record.status(facts) in _ENDED:
            continue
        if facts is not None and (facts.funding is None or facts.spent_by is not None):
            continue  # the money is among the coins: not gone yet, or on its way back
        in_channels += record.share(facts)
    return Balance(
        confirmed_sat=total([*held.confirmed, *reserved]).sat,
        unconfirmed_sat=total(unconfirmed).sat,
        in_channels_sat=in_channels.sat,
        reserved_sat=total(held.reserved).sat,
        immature_sat=total(held.immature).sat,
    )


def _has_come(record: Record, facts: Facts, goal: str) -> bool:
    if goal == "confirmed":
        return facts.confirmations >= record.terms.offer.min_confirmations
    if goal == "closed":
        return facts.spend_confirmations > 0
    lock_time = record.own_way_out
    return lock_time is not None and (lock_time == 0 or lock_time_from_int(lock_time).is_final(facts.tip))


def _wait_for_payment(
    wallet: Wallet, chain: Chain, opening: AwaitedFunding, limit: float | None, pause: float
) -> None:
    """Until the channel of an opening that another wallet funds has come.

    Args:
        limit: on the clock that only goes forward; None for no end.

    Raises:
        TooEarly: ``timeout``.
        NotPossible: ``channel-abandoned``.
    """
    from mpchan.party.opening.arrivals import records_at, take_what_came

    while True:
        take_what_came(wallet, chain, [opening])
        if any(record.is_going for record in records_at(wallet, opening.script_pubkey)):
            return
        offer_id = opening.offer.offer_id
        if opening.given_up:
            raise NotPossible("channel-abandoned", f"the opening under offer {offer_id} was abandoned")
        if limit is not None and time.monotonic() >= limit:
            raise TooEarly("timeout", f"no channel has come to the address of offer {offer_id}")
        time.sleep(pause)


def wait(
    wallet: Wallet, chain: Chain, prefix: str | None, goal: str, timeout: float | None, pause: float = 0.25
) -> Standing:
    """``wait``: until the funding is confirmed, the own way out is final, or the channel is closed.

    Args:
        goal: ``confirmed``, ``final`` or ``closed``.
        timeout: seconds, or None for no end.
        pause: seconds between two looks at the chain.

    Raises:
        TooEarly: ``timeout``.
        NotPossible: ``channel-abandoned``.
    """
    from mpchan.results.opening import Standing

    limit = None if timeout is None else time.monotonic() + timeout
    opening = None if prefix is None else wallet.awaited.find(prefix.lower())
    if opening is not None:
        _wait_for_payment(wallet, chain, opening, limit, pause)
    name = wallet.channels.find(prefix, lambda record: True, "known", still_going(chain))
    while True:
        record = wallet.channels.load(name)
        facts = gather_facts(chain, record.terms)
        now = record.status(facts)
        if now is Status.ABANDONED:
            raise NotPossible("channel-abandoned", f"channel {record.terms.channel_id} was abandoned")
        if _has_come(record, facts, goal):
            return Standing(record.terms.channel_id, now.value)
        if limit is not None and time.monotonic() >= limit:
            raise TooEarly(
                "timeout",
                f"channel {record.terms.channel_id} is {now.value}, not {goal}, after {timeout:g} s",
            )
        time.sleep(pause)
