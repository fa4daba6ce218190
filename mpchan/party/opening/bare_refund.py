"""A refund from its bare file: what brings the payer's money back where nothing else of its wallet is left.

Either the file holds the complete transaction: then no key is needed and nothing is signed. Or it is what the payee has
signed: then the payer's signature is added, with the key that its seed words make. What it spends is looked up on the
chain, and both signatures are verified against that before it is sent.
"""

from __future__ import annotations

from collections.abc import Callable

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction
from mpchan.bitcoin.witness import check_witness
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.construction.registry import all_constructions
from mpchan.channel.construction.signed_refund import signed_refund_rules
from mpchan.channel.facts import time_left
from mpchan.channel.rules import enforce
from mpchan.channel.signing import ChannelKey
from mpchan.errors import NotPossible, ParseError, Refused, SentUnnoted, StorageError, TooEarly
from mpchan.party.common import counted_spend, tip_for
from mpchan.party.payer import load, refund
from mpchan.party.sending import hand_over
from mpchan.results.closing import Refunded
from mpchan.units import ChainTip, lock_time_from_int
from mpchan.wallet.keys import Keys
from mpchan.wallet.wallet import Wallet

KEYS_TRIED = 10_000
"""So many channel keys, from the first on, may be that of an older channel: a second's work."""

ADDRESSES_TRIED = 1_000
"""So far beyond the addresses that are known to be used the refund's own may lie."""

_PAYOUT = "receive"
_UNCHECKED = "no chain was asked, so nothing has verified the signatures of this refund"


def refund_from_file(
    wallet: Wallet | None,
    chain: Chain,
    transaction: Transaction,
    *,
    before_it_leaves: Callable[[], None] = lambda: None,
) -> Refunded:
    """``payer refund FILE``: broadcast a complete refund, once its lock time has come.

    Args:
        wallet: where there is one; a channel that it knows is marked as refunding, as by ``payer refund``.
        before_it_leaves: called when all is right with it.

    Raises:
        ParseError: ``not-a-refund``.
        Refused: ``signature``, ``sighash-type``, ``witness-script``: it does not spend what the chain shows.
        TooEarly: ``refund-locked``, saying when; ``funding-unseen``.
        NotPossible: ``channel-closed``, ``channel-settling``, something else spends the funding.
        UsageError: ``wrong-role``, ``tip-needed``.
        SentUnnoted: it was sent, but what this wallet has of the channel cannot be read or written.
    """
    _require_refund(transaction)
    damage: StorageError | None = None
    try:
        name = None if wallet is None else _known(wallet, transaction)
    except StorageError as error:  # the file holds all that it takes
        name, damage = None, error
    if wallet is not None and name is not None:
        return refund(wallet, chain, name)
    tip = tip_for(chain, lock_time_from_int(transaction.lock_time).unit)
    result = Refunded(
        channel=str(transaction.inputs[0].outpoint.txid)[:16],
        txid=str(transaction.txid),
        kind="refund",
        broadcast=chain.sends,
        hex=transaction.to_hex(),
        warnings=() if chain.sends else (_UNCHECKED,),
    )
    there = chain.sends and _is_there(chain, transaction, tip)
    if not there:
        _require_final(transaction, tip)
    try:
        before_it_leaves()
    except StorageError as error:
        damage = damage or error
    if chain.sends and not there:
        hand_over(wallet, chain, transaction)
    if damage is not None:
        raise SentUnnoted(damage, f"the refund {transaction.txid}", result)
    return result


