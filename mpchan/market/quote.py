"""What a purchase will cost, before anything is asked of the seller or locked."""

from __future__ import annotations

from pathlib import Path

from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.construction.refund_first import refund_delay_rules
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.facts import Status
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import lasting_rules, version_rules
from mpchan.channel.opening import offer_rules, refund_lock_time
from mpchan.channel.rules import enforce
from mpchan.channel.terms import close_reserve
from mpchan.errors import MpchanError, NotPossible, UsageError
from mpchan.market.output import Progress, already_there
from mpchan.market.standing import going_purchase, is_begun, live_channel, opened_for
from mpchan.party import payer as party
from mpchan.party.common import ENDED, current_tip, facts_if_any, now_of, tip_for
from mpchan.party.fees import estimated_rate
from mpchan.results.sales import Bought
from mpchan.sale.manifest import Sale, pieces_from_text, pieces_text, published_sale
from mpchan.sale.plan import ANYBODYS_FUNDING, ANYBODYS_SCRIPT
from mpchan.transport.base import new_session
from mpchan.units import Amount, LockTime
from mpchan.values import frozen, replace
from mpchan.wallet.coins import spend_vsize
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet


@frozen
class Quote:
    """A purchase that was not begun yet, or one that goes on, and what it comes to.

    Attributes:
        held: the pieces that are in the file already.
        goes_on: the channel is funded: the money was locked when somebody agreed to it.
        reserve: what the close may cost, on top of the capacity.
        funding_fee: about what the funding costs: of one coin, with change; 0 where it is paid already.
        refund_at: of its channel, or of one that is opened now.
        locked_at_most: from now until then; empty where it goes on.
    """

    purchase: Purchase
    sale: Sale
    held: frozenset[int]
    goes_on: bool
    capacity: Amount
    reserve: Amount
    funding_fee: Amount
    refund_at: str
    locked_at_most: str

    def bought(self, record: PayerRecord | None, settlement_txid: str | None) -> Bought:
        """The answer of ``payer buy``, with the channel and the txid of its close."""
        return Bought(
            name=self.sale.name,
            wanted=pieces_text(self.purchase.wanted),
            bought=pieces_text(self.purchase.bought),
            price_sat=self.sale.price.sat,
            capacity_sat=self.capacity.sat,
            reserve_sat=self.reserve.sat,
            funding_fee_sat=self.funding_fee.sat,
            output=self.purchase.output,
            pieces=len(self.purchase.wanted),
            bytes=sum(self.sale.length_of(number) for number in self.purchase.wanted),
            merkle_root=self.sale.root.hex(),
            channel=None if record is None else record.terms.channel_id,
            paid_sat=0 if record is None else record.paid.sat,
            settlement_txid=settlement_txid,
        )


def quote(
    wallet: Wallet, chain: Chain, published: Offer, output: Path, pieces: str | None, progress: Progress
) -> Quote:
    """The purchase of this file into this place that goes on, or a new one, which is not saved yet.

    A purchase whose channel is funded goes on under the terms that were agreed to then, whatever is published now.

    Args:
        published: the seller's offer to everybody, as it stands now.
        output: absolute path.
        pieces: as ``pieces_from_text`` reads them; None for all, or for those of the purchase that goes on.
        progress: told of bytes that were read of what is there already.

    Raises:
        Refused: ``wrong-network``, ``fee-rate-low``, ``fee-rate-high``, ``refund-delay``.
        ParseError: ``malformed-sale``, ``malformed-pieces``.
        NotPossible: ``nothing-sold``, ``made-out``.
        UsageError: ``other-purchase``, ``output-exists``.
        StorageError: ``purchase-damaged``, ``output-failed``; the channel's own.
    """
    asked = None if pieces is None else pieces_from_text(pieces, published_sale(published).count)
    purchase, held = _purchase(wallet, chain, published, output, asked, progress)
    published = purchase.published
    sale, record = published_sale(published), live_channel(wallet, purchase)
    capacity, reserve = sale.price_of(len(purchase.bought)), close_reserve(published, ANYBODYS_SCRIPT)
    if record is not None and is_begun(record):  # what the chain costs now is no reason to leave it half-way
        known = str(record.terms.refund_lock_time)
        return Quote(purchase, sale, held, True, capacity, reserve, Amount(0), known, "")
    limits = wallet.config.limits
    enforce(version_rules(published))
    enforce(offer_rules(published, wallet.network.name, limits, chain.min_fee_rate()))
    enforce(lasting_rules(published, now_of(chain)))
    chain.require_version(published.transaction_version)
    rate, _ = estimated_rate(chain, limits, "the funding")
    tip = current_tip(chain, published.lock_time_unit)
    refund_at = refund_lock_time(published, tip, None, limits)
    _require_updates(published, refund_at, len(purchase.bought))
    return Quote(
        purchase,
        sale,
        held,
        False,
        capacity,
        reserve,
        rate.fee(spend_vsize(1, [ANYBODYS_FUNDING, ANYBODYS_SCRIPT])),
        str(refund_at),
        f"{refund_at.value - refund_at.now(tip)} {refund_at.unit}",
    )


