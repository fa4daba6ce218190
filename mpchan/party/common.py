"""Steps that both parties share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.spend import may_be_mined
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain, OutputStatus, Spend
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Facts, Status, current_rules
from mpchan.channel.messages import single_input_rules
from mpchan.channel.offer import Offer, blocks_in_unit
from mpchan.channel.rules import BROKEN, Check, Rule, enforce
from mpchan.channel.terms import Terms
from mpchan.channel.watch.base import held_back
from mpchan.errors import NotPossible, ParseError, TooEarly, UsageError
from mpchan.units import DAY_BLOCKS, ChainTip, Height, LockTime, MedianTime, OutPoint
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record

C = TypeVar("C", bound="Record")


def read_psbt(data: bytes) -> Psbt:
    """A message that still lacks a signature.

    Raises:
        ParseError: malformed, or ``not-a-psbt`` for a complete transaction.
    """
    from mpchan.bitcoin.message import decode_message

    message = decode_message(data)
    if isinstance(message, Transaction):
        raise ParseError(
            "not-a-psbt", f"this is a complete transaction ({message.txid}), not a message of the channel"
        )
    return message


def read_transaction(data: bytes) -> Transaction:
    """A complete transaction.

    Raises:
        ParseError: malformed, or ``not-a-transaction`` for a PSBT.
    """
    from mpchan.bitcoin.message import decode_message

    message = decode_message(data, either_version=True)
    if isinstance(message, Psbt):
        raise ParseError("not-a-transaction", "this is a PSBT, not a complete transaction")
    return message


def load_as(kind: type[C], wallet: Wallet, name: str) -> C:
    """The channel that the user named, in which this wallet must have the role of this kind of record."""
    record = wallet.channels.load(name)
    if not isinstance(record, kind):
        raise UsageError("wrong-role", f"in channel {name[:16]} this wallet is the {record.role}")
    return record


def role_rules(kind: type[C], record: Record, name: str) -> Check[C]:
    """The same as a rule, of the channel that a message names. Establishes the channel."""
    text = f"role of this wallet in channel {name[:16]}"
    yield Rule("wrong-role", isinstance(record, kind), text, kind.role, record.role)
    if not isinstance(record, kind):
        raise TypeError(BROKEN)
    return record


def in_phase(kind: type[Record], *phases: type) -> Callable[[Record], bool]:
    """Whether a channel is of this role and in one of these phases; for ``ChannelFiles.find``."""
    return lambda record: isinstance(record, kind) and isinstance(record.state, phases)


def channel_rules(wallet: Wallet, psbt: Psbt) -> Check[str]:
    """The message spends the funding of a channel of this wallet. Establishes the channel's name."""
    yield from single_input_rules(psbt)
    outpoint = psbt.tx.inputs[0].outpoint
    known = wallet.channels.knows(outpoint)
    yield Rule("unknown-channel", known, "this wallet has no channel on what is spent", found=outpoint)
    return outpoint.name


def named_by(wallet: Wallet, psbt: Psbt) -> str:
    """The name of the channel that a message belongs to."""
    return enforce(channel_rules(wallet, psbt))


def exchange_rules(offer: Offer | None) -> Check[None]:
    """A step of an exchange belongs to a channel that has one.

    Args:
        offer: None for one that is not known, and so of a channel that has.
    """
    yield Rule(
        "no-opening-exchange",
        offer is None or construction_of(offer).has_exchange,
        f"nothing is exchanged before a channel of the scheme {'' if offer is None else offer.scheme} is funded",
        error=NotPossible,
        hint="the payer funds it with `mpchan payer open`, and the first payment brings it to the payee",
    )


def tip_for(chain: Chain, unit: str) -> ChainTip:
    """The tip; with its median time where the channel counts seconds.

    A tip that was stated by its height alone stands at the epoch: no deadline in seconds would ever come.

    Raises:
        ChainError: out of reach.
        UsageError: ``tip-needed``.
    """
    tip = chain.tip()
    if unit == MedianTime.unit and tip.median_time < MedianTime.lowest:
        raise UsageError(
            "tip-needed",
            "this channel counts seconds, so the command needs the chain's median time too",
            hint="add --tip HEIGHT:MEDIAN_TIME",
        )
    return tip


def current_tip(chain: Chain, unit: str) -> ChainTip:
    """``tip_for`` for those who take something on the strength of it."""
    tip = tip_for(chain, unit)
    enforce(current_rules(tip))
    return tip


def now_by(tip: ChainTip) -> int:
    """Unix time by this machine's clock; never before the median time of the chain, which no clock set back undoes."""
    return max(int(time.time()), tip.median_time)


