"""What a hostile payee can send instead of the signed refund: all of it is refused before anything is signed.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hostile import Desk, Refusal, same_verdict
from support.party import Pair
from support.protocol import (
    FINAL_WITNESS,
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
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.carried import with_offer
from mpchan.channel.payer import Opening
from mpchan.units import Amount, OutPoint, Txid
from mpchan.wallet.keys import Keys


class Scene:
    """A request that the payee has signed, and that the payer has not seen signed yet."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.desk = Desk(pair, folder)
        self.other = pair.open()
        request = pair.request()
        self.reply = pair.sign_refund(request.hex)
        self.request = request.hex
        self.name = f"{request.funding_txid}-{request.funding_vout}"
        self.terms = pair.terms(self.name)
        self.secret = pair.payee_secret(self.name)
        self.payer_secret = pair.payer_secret(self.name)
        self.refund = scheme_of(self.terms).refund()

    def signed(self, transaction: Transaction, **how: object) -> Psbt:
        """Another transaction, signed flawlessly by the payee."""
        return signed(self.terms, transaction, self.secret, **how)  # type: ignore[arg-type]

    def signature(self, signature: bytes) -> Psbt:
        """The right transaction with another signature under the payee's key."""
        return message(self.terms, self.refund, {self.secret.public_key.sec: signature})

    @property
    def good(self) -> bytes:
        """The payee's real signature."""
        return sign(self.secret, self.terms, self.refund)


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        yield Scene(Pair(tmp_path_factory.mktemp("pair"), chain, coins=2), tmp_path_factory.mktemp("desk"))


def transaction(**changes: object) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.signed(bent(scene.refund, **changes))


def later(blocks: int) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.signed(bent(scene.refund, lock_time=scene.refund.lock_time + blocks))


def value_off_by(sat: int) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.signed(
        with_output(scene.refund, 0, value=scene.refund.outputs[0].value.sat + sat)
    )


def extra_output(scene: Scene) -> Psbt:
    first = replace(scene.refund.outputs[0], value=scene.refund.outputs[0].value - Amount(1000))
    theirs = TxOut(Amount(1000), scene.terms.offer.payee_script)
    return scene.signed(replace(scene.refund, outputs=(first, theirs)))


def extra_input(scene: Scene) -> Psbt:
    other = TxIn(OutPoint(Txid(bytes(32)), 0), 0xFFFFFFFD)
    return scene.signed(replace(scene.refund, inputs=(*scene.refund.inputs, other)))


def sighash(kind: int, byte: int | None = None) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.signature(
        sign(scene.secret, scene.terms, scene.refund, sighash=kind, byte=byte)
    )


def signed_elsewhere(scene: Scene) -> Psbt:
    """A signature of the refund of a sibling channel, made with the right key."""
    sibling = bent(scene.refund, outpoint=scene.pair.terms(scene.other).outpoint)
    return scene.signature(sign(scene.secret, scene.terms, sibling))


def both_signatures(scene: Scene) -> Psbt:
    ours = sign(scene.payer_secret, scene.terms, scene.refund)
    return message(
        scene.terms,
        scene.refund,
        {scene.secret.public_key.sec: scene.good, scene.payer_secret.public_key.sec: ours},
    )


def field(key: bytes, value: bytes | None) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.signed(scene.refund, fields={key: value})


def utxo(off_by: int, script: bytes | None = None) -> Callable[[Scene], Psbt]:
    """The payee signs the amount that it claims, so the signature fits its own lie."""

    def build(scene: Scene) -> Psbt:
        real = scene.terms.funding_txout
        lie = TxOut(Amount(real.value.sat + off_by), script or real.script_pubkey)
        return scene.signed(scene.refund, fields={UTXO: lie.to_bytes()}, value=lie.value.sat)

    return build


