"""What a hostile payer can send instead of an update or a settlement, with its own key in hand.

All of it is refused, and no file changes. The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hostile import Desk, Refusal, same_verdict
from support.party import Pair
from support.protocol import (
    FINAL_SCRIPT_SIG,
    FINAL_WITNESS,
    PARTIAL_SIG,
    REDEEM_SCRIPT,
    SIGHASH_TYPE,
    STRANGER_SECRET,
    UTXO,
    WITNESS_SCRIPT,
    bent,
    message,
    payout,
    replace,
    scheme_of,
    sign,
    signed,
    with_high_s,
    with_output,
)

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount, OutPoint, Txid

NUMBER = 4
PAID = 7000
HELD_NUMBER, HELD_PAID = 2, 5000


class Scene:
    """An open channel whose payee holds update 2 with 5000 sat; update 4 with 7000 would be good."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.desk = Desk(pair, folder)
        self.sibling = pair.open()
        self.name = pair.open(step=3, min_increment_sat=10)
        self.terms = pair.terms(self.name)
        self.secret = pair.payer_secret(self.name)
        self.payee_secret = pair.payee_secret(self.name)
        built = scheme_of(self.terms)
        held = built.update(HELD_NUMBER, Amount(HELD_PAID))
        pair.accept(self.signed(held).to_hex())
        self.update = built.update(NUMBER, Amount(PAID))
        self.settlement = built.settlement(Amount(PAID))

    def signed(self, transaction: Transaction, **how: object) -> Psbt:
        """Any transaction, signed flawlessly by the payer."""
        return signed(self.terms, transaction, self.secret, **how)  # type: ignore[arg-type]

    def signature(self, transaction: Transaction, signature: bytes) -> Psbt:
        """The right transaction with another signature under the payer's key."""
        return message(self.terms, transaction, {self.secret.public_key.sec: signature})

    def good(self, transaction: Transaction) -> bytes:
        """The payer's real signature."""
        return sign(self.secret, self.terms, transaction)

    def numbered(self, number: int, paid: int) -> Psbt:
        """A flawless update."""
        return self.signed(scheme_of(self.terms).update(number, Amount(paid)))

    def settled(self, paid: int) -> Psbt:
        """A flawless settlement."""
        return self.signed(scheme_of(self.terms).settlement(Amount(paid)))


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        yield Scene(Pair(tmp_path_factory.mktemp("pair"), chain, coins=2), tmp_path_factory.mktemp("desk"))


Build = Callable[[Scene, Transaction], Psbt]
"""Makes a hostile message out of the good transaction, be it the update or the settlement."""


def changed(**changes: object) -> Build:
    return lambda scene, good: scene.signed(bent(good, **changes))


def output(index: int, **changes: object) -> Build:
    return lambda scene, good: scene.signed(with_output(good, index, **changes))


def outputs(arrange: Callable[[tuple[TxOut, ...]], tuple[TxOut, ...]]) -> Build:
    return lambda scene, good: scene.signed(replace(good, outputs=arrange(good.outputs)))


def moved(payer: int, payee: int) -> Build:
    """Satoshi more in each output."""

    def build(scene: Scene, good: Transaction) -> Psbt:
        first, second = good.outputs
        bent_once = with_output(good, 0, value=first.value.sat + payer)
        return scene.signed(with_output(bent_once, 1, value=second.value.sat + payee))

    return build


def extra_input(scene: Scene, good: Transaction) -> Psbt:
    other = TxIn(OutPoint(Txid(bytes(32)), 0), 0xFFFFFFFD)
    return scene.signed(replace(good, inputs=(*good.inputs, other)))


def spends_sibling(scene: Scene, good: Transaction) -> Psbt:
    """The other open channel of the same two parties, but everything else belongs to this one."""
    return scene.signed(bent(good, outpoint=scene.pair.terms(scene.sibling).outpoint))


def sighash(kind: int, byte: int | None = None) -> Build:
    return lambda scene, good: scene.signature(
        good, sign(scene.secret, scene.terms, good, sighash=kind, byte=byte)
    )


def by(secret: Callable[[Scene], PrivateKey]) -> Build:
    """Signed by another key, under that key."""
    return lambda scene, good: signed(scene.terms, good, secret(scene))


