"""A funding as the chain sees it: is it there, did another transaction take its coins, was it sent too early.

The refund spends one txid. A transaction that takes a coin of the funding, be it a payment or the same payment with a
higher fee, makes that txid impossible: the refund and every update are void, and nothing on our side can mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from mpchan.bitcoin.tx import MAX_REPLACEABLE, Transaction
from mpchan.chain.base import Chain, Spend
from mpchan.channel.facts import Facts, Status
from mpchan.channel.terms import Terms
from mpchan.errors import NotPossible, TooEarly
from mpchan.party.common import counted_spend, earliest_spend
from mpchan.units import OutPoint, Txid
from mpchan.values import frozen

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


@frozen
class Conflict:
    """A transaction that spends a coin of the funding in the funding's stead.

    Attributes:
        confirmed: whether a block holds it; else the mempool does.
        pays: its output to the channel's address, as the same funding with another fee has it; None without one.
    """

    txid: Txid
    confirmed: bool
    pays: OutPoint | None

    def sentence(self, funding: Txid) -> str:
        """What has happened, in words."""
        done = "has replaced" if self.confirmed else "is about to replace"
        text = f"transaction {self.txid} {done} the funding {funding}: with it the refund and every update are void"
        if self.pays is not None:
            text += (
                "; it pays the same address, but that money depends on the payee alone until "
                f"`mpchan payer open --again {self.pays}` has its refund"
            )
        return text


def is_sent(chain: Chain, terms: Terms) -> bool:
    """Whether chain or mempool hold the funding."""
    return chain.output(terms.outpoint, not_before=earliest_spend(terms)) is not None


def find_conflict(chain: Chain, terms: Terms, funding: Transaction) -> Conflict | None:
    """What spends a coin of ``funding`` in its stead: what a block holds before what the mempool does.

    What waits in the mempool counts as ``counted_spend`` says.
    """
    found: Conflict | None = None
    for source in funding.inputs:
        seen = chain.output(source.outpoint, not_before=earliest_spend(terms))
        spend = None if seen is None else seen.spend
        if seen is not None and spend is not None and not spend.confirmations:
            spend = counted_spend(source.outpoint, seen, chain.tip())
        if spend is None or spend.txid == funding.txid:
            continue
        conflict = Conflict(spend.txid, spend.confirmations > 0, _paying(terms, spend))
        if conflict.confirmed:
            return conflict
        found = found or conflict
    return found


def _paying(terms: Terms, spend: Spend) -> OutPoint | None:
    """The output of a transaction that pays the channel's address."""
    outputs = () if spend.transaction is None else spend.transaction.outputs
    script = terms.funding_txout.script_pubkey
    found = (vout for vout, output in enumerate(outputs) if output.script_pubkey == script)
    return next((OutPoint(spend.txid, vout) for vout in found), None)


def refuse_conflict(conflict: Conflict, funding: Transaction) -> NoReturn:
    """Say that the funding is lost, or about to be.

    Raises:
        NotPossible: ``funding-void``, where a block holds the conflict.
        TooEarly: ``funding-conflict``, where only the mempool does.
    """
    if conflict.confirmed:
        raise NotPossible(
            "funding-void",
            conflict.sentence(funding.txid),
            hint="give this channel up with `mpchan payer abandon`; a new one needs a new offer"
            if conflict.pays is None
            else f"`mpchan payer open --again {conflict.pays}`, then the payee's `mpchan payee sign-refund`",
        )
    raise TooEarly(
        "funding-conflict",
        conflict.sentence(funding.txid),
        hint="one of the two will be confirmed: look again with `mpchan show`",
    )


def require_possible(chain: Chain, record: Record, facts: Facts) -> None:
    """The funding of a channel is on the chain, or can still get there."""
    funding = record.funding
    if facts.funding is not None or funding is None or record.status(None) is Status.OPENING:
        return
    conflict = find_conflict(chain, record.terms, funding)
    if conflict is not None:
        refuse_conflict(conflict, funding)


def sent_transaction(chain: Chain, terms: Terms, funding: Transaction) -> Transaction | None:
    """The funding with its signatures as the chain holds it; None where that cannot be had."""
    for source in funding.inputs:
        seen = chain.output(source.outpoint, not_before=earliest_spend(terms))
        if seen is not None and seen.spend is not None and seen.spend.txid == funding.txid:
            return seen.spend.transaction
    return None


def warnings_about(chain: Chain, record: Record, facts: Facts | None) -> list[str]:
    """What is wrong with a channel's funding, each sentence after its stable name."""
    funding, seen = record.funding, facts is not None and facts.funding is not None
    if seen and record.role == "payer" and record.status(None) is Status.OPENING:
        return ["funding-early: " + early_text(record.terms)]
    if funding is None:
        return []
    if facts is not None and seen:
        if not facts.confirmations and record.has_external_funding:
            return replaceable_warnings(funding)
        return []
    conflict = find_conflict(chain, record.terms, funding)
    if conflict is None:
        return []
    return [
        f"{'funding-void' if conflict.confirmed else 'funding-conflict'}: {conflict.sentence(funding.txid)}"
    ]


def early_text(terms: Terms) -> str:
    """Of a funding that left before its refund was complete."""
    return (
        f"the funding {terms.outpoint.txid} was broadcast before its refund is signed: until `mpchan payer fund` has "
        f"the payee's signature, {terms.funding_value} depend on the payee alone; have the request signed at once; "
        f"`mpchan payer open --again {terms.outpoint}` makes another where the payee finds it too old"
    )


def replaceable_warnings(funding: Transaction) -> list[str]:
    """A funding that asks nodes to let it be replaced (BIP-0125)."""
    if all(source.sequence > MAX_REPLACEABLE for source in funding.inputs):
        return []
    text = (
        f"the funding {funding.txid} lets itself be replaced (BIP-0125): never bump its fee in the wallet that made "
        "it, the replacement would void the refund"
    )
    return [f"signals-replacement: {text}"]


def signed_already_warning(funding: Transaction) -> str:
    """A funding that anybody who has its file can broadcast, while the refund is not complete."""
    return (
        f"signed-already: the funding {funding.txid} is signed: keep the file to yourself, and broadcast it nowhere "
        "before `mpchan payer fund` has stored the refund"
    )
