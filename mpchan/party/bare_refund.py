"""A refund from its bare file: what brings the payer's money back where nothing else of its wallet is left.

The file holds the complete transaction, so no key is needed and nothing is signed. What it spends is looked up on the
chain, and both signatures are verified against that before it is sent.
"""

from __future__ import annotations

from mpchan.bitcoin.script import parse_multisig
from mpchan.bitcoin.tx import Transaction
from mpchan.bitcoin.witness import check_witness
from mpchan.chain.base import Chain
from mpchan.channel import payer
from mpchan.channel.facts import time_left
from mpchan.errors import NotPossible, ParseError, TooEarly, UsageError
from mpchan.party.common import Result, counted_spend, tip_for, with_warnings
from mpchan.party.payer import refund
from mpchan.party.sending import hand_over
from mpchan.units import ChainTip, lock_time_from_int
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet, channel_name

_UNCHECKED = "no chain was asked, so nothing has verified the signatures of this refund"


def refund_from_file(wallet: Wallet | None, chain: Chain, transaction: Transaction) -> Result:
    """``payer refund FILE``: broadcast a complete refund, once its lock time has come.

    Args:
        wallet: where there is one; a channel that it knows is marked as refunding, as by ``payer refund``.

    Raises:
        ParseError: ``not-a-refund``.
        Refused: ``signature``, ``sighash-type``, ``witness-script``: it does not spend what the chain shows.
        TooEarly: ``refund-locked``, saying when; ``funding-unseen``.
        NotPossible: ``channel-closed``, ``channel-settling``, something else spends the funding.
        UsageError: ``wrong-role``, ``tip-needed``.
    """
    _require_refund(transaction)
    name = None if wallet is None else _known(wallet, transaction)
    if wallet is not None and name is not None:
        return refund(wallet, chain, name)
    tip = tip_for(chain, lock_time_from_int(transaction.lock_time).unit)
    result: Result = {
        "channel": str(transaction.inputs[0].outpoint.txid)[:16],
        "txid": str(transaction.txid),
        "kind": "refund",
        "broadcast": chain.sends,
        "hex": transaction.to_hex(),
    }
    if not chain.sends:
        _require_final(transaction, tip)
        return with_warnings(result, [_UNCHECKED])
    if not _is_there(chain, transaction, tip):
        _require_final(transaction, tip)
        hand_over(wallet, chain, transaction)
    return result


def _require_refund(transaction: Transaction) -> None:
    """The form of a refund: one input with both signatures of a 2-of-2, one output, a lock time."""
    if not transaction.lock_time:
        raise _no_refund("it has no lock time; a settlement is broadcast by the payee")
    if len(transaction.inputs) != 1 or len(transaction.outputs) != 1:
        raise _no_refund(f"it has {len(transaction.inputs)} inputs and {len(transaction.outputs)} outputs")
    witness = transaction.inputs[0].witness
    multisig = parse_multisig(witness[-1]) if len(witness) == 4 else None
    if multisig is None or multisig[0] != 2 or len(multisig[1]) != 2 or witness[0]:
        raise _no_refund("its input does not hold the two signatures of a channel")


def _no_refund(reason: str) -> ParseError:
    return ParseError(
        "not-a-refund",
        f"this is no complete refund: {reason}",
        hint="give the file that `mpchan payer fund --refund-out` has written",
    )


def _known(wallet: Wallet, transaction: Transaction) -> str | None:
    """The name of the channel, where this wallet has it and funded it.

    Raises:
        UsageError: ``wrong-role``.
        ParseError: ``not-a-refund``, it is another transaction of that channel.
    """
    outpoint = transaction.inputs[0].outpoint
    if not wallet.has_channel(outpoint):
        return None
    name = channel_name(outpoint)
    record = wallet.load_channel(name)
    if not isinstance(record, PayerRecord):
        raise UsageError("wrong-role", f"in channel {name[:16]} this wallet is the payee")
    funded = payer.ever_funded(record.state)
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
