"""What a hostile payer can send in a taproot channel, with its own key in hand: the first payment, and later ones.

The first one brings all that makes the channel, so every part of it is bent here. All is refused, by ``accept``, by
``settle FILE`` and by ``verify`` for the same reason, and no file changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Desk, Refusal, same_verdict
from support.leaves import STRANGERS_SCRIPT, taken_back, tree_of
from support.party import SHORT, Pair, new_wallet
from support.protocol import STRANGER_SECRET, bent, make_offer, payout, replace, with_output

from mpchan.bitcoin import psbt_fields as fields
from mpchan.bitcoin.psbt import MAGIC, Psbt
from mpchan.bitcoin.serialize import var_bytes
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.taproot import TapLeaf
from mpchan.bitcoin.tapscript import key_after_script, two_keys_script
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.construction.base import REFUND, Kind, Meant
from mpchan.channel.construction.two_leaves import TwoLeaves
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.party import payee
from mpchan.party.check import fsck
from mpchan.units import Amount, Height, MedianTime, OutPoint, Txid
from mpchan.wallet.wallet import Wallet

PAID = 7000
HELD = 5000
COINS = 8


def proprietary(subtype: int) -> bytes:
    return fields.proprietary_key(fields.GLOBAL_PROPRIETARY, b"mpchan", subtype)


OFFER, SCRIPT = proprietary(0), proprietary(1)


def raw(
    message: Psbt,
    changes: Mapping[bytes, bytes | None] | None = None,
    globally: Mapping[bytes, bytes | None] | None = None,
) -> bytes:
    """A message with other pairs in its input and its global map, be they well-formed or not; None takes one away."""

    def map_of(pairs: tuple[tuple[bytes, bytes], ...], other: Mapping[bytes, bytes | None]) -> bytes:
        found = {**dict(pairs), **other}
        kept = sorted((key, value) for key, value in found.items() if value is not None)
        return b"".join(var_bytes(key) + var_bytes(value) for key, value in kept) + b"\x00"

    outputs = b"".join(each.to_bytes() for each in message.outputs)
    return MAGIC + b"".join(
        (
            map_of(message.global_fields.pairs, globally or {}),
            map_of(message.inputs[0].pairs, changes or {}),
            outputs,
        )
    )


class Scene:
    """A funding that the payee has not heard of, and an open channel in which it holds 5000 sat.

    A first payment of 7000 sat in the one would be good, and a second one to that total in the other.
    """

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.desk = Desk(pair, folder)
        self.held = pair.open(min_increment_sat=10)
        pair.accept(pair.pay(self.held, HELD))
        self.fresh = pair.open()
        self._look_at(self.fresh)
        self.first: Psbt = self.message

    def _look_at(self, name: str) -> None:
        self.terms = self.pair.payer_record(name).terms
        self.secret = self.pair.payer_secret(name)
        self.message = self.signed(self.terms)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """All that is built in here belongs to one of the channels."""
        self._look_at(name)
        yield

    def signed(
        self, terms: Terms, transaction: Transaction | None = None, secret: PrivateKey | None = None
    ) -> Psbt:
        """A flawless message under whatever terms, and of whatever transaction."""
        key = secret or self.secret
        found = update(terms) if transaction is None else transaction
        return terms.lock.message(found, terms.payer_key, terms.lock.sign_checked(key, found))

    def bent(self, **changes: object) -> Psbt:
        """A flawless message under other terms of the fresh channel."""
        return self.signed(replace(self.terms, **changes))

    def offered(self, **changes: object) -> Psbt:
        return self.bent(offer=replace(self.terms.offer, **changes))

    def transaction(self, **changes: object) -> Psbt:
        """Another transaction, signed."""
        return self.signed(self.terms, bent(update(self.terms), **changes))

    def refused(self, hostile: Psbt | bytes) -> Refusal:
        """What ``accept`` says; ``settle FILE`` and ``verify`` say the same."""
        path = self.desk.file(hostile.hex() if isinstance(hostile, bytes) else hostile)
        found = self.desk.refused(self.desk.payee, "payee", "accept", path)
        settling = self.desk.refused_writing(self.desk.payee, "payee", "settle", path)
        assert settling == found or (found.slug, settling.slug) == ("lock-time", "not-a-settlement")
        if found.exit_code != 3:
            same_verdict(self.desk, self.desk.payee, path, found)
        assert self.pair.chain.mempool() == []
        assert len(found.message) < 700
        return found


def update(terms: Terms, paid: int = PAID) -> Transaction:
    return terms.schedule.build(Meant(Kind.UPDATE, None, Amount(paid)))


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path_factory.mktemp("pair"), chain, coins=COINS, scheme="taproot")
        yield Scene(pair, tmp_path_factory.mktemp("desk"))


Build = Callable[[Scene], "Psbt | bytes"]


def field(key: bytes, value: bytes | None) -> Build:
    return lambda scene: raw(scene.message, {key: value})


def carrying(key: bytes, value: bytes | None) -> Build:
    return lambda scene: raw(scene.message, globally={key: value})


def leaf_field(scene: Scene, leaf: TapLeaf, block: bytes | None = None) -> dict[bytes, bytes]:
    """A leaf as a message has it, under the control block of leaf R where none is given."""
    key = tree_of(scene.terms).control_block(tree_of(scene.terms).refund) if block is None else block
    return {bytes([fields.IN_TAP_LEAF_SCRIPT]) + key: leaf.script + bytes([leaf.version])}


def leaves(*changed: Callable[[Scene], tuple[str, TapLeaf | None, bytes | None]]) -> Build:
    """Leaves in the place of U or R, or besides: which, the leaf, and its control block."""

    def build(scene: Scene) -> bytes:
        tree, pairs = tree_of(scene.terms), dict[bytes, "bytes | None"]()
        for change in changed:
            place, leaf, block = change(scene)
            own = {"U": tree.close, "R": tree.refund}.get(place)
            if own is not None:
                pairs[bytes([fields.IN_TAP_LEAF_SCRIPT]) + tree.control_block(own)] = None
            if leaf is not None:
                at = tree.control_block(own) if block is None and own is not None else block
                pairs.update(leaf_field(scene, leaf, at))
        return raw(scene.message, pairs)

    return build


def flipped(data: bytes, at: int = -1) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + (data[at + 1 :] if at != -1 else b"")


def block_of(scene: Scene, name: str) -> bytes:
    tree = tree_of(scene.terms)
    return tree.control_block(tree.close if name == "U" else tree.refund)


def participants(arrange: Callable[[Scene], Mapping[bytes, bytes]]) -> Build:
    """Other keys under other aggregates in the place of the participants."""

    def build(scene: Scene) -> bytes:
        kind = bytes([fields.IN_MUSIG2_PARTICIPANT_PUBKEYS])
        changes: dict[bytes, bytes | None] = {kind + tree_of(scene.terms).aggregate: None}
        changes.update({kind + aggregate: keys for aggregate, keys in arrange(scene).items()})
        return raw(scene.message, changes)

    return build


def keys(*names: str) -> Build:
    """The participants by their names, under the true aggregate."""

    def found(scene: Scene) -> Mapping[bytes, bytes]:
        payer, payees = scene.terms.payer_key.sec, scene.terms.offer.payee_key.sec
        known = {
            "payer": payer,
            "payee": payees,
            "payer turned": flipped(payer, 0),
            "payee turned": flipped(payees, 0),
            "stranger": STRANGER_SECRET.public_key.sec,
            "no point": b"\x02" + bytes(31) + b"\x05",
            "uncompressed": b"\x04" + payer[1:] + bytes(32),
        }
        return {tree_of(scene.terms).aggregate: b"".join(known[name] for name in names)}

    return participants(found)


def signature(change: Callable[[Scene, bytes], bytes], leaf: str = "U", by: str = "payer") -> Build:
    """Another signature, in the payer's place or in another one."""

    def build(scene: Scene) -> bytes:
        tree = tree_of(scene.terms)
        [(place, good)] = scene.message.inputs[0].tap_script_sigs.items()
        key = scene.terms.payer_key if by == "payer" else scene.terms.offer.payee_key
        other = key.x_only + (tree.close if leaf == "U" else tree.refund).hash
        kind = bytes([fields.IN_TAP_SCRIPT_SIG])
        return raw(scene.message, {kind + b"".join(place): None, kind + other: change(scene, good)})

    return build