def now_of(chain: Chain) -> int:
    """As ``now_by``; by the clock alone where nobody says where the chain stands."""
    try:
        return now_by(chain.tip())
    except UsageError:
        return int(time.time())


def earliest_spend(terms: Terms) -> LockTime | None:
    """Before this no block holds a spend of the funding, nor of a coin that the funding itself spends.

    The refund is the first thing that is signed, and not for longer than the offer's max_refund_delay; until then the
    payer's coins were unspent too. The day on top is for blocks that a reorganisation has replaced since.
    """
    return earliest(terms.refund_lock_time, terms.offer.max_refund_delay)


def earliest(lock_time: LockTime, max_refund_delay: int) -> LockTime | None:
    """``earliest_spend`` by the two terms that decide it."""
    value = lock_time.value - max_refund_delay - blocks_in_unit(DAY_BLOCKS, lock_time.unit)
    return type(lock_time)(value) if value >= lock_time.lowest else None


def from_now_on(tip: ChainTip) -> LockTime:
    """Where to look for a spend of what nobody has signed yet: in no block that is there already."""
    return Height(max(tip.height, 1))


def gather_facts(chain: Chain, terms: Terms, tip: ChainTip | None = None) -> Facts:
    """Ask the chain about one channel. With the backend ``none``, the user's word counts.

    Args:
        tip: what the chain has said of its tip a moment ago.
    """
    if tip is None:
        tip = tip_for(chain, terms.refund_lock_time.unit)
    if chain.stated_confirmations is not None:
        return Facts(tip, terms.funding_txout, chain.stated_confirmations)
    return facts_of(terms, tip, chain.output(terms.outpoint, not_before=earliest_spend(terms)))


def facts_of(terms: Terms, tip: ChainTip, seen: OutputStatus | None) -> Facts:
    """What a backend has said of a channel's funding, as far as it counts."""
    if seen is None:
        return Facts(tip)
    spend = counted_spend(terms.outpoint, seen, tip, verified=True)
    if spend is None:
        return Facts(tip, seen.output, seen.confirmations, mature=seen.mature)
    return Facts(
        tip, seen.output, seen.confirmations, spend.txid, spend.confirmations, spending=spend.transaction
    )


def counted_spend(
    outpoint: OutPoint, seen: OutputStatus, tip: ChainTip, *, verified: bool = False
) -> Spend | None:
    """The spend of an output as far as it counts: in a block, or such that the next block could hold it.

    A spend that only waits, with a witness that the lock does not take or before its lock time, is one server's
    invention, or the payer's refund shown early: it is as if nothing were shown.

    Args:
        verified: whether so is one whose signatures cannot be verified here, with an annex or beside other inputs: that
            can be made up too, and must hold up no close.
    """
    spend = seen.spend
    if spend is None or spend.confirmations:
        return spend
    known = spend.transaction
    if known is None or not may_be_mined(known, outpoint, seen.output, tip, verified=verified):
        return None
    return spend


def require_confirmed_funding(chain: Chain, terms: Terms, facts: Facts) -> None:
    """What spends a funding has version 3, and no node relays that while the funding, of version 2, is in no block.

    Raises:
        TooEarly: ``funding-unconfirmed``.
    """
    if not chain.sends:  # whoever broadcasts it by hand will see
        return
    if facts.funding is not None and facts.spent_by is None and held_back(terms, facts):
        raise TooEarly(
            "funding-unconfirmed",
            "the funding is not in a block yet, and until then no node relays what spends it",
            hint="`mpchan watch` sends it in the first round after the block",
        )


def facts_if_any(chain: Chain, terms: Terms) -> Facts | None:
    """As ``gather_facts``, but None where nothing can be asked and nothing was said."""
    try:
        return gather_facts(chain, terms)
    except UsageError:
        return None


def still_going(chain: Chain) -> Callable[[Record], bool]:
    """Whether a channel has not ended by what the chain says; for commands that were told no channel."""

    def going(record: Record) -> bool:
        return record.status(facts_if_any(chain, record.terms)) not in ENDED

    return going


def to_give_up(
    wallet: Wallet, suitable: Callable[[Record], bool], given_up: Callable[[Record], bool]
) -> Callable[[Record], bool]:
    """What an ``abandon`` that names no channel can mean: an opening, or the newest channel given up already."""
    newest = wallet.channels.oldest_first()[-1:]
    return lambda record: suitable(record) or (given_up(record) and record.terms.name in newest)


ENDED = (Status.CLOSED, Status.REFUNDED, Status.ABANDONED)