def refund_from_reply(wallet: Wallet, chain: Chain, psbt: Psbt, *, address: str | None = None) -> Refunded:
    """``payer refund FILE`` with what ``payee sign-refund`` has written, in a wallet that has the payer's seed.

    The key is the one that follows from the payee's, or one of the first ``KEYS_TRIED`` that older channels counted.
    The receiving address counts as used from then on, so that the coin is seen when it comes.

    Args:
        address: where the refund pays; needed only where that is no address of this wallet.

    Raises:
        Refused: the rules of ``signed_refund_rules``; ``foreign-payout``.
        NotPossible: ``foreign-refund``, the key is not this seed's.
        ParseError, TooEarly, UsageError: as ``refund_from_file``.
    """
    signed = enforce(signed_refund_rules(psbt, wallet.config.limits.max_fee_rate))
    name = _known(wallet, signed.unsigned)
    if name is not None:
        return refund(wallet, chain, name)
    payout = signed.payout.script_pubkey
    found = _payout_index(wallet.keys, payout)
    named = None if address is None else address_to_script(address, wallet.network)
    if found is None and named != payout:
        paid = script_to_address(payout, wallet.network)
        raise Refused(
            "foreign-payout",
            f"this refund pays to {paid}, which is no address of this wallet",
            hint=f"where you have told `mpchan payer open` to pay it there: --address {paid}",
        )
    key = _payer_key(wallet.keys, signed.payer_key, signed.payee_key)
    transaction = signed.complete(key.sign_returned_refund(signed))

    def note_address() -> None:
        if found is None:
            return
        with wallet.lock():
            keys = wallet.fresh_keys()
            if keys.next_index(_PAYOUT) <= found:
                keys.advance(**{_PAYOUT: found + 1})

    return refund_from_file(wallet, chain, transaction, before_it_leaves=note_address)


def _payout_index(keys: Keys, script_pubkey: bytes) -> int | None:
    """The receiving index of an address; None where it is not this wallet's."""
    last = keys.next_index(_PAYOUT) + ADDRESSES_TRIED
    return next((index for index in range(last) if keys.script(_PAYOUT, index) == script_pubkey), None)


def _payer_key(keys: Keys, wanted: PublicKey, payee_key: PublicKey) -> ChannelKey:
    """The key with which this wallet's seed pays in the channel."""
    derived = keys.payer_key(payee_key)
    if derived.public_key == wanted:
        return derived
    for index in range(KEYS_TRIED):
        key = keys.channel_key(index)
        if key.public_key == wanted:
            return key
    raise NotPossible(
        "foreign-refund",
        f"the payer's key in this refund, {wanted.sec.hex()}, does not come from this wallet's seed",
        hint="make a wallet of the payer's seed words with `mpchan init --restore`, and give --wallet",
    )


def _require_refund(transaction: Transaction) -> None:
    """The transaction has the form of a refund in some construction."""
    faults = [each.refund_fault(transaction) for each in all_constructions()]
    if None not in faults:
        raise _no_refund(str(faults[0]))


def _no_refund(reason: str) -> ParseError:
    return ParseError(
        "not-a-refund",
        f"this is no complete refund: {reason}",
        hint="give the file that `mpchan payer fund --refund-out` has written",
    )


def _known(wallet: Wallet, transaction: Transaction) -> str | None:
    """The name of the channel, where this wallet has it and funded it."""
    outpoint = transaction.inputs[0].outpoint
    if not wallet.channels.knows(outpoint):
        return None
    name = outpoint.name
    funded = payer.ever_funded(load(wallet, name).state)
    if funded is None:
        return None
    if funded.refund.txid != transaction.txid:
        raise _no_refund(f"that of channel {name[:16]} is {funded.refund.txid}")
    return name


def _is_there(chain: Chain, transaction: Transaction, tip: ChainTip) -> bool:
    """Whether chain or mempool hold the refund; where not, it can spend the funding that the chain shows."""
    outpoint = transaction.inputs[0].outpoint
    seen = chain.output(outpoint)
    if seen is None:
        raise TooEarly(
            "funding-unseen",
            f"the chain does not show the funding {outpoint}",
            hint="is this wallet on the refund's own network?",
        )
    spend = counted_spend(outpoint, seen, tip)
    if spend is not None and spend.txid != transaction.txid:
        now = "closed" if spend.confirmations else "settling"
        raise NotPossible(
            f"channel-{now}",
            f"the funding is spent by {spend.txid}, not by the refund: the payee closed the channel",
        )
    check_witness(transaction, 0, [seen.output])
    return spend is not None


def _require_final(transaction: Transaction, tip: ChainTip) -> None:
    lock_time = lock_time_from_int(transaction.lock_time)
    if not lock_time.is_final(tip):
        raise TooEarly(
            "refund-locked",
            f"the refund is locked until {lock_time}, the chain stands at {lock_time.now(tip)}",
            hint=f"{time_left(lock_time, tip)} to go",
        )