CASES: dict[str, tuple[Callable[[Scene], Psbt], str]] = {
    "43 later by one block": (later(1), "lock-time"),
    "43 earlier by one block": (later(-1), "lock-time"),
    "43 lock time 0": (transaction(lock_time=0), "lock-time"),
    "43 seconds": (transaction(lock_time=1_700_000_000), "lock-time"),
    "43 another output index": (
        lambda scene: scene.signed(
            bent(scene.refund, outpoint=OutPoint(scene.terms.outpoint.txid, 1)),
        ),
        "unknown-channel",
    ),
    "43 pays to the payee": (
        lambda scene: scene.signed(
            with_output(scene.refund, 0, script_pubkey=scene.terms.offer.payee_script)
        ),
        "output-script",
    ),
    "43 pays to a stranger": (
        lambda scene: scene.signed(with_output(scene.refund, 0, script_pubkey=payout("p2wpkh", "stranger"))),
        "output-script",
    ),
    "43 pays less": (value_off_by(-1), "output-value"),
    "43 pays more": (value_off_by(1), "output-value"),
    "43 a second output": (extra_output, "output-count"),
    "43 no output": (lambda scene: scene.signed(replace(scene.refund, outputs=())), "output-count"),
    "43 a second input": (extra_input, "input-count"),
    "43 version 1": (transaction(version=1), "version"),
    "43 version 2": (transaction(version=2), "version"),
    "43 final nSequence": (transaction(sequence=0xFFFFFFFF), "sequence"),
    "43 nSequence of BIP-0068": (transaction(sequence=100), "sequence"),
    "44 no signature": (lambda scene: message(scene.terms, scene.refund), "missing-signature"),
    "44 the payer's own signature": (
        lambda scene: signed(scene.terms, scene.refund, scene.payer_secret),
        "missing-signature",
    ),
    "44 a stranger's signature": (
        lambda scene: signed(scene.terms, scene.refund, STRANGER_SECRET),
        "missing-signature",
    ),
    "44 a stranger's signature under the payee's key": (
        lambda scene: scene.signature(sign(STRANGER_SECRET, scene.terms, scene.refund)),
        "signature",
    ),
    "44 of a sibling channel": (signed_elsewhere, "signature"),
    "44 of another amount": (
        lambda scene: scene.signature(
            sign(scene.secret, scene.terms, scene.refund, value=scene.terms.funding_value.sat + 1)
        ),
        "signature",
    ),
    "44 of another script": (
        lambda scene: scene.signature(sign(scene.secret, scene.terms, scene.refund, script=b"\x51")),
        "signature",
    ),
    "44 high S": (lambda scene: scene.signature(with_high_s(scene.good)), "signature-high-s"),
    "44 bytes behind": (
        lambda scene: scene.signature(scene.good[:-1] + b"\x00" + scene.good[-1:]),
        "signature-der",
    ),
    "44 not DER": (lambda scene: scene.signature(bytes(64) + b"\x01"), "signature-der"),
    "44 one byte": (lambda scene: scene.signature(b"\x01"), "signature-der"),
    "44 SIGHASH_NONE": (sighash(2), "sighash-type"),
    "44 SIGHASH_SINGLE": (sighash(3), "sighash-type"),
    "44 ALL with ANYONECANPAY": (sighash(0x81), "sighash-type"),
    "44 NONE with ANYONECANPAY": (sighash(0x82), "sighash-type"),
    "44 NONE that says ALL": (sighash(2, 1), "signature"),
    "44 ALL that says 0": (sighash(1, 0), "sighash-type"),
    "44 ALL that says 0x41": (sighash(1, 0x41), "sighash-type"),
    "44 both signatures": (both_signatures, "extra-signature"),
    "37 witness_utxo says more": (utxo(1), "witness-utxo"),
    "37 witness_utxo says less": (utxo(-1), "witness-utxo"),
    "37 witness_utxo with another script": (utxo(0, payout("p2wsh", "stranger")), "witness-utxo"),
    "37 no witness_utxo": (field(UTXO, None), "witness-utxo"),
    "37 another script": (field(WITNESS_SCRIPT, b"\x51"), "witness-script"),
    "37 no script": (field(WITNESS_SCRIPT, None), "witness-script"),
    "37 a redeem script": (field(REDEEM_SCRIPT, b"\x51"), "redeem-script"),
    "37 no sighash type": (field(SIGHASH_TYPE, None), "sighash-type"),
    "37 another sighash type": (field(SIGHASH_TYPE, b"\x02\x00\x00\x00"), "sighash-type"),
}


def refused(scene: Scene, reply: Psbt, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """What ``fund`` says, and ``verify`` too; the funding is not signed, and the refund written nowhere."""

    def unthinkable(*_: object) -> Transaction:
        raise AssertionError("the funding would be signed")

    monkeypatch.setattr(Keys, "sign_coins", unthinkable)
    desk = scene.desk
    path, copy = desk.file(reply), desk.folder / "refund"
    found = desk.refused_writing(desk.payer, "payer", "fund", path, "--refund-out", copy)
    assert not copy.exists()
    same_verdict(desk, desk.payer, path, found)
    assert scene.pair.chain.output(scene.terms.outpoint) is None
    return found


@pytest.mark.parametrize("name", CASES)
def test_hostile_reply_is_refused(scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, slug = CASES[name]
    error = refused(scene, build(scene), monkeypatch)
    assert (error.slug, error.exit_code) == (slug, 4), error.message
    assert len(error.message) < 700


def test_55_a_final_field_is_malformed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = scene.signed(scene.refund, fields={FINAL_WITNESS: b"\x00"})
    error = refused(scene, reply, monkeypatch)
    assert (error.slug, error.exit_code) == ("final-field", 3)


def test_the_request_itself_is_no_reply(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = with_offer(message(scene.terms, scene.refund), scene.terms.offer)
    assert reply.to_hex() == scene.request
    assert refused(scene, reply, monkeypatch).slug == "missing-signature"


def test_the_reply_of_another_channel(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own channel is open: it is recognised there, and moves nothing here."""
    before = scene.pair.files()
    record = scene.pair.payer_record(scene.other)
    signature = sign(scene.pair.payee_secret(scene.other), record.terms, scheme_of(record.terms).refund())
    key = record.terms.offer.payee_key.sec
    result = scene.pair.fund(
        message(record.terms, scheme_of(record.terms).refund(), {key: signature}).to_hex()
    )
    assert result.channel == record.terms.channel_id
    assert scene.pair.files() == before


def test_the_scene_itself_is_good(scene: Scene) -> None:
    """Last in this module: all of the above failed for its own reason, and the real answer still works."""
    assert isinstance(scene.pair.payer_record(scene.name).state, Opening)
    assert scene.signature(scene.good).to_hex() == scene.reply
    result = scene.pair.fund(scene.reply)
    assert result.broadcast is True
