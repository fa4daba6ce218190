"""``mpchan bump``: a child that pays for a funding, settlement, update or refund that is stuck.

The transactions of a channel are never replaced: a replaced funding voids the refund, and the fee of the others is
agreed. So this wallet spends its own output of the stuck transaction, and pays for both. Nothing is closed here: only
what was sent before, by ``payer fund``, ``payee settle`` or ``payer refund``, is helped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import Chain, Coin
from mpchan.chain.steady import moved
from mpchan.channel import payee, payer
from mpchan.channel.facts import Facts
from mpchan.channel.terms import Terms
from mpchan.durability import step
from mpchan.errors import ChainError, NotPossible
from mpchan.party.common import Result, earliest_spend, from_now_on, gather_facts, still_going
from mpchan.party.fees import require_within
from mpchan.party.funding import require_possible
from mpchan.party.holdings import holdings
from mpchan.party.sending import sending
from mpchan.units import Amount, FeeRate, OutPoint
from mpchan.values import frozen
from mpchan.wallet.bumping import Paying, build_child, pays, rate_of
from mpchan.wallet.keys import Keys
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.sent import Sent
from mpchan.wallet.storage import held_if_possible
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


@frozen
class Stuck:
    """A channel's transaction that is in no block.

    Attributes:
        kind: ``funding``, ``settlement``, ``update`` or ``refund``.
        waits: whether it is in the mempool.
    """

    kind: str
    transaction: Transaction
    fee: Amount
    waits: bool

    @property
    def paying(self) -> Paying:
        """Its size and fee."""
        return Paying(self.transaction.vsize, self.fee)


def bump(wallet: Wallet, chain: Chain, prefix: str | None, rate: FeeRate, *, sends: bool = True) -> Result:
    """``bump``: pay for what is stuck with a child, so that both together pay ``rate``.

    A higher rate replaces the child; any other gives the same child again.

    Args:
        sends: whether to broadcast; else the child is only made and kept.

    Raises:
        NotPossible: ``fee-rate-low``, ``fee-rate-high``, ``bump-needless``, ``already-confirmed``, ``not-sent``,
            ``not-funded``, ``no-own-output``, ``output-spent``, ``not-enough-funds``, ``funding-void``, ``channel-…``.
        TooEarly: ``refund-locked``, ``update-locked``, ``funding-conflict``, ``non-final``.
        ChainError: out of reach; ``no-backend``, ``no-packages``, ``rejected``.
    """
    if not chain.sends:
        raise ChainError("no-backend", "this wallet asks no chain, so it cannot see what is stuck")
    require_within(rate, wallet.config.limits, "a bump")
    name = wallet.find_channel(prefix, _may_wait, "funded", still_going(chain))
    with held_if_possible(wallet.lock()) as failure, sending(wallet, name) as out:
        if failure is not None:
            out.fail(failure)
        record = wallet.load_channel(name)
        stuck = _stuck(chain, record)
        keys = wallet.fresh_keys()
        own = _own_output(stuck, keys.scripts())
        earlier = wallet.sent.children_of(stuck.transaction.txid)
        _require_free(chain, own, earlier)
        best = earlier[0] if earlier else None
        if best is None or not pays(rate, stuck.paying, _paying(best)):
            _require_use(chain, stuck, rate)
            out.require_disk()
            best = _made(wallet, chain, keys, stuck, own, rate, best)
        if sends:
            _hand_over(chain, stuck, best)
    result = {
        "channel": record.terms.channel_id,
        "txid": str(stuck.transaction.txid),
        "kind": stuck.kind,
        "child_txid": str(best.txid),
        "fee_sat": best.fee.sat,
        "fee_rate_sat_per_kvb": rate_of(stuck.paying, _paying(best)).sat_per_kvb,
        "broadcast": sends,
        "hex": best.transaction.to_hex(),
        "parent_hex": stuck.transaction.to_hex(),
    }
    return out.told(f"the child {best.txid}", result)


# what is stuck ------------------------------------------------------------------------------------


def _may_wait(record: Record) -> bool:
    state = record.state
    return not isinstance(state, (payer.Opening, payer.Secured, payer.Abandoned, payee.Abandoned))


def _stuck(chain: Chain, record: Record) -> Stuck:
    """The first of the channel's transactions that is in no block: the funding, else what spends it."""
    if not _may_wait(record):
        raise NotPossible("not-funded", f"the channel is {record.status(None).value}, nothing of it was sent")
    facts = gather_facts(chain, record.terms)
    if not facts.confirmations:
        return _funding(chain, record, facts)
    if facts.spend_confirmations:
        raise NotPossible("already-confirmed", f"{facts.spent_by}, which ended the channel, is in a block")
    if facts.spent_by is not None:
        return _waiting_close(chain, record)
    return _unsent_refund(record, facts) if isinstance(record, PayerRecord) else _unsent_close(record, facts)


def _funding(chain: Chain, record: Record, facts: Facts) -> Stuck:
    state = record.state
    if not isinstance(state, (payer.Funded, payer.Settling, payer.Refunding)):
        raise _no_own_output("funding", "the payer, who made it, can bump it")
    funded = payer.funded_of(state)
    require_possible(chain, record, facts)
    if facts.funding is None and not funded.sends:
        raise _not_sent("the funding", "mpchan payer fund")
    fee = _total(funded.spent) - _total(funded.funding.outputs)
    return Stuck("funding", funded.funding, fee, facts.funding is not None)