def as_payer(signature: Callable[[Scene, Transaction], bytes]) -> Build:
    """Another signature under the payer's key."""
    return lambda scene, good: scene.signature(good, signature(scene, good))


def earlier_state(scene: Scene, good: Transaction) -> bytes:
    return scene.good(scheme_of(scene.terms).update(HELD_NUMBER, Amount(HELD_PAID)))


def of_sibling(scene: Scene, good: Transaction) -> bytes:
    sibling = scene.pair.terms(scene.sibling)
    return sign(scene.secret, sibling, bent(good, outpoint=sibling.outpoint))


def extra_signature(secret: Callable[[Scene], PrivateKey]) -> Build:
    def build(scene: Scene, good: Transaction) -> Psbt:
        other = secret(scene)
        both = {
            scene.secret.public_key.sec: scene.good(good),
            other.public_key.sec: sign(other, scene.terms, good),
        }
        return message(scene.terms, good, both)

    return build


def uncompressed_signature(scene: Scene, good: Transaction) -> Psbt:
    key = b"\x04" + scene.secret.public_key.sec[1:] + bytes(32)
    return scene.signed(good, fields={PARTIAL_SIG + key: scene.good(good)})


def field(key: bytes, value: bytes | None) -> Build:
    return lambda scene, good: scene.signed(good, fields={key: value})


def utxo(off_by: int, script: bytes | None = None) -> Build:
    """The payer signs the amount that it claims, so the signature fits its own lie."""

    def build(scene: Scene, good: Transaction) -> Psbt:
        real = scene.terms.funding_txout
        lie = TxOut(Amount(real.value.sat + off_by), script or real.script_pubkey)
        return scene.signed(good, fields={UTXO: lie.to_bytes()}, value=lie.value.sat)

    return build


STRANGER = payout("p2wpkh", "stranger")
TOO_MUCH = 10_000_000

