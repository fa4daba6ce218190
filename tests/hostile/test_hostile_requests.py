"""What a hostile payer can put into a refund request: all of it is refused, and no file changes.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hostile import Desk, Refusal, same_verdict
from support.party import SHORT, Pair
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
    private_key,
    replace,
    scheme_of,
    sign,
    with_output,
    witness_script,
)

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.network import MAINNET, REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payee as payee_protocol
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError
from mpchan.party import payee
from mpchan.units import Amount, FeeRate, Height, MedianTime, OutPoint, Txid

STRANGER = STRANGER_SECRET.public_key


class Scene:
    """An open channel, and beside it a request for another one that the payee has not seen yet."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.desk = Desk(pair, folder)
        self.open_channel = pair.open()
        self.other_terms = pair.terms(self.open_channel)
        self.used_offer = self.other_terms.offer
        self.offer = pair.offer(min_capacity_sat=50_000, max_capacity_sat=200_000)
        self.request = pair.request(100_000, offer=self.offer)
        name = f"{self.request.funding_txid}-{self.request.funding_vout}"
        self.terms = pair.payer_record(name).terms
        self.secret = pair.payer_secret(name)
        self.refund = scheme_of(self.terms).refund()
        self.spare_offer = Offer.from_toml(pair.offer(min_capacity_sat=50_000, max_capacity_sat=200_000))

    def altered_terms(self, **changes: object) -> Psbt:
        """A flawless request, but under other terms."""
        terms = replace(self.terms, **changes)
        return message(terms, scheme_of(terms).refund())

    def altered(self, transaction: Transaction) -> Psbt:
        """The same fields around another transaction."""
        return message(self.terms, transaction)

    def script(self, script: bytes) -> Psbt:
        """Another witness script."""
        return message(self.terms, self.refund, fields={WITNESS_SCRIPT: script})

    def field(self, key: bytes, value: bytes | None) -> Psbt:
        """Another field of the input."""
        return message(self.terms, self.refund, fields={key: value})

    @property
    def keys(self) -> tuple[bytes, bytes]:
        """Both keys in the order of the script."""
        first, second = sorted((self.terms.payer_key.sec, self.terms.offer.payee_key.sec))
        return first, second


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        yield Scene(Pair(tmp_path_factory.mktemp("pair"), chain, coins=2), tmp_path_factory.mktemp("desk"))


def off_curve(scene: Scene) -> Psbt:
    """A key that begins like one, but no point has this x."""
    ours = scene.terms.offer.payee_key.sec
    bad = next(
        key
        for x in range(1, 100)
        if (key := b"\x02" + x.to_bytes(32, "big")) and not _is_point(key) and key != ours
    )
    first, second = sorted((bad, ours))
    return scene.script(b"\x52\x21" + first + b"\x21" + second + b"\x52\xae")


