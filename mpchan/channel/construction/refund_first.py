"""What the payee checks before it signs a refund: the one signature that it gives away.

From the request only the free variables are read: outpoint, value, payer key, payer script and lock time. The refund
that they make under the offer's terms is rebuilt and must be the same bytes. Where the chain stands decides last.

The request carries the offer itself (``carried``): the payee need not have kept it. Where another wallet makes the
funding it also carries a signature of the payer's key, which proves whose money lies there: one refund is signed for
it, and whoever has seen another request could ask for that first, with a payout of its own.
"""

from __future__ import annotations

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.schnorr import tagged_hash
from mpchan.bitcoin.script import dust_limit, is_standard_payout
from mpchan.bitcoin.signature import PublicKey
from mpchan.channel.carried import carried_more, with_more
from mpchan.channel.construction.base import REFUND
from mpchan.channel.construction.two_of_two import keys_rules
from mpchan.channel.messages import message_rules, same_transaction_rules
from mpchan.channel.offer import Offer
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms, refund_fee
from mpchan.errors import ParseError
from mpchan.units import ChainTip, lock_time_from_int

_PROOF_TAG = "mpchan/refund-request"


def with_proof(psbt: Psbt, key: ChannelKey) -> Psbt:
    """A refund request with the payer's signature of the refund's txid, in the byte order of the serialisation."""
    signature = key.sign_tagged(_PROOF_TAG, psbt.tx.txid.wire)
    return with_more(psbt, signature)


def proof_rules(psbt: Psbt, terms: Terms) -> Check[None]:
    """The payer itself asks: its key has signed for this very refund."""
    signature = carried_more(psbt)
    proven = signature is not None and terms.payer_key.verify(
        signature, tagged_hash(_PROOF_TAG, psbt.tx.txid.wire)
    )
    yield Rule(
        "unproven-request",
        proven,
        f"money lies at {terms.outpoint} already, and no signature of the payer's key shows that it asks for it",
        hint=f"the payer asks with `mpchan payer open --again {terms.outpoint}`",
    )


def requested_keys_rules(psbt: Psbt) -> Check[tuple[bytes, bytes]]:
    """The message spends what a channel has. Establishes both keys, one of which is some offer's."""
    return (yield from keys_rules(psbt))


def _payer_key_rules(keys: tuple[bytes, bytes], offer: Offer) -> Check[PublicKey]:
    ours = offer.payee_key.sec
    yield Rule("witness-script", ours in keys, "witness_script lacks the offer's key", ours.hex())
    other = keys[1] if keys[0] == ours else keys[0]
    try:
        payer_key = PublicKey(other)
    except ParseError as error:
        yield Rule("payer-key", False, f"payer key is not a compressed point of the curve: {error.message}")
        raise
    yield Rule("payer-key", payer_key != offer.payee_key, "payer key differs from the payee's")
    return payer_key


def refund_request_rules(psbt: Psbt, offer: Offer) -> Check[Terms]:
    """A refund request under this offer. Establishes the terms that it asks for.

    ``terms.value_rules`` and ``refund_delay_rules`` are left.
    """
    keys = yield from keys_rules(psbt)
    payer_key = yield from _payer_key_rules(keys, offer)
    transaction = psbt.tx
    yield Rule(
        "output-count", len(transaction.outputs) == 1, "number of outputs", 1, len(transaction.outputs)
    )
    payer_script = transaction.outputs[0].script_pubkey
    yield Rule(
        "payer-script",
        is_standard_payout(payer_script),
        "refund pays to a non-standard script",
        found=payer_script[:100].hex(),
    )
    yield Rule("same-payout", payer_script != offer.payee_script, "refund pays to the payee's own script")
    yield from _lock_time_rules(transaction.lock_time, offer)
    utxo = psbt.inputs[0].witness_utxo
    if utxo is None:
        yield Rule("witness-utxo", False, "message lacks witness_utxo")
        raise TypeError(BROKEN)
    fee, least = refund_fee(offer, payer_script), dust_limit(payer_script)
    worth = utxo.value >= fee + least
    yield Rule(
        "capacity", worth, "funding value, of which a refund is left", f"at least {fee + least}", utxo.value
    )
    outpoint = transaction.inputs[0].outpoint
    lock_time = lock_time_from_int(transaction.lock_time)
    terms = Terms(offer, outpoint, utxo.value, payer_key, payer_script, lock_time)
    yield from same_transaction_rules(terms.schedule.build(REFUND), transaction)
    yield from message_rules(psbt, terms, None)
    return terms


def _lock_time_rules(value: int, offer: Offer) -> Check[None]:
    yield Rule("lock-time-zero", value != 0, "the refund has nLockTime 0")
    lock_time = lock_time_from_int(value)
    unit = offer.lock_time_unit
    yield Rule(
        "lock-time-unit",
        lock_time.unit == unit,
        "unit of the refund's lock time",
        unit,
        f"{lock_time.unit} ({value})",
    )


def refund_delay_rules(terms: Terms, tip: ChainTip) -> Check[None]:
    """The refund is as far from the tip (or its median time) as the offer wants it, and no farther."""
    lock_time, offer = terms.refund_lock_time, terms.offer
    now, value = lock_time.now(tip), lock_time.value
    least, most = now + offer.min_refund_delay, now + offer.max_refund_delay
    yield Rule("refund-early", value >= least, "lock time of the refund", f"at least {least}", value)
    yield Rule("refund-late", value <= most, "lock time of the refund", f"at most {most}", value)