BOTH: dict[str, tuple[Build, str]] = {
    "24 change to a stranger": (output(0, script_pubkey=STRANGER), "output-script"),
    "24 change to the payee": (
        lambda scene, good: scene.signed(with_output(good, 0, script_pubkey=good.outputs[1].script_pubkey)),
        "output-script",
    ),
    "27 final nSequence": (changed(sequence=0xFFFFFFFF), "sequence"),
    "27 nSequence 0xfffffffe": (changed(sequence=0xFFFFFFFE), "sequence"),
    "27 nSequence of BIP-0068": (changed(sequence=1), "sequence"),
    "28 an unknown outpoint": (changed(outpoint=OutPoint(Txid(bytes(32)), 0)), "unknown-channel"),
    "28 another output of the funding": (
        lambda scene, good: scene.signed(bent(good, outpoint=OutPoint(scene.terms.outpoint.txid, 1))),
        "unknown-channel",
    ),
    "28 the sibling channel's outpoint": (spends_sibling, "witness-utxo"),
    "28 an extra input": (extra_input, "input-count"),
    "28 no input": (lambda scene, good: message(scene.terms, replace(good, inputs=())), "input-count"),
    "29 an extra output": (outputs(lambda pair: (*pair, TxOut(Amount(0), b"\x6a"))), "output-count"),
    "29 the payee's output twice": (outputs(lambda pair: (*pair, pair[1])), "output-count"),
    "29 the payer's output missing": (outputs(lambda pair: pair[1:]), "output-count"),
    "29 in the other order": (outputs(lambda pair: pair[::-1]), "output-script"),
    "30 more than there is": (moved(TOO_MUCH, 0), "output-value"),
    "30 more than the capacity for the payee": (moved(0, TOO_MUCH), "over-capacity"),
    "30 one satoshi more to the payer": (moved(1, 0), "output-value"),
    "30 one satoshi less to the payer": (moved(-1, 0), "output-value"),
    "30 one satoshi more to the payee": (moved(0, 1), "output-value"),
    "31 below dust": (moved(0, 293 - PAID), "below-dust"),
    "32 SIGHASH_NONE": (sighash(2), "sighash-type"),
    "32 SIGHASH_SINGLE": (sighash(3), "sighash-type"),
    "32 ALL with ANYONECANPAY": (sighash(0x81), "sighash-type"),
    "32 NONE with ANYONECANPAY": (sighash(0x82), "sighash-type"),
    "32 SINGLE with ANYONECANPAY": (sighash(0x83), "sighash-type"),
    "32 SIGHASH_DEFAULT": (sighash(0), "sighash-type"),
    "32 an unknown type": (sighash(0x41), "sighash-type"),
    "33 ALL that says NONE": (sighash(1, 2), "sighash-type"),
    "33 ALL that says 0x81": (sighash(1, 0x81), "sighash-type"),
    "33 NONE that says ALL": (sighash(2, 1), "signature"),
    "33 ANYONECANPAY that says ALL": (sighash(0x81, 1), "signature"),
    "33 type 0x41 that says ALL": (sighash(0x41, 1), "signature"),
    "34 high S": (as_payer(lambda scene, good: with_high_s(scene.good(good))), "signature-high-s"),
    "34 a byte behind the DER": (
        as_payer(lambda scene, good: scene.good(good)[:-1] + b"\x00\x01"),
        "signature-der",
    ),
    "34 a byte behind, of the right type": (
        as_payer(lambda scene, good: scene.good(good) + b"\x01"),
        "signature-der",
    ),
    "34 a byte behind, counted in the length": (
        as_payer(lambda scene, good: _longer(scene.good(good))),
        "signature-der",
    ),
    "34 no signature at all": (as_payer(lambda scene, good: b"\x01"), "signature-der"),
    "34 64 bytes of a Schnorr signature": (
        as_payer(lambda scene, good: bytes(range(1, 65)) + b"\x01"),
        "signature-der",
    ),
    "34 r and s are 0": (
        as_payer(lambda scene, good: bytes.fromhex("300602010002010001")),
        "signature",
    ),
    "34 padded r": (
        as_payer(lambda scene, good: _padded(scene.good(good))),
        "signature-der",
    ),
    "35 a stranger's signature": (by(lambda scene: STRANGER_SECRET), "missing-signature"),
    "35 the payee's own signature": (by(lambda scene: scene.payee_secret), "missing-signature"),
    "35 the payee's signature under the payer's key": (
        as_payer(lambda scene, good: sign(scene.payee_secret, scene.terms, good)),
        "signature",
    ),
    "35 a stranger's signature under the payer's key": (
        as_payer(lambda scene, good: sign(STRANGER_SECRET, scene.terms, good)),
        "signature",
    ),
    "36 of an earlier state": (as_payer(earlier_state), "signature"),
    "36 of the refund": (
        as_payer(lambda scene, good: scene.good(scheme_of(scene.terms).refund())),
        "signature",
    ),
    "36 of a sibling channel": (as_payer(of_sibling), "signature"),
    "36 with the other lock time": (
        as_payer(lambda scene, good: scene.good(bent(good, lock_time=good.lock_time ^ 1))),
        "signature",
    ),
    "37 no signature": (lambda scene, good: message(scene.terms, good), "missing-signature"),
    "37 the payee's signature too": (extra_signature(lambda scene: scene.payee_secret), "extra-signature"),
    "37 a stranger's signature too": (extra_signature(lambda scene: STRANGER_SECRET), "extra-signature"),
    "37 an uncompressed key's signature too": (uncompressed_signature, "extra-signature"),
    "37 a redeem script": (field(REDEEM_SCRIPT, b"\x51"), "redeem-script"),
    "37 another witness script": (field(WITNESS_SCRIPT, b"\x51"), "witness-script"),
    "37 no witness script": (field(WITNESS_SCRIPT, None), "witness-script"),
    "37 witness_utxo says more": (utxo(1), "witness-utxo"),
    "37 witness_utxo says less": (utxo(-1), "witness-utxo"),
    "37 witness_utxo with another script": (utxo(0, payout("p2wsh", "stranger")), "witness-utxo"),
    "37 no witness_utxo": (field(UTXO, None), "witness-utxo"),
    "37 a signature of another amount": (
        as_payer(
            lambda scene, good: sign(scene.secret, scene.terms, good, value=scene.terms.funding_value.sat + 1)
        ),
        "signature",
    ),
    "37 no sighash type": (field(SIGHASH_TYPE, None), "sighash-type"),
    "37 another sighash type": (field(SIGHASH_TYPE, b"\x81\x00\x00\x00"), "sighash-type"),
    "38 version 0": (changed(version=0), "version"),
    "38 version 1": (changed(version=1), "version"),
    "38 version 2": (changed(version=2), "version"),
}


