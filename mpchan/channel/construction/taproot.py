"""The construction ``taproot``: an update is final at any time, and the refund needs no signature of the payee.

    update, settlement   nLockTime 0, by leaf U; of two updates the one that pays more counts
    refund               nLockTime L_refund, by leaf R

No message is exchanged before the funding: its address follows from the offer, the payer's key and L_refund, and the
first update brings the channel to the payee. So that a payer who has kept nothing but its words and the offer finds the
address again, L_refund is a multiple of 36 blocks, or 21,600 s: some hundreds of them can be meant.
nSequence is 0xfffffffd, and the version is 3 (BIP-0431), in all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mpchan.bitcoin.descriptor import musig_descriptor
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import dust_limit, is_standard_payout
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tapscript import MAX_SCRIPT_LOCK_TIME, parse_key_after
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.carried import carried_more
from mpchan.channel.construction.base import Form, Kind, Meant, Message
from mpchan.channel.construction.registry import CONSTRUCTIONS
from mpchan.channel.construction.two_leaves import (
    LONGEST_PAYER_SCRIPT,
    TwoLeaves,
    close_vsize,
    refund_vsize,
    tree_of,
)
from mpchan.channel.messages import single_input_rules
from mpchan.channel.outputs import close_outputs, paid_in, refund_outputs, spend
from mpchan.channel.rules import BROKEN, Check, Rule
from mpchan.channel.terms import Terms
from mpchan.errors import ParseError
from mpchan.units import SECONDS_PER_BLOCK, Amount, Height, LockTime
from mpchan.values import frozen

if TYPE_CHECKING:
    from mpchan.bitcoin.psbt_map import InputMap
    from mpchan.channel.offer import Offer

NAME = "taproot"


@frozen
class Unnumbered:
    """The transactions of one channel in this construction."""

    terms: Terms

    @property
    def deadline(self) -> LockTime:
        """L_0 = L_refund - settle_window; the payer alone chooses L_refund, even too early for that to be a time."""
        refund_at = self.terms.refund_lock_time
        earliest = refund_at.value - self.terms.offer.settle_window
        return type(refund_at)(max(earliest, refund_at.lowest))

    def update(self, number: int, paid: Amount) -> Meant:
        """Any number of them, none of which has one."""
        return Meant(Kind.UPDATE, None, paid)

    def read(self, message: Message) -> Meant | None:
        """By nLockTime: L_refund for the refund, 0 for an update, or for a settlement where it pays nothing."""
        transaction = message.tx if isinstance(message, Psbt) else message
        paid = paid_in(transaction, self.terms) or Amount(0)
        if transaction.lock_time == self.terms.refund_lock_time.value:
            return Meant(Kind.REFUND, None, paid)
        if transaction.lock_time:
            return None
        return Meant(Kind.UPDATE if paid else Kind.SETTLEMENT, None, paid)

    def final_at(self, meant: Meant) -> LockTime | None:
        """L_refund for the refund, at any time for all else."""
        return self.terms.refund_lock_time if meant.kind is Kind.REFUND else None

    def build(self, meant: Meant) -> Transaction:
        """The transaction without its signatures."""
        return _built(self, meant)


@lru_cache(32)
def _built(schedule: Unnumbered, meant: Meant) -> Transaction:
    """What a message means is checked, signed, completed and kept: each of them builds it anew, and gets this one."""
    terms = schedule.terms
    if meant.kind is Kind.REFUND:
        return spend(terms, refund_outputs(terms), terms.refund_lock_time.value)
    return spend(terms, close_outputs(terms, meant.paid), 0)


class _Taproot:
    """The construction, as an offer knows it."""

    has_exchange = False

    def lock(self, terms: Terms) -> TwoLeaves:
        return TwoLeaves(
            terms.offer, terms.payer_key, terms.funding_value, terms.payer_script, terms.refund_lock_time
        )

    def schedule(self, terms: Terms) -> Unnumbered:
        return Unnumbered(terms)

    def form(self, terms: Terms) -> Form | None:
        from mpchan.channel.construction.taproot_form import update_form

        return update_form(terms)

    def close_vsize(self, payer_script: bytes, payee_script: bytes) -> int:
        """Whatever the payer's script, the fee is set aside for the longest."""
        return close_vsize(payee_script)

    def refund_vsize(self, payer_script: bytes) -> int:
        return refund_vsize(payer_script)

    def payer_script_fault(self, payer_script: bytes) -> str | None:
        if len(payer_script) <= LONGEST_PAYER_SCRIPT:
            return None
        return f"the payer's script has {len(payer_script)} bytes, more than {LONGEST_PAYER_SCRIPT}"

    def refund_at(self, earliest: LockTime) -> LockTime:
        grid = _grid(earliest)
        return type(earliest)(-(-earliest.value // grid) * grid)

    def refund_times(self, offer: Offer, latest: LockTime) -> range:
        """The multiples from made_at + min_refund_delay to ``latest`` + max_refund_delay.

        The payer's chain may have stood a little before the payee's: one multiple before that counts too.
        """
        grid = _grid(latest)
        first = max(offer.own_terms["made_at"], latest.lowest) + offer.min_refund_delay - grid
        last = min(latest.value + offer.max_refund_delay, MAX_SCRIPT_LOCK_TIME)
        return range(self.refund_at(type(latest)(max(first, latest.lowest))).value, last + 1, grid)

    def funding_script(self, offer: Offer, payer_key: PublicKey, refund_at: LockTime | None) -> bytes:
        return tree_of(payer_key, offer.payee_key, _known(refund_at)).script_pubkey

    def descriptor(self, offer: Offer, payer_key: PublicKey, refund_at: LockTime | None) -> str:
        return musig_descriptor(payer_key, offer.payee_key, _known(refund_at))

    def is_message(self, psbt: Psbt) -> bool:
        return (
            bool(psbt.tx.inputs) and bool(psbt.inputs[0].tap_leaf_scripts) and carried_more(psbt) is not None
        )

    def likely_kind(self, transaction: Transaction) -> Kind:
        return Kind.UPDATE

    def refund_fault(self, transaction: Transaction) -> str | None:
        if len(transaction.inputs) != 1 or len(transaction.outputs) != 1:
            return f"it has {len(transaction.inputs)} inputs and {len(transaction.outputs)} outputs"
        witness = transaction.inputs[0].witness
        try:
            _, lock_time = parse_key_after(witness[1]) if len(witness) == 3 else (b"", None)
        except ParseError:
            lock_time = None
        if lock_time is None or lock_time.value != transaction.lock_time:
            return "its input is not spent by the refund's script of a channel"
        return None

    def most_updates(self, offer: Offer, refund_at: LockTime) -> int | None:
        return None

    def first_final(self, offer: Offer) -> int | None:
        return None

    def opening_rules(self, psbt: Psbt, offer: Offer) -> Check[Terms]:
        """An update brings all that makes its channel. Establishes the terms, which the update's own rules judge."""
        yield from single_input_rules(psbt)
        fields = psbt.inputs[0]
        payer_key = yield from _payer_key_rules(fields, offer)
        refund_at = yield from _refund_at_rules(fields, payer_key, offer)
        script = carried_more(psbt) or b""
        standard = is_standard_payout(script) and self.payer_script_fault(script) is None
        text = f"the payer is paid to a non-standard script, or one above {LONGEST_PAYER_SCRIPT} bytes"
        yield Rule("payer-script", standard, text, found=script[:100].hex())
        yield Rule("same-payout", script != offer.payee_script, "the payer is paid to the payee's own script")
        utxo = fields.witness_utxo
        yield Rule("witness-utxo", utxo is not None, "message lacks witness_utxo")
        if utxo is None:
            raise TypeError(BROKEN)
        fee, least = offer.fee_rate.fee(refund_vsize(script)), dust_limit(script)
        worth = utxo.value >= fee + least
        text = "funding value, of which a refund is left"
        yield Rule("capacity", worth, text, f"at least {fee + least}", utxo.value)
        return Terms(offer, psbt.tx.inputs[0].outpoint, utxo.value, payer_key, script, refund_at)


def _grid(lock_time: LockTime) -> int:
    """What L_refund is a multiple of, in its own unit."""
    blocks = CONSTRUCTIONS[NAME].refund_grid_blocks
    return blocks if isinstance(lock_time, Height) else blocks * SECONDS_PER_BLOCK


def _known(refund_at: LockTime | None) -> LockTime:
    if refund_at is None:
        raise TypeError("the address of a channel without an exchange depends on L_refund")
    return refund_at


def _payer_key_rules(fields: InputMap, offer: Offer) -> Check[PublicKey]:
    """The participants of the internal key are the payee's own and another one. Establishes that."""
    groups = list(fields.musig2_participants.values())
    keys = groups[0] if len(groups) == 1 else ()
    ours = offer.payee_key.sec
    others = [key for key in keys if key != ours]
    fits = len(keys) == 2 and len(others) == 1
    text = "the participants of the internal key are not the offer's key and one more"
    yield Rule("participants", fits, text, ours.hex(), ", ".join(key.hex() for key in keys))
    try:
        payer_key = PublicKey(others[0])
    except ParseError as error:
        yield Rule("payer-key", False, f"payer key is not a compressed point of the curve: {error.message}")
        raise
    same = payer_key.x_only == offer.payee_key.x_only
    yield Rule("payer-key", not same, "payer key differs from the payee's")
    return payer_key


def _refund_at_rules(fields: InputMap, payer_key: PublicKey, offer: Offer) -> Check[LockTime]:
    """One of the leaves is the payer's refund. Establishes L_refund."""
    found = [
        lock_time
        for leaf in fields.tap_leaf_scripts.values()
        for lock_time in _of_refund(leaf.script, payer_key)
    ]
    yield Rule("leaf-scripts", len(found) == 1, "leaf scripts that are the payer's refund", 1, len(found))
    refund_at = found[0]
    unit = offer.lock_time_unit
    yield Rule(
        "lock-time-unit", refund_at.unit == unit, "unit of the refund's lock time", unit, refund_at.unit
    )
    grid = _grid(refund_at)
    text = f"lock time of the refund is a multiple of {grid} {unit}"
    yield Rule("refund-grid", not refund_at.value % grid, text, found=refund_at.value)
    return refund_at


def _of_refund(script: bytes, payer_key: PublicKey) -> list[LockTime]:
    try:
        key, lock_time = parse_key_after(script)
    except ParseError:
        return []
    return [lock_time] if key == payer_key.x_only else []


TAPROOT = _Taproot()