def extra_signature(scene: Scene) -> bytes:
    """The payer's for the refund, in its own leaf: whoever gets it could send the refund."""
    refund = scene.terms.schedule.build(REFUND)
    place = scene.terms.payer_key.x_only + tree_of(scene.terms).refund.hash
    good = scene.terms.lock.sign_checked(scene.secret, refund)
    return raw(scene.message, {bytes([fields.IN_TAP_SCRIPT_SIG]) + place: good})


def of_refund(scene: Scene) -> Psbt:
    refund = scene.terms.schedule.build(REFUND)
    return scene.signed(scene.terms, refund)


def lies(value: int = 0, script: bytes | None = None) -> Build:
    """The payer signs what it claims to spend, so that the signature fits its own lie."""

    def build(scene: Scene) -> Psbt | bytes:
        if script is None:
            return scene.bent(funding_value=scene.terms.funding_value + Amount(value))
        found = TxOut(scene.terms.funding_value, script)
        return raw(scene.message, {bytes([fields.IN_WITNESS_UTXO]): found.to_bytes()})

    return build


def by_other_leaf(scene: Scene) -> Psbt:
    """The payee's keys in the wrong order: the address would be another one too."""
    turned = TapLeaf(two_keys_script(scene.terms.offer.payee_key.x_only, scene.terms.payer_key.x_only))
    return leaves(lambda scene: ("U", turned, None))(scene)  # type: ignore[return-value]


