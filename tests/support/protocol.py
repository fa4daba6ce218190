"""Shared by the tests of the protocol: both parties' keys, terms and states, and messages bent at will."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import GlobalMap, InputMap, OutputMap, Psbt
from mpchan.bitcoin.script import hash160, key_to_p2wpkh_script, p2pkh_script, sha256
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.signature import ORDER, PrivateKey, PublicKey, parse_der
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.channel import opening, payee, payer
from mpchan.channel.construction.base import REFUND, settlement
from mpchan.channel.construction.decrementing import Decrementing
from mpchan.channel.construction.two_of_two import TwoOfTwo
from mpchan.channel.facts import Facts
from mpchan.channel.limits import PayerLimits
from mpchan.channel.offer import Offer
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms, funding_output
from mpchan.units import Amount, ChainTip, FeeRate, Height, LockTime, OutPoint, Txid

T = TypeVar("T")
UNJUDGED = TwoOfTwo.complete  # as it is before any test begins


def replace(value: T, /, **changes: Any) -> T:
    """A copy of an immutable value with other fields, whatever made its class."""
    kind = type(value)
    given = {name: getattr(value, name) for name in signature(kind).parameters}
    return kind(**{**given, **changes})


def private_key(label: str) -> PrivateKey:
    """A key that everybody knows."""
    return PrivateKey(hashlib.sha256(f"test key {label}".encode()).digest())


PAYER_SECRET = private_key("payer")
PAYEE_SECRET = private_key("payee")
STRANGER_SECRET = private_key("stranger")
PAYER = ChannelKey(PAYER_SECRET)
PAYEE = ChannelKey(PAYEE_SECRET)

TIP = ChainTip(1000, 1_700_000_000)
CAPACITY = Amount(100_000)


def payout(kind: str, who: str) -> bytes:
    """A scriptPubKey of ``who``; for P2TR the x coordinate of a real point."""
    key = private_key(f"{who} payout").public_key.sec
    scripts = {
        "p2pkh": p2pkh_script(hash160(key)),
        "p2sh": b"\xa9\x14" + hashlib.sha1(key).digest() + b"\x87",
        "p2wpkh": key_to_p2wpkh_script(key),
        "p2wsh": b"\x00\x20" + sha256(key),
        "p2tr": b"\x51\x20" + key[1:],
    }
    return scripts[kind]


PAYOUT_KINDS = ("p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr")
PAYER_SCRIPT = payout("p2wpkh", "payer")


def make_offer(payout_kind: str = "p2wpkh", **changes: Any) -> Offer:
    """An offer like the guide's example, with changes by the names of ``Offer``; ``step`` is its own term."""
    changes.setdefault("own_terms", {"step": changes.pop("step", 1)})
    fields: dict[str, Any] = {
        "offer_id": "0123456789abcdef" * changes.get("version", 1),
        "network": REGTEST,
        "scheme": "decrementing",
        "payee_key": PAYEE.public_key,
        "payee_address": script_to_address(payout(payout_kind, "payee"), REGTEST),
        "min_capacity": Amount(1000),
        "max_capacity": Amount(100_000_000),
        "fee_rate": FeeRate(2000),
        "lock_time_unit": "blocks",
        "min_refund_delay": 288,
        "max_refund_delay": 4320,
        "settle_window": 144,
        "min_increment": Amount(1),
        "min_confirmations": 1,
    }
    if changes.get("lock_time_unit") == "seconds":
        fields.update(min_refund_delay=288 * 600, max_refund_delay=4320 * 600, settle_window=144 * 600)
    if changes.get("version") == 2:
        fields.update(generation="fedcba9876543210", expires=1_796_169_600, token="0f" * 32)
    return Offer(**{**fields, **changes})


def make_funding(
    offer: Offer, capacity: Amount, payer_script: bytes = PAYER_SCRIPT, salt: int = 0
) -> tuple[Transaction, TxOut]:
    """An unsigned funding, and the coin that it spends; another one for every ``salt``."""
    coin = TxOut(Amount(21_0000_0000_0000), PAYER_SCRIPT)
    source = OutPoint(Txid(hashlib.sha256(b"coin %d" % salt).digest()), 1)
    output = funding_output(offer, capacity, PAYER.public_key, payer_script)
    return Transaction(2, (TxIn(source, 0xFFFF_FFFE),), (output,), 0), coin


