"""mpchan.bitcoin.psbt as a codec: BIP-0174's vectors, what is refused, what survives a round trip."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.psbts import with_pairs, with_whole_utxo
from support.strategies import OUTPUTS, UINT32, UNSIGNED_INPUTS, transactions, vectors

from mpchan.bitcoin.psbt import MAGIC, GlobalMap, InputMap, OutputMap, Psbt, PsbtMap
from mpchan.bitcoin.serialize import Reader, compact_size, var_bytes
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import replace

BIP174 = vectors("bip174.json")
WORKFLOW = BIP174["workflow"]
STEPS = (
    "created",
    "updated",
    "with_sighash_types",
    "signed_by_0_and_2",
    "signed_by_1_and_3",
    "combined",
    "finalized",
)
VALID = {
    **BIP174["valid"],
    **BIP174["signer_refuses"],
    **BIP174["unknown_fields"],
    **{step: WORKFLOW[step] for step in STEPS},
}
INVALID = {**BIP174["invalid"], **BIP174["invalid_core"]}

TX = Transaction(2, (TxIn(OutPoint(Txid(bytes(32)), 0), 5),), (TxOut(Amount(1), b"\x51"),), 7)
PSBT = Psbt.create(TX)
KEY = b"\x02" + bytes(32)
UTXO = TxOut(Amount(7), b"\x51")


def named(name: str) -> Psbt:
    return Psbt.from_bytes(bytes.fromhex(VALID[name]))


def raw(
    *,
    global_pairs: Any = (),
    input_pairs: Any = (),
    output_pairs: Any = (),
    tx: Any = None,
    rest: bytes = b"",
) -> bytes:
    """A PSBT of one input and one output from raw pairs, whether right or wrong."""
    maps: list[Any] = [((b"\x00", tx or TX.to_bytes()), *global_pairs), input_pairs, output_pairs]
    encoded = [
        b"".join(var_bytes(key) + var_bytes(value) for key, value in pairs) + b"\x00" for pairs in maps
    ]
    return MAGIC + b"".join(encoded) + rest


def refusal(data: bytes) -> ParseError:
    with pytest.raises(ParseError) as caught:
        Psbt.from_bytes(data)
    return caught.value


@pytest.mark.parametrize("name", VALID)
def test_valid_vectors_round_trip(name: str) -> None:
    data = bytes.fromhex(VALID[name])
    assert Psbt.from_bytes(data).to_bytes() == data
    assert Psbt.from_bytes(data).to_hex() == VALID[name]


@pytest.mark.parametrize("name", INVALID)
def test_invalid_vectors_are_refused(name: str) -> None:
    error = refusal(bytes.fromhex(INVALID[name]))
    assert error.slug == ("truncated" if name == "outputs missing" else "malformed-psbt")


@pytest.mark.parametrize("name", VALID)
def test_every_prefix_is_refused(name: str) -> None:
    data = bytes.fromhex(VALID[name])
    for length in range(len(data)):
        refusal(data[:length])
    assert refusal(data + b"\x00").slug == "trailing-bytes"


def test_valid_vectors_hold_what_the_bip_says() -> None:
    finalized = named("P2PKH and P2SH-P2WPKH, the first finalized").inputs
    assert finalized[0].is_final
    assert finalized[0].final_script_sig is not None
    assert finalized[1].witness_utxo == TxOut(
        Amount(100_000_000), bytes.fromhex("a9143545e6e33b832c47050f24d3eeb93c9c03948bc787")
    )
    assert finalized[1].redeem_script == bytes.fromhex("001485d13537f2e265405a34dbafa9e3dda01fb82308")
    assert not finalized[1].is_final
    assert named("P2PKH with a sighash type").inputs[0].sighash_type == 1
    outputs = named("P2PKH and P2SH-P2WPKH, outputs filled").outputs
    key = bytes.fromhex("02ead596687ca806043edc3de116cdf29d5e9257c196cd055cf698c8d02bf24e99")
    steps = b"".join(number.to_bytes(4, "little") for number in (2**31, 2**31, 2**31 + 2))
    assert outputs[0].pairs == ((b"\x02" + key, bytes.fromhex("b4a6ba67") + steps),)
    signed = named("P2SH-P2WSH 2-of-2 with one signature").inputs[0]
    assert [key.hex()[:8] for key in signed.partial_sigs] == ["03b1341c"]
    assert signed.witness_script is not None


def test_fields_that_are_absent() -> None:
    empty = PSBT.inputs[0]
    assert empty == InputMap()
    assert (empty.non_witness_utxo, empty.witness_utxo, empty.sighash_type) == (None, None, None)
    assert (empty.redeem_script, empty.witness_script) == (None, None)
    assert (empty.final_script_sig, empty.final_script_witness) == (None, None)
    assert empty.partial_sigs == {}


def test_the_frame_of_the_refused_ones_is_sound() -> None:
    assert Psbt.from_bytes(raw()) == PSBT


@pytest.mark.parametrize(
    "data",
    [
        b"psbt",
        b"psbt\xfe" + raw()[5:],
        b"PSBT\xff" + raw()[5:],
        MAGIC + b"\x00",
        raw(tx=TX.with_witness(0, (b"x",)).to_bytes()),
        raw(tx=TX.to_bytes() + b"\x00"),
        raw(tx=TX.to_bytes()[:-1]),
        raw(global_pairs=[(b"\x00", TX.to_bytes())]),
        raw(global_pairs=[(b"\x07", b"a"), (b"\x07", b"b")]),
        raw(global_pairs=[(b"\xfb", bytes(3))]),
        raw(global_pairs=[(b"\xfb\x00", bytes(4))]),
        raw(global_pairs=[(b"\xfd\x01\x00", b"")]),  # a key type longer than it needs to be
        raw(global_pairs=[(b"\x01" + bytes(77), bytes(4))]),
        raw(global_pairs=[(b"\x01" + bytes(78), bytes(8))]),  # depth 0, but a step of derivation
        raw(global_pairs=[(b"\xff", b"")]),
        raw(global_pairs=[(b"\x01" + bytes(78), bytes(3))]),
    ],
    ids=lambda data: str(len(data)),
)
def test_malformed(data: bytes) -> None:
    assert refusal(data).slug == ("truncated" if data == b"psbt" else "malformed-psbt")


@pytest.mark.parametrize(
    "pair",
    [
        (b"\x00", TX.to_bytes()),  # not the transaction that the input spends
        (b"\x00", b"junk"),
        (b"\x01", UTXO.to_bytes() + b"\x00"),
        (b"\x01", UTXO.to_bytes()[:-1]),
        (b"\x02", b"sig"),
        (b"\x02" + KEY[:-1], b"sig"),
        (b"\x02\x04" + KEY[1:], b"sig"),
        (b"\x02\x02" + bytes(64), b"sig"),
        (b"\x02" + KEY, b""),
        (b"\x03", b"\x01"),
        (b"\x03", bytes(5)),
        (b"\x04\x00", b"\x51"),
        (b"\x05\x00", b"\x51"),
        (b"\x06" + KEY, b"abc"),
        (b"\x06" + KEY, bytes(7)),
        (b"\x06", bytes(8)),
        (b"\x07\x00", b""),
        (b"\x08\x00", b"\x00"),
        (b"\x08", b""),
        (b"\x08", b"\x01"),
        (b"\x08", b"\x01\x00\x00"),
        (b"\x08", b"\xfd\x01\x00\x00"),
        (b"\x0a" + bytes(32), b""),
        (b"\x0b" + bytes(20), b""),
        (b"\x0c" + bytes(32), b""),
        (b"\x0d" + bytes(20), b""),
        # fields of version 2 (BIP-0370)
        (b"\x0e", bytes(32)),
        (b"\x0f", bytes(4)),
        (b"\x10", bytes(4)),
        (b"\x11", bytes(4)),
        (b"\x12", bytes(4)),
        # fields of taproot (BIP-0371)
        (b"\x13", bytes(63)),
        (b"\x13", bytes(66)),
        (b"\x13\x00", bytes(64)),
        (b"\x14" + bytes(65), bytes(64)),
        (b"\x14" + bytes(64), bytes(66)),
        (b"\x15" + bytes(34), b"\xc0"),
        (b"\x15" + bytes(33), b""),
        (b"\x15" + bytes(33 + 32 * 129), b"\xc0"),
        (b"\x16" + bytes(33), b"\x00" + bytes(4)),
        (b"\x16" + bytes(32), b"\x01" + bytes(4)),
        (b"\x17", bytes(33)),
        (b"\x17\x00", bytes(32)),
        (b"\x18", bytes(31)),
    ],
    ids=lambda pair: f"{pair[0].hex()[:6]}",
)
def test_malformed_input_field(pair: tuple[bytes, bytes]) -> None:
    assert refusal(raw(input_pairs=[pair])).slug == "malformed-psbt"


@pytest.mark.parametrize(
    "pair",
    [
        (b"\x00\x00", b""),
        (b"\x01\x00", b""),
        (b"\x02" + KEY, b"abc"),
        (b"\x02" + KEY[:-1], bytes(4)),
        (b"\x03", bytes(8)),
        (b"\x04", b""),
        (b"\x05", bytes(33)),
        (b"\x06", b""),
        (b"\x06", b"\x00\xc1\x00"),
        (b"\x06", b"\x81\xc0\x00"),
        (b"\x06", b"\x01\xc0\x01"),
        (b"\x07" + bytes(33), b"\x00" + bytes(4)),
    ],
    ids=lambda pair: f"{pair[0].hex()[:6]}",
)
def test_malformed_output_field(pair: tuple[bytes, bytes]) -> None:
    assert refusal(raw(output_pairs=[pair])).slug == "malformed-psbt"


@pytest.mark.parametrize("kind", [2, 3, 4, 5, 6])
def test_global_fields_of_version_2(kind: int) -> None:
    assert refusal(raw(global_pairs=[(bytes([kind]), b"\x01")])).slug == "malformed-psbt"


WELL_FORMED_INPUT_FIELDS = [
    (b"\x02" + KEY, b"not DER: the signer of the channel judges that"),
    (b"\x02\x04" + bytes(64), b"sig"),
    (b"\x0a" + bytes(20), b"preimage"),
    (b"\x0b" + bytes(32), b"preimage"),
    (b"\x0c" + bytes(20), b"preimage"),
    (b"\x0d" + bytes(32), b"preimage"),
    (b"\x0f\x01", b"unknown, since a field of version 2 has no key data"),
    (b"\x13", bytes(65)),
    (b"\x14" + bytes(64), bytes(64)),
    (b"\x14" + bytes(63) + b"\x01", bytes(65)),
    (b"\x15" + bytes(33), b"\xc0"),
    (b"\x15" + bytes(33 + 32 * 128), b"\xc0"),
    (b"\x16" + bytes(32), b"\x01" + bytes(32 + 4 + 4)),
    (b"\x16" + bytes(31) + b"\x01", b"\x00" + bytes(4)),
    (b"\x17", bytes(32)),
    (b"\x18", bytes(32)),
    (b"\xfc\x03abc\x00", b"proprietary"),
    (b"\xfe\x00\x00\x01\x00key", b"unknown"),
]


def test_well_formed_fields_and_their_order_stay() -> None:
    for pairs in (WELL_FORMED_INPUT_FIELDS, WELL_FORMED_INPUT_FIELDS[::-1]):
        data = raw(
            global_pairs=[(b"\xfb", bytes(4)), (b"\x09", b"x")],
            input_pairs=pairs,
            output_pairs=[(b"\x06", b"\x01\xc0\x01x\x80\xc2\x00"), (b"\x05", bytes(32))],
        )
        assert Psbt.from_bytes(data).to_bytes() == data
    for size in (64, 65):
        Psbt.from_bytes(raw(input_pairs=[(b"\x13", bytes(size))]))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_duplicate_key_of_any_map(position: int) -> None:
    name = ("global_pairs", "input_pairs", "output_pairs")[position]
    error = refusal(raw(**{name: [(b"\x77\x01", b"a"), (b"\x77\x01", b"a")]}))  # type: ignore[arg-type]
    assert error.slug == "malformed-psbt"
    assert "stands twice" in error.message


def test_one_key_may_stand_in_several_maps() -> None:
    pairs = [(b"\x77\x01", b"a")]
    Psbt.from_bytes(raw(global_pairs=pairs, input_pairs=pairs, output_pairs=pairs))


@pytest.mark.parametrize("version", [1, 2, 0xFFFF_FFFF])
def test_other_versions(version: int) -> None:
    error = refusal(raw(global_pairs=[(b"\xfb", version.to_bytes(4, "little"))]))
    assert error.slug == "psbt-version"
    assert str(version) in error.message


def test_version_2_has_no_unsigned_transaction_and_is_named_all_the_same() -> None:
    """The beginning of a vector of BIP-0370."""
    pairs = (
        (b"\x02", b"\x02" + bytes(3)),
        (b"\x04", b"\x01"),
        (b"\x05", b"\x00"),
        (b"\xfb", b"\x02" + bytes(3)),
    )
    data = MAGIC + b"".join(var_bytes(key) + var_bytes(value) for key, value in pairs) + b"\x00\x00"
    assert refusal(data).slug == "psbt-version"


@pytest.mark.parametrize("maps", [0, 1, 3])
def test_number_of_maps(maps: int) -> None:
    head = raw()[: -len(b"\x00\x00")]
    assert refusal(head + bytes(maps)).slug == ("trailing-bytes" if maps > 2 else "truncated")


def test_no_inputs_at_all() -> None:
    """Bitcoin Core's vectors have such a PSBT; in it the old format of transactions must be meant."""
    psbt = Psbt.create(Transaction(2, (), (UTXO,), 0))
    assert Psbt.from_bytes(psbt.to_bytes()) == psbt
    assert psbt.finalize() == psbt


