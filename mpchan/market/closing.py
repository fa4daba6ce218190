"""How a buyer ends its channel together with the seller: after the last piece, and before it."""

from __future__ import annotations

from mpchan.chain.base import Chain
from mpchan.channel.construction.base import settlement
from mpchan.channel.facts import Status
from mpchan.errors import MpchanError, Refused
from mpchan.market.asking import Asking, Step
from mpchan.market.standing import back_text, is_begun, live_channel
from mpchan.party import payer as party
from mpchan.party.common import ENDED, gather_facts, read_transaction
from mpchan.results.sales import PurchaseCancelled
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet


def settled(wallet: Wallet, chain: Chain, asking: Asking, name: str) -> str:
    """Hand the settlement over; the txid of the close. What the seller answers must be that very transaction.

    Raises:
        MpchanError: the seller does not take it.
    """
    record = party.load(wallet, name)
    facts = gather_facts(chain, record.terms)
    if facts.spent_by is not None and record.status(facts) in (Status.SETTLING, Status.CLOSED):
        asking.tell(Step("settled", text=str(facts.spent_by)))
        return str(facts.spent_by)
    result = party.settle(wallet, chain, name)
    closing = read_transaction(asking.message("settlement", bytes.fromhex(result.hex)))
    expected = record.terms.schedule.build(settlement(Amount(result.paid_sat))).txid
    if closing.txid != expected:
        raise Refused(
            "other-settlement", f"the seller answers with transaction {closing.txid}, not with {expected}"
        )
    asking.tell(Step("settled", text=str(expected)))
    return str(expected)


def cancel(wallet: Wallet, chain: Chain, purchase: Purchase, asking: Asking) -> PurchaseCancelled:
    """``payer buy --cancel``: end a purchase where it stands.

    The settlement pays what is paid so far, and the rest comes back with it at once. An opening that is not funded is
    given up. Where something was paid the purchase stays: should a piece that is paid for not be there, the next
    ``payer buy`` asks for it first. Cancelled once more after the channel has ended, it is given up with that too.

    Raises:
        MpchanError: the seller does not take the settlement; the hint says how the rest comes back then.
    """
    record = live_channel(wallet, purchase)
    closing: str | None = None
    over = True
    if record is not None and not is_begun(record):
        party.abandon(wallet, chain, record.terms.name)
        record = None
    if record is not None:
        ended = record.status(gather_facts(chain, record.terms)) in ENDED
        closing = _closed(wallet, chain, record, asking)
        record = party.load(wallet, record.terms.name)
        over = ended or (not record.paid and gather_facts(chain, record.terms).spent_by is not None)
    if over:
        Purchases(wallet.directory).save(replace(purchase, done=True))
    paid = Amount(0) if record is None else record.paid
    return PurchaseCancelled(
        output=purchase.output,
        channel=None if record is None else record.terms.channel_id,
        paid_sat=paid.sat,
        returned_sat=0 if record is None else (record.terms.capacity - paid).sat,
        settlement_txid=closing,
    )


def _closed(wallet: Wallet, chain: Chain, record: PayerRecord, asking: Asking) -> str | None:
    """The txid of the close; of one that ended the channel before this, whatever it was."""
    facts = gather_facts(chain, record.terms)
    if record.status(facts) in ENDED:
        return None if facts.spent_by is None else str(facts.spent_by)
    try:
        return settled(wallet, chain, asking, record.terms.name)
    except MpchanError as error:
        error.hint = back_text(error.hint, party.load(wallet, record.terms.name))
        raise