def _is_point(key: bytes) -> bool:
    prime = 2**256 - 2**32 - 977
    square = (pow(int.from_bytes(key[1:], "big"), 3, prime) + 7) % prime
    return pow(square, (prime - 1) // 2, prime) == 1


def uncompressed(scene: Scene) -> Psbt:
    key = scene.terms.payer_key.sec
    long = b"\x04" + key[1:] + bytes(32)
    ours = scene.terms.offer.payee_key.sec
    return scene.script(b"\x52\x21" + ours + b"\x41" + long + b"\x52\xae")


def swapped_keys(scene: Scene) -> Psbt:
    first, second = scene.keys
    return scene.script(b"\x52\x21" + second + b"\x21" + first + b"\x52\xae")


def one_of_two(scene: Scene) -> Psbt:
    return scene.script(b"\x51" + witness_script(scene.terms)[1:])


def extra_branch(scene: Scene) -> Psbt:
    stranger = STRANGER_SECRET.public_key.sec
    return scene.script(b"\x63" + witness_script(scene.terms) + b"\x67\x21" + stranger + b"\xac\x68")


def third_key(scene: Scene) -> Psbt:
    first, second = scene.keys
    stranger = STRANGER_SECRET.public_key.sec
    return scene.script(
        b"\x52\x21" + first + b"\x21" + second + b"\x21" + stranger + b"\x53\xae",
    )


def own_key_twice(scene: Scene) -> Psbt:
    ours = scene.terms.offer.payee_key.sec
    return scene.script(b"\x52\x21" + ours + b"\x21" + ours + b"\x52\xae")


def another_payees_key(scene: Scene) -> Psbt:
    first, second = sorted((scene.terms.payer_key.sec, private_key("another payee").public_key.sec))
    return scene.script(b"\x52\x21" + first + b"\x21" + second + b"\x52\xae")


def at_tip(delay: int) -> Callable[[Scene], Psbt]:
    def build(scene: Scene) -> Psbt:
        return scene.altered_terms(refund_lock_time=Height(scene.pair.chain.tip().height + delay))

    return build


def capacity(value: int) -> Callable[[Scene], Psbt]:
    def build(scene: Scene) -> Psbt:
        return scene.altered_terms(funding_value=Amount(value + scene.terms.reserve.sat))

    return build


def sequence(value: int) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.altered(bent(scene.refund, sequence=value))


def pays_to(script: bytes) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.altered(with_output(scene.refund, 0, script_pubkey=script))


def value_off_by(sat: int) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.altered(
        with_output(scene.refund, 0, value=scene.refund.outputs[0].value.sat + sat)
    )


def inputs(count: int) -> Callable[[Scene], Psbt]:
    def build(scene: Scene) -> Psbt:
        more = tuple(TxIn(OutPoint(Txid(bytes([index]) * 32), 0), 0xFFFFFFFD) for index in range(count))
        listed = (*scene.refund.inputs, *more)[:count]
        return scene.altered(replace(scene.refund, inputs=listed))

    return build


def outputs(count: int) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.altered(replace(scene.refund, outputs=(scene.refund.outputs * 2)[:count]))


def version(number: int) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.altered(bent(scene.refund, version=number))


def field(key: bytes, value: bytes | None) -> Callable[[Scene], Psbt]:
    return lambda scene: scene.field(key, value)


def utxo(value: int = 0, script: bytes | None = None) -> Callable[[Scene], Psbt]:
    def build(scene: Scene) -> Psbt:
        real = scene.terms.funding_txout
        lie = TxOut(Amount(real.value.sat + value), real.script_pubkey if script is None else script)
        return scene.field(UTXO, lie.to_bytes())

    return build


def signed_by(who: str) -> Callable[[Scene], Psbt]:
    def build(scene: Scene) -> Psbt:
        secret = scene.secret if who == "payer" else STRANGER_SECRET
        signature = sign(secret, scene.terms, scene.refund)
        return message(scene.terms, scene.refund, {secret.public_key.sec: signature})

    return build


def payees_script(scene: Scene) -> Psbt:
    return scene.altered_terms(payer_script=scene.terms.offer.payee_script)


CASES: dict[str, tuple[Callable[[Scene], Psbt], str]] = {
    "1 too early by one block": (at_tip(SHORT["min_refund_delay"] - 1), "refund-early"),
    "1 at the tip": (at_tip(0), "refund-early"),
    "2 too late by one block": (at_tip(SHORT["max_refund_delay"] + 1), "refund-late"),
    "3 lock time 0": (lambda scene: scene.altered(bent(scene.refund, lock_time=0)), "lock-time-zero"),
    "4 seconds where the offer says blocks": (
        lambda scene: scene.altered(bent(scene.refund, lock_time=1_700_000_000)),
        "lock-time-unit",
    ),
    "5 final nSequence": (sequence(0xFFFFFFFF), "sequence"),
    "6 nSequence of BIP-0068, blocks": (sequence(10), "sequence"),
    "6 nSequence of BIP-0068, time": (sequence(0x00400010), "sequence"),
    "6 bit 31 clear": (sequence(0x7FFFFFFD), "sequence"),
    "6 another nSequence": (sequence(0xFFFFFFFE), "sequence"),
    "7 no input": (inputs(0), "input-count"),
    "7 two inputs": (inputs(2), "input-count"),
    "8 no output": (outputs(0), "output-count"),
    "8 two outputs": (outputs(2), "output-count"),
    "9 outpoint of another channel": (
        lambda scene: scene.altered_terms(outpoint=scene.other_terms.outpoint),
        "outpoint-signed",
    ),
    "11 payer key off the curve": (off_curve, "payer-key"),
    "11 payer key uncompressed": (uncompressed, "witness-script"),
    "11 payer key is the payee's": (own_key_twice, "witness-script"),
    "11 payer key of another channel": (
        lambda scene: scene.altered_terms(payer_key=scene.other_terms.payer_key),
        "payer-key-used",
    ),
    "11 payer key is the key of another own offer": (
        lambda scene: scene.altered_terms(payer_key=scene.spare_offer.payee_key),
        "payer-key-used",
    ),
    "12 pays to OP_RETURN": (pays_to(b"\x6a\x02hi"), "payer-script"),
    "12 pays to nothing": (pays_to(b""), "payer-script"),
    "12 pays to an unknown witness version": (pays_to(b"\x52\x20" + bytes(32)), "payer-script"),
    "12 pays to a bare key": (
        pays_to(b"\x21" + private_key("x").public_key.sec + b"\xac"),
        "payer-script",
    ),
    "12 pays to the payee's own script": (payees_script, "same-payout"),
    "13 capacity below the offer's": (capacity(49_999), "capacity"),
    "13 capacity above the offer's": (capacity(200_001), "capacity"),
    "13 capacity 0": (capacity(0), "capacity"),
    "13 funding below the reserve": (
        lambda scene: scene.field(
            UTXO, TxOut(scene.terms.reserve - Amount(1), scene.terms.funding_txout.script_pubkey).to_bytes()
        ),
        "capacity",
    ),
    "13 fee above the agreed": (value_off_by(-1), "output-value"),
    "13 fee below the agreed": (value_off_by(1), "output-value"),
    "13 pays more than there is": (value_off_by(10_000), "output-value"),
    "13 witness_utxo says more": (utxo(1), "output-value"),
    "13 witness_utxo says less": (utxo(-1), "output-value"),
    "14 keys swapped": (swapped_keys, "witness-script"),
    "14 one of two": (one_of_two, "witness-script"),
    "14 an extra branch": (extra_branch, "witness-script"),
    "14 a third key": (third_key, "witness-script"),
    "14 bytes behind": (lambda scene: scene.script(witness_script(scene.terms) + b"\x61"), "witness-script"),
    "14 no script": (field(WITNESS_SCRIPT, None), "witness-script"),
    "14 another payee's key": (another_payees_key, "unknown-offer"),
    "15 an offer that is used": (
        lambda scene: scene.altered_terms(offer=scene.used_offer, outpoint=OutPoint(Txid(bytes(32)), 7)),
        "offer-used",
    ),
    "37 signed by the payer": (signed_by("payer"), "extra-signature"),
    "37 signed by a stranger": (signed_by("stranger"), "extra-signature"),
    "37 witness_utxo with another script": (utxo(0, payout("p2wsh", "stranger")), "witness-utxo"),
    "37 no witness_utxo": (field(UTXO, None), "witness-utxo"),
    "37 a redeem script": (field(REDEEM_SCRIPT, b"\x51"), "redeem-script"),
    "32 no sighash type": (field(SIGHASH_TYPE, None), "sighash-type"),
    "32 SIGHASH_DEFAULT": (field(SIGHASH_TYPE, bytes(4)), "sighash-type"),
    "32 SIGHASH_NONE": (field(SIGHASH_TYPE, b"\x02\x00\x00\x00"), "sighash-type"),
    "32 SIGHASH_SINGLE": (field(SIGHASH_TYPE, b"\x03\x00\x00\x00"), "sighash-type"),
    "32 ANYONECANPAY": (field(SIGHASH_TYPE, b"\x81\x00\x00\x00"), "sighash-type"),
    "32 ALL in the low byte only": (field(SIGHASH_TYPE, b"\x01\x01\x00\x00"), "sighash-type"),
    "38 version 1": (version(1), "version"),
    "38 version 2": (version(2), "version"),
    "38 version 0": (version(0), "version"),
    "38 version -2": (version(0xFFFFFFFE), "version"),
}


def refused(scene: Scene, request: Psbt) -> Refusal:
    """What ``sign-refund`` says; ``verify`` says the same."""
    path = scene.desk.file(request)
    found = scene.desk.refused_writing(scene.desk.payee, "payee", "sign-refund", path)
    same_verdict(scene.desk, scene.desk.payee, path, found)
    return found


@pytest.mark.parametrize("name", CASES)
def test_hostile_request_is_refused(scene: Scene, name: str) -> None:
    build, slug = CASES[name]
    error = refused(scene, build(scene))
    assert (error.slug, error.exit_code) == (slug, 4), error.message
    assert len(error.message) < 400


# an offer in seconds ------------------------------------------------------------------------------

HOUR = 3600
SECONDS = {
    "lock_time_unit": "seconds",
    "settle_window": HOUR,
    "min_refund_delay": 5 * HOUR,
    "max_refund_delay": 10 * HOUR,
}


@pytest.fixture(scope="module")
def timed(scene: Scene) -> Terms:
    """What a payer could ask for under an offer in seconds."""
    offer = Offer.from_toml(scene.pair.offer(**SECONDS))
    now = scene.pair.chain.tip().median_time
    outpoint = OutPoint(Txid(b"\7" * 32), 0)
    key = private_key("timed").public_key
    return replace(
        scene.terms,
        offer=offer,
        outpoint=outpoint,
        payer_key=key,
        refund_lock_time=MedianTime(now + 5 * HOUR),
    )


@pytest.mark.parametrize(
    ("name", "lock_time", "slug"),
    [
        ("1 too early by one second", lambda now: now + 5 * HOUR - 1, "refund-early"),
        ("2 too late by one second", lambda now: now + 10 * HOUR + 1, "refund-late"),
        ("2 the last second of all", lambda now: 0xFFFFFFFF, "refund-late"),
        ("4 a height where the offer says seconds", lambda now: 499_999_999, "lock-time-unit"),
        ("4 a height of today", lambda now: 150, "lock-time-unit"),
    ],
)
def test_hostile_request_in_seconds_is_refused(
    scene: Scene, timed: Terms, name: str, lock_time: Callable[[int], int], slug: str
) -> None:
    refund = bent(scheme_of(timed).refund(), lock_time=lock_time(scene.pair.chain.tip().median_time))
    error = refused(scene, message(timed, refund))
    assert (error.slug, error.exit_code) == (slug, 4), name


def test_a_good_request_in_seconds_would_be_signed(scene: Scene, timed: Terms) -> None:
    path = scene.desk.file(message(timed, scheme_of(timed).refund()))
    assert scene.desk.judged(scene.desk.payee, path)["accepted"] is True


# lines that cannot be broken in the way in which they are written ---------------------------------


def test_12_a_request_names_no_network(scene: Scene) -> None:
    """It holds scripts, and a script belongs to every network: another network's address is the very same bytes.

    So this line is none for a request. Addresses stand in offers, and there one of another network is refused.
    """
    script = scene.terms.payer_script
    there, here = script_to_address(script, MAINNET), script_to_address(script, REGTEST)
    assert there is not None
    assert here is not None
    assert there != here
    assert address_to_script(there, MAINNET) == address_to_script(here, REGTEST) == script
    text = scene.pair.offer()
    ours = Offer.from_toml(text).payee_address
    foreign = script_to_address(Offer.from_toml(text).payee_script, MAINNET)
    assert foreign is not None
    path = scene.desk.file(text.replace(ours, foreign))
    error = scene.desk.refused_writing(scene.desk.payer, "payer", "open", path, "60000")
    assert (error.slug, error.exit_code) == ("wrong-network", 3)


def test_15_a_request_names_no_scheme(scene: Scene) -> None:
    """The scheme stands in the offer, which the payee wrote itself; one that it does not know is a damaged offer."""
    path = scene.desk.payee / "offers" / f"{scene.spare_offer.offer_id}.toml"
    good = path.read_text()
    asked = replace(
        scene.terms, offer=scene.spare_offer, outpoint=OutPoint(Txid(b"\5" * 32), 0), payer_key=STRANGER
    )
    request = scene.desk.file(message(asked, scheme_of(asked).refund()))
    assert scene.desk.judged(scene.desk.payee, request)["accepted"] is True
    try:
        path.write_text(good.replace("decrementing", "spilman"))
        error = scene.desk.refused_writing(scene.desk.payee, "payee", "sign-refund", request)
    finally:
        path.write_text(good)
    assert (error.slug, error.exit_code) == ("offer-damaged", 7)
    assert "spilman" in error.message


@pytest.mark.parametrize(("key", "value"), [(FINAL_SCRIPT_SIG, b""), (FINAL_WITNESS, b"\x00")])
def test_55_a_final_field_is_malformed(scene: Scene, key: bytes, value: bytes) -> None:
    error = refused(scene, scene.field(key, value))
    assert (error.slug, error.exit_code) == ("final-field", 3)


def test_9_an_outpoint_of_the_payees_own_coins(scene: Scene) -> None:
    pair = scene.pair
    script = pair.payee.keys.script("receive", 0)
    txid = pair.chain.faucet(script, Amount(100_338))
    pair.chain.mine(1)
    error = refused(scene, scene.altered_terms(outpoint=OutPoint(txid, 0)))
    assert (error.slug, error.exit_code) == ("outpoint-taken", 4)


def test_14_another_offers_key_beside_this_offers_terms(scene: Scene) -> None:
    """Whose key stands in the script decides which offer is meant; its terms are not the ones asked for."""
    offer = replace(scene.spare_offer, payee_key=scene.terms.offer.payee_key)
    error = refused(scene, scene.altered_terms(offer=replace(offer, fee_rate=FeeRate(3000))))
    assert (error.slug, error.exit_code) == ("output-value", 4)


def test_the_scene_itself_is_good_and_then_used_up(scene: Scene) -> None:
    """Last in this module: all of the above failed for its own reason, and the real request still works."""
    pair = scene.pair
    reply = pair.sign_refund(scene.request.hex)
    after = pair.files()
    # 10: the same again gives the same again, and changes nothing
    assert pair.sign_refund(scene.request.hex) == reply
    assert pair.files() == after
    # 10: another refund for an outpoint that is signed
    later = Height(scene.terms.refund_lock_time.value + 1)
    error = refused(scene, scene.altered_terms(refund_lock_time=later))
    assert (error.slug, error.exit_code) == ("outpoint-signed", 4)
    # 15: another channel under a used offer
    error = refused(scene, scene.altered_terms(outpoint=OutPoint(scene.terms.outpoint.txid, 1)))
    assert (error.slug, error.exit_code) == ("offer-used", 4)
    # the very refund again, but with a lie in the fields around it
    lie = TxOut(scene.terms.funding_value + Amount(1), scene.terms.funding_txout.script_pubkey)
    error = refused(scene, scene.field(UTXO, lie.to_bytes()))
    assert (error.slug, error.exit_code) == ("witness-utxo", 4)
    error = refused(scene, scene.field(PARTIAL_SIG + STRANGER_SECRET.public_key.sec, b"\x30\x01"))
    assert (error.slug, error.exit_code) == ("extra-signature", 4)


def test_9_a_colliding_shown_id_is_no_reason_to_refuse(chain_directory: Path, tmp_path: Path) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        name = pair.open()
        terms = pair.terms(name)
        pair.accept(pair.pay(name, 1000))
        # the shown id is the beginning of the display hex: the end of the wire bytes
        lookalike = OutPoint(Txid(bytes(24) + terms.outpoint.txid.wire[24:]), 0)
        text = pair.offer()
        offer = Offer.from_toml(text)
        other = replace(
            terms,
            offer=offer,
            outpoint=lookalike,
            payer_key=STRANGER_SECRET.public_key,
            refund_lock_time=Height(chain.tip().height + 43),
        )
        assert other.channel_id == terms.channel_id
        before = pair.files()
        payee.sign_refund(pair.payee, chain, message(other, scheme_of(other).refund()))
        after = pair.files()
        others = [path for path in before if "/offers/" not in path and not path.endswith("/channels/names")]
        assert {path: after[path] for path in others} == {path: before[path] for path in others}
        assert pair.payee_record(name).paid == Amount(1000)
        assert len(pair.payee.channels.names()) == 2
        with pytest.raises(MpchanError) as caught:
            pair.payee.channels.find(terms.channel_id, lambda record: True, "known")
        assert (caught.value.slug, caught.value.exit_code) == ("ambiguous-channel", 2)


@pytest.mark.parametrize("claimed", [0, 1, 7])
def test_20_an_output_that_somebody_else_claimed(chain_directory: Path, tmp_path: Path, claimed: int) -> None:
    """Who has seen the txid has a refund signed on another of its outputs: the true channel takes its funding."""
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        request = pair.request()
        reply = pair.sign_refund(request.hex)
        terms = pair.payer_record(f"{request.funding_txid}-0").terms
        if claimed:
            false = replace(
                terms,
                offer=Offer.from_toml(pair.offer()),
                outpoint=OutPoint(terms.outpoint.txid, claimed),
                payer_key=STRANGER_SECRET.public_key,
            )
            payee.sign_refund(pair.payee, chain, message(false, scheme_of(false).refund()))
        funding = Transaction.from_hex(pair.fund(reply, send=False).hex)  # type: ignore[arg-type]
        taken = payee.funding(pair.payee, chain, funding)
        assert taken.to_dict() == {"channel": terms.channel_id, "funding_txid": str(funding.txid)}
        assert pair.payee_record(terms.name).state == payee_protocol.Active(terms, funding)
        if claimed:
            payee.abandon(pair.payee, chain, false.name)
            with pytest.raises(MpchanError) as caught:
                payee._take_funding(pair.payee, chain, false.name, funding, send=False)
            assert caught.value.slug in ("funding-script", "funding-output")