def test_create_refuses_signatures() -> None:
    for signed in (
        TX.with_witness(0, (b"x",)),
        Transaction(2, (TxIn(TX.inputs[0].outpoint, 0, b"\x51"),), TX.outputs, 0),
    ):
        with pytest.raises(ParseError, match="has signatures already") as caught:
            Psbt.create(signed)
        assert caught.value.slug == "malformed-psbt"


def test_parts_that_do_not_fit() -> None:
    other = Psbt.create(Transaction(1, TX.inputs, TX.outputs, 0))
    for parts in (
        (other.tx, PSBT.global_fields, PSBT.inputs, PSBT.outputs),
        (TX, GlobalMap(), PSBT.inputs, PSBT.outputs),
        (TX, PSBT.global_fields, (), PSBT.outputs),
        (TX, PSBT.global_fields, PSBT.inputs, PSBT.outputs * 2),
    ):
        with pytest.raises(ParseError) as caught:
            Psbt(*parts)
        assert caught.value.slug == "malformed-psbt"


def test_non_witness_utxo_must_be_the_one_that_is_spent() -> None:
    previous = Transaction(2, TX.inputs, (UTXO, UTXO), 0)
    for txid, vout, fine in ((previous.txid, 1, True), (previous.txid, 2, False), (TX.txid, 1, False)):
        psbt = Psbt.create(Transaction(2, (TxIn(OutPoint(txid, vout), 0),), TX.outputs, 0))
        if fine:
            assert with_whole_utxo(psbt, 0, previous).spent_output(0) == UTXO
        else:
            with pytest.raises(ParseError, match="has no output"):
                with_whole_utxo(psbt, 0, previous)


