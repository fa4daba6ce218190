"""``mpchan bump``: a child that pays for a funding, settlement, update or refund that is stuck.

The transactions of a channel are never replaced: a replaced funding voids the refund, and the fee of the others is
agreed. So this wallet spends its own output of the stuck transaction, and pays for both. Nothing is closed here: only
what was sent before, by ``payer fund``, ``payee settle`` or ``payer refund``, is helped.
"""

from __future__ import annotations

from mpchan.chain.base import Chain, Coin
from mpchan.channel.watch.bidding import Rivals, pays, rate_of
from mpchan.durability import step
from mpchan.errors import ChainError, NotPossible
from mpchan.party.common import still_going
from mpchan.party.fees import require_bump_within
from mpchan.party.holdings import holdings
from mpchan.party.sending import sending
from mpchan.party.watch.stuck import Place, Stuck, may_wait, own_output, paying, place_of, stuck_of
from mpchan.results.closing import Bumped
from mpchan.units import FeeRate
from mpchan.wallet.bumping import build_child
from mpchan.wallet.keys import Keys
from mpchan.wallet.sent import Sent
from mpchan.wallet.storage import held_if_possible
from mpchan.wallet.wallet import Wallet


def bump(wallet: Wallet, chain: Chain, prefix: str | None, rate: FeeRate, *, sends: bool = True) -> Bumped:
    """``bump``: pay for what is stuck with a child, so that both together pay ``rate``.

    A higher rate replaces the child; any other gives the same child again. Where the other party has put a child in
    its place, or its refund, this one pays what it takes to get there, which may be above ``rate``.

    Args:
        sends: whether to broadcast; else the child is only made and kept.

    Raises:
        NotPossible: ``fee-rate-low``, ``fee-rate-high``, ``bump-needless``, ``already-confirmed``, ``not-sent``,
            ``not-funded``, ``no-own-output``, ``output-spent``, ``not-enough-funds``, ``funding-void``, ``channel-…``.
        TooEarly: ``refund-locked``, ``update-locked``, ``funding-conflict``, ``funding-unconfirmed``, ``non-final``.
        ChainError: out of reach; ``no-backend``, ``no-packages``, ``rejected``.
    """
    if not chain.sends:
        raise ChainError("no-backend", "this wallet asks no chain, so it cannot see what is stuck")
    require_bump_within(rate, wallet.config.limits)
    name = wallet.channels.find(prefix, may_wait, "funded", still_going(chain))
    with held_if_possible(wallet.lock()) as failure, sending(wallet, name) as out:
        if failure is not None:
            out.fail(failure)
        record = wallet.channels.load(name)
        stuck = stuck_of(chain, record)
        keys = wallet.fresh_keys()
        children = wallet.sent.children_of(stuck.transaction.txid)
        place = place_of(chain, stuck, own_output(stuck, keys.scripts()), children)
        best = place.noted
        if best is None or place.has_lost(rate, best):
            _require_use(chain, place, rate)
            out.require_disk()
            best = _made(wallet, chain, keys, place, rate)
        if sends:
            _hand_over(chain, stuck, best)
    result = Bumped(
        channel=record.terms.channel_id,
        txid=str(stuck.transaction.txid),
        kind=stuck.kind,
        child_txid=str(best.txid),
        fee_sat=best.fee.sat,
        fee_rate_sat_per_kvb=rate_of(stuck.paying, paying(best)).sat_per_kvb,
        broadcast=sends,
        hex=best.transaction.to_hex(),
        parent_hex=stuck.transaction.to_hex(),
    )
    return out.told(f"the child {best.txid}", result)


# the child ----------------------------------------------------------------------------------------


def _require_use(chain: Chain, place: Place, rate: FeeRate) -> None:
    """The rate is above what is paid for the stuck transaction already, and is relayed."""
    stuck, sibling = place.stuck, () if place.rivals.of_parent else place.rivals.paying
    if pays(rate, stuck.paying, *sibling):
        by = "" if not sibling else ", with the other party's child,"
        paid = rate_of(stuck.paying, *sibling)
        raise NotPossible(
            "bump-needless", f"the {stuck.kind}{by} pays {paid} already, which is no less than {rate}"
        )
    least = chain.min_fee_rate()
    if rate < least:
        raise NotPossible("fee-rate-low", f"a bump to {rate} is not relayed, the least is {least}")


def _made(wallet: Wallet, chain: Chain, keys: Keys, place: Place, rate: FeeRate) -> Sent:
    """A new child; its change index and itself are on disk when this returns."""
    stuck, own, replaced = place.stuck, place.output, place.noted
    more = list(holdings(wallet, chain, keys).confirmed)
    if replaced is None:
        script = keys.script("change", keys.next_index("change"))
    else:  # the same place, and its coins are free with it
        script = replaced.script_pubkey
        pairs = zip(replaced.outpoints, replaced.spent, strict=True)
        more += [Coin(outpoint, output, 1) for outpoint, output in pairs if outpoint != own.outpoint]
    rivals = [place.rivals] if place.own is None else [place.rivals, Rivals((place.own,))]
    step_rate = chain.incremental_fee_rate()
    child = build_child(rate, stuck.transaction, stuck.paying, own, more, script, rivals, step_rate)
    signed = keys.sign_coins(child.transaction, child.spent)
    sent = Sent(signed, child.spent, 0, script, None, chain.tip().height, True, stuck.transaction)
    if place.rivals.paying:
        require_bump_within(rate_of(stuck.paying, paying(sent)), wallet.config.limits)
    if replaced is None:
        keys.allocate("change")
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
        error.hint = kept if error.hint is None else f"{error.hint}; {kept}"
        raise
