"""What a wallet has stored with a bad signature of its own, signed again.

With the keys of another wallet in the place of its own, a party could complete a transaction that no block can hold.
The other party's signature over it is as good as ever, where it needs one: with the right key the transaction is whole
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel import payee, payer
from mpchan.channel.construction.base import REFUND
from mpchan.channel.messages import complete_rules
from mpchan.channel.rules import Check, enforce
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError
from mpchan.units import Txid
from mpchan.values import replace

Messages = Mapping[Txid, Psbt]
"""What the other party has sent, by the txid of the transaction that it signed."""


def resigned_payee(state: payee.PayeeState, key: ChannelKey, messages: Messages) -> payee.PayeeState:
    """The payee's channel with good signatures of its own; as it was where the payer's cannot be had."""
    if isinstance(state, payee.Abandoned):
        return state
    active = payee.active_of(state)
    best = active.best
    if best is not None:
        active = replace(active, best=replace(best, transaction=_countersigned(active, best, key, messages)))
    if isinstance(state, payee.Active):
        return active
    held = state.settlement
    if held is not None:
        held = replace(held, transaction=_countersigned(active, held, key, messages))
    return payee.Closing(active, held)


def _countersigned(
    active: payee.Active, held: payee.Update | payee.Settlement, key: ChannelKey, messages: Messages
) -> Transaction:
    terms = active.terms

    def sign() -> bytes:
        if isinstance(held, payee.Update):
            return key.sign_update(terms, held.number, held.paid)
        return key.sign_settlement(terms, held.paid)

    unsigned = payee.unsigned_close(terms, held)
    return _resigned(terms, unsigned, held.transaction, terms.payer_key, messages, sign)


def resigned_payer(state: payer.PayerState, key: ChannelKey, messages: Messages) -> payer.PayerState:
    """The payer's channel with a refund that is good; as it was where the payee's signature cannot be had."""
    if isinstance(state, (payer.Secured, payer.Funded)):
        terms = state.terms
        unsigned, payee_key = terms.schedule.build(REFUND), terms.offer.payee_key
        refund = _resigned(terms, unsigned, state.refund, payee_key, messages, lambda: key.sign_refund(terms))
        return replace(state, refund=refund)
    funded = payer.ever_funded(state)
    if isinstance(state, payer.Opening) or funded is None:
        return state
    return replace(state, funded=resigned_payer(funded, key, messages))


def _resigned(
    terms: Terms,
    unsigned: Transaction,
    stored: Transaction,
    other: PublicKey,
    messages: Messages,
    sign: Callable[[], bytes],
) -> Transaction:
    if stored.without_witness() != unsigned or _holds(complete_rules(terms, unsigned, stored)):
        return stored
    signatures = {}
    if other in terms.lock.signers(unsigned):
        sent = _signatures(terms, stored, other, messages)
        good = (each for each in sent if _holds(terms.lock.signature_rules(unsigned, other, each)))
        theirs = next(good, None)
        if theirs is None:
            return stored
        signatures[other] = theirs
    ours = terms.offer.payee_key if other == terms.payer_key else terms.payer_key
    return terms.lock.complete(unsigned, {**signatures, ours: sign()})


def _signatures(terms: Terms, stored: Transaction, other: PublicKey, messages: Messages) -> Iterator[bytes]:
    """Whatever may be the other party's signature: out of the witness, and as it was sent."""
    yield from stored.inputs[0].witness
    message = messages.get(stored.txid)
    if message is not None:
        yield terms.lock.signature_from(message, other)


def _holds(check: Check[None]) -> bool:
    try:
        enforce(check)
    except MpchanError:
        return False
    return True