def strangers_offer(scene: Scene) -> Psbt:
    """A good offer, of somebody else's wallet."""
    directory = scene.desk.folder / "stranger"
    if not directory.exists():
        new_wallet(directory)
    other = Wallet.open(directory)
    text = payee.offer(other, scene.pair.chain, {"scheme": "taproot"}).toml
    return scene.bent(offer=Offer.from_toml(text))


def of_held(scene: Scene) -> Psbt:
    """Another outpoint under the offer of a channel that has begun."""
    offer = scene.pair.payer_record(scene.held).terms.offer
    return scene.bent(offer=offer)


def payer_key_of_held(scene: Scene) -> Psbt:
    record = scene.pair.payer_record(scene.held)
    terms = replace(scene.terms, payer_key=record.terms.payer_key)
    return scene.signed(terms, secret=scene.pair.payer_secret(scene.held))


def far_away(scene: Scene) -> Psbt:
    """The first multiple of 36 beyond what the offer gives."""
    most = scene.pair.chain.tip().height + scene.terms.offer.max_refund_delay
    return scene.bent(refund_lock_time=Height(36 * (most // 36 + 1)))


ANY = b"\x00" * 64
FIRST: dict[str, tuple[Build, str, int]] = {
    # the leaves
    "the keys of leaf U in the other order": (by_other_leaf, "leaf-scripts", 4),
    "leaf U for a stranger": (
        leaves(
            lambda scene: (
                "U",
                TapLeaf(two_keys_script(scene.terms.payer_key.x_only, STRANGER_SECRET.public_key.x_only)),
                None,
            )
        ),
        "leaf-scripts",
        4,
    ),
    "no leaf U": (leaves(lambda scene: ("U", None, None)), "leaf-scripts", 4),
    "no leaf R": (leaves(lambda scene: ("R", None, None)), "leaf-scripts", 4),
    "leaf R for the payee": (
        leaves(
            lambda scene: (
                "R",
                TapLeaf(key_after_script(scene.terms.offer.payee_key.x_only, scene.terms.refund_lock_time)),
                None,
            )
        ),
        "leaf-scripts",
        4,
    ),
    "leaf R 36 blocks earlier": (
        leaves(
            lambda scene: (
                "R",
                TapLeaf(
                    key_after_script(
                        scene.terms.payer_key.x_only, Height(scene.terms.refund_lock_time.value - 36)
                    )
                ),
                None,
            )
        ),
        "witness-utxo",
        4,
    ),
    "two leaves R": (
        leaves(
            lambda scene: (
                "",
                TapLeaf(
                    key_after_script(
                        scene.terms.payer_key.x_only, Height(scene.terms.refund_lock_time.value + 36)
                    )
                ),
                block_of(scene, "R")[:33] + bytes(32),
            )
        ),
        "leaf-scripts",
        4,
    ),
    "a third leaf, anyone's": (
        leaves(lambda scene: ("", TapLeaf(b"\x51"), block_of(scene, "R")[:33] + bytes(32))),
        "leaf-scripts",
        4,
    ),
    "leaf U of another version": (
        leaves(lambda scene: ("U", replace(tree_of(scene.terms).close, version=0xC2), None)),
        "leaf-scripts",
        4,
    ),
    "leaf U under another control block": (
        leaves(lambda scene: ("U", tree_of(scene.terms).close, flipped(block_of(scene, "U")))),
        "leaf-scripts",
        4,
    ),
    "leaf R under the other sign": (
        leaves(lambda scene: ("R", tree_of(scene.terms).refund, flipped(block_of(scene, "R"), 0))),
        "leaf-scripts",
        4,
    ),
    "leaves under each other's control block": (
        leaves(
            lambda scene: ("U", tree_of(scene.terms).refund, None),
            lambda scene: ("R", tree_of(scene.terms).close, None),
        ),
        "leaf-scripts",
        4,
    ),
    "a control block of 34 bytes": (
        leaves(lambda scene: ("U", tree_of(scene.terms).close, block_of(scene, "U")[:34])),
        "malformed-psbt",
        3,
    ),
    # the internal key
    "another internal key": (
        field(bytes([fields.IN_TAP_INTERNAL_KEY]), STRANGER_SECRET.public_key.x_only),
        "internal-key",
        4,
    ),
    "no internal key": (field(bytes([fields.IN_TAP_INTERNAL_KEY]), None), "internal-key", 4),
    "another merkle root": (field(bytes([fields.IN_TAP_MERKLE_ROOT]), bytes(32)), "merkle-root", 4),
    "no merkle root": (field(bytes([fields.IN_TAP_MERKLE_ROOT]), None), "merkle-root", 4),
    # the participants
    "no participants": (participants(lambda scene: {}), "participants", 4),
    "the payer alone": (keys("payer"), "participants", 4),
    "the payee alone": (keys("payee"), "participants", 4),
    "three participants": (keys("payer", "payee", "stranger"), "participants", 4),
    "the payee twice": (keys("payee", "payee"), "participants", 4),
    "the payer twice": (keys("payer", "payer"), "participants", 4),
    "the payee with the other sign": (keys("payer", "payee turned"), "participants", 4),
    "the payer with the other sign": (keys("payer turned", "payee"), "witness-utxo", 4),
    "the payee's key and its negation": (keys("payee", "payee turned"), "payer-key", 4),
    "a stranger in the payer's place": (keys("stranger", "payee"), "leaf-scripts", 4),
    "a payer's key that is no point": (keys("no point", "payee"), "payer-key", 4),
    "an uncompressed key": (keys("uncompressed", "payee"), "malformed-psbt", 3),
    "another aggregate": (
        participants(
            lambda scene: {
                STRANGER_SECRET.public_key.sec: b"".join(tree_of(scene.terms).keys),
            }
        ),
        "participants",
        4,
    ),
    "the aggregate with the other sign": (
        participants(
            lambda scene: {flipped(tree_of(scene.terms).aggregate, 0): b"".join(tree_of(scene.terms).keys)}
        ),
        "participants",
        4,
    ),
    "two groups": (
        participants(
            lambda scene: {
                tree_of(scene.terms).aggregate: b"".join(tree_of(scene.terms).keys),
                STRANGER_SECRET.public_key.sec: b"".join(tree_of(scene.terms).keys),
            }
        ),
        "participants",
        4,
    ),
    "the payer's key of another channel": (payer_key_of_held, "payer-key-used", 4),
    # the refund's lock time
    "L_refund no multiple of 36": (
        lambda scene: scene.bent(refund_lock_time=Height(scene.terms.refund_lock_time.value + 1)),
        "refund-grid",
        4,
    ),
    "L_refund in seconds": (
        lambda scene: scene.bent(refund_lock_time=MedianTime(21_600 * 80_000)),
        "lock-time-unit",
        4,
    ),
    "L_refund beyond the offer's most": (far_away, "refund-late", 4),
    "L_refund the last that a script can hold": (
        lambda scene: scene.bent(refund_lock_time=Height(499_999_968)),
        "refund-late",
        4,
    ),
    "L_refund long past": (lambda scene: scene.bent(refund_lock_time=Height(36)), "funding-script", 4),
    # the offer
    "no offer": (carrying(OFFER, None), "unknown-channel", 4),
    "an offer that is none": (carrying(OFFER, b"{}"), "unknown-channel", 4),
    "a foreign token": (lambda scene: scene.offered(token="00" * 32), "unknown-offer", 4),
    "a lower fee rate in the offer": (
        lambda scene: scene.offered(fee_rate=replace(scene.terms.offer.fee_rate, sat_per_kvb=1_500)),
        "unknown-offer",
        4,
    ),
    "another generation": (lambda scene: scene.offered(generation="0" * 16), "unknown-offer", 4),
    "an offer of another wallet": (strangers_offer, "unknown-offer", 4),
    "an offer of another network": (
        lambda scene: raw(
            scene.message, globally={OFFER: scene.terms.offer.canonical().replace(b"regtest", b"testnet4")}
        ),
        "unknown-channel",
        4,
    ),
    "an offer of version 1": (
        lambda scene: raw(
            scene.message,
            globally={OFFER: scene.terms.offer.canonical().replace(b'"version":2', b'"version":1')},
        ),
        "unknown-channel",
        4,
    ),
    "an offer of the other construction": (
        lambda scene: raw(scene.message, globally={OFFER: make_offer(version=2).canonical()}),
        "unknown-channel",
        4,
    ),
    "an offer that has a channel": (of_held, "offer-used", 4),
    # the payer's script
    "no payer's script": (carrying(SCRIPT, None), "payer-script", 4),
    "an empty payer's script": (carrying(SCRIPT, b""), "payer-script", 4),
    "another payer's script": (carrying(SCRIPT, STRANGERS_SCRIPT), "output-script", 4),
    "a payer's script of 35 bytes": (
        lambda scene: scene.bent(payer_script=b"\x52\x21" + bytes(33)),
        "payer-script",
        4,
    ),
    "a payer's script of 42 bytes, the longest of a witness program": (
        lambda scene: scene.bent(payer_script=b"\x60\x28" + bytes(40)),
        "payer-script",
        4,
    ),
    "a payer's script that burns": (lambda scene: scene.bent(payer_script=b"\x6a\x01x"), "payer-script", 4),
    "the payee's script as the payer's": (
        lambda scene: scene.bent(payer_script=scene.terms.offer.payee_script),
        "same-payout",
        4,
    ),
    # what is spent
    "no witness_utxo": (field(bytes([fields.IN_WITNESS_UTXO]), None), "witness-utxo", 4),
    "witness_utxo with another script": (lies(script=payout("p2tr", "stranger")), "witness-utxo", 4),
    "a funding of one satoshi more": (lies(1), "funding-value", 4),
    "a funding that pays no refund": (
        lambda scene: raw(
            scene.message,
            {
                bytes([fields.IN_WITNESS_UTXO]): replace(
                    scene.terms.funding_txout, value=Amount(500)
                ).to_bytes()
            },
        ),
        "capacity",
        4,
    ),
    "a funding above the offer's most": (
        lambda scene: scene.bent(funding_value=Amount(2_000_000_000_000)),
        "capacity",
        4,
    ),
    "an outpoint that nobody has seen": (
        lambda scene: scene.bent(outpoint=OutPoint(Txid(bytes(32)), 0)),
        "funding-unseen",
        6,
    ),
    "the funding's change": (
        lambda scene: scene.bent(outpoint=OutPoint(scene.terms.outpoint.txid, 1)),
        "funding-script",
        4,
    ),
}

STRANGERS = STRANGER_SECRET.public_key.x_only
BOTH: dict[str, tuple[Build, str, int]] = {
    # signatures
    "no signature": (lambda scene: scene.terms.lock.message(update(scene.terms)), "missing-signature", 4),
    "a signature of 65 bytes, SIGHASH_ALL": (
        signature(lambda scene, good: good + b"\x01"),
        "sighash-type",
        4,
    ),
    "a signature of 65 bytes, SIGHASH_DEFAULT": (
        signature(lambda scene, good: good + b"\x00"),
        "sighash-type",
        4,
    ),
    "a signature of 63 bytes": (signature(lambda scene, good: good[:-1]), "malformed-psbt", 3),
    "a signature of nothing": (signature(lambda scene, good: bytes(64)), "signature", 4),
    "a bit of the signature": (signature(lambda scene, good: flipped(good)), "signature", 4),
    "a signature of another total": (
        signature(
            lambda scene, good: scene.terms.lock.sign_checked(scene.secret, update(scene.terms, PAID + 1))
        ),
        "signature",
        4,
    ),
    "a signature of the refund": (
        signature(
            lambda scene, good: scene.terms.lock.sign_checked(
                scene.secret, scene.terms.schedule.build(REFUND)
            )
        ),
        "signature",
        4,
    ),
    "a stranger's signature in the payer's place": (
        signature(lambda scene, good: STRANGER_SECRET.sign_schnorr(digest(scene))),
        "signature",
        4,
    ),
    "the signature in leaf R": (signature(lambda scene, good: good, leaf="R"), "missing-signature", 4),
    "the signature in the payee's place": (
        signature(lambda scene, good: good, by="payee"),
        "missing-signature",
        4,
    ),
    "the payer's signature for leaf R too": (extra_signature, "extra-signature", 4),
    "a signature of the 2-of-2 too": (
        lambda scene: raw(
            scene.message, {bytes([fields.IN_PARTIAL_SIG]) + scene.terms.payer_key.sec: b"\x30"}
        ),
        "extra-signature",
        4,
    ),
    "a sighash field of ALL": (
        field(bytes([fields.IN_SIGHASH_TYPE]), b"\x01\x00\x00\x00"),
        "sighash-type",
        4,
    ),
    "a sighash field of DEFAULT": (
        field(bytes([fields.IN_SIGHASH_TYPE]), bytes(4)),
        "sighash-type",
        4,
    ),
    "a signature for the key path": (field(bytes([fields.IN_TAP_KEY_SIG]), ANY), "key-path", 4),
    "a final witness": (field(bytes([fields.IN_FINAL_SCRIPT_WITNESS]), b"\x00"), "final-field", 3),
    "a redeem script": (field(bytes([fields.IN_REDEEM_SCRIPT]), b"\x51"), "redeem-script", 4),
    # the transaction
    "a lock time in the past": (lambda scene: scene.transaction(lock_time=1), "lock-time", 4),
    "L_0 as the lock time": (
        lambda scene: scene.transaction(lock_time=scene.terms.schedule.deadline.value),
        "lock-time",
        4,
    ),
    "the refund": (of_refund, "lock-time", 4),
    "a final nSequence": (lambda scene: scene.transaction(sequence=0xFFFF_FFFF), "sequence", 4),
    "an nSequence of BIP-0068": (lambda scene: scene.transaction(sequence=1), "sequence", 4),
    "version 2": (lambda scene: scene.transaction(version=2), "version", 4),
    "one satoshi more to the payer": (
        lambda scene: scene.signed(scene.terms, with_output(update(scene.terms), 0, value=92_999 + 2)),
        "output-value",
        4,
    ),
    "more than the capacity": (
        lambda scene: scene.signed(scene.terms, with_output(update(scene.terms), 1, value=100_001)),
        "over-capacity",
        4,
    ),
    "another payee's script": (
        lambda scene: scene.signed(
            scene.terms, with_output(update(scene.terms), 1, script_pubkey=STRANGERS_SCRIPT)
        ),
        "output-count",
        4,
    ),
    "below dust": (
        lambda scene: scene.signed(scene.terms, with_output(update(scene.terms), 1, value=293)),
        "below-dust",
        4,
    ),
    "an anchor besides": (
        lambda scene: scene.signed(
            scene.terms,
            replace(
                update(scene.terms),
                outputs=(*update(scene.terms).outputs, TxOut(Amount(0), b"\x51\x02\x4e\x73")),
            ),
        ),
        "output-count",
        4,
    ),
}


def digest(scene: Scene) -> bytes:
    lock = scene.terms.lock
    assert isinstance(lock, TwoLeaves)
    return lock.sighash(update(scene.terms))


LATER: dict[str, tuple[Build, str, int]] = {
    "another offer than the channel's": (strangers_offer, "witness-utxo", 4),
    "an offer with a foreign token": (lambda scene: scene.offered(token="00" * 32), "offer-differs", 4),
    "no offer": (carrying(OFFER, None), "offer-differs", 4),
    "another payer's script, under a good change": (carrying(SCRIPT, STRANGERS_SCRIPT), "payer-script", 4),
    "no payer's script": (carrying(SCRIPT, None), "payer-script", 4),
    "change to another script": (lambda scene: scene.bent(payer_script=STRANGERS_SCRIPT), "payer-script", 4),
    "another L_refund": (
        lambda scene: scene.bent(refund_lock_time=Height(scene.terms.refund_lock_time.value + 36)),
        "witness-utxo",
        4,
    ),
    "a funding of one satoshi more": (lies(1), "witness-utxo", 4),
    "the payer with the other sign": (keys("payer turned", "payee"), "participants", 4),
    "the payee with the other sign": (keys("payer", "payee turned"), "participants", 4),
    "a leaf less": (leaves(lambda scene: ("R", None, None)), "leaf-scripts", 4),
    "another internal key": (field(bytes([fields.IN_TAP_INTERNAL_KEY]), STRANGERS), "internal-key", 4),
    "less than before": (
        lambda scene: scene.signed(scene.terms, update(scene.terms, 4_999)),
        "paid-lower",
        4,
    ),
    "below the increment": (
        lambda scene: scene.signed(scene.terms, update(scene.terms, 5_009)),
        "below-increment",
        4,
    ),
    "an update of the sibling channel": (
        lambda scene: raw(
            scene.message,
            {key: value for key, value in scene.first.inputs[0].pairs if key[0] == fields.IN_TAP_SCRIPT_SIG},
        ),
        "extra-signature",
        4,
    ),
}


@pytest.mark.parametrize("name", [*FIRST, *BOTH])
def test_a_first_payment_that_is_refused(scene: Scene, name: str) -> None:
    """Nothing of it is kept: neither the channel nor that its offer was ever used."""
    build, slug, code = {**FIRST, **BOTH}[name]
    with scene.of(scene.fresh):
        error = scene.refused(build(scene))
    assert (error.slug, error.exit_code) == (slug, code), error.message


@pytest.mark.parametrize("name", [*LATER, *BOTH])
def test_a_later_payment_that_is_refused(scene: Scene, name: str) -> None:
    build, slug, code = {**BOTH, **LATER}[name]
    with scene.of(scene.held):
        error = scene.refused(build(scene))
    assert (error.slug, error.exit_code) == (slug, code), error.message


@pytest.mark.parametrize("size", [2_000_000, 20_000_000])
def test_an_oversized_message(scene: Scene, size: int) -> None:
    with scene.of(scene.fresh):
        error = scene.refused(raw(scene.message, globally={proprietary(9): bytes(size // 2)}))
    assert (error.slug, error.exit_code) == ("too-large", 3)


def test_the_scene_itself_is_good(scene: Scene) -> None:
    """Last in this module: the good messages still work, also among fields that nobody here knows."""
    pair = scene.pair
    unknown: dict[bytes, bytes | None] = {
        b"\x7f\x01": b"unknown",
        bytes([fields.IN_TAP_BIP32_DERIVATION]) + scene.terms.payer_key.x_only: b"\x00" + bytes(4),
    }
    for name, received in ((scene.fresh, PAID), (scene.held, PAID - HELD)):
        with scene.of(name):
            text = raw(scene.message, unknown, {proprietary(9): b"more", b"\xf0": b"unknown"}).hex()
        receipt = pair.accept(text)
        assert (receipt.received_sat, receipt.paid_sat, receipt.duplicate) == (received, PAID, False)
        after = pair.files()
        assert pair.accept(text).duplicate
        assert pair.files() == after
        assert b"unknown".hex() not in b"".join(after.values()).decode(errors="ignore")
    assert fsck.fsck(pair.payee).exit_code == 0
    closed = pair.settle(name=scene.fresh)
    assert (closed.paid_sat, closed.broadcast) == (PAID, True)


# what the chain shows of a first payment's funding -------------------------------------------------


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain, coins=2, scheme="taproot"), folder)


def first_of(desk: Desk, name: str) -> Psbt:
    terms = desk.pair.payer_record(name).terms
    found = update(terms)
    key = desk.pair.payer_secret(name)
    return terms.lock.message(found, terms.payer_key, terms.lock.sign_checked(key, found))


def refused_first(desk: Desk, message: Psbt) -> tuple[str, int]:
    path = desk.file(message)
    found = desk.refused(desk.payee, "payee", "accept", path)
    same_verdict(desk, desk.payee, path, found)
    return found.slug, found.exit_code


def opened(desk: Desk, offer: str | None = None, **terms: Any) -> str:
    request = desk.pair.request(offer=offer, **terms)
    return f"{request.funding_txid}-{request.funding_vout}"


def test_a_funding_in_no_block_and_one_not_deep_enough(desk: Desk) -> None:
    name = opened(desk, min_confirmations=3, min_refund_delay=30, max_refund_delay=90)
    for _ in range(3):
        assert refused_first(desk, first_of(desk, name)) == ("unconfirmed", 6)
        desk.pair.chain.mine(1)
    assert desk.pair.accept(first_of(desk, name).to_hex()).paid_sat == PAID


def test_a_funding_that_was_reorganised_away(desk: Desk) -> None:
    name = opened(desk)
    message = first_of(desk, name)
    desk.pair.chain.mine(1)
    desk.pair.chain.reorganise(1)
    assert refused_first(desk, message) == ("unconfirmed", 6)


def test_a_funding_with_the_right_script_and_another_value(desk: Desk) -> None:
    """The message tells the value that was agreed on, and the chain shows a satoshi less."""
    name = opened(desk)
    pair, record = desk.pair, desk.pair.payer_record(name)
    paid_again = TxOut(record.terms.funding_value - Amount(1), record.terms.funding_txout.script_pubkey)
    pair.chain.faucet(paid_again.script_pubkey, paid_again.value)
    pair.chain.mine(1)
    [coin] = [c for c in pair.chain.coins([paid_again.script_pubkey]) if c.output == paid_again]
    terms = replace(record.terms, outpoint=coin.outpoint)
    found = update(terms)
    signed = terms.lock.message(
        found, terms.payer_key, terms.lock.sign_checked(pair.payer_secret(name), found)
    )
    assert refused_first(desk, signed) == ("funding-value", 4)


def test_a_funding_that_is_spent(desk: Desk) -> None:
    """By the payer's own refund, which it can make alone; waiting, and in a block."""
    name = opened(desk)
    pair, terms = desk.pair, desk.pair.payer_record(name).terms
    message = first_of(desk, name)
    pair.chain.mine(1)
    pair.mine_to(terms.refund_lock_time.value)
    back = TxOut(terms.funding_value - Amount(9_000), STRANGERS_SCRIPT)
    pair.chain.broadcast(taken_back(terms, pair.payer_secret(name), back))
    assert refused_first(desk, message) == ("channel-refunding", 5)
    pair.chain.mine(1)
    assert refused_first(desk, message) == ("channel-refunded", 5)


def test_a_first_payment_when_the_tip_has_reached_l_0(desk: Desk) -> None:
    name = opened(desk)
    message = first_of(desk, name)
    desk.pair.mine_to(desk.pair.payer_record(name).terms.schedule.deadline.value)
    assert refused_first(desk, message) == ("past-deadline", 5)


def test_two_fundings_under_one_offer(desk: Desk) -> None:
    """The one whose payment is taken first has it; the other one's money goes back to its payer."""
    name = desk.pair.open()
    pair, terms = desk.pair, desk.pair.payer_record(name).terms
    pair.chain.faucet(terms.funding_txout.script_pubkey, terms.funding_value)
    pair.chain.mine(1)
    coins = pair.chain.coins([terms.funding_txout.script_pubkey])
    [second] = [coin.outpoint for coin in coins if coin.outpoint != terms.outpoint]
    sibling = replace(terms, outpoint=second)
    found, secret = update(sibling), pair.payer_secret(name)
    message = sibling.lock.message(found, sibling.payer_key, sibling.lock.sign_checked(secret, found))
    pair.accept(first_of(desk, name).to_hex())
    assert refused_first(desk, message) == ("offer-used", 4)
    pair.mine_to(terms.refund_lock_time.value)
    pair.chain.broadcast(taken_back(sibling, secret, TxOut(Amount(90_000), STRANGERS_SCRIPT)))


def test_an_offer_that_has_expired(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A funding that a block holds from before is honoured, one that still waits is not."""
    made = payee.offer(desk.pair.payee, desk.pair.chain, {**SHORT, "scheme": "taproot"}, expires_in=86_400)
    name = opened(desk, made.toml)
    later = time.time() + 90_000
    monkeypatch.setattr(time, "time", lambda: later)
    assert refused_first(desk, first_of(desk, name)) == ("offer-expired", 4)
    monkeypatch.undo()
    desk.pair.chain.mine(1)
    monkeypatch.setattr(time, "time", lambda: later)
    assert desk.pair.accept(first_of(desk, name).to_hex()).paid_sat == PAID


def test_the_other_ways_of_an_exchange(desk: Desk) -> None:
    """A message of the other construction's opening about a taproot channel, and the reverse."""
    name = opened(desk)
    desk.pair.chain.mine(1)
    path = desk.file(first_of(desk, name))
    asked = desk.refused_writing(desk.payee, "payee", "sign-refund", path)
    assert (asked.slug, asked.exit_code) == ("no-opening-exchange", 5)
    funding = desk.file(desk.pair.payer_record(name).funding.to_hex())
    given = desk.refused(desk.payee, "payee", "funding", funding)
    assert (given.slug, given.exit_code) == ("no-channel-yet", 5)