def make_terms(
    offer: Offer | None = None,
    capacity: Amount = CAPACITY,
    payer_script: bytes = PAYER_SCRIPT,
    refund_lock_time: LockTime | None = None,
    salt: int = 0,
) -> Terms:
    """The terms of a channel between ``PAYER`` and ``PAYEE`` that was opened at ``TIP``."""
    offer = make_offer() if offer is None else offer
    funding, _ = make_funding(offer, capacity, payer_script, salt)
    if refund_lock_time is None:
        limits = PayerLimits(max_refund_delay_seconds=10**9, max_refund_delay_blocks=10**6)
        refund_lock_time = opening.refund_lock_time(offer, TIP, None, limits)
    outpoint = OutPoint(funding.txid, 0)
    return Terms(offer, outpoint, funding.outputs[0].value, PAYER.public_key, payer_script, refund_lock_time)


def facts_of(terms: Terms, confirmations: int = 1, tip: ChainTip = TIP, **more: Any) -> Facts:
    """The chain shows the agreed funding, unspent."""
    return Facts(tip, terms.funding_txout, confirmations, **more)


def make_opening(terms: Terms, salt: int = 0) -> payer.Opening:
    """The payer has asked for the refund."""
    funding, coin = make_funding(terms.offer, terms.capacity, terms.payer_script, salt)
    return payer.Opening(terms, funding, (coin,))


def make_secured(terms: Terms) -> payer.Secured:
    """The payer holds its complete refund."""
    return payer.secure(make_opening(terms), payee.signed_refund(terms, PAYEE), PAYER)


def make_funded(terms: Terms) -> payer.Funded:
    """The payer can pay."""
    state = make_secured(terms)
    assert state.funding is not None
    return payer.fund(state, state.funding.with_witness(0, (b"signature", b"key")), sends=True)


# messages -----------------------------------------------------------------------------------------


def update_psbt(terms: Terms, number: int, paid: int) -> Psbt:
    """The payer's update, made by the payer's own code."""
    funded = replace(make_funded(terms), number=number, paid=Amount(paid))
    return payer.update_message(funded, PAYER)


def settlement_psbt(terms: Terms, paid: int) -> Psbt:
    """The payer's settlement, made by the payer's own code."""
    return payer.settlement_message(payer.Settling(make_funded(terms), Amount(paid)), PAYER)


class Transactions:
    """The unsigned transactions of a channel in the default construction, by their names."""

    def __init__(self, terms: Terms) -> None:
        self._schedule = Decrementing(terms)
        self.deadline = self._schedule.deadline
        self.last_update = self._schedule.last_update
        self.update_lock_time = self._schedule.update_lock_time
        self.update_number = self._schedule.update_number

    def refund(self) -> Transaction:
        """All of it back to the payer."""
        return self._schedule.build(REFUND)

    def update(self, number: int, paid: Amount) -> Transaction:
        """Update ``number`` with ``paid`` in all for the payee."""
        return self._schedule.build(self._schedule.update(number, paid))

    def settlement(self, paid: Amount) -> Transaction:
        """The final balance."""
        return self._schedule.build(settlement(paid))


def scheme_of(terms: Terms) -> Transactions:
    """The transactions of a channel."""
    return Transactions(terms)


def complete(terms: Terms, transaction: Transaction, payer: bytes, payee: bytes) -> Transaction:
    """The transaction with both signatures, be they good or not: no judge looks upon it."""
    signatures = {terms.payer_key: payer, terms.offer.payee_key: payee}
    return UNJUDGED(_lock(terms), transaction, signatures)


def unsigned_message(terms: Terms, transaction: Transaction) -> Psbt:
    """The message with a transaction that nobody has signed."""
    return terms.lock.message(transaction)


def signed_message(terms: Terms, transaction: Transaction, signer: PublicKey, signature: bytes) -> Psbt:
    """The same with one party's signature."""
    return terms.lock.message(transaction, signer, signature)


def _lock(terms: Terms) -> TwoOfTwo:
    assert isinstance(terms.lock, TwoOfTwo)
    return terms.lock


def witness_script(terms: Terms) -> bytes:
    """The 2-of-2."""
    return _lock(terms).witness_script


def channel_sighash(terms: Terms, transaction: Transaction) -> bytes:
    """What both parties sign."""
    return _lock(terms).sighash(transaction)