ORIGINS = st.integers(1, 6).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words))
KEYS = st.binary(min_size=32, max_size=32).map(lambda x: b"\x03" + x)
UNKNOWN = st.tuples(st.binary(max_size=20).map(lambda rest: b"\xf0" + rest), st.binary(max_size=300))


def _derivations(kind: bytes) -> st.SearchStrategy[dict[bytes, bytes]]:
    return st.dictionaries(KEYS.map(kind.__add__), ORIGINS, max_size=2)


@st.composite
def psbts(draw: st.DrawFn) -> Psbt:
    """With the fields that mpchan writes, others that it knows, and unknown ones."""
    psbt = Psbt.create(draw(transactions(UNSIGNED_INPUTS)))
    for index in range(len(psbt.inputs)):
        psbt = psbt.with_input_fields(
            index,
            witness_utxo=draw(st.none() | OUTPUTS),
            sighash_type=draw(st.none() | UINT32),
            witness_script=draw(st.none() | st.binary(max_size=300)),
            partial_sigs=draw(st.dictionaries(KEYS, st.binary(min_size=1, max_size=73), max_size=3)),
        )
        psbt = with_pairs(psbt, index, draw(_derivations(b"\x06")))
        psbt = with_pairs(psbt, index, {b"\x04": draw(st.binary(max_size=300))})
    filled = [
        fields.with_pairs({b"\x01": draw(st.binary()), **draw(_derivations(b"\x02"))})
        for fields in psbt.outputs
    ]
    psbt = replace(psbt, outputs=tuple(filled))
    pairs = draw(st.lists(UNKNOWN, max_size=3, unique_by=lambda pair: pair[0]))
    position = draw(st.integers(0, 1))
    global_pairs = psbt.global_fields.pairs
    mixed = (*global_pairs[:position], *pairs, *global_pairs[position:])
    return Psbt(psbt.tx, GlobalMap(mixed), psbt.inputs, psbt.outputs)