def _require_updates(offer: Offer, refund_at: LockTime, needed: int) -> None:
    """The lock times leave room for a payment of each piece: else the rest would be locked for nothing."""
    possible = construction_of(offer).most_updates(offer, refund_at)
    if possible is not None and needed > possible:
        raise NotPossible(
            "out-of-updates",
            f"the lock times of this offer leave room for {possible} payments, {needed} are needed",
            hint="buy fewer pieces at a time (--pieces), or ask the seller for an offer that counts in seconds",
        )


def _purchase(
    wallet: Wallet,
    chain: Chain,
    published: Offer,
    output: Path,
    asked: tuple[int, ...] | None,
    progress: Progress,
) -> tuple[Purchase, frozenset[int]]:
    """The purchase that goes on, or a new one; and which of its pieces are there already."""
    sale = published_sale(published)
    purchases = Purchases(wallet.directory)
    going = going_purchase(wallet, sale.root, str(output))
    if going is not None:
        held = already_there(output, sale, going.wanted, progress)
        if not _is_over(wallet, chain, going, held):
            if asked not in (None, going.wanted):
                raise UsageError(
                    "other-purchase",
                    f"a purchase of the pieces {pieces_text(going.wanted)} into {output} is not finished yet",
                    hint="let it finish first: the same command without --pieces goes on with it",
                )
            return _under(wallet, chain, purchases, going, published, held), frozenset(held)
        purchases.save(replace(going, done=True))
    wanted = asked or tuple(range(1, sale.count + 1))
    held = already_there(output, sale, wanted, progress)
    return _new(published, str(output), wanted, held), frozenset(held)


def _new(published: Offer, output: str, wanted: tuple[int, ...], held: set[int]) -> Purchase:
    sale = published_sale(published)
    bought = tuple(number for number in wanted if number not in held and not sale.is_free(number))
    return Purchase(new_session(), published, output, wanted, bought)


def _under(
    wallet: Wallet, chain: Chain, purchases: Purchases, going: Purchase, published: Offer, held: set[int]
) -> Purchase:
    """The purchase that goes on, under what is published now where no money is locked yet.

    The seller makes out another offer then. An opening of a restored wallet stays as it is: its funding may have left.
    """
    record = live_channel(wallet, going)
    if going.published == published or is_begun(record) or (record is not None and record.restored):
        return going
    if record is not None:
        party.abandon(wallet, chain, record.terms.name)
    renewed = _new(published, going.output, going.wanted, held)
    if renewed.bought == going.bought:
        renewed = replace(going, published=published, own=None)
    else:  # one session stands for one wish
        purchases.save(replace(going, done=True))
    purchases.save(renewed)
    return renewed


def _is_over(wallet: Wallet, chain: Chain, going: Purchase, held: set[int]) -> bool:
    """Whether an unfinished purchase comes to no good end any more; what is missing takes another one.

    Its channel has ended, and the seller owes nothing in it; or it has no channel yet, and would pay for what has come
    here in some other way meanwhile; or its opening has waited too long.
    """
    record = live_channel(wallet, going)
    needless = bool(held & set(going.bought))
    if record is None:
        return needless or bool(opened_for(wallet, going))
    if not is_begun(record) and (needless or _is_stale(record, chain)):
        party.abandon(wallet, chain, record.terms.name)
        return True
    status = record.status(facts_if_any(chain, record.terms))
    owed = set(going.bought[: record.paid.sat // published_sale(going.published).price.sat]) - held
    return status in ENDED and not (status is Status.CLOSED and owed)


def _is_stale(record: PayerRecord, chain: Chain) -> bool:
    """Whether an opening has waited too long: the seller signs no such refund any more, or no time is left to pay."""
    terms = record.terms
    tip = tip_for(chain, terms.refund_lock_time.unit)
    check = refund_delay_rules if isinstance(record.state, payer.Opening) else payer.time_left_rules
    try:
        enforce(check(terms, tip))
    except MpchanError:
        return True
    return False
