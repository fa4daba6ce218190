"""What a purchase will cost, before anything is asked of the seller or locked."""

from __future__ import annotations

from pathlib import Path

from mpchan.bitcoin.script import key_to_p2wpkh_script, script_to_p2wsh_script
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.offer import Offer
from mpchan.channel.opening import default_delay_rules, offer_rules, refund_lock_time
from mpchan.channel.rules import enforce
from mpchan.channel.sale import Sale, pieces_from_text, pieces_text, sale_of
from mpchan.channel.terms import close_reserve
from mpchan.errors import UsageError
from mpchan.market.output import Progress, already_there
from mpchan.party.common import ENDED, Result, facts_if_any, tip_for
from mpchan.party.fees import estimated_rate
from mpchan.party.payer_rules import opened_under
from mpchan.transport.base import new_session
from mpchan.units import Amount
from mpchan.values import frozen, replace
from mpchan.wallet.coins import spend_vsize
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet

_ANY_SCRIPT = key_to_p2wpkh_script(b"\x02" + bytes(32))
"""Of the kind that this wallet is paid to; a size is all that matters here."""


@frozen
class Quote:
    """A purchase that was not begun yet, or one that goes on, and what it comes to.

    Attributes:
        held: the pieces that are in the file already.
        goes_on: the channel is funded: the money was locked when somebody agreed to it.
        reserve: what the close may cost, on top of the capacity.
        funding_fee: about what the funding costs: of one coin, with change.
        refund_at: of a channel that is opened now.
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

    def to_dict(self) -> Result:
        """As ``payer buy --json`` tells it in its answer."""
        return {
            "name": self.sale.name,
            "wanted": pieces_text(self.purchase.wanted),
            "bought": pieces_text(self.purchase.bought),
            "price_sat": self.sale.price.sat,
            "capacity_sat": self.capacity.sat,
            "reserve_sat": self.reserve.sat,
            "funding_fee_sat": self.funding_fee.sat,
        }


def quote(
    wallet: Wallet, chain: Chain, published: Offer, output: Path, pieces: str | None, progress: Progress
) -> Quote:
    """The purchase that goes on under this offer into this file, or a new one, which is not saved yet.

    Args:
        output: absolute path.
        pieces: as ``pieces_from_text`` reads them; None for all, or for those of the purchase that goes on.
        progress: told of bytes that were read of what is there already.

    Raises:
        Refused: ``wrong-network``, ``fee-rate-low``, ``fee-rate-high``, ``refund-delay``.
        ParseError: ``malformed-sale``, ``malformed-pieces``.
        NotPossible: ``nothing-sold``.
        UsageError: ``other-purchase``, ``output-exists``.
    """
    sale = sale_of(published)
    limits = wallet.config.limits
    enforce(offer_rules(published, wallet.network.name, limits, chain.min_fee_rate()))
    delay = enforce(default_delay_rules(published, limits))
    going = _still_going(wallet, chain, published, str(output))
    asked = None if pieces is None else pieces_from_text(pieces, sale.count)
    if going is not None and asked not in (None, going.wanted):
        raise UsageError(
            "other-purchase",
            f"a purchase of the pieces {pieces_text(going.wanted)} into {output} is not finished yet",
            hint="let it finish first: the same command without --pieces goes on with it",
        )
    wanted = going.wanted if going is not None else asked or tuple(range(1, sale.count + 1))
    held = already_there(output, sale, wanted, progress)
    if going is None:
        bought = tuple(number for number in wanted if number not in held and not sale.is_free(number))
        going = Purchase(new_session(), published, str(output), wanted, bought)
    rate, _ = estimated_rate(chain, limits, "the funding")
    tip = tip_for(chain, published.lock_time_unit)
    return Quote(
        going,
        sale,
        frozenset(held),
        _is_funded(wallet, going),
        sale.price_of(len(going.bought)),
        close_reserve(published, _ANY_SCRIPT),
        rate.fee(spend_vsize(1, [script_to_p2wsh_script(b""), _ANY_SCRIPT])),
        str(refund_lock_time(published, tip, None, limits)),
        f"{delay} {published.lock_time_unit}",
    )


def _is_funded(wallet: Wallet, purchase: Purchase) -> bool:
    records = [] if purchase.own is None else opened_under(wallet, purchase.own)
    begun = (payer.Opening, payer.Secured, payer.Abandoned)
    return any(not isinstance(record.state, begun) for record in records)


def _still_going(wallet: Wallet, chain: Chain, published: Offer, output: str) -> Purchase | None:
    """The unfinished purchase; one whose channel has ended is over, and what is missing takes another channel."""
    purchases = Purchases(wallet.directory)
    going = purchases.going(published, output)
    if going is None or going.own is None:
        return going
    for record in opened_under(wallet, going.own):
        if record.status(facts_if_any(chain, record.terms)) in ENDED:
            purchases.save(replace(going, done=True))
            return None
    return going