@given(psbts())
def test_round_trip(psbt: Psbt) -> None:
    again = Psbt.from_bytes(psbt.to_bytes())
    assert again == psbt
    for fields, same in zip(psbt.inputs, again.inputs, strict=True):
        assert fields.partial_sigs == same.partial_sigs
        assert fields.witness_utxo == same.witness_utxo
        assert fields.sighash_type == same.sighash_type


@given(psbts(), st.data())
def test_damaged_bytes_are_refused_or_come_out_as_they_went_in(psbt: Psbt, data: st.DataObject) -> None:
    damaged = bytearray(psbt.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        parsed = Psbt.from_bytes(bytes(damaged))
    except ParseError:
        return
    assert parsed.to_bytes() == bytes(damaged)
    for fields in parsed.inputs:
        for accessor in vars(InputMap):
            getattr(fields, accessor)  # what was read can be used: no accessor raises


@given(st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=8), max_size=6))
def test_map_round_trip(pairs: dict[bytes, bytes]) -> None:
    pairs = {b"\x60" + key: value for key, value in pairs.items()}
    fields = PsbtMap(tuple(pairs.items()))
    reader = Reader(fields.to_bytes() + b"rest")
    assert PsbtMap.read(reader) == fields
    assert reader.remaining == 4


def test_new_pairs_stand_in_key_order_and_old_ones_stay_put() -> None:
    fields = PsbtMap(((b"\x63", b"c"), (b"\x61", b"a")))
    assert fields.with_pairs({b"\x61": b"A"}).pairs == ((b"\x63", b"c"), (b"\x61", b"A"))
    assert fields.with_pairs({b"\x62": b"b"}).pairs == ((b"\x62", b"b"), (b"\x63", b"c"), (b"\x61", b"a"))
    assert fields.with_pairs({b"\x64": b"d"}).pairs == ((b"\x63", b"c"), (b"\x61", b"a"), (b"\x64", b"d"))