def _longer(signature: bytes) -> bytes:
    """A byte after s that the sequence's length takes in."""
    return b"\x30" + bytes([signature[1] + 1]) + signature[2:-1] + b"\x00" + signature[-1:]


def _padded(signature: bytes) -> bytes:
    """A zero byte before r, and lengths that fit: BER, not DER."""
    length = signature[3] + 1
    return b"\x30" + bytes([signature[1] + 1]) + b"\x02" + bytes([length]) + b"\x00" + signature[4:]


Make = Callable[[Scene], Psbt]


def at(lock_time: Callable[[Scene], int]) -> Make:
    """The update with another nLockTime, signed."""
    return lambda scene: scene.signed(bent(scene.update, lock_time=lock_time(scene)))


def deadline(scene: Scene) -> int:
    return scheme_of(scene.terms).deadline.value


UPDATES: dict[str, tuple[Make, str]] = {
    "21 less under a later number": (lambda scene: scene.numbered(NUMBER, 4999), "paid-lower"),
    "21 an earlier update": (lambda scene: scene.numbered(1, 1000), "update-number"),
    "21 more under an earlier number": (lambda scene: scene.numbered(1, 9000), "update-number"),
    "21 more under the same number": (lambda scene: scene.numbered(HELD_NUMBER, 9000), "update-number"),
    "21 less under the same number": (lambda scene: scene.numbered(HELD_NUMBER, 4000), "update-number"),
    "23 pays a stranger": (
        lambda scene: scene.signed(with_output(scene.update, 1, script_pubkey=STRANGER)),
        "payee-script",
    ),
    "25 between two lock times": (at(lambda scene: deadline(scene) - 3 * NUMBER - 1), "lock-time"),
    "25 L_0": (at(deadline), "lock-time"),
    "25 after L_0": (at(lambda scene: deadline(scene) + 3), "lock-time"),
    "25 the refund's": (at(lambda scene: scene.terms.refund_lock_time.value), "lock-time"),
    "25 seconds": (at(lambda scene: 1_700_000_000), "lock-time"),
    "25 the highest": (at(lambda scene: 0xFFFFFFFF), "lock-time"),
    "42 below the increment": (lambda scene: scene.numbered(NUMBER, 5009), "below-increment"),
    "42 an equal total under a later number": (
        lambda scene: scene.numbered(NUMBER, HELD_PAID),
        "below-increment",
    ),
}

SETTLEMENTS: dict[str, tuple[Make, str]] = {
    "23 pays a stranger": (
        lambda scene: scene.signed(with_output(scene.settlement, 1, script_pubkey=STRANGER)),
        "output-count",
    ),
    "41 less than the best update": (lambda scene: scene.settled(4999), "paid-lower"),
    "41 nothing": (lambda scene: scene.settled(0), "paid-lower"),
    "42 a last payment below the increment": (lambda scene: scene.settled(5009), "below-increment"),
}


def refused(scene: Scene, hostile: Psbt) -> Refusal:
    """What ``accept`` says; ``verify`` says the same."""
    path = scene.desk.file(hostile)
    found = scene.desk.refused(scene.desk.payee, "payee", "accept", path)
    same_verdict(scene.desk, scene.desk.payee, path, found)
    return found


@pytest.mark.parametrize("name", [*BOTH, *UPDATES])
def test_hostile_update_is_refused(scene: Scene, name: str) -> None:
    if name in UPDATES:
        make, slug = UPDATES[name]
        hostile = make(scene)
    else:
        build, slug = BOTH[name]
        hostile = build(scene, scene.update)
    error = refused(scene, hostile)
    assert (error.slug, error.exit_code) == (slug, 4), error.message
    assert len(error.message) < 700


