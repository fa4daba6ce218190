"""The commands that move the wallet's own coins outside of any channel.

What ``send`` makes is on disk before it leaves. Until its result is told, the same command goes on with the same
transaction: however often it is repeated after a crash, one transaction is made. From then on ``--resend`` sends it
again, and the same command makes another one. The wallet's lock is held until the result is out, so that of two equal
commands at the same time each makes its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import TxOut
from mpchan.chain.base import Chain
from mpchan.durability import step
from mpchan.errors import ChainError, NotPossible, SentUnnoted, StorageError
from mpchan.party.fees import rate_for
from mpchan.party.holdings import holdings, is_void, since
from mpchan.results import coins as results
from mpchan.units import Amount, FeeRate, OutPoint
from mpchan.values import replace
from mpchan.wallet.coins import OwnSpend, build_spend, build_sweep, require_fee_within
from mpchan.wallet.keys import Keys
from mpchan.wallet.sent import Sent
from mpchan.wallet.storage import held_if_possible
from mpchan.wallet.wallet import Wallet

_EARLIER = (
    "this transaction was made before, by a command that did not end; nothing else was sent. "
    "From now on the same command makes another one"
)


def send(
    wallet: Wallet,
    chain: Chain,
    script_pubkey: bytes,
    amount: Amount | None,
    *,
    fee_rate: FeeRate | None = None,
    sends: bool = True,
    confirm: Callable[[Amount, Amount], None] | None = None,
    tell: Callable[[results.Sent], None] | None = None,
) -> results.Sent:
    """``send``: pay an amount, or all there is, to an address.

    Args:
        amount: None for all that can be spent.
        sends: whether to broadcast it.
        confirm: asked with amount and fee before anything is signed; it raises to stop.
        tell: gives the result to whoever asked; should it raise, the same command tells the same again.

    Raises:
        NotPossible: ``below-dust``, ``not-enough-funds``, ``too-many-coins``, ``fee-rate-low``, ``fee-rate-high``.
        ChainError: out of reach; ``rejected``.
    """
    least = dust_limit(script_pubkey)
    if amount is not None and (amount < least or not amount):
        raise NotPossible("below-dust", f"{amount} are not relayed to this address, the least is {least}")
    with held_if_possible(wallet.lock()) as failure:
        warnings = [_EARLIER]
        record = _unfinished(wallet, chain, script_pubkey, amount)
        if record is None:
            if failure is not None:
                raise failure
            rate, warnings = rate_for(chain, wallet.config.limits, fee_rate, "the transaction")
            keys = wallet.fresh_keys()
            spend = _chosen(wallet, chain, keys, script_pubkey, amount, rate)
            require_fee_within(spend.transaction, spend.spent, wallet.config.limits.max_fee_rate)
            if confirm is not None:
                confirm(spend.paid, spend.fee)
            record = _signed(wallet, keys, spend, script_pubkey, amount, chain.tip().height)
        elif confirm is not None:
            confirm(record.paid, record.fee)
        result = _finish(wallet, chain, record, sends, warnings, tell)
    return _told(record, result, failure)


def resend(
    wallet: Wallet, chain: Chain, prefix: str, tell: Callable[[results.Sent], None] | None = None
) -> results.Sent:
    """``send --resend``: broadcast again what was sent before.

    Raises:
        NotPossible: ``unknown-send``.
        UsageError: ``ambiguous-send``.
        ChainError: out of reach; ``rejected``.
    """
    with held_if_possible(wallet.lock()) as failure:
        record = wallet.sent.find(prefix)
        result = _finish(wallet, chain, record, True, [], tell)
    return _told(record, result, failure)


def forget(wallet: Wallet, chain: Chain, prefix: str) -> results.Forgotten:
    """``send --forget``: give up a transaction that never left; its coins are free again.

    Raises:
        NotPossible: ``unknown-send``; ``already-sent`` where the chain knows it.
        UsageError: ``ambiguous-send``.
        ChainError: out of reach.
    """
    with wallet.lock():
        record = wallet.sent.find(prefix)
        if chain.output(OutPoint(record.txid, 0), not_before=since(record)) is not None:
            raise NotPossible("already-sent", f"{record.txid} is on the chain or waits for a block")
        wallet.sent.forget(record.txid)
    return results.Forgotten(str(record.txid), "forgotten")


def _unfinished(wallet: Wallet, chain: Chain, script_pubkey: bytes, amount: Amount | None) -> Sent | None:
    """What an earlier run of the same command made and did not tell, unless something else took its place."""
    sent = wallet.sent.all()
    for record in sent.values():
        same = (record.script_pubkey, record.amount) == (script_pubkey, amount)
        if same and not record.answered and not is_void(chain, record, sent):
            return record
    return None


def _chosen(
    wallet: Wallet,
    chain: Chain,
    keys: Keys,
    script_pubkey: bytes,
    amount: Amount | None,
    rate: FeeRate,
) -> OwnSpend:
    """The unsigned transaction: of confirmed coins, with own unconfirmed change only where these do not suffice."""
    held = holdings(wallet, chain, keys)
    every = [*held.confirmed, *held.own_unconfirmed]
    try:
        if amount is None:
            return build_sweep(every, script_pubkey, rate)
        payment = TxOut(amount, script_pubkey)
        change_script = keys.script("change", keys.next_index("change"))
        try:
            return build_spend(held.confirmed, [payment], change_script, rate)
        except NotPossible:
            return build_spend(every, [payment], change_script, rate)
    except NotPossible as error:
        raise held.not_enough(error, every) from None


def _signed(
    wallet: Wallet,
    keys: Keys,
    spend: OwnSpend,
    script_pubkey: bytes,
    amount: Amount | None,
    height: int,
) -> Sent:
    """The signed transaction; its change index and itself are on disk when this returns."""
    if spend.change_vout is not None:
        keys.allocate("change")
    transaction = keys.sign_coins(spend.transaction, spend.spent)
    record = Sent(transaction, spend.spent, spend.change_vout, script_pubkey, amount, height, False)
    wallet.sent.save(record)
    return record


def _finish(
    wallet: Wallet,
    chain: Chain,
    record: Sent,
    sends: bool,
    warnings: Sequence[str],
    tell: Callable[[results.Sent], None] | None,
) -> results.Sent:
    """Send what is on disk, tell it, and note that it is told."""
    sends = sends and chain.sends
    if sends:
        _broadcast(chain, record)
    result = results.Sent(
        txid=str(record.txid),
        amount_sat=record.paid.sat,
        fee_sat=record.fee.sat,
        change_sat=record.change.sat,
        broadcast=sends,
        hex=record.transaction.to_hex(),
        warnings=tuple(warnings),
    )
    if tell is not None:
        tell(result)
    if not record.answered:
        # the result is out, so this is no failure any more: the same command would only tell the same once more
        with suppress(StorageError):
            wallet.sent.save(replace(record, answered=True))
    return result


def _told(record: Sent, result: results.Sent, failure: StorageError | None) -> results.Sent:
    if failure is not None:
        raise SentUnnoted(failure, f"the transaction {record.txid}", result) from failure
    return result


def _broadcast(chain: Chain, record: Sent) -> None:
    try:
        if record.parent is None:
            step("emit", chain.broadcast, record.transaction)
        else:
            step("emit", chain.broadcast_package, [record.parent, record.transaction])
    except ChainError as error:
        error.hint = f"the transaction is kept: `mpchan send --resend {record.txid}` tries it again"
        raise