def _waiting_close(chain: Chain, record: Record) -> Stuck:
    """What spends the funding in the mempool, whoever sent it."""
    terms = record.terms
    seen = chain.output(terms.outpoint, not_before=earliest_spend(terms))
    transaction = None if seen is None or seen.spend is None else seen.spend.transaction
    if transaction is None:
        raise moved()
    if transaction.lock_time == terms.refund_lock_time.value:
        return _close("refund", terms, transaction, waits=True)
    return _close("update" if transaction.lock_time else "settlement", terms, transaction, waits=True)


def _unsent_refund(record: PayerRecord, facts: Facts) -> Stuck:
    """The refund that the chain did not take, or has dropped."""
    if not isinstance(record.state, payer.Refunding):
        if record.terms.refund_lock_time.is_final(facts.tip):
            raise _not_sent("the refund", "mpchan payer refund")
        raise NotPossible("already-confirmed", "the funding is in a block, and no close of the channel waits")
    return _close("refund", record.terms, payer.take_refund(record.state, facts).funded.refund, waits=False)


def _unsent_close(record: PayeeRecord, facts: Facts) -> Stuck:
    """The settlement or the update that the chain did not take, or has dropped."""
    _, closing = payee.close(record.state, facts)
    kind = "settlement" if isinstance(closing, payee.Settlement) else "update"
    if not isinstance(record.state, payee.Closing):
        raise _not_sent(f"the {kind}", "mpchan payee settle")
    return _close(kind, record.terms, closing.transaction, waits=False)


def _close(kind: str, terms: Terms, transaction: Transaction, *, waits: bool) -> Stuck:
    return Stuck(kind, transaction, terms.funding_value - _total(transaction.outputs), waits)


def _not_sent(what: str, command: str) -> NotPossible:
    return NotPossible(
        "not-sent",
        f"{what} was not sent by this wallet",
        hint=f"`{command}` sends it; bump it where it is refused",
    )


# our output of it ---------------------------------------------------------------------------------


def _own_output(stuck: Stuck, scripts: Collection[bytes]) -> Coin:
    """The largest output of a stuck transaction that pays to this wallet."""
    outputs = stuck.transaction.outputs
    own = [vout for vout, output in enumerate(outputs) if output.script_pubkey in scripts]
    if not own:
        hint = "the other party may have an output that it can spend"
        if stuck.kind == "funding":
            hint = "spend its change in the wallet that made it; never replace the funding, that voids the refund"
        raise _no_own_output(stuck.kind, hint)
    vout = max(own, key=lambda vout: outputs[vout].value)
    return Coin(OutPoint(stuck.transaction.txid, vout), outputs[vout], 0)


def _no_own_output(kind: str, hint: str) -> NotPossible:
    return NotPossible(
        "no-own-output", f"the {kind} has no output of this wallet that a child could spend", hint=hint
    )


def _require_free(chain: Chain, own: Coin, children: Sequence[Sent]) -> None:
    seen = chain.output(own.outpoint, not_before=from_now_on(chain.tip()))
    spend = None if seen is None else seen.spend
    if spend is not None and spend.txid not in [child.txid for child in children]:
        raise NotPossible(
            "output-spent", f"{spend.txid}, which is no bump of this wallet, spends {own.outpoint}"
        )


# the child ----------------------------------------------------------------------------------------


def _require_use(chain: Chain, stuck: Stuck, rate: FeeRate) -> None:
    """The rate is above what the stuck transaction pays alone, and is relayed."""
    if pays(rate, stuck.paying):
        own = rate_of(stuck.paying)
        raise NotPossible(
            "bump-needless", f"the {stuck.kind} pays {own} already, which is no less than {rate}"
        )
    least = chain.min_fee_rate()
    if rate < least:
        raise NotPossible("fee-rate-low", f"a bump to {rate} is not relayed, the least is {least}")


def _made(
    wallet: Wallet, chain: Chain, keys: Keys, stuck: Stuck, own: Coin, rate: FeeRate, replaced: Sent | None
) -> Sent:
    """A new child; its change index and itself are on disk when this returns."""
    more = list(holdings(wallet, chain, keys).confirmed)
    if replaced is None:
        script = keys.script("change", keys.next_index("change"))
    else:  # the same place, and its coins are free with it
        script = replaced.script_pubkey
        pairs = zip(replaced.outpoints, replaced.spent, strict=True)
        more += [Coin(outpoint, output, 1) for outpoint, output in pairs if outpoint != own.outpoint]
    outbid = None if replaced is None else _paying(replaced)
    child = build_child(rate, stuck.paying, own, more, script, outbid)
    if replaced is None:
        keys.allocate("change")
    signed = keys.sign_spend(child.transaction, child.spent)
    sent = Sent(signed, child.spent, script, None, 0, chain.tip().height, True, stuck.transaction)
    wallet.sent.save(sent)
    return sent


def _hand_over(chain: Chain, stuck: Stuck, child: Sent) -> None:
    try:
        if stuck.waits:
            step("emit", chain.broadcast, child.transaction)
        else:
            step("emit", chain.broadcast_package, [stuck.transaction, child.transaction])
    except ChainError as error:
        kept = "the child is kept: the same command sends it again, a higher rate replaces it"
        hint = kept if error.hint is None else f"{error.hint}; {kept}"
        raise ChainError(error.slug, error.message, hint=hint) from None


def _paying(child: Sent) -> Paying:
    return Paying(child.transaction.vsize, child.fee)


def _total(outputs: Sequence[TxOut]) -> Amount:
    return Amount(sum(output.value.sat for output in outputs))