def sign(
    secret: PrivateKey,
    terms: Terms,
    transaction: Transaction,
    *,
    sighash: int = 1,
    byte: int | None = None,
    value: int | None = None,
    script: bytes | None = None,
) -> bytes:
    """A signature of input 0 as whoever holds ``secret`` could make it.

    Args:
        sighash: the type that is hashed.
        byte: the byte behind the signature; ``sighash`` where it is None.
        value, script: what the digest says is spent; the channel's where None.
    """
    amount = terms.funding_value if value is None else Amount(value)
    code = witness_script(terms) if script is None else script
    digest = segwit_v0_sighash(transaction, 0, code, amount, sighash)
    return secret.sign(digest) + bytes([sighash if byte is None else byte])


def with_high_s(signature: bytes) -> bytes:
    """The other signature that verifies by the bare mathematics: s becomes the order less s."""
    r, s = parse_der(signature[:-1])
    return _der(r, ORDER - s) + signature[-1:]


def _der(r: int, s: int) -> bytes:
    body = b""
    for number in (r, s):
        raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
        body += b"\x02" + bytes([len(raw)]) + raw
    return b"\x30" + bytes([len(body)]) + body


UTXO, SIGHASH_TYPE, REDEEM_SCRIPT, WITNESS_SCRIPT = b"\x01", b"\x03", b"\x04", b"\x05"
FINAL_SCRIPT_SIG, FINAL_WITNESS, NON_WITNESS_UTXO = b"\x07", b"\x08", b"\x00"
PARTIAL_SIG = b"\x02"


def message(
    terms: Terms,
    transaction: Transaction,
    signatures: Mapping[bytes, bytes] | None = None,
    fields: Mapping[bytes, bytes | None] | None = None,
) -> Psbt:
    """A PSBT with any transaction and any fields in its first input.

    Args:
        signatures: partial signatures under their public keys.
        fields: raw pairs over the usual ones; None takes one away.
    """
    pairs: dict[bytes, bytes | None] = {
        UTXO: terms.funding_txout.to_bytes(),
        SIGHASH_TYPE: b"\x01\x00\x00\x00",
        WITNESS_SCRIPT: witness_script(terms),
    }
    pairs.update({PARTIAL_SIG + key: signature for key, signature in (signatures or {}).items()})
    pairs.update(fields or {})
    kept = tuple(sorted((key, value) for key, value in pairs.items() if value is not None))
    inputs = tuple(InputMap(kept if index == 0 else ()) for index in range(len(transaction.inputs)))
    outputs = tuple(OutputMap(()) for _ in transaction.outputs)
    return Psbt(transaction, GlobalMap(((b"\x00", transaction.to_bytes()),)), inputs, outputs)


def signed(
    terms: Terms,
    transaction: Transaction,
    secret: PrivateKey = PAYER_SECRET,
    fields: Mapping[bytes, bytes | None] | None = None,
    **signing: Any,
) -> Psbt:
    """A PSBT of any transaction with a good signature of that very transaction."""
    key = secret.public_key.sec
    return message(terms, transaction, {key: sign(secret, terms, transaction, **signing)}, fields)


def bent(transaction: Transaction, **changes: Any) -> Transaction:
    """The transaction with other fields; ``sequence`` and ``outpoint`` are those of its first input."""
    source = transaction.inputs[0]
    for name in ("sequence", "outpoint"):
        if name in changes:
            source = replace(source, **{name: changes.pop(name)})
    return replace(transaction, **{"inputs": (source, *transaction.inputs[1:]), **changes})


def with_output(transaction: Transaction, index: int, **changes: Any) -> Transaction:
    """The transaction with another value (satoshi) or script in one output."""
    outputs = list(transaction.outputs)
    if "value" in changes:
        changes["value"] = Amount(changes["value"])
    outputs[index] = replace(outputs[index], **changes)
    return replace(transaction, outputs=tuple(outputs))


def outputs_of(transaction: Transaction) -> list[tuple[int, bytes]]:
    """Values in satoshi and scripts."""
    return [(output.value.sat, output.script_pubkey) for output in transaction.outputs]


def unsigned(transaction: Transaction) -> Transaction:
    """Without witnesses: two complete transactions with one of these are the same payment."""
    return transaction.without_witness()


def witness_signatures(transaction: Transaction) -> Sequence[bytes]:
    """Both signatures of a complete spend of the funding output."""
    return transaction.inputs[0].witness[1:3]


def height(number: int) -> Height:
    """A lock time in blocks."""
    return Height(number)