def test_many_fields_are_no_burden() -> None:
    """Work grows with the size: 40,000 unknown pairs are read, and a repeated key among them is found."""
    pairs = [(b"\x77" + number.to_bytes(3, "big"), b"") for number in range(40_000)]
    psbt = Psbt.from_bytes(raw(input_pairs=pairs))
    assert len(psbt.inputs[0].pairs) == len(pairs)
    assert refusal(raw(input_pairs=[*pairs, pairs[0]])).slug == "malformed-psbt"


def test_announced_sizes_are_not_believed() -> None:
    for data in (
        raw()[:-2] + b"\x01\x08" + compact_size(2**25),
        MAGIC + compact_size(2**25) + b"x",
        raw(tx=b"\x02\x00\x00\x00" + compact_size(2**20)),
        raw(input_pairs=[(b"\x08", compact_size(2**24) + bytes(100))]),
    ):
        refusal(data)


@pytest.mark.parametrize("index", [-1, 1, True])
def test_no_such_input(index: int) -> None:
    for make in (
        lambda: PSBT.with_input_fields(index, witness_utxo=UTXO),
        lambda: PSBT.spent_output(index),
    ):
        with pytest.raises(ParseError) as caught:
            make()
        assert caught.value.slug == "malformed-number"


def test_setters_check_too() -> None:
    for make in (
        lambda: PSBT.with_input_fields(0, partial_sigs={KEY[:-1]: b"sig"}),
        lambda: PSBT.with_input_fields(0, partial_sigs={KEY: b""}),
        lambda: with_pairs(PSBT, 0, {b"\x06": bytes(4)}),
        lambda: with_pairs(PSBT, 0, {b"\x06" + KEY: bytes(3)}),
        lambda: OutputMap(((b"", b""),)),
    ):
        with pytest.raises(ParseError):
            make()
    with pytest.raises(ParseError):
        PSBT.with_input_fields(0, sighash_type=2**32)