@pytest.mark.parametrize("name", [*BOTH, *SETTLEMENTS])
def test_hostile_settlement_is_refused(scene: Scene, name: str) -> None:
    """Both by ``accept`` and by ``settle FILE``, which also would broadcast it."""
    if name in SETTLEMENTS:
        make, slug = SETTLEMENTS[name]
        hostile = make(scene)
    else:
        build, slug = BOTH[name]
        hostile = build(scene, scene.settlement)
    error = refused(scene, hostile)
    assert (error.slug, error.exit_code) == (slug, 4), error.message
    settling = scene.desk.refused_writing(scene.desk.payee, "payee", "settle", scene.desk.file(hostile))
    assert (settling.slug, settling.exit_code) == (slug, 4)
    assert scene.pair.chain.mempool() == []


@pytest.mark.parametrize("kind", ["update", "settlement"])
@pytest.mark.parametrize(("key", "value"), [(FINAL_SCRIPT_SIG, b""), (FINAL_WITNESS, b"\x01\x00")])
def test_55_a_final_field_is_malformed(scene: Scene, kind: str, key: bytes, value: bytes) -> None:
    good = scene.update if kind == "update" else scene.settlement
    error = refused(scene, scene.signed(good, fields={key: value}))
    assert (error.slug, error.exit_code) == ("final-field", 3)


LONG = 90_000
TALKATIVE: dict[str, tuple[Build, str]] = {
    "a long script in witness_utxo": (
        lambda scene, good: scene.signed(
            good, fields={UTXO: TxOut(scene.terms.funding_value, bytes(LONG)).to_bytes()}
        ),
        "witness-utxo",
    ),
    "a long witness script": (field(WITNESS_SCRIPT, bytes(LONG)), "witness-script"),
    "a long output script": (output(0, script_pubkey=bytes(LONG)), "output-script"),
    "a long signature": (as_payer(lambda scene, good: bytes(LONG) + b"\x01"), "signature-der"),
    "many signatures": (
        lambda scene, good: scene.signed(
            good, fields={PARTIAL_SIG + b"\x02" + n.to_bytes(32, "big"): b"\x30" for n in range(1000)}
        ),
        "extra-signature",
    ),
}


@pytest.mark.parametrize("name", TALKATIVE)
def test_a_refusal_stays_short_whatever_was_sent(scene: Scene, name: str) -> None:
    build, slug = TALKATIVE[name]
    error = refused(scene, build(scene, scene.update))
    assert error.slug == slug
    assert len(error.message) < 600


def test_settle_takes_no_update(scene: Scene) -> None:
    path = scene.desk.file(scene.signed(scene.update))
    error = scene.desk.refused_writing(scene.desk.payee, "payee", "settle", path)
    assert (error.slug, error.exit_code) == ("not-a-settlement", 5)


def test_31_the_first_update_must_reach_the_dust_limit(scene: Scene) -> None:
    name = scene.sibling
    pair = scene.pair
    terms = pair.terms(name)
    secret = pair.payer_secret(name)
    for hostile in (scheme_of(terms).update(1, Amount(293)), scheme_of(terms).settlement(Amount(293))):
        error = refused(scene, signed(terms, hostile, secret))
        assert (error.slug, error.exit_code) == ("below-dust", 4)
    receipt = pair.accept(signed(terms, scheme_of(terms).update(1, Amount(294)), secret).to_hex())
    assert receipt.received_sat == 294


def test_the_scene_itself_is_good(scene: Scene) -> None:
    """Last in this module: all of the above failed for its own reason, and the good messages still work."""
    pair = scene.pair
    receipt = pair.accept(scene.signed(scene.update).to_hex())
    assert (receipt.update, receipt.received_sat, receipt.paid_sat) == (NUMBER, 2000, PAID)
    after = pair.files()
    # 22: the same again counts nothing and changes nothing
    again = pair.accept(scene.signed(scene.update).to_hex())
    assert (again.duplicate, again.received_sat, again.paid_sat) == (True, 0, PAID)
    assert pair.files() == after
    # 41: equal is enough
    settled = pair.settle(scene.settled(PAID).to_hex())
    assert (settled.kind, settled.paid_sat, settled.broadcast) == ("settlement", PAID, True)
    pair.chain.mine(1)
